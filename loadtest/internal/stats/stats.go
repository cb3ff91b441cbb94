// Package stats has the few tests that a verdict rests on. Everything in it is exact: no normal approximation and no
// bootstrap, because trials are few and their distribution is unknown.
//
// One number per trial goes in; requests of one trial are not independent and are never pooled.
package stats

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// MaxPairs bounds the number of pairs that the exact methods enumerate (2^20 sign patterns or subsets).
const MaxPairs = 20

// ErrTooFew says that no statement is possible from the number of pairs given.
var ErrTooFew = errors.New("too few pairs")

// LogRatios pairs a[i] with b[i] and returns ln(a[i]/b[i]). Both must be positive and of one length: a pair is one
// block, in which both arms met the same state of the machine.
func LogRatios(a, b []float64) ([]float64, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("pairs: %d values against %d", len(a), len(b))
	}
	out := make([]float64, len(a))
	for i := range a {
		if !(a[i] > 0) || !(b[i] > 0) || math.IsInf(a[i], 0) || math.IsInf(b[i], 0) {
			return nil, fmt.Errorf("pair %d: %g against %g: both must be positive and finite", i, a[i], b[i])
		}
		out[i] = math.Log(a[i] / b[i])
	}
	return out, nil
}

// SignFlip is the exact two-sided sign-flip (Fisher–Pitman) test of "the differences are symmetric about shift": the
// share of the 2^n sign patterns whose sum is at least as far from zero as the sum seen. Source: Fisher, The Design of
// Experiments (1935), section 21. The smallest p it can give is 2/2^n.
//
// Patterns are counted by halves: the sums of either half in order, and for each sum of the one how many of the other
// reach the sum seen with it (Pagano and Tritchler, On obtaining permutation distributions in polynomial time, JASA
// 1983, in its simplest form). 2^(n/2) steps take the place of 2^n.
func SignFlip(d []float64, shift float64) (float64, error) {
	n := len(d)
	if n == 0 || n > MaxPairs {
		return 0, fmt.Errorf("sign-flip test of %d pairs: %w or more than %d", n, ErrTooFew, MaxPairs)
	}
	x := make([]float64, n)
	var sum, scale float64
	for i, v := range d {
		x[i] = v - shift
		sum += x[i]
		scale += math.Abs(x[i])
	}
	// Sums of the same numbers in another order differ by rounding only; without this the pattern seen could miss itself.
	seen := math.Abs(sum) - scale*1e-12
	if seen <= 0 {
		return 1, nil
	}
	left, right := signedSums(x[:n/2]), signedSums(x[n/2:])
	reached := 0 // of right's largest, how many reach seen together with the left sum at hand
	extreme := 0
	for _, s := range left {
		for reached < len(right) && s+right[len(right)-1-reached] >= seen {
			reached++
		}
		extreme += reached
	}
	// Each pattern has its mirror image on the other side of zero.
	return 2 * float64(extreme) / math.Pow(2, float64(n)), nil
}

// signedSums has the sums of all sign patterns, in order: those with a further number are two ordered lists merged.
func signedSums(x []float64) []float64 {
	sums := []float64{0}
	for _, v := range x {
		v = math.Abs(v)
		next := make([]float64, 0, 2*len(sums))
		for i, j := 0, 0; i < len(sums); {
			if j < len(sums) && sums[j]-v <= sums[i]+v {
				next = append(next, sums[j]-v)
				j++
			} else {
				next = append(next, sums[i]+v)
				i++
			}
		}
		sums = next
	}
	return sums
}

