package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"math"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/trial"
)

// What a scenario's file says is what is done.
func TestTheScenarioFileIsWhatIsMeasured(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	for _, s := range l.scenarios {
		t.Run(s.ID, func(t *testing.T) {
			assert.InDelta(t, claims.Alpha, s.Alpha, 0, "the rules have no other")
			for _, name := range s.Arms {
				_, err := contender.Resolve(l.contenders, name)
				assert.NoError(t, err)
			}
			c, err := newComparison(l, compareOptions{profile: "quick", scenario: s.ID})
			require.NoError(t, err)
			require.NoError(t, c.choose())
			require.Len(t, c.studies, 1)
			st := c.studies[0]
			assert.LessOrEqual(t, 1, st.design(st.profile.blocks).Family)
			if st.headline() {
				rule := claims.LibraryRule(nil)
				assert.Equal(t, rule.Metric, s.Metric)
				assert.InDelta(t, rule.Margin, s.Margin, 0)
				assert.Equal(t, contract.RuleDiffer, s.Rule)
				assert.Empty(t, s.Pairs, "all pairs of the mainstream arms")
				return
			}
			var r record.Run
			st.enter(&r, nil)
			require.Len(t, r.Scenarios, 1)
			is := r.Scenarios[0]
			assert.Equal(t, s.Arms, is.Arms)
			assert.Equal(t, s.Operation, is.Operation)
			assert.Equal(t, s.Compared(), is.Pairs)
			assert.Equal(t, s.Rule, is.Rule)
			assert.Len(t, is.DelaysNS, len(s.Delays))
			require.Len(t, is.Faults, len(s.Faults))
			for i, f := range s.Faults {
				assert.Equal(t, record.PlannedFault{Kind: string(f.Kind), AtNS: int64(f.At), LastsNS: int64(f.Lasts), DelayNS: int64(f.Delay)}, is.Faults[i])
			}
			assert.Equal(t, int64(s.Bound), is.BoundNS)
			if len(s.Faults) > 0 {
				assert.GreaterOrEqual(t, st.profile.rate, time.Duration(s.Duration))
			}
			if assert.Equal(t, s.Bench == nil, is.Bench == nil) && s.Bench != nil {
				assert.Equal(t, s.Bench.Command, is.Bench.Command)
				assert.Equal(t, s.Bench.Sizes, is.Bench.Sizes)
			}
			rule := claims.RuleOf(is)
			assert.Equal(t, s.Metric, rule.Metric)
			assert.InDelta(t, s.Margin, rule.Margin, 0)
			st.leave(&r)
			assert.Empty(t, r.Scenarios)
		})
	}
}

// A scenario's time fixes the number of its blocks, which stays one that can decide.
func TestBlocksFitIntoTheScenariosTime(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	for budget, want := range map[time.Duration]int{0: 16, time.Hour: 16, time.Second: 7, 8 * time.Minute: 10} {
		c, err := newComparison(l, compareOptions{profile: "nightly", scenario: "io-bound"})
		require.NoError(t, err)
		require.NoError(t, c.choose())
		st := c.studies[0]
		st.profile.blocks, st.profile.rate, st.profile.warm = 16, 8*time.Second, trial.Warmth{Window: time.Second / 2, Most: 2 * time.Second}
		st.budget = budget
		st.fit(0, 2*time.Second)
		assert.Equal(t, want, st.profile.blocks, "%v", budget)
	}
}

// All scenarios, each with the fewest blocks that can decide its family, go into the 90 minutes of a night, where a process
// takes as long around its trials as it was seen to.
func TestANightHasRoomForEveryScenario(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	studies := studiesOf(t, compareOptions{profile: "nightly"})
	require.Len(t, studies, len(l.scenarios))
	total := time.Duration(0)
	for _, st := range studies {
		total += st.takes
		t.Logf("%-20s %d blocks, %v", st.ID, st.profile.blocks, st.takes.Round(time.Second))
	}
	assert.LessOrEqual(t, total, nightMost)
}

// A plan whose trials were made shorter, since the scenario's time was short, is gone on with; longer or shorter ones than it
// can have are refused.
func TestAPlanOfShorterTrialsIsGoneOnWith(t *testing.T) {
	short := studiesOf(t, compareOptions{profile: "quick", scenario: "memory-or-redis"})[0]
	usual := studiesOf(t, compareOptions{profile: "quick", scenario: "io-bound"})[0].profile
	p := short.profile
	require.Less(t, p.rate, usual.rate, "there are so many arms")
	require.Less(t, p.throughput, usual.throughput)
	planned := record.Plan{Blocks: p.blocks, FloorBlocks: p.floorBlocks, WarmMostNS: int64(p.warm.Most), RateDurationNS: int64(p.rate), ThroughputDurationNS: int64(p.throughput)}
	for _, arm := range short.arms {
		planned.Pilot = append(planned.Pilot, record.PilotOutcome{Arm: arm.Name})
	}
	again := func(rate time.Duration) (*study, error) {
		st := *short.study
		st.profile.rate, st.profile.throughput = usual.rate, usual.throughput
		planned.RateDurationNS = int64(rate)
		return &st, st.recall(planned)
	}
	st, err := again(p.rate)
	require.NoError(t, err)
	assert.Equal(t, p.rate, st.profile.rate)
	assert.Equal(t, p.throughput, st.profile.throughput)
	for _, rate := range []time.Duration{usual.rate + 1, shortestRate - 1} {
		_, err := again(rate)
		require.ErrorContains(t, err, "a trial at the common rate took")
	}
}

// Where the pilot shows that a trial's requests would not carry the percentile that decides, trials are made longer, within
// bounds; else as long as the file says.
func TestTrialsAreLongEnoughForWhatDecides(t *testing.T) {
	for rps, want := range map[float64]time.Duration{2000: 7 * time.Second, 600: 9300 * time.Millisecond, 100: 7 * time.Second} {
		st := studiesOf(t, compareOptions{profile: "nightly", scenario: "gc-tail"})[0].study
		st.Metric = "latency_p999_ns"
		st.lengthen(rps)
		st.fit(0, time.Second)
		assert.Equal(t, want, st.profile.rate, "%v", rps)
		if planned := plannedPercentiles(rps, st.profile.rate); rps == 100 {
			require.ErrorContains(t, st.refuse(planned), "it is decided by p99.9", "no trial is that long")
		} else {
			require.NoError(t, st.refuse(planned), "%v", rps)
		}
	}
}

