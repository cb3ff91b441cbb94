package stats

import "math"

// SignTest is the exact sign test of "the median is shift", of two sides: twice the chance that so few of so many fair coins
// fall on the rarer side. It assumes only that the values are independent and of one distribution, not that this is
// symmetric, as SignFlip does (Dixon and Mood 1946). Values that equal the shift count for the rarer side, which can only
// make p larger.
func SignTest(d []float64, shift float64) (float64, error) {
	if len(d) == 0 {
		return 0, ErrTooFew
	}
	n, above, below := len(d), 0, 0
	for _, v := range d {
		if v > shift {
			above++
		}
		if v < shift {
			below++
		}
	}
	rarer := n - max(above, below)
	tail, term := 0.0, math.Pow(0.5, float64(n)) // term is P(Binomial = k)
	for k := range rarer + 1 {
		tail += term
		term *= float64(n-k) / float64(k+1)
	}
	return min(1, 2*tail), nil
}
