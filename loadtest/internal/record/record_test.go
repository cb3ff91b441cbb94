package record

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func sample() (Run, Trial) {
	cpu := 12.5
	trial := Trial{
		ID: "t1", Scenario: "library", Operation: "q2", Load: LoadRate, Arm: "go", Contender: "go", Tier: "mainstream", Block: 1, Position: 1,
		Arrival: "poisson", Offered: 10, Sent: 9, Unsent: 1, OK: 7, Failed: 2, FailedBy: Failed{Timeout: 1, WrongAnswer: 1},
		LatencyP50NS: 1, LatencyP90NS: 2, LatencyP99NS: 3, LatencyP999NS: 3, CPUSeconds: 9 * cpu / 1e6, CPUUsPerRequest: &cpu, Bottleneck: "none", HDRLog: "t1.hlog",
	}
	return Run{
		Format: Format, ID: "r", Profile: "quick", Command: []string{"loadtest"}, Trials: []Trial{trial}, Plan: Plan{Blocks: 1, Order: [][]string{{"go", "rust"}}},
	}, trial
}

func TestRunSurvivesDisk(t *testing.T) {
	run, trial := sample()
	dir := filepath.Join(t.TempDir(), "run")
	f, err := Create(dir)
	require.NoError(t, err)
	require.NoError(t, f.WriteTrial(trial, []byte("log")))
	require.NoError(t, f.WriteRun(run))
	got, err := ReadRun(dir)
	require.NoError(t, err)
	assert.Equal(t, run.Trials, got.Trials)
	entries, err := os.ReadDir(filepath.Join(dir, "trials"))
	require.NoError(t, err)
	assert.Len(t, entries, 2, "no temporary file stays")
}

func TestARunNeverOverwritesAnother(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), []byte("precious"), 0o600))
	_, err := Create(dir)
	require.ErrorIs(t, err, ErrNotEmpty)
	require.ErrorContains(t, err, dir)
}

// A run that was killed before its first trial must not cost its folder.
func TestWhatAKilledRunLeftIsNoRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	_, err := Create(dir)
	require.NoError(t, err)
	_, err = Create(dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "trials", "a.json"), []byte("precious"), 0o600))
	_, err = Create(dir)
	require.ErrorIs(t, err, ErrNotEmpty)
}

func TestAFolderThatWasNotUsedGoes(t *testing.T) {
	run, trial := sample()
	dir := filepath.Join(t.TempDir(), "run")
	f, err := Create(dir)
	require.NoError(t, err)
	f.RemoveUnused()
	assert.NoDirExists(t, dir)

	theirs := t.TempDir()
	f, err = Create(theirs)
	require.NoError(t, err)
	f.RemoveUnused()
	assert.DirExists(t, theirs, "it was there before")
	assert.NoDirExists(t, filepath.Join(theirs, "trials"))

	f, err = Create(dir)
	require.NoError(t, err)
	require.NoError(t, f.WriteTrial(trial, []byte("log")))
	require.NoError(t, f.WriteRun(run))
	f.RemoveUnused()
	_, err = ReadRun(dir)
	require.NoError(t, err, "what was measured stays")
}

func TestDamageIsNamed(t *testing.T) {
	run, _ := sample()
	whole, err := encode(run)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		damage func(string) string
		says   string
	}{
		"cut short":                 {func(s string) string { return s[:len(s)/2] }, "not JSON"},
		"a text for a number":       {func(s string) string { return strings.Replace(s, `"offered": 10`, `"offered": "10"`, 1) }, "offered"},
		"a field missing":           {func(s string) string { return strings.Replace(s, `"seed": 0,`, ``, 1) }, "seed"},
		"counts that do not add up": {func(s string) string { return strings.Replace(s, `"offered": 10`, `"offered": 11`, 1) }, "offered 11 is not sent 9 + unsent 1"},
		"a newer format":            {func(s string) string { return strings.Replace(s, `"format": 1`, `"format": 2`, 1) }, "format 2"},
		"an unknown bottleneck":     {func(s string) string { return strings.Replace(s, `"bottleneck": "none"`, `"bottleneck": "magic"`, 1) }, "bottleneck"},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := c.damage(string(whole))
			require.NotEqual(t, string(whole), damaged)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), []byte(damaged), 0o600))
			_, err := ReadRun(dir)
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "run.json")
		})
	}
}

