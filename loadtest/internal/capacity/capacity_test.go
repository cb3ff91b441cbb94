package capacity

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// below is a server that holds up to a rate, exactly.
func below(limit float64) func(float64) Outcome {
	return func(rps float64) Outcome {
		if rps <= limit {
			return Held
		}
		return Failed
	}
}

func search(t *testing.T, o Options, try func(float64) Outcome) (Result, []Step) {
	t.Helper()
	r, steps, err := Run(t.Context(), o, func(_ context.Context, rps float64) (Outcome, error) { return try(rps), nil }, nil)
	require.NoError(t, err)
	return r, steps
}

var wide = Options{Start: 100, Floor: 10, Ceiling: 1e6}

func TestDoublesBisectsAndConfirms(t *testing.T) {
	r, steps := search(t, wide, below(730))
	assert.True(t, r.Confirmed)
	assert.LessOrEqual(t, r.LowRPS, 730.0)
	assert.Greater(t, r.HighRPS, 730.0)
	assert.LessOrEqual(t, r.HighRPS/r.LowRPS, 1.05)
	assert.Empty(t, r.Contested)
	assert.Empty(t, r.Note)
	var rates []float64
	counted := map[float64]int{}
	for _, s := range steps {
		rates = append(rates, s.RPS)
		counted[s.RPS]++
	}
	assert.Equal(t, []float64{100, 200, 400, 800, 566}, rates[:5], "it doubles from the start, then takes the geometric mean")
	assert.Equal(t, 4, counted[r.LowRPS], "the trial that found an end, and three more")
	assert.Equal(t, 4, counted[r.HighRPS])
	assert.Equal(t, Evaluate(steps).LowRPS, r.LowRPS, "the interval follows from the steps alone")
	assert.Equal(t, Evaluate(steps).HighRPS, r.HighRPS)
}

func TestFailsAtTheStart(t *testing.T) {
	r, steps := search(t, Options{Start: 5000, Floor: 10, Ceiling: 1e6}, below(730))
	assert.Equal(t, 2500.0, steps[1].RPS)
	assert.True(t, r.Confirmed)
	assert.LessOrEqual(t, r.LowRPS, 730.0)
	assert.Greater(t, r.HighRPS, 730.0)
}

func TestHoldsNowhere(t *testing.T) {
	r, steps := search(t, wide, below(0))
	assert.Zero(t, r.LowRPS)
	assert.Equal(t, 10.0, r.HighRPS, "the floor")
	assert.True(t, r.Confirmed)
	assert.Contains(t, r.Note, "held at no rate down to the lowest that is tried, 10")
	for _, s := range steps {
		assert.GreaterOrEqual(t, s.RPS, 10.0)
	}
}

func TestNeverFails(t *testing.T) {
	o := wide
	o.Ceiling = 1500
	r, steps := search(t, o, below(1e9))
	assert.Equal(t, 1500.0, r.LowRPS)
	assert.Zero(t, r.HighRPS, "open above")
	assert.True(t, r.Confirmed)
	assert.Contains(t, r.Note, "the generator's ceiling, 1500 ")
	for _, s := range steps {
		assert.LessOrEqual(t, s.RPS, 1500.0)
	}
	held := 0
	for _, s := range steps {
		if s.RPS == 1500 {
			held++
		}
	}
	assert.Equal(t, 4, held)
}

func TestContestedCeiling(t *testing.T) {
	o := wide
	o.Ceiling = 1500
	n := 0
	r, _ := search(t, o, func(rps float64) Outcome {
		if rps < 1500 {
			return Held
		}
		if n++; n%2 == 0 {
			return Failed
		}
		return Held
	})
	assert.Less(t, r.LowRPS, 1500.0)
	assert.Zero(t, r.HighRPS)
	assert.Equal(t, []float64{1500}, r.Contested)
	assert.Contains(t, r.Note, "ceiling")
}

// A rate that held once and failed once is inside the interval.
func TestFlakyConfirmationWidens(t *testing.T) {
	tried := map[float64]int{}
	r, _ := search(t, wide, func(rps float64) Outcome {
		tried[rps]++
		// Within 15 % of 730, every second trial of a rate goes the other way.
		if math.Abs(rps/730-1) < 0.15 && tried[rps]%2 == 0 {
			return below(rps - 1)(730)
		}
		return below(730)(rps)
	})
	assert.LessOrEqual(t, r.LowRPS, 730*0.86)
	assert.GreaterOrEqual(t, r.HighRPS, 730*1.14)
	require.NotEmpty(t, r.Contested)
	for _, c := range r.Contested {
		assert.Greater(t, c, r.LowRPS)
		assert.Less(t, c, r.HighRPS)
	}
	assert.Contains(t, r.Note, "held in some trials and failed in others")
	assert.True(t, r.Confirmed)
}

