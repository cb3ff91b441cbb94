package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// Numbers as people read them: three digits, thousands apart.

func whole(x float64) string {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "–"
	case math.Abs(x) < 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return count(uint64(math.Round(math.Max(0, x))))
}

func count(n uint64) string { return chart.Thousands(strconv.FormatUint(n, 10)) }

func digits(n int) func(float64) string {
	return func(x float64) string {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return "–"
		}
		text := strconv.FormatFloat(x, 'f', n, 64)
		if strings.Trim(text, "-0.") == "" {
			return strings.TrimPrefix(text, "-") // what is rounded to nothing has no sign
		}
		return text
	}
}

var (
	one   = digits(1)
	two   = digits(2)
	three = digits(3)
)

// milli is milliseconds in three digits.
func milli(x float64) string {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "–"
	case x >= 100:
		return whole(x)
	case x >= 10:
		return one(x)
	}
	return two(x)
}

func optional(x *float64, format func(float64) string) string {
	if x == nil {
		return "–"
	}
	return format(*x)
}

func percentOver(ratio *float64) string {
	if ratio == nil {
		return "–"
	}
	return one(100*(*ratio-1)) + " %"
}

func list(items []string) string {
	switch len(items) {
	case 0:
		return "none"
	case 1:
		return items[0]
	}
	separator := ", "
	if strings.Contains(strings.Join(items, ""), ",") {
		separator = "; "
	}
	return strings.Join(items[:len(items)-1], separator) + " and " + items[len(items)-1]
}

func sentences(items []string) string {
	var out []string
	for _, s := range items {
		out = append(out, upper(strings.TrimSuffix(s, "."))+".")
	}
	return strings.Join(out, " ")
}

func quantityWords(q summary.Quantity, format func(float64) string, unit string) string {
	if len(q.Values) == 0 {
		return "–"
	}
	if q.HasInterval() {
		return fmt.Sprintf("%s %s (95 %%: %s–%s)", format(q.Median), unit, format(q.Low), format(q.High))
	}
	if len(q.Values) == 1 {
		return format(q.Median) + " " + unit
	}
	return fmt.Sprintf("%s %s (%s, least–most %s–%s)", format(q.Median), unit, summary.Plural(len(q.Values), "trial"), format(q.Least()), format(q.Most()))
}

func (b *build) costWords(a summary.Arm) string { return quantityWords(a.CPU(), whole, "µs") }

func ratioText(v record.Verdict) string {
	if v.Ratio == nil {
		return "–"
	}
	if v.RatioLow == nil || v.RatioHigh == nil {
		return summary.Times(*v.Ratio)
	}
	return fmt.Sprintf("%s (95 %%: %s–%s)", summary.Times(*v.Ratio), summary.Times(*v.RatioLow), summary.Times(*v.RatioHigh))
}

func intervalText(v record.Verdict) string {
	if v.RatioLow == nil || v.RatioHigh == nil {
		return "–"
	}
	return summary.Times(*v.RatioLow) + "–" + summary.Times(*v.RatioHigh)
}

// verdictWords is a verdict as a sentence; v is upright.
func verdictWords(v record.Verdict) string {
	switch v.Verdict {
	case "holds":
		return fmt.Sprintf("%s costs %s times the CPU of %s", v.Arms[0], ratioText(v), v.Arms[1])
	case "too close to call":
		return fmt.Sprintf("%s against %s is too close to call: ratio %s; %s", v.Arms[0], v.Arms[1], ratioText(v), v.Reason)
	case "cannot be tested here":
		return fmt.Sprintf("whether %s and %s differ cannot be tested here: %s", v.Arms[0], v.Arms[1], v.Reason)
	}
	return fmt.Sprintf("%s against %s: %s, ratio %s; %s", v.Arms[0], v.Arms[1], v.Verdict, ratioText(v), v.Reason)
}

