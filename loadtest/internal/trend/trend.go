// Package trend follows arms over many runs, from their records alone: each night with its interval, and the nights at
// which a figure changed.
//
// A change point is found by binary segmentation (Scott and Knott, A cluster analysis method for grouping means in the
// analysis of variance, Biometrics 1974) with an exact test in place of theirs: of all splits with at least LeastNights on
// either side, the one whose Mann–Whitney test has the smallest p. That p is multiplied by the number of splits looked at
// and of series (Bonferroni), and a split counts where it is below 0.05 and the shift is beyond LeastEffect. Either side is
// then looked at in the same way.
package trend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/noise"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

const (
	// LeastNights is how many nights must stand on either side of a change.
	LeastNights = 4
	// LeastEffect is the ratio below which a change is nobody's business.
	LeastEffect = 1.05
	alpha       = 0.05
)

// Night is one run's figure of one arm.
type Night struct {
	Run   string    `json:"run"`
	Began time.Time `json:"began"`
	// CPU is microseconds per request, the median over the blocks; Low and High are its exact 95 % interval, null where
	// the blocks are too few.
	CPU    float64  `json:"cpu_us_per_request"`
	Low    *float64 `json:"cpu_us_per_request_low"`
	High   *float64 `json:"cpu_us_per_request_high"`
	Trials int      `json:"trials"`

	arm   summary.Arm
	group summary.Group
}

// Arm is what the night's figures were taken from.
func (n Night) Arm() (summary.Group, summary.Arm) { return n.group, n.arm }

// Change is a night at which an arm's CPU per request changed.
type Change struct {
	Night int    `json:"night"` // index of the first night after it
	Run   string `json:"run"`
	// Ratio is after over before (Hodges and Lehmann's estimate), with the exact 95 % interval of Mann and Whitney's test.
	Ratio     float64  `json:"ratio"`
	RatioLow  *float64 `json:"ratio_low"`
	RatioHigh *float64 `json:"ratio_high"`
	P         float64  `json:"p"`
	// PCorrected is p times the splits and series that were looked at.
	PCorrected float64 `json:"p_corrected"`
	// Floor is by how much the contender's own floor changed there; null where it has none in enough nights. What changes
	// no more than its floor may be the machine.
	Floor *float64 `json:"floor_ratio"`
}

// Series is one arm over the nights.
type Series struct {
	// Conditions are what all its runs have in common: machine, engine, contract, profile and method.
	Conditions string   `json:"conditions"`
	Scenario   string   `json:"scenario"`
	Operation  string   `json:"operation"`
	Arm        string   `json:"arm"`
	Contender  string   `json:"contender"`
	Tier       string   `json:"tier"`
	Nights     []Night  `json:"nights"`
	Changes    []Change `json:"changes"`
}

// Result is what runs say together.
type Result struct {
	Metric string   `json:"metric"`
	Method string   `json:"method"`
	Series []Series `json:"series"`
	// Short says which series are too short for any change to be found in them, given how many there are.
	Short []string  `json:"too_short"`
	Error ErrorRate `json:"error_rate"`
}

// ErrorRate is how often a change is found in made-up nights of recorded noise in which nothing changed.
type ErrorRate struct {
	Replicates int `json:"replicates"`
	Nights     int `json:"nights"`
	Series     int `json:"series"`
	// Found counts replicates with a change in any series.
	Found int `json:"found"`
}

// Method is what is done, in words.
const Method = "binary segmentation with exact Mann–Whitney tests, at least 4 nights on either side, p times the number of splits and series below 0.05, and a shift beyond 5 %"

// ErrNotComparable says that runs differ in what makes figures incomparable.
var ErrNotComparable = errors.New("cannot be shown as one series")

