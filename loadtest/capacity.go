package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trial"
)

// capacityTimes say how long a profile's searches take. Budgets are reckoned with the length of trials and the longest
// warm-up before each, not with a clock, so that a run that is resumed ends each search where it would have ended.
type capacityTimes struct {
	search  bool          // without being asked
	ceiling time.Duration // of one step against the null server
	step    time.Duration // of one trial at least; slow rates take longer, so that the requests carry the percentile
	budget  time.Duration // of all searches together
	curves  time.Duration // of all curves together
}

const (
	// longestStep bounds a trial at a slow rate, and so how low a search goes.
	longestStep = 30 * time.Second
	// surplus is how many more requests are intended than the percentile needs, because Poisson arrivals scatter.
	surplus = 1.2
	// capacityStart is the share of the pilot's rate that is tried first: it most likely holds.
	capacityStart = 0.5
	// inFlightSurplus is how many more requests may be under way than are where the service time is at the objective's
	// limit (Little's law): with that many and none to spare, the server was too slow and not the generator.
	inFlightSurplus = 2
	mostInFlight    = 10_000
)

// ownShares of an arm's capacity are the points of its curve; commonShares of the weakest arm's capacity are points of
// every curve.
var (
	ownShares    = []float64{0.25, 0.5, 0.75, 0.9}
	commonShares = []float64{0.25, 0.5, 0.75}
)

// The seeds of what is measured beside the blocks come from blocks that no plan has.
const (
	ceilingBlock  = 1<<20 + iota
	capacityBlock // also of the order
	curveBlock
)

// choice is a flag that may be given as yes or no, or left to the profile.
type choice struct{ made, yes bool }

func (c *choice) String() string {
	if !c.made {
		return ""
	}
	return strconv.FormatBool(c.yes)
}

// Set is of flag.Value.
func (c *choice) Set(text string) error {
	yes, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%q: true or false is expected", text)
	}
	*c = choice{made: true, yes: yes}
	return nil
}

// IsBoolFlag lets the flag stand without a value.
func (c *choice) IsBoolFlag() bool { return true }

// capacitySettings say whether capacities are searched, and how.
type capacitySettings struct {
	on    bool
	slo   capacity.SLO
	times capacityTimes
}

func (o compareOptions) objective() (capacity.SLO, error) {
	slo, err := capacity.ParseSLO(cmp.Or(o.slo, capacity.Default.String()))
	if err == nil && slo.Limit >= requestTimeout {
		err = fmt.Errorf("%q: less than %v is expected, after which a request is given up and has failed", o.slo, requestTimeout)
	}
	if err != nil {
		return slo, fmt.Errorf("--slo: %w", err)
	}
	return slo, nil
}

// searches says whether a run of that profile searches capacities.
func (o compareOptions) searches(p profile) bool {
	return o.capacity.yes || !o.capacity.made && p.capacity.search
}

// checkCapacity says what no search can be asked for.
func (o compareOptions) checkCapacity() error {
	slo, err := o.objective()
	if err != nil || slo == capacity.Default || o.resume != "" {
		return err
	}
	p, err := profileNamed(o.profile)
	if err == nil && !o.searches(p) {
		err = fmt.Errorf("--slo %q: there is no search to use it: add --capacity (profile %s has none by itself)", o.slo, p.name)
		if o.capacity.made {
			err = fmt.Errorf("--slo %q: there is no search to use it, because of --capacity=false", o.slo)
		}
	}
	return err
}

// capacityWords are the flags that repeat a run's searches, whatever its profile will do then.
func (o compareOptions) capacityWords(p profile) []string {
	switch {
	case o.searches(p):
		return []string{"--capacity=true", "--slo", cmp.Or(o.slo, capacity.Default.String())}
	case o.capacity.made || p.capacity.search:
		return []string{"--capacity=false"}
	}
	return nil
}

// capacities are the settings of a comparison, whose objective was checked.
func (c *comparison) capacities() (capacitySettings, error) {
	slo, err := c.options.objective()
	return capacitySettings{on: c.options.searches(c.profile), slo: slo, times: c.profile.capacity}, err
}

