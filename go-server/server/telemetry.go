package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/vektah/gqlparser/v2/ast"
)

type (
	counter  = prometheus.Counter
	observer = prometheus.Observer
)

// Metrics are what /metrics tells.
type Metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.CounterVec
	requestsOK counter
	seconds    prometheus.Histogram
	statements *prometheus.CounterVec
	batchKeys  struct {
		items, categories, users, areas, genres, reviewStats observer
		itemsByCategory, reviewsByItem, reviewsByUser        observer
	}
}

// NewMetrics makes the metrics that need no application; the others are added by watch.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lab_requests_total", Help: "Requests to /graphql by the code of their first error, or OK.",
		}, []string{"code"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lab_request_seconds", Help: "Time from a request's head to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		statements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lab_statements_total", Help: "Statements sent, by the stem of their file.",
		}, []string{"statement"}),
	}
	m.requestsOK = m.requests.WithLabelValues(codeOK)
	keys := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "lab_loader_batch_keys", Help: "Keys in one statement of a loader.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 12),
	}, []string{"loader"})
	b := &m.batchKeys
	b.items = keys.WithLabelValues("items_by_ids")
	b.categories = keys.WithLabelValues("categories_by_ids")
	b.users = keys.WithLabelValues("users_by_ids")
	b.areas = keys.WithLabelValues("areas_by_ids")
	b.genres = keys.WithLabelValues("genres_by_ids")
	b.reviewStats = keys.WithLabelValues("review_stats_by_item_ids")
	b.itemsByCategory = keys.WithLabelValues("items_by_category_ids")
	b.reviewsByItem = keys.WithLabelValues("reviews_by_item_ids")
	b.reviewsByUser = keys.WithLabelValues("reviews_by_user_ids")
	m.registry.MustRegister(m.requests, m.seconds, m.statements, keys,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		// Not all of the runtime's: its histograms by size have so many buckets that a reading each second would show in the
		// CPU of a request.
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/(cycles/|heap/(live|goal):|gogc:|gomemlimit:)`)},
			collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/sched/(gomaxprocs|goroutines):`)})))
	return m
}

func (m *Metrics) statement(name string) counter { return m.statements.WithLabelValues(name) }

// watch adds what is read from the application at each scrape.
func (m *Metrics) watch(store *Store, master *Master, documents *documentCache) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lab_documents_cached", Help: "Parsed and validated documents kept.",
		}, func() float64 { return float64(documents.len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lab_master_text_bytes", Help: "Master data in bulk that is kept in memory.",
		}, func() float64 { return float64(master.textBytes()) }),
		poolCollector{store}, lookupCollector{documents}, &runtimeCollector{})
}

func (m *Metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{DisableCompression: true})
}

// finished counts an answered request.
func (m *Metrics) finished(code string, elapsed time.Duration) {
	if code == codeOK {
		m.requestsOK.Inc()
	} else {
		m.requests.WithLabelValues(code).Inc()
	}
	m.seconds.Observe(elapsed.Seconds())
}

// poolCollector reads the pools' own counts, so that a request pays nothing for them.
type poolCollector struct{ store *Store }

var (
	poolConnections = prometheus.NewDesc("lab_pool_connections", "Connections of the pool.", []string{"address", "state"}, nil)
	poolWait        = prometheus.NewDesc("lab_pool_wait_seconds", "Time spent waiting for a connection: the sum, and how often one was asked for.", []string{"address"}, nil)
)

// Describe is of prometheus.Collector.
func (c poolCollector) Describe(to chan<- *prometheus.Desc) {
	to <- poolConnections
	to <- poolWait
}

// Collect is of prometheus.Collector.
func (c poolCollector) Collect(to chan<- prometheus.Metric) {
	for _, d := range c.store.databases() {
		s := d.pool.Stat()
		to <- prometheus.MustNewConstMetric(poolConnections, prometheus.GaugeValue, float64(s.AcquiredConns()), d.name, "in_use")
		to <- prometheus.MustNewConstMetric(poolConnections, prometheus.GaugeValue, float64(s.IdleConns()), d.name, "idle")
		to <- prometheus.MustNewConstSummary(poolWait, uint64(s.AcquireCount()), s.EmptyAcquireWaitTime().Seconds(), nil, d.name)
	}
}

