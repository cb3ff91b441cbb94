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
		ID: "t1", Scenario: "library", Operation: "q2", Load: LoadRate, Arm: "go", Contender: "go", Tier: "mainstream", Block: 1,
		Arrival: "poisson", Offered: 10, Sent: 9, Unsent: 1, OK: 7, Failed: 2, FailedBy: Failed{Timeout: 1, WrongAnswer: 1},
		LatencyP50NS: 1, LatencyP90NS: 2, LatencyP99NS: 3, LatencyP999NS: 3, CPUSeconds: 9 * cpu / 1e6, CPUUsPerRequest: &cpu, Bottleneck: "none", HDRLog: "t1.hlog",
	}
	return Run{Format: Format, ID: "r", Profile: "quick", Command: []string{"loadtest"}, Trials: []Trial{trial}}, trial
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
	for _, v := range []any{Run{}, Environment{}, Conformity{}, Plan{}, PilotOutcome{}, Trial{}, Part{}, Failed{}, Verdict{}} {
		kind := reflect.TypeOf(v)
		properties := schema.Properties
		if kind.Name() != "Run" {
			properties = schema.Defs[kind.Name()].Properties
		}
		var want []string
		for i := range kind.NumField() {
			name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			want = append(want, name)
		}
		var got []string
		for name := range properties {
			got = append(got, name)
		}
		assert.ElementsMatch(t, want, got, kind.Name())
	}
}
