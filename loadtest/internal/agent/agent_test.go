package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

func job(url string) Job {
	return Job{URL: url, Body: `{"query":"{a}"}`, RPS: 400, Duration: 500 * time.Millisecond, Arrival: Poisson, Seed: 1, MaxInFlight: 64, Timeout: time.Second}
}

func TestScheduleIsTheSameForTheSameSeed(t *testing.T) {
	for _, arrival := range []Arrival{Poisson, Constant} {
		a, err := NewSchedule(arrival, 1000, 7)
		require.NoError(t, err)
		b, err := NewSchedule(arrival, 1000, 7)
		require.NoError(t, err)
		last := time.Duration(-1)
		for k := range uint64(5000) {
			require.Equal(t, a.At(k), b.At(k))
			require.GreaterOrEqual(t, a.At(k), last)
			last = a.At(k)
		}
	}
	n, err := CountWithin(Constant, 1000, 7, time.Second)
	require.NoError(t, err)
	assert.EqualValues(t, 1000, n)
	// A Poisson count of mean 10,000 has a standard deviation of 100.
	n, err = CountWithin(Poisson, 1000, 7, 10*time.Second)
	require.NoError(t, err)
	assert.InDelta(t, 10000, float64(n), 500)
}

// Every kind of failure is counted as itself, and the counts add up.
func TestFailuresAreCountedByKind(t *testing.T) {
	var n atomic.Int64
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	compare := func(expected, got []byte) error {
		if bytes.Equal(expected, got) {
			return nil
		}
		return errors.New("another answer")
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		kind    func(Failed) uint64
	}{
		"ok":           {answer(200, `{"data":1}`), nil},
		"wrong answer": {answer(200, `{"data":2}`), func(f Failed) uint64 { return f.WrongAnswer }},
		"not JSON":     {answer(200, `<html>`), func(f Failed) uint64 { return f.WrongAnswer }},
		"errors":       {answer(200, `{"errors":[{"message":"no"}]}`), func(f Failed) uint64 { return f.GraphQLErrors }},
		"status":       {answer(503, `{}`), func(f Failed) uint64 { return f.Status }},
		"redirect":     {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, func(f Failed) uint64 { return f.Status }},
		"body cut short": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
			panic(http.ErrAbortHandler)
		}, func(f Failed) uint64 { return f.Reset }},
		"timeout": {func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, func(f Failed) uint64 { return f.Timeout }},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(c.handler)
			defer s.Close()
			j := job(s.URL)
			j.Expected = `{"data":1}`
			if name == "timeout" {
				j.Timeout = 50 * time.Millisecond
			}
			r, err := Attack(t.Context(), j, compare)
			require.NoError(t, err)
			require.Positive(t, r.Sent)
			assert.Equal(t, r.Offered, r.Sent+r.Unsent)
			assert.Equal(t, r.Sent, r.OK+r.FailedBy.Total())
			assert.EqualValues(t, r.Sent, r.Response().TotalCount(), "every request sent is in the histogram")
			if c.kind == nil {
				assert.Equal(t, r.Sent, r.OK)
			} else {
				assert.Equal(t, r.Sent, c.kind(r.FailedBy), "%+v %s", r.FailedBy, r.FirstFailure)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		url := "http://" + l.Addr().String()
		require.NoError(t, l.Close())
		r, err := Attack(t.Context(), job(url), compare)
		require.NoError(t, err)
		assert.Equal(t, r.Sent, r.FailedBy.Refused)
	})
}

// A server that holds everything for a while must show in the tail even if the generator may have few requests under
// way: this is what a closed loop, and vegeta's own latency, leave out.
func TestStallShowsWithFewConnections(t *testing.T) {
	began := time.Now()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d := time.Until(began.Add(600 * time.Millisecond)); d > 0 {
			time.Sleep(d)
		}
	}))
	defer s.Close()
	j := job(s.URL)
	j.MaxInFlight, j.Duration, j.RPS, j.Arrival, j.Timeout = 2, time.Second, 200, Constant, 5*time.Second
	began = time.Now()
	r, err := Attack(t.Context(), j, nil)
	require.NoError(t, err)
	// The 120 requests intended in the first 0.6 s of 200 in all waited on average 0.3 s: half of the whole waited
	// longer than 50 ms, while only two saw a slow answer.
	assert.Greater(t, r.Response().ValueAtQuantile(50), int64(50*time.Millisecond))
	assert.Less(t, r.Service.ValueAtQuantile(50), int64(50*time.Millisecond))
}

