package record

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"lab/loadtest/internal/contract"
)

// check says where plan and verdicts contradict the trials beside them, and names the field. Whether a verdict follows
// from its trials by the scenario's rule is not for this package to know.
func (r *Run) check() error {
	if r.Complete && r.Ended.IsZero() {
		return errors.New("complete is true, but ended says that it did not end")
	}
	if err := r.checkPlan(); err != nil {
		return err
	}
	if err := r.checkCapacities(); err != nil {
		return err
	}
	ids := map[string]bool{}
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		if ids[v.ID] {
			return fmt.Errorf("verdicts: id %q is there twice", v.ID)
		}
		ids[v.ID] = true
		if err := r.checkVerdict(v); err != nil {
			return fmt.Errorf("verdict %s: %w", v.ID, err)
		}
	}
	return nil
}

// checkPlan holds trials to their plans. A run that was interrupted has fewer trials than planned, and one that ended
// before its plan was made has none.
func (r *Run) checkPlan() error {
	if err := r.Plan.check(); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	seen := map[string]bool{}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if seen[s.ID] {
			return fmt.Errorf("scenarios: id %q is there twice", s.ID)
		}
		seen[s.ID] = true
		if err := s.check(); err != nil {
			return fmt.Errorf("scenario %s: %w", s.ID, err)
		}
	}
	for i := range r.Trials {
		t := &r.Trials[i]
		if !t.Load.Blocked() {
			continue
		}
		p := r.PlanOf(t.Scenario)
		if t.Block < 1 || t.Block > len(p.Order) {
			return fmt.Errorf("trial %s: block %d is none of the plan's %d", t.ID, t.Block, len(p.Order))
		}
		order := p.Order[t.Block-1]
		if t.Position < 1 || t.Position > len(order) {
			return fmt.Errorf("trial %s: position %d is none of the %d that plan.order has in block %d", t.ID, t.Position, len(order), t.Block)
		}
		if planned := order[t.Position-1]; t.Arm != planned {
			return fmt.Errorf("trial %s: arm is %q, but plan.order has %q there", t.ID, t.Arm, planned)
		}
	}
	return nil
}

// check holds a scenario to itself.
func (s *Scenario) check() error {
	if err := s.Plan.check(); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	for _, pair := range s.Pairs {
		for _, arm := range pair {
			if !slices.Contains(s.Arms, arm) && !(arm == contract.Bound && s.BoundNS > 0) {
				return fmt.Errorf("pairs has %q, which arms has not", arm)
			}
		}
		if pair[0] == pair[1] {
			return fmt.Errorf("pairs has %q with itself", pair[0])
		}
	}
	for i, n := range s.Connections {
		if n < 1 || i > 0 && n <= s.Connections[i-1] {
			return fmt.Errorf("connections is %v; rising numbers above 0 are expected", s.Connections)
		}
	}
	for arm, baseline := range s.Baselines {
		if !slices.Contains(s.Arms, arm) || !slices.Contains(s.Arms, baseline) || s.Baselines[baseline] != "" || arm == baseline {
			return fmt.Errorf("baselines has %q for %q; two of arms are expected, the first without a baseline", baseline, arm)
		}
	}
	for arm := range s.Absent {
		if !slices.Contains(s.Arms, arm) {
			return fmt.Errorf("absent has %q, which arms has not", arm)
		}
	}
	if s.Share < 0 || s.Share >= 1 {
		return fmt.Errorf("share is %g; a share between 0 and 1 is expected", s.Share)
	}
	if s.OwnShare < 0 || s.OwnShare >= 1 {
		return fmt.Errorf("own_share is %g; a share between 0 and 1 is expected", s.OwnShare)
	}
	if len(s.Mix) > 0 && s.Mix[s.Operation] == 0 {
		return fmt.Errorf("mix has no %q, which is the operation", s.Operation)
	}
	for way, ns := range s.DelaysNS {
		if ns <= 0 {
			return fmt.Errorf("delays_ns: %s is %d", way, ns)
		}
	}
	switch {
	case (s.Rule == contract.RuleWithin) != (s.BoundNS > 0):
		return fmt.Errorf("rule is %s, and bound_ns is %d", s.Rule, s.BoundNS)
	case s.GeneratorCeilingRPS != nil && *s.GeneratorCeilingRPS <= 0:
		return fmt.Errorf("generator_ceiling_rps is %g", *s.GeneratorCeilingRPS)
	case !(s.Margin > 1):
		return fmt.Errorf("margin is %g; a ratio above 1 is expected", s.Margin)
	case !(s.Alpha > 0 && s.Alpha < 1):
		return fmt.Errorf("alpha is %g; a chance between 0 and 1 is expected", s.Alpha)
	}
	return nil
}

