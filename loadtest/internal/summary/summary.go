// Package summary sorts a run's trials, takes figures from them, and says them on a terminal, from the record alone.
package summary

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
)

// row is what the table on the screen says of one arm.
type row struct {
	arm        Arm
	cpu        Quantity
	floor      float64 // cpu ÷ that of the contender's floor, as in the report; NaN without one
	latency    []Quantity
	throughput Quantity
	pss        float64 // MB, the most of all blocks
}

// rows has the cheapest first.
func rows(g Group) []row {
	var out []row
	for _, a := range g.Arms {
		x := row{arm: a, cpu: a.CPU(), floor: math.NaN(), throughput: a.Answers(), pss: a.Memory(func(t record.Trial) *int64 { return t.MemoryPSSPeakBytes }).Most()}
		if a.Tier == "floor" {
			x.floor = 1
		}
		if q := g.OverFloor(a); len(q.Values) > 0 {
			x.floor = q.Median
		}
		for _, p := range Percentiles()[:3] {
			x.latency = append(x.latency, a.LatencyOf(p, g.Operation))
		}
		out = append(out, x)
	}
	slices.SortStableFunc(out, func(a, b row) int { return cheaper(a.cpu, b.cpu) })
	return out
}

var heads = []string{"arm", "tier", "CPU µs/request", "÷ floor", "p50 ms", "p90 ms", "p99 ms", "requests", "throughput /s", "held back by", "PSS MB", "SQL/request", "void"}

func (x row) cells() []string {
	name := x.arm.Name
	if x.arm.Nonconformant {
		name += " (not conformant!)"
	}
	bottleneck, _ := x.arm.Bottleneck()
	out := []string{name, x.arm.Tier, spread(x.cpu), number(x.floor, 2)}
	for _, q := range x.latency {
		out = append(out, number(q.Median, 1))
	}
	return append(out, fmt.Sprint(x.cpu.Requests()), spread(x.throughput), bottleneck,
		number(x.pss, 0), number(x.arm.Statements().Median, 2), fmt.Sprintf("%d of %d", x.arm.Void, x.arm.Trials))
}

func spread(q Quantity) string {
	if len(q.Values) == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", number(q.Median, 0), number(q.Least(), 0), number(q.Most(), 0))
}

func number(x float64, digits int) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, x)
}

// What says in one sentence what was measured.
func What(r record.Run, g Group) string {
	if r.Profile == record.ProfileAttack {
		return attackWords(r, g)
	}
	p := r.PlanOf(g.Scenario)
	if g.Closed {
		return fmt.Sprintf("%s, closed loop, each arm always busy; %s in random order, seed %d; data %s.", strings.ToUpper(g.Operation), Plural(p.Blocks, "round"), r.Seed, r.Environment.DataSize)
	}
	floors := ""
	if p.FloorBlocks > 0 && slices.ContainsFunc(g.Arms, func(a Arm) bool { return a.Tier == "floor" }) {
		floors = fmt.Sprintf(" (floors %d)", p.FloorBlocks)
	}
	of := ""
	if s := r.ScenarioNamed(g.Scenario); s != nil {
		of = "Scenario " + s.ID + ": "
	}
	return fmt.Sprintf("%s%s, open loop with Poisson arrivals%s%s; %s in random order%s, seed %d; data %s.",
		of, OperationWords(r, g), RateWords(r, g.Scenario), DelayWords(r, g.Scenario)+FaultWords(r, g.Scenario), Plural(p.Blocks, "block"), floors, r.Seed, r.Environment.DataSize)
}

// OperationWords are what a group's requests ask, with their shares where they are a mix.
func OperationWords(r record.Run, g Group) string {
	s := r.ScenarioNamed(g.Scenario)
	if s == nil || len(s.Mix) == 0 {
		return strings.ToUpper(g.Operation)
	}
	total := 0.0
	for _, name := range slices.Sorted(maps.Keys(s.Mix)) { // a sum in another order is another number
		total += s.Mix[name]
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(s.Mix)) {
		own := ""
		if n := s.OwnConnections[name]; n > 0 {
			own = ", on " + Plural(n, "connection") + " of its own"
		}
		words = append(words, fmt.Sprintf("%s (%.3g %%%s)", strings.ToUpper(name), 100*s.Mix[name]/total, own))
	}
	return strings.Join(words, " and ")
}

