package trial

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/scrape"
)

// runtimeEvery is how often a contender's /metrics are read during a trial. The contender's part of a reading is on its own
// account: what it costs stands in docs/METHODOLOGY.md.
const runtimeEvery = time.Second

// reading is a contender's /metrics at a time.
type reading struct {
	at      time.Time
	samples scrape.Samples
}

// runtimeSampler reads them: before a trial's first counter, each second of it, and after its last one. The first and the
// last reading are on nobody's account.
type runtimeSampler struct {
	subject  engine.Contender
	readings []reading
	stop     context.CancelFunc
	done     sync.WaitGroup
}

func newRuntimeSampler(ctx context.Context, c engine.Contender) *runtimeSampler {
	r := &runtimeSampler{subject: c}
	r.read(ctx)
	return r
}

// read keeps a reading; one that fails is a gap, which the next one spans.
func (r *runtimeSampler) read(ctx context.Context) {
	samples, err := scrape.Get(ctx, r.subject.MetricsURL())
	if err == nil {
		r.readings = append(r.readings, reading{time.Now(), samples})
	}
}

// start reads each second, where there was something to be read at all.
func (r *runtimeSampler) start(ctx context.Context) {
	ctx, r.stop = context.WithCancel(ctx)
	if len(r.readings) == 0 {
		return
	}
	r.done.Go(func() { each(ctx, runtimeEvery, func() { r.read(ctx) }) })
}

// end stops what start began; last takes the last reading.
func (r *runtimeSampler) end() {
	r.stop()
	r.done.Wait()
}

func (r *runtimeSampler) last(ctx context.Context) {
	if len(r.readings) > 0 {
		r.read(ctx)
	}
}

// poolWait is how long statements waited for a connection between the first reading and the last, all pools together; nil
// where the contender does not tell, or has begun anew.
func (r *runtimeSampler) poolWait() *time.Duration {
	if len(r.readings) < 2 {
		return nil
	}
	var waits [2]*time.Duration
	for i, samples := range []scrape.Samples{r.readings[0].samples, r.readings[len(r.readings)-1].samples} {
		if samples.Has(poolWaitMetric) {
			d := time.Duration(samples.Sum(poolWaitMetric) * float64(time.Second))
			waits[i] = &d
		}
	}
	return waited(waits[0], waits[1])
}

// series makes of the readings what is recorded; nil where there are none to compare.
func (r *runtimeSampler) series(id string, arm contender.Arm, began time.Time) *record.RuntimeSeries {
	if len(r.readings) < 2 {
		return nil
	}
	out := &record.RuntimeSeries{Trial: id, BeganNS: int64(r.readings[0].at.Sub(began)), Series: map[string][]*float64{}, Absent: map[string]string{}}
	for _, after := range r.readings[1:] {
		out.EndsNS = append(out.EndsNS, int64(after.at.Sub(began)))
	}
	all := intervalsOf(r.readings)
	for _, f := range runtimeFigures {
		values, told := f.in(all)
		switch why := f.without[arm.Language]; {
		case told:
			out.Series[f.name] = values
		case why != "":
			out.Absent[f.name] = why
		default:
			out.Absent[f.name] = "its /metrics do not tell " + f.metric
		}
	}
	out.Workers = ofWorkers(all)
	return out
}

// ofWorkers are the figures of each worker by its name; nil where there is one, whose figures are those of the whole.
func ofWorkers(all []interval) map[string]map[string][]*float64 {
	var names []string
	for _, i := range all {
		for _, name := range i.after.Values(workerBusy, workerLabel) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) < 2 {
		return nil
	}
	out := map[string]map[string][]*float64{}
	for _, name := range names {
		var own []interval
		for _, i := range all {
			own = append(own, interval{i.before.Carrying(workerLabel, name), i.after.Carrying(workerLabel, name), i.seconds})
		}
		out[name] = map[string][]*float64{}
		for _, f := range runtimeFigures {
			if values, told := f.in(own); told && !slices.Contains(overWorkers, f.name) {
				out[name][f.name] = values
			}
		}
	}
	return out
}

// interval is what lies between two readings.
type interval struct {
	before, after scrape.Samples
	seconds       float64
}

func intervalsOf(readings []reading) []interval {
	var out []interval
	for i, after := range readings[1:] {
		before := readings[i]
		out = append(out, interval{before.samples, after.samples, after.at.Sub(before.at).Seconds()})
	}
	return out
}

// grew is by how much the samples of a name, all labels together, have grown; not where there are none at the end, or where
// the contender has begun anew. What is missing at the beginning had not happened yet; of what is missing at the end, a
// worker that has gone, nothing is known.
func (i interval) grew(name string, labels ...string) (d float64, ok bool) {
	keys := i.after.Matching(name, labels...)
	slices.Sort(keys) // a map has no order, and a sum in another one is another number
	for _, key := range keys {
		grown := i.after[key] - i.before[key]
		if grown < 0 {
			return 0, false
		}
		d += grown
	}
	return d, len(keys) > 0
}

