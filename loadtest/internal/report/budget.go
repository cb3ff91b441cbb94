package report

import (
	"fmt"
	"time"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// budgetPart is a part of the article's latency budget, in its order and colour.
type budgetPart struct {
	name, color string
	of          func(summary.Arm) summary.Quantity
}

// budget is where the time of a request went: the article's latency budget, drawn as one bar for each arm.
func (b *build) budget(g summary.Group, s *record.Scenario) section {
	networkMS, networkWords := networkOf(s)
	leastMS := float64(s.DelaysNS[contract.WayUpstream]) / 1e6
	with := func(name string, more float64) func(summary.Arm) summary.Quantity {
		return func(a summary.Arm) summary.Quantity {
			return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
				ms, ok := t.Phase(name)
				return ms + more, ok
			})
		}
	}
	phase := func(name string) func(summary.Arm) summary.Quantity { return with(name, 0) }
	total, own := with(record.PhaseTotal, networkMS), phase(record.PhaseOwn)
	parts := []budgetPart{
		{"network", "c.7", func(a summary.Arm) summary.Quantity {
			return summary.Of(a.Rate, func(t record.Trial) (float64, bool) { return networkMS, t.Phases != nil })
		}},
		{"database", "c.10", phase(record.PhaseDatabase)},
		{"service", "c.4", phase(record.PhaseUpstream)},
		{"application", "c.6", own},
	}
	panel := chart.Panel{Axis: "time of a request, ms", Format: "number"}
	for _, p := range parts {
		panel.Legend = append(panel.Legend, chart.Key{Name: p.name, Color: p.color})
	}
	call := func(a summary.Arm) summary.Quantity {
		return summary.Of(a.Rate, func(t record.Trial) (float64, bool) { return externalCall(t, leastMS) })
	}
	added := func(a summary.Arm) summary.Quantity {
		return summary.Of(a.Rate, func(t record.Trial) (float64, bool) { return addedUp(t, networkMS, leastMS) })
	}
	apart := []budgetPart{parts[0], parts[1], {"external call", parts[2].color, call}, parts[3]}
	var finding, sums []string
	for _, a := range told(g) {
		if q := added(a); len(q.Values) > 0 {
			sums = append(sums, fmt.Sprintf("%s %s ms", a.Name, one(q.Median)))
		}
		q, sum := own(a), total(a)
		words := a.Name + " " + quantityWords(q, two, "ms")
		if len(q.Values) > 0 && sum.Median > 0 {
			words += fmt.Sprintf(" (%s %% of %s ms)", one(100*q.Median/sum.Median), one(sum.Median))
		}
		finding = append(finding, words)
	}
	f := chart.Rows{
		ID: b.id(g, "budget"), Title: "Where the time of a request goes, " + operation(g),
		Subtitle: "Medians of requests sent one after the other. " + b.count(g, total),
		Finding:  "The application's own time: " + list(finding) + ".",
		Panels:   []chart.Panel{panel, {Axis: "the application's own, ms", Format: "number"}},
	}
	if len(sums) > 0 {
		f.Finding += " One after the other, as the article adds the parts up: " + list(sums) + "; a sum, and no measured response."
		f.Panels = append(f.Panels, chart.Panel{Title: addedUpTitle, Axis: "sum of the measured parts, ms", Format: "number"})
	}
	f.Rows = b.rows(g, func(a summary.Arm) []chart.Cell {
		cells := []chart.Cell{partsBar(a, total(a), parts), cell(a, own(a), two, "ms")}
		if len(sums) > 0 {
			bar := partsBar(a, added(a), apart)
			if len(bar.Tip) > 0 {
				bar.Tip = append(bar.Tip, fmt.Sprintf("a sum; the response took %s ms", two(total(a).Median)))
			}
			cells = append(cells, bar)
		}
		return cells
	}, func(a summary.Arm) string { return chart.Clean(a.Tier, labelRunes) })
	var columns []column
	for _, p := range parts {
		columns = append(columns, column{p.name + " ms", p.of, two})
	}
	columns = append(columns, column{"total ms", total, two})
	if len(sums) > 0 {
		columns = append(columns, column{"external call ms", call, two}, column{"one after the other (a sum) ms", added, two})
	}
	median := quantityOf("latency_p50_ns", s.Operation)
	columns = append(columns, column{"under load, " + median.head, median.of, median.format})
	for _, name := range []string{"parse", "validate", "execute", "serialize"} {
		columns = append(columns, column{name + " ms", phase(name), two})
	}
	figure := f.Figure()
	lead := "Database: a statement was in flight. Service: a call of it was, and no statement, so that what passed while both were asked at once is the database's. Application: the rest of the server's time. The bar is made of the parts' medians; the whisker is the total's interval, which has the network in it. The servers tell all parts but the network (Server-Timing). " + networkWords +
		" Beside the bar, the application's own time, with a mark for each trial. "
	if len(sums) > 0 {
		lead += "“" + capital(addedUpTitle) + "” is the article's way, made of the same measured parts: network, database, the whole external call and the application, of each trial. It is a sum, and no measured response" + b.howAsked(g, leastMS) + " "
	}
	lead += "In the table, “under load” is the median response time of the trials themselves, from the intended send."
	return section{b.id(g, "budget"), chart.Clean(s.ID+": where the time goes", 80), lead, &figure, quantityTable("Phases of a request, medians", g, columns)}
}