// A record that was altered says so, in words that lead to the place.
func TestWhatContradictsTheTrialsIsNamed(t *testing.T) {
	number := func(x float64) *float64 { return &x }
	whole := func() Run {
		run, first := sample()
		second := first
		second.ID, second.HDRLog, second.Arm, second.Contender, second.Position = "t2", "t2.hlog", "rust", "rust", 2
		run.Trials = append(run.Trials, second)
		run.Plan.Pilot = []PilotOutcome{{"go", 100}, {"rust", 200}}
		run.Verdicts = []Verdict{{
			ID: "library/go-vs-rust", Scenario: "library", Metric: "cpu_us_per_request", Arms: [2]string{"go", "rust"}, Ratio: number(2), RatioLow: number(1.9), RatioHigh: number(2.1),
			Margin: 1.05, Blocks: 1, P: number(0.01), PHolm: number(0.03), NoiseFloor: number(1.02), Verdict: "holds",
		}}
		return run
	}
	// step adds a capacity and the one trial of its search.
	step := func(r *Run) *Trial {
		_, t := sample()
		t.ID, t.HDRLog, t.Load, t.Block, t.RateRPS = "s1", "s1.hlog", LoadCapacity, 0, 100
		r.Trials = append(r.Trials, t)
		r.Capacities = []Capacity{{Arm: "go", SLO: "p99=100ms", LowRPS: 100, Steps: []string{"s1"}}}
		return &r.Trials[len(r.Trials)-1]
	}
	power := func(change func(*Power)) *Power {
		p := &Power{Metric: "m", Family: 1, Alpha: 0.05, Power: 0.8, NoiseLogRatios: []float64{0.1}, NoiseRuns: []string{"r"}, Margin: 1.05}
		change(p)
		return p
	}
	read := func(t *testing.T, r Run) error {
		t.Helper()
		dir := t.TempDir()
		require.NoError(t, WriteJSON(filepath.Join(dir, "run.json"), r))
		_, err := ReadRun(dir)
		return err
	}
	require.NoError(t, read(t, whole()))
	with := whole()
	step(&with)
	require.NoError(t, read(t, with), "a step of a search is in no block")
	for name, c := range map[string]struct {
		change func(r *Run, v *Verdict)
		says   string
	}{
		"an arm that was not measured":    {func(_ *Run, v *Verdict) { v.Arms[1] = "zig" }, `arms has "zig", of which scenario "library" has no trial`},
		"an arm against itself":           {func(_ *Run, v *Verdict) { v.Arms[1] = "go" }, `arms has "go" twice`},
		"another scenario":                {func(_ *Run, v *Verdict) { v.Scenario = "lookup" }, `scenario "lookup" has no trial`},
		"a ratio outside its interval":    {func(_ *Run, v *Verdict) { v.Ratio = number(3) }, "ratio 3 is outside its interval, ratio_low 1.9 to ratio_high 2.1"},
		"an interval the wrong way round": {func(_ *Run, v *Verdict) { v.RatioLow, v.RatioHigh = v.RatioHigh, v.RatioLow }, "ratio 2 is outside its interval"},
		"half an interval":                {func(_ *Run, v *Verdict) { v.RatioLow = nil }, "ratio_low and ratio_high"},
		"an interval of nothing":          {func(_ *Run, v *Verdict) { v.Ratio = nil }, "ratio is null"},
		"a negative ratio":                {func(_ *Run, v *Verdict) { v.Ratio, v.RatioLow, v.RatioHigh = number(-1), nil, nil }, "ratio is -1"},
		"an interval from below zero":     {func(_ *Run, v *Verdict) { v.RatioLow = number(-1) }, "ratio_low is -1"},
		"more blocks than there are":      {func(_ *Run, v *Verdict) { v.Blocks = 2 }, "blocks is 2, but both arms have trials in 1"},
		"blocks that only one arm was in": {func(r *Run, _ *Verdict) {
			r.Trials[1].Block, r.Plan.Blocks, r.Plan.Order = 2, 2, [][]string{{"go"}, {"go", "rust"}}
		}, "blocks is 1, but both arms have trials in 0"},
		"a ratio of no block":                  {func(_ *Run, v *Verdict) { v.Blocks = 0 }, "ratio is 2, of no block"},
		"a p beyond 1":                         {func(_ *Run, v *Verdict) { v.P = number(1.5) }, "p is 1.5"},
		"a corrected p beyond 1":               {func(_ *Run, v *Verdict) { v.PHolm = number(1.5) }, "p_holm is 1.5"},
		"a correction that makes p less":       {func(_ *Run, v *Verdict) { v.PHolm = number(0.001) }, "p_holm 0.001 is less"},
		"a noise floor below 1":                {func(_ *Run, v *Verdict) { v.NoiseFloor = number(0.5) }, "noise_floor is 0.5"},
		"a margin of nothing":                  {func(_ *Run, v *Verdict) { v.Margin = 0 }, "margin is 0"},
		"a verdict twice":                      {func(r *Run, v *Verdict) { r.Verdicts = append(r.Verdicts, *v) }, `id "library/go-vs-rust" is there twice`},
		"a block beyond the plan":              {func(r *Run, _ *Verdict) { r.Trials[1].Block = 2 }, "trial t2: block 2 is none of the plan's 1"},
		"a position beyond the plan":           {func(r *Run, _ *Verdict) { r.Trials[1].Position = 3 }, "trial t2: position 3"},
		"another arm than planned":             {func(r *Run, _ *Verdict) { r.Plan.Order[0][1] = "node" }, `pilot has arm "rust"`},
		"two arms changed about":               {func(r *Run, _ *Verdict) { r.Plan.Order[0] = []string{"rust", "go"} }, `trial t1: arm is "go", but plan.order has "rust" there`},
		"a plan of more blocks than it has":    {func(r *Run, _ *Verdict) { r.Plan.Blocks = 8 }, "plan: blocks is 8, but order has 1"},
		"floors in more blocks than there are": {func(r *Run, _ *Verdict) { r.Plan.FloorBlocks = 2 }, "floor_blocks is 2 of 1"},
		"a step of a search within a block":    {func(r *Run, _ *Verdict) { step(r).Block = 1 }, `trial s1: load is "capacity", but block is 1`},
		"a step without its rate":              {func(r *Run, _ *Verdict) { step(r).RateRPS = 0 }, "rate_rps is 0"},
		"a step that is no trial":              {func(r *Run, _ *Verdict) { step(r); r.Capacities[0].Steps = []string{"s1", "s2"} }, `steps has "s2", which is no trial`},
		"a step of another arm":                {func(r *Run, _ *Verdict) { step(r).Arm = "rust" }, `step s1 is a trial of arm "rust"`},
		"a step that is none":                  {func(r *Run, _ *Verdict) { step(r); r.Capacities[0].Steps = []string{"t1"} }, `step t1 is a trial of arm "go" with load "rate"`},
		"a capacity the wrong way round":       {func(r *Run, _ *Verdict) { step(r); r.Capacities[0].HighRPS = number(50) }, "high_rps 50 is not above low_rps 100"},
		"a negative capacity":                  {func(r *Run, _ *Verdict) { step(r); r.Capacities[0].LowRPS = -1 }, "low_rps"},
		"a capacity twice":                     {func(r *Run, _ *Verdict) { step(r); r.Capacities = append(r.Capacities, r.Capacities[0]) }, `arm "go" is there twice`},
		"a ceiling of nothing":                 {func(r *Run, _ *Verdict) { r.GeneratorCeilingRPS = number(0) }, "generator_ceiling_rps is 0"},
		"near a ceiling that is not there":     {func(r *Run, _ *Verdict) { r.Trials[0].NearGeneratorCeiling = true }, "the run has no generator_ceiling_rps"},
		"a percentile that is not carried":     {func(r *Run, _ *Verdict) { r.Plan.Percentiles = []PlannedPercentile{{"p99", 10, 459, true}} }, "percentiles: p99: carried is true with 10 of 459"},
		"a power of no noise":                  {func(r *Run, _ *Verdict) { r.Plan.Power = power(func(p *Power) { p.NoiseLogRatios = []float64{} }) }, "noise_log_ratios is empty"},
		"a detectable ratio below 1":           {func(r *Run, _ *Verdict) { r.Plan.Power = power(func(p *Power) { p.DetectableRatio = number(0.9) }) }, "detectable_ratio is 0.9"},
		"a power beyond 1":                     {func(r *Run, _ *Verdict) { r.Plan.Power = power(func(p *Power) { p.Power = 80 }) }, "power"},
		"writes beside no load": {func(r *Run, _ *Verdict) {
			r.Trials[0].Staleness = []Staleness{{Write: WriteRow, Writes: 3, ReadableNSP50: 1, ReadableNSMax: 1, LoadedWrites: 1}}
		}, "load_rps 0 and loaded_writes 1 of 3 do not go together"},
		"a warm-up of no window":                   {func(r *Run, _ *Verdict) { r.Trials[0].Warm = &Warm{WindowNS: 1} }, "windows"},
		"a negative rate":                          {func(r *Run, _ *Verdict) { r.Plan.RateRPS = -1 }, `key "plan.rate_rps" is -1`},
		"a pilot of an arm that was never planned": {func(r *Run, _ *Verdict) { r.Plan.Pilot[0].Arm = "zig" }, `pilot has arm "zig"`},
	} {
		t.Run(name, func(t *testing.T) {
			run := whole()
			c.change(&run, &run.Verdicts[0])
			err := read(t, run)
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "run.json")
		})
	}
}

