// Package diff compares two runs arm by arm, from their records alone.
//
// Two runs were measured at two times, so what the machine did between them is in every difference: it is measured by
// the floors, which are the same programs in spirit and whose own change is shown as drift, and a change counts only
// beyond it. Where a decision hangs on it, interleave both revisions in one run instead.
package diff

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// What two runs may differ in, so that they cannot be compared unless that is said.
const (
	Machine  = record.DifferentMachine
	Engine   = record.DifferentEngine
	Contract = record.DifferentContract
	Profile  = record.DifferentProfile
	Method   = record.DifferentMethod
)

// Kinds lists them.
func Kinds() []string { return []string{Machine, Engine, Contract, Profile, Method} }

// Verdicts on one arm.
const (
	Regression  = "regression"
	Improvement = "improvement"
	TooClose    = "too close to call"
	Untested    = "cannot be tested"
)

const (
	alpha = 0.05
	// leastEffect is the ratio below which a change is nobody's business.
	leastEffect = 1.05
)

// Change is what became of one arm. CPU is µs per request.
type Change struct {
	Scenario  string `json:"scenario"`
	Operation string `json:"operation"`
	Arm       string `json:"arm"`
	Tier      string `json:"tier"`
	Metric    string `json:"metric"`
	// Old and New are medians over the blocks; null where no trial is left that is not void.
	Old       *float64 `json:"old"`
	New       *float64 `json:"new"`
	OldTrials int      `json:"old_trials"`
	NewTrials int      `json:"new_trials"`
	OldRank   int      `json:"old_rank"` // among the arms of the tier, the cheapest first
	NewRank   int      `json:"new_rank"`
	// Ratio is new over old (Hodges and Lehmann's estimate), with its exact 95 % interval; null where the trials are too few.
	Ratio     *float64 `json:"ratio"`
	RatioLow  *float64 `json:"ratio_low"`
	RatioHigh *float64 `json:"ratio_high"`
	P         *float64 `json:"p"`
	PHolm     *float64 `json:"p_holm"`
	Verdict   string   `json:"verdict"`
	Reason    string   `json:"reason"`
}

// Result is a comparison of two runs.
type Result struct {
	OldID string `json:"old"`
	NewID string `json:"new"`
	// Differences between the runs that were allowed, each a sentence.
	Differences []string `json:"differences"`
	// NoiseFloor is the largest of the two runs' A/A noise floors, of all scenarios, as a ratio; null where none has one. A
	// change is held against that of its own scenario.
	NoiseFloor *float64 `json:"noise_floor"`
	// Drift is by how much the floors changed, as a ratio of new over old; null where the runs have none in common.
	Drift   *float64 `json:"drift"`
	Changes []Change `json:"changes"`
	// RanksAlike says that no two arms of a tier changed places whose order both runs decide.
	RanksAlike bool `json:"ranks_alike"`
	// Swapped names the pairs that did.
	Swapped []string `json:"swapped"`
}

// Regressed tells whether any arm but a floor got dearer beyond doubt.
func (r Result) Regressed() bool {
	return slices.ContainsFunc(r.Changes, func(c Change) bool { return c.Verdict == Regression && c.Tier != "floor" })
}

// RegressedArms names the arms, floors left out, that got dearer beyond doubt, each once.
func (r Result) RegressedArms() []string {
	var arms []string
	for _, c := range r.Changes {
		if c.Verdict == Regression && c.Tier != "floor" && !slices.Contains(arms, c.Arm) {
			arms = append(arms, c.Arm)
		}
	}
	return arms
}

// ErrNotComparable says that runs differ in what makes figures incomparable.
var ErrNotComparable = errors.New("cannot be compared")