// lookupCollector reads the cache's own counts.
type lookupCollector struct{ documents *documentCache }

var documentLookups = prometheus.NewDesc("lab_document_lookups_total", "Requests that asked the cache of documents, by whether theirs was there.", []string{"result"}, nil)

// Describe is of prometheus.Collector.
func (c lookupCollector) Describe(to chan<- *prometheus.Desc) { to <- documentLookups }

// Collect is of prometheus.Collector.
func (c lookupCollector) Collect(to chan<- prometheus.Metric) {
	hits, misses := c.documents.lookups()
	to <- prometheus.MustNewConstMetric(documentLookups, prometheus.CounterValue, float64(hits), "hit")
	to <- prometheus.MustNewConstMetric(documentLookups, prometheus.CounterValue, float64(misses), "miss")
}

// runtimeCollector reads from Go's runtime what the contract has a name for, none of which stops the world. The rest is
// under client_golang's own names.
type runtimeCollector struct {
	mu sync.Mutex
	// pauses are the counts of the runtime's histogram of pauses at the last reading.
	pauses []uint64
}

var (
	gcPause         = prometheus.NewDesc("lab_gc_pause_seconds", "Time in which the garbage collector had stopped all goroutines: the sum, and in how many collections.", nil, nil)
	gcLongestPause  = prometheus.NewDesc("lab_gc_longest_pause_seconds", "The longest time since the last reading in which the garbage collector had stopped all goroutines, to the end of the runtime's bucket.", nil, nil)
	gcCPU           = prometheus.NewDesc("lab_gc_cpu_seconds_total", "CPU time of the garbage collector, brought up to date by each collection.", nil, nil)
	schedulingDelay = prometheus.NewDesc("lab_scheduling_delay_seconds", "Time that a goroutine could run and had no thread, of every eighth.", nil, nil)
	heapUsed        = prometheus.NewDesc("lab_heap_used_bytes", "Heap in use, with what is not collected yet.", nil, nil)
	heapCommitted   = prometheus.NewDesc("lab_heap_committed_bytes", "Heap that the system has given and not been given back.", nil, nil)
)

// Describe is of prometheus.Collector.
func (*runtimeCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{gcPause, gcLongestPause, gcCPU, schedulingDelay, heapUsed, heapCommitted} {
		to <- d
	}
}

// Collect is of prometheus.Collector.
func (c *runtimeCollector) Collect(to chan<- prometheus.Metric) {
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	to <- prometheus.MustNewConstSummary(gcPause, uint64(gc.NumGC), gc.PauseTotal.Seconds(), nil)
	samples := []metrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/sched/latencies:seconds"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/sched/pauses/total/gc:seconds"},
	}
	metrics.Read(samples)
	if longest := c.longestPause(samples[5].Value.Float64Histogram()); longest > 0 {
		to <- prometheus.MustNewConstMetric(gcLongestPause, prometheus.GaugeValue, longest)
	}
	to <- prometheus.MustNewConstMetric(gcCPU, prometheus.CounterValue, samples[0].Value.Float64())
	to <- schedulingDelays(samples[1].Value.Float64Histogram())
	used := samples[2].Value.Uint64()
	to <- prometheus.MustNewConstMetric(heapUsed, prometheus.GaugeValue, float64(used))
	to <- prometheus.MustNewConstMetric(heapCommitted, prometheus.GaugeValue, float64(used+samples[3].Value.Uint64()+samples[4].Value.Uint64()))
}

// longestPause is the upper end of the highest bucket that something was added to since the last reading; 0: nothing was.
func (c *runtimeCollector) longestPause(h *metrics.Float64Histogram) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.pauses
	c.pauses = h.Counts
	for i := len(h.Counts) - 1; i >= 0; i-- {
		if i < len(before) && h.Counts[i] == before[i] || h.Counts[i] == 0 {
			continue
		}
		if upper := h.Buckets[i+1]; !math.IsInf(upper, 1) {
			return upper
		}
		return h.Buckets[i]
	}
	return 0
}