// Of follows every arm over the runs, the oldest first. Runs that differ in machine, engine, contract, profile or method
// are an error, or with separate each have series of their own.
func Of(ctx context.Context, runs []record.Run, separate bool) (Result, error) {
	r := Result{Metric: "cpu_us_per_request", Method: Method, Short: []string{}}
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b record.Run) int { return cmp.Or(a.Began.Compare(b.Began), strings.Compare(a.ID, b.ID)) })
	var kinds []string
	first := map[string]record.Run{} // the first run of each kind of conditions
	for i, run := range runs {
		for _, other := range runs[:i] {
			if other.ID == run.ID && other.Began.Equal(run.Began) {
				return r, fmt.Errorf("run %s is there twice", run.ID)
			}
		}
		if run.Profile == record.ProfileAttack || run.Profile == record.ProfileRevisions || !run.Evidence {
			return r, fmt.Errorf("run %s (profile %s) %w: nights are comparisons that are evidence", run.ID, run.Profile, ErrNotComparable)
		}
		if !run.Complete {
			return r, fmt.Errorf("run %s was interrupted, so it %w", run.ID, ErrNotComparable)
		}
		key := conditions(run)
		if _, known := first[key]; !known {
			if len(kinds) > 0 && !separate {
				before := first[kinds[0]]
				return r, fmt.Errorf("%s and %s %w: %s", before.ID, run.ID, ErrNotComparable, differences(before, run))
			}
			first[key] = run
			kinds = append(kinds, key)
		}
	}
	for _, key := range kinds {
		for _, run := range runs {
			if conditions(run) == key {
				r.add(key, run)
			}
		}
	}
	if len(r.Series) == 0 {
		return r, errors.New("no trial that is not void in any run")
	}
	tested := 0
	for _, s := range r.Series {
		if len(s.Nights) >= 2*LeastNights {
			tested++
		}
	}
	longest := 0
	for i := range r.Series {
		s := &r.Series[i]
		s.Changes = []Change{}
		longest = max(longest, len(s.Nights))
		if least := leastP(len(s.Nights)) * float64(max(1, tested)); least >= alpha {
			r.Short = append(r.Short, fmt.Sprintf("%s, %s%s: %d nights", s.Arm, strings.ToUpper(s.Operation), summary.OfScenario(s.Scenario), len(s.Nights)))
			continue
		}
		s.Changes = Changes(s.logs(), tested)
		for k := range s.Changes {
			s.Changes[k].Run = s.Nights[s.Changes[k].Night].Run
			s.Changes[k].Floor = r.floorShift(*s, s.Changes[k].Night)
		}
	}
	r.Error = Simulate(ctx, longest, max(1, tested), simulations, 11)
	return r, ctx.Err()
}

func differences(a, b record.Run) string {
	var out []string
	for _, d := range record.Differences(a, b) {
		out = append(out, d.Kind+": "+d.Words)
	}
	return strings.Join(out, "; ")
}

// conditions is what runs of one series must have in common.
func conditions(r record.Run) string {
	e := r.Environment
	shared := ""
	if e.CPUsShared {
		shared = " (shared)"
	}
	return fmt.Sprintf("%s, server on %s of %d%s, engine %s, data %s (%.8s), profile %s, method %d", e.CPUModel, summary.Plural(len(e.Placement["contender"]), "CPU"), len(e.CPUs), shared, e.Engine, e.DataSize, e.DataDigest, r.Profile, r.Method)
}

func (r *Result) add(key string, run record.Run) {
	for _, g := range summary.Groups(run) {
		key := key
		if s := run.ScenarioNamed(g.Scenario); s != nil {
			key += ", scenario " + s.ID + ": " + s.Definition()
		}
		for _, a := range g.Arms {
			q := a.CPU()
			if len(q.Values) == 0 {
				continue
			}
			n := Night{Run: run.ID, Began: run.Began, CPU: q.Median, Trials: len(q.Values), arm: a, group: g}
			if q.HasInterval() {
				low, high := q.Low, q.High
				n.Low, n.High = &low, &high
			}
			i := slices.IndexFunc(r.Series, func(s Series) bool {
				return s.Conditions == key && s.Scenario == g.Scenario && s.Operation == g.Operation && s.Arm == a.Name
			})
			if i < 0 {
				i = len(r.Series)
				r.Series = append(r.Series, Series{Conditions: key, Scenario: g.Scenario, Operation: g.Operation, Arm: a.Name, Contender: a.Contender, Tier: a.Tier})
			}
			r.Series[i].Nights = append(r.Series[i].Nights, n)
		}
	}
}

func (s Series) logs() []float64 {
	out := make([]float64, len(s.Nights))
	for i, n := range s.Nights {
		out[i] = math.Log(n.CPU)
	}
	return out
}