// Runs compares two runs; across names the kinds of difference that are allowed.
func Runs(old, new record.Run, across []string) (Result, error) {
	r := Result{OldID: old.ID, NewID: new.ID, Differences: []string{}, Swapped: []string{}}
	for _, kind := range across {
		if !slices.Contains(Kinds(), kind) {
			return r, fmt.Errorf("%q: expected any of %s", kind, strings.Join(Kinds(), ", "))
		}
	}
	var refused []string
	for _, d := range record.Differences(old, new) {
		if slices.Contains(across, d.Kind) {
			r.Differences = append(r.Differences, d.Words)
		} else {
			refused = append(refused, d.Kind+": "+d.Words)
		}
	}
	if len(refused) > 0 {
		return r, fmt.Errorf("%s and %s %w (%s)", old.ID, new.ID, ErrNotComparable, strings.Join(refused, "; "))
	}
	oldGroups, newGroups := summary.Groups(old), summary.Groups(new)
	for _, g := range oldGroups {
		i := slices.IndexFunc(newGroups, func(x summary.Group) bool {
			return x.Scenario == g.Scenario && x.Operation == g.Operation && x.Closed == g.Closed
		})
		if i < 0 {
			continue
		}
		if why := redefined(old, new, g.Scenario); why != "" {
			r.Differences = append(r.Differences, why)
			continue
		}
		r.Changes = append(r.Changes, changes(g, newGroups[i])...)
		r.Swapped = append(r.Swapped, swapped(g, newGroups[i])...)
	}
	if len(r.Changes) == 0 {
		return r, fmt.Errorf("%s and %s %w: they have no arm in common that was measured with the same operation", old.ID, new.ID, ErrNotComparable)
	}
	r.RanksAlike = len(r.Swapped) == 0
	floors := noiseFloors(old, new)
	for _, floor := range floors {
		if r.NoiseFloor == nil || floor > *r.NoiseFloor {
			r.NoiseFloor = &floor
		}
	}
	r.Drift = drift(r.Changes)
	decide(&r, floors)
	return r, nil
}

// redefined says where a scenario was measured otherwise in the two runs, so that its figures are not compared.
func redefined(old, new record.Run, id string) string {
	a, b := old.ScenarioNamed(id), new.ScenarioNamed(id)
	if a == nil || b == nil || a.Definition() == b.Definition() {
		return ""
	}
	return fmt.Sprintf("scenario %s was “%s” and is “%s”, so it is left out", id, a.Definition(), b.Definition())
}

func costs(a summary.Arm) []float64 {
	var out []float64
	for _, v := range a.CPU().Values {
		if v > 0 {
			out = append(out, v)
		}
	}
	return out
}

func armOf(g summary.Group, name string) (summary.Arm, bool) {
	i := slices.IndexFunc(g.Arms, func(a summary.Arm) bool { return a.Name == name })
	if i < 0 {
		return summary.Arm{}, false
	}
	return g.Arms[i], true
}

func changes(old, new summary.Group) []Change {
	var out []Change
	for _, a := range old.Arms {
		b, ok := armOf(new, a.Name)
		if !ok {
			continue
		}
		c := Change{
			Scenario: old.Scenario, Operation: old.Operation, Arm: a.Name, Tier: a.Tier, Metric: "cpu_us_per_request",
			OldRank: rank(old, new, a), NewRank: rank(new, old, b),
		}
		x, y := costs(a), costs(b)
		c.Old, c.New, c.OldTrials, c.NewTrials = median(x), median(y), len(x), len(y)
		shift, err := stats.CompareShift(logs(x), logs(y), 1-alpha)
		switch {
		case len(x) == 0 || len(y) == 0:
			c.Verdict, c.Reason = Untested, "no trial that is not void"
		case err != nil:
			c.Verdict, c.Reason = Untested, err.Error()
		default:
			c.Ratio, c.P = pointer(math.Exp(shift.Estimate)), pointer(shift.P)
			if !math.IsInf(shift.Low, 0) {
				c.RatioLow, c.RatioHigh = pointer(math.Exp(shift.Low)), pointer(math.Exp(shift.High))
			}
		}
		out = append(out, c)
	}
	return out
}

func median(x []float64) *float64 {
	if len(x) == 0 {
		return nil
	}
	return pointer(stats.Median(x))
}

func logs(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = math.Log(v)
	}
	return out
}