// addedUpTitle is of the panel in which no two parts pass at once.
const addedUpTitle = "one after the other (a sum)"

// partsBar is a bar of parts' medians, with the whole's interval.
func partsBar(a summary.Arm, whole summary.Quantity, parts []budgetPart) chart.Cell {
	bar := cell(a, whole, one, "ms")
	bar.Dots = nil
	if len(whole.Values) == 0 {
		return bar
	}
	for _, p := range parts {
		if q := p.of(a); len(q.Values) > 0 && q.Median > 0 {
			bar.Parts = append(bar.Parts, chart.Part{Value: q.Median, Text: one(q.Median), Color: p.color})
			bar.Tip = append(bar.Tip, fmt.Sprintf("%s %s ms", p.name, two(q.Median)))
		}
	}
	return bar
}

// atOnce says whether a trial's service was asked while the database was: then the phase of the service, in which no
// statement was in flight, is shorter than the delay that was set for a call. known is false where none was set, or all of
// the call passed beside statements.
func atOnce(t record.Trial, leastMS float64) (is, known bool) {
	alone, ok := t.Phase(record.PhaseUpstream)
	return alone < leastMS, ok && alone > 0 && leastMS > 0
}

// externalCall is the whole call of the service in milliseconds. Asked at once with the database it is what both together
// took, from the first statement on.
func externalCall(t record.Trial, leastMS float64) (float64, bool) {
	at, known := atOnce(t, leastMS)
	database, _ := t.Phase(record.PhaseDatabase)
	alone, _ := t.Phase(record.PhaseUpstream)
	if at {
		alone += database
	}
	return alone, known
}

// addedUp is the article's budget of a trial: its parts as if each had begun when the one before was over.
func addedUp(t record.Trial, networkMS, leastMS float64) (float64, bool) {
	call, ok := externalCall(t, leastMS)
	database, okDatabase := t.Phase(record.PhaseDatabase)
	own, okOwn := t.Phase(record.PhaseOwn)
	return networkMS + database + call + own, ok && okDatabase && okOwn
}

// howAsked ends the sentence on the sum: whether the servers asked one after the other themselves.
func (b *build) howAsked(g summary.Group, leastMS float64) string {
	trials, at := 0, 0
	for _, a := range g.Arms {
		for _, t := range a.Rate {
			if is, known := atOnce(t, leastMS); known {
				trials++
				if is {
					at++
				}
			}
		}
	}
	switch at {
	case trials:
		return ": in all trials the service was asked while the database was, so the whole call is taken to last from the first statement to its own end, and the first bar is what was measured."
	case 0:
		return ": in all trials the service was asked when the database had answered, so the first bar is nearly the same."
	}
	return fmt.Sprintf(": in %d of %d trials both were asked at once, and there the whole call is taken to last from the first statement to its own end.", at, trials)
}

// networkOf is what the way between client and server takes in milliseconds: as it was measured, else as it was set.
func networkOf(s *record.Scenario) (ms float64, words string) {
	set := time.Duration(s.DelaysNS[record.LinkClient])
	for _, o := range s.FaultOverhead {
		if o.Link == record.LinkClient && o.DelayNS == int64(set) && o.AddedP50NS > 0 {
			ms = float64(o.AddedP50NS) / 1e6
			return ms, fmt.Sprintf("The network is what the %v between client and server came to: %s ms more for a round trip, median of %s, measured before the trials.", set, two(ms), count(uint64(max(0, o.RoundTrips))))
		}
	}
	return float64(set) / 1e6, fmt.Sprintf("The network is the %v that were set between client and server; what they came to was not measured.", set)
}