func TestResultSurvivesItsWayThroughJSON(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"data":1}`) }))
	defer s.Close()
	in, err := json.Marshal(job(s.URL))
	require.NoError(t, err)
	var out, errs bytes.Buffer
	require.Zero(t, Main(t.Context(), bytes.NewReader(in), &out, &errs, nil), errs.String())
	var r Result
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	assert.EqualValues(t, r.Sent, r.Response().TotalCount())
	assert.Positive(t, r.CPUSeconds)
}

func TestBadJobsAreNamed(t *testing.T) {
	for name, c := range map[string]struct{ in, says string }{
		"no JSON":       {"x", "job"},
		"unknown field": {`{"urll":""}`, "urll"},
		"bad url":       {`{"url":"ftp://x"}`, "url"},
		"no rate":       {`{"url":"http://h/","duration_ns":1,"timeout_ns":1,"max_in_flight":1,"arrival":"poisson"}`, "rate"},
		"bad arrival":   {`{"url":"http://h/","duration_ns":1,"timeout_ns":1,"max_in_flight":1,"arrival":"weibull","rps":1}`, "weibull"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			assert.Equal(t, 2, Main(context.Background(), bytes.NewBufferString(c.in), &out, &errs, nil))
			assert.Contains(t, errs.String(), c.says)
			assert.Empty(t, out.String())
		})
	}
}

func TestDamagedHistogramIsRefused(t *testing.T) {
	var h Histogram
	for _, bad := range []string{`1`, `""`, `"####"`, `"SElTVEZBQUFBQUFBQUFBQUFBQUE="`} {
		assert.Error(t, h.UnmarshalJSON([]byte(bad)), bad)
	}
}

func TestClosedLoopKeepsItsClientsBusy(t *testing.T) {
	var now, most atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
		_, _ = io.WriteString(w, `{"data":1}`)
	}))
	defer s.Close()
	j := job(s.URL)
	j.Closed, j.MaxInFlight, j.RPS = true, 8, 0
	r, err := Attack(t.Context(), j, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 8, most.Load())
	assert.Equal(t, r.Sent, r.OK)
	assert.Equal(t, r.Offered, r.Sent)
	assert.Greater(t, r.Sent, uint64(8))
	assert.EqualValues(t, r.Sent, r.Response().TotalCount())
}

// The hits in vegeta's format carry the corrected latency: its own report of them must show the stall that vegeta's own
// latency leaves out.
func TestVegetaReadsCorrectedHits(t *testing.T) {
	began := time.Now()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if d := time.Until(began.Add(400 * time.Millisecond)); d > 0 {
			time.Sleep(d)
		}
	}))
	defer s.Close()
	j := job(s.URL)
	j.MaxInFlight, j.Duration, j.RPS, j.Arrival, j.Timeout = 2, time.Second, 200, Constant, 5*time.Second
	var file bytes.Buffer
	watch, failed := VegetaResults(&file, "stall")
	began = time.Now()
	r, err := AttackWatched(t.Context(), j, func(_, _ []byte) error { return nil }, watch)
	require.NoError(t, err)
	require.NoError(t, failed())
	var metrics vegeta.Metrics
	decode := vegeta.DecoderFor(&file)
	last := time.Time{}
	for {
		var hit vegeta.Result
		if err := decode(&hit); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		metrics.Add(&hit)
		if hit.Timestamp.After(last) {
			last = hit.Timestamp
		}
	}
	metrics.Close()
	assert.Equal(t, r.Sent, metrics.Requests)
	assert.InEpsilon(t, float64(r.Response().ValueAtQuantile(90)), float64(metrics.Latencies.P90), 0.05)
	assert.Greater(t, metrics.Latencies.P90, 200*time.Millisecond)
	assert.WithinDuration(t, r.Began.Add(time.Second-5*time.Millisecond), last, 2*time.Millisecond, "the timestamp is the intended send")
}
