package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

func job(url string) Job {
	return Job{URL: url, Body: `{"query":"{a}"}`, RPS: 400, Duration: 500 * time.Millisecond, Arrival: Poisson, Seed: 1, MaxInFlight: 64, Timeout: 30 * time.Second}
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

// holds has a server that answers nobody until so long after its first request, however late that one came.
func holds(d time.Duration) http.Handler {
	var first sync.Once
	var until time.Time
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		first.Do(func() { until = time.Now().Add(d) })
		time.Sleep(time.Until(until))
	})
}

// A server that holds everything for a while must show in the tail even if the generator may have few requests under
// way: this is what a closed loop, and vegeta's own latency, leave out.
func TestStallShowsWithFewConnections(t *testing.T) {
	s := httptest.NewServer(holds(600 * time.Millisecond))
	defer s.Close()
	j := job(s.URL)
	j.MaxInFlight, j.Duration, j.RPS, j.Arrival = 2, time.Second, 200, Constant
	r, err := Attack(t.Context(), j, nil)
	require.NoError(t, err)
	// The 120 requests intended in the first 0.6 s of 200 in all waited on average 0.3 s: half of the whole waited
	// longer than 50 ms, while only two saw a slow answer.
	assert.Greater(t, r.Response().ValueAtQuantile(50), int64(50*time.Millisecond))
	assert.Less(t, r.Service().ValueAtQuantile(50), int64(50*time.Millisecond))
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
	assert.EqualValues(t, r.Sent, r.Service().TotalCount())
	assert.EqualValues(t, r.Sent, r.SendLag().TotalCount())
	assert.Positive(t, r.CPUSeconds)
}

// Whatever sends, the server gets the same request: own headers, another host, a password in the URL, a head of which
// nothing can be prepared.
func TestRequestsAreTheSameWhateverSends(t *testing.T) {
	many := map[string]string{"Expect": "100-continue"}
	for i := range 20 {
		many[fmt.Sprintf("X-%d", i)] = "y"
	}
	for name, header := range map[string]map[string]string{
		"plain": nil, "own": {"X-Own": "yes", "Accept": "application/json", "Host": "example.org"}, "many": many, "own password": {"Authorization": "Bearer x"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]http.Header{}
			var now atomic.Value
			var mu sync.Mutex
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				h := r.Header.Clone()
				h.Del(seqHeader) // vegeta adds it, and net/http's transport sends it
				h.Del("Accept-Encoding")
				h.Set("Host", r.Host)
				h.Set("Body", string(body))
				h.Set("URL", r.URL.String())
				h.Set("Length", strconv.FormatInt(r.ContentLength, 10))
				mu.Lock()
				seen[now.Load().(string)] = h
				mu.Unlock()
				_, _ = io.WriteString(w, right)
			}))
			defer s.Close()
			for sender, client := range senders {
				now.Store(sender)
				j := job(strings.Replace(s.URL, "http://", "http://user:secret@", 1) + "/graphql?x=a%20b")
				j.Header, j.Duration = header, 20*time.Millisecond
				r, err := attack(t.Context(), j, sameBytes, nil, client)
				require.NoError(t, err)
				check(t, r)
				require.Equal(t, r.Sent, r.OK, r.FirstFailure)
			}
			assert.NotEmpty(t, seen["lab"].Get("Authorization"))
			assert.Equal(t, seen["stock"], seen["lab"])
		})
	}
}

