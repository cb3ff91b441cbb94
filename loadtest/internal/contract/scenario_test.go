package contract

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const scenarioText = `# What it is for.
id: io-bound
claim: the language makes almost no difference
article: "nobody notices: 175 ms"
arms: [go, node]
operation: q2
load: [rate, closed]
metric: latency_p50_ns
alpha: 0.05
margin: 1.05
rule: equal
rate_rps: 70
delays: {database: 20ms, upstream: "1.5s"}
duration: 6s
mix: {q2: 9, q3: 1}
pairs: [[node, go]]
changed_by: a slower processor
connections: [1, 64]
own_connections: {q3: 2}
`

// What a file says of itself is all that it opens with but for the claim in a line.
func TestAScenarioSaysWhatItIsFor(t *testing.T) {
	s, err := parseScenario([]byte("# The claim.\n#\n# What is done, and\n# why.\n#\n# And more.\n" + strings.TrimPrefix(scenarioText, "# What it is for.\n")))
	require.NoError(t, err)
	assert.Equal(t, "What is done, and why. And more.", s.About)
	s, err = parseScenario([]byte(scenarioText))
	require.NoError(t, err)
	assert.Empty(t, s.About)
}

// ours are the claims that the article does not make.
var ours = []string{"library", "parts-away", "worker-killed"}

func TestScenariosOfTheContract(t *testing.T) {
	c, err := Load(filepath.Join("..", "..", "..", "contract"))
	require.NoError(t, err)
	scenarios, err := LoadScenarios(c)
	require.NoError(t, err)
	require.NotEmpty(t, scenarios)
	for _, s := range scenarios {
		assert.NotEmpty(t, s.Claim)
		assert.NotEmpty(t, s.About, "%s: what it is for and what is done", s.ID)
		assert.Equal(t, slices.Contains(ours, s.ID), s.Article == "", "%s: all other claims are the article's", s.ID)
		assert.Equal(t, s.ID == "library", s.Outweighs != nil, s.ID)
	}
}