// floorShift is by how much the contender's floor changed between the nights before and after.
func (r *Result) floorShift(s Series, night int) *float64 {
	if s.Tier == "floor" {
		return nil
	}
	for _, f := range r.Series {
		if f.Tier != "floor" || f.Contender != s.Contender || f.Conditions != s.Conditions || f.Operation != s.Operation || f.Scenario != s.Scenario {
			continue
		}
		var before, after []float64
		for _, n := range f.Nights {
			if n.Began.Before(s.Nights[night].Began) {
				before = append(before, math.Log(n.CPU))
			} else {
				after = append(after, math.Log(n.CPU))
			}
		}
		shift, err := stats.CompareShift(last(before, stats.MaxShiftSample), after[:min(len(after), stats.MaxShiftSample)], 1-alpha)
		if err != nil {
			return nil
		}
		ratio := math.Exp(shift.Estimate)
		return &ratio
	}
	return nil
}

// leastP is the smallest corrected p that a series of so many nights can have.
func leastP(nights int) float64 {
	splits := nights - 2*LeastNights + 1
	if splits < 1 {
		return 1
	}
	half := min(nights/2, stats.MaxShiftSample)
	return float64(splits) * stats.LeastShiftP(half, min(nights-half, stats.MaxShiftSample))
}

// Changes finds the change points of one series, of logarithms, the earliest first; series is how many are looked at
// together. Of more than MaxShiftSample nights on one side of a split, the nearest to it are compared.
func Changes(values []float64, series int) []Change {
	var out []Change
	find(values, 0, series, &out)
	slices.SortFunc(out, func(a, b Change) int { return a.Night - b.Night })
	if out == nil {
		out = []Change{}
	}
	return out
}

func find(values []float64, from, series int, out *[]Change) {
	splits := len(values) - 2*LeastNights + 1
	if splits < 1 {
		return
	}
	best := Change{P: 2}
	var shift stats.Shift
	for at := LeastNights; at <= len(values)-LeastNights; at++ {
		before := last(values[:at], stats.MaxShiftSample)
		after := values[at:min(len(values), at+stats.MaxShiftSample)]
		s, err := stats.CompareShift(before, after, 1-alpha)
		// Of splits that are as unlikely, the one with the larger shift.
		if err == nil && (s.P < best.P || s.P == best.P && math.Abs(s.Estimate) > math.Abs(shift.Estimate)) {
			best.Night, best.P, shift = at, s.P, s
		}
	}
	best.PCorrected = min(1, best.P*float64(splits)*float64(series))
	if best.PCorrected >= alpha || math.Abs(shift.Estimate) <= math.Log(LeastEffect) {
		return
	}
	at := best.Night
	best.Night += from
	best.Ratio = math.Exp(shift.Estimate)
	if !math.IsInf(shift.Low, 0) {
		low, high := math.Exp(shift.Low), math.Exp(shift.High)
		best.RatioLow, best.RatioHigh = &low, &high
	}
	*out = append(*out, best)
	find(values[:at], from, series, out)
	find(values[at:], from+at, series, out)
}

func last(x []float64, n int) []float64 { return x[max(0, len(x)-n):] }

// simulations is how many made-up histories an error rate is told of.
const simulations = 2000

// Simulate counts in how many made-up histories a change is found although there is none: nights are drawn from recorded
// noise, the medians of eight blocks, and are independent of each other, which real nights need not be.
func Simulate(ctx context.Context, nights, series, replicates int, seed uint64) ErrorRate {
	parts := noise.Quick().Parts(noise.CPU)
	found := noise.Replicates(ctx, replicates, seed, func(r *rand.Rand, sum *int) {
		for range series {
			values := make([]float64, nights)
			for i := range values {
				blocks := make([]float64, 8)
				for b := range blocks {
					blocks[b] = parts.Blocks[r.IntN(len(parts.Blocks))] + parts.Rests[r.IntN(len(parts.Rests))]
				}
				values[i] = stats.Median(blocks)
			}
			if len(Changes(values, series)) > 0 {
				*sum++
				return
			}
		}
	}, func(into *int, from int) { *into += from })
	return ErrorRate{replicates, nights, series, found}
}