// floorWords sets the price of the libraries beside the distance of the languages. It describes and decides nothing.
func (b *build) floorWords(g summary.Group) string {
	var floors, prices []string
	cheap, dear := math.Inf(1), 0.0
	low, high := math.Inf(1), 0.0
	for _, a := range g.Arms {
		if a.Tier == "floor" {
			if q := a.CPU(); len(q.Values) > 0 {
				floors = append(floors, a.Name+" "+whole(q.Median)+" µs")
				cheap, dear = math.Min(cheap, q.Median), math.Max(dear, q.Median)
			}
			continue
		}
		if a.Tier != "mainstream" {
			continue
		}
		if q := g.OverFloor(a); len(q.Values) > 0 {
			prices = append(prices, two(q.Median)+" times for "+a.Name)
			low, high = math.Min(low, q.Median), math.Max(high, q.Median)
		}
	}
	if len(floors) == 0 || len(prices) == 0 {
		return ""
	}
	words := fmt.Sprintf(" By hand, without a GraphQL library: %s. Over its own floor a mainstream library costs %s.", list(floors), list(prices))
	if len(floors) > 1 {
		words += fmt.Sprintf(" So the floors of the languages are up to %s times apart, and the libraries cost %s to %s times their floor (described, not tested).", two(dear/cheap), two(low), two(high))
	}
	return words
}

func (b *build) benchWords() string {
	var out []string
	for _, g := range b.groups {
		var words []string
		for _, a := range g.Mainstream() {
			w := a.Name + " " + whole(a.CPU().Median) + " µs"
			if q := g.OverFloor(a); len(q.Values) > 0 {
				w += ", " + two(q.Median) + " × its floor"
			}
			words = append(words, w)
		}
		out = append(out, operation(g)+": "+list(words))
	}
	return sentences(out)
}

// headline is what was compared.
func (b *build) headline() string {
	if len(b.groups) == 0 {
		return "A run without trials"
	}
	if b.isAttack() {
		return chart.Clean(b.attackHeadline(), 120)
	}
	headlines, claimed := b.headlines()
	switch {
	case len(headlines) > 0:
	case len(claimed) == 1:
		return chart.Clean(fmt.Sprintf("Put to the test: “%s”", b.scenario(claimed[0]).Claim), 160)
	default:
		return fmt.Sprintf("%s put to the test", summary.Plural(len(claimed), "claim"))
	}
	var names, operations []string
	for _, a := range headlines[0].Mainstream() {
		names = append(names, chart.Clean(a.Name, labelRunes))
	}
	if len(names) == 0 {
		for _, a := range headlines[0].Arms {
			names = append(names, chart.Clean(a.Name, labelRunes))
		}
	}
	for _, g := range headlines {
		operations = append(operations, operation(g))
	}
	words := fmt.Sprintf("What answering %s costs: %s", list(operations), list(names))
	tested := len(claimed)
	if b.outweighsAnswer() != "" {
		tested++ // the headline's own
	}
	if tested > 0 {
		words += fmt.Sprintf("; and %s put to the test", summary.Plural(tested, "claim"))
	}
	return words
}

// answer is what was found, in sentences: of the headline, and then of each claim.
func (b *build) answer() []string {
	out := b.headlineAnswer()
	if words := b.outweighsAnswer(); words != "" {
		out = append(out, words)
	}
	_, claimed := b.headlines()
	for _, g := range claimed {
		if words := b.claimAnswer(b.scenario(g)); words != "" {
			out = append(out, words)
		}
	}
	return out
}