func (i interval) rate(name string, labels ...string) (float64, bool) {
	d, ok := i.grew(name, labels...)
	return d / i.seconds, ok
}

// mean is by how much a histogram's sum has grown over its count; not where it has counted nothing.
func (i interval) mean(name string) (float64, bool) {
	sum, ok := i.grew(name + "_sum")
	count, okCount := i.grew(name + "_count")
	return sum / count, ok && okCount && count > 0
}

// busyShares gives for each worker how much it was busy of the time that passed by its own clock: it answers some
// time after it was asked, and not always the same time after. It is never above 1, though tokio tells of a long task after its end.
func (i interval) busyShares() []float64 {
	var out []float64
	for _, key := range i.after.Matching(workerBusy) {
		clock := workerElapsed + strings.TrimPrefix(key, workerBusy)
		wasBusy, begun := i.before[key]
		had, hasClock := i.before[clock]
		busy, elapsed := i.after[key]-wasBusy, i.after[clock]-had
		if begun && hasClock && busy >= 0 && elapsed > 0 {
			out = append(out, min(1, busy/elapsed))
		}
	}
	slices.Sort(out) // a map has no order, and a sum in another one is another number
	return out
}

// quantile is the upper end of the bucket of a histogram that the quantile of what was added lies in.
func (i interval) quantile(name string, q float64) (float64, bool) {
	type bucket struct{ le, count float64 }
	counts := map[float64]float64{}
	for _, key := range i.after.Matching(name + "_bucket") {
		text, _ := scrape.Label(key, "le")
		le, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return 0, false
		}
		counts[le] += i.after[key] - i.before[key]
	}
	var buckets []bucket
	for le, count := range counts {
		buckets = append(buckets, bucket{le, count})
	}
	slices.SortFunc(buckets, func(a, b bucket) int {
		if a.le < b.le {
			return -1
		}
		return 1
	})
	if len(buckets) == 0 {
		return 0, false
	}
	all := buckets[len(buckets)-1].count
	if all <= 0 {
		return 0, false
	}
	for _, b := range buckets {
		if b.count >= q*all {
			return b.le, true // beyond the last bound it is infinite, and not told
		}
	}
	return 0, false
}

// runtimeFigure is one of the series: its name with its unit, the metric that tells it, and why a language has none.
type runtimeFigure struct {
	name, metric string
	of           func(interval) (float64, bool)
	without      map[string]string
}

// in is the figure of each interval, nil where one does not tell, and whether any does.
func (f runtimeFigure) in(all []interval) (values []*float64, told bool) {
	for _, i := range all {
		v, ok := f.of(i)
		if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
			values = append(values, nil)
			continue
		}
		told = true
		values = append(values, &v)
	}
	return values, told
}

const (
	workerBusy    = "lab_worker_busy_seconds_total"
	workerElapsed = "lab_worker_elapsed_seconds_total"
	workerLabel   = "worker"
)

// overWorkers are the figures that say something of several workers only.
var overWorkers = []string{"busiest_worker_busy_share"}

const (
	noCollector = "there is no garbage collector"
	// Its runtime::Builder::enable_metrics_schedule_latency_histogram is there only then (tokio 1.54).
	unbuiltLatency = "tokio measures only where it is built with tokio_unstable and its feature schedule-latency, which no arm is"
	noLoop         = "there is no event loop that one piece of work could hold up: see scheduling_delay_p99_seconds"
)

func rateOf(name, metric string, without map[string]string, labels ...string) runtimeFigure {
	return runtimeFigure{name, metric, func(i interval) (float64, bool) { return i.rate(metric, labels...) }, without}
}

// gaugeOf is what the reading at the interval's end tells.
func gaugeOf(name, metric string, without map[string]string, labels ...string) runtimeFigure {
	return runtimeFigure{name, metric, func(i interval) (float64, bool) {
		return i.after.Sum(metric, labels...), i.after.Has(metric, labels...)
	}, without}
}

// worstOf is the highest of all workers, in the reading at the interval's end, of what is since the reading before.
func worstOf(name, metric string, without map[string]string) runtimeFigure {
	return runtimeFigure{name, metric, func(i interval) (float64, bool) {
		most, ok := 0.0, false
		for _, key := range i.after.Matching(metric) {
			most, ok = max(most, i.after[key]), true
		}
		return most, ok
	}, without}
}

// longestPause is 0 where nothing was collected: it is not told then.
func longestPause() runtimeFigure {
	f := worstOf("gc_longest_pause_seconds", "lab_gc_longest_pause_seconds", map[string]string{"rust": noCollector})
	worst := f.of
	f.of = func(i interval) (float64, bool) {
		if v, ok := worst(i); ok {
			return v, true
		}
		pauses, ok := i.grew("lab_gc_pause_seconds_count")
		return 0, ok && pauses == 0
	}
	return f
}