// A request belongs to the second in which it was intended, in all three histograms, however late it was sent.
func TestSecondsAreThoseOfTheIntendedSend(t *testing.T) {
	s := httptest.NewServer(holds(1500 * time.Millisecond))
	defer s.Close()
	j := job(s.URL)
	j.MaxInFlight, j.Duration, j.RPS, j.Arrival = 1, 2*time.Second, 100, Constant
	var intended [2]int64
	r, err := AttackWatched(t.Context(), j, nil, func(h Hit) { intended[h.Intended/time.Second]++ })
	require.NoError(t, err)
	require.EqualValues(t, 200, r.Offered)
	require.Equal(t, r.Offered, r.Sent+r.Unsent)
	require.EqualValues(t, 100, intended[0], "the generator is late with what is intended before the end, and sends it")
	for name, series := range map[string]Series{"response": r.ResponseSeconds, "service": r.ServiceSeconds, "send lag": r.SendLagSeconds} {
		require.Len(t, series, 2, name)
		assert.Equal(t, intended[0], series[0].TotalCount(), name)
		assert.Equal(t, intended[1], series[1].TotalCount(), name)
	}
	// Of the first second one request was slow and all others late; response is lag and service together.
	half := func(h *Histogram) time.Duration { return time.Duration(h.ValueAtPercentile(50)) }
	assert.Greater(t, half(r.SendLagSeconds[0]), 500*time.Millisecond)
	assert.Greater(t, half(r.ResponseSeconds[0]), 500*time.Millisecond)
	assert.Less(t, half(r.ServiceSeconds[0]), 500*time.Millisecond)
	assert.Greater(t, time.Duration(r.ServiceSeconds[0].Max()), time.Second)
}