func (b *build) headlineAnswer() []string {
	if b.isAttack() && len(b.run.Trials) > 0 {
		return b.attackAnswer()
	}
	var out []string
	if b.run.Profile == "bench" {
		for _, g := range b.groups {
			var words []string
			for _, a := range g.Mainstream() {
				w := a.Name + " " + b.costWords(a)
				if q := g.OverFloor(a); len(q.Values) > 0 {
					w += ", " + two(q.Median) + " times its floor"
				}
				words = append(words, w)
			}
			out = append(out, fmt.Sprintf("%s, CPU per request of the mainstream arms: %s.", operation(g), list(words)))
		}
		return out
	}
	untested := map[string][]string{} // reason → pairs, so that one reason is said once
	headlines, _ := b.headlines()
	for _, v := range b.headlineVerdicts() {
		if v.Verdict == "cannot be tested here" {
			untested[v.Reason] = append(untested[v.Reason], v.Arms[0]+" and "+v.Arms[1])
			continue
		}
		out = append(out, upper(verdictWords(upright(v)))+".")
	}
	for _, reason := range sortedKeys(untested) {
		out = append(out, fmt.Sprintf("Whether these differ in CPU per request cannot be tested here (%s): %s.", reason, strings.Join(untested[reason], "; ")))
	}
	for _, g := range headlines {
		if m := g.Mainstream(); len(m) > 0 && len(m[0].CPU().Values) > 0 {
			q := m[0].CPU()
			out = append(out, fmt.Sprintf("Of the mainstream arms %s took the least CPU for %s: %s; %s, %s requests.",
				m[0].Name, operation(g), b.costWords(m[0]), summary.Plural(len(q.Values), "trial"), count(q.Requests())))
		}
		if words := strings.TrimSpace(b.floorWords(g)); words != "" {
			out = append(out, words)
		}
	}
	if words := b.capacityWords(); words != "" {
		out = append(out, words)
	}
	return out
}

func upper(s string) string {
	if strings.HasPrefix(s, "whether ") {
		return "W" + s[1:]
	}
	return s
}