// Where each second has to carry its own percentile, longer trials are no help, and are not made.
func TestSecondsCarryWhatDecides(t *testing.T) {
	for rps, refused := range map[float64]bool{551: false, 550: true} {
		st := studiesOf(t, compareOptions{profile: "nightly", scenario: "gc-tail"})[0].study
		st.lengthen(rps)
		st.fit(0, time.Second)
		assert.Equal(t, 7*time.Second, st.profile.rate)
		err := st.refuse(plannedPercentiles(rps, st.profile.rate))
		if !refused {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, errRefused)
		require.ErrorContains(t, err, "it is decided by p99 of each second, for which 551 requests of Q1 have to be planned in a second, and 550 are")
	}
}

// Where a claim's time is short, what decides it is asked in all blocks, and what stands beside it in as many as stand beside
// what is judged: never of the second of an A/A pair. Elsewhere all is asked of all.
func TestWhatDecidesNothingIsAskedInFewerBlocks(t *testing.T) {
	for _, c := range []struct {
		profile, scenario, arm string
		block                  int
		duplicate              bool
		want                   int
	}{
		{"nightly", "n-plus-one", "go", 2, false, 2},
		{"nightly", "n-plus-one", "go", 3, false, 1},
		{"nightly", "n-plus-one", "go", 2, true, 1},
		{"nightly", "memory-or-redis", "go+MASTER=none", 7, false, 2}, // in no pair, so in few of the blocks only
		{"nightly", "connections", "node+CPUS=2", 2, false, 5},
		{"nightly", "connections", "node+CPUS=2", 3, false, 2},
		{"nightly", "library", "go", 7, true, 2},
		{"quick", "n-plus-one", "go", 4, false, 1},
		{"standard", "n-plus-one", "go", 13, true, 2},
		{"smoke", "n-plus-one", "go", 0, true, 2},
	} {
		st := studiesOf(t, compareOptions{profile: c.profile, scenario: c.scenario})[0].study
		asks := st.asksOf(c.block, plan.Slot{Arm: c.arm, Duplicate: c.duplicate})
		assert.Len(t, asks, c.want, "%+v", c)
		assert.True(t, st.decides(asks[0]), "%+v: what decides comes first", c)
		if c.scenario == "connections" && c.want == 2 {
			assert.Equal(t, []ask{{record.LoadClosed, 1}, {record.LoadClosed, 1024}}, asks)
		}
	}
}

// What grows is of one process: where one of its trials was spoilt, all that decide are asked again; elsewhere only what was.
func TestWhatGrowsIsAskedAgainTogether(t *testing.T) {
	most, fewest, between, rate := ask{record.LoadClosed, 1024}, ask{record.LoadClosed, 1}, ask{record.LoadClosed, 16}, ask{load: record.LoadRate}
	all := []ask{fewest, most, rate, between}
	for _, c := range []struct {
		metric        string
		spoilt, again []ask
	}{
		{contract.MetricGrowth, []ask{most}, []ask{fewest, most}},
		{contract.MetricGrowth, []ask{fewest, between}, []ask{fewest, most, between}},
		{contract.MetricGrowth, []ask{rate}, []ask{rate}},
		{contract.MetricGrowth, nil, nil},
		{"achieved_rps", []ask{most}, []ask{most}},
	} {
		st := &study{Scenario: contract.Scenario{Metric: c.metric, Connections: []int{1, 16, 1024}}}
		assert.Equal(t, c.again, st.together(c.spoilt, all), "%+v", c)
	}
}

// Each scenario alone takes at most ten minutes, once its arms are built and proven.
func TestEachScenarioAloneHasRoom(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	for _, s := range l.scenarios {
		if s.ID == libraryScenario {
			continue // whose time is that of its capacities, which end when it is over
		}
		st := studiesOf(t, compareOptions{profile: "quick", scenario: s.ID})[0]
		t.Logf("%-20s %d blocks of %v, %v", st.ID, st.profile.blocks, st.profile.rate, st.takes.Round(time.Second))
		assert.LessOrEqual(t, st.takes, 10*time.Minute, s.ID)
		assert.GreaterOrEqual(t, st.profile.rate, time.Duration(st.Duration), "as long as its percentile needs")
		// Where arms bear so little that trials are as long as any may be.
		q, byPercentile := st.decidingPercentile()
		if !byPercentile {
			continue
		}
		slow := float64(requestsToPlan(stats.RequestsToCarry(q.Quantile))) / (st.share() * (longestRate.Seconds() - 0.05))
		st = studiesOf(t, compareOptions{profile: "quick", scenario: s.ID}, slow)[0]
		t.Logf("%-20s %d blocks of %v, %v at %.0f requests a second", st.ID, st.profile.blocks, st.profile.rate, st.takes.Round(time.Second), slow)
		assert.Equal(t, longestRate, st.profile.rate, s.ID)
		assert.LessOrEqual(t, st.takes, 10*time.Minute, s.ID)
	}
}

// fitted is a study as a run would plan it, and how long it would take from its pilots on.
type fitted struct {
	*study
	takes time.Duration
}