// Interval inverts the sign-flip test: the values that the test at 1 - confidence would not reject. Its ends are means
// of subsets of the differences (Hartigan, Using subsample values as typical values, JASA 1969): among the 2^n - 1
// subset means in order, the k-th from either end, k = floor((1-confidence)/2 · 2^n). It needs n ≥ 6 for 95 %; below,
// it is infinite.
func Interval(d []float64, confidence float64) (low, high float64, err error) {
	n := len(d)
	if n == 0 || n > MaxPairs {
		return 0, 0, fmt.Errorf("interval of %d pairs: %w or more than %d", n, ErrTooFew, MaxPairs)
	}
	tail := (1 - confidence) / 2
	k := int(math.Floor(tail * float64(int(1)<<n)))
	if k < 1 {
		return math.Inf(-1), math.Inf(1), nil
	}
	negative := make([]float64, n)
	for i, v := range d {
		negative[i] = -v
	}
	return lowMean(d, k, tail), -lowMean(negative, k, tail), nil
}

// lowMean is the k-th smallest mean of a subset, where k of all make up that tail. Only means far out are put in order:
// the mean of a random subset has about the variance s²/n, which tells where to begin; where that was too narrow, further
// in.
func lowMean(d []float64, k int, tail float64) float64 {
	centre, most := Mean(d), slices.Max(d)
	var square float64
	for _, v := range d {
		square += (v - centre) * (v - centre)
	}
	sd := math.Sqrt(square) / float64(len(d))
	for _, wider := range []float64{1.3, 4} {
		if at := centre + sd*math.Sqrt2*math.Erfinv(2*min(wider*tail, 0.5)-1); at < most {
			if lows := meansUpTo(d, at); len(lows) >= k {
				slices.Sort(lows)
				return lows[k-1]
			}
		}
	}
	lows := meansUpTo(d, most+1+math.Abs(most)) // all
	slices.Sort(lows)
	return lows[k-1]
}

// subset is one of a half of the differences.
type subset struct {
	beyond float64 // the sum of what they are above a bound
	sum    float64
	size   int
}

// meansUpTo has the means, of all subsets but the empty one, that are at most a bound: those whose differences from it add
// up to no more than zero. Subsets are put together of two halves, each in order, so that no others are looked at.
func meansUpTo(d []float64, bound float64) []float64 {
	left, right := subsets(d[:len(d)/2], bound), subsets(d[len(d)/2:], bound)
	var means []float64
	fit := len(right)
	for _, l := range left {
		for fit > 0 && l.beyond+right[fit-1].beyond > 0 {
			fit--
		}
		for _, r := range right[:fit] {
			if size := l.size + r.size; size > 0 {
				means = append(means, (l.sum+r.sum)/float64(size))
			}
		}
	}
	return means
}

// subsets has all of them in order of beyond: those with a further difference are two ordered lists merged.
func subsets(d []float64, bound float64) []subset {
	all := []subset{{}}
	for _, v := range d {
		next := make([]subset, 0, 2*len(all))
		for i, j := 0, 0; i < len(all) || j < len(all); {
			if j == len(all) || i < len(all) && all[i].beyond <= all[j].beyond+(v-bound) {
				next = append(next, all[i])
				i++
			} else {
				next = append(next, subset{all[j].beyond + (v - bound), all[j].sum + v, all[j].size + 1})
				j++
			}
		}
		all = next
	}
	return all
}

// Equivalence tests on which side of a margin the centre of symmetry of log-ratios lies: nearer to zero than margin
// (inside), or farther. The mean says which of the two is tested. Inside, p is the larger of the sign-flip tests about
// either end of the margin (two one-sided tests: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 1987);
// outside, it is that about the nearer end. Both are two-sided, so that p below 0.05 says that the whole 95 % interval
// is on that side; a one-sided test would let either error happen twice as often. The margin is a log-ratio above 0.
func Equivalence(d []float64, margin float64) (p float64, inside bool, err error) {
	if !(margin > 0) || math.IsInf(margin, 0) {
		return 0, false, fmt.Errorf("equivalence within %g: the margin must be positive and finite", margin)
	}
	mean := Mean(d)
	if inside = math.Abs(mean) < margin; !inside {
		p, err = SignFlip(d, math.Copysign(margin, mean))
		return p, inside, err
	}
	for _, end := range []float64{margin, -margin} {
		q, err := SignFlip(d, end)
		if err != nil {
			return 0, inside, err
		}
		p = max(p, q)
	}
	return p, inside, nil
}

