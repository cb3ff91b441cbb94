package native

import (
	"context"
	"os/exec"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
)

// Null starts this program's hidden command of that name on a contender's CPUs.
func (e *Engine) Null(ctx context.Context, spec engine.NullSpec) (engine.Contender, error) {
	answer, err := engine.PackAnswer(spec.Answer)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(e.options.Binary, engine.NullCommand)
	cmd.Env = append(e.baseEnvironment(), engine.NullAnswer+"="+answer)
	cmd.Dir = e.run.dir
	s, err := e.startService(ctx, e.contenderCPUs, engine.NullName, cmd, time.Minute, "/readyz", 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &contenderService{service: s.service, arm: contender.Arm{Name: engine.NullName, Base: engine.NullName, Contender: engine.NullName}, readyAfter: s.readyAfter}, nil
}
