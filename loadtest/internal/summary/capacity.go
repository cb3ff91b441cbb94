package summary

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/record"
)

// RateText is a rate as a person reads it: whole above 100, else in one digit more.
func RateText(rps float64) string {
	if rps >= 100 || rps == math.Trunc(rps) {
		return fmt.Sprintf("%.0f", rps)
	}
	return fmt.Sprintf("%.1f", rps)
}

// CapacityText is the interval of a capacity, in requests a second.
func CapacityText(c record.Capacity) string {
	switch {
	case c.LowRPS == 0 && c.HighRPS == nil:
		return "not found"
	case c.LowRPS == 0:
		return "below " + RateText(*c.HighRPS)
	case c.HighRPS == nil:
		return "at least " + RateText(c.LowRPS)
	}
	return RateText(c.LowRPS) + "–" + RateText(*c.HighRPS)
}

// Objective is what a capacity was searched for, in words.
func Objective(c record.Capacity) string {
	slo, err := capacity.ParseSLO(c.SLO)
	if err != nil {
		return c.SLO
	}
	return slo.Words()
}

// StepsOf are the trials of a capacity's search, in their order.
func StepsOf(r record.Run, c record.Capacity) []record.Trial {
	var out []record.Trial
	for _, id := range c.Steps {
		if i := slices.IndexFunc(r.Trials, func(t record.Trial) bool { return t.ID == id }); i >= 0 {
			out = append(out, r.Trials[i])
		}
	}
	return out
}

// HeldBack is what held the arm back at the rates that failed: the bottleneck that most of those trials have, at the high
// end where there is one.
func HeldBack(r record.Run, c record.Capacity) string {
	slo, err := capacity.ParseSLO(c.SLO)
	if err != nil || c.HighRPS == nil {
		return ""
	}
	counts := map[string]int{}
	for _, t := range StepsOf(r, c) {
		if outcome, _ := slo.Judge(t); outcome == capacity.Failed && t.RateRPS == *c.HighRPS {
			counts[t.Bottleneck]++
		}
	}
	best := ""
	for name, n := range counts {
		if best == "" || n > counts[best] || (n == counts[best] && name < best) {
			best = name
		}
	}
	return best
}

// NearCeiling is how many of the trials were within 20 % of the generator's ceiling.
func NearCeiling(trials []record.Trial) int {
	n := 0
	for _, t := range trials {
		if t.NearGeneratorCeiling {
			n++
		}
	}
	return n
}

// capacityText is the table of capacities on a terminal.
func capacityText(b *strings.Builder, r record.Run) {
	if r.GeneratorCeilingRPS != nil {
		fmt.Fprintf(b, "\nThe load generator keeps its schedule up to %s requests a second.", RateText(*r.GeneratorCeilingRPS))
		if n := NearCeiling(slices.DeleteFunc(slices.Clone(r.Trials), func(t record.Trial) bool { return r.ScenarioNamed(t.Scenario) != nil })); n > 0 {
			fmt.Fprintf(b, " Within 20 %% of that: %s.", Plural(n, "trial"))
		}
		b.WriteString("\n")
	}
	if len(r.Capacities) == 0 {
		return
	}
	fmt.Fprintf(b, "\nCapacity: the highest rate with %s lies between\n", Objective(r.Capacities[0]))
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, c := range r.Capacities {
		confirmed := "confirmed"
		if !c.Confirmed {
			confirmed = "not confirmed"
		}
		held := HeldBack(r, c)
		if held != "" {
			held = "held back by: " + held
		}
		fmt.Fprintf(w, "  %s\t%s /s\t%s\t%s\t%s\t%s\n", c.Arm, CapacityText(c), confirmed, Plural(len(c.Steps), "trial"), held, c.Note)
	}
	_ = w.Flush()
}