// The bounds of lab_scheduling_delay_seconds are those of the runtime between these, four in each doubling; client_golang's
// own histogram of it has one in each power of ten. The runtime keeps no sum, so it is made of the buckets' lower ends.
const leastDelay, mostDelay = 1e-6, 10

func schedulingDelays(h *metrics.Float64Histogram) prometheus.Metric {
	buckets := map[float64]uint64{}
	count, sum := uint64(0), 0.0
	for i, n := range h.Counts {
		count += n
		sum += float64(n) * max(0, h.Buckets[i])
		if upper := h.Buckets[i+1]; upper >= leastDelay && upper <= mostDelay {
			buckets[upper] = count
		}
	}
	return prometheus.MustNewConstHistogram(schedulingDelay, count, sum, buckets)
}

// request is what one request carries along.
type request struct {
	ctx       context.Context
	app       *App
	loaders   *Loaders
	operation *graphql.OperationContext
	timing    *timing // nil unless asked for

	failure     sync.Once
	unavailable atomic.Bool
	late        atomic.Bool // as the database says; else its context does
}

type requestKey struct{}

// requestOf gives the request that ctx belongs to, or nil.
func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// fail notes a cause that the client must not see.
func (r *request) fail(err error, path ast.Path) {
	if isUnavailable(err) {
		r.unavailable.Store(true)
	}
	if errors.Is(err, errCanceled) {
		r.late.Store(true)
	}
	if r.ctx.Err() != nil {
		return // ended by its deadline or by its client: there is nothing to look into
	}
	r.failure.Do(func() { r.app.failures.log(r.app.log, "field failed", "path", path.String(), "error", err.Error()) })
}

// timing measures the phases of one request that asked for them.
type timing struct {
	begun, marked              time.Time
	parse, validate, serialize time.Duration
	execute                    time.Duration // with the waits in it
	mu                         sync.Mutex
	statements, calls          int // in flight
	turned                     time.Time
	database                   time.Duration // at least one statement in flight
	upstream                   time.Duration // a call of the price service in flight, and no statement
}

// turn books the time since the last turn to what was waited for, and counts what begins or ends now.
func (r *request) turn(statements, calls int) {
	if r == nil || r.timing == nil {
		return
	}
	t := r.timing
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case t.statements > 0:
		t.database += now.Sub(t.turned)
	case t.calls > 0:
		t.upstream += now.Sub(t.turned)
	}
	t.turned = now
	t.statements += statements
	t.calls += calls
}

// statementBegins and statementEnds surround a statement's time on its connection, callBegins and callEnds a call of the
// price service.
func (r *request) statementBegins() { r.turn(1, 0) }
func (r *request) statementEnds()   { r.turn(-1, 0) }
func (r *request) callBegins()      { r.turn(0, 1) }
func (r *request) callEnds()        { r.turn(0, -1) }

// mark books the time since the last mark under a phase, so that none lies between two phases. It does nothing for a
// request that did not ask.
func (t *timing) mark(phase func(*timing) *time.Duration) {
	if t == nil {
		return
	}
	now := time.Now()
	*phase(t) += now.Sub(t.marked)
	t.marked = now
}

func phaseParse(t *timing) *time.Duration     { return &t.parse }
func phaseValidate(t *timing) *time.Duration  { return &t.validate }
func phaseExecute(t *timing) *time.Duration   { return &t.execute }
func phaseSerialize(t *timing) *time.Duration { return &t.serialize }

// header is the value of Server-Timing: disjoint phases in milliseconds, and the total. The phase upstream is there only if
// the price service was waited for.
func (t *timing) header() string {
	ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	t.mu.Lock()
	defer t.mu.Unlock()
	upstream := ""
	if t.upstream > 0 {
		upstream = fmt.Sprintf("upstream;dur=%.3f, ", ms(t.upstream))
	}
	return fmt.Sprintf("parse;dur=%.3f, validate;dur=%.3f, execute;dur=%.3f, db;dur=%.3f, %sserialize;dur=%.3f, total;dur=%.3f",
		ms(t.parse), ms(t.validate), ms(max(0, t.execute-t.database-t.upstream)), ms(t.database), upstream, ms(t.serialize), ms(t.marked.Sub(t.begun)))
}
