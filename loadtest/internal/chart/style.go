package chart

import (
	"slices"
	"strings"
)

// Style is how a contender looks, the same in every chart: colours safe for the common colour blindnesses, and a marker.
type Style struct {
	Color  string // the name of a colour token
	Symbol string // of ECharts
}

var known = map[string]Style{
	"go":   {"c.go", "circle"},
	"node": {"c.node", "triangle"},
	"rust": {"c.rust", "diamond"},
}

// further contenders get what is left, in the order of their names.
var further = []Style{{"c.4", "rect"}, {"c.5", "pin"}, {"c.6", "roundRect"}, {"c.7", "arrow"}}

// Styles gives each contender its style.
func Styles(contenders []string) map[string]Style {
	out := map[string]Style{}
	next := 0
	for _, name := range slices.Compact(slices.Sorted(slices.Values(contenders))) {
		if s, ok := known[name]; ok {
			out[name] = s
			continue
		}
		out[name] = further[next%len(further)]
		next++
	}
	return out
}

// The tiers, told apart by fill and line: a mainstream arm is full, a compiled one half, a floor hollow.
const (
	fillFull   = 0.85
	fillHalf   = 0.38
	fillHollow = 0.0
)

func fillOf(tier string) float64 {
	switch tier {
	case "floor":
		return fillHollow
	case "compiled":
		return fillHalf
	}
	return fillFull
}

func lineOf(tier string, variant int) any {
	switch {
	case tier == "floor":
		return A{2, 3}
	case tier == "compiled":
		return A{8, 3}
	case variant > 0: // a further arm of the same contender and tier
		return A{12, 3, 2, 3}
	}
	return "solid"
}

// Clean makes a name from a record fit for a label: one line, no control characters, not without end.
func Clean(name string, most int) string {
	name = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return Upright(r)
	}, name)
	runes := []rune(name)
	if len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return name
}

// Upright gives a space for a character that is not seen and turns or breaks the text around it: a name with one could
// have numbers read backwards.
func Upright(r rune) rune {
	if r == 0x61c || (r >= 0x200b && r <= 0x200f) || (r >= 0x2028 && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) || r == 0xfeff {
		return ' '
	}
	return r
}
