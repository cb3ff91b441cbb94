package claims

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/noise"
	"lab/loadtest/internal/record"
)

// records makes a run in which each arm costs its factor, with noise of that standard deviation in the logarithm.
func records(r *rand.Rand, blocks int, noise float64, cost map[string]float64) []record.Trial {
	var trials []record.Trial
	names := []string{"go", "node", "rust"}
	for block := 1; block <= blocks; block++ {
		weather := math.Exp(r.NormFloat64() * 0.3) // what the machine did to the whole block
		add := func(arm string, duplicate bool) {
			v := 500 * cost[arm] * weather * math.Exp(r.NormFloat64()*noise)
			trials = append(trials, record.Trial{Scenario: scenarioLibrary, Arm: arm, Tier: "mainstream", Load: record.LoadRate, Block: block, Duplicate: duplicate, CPUUsPerRequest: &v})
		}
		for _, n := range names {
			add(n, false)
		}
		add(names[block%3], true)
	}
	return trials
}

func TestAFactorOfTwoIsDecided(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	v := Library(records(r, 8, 0.05, map[string]float64{"go": 2, "node": 1, "rust": 0.5}))
	require.Len(t, v, 3)
	for _, v := range v {
		assert.Equal(t, Holds, v.Verdict, "%+v", v)
		assert.Less(t, *v.RatioLow, *v.Ratio)
		assert.Greater(t, *v.RatioHigh, *v.Ratio)
	}
	assert.InDelta(t, 2, *v[0].Ratio, 0.3)
	assert.Equal(t, [2]string{"go", "node"}, v[0].Arms)
	assert.Contains(t, v[0].Reason, "go costs")
}

// Identical arms must not be told apart more often than 5 % of runs, over the whole family.
func TestIdenticalArmsAreNotToldApart(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	const runs = 2000
	wrong := 0
	for range runs {
		for _, v := range Library(records(r, 8, 0.1, map[string]float64{"go": 1, "node": 1, "rust": 1})) {
			if v.Verdict == Holds {
				wrong++
				break
			}
		}
	}
	// Three standard deviations of a binomial above 5 %.
	assert.LessOrEqual(t, float64(wrong)/runs, 0.05+3*math.Sqrt(0.05*0.95/runs))
}

func TestTooLittleIsSaid(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, v := range Library(records(r, 3, 0.05, map[string]float64{"go": 2, "node": 1, "rust": 0.5})) {
		assert.Equal(t, Untested, v.Verdict)
		assert.Contains(t, v.Reason, "3 blocks")
		assert.Nil(t, v.RatioLow)
	}
	assert.Empty(t, Library(nil))
}

func TestVoidTrialsAreInNoVerdict(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	trials := records(r, 9, 0.05, map[string]float64{"go": 2, "node": 1, "rust": 0.5})
	why := "noise"
	for i := range trials {
		if trials[i].Block == 4 && trials[i].Arm == "go" {
			trials[i].Void = &why
		}
	}
	v := Library(trials)
	assert.Equal(t, 8, v[0].Blocks)
	assert.Equal(t, 9, v[2].Blocks)
}

// Who repeats the verdicts from the records must get the same numbers, to the last digit.
func TestVerdictsAreTheSameEachTime(t *testing.T) {
	trials := records(rand.New(rand.NewPCG(11, 13)), 16, 0.1, map[string]float64{"go": 2, "node": 1, "rust": 0.5})
	first := Library(trials)
	for range 50 {
		require.Equal(t, first, Library(trials))
	}
}

func TestAnAlteredVerdictIsNamed(t *testing.T) {
	trials := records(rand.New(rand.NewPCG(1, 1)), 8, 0.05, map[string]float64{"go": 2, "node": 1, "rust": 0.5})
	require.NoError(t, Check(record.Run{Trials: trials, Verdicts: Library(trials)}))
	require.NoError(t, Check(record.Run{Trials: trials}), "an interrupted run judges nothing")
	for field, change := range map[string]func(v *record.Verdict){
		"ratio is":         func(v *record.Verdict) { v.Ratio = pointer(*v.Ratio * 1.001) },
		"ratio_low is":     func(v *record.Verdict) { v.RatioLow = pointer(*v.RatioLow * 0.9) },
		"ratio_high is":    func(v *record.Verdict) { v.RatioHigh = nil },
		"margin is":        func(v *record.Verdict) { v.Margin = 1.5 },
		"p is":             func(v *record.Verdict) { v.P = pointer(0) },
		"p_holm is":        func(v *record.Verdict) { v.PHolm = pointer(1) },
		"noise_floor is":   func(v *record.Verdict) { v.NoiseFloor = pointer(2) },
		"blocks is":        func(v *record.Verdict) { v.Blocks-- },
		"verdict is":       func(v *record.Verdict) { v.Verdict = TooClose },
		"arms is":          func(v *record.Verdict) { v.Arms = [2]string{"node", "go"} },
		"verdicts has 2, ": func(v *record.Verdict) { v.Metric = "another" },
	} {
		run := record.Run{Trials: trials, Verdicts: Library(trials)}
		change(&run.Verdicts[0])
		require.ErrorContains(t, Check(run), field)
	}
}

