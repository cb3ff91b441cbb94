package record

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is wrong with a record is said in one line: file, line, key, value, and what was expected.
func TestWhatIsWrongIsLocated(t *testing.T) {
	run, _ := sample()
	whole, err := encode(run)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		old, with string
		says      []string
	}{
		"a text for a number":   {`"offered": 10,`, `"offered": "10",`, []string{`key "trials[0].offered" is "10"`, "got string, want integer"}},
		"a negative rate":       {`"offered_rps": 0,`, `"offered_rps": -3.5,`, []string{`key "trials[0].offered_rps" is -3.5`, "minimum"}},
		"a negative plan":       {`"rate_rps": 0,`, `"rate_rps": -1,`, []string{`key "plan.rate_rps" is -1`, "minimum"}},
		"a load without a name": {`"load": "rate"`, `"load": "fast"`, []string{`key "trials[0].load" is "fast"`, "rate"}},
		"a duration in words":   {`"duration_ns": 0,`, `"duration_ns": "3s",`, []string{`key "trials[0].duration_ns" is "3s"`, "want integer"}},
		"a comma too many":      {`"seed": 0,`, `"seed": 0,,`, []string{"not JSON"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(whole), c.old, c.with, 1)
			require.NotEqual(t, string(whole), text)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), []byte(text), 0o600))
			_, err := ReadRun(dir)
			require.ErrorContains(t, err, filepath.Join(dir, "run.json"))
			line := 1 + strings.Count(text[:strings.Index(text, c.with)], "\n")
			if name != "a comma too many" {
				require.ErrorContains(t, err, "line "+json.Number(itoa(line)).String()+":")
			}
			for _, says := range c.says {
				require.ErrorContains(t, err, says)
			}
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestUnknownKeysCannotBeCompared(t *testing.T) {
	run, trial := sample()
	dir := filepath.Join(t.TempDir(), "run")
	f, err := Create(dir)
	require.NoError(t, err)
	h := hdr.New(1, 100, 3)
	require.NoError(t, h.RecordValues(1, 5))
	require.NoError(t, h.RecordValues(2, 3))
	require.NoError(t, h.RecordValues(3, 1))
	trial.LatencyP50NS, trial.LatencyP90NS, trial.LatencyP99NS, trial.LatencyP999NS = h.ValueAtQuantile(50), h.ValueAtQuantile(90), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9)
	run.Trials, run.Complete, run.Ended = []Trial{trial}, true, run.Began.Add(time.Minute)
	var log bytes.Buffer
	require.NoError(t, hdr.NewHistogramLogWriter(&log).OutputIntervalHistogram(h))
	require.NoError(t, f.WriteTrial(trial, log.Bytes()))
	require.NoError(t, f.WriteRun(run))
	s, err := Open(dir)
	require.NoError(t, err)
	require.NoError(t, s.Unknown())
	file := filepath.Join(dir, "run.json")
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, bytes.Replace(b, []byte(`"seed"`), []byte("\"moon\": 1,\n\"seed\""), 1), 0o600))
	s, err = Open(dir)
	require.NoError(t, err, "to show it does no harm")
	require.ErrorContains(t, s.Unknown(), file)
	require.ErrorContains(t, s.Unknown(), `line `)
	require.ErrorContains(t, s.Unknown(), `"moon"`)
}

// Whatever run.json holds, it is refused with a line that says why, or is a run whose numbers agree, and which comes back
// the same when it is written again.
func FuzzRun(f *testing.F) {
	run, _ := sample()
	whole, err := encode(run)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(strings.Replace(string(whole), `"blocks": 1`, `"blocks": -1`, 1)))
	f.Add([]byte(strings.Replace(string(whole), `"order": [`, `"order": [[],`, 1)))
	f.Add([]byte(`{"format": 1e400}`))
	f.Add([]byte(`null`))
	if real, err := os.ReadFile(filepath.Join("..", "report", "testdata", "smoke", "run.json")); err == nil {
		f.Add(real)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), text, 0o600))
		r, err := ReadRun(dir)
		if err != nil {
			assert.Contains(t, err.Error(), "run.json")
			return
		}
		for i := range r.Trials {
			require.NoError(t, r.Trials[i].Check())
			assert.LessOrEqual(t, r.Trials[i].Block, len(r.Plan.Order))
		}
		require.NoError(t, WriteJSON(filepath.Join(dir, "run.json"), r))
		again, err := ReadRun(dir)
		require.NoError(t, err)
		sameText(t, r, again)
	})
}

// sameText compares what is written: an empty map that is left out comes back as none.
func sameText(t *testing.T, want, got any) {
	t.Helper()
	a, err := encode(want)
	require.NoError(t, err)
	b, err := encode(got)
	require.NoError(t, err)
	assert.Equal(t, string(a), string(b))
}

// A trial's own file is refused or says the same as the trial that it was read into.
func FuzzTrial(f *testing.F) {
	_, trial := sample()
	whole, err := encode(trial)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"offered": -1}`))
	f.Add([]byte(`{"latency_p50_ns": 1e30}`))
	f.Add([]byte(`{"cpu_us_per_request": null, "parts": {"": {}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var x Trial
		if json.Unmarshal(text, &x) != nil || x.Check() != nil {
			return
		}
		assert.Equal(t, x.Offered, x.Sent+x.Unsent)
		assert.Equal(t, x.Sent, x.OK+x.Failed)
		b, err := encode(x)
		require.NoError(t, err)
		var again Trial
		require.NoError(t, json.Unmarshal(b, &again))
		sameText(t, x, again)
	})
}

// A damaged HDR log is an error and never the end of the program; a whole one has as many intervals as lines.
func FuzzHDRLog(f *testing.F) {
	var b bytes.Buffer
	w := hdr.NewHistogramLogWriter(&b)
	h := hdr.New(1000, 100e9, 3)
	if err := errorsOf(h.RecordValue(5_000_000), w.OutputLogFormatVersion(), w.OutputLegend(), w.OutputIntervalHistogram(h), w.OutputIntervalHistogram(h)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()/2])
	f.Add([]byte("#[StartTime: 1]\n1,2,3,HISTFAAAAB\n"))
	f.Add([]byte("Tag=x,0.1,1,2,"))
	f.Fuzz(func(t *testing.T, text []byte) {
		seconds, err := parseLog(text)
		if err != nil {
			return
		}
		for _, h := range seconds {
			require.NotNil(t, h)
		}
		assert.LessOrEqual(t, len(seconds), 1+bytes.Count(text, []byte("\n")))
	})
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
