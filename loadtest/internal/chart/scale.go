package chart

import (
	"math"
	"strconv"
)

// scale is an axis: its ends and the values that it names.
type scale struct {
	low, high float64
	ticks     []float64
	log       bool
}

func (s scale) kind() string {
	if s.log {
		return "log"
	}
	return "value"
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// zeroScale begins at zero and ends at a round number beyond the largest value.
func zeroScale(values []float64, count int) scale {
	most := 0.0
	for _, v := range values {
		if finite(v) {
			most = math.Max(most, v)
		}
	}
	if most == 0 {
		most = 1
	}
	step := niceStep(most / float64(count))
	n := int(math.Ceil(most/step - 1e-9))
	s := scale{0, round(step * float64(n)), nil, false}
	for i := range n + 1 {
		s.ticks = append(s.ticks, round(step*float64(i)))
	}
	return s
}

func niceStep(x float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if m*unit >= x*(1-1e-9) {
			return round(m * unit)
		}
	}
	return round(10 * unit)
}

// round takes away what binary fractions leave: 0.30000000000000004.
func round(x float64) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 12, 64), 64)
	if err != nil {
		return x
	}
	return rounded
}

// logScale holds all positive values, with a little room, and names 1, 2 and 5 of each decade or as many as fit.
func logScale(values []float64, count int) scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if finite(v) && v > 0 {
			low, high = math.Min(low, v), math.Max(high, v)
		}
	}
	if low > high {
		low, high = 1, 10
	}
	room := math.Max(1.08, math.Pow(high/low, 0.04))
	s := scale{low / room, high * room, nil, true}
	best := -1
	for _, steps := range [][]float64{
		{1}, {1, 3}, {1, 2, 5}, {1, 1.5, 2, 3, 5, 7}, {1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9},
		{1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2, 2.2, 2.4, 2.6, 2.8, 3, 3.25, 3.5, 3.75, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 9.5},
		{1, 1.02, 1.05, 1.08, 1.1, 1.15, 1.2, 1.25, 9, 9.2, 9.5, 9.8},
	} {
		if len(steps) > 2 && steps[1] < 1.1 && s.high/s.low > 1.5 {
			continue // that fine it is for what lies close to a power of ten: of a wide range it would mark one end only
		}
		var ticks []float64
		for e := math.Floor(math.Log10(s.low)); e <= math.Ceil(math.Log10(s.high)); e++ {
			for _, m := range steps {
				if v := round(m * math.Pow(10, e)); v >= s.low && v <= s.high {
					ticks = append(ticks, v)
				}
			}
		}
		if len(ticks) <= count && len(ticks) > best {
			best, s.ticks = len(ticks), ticks
		}
	}
	for every := 2.0; best < 1; every++ { // many decades: each second one, each third …
		s.ticks = nil
		for e := math.Ceil(math.Log10(s.low)); e <= math.Floor(math.Log10(s.high)); e += every {
			s.ticks = append(s.ticks, round(math.Pow(10, e)))
		}
		if len(s.ticks) <= count {
			best = max(1, len(s.ticks))
		}
	}
	return s
}
