package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func gauss(r *rand.Rand, n int, sd, mean float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = mean + sd*r.NormFloat64()
	}
	return x
}

// Every pattern, one by one: the definition itself.
func TestSignFlipCountsEveryPattern(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := 1; n <= 11; n++ {
		for range 20 {
			d := gauss(r, n, 1, 0.4)
			if n%3 == 0 { // ties between patterns
				for i := range d {
					d[i] = math.Round(2 * d[i])
				}
			}
			var seen float64
			for _, v := range d {
				seen += v
			}
			extreme := 0
			for set := range 1 << n {
				var sum float64
				for i, v := range d {
					if set>>i&1 == 1 {
						v = -v
					}
					sum += v
				}
				if math.Abs(sum) >= math.Abs(seen)-1e-9 {
					extreme++
				}
			}
			p, err := SignFlip(d, 0)
			require.NoError(t, err)
			require.InDelta(t, float64(extreme)/float64(int(1)<<n), p, 1e-12, "%v", d)
		}
	}
}

func TestBeyondNoiseIsTheNoiseFloor(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		aa := gauss(r, 6+r.IntN(5), 0.05, 0.02*r.NormFloat64())
		floor, err := NoiseFloor(aa)
		require.NoError(t, err)
		for _, effect := range []float64{0, floor * 0.5, floor * 0.999, floor * 1.001, floor * 3} {
			beyond, err := beyondNoise(aa, effect)
			require.NoError(t, err)
			require.Equal(t, effect > floor, beyond, "effect %g floor %g of %v", effect, floor, aa)
		}
	}
}

// What is promised from recorded noise must come true on fresh noise of the same kind.
func TestPowerIsKept(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	design := Design{Blocks: 10, Family: 3, Alpha: 0.05}
	const sd, effect, runs = 0.05, 0.07, 4000
	// The sample's own spread would shift the promise: it is scaled to the one it stands for.
	noise := gauss(r, 400, sd, 0)
	var square float64
	for _, v := range noise {
		square += v * v
	}
	scale := sd / math.Sqrt(square/float64(len(noise)))
	for i := range noise {
		noise[i] *= scale
	}
	promised, err := Power(noise, effect, design)
	require.NoError(t, err)
	decided := 0
	for range runs {
		d := gauss(r, design.Blocks, sd, effect)
		p, err := SignFlip(d, 0)
		require.NoError(t, err)
		floor, err := NoiseFloor(gauss(r, design.Blocks, sd, 0))
		require.NoError(t, err)
		if p*float64(design.Family) < design.Alpha && math.Abs(Mean(d)) > floor {
			decided++
		}
	}
	kept := float64(decided) / runs
	sigma := math.Sqrt(promised * (1 - promised) * (1.0/runs + 1.0/powerReplicates))
	assert.InDelta(t, promised, kept, 3.3*sigma)
	assert.Greater(t, promised, 0.5)
	assert.Less(t, promised, 0.99, "a power of one would hide anything")

	none, err := Power(noise, 0, design)
	require.NoError(t, err)
	assert.Less(t, none, design.Alpha)
}

func TestBlocksAreThoseThatThePowerNeeds(t *testing.T) {
	noise := gauss(rand.New(rand.NewPCG(1, 1)), 200, 0.05, 0)
	design := Design{Family: 3, Alpha: 0.05}
	blocks, promised, err := BlocksFor(noise, math.Log(1.08), 0.8, design)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, promised, 0.8)
	design.Blocks = blocks - 1
	fewer, err := Power(noise, math.Log(1.08), design)
	require.NoError(t, err)
	assert.Less(t, fewer, 0.8, "one block less is too few")

	design.Blocks = blocks
	effect, err := Detectable(noise, 0.8, design)
	require.NoError(t, err)
	assert.LessOrEqual(t, effect, math.Log(1.08))

	_, _, err = BlocksFor(noise, math.Log(1.001), 0.8, design)
	require.ErrorIs(t, err, ErrTooNoisy)
	assert.ErrorContains(t, err, "20 blocks")
	design.Blocks = 6
	effect, err = Detectable(noise, 0.8, design)
	require.NoError(t, err)
	assert.True(t, math.IsInf(effect, 1), "six blocks decide nothing in a family of three")
}

func TestDesignsThatCannotBeAreNamed(t *testing.T) {
	noise := []float64{0.1, -0.1}
	for _, d := range []Design{{0, 1, 0.05}, {21, 1, 0.05}, {8, 0, 0.05}, {8, 1, 0}} {
		_, err := Power(noise, 0.1, d)
		assert.Error(t, err, "%+v", d)
	}
	_, err := Power(nil, 0.1, Design{8, 1, 0.05})
	assert.ErrorIs(t, err, ErrTooFew)
}

func TestRequestsToCarry(t *testing.T) {
	assert.EqualValues(t, 7, RequestsToCarry(0.5))
	assert.EqualValues(t, 459, RequestsToCarry(0.99))
	assert.EqualValues(t, 4603, RequestsToCarry(0.999))
}