// RateWords say at what rate a scenario's arms were asked: " at 70 requests a second".
func RateWords(r record.Run, scenario string) string {
	rate := r.PlanOf(scenario).RateRPS
	s := r.ScenarioNamed(scenario)
	if s != nil && !slices.Contains(s.Loads, record.LoadRate) {
		return " at more than each arm bears"
	}
	if s != nil && s.OwnShare > 0 {
		return fmt.Sprintf(" at %.0f %% of what arms bore in their pilots (the least %.0f requests a second)", 100*s.OwnShare, rate)
	}
	return fmt.Sprintf(" at %.0f requests a second", rate)
}

// ConnectionWords are the numbers of connections of closed loops.
func ConnectionWords(connections []int) string {
	var words []string
	for _, n := range connections {
		words = append(words, fmt.Sprint(n))
	}
	if len(words) < 2 {
		return strings.Join(words, "") + " connections"
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last] + " connections"
}

// OfScenario tells a claim's figures from those of the headline, a benchmark or an attack: " (SCENARIO)", or nothing.
func OfScenario(id string) string {
	if id == "" || id == "library" || id == "bench" || id == "attack" {
		return ""
	}
	return " (" + id + ")"
}

// DelayWords say what was added to the ways of a scenario's contenders, or nothing.
func DelayWords(r record.Run, scenario string) string {
	s := r.ScenarioNamed(scenario)
	if s == nil || len(s.DelaysNS) == 0 {
		return ""
	}
	var words []string
	for _, way := range slices.Sorted(maps.Keys(s.DelaysNS)) {
		to := map[string]string{"client": "the server", "database": "the database", "upstream": "the quote service", "redis": "Redis"}[way]
		words = append(words, fmt.Sprintf("%v added to each round trip to %s", time.Duration(s.DelaysNS[way]), cmp.Or(to, way)))
	}
	return ", " + strings.Join(words, ", ")
}

// Plural is a number of things.
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

const legend = `CPU: median of the blocks (least–most), user and system time of the contender. ÷ floor: against the same answer by hand
in the same language, geometric mean of the blocks that have both. Latency counts from the intended send; medians of the blocks' percentiles, where the requests of a
trial carry them. Throughput: answers a second when offered 1.3 times what the pilot bore, and what held the arm back there.`

// Caution is what must stand on every page of a run that proves nothing or is not whole.
func Caution(r record.Run) string {
	var b strings.Builder
	if !r.Evidence {
		fmt.Fprintf(&b, "This is a %s run: it shows that everything works. Its figures are no evidence.\n", r.Profile)
	}
	if !r.Complete {
		b.WriteString("This run was interrupted: what follows is what was measured until then.")
		if len(r.Plan.Pilot) > 0 || len(r.Scenarios) > 0 { // a comparison's plan
			b.WriteString(" loadtest compare --resume, with its folder, measures the rest.")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Text is for a terminal.
func Text(r record.Run) string {
	var b strings.Builder
	b.WriteString(Caution(r))
	if r.Profile == record.ProfileAttack {
		attackText(&b, r)
		return b.String()
	}
	for _, g := range Groups(r) {
		fmt.Fprintf(&b, "%s\n\n", What(r, g))
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, strings.Join(heads, "\t"))
		for _, x := range rows(g) {
			fmt.Fprintln(w, strings.Join(x.cells(), "\t"))
		}
		_ = w.Flush()
		fmt.Fprintln(&b)
		closedText(&b, r, g)
		faultText(&b, g)
	}
	fmt.Fprintf(&b, "%s\n", legend)
	verdictText(&b, r)
	capacityText(&b, r)
	for _, line := range r.Warnings {
		fmt.Fprintf(&b, "Note: %s\n", line)
	}
	return b.String()
}

// closedText has the closed loops of a scenario by number of connections, where it has any.
func closedText(b *strings.Builder, r record.Run, g Group) {
	s := r.ScenarioNamed(g.Scenario)
	if s == nil || len(s.Connections) == 0 {
		return
	}
	fmt.Fprintf(b, "In closed loops of %s:\n\n", ConnectionWords(s.Connections))
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "arm\tconnections\tanswers /s\tp50 ms\tp99 ms\tCPU µs/request")
	percentiles := Percentiles()
	for _, a := range g.Arms {
		for _, n := range s.Connections {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", a.Name, n, spread(a.ClosedAnswers(n)),
				number(a.ClosedLatency(percentiles[0], n).Median, 1), number(a.ClosedLatency(percentiles[2], n).Median, 1), number(a.ClosedCPU(n).Median, 0))
		}
	}
	_ = w.Flush()
	fmt.Fprintln(b)
}

