package report

import (
	"fmt"
	"time"

	"lab/loadtest/internal/chart"
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
	var finding []string
	for _, a := range told(g) {
		q, sum := own(a), total(a)
		words := a.Name + " " + quantityWords(q, two, "ms")
		if len(q.Values) > 0 && sum.Median > 0 {
			words += fmt.Sprintf(" (%s %% of %s ms)", one(100*q.Median/sum.Median), one(sum.Median))
		}
		finding = append(finding, words)
	}
	f := chart.Rows{
		ID: b.id(g, "budget"), Title: "Where the time of a request goes, " + operation(g),
		Subtitle: "Medians of requests sent one after the other. Database: a statement was in flight. Service: a call of it was, and no statement, so that what passed while both were asked at once is the database's. Application: the rest of the server's time. " + b.count(g, total),
		Finding:  "The application's own time: " + list(finding) + ".",
		Panels:   []chart.Panel{panel, {Axis: "the application's own, ms", Format: "number"}},
	}
	f.Rows = b.rows(g, func(a summary.Arm) []chart.Cell {
		bar := cell(a, total(a), one, "ms")
		bar.Dots = nil
		for _, p := range parts {
			if q := p.of(a); len(q.Values) > 0 && q.Median > 0 {
				bar.Parts = append(bar.Parts, chart.Part{Value: q.Median, Text: one(q.Median), Color: p.color})
				bar.Tip = append(bar.Tip, fmt.Sprintf("%s %s ms", p.name, two(q.Median)))
			}
		}
		return []chart.Cell{bar, cell(a, own(a), two, "ms")}
	}, func(a summary.Arm) string { return chart.Clean(a.Tier, labelRunes) })
	var columns []column
	for _, p := range parts {
		columns = append(columns, column{p.name + " ms", p.of, two})
	}
	columns = append(columns, column{"total ms", total, two})
	median := quantityOf("latency_p50_ns", s.Operation)
	columns = append(columns, column{"under load, " + median.head, median.of, median.format})
	for _, name := range []string{"parse", "validate", "execute", "serialize"} {
		columns = append(columns, column{name + " ms", phase(name), two})
	}
	figure := f.Figure()
	lead := "The bar is made of the parts' medians; the whisker is the total's interval, which has the network in it. The servers tell all parts but the network (Server-Timing). " + networkWords +
		" The service is asked while the database is, so its part is what it takes longer; one after the other, as the article adds them up, a request would take the database's part more. Beside it, the application's own time, with a mark for each trial. In the table, “under load” is the median response time of the trials themselves, from the intended send."
	return section{b.id(g, "budget"), chart.Clean(s.ID+": where the time goes", 80), lead, &figure, quantityTable("Phases of a request, medians", g, columns)}
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