// check holds a plan to itself.
func (p *Plan) check() error {
	planned := map[string]bool{}
	for _, block := range p.Order {
		for _, arm := range block {
			planned[arm] = true
		}
	}
	switch {
	case p.Blocks < 0:
		return fmt.Errorf("blocks is %d", p.Blocks)
	case p.FloorBlocks < 0 || p.FloorBlocks > p.Blocks:
		return fmt.Errorf("floor_blocks is %d of %d blocks", p.FloorBlocks, p.Blocks)
	case p.RateRPS < 0:
		return fmt.Errorf("rate_rps is %g", p.RateRPS)
	case p.Repeats < 0:
		return fmt.Errorf("repeats is %d", p.Repeats)
	case len(p.Order) != p.Blocks:
		return fmt.Errorf("blocks is %d, but order has %d", p.Blocks, len(p.Order))
	}
	if err := p.checkPower(); err != nil {
		return err
	}
	for _, pilot := range p.Pilot {
		if len(p.Order) > 0 && !planned[pilot.Arm] {
			return fmt.Errorf("pilot has arm %q, which order has not", pilot.Arm)
		}
	}
	return nil
}

// checkPower holds what was said beforehand of power and percentiles to itself.
func (p *Plan) checkPower() error {
	if w := p.Power; w != nil {
		switch {
		case len(w.NoiseLogRatios) == 0:
			return errors.New("power: noise_log_ratios is empty")
		case w.DetectableRatio != nil && *w.DetectableRatio < 1:
			return fmt.Errorf("power: detectable_ratio is %g; a ratio of at least 1 is expected", *w.DetectableRatio)
		case w.BlocksForMargin != nil && *w.BlocksForMargin < 1:
			return fmt.Errorf("power: blocks_for_margin is %d", *w.BlocksForMargin)
		}
	}
	for _, q := range p.Percentiles {
		if q.Carried != (q.RequestsPlanned >= q.RequestsRequired) {
			return fmt.Errorf("percentiles: %s: carried is %t with %d of %d requests", q.Name, q.Carried, q.RequestsPlanned, q.RequestsRequired)
		}
	}
	return nil
}

func (r *Run) checkVerdict(v *Verdict) error {
	var blocks [2]map[int]bool
	for i, arm := range v.Arms {
		if s := r.ScenarioNamed(v.Scenario); arm == contract.Bound && i == 1 && s != nil && s.BoundNS > 0 {
			blocks[1] = blocks[0]
			continue
		}
		blocks[i] = map[int]bool{}
		for k := range r.Trials {
			if t := &r.Trials[k]; t.Scenario == v.Scenario && t.Arm == arm && t.Load.Blocked() {
				blocks[i][t.Block] = true
			}
		}
		if len(blocks[i]) == 0 && !r.absent(v.Scenario, arm) {
			return fmt.Errorf("arms has %q, of which scenario %q has no trial", arm, v.Scenario)
		}
	}
	both := 0
	for block := range blocks[0] {
		if blocks[1][block] {
			both++
		}
	}
	switch {
	case v.Arms[0] == v.Arms[1]:
		return fmt.Errorf("arms has %q twice", v.Arms[0])
	case v.Blocks < 0 || v.Blocks > both:
		return fmt.Errorf("blocks is %d, but both arms have trials in %d", v.Blocks, both)
	case (v.RatioLow == nil) != (v.RatioHigh == nil):
		return fmt.Errorf("of ratio_low and ratio_high only one is there")
	case v.RatioLow != nil && v.Ratio == nil:
		return fmt.Errorf("ratio is null beside an interval of it")
	case v.Ratio != nil && v.Blocks == 0:
		return fmt.Errorf("ratio is %g, of no block", *v.Ratio)
	case v.Ratio != nil && *v.Ratio <= 0:
		return fmt.Errorf("ratio is %g", *v.Ratio)
	// The same number by two ways may differ in its last digits.
	case v.RatioLow != nil && (above(*v.RatioLow, *v.Ratio) || above(*v.Ratio, *v.RatioHigh)):
		return fmt.Errorf("ratio %g is outside its interval, ratio_low %g to ratio_high %g", *v.Ratio, *v.RatioLow, *v.RatioHigh)
	case v.RatioLow != nil && *v.RatioLow <= 0:
		return fmt.Errorf("ratio_low is %g", *v.RatioLow)
	case v.Margin <= 0:
		return fmt.Errorf("margin is %g", v.Margin)
	case v.P != nil && !probability(*v.P):
		return fmt.Errorf("p is %g", *v.P)
	case v.PHolm != nil && !probability(*v.PHolm):
		return fmt.Errorf("p_holm is %g", *v.PHolm)
	case v.PHolm != nil && (v.P == nil || above(*v.P, *v.PHolm)):
		return fmt.Errorf("p_holm %g is less than the p that it corrects", *v.PHolm)
	case v.NoiseFloor != nil && *v.NoiseFloor < 1:
		return fmt.Errorf("noise_floor is %g; a ratio of at least 1 is expected", *v.NoiseFloor)
	}
	return nil
}

// absent tells whether a scenario left an arm out that cannot be tested here.
func (r *Run) absent(scenario, arm string) bool {
	s := r.ScenarioNamed(scenario)
	return s != nil && s.Absent[arm] != ""
}

func above(x, y float64) bool { return x > y && x-y > 1e-9*math.Abs(y) }

func probability(x float64) bool { return x >= 0 && x <= 1 }