// studiesOf plans the studies of a run without running it; at a rate, where one is given.
func studiesOf(t *testing.T, o compareOptions, rps ...float64) []fitted {
	t.Helper()
	const (
		// Of a process, beside the shortest warm-up and the load, as the scenarios of a night in containers took on two CPUs: 1.7 s
		// (allocator), 1.9 (head-of-line), 2.3 (cluster-memory), 2.6 (io-bound, which starts with delays).
		around  = 2200 * time.Millisecond
		ceiling = 9 * time.Second
		cpus    = 2
	)
	l, err := openLab()
	require.NoError(t, err)
	c, err := newComparison(l, o)
	require.NoError(t, err)
	require.NoError(t, c.choose())
	known := map[string]bool{}
	once := func(key string, takes time.Duration) time.Duration {
		if known[key] {
			return 0
		}
		known[key] = true
		return takes
	}
	var out []fitted
	for _, st := range c.studies {
		absent := map[string]string{}
		for _, arm := range st.arms {
			if arm.CPUCount() > cpus {
				absent[arm.Name] = "too few CPUs"
			}
		}
		st.leaveOut(absent)
		// The ceiling is of the largest answer: as good as of each mix its own.
		spent := once(fmt.Sprint(st.Operation, st.Mix), ceiling)
		for _, arm := range st.arms {
			spent += once(st.pilotKey(arm), around+st.profile.pilotWarm+st.profile.pilot)
		}
		for _, rate := range rps {
			st.lengthen(rate)
		}
		st.fit(spent, around)
		out = append(out, fitted{st, laid(st) + spent + st.takes(around)})
	}
	return out
}

// laid is how long it takes to measure the delays of a scenario's ways before its pilot, once each.
func laid(st *study) (takes time.Duration) {
	for _, way := range st.proxied() {
		takes += time.Duration(len(trial.LinksOf[way])*overheadRoundTrips) * time.Duration(st.Delays[way])
	}
	return takes + overheadRoundTrips*st.clientDelay()
}

// A fault that would hit nobody is refused before anything starts.
func TestAFaultThatHitsNobodyIsRefused(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	for kind, says := range map[contract.FaultKind]string{
		contract.FaultRedisSlow:    "scenario s: fault redis_slow: go has nothing in Redis (MASTER=redis)",
		contract.FaultRedisGone:    "scenario s: fault redis_gone: go has nothing in Redis (MASTER=redis)",
		contract.FaultWorkerKilled: "scenario s: fault worker_killed: go has one process",
		contract.FaultReplicaLost:  "scenario s: fault replica_lost: go+REPLICA=off reads no replica",
	} {
		name := "go"
		if kind == contract.FaultReplicaLost {
			name = "go+REPLICA=off"
		}
		arms, err := l.arms("", []string{name})
		require.NoError(t, err)
		st := &study{Scenario: contract.Scenario{ID: "s", Faults: []contract.Fault{{Kind: kind}}}, arms: arms}
		require.EqualError(t, st.hits(l.contract), says)
	}
	arms, err := l.arms("", []string{"node-cluster+MASTER=redis"})
	require.NoError(t, err)
	st := &study{Scenario: contract.Scenario{ID: "s", Operation: "q2", Faults: []contract.Fault{{Kind: contract.FaultUpstreamSlow}}}, arms: arms}
	require.EqualError(t, st.hits(l.contract), "scenario s: fault upstream_slow: none of its operations asks for a quote")
	st.Faults, st.Mix = nil, map[string]float64{"q2": 1, "item_and_quote": 1}
	for _, kind := range contract.FaultKinds() {
		st.Faults = append(st.Faults, contract.Fault{Kind: kind})
	}
	st.Delays = map[string]contract.Delay{contract.WayRedis: 1}
	require.NoError(t, st.hits(l.contract))
	st.Faults, st.arms = nil, arms[:0]
	require.ErrorContains(t, st.hits(l.contract), "delay on redis: no arm has anything there")
}

// severalScenarios are the library and two claims, one of them through the fault proxy.
const severalScenarios = "n-plus-one,library,io-bound"

func newScenarioStage(t *testing.T, o compareOptions) *stage {
	t.Helper()
	o.contenders = "go,go+LOADER=off,node"
	return newStage(t, o)
}

// A database without its delay is no database with one: the scenario is not measured, and says what was measured on which way.
// The other scenarios of the run are.
func TestAWayWithoutItsDelayIsRefused(t *testing.T) {
	inNoTime(t)
	s := newScenarioStage(t, compareOptions{seed: 7, scenario: "io-bound,n-plus-one"})
	s.engine.Undelayed = "database_primary"
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	require.Len(t, r.Scenarios, 1)
	assert.Equal(t, "n-plus-one", r.Scenarios[0].ID)
	assert.Contains(t, strings.Join(r.Warnings, "\n"), "Scenario io-bound was not measured: a round trip on the way database_primary was to take 20ms longer, and takes 0s longer (median of 50)")
	assert.Zero(t, s.engine.Proxies(), "the proxy has ended")
	for added, refused := range map[time.Duration]bool{18 * time.Millisecond: true, 19 * time.Millisecond: false, 32 * time.Millisecond: false, 33 * time.Millisecond: true} {
		err := (&study{}).delayed(record.FaultOverhead{Link: "client", DelayNS: 20e6, AddedP50NS: int64(added)})
		assert.Equal(t, refused, errors.Is(err, errRefused), added)
	}
}

// A way that is slow for a moment, as on a machine that was busy, is measured a second time before its scenario is refused.
func TestAWayIsLookedAtTwice(t *testing.T) {
	inNoTime(t)
	s := newScenarioStage(t, compareOptions{seed: 7, scenario: "io-bound"})
	s.engine.SlowAtFirst = "database_primary"
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	overheads := whole(t, dir).Scenarios[0].FaultOverhead
	require.NotEmpty(t, overheads)
	for _, o := range overheads {
		assert.Equal(t, o.DelayNS, o.AddedP50NS, o.Link)
	}
}