func ofScenarioCosting(id string, blocks int, noise float64, cost map[string]float64) []record.Trial {
	trials := records(rand.New(rand.NewPCG(1, 1)), blocks, noise, cost)
	for i := range trials {
		trials[i].Scenario = id
	}
	return trials
}

// A claim with a direction is true one way round, false the other, and neither where nothing differs.
func TestAClaimOfLessHoldsOrIsContradicted(t *testing.T) {
	claim := record.Scenario{
		ID: "s", Claim: "go costs less than node", Arms: []string{"go", "node", "rust"}, Metric: "cpu_us_per_request", Rule: "less", Margin: 1.05,
		Pairs: [][2]string{{"go", "node"}, {"go", "rust"}},
	}
	decide := func(noise float64, cost map[string]float64) []record.Verdict {
		run := record.Run{Scenarios: []record.Scenario{claim}, Trials: ofScenarioCosting("s", 8, noise, cost)}
		return Of(run)
	}
	v := decide(0.03, map[string]float64{"go": 1, "node": 2, "rust": 0.5})
	require.Len(t, v, 2, "only the pairs that are named")
	assert.Equal(t, Holds, v[0].Verdict)
	assert.Equal(t, [2]string{"go", "node"}, v[0].Arms)
	assert.InDelta(t, 0.5, *v[0].Ratio, 0.05)
	assert.Equal(t, Contradicted, v[1].Verdict)
	assert.InDelta(t, 2, *v[1].Ratio, 0.2)
	assert.Contains(t, v[1].Reason, "go costs")
	assert.Equal(t, Contradicted, Overall(v))
	assert.Equal(t, Holds, Overall(v[:1]))
	for _, v := range decide(0.03, map[string]float64{"go": 1, "node": 1, "rust": 1}) {
		assert.Equal(t, TooClose, v.Verdict, "%+v", v)
	}
}

// The proof of rules counts a direction that is wrong; its errors are those of the rule without direction.
func TestClaimsOfLessAreRarelyFalse(t *testing.T) {
	rule := Rule{Claim: Less, Margin: 1.05}
	for name, effects := range map[string]map[string]float64{
		"none": nil, "the first has less": {"node": math.Log(1.1)}, "the first has more": {"go": math.Log(1.1)},
	} {
		t.Run(name, func(t *testing.T) {
			p := rule.Prove(t.Context(), parts(noise.CPU), noise.Design{Arms: two, Blocks: 8, Effects: effects}, replicates, 4)
			p.log(t)
			assert.NoError(t, p.check())
			pair := [2]string{"go", "node"}
			switch name {
			case "the first has less":
				assert.Equal(t, p.Decided[pair]-p.Held[pair], p.FalseVerdicts, "contradicted, and true")
				assert.Greater(t, p.Held[pair], replicates/10)
			case "the first has more":
				assert.Equal(t, p.Held[pair], p.FalseVerdicts, "holds, and false")
				assert.Greater(t, p.Decided[pair]-p.Held[pair], replicates/10)
			}
		})
	}
}

// Verdicts of a run are of its scenarios, each from its own trials.
func TestVerdictsAreOfTheirScenariosTrials(t *testing.T) {
	equal := record.Scenario{ID: "alike", Arms: []string{"go", "node"}, Metric: "cpu_us_per_request", Rule: "equal", Margin: 1.3}
	run := record.Run{
		Scenarios: []record.Scenario{equal, {ID: "not measured", Rule: "equal", Margin: 1.05}},
		Trials: append(ofScenarioCosting("library", 8, 0.03, map[string]float64{"go": 2, "node": 1, "rust": 0.5}),
			ofScenarioCosting("alike", 8, 0.03, map[string]float64{"go": 1, "node": 1, "rust": 1})...),
	}
	v := Of(run)
	require.Len(t, v, 4)
	for _, v := range v {
		assert.Equal(t, Holds, v.Verdict, "%+v", v)
	}
	assert.Equal(t, "alike/cpu_us_per_request/go-vs-node", v[3].ID)
	run.Verdicts = v
	require.NoError(t, Check(run))
	changed := *v[3].Ratio * 1.01
	run.Verdicts[3].Ratio = &changed
	require.ErrorContains(t, Check(run), "alike/cpu_us_per_request/go-vs-node: ratio")
	assert.Equal(t, Untested, Overall(nil))
}