// Holm returns the adjusted p-values of one family, in the order given. Source: Holm, A simple sequentially rejective
// multiple test procedure, Scand. J. Statist. 1979.
func Holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		}
		return 0
	})
	out := make([]float64, len(p))
	running := 0.0
	for rank, i := range order {
		running = max(running, min(1, p[i]*float64(len(p)-rank)))
		out[i] = running
	}
	return out
}

const noiseConfidence = 0.95

// NoiseFloor is the effect, as a log-ratio, that identical arms cannot be told from: the larger end, without its sign,
// of the 95 % interval of the A/A log-ratios. A difference between two contenders counts only beyond it.
func NoiseFloor(aa []float64) (float64, error) {
	low, high, err := Interval(aa, noiseConfidence)
	if err != nil {
		return 0, err
	}
	return max(math.Abs(low), math.Abs(high)), nil
}

// BinomialBounds are the least and the largest number of successes in n trials of chance p that are not significant:
// fewer than low, and more than high, each come with a chance of at most tail. Exact, by adding the chances up.
func BinomialBounds(n int, p, tail float64) (low, high int) {
	whole := func(x int) float64 { g, _ := math.Lgamma(float64(x) + 1); return g }
	chance := func(k int) float64 {
		return math.Exp(whole(n) - whole(k) - whole(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	if p <= 0 || p >= 1 {
		k := int(math.Round(max(0, min(1, p)))) * n
		return k, k
	}
	for sum := chance(low); sum <= tail && low < n; sum += chance(low) {
		low++
	}
	high = n
	for sum := chance(high); sum <= tail && high > 0; sum += chance(high) {
		high--
	}
	return low, high
}

// Mean is the arithmetic mean; NaN of nothing.
func Mean(x []float64) float64 {
	var s float64
	for _, v := range x {
		s += v
	}
	return s / float64(len(x))
}

// Median is the middle value, or the mean of the two in the middle; NaN of nothing.
func Median(x []float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	s := slices.Clone(x)
	slices.Sort(s)
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// MinPairs is the smallest number of pairs with which the sign-flip test can fall under alpha after Holm's correction
// over a family of that many tests.
func MinPairs(alpha float64, family int) int {
	n := 1
	for 2/math.Pow(2, float64(n))*float64(family) >= alpha {
		n++
	}
	return n
}

// MedianInterval is the exact interval of the median of one arm's trials: the k-th value from either end, with the
// largest k for which the chance that the true median lies outside, 2·P(Binomial(n, ½) < k), is at most 1 - confidence.
// It assumes of the trials only that they are independent and of one distribution (David and Nagaraja, Order Statistics,
// section 7.1). Below 6 values there is none for 95 %, and it is infinite.
func MedianInterval(x []float64, confidence float64) (low, high float64) {
	s := slices.Clone(x)
	slices.Sort(s)
	n := len(s)
	k, outside, term := 0, 0.0, math.Pow(0.5, float64(n)) // term is P(Binomial = k)
	for k < n/2 && outside+2*term <= 1-confidence+1e-12 {
		outside += 2 * term
		term *= float64(n-k) / float64(k+1)
		k++
	}
	if k == 0 {
		return math.Inf(-1), math.Inf(1)
	}
	return s[k-1], s[n-k]
}

// Carries tells whether n requests carry a quantile: whether, were the true one larger than the largest value seen, that
// would have shown with 99 % confidence. p99 needs 459 (0.99^459 < 0.01).
func Carries(quantile float64, n uint64) bool {
	return n > 0 && math.Pow(quantile, float64(n)) < 0.01
}
