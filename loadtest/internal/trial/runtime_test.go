package trial

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/scrape"
)

// pages are the readings of a made-up contender, two seconds apart, and then one second.
var pages = []string{`
lab_request_seconds_count 100
process_cpu_seconds_total 10
lab_worker_busy_seconds_total{worker="0"} 5
lab_worker_busy_seconds_total{worker="1"} 7
lab_worker_elapsed_seconds_total{worker="0"} 20
lab_worker_elapsed_seconds_total{worker="1"} 30
lab_scheduling_delay_seconds_bucket{le="0.001"} 1000
lab_scheduling_delay_seconds_bucket{le="0.002"} 1000
lab_scheduling_delay_seconds_bucket{le="+Inf"} 1000
lab_event_loop_delay_p99_seconds{worker="0"} 0.5
lab_gc_pause_seconds_sum{worker="1",kind="minor"} 1
lab_gc_pause_seconds_sum{worker="1",kind="major"} 2
lab_gc_pause_seconds_count{worker="1",kind="minor"} 10
lab_gc_pause_seconds_count{worker="1",kind="major"} 20
lab_heap_used_bytes 1000000
lab_pool_connections{address="primary",state="in_use"} 1
lab_pool_connections{address="replica",state="in_use"} 2
lab_pool_connections{address="replica",state="idle"} 14
lab_pool_wait_seconds_sum 3
lab_loader_batch_keys_sum{loader="a"} 10
lab_loader_batch_keys_count{loader="a"} 1
lab_document_lookups_total{result="hit"} 90
lab_document_lookups_total{result="miss"} 10
lab_cache_lookups_total{table="area",result="hit"} 1
lab_cache_lookups_total{table="area",result="skipped"} 0
tokio_worker_steals_total{worker="0"} 5
`, `
lab_request_seconds_count 300
process_cpu_seconds_total 13
lab_worker_busy_seconds_total{worker="0"} 6
lab_worker_busy_seconds_total{worker="1"} 9
lab_worker_elapsed_seconds_total{worker="0"} 22
lab_worker_elapsed_seconds_total{worker="1"} 32.5
lab_scheduling_delay_seconds_bucket{le="0.001"} 1098
lab_scheduling_delay_seconds_bucket{le="0.002"} 1100
lab_scheduling_delay_seconds_bucket{le="+Inf"} 1100
lab_event_loop_delay_p99_seconds{worker="0"} 0.25
lab_event_loop_delay_p99_seconds{worker="1"} 0.75
lab_gc_pause_seconds_sum{worker="1",kind="minor"} 1.5
lab_gc_pause_seconds_sum{worker="1",kind="major"} 2.1
lab_gc_pause_seconds_count{worker="1",kind="minor"} 16
lab_gc_pause_seconds_count{worker="1",kind="major"} 22
lab_gc_longest_pause_seconds{worker="0"} 0.001
lab_gc_longest_pause_seconds{worker="1"} 0.03
lab_heap_used_bytes 2500000
lab_pool_connections{address="primary",state="in_use"} 0
lab_pool_connections{address="replica",state="in_use"} 16
lab_pool_connections{address="replica",state="idle"} 0
lab_pool_wait_seconds_sum 3.5
lab_loader_batch_keys_sum{loader="a"} 70
lab_loader_batch_keys_count{loader="a"} 3
lab_document_lookups_total{result="hit"} 285
lab_document_lookups_total{result="miss"} 15
lab_cache_lookups_total{table="area",result="hit"} 4
lab_cache_lookups_total{table="area",result="skipped"} 1
tokio_worker_steals_total{worker="0"} 9
`, `
lab_request_seconds_count 5
process_cpu_seconds_total 14
lab_heap_used_bytes 3000000
`}

func readingsOf(t *testing.T, texts []string, at ...time.Time) []reading {
	t.Helper()
	var out []reading
	for i, text := range texts {
		samples, err := scrape.Parse(text)
		require.NoError(t, err)
		out = append(out, reading{at[i], samples})
	}
	return out
}

