package capacity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

func TestParseSLO(t *testing.T) {
	for text, want := range map[string]SLO{
		"p99=100ms": Default, "p50=1.5s": {"p50", 1500 * time.Millisecond}, "p90=750us": {"p90", 750 * time.Microsecond}, "p99.9=1s": {"p99.9", time.Second},
	} {
		got, err := ParseSLO(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got)
		again, err := ParseSLO(got.String())
		require.NoError(t, err)
		assert.Equal(t, got, again)
	}
	for text, says := range map[string]string{
		"":              "expected PERCENTILE=DURATION",
		"100ms":         "expected PERCENTILE=DURATION",
		"p95=100ms":     `"p95": expected one of p50, p90, p99, p99.9`,
		"P99=100ms":     `"P99"`,
		"p99=100":       `"100" is no duration`,
		"p99=":          "is no duration",
		"p99=0s":        "positive",
		"p99=-5ms":      "positive",
		"p99=1ms,p50=2": "is no duration",
	} {
		_, err := ParseSLO(text)
		require.ErrorContains(t, err, says, text)
	}
}

func FuzzParseSLO(f *testing.F) {
	f.Add("p99=100ms")
	f.Add("p99.9=1h2m")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSLO(text)
		if err != nil {
			return
		}
		again, err := ParseSLO(s.String())
		require.NoError(t, err)
		assert.Equal(t, s, again)
		assert.Positive(t, s.Limit)
	})
}

func TestRequestsThatCarryAnObjective(t *testing.T) {
	for percentile, want := range map[string]uint64{"p50": 7, "p90": 44, "p99": 459, "p99.9": 4603} {
		n, err := SLO{percentile, time.Second}.Requests()
		require.NoError(t, err)
		assert.Equal(t, want, n, percentile)
	}
}

func TestJudge(t *testing.T) {
	ms := func(n int64) int64 { return n * int64(time.Millisecond) }
	void := "the hypervisor took it"
	good := record.Trial{Sent: 1000, OK: 1000, LatencyP50NS: ms(5), LatencyP90NS: ms(20), LatencyP99NS: ms(90), LatencyP999NS: ms(200), ServiceP99NS: ms(80)}
	for name, c := range map[string]struct {
		slo    SLO
		change func(*record.Trial)
		want   Outcome
	}{
		"under the limit":                       {Default, func(*record.Trial) {}, Held},
		"at the limit":                          {Default, func(t *record.Trial) { t.LatencyP99NS = ms(100) }, Failed},
		"one request failed":                    {Default, func(t *record.Trial) { t.Failed, t.OK = 1, 999 }, Failed},
		"void":                                  {Default, func(t *record.Trial) { t.Void = &void }, Void},
		"too few requests for p99":              {Default, func(t *record.Trial) { t.Sent, t.OK = 458, 458 }, Void},
		"too few, but the service is too slow":  {Default, func(t *record.Trial) { t.Sent, t.OK, t.ServiceP99NS = 458, 458, ms(300) }, Failed},
		"the median is another figure":          {SLO{"p50", 100 * time.Millisecond}, func(t *record.Trial) { t.LatencyP99NS = ms(900) }, Held},
		"and has its own limit":                 {SLO{"p50", 5 * time.Millisecond}, func(*record.Trial) {}, Failed},
		"p90":                                   {SLO{"p90", 20 * time.Millisecond}, func(*record.Trial) {}, Failed},
		"p99.9 needs more requests":             {SLO{"p99.9", time.Second}, func(*record.Trial) {}, Void},
		"p99.9":                                 {SLO{"p99.9", 200 * time.Millisecond}, func(t *record.Trial) { t.Sent, t.OK = 5000, 5000 }, Failed},
		"a percentile that records have not":    {SLO{"p95", time.Second}, func(*record.Trial) {}, Void},
		"a slow p99 of service fails no median": {SLO{"p50", 50 * time.Millisecond}, func(*record.Trial) {}, Held},
	} {
		t.Run(name, func(t *testing.T) {
			trial := good
			c.change(&trial)
			got, why := c.slo.Judge(trial)
			assert.Equal(t, c.want, got, why)
			assert.NotEmpty(t, why)
		})
	}
}