// Each metric is taken from the trials that it is of, and from no other.
func TestMetricsAreTakenFromTheirTrials(t *testing.T) {
	cpu, sql, pss, second := 100.0, 5.0, int64(7e6), int64(37)
	x := record.Trial{
		Sent: 10_000, CPUUsPerRequest: &cpu, StatementsPerRequest: &sql, MemoryPSSPeakBytes: &pss, ColdStartNS: 11, AchievedRPS: 13,
		LatencyP50NS: 17, LatencyP90NS: 19, LatencyP99NS: 23, LatencyP999NS: 31, LatencyP99MedianSecondNS: &second, Parts: map[string]record.Part{"database_primary": {CPUSeconds: 0.29}},
	}
	for metric, want := range map[string]float64{
		"cpu_us_per_request": 100, "statements_per_request": 5, "memory_pss_peak_bytes": 7e6, "cold_start_ns": 11, "achieved_rps": 13, "latency_p50_ns": 17, "latency_p90_ns": 19, "latency_p99_ns": 23, "latency_p999_ns": 31, contract.MetricMedianSecond: 37, "database_primary_cpu_us_per_request": 29,
	} {
		load, other := record.LoadRate, record.LoadThroughput
		if metric == "achieved_rps" {
			load, other = other, load
		}
		x.Load = load
		got, ok := valueOf(record.Scenario{Metric: metric})(&x)
		assert.True(t, ok, metric)
		assert.InDelta(t, want, got, 0, metric)
		x.Load = other
		_, ok = valueOf(record.Scenario{Metric: metric})(&x)
		assert.False(t, ok, metric)
		assert.NotEqual(t, metric, MetricWords(metric))
	}
	x.Load, x.Operation, x.Operations = record.LoadRate, "q1", []record.OperationFigures{{Operation: "q3", Sent: 900, LatencyP99NS: 99}, {Operation: "q1", Sent: 9000, LatencyP99NS: 3}}
	got, ok := valueOf(record.Scenario{Metric: "latency_p99_ns"})(&x)
	assert.True(t, ok)
	assert.InDelta(t, 3, got, 0, "of a mix, the operation's own")
	x.Operations[1].Sent = 20
	_, ok = valueOf(record.Scenario{Metric: "latency_p99_ns"})(&x)
	assert.False(t, ok, "however many others there were")
	x.Operations = nil
	x.Sent = 20
	_, ok = valueOf(record.Scenario{Metric: "latency_p99_ns"})(&x)
	assert.False(t, ok, "twenty requests carry no p99")
	x.LatencyP99MedianSecondNS = nil
	_, ok = valueOf(record.Scenario{Metric: contract.MetricMedianSecond})(&x)
	assert.False(t, ok, "no median second")
	_, ok = valueOf(record.Scenario{Metric: "something"})(&x)
	assert.False(t, ok)
}

// Growth is of one process: what it answers with the most connections by what it answers with the fewest. One that has only one
// of them, or of which one is void, has none, and identical arms differ by what their growth does.
func TestGrowthIsOfOneProcess(t *testing.T) {
	s := record.Scenario{ID: "c", Metric: contract.MetricGrowth, Rule: string(Less), Connections: []int{1, 16, 1024}, Pairs: [][2]string{{"node", "go"}}}
	var trials []record.Trial
	process := func(arm string, block int, duplicate bool, rps map[int]float64) {
		for connections, r := range rps {
			trials = append(trials, record.Trial{Scenario: "c", Arm: arm, Block: block, Duplicate: duplicate, Load: record.LoadClosed, Connections: connections, AchievedRPS: r})
		}
	}
	process("go", 1, false, map[int]float64{1: 100, 16: 900, 1024: 300})
	process("node", 1, false, map[int]float64{1: 200, 16: 900, 1024: 300})
	process("node", 1, true, map[int]float64{1: 400, 1024: 1200})
	process("go", 2, false, map[int]float64{1: 100})
	process("node", 2, false, map[int]float64{16: 100, 1024: 300})
	process("go", 3, false, map[int]float64{1: 100, 1024: 400})
	why := "the machine"
	trials = append(trials, record.Trial{Scenario: "c", Arm: "go", Block: 4, Load: record.LoadClosed, Connections: 1024, AchievedRPS: 9}, record.Trial{Scenario: "c", Arm: "go", Block: 4, Load: record.LoadClosed, Connections: 1, AchievedRPS: 3, Void: &why})
	// What was spoilt is asked again of another process, which is asked both.
	trials = append(trials, record.Trial{Scenario: "c", Arm: "go", Block: 4, Position: 9, Load: record.LoadClosed, Connections: 1, AchievedRPS: 2}, record.Trial{Scenario: "c", Arm: "go", Block: 4, Position: 9, Load: record.LoadClosed, Connections: 1024, AchievedRPS: 10})
	// An interrupted one has another at its place, which started in another time: no process has both.
	trials = append(trials, record.Trial{Scenario: "c", Arm: "go", Block: 5, ColdStartNS: 7, Load: record.LoadClosed, Connections: 1, AchievedRPS: 2}, record.Trial{Scenario: "c", Arm: "go", Block: 5, ColdStartNS: 8, Load: record.LoadClosed, Connections: 1024, AchievedRPS: 10})
	r := RuleOf(s)
	assert.Equal(t, map[string]map[int]float64{"go": {1: 3, 3: 4, 4: 5}, "node": {1: 1.5}}, r.values(trials))
	assert.InDeltaSlice(t, []float64{math.Log(2)}, r.sameArm(trials), 1e-12)
}

