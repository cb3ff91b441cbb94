package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
)

// recalculator runs scripts/verdicts/recalculate.mjs.
func recalculator(t *testing.T, root string) func(folders ...string) (string, int) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return func(folders ...string) (string, int) {
		command := exec.CommandContext(t.Context(), node, append([]string{filepath.Join(root, "scripts", "verdicts", "recalculate.mjs")}, folders...)...)
		out, err := command.CombinedOutput()
		if command.ProcessState == nil {
			require.NoError(t, err)
		}
		return string(out), command.ProcessState.ExitCode()
	}
}

// Another program in another language, which shares no code with this one, gives the same verdicts of what is published, and
// names what is not so.
func TestAnotherProgramGivesTheSameVerdicts(t *testing.T) {
	root, err := findRoot()
	require.NoError(t, err)
	recalculate := recalculator(t, root)
	files, err := filepath.Glob(filepath.Join(root, "results", "*", "run.json"))
	require.NoError(t, err)
	var folders []string
	most, rules := "", map[string]bool{}
	for _, file := range files {
		folders = append(folders, filepath.Dir(file))
		var r struct{ Scenarios []struct{ Rule string } }
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &r))
		for _, s := range r.Scenarios {
			rules[s.Rule], most = true, file
		}
	}
	out, code := recalculate(folders...)
	assert.Zero(t, code, out)
	assert.Equal(t, map[string]bool{"less": true, "equal": true, "within": true}, rules, "each rule of a scenario is in what is published; the library has its own")

	damaged := func(change func(r map[string]any)) string {
		b, err := os.ReadFile(most)
		require.NoError(t, err)
		var r map[string]any
		require.NoError(t, json.Unmarshal(b, &r))
		change(r)
		b, err = json.Marshal(r)
		require.NoError(t, err)
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), b, 0o600))
		return dir
	}
	verdict := func(r map[string]any, i int) map[string]any { return r["verdicts"].([]any)[i].(map[string]any) }
	for name, c := range map[string]struct {
		change func(r map[string]any)
		says   string
	}{
		"another verdict":     {func(r map[string]any) { verdict(r, 0)["verdict"] = "contradicted" }, "the verdict is"},
		"another ratio":       {func(r map[string]any) { verdict(r, 1)["ratio"] = 1.01 }, "ratio is 1.01"},
		"a narrower interval": {func(r map[string]any) { verdict(r, 1)["ratio_low"] = verdict(r, 1)["ratio"] }, "ratio_low is"},
		"p without its correction": {func(r map[string]any) {
			// Of a family's largest p the correction is none.
			corrected := slices.IndexFunc(r["verdicts"].([]any), func(v any) bool { return v.(map[string]any)["p_holm"] != v.(map[string]any)["p"] })
			require.GreaterOrEqual(t, corrected, 0)
			verdict(r, corrected)["p_holm"] = verdict(r, corrected)["p"]
		}, "p_holm is"},
		"a lower noise floor": {func(r map[string]any) { verdict(r, 0)["noise_floor"] = 1.0 }, "noise_floor is 1"},
		"a verdict left out":  {func(r map[string]any) { r["verdicts"] = r["verdicts"].([]any)[1:] }, "the record has none"},
		"another verdict of a scenario": {func(r map[string]any) {
			all := r["verdicts"].([]any)
			last := all[len(all)-1].(map[string]any)
			last["verdict"] = map[any]string{"holds": "contradicted"}[last["verdict"]]
		}, "the verdict is"},
		"another trial": {func(r map[string]any) {
			for _, trial := range r["trials"].([]any) {
				// All of one arm: a single trial may be the second of an A/A pair, or of what decides nothing.
				if cpu, told := trial.(map[string]any)["cpu_us_per_request"].(float64); told && trial.(map[string]any)["arm"] == "node" {
					trial.(map[string]any)["cpu_us_per_request"] = cpu / 2
				}
			}
		}, "the trials give"},
		"one that stands twice":     {func(r map[string]any) { r["verdicts"] = append(r["verdicts"].([]any), verdict(r, 0)) }, "twice"},
		"one of other arms":         {func(r map[string]any) { verdict(r, 0)["arms"] = []string{"go", "go"} }, "arms are"},
		"one that nothing supports": {func(r map[string]any) { verdict(r, 0)["id"] = "library/x" }, "the trials give none"},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := recalculate(damaged(c.change))
			assert.Equal(t, 1, code)
			assert.Contains(t, out, c.says)
		})
	}
	for name, folder := range map[string]string{"no folder": filepath.Join(t.TempDir(), "none"), "no verdicts": damaged(func(r map[string]any) { r["verdicts"] = []any{} })} {
		out, code := recalculate(folder)
		assert.Equal(t, 2, code, name)
		assert.Contains(t, out, folder, name)
	}
	_, code = recalculate()
	assert.Equal(t, 2, code)
}

// Of made-up runs too: with every rule and metric, arms that were not measured or answered without the database, void trials, ties, figures of nothing, wrong
// answers and blocks that are too few.
func TestAnotherProgramGivesTheSameVerdictsOfMadeRuns(t *testing.T) {
	root, err := findRoot()
	require.NoError(t, err)
	recalculate := recalculator(t, root)
	random := rand.New(rand.NewPCG(20261127, 1))
	var folders []string
	found := map[string]int{}
	lacking := 0
	for range 60 {
		r := madeRun(random)
		r.Verdicts = claims.Of(r)
		for _, v := range r.Verdicts {
			found[v.Verdict]++
			if strings.HasSuffix(v.Reason, withoutWork) {
				lacking++
			}
		}
		b, err := json.Marshal(r)
		require.NoError(t, err)
		folder := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(folder, "run.json"), b, 0o600))
		folders = append(folders, folder)
	}
	for _, verdict := range []string{claims.Holds, claims.Contradicted, claims.TooClose, claims.Untested} {
		assert.Greater(t, found[verdict], 20, verdict)
	}
	assert.Greater(t, lacking, 10)
	out, code := recalculate(folders...)
	assert.Zero(t, code, out)
}