// rank is the place of an arm among those of its tier that both runs have.
func rank(g, other summary.Group, a summary.Arm) int {
	place := 1
	for _, x := range g.Arms {
		if _, both := armOf(other, x.Name); both && x.Tier == a.Tier && stats.Median(costs(x)) < stats.Median(costs(a)) {
			place++
		}
	}
	return place
}

// swapped names the pairs of arms of one tier that either run puts in another order, in both beyond chance: the interval
// of their ratio, taken block by block, has 1 on different sides.
func swapped(old, new summary.Group) []string {
	var out []string
	for i, a := range old.Arms {
		for _, b := range old.Arms[i+1:] {
			x, okX := armOf(new, a.Name)
			y, okY := armOf(new, b.Name)
			if a.Tier != b.Tier || !okX || !okY {
				continue
			}
			was, is := summary.Ratio(a, b), summary.Ratio(x, y)
			if was.High < 1 && is.Low > 1 || was.Low > 1 && is.High < 1 {
				out = append(out, a.Name+" and "+b.Name+summary.OfScenario(old.Scenario))
			}
		}
	}
	return out
}

// noiseFloors has the larger noise floor of two runs, as a ratio, for each scenario that has one.
func noiseFloors(runs ...record.Run) map[string]float64 {
	out := map[string]float64{}
	for _, r := range runs {
		for _, trials := range claims.ByScenario(r.Trials) {
			aa := claims.SameArm(trials)
			if len(aa) == 0 || len(aa) > stats.MaxPairs {
				continue
			}
			floor, err := stats.NoiseFloor(aa)
			if err != nil || math.IsInf(floor, 0) {
				continue
			}
			id := trials[0].Scenario
			out[id] = max(out[id], math.Exp(floor))
		}
	}
	return out
}

// drift is by how much the floors changed on average.
func drift(changes []Change) *float64 {
	var all []float64
	for _, c := range changes {
		if c.Tier == "floor" && c.Old != nil && c.New != nil {
			all = append(all, math.Log(*c.New / *c.Old))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return pointer(math.Exp(stats.Mean(all)))
}

// decide gives each arm its verdict: the exact test after Holm's correction over all arms, and an effect beyond the
// noise floor and leastEffect, both as it is and over what the floors changed by.
func decide(r *Result, floors map[string]float64) {
	var ps []float64
	var at []int
	for i, c := range r.Changes {
		if c.P != nil {
			ps, at = append(ps, *c.P), append(at, i)
		}
	}
	for k, p := range stats.Holm(ps) {
		c := &r.Changes[at[k]]
		bar, why := leastEffect, fmt.Sprintf("changes under %.0f %% are not looked at", 100*(leastEffect-1))
		if floor := floors[c.Scenario]; floor > bar {
			bar, why = floor, fmt.Sprintf("identical arms differ by up to %.1f %%", 100*(floor-1))
		}
		c.PHolm = pointer(p)
		size := math.Abs(math.Log(*c.Ratio))
		beyondDrift := size
		if r.Drift != nil && c.Tier != "floor" {
			beyondDrift = math.Abs(math.Log(*c.Ratio / *r.Drift))
		}
		switch {
		case stats.LeastShiftP(c.OldTrials, c.NewTrials)*float64(len(ps)) >= alpha:
			c.Verdict, c.Reason = Untested, fmt.Sprintf("%d against %d trials are too few in a family of %d", c.OldTrials, c.NewTrials, len(ps))
		case p >= alpha:
			c.Verdict, c.Reason = TooClose, fmt.Sprintf("p %.3f after Holm's correction", p)
		case size <= math.Log(bar):
			c.Verdict, c.Reason = TooClose, why
		case beyondDrift <= math.Log(bar):
			c.Verdict, c.Reason = TooClose, fmt.Sprintf("the floors changed by %+.1f %% too, so it may be the machine", 100*(*r.Drift-1))
		case *c.Ratio > 1:
			c.Verdict, c.Reason = Regression, fmt.Sprintf("%.1f %% dearer", 100*(*c.Ratio-1))
		default:
			c.Verdict, c.Reason = Improvement, fmt.Sprintf("%.1f %% cheaper", 100*(1-*c.Ratio))
		}
	}
}

func pointer(x float64) *float64 { return &x }