// One run measures several scenarios, each by its own plan, and only what asks for delays has the proxy in its way.
func TestSeveralScenariosInOneRun(t *testing.T) {
	inNoTime(t)
	s := newScenarioStage(t, compareOptions{seed: 7, scenario: severalScenarios})
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	require.Len(t, r.Scenarios, 2)
	assert.Equal(t, []string{"io-bound", "n-plus-one"}, []string{r.Scenarios[0].ID, r.Scenarios[1].ID})
	assert.Len(t, r.Plan.Order, 2, "the library's")
	bound, plus := r.Scenarios[0], r.Scenarios[1]
	assert.InDelta(t, 70, bound.Plan.RateRPS, 0, "as its file says")
	assert.Equal(t, []record.Load{record.LoadRate}, bound.Loads)
	assert.Equal(t, map[string]int64{"database": 20e6}, bound.DelaysNS)
	assert.Equal(t, [][2]string{{"go", "node"}}, bound.Pairs, "of the arms that are there")
	assert.Equal(t, [][2]string{{"go", "go+LOADER=off"}}, plus.Pairs)
	assert.NotEqual(t, r.Plan.Order, plus.Plan.Order, "an order of its own")
	for _, x := range r.Trials {
		assert.True(t, strings.HasPrefix(x.ID, x.Scenario+"-"), x.ID)
		if x.Scenario == bound.ID {
			assert.Equal(t, record.LoadRate, x.Load)
			assert.InDelta(t, 70, x.RateRPS, 0)
		}
	}
	require.Len(t, bound.FaultOverhead, 2)
	assert.Equal(t, []string{"database_primary", "database_replica"}, []string{bound.FaultOverhead[0].Link, bound.FaultOverhead[1].Link})
	assert.Empty(t, plus.FaultOverhead)
	assert.Zero(t, s.engine.Proxies(), "the proxy has ended")
	through := 0
	for _, c := range s.engine.Started() {
		delayed := strings.HasSuffix(c.ReplicaURL, "#database_replica")
		assert.Equal(t, delayed, strings.HasSuffix(c.PrimaryURL, "#database_primary"))
		assert.NotContains(t, c.UpstreamURL, "#")
		if delayed {
			through++
		}
	}
	capacityOf := func(p record.Plan, arm string) float64 {
		i := slices.IndexFunc(p.Pilot, func(x record.PilotOutcome) bool { return x.Arm == arm })
		require.GreaterOrEqual(t, i, 0)
		return p.Pilot[i].CapacityRPS
	}
	assert.InDelta(t, capacityOf(r.Plan, "go"), capacityOf(plus.Plan, "go"), 0, "who is asked the same has one pilot")
	assert.NotEqual(t, capacityOf(r.Plan, "go"), capacityOf(bound.Plan, "go"), "in another way is another one")
	require.NotNil(t, r.GeneratorCeilingRPS)
	assert.Equal(t, r.GeneratorCeilingRPS, plus.GeneratorCeilingRPS, "of the same answer there is one")
	blocks := 0
	for _, block := range bound.Plan.Order {
		blocks += len(block)
	}
	assert.Equal(t, 3+blocks, through, "three pilots and the processes of its blocks")
	verdicts := map[string]int{}
	for _, v := range r.Verdicts {
		verdicts[v.Scenario]++
		assert.Equal(t, claims.Untested, v.Verdict, "two blocks decide nothing")
	}
	assert.Equal(t, map[string]int{"library": 3, "io-bound": 1, "n-plus-one": 1}, verdicts)
	said := s.out.String()
	for _, words := range []string{
		"Scenario io-bound: Q2, open loop with Poisson arrivals at 70 requests a second, 20ms added to each round trip to the database",
		"io-bound: “where waiting for I/O dominates, the language makes almost no difference”: cannot be tested here. Decided by median response time: equal within 5 %.",
		"n-plus-one: “DataLoader turns 20 statements into one”: cannot be tested here.",
	} {
		assert.Contains(t, said, words)
	}
}

// A run of several scenarios that was killed ends with the same plans, no trial twice.
func TestSeveralScenariosGoOn(t *testing.T) {
	inNoTime(t)
	kills := []int{1, 15, 20, 26}
	at := map[int]map[string]string{}
	s := newScenarioStage(t, compareOptions{seed: 7, scenario: severalScenarios})
	dir := filepath.Join(t.TempDir(), "run")
	n := 0
	s.engine.BeforeAttack = beforeTrials(func() {
		if slices.Contains(kills, n) {
			at[n] = snapshot(t, dir)
		}
		n++
	})
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	first := whole(t, dir)
	require.Len(t, at, len(kills))
	plans := map[int]int{}
	for n, files := range at {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := laidOut(t, files)
			left, err := record.ReadRun(dir)
			require.NoError(t, err)
			plans[len(left.Scenarios)]++
			s := newScenarioStage(t, compareOptions{})
			attacked := 0
			s.engine.BeforeAttack = beforeTrials(func() { attacked++ })
			code, err := s.resume(t.Context(), t, dir)
			require.NoError(t, err)
			require.Equal(t, exitOK, code, s.errs)
			r := whole(t, dir)
			assert.Equal(t, len(r.Trials)-n, attacked, "no trial twice")
			assert.Equal(t, first.Plan.Order[:2], r.Plan.Order[:2])
			require.Len(t, r.Scenarios, 2)
			for i := range r.Scenarios {
				assert.Equal(t, first.Scenarios[i].Plan.Order[:2], r.Scenarios[i].Plan.Order[:2], "the same plan")
			}
			assert.NoDirExists(t, filepath.Join(dir, "damaged"))
		})
	}
	assert.Len(t, plans, 3, "kills within each of the three")
}

// A mix is sent as its file says, by its weights, and what decides is one operation's.
func TestAMixIsSentToAll(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "head-of-line", contenders: "go+CPUS=2,node+CPUS=2,node-cluster+CPUS=2,rust+CPUS=2"})
	jobs, mixed := 0, 0
	s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
		jobs++
		if len(job.Operations) == 2 && job.Body == "" && job.Operations[0].Name == "q1" && job.Operations[0].Weight == 9 && job.Operations[1].Name == "q3" && job.Operations[1].Weight == 1 {
			mixed++
		}
		return nil
	}
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	assert.Equal(t, jobs, mixed, "pilots, warm-ups and trials")
	r := whole(t, dir)
	require.Len(t, r.Scenarios, 1)
	assert.Equal(t, map[string]float64{"q1": 9, "q3": 1}, r.Scenarios[0].Mix)
	for _, x := range r.Trials {
		require.Len(t, x.Operations, 2)
		assert.Equal(t, "q1", x.Operation)
		assert.Equal(t, x.Sent, x.Operations[0].Sent+x.Operations[1].Sent)
	}
	assert.Contains(t, s.out.String(), "Scenario head-of-line: Q1 (90 %) and Q3 (10 %), open loop")
}

