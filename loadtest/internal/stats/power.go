package stats

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// ErrTooNoisy says that no number of blocks that can be enumerated finds the effect often enough.
var ErrTooNoisy = errors.New("too noisy")

// powerReplicates is how many experiments a power is estimated from: its standard error is at most 1.1 %.
const powerReplicates = 2000

// Design is a comparison that is yet to be made.
type Design struct {
	Blocks int
	// Family is the number of pairs that Holm's correction goes over. Power is of the pair that it treats worst.
	Family int
	Alpha  float64
}

// Power estimates how often a comparison of this design decides for a true ratio of exp(effect): its sign-flip test,
// corrected by Holm, is below alpha, and the mean is beyond the noise floor of the design's own A/A pairs. noise has
// log-ratios of identical arms, as recorded; experiments are made of them by drawing with replacement, each with either
// sign, since which of two identical arms came first is chance (a bootstrap of the power, Efron and Tibshirani, An
// Introduction to the Bootstrap, section 25.4). The same arguments give the same answer.
func Power(noise []float64, effect float64, design Design) (float64, error) {
	if err := design.check(noise); err != nil {
		return 0, err
	}
	r := rand.New(rand.NewPCG(0x9077e4, uint64(design.Blocks)))
	decided := 0
	draw := func(shift float64) []float64 {
		d := make([]float64, design.Blocks)
		for i := range d {
			d[i] = noise[r.IntN(len(noise))]
			if r.Uint64()&1 == 0 {
				d[i] = -d[i]
			}
			d[i] += shift
		}
		return d
	}
	for range powerReplicates {
		d, aa := draw(effect), draw(0)
		p, err := SignFlip(d, 0)
		if err != nil {
			return 0, err
		}
		if p*float64(design.Family) >= design.Alpha {
			continue
		}
		beyond, err := beyondNoise(aa, math.Abs(Mean(d)))
		if err != nil {
			return 0, err
		}
		if beyond {
			decided++
		}
	}
	return float64(decided) / powerReplicates, nil
}

// beyondNoise tells whether an effect is larger than NoiseFloor(aa) without its 2^n steps: an interval that inverts a
// test lies inside (-effect, effect) where the test rejects both ends and the mean is between them.
func beyondNoise(aa []float64, effect float64) (bool, error) {
	if math.Abs(Mean(aa)) >= effect {
		return false, nil
	}
	for _, end := range []float64{effect, -effect} {
		p, err := SignFlip(aa, end)
		if err != nil || p > 1-noiseConfidence {
			return false, err
		}
	}
	return true, nil
}

func (d Design) check(noise []float64) error {
	switch {
	case len(noise) < 2:
		return fmt.Errorf("power from %d A/A pairs: %w", len(noise), ErrTooFew)
	case d.Blocks < 1 || d.Blocks > MaxPairs:
		return fmt.Errorf("power of %d blocks: from 1 to %d can be enumerated", d.Blocks, MaxPairs)
	case d.Family < 1:
		return fmt.Errorf("power in a family of %d pairs: must be positive", d.Family)
	case !(d.Alpha > 0 && d.Alpha < 1):
		return fmt.Errorf("power at alpha %g: must be between 0 and 1", d.Alpha)
	}
	return nil
}

// BlocksFor is the least number of blocks with which the design's other settings find a true ratio of exp(effect) with
// at least that power, and the power it promises then. It is ErrTooNoisy where MaxPairs blocks do not.
func BlocksFor(noise []float64, effect, power float64, design Design) (blocks int, promised float64, err error) {
	for design.Blocks = MinPairs(design.Alpha, design.Family); design.Blocks <= MaxPairs; design.Blocks++ {
		if promised, err = Power(noise, effect, design); err != nil || promised >= power {
			return design.Blocks, promised, err
		}
	}
	return 0, promised, fmt.Errorf("a ratio of %.3f is found in %.0f %% of comparisons of %d blocks: %w", math.Exp(effect), 100*promised, MaxPairs, ErrTooNoisy)
}

// Detectable is the least effect, as a log-ratio, that a design finds with that power, to within 1 %. It is infinite
// where the design has too few blocks to decide anything.
func Detectable(noise []float64, power float64, design Design) (float64, error) {
	if err := design.check(noise); err != nil {
		return 0, err
	}
	if design.Blocks < MinPairs(design.Alpha, design.Family) {
		return math.Inf(1), nil
	}
	low, high := 0.0, 0.01
	for {
		found, err := Power(noise, high, design)
		if err != nil {
			return 0, err
		}
		if found >= power {
			break
		}
		if low, high = high, 2*high; high > 100 {
			return math.Inf(1), nil
		}
	}
	for high-low > high/100 {
		middle := (low + high) / 2
		found, err := Power(noise, middle, design)
		if err != nil {
			return 0, err
		}
		if found >= power {
			high = middle
		} else {
			low = middle
		}
	}
	return high, nil
}

// RequestsToCarry is the least number of requests with which Carries says yes of a quantile below 1.
func RequestsToCarry(quantile float64) uint64 {
	n := uint64(math.Ceil(math.Log(0.01) / math.Log(quantile)))
	for !Carries(quantile, n) { // rounding
		n++
	}
	return n
}
