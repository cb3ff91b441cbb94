package record

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// secondsOf has a histogram for each number of milliseconds, in which so many requests took that long.
func secondsOf(t *testing.T, requests int64, ms ...int64) []*hdr.Histogram {
	t.Helper()
	var out []*hdr.Histogram
	for _, x := range ms {
		h := hdr.New(1000, 100e9, 3)
		require.NoError(t, h.RecordValues(x*1e6, requests))
		out = append(out, h)
	}
	return out
}

// One second in which all stood still changes nothing; the last, which is no whole one, is none; and where a second's requests do
// not carry a p99, or there are fewer than three, nothing is told.
func TestTheMedianSecondIsOfWholeSecondsThatCarryIt(t *testing.T) {
	for name, c := range map[string]struct {
		requests int64
		ms       []int64
		took     time.Duration
		want     float64
	}{
		"three":               {459, []int64{5, 3, 4}, 3 * time.Second, 4e6},
		"one stood still":     {459, []int64{5, 3, 4, 9000, 4}, 5 * time.Second, 4e6},
		"most were slow":      {459, []int64{50, 3, 40, 40, 4}, 5 * time.Second, 40e6},
		"of four":             {459, []int64{5, 3, 4, 9}, 4 * time.Second, 4.5e6},
		"the last is half":    {459, []int64{5, 3, 4, 9}, 3900 * time.Millisecond, 4e6},
		"two":                 {459, []int64{5, 3, 4}, 2900 * time.Millisecond, 0},
		"too few requests":    {458, []int64{5, 3, 4}, 3 * time.Second, 0},
		"fewer than it took":  {459, []int64{5, 3, 4}, 7 * time.Second, 4e6},
		"nothing at all":      {459, nil, 7 * time.Second, 0},
		"no time, no seconds": {459, []int64{5, 3, 4}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := MedianSecond(secondsOf(t, c.requests, c.ms...), c.took)
			if c.want == 0 {
				assert.Nil(t, got)
				return
			}
			require.NotNil(t, got)
			assert.InEpsilon(t, c.want, float64(*got), 0.001)
		})
	}
}

// A record whose median second is not its log's is damaged; one from before there was this figure is not.
func TestTheMedianSecondIsThatOfTheLog(t *testing.T) {
	seconds := secondsOf(t, 600, 5, 3, 4)
	true4 := MedianSecond(seconds, 3*time.Second)
	other := *true4 + 1
	for name, c := range map[string]struct {
		has  *int64
		took time.Duration
		says string
	}{
		"that of the log":       {true4, 3 * time.Second, ""},
		"of before":             {nil, 3 * time.Second, ""},
		"another":               {&other, 3 * time.Second, "the median of its seconds' p99 is 4"},
		"one where none can be": {true4, 2 * time.Second, "the median of its seconds' p99 is none ns"},
	} {
		t.Run(name, func(t *testing.T) {
			_, trial := sample()
			all := Merge(seconds)
			trial.LatencyP50NS, trial.LatencyP90NS, trial.LatencyP99NS, trial.LatencyP999NS = all.ValueAtQuantile(50), all.ValueAtQuantile(90), all.ValueAtQuantile(99), all.ValueAtQuantile(99.9)
			trial.Sent, trial.DurationNS, trial.LatencyP99MedianSecondNS = 1800, int64(c.took), c.has
			dir := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "trials"), 0o750))
			var log bytes.Buffer
			w := hdr.NewHistogramLogWriter(&log)
			for _, h := range seconds {
				require.NoError(t, w.OutputIntervalHistogram(h))
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, "trials", trial.HDRLog), log.Bytes(), 0o600))
			got, err := Saved{path: dir}.Seconds(trial)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				require.ErrorContains(t, err, "latency_p99_median_second_ns")
				return
			}
			require.NoError(t, err)
			assert.Len(t, got, 3)
		})
	}
}