// withoutWork is why trials of made runs are void that answered without the database.
const withoutWork = "made to ask for nothing"

func madeRun(random *rand.Rand) record.Run {
	r := record.Run{Profile: "quick"}
	if random.IntN(8) == 0 {
		r.Profile = record.ProfileRevisions
	}
	blocks := 3 + random.IntN(7)
	effect := map[string]float64{}
	effectOf := func(arm string) float64 {
		if effect[arm] == 0 {
			effect[arm] = []float64{1, 1.02, 1.3, 2}[random.IntN(4)]
		}
		return effect[arm]
	}
	noise := []float64{0.002, 0.02, 0.2}[random.IntN(3)]
	value := func(arm string) float64 {
		switch random.IntN(80) {
		case 0:
			return 0
		case 1:
			return 1
		}
		return math.Round(1000*effectOf(arm)*math.Exp(random.NormFloat64()*noise)) / 1000
	}
	trials := func(scenario, tier string, arms []string) {
		for block := 1; block <= blocks; block++ {
			duplicate := random.IntN(len(arms))
			for i := range 2 * len(arms) {
				arm := arms[i%len(arms)]
				if i >= len(arms) && i-len(arms) != duplicate {
					continue
				}
				v := value(arm)
				x := record.Trial{
					Scenario: scenario, Arm: arm, Tier: tier, Block: block, Duplicate: i >= len(arms), Operation: "q1", Load: record.LoadRate, Sent: 400 + random.Uint64N(400),
					CPUUsPerRequest: &v, LatencyP50NS: int64(1e6 * v), LatencyP99NS: int64(2e6 * v), ColdStartNS: int64(1e9 * v), StatementsPerRequest: &v,
					RecoveryNS: new(int64), Outcomes: &record.Outcomes{ResolutionNS: 1e5},
				}
				*x.RecoveryNS = int64(1e6 * v)
				bytes := int64(1e8 * v)
				x.MemoryPSSPeakBytes = &bytes
				if random.IntN(40) == 0 {
					why := "made so"
					x.Void = &why
				}
				if random.IntN(300) == 0 {
					x.FailedBy.WrongAnswer = 1
				}
				if random.IntN(500) == 0 {
					least, why := 2*v, withoutWork
					x.Void, x.StatementsLeastPerRequest = &why, &least
				}
				busy := x
				busy.Load, busy.AchievedRPS = record.LoadThroughput, 1000/max(v, 0.001)
				alone, many := busy, busy
				alone.Load, alone.Connections, alone.AchievedRPS = record.LoadClosed, 1, 100*(1+random.Float64()/10)
				many.Load, many.Connections = record.LoadClosed, 8
				if random.IntN(40) == 0 { // one of the two was spoilt: another process was asked both
					again, then := alone, many
					again.Position, then.Position = 99, 99
					again.AchievedRPS *= 1.2
					alone.Void = new(string)
					r.Trials = append(r.Trials, again, then)
				}
				r.Trials = append(r.Trials, x, busy, alone, many)
			}
		}
	}
	arms := []string{"go", "node", "rust"}
	if r.Profile == record.ProfileRevisions {
		trials("library", "mainstream", []string{"go@head", "go@base"})
		return r
	}
	trials("library", "mainstream", arms)
	trials("library", "compiled", []string{"node-compiled"})
	r.Outweighs = &record.Outweighs{Metric: "cpu_us_per_request", Library: [2]string{"node", "node-compiled"}, Pairs: [][2]string{{"go", "node"}, {"go", "rust"}}, Margin: 1.05}
	for _, rule := range []claims.Claim{claims.Differ, claims.Equal, claims.Less, claims.Within} {
		metrics := []string{"cpu_us_per_request", "latency_p50_ns", "latency_p99_ns", "achieved_rps", "statements_per_request", "memory_pss_peak_bytes", contract.MetricColdStart, contract.MetricGrowth}
		s := record.Scenario{ID: string(rule), Arms: arms, Rule: string(rule), Metric: metrics[random.IntN(len(metrics))], Alpha: claims.Alpha, Margin: []float64{1.05, 1.5}[random.IntN(2)]}
		if s.Metric == contract.MetricGrowth {
			s.Connections = []int{1, 8}
		}
		if rule == claims.Within {
			s.Metric, s.BoundNS = contract.MetricRecovery, int64(1300*time.Microsecond)
		} else if random.IntN(2) == 0 {
			s.Pairs = [][2]string{{"node", "go"}, {"rust", "go"}}
		}
		if random.IntN(3) == 0 {
			s.Absent = map[string]string{"rust": "there is no such thing here"}
			trials(s.ID, "mainstream", arms[:2])
		} else {
			trials(s.ID, "mainstream", arms)
		}
		if rule == claims.Less && random.IntN(2) == 0 {
			s.Baselines = map[string]string{"node": "go"}
			s.Pairs = [][2]string{{"node", "rust"}}
		}
		r.Scenarios = append(r.Scenarios, s)
	}
	return r
}
