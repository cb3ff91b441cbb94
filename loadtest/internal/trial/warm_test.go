package trial

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/enginetest/played"
	"lab/loadtest/internal/record"
)

func TestDrift(t *testing.T) {
	for name, c := range map[string]struct {
		seen   []window
		enough bool
		drift  float64
	}{
		"too few":                              {[]window{{100, 10}, {100, 10}}, false, 0},
		"at rest":                              {[]window{{100, 10}, {100, 10}, {100, 10}}, true, 0},
		"the rate moves":                       {[]window{{90, 10}, {100, 10}, {110, 10}}, true, 0.2},
		"the cost moves":                       {[]window{{100, 12}, {100, 10}, {100, 8}}, true, 0.4},
		"the larger of the two":                {[]window{{95, 12}, {100, 10}, {105, 8}}, true, 0.4},
		"only the last count":                  {[]window{{1, 1000}, {100, 10}, {100, 10}, {100, 10}}, true, 0},
		"there and back is no rest":            {[]window{{100, 10}, {150, 10}, {100, 10}}, true, 50 / (350.0 / 3)},
		"no CPU time that the kernel has seen": {[]window{{100, 0}, {100, 0}, {100, 0}}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			drift, enough := drift(c.seen)
			assert.Equal(t, c.enough, enough)
			assert.InDelta(t, c.drift, drift, 1e-12)
		})
	}
}

func TestAWarmUpEndsWhenTheLastWindowsAgree(t *testing.T) {
	w := Warmth{Window: 500 * time.Millisecond, Most: 2 * time.Second}
	at := func(cpuUs ...float64) (seen []window) {
		for _, v := range cpuUs {
			seen = append(seen, window{100, v})
		}
		return seen
	}
	for name, c := range map[string]struct {
		seen []window
		want *record.Warm
	}{
		"two windows are too few":        {at(10, 10), nil},
		"at rest from the start":         {at(10, 10, 10), &record.Warm{Windows: 3, WindowNS: 5e8, Converged: true}},
		"within the tolerance":           {at(9.5, 10, 10.5), &record.Warm{Windows: 3, WindowNS: 5e8, Converged: true, Drift: 0.1}},
		"it still moves":                 {at(30, 20, 10), nil},
		"at rest later":                  {at(40, 10, 10, 10), &record.Warm{Windows: 4, WindowNS: 5e8, Converged: true}},
		"it moves when the time is over": {at(40, 30, 20, 10), &record.Warm{Windows: 4, WindowNS: 5e8, Drift: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.over(c.seen)
			if c.want == nil {
				assert.Nil(t, got)
				return
			}
			require.NotNil(t, got)
			assert.InDelta(t, c.want.Drift, got.Drift, 1e-12)
			got.Drift = c.want.Drift
			assert.Equal(t, c.want, got)
		})
	}
	assert.Equal(t, 3, Warmth{Window: time.Second, Most: time.Second}.windows(), "three windows there are always")
}

// moving is a contender whose account of CPU time a test sets.
type moving struct {
	engine.Contender
	cpu func() time.Duration
}

func (m moving) Usage(context.Context) (engine.Usage, error) { return engine.Usage{CPU: m.cpu()}, nil }

// The rate is that of the test's machine; what the contender's account says is the test's.
func TestAWarmUpThatNeverRestsEnds(t *testing.T) {
	const answer = `{"data":{"x":1}}`
	w := Warmth{Window: 20 * time.Millisecond, Most: 200 * time.Millisecond}
	e := played.New(t, answer)
	server, err := e.Contender(t.Context(), engine.ContenderSpec{Arm: contender.Arm{Name: "go"}})
	require.NoError(t, err)
	all, step := time.Duration(0), time.Second
	s := Subject{Engine: e, Contender: moving{server, func() time.Duration {
		all += step
		step *= 4
		return all
	}}}
	e.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
		assert.True(t, job.Closed)
		assert.Equal(t, w.Window, job.Duration)
		return nil
	}
	spec := Spec{Body: "{}", Expected: answer, MaxInFlight: 4, Timeout: time.Second}
	warm, err := WarmUntilSteady(t.Context(), s, spec, w)
	require.NoError(t, err)
	assert.Equal(t, 10, warm.Windows)
	assert.Equal(t, 10, e.Attacks())
	assert.Equal(t, int64(w.Window), warm.WindowNS)
	assert.False(t, warm.Converged)
	assert.Greater(t, warm.Drift, WarmTolerance)

	e.Say(`{"data":{"x":2}}`)
	_, err = WarmUntilSteady(t.Context(), s, spec, w)
	require.ErrorContains(t, err, "warm up")
}