// A scenario that asks for profiles has one of each arm's own trials, and starts its servers so that they can be asked; no
// other scenario does.
func TestProfilesOfAScenario(t *testing.T) {
	inNoTime(t)
	needsAssets(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "dataloader-equal,io-bound", contenders: "go,node"})
	require.NoError(t, s.anew())
	r, page := s.beginWithPage(t)
	assert.True(t, r.ScenarioNamed("dataloader-equal").Profile)
	taken := 0
	for _, x := range r.Trials {
		if x.Scenario != "dataloader-equal" || x.Duplicate {
			assert.Nil(t, x.Profile, x.ID)
			continue
		}
		taken++
		assert.Equal(t, &record.Profile{Seconds: 1, Samples: 7, Functions: []record.ProfiledFunction{{Function: "played.answer (src/played)", Samples: 7}}}, x.Profile, x.ID)
	}
	assert.Positive(t, taken)
	switched := 0
	for _, spec := range s.engine.Started() {
		if spec.Environment[trial.ProfilerSetting] == "on" {
			switched++
		}
	}
	assert.Equal(t, taken+r.ScenarioNamed("dataloader-equal").Plan.Blocks, switched, "those of its blocks, the doubles too")
	assert.Contains(t, page, "dataloader-equal: the loader&#39;s share of the CPU")
	assert.Contains(t, page, "played.answer")
}

// What each server measures of itself is in the record of each trial, and no other scenario asks for it.
func TestBenchmarksOfTheServersAreTrials(t *testing.T) {
	inNoTime(t)
	for id, metric := range map[string]string{"hand-over": contract.MetricHandOver, "dataloader-equal": contract.MetricLoader} {
		t.Run(id, func(t *testing.T) {
			s := newStage(t, compareOptions{seed: 7, scenario: id + ",io-bound", contenders: "go,node,go+CPUS=2,node+CPUS=2"})
			dir := filepath.Join(t.TempDir(), "run")
			require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
			r := whole(t, dir)
			asked := r.ScenarioNamed(id).Bench
			require.NotNil(t, asked)
			require.Len(t, asked.Sizes, 3)
			duplicates := 0
			for _, x := range r.Trials {
				if x.Scenario != id {
					assert.Empty(t, x.Benched, x.ID)
					continue
				}
				require.Len(t, x.Benched, 3, x.ID)
				for i, b := range x.Benched {
					assert.Equal(t, asked.Command, b.Bench)
					assert.EqualValues(t, asked.Sizes[i], max(b.Bytes, b.Batch))
				}
				if x.Duplicate {
					duplicates++
				}
			}
			assert.Positive(t, duplicates, "an A/A pair as everywhere")
			assert.Contains(t, s.out.String(), "Decided by "+claims.MetricWords(metric))
		})
	}
}

// Trials that cannot carry the percentile that decides are refused before the first of them, with the number it would need.
func TestATailThatTheTrialsCannotCarryIsRefused(t *testing.T) {
	inNoTime(t)
	profiles[0].evidence = true
	profiles[0].rate = 40 * time.Millisecond
	s := newStage(t, compareOptions{seed: 7, scenario: "head-of-line", contenders: "go+CPUS=2,node+CPUS=2,node-cluster+CPUS=2,rust+CPUS=2"})
	require.NoError(t, s.anew())
	s.studies[0].profile.rate = 40 * time.Millisecond // not the file's
	s.studies[0].RateRPS = 10                         // at which no trial is long enough
	dir := filepath.Join(t.TempDir(), "run")
	folder, err := record.Create(dir)
	require.NoError(t, err)
	assert.Equal(t, exitCannot, s.run(t.Context(), folder, time.Now().UTC(), streams{Out: &s.out, Err: s.errs}))
	assert.Contains(t, s.errs.String(), "scenario head-of-line was not measured: it is decided by p99, for which 551 requests of Q1 have to be planned in a trial, and ")
	assert.Len(t, s.engine.Started(), 4, "its pilots, and no trial")

	st := s.studies[0]
	st.profile.blocks = 8
	require.NoError(t, st.refuse(plannedPercentiles(st.share()*200, 6*time.Second)))
	st.profile.blocks = 3
	require.ErrorContains(t, st.refuse(plannedPercentiles(st.share()*200, 6*time.Second)), "needs at least 7 blocks, and 3 are planned")
	assert.InDelta(t, 0.9, st.share(), 1e-12)
}

// Of a scenario about growth a pair is left out whose baselines are, and what is recorded can be read.
func TestGrowthNeedsItsBaselines(t *testing.T) {
	const mib1, mib256 = "+CPUS=2+MASTER_MB=1", "+CPUS=2+MASTER_MB=256"
	all := "go" + mib256 + ",rust" + mib256 + ",node-cluster" + mib256
	for contenders, says := range map[string]string{
		all:                          "from which that is told are missing: go" + mib1 + ", node-cluster" + mib1 + ", rust" + mib1,
		all + ",go" + mib1:           "from which that is told are missing: node-cluster" + mib1 + ", rust" + mib1,
		all + ",node-cluster" + mib1: "from which that is told are missing: go" + mib1 + ", rust" + mib1,
		"go" + mib256 + ",go" + mib1: "and no two of these are among them", // its baseline is not what it lacks
	} {
		code, _, errs := runCommand(t, "compare", "--scenario", "cluster-memory", "--contender", contenders, "--out", filepath.Join(t.TempDir(), "run"))
		assert.Equal(t, exitCannot, code)
		assert.Contains(t, errs, "scenario cluster-memory compares node"+mib256)
		assert.Contains(t, errs, says)
	}

	l, err := openLab()
	require.NoError(t, err)
	c, err := newComparison(l, compareOptions{profile: "quick", scenario: "cluster-memory", contenders: all + ",rust" + mib1 + ",node-cluster" + mib1})
	require.NoError(t, err)
	require.NoError(t, c.choose())
	var r record.Run
	c.studies[0].enter(&r, nil)
	assert.Equal(t, [][2]string{{"rust" + mib256, "node-cluster" + mib256}}, r.Scenarios[0].Pairs)
	assert.Equal(t, map[string]string{"rust" + mib256: "rust" + mib1, "node-cluster" + mib256: "node-cluster" + mib1}, r.Scenarios[0].Baselines)
}

