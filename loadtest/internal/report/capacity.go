package report

import (
	"fmt"
	"slices"
	"time"

	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// capacitySections are the table of capacities, and the curves of latency against rate.
func (b *build) capacitySections() []section {
	var out []section
	if len(b.run.Capacities) > 0 {
		out = append(out, b.capacityTable())
	}
	if s := b.curve(); s != nil {
		out = append(out, *s)
	}
	return out
}

func (b *build) capacityTable() section {
	t := table{Caption: "Capacity by arm", Heads: []string{"arm", "objective", "held at, requests a second", "failed at", "confirmed", "trials", "held and failed at", "held back by", "note"}}
	for _, c := range b.run.Capacities {
		held, failed := "nowhere", "nowhere tried"
		if c.LowRPS > 0 {
			held = summary.RateText(c.LowRPS)
		}
		if c.HighRPS != nil {
			failed = summary.RateText(*c.HighRPS)
		}
		confirmed := "yes"
		if !c.Confirmed {
			confirmed = "NO"
		}
		contested := "none"
		if len(c.ContestedRPS) > 0 {
			var words []string
			for _, x := range c.ContestedRPS {
				words = append(words, summary.RateText(x))
			}
			contested = list(words)
		}
		by := summary.HeldBack(b.run, c)
		if by == "" {
			by = "–"
		}
		if n := summary.NearCeiling(summary.StepsOf(b.run, c)); n > 0 {
			by += fmt.Sprintf("; %s within 20 %% of the generator's ceiling", summary.Plural(n, "trial"))
		}
		t.Rows = append(t.Rows, []string{b.markedName(c.Arm), summary.Objective(c), held, failed, confirmed, fmt.Sprint(len(c.Steps)), contested, by, c.Note})
	}
	lead := "The highest rate at which the objective holds lies between the two rates: it held in each trial at the first and failed in each at the second. Doubled until it failed, bisected down to 5 % or to rates that went both ways, and confirmed where at least three trials more agreed at each end. Response times count from the intended send."
	if c := b.run.GeneratorCeilingRPS; c != nil {
		lead += fmt.Sprintf(" The load generator itself keeps its schedule up to %s requests a second.", summary.RateText(*c))
	}
	return section{"capacity", "Capacity", lead, nil, t}
}

// markedName is an arm's name, with a mark where it was not proven equal.
func (b *build) markedName(arm string) string {
	for _, g := range b.groups {
		for _, a := range g.Arms {
			if a.Name == arm {
				return marked(a)
			}
		}
	}
	return arm
}

// curve is p50 and p99 against rate, with the objective's line.
func (b *build) curve() *section {
	var arms []string
	trials := map[string][]record.Trial{}
	for _, t := range b.run.Trials {
		if t.Load != record.LoadCurve || t.Void != nil {
			continue
		}
		if !slices.Contains(arms, t.Arm) {
			arms = append(arms, t.Arm)
		}
		trials[t.Arm] = append(trials[t.Arm], t)
	}
	if len(arms) == 0 {
		return nil
	}
	slices.Sort(arms)
	percentiles := summary.Percentiles()
	shown := []summary.Percentile{percentiles[0], percentiles[2]}
	// A panel for the objective's percentile where it is neither.
	slo, hasSLO := capacity.SLO{}, false
	if len(b.run.Capacities) > 0 {
		var err error
		if slo, err = capacity.ParseSLO(b.run.Capacities[0].SLO); err == nil {
			hasSLO = true
			for _, p := range percentiles {
				if p.Name == slo.Percentile && p.Name != shown[0].Name && p.Name != shown[1].Name {
					shown = append(shown, p)
				}
			}
		}
	}
	var panels []chart.CurvePanel
	var finding []string
	for _, p := range shown {
		panel := chart.CurvePanel{Title: p.Name, Axis: p.Name}
		if hasSLO && p.Name == slo.Percentile {
			panel.Limit, panel.LimitLabel = float64(slo.Limit)/float64(time.Millisecond), "objective: "+slo.Words()
		}
		variants := map[string]int{}
		for _, arm := range arms {
			of := trials[arm]
			first := of[0]
			line := chart.Line{Name: chart.Clean(b.markedName(arm), labelRunes+18), Style: b.styles[first.Contender], Tier: first.Tier, Number: variants[first.Contender+"/"+first.Tier]}
			variants[first.Contender+"/"+first.Tier]++
			slices.SortStableFunc(of, byRate)
			for _, t := range of {
				if y := ms(p.Of(t)); stats.Carries(p.Quantile, t.Sent) && y > 0 {
					line.Points = append(line.Points, chart.Point{X: t.RateRPS, Y: y, Marked: true, Tip: []string{summary.RateText(t.RateRPS) + " requests a second", chart.Clean(arm, labelRunes) + "  " + p.Name + " " + milli(y) + " ms"}})
				}
			}
			for _, t := range b.run.Trials { // the search's own trials, faint
				if y := ms(p.Of(t)); t.Load == record.LoadCapacity && t.Arm == arm && t.Void == nil && t.Failed == 0 && stats.Carries(p.Quantile, t.Sent) && y > 0 {
					line.Dots = append(line.Dots, chart.Dot2{X: t.RateRPS, Y: y})
				}
			}
			panel.Lines = append(panel.Lines, line)
		}
		panels = append(panels, panel)
	}
	t := table{Caption: "Latency against rate", Heads: []string{"arm", "requests a second", "of its capacity", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "requests", "failed", "held back by"}}
	for _, arm := range arms {
		of := trials[arm]
		for _, x := range of {
			share := "–"
			if i := slices.IndexFunc(b.run.Capacities, func(c record.Capacity) bool { return c.Arm == arm }); i >= 0 && b.run.Capacities[i].LowRPS > 0 {
				share = fmt.Sprintf("%.0f %%", 100*x.RateRPS/b.run.Capacities[i].LowRPS)
			}
			row := []string{b.markedName(arm), summary.RateText(x.RateRPS), share}
			for _, p := range percentiles {
				text := "–"
				if stats.Carries(p.Quantile, x.Sent) {
					text = milli(ms(p.Of(x)))
				}
				row = append(row, text)
			}
			t.Rows = append(t.Rows, append(row, count(x.Sent), count(x.Failed), heldBy(x.Bottleneck)+nearCeiling(x)))
		}
		if last := of[len(of)-1]; stats.Carries(0.99, last.Sent) {
			finding = append(finding, fmt.Sprintf("%s at %s requests a second p50 %s ms, p99 %s ms", arm, summary.RateText(last.RateRPS), milli(ms(last.LatencyP50NS)), milli(ms(last.LatencyP99NS))))
		}
	}
	f := chart.Curves{
		ID: "curve", Title: "Latency against rate, " + b.curveOperation(), Subtitle: "From the intended send, milliseconds, logarithmic. Lower is faster. Small marks: single trials of the search for the capacity.",
		Finding: "At the highest rate of each arm's curve: " + list(finding) + ".", Rate: true, Axis: "requests a second", Height: 320, Panels: panels,
	}.Figure()
	return &section{"curve", "Latency against rate", "Each arm at shares of its own capacity (25, 50, 75 and 90 % of the rate at which the objective held) and at rates common to all; one trial a mark, each with a fresh process, in random order. Described, not tested. A percentile that a trial's requests do not carry is left out.", &f, t}
}

func byRate(x, y record.Trial) int {
	switch {
	case x.RateRPS < y.RateRPS:
		return -1
	case x.RateRPS > y.RateRPS:
		return 1
	}
	return 0
}

func (b *build) curveOperation() string {
	for _, t := range b.run.Trials {
		if t.Load == record.LoadCurve {
			return operation(summary.Group{Operation: t.Operation})
		}
	}
	return ""
}

// nearCeiling marks a trial whose rate comes near what the generator can give.
func nearCeiling(t record.Trial) string {
	if t.NearGeneratorCeiling {
		return " (within 20 % of the generator's ceiling)"
	}
	return ""
}

// capacityWords are the capacities in a sentence; empty where none was searched.
func (b *build) capacityWords() string {
	if len(b.run.Capacities) == 0 {
		return ""
	}
	var words []string
	for _, c := range b.run.Capacities {
		w := c.Arm + " " + summary.CapacityText(c)
		if !c.Confirmed {
			w += " (not confirmed)"
		}
		words = append(words, w)
	}
	return fmt.Sprintf("Capacity, the requests a second up to which %s: %s.", holdsWords(b.run.Capacities[0]), list(words))
}

func holdsWords(c record.Capacity) string {
	slo, err := capacity.ParseSLO(c.SLO)
	if err != nil {
		return c.SLO + " holds"
	}
	return fmt.Sprintf("%s stays under %v and no request fails", slo.Percentile, slo.Limit)
}

// ceilingLimits says of whom throughput is told that may be the generator's.
func (b *build) ceilingLimits() []string {
	var out []string
	for _, g := range b.groups {
		ceiling := b.run.CeilingOf(g.Scenario)
		if ceiling == nil {
			continue
		}
		var near []string
		for _, a := range g.Arms {
			if n := summary.NearCeiling(a.Throughput); n > 0 {
				near = append(near, fmt.Sprintf("%s (%d of %d)", a.Name, n, len(a.Throughput)))
			}
		}
		if len(near) > 0 {
			out = append(out, fmt.Sprintf("What these could do at most%s: throughput trials within 20 %% of the load generator's own ceiling, %s requests a second: %s.", summary.OfScenario(g.Scenario), summary.RateText(*ceiling), list(near)))
		}
	}
	return out
}

// extraParts says whether there is anything for the columns of the parts' table that only newer records have.
func extraParts(trials []record.Trial) bool {
	return slices.ContainsFunc(trials, func(t record.Trial) bool { return t.CountedNS > 0 })
}

const extraPartsLead = " Context switches and the time waited for a CPU are of the threads that lived at the trial's end, added up over them; “some waited” is the control group's own account of pressure, in which time counts once however many wait. A dash: the kernel or the engine does not tell."

var extraPartHeads = []string{"switches per request, voluntary", "involuntary", "waited for a CPU, ms a second", "some waited, ms a second", "throttled, ms a second"}

// extraPartCells are of one part: medians over the trials that tell.
func extraPartCells(trials []record.Trial, name string) []string {
	perRequest := func(of func(record.Part) *int64) string {
		return two(summary.Of(trials, func(t record.Trial) (float64, bool) {
			v := of(t.Parts[name])
			if v == nil || t.Sent == 0 {
				return 0, false
			}
			return float64(*v) / float64(t.Sent), true
		}).Median)
	}
	perSecond := func(of func(record.Part) *float64) string {
		return one(summary.Of(trials, func(t record.Trial) (float64, bool) {
			v := of(t.Parts[name])
			if v == nil || t.CountedNS == 0 {
				return 0, false
			}
			return *v * 1e3 / time.Duration(t.CountedNS).Seconds(), true
		}).Median)
	}
	return []string{
		perRequest(func(p record.Part) *int64 { return p.VoluntarySwitches }), perRequest(func(p record.Part) *int64 { return p.InvoluntarySwitches }),
		perSecond(func(p record.Part) *float64 { return p.RunDelaySeconds }), perSecond(func(p record.Part) *float64 { return p.PressureSeconds }),
		perSecond(func(p record.Part) *float64 { return p.ThrottledSeconds }),
	}
}