func TestABadScenarioIsNamed(t *testing.T) {
	s, err := parseScenario([]byte(scenarioText))
	require.NoError(t, err)
	assert.Equal(t, Scenario{
		ID: "io-bound", Claim: "the language makes almost no difference", Article: "nobody notices: 175 ms", Arms: []string{"go", "node"}, Operation: "q2", Load: []string{"rate", "closed"}, Connections: []int{1, 64}, OwnConnections: map[string]int{"q3": 2}, RateRPS: 70, Mix: map[string]float64{"q2": 9, "q3": 1}, Duration: Span(6 * time.Second),
		Delays: map[string]Delay{"database": Delay(20 * time.Millisecond), "upstream": Delay(1500 * time.Millisecond)},
		Metric: "latency_p50_ns", Rule: RuleEqual, Pairs: [][]string{{"node", "go"}}, Alpha: 0.05, Margin: 1.05, ChangedBy: "a slower processor",
	}, s)
	assert.Equal(t, [][2]string{{"node", "go"}}, s.Compared())
	s.Pairs, s.Arms = nil, []string{"a", "b", "c"}
	assert.Equal(t, [][2]string{{"a", "b"}, {"a", "c"}, {"b", "c"}}, s.Compared())
	for name, c := range map[string]struct {
		old, with string
		says      []string
	}{
		"an unknown key":         {"alpha: 0.05", "alpha: 0.05\nbeta: 1", []string{"[10:", "beta"}},
		"a key twice":            {"alpha: 0.05", "alpha: 0.05\nalpha: 0.1", []string{"[10:", "alpha"}},
		"a text for a number":    {"alpha: 0.05", "alpha: five", []string{"[9:", "float64"}},
		"a number for a list":    {"arms: [go, node]", "arms: 7", []string{"[5:"}},
		"a negative alpha":       {"alpha: 0.05", "alpha: -0.05", []string{`line 9: key "alpha" is -0.05`, "expected 0.05"}},
		"a margin below 1":       {"margin: 1.05", "margin: 0.05", []string{`line 10: key "margin" is 0.05`, "above 1"}},
		"a margin in percent":    {"margin: 1.05", "margin: 5 %", []string{"[10:"}},
		"a metric without unit":  {"latency_p50_ns", "latency_p50", []string{`line 8: key "metric" is latency_p50`, `"latency_p50_ns"`}},
		"an unknown load":        {"[rate, closed]", "[rate, burst, closed]", []string{`line 7: key "load[1]" is burst`, `"throughput"`}},
		"no connections":         {"connections: [1, 64]\n", "", []string{`key "connections" is missing`, "closed loops"}},
		"connections of nothing": {"[rate, closed]", "[rate]", []string{`key "connections" is `, "closed loops"}},
		"connections that fall":  {"[1, 64]", "[64, 64]", []string{`key "connections[1]" is 64`, "above those before"}},
		"own ones of no mix":     {"own_connections: {q3", "own_connections: {q1", []string{`key "own_connections.q1" is 2`, "of the mix"}},
		"own ones of none":       {"{q3: 2}", "{q3: 0}", []string{`key "own_connections.q3" is 0`, "1 to 4096"}},
		"no connection":          {"[1, 64]", "[0, 64]", []string{`key "connections[0]" is 0`, "1 to 4096"}},
		"too many connections":   {"[1, 64]", "[1, 10000]", []string{`key "connections[1]" is 10000`}},
		"two kinds of rate":      {"rate_rps: 70", "rate_rps: 70\nown_share: 0.6", []string{`key "own_share" is 0.6`, "none beside rate_rps"}},
		"two shares":             {"rate_rps: 70", "share: 0.8\nown_share: 0.6", []string{`key "share" is 0.8`, "none beside rate_rps or own_share"}},
		"a share of more":        {"rate_rps: 70", "share: 1.2", []string{`line 12: key "share" is 1.2`, "between 0 and 1"}},
		"more than all":          {"rate_rps: 70", "own_share: 1.2", []string{`line 12: key "own_share" is 1.2`, "between 0 and 1"}},
		"an arm twice":           {"[go, node]", "[go, go]", []string{`line 5: key "arms[1]" is go`}},
		"one arm alone":          {"[go, node]", "[go]", []string{`line 5: key "arms"`, "at least two"}},
		"an unknown rule":        {"rule: equal", "rule: alike", []string{`line 11: key "rule" is alike`, `"equal"`}},
		"a direction of none":    {"rule: equal\nrate_rps: 70\ndelays: {database: 20ms, upstream: \"1.5s\"}\nduration: 6s\nmix: {q2: 9, q3: 1}\npairs: [[node, go]]", "rule: less", []string{`key "pairs" is missing`}},
		"a negative rate":        {"rate_rps: 70", "rate_rps: -70", []string{`line 12: key "rate_rps" is -70`}},
		"a delay without unit":   {"database: 20ms", "database: 20", []string{`"20": expected a time with its unit`}},
		"a negative delay":       {"database: 20ms", "database: -20ms", []string{`"-20ms": expected a time`}},
		"a delay of nothing":     {"database:", "disk:", []string{`line 13: key "delays.disk" is 20ms`, `"database"`}},
		"a mix without it":       {"mix: {q2: 9", "mix: {q1: 9", []string{`line 6: key "operation" is q2`, "one of the mix"}},
		"a negative weight":      {"q3: 1}", "q3: -1}", []string{`line 15: key "mix.q3" is -1`, "above 0"}},
		"another alpha":          {"alpha: 0.05", "alpha: 0.01", []string{`line 9: key "alpha" is 0.01`, "expected 0.05"}},
		"a load twice":           {"[rate, closed]", "[rate, rate, closed]", []string{`line 7: key "load[1]" is rate`, "each once"}},
		"a pair twice":           {"[[node, go]]", "[[node, go], [go, node]]", []string{`line 16: key "pairs[1]"`, "not compared already"}},
		"a pair of itself":       {"[[node, go]]", "[[go, go]]", []string{`line 16: key "pairs[0]"`, "two of the arms"}},
		"a pair of another":      {"[[node, go]]", "[[go, rust]]", []string{`line 16: key "pairs[0]"`}},
		"a baseline of itself":   {"margin: 1.05", "margin: 1.05\nbaselines: {go: go}", []string{`key "baselines.go" is go`, "no baseline itself"}},
		"a baseline of another":  {"margin: 1.05", "margin: 1.05\nbaselines: {go: rust}", []string{`key "baselines.go" is rust`}},
		"half a pair":            {"[[node, go]]", "[[go]]", []string{`line 16: key "pairs[0]"`}},
		"a metric not measured":  {"load: [rate, closed]", "load: [closed]", []string{`line 8: key "metric" is latency_p50_ns`, "trials of load rate"}},
		"nothing changes it":     {"changed_by: a slower processor\n", "", []string{`key "changed_by" is missing`}},
		"a profile of no rate":   {"load: [rate, closed]", "profile: true\nload: [closed]", []string{`key "profile" is true`, "trials of load rate"}},
		"writes of no rate":      {"load: [rate, closed]", "staleness: true\nload: [closed]", []string{`key "staleness" is true`, "trials of load rate"}},
		"phases of a mix":        {"margin: 1.05", "margin: 1.05\nphases: true", []string{`key "phases" is true`, "one operation"}},
		"a bench without one":    {"metric: latency_p50_ns", "metric: bench_loader_cpu_ns_per_key", []string{`key "bench" is missing`, `"loader"`}},
		"an unknown bench":       {"margin: 1.05", "margin: 1.05\nbench: {command: sort, sizes: [1]}", []string{`key "bench.command" is sort`, `"hand-over"`}},
		"another bench":          {"metric: latency_p50_ns", "metric: bench_loader_cpu_ns_per_key\nbench: {command: hand-over, sizes: [4]}", []string{`key "bench.command" is hand-over`, `"loader"`}},
		"a bench of no size":     {"margin: 1.05", "margin: 1.05\nbench: {command: loader}", []string{`key "bench.sizes" is missing`, "one size or more"}},
		"a size of half a word":  {"margin: 1.05", "margin: 1.05\nbench: {command: hand-over, sizes: [4, 6]}", []string{`bench.sizes[1]`, "a multiple of 4"}},
		"seconds of a mix":       {"metric: latency_p50_ns\n", "metric: latency_p99_median_second_ns\n", []string{`key "mix" is `, "what decides is of all requests"}},
		"two seconds":            {"latency_p50_ns\nalpha: 0.05\nmargin: 1.05\nrule: equal\nrate_rps: 70\ndelays: {database: 20ms, upstream: \"1.5s\"}\nduration: 6s", "latency_p99_median_second_ns\nalpha: 0.05\nmargin: 1.05\nrule: equal\nrate_rps: 70\nduration: 2s", []string{`key "duration" is 2s`, "3s or more"}},
		"no metric at all":       {"metric: latency_p50_ns\n", "", []string{`key "metric" is missing`, "cpu_us_per_request"}},
		"something else than it": {scenarioText, "- a\n- b\n", []string{"[1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(scenarioText, c.old, c.with, 1)
			require.NotEqual(t, scenarioText, text)
			_, err := parseScenario([]byte(text))
			require.Error(t, err)
			for _, says := range c.says {
				assert.ErrorContains(t, err, says)
			}
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestScenarioFilesAreNamedAfterTheirIDs(t *testing.T) {
	c := &Contract{Dir: t.TempDir(), Operations: []*Operation{{Name: "q2"}, {Name: "q3"}}}
	dir := filepath.Join(c.Dir, "scenarios")
	require.NoError(t, os.Mkdir(dir, 0o700))
	file := filepath.Join(dir, "io-bound.yaml")
	write := func(text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	write(scenarioText)
	scenarios, err := LoadScenarios(c)
	require.NoError(t, err)
	require.Len(t, scenarios, 1)
	write(strings.Replace(scenarioText, "id: io-bound", "id: other", 1))
	_, err = LoadScenarios(c)
	require.ErrorContains(t, err, file)
	require.ErrorContains(t, err, `line 2: key "id" is other: expected "io-bound"`)
	write(strings.Replace(strings.NewReplacer("mix: {q2: 9, q3: 1}\n", "", "own_connections: {q3: 2}\n", "").Replace(scenarioText), "q2", "q9", 1))
	_, err = LoadScenarios(c)
	require.ErrorContains(t, err, `line 6: key "operation" is q9`)
	write(strings.ReplaceAll(scenarioText, "q3", "q9"))
	_, err = LoadScenarios(c)
	require.ErrorContains(t, err, `line 15: key "mix.q9" is 1`)
	write(scenarioText)
	stray := filepath.Join(dir, "notes.txt")
	require.NoError(t, os.WriteFile(stray, nil, 0o600))
	_, err = LoadScenarios(c)
	require.ErrorContains(t, err, stray)
}

// A scenario that is accepted keeps to its rules, whatever was read.
func FuzzScenario(f *testing.F) {
	f.Add([]byte(scenarioText))
	f.Add([]byte(faultsText))
	f.Add([]byte(strings.Replace(faultsText, "[go, node]", "[go]", 1)))
	f.Add([]byte("id: {}\narms: [[]]\nmargin: .inf\nalpha: .nan\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("arms: &a *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseScenario(text)
		if err != nil {
			return
		}
		assert.True(t, s.Alpha > 0 && s.Alpha < 1 && s.Margin > 1 && s.Margin < 100, "%+v", s)
		assert.True(t, len(s.Arms) >= 2 || len(s.Arms) == 1 && s.Rule == RuleWithin, "%+v", s)
		assert.Contains(t, ScenarioMetrics, s.Metric)
		assert.Contains(t, scenarioRules, s.Rule)
		for _, d := range s.Delays {
			assert.Positive(t, d)
		}
		for _, pair := range s.Compared() {
			assert.NotEqual(t, pair[0], pair[1])
			assert.Subset(t, append([]string{Bound}, s.Arms...), pair[:])
		}
	})
}

// Limits that are accepted were all there, once, and of their type.
func FuzzLimits(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "contract", "limits.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"depth": 10, "depth": 11}`))
	f.Add([]byte(`{} {}`))
	f.Add([]byte(`[{"depth":1e999}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var l Limits
		if unmarshalStrict(text, &l) != nil {
			return
		}
		var keys map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(text, &keys))
		assert.Len(t, keys, len(jsonFields(reflect.TypeOf(l))))
	})
}

// A table of statements that is accepted has ranges only that make sense.
func FuzzStatements(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "contract", "operations", "q2", "statements.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"default": {"items": [2, 1]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var c Counts
		if unmarshalStrict(text, &c) != nil {
			return
		}
		for _, counts := range c {
			for _, r := range counts {
				assert.True(t, r.Min >= 0 && r.Max >= r.Min && r.Max > 0, "%+v", r)
			}
		}
	})
}
