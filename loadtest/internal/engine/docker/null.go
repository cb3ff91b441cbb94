package docker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
)

// Null starts this program's hidden command of that name on a contender's CPUs; load generators join its network as they
// do a contender's.
func (e *Engine) Null(ctx context.Context, ns engine.NullSpec) (engine.Contender, error) {
	answer, err := engine.PackAnswer(ns.Answer)
	if err != nil {
		return nil, err
	}
	image, err := e.images.of(ctx, toolFolder, nil)
	if err != nil {
		return nil, err
	}
	s, readyAfter, err := e.startService(ctx, spec{
		role: "null", alias: e.alias("null"), image: image.reference,
		command:     []string{engine.NullCommand, "--host", "0.0.0.0", "--port", strconv.Itoa(servicePort)},
		environment: map[string]string{engine.NullAnswer: answer},
		cpus:        e.placement.Contender, memoryBytes: toolMemoryBytes,
	}, time.Minute, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("null server: %w", err)
	}
	c := &contenderService{service: s, arm: contender.Arm{Name: engine.NullName, Base: engine.NullName, Contender: engine.NullName}, readyAfter: readyAfter}
	c.beside = c.stopAgent
	return c, nil
}
