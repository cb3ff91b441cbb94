package record

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withRuntime is a folder with a run of one trial that has runtime series.
func withRuntime(t *testing.T) (dir string, run Run) {
	t.Helper()
	run, trial := sample()
	h := hdr.New(1000, 100e9, 3)
	require.NoError(t, h.RecordValues(5e6, int64(trial.Sent)))
	trial.LatencyP50NS, trial.LatencyP90NS, trial.LatencyP99NS, trial.LatencyP999NS = h.ValueAtQuantile(50), h.ValueAtQuantile(90), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9)
	v := 1.5
	trial.RuntimeSeries = RuntimeFile(trial.ID)
	trial.Runtime = &RuntimeSeries{
		Trial: trial.ID, BeganNS: -5, EndsNS: []int64{7, 9}, Series: map[string][]*float64{"cpu_seconds_per_second": {&v, nil}}, Absent: map[string]string{"heap_used_bytes": "not told"},
	}
	run.Trials = []Trial{trial}
	dir = filepath.Join(t.TempDir(), "run")
	f, err := Create(dir)
	require.NoError(t, err)
	var log bytes.Buffer
	require.NoError(t, hdr.NewHistogramLogWriter(&log).OutputIntervalHistogram(h))
	require.NoError(t, f.WriteTrial(trial, log.Bytes()))
	require.NoError(t, f.WriteRun(run))
	return dir, run
}

func TestRuntimeSeriesSurviveDisk(t *testing.T) {
	dir, run := withRuntime(t)
	want := run.Trials[0].Runtime
	got, err := Saved{path: dir}.Runtime(run.Trials[0])
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, []string{"t1.json", "t1.hlog", "t1.runtime.json"}, run.Trials[0].Files())
	read, err := ReadRun(dir)
	require.NoError(t, err)
	assert.Nil(t, read.Trials[0].Runtime, "run.json has the name of the file only")
	assert.Equal(t, "t1.runtime.json", read.Trials[0].RuntimeSeries)
	none, err := Saved{path: dir}.Runtime(Trial{})
	require.NoError(t, err)
	assert.Nil(t, none)
}

// A run that is gone on with keeps a trial's series with it, and sets them aside with it.
func TestRuntimeSeriesRemainWithTheirTrial(t *testing.T) {
	remains := func(t *testing.T, damage func(trials string)) Remains {
		dir, run := withRuntime(t)
		run.Complete = false
		require.NoError(t, Folder{path: dir}.WriteRun(run))
		damage(filepath.Join(dir, "trials"))
		r, err := OpenRemains(dir)
		require.NoError(t, err)
		return r
	}
	r := remains(t, func(string) {})
	assert.Empty(t, r.Damaged)
	require.Len(t, r.Trials, 1)
	all := []string{"t1.json", "t1.hlog", "t1.runtime.json"}
	r = remains(t, func(trials string) {
		require.NoError(t, os.WriteFile(filepath.Join(trials, "t1.runtime.json"), []byte("{}"), 0o600))
	})
	assert.Empty(t, r.Trials)
	require.Len(t, r.Damaged, 1)
	assert.Equal(t, all, r.Damaged[0].Files)
	assert.Contains(t, r.Damaged[0].Why, "not runtime series")
	r = remains(t, func(trials string) { require.NoError(t, os.Remove(filepath.Join(trials, "t1.json"))) })
	assert.Contains(t, r.Damaged, Damaged{[]string{"t1.runtime.json"}, "runtime series without their record"})
}

func TestRuntimeSeriesThatContradictThemselvesAreNotWritten(t *testing.T) {
	v := 1.0
	for name, c := range map[string]struct {
		change func(*Trial)
		says   string
	}{
		"of another trial":    {func(x *Trial) { x.Runtime.Trial = "other" }, "other"},
		"in no file":          {func(x *Trial) { x.RuntimeSeries = "" }, "t1"},
		"too few values":      {func(x *Trial) { x.Runtime.EndsNS = append(x.Runtime.EndsNS, 11) }, "2 values for 3 intervals"},
		"time that stands":    {func(x *Trial) { x.Runtime.EndsNS[1] = 7 }, "is not after"},
		"there and not there": {func(x *Trial) { x.Runtime.Series["heap_used_bytes"] = []*float64{&v, &v} }, "heap_used_bytes is there and absent"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, run := withRuntime(t)
			c.change(&run.Trials[0])
			require.ErrorContains(t, Folder{path: dir}.WriteTrial(run.Trials[0], nil), c.says)
		})
	}
}
