package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSignFlip(t *testing.T) {
	for name, c := range map[string]struct {
		d     []float64
		shift float64
		p     float64
	}{
		"one pair proves nothing":               {[]float64{3}, 0, 1},
		"three of a sign: 2 of 8 patterns":      {[]float64{1, 2, 3}, 0, 2.0 / 8},
		"two of three: sums ±6 ±4 ±2 0, seen 4": {[]float64{-1, 2, 3}, 0, 4.0 / 8},
		"balanced":                                  {[]float64{1, -1, 2, -2}, 0, 1},
		"eight of a sign, the least p possible":     {[]float64{1, 1, 1, 1, 1, 1, 1, 1}, 0, 2.0 / 256},
		"shifted to its centre":                     {[]float64{1, 2, 3}, 2, 1},
		"zeros count for neither side, so for both": {[]float64{0, 0, 5}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := SignFlip(c.d, c.shift)
			require.NoError(t, err)
			assert.InDelta(t, c.p, p, 1e-12)
		})
	}
	_, err := SignFlip(nil, 0)
	require.ErrorIs(t, err, ErrTooFew)
}

// By hand for n = 6 at 95 %: k = floor(0.025 · 64) = 1, so the smallest and the largest value themselves.
func TestIntervalByHand(t *testing.T) {
	low, high, err := Interval([]float64{5, 1, 2, 3, 4, 9}, 0.95)
	require.NoError(t, err)
	assert.InDelta(t, 1, low, 1e-12)
	assert.InDelta(t, 9, high, 1e-12)
	low, high, err = Interval([]float64{1, 2, 3, 4, 5}, 0.95)
	require.NoError(t, err)
	assert.True(t, math.IsInf(low, -1) && math.IsInf(high, 1), "five pairs cannot carry 95 %%")
}

// The interval must hold exactly what the test does not reject.
func TestIntervalInvertsTheTest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		d := make([]float64, 8)
		for i := range d {
			d[i] = r.NormFloat64()
		}
		low, high, err := Interval(d, 0.95)
		require.NoError(t, err)
		for _, shift := range []float64{low - 1e-6, low + 1e-6, high - 1e-6, high + 1e-6} {
			p, err := SignFlip(d, shift)
			require.NoError(t, err)
			assert.Equal(t, shift > low && shift < high, p > 0.05, "shift %g p %g in [%g, %g]", shift, p, low, high)
		}
	}
}

// Coverage by simulation, on skewed and heavy-tailed symmetric noise; 99.9 % band of a binomial around 1 - 12/256.
func TestIntervalCoverage(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 9))
	const runs = 4000
	hit := 0
	for range runs {
		d := make([]float64, 8)
		for i := range d {
			d[i] = 0.3 + r.NormFloat64()*math.Exp(r.NormFloat64())
		}
		low, high, err := Interval(d, 0.95)
		require.NoError(t, err)
		if low <= 0.3 && 0.3 <= high {
			hit++
		}
	}
	want := 1 - 12.0/256
	assert.InDelta(t, want, float64(hit)/runs, 3.3*math.Sqrt(want*(1-want)/runs))
}

func TestHolm(t *testing.T) {
	assert.InDeltaSlice(t, []float64{0.03, 0.06, 0.06}, Holm([]float64{0.01, 0.04, 0.03}), 1e-12)
	assert.InDeltaSlice(t, []float64{1, 1}, Holm([]float64{0.9, 0.8}), 1e-12)
	assert.Empty(t, Holm(nil))
}

func TestMinPairs(t *testing.T) {
	assert.Equal(t, 6, MinPairs(0.05, 1), "2/64 = 0.031")
	assert.Equal(t, 7, MinPairs(0.05, 3), "2/128 · 3 = 0.047")
	assert.Equal(t, 8, MinPairs(0.05, 6), "2/256 · 6 = 0.047")
}

func TestNoiseFloorIsTheLargerEnd(t *testing.T) {
	f, err := NoiseFloor([]float64{-0.02, 0.01, 0.03, -0.05, 0.02, 0.01})
	require.NoError(t, err)
	assert.InDelta(t, 0.05, f, 1e-12)
}

func TestMedianAndLogRatios(t *testing.T) {
	assert.InDelta(t, 2.5, Median([]float64{4, 1, 3, 2}), 0)
	assert.True(t, math.IsNaN(Median(nil)))
	d, err := LogRatios([]float64{2, 1}, []float64{1, 2})
	require.NoError(t, err)
	assert.InDeltaSlice(t, []float64{math.Ln2, -math.Ln2}, d, 1e-12)
	_, err = LogRatios([]float64{0}, []float64{1})
	require.ErrorContains(t, err, "pair 0")
}

// Hand-computed: of n values the k-th from either end misses the median with 2·P(Binomial(n, ½) < k).
func TestMedianInterval(t *testing.T) {
	inf := math.Inf(1)
	for name, c := range map[string]struct {
		x         []float64
		low, high float64
	}{
		"none":                            {nil, -inf, inf},
		"five: 2/32 is over 5 %":          {[]float64{1, 2, 3, 4, 5}, -inf, inf},
		"six: 2/64 = 3.1 %":               {[]float64{6, 1, 5, 2, 4, 3}, 1, 6},
		"eight: 2·9/256 = 7 % is too bad": {[]float64{1, 2, 3, 4, 5, 6, 7, 8}, 1, 8},
		"nine: 2·10/512 = 3.9 %":          {[]float64{9, 8, 7, 6, 5, 4, 3, 2, 1}, 2, 8},
		"fourteen: 2·106/16384 = 1.3 %":   {[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, 3, 12},
	} {
		low, high := MedianInterval(c.x, 0.95)
		assert.Equal(t, c.low, low, name)
		assert.Equal(t, c.high, high, name)
	}
}

func TestCarries(t *testing.T) {
	for _, c := range []struct {
		q    float64
		n    uint64
		want bool
	}{{0.99, 458, false}, {0.99, 459, true}, {0.5, 6, false}, {0.5, 7, true}, {0.999, 4602, false}, {0.999, 4603, true}, {0.99, 0, false}} {
		assert.Equal(t, c.want, Carries(c.q, c.n), "%v of %d", c.q, c.n)
	}
}
