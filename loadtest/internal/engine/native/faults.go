package native

import (
	"bytes"
	"context"
	"os/exec"
	"time"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/faultproxy"
)

// Faults starts this program's hidden command fault-proxy beside the database.
func (e *Engine) Faults(ctx context.Context) (engine.FaultProxy, error) {
	cmd := exec.Command(e.options.Binary, "fault-proxy")
	cmd.Env = e.baseEnvironment()
	cmd.Dir = e.run.dir
	s, err := e.startService(ctx, e.databaseCPUs, "fault_proxy", cmd, time.Minute, "/readyz", 5*time.Second)
	if err != nil {
		return nil, err
	}
	return faultproxy.New(faultproxy.Options{Service: s.service, Dial: "127.0.0.1", Probe: e.probeFaults}), nil
}

// probeFaults runs this program's hidden command fault-probe on the CPUs of the generator.
func (e *Engine) probeFaults(ctx context.Context, stdin []byte) ([]byte, error) {
	cmd := exec.Command(e.options.Binary, "fault-probe")
	cmd.Env = e.baseEnvironment()
	cmd.Dir = e.run.dir
	stdout, p, err := e.runToEnd(ctx, e.agentCPUs, cmd, "fault_probe", bytes.NewReader(stdin), 0)
	if err != nil {
		return nil, err
	}
	if !p.status.Success() {
		return nil, p.exitError()
	}
	return stdout, nil
}