// searchOf is one arm's search. All of it follows from the seed, the pilot, the generator's ceiling and what became of its
// trials.
type searchOf struct {
	todo   *schedule
	arm    contender.Arm
	number int // of the arm, for seeds
	need   uint64
	search *capacity.Search
	steps  []string
	// left is what remains of the time for this arm.
	left time.Duration
}

// searches begins the search of each mainstream arm; where there can be none, why says so. A run's ceiling is nil where it
// was not found.
func (todo *schedule) searches(ceiling *float64) (searches []*searchOf, why string, err error) {
	need, err := todo.search.slo.Requests()
	if err != nil {
		return nil, "", err
	}
	slo, floor := todo.search.slo, leastRate(need)
	switch {
	case ceiling == nil:
		return nil, "the load generator's ceiling is not known", nil
	case floor >= *ceiling:
		return nil, fmt.Sprintf("%s needs %.0f requests a second in trials of %v, and the load generator gives no more than %.0f", slo.Percentile, floor, longestStep, *ceiling), nil
	}
	for i, arm := range todo.searched {
		if arm.Tier != contender.TierMainstream {
			continue
		}
		search, err := capacity.New(capacity.Options{Start: max(floor, roundDown(capacityStart*todo.capacity[arm.Name])), Floor: floor, Ceiling: *ceiling})
		if err != nil {
			return nil, "", err
		}
		searches = append(searches, &searchOf{todo: todo, arm: arm, number: i, need: need, search: search})
	}
	if len(searches) == 0 {
		return nil, "none of the arms is of the tier mainstream", nil
	}
	for _, x := range searches {
		x.left = todo.search.times.budget / time.Duration(len(searches))
	}
	return searches, "", nil
}

// leastRate is the lowest rate at which the longest trial has as many requests as a percentile needs.
func leastRate(need uint64) float64 {
	return math.Ceil(surplus * float64(need) / longestStep.Seconds())
}

// beside is a trial at a rate on a process of its own, outside the blocks, long enough for the objective's percentile.
func (todo *schedule) beside(load record.Load, arm contender.Arm, rps float64, need uint64, number int, seed uint64) trial.Spec {
	c := todo.search
	d := max(c.times.step, time.Duration(surplus*float64(need)/rps*float64(time.Second)))
	atLimit := uint64(math.Ceil(inFlightSurplus * rps * c.slo.Limit.Seconds()))
	return trial.Spec{
		ID:       fmt.Sprintf("%s-%s-%s-n%03d-%s", todo.study.ID, todo.question.name, load, number, fileName(arm.Name)),
		Scenario: todo.study.ID, Operation: todo.question.name, Body: todo.question.body(arm.Tier, todo.seed), Expected: todo.question.expected,
		Load: load, Position: number, Seed: seed, Timeout: requestTimeout, RPS: rps, Duration: d.Round(time.Millisecond),
		MaxInFlight: max(rateMaxInFlight, min(mostInFlight, atLimit)), TooSlow: c.slo.TooSlow,
		Statements: allowed(arm, todo.question),
	}
}

// cost is what a trial beside the blocks takes of a budget.
func (todo *schedule) cost(spec trial.Spec) time.Duration {
	return todo.profile.warm.Most + spec.Duration
}

// next is the next trial of the search; false where it has ended, or its time has.
func (x *searchOf) next() (trial.Spec, bool) {
	rps, more := x.search.Next()
	if !more {
		return trial.Spec{}, false
	}
	number := len(x.steps) + 1
	spec := x.todo.beside(record.LoadCapacity, x.arm, rps, x.need, number, plan.Seeds(x.todo.seed, capacityBlock, x.number<<16|number))
	if x.todo.cost(spec) > x.left {
		p := x.todo.profile
		x.search.Stop(fmt.Sprintf("the %v that profile %s gives all searches were over", p.capacity.budget, p.name))
		return trial.Spec{}, false
	}
	return spec, true
}

// add tells the search what became of that trial.
func (x *searchOf) add(spec trial.Spec, t record.Trial) (outcome capacity.Outcome, why string) {
	outcome, why = x.todo.search.slo.Judge(t)
	x.left -= x.todo.cost(spec)
	x.steps = append(x.steps, t.ID)
	x.search.Add(spec.RPS, outcome)
	return outcome, why
}

