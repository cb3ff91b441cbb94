package record

import (
	"fmt"
	"slices"
)

// The kinds of load beside the blocks of a comparison: steps of a search of capacity, and points of the curve of latency
// against rate. They are in no verdict. Their block is 0, and their position counts the trials of that load.
const (
	LoadCapacity Load = "capacity"
	LoadCurve    Load = "curve"
)

// Blocked says whether trials of this load stand in the blocks of a comparison.
func (l Load) Blocked() bool { return l != LoadCapacity && l != LoadCurve }

// Capacity is the interval in which the highest rate lies at which an arm keeps a service level objective.
type Capacity struct {
	Arm string `json:"arm"`
	// SLO is the objective, such as "p99=100ms": that percentile of the response time under that limit, and no failure.
	SLO string `json:"slo"`
	// LowRPS is the highest rate that held in each of its trials, 0 where none did; HighRPS the lowest that failed in each,
	// null where none did up to the generator's ceiling or until the search ended.
	LowRPS  float64  `json:"low_rps"`
	HighRPS *float64 `json:"high_rps"`
	// Confirmed says that each end was repeated as often as the method asks.
	Confirmed bool `json:"confirmed"`
	// ContestedRPS are rates between the ends that held in some trials and failed in others.
	ContestedRPS []float64 `json:"contested_rps,omitempty"`
	// Steps are the ids of the search's trials, in their order.
	Steps []string `json:"steps"`
	Note  string   `json:"note,omitempty"`
}

// NearCeiling is the share of the generator's ceiling from which a trial's rate is marked.
const NearCeiling = 0.8

// checkCapacities says where the searches contradict the trials beside them. Whether an interval follows from its steps is
// for package capacity to know.
func (r *Run) checkCapacities() error {
	if r.GeneratorCeilingRPS != nil && *r.GeneratorCeilingRPS <= 0 {
		return fmt.Errorf("generator_ceiling_rps is %g", *r.GeneratorCeilingRPS)
	}
	of := map[string]*Trial{}
	for i := range r.Trials {
		t := &r.Trials[i]
		of[t.ID] = t
		if !t.Load.Blocked() && (t.Block != 0 || t.Duplicate) {
			return fmt.Errorf("trial %s: load is %q, but block is %d and duplicate %v; 0 and false are expected", t.ID, t.Load, t.Block, t.Duplicate)
		}
		if !t.Load.Blocked() && t.RateRPS <= 0 {
			return fmt.Errorf("trial %s: load is %q, but rate_rps is %g", t.ID, t.Load, t.RateRPS)
		}
		if t.NearGeneratorCeiling && r.CeilingOf(t.Scenario) == nil {
			return fmt.Errorf("trial %s: near_generator_ceiling is true, but the run has no generator_ceiling_rps", t.ID)
		}
	}
	var arms []string
	for _, c := range r.Capacities {
		switch {
		case slices.Contains(arms, c.Arm):
			return fmt.Errorf("capacities: arm %q is there twice", c.Arm)
		case c.LowRPS < 0:
			return fmt.Errorf("capacities: arm %q: low_rps is %g", c.Arm, c.LowRPS)
		case c.HighRPS != nil && *c.HighRPS <= c.LowRPS:
			return fmt.Errorf("capacities: arm %q: high_rps %g is not above low_rps %g", c.Arm, *c.HighRPS, c.LowRPS)
		}
		arms = append(arms, c.Arm)
		for _, id := range c.Steps {
			switch t := of[id]; {
			case t == nil:
				return fmt.Errorf("capacities: arm %q: steps has %q, which is no trial", c.Arm, id)
			case t.Arm != c.Arm || t.Load != LoadCapacity:
				return fmt.Errorf("capacities: arm %q: step %s is a trial of arm %q with load %q", c.Arm, id, t.Arm, t.Load)
			}
		}
	}
	return nil
}