func TestOneProcessTakesOneJobAfterTheOther(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"data":1}`) }))
	defer s.Close()
	one, err := json.Marshal(job(s.URL))
	require.NoError(t, err)
	short := job(s.URL)
	short.Duration /= 2
	other, err := json.Marshal(short)
	require.NoError(t, err)
	var out, errs bytes.Buffer
	require.Zero(t, MainOfEach(t.Context(), io.MultiReader(bytes.NewReader(one), strings.NewReader("\n"), bytes.NewReader(other)), &out, &errs, nil), errs.String())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 2, "a result is one line")
	var sent []uint64
	for _, line := range lines {
		var r Result
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		assert.Positive(t, r.Sent)
		assert.Equal(t, r.Sent, r.OK, r.FirstFailure)
		assert.Positive(t, r.MemoryPeakBytes)
		sent = append(sent, r.Sent)
	}
	assert.Less(t, sent[1], sent[0])

	out.Reset()
	assert.Equal(t, 2, MainOfEach(t.Context(), strings.NewReader(string(one)+`{"url":"ftp://x"}`+string(other)), &out, &errs, nil))
	assert.Contains(t, errs.String(), "ftp")
	assert.Equal(t, 1, strings.Count(out.String(), "\n"), "the job after one that failed is not done")
	assert.Equal(t, 2, MainOfEach(t.Context(), strings.NewReader(`{"url":`), &out, &errs, nil), "half a job")
	assert.Zero(t, MainOfEach(t.Context(), strings.NewReader(""), &out, &errs, nil))
}

func TestBadJobsAreNamed(t *testing.T) {
	for name, c := range map[string]struct{ in, says string }{
		"no JSON":        {"x", "job"},
		"unknown field":  {`{"urll":""}`, "urll"},
		"bad url":        {`{"url":"ftp://x"}`, "url"},
		"no rate":        {`{"url":"http://h/","duration_ns":1,"timeout_ns":1,"max_in_flight":1,"arrival":"poisson"}`, "rate"},
		"bad processors": {`{"url":"http://h/","duration_ns":1,"timeout_ns":1,"max_in_flight":1,"arrival":"poisson","rps":1,"processors":-1}`, "processors -1"},
		"bad arrival":    {`{"url":"http://h/","duration_ns":1,"timeout_ns":1,"max_in_flight":1,"arrival":"weibull","rps":1}`, "weibull"},
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
	other, err := hdr.New(1, 1000, 2).Encode(hdr.V2CompressedEncodingCookieBase)
	require.NoError(t, err)
	var h Histogram
	for _, bad := range []string{`1`, `""`, `"####"`, `"SElTVEZBQUFBQUFBQUFBQUFBQUE="`, `"` + string(other) + `"`} {
		assert.Error(t, h.UnmarshalJSON([]byte(bad)), bad)
	}
}

// Whatever is decoded can be encoded again and is the same; nothing panics.
func FuzzHistogram(f *testing.F) {
	h := newHistogram()
	f.Add(mustEncode(f, h))
	for i := range 5000 {
		h.record(time.Duration(i*i) * time.Microsecond)
	}
	f.Add(mustEncode(f, h))
	f.Add([]byte(`"SElTVEZBQUFBQUFBQUFBQUFBQUE="`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var a, b Histogram
		if a.UnmarshalJSON(text) != nil {
			return
		}
		require.NoError(t, b.UnmarshalJSON(mustEncode(t, &a)))
		assert.Equal(t, a.TotalCount(), b.TotalCount())
		assert.Equal(t, a.Max(), b.Max())
		assert.Equal(t, a.TotalCount(), Series{&a}.Merge().TotalCount())
	})
}

func mustEncode(t testing.TB, h *Histogram) []byte {
	b, err := h.MarshalJSON()
	require.NoError(t, err)
	return b
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
	s := httptest.NewServer(holds(400 * time.Millisecond))
	defer s.Close()
	j := job(s.URL)
	j.MaxInFlight, j.Duration, j.RPS, j.Arrival = 2, time.Second, 200, Constant
	var file bytes.Buffer
	watch, failed := VegetaResults(&file, "stall")
	r, err := AttackWatched(t.Context(), j, func(_, _ []byte) error { return nil }, watch)
	require.NoError(t, err)
	require.NoError(t, failed())
	var metrics vegeta.Metrics
	decode := vegeta.DecoderFor(&file)
	for {
		var hit vegeta.Result
		if err := decode(&hit); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		metrics.Add(&hit)
		assert.WithinDuration(t, r.Began.Add(time.Duration(hit.Seq)*5*time.Millisecond), hit.Timestamp, time.Microsecond, "the timestamp is the intended send")
	}
	metrics.Close()
	assert.Equal(t, r.Sent, metrics.Requests)
	assert.InEpsilon(t, float64(r.Response().ValueAtQuantile(90)), float64(metrics.Latencies.P90), 0.05)
	assert.Greater(t, metrics.Latencies.P90, 200*time.Millisecond)
}

// The generator wakes no more often than its rest allows, sends all that is due, and nothing early.
func TestTheGeneratorRestsBetweenWakeUps(t *testing.T) {
	for rps, want := range map[float64]time.Duration{80: 5 * time.Microsecond, 800: 50 * time.Microsecond, 8000: 500 * time.Microsecond, 50_000: 500 * time.Microsecond} {
		assert.Equal(t, want, restOf(rps), "%v", rps)
	}
	schedule, err := NewSchedule(Constant, 20_000, 1)
	require.NoError(t, err)
	alarm, err := newAlarm()
	require.NoError(t, err)
	defer alarm.close()
	p := &pacer{schedule: schedule, duration: 100 * time.Millisecond, alarm: alarm, intended: map[uint64]time.Duration{}, rest: 500 * time.Microsecond}
	began, hits := time.Now(), uint64(0)
	for {
		_, stop := p.Pace(time.Since(began), hits)
		if stop {
			break
		}
		require.GreaterOrEqual(t, time.Since(p.began), p.intended[hits], "early")
		hits++
	}
	if hits != 2000 { // nor is anything sent long after the end
		assert.Greater(t, time.Since(p.began), p.duration+grace)
	}
	assert.LessOrEqual(t, p.wakes, 1+int(time.Since(p.began)/p.rest))
	assert.Positive(t, p.wakes)
}

// The other processors are taken when one was not enough twice in a row, not for a moment in which the machine was busy.
func TestOneBusyMomentTakesNoMoreProcessors(t *testing.T) {
	began := time.Now()
	g := gauge{at: began}
	var got []bool
	cpu := time.Duration(0)
	for i, used := range []time.Duration{100, 240, 100, 240, 240, 240} { // of 250 ms
		cpu += used * time.Millisecond
		got = append(got, g.full(began.Add(time.Duration(i+1)*gaugeEvery), cpu))
	}
	assert.Equal(t, []bool{false, false, false, false, true, true}, got)
}