func (x *searchOf) record() record.Capacity {
	r := x.search.Result()
	c := record.Capacity{
		Arm: x.arm.Name, SLO: x.todo.search.slo.String(), LowRPS: r.LowRPS, Confirmed: r.Confirmed, ContestedRPS: r.Contested, Steps: x.steps, Note: r.Note,
	}
	if c.Steps == nil {
		c.Steps = []string{}
	}
	if r.HighRPS > 0 {
		c.HighRPS = &r.HighRPS
	}
	return c
}

// searchCapacities searches each mainstream arm's capacity and then measures the curves. The arms take turns: in each
// round every arm whose search goes on has one trial, in an order drawn from the seed, so that what the machine does
// meanwhile meets all of them. Each trial has a fresh process, because one that was overrun may stay slow. What was found is
// in the record even where the search is cut short.
func (s *session) searchCapacities(ctx context.Context, todo *schedule) error {
	if !todo.search.on {
		return nil
	}
	searches, why, err := todo.searches(s.run.GeneratorCeilingRPS)
	if err != nil {
		return err
	}
	if why != "" {
		s.warn("No capacity was searched: %s.", why)
		return nil
	}
	s.progress.end()
	s.progress.say("capacity of %s: the highest rate with %s", summary.Plural(len(searches), "arm"), todo.search.slo.Words())
	err = s.searchInTurns(ctx, todo, searches)
	for _, x := range searches {
		if err != nil {
			x.search.Stop("the run was cut short")
		}
		s.run.Capacities = append(s.run.Capacities, x.record())
	}
	if err != nil {
		return err
	}
	for _, c := range s.run.Capacities {
		s.progress.say("capacity of %s: %s requests a second", c.Arm, summary.CapacityText(c))
	}
	return s.measureCurves(ctx, todo, searches)
}

func (s *session) searchInTurns(ctx context.Context, todo *schedule, searches []*searchOf) error {
	random := rand.New(rand.NewPCG(todo.seed, capacityBlock))
	for open := true; open; {
		open = false
		for _, i := range random.Perm(len(searches)) {
			x := searches[i]
			spec, more := x.next()
			if !more {
				continue
			}
			open = true
			new := !todo.measured[spec.ID]
			t, err := s.once(ctx, todo, x.arm, spec)
			if err != nil {
				return err
			}
			if outcome, why := x.add(spec, t); new {
				s.progress.say("capacity: %s at %s requests a second: %s, %s", x.arm.Name, summary.RateText(spec.RPS), outcome, why)
			}
		}
	}
	return nil
}

// once is a trial beside the blocks: the one on disk, or else it is measured.
func (s *session) once(ctx context.Context, todo *schedule, arm contender.Arm, spec trial.Spec) (record.Trial, error) {
	if !todo.measured[spec.ID] {
		if s.interrupts.wanted() {
			return record.Trial{}, errInterrupted
		}
		if err := s.process(ctx, todo, arm, []trial.Spec{spec}); err != nil {
			return record.Trial{}, err
		}
	}
	i := slices.IndexFunc(s.run.Trials, func(t record.Trial) bool { return t.ID == spec.ID })
	if i < 0 {
		return record.Trial{}, fmt.Errorf("trial %s was measured, but is not there", spec.ID)
	}
	return s.run.Trials[i], nil
}

// measureCurves measures each arm at shares of its own capacity and at rates that are common to all, arms and rates in an
// order drawn from the seed.
func (s *session) measureCurves(ctx context.Context, todo *schedule, searches []*searchOf) error {
	for _, x := range searches {
		if x.search.Result().LowRPS == 0 {
			s.warn("%s has no curve of latency against rate: it kept the objective at no rate.", x.arm.Name)
		}
	}
	points, all := todo.curves(searches)
	if len(points) < all {
		s.warn("The curves of latency against rate have %d of %d points: more would have taken longer than the %v that profile %s gives them.", len(points), all, todo.search.times.curves, todo.profile.name)
	}
	for i, at := range points {
		if !todo.measured[at.spec.ID] {
			s.progress.say("curve: %s at %s requests a second (%d of %d)", at.arm.Name, summary.RateText(at.spec.RPS), i+1, len(points))
		}
		if _, err := s.once(ctx, todo, at.arm, at.spec); err != nil {
			return err
		}
	}
	return nil
}