// Hand-computed: of two seconds each counter's growth is halved, but a worker's busy time is of its own clock's; of gauges the reading at the end counts, a percentile of
// several workers is the worst one's, and a counter that went back tells nothing.
func TestRuntimeSeries(t *testing.T) {
	began := time.Unix(1_700_000_000, 0)
	r := runtimeSampler{readings: readingsOf(t, pages, began.Add(-time.Second), began.Add(time.Second), began.Add(2*time.Second))}
	s := r.series("x", contender.Arm{Language: "rust"}, began)
	require.NotNil(t, s)
	require.NoError(t, s.Check())
	assert.Equal(t, "x", s.Trial)
	assert.Equal(t, int64(-time.Second), s.BeganNS)
	assert.Equal(t, []int64{int64(time.Second), int64(2 * time.Second)}, s.EndsNS)
	for name, want := range map[string][2]float64{
		"requests_per_second": {100, -1}, "cpu_seconds_per_second": {1.5, 1}, "worker_busy_share": {0.65, -1}, "busiest_worker_busy_share": {0.8, -1},
		"scheduling_delay_p99_seconds": {0.002, -1}, "event_loop_delay_p99_seconds": {0.75, -1},
		"gc_pause_seconds_per_second": {0.3, -1}, "gc_pauses_per_second": {4, -1}, "gc_minor_pause_seconds_per_second": {0.25, -1}, "gc_major_pauses_per_second": {1, -1}, "gc_longest_pause_seconds": {0.03, -1},
		"heap_used_bytes": {2.5e6, 3e6}, "pool_in_use_connections": {16, -1}, "pool_wait_seconds_per_second": {0.25, -1},
		"loader_batch_keys_mean": {30, -1}, "document_cache_hit_share": {0.975, -1}, "cache_hit_share": {0.75, -1}, "worker_steals_per_second": {2, -1},
	} {
		got := s.Series[name]
		if !assert.Len(t, got, 2, name) {
			continue
		}
		for i, w := range want {
			if w < 0 {
				assert.Nil(t, got[i], "%s %d", name, i)
			} else if assert.NotNil(t, got[i], "%s %d", name, i) {
				assert.InDelta(t, w, *got[i], 1e-9, "%s %d", name, i)
			}
		}
	}
	first := func(worker, name string) float64 {
		values := s.Workers[worker][name]
		if !assert.Len(t, values, 2, "%s %s", worker, name) || !assert.NotNil(t, values[0], "%s %s", worker, name) {
			return 0
		}
		assert.Nil(t, values[1], "%s %s", worker, name)
		return *values[0]
	}
	assert.InDelta(t, 0.5, first("0", "worker_busy_share"), 1e-9)
	assert.InDelta(t, 0.8, first("1", "worker_busy_share"), 1e-9)
	assert.InDelta(t, 0.25, first("0", "event_loop_delay_p99_seconds"), 1e-9)
	assert.InDelta(t, 0.75, first("1", "event_loop_delay_p99_seconds"), 1e-9)
	assert.InDelta(t, 0.001, first("0", "gc_longest_pause_seconds"), 1e-9)
	assert.InDelta(t, 0.25, first("1", "gc_minor_pause_seconds_per_second"), 1e-9)
	assert.InDelta(t, 2, first("0", "worker_steals_per_second"), 1e-9)
	assert.NotContains(t, s.Workers["0"], "gc_pauses_per_second", "of this one nothing is told")
	assert.NotContains(t, s.Workers["0"], "heap_used_bytes", "it is of the whole process")
	assert.NotContains(t, s.Workers["0"], "busiest_worker_busy_share")
	assert.Len(t, s.Workers, 2)
	assert.Equal(t, "its /metrics do not tell lab_heap_committed_bytes", s.Absent["heap_committed_bytes"])
	assert.Equal(t, noCollector, s.Absent["gc_cpu_seconds_per_second"])
	assert.Len(t, runtimeFigures, len(s.Series)+len(s.Absent), "each figure is there, or the reason is")
}