// Whatever decides, a sentence about it has no word twice in a row, and an article only where the sentence has one.
func TestMetricsReadRightInASentence(t *testing.T) {
	first, second, p, ratio := "a", "b", 0.01, 2.0
	for _, metric := range contract.ScenarioMetrics {
		words := MetricWords(metric)
		assert.NotEqual(t, metric, words)
		for _, article := range []string{"the ", "a ", "an "} {
			assert.False(t, strings.HasPrefix(strings.ToLower(words), article), words)
		}
		within := record.Verdict{Arms: [2]string{first, contract.Bound}, Ratio: &ratio, P: &p}
		Rule{Metric: metric, Claim: Within}.within(&within, p)
		of := record.Scenario{Metric: metric, Baselines: map[string]string{first: second}}
		for _, sentence := range []string{
			Rule{Metric: metric}.words(record.Verdict{Arms: [2]string{first, second}, Ratio: &ratio}), RuleOf(of).words(record.Verdict{Arms: [2]string{first, second}, Ratio: &ratio}),
			within.Reason, "Decided by " + DecidingWords(of) + ": ",
		} {
			told := strings.Fields(sentence)
			for i := range told[1:] {
				assert.NotEqual(t, told[i], told[i+1], sentence)
			}
		}
	}
}

// A record's reasons are shown as this version says them; what it decided stays.
func TestReasonsAreInThisVersionsWords(t *testing.T) {
	r := record.Run{Trials: ofScenarioCosting(scenarioLibrary, 6, 0.01, map[string]float64{"go": 1, "node": 2})}
	r.Verdicts = Of(r)
	require.NotEmpty(t, r.Verdicts)
	r.Verdicts = append(slices.Clone(r.Verdicts), record.Verdict{ID: "of no rule", Reason: "as it was"})
	want := slices.Clone(r.Verdicts)
	r.Verdicts[0].Reason = "node has 2.00 times the the CPU of go"
	assert.Equal(t, want, Worded(r))
	assert.Equal(t, "node has 2.00 times the the CPU of go", r.Verdicts[0].Reason, "the record is left as it is")
}

// Identical arms are compared within their scenario, not with the same block of another.
func TestIdenticalArmsAreOfOneScenario(t *testing.T) {
	cheap := ofScenarioCosting("a", 4, 0, map[string]float64{"go": 1, "node": 1, "rust": 1})
	dear := ofScenarioCosting("b", 4, 0, map[string]float64{"go": 9, "node": 9, "rust": 9})
	d := SameArm(append(cheap, dear...))
	require.Len(t, d, 8)
	for _, x := range d {
		assert.InDelta(t, 0, x, 1e-12)
	}
}