// verdictText tells the verdicts, those of a scenario under its claim and what they say of it together.
func verdictText(b *strings.Builder, r record.Run) {
	if len(r.Verdicts) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	scenario, outweighing := "", false
	for i, v := range r.Verdicts {
		if i == 0 || v.Scenario != scenario || (v.Library != nil) != outweighing {
			scenario, outweighing = v.Scenario, v.Library != nil
			_ = w.Flush()
			switch s := r.ScenarioNamed(v.Scenario); {
			case s != nil:
				fmt.Fprintf(b, "\n%s: “%s”: %s. %s\n", s.ID, s.Claim, claims.Overall(VerdictsOf(r, s.ID)), RuleWords(*s))
			case outweighing && r.Outweighs != nil:
				fmt.Fprintf(b, "\n%s: “%s”: %s. %s\n", v.Scenario, r.Outweighs.Claim, claims.Overall(Outweighing(r)), OutweighsWords(*r.Outweighs))
			default:
				b.WriteString("\nDo these two differ in CPU per request?\n")
			}
		}
		fmt.Fprintf(w, "  %s against %s\t%s\t%s\t%s\n", v.Arms[0], v.Arms[1], v.Verdict, ratio(v), v.Reason)
	}
	_ = w.Flush()
}

// Outweighing are the verdicts on the claim of the library.
func Outweighing(r record.Run) []record.Verdict {
	return slices.DeleteFunc(slices.Clone(r.Verdicts), func(v record.Verdict) bool { return v.Library == nil })
}

// OutweighsWords says what decides the claim of the library.
func OutweighsWords(o record.Outweighs) string {
	return fmt.Sprintf("Decided by %s: for each pair of languages, the factor by which %s in place of %s changes it over the factor by which the one language in place of the other does; one pair is enough.",
		claims.MetricWords(o.Metric), o.Library[1], o.Library[0])
}

// VerdictsOf are a scenario's.
func VerdictsOf(r record.Run, scenario string) []record.Verdict {
	return slices.DeleteFunc(slices.Clone(r.Verdicts), func(v record.Verdict) bool { return v.Scenario != scenario })
}

// RuleWords says what decides a scenario.
func RuleWords(s record.Scenario) string {
	metric := claims.DecidingWords(s)
	if len(s.Baselines) > 0 {
		var from []string
		for _, arm := range slices.Sorted(maps.Keys(s.Baselines)) {
			from = append(from, fmt.Sprintf("of %s from %s", arm, s.Baselines[arm]))
		}
		metric += " (" + strings.Join(from, ", ") + ")"
	}
	switch s.Rule {
	case string(claims.Equal):
		return fmt.Sprintf("Decided by %s: equal within %.0f %%.", metric, 100*(s.Margin-1))
	case string(claims.Within):
		return fmt.Sprintf("Decided by %s: the median of an arm's blocks is below the bound of %v, and no answer is wrong.", metric, time.Duration(s.BoundNS))
	case string(claims.Less):
		return fmt.Sprintf("Decided by %s: the first of a pair has less.", metric)
	}
	return fmt.Sprintf("Decided by %s: the two of a pair differ.", metric)
}

func ratio(v record.Verdict) string {
	if v.Ratio == nil {
		return "–"
	}
	if v.RatioLow == nil || v.RatioHigh == nil {
		return Times(*v.Ratio)
	}
	return fmt.Sprintf("%s [%s, %s]", Times(*v.Ratio), Times(*v.RatioLow), Times(*v.RatioHigh))
}

// Times is a ratio with two digits after the point, and of a small one with the two that say how small it is.
func Times(x float64) string {
	digits := 2
	if x > 0 && x < 0.1 {
		digits = min(9, 1-int(math.Floor(math.Log10(x))))
	}
	return strconv.FormatFloat(x, 'f', digits, 64)
}
