package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// By hand: of 20 ways to place 3 of 6 ranks, U is 0 once, 1 once, 2 twice, 3 thrice.
func TestUDistributionByHand(t *testing.T) {
	got := uDistribution(3, 3)
	want := []float64{1, 1, 2, 3, 3, 3, 3, 2, 1, 1}
	require.Len(t, got, len(want))
	for k := range want {
		assert.InDelta(t, want[k]/20, got[k], 1e-12, "U = %d", k)
	}
	for _, size := range [][2]int{{1, 1}, {8, 8}, {16, 14}, {60, 60}} {
		var sum float64
		for _, p := range uDistribution(size[0], size[1]) {
			sum += p
			require.Greater(t, p, -1e-12)
		}
		assert.InDelta(t, 1, sum, 1e-9)
	}
}

func TestCompareShift(t *testing.T) {
	s, err := CompareShift([]float64{1, 2, 3, 4}, []float64{11, 12, 13, 14}, 0.95)
	require.NoError(t, err)
	assert.InDelta(t, 2.0/70, s.P, 1e-12, "all above: the most extreme of C(8,4), twice")
	assert.InDelta(t, 10, s.Estimate, 0)
	assert.InDelta(t, 7, s.Low, 0, "k = 1: the smallest difference")
	assert.InDelta(t, 13, s.High, 0)

	same, err := CompareShift([]float64{1, 2, 3}, []float64{1, 2, 3}, 0.95)
	require.NoError(t, err)
	assert.InDelta(t, 1, same.P, 1e-12)
	assert.True(t, math.IsInf(same.Low, -1), "three against three carry no 95 %%")

	_, err = CompareShift(nil, []float64{1}, 0.95)
	require.ErrorIs(t, err, ErrTooFew)
	assert.InDelta(t, 0.1, LeastShiftP(3, 3), 1e-12)
	assert.InDelta(t, 2.0/12870, LeastShiftP(8, 8), 1e-12)
}

// By simulation: the interval covers the truth, and the test is not wrong too often.
func TestCompareShiftCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 5))
	const runs, shift = 4000, 0.3
	covered, wrong := 0, 0
	for range runs {
		x, y := gauss(r, 8, 0.1, 0), gauss(r, 8, 0.1, shift)
		s, err := CompareShift(x, y, 0.95)
		require.NoError(t, err)
		if s.Low <= shift && shift <= s.High {
			covered++
		}
		if s, err = CompareShift(x, gauss(r, 8, 0.1, 0), 0.95); err == nil && s.P < 0.05 {
			wrong++
		}
	}
	band := 3.3 * math.Sqrt(0.05*0.95/runs)
	assert.Greater(t, float64(covered)/runs, 0.95-band)
	assert.Less(t, float64(wrong)/runs, 0.05+band)
}