// What decides where there are baselines is the growth: what an arm has beside it, however much, is in no verdict, and a
// difference of two that have grown alike is not found.
func TestBaselines(t *testing.T) {
	trials := func(beside, growth map[string]float64) []record.Trial {
		random := rand.New(rand.NewPCG(1, 1))
		var out []record.Trial
		for block := 1; block <= 8; block++ {
			measure := func(arm string, grown, duplicate bool) {
				name, bytes := arm+"+1", beside[arm]
				if grown {
					name, bytes = arm+"+256", beside[arm]+growth[arm]
				}
				pss := int64(bytes * math.Exp(0.004*random.NormFloat64()))
				out = append(out, record.Trial{Scenario: "s", Arm: name, Load: record.LoadRate, Block: block, Duplicate: duplicate, MemoryPSSPeakBytes: &pss})
			}
			for _, arm := range []string{"one", "many"} {
				measure(arm, false, false)
				measure(arm, true, false)
			}
			measure([]string{"one", "many"}[block%2], block%4 > 1, true)
		}
		return out
	}
	rule := RuleOf(record.Scenario{
		ID: "s", Metric: "memory_pss_peak_bytes", Rule: "less", Margin: 1.25, Pairs: [][2]string{{"one+256", "many+256"}},
		Arms: []string{"one+1", "one+256", "many+1", "many+256"}, Baselines: map[string]string{"one+256": "one+1", "many+256": "many+1"},
	})
	for _, c := range []struct {
		name           string
		beside, growth map[string]float64
		verdict        string
		ratio          float64
	}{
		{"two copies against one", map[string]float64{"one": 2e7, "many": 4e8}, map[string]float64{"one": 2.7e8, "many": 5.4e8}, Holds, 0.5},
		{"a copy that processes share", map[string]float64{"one": 2e7, "many": 4e8}, map[string]float64{"one": 2.7e8, "many": 2.7e8}, TooClose, 1},
		{"the one grows more", map[string]float64{"one": 2e7, "many": 4e8}, map[string]float64{"one": 5.4e8, "many": 2.7e8}, Contradicted, 2},
	} {
		made := trials(c.beside, c.growth)
		verdicts := rule.Decide(made)
		require.Len(t, verdicts, 1, c.name)
		assert.Equal(t, c.verdict, verdicts[0].Verdict, "%s: %s", c.name, verdicts[0].Reason)
		require.NotNil(t, verdicts[0].Ratio, c.name)
		assert.InEpsilon(t, c.ratio, *verdicts[0].Ratio, 0.05, c.name)
	}
	// Without its baseline in a block, or where nothing has grown, an arm has no number there.
	shrunk := trials(map[string]float64{"one": 2e7, "many": 4e8}, map[string]float64{"one": -1e7, "many": 1e8})
	assert.Equal(t, Untested, rule.Decide(shrunk)[0].Verdict)
	assert.Zero(t, rule.Decide(shrunk)[0].Blocks)
}

// An arm that once answered without the database is held against nobody, by whichever rule and in whatever its other trials say;
// verdicts between others are made as ever.
func TestAnArmThatAnswersWithoutTheDatabaseIsNotJudged(t *testing.T) {
	few, least, why := 0.4, 2.0, "0.4 SQL statements a request; q1 with this arm's settings takes at least 2"
	spoil := func(trials []record.Trial) []record.Trial {
		i := slices.IndexFunc(trials, func(t record.Trial) bool { return t.Arm == "node" })
		lacking := trials[i] // of another load, which decides nothing
		lacking.Load, lacking.CPUUsPerRequest = record.LoadThroughput, nil
		lacking.StatementsPerRequest, lacking.StatementsLeastPerRequest, lacking.Void = &few, &least, &why
		return append(trials, lacking)
	}
	cost := map[string]float64{"go": 2, "node": 1, "rust": 0.5, "node-compiled": 0.2}
	for _, v := range Library(spoil(records(rand.New(rand.NewPCG(1, 1)), 8, 0.02, cost))) {
		if !slices.Contains(v.Arms[:], "node") {
			assert.Equal(t, Holds, v.Verdict, "%+v", v)
			continue
		}
		assert.Equal(t, Untested, v.Verdict, "%+v", v)
		assert.Equal(t, "node: "+why, v.Reason)
		assert.Zero(t, v.Blocks)
		assert.Nil(t, v.P)
	}
	for _, v := range Outweigh(&canOutweigh, spoil(ofLibraries(rand.New(rand.NewPCG(3, 1)), 10, 0.02, cost))) {
		assert.Equal(t, Untested, v.Verdict, "its library's language is node: %+v", v)
		assert.Equal(t, "node: "+why, v.Reason)
		assert.Nil(t, v.P)
	}
	within := Rule{Scenario: scenarioLibrary, Metric: metricCPU, Claim: Within, Bound: 1e9, Arms: []string{"go", "node"}, Value: CPUAtRate}
	verdicts := within.Decide(spoil(records(rand.New(rand.NewPCG(1, 1)), 8, 0.02, cost)))
	require.Len(t, verdicts, 2)
	assert.Equal(t, Holds, verdicts[0].Verdict)
	assert.Equal(t, Untested, verdicts[1].Verdict)
}