// Memory is drawn against how much master data there is, a line for each server.
func TestMemoryByMasterDataIsDrawn(t *testing.T) {
	inNoTime(t)
	needsAssets(t)
	var arms []string
	for _, arm := range []string{"go", "rust", "node", "node-cluster"} {
		for _, mib := range []string{"1", "64", "256"} {
			arms = append(arms, arm+"+CPUS=2+MASTER_MB="+mib)
		}
	}
	s := newStage(t, compareOptions{seed: 7, scenario: "cluster-memory", contenders: strings.Join(arms, ",")})
	require.NoError(t, s.anew())
	r, page := s.beginWithPage(t)
	page = html.UnescapeString(page)
	assert.Contains(t, page, "cluster-memory: memory by master data")
	for _, arm := range []string{"go", "rust", "node", "node-cluster"} {
		assert.Regexp(t, regexp.QuoteMeta(arm+"+CPUS=2")+` [0-9.,]+ MB with 1 MiB of master data, [0-9.,]+ with 256`, page)
	}
	assert.NotEmpty(t, r.ScenarioNamed("cluster-memory").About)
	assert.Contains(t, page, r.ScenarioNamed("cluster-memory").About)
}

func TestAScenarioThatIsNoneIsRefused(t *testing.T) {
	code, _, errs := runCommand(t, "compare", "--scenario", "library,io-bond", "--out", filepath.Join(t.TempDir(), "run"))
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, errs, `--scenario "io-bond": expected all, or of allocator, cluster-memory, concurrent-start, connections, dataloader-equal, `)
	code, _, errs = runCommand(t, "compare", "--scenario", "allocator", "--contender", "go,node", "--out", filepath.Join(t.TempDir(), "run"))
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, errs, "scenario allocator compares rust+CPUS=2 with rust-system-malloc+CPUS=2")
	code, _, errs = runCommand(t, "compare", "--scenario", "io-bound", "--margin", "5", "--out", filepath.Join(t.TempDir(), "run"))
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, errs, "--margin 5: is of the scenario library")
}

// asksOf are what a process of a recorded scenario was asked.
func asksOf(s record.Scenario) []ask {
	st := &study{Scenario: contract.Scenario{Connections: s.Connections, Metric: s.Metric}}
	for _, load := range s.Loads {
		st.Load = append(st.Load, string(load))
	}
	return st.asks()
}

// Where a scenario asks for phases, each trial at the common rate has them, and the page shows where the time goes.
func TestPhasesOfAScenario(t *testing.T) {
	inNoTime(t)
	needsAssets(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "latency-budget,io-bound", contenders: "go,node"})
	require.NoError(t, s.anew())
	for _, st := range s.studies {
		if st.Phases {
			st.Delays[contract.WayClient] /= 10 // trials are short
		}
	}
	r, page := s.beginWithPage(t)
	assert.True(t, r.ScenarioNamed("latency-budget").Phases)
	seen := 0
	for _, x := range r.Trials {
		own, told := x.Phase(record.PhaseOwn)
		assert.Equal(t, x.Scenario == "latency-budget", told, x.ID)
		if told {
			seen++
			assert.InDelta(t, 1, own, 1e-9)
		}
	}
	assert.Positive(t, seen)
	assert.Contains(t, page, "latency-budget: where the time goes")
	network := 2.0 // as it was set
	for _, o := range r.ScenarioNamed("latency-budget").FaultOverhead {
		if o.Link == record.LinkClient {
			network = float64(o.AddedP50NS) / 1e6
			assert.Greater(t, network, 2.0, "as it was measured")
		}
	}
	assert.Contains(t, page, fmt.Sprintf("(%.1f %% of %.1f ms)", 100/(101+network), 101+network))
}

// Where a scenario asks how soon writes can be read, each trial at the common rate has it, and the page shows it.
func TestStalenessOfAScenario(t *testing.T) {
	inNoTime(t)
	needsAssets(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "replica,n-plus-one", contenders: "go,go+REPLICA=off,go+LOADER=off"})
	require.NoError(t, s.anew())
	r, page := s.beginWithPage(t)
	assert.True(t, r.ScenarioNamed("replica").Staleness)
	assert.False(t, r.ScenarioNamed("n-plus-one").Staleness)
	seen, shown := 0, 0
	for _, x := range r.Trials {
		row, told := x.StalenessOf(record.WriteRow)
		assert.Equal(t, x.Scenario == "replica" && x.Load == record.LoadRate && !x.Duplicate, told, x.ID)
		if told {
			seen++
			if x.Void == nil {
				shown++
			}
			assert.Equal(t, x.Arm != "go+REPLICA=off", row.StaleReads > 0, x.ID)
		}
	}
	assert.Positive(t, seen)
	assert.Contains(t, page, "replica: how soon a write can be read")
	assert.NotContains(t, page, "n-plus-one: how soon a write can be read")
	assert.Contains(t, page, "stale reads of row for each write")
	assert.Contains(t, page, fmt.Sprintf("After a trial and beside the same load again (%d of %d writes; the others before it began or after it had ended)", 19*shown, 20*shown))
}