func TestTrialsThatContradictThemselvesAreNotWritten(t *testing.T) {
	f, err := Create(t.TempDir())
	require.NoError(t, err)
	for name, change := range map[string]func(*Trial){
		"offered":     func(t *Trial) { t.Unsent++ },
		"failed_by":   func(t *Trial) { t.FailedBy.Reset++ },
		"ok":          func(t *Trial) { t.OK++ },
		"percentiles": func(t *Trial) { t.LatencyP90NS = 0 },
		"cpu_us_per_request": func(t *Trial) {
			better := *t.CPUUsPerRequest * 0.9
			t.CPUUsPerRequest = &better
		},
		"statements_per_request 0.4 is less than statements_least_per_request 2, and the trial is not void": func(t *Trial) {
			few, least := 0.4, 2.0
			t.StatementsPerRequest, t.StatementsLeastPerRequest = &few, &least
		},
	} {
		_, trial := sample()
		change(&trial)
		require.ErrorContains(t, f.WriteTrial(trial, nil), name)
	}
}

// The JSON Schema and the types say the same: every field of each type is in its schema, and nothing else is.
func TestSchemaHasEveryField(t *testing.T) {
	var schema struct {
		Properties map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(SchemaText(), &schema))
	for _, v := range []any{Run{}, Environment{}, Conformity{}, Plan{}, PilotOutcome{}, Power{}, PlannedPercentile{}, Trial{}, OperationFigures{}, Warm{}, Part{}, Failed{}, Verdict{}, Outweighs{}, Capacity{}, Scenario{}, PlannedFault{}, FaultOutcome{}, Outcomes{}, RuntimeSeries{}, Phases{}, Staleness{}, Profile{}} {
		kind := reflect.TypeOf(v)
		properties := schema.Properties
		if kind.Name() != "Run" {
			properties = schema.Defs[kind.Name()].Properties
		}
		var want []string
		for i := range kind.NumField() {
			name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			if name == "-" { // in no file
				continue
			}
			want = append(want, name)
		}
		var got []string
		for name := range properties {
			got = append(got, name)
		}
		assert.ElementsMatch(t, want, got, kind.Name())
	}
}