// A worker may answer the first reading at once and the next one late: the reader's second is not what it was busy of.
func TestNoWorkerIsBusyForLongerThanItLived(t *testing.T) {
	page := func(busy, elapsed float64) string {
		return fmt.Sprintf("lab_worker_busy_seconds_total{worker=\"1\"} %v\nlab_worker_elapsed_seconds_total{worker=\"1\"} %v", busy, elapsed)
	}
	began := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name          string
		before, after string
		share         float64
	}{
		{"busy all the time, and late", page(1, 10), page(2.25, 11.25), 1},
		{"half of it, and late", page(1, 10), page(1.75, 11.5), 0.5},
		{"told late of what it did before", page(1, 10), page(2.5, 11), 1},
		{"waiting", page(1, 10), page(1, 11), 0},
		{"begun anew", page(1, 10), page(0.25, 0.5), -1},
		{"without a clock", "lab_worker_busy_seconds_total{worker=\"1\"} 1", page(2, 11), -1},
	} {
		r := runtimeSampler{readings: readingsOf(t, []string{c.before, c.after}, began, began.Add(time.Second))}
		s := r.series("x", contender.Arm{Language: "node"}, began)
		for _, name := range []string{"worker_busy_share", "busiest_worker_busy_share"} {
			if c.share < 0 {
				assert.Equal(t, "its /metrics do not tell lab_worker_busy_seconds_total with lab_worker_elapsed_seconds_total", s.Absent[name], c.name)
			} else if assert.Len(t, s.Series[name], 1, c.name) {
				assert.InDelta(t, c.share, *s.Series[name][0], 1e-12, c.name)
			}
		}
	}
}

// Beyond a histogram's last bound nobody knows how much it was.
func TestAQuantileBeyondTheLastBoundIsNotTold(t *testing.T) {
	r := readingsOf(t, []string{"h_bucket{le=\"1\"} 0\nh_bucket{le=\"+Inf\"} 0", "h_bucket{le=\"1\"} 9\nh_bucket{le=\"+Inf\"} 10"}, time.Time{}, time.Time{})
	i := interval{r[0].samples, r[1].samples, 1}
	v, ok := i.quantile("h", 0.9)
	assert.True(t, ok)
	assert.InDelta(t, 1, v, 0)
	v, _ = i.quantile("h", 0.99)
	assert.Greater(t, v, 1e300)
	_, ok = interval{r[1].samples, r[1].samples, 1}.quantile("h", 0.5)
	assert.False(t, ok, "nothing was added")
}

// metricsOf is a contender of which nothing but its metrics is asked.
type metricsOf struct {
	engine.Contender
	url string
}

func (m metricsOf) MetricsURL() string { return m.url }

func TestRuntimeFiguresAreReadEachSecond(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "lab_request_seconds_count %d\n", asked.Add(1))
	}))
	defer s.Close()
	r := newRuntimeSampler(t.Context(), metricsOf{url: s.URL})
	r.start(t.Context())
	for asked.Load() < 3 { // the test's own time is the limit
		time.Sleep(10 * time.Millisecond)
	}
	r.end()
	n := asked.Load()
	r.last(t.Context())
	assert.Equal(t, n+1, asked.Load(), "nothing is read between end and last")
	series := r.series("x", contender.Arm{}, time.Now())
	require.NotNil(t, series)
	assert.Len(t, series.Series["requests_per_second"], len(r.readings)-1)

	r = newRuntimeSampler(t.Context(), metricsOf{url: s.URL + "/\x7f"})
	r.start(t.Context())
	r.end()
	r.last(t.Context())
	assert.Nil(t, r.series("x", contender.Arm{}, time.Now()), "who tells nothing has no series")
	assert.Nil(t, r.poolWait())
}

// The names of series carry their units, and no figure has two.
func TestRuntimeFiguresNameTheirUnits(t *testing.T) {
	seen := map[string]bool{}
	units := []string{"_seconds", "_per_second", "_share", "_bytes", "_connections", "_tasks", "_mean", "goroutines", "tasks"}
	for _, f := range runtimeFigures {
		assert.False(t, seen[f.name], f.name)
		seen[f.name] = true
		assert.True(t, slices.ContainsFunc(units, func(u string) bool { return strings.HasSuffix(f.name, u) }), f.name)
		for _, language := range slices.Sorted(maps.Keys(f.without)) {
			assert.Contains(t, []string{"go", "node", "rust"}, language, f.name)
			assert.NotEmpty(t, f.without[language], f.name)
		}
	}
}