// madeTrials are a claim's trials of so many blocks, in which an arm's figure is its level times a little noise; the rest of
// a trial is alike in all.
func madeTrials(s record.Scenario, blocks int, level map[string]float64) []record.Trial {
	random := rand.New(rand.NewPCG(1, 1))
	var out []record.Trial
	for block := 1; block <= blocks; block++ {
		for k := range len(s.Arms) + 1 {
			arm := s.Arms[(k+block)%len(s.Arms)] // the last is the first again: the A/A pair
			started := int64(1e8 * level[arm] * math.Exp(0.004*random.NormFloat64()))
			for _, ask := range asksOf(s) {
				x := record.Trial{Scenario: s.ID, Arm: arm, Tier: "mainstream", Load: ask.load, Connections: ask.connections, Block: block, Duplicate: k == len(s.Arms), Sent: 10_000}
				v := level[arm] * math.Exp(0.004*random.NormFloat64())
				cpu, sql, pss := 500*v, 5*level[arm], int64(1e8*v)
				x.CPUUsPerRequest, x.StatementsPerRequest, x.MemoryPSSPeakBytes = &cpu, &sql, &pss
				x.Parts = map[string]record.Part{"database_primary": {CPUSeconds: 0.5 * v}}
				recovery := int64(0.9e9 * v)
				if s.BoundNS > 0 {
					recovery = int64(float64(s.BoundNS) * v)
				}
				x.RecoveryNS, x.Outcomes = &recovery, &record.Outcomes{ResolutionNS: 1e7}
				x.LatencyP50NS, x.LatencyP90NS, x.LatencyP99NS, x.LatencyP999NS, x.ColdStartNS, x.AchievedRPS = int64(5e6*v), int64(7e6*v), int64(9e6*v), int64(11e6*v), started, 400*v
				second := int64(8e6 * v)
				x.LatencyP99MedianSecondNS = &second
				if s.Metric == contract.MetricGrowth && ask.connections == slices.Min(s.Connections) {
					x.AchievedRPS = 100 // from which all grow
				}
				if s.Bench != nil {
					x.Benched = madeBench(*s.Bench, v)
				}
				out = append(out, x)
			}
		}
	}
	return out
}

// madeBench is what a server printed whose first size takes its level; the others are alike in all, so they cannot decide.
func madeBench(asked record.BenchAsked, level float64) []record.Benched {
	var out []record.Benched
	for i := range asked.Sizes {
		if i > 0 {
			level = 1
		}
		if asked.Command == record.BenchLoader {
			out = append(out, record.Benched{Bench: asked.Command, CPUNSPerKey: 200 * level})
			continue
		}
		out = append(out, record.Benched{Bench: asked.Command, Ways: []record.BenchWay{{Way: "usual", WallNSP50: int64(1e5 * level)}, {Way: "other", WallNSP50: 1e5}}})
	}
	return out
}

// truths are ways in which the arms of a claim may differ in what decides: not at all; the first of each pair has half of it,
// or twice; each has twice what the one before has.
func truths(s record.Scenario) (alike, halved, doubled, spread func(arm string) float64) {
	first, baseline := map[string]bool{}, map[string]bool{}
	for _, pair := range s.Pairs {
		first[pair[0]] = true
	}
	for _, arm := range s.Baselines {
		baseline[arm] = true
	}
	// What an arm grows from is little, and the same for all.
	grown := func(level func(string) float64) func(string) float64 {
		return func(arm string) float64 {
			if baseline[arm] {
				return 0.05
			}
			return level(arm)
		}
	}
	half := func(arm string) float64 {
		if first[arm] {
			return 0.5
		}
		return 1
	}
	return grown(func(string) float64 { return 1 }), grown(half), grown(func(arm string) float64 { return 1 / half(arm) }),
		grown(func(arm string) float64 { return math.Pow(2, float64(slices.Index(s.Arms, arm))) })
}

// Every scenario's verdict follows the truth, made so and made otherwise by a factor of two, with the blocks of quick.
func TestEveryClaimCanHoldAndCanFail(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	for _, file := range l.scenarios {
		t.Run(file.ID, func(t *testing.T) {
			c, err := newComparison(l, compareOptions{profile: "quick", scenario: file.ID})
			require.NoError(t, err)
			require.NoError(t, c.choose())
			st := c.studies[0]
			var r record.Run
			headline := st.headline()
			if headline { // only these are judged
				st.arms = slices.DeleteFunc(st.arms, func(a contender.Arm) bool { return a.Tier != contender.TierMainstream })
			}
			st.Scenario.ID = "as a claim, the library too"
			st.enter(&r, nil)
			s := r.Scenarios[0]
			decide := func(level func(arm string) float64) []record.Verdict {
				levels := map[string]float64{}
				for _, arm := range s.Arms {
					levels[arm] = level(arm)
				}
				trials := madeTrials(s, st.profile.blocks, levels)
				if headline {
					return claims.LibraryRule(trials).Decide(trials)
				}
				return claims.RuleOf(s).Decide(trials)
			}
			alike, halved, doubled, spread := truths(s)
			overall := func(level func(string) float64) string { return claims.Overall(decide(level)) }
			switch file.Rule {
			case contract.RuleEqual:
				assert.Equal(t, claims.Holds, overall(alike))
				assert.Equal(t, claims.Contradicted, overall(spread))
			case contract.RuleLess:
				assert.Equal(t, claims.Holds, overall(halved))
				assert.Equal(t, claims.Contradicted, overall(doubled))
				assert.NotEqual(t, claims.Holds, overall(alike))
			case contract.RuleWithin:
				assert.Equal(t, claims.Holds, overall(halved))
				assert.Equal(t, claims.Contradicted, overall(doubled))
				assert.NotEqual(t, claims.Holds, overall(alike), "at the bound")
				if len(s.Arms) > 1 {
					assert.Equal(t, claims.Contradicted, overall(spread), "one arm at the bound, the others beyond")
				}
				levels := map[string]float64{}
				for _, arm := range s.Arms {
					levels[arm] = 0.5
				}
				wrong := madeTrials(s, st.profile.blocks, levels)
				wrong[0].FailedBy.WrongAnswer, wrong[0].Void = 1, new(string)
				assert.Equal(t, claims.Contradicted, claims.Overall(claims.RuleOf(s).Decide(wrong)), "one wrong answer, of a void trial too")
			case contract.RuleDiffer:
				for _, v := range decide(spread) {
					assert.Equal(t, claims.Holds, v.Verdict, v.ID)
				}
				assert.NotEqual(t, claims.Holds, overall(alike))
			}
		})
	}
}

