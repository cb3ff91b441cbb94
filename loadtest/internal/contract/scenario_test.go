package contract

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

const scenarioText = `# What it is for.
id: io-bound
claim: the language makes almost no difference
arms: [go, node]
operation: q2
load: [rate]
metric: latency_p50_ns
alpha: 0.05
margin: 1.05
`

func TestScenariosOfTheContract(t *testing.T) {
	c, err := Load(filepath.Join("..", "..", "..", "contract"))
	require.NoError(t, err)
	scenarios, err := LoadScenarios(c)
	require.NoError(t, err)
	require.NotEmpty(t, scenarios)
	for _, s := range scenarios {
		assert.NotEmpty(t, s.Claim)
	}
}

func TestABadScenarioIsNamed(t *testing.T) {
	s, err := parseScenario([]byte(scenarioText))
	require.NoError(t, err)
	assert.Equal(t, Scenario{"io-bound", "the language makes almost no difference", []string{"go", "node"}, "q2", []string{"rate"}, "latency_p50_ns", 0.05, 1.05}, s)
	for name, c := range map[string]struct {
		old, with string
		says      []string
	}{
		"an unknown key":         {"alpha: 0.05", "alpha: 0.05\nbeta: 1", []string{"[9:", "beta"}},
		"a key twice":            {"alpha: 0.05", "alpha: 0.05\nalpha: 0.1", []string{"[9:", "alpha"}},
		"a text for a number":    {"alpha: 0.05", "alpha: five", []string{"[8:", "float64"}},
		"a number for a list":    {"arms: [go, node]", "arms: 7", []string{"[4:"}},
		"a negative alpha":       {"alpha: 0.05", "alpha: -0.05", []string{`line 8: key "alpha" is -0.05`, "between 0 and 1"}},
		"a margin below 1":       {"margin: 1.05", "margin: 0.05", []string{`line 9: key "margin" is 0.05`, "above 1"}},
		"a margin in percent":    {"margin: 1.05", "margin: 5 %", []string{"[9:"}},
		"a metric without unit":  {"latency_p50_ns", "latency_p50", []string{`line 7: key "metric" is latency_p50`, `"latency_p50_ns"`}},
		"an unknown load":        {"[rate]", "[rate, burst]", []string{`line 6: key "load[1]" is burst`, `"throughput"`}},
		"an arm twice":           {"[go, node]", "[go, go]", []string{`line 4: key "arms[1]" is go`}},
		"one arm alone":          {"[go, node]", "[go]", []string{`line 4: key "arms"`, "at least two"}},
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
	c := &Contract{Dir: t.TempDir(), Operations: []*Operation{{Name: "q2"}}}
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
	write(strings.Replace(scenarioText, "q2", "q9", 1))
	_, err = LoadScenarios(c)
	require.ErrorContains(t, err, `line 5: key "operation" is q9`)
	write(scenarioText)
	stray := filepath.Join(dir, "notes.txt")
	require.NoError(t, os.WriteFile(stray, nil, 0o600))
	_, err = LoadScenarios(c)
	require.ErrorContains(t, err, stray)
}

// A scenario that is accepted keeps to its rules, whatever was read.
func FuzzScenario(f *testing.F) {
	f.Add([]byte(scenarioText))
	f.Add([]byte("id: {}\narms: [[]]\nmargin: .inf\nalpha: .nan\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("arms: &a *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseScenario(text)
		if err != nil {
			return
		}
		assert.True(t, s.Alpha > 0 && s.Alpha < 1 && s.Margin > 1 && s.Margin < 100, "%+v", s)
		assert.GreaterOrEqual(t, len(s.Arms), 2)
		assert.Contains(t, scenarioMetrics, s.Metric)
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
