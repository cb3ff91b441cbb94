package trend

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/noise"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// night makes a run of recorded noise; the arms cost what they are given to cost more, as ratios.
func night(i int, costs map[string]float64) record.Run {
	d := noise.Design{Arms: []string{"go", "node", "go-floor"}, Blocks: 8, Effects: map[string]float64{}}
	for arm, ratio := range costs {
		d.Effects[arm] = math.Log(ratio)
	}
	return record.Run{
		ID: fmt.Sprintf("night-%02d", i), Began: time.Date(2026, 1, 1+i, 2, 0, 0, 0, time.UTC), Profile: "nightly", Evidence: true, Complete: true, Method: record.Method,
		Environment: record.Environment{Engine: "native", CPUModel: "A", CPUs: []int{0, 1}, Placement: map[string][]int{"contender": {0}}, DataSize: "standard", DataDigest: "d"},
		Trials:      noise.Quick().Parts(noise.CPU).Trials(rand.New(rand.NewPCG(uint64(i), 77)), d),
	}
}

func nights(n int, costs func(i int) map[string]float64) []record.Run {
	var out []record.Run
	for i := range n {
		out = append(out, night(i, costs(i)))
	}
	return out
}

func seriesOf(t *testing.T, r Result, arm string) Series {
	t.Helper()
	for _, s := range r.Series {
		if s.Arm == arm {
			return s
		}
	}
	t.Fatalf("no series of %s", arm)
	return Series{}
}

func TestAChangeIsFoundWhereItIs(t *testing.T) {
	runs := nights(24, func(i int) map[string]float64 {
		if i >= 14 {
			return map[string]float64{"go": 1.3}
		}
		return nil
	})
	runs[3], runs[20] = runs[20], runs[3] // named in any order
	r, err := Of(t.Context(), runs, false)
	require.NoError(t, err)
	require.Len(t, r.Series, 3)
	s := seriesOf(t, r, "go")
	require.Len(t, s.Nights, 24)
	require.Len(t, s.Changes, 1)
	c := s.Changes[0]
	assert.Equal(t, "night-14", c.Run)
	assert.Equal(t, 14, c.Night)
	assert.InDelta(t, 1.3, c.Ratio, 0.06)
	assert.Less(t, *c.RatioLow, c.Ratio)
	assert.Greater(t, *c.RatioHigh, c.Ratio)
	assert.Less(t, c.PCorrected, 0.05)
	assert.InDelta(t, c.P*17*3, c.PCorrected, 1e-12, "17 splits of 24 nights, three series")
	require.NotNil(t, c.Floor)
	assert.InDelta(t, 1, *c.Floor, 0.05, "its floor stayed")
	assert.Empty(t, seriesOf(t, r, "node").Changes)
	assert.Empty(t, r.Short)
	for _, n := range s.Nights {
		assert.Less(t, *n.Low, n.CPU)
		assert.Greater(t, *n.High, n.CPU)
		assert.Equal(t, 8, n.Trials)
	}
}

func TestTwoChangesAreFound(t *testing.T) {
	r, err := Of(t.Context(), nights(30, func(i int) map[string]float64 {
		switch {
		case i >= 20:
			return map[string]float64{"node": 0.7}
		case i >= 10:
			return map[string]float64{"node": 1.4}
		}
		return nil
	}), false)
	require.NoError(t, err)
	var at []int
	for _, c := range seriesOf(t, r, "node").Changes {
		at = append(at, c.Night)
	}
	assert.Equal(t, []int{10, 20}, at)
}

func TestAMachineThatChangesMovesTheFloorToo(t *testing.T) {
	r, err := Of(t.Context(), nights(24, func(i int) map[string]float64 {
		if i >= 12 {
			return map[string]float64{"go": 1.25, "node": 1.25, "go-floor": 1.25}
		}
		return nil
	}), false)
	require.NoError(t, err)
	s := seriesOf(t, r, "go")
	require.Len(t, s.Changes, 1)
	assert.InDelta(t, 1.25, *s.Changes[0].Floor, 0.06)
}

func TestFewNightsAreCalledTooFew(t *testing.T) {
	r, err := Of(t.Context(), nights(7, func(i int) map[string]float64 {
		if i >= 3 {
			return map[string]float64{"go": 3}
		}
		return nil
	}), false)
	require.NoError(t, err)
	assert.Len(t, r.Short, 3)
	assert.Contains(t, r.Short[0], "7 nights")
	for _, s := range r.Series {
		assert.Empty(t, s.Changes)
	}
}

