package report

import (
	"fmt"
	"time"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// budget is where the time of a request went: the parts of the article's latency budget, as the servers tell them.
func (b *build) budget(g summary.Group, s *record.Scenario) section {
	phase := func(name string) func(summary.Arm) summary.Quantity {
		return func(a summary.Arm) summary.Quantity {
			return summary.Of(a.Rate, func(t record.Trial) (float64, bool) { return t.Phase(name) })
		}
	}
	network := float64(s.DelaysNS["client"]) / 1e6
	total := func(a summary.Arm) summary.Quantity {
		return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
			ms, ok := t.Phase(record.PhaseTotal)
			return ms + network, ok
		})
	}
	panels := []column{
		{"database ms", phase(record.PhaseDatabase), two},
		{"service ms", phase(record.PhaseUpstream), two},
		{"application ms", phase(record.PhaseOwn), two},
		{"total ms", total, two},
	}
	var finding []string
	for _, a := range told(g) {
		own, sum := phase(record.PhaseOwn)(a), total(a)
		words := a.Name + " " + quantityWords(own, two, "ms")
		if len(own.Values) > 0 && sum.Median > 0 {
			words += fmt.Sprintf(" (%s %% of %s ms)", one(100*own.Median/sum.Median), one(sum.Median))
		}
		finding = append(finding, words)
	}
	f := chart.Rows{
		ID: b.id(g, "budget"), Title: "Where the time of a request goes, " + operation(g),
		Subtitle: fmt.Sprintf("Medians of requests sent one after the other, as the servers tell them (Server-Timing). Database: a statement was in flight. Service: a call of it was, and no statement. Application: the rest of the server's time. Total: with the %v of the network between client and server. ", time.Duration(s.DelaysNS["client"])) + b.count(g, total),
		Finding:  "The application's own time: " + list(finding) + ".",
	}
	for _, p := range panels {
		f.Panels = append(f.Panels, chart.Panel{Axis: p.head, Format: "number"})
	}
	f.Rows = b.rows(g, func(a summary.Arm) []chart.Cell {
		var cells []chart.Cell
		for _, p := range panels {
			cells = append(cells, cell(a, p.of(a), p.format, "ms"))
		}
		return cells
	}, func(a summary.Arm) string { return chart.Clean(a.Tier, labelRunes) })
	columns := append([]column{}, panels...)
	for _, name := range []string{"parse", "validate", "execute", "serialize"} {
		columns = append(columns, column{name + " ms", phase(name), two})
	}
	figure := f.Figure()
	return section{b.id(g, "budget"), chart.Clean(s.ID+": where the time goes", 80), readRows, &figure, quantityTable("Phases of a request, medians", g, columns)}
}
