// Package capacity searches for the highest rate at which a service level objective holds. It knows nothing of servers:
// a caller runs a trial at the rate that a [Search] asks for and tells whether the objective held.
//
// The rate is doubled until the objective fails and then bisected, as Nighthawk's adaptive load controller does
// (its step controller "exponential search": double, bisect, then a testing stage at the rate found). MLPerf loadgen's
// server scenario is searched the same way from outside, with Poisson arrivals of a published seed, and repeats the run at
// the rate that it reports (Reddi et al., MLPerf Inference Benchmark, ISCA 2020). Two things differ here. The answer is an
// interval, never a point: the highest rate that held and the lowest that failed, each confirmed by repeated trials. And a
// rate that held in one trial and failed in another is contested: bisecting finer than what a machine scatters by would
// be fiction, so contested rates lie inside the interval and are not looked into further.
package capacity

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Outcome is what became of a trial.
type Outcome string

// The outcomes. A void trial says nothing of the objective: it is repeated.
const (
	Held   Outcome = "held"
	Failed Outcome = "failed"
	Void   Outcome = "void"
)

// Step is one trial of a search.
type Step struct {
	RPS     float64
	Outcome Outcome
}

// Options say where to search. Rates are requests a second.
type Options struct {
	// Start is tried first.
	Start float64
	// Floor is the lowest rate that is tried; Ceiling the highest, above which a generator would measure itself.
	Floor, Ceiling float64
	// Precision is the ratio, less one, of two neighbouring rates below which nothing is tried between them; 0 is 0.05.
	Precision float64
	// Confirm is how many trials more have to agree at each end; 0 is 3. Each rate that proved contested asks for one more,
	// up to twice as many: who tries several rates near the capacity until one agrees often enough finds one by luck.
	Confirm int
	// Voids is how many void trials in a row end the search; 0 is 3.
	Voids int
	// Steps is how many trials end the search; 0 is 60.
	Steps int
}

func (o Options) withDefaults() (Options, error) {
	o.Precision = cmp.Or(o.Precision, 0.05)
	o.Confirm, o.Voids, o.Steps = cmp.Or(o.Confirm, 3), cmp.Or(o.Voids, 3), cmp.Or(o.Steps, 60)
	switch {
	case !(o.Floor > 0) || math.IsInf(o.Floor, 0):
		return o, fmt.Errorf("capacity search: floor %g requests a second: a positive number is expected", o.Floor)
	case !(o.Ceiling >= o.Floor) || math.IsInf(o.Ceiling, 0):
		return o, fmt.Errorf("capacity search: ceiling %g requests a second: at least the floor, %g, is expected", o.Ceiling, o.Floor)
	case !(o.Start > 0) || math.IsInf(o.Start, 0):
		return o, fmt.Errorf("capacity search: start %g requests a second: a positive number is expected", o.Start)
	case !(o.Precision > 0 && o.Precision <= 1):
		return o, fmt.Errorf("capacity search: precision %g: a number above 0 and up to 1 is expected", o.Precision)
	case o.Confirm < 0 || o.Voids < 0 || o.Steps < 0:
		return o, fmt.Errorf("capacity search: confirm %d, voids %d, steps %d: none may be negative", o.Confirm, o.Voids, o.Steps)
	}
	o.Start = min(max(o.Start, o.Floor), o.Ceiling)
	return o, nil
}

// Result is what a search found.
type Result struct {
	// LowRPS is the highest rate that held in each of its trials and has no rate below it that failed in each; 0 where the
	// objective held nowhere.
	LowRPS float64
	// HighRPS is the lowest rate above it that failed in each of its trials; 0 where none did, so that the interval is open.
	HighRPS float64
	// Confirmed says that the search ended by itself, and that each end there is was repeated as often as asked.
	Confirmed bool
	// Contested are the rates between the ends that held in some trials and failed in others, ascending.
	Contested []float64
	// Note says in words what a reader must know: why an end is open, what was contested, why the search ended early.
	Note string
}

// Search is a search under way. Searches of several servers can take turns.
type Search struct {
	o       Options
	steps   []Step
	voids   int // in a row
	stopped string
}

// New begins a search; options that make no sense are an error that names the option.
func New(o Options) (*Search, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Search{o: o}, nil
}

// Steps are the trials so far, in their order.
func (s *Search) Steps() []Step { return slices.Clone(s.steps) }

// Stop ends the search with the interval that it has.
func (s *Search) Stop(why string) { s.stopped = cmp.Or(s.stopped, why) }

// Add tells what became of the trial at the rate that Next gave.
func (s *Search) Add(rps float64, outcome Outcome) {
	s.steps = append(s.steps, Step{rps, outcome})
	if outcome != Void {
		s.voids = 0
	} else if s.voids++; s.voids >= s.o.Voids {
		s.Stop(fmt.Sprintf("%d trials in a row at %s requests a second were void", s.voids, rateText(rps)))
	}
}

// Next gives the rate of the next trial; false where the search has ended.
func (s *Search) Next() (rps float64, more bool) {
	rps, more = s.next()
	if more && len(s.steps) >= s.o.Steps {
		s.Stop(fmt.Sprintf("the most steps there may be, %d, were taken", s.o.Steps))
		more = false
	}
	return rps, more
}

