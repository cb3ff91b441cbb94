package scrape

import (
	"fmt"
	"strconv"
	"strings"
)

// ServerTiming reads a header such as "parse;dur=0.012, total;dur=3.1" (W3C, Server Timing): durations in milliseconds by name.
// A name that stands twice, or has no duration, is an error.
func ServerTiming(text string) (map[string]float64, error) {
	timing := map[string]float64{}
	for part := range strings.SplitSeq(text, ",") {
		name, parameters, _ := strings.Cut(strings.TrimSpace(part), ";")
		value, ok := strings.CutPrefix(strings.TrimSpace(parameters), "dur=")
		ms, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil || !(ms >= 0) {
			return nil, fmt.Errorf("%q is no phase with a duration", part)
		}
		if _, twice := timing[name]; twice {
			return nil, fmt.Errorf("%s stands twice", name)
		}
		timing[name] = ms
	}
	return timing, nil
}