// A run that is interrupted within a claim, before all its arms have a trial, can be read and gone on with.
func TestAnInterruptWithinAClaimLeavesAWholeRun(t *testing.T) {
	inNoTime(t)
	s := newScenarioStage(t, compareOptions{seed: 7, scenario: "n-plus-one"})
	dir := filepath.Join(t.TempDir(), "run")
	ctx, interrupt := context.WithCancel(t.Context())
	n := 0
	s.engine.BeforeAttack = beforeTrials(func() {
		if n++; n == 2 {
			interrupt()
		}
	})
	assert.NotEqual(t, exitOK, s.begin(ctx, t, dir))
	saved, err := record.Open(dir)
	require.NoError(t, err, s.errs)
	assert.False(t, saved.Run.Complete)
	assert.NotEmpty(t, saved.Run.Trials)
	again := newScenarioStage(t, compareOptions{})
	code, err := again.resume(t.Context(), t, dir)
	require.NoError(t, err)
	require.Equal(t, exitOK, code, again.errs)
	whole(t, dir)
}

// What a claim has no part in is refused with it.
func TestCapacitiesAreOfTheLibrary(t *testing.T) {
	for _, flags := range [][]string{{"--capacity"}, {"--capacity", "--slo", "p99=50ms"}} {
		code, _, errs := runCommand(t, append([]string{"compare", "--scenario", "io-bound", "--out", filepath.Join(t.TempDir(), "run")}, flags...)...)
		assert.Equal(t, exitCannot, code)
		assert.Contains(t, errs, "--capacity, --slo: capacities are searched of the arms of the scenario library")
	}
}

// Where a claim's time is short, its arms of no pair take part in fewer blocks, but not those that a growth is told from;
// elsewhere all do in all.
func TestArmsOfNoPairTakePartInFewerBlocks(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	var beside []string
	for _, arm := range []string{"node", "node-cluster", "go", "rust"} {
		beside = append(beside, "cluster-memory "+arm+"+CPUS=2+MASTER_MB=64")
	}
	beside = append(beside,
		"memory-or-redis go+MASTER=none", "memory-or-redis node+MASTER=none", "memory-or-redis rust+MASTER=none",
	)
	for profile, want := range map[string][]string{"smoke": nil, "standard": nil, "quick": beside, "nightly": beside} {
		c, err := newComparison(l, compareOptions{profile: profile, scenario: "memory-or-redis,cluster-memory,io-bound"})
		require.NoError(t, err)
		require.NoError(t, c.choose())
		var few []string
		for _, st := range c.studies {
			for _, arm := range st.arms {
				if st.few(arm) {
					few = append(few, st.ID+" "+arm.Name)
				}
			}
		}
		assert.ElementsMatch(t, want, few, profile)
	}
}

// Where there are no more blocks than can decide, what the machine spoilt is measured again though the time is used up: once
// for each block. Where there are more, the time counts.
func TestABlockThatIsNeededIsMeasuredAgain(t *testing.T) {
	st := &study{
		Scenario: contract.Scenario{ID: "x", Rule: contract.RuleLess, Pairs: [][]string{{"a", "b"}}}, arms: []contender.Arm{{Name: "a"}, {Name: "b"}},
		profile: profile{blocks: 9, repeats: 40}, budget: time.Nanosecond,
	}
	least := st.least()
	require.Equal(t, 6, least)
	s := &session{run: record.Run{Scenarios: []record.Scenario{{ID: "x"}}}}
	may := func(blocks, repeats int) bool {
		s.run.Scenarios[0].Plan.Repeats = repeats
		return s.mayRepeat(&schedule{study: st, profile: st.profile, blocks: make([][]plan.Slot, blocks), began: time.Now().Add(-time.Hour)})
	}
	assert.True(t, may(least, 0))
	assert.True(t, may(least, least-1))
	assert.False(t, may(least, least))
	assert.False(t, may(least+1, 0))
}

// A claim of which no arm can run here is not measured, and its verdict says why; the run is whole.
func TestAClaimWithoutAnArmCannotBeTestedHere(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "worker-killed,n-plus-one"})
	s.options.contenders = "" // the files' own
	s.engine.Machine.Placement.Contender, s.engine.Machine.Placement.Agent, s.engine.Machine.Placement.Database = []int{0}, []int{0}, []int{0}
	require.NoError(t, s.anew())
	dir := filepath.Join(t.TempDir(), "run")
	r := s.beginChosen(t, dir)
	assert.Empty(t, r.ScenarioNamed("worker-killed").Plan.Order)
	assert.NotEmpty(t, r.ScenarioNamed("n-plus-one").Plan.Order)
	verdicts := slices.DeleteFunc(slices.Clone(r.Verdicts), func(v record.Verdict) bool { return v.Scenario != "worker-killed" })
	require.Len(t, verdicts, 1)
	assert.Equal(t, claims.Untested, verdicts[0].Verdict)
	assert.Contains(t, verdicts[0].Reason, "2 are asked for, and it has 1")
}

// Where what decides is over before any load, nobody is warmed up, and the page says so.
func TestWhatIsOverBeforeTheLoadIsNotWarmedUp(t *testing.T) {
	inNoTime(t)
	needsAssets(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "concurrent-start,n-plus-one", contenders: "go,go+START=sequential,go+LOADER=off"})
	require.NoError(t, s.anew())
	r, page := s.beginWithPage(t)
	for _, x := range r.Trials {
		assert.Equal(t, x.Scenario == "n-plus-one", x.Warm != nil, x.ID)
	}
	assert.Contains(t, page, "; without a warm-up, since no load has a part in what decides;")
}

// A run whose only claim cannot be tested here has a record that says so.
func TestARunWithoutAnArmHasARecord(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "worker-killed"})
	s.options.contenders = "" // the file's own
	s.engine.Machine.Placement.Contender, s.engine.Machine.Placement.Agent, s.engine.Machine.Placement.Database = []int{0}, []int{0}, []int{0}
	require.NoError(t, s.anew())
	dir := filepath.Join(t.TempDir(), "run")
	r := s.beginChosen(t, dir)
	require.Len(t, r.Verdicts, 1)
	assert.Equal(t, claims.Untested, r.Verdicts[0].Verdict)
	assert.Empty(t, r.Trials)
}
