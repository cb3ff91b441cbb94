package stats

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every subset mean, put in order: the definition itself.
func intervalByDefinition(d []float64, confidence float64) (low, high float64) {
	var means []float64
	for set := 1; set < 1<<len(d); set++ {
		sum := 0.0
		for i, v := range d {
			if set>>i&1 == 1 {
				sum += v
			}
		}
		means = append(means, sum/float64(bits.OnesCount(uint(set))))
	}
	slices.Sort(means)
	k := int(math.Floor((1 - confidence) / 2 * float64(int(1)<<len(d))))
	if k < 1 {
		return math.Inf(-1), math.Inf(1)
	}
	return means[k-1], means[len(means)-k]
}

func TestIntervalIsOfAllSubsetMeans(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 13))
	shapes := map[string]func() float64{
		"normal":          r.NormFloat64,
		"skewed":          func() float64 { return math.Exp(2 * r.NormFloat64()) },
		"a far outlier":   func() float64 { return r.NormFloat64() + 1000*math.Floor(r.Float64()+0.1) },
		"many ties":       func() float64 { return math.Round(r.NormFloat64()) },
		"all of one kind": func() float64 { return 3 },
	}
	for name, draw := range shapes {
		for n := 1; n <= 11; n++ {
			for _, confidence := range []float64{0.5, 0.9, 0.95, 0.99} {
				d := make([]float64, n)
				for i := range d {
					d[i] = draw()
				}
				low, high, err := Interval(d, confidence)
				require.NoError(t, err)
				wantLow, wantHigh := intervalByDefinition(d, confidence)
				if math.IsInf(wantLow, 0) {
					require.True(t, math.IsInf(low, -1) && math.IsInf(high, 1), "%s %v", name, d)
					continue
				}
				require.InDelta(t, wantLow, low, 1e-9, "%s %v at %g", name, d, confidence)
				require.InDelta(t, wantHigh, high, 1e-9, "%s %v at %g", name, d, confidence)
			}
		}
	}
}

// By hand, of eight pairs: 2/256 where all are on the one side of the margin that the mean is on.
func TestEquivalenceByHand(t *testing.T) {
	around := func(centre float64) []float64 {
		d := make([]float64, 8)
		for i := range d {
			d[i] = centre + 0.001*float64(i-4)
		}
		return d
	}
	for name, c := range map[string]struct {
		d      []float64
		p      float64
		inside bool
	}{
		"all within":              {around(0), 2.0 / 256, true},
		"all above":               {around(0.2), 2.0 / 256, false},
		"all below":               {around(-0.2), 2.0 / 256, false},
		"about the margin itself": {[]float64{0.05, 0.05, 0.05, 0.05}, 1, false},
		// About 0.05 they are four of 0.15 and four of -0.25, whose sum is -0.4.
		"half of them far out":         {[]float64{0.2, -0.2, 0.2, -0.2, 0.2, -0.2, 0.2, -0.2}, halfFarOut(), true},
		"three cannot carry it":        {[]float64{0, 0.001, -0.001}, 2.0 / 8, true},
		"one is beyond, seven are not": {[]float64{0, 0, 0, 0, 0, 0, 0, 0.06}, 4.0 / 256, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, inside, err := Equivalence(c.d, 0.05)
			require.NoError(t, err)
			assert.Equal(t, c.inside, inside)
			assert.InDelta(t, c.p, p, 1e-12)
		})
	}
	for _, margin := range []float64{0, -1, math.Inf(1), math.NaN()} {
		_, _, err := Equivalence([]float64{1}, margin)
		require.ErrorContains(t, err, "margin")
	}
	_, _, err := Equivalence(nil, 0.05)
	require.ErrorIs(t, err, ErrTooFew)
}

func halfFarOut() float64 {
	choose := []float64{1, 4, 6, 4, 1}
	ways := 0.0
	for i := range 5 {
		for k := range 5 {
			if math.Abs(0.15*float64(4-2*i)-0.25*float64(4-2*k)) >= 0.4-1e-9 {
				ways += choose[i] * choose[k]
			}
		}
	}
	return ways / 256
}

// What CLAIMS asks: equivalent where the whole interval is inside the margin, and only there.
func TestEquivalenceIsTheWholeIntervalInside(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	both := map[bool]int{}
	for range 400 {
		d := gauss(r, 6+r.IntN(6), 0.03, 0.05*r.NormFloat64())
		const margin = 0.05
		p, inside, err := Equivalence(d, margin)
		require.NoError(t, err)
		low, high, err := Interval(d, 0.95)
		require.NoError(t, err)
		whole := low > -margin && high < margin
		require.Equal(t, whole, inside && p <= 0.05, "[%g, %g] p %g", low, high, p)
		require.Equal(t, low > margin || high < -margin, !inside && p <= 0.05, "[%g, %g] p %g", low, high, p)
		both[whole]++
	}
	assert.Positive(t, both[true])
	assert.Positive(t, both[false])
}

// Of 20 tosses of a fair coin, P(X < 4) = 0.00129 and P(X < 3) = 0.000201 (a table of the binomial distribution).
func TestBinomialBounds(t *testing.T) {
	low, high := BinomialBounds(20, 0.5, 0.001)
	assert.Equal(t, 3, low, "fewer than 3: 0.0002")
	assert.Equal(t, 17, high)
	low, high = BinomialBounds(20, 0.5, 0.002)
	assert.Equal(t, 4, low, "fewer than 4: 0.0013")
	assert.Equal(t, 16, high)
	low, high = BinomialBounds(10_000, 0.05, 0.001)
	assert.InDelta(t, 500-3.09*math.Sqrt(475), float64(low), 3)
	assert.InDelta(t, 500+3.09*math.Sqrt(475), float64(high), 3)
	low, high = BinomialBounds(7, 0, 0.001)
	assert.Equal(t, [2]int{0, 0}, [2]int{low, high})
	low, high = BinomialBounds(7, 1, 0.001)
	assert.Equal(t, [2]int{7, 7}, [2]int{low, high})
}

// The noise floor by its formula: the larger end, without its sign, of the 95 % interval, from every subset mean.
func TestNoiseFloorByDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for range 100 {
		aa := gauss(r, 6+r.IntN(5), 0.05, 0.05*r.NormFloat64())
		low, high := intervalByDefinition(aa, 0.95)
		floor, err := NoiseFloor(aa)
		require.NoError(t, err)
		require.InDelta(t, max(math.Abs(low), math.Abs(high)), floor, 1e-12)
	}
	floor, err := NoiseFloor([]float64{0.1, 0.2, 0.1})
	require.NoError(t, err)
	assert.True(t, math.IsInf(floor, 1), "three A/A pairs know nothing")
}
