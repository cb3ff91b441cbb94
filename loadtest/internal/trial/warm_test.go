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

func TestSpread(t *testing.T) {
	assert.InDelta(t, 0.2, spread([]float64{90, 110, 100}), 1e-12)
	assert.InDelta(t, 50/(350.0/3), spread([]float64{100, 150, 100}), 1e-12, "there and back is no rest")
	assert.Zero(t, spread([]float64{0, 0, 0}), "no CPU time that the kernel has seen")
}

func TestAWarmUpEndsWhenTheLastWindowsAgree(t *testing.T) {
	w := Warmth{Window: 500 * time.Millisecond, Most: 2 * time.Second}
	ended := func(windows int, converged bool, rate, cpu float64) *record.Warm {
		return &record.Warm{Windows: windows, WindowNS: 5e8, Converged: converged, RateDrift: rate, CPUDrift: cpu}
	}
	for name, c := range map[string]struct {
		seen []window
		want *record.Warm
	}{
		"two windows are too few":                 {[]window{{100, 10}, {100, 10}}, nil},
		"at rest from the start":                  {[]window{{100, 10}, {100, 10}, {100, 10}}, ended(3, true, 0, 0)},
		"both within their tolerances":            {[]window{{90, 9.5}, {100, 10}, {110, 10.5}}, ended(3, true, 0.2, 0.1)},
		"the cost still moves":                    {[]window{{100, 12}, {100, 10}, {100, 8}}, nil},
		"the cost moves as only the rate may":     {[]window{{100, 9}, {100, 10}, {100, 11}}, nil},
		"the rate still moves":                    {[]window{{80, 10}, {100, 10}, {120, 10}}, nil},
		"at rest later":                           {[]window{{10, 40}, {100, 10}, {100, 10}, {100, 10}}, ended(4, true, 0, 0)},
		"the cost moves when the time is over":    {[]window{{100, 40}, {100, 30}, {100, 20}, {100, 10}}, ended(4, false, 0, 1)},
		"the rate moves when the time is over":    {[]window{{100, 10}, {70, 10}, {100, 10}, {130, 10}}, ended(4, false, 0.6, 0)},
		"it was at rest, and moves at the window": {[]window{{100, 10}, {100, 10}, {100, 30}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.over(c.seen)
			if c.want == nil {
				assert.Nil(t, got)
				return
			}
			require.NotNil(t, got)
			assert.InDelta(t, c.want.RateDrift, got.RateDrift, 1e-12)
			assert.InDelta(t, c.want.CPUDrift, got.CPUDrift, 1e-12)
			got.RateDrift, got.CPUDrift = c.want.RateDrift, c.want.CPUDrift
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
	spec := Spec{Body: "{}", Expected: answer, MaxInFlight: 4, Timeout: 30 * time.Second}
	warm, err := WarmUntilSteady(t.Context(), s, spec, w)
	require.NoError(t, err)
	assert.Equal(t, 10, warm.Windows)
	assert.Equal(t, 10, e.Attacks())
	assert.Equal(t, int64(w.Window), warm.WindowNS)
	assert.False(t, warm.Converged)
	assert.Greater(t, warm.CPUDrift, WarmCPUTolerance)

	e.Say(`{"data":{"x":2}}`)
	_, err = WarmUntilSteady(t.Context(), s, spec, w)
	require.ErrorContains(t, err, "warm up")
}
