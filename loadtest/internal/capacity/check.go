package capacity

import (
	"fmt"
	"slices"

	"lab/loadtest/internal/record"
)

// Check says where a record's capacities are not what their trials give: each step is judged anew by the objective, and
// the interval must follow from the outcomes.
func Check(r record.Run) error {
	trials := map[string]record.Trial{}
	for _, t := range r.Trials {
		trials[t.ID] = t
	}
	for _, c := range r.Capacities {
		slo, err := ParseSLO(c.SLO)
		if err != nil {
			return fmt.Errorf("capacity of %s: slo: %w", c.Arm, err)
		}
		var steps []Step
		for _, id := range c.Steps {
			t := trials[id]
			outcome, _ := slo.Judge(t)
			steps = append(steps, Step{t.RateRPS, outcome})
		}
		want := Evaluate(steps)
		high := 0.0
		if c.HighRPS != nil {
			high = *c.HighRPS
		}
		switch {
		case c.LowRPS != want.LowRPS:
			return fmt.Errorf("capacity of %s: low_rps is %g, but its steps give %g", c.Arm, c.LowRPS, want.LowRPS)
		case high != want.HighRPS:
			return fmt.Errorf("capacity of %s: high_rps is %g (0: null), but its steps give %g", c.Arm, high, want.HighRPS)
		case !slices.Equal(c.ContestedRPS, want.Contested):
			return fmt.Errorf("capacity of %s: contested_rps is %v, but its steps give %v", c.Arm, c.ContestedRPS, want.Contested)
		case c.Confirmed && !repeated(steps, want):
			return fmt.Errorf("capacity of %s: confirmed is true, but an end has too few trials", c.Arm)
		}
	}
	return nil
}

// repeated says whether each end there is has the least number of trials that confirms one.
func repeated(steps []Step, r Result) bool {
	o, err := Options{Start: 1, Floor: 1, Ceiling: 1}.withDefaults()
	if err != nil {
		return false
	}
	t := tally(steps)
	return len(steps) > 0 && (r.LowRPS == 0 || t.held[r.LowRPS] > o.Confirm) && (r.HighRPS == 0 || t.failed[r.HighRPS] > o.Confirm)
}