// runtimeFigures are all series there are (docs/METHODOLOGY.md says what each is). A worker is what the arm's concurrency
// model says.
var runtimeFigures = slices.Concat([]runtimeFigure{
	rateOf("requests_per_second", "lab_request_seconds_count", nil),
	rateOf("cpu_seconds_per_second", "process_cpu_seconds_total", nil),
	{
		"worker_busy_share", workerBusy + " with " + workerElapsed,
		func(i interval) (float64, bool) {
			workers := i.busyShares()
			sum := 0.0
			for _, share := range workers {
				sum += share
			}
			return sum / float64(len(workers)), len(workers) > 0
		}, noBusyGo,
	},
	{
		"busiest_worker_busy_share", workerBusy + " with " + workerElapsed,
		func(i interval) (float64, bool) {
			workers := i.busyShares()
			if len(workers) == 0 {
				return 0, false
			}
			return workers[len(workers)-1], true
		}, noBusyGo,
	},
	{
		"scheduling_delay_p99_seconds", "lab_scheduling_delay_seconds",
		func(i interval) (float64, bool) { return i.quantile("lab_scheduling_delay_seconds", 0.99) },
		map[string]string{"node": "an event loop has no run queue that is measured: see event_loop_delay_p99_seconds", "rust": unbuiltLatency},
	},
	worstOf("event_loop_delay_p99_seconds", "lab_event_loop_delay_p99_seconds", map[string]string{"go": noLoop, "rust": "there is no event loop; how long a task waits for a worker " + unbuiltLatency}),
	longestPause(),
	rateOf("gc_pause_seconds_per_second", "lab_gc_pause_seconds_sum", map[string]string{"rust": noCollector}),
	rateOf("gc_pauses_per_second", "lab_gc_pause_seconds_count", map[string]string{"rust": noCollector}),
	rateOf("gc_cpu_seconds_per_second", "lab_gc_cpu_seconds_total", map[string]string{"rust": noCollector, "node": "V8 does not tell what its collecting threads use"}),
}, kindsOfGC(), []runtimeFigure{
	gaugeOf("heap_used_bytes", "lab_heap_used_bytes", map[string]string{"rust": "mimalloc does not count what is in use"}),
	gaugeOf("heap_committed_bytes", "lab_heap_committed_bytes", nil),
	gaugeOf("heap_goal_bytes", "go_gc_heap_goal_bytes", map[string]string{"rust": noCollector, "node": "V8 does not tell at which size it will collect"}),
	gaugeOf("goroutines", "go_goroutines", map[string]string{"rust": "there are none", "node": "there are none"}),
	gaugeOf("tasks", "tokio_alive_tasks", map[string]string{"go": "see goroutines", "node": "there are none"}),
	gaugeOf("global_queue_tasks", "tokio_global_queue_depth", map[string]string{"go": onlyTokio, "node": onlyTokio}),
	gaugeOf("local_queue_tasks", "tokio_worker_local_queue_depth", unstableTokio),
	rateOf("worker_parks_per_second", "tokio_worker_parks_total", map[string]string{"go": onlyTokio, "node": onlyTokio}),
	rateOf("worker_steals_per_second", "tokio_worker_steals_total", unstableTokio),
	rateOf("worker_polls_per_second", "tokio_worker_polls_total", unstableTokio),
	gaugeOf("pool_in_use_connections", "lab_pool_connections", nil, "state", "in_use"),
	rateOf("pool_wait_seconds_per_second", poolWaitMetric, nil),
	rateOf("statements_per_second", "lab_statements_total", nil),
	{"loader_batch_keys_mean", "lab_loader_batch_keys", func(i interval) (float64, bool) { return i.mean("lab_loader_batch_keys") }, nil},
	{"document_cache_hit_share", "lab_document_lookups_total", func(i interval) (float64, bool) {
		all, ok := i.grew("lab_document_lookups_total")
		hits, _ := i.grew("lab_document_lookups_total", "result", "hit")
		return hits / all, ok && all > 0
	}, nil},
	{"cache_hit_share", "lab_cache_lookups_total", func(i interval) (float64, bool) {
		all, ok := i.grew("lab_cache_lookups_total")
		hits, _ := i.grew("lab_cache_lookups_total", "result", "hit")
		return hits / all, ok && all > 0
	}, nil},
})

const onlyTokio = "only tokio tells it"

var (
	noBusyGo      = map[string]string{"go": "Go brings its workers' busy time up to date only when it has collected garbage: see cpu_seconds_per_second"}
	unstableTokio = map[string]string{"go": onlyTokio, "node": onlyTokio, "rust": "tokio counts it only where it is built for that: see the arms rust-steal-counts and rust-per-core"}
)

func kindsOfGC() []runtimeFigure {
	var out []runtimeFigure
	for _, kind := range []string{"minor", "major", "incremental", "weakcb"} {
		without := map[string]string{"rust": noCollector, "go": "Go's collector has one kind of collection"}
		out = append(out,
			rateOf(fmt.Sprintf("gc_%s_pause_seconds_per_second", kind), "lab_gc_pause_seconds_sum", without, "kind", kind),
			rateOf(fmt.Sprintf("gc_%s_pauses_per_second", kind), "lab_gc_pause_seconds_count", without, "kind", kind))
	}
	return out
}
