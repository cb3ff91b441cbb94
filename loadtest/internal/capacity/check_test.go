package capacity

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// searched is a run whose one arm was searched: it holds up to 730 requests a second.
func searched(t *testing.T) record.Run {
	t.Helper()
	r := record.Run{}
	limit := int64(100 * time.Millisecond)
	result, steps := search(t, wide, below(730))
	c := record.Capacity{Arm: "go", SLO: Default.String(), LowRPS: result.LowRPS, HighRPS: &result.HighRPS, Confirmed: result.Confirmed}
	for i, step := range steps {
		x := record.Trial{ID: fmt.Sprint(i), Arm: "go", Load: record.LoadCapacity, RateRPS: step.RPS, Sent: 1000, OK: 1000, LatencyP99NS: limit - 1}
		if step.Outcome == Failed {
			x.LatencyP99NS = limit
		}
		r.Trials = append(r.Trials, x)
		c.Steps = append(c.Steps, x.ID)
	}
	r.Capacities = []record.Capacity{c}
	return r
}

func TestCheck(t *testing.T) {
	require.NoError(t, Check(searched(t)))
	require.NoError(t, Check(record.Run{}))
	for name, c := range map[string]struct {
		change func(r *record.Run, c *record.Capacity)
		says   string
	}{
		"an end that no step has":   {func(_ *record.Run, c *record.Capacity) { c.LowRPS++ }, "low_rps is"},
		"an open end that is none":  {func(_ *record.Run, c *record.Capacity) { c.HighRPS = nil }, "high_rps is 0"},
		"contested without reason":  {func(_ *record.Run, c *record.Capacity) { c.ContestedRPS = []float64{720} }, "contested_rps"},
		"an objective that is none": {func(_ *record.Run, c *record.Capacity) { c.SLO = "p95=1s" }, "p95"},
		"a step that held, altered": {func(r *record.Run, _ *record.Capacity) {
			for i := range r.Trials {
				r.Trials[i].LatencyP99NS = 1
			}
		}, "low_rps is"},
		"confirmed by too few": {func(r *record.Run, c *record.Capacity) { c.Steps = c.Steps[:len(c.Steps)-1] }, "confirmed is true"},
	} {
		t.Run(name, func(t *testing.T) {
			r := searched(t)
			c.change(&r, &r.Capacities[0])
			require.ErrorContains(t, Check(r), c.says)
		})
	}
}
