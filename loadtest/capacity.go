package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trial"
)

// capacityTimes say how long a profile's searches take.
type capacityTimes struct {
	search  bool          // without being asked
	ceiling time.Duration // of one step against the null server
	step    time.Duration // of one trial at least; slow rates take longer, so that the requests carry the percentile
	budget  time.Duration // of all searches together
	curve   time.Duration // of all curves together
}

var capacityTimesOf = map[string]capacityTimes{
	"smoke":    {false, 200 * time.Millisecond, time.Second, time.Minute, 30 * time.Second},
	"quick":    {false, 500 * time.Millisecond, 3 * time.Second, 12 * time.Minute, 5 * time.Minute},
	"standard": {true, time.Second, 6 * time.Second, 40 * time.Minute, 15 * time.Minute},
	"nightly":  {true, time.Second, 10 * time.Second, 80 * time.Minute, 30 * time.Minute},
}

const (
	// longestStep bounds a trial at a slow rate, and so how low a search goes.
	longestStep = 30 * time.Second
	// surplus is how many more requests are intended than the percentile needs, because Poisson arrivals scatter.
	surplus = 1.2
	// capacityStart is the share of the pilot's rate that is tried first: it most likely holds.
	capacityStart = 0.5
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

// capacitySettings are what the flags of compare say of the search.
type capacitySettings struct {
	on    bool
	slo   capacity.SLO
	times capacityTimes
}

// capacityFlags adds the flags; what it returns reads them after they were parsed.
func capacityFlags(f *flag.FlagSet) func(profile string) (capacitySettings, []string, error) {
	on := f.Bool("capacity", false, "after the blocks, search the highest rate at which each mainstream arm keeps the objective, and measure latency against rate (standard and nightly do; --capacity=false: not)")
	slo := f.String("slo", capacity.Default.String(), "`PERCENTILE=DURATION`: the objective, beside that no request fails; p50, p90, p99 or p99.9")
	return func(profile string) (capacitySettings, []string, error) {
		c := capacitySettings{times: capacityTimesOf[profile]}
		c.on = c.times.search
		var said []string
		f.Visit(func(x *flag.Flag) {
			switch x.Name {
			case "capacity":
				c.on = *on
				said = append(said, fmt.Sprintf("--capacity=%v", *on))
			case "slo":
				said = append(said, "--slo", *slo)
			}
		})
		var err error
		if c.slo, err = capacity.ParseSLO(*slo); err != nil {
			return c, nil, fmt.Errorf("--slo: %w", err)
		}
		if !c.on && slices.Contains(said, "--slo") {
			return c, nil, fmt.Errorf("--slo %q: there is no search to use it: add --capacity (profile %s has none by itself)", *slo, profile)
		}
		return c, said, nil
	}
}

// searchOf is one arm's search and its trials.
type searchOf struct {
	arm    contender.Arm
	search *capacity.Search
	steps  []string
}

// searchCapacities searches each mainstream arm's capacity and then measures the curves. The arms take turns: in each
// round every arm whose search goes on has one trial, in an order drawn from the seed, so that what the machine does
// meanwhile meets all of them. Each trial has a fresh process, because one that was overrun may stay slow. What was found is
// in the record even where the search is cut short.
func (s *session) searchCapacities(ctx context.Context, p profile, arms []contender.Arm, q question, pilot map[string]float64) error {
	c := s.capacity
	if !c.on {
		return nil
	}
	mainstream := slices.DeleteFunc(slices.Clone(arms), func(a contender.Arm) bool { return a.Tier != contender.TierMainstream })
	if len(mainstream) == 0 {
		s.warn("No capacity was searched: none of the arms is of the tier mainstream.")
		return nil
	}
	if s.run.GeneratorCeilingRPS == nil {
		s.warn("No capacity was searched: the load generator's ceiling is not known.")
		return nil
	}
	need, err := c.slo.Requests()
	if err != nil {
		return err
	}
	floor, ceiling := leastRate(need), *s.run.GeneratorCeilingRPS
	if floor >= ceiling {
		s.warn("No capacity was searched: %s needs %.0f requests a second in trials of %v, and the load generator gives no more than %.0f.", c.slo.Percentile, floor, longestStep, ceiling)
		return nil
	}
	var searches []*searchOf
	for _, arm := range mainstream {
		search, err := capacity.New(capacity.Options{Start: max(floor, roundDown(capacityStart*pilot[arm.Name])), Floor: floor, Ceiling: ceiling})
		if err != nil {
			return err
		}
		searches = append(searches, &searchOf{arm: arm, search: search})
	}
	s.progress.end()
	s.progress.say("capacity of %d arms: the highest rate with %s", len(searches), c.slo.Words())
	err = s.searchInTurns(ctx, p, searches, q, need)
	for _, x := range searches {
		s.run.Capacities = append(s.run.Capacities, x.record(c.slo))
	}
	if err != nil {
		return err
	}
	return s.measureCurves(ctx, p, searches, q, need)
}

// leastRate is the lowest rate at which the longest trial has as many requests as a percentile needs.
func leastRate(need uint64) float64 {
	return math.Ceil(surplus * float64(need) / longestStep.Seconds())
}

func (s *session) searchInTurns(ctx context.Context, p profile, searches []*searchOf, q question, need uint64) error {
	began, trials := time.Now(), 0
	random := rand.New(rand.NewPCG(s.run.Seed, capacityBlock))
	for open := true; open; {
		open = false
		for _, i := range random.Perm(len(searches)) {
			x := searches[i]
			rps, more := x.search.Next()
			if !more {
				continue
			}
			if time.Since(began) > s.capacity.times.budget {
				x.search.Stop(fmt.Sprintf("the %v that profile %s gives the searches were over", s.capacity.times.budget, p.name))
				continue
			}
			open = true
			trials++
			s.progress.say("capacity: %s at %.0f requests a second", x.arm.Name, rps)
			t, err := s.measureAt(ctx, p, x.arm, q, record.LoadCapacity, rps, need, trials, capacityBlock)
			if t.ID != "" && err == nil {
				x.steps = append(x.steps, t.ID)
				outcome, why := s.capacity.slo.Judge(t)
				s.progress.say("capacity: %s at %.0f requests a second: %s, %s", x.arm.Name, rps, outcome, why)
				x.search.Add(rps, outcome)
			}
			if err != nil {
				for _, other := range searches {
					other.search.Stop("the run was cut short")
				}
				return err
			}
		}
	}
	return nil
}

// measureAt measures one trial at a rate on a fresh process, long enough for the objective's percentile.
func (s *session) measureAt(ctx context.Context, p profile, arm contender.Arm, q question, load record.Load, rps float64, need uint64, number, block int) (record.Trial, error) {
	var t record.Trial
	d := max(s.capacity.times.step, time.Duration(surplus*float64(need)/rps*float64(time.Second)))
	err := s.with(ctx, arm, q, func(subject trial.Subject) error {
		spec := trial.Spec{
			Scenario: libraryScenario, Operation: q.name, Body: q.body(arm.Tier, s.run.Seed), Expected: q.expected,
			Position: number, Seed: s.seedOf(block, number), Timeout: requestTimeout, MaxInFlight: pilotConnections,
		}
		if _, err := trial.WarmUp(ctx, subject, spec, p.warm); err != nil {
			return err
		}
		spec.ID = fmt.Sprintf("%s-%s-%s-n%03d-%s", libraryScenario, q.name, load, number, fileName(arm.Name))
		spec.Load, spec.RPS, spec.Duration, spec.MaxInFlight = load, rps, d.Round(time.Millisecond), rateMaxInFlight
		spec.TooSlow = s.capacity.slo.TooSlow
		var err error
		t, err = s.measure(ctx, subject, spec)
		return err
	})
	return t, err
}

func (x *searchOf) record(slo capacity.SLO) record.Capacity {
	r := x.search.Result()
	c := record.Capacity{
		Arm: x.arm.Name, SLO: slo.String(), LowRPS: r.LowRPS, Confirmed: r.Confirmed, ContestedRPS: r.Contested, Steps: x.steps, Note: r.Note,
	}
	if c.Steps == nil {
		c.Steps = []string{}
	}
	if r.HighRPS > 0 {
		c.HighRPS = &r.HighRPS
	}
	return c
}

// point is one trial of a curve.
type point struct {
	arm contender.Arm
	rps float64
}

// measureCurves measures each arm at shares of its own capacity and at rates that are common to all, arms and rates in an
// order drawn from the seed.
func (s *session) measureCurves(ctx context.Context, p profile, searches []*searchOf, q question, need uint64) error {
	var arms []contender.Arm
	lows := map[string]float64{}
	for _, x := range searches {
		if low := x.search.Result().LowRPS; low > 0 {
			arms, lows[x.arm.Name] = append(arms, x.arm), low
		} else {
			s.warn("%s has no curve of latency against rate: it kept the objective at no rate.", x.arm.Name)
		}
	}
	points := curvePoints(arms, lows, leastRate(need))
	random := rand.New(rand.NewPCG(s.run.Seed, curveBlock))
	random.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	began := time.Now()
	for i, at := range points {
		if time.Since(began) > s.capacity.times.curve {
			s.warn("The curves of latency against rate have %d of %d points: the %v that profile %s gives them were over.", i, len(points), s.capacity.times.curve, p.name)
			return nil
		}
		s.progress.say("curve: %s at %.0f requests a second (%d of %d)", at.arm.Name, at.rps, i+1, len(points))
		if _, err := s.measureAt(ctx, p, at.arm, q, record.LoadCurve, at.rps, need, i+1, curveBlock); err != nil {
			return err
		}
	}
	return nil
}

// curvePoints are the rates of each arm, none twice and none below the least that a trial's requests carry.
func curvePoints(arms []contender.Arm, lows map[string]float64, least float64) []point {
	weakest := math.Inf(1)
	for _, low := range lows {
		weakest = min(weakest, low)
	}
	var out []point
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
				out = append(out, point{arm, rps})
			}
		}
	}
	return out
}
