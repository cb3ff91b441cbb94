package agent

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// By hand: steps of 10 ms of a job of 30 ms; a request that is over later adds steps.
func TestOutcomesByWhenRequestsWereOver(t *testing.T) {
	assert.Nil(t, newOutcomes(Job{Duration: time.Second}))
	const ms = time.Millisecond
	o := newOutcomes(Job{Duration: 30 * ms, OutcomeStep: 10 * ms})
	o.count(0, 0, Failed{})
	o.count(9*ms, 0, Failed{Reset: 1})
	o.count(10*ms, 0, Failed{WrongAnswer: 1})
	o.count(55*ms, 0, Failed{})
	assert.Equal(t, []Outcome{
		{OK: 1, FailedBy: Failed{Reset: 1}}, {FailedBy: Failed{WrongAnswer: 1}}, {}, {}, {}, {OK: 1},
	}, o.steps)
	mixed := newOutcomes(Job{Duration: 20 * ms, OutcomeStep: 10 * ms, Operations: make([]Operation, 2)})
	mixed.count(0, 1, Failed{})
	mixed.count(0, 0, Failed{Reset: 1})
	mixed.count(5*ms, 1, Failed{})
	assert.Equal(t, []Outcome{{OK: 2, FailedBy: Failed{Reset: 1}, OKOf: []uint64{0, 2}}, {}}, mixed.steps)
	job := Job{URL: "http://127.0.0.1:1/", Duration: time.Second, Timeout: time.Second, MaxInFlight: 1, Closed: true, OutcomeStep: time.Nanosecond}
	require.ErrorContains(t, job.Check(), "outcome_step_ns 1: expected 0, or at most 100000 steps")
}

// Every request of an attack is in exactly one step, as what it was.
func TestAnAttacksOutcomesAddUp(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"data":{}}`))
	}))
	t.Cleanup(s.Close)
	r, err := Attack(t.Context(), Job{
		URL: s.URL, Body: "{}", RPS: 300, Duration: 1500 * time.Millisecond, Arrival: Poisson, Seed: 1, MaxInFlight: 64, Timeout: 5 * time.Second, OutcomeStep: 10 * time.Millisecond,
	}, nil)
	require.NoError(t, err)
	var all Outcome
	for _, o := range r.Outcomes {
		all.OK += o.OK
		all.FailedBy.add(o.FailedBy)
	}
	assert.Equal(t, Outcome{OK: r.OK, FailedBy: r.FailedBy}, all)
	assert.Positive(t, r.OK)
	assert.Positive(t, r.FailedBy.Status)
	assert.GreaterOrEqual(t, len(r.Outcomes), 150)
}
