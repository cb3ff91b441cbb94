package chart

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// Style is how a contender looks, the same in every chart: a colour and a marker, so that those who tell few colours
// apart, or see markers too small, have the other.
type Style struct {
	Color  string // the name of a colour token of kit.js
	Symbol string // of ECharts, or mark: and the name of one that kit.js draws
}

var known = map[string]Style{
	"go":   {"c.go", "circle"},
	"node": {"c.node", "triangle"},
	"rust": {"c.rust", "diamond"},
}

// further contenders get one of these.
var further = []Style{
	{"c.4", "rect"}, {"c.5", "mark:down"}, {"c.6", "mark:plus"}, {"c.7", "mark:star"}, {"c.8", "mark:right"},
	{"c.9", "mark:cross"}, {"c.10", "mark:hourglass"}, {"c.11", "mark:left"}, {"c.12", "mark:hexagon"},
}

// Styles gives each contender its style. A further one's place comes from its name, so that it looks the same in the
// next run, beside others; only where two names fall on one place the second in the alphabet takes the next that is free.
// No two look alike: after the last, colours come again with other markers.
func Styles(contenders []string) map[string]Style {
	out := map[string]Style{}
	taken := map[int]bool{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(contenders))) {
		if s, ok := known[name]; ok {
			out[name] = s
			continue
		}
		round := len(taken) / len(further)
		h := fnv.New32a()
		_, _ = h.Write([]byte(name)) // a hash does not fail
		place := int(h.Sum32() % uint32(len(further)))
		for taken[round*len(further)+place] {
			place = (place + 1) % len(further)
		}
		taken[round*len(further)+place] = true
		out[name] = Style{further[place].Color, further[(place+round)%len(further)].Symbol}
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

// lineOf is a line's dashes. A tier's first arm is solid, dashed or dotted; the next have a stroke of the tier and as many dots
// as there are arms before, so that each has its own.
func lineOf(tier string, number int) any {
	var dashes A
	switch {
	case tier == "floor" && number == 0:
		return A{2, 3}
	case tier == "floor":
		dashes = A{4, 6}
	case tier == "compiled":
		dashes = A{8, 3}
	case number == 0:
		return "solid"
	default:
		dashes = A{12, 3}
	}
	for range number {
		dashes = append(dashes, 2, 3)
	}
	return dashes
}

// markerOf fills a line's markers, by token: where they stand close, and in a legend, dashes are not seen. A floor's are hollow.
func markerOf(color, tier string, number int) (fill, border string) {
	switch {
	case tier == "floor" || number%3 == 1:
		return "$bg", color
	case number%3 == 2:
		return fmt.Sprintf("%s/%g", color, fillHalf), color
	}
	return color, "$bg"
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
