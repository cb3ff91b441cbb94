package docker

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/faultproxy"
)

// faultProxySpec is the container of this program's hidden command fault-proxy, beside the database. Its API is published
// on loopback, for this program; its links are not, and are reached at its name in the run's network.
func (e *Engine) faultProxySpec(image image, alias string) spec {
	return spec{
		role: "fault_proxy", alias: alias, image: image.reference,
		command: []string{"fault-proxy", "--host", "0.0.0.0", "--port", strconv.Itoa(servicePort)},
		cpus:    e.placement.Database, memoryBytes: toolMemoryBytes,
	}
}

// faultProbeSpec is the container in the proxy's network in which its overhead is measured.
func (e *Engine) faultProbeSpec(image image, proxy string) spec {
	return spec{
		role: "fault_probe", image: image.reference, command: []string{"idle"}, joins: proxy,
		cpus: e.placement.Agent, memoryBytes: toolMemoryBytes,
	}
}

// Faults starts the fault proxy.
func (e *Engine) Faults(ctx context.Context) (engine.FaultProxy, error) {
	image, err := e.images.of(ctx, toolFolder, nil)
	if err != nil {
		return nil, err
	}
	alias := e.alias("faults")
	s, _, err := e.startService(ctx, e.faultProxySpec(image, alias), time.Minute, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return faultproxy.New(faultproxy.Options{
		Service: s, Dial: alias, Inside: e.inside,
		Probe: func(ctx context.Context, stdin []byte) ([]byte, error) { return e.probeFaults(ctx, image, s.id, stdin) },
	}), nil
}

// probeFaults measures from a container that is there only meanwhile.
func (e *Engine) probeFaults(ctx context.Context, image image, proxy string, stdin []byte) (stdout []byte, err error) {
	u, err := e.start(ctx, e.faultProbeSpec(image, proxy))
	if err != nil {
		return nil, err
	}
	defer func() {
		if removeErr := u.remove(context.WithoutCancel(ctx)); err == nil {
			err = removeErr
		}
	}()
	result, err := u.exec(ctx, slices.Concat(image.entrypoint, []string{"fault-probe"}), stdin)
	if err != nil {
		return nil, fmt.Errorf("fault_probe: %w", err)
	}
	return result.Stdout, nil
}