// point is one trial of a curve.
type point struct {
	arm  contender.Arm
	spec trial.Spec
}

// curves are the points of all curves in their order, as many as the time is for, and how many there would be.
func (todo *schedule) curves(searches []*searchOf) (points []point, all int) {
	var arms []contender.Arm
	var need uint64
	lows := map[string]float64{}
	for _, x := range searches {
		need = x.need
		if low := x.search.Result().LowRPS; low > 0 {
			arms, lows[x.arm.Name] = append(arms, x.arm), low
		}
	}
	rates := curveRates(arms, lows, leastRate(need))
	random := rand.New(rand.NewPCG(todo.seed, curveBlock))
	random.Shuffle(len(rates), func(i, j int) { rates[i], rates[j] = rates[j], rates[i] })
	left := todo.search.times.curves
	for i, at := range rates {
		spec := todo.beside(record.LoadCurve, at.arm, at.rps, need, i+1, plan.Seeds(todo.seed, curveBlock, i+1))
		if left -= todo.cost(spec); left < 0 {
			break
		}
		points = append(points, point{at.arm, spec})
	}
	return points, len(rates)
}

type curveRate struct {
	arm contender.Arm
	rps float64
}

// curveRates are the rates of each arm, none twice and none below the least that a trial's requests carry.
func curveRates(arms []contender.Arm, lows map[string]float64, least float64) []curveRate {
	weakest := math.Inf(1)
	for _, low := range lows {
		weakest = min(weakest, low)
	}
	var out []curveRate
	for _, arm := range arms {
		var rates []float64
		for _, share := range ownShares {
			rates = append(rates, share*lows[arm.Name])
		}
		for _, share := range commonShares {
			rates = append(rates, share*weakest)
		}
		slices.Sort(rates)
		var kept []float64
		for _, rps := range rates {
			rps = roundDown(rps)
			if rps >= least && !slices.Contains(kept, rps) {
				kept = append(kept, rps)
				out = append(out, curveRate{arm, rps})
			}
		}
	}
	return out
}

// strangers are trials that are none of a run's, and why.
type strangers struct {
	trials []record.Trial
	why    []string
}

// follow goes through the searches of an earlier part of a run, and says which of its trials beside the blocks are theirs.
// What a search tries follows from the trials before, so behind one that is damaged or missing there is none that is whole;
// and a curve follows from all searches.
func (todo *schedule) follow(r record.Run, trials []record.Trial) (whole []record.Trial, rest strangers, err error) {
	byID := map[string]record.Trial{}
	for _, t := range trials {
		byID[t.ID] = t
	}
	why, kept := map[string]string{}, map[string]bool{}
	is := func(spec trial.Spec, arm contender.Arm) (record.Trial, bool) {
		t, ok := byID[spec.ID]
		if !ok {
			return t, false
		}
		if words := unlike(t, spec, arm); words != "" {
			why[t.ID] = "not of this run's plan: " + words
			return t, false
		}
		kept[t.ID] = true
		return t, true
	}
	var searches []*searchOf
	if todo.search.on && len(trials) > 0 {
		if searches, _, err = todo.searches(r.GeneratorCeilingRPS); err != nil {
			return nil, rest, err
		}
	}
	ended := len(searches) > 0
	for _, x := range searches {
		for {
			spec, more := x.next()
			if !more {
				break
			}
			t, ok := is(spec, x.arm)
			if !ok {
				ended = false
				break
			}
			x.add(spec, t)
		}
	}
	if ended {
		points, _ := todo.curves(searches)
		for _, at := range points {
			is(at.spec, at.arm)
		}
	}
	for _, t := range trials {
		if kept[t.ID] {
			whole = append(whole, t)
			continue
		}
		rest.trials = append(rest.trials, t)
		rest.why = append(rest.why, cmp.Or(why[t.ID], "it follows from a trial that is damaged or missing, or is of no search of this run"))
	}
	return whole, rest, nil
}