func (s *Search) next() (float64, bool) {
	if s.stopped != "" {
		return 0, false
	}
	if s.voids > 0 {
		return s.steps[len(s.steps)-1].RPS, true
	}
	t := tally(s.steps)
	if len(t.rates) == 0 {
		return s.o.Start, true
	}
	low, high, zone := t.interval()
	lowest, highest := t.rates[0], t.rates[len(t.rates)-1]
	// An end that is not known yet is looked for outside all that was tried.
	if low == 0 && lowest > s.o.Floor {
		return max(s.o.Floor, round(lowest/2)), true
	}
	if high == 0 && highest < s.o.Ceiling {
		return min(s.o.Ceiling, round(2*highest)), true
	}
	if rps, ok := s.between(low, high, zone); ok {
		return rps, true
	}
	// Both ends take turns, so that a machine that gets busier is noticed at both.
	agree := 1 + s.o.Confirm + min(t.contested(), s.o.Confirm)
	lowNeeds, highNeeds := 0, 0
	if low > 0 {
		lowNeeds = agree - t.held[low]
	}
	if high > 0 {
		highNeeds = agree - t.failed[high]
	}
	switch {
	case lowNeeds <= 0 && highNeeds <= 0:
		return 0, false
	case lowNeeds >= highNeeds:
		return low, true
	}
	return high, true
}

// between is a rate inside the interval that is worth a trial: in the wider of the gaps beside what is contested.
func (s *Search) between(low, high float64, zone []float64) (float64, bool) {
	type gap struct{ from, to float64 }
	var gaps []gap
	switch {
	case len(zone) > 0:
		gaps = []gap{{low, zone[0]}, {zone[len(zone)-1], high}}
	default:
		gaps = []gap{{low, high}}
	}
	best, widest := gap{}, 1+s.o.Precision
	for _, g := range gaps {
		if g.from > 0 && g.to > 0 && g.to/g.from > widest {
			best, widest = g, g.to/g.from
		}
	}
	if best.from == 0 {
		return 0, false
	}
	middle := math.Sqrt(best.from * best.to)
	if r := round(middle); r > best.from && r < best.to {
		middle = r
	}
	return middle, true
}

// Result is what the trials so far say.
func (s *Search) Result() Result {
	_, more := s.next()
	r := Evaluate(s.steps)
	r.Confirmed = !more && s.stopped == "" && len(s.steps) > 0
	var notes []string
	if s.stopped != "" {
		notes = append(notes, "ended early: "+s.stopped)
	}
	if len(r.Contested) > 0 {
		notes = append(notes, contestedText(r.Contested))
	}
	if t := tally(s.steps); len(t.rates) > 0 {
		lowest, highest := t.rates[0], t.rates[len(t.rates)-1]
		if r.LowRPS == 0 && lowest <= s.o.Floor {
			notes = append(notes, fmt.Sprintf("it held at no rate down to the lowest that is tried, %s requests a second", rateText(s.o.Floor)))
		}
		if r.HighRPS == 0 && highest >= s.o.Ceiling {
			notes = append(notes, fmt.Sprintf("open above: the generator's ceiling, %s requests a second, came first", rateText(s.o.Ceiling)))
		}
	}
	r.Note = strings.Join(notes, "; ")
	return r
}

// Evaluate gives the interval of a search's steps, whatever their order, without saying whether it is confirmed.
func Evaluate(steps []Step) Result {
	low, high, zone := tally(steps).interval()
	return Result{LowRPS: low, HighRPS: high, Contested: zone}
}

// Run searches to the end with trials that try makes. Before each step it asks over, which may be nil, whether the time is
// up: a reason ends the search with the interval that it has. An error of try ends it at once.
func Run(ctx context.Context, o Options, try func(ctx context.Context, rps float64) (Outcome, error), over func() string) (Result, []Step, error) {
	s, err := New(o)
	if err != nil {
		return Result{}, nil, err
	}
	for {
		rps, more := s.Next()
		if more && over != nil {
			if why := over(); why != "" {
				s.Stop(why)
				more = false
			}
		}
		if !more {
			return s.Result(), s.Steps(), nil
		}
		outcome, err := try(ctx, rps)
		if err != nil {
			return s.Result(), s.Steps(), err
		}
		s.Add(rps, outcome)
	}
}

// counts are the trials by rate, void ones left out.
type counts struct {
	rates        []float64 // ascending
	held, failed map[float64]int
}

func tally(steps []Step) counts {
	c := counts{held: map[float64]int{}, failed: map[float64]int{}}
	for _, step := range steps {
		switch step.Outcome {
		case Held:
			c.held[step.RPS]++
		case Failed:
			c.failed[step.RPS]++
		default:
			continue
		}
		if !slices.Contains(c.rates, step.RPS) {
			c.rates = append(c.rates, step.RPS)
		}
	}
	slices.Sort(c.rates)
	return c
}

// contested is how many rates have held and failed.
func (c counts) contested() int {
	n := 0
	for _, r := range c.rates {
		if c.held[r] > 0 && c.failed[r] > 0 {
			n++
		}
	}
	return n
}

// interval has as its low end the highest rate that always held and as its high end the lowest above it that always
// failed; contested rates lie between.
func (c counts) interval() (low, high float64, contested []float64) {
	for _, r := range c.rates {
		if c.failed[r] == 0 {
			low = r
		}
	}
	for _, r := range c.rates {
		if r > low && c.held[r] == 0 {
			high = r
			break
		}
	}
	for _, r := range c.rates {
		if r > low && (high == 0 || r < high) {
			contested = append(contested, r)
		}
	}
	return low, high, contested
}

// round keeps three digits, so that a rate is a number one can say.
func round(rps float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(rps, 'g', 3, 64), 64)
	if err != nil || r <= 0 {
		return rps
	}
	return r
}

func rateText(rps float64) string { return strconv.FormatFloat(rps, 'f', -1, 64) }

func contestedText(rates []float64) string {
	words := make([]string, len(rates))
	for i, r := range rates {
		words[i] = rateText(r)
	}
	return fmt.Sprintf("held in some trials and failed in others: %s requests a second", strings.Join(words, ", "))
}