// The rate of false changes is at most what is accepted, for any number of nights and series; and it is not zero for
// want of looking.
func TestChangesAreRarelyFalse(t *testing.T) {
	for _, c := range []struct{ nights, series, replicates int }{{10, 1, 4000}, {20, 1, 4000}, {30, 3, 1500}, {60, 1, 800}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			e := Simulate(t.Context(), c.nights, c.series, c.replicates, 5)
			_, most := stats.BinomialBounds(c.replicates, 0.05, claims.Significance)
			t.Logf("%d of %d", e.Found, e.Replicates)
			assert.LessOrEqual(t, e.Found, most)
		})
	}
}

// Without the correction for the number of splits the same would be found far more often: the test of the test.
func TestUncorrectedSplitsWouldBeFalse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	found := 0
	const replicates = 1000
	for range replicates {
		values := make([]float64, 30)
		for i := range values {
			values[i] = r.NormFloat64()
		}
		least := 1.0
		for at := LeastNights; at <= len(values)-LeastNights; at++ {
			s, err := stats.CompareShift(values[:at], values[at:], 0.95)
			require.NoError(t, err)
			least = min(least, s.P)
		}
		if least < 0.05 {
			found++
		}
	}
	_, most := stats.BinomialBounds(replicates, 0.05, claims.Significance)
	assert.Greater(t, found, 2*most)
}

func TestWhatIsNoSeriesIsNamed(t *testing.T) {
	two := func(change func(r *record.Run)) []record.Run {
		runs := nights(2, func(int) map[string]float64 { return nil })
		change(&runs[1])
		return runs
	}
	for name, c := range map[string]struct {
		change func(r *record.Run)
		says   string
	}{
		"another machine":  {func(r *record.Run) { r.Environment.CPUModel = "B" }, "machine"},
		"another engine":   {func(r *record.Run) { r.Environment.Engine = "docker" }, "engine"},
		"another contract": {func(r *record.Run) { r.Environment.DataDigest = "e" }, "contract"},
		"another profile":  {func(r *record.Run) { r.Profile = "quick" }, "profile"},
		"another method":   {func(r *record.Run) { r.Method = 99 }, "method"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Of(t.Context(), two(c.change), false)
			require.ErrorIs(t, err, ErrNotComparable)
			require.ErrorContains(t, err, "night-00 and night-01")
			require.ErrorContains(t, err, c.says)
			r, err := Of(t.Context(), two(c.change), true)
			require.NoError(t, err)
			assert.Len(t, r.Series, 6, "three arms, twice")
			for _, s := range r.Series {
				assert.Len(t, s.Nights, 1)
			}
		})
	}
	for says, change := range map[string]func(r *record.Run){
		"no evidence": func(r *record.Run) { r.Evidence = false },
		"attack":      func(r *record.Run) { r.Profile = record.ProfileAttack },
		"interrupted": func(r *record.Run) { r.Complete = false },
	} {
		_, err := Of(t.Context(), two(change), true)
		require.ErrorIs(t, err, ErrNotComparable, says)
		require.ErrorContains(t, err, "night-01")
	}
	runs := nights(1, func(int) map[string]float64 { return nil })
	_, err := Of(t.Context(), append(runs, runs...), true)
	require.ErrorContains(t, err, "night-00 is there twice")
}

func TestVoidNightsAreLeftOut(t *testing.T) {
	runs := nights(3, func(int) map[string]float64 { return nil })
	void := "late"
	for i := range runs[1].Trials {
		if runs[1].Trials[i].Arm == "go" {
			runs[1].Trials[i].Void = &void
		}
	}
	r, err := Of(t.Context(), runs, false)
	require.NoError(t, err)
	assert.Len(t, seriesOf(t, r, "go").Nights, 2)
	assert.Len(t, seriesOf(t, r, "node").Nights, 3)
}

// A claim has a series of its own, and one more where its definition changed; a library's that goes on is one.
func TestAClaimHasItsOwnSeries(t *testing.T) {
	runs := nights(4, func(int) map[string]float64 { return nil })
	for i := range runs {
		claim := night(i+10, map[string]float64{"go": 3})
		for k := range claim.Trials {
			claim.Trials[k].Scenario = "io-bound"
		}
		runs[i].Trials = append(runs[i].Trials, claim.Trials...)
		delay := int64(20e6)
		if i == 3 {
			delay = 30e6
		}
		runs[i].Scenarios = []record.Scenario{{ID: "io-bound", Operation: "q2", DelaysNS: map[string]int64{"database": delay}}}
	}
	r, err := Of(t.Context(), runs, false)
	require.NoError(t, err)
	got := map[string][]int{}
	for _, s := range r.Series {
		if s.Arm == "go" {
			got[s.Scenario] = append(got[s.Scenario], len(s.Nights))
		}
	}
	assert.Equal(t, map[string][]int{"library": {4}, "io-bound": {3, 1}}, got)
	assert.Contains(t, r.Short, "go, Q2 (io-bound): 3 nights")
}
