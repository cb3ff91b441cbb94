package server

import (
	"context"
	"fmt"
	"net/http"
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
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.MetricsGC, collectors.MetricsScheduler, collectors.MetricsMemory)))
	return m
}

func (m *Metrics) statement(name string) counter { return m.statements.WithLabelValues(name) }

// watch adds what is read from the application at each scrape.
func (m *Metrics) watch(store *Store, documents *documentCache) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lab_documents_cached", Help: "Parsed and validated documents kept.",
		}, func() float64 { return float64(documents.len()) }),
		poolCollector{store})
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

// request is what one request carries along.
type request struct {
	ctx       context.Context
	app       *App
	loaders   *Loaders
	operation *graphql.OperationContext
	timing    *timing // nil unless asked for

	failure     sync.Once
	unavailable atomic.Bool
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
	if r.ctx.Err() != nil {
		return // ended by its deadline or by its client: there is nothing to look into
	}
	r.failure.Do(func() { r.app.failures.log(r.app.log, "field failed", "path", path.String(), "error", err.Error()) })
}

// timing measures the phases of one request that asked for them.
type timing struct {
	begun, marked              time.Time
	parse, validate, serialize time.Duration
	execute                    time.Duration // with database in it
	mu                         sync.Mutex
	inFlight                   int
	since                      time.Time
	database                   time.Duration // at least one statement in flight
}

// statementBegins and statementEnds surround a statement's time on its connection.
func (r *request) statementBegins() {
	if r == nil || r.timing == nil {
		return
	}
	t := r.timing
	t.mu.Lock()
	if t.inFlight == 0 {
		t.since = time.Now()
	}
	t.inFlight++
	t.mu.Unlock()
}

func (r *request) statementEnds() {
	if r == nil || r.timing == nil {
		return
	}
	t := r.timing
	t.mu.Lock()
	t.inFlight--
	if t.inFlight == 0 {
		t.database += time.Since(t.since)
	}
	t.mu.Unlock()
}

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

// header is the value of Server-Timing: disjoint phases in milliseconds, and the total.
func (t *timing) header() string {
	ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("parse;dur=%.3f, validate;dur=%.3f, execute;dur=%.3f, db;dur=%.3f, serialize;dur=%.3f, total;dur=%.3f",
		ms(t.parse), ms(t.validate), ms(max(0, t.execute-t.database)), ms(t.database), ms(t.serialize), ms(t.marked.Sub(t.begun)))
}