// notWarm says which arms had not come to rest before a trial; empty where all had, or nobody looked.
func (b *build) notWarm() string {
	var names []string
	cold, warmed := 0, 0
	for _, t := range b.run.Trials {
		if t.Warm == nil {
			continue
		}
		warmed++
		if t.Warm.Converged {
			continue
		}
		cold++
		if name := chart.Clean(t.Arm, labelRunes); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if cold == 0 {
		return ""
	}
	return fmt.Sprintf("Whether the arms were warm in all trials: in %d of %d rate or CPU per request still moved when the warm-up was over (%s); the table of trials says which.", cold, warmed, list(names))
}

// absentLimits name the arms of scenarios that could not be measured here, those of one reason together.
func (b *build) absentLimits() []string {
	var out []string
	for _, s := range b.run.Scenarios {
		of := map[string][]string{}
		for _, arm := range slices.Sorted(maps.Keys(s.Absent)) {
			of[s.Absent[arm]] = append(of[s.Absent[arm]], chart.Clean(arm, labelRunes))
		}
		for _, why := range slices.Sorted(maps.Keys(of)) {
			out = append(out, fmt.Sprintf("%s of scenario %s, which cannot be tested here: %s.", list(of[why]), chart.Clean(s.ID, labelRunes), strings.TrimSuffix(chart.Clean(why, 200), ".")))
		}
	}
	return out
}

// ownLimits are the bottlenecks that are the server's own: its event loop is a part of it.
var ownLimits = []string{"contender", "event loop"}

// heldBack is a bottleneck that is not the server's as what held an arm back.
func heldBack(name string) string {
	switch name {
	case "none":
		return "something unseen that held them back"
	case "pool":
		return "their pool of connections that held them back"
	case "machine noise":
		return "something else on the machine that held them back"
	}
	return "the " + chart.Clean(name, labelRunes) + " that held them back"
}

// otherwise says that some arms had other CPUs than the run's servers have; empty where none had.
func (b *build) otherwise() string {
	for _, s := range b.run.Scenarios {
		for _, arm := range s.Arms {
			if _, n := settingOf(arm, contender.CPUs); n > 0 {
				return fmt.Sprintf(", or on as many as an arm's %s says", contender.CPUs)
			}
		}
	}
	return ""
}

// overloadedShare of what an arm bore in the pilot is the least that it answers when offered more, without the page saying so.
const overloadedShare = 0.9

// overloaded says which arms answered fewer when offered more than they bear than they did in the pilot's closed loop.
func (b *build) overloaded() []string {
	var out []string
	for _, g := range b.groups {
		bore := map[string]float64{}
		for _, p := range b.run.PlanOf(g.Scenario).Pilot {
			bore[p.Arm] = p.CapacityRPS
		}
		var fewer []string
		for _, a := range g.Arms {
			if q := a.Answers(); len(q.Values) > 0 && q.Median < overloadedShare*bore[a.Name] {
				fewer = append(fewer, fmt.Sprintf("%s %.0f %%", a.Name, 100*q.Median/bore[a.Name]))
			}
		}
		if len(fewer) > 0 {
			out = append(out, fmt.Sprintf("What arms answer while they are not offered more than they bear%s: throughput trials offer more, and there some answered only a part of what they did in the pilot (one short closed loop): %s.", summary.OfScenario(g.Scenario), list(fewer)))
		}
	}
	return out
}

// limits is what the run does not say.
func (b *build) limits() []string {
	if b.isAttack() {
		return b.attackLimits()
	}
	r := b.run
	e := r.Environment
	var out []string
	var operations []string
	for _, g := range b.groups {
		if asked := b.asked(g); !slices.Contains(operations, asked) {
			operations = append(operations, asked)
		}
	}
	where := fmt.Sprintf("Other machines, data and queries: this is %s over the data set “%s” on one machine, with the server on %s of its %s%s.", list(operations), chart.Clean(e.DataSize, labelRunes), summary.Plural(len(e.Placement["contender"]), "CPU"), summary.Plural(len(e.CPUs), "CPU"), b.otherwise())
	out = append(out, where)
	if e.CPUsShared {
		out = append(out, "Server, database and generator shared CPUs here, so latency and throughput are of all three together.")
	}
	closed := len(b.groups) > 0 && b.groups[0].Closed
	if closed {
		out = append(out, "Latency: a closed loop waits for its answers and hides queueing, so none is shown.")
	} else if r.Plan.RateRPS > 0 && b.curve() == nil {
		rate := whole(r.Plan.RateRPS) + " requests a second, which all arms bear"
		if len(r.Scenarios) > 0 {
			rate = "the rate at which it was measured: " + rate + "; of a claim's arms the rate that stands with the claim"
		}
		out = append(out, "Latency elsewhere than at "+rate+".")
	}
	out = append(out, b.delayLimits()...)
	out = append(out, b.absentLimits()...)
	for _, g := range b.groups {
		held := map[string][]string{}
		for _, a := range g.Arms {
			if name, _ := a.Bottleneck(); !closed && name != "" && !slices.Contains(ownLimits, name) {
				held[name] = append(held[name], a.Name)
			}
		}
		for _, name := range sortedKeys(held) {
			out = append(out, fmt.Sprintf("How much %s could do at most%s: in their throughput trials it was mostly %s and not the server itself.", list(held[name]), summary.OfScenario(g.Scenario), heldBack(name)))
		}
	}
	out = append(out, b.overloaded()...)
	out = append(out, b.ceilingLimits()...)
	for _, v := range r.Verdicts {
		if v.Verdict == "too close to call" {
			out = append(out, "That two arms are equal: “too close to call” is a difference that was not found, and no proof that there is none.")
			break
		}
	}
	if w := r.Plan.Power; w != nil && w.DetectableRatio != nil {
		words := fmt.Sprintf("Differences of less than %s %%: by the noise of earlier runs, %s find that much in %.0f %% of comparisons, and less more seldom.",
			one(100*(*w.DetectableRatio-1)), summary.Plural(r.Plan.Blocks, "block"), 100*w.Power)
		if len(r.Scenarios) > 0 {
			words += " That is of CPU per request; beside each verdict on a claim stands what identical arms differed by in what decides it, which in a tail can be a multiple."
		}
		out = append(out, words)
	}
	if cold := b.notWarm(); cold != "" {
		out = append(out, cold)
	}
	out = append(out, "Nothing of what no benchmark can tell: who can be hired, one language for front and back, how the code reads.")
	return out
}
