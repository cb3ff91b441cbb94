package trial

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/record"
)

func histogramOf(t *testing.T, values map[time.Duration]int64) *agent.Histogram {
	t.Helper()
	h := agent.NewHistogram()
	for v, n := range values {
		require.NoError(t, h.RecordValues(int64(v), n))
	}
	return h
}

// What the generator saw gets into a record under its own names and in their units: a second is 10⁹ of latency_…_ns, and
// p95 is under none of them.
func TestARecordNamesWhatTheGeneratorSaw(t *testing.T) {
	part := map[time.Duration]int64{1020 * time.Millisecond: 2500, 1310 * time.Millisecond: 2000, 1750 * time.Millisecond: 250, 2340 * time.Millisecond: 200, 3570 * time.Millisecond: 45, 5210 * time.Millisecond: 5}
	result := &agent.Result{
		Offered: 10_400, Sent: 10_000, Unsent: 400, OK: 9_930, FailedBy: agent.Failed{Refused: 11, Reset: 12, Timeout: 13, Status: 14, GraphQLErrors: 15, WrongAnswer: 5}, FirstFailure: "first",
		Began: time.Unix(1_700_000_000, 0), Elapsed: 2500 * time.Millisecond, ResponseSeconds: agent.Series{histogramOf(t, part), histogramOf(t, part)},
		ServiceSeconds: agent.Series{histogramOf(t, map[time.Duration]int64{410 * time.Millisecond: 9_000, 770 * time.Millisecond: 900, 990 * time.Millisecond: 100}), agent.NewHistogram()},
		SendLagSeconds: agent.Series{histogramOf(t, map[time.Duration]int64{660 * time.Microsecond: 9_000, 6660 * time.Microsecond: 900, 9990 * time.Microsecond: 100}), agent.NewHistogram()}, CPUSeconds: 2.12,
	}
	x := record.Trial{ID: "x", Load: record.LoadRate, DurationNS: int64(2 * time.Second), HDRLog: "x.hlog"}
	log, err := Alone(&x, result)
	require.NoError(t, err)
	b, err := json.Marshal(x)
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(b, &got))
	for key, want := range map[string]float64{
		"latency_p50_ns": 1.02e9, "latency_p90_ns": 1.31e9, "latency_p99_ns": 2.34e9, "latency_p999_ns": 3.57e9, "latency_max_ns": 5.21e9,
		"service_p50_ns": 0.41e9, "service_p99_ns": 0.77e9, "send_lag_p99_ns": 6.66e6, "duration_ns": 2e9, "elapsed_ns": 2.5e9,
		"offered": 10_400, "sent": 10_000, "unsent": 400, "ok": 9_930, "failed": 70, "offered_rps": 5_200, "achieved_rps": 3_972, "agent_cpu_seconds": 2.12,
	} {
		assert.InEpsilon(t, want, got[key], 0.001, key)
	}
	assert.Equal(t, map[string]any{"refused": 11.0, "reset": 12.0, "timeout": 13.0, "status": 14.0, "graphql_errors": 15.0, "wrong_answer": 5.0}, got["failed_by"])

	// The HDR log says the same, by the library's own reader: one interval a second.
	reader := hdr.NewHistogramLogReader(bytes.NewReader(log))
	all := hdr.New(1000, int64(100*time.Second), 3)
	for k := 0; k < 2; {
		h, err := reader.NextIntervalHistogram()
		require.NoError(t, err)
		require.NotNil(t, h)
		if h.Tag() != "" { // service time and send lag
			continue
		}
		k++
		assert.EqualValues(t, 5_000, h.TotalCount())
		assert.EqualValues(t, 1000, h.EndTimeMs()-h.StartTimeMs(), "interval %d", k)
		all.Merge(h)
	}
	for quantile, want := range map[float64]float64{50: 1.02e9, 90: 1.31e9, 95: 1.75e9, 99: 2.34e9, 99.9: 3.57e9, 100: 5.21e9} {
		assert.InEpsilon(t, want, float64(all.ValueAtQuantile(quantile)), 0.001, "%g", quantile)
	}
}
