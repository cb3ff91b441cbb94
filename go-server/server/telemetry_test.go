package server

import (
	"math"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// written gives the samples of a collector by name and, where it has one, by its label's value.
func written(t *testing.T, c prometheus.Collector) map[string]*dto.Metric {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	families, err := registry.Gather()
	require.NoError(t, err)
	out := map[string]*dto.Metric{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[name] = m
		}
	}
	return out
}

func TestRuntimeMetrics(t *testing.T) {
	collector := &runtimeCollector{}
	before := written(t, collector)
	runtime.GC()
	runtime.GC()
	after := written(t, collector)
	assert.GreaterOrEqual(t, after["lab_gc_pause_seconds"].GetSummary().GetSampleCount(), before["lab_gc_pause_seconds"].GetSummary().GetSampleCount()+2)
	assert.Greater(t, after["lab_gc_pause_seconds"].GetSummary().GetSampleSum(), before["lab_gc_pause_seconds"].GetSummary().GetSampleSum())
	assert.Greater(t, after["lab_gc_cpu_seconds_total"].GetCounter().GetValue(), before["lab_gc_cpu_seconds_total"].GetCounter().GetValue())
	longest := after["lab_gc_longest_pause_seconds"].GetGauge().GetValue()
	assert.Positive(t, longest)
	paused := after["lab_gc_pause_seconds"].GetSummary().GetSampleSum() - before["lab_gc_pause_seconds"].GetSummary().GetSampleSum()
	assert.Positive(t, paused)
	used, committed := after["lab_heap_used_bytes"].GetGauge().GetValue(), after["lab_heap_committed_bytes"].GetGauge().GetValue()
	assert.Positive(t, used)
	assert.GreaterOrEqual(t, committed, used)
}

// Hand-made: what the last reading had counts no more, and what is beyond the last bound is as long as that bound at least.
func TestLongestPauseIsSinceTheLastReading(t *testing.T) {
	c := &runtimeCollector{}
	read := func(counts ...uint64) float64 {
		return c.longestPause(&metrics.Float64Histogram{Buckets: []float64{0, 1e-5, 1e-4, 1e-3, math.Inf(1)}, Counts: counts})
	}
	assert.Zero(t, read(0, 0, 0, 0))
	assert.InDelta(t, 1e-3, read(3, 0, 1, 0), 0)
	assert.Zero(t, read(3, 0, 1, 0))
	assert.InDelta(t, 1e-4, read(4, 1, 1, 0), 0)
	assert.InDelta(t, 1e-3, read(4, 1, 1, 1), 0)
	assert.InDelta(t, 1e-5, read(5, 1, 1, 1), 0)
}

// What the runtime has in finer buckets, in ones below and in ones above stays counted.
func TestSchedulingDelaysKeepEveryCount(t *testing.T) {
	var got dto.Metric
	h := &metrics.Float64Histogram{Buckets: []float64{math.Inf(-1), 0, 5e-7, 1e-6, 2e-6, 8, 16, math.Inf(1)}, Counts: []uint64{0, 1, 2, 4, 8, 16, 32}}
	require.NoError(t, schedulingDelays(h).Write(&got))
	assert.EqualValues(t, 63, got.GetHistogram().GetSampleCount())
	cumulative := map[float64]uint64{}
	for _, b := range got.GetHistogram().GetBucket() {
		cumulative[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	assert.Equal(t, map[float64]uint64{1e-6: 3, 2e-6: 7, 8: 15}, cumulative)
	assert.InDelta(t, 2*5e-7+4*1e-6+8*2e-6+16*8+32*16, got.GetHistogram().GetSampleSum(), 1e-9)
}

func TestDocumentLookups(t *testing.T) {
	c := newDocumentCache(2)
	assert.Nil(t, c.get("a"))
	c.add("a", &document{})
	assert.NotNil(t, c.get("a"))
	assert.NotNil(t, c.get("a"))
	got := written(t, lookupCollector{c})
	assert.InDelta(t, 2, got["lab_document_lookups_total hit"].GetCounter().GetValue(), 0)
	assert.InDelta(t, 1, got["lab_document_lookups_total miss"].GetCounter().GetValue(), 0)
}