// One bad trial far below the capacity, as a busy neighbour makes, must not hide the capacity.
func TestRecoversFromASpike(t *testing.T) {
	for _, at := range []int{1, 2, 3, 4, 5, 6} {
		t.Run(fmt.Sprintf("trial %d", at), func(t *testing.T) {
			n := 0
			r, _ := search(t, wide, func(rps float64) Outcome {
				if n++; n == at {
					return Failed
				}
				return below(730)(rps)
			})
			assert.LessOrEqual(t, r.LowRPS, 730.0)
			assert.Greater(t, r.HighRPS, 730.0)
			assert.LessOrEqual(t, r.HighRPS/r.LowRPS, 1.05*1.05)
			assert.True(t, r.Confirmed)
		})
	}
}

func TestVoidTrialsAreRepeated(t *testing.T) {
	n := 0
	r, steps := search(t, wide, func(rps float64) Outcome {
		if n++; n%3 == 0 {
			return Void
		}
		return below(730)(rps)
	})
	assert.True(t, r.Confirmed)
	assert.LessOrEqual(t, r.LowRPS, 730.0)
	assert.Greater(t, r.HighRPS, 730.0)
	for i, s := range steps[:len(steps)-1] {
		if s.Outcome == Void {
			assert.Equal(t, s.RPS, steps[i+1].RPS)
		}
	}
}

func TestVoidTrialsAreBounded(t *testing.T) {
	r, steps := search(t, wide, func(rps float64) Outcome {
		if rps > 300 {
			return Void
		}
		return Held
	})
	assert.Len(t, steps, 5, "100, 200, and 400 three times")
	assert.Equal(t, 200.0, r.LowRPS)
	assert.Zero(t, r.HighRPS)
	assert.False(t, r.Confirmed)
	assert.Contains(t, r.Note, "3 trials in a row at 400 requests a second were void")
}

func TestEndsWhenTheTimeIsUp(t *testing.T) {
	left := 6
	r, steps, err := Run(t.Context(), wide, func(_ context.Context, rps float64) (Outcome, error) { return below(730)(rps), nil }, func() string {
		if left--; left < 0 {
			return "its ten minutes were over"
		}
		return ""
	})
	require.NoError(t, err)
	assert.Len(t, steps, 6)
	assert.False(t, r.Confirmed)
	assert.Contains(t, r.Note, "ended early: its ten minutes were over")
	assert.LessOrEqual(t, r.LowRPS, 730.0)
	assert.Greater(t, r.HighRPS, 730.0)
}

func TestStepsAreBounded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	o := wide
	o.Steps = 25
	r, steps := search(t, o, func(float64) Outcome { // no server at all
		if random.IntN(2) == 0 {
			return Held
		}
		return Failed
	})
	assert.LessOrEqual(t, len(steps), 25)
	if len(steps) == 25 {
		assert.False(t, r.Confirmed)
		assert.Contains(t, r.Note, "the most steps there may be")
	}
}

func TestAnErrorEndsIt(t *testing.T) {
	gone := errors.New("the engine is gone")
	n := 0
	r, steps, err := Run(t.Context(), wide, func(_ context.Context, rps float64) (Outcome, error) {
		if n++; n == 3 {
			return "", gone
		}
		return Held, nil
	}, nil)
	require.ErrorIs(t, err, gone)
	assert.Len(t, steps, 2)
	assert.Equal(t, 200.0, r.LowRPS)
	assert.False(t, r.Confirmed)
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for says, o := range map[string]Options{
		"floor":     {Start: 1, Floor: 0, Ceiling: 10},
		"ceiling":   {Start: 1, Floor: 10, Ceiling: 1},
		"start":     {Start: math.NaN(), Floor: 1, Ceiling: 10},
		"precision": {Start: 1, Floor: 1, Ceiling: 10, Precision: -1},
		"confirm":   {Start: 1, Floor: 1, Ceiling: 10, Confirm: -1},
	} {
		_, err := New(o)
		require.ErrorContains(t, err, says)
	}
	s, err := New(Options{Start: 5000, Floor: 10, Ceiling: 1000})
	require.NoError(t, err)
	rps, more := s.Next()
	assert.True(t, more)
	assert.Equal(t, 1000.0, rps, "a start above the ceiling is the ceiling")
}

