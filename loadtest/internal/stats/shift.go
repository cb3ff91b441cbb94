package stats

import (
	"fmt"
	"math"
	"slices"
)

// MaxShiftSample bounds a sample of CompareShift.
const MaxShiftSample = 60

// Shift is by how much a second sample lies above a first.
type Shift struct {
	// Estimate is the median of all differences between the samples (Hodges and Lehmann, Annals of Mathematical
	// Statistics 1963).
	Estimate float64
	// Low and High are the exact interval: the k-th differences from either end (Moses; Hollander and Wolfe,
	// Nonparametric Statistical Methods, section 4.3). Infinite where the samples are too small.
	Low, High float64
	// P is of the exact two-sided Mann–Whitney test, of ranks with ties averaged.
	P float64
}

// CompareShift compares two independent samples, such as trials of two runs: by ranks, since nothing pairs them.
func CompareShift(x, y []float64, confidence float64) (Shift, error) {
	n, m := len(x), len(y)
	if n == 0 || m == 0 || n > MaxShiftSample || m > MaxShiftSample {
		return Shift{}, fmt.Errorf("comparison of %d with %d values: %w or more than %d", n, m, ErrTooFew, MaxShiftSample)
	}
	differences := make([]float64, 0, n*m)
	above := 0.0 // pairs in which y is above, ties half: Mann and Whitney's U
	for _, a := range x {
		for _, b := range y {
			differences = append(differences, b-a)
			switch {
			case b > a:
				above++
			case b == a:
				above += 0.5
			}
		}
	}
	slices.Sort(differences)
	s := Shift{Estimate: Median(differences), Low: math.Inf(-1), High: math.Inf(1)}
	chance := uDistribution(n, m)
	// Ties make U lie between; the nearer whole number is the more cautious.
	lower := min(above, float64(n*m)-above)
	s.P = min(1, 2*cumulative(chance, int(math.Ceil(lower))))
	k := 0
	for k < len(differences)/2 && 2*cumulative(chance, k) <= 1-confidence+1e-12 {
		k++
	}
	if k > 0 {
		s.Low, s.High = differences[k-1], differences[len(differences)-k]
	}
	return s, nil
}

// LeastShiftP is the smallest P that samples of these sizes can have.
func LeastShiftP(n, m int) float64 {
	if n < 1 || m < 1 || n > MaxShiftSample || m > MaxShiftSample {
		return 1
	}
	return min(1, 2*uDistribution(n, m)[0])
}

// uDistribution is the chance of each value of U, 0 … n·m, where both samples are of one distribution without ties: the
// n ranks among n+m are any, and U is the coefficient of the Gaussian binomial (Mann and Whitney, Annals of Mathematical
// Statistics 1947).
func uDistribution(n, m int) []float64 {
	// ways[k] of choosing what was looked at so far with U = k; scaled at the end, floats hold counts to 10^300.
	ways := make([]float64, n*m+1)
	ways[0] = 1
	// Product of (1 - q^(m+i)) / (1 - q^i), i = 1 … n, one factor after the other, within degree n·m.
	for i := 1; i <= n; i++ {
		for k := n * m; k >= m+i; k-- {
			ways[k] -= ways[k-m-i]
		}
		for k := i; k <= n*m; k++ {
			ways[k] += ways[k-i]
		}
	}
	var all float64
	for _, w := range ways {
		all += w
	}
	for k := range ways {
		ways[k] /= all
	}
	return ways
}

func cumulative(chance []float64, k int) float64 {
	var sum float64
	for i := 0; i <= k && i < len(chance); i++ {
		sum += chance[i]
	}
	return sum
}