// The interval must have the true capacity in it: the rate at which a trial holds as often as it fails. It is known in the
// first servers by their formula, and in the last by simulating very many trials without the search.
func TestCoverage(t *testing.T) {
	const runs = 1000
	normal := func(capacity, spread float64) func(*rand.Rand, float64) Outcome {
		return func(random *rand.Rand, rps float64) Outcome {
			return below(capacity * math.Exp(spread*random.NormFloat64()))(rps)
		}
	}
	disturbed := func(server func(*rand.Rand, float64) Outcome, spikes, voids float64) func(*rand.Rand, float64) Outcome {
		return func(random *rand.Rand, rps float64) Outcome {
			switch u := random.Float64(); {
			case u < spikes:
				return Failed
			case u < spikes+voids:
				return Void
			}
			return server(random, rps)
		}
	}
	for _, c := range []struct {
		name     string
		capacity float64
		server   func(*rand.Rand, float64) Outcome
		o        Options
	}{
		{"no noise", 730, normal(730, 0), wide},
		{"noise of 2 %", 730, normal(730, 0.02), wide},
		{"noise of 5 %", 730, normal(730, 0.05), wide},
		{"noise of 10 %", 730, normal(730, 0.10), wide},
		{"noise of 20 %", 730, normal(730, 0.20), wide},
		{"noise of 5 %, begun far above", 730, normal(730, 0.05), Options{Start: 40000, Floor: 10, Ceiling: 1e6}},
		{"noise of 5 %, one trial in twenty fails anyway and one in fifty is void", 730, disturbed(normal(730, 0.05), 0.05, 0.02), wide},
		{"a queue (M/D/1) with noise of 3 %", halfway(md1(3)), md1(3), wide},
		{"a queue (M/D/1) with noise of 8 %", halfway(md1(8)), md1(8), wide},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			covered, confirmed, steps, width := 0, 0, 0, 0.0
			for seed := range uint64(runs) {
				random := rand.New(rand.NewPCG(seed, 0xca9))
				// Another start each time, so that no rate of the search happens to suit the capacity.
				o := c.o
				o.Start *= math.Exp(random.Float64())
				r, made := search(t, o, func(rps float64) Outcome { return c.server(random, rps) })
				if r.LowRPS <= c.capacity && (r.HighRPS == 0 || c.capacity <= r.HighRPS) {
					covered++
				}
				if r.Confirmed {
					confirmed++
				}
				steps += len(made)
				if r.LowRPS > 0 && r.HighRPS > 0 {
					width += math.Log(r.HighRPS / r.LowRPS)
				}
			}
			t.Logf("capacity %.0f: %.1f %% of the intervals have it, %.1f %% are confirmed; %.1f steps; %.1f %% wide", c.capacity,
				100*float64(covered)/runs, 100*float64(confirmed)/runs, float64(steps)/runs, 100*(math.Exp(width/runs)-1))
			assert.GreaterOrEqual(t, covered, runs*95/100)
			assert.GreaterOrEqual(t, confirmed, runs*85/100, "beyond that the steps ran out")
		})
	}
}

// md1 is a trial of three seconds at a queue with one server: Poisson arrivals, a service time that is the same for all
// requests of a trial and scatters by so many per cent from trial to trial. It holds where at most 1 % of the response
// times reach 100 ms. Waiting times follow Lindley's recursion.
func md1(percent float64) func(*rand.Rand, float64) Outcome {
	const service, limit, seconds = 0.002, 0.1, 3.0
	return func(random *rand.Rand, rps float64) Outcome {
		d := service * math.Exp(percent/100*random.NormFloat64())
		wait, at, sent, over := 0.0, 0.0, 0, 0
		for {
			gap := random.ExpFloat64() / rps
			if at += gap; at > seconds {
				break
			}
			if sent > 0 {
				wait = max(0, wait+d-gap)
			}
			sent++
			if wait+d >= limit {
				over++
			}
		}
		if over*100 > sent {
			return Failed
		}
		return Held
	}
}

// halfway is the rate at which a server's trials hold as often as they fail.
func halfway(server func(*rand.Rand, float64) Outcome) float64 {
	random := rand.New(rand.NewPCG(7, 7))
	low, high := 50.0, 5000.0
	for high/low > 1.003 {
		middle, held := math.Sqrt(low*high), 0
		for range 2000 {
			if server(random, middle) == Held {
				held++
			}
		}
		if held >= 1000 {
			low = middle
		} else {
			high = middle
		}
	}
	return math.Sqrt(low * high)
}
