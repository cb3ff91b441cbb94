package report

import (
	"fmt"
	"math"
	"time"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// An attack is a run of one trial on a target that is not the lab's: it has response times and nothing of the server.

func (b *build) isAttack() bool { return b.run.Profile == record.ProfileAttack }

func (b *build) attackSections() []section {
	g := b.groups[0]
	var out []section
	if g.Closed {
		out = append(out, b.throughput(g))
	} else {
		if l := b.latencyPercentiles(g); l != nil {
			out = append(out, *l)
		}
		if l := b.latencyTime(g); l != nil {
			out = append(out, *l)
		}
	}
	if o := b.attackOperations(g); o != nil {
		out = append(out, *o)
	}
	return out
}

// attackOperations has the parts of a mix beside each other; nil where there is one operation only.
func (b *build) attackOperations(g summary.Group) *section {
	trial := b.run.Trials[0]
	if len(trial.Operations) == 0 {
		return nil
	}
	shown := summary.Percentiles()[:3]
	var panels []chart.Panel
	for _, p := range shown {
		panels = append(panels, chart.Panel{Title: p.Name, Axis: p.Name + ", ms", Format: "number", Log: true})
	}
	from := "From the intended send"
	if g.Closed {
		from = "From the send, in a closed loop"
	}
	t := table{Caption: "Requests and response times by operation", Heads: []string{"operation", "requests", "right", "failed"}}
	for _, p := range summary.Percentiles() {
		t.Heads = append(t.Heads, p.Name+" ms")
	}
	t.Heads = append(t.Heads, "largest ms", "first failure")
	var rows []chart.Row
	var finding []string
	for _, o := range trial.Operations {
		name := chart.Clean(o.Operation, labelRunes)
		row := chart.Row{Label: name, Note: count(o.Sent) + " requests", Style: b.styles[trial.Contender], Tier: trial.Tier}
		if o.Failed > 0 {
			row.Note, row.Alarm = count(o.Failed)+" of "+count(o.Sent)+" failed", true
		}
		cells := []string{o.Operation, count(o.Sent), count(o.OK), summary.Failures(o.FailedBy)}
		for i, p := range summary.Percentiles() {
			cell, text := chart.Cell{Mid: math.NaN(), Low: math.NaN(), High: math.NaN(), Text: "–"}, "–"
			if stats.Carries(p.Quantile, o.Sent) {
				at := ms(p.OfOperation(o))
				text = milli(at)
				cell.Mid, cell.Text, cell.Tip = at, text, []string{name, p.Name + " " + text + " ms", count(o.Sent) + " requests"}
				if p.Quantile == 0.5 {
					finding = append(finding, name+" "+text+" ms")
				}
			}
			cells = append(cells, text)
			if i < len(shown) {
				row.Cells = append(row.Cells, cell)
			}
		}
		rows = append(rows, row)
		t.Rows = append(t.Rows, append(cells, milli(ms(o.LatencyMaxNS)), o.FirstFailure))
	}
	out := &section{b.id(g, "operations"), "By operation", "The operations of the mix, each with its own histogram. A percentile that its requests cannot carry is left out.", nil, t}
	if len(finding) > 0 { // else the axes would have no mark
		f := chart.Rows{
			ID: out.ID, Title: "Response time by operation", Subtitle: from + ", milliseconds, logarithmic. Further left is faster.",
			Finding: "Medians: " + list(finding) + ".", Panels: panels, Rows: rows,
		}.Figure()
		out.Figure = &f
	}
	return out
}

func (b *build) attackHeadline() string {
	t := b.run.Trials[0]
	if t.Arrival == "closed" {
		return fmt.Sprintf("How %s answers clients that wait for it", t.Arm)
	}
	return fmt.Sprintf("How %s answers %s requests a second", t.Arm, whole(b.run.Plan.RateRPS))
}

func (b *build) attackAnswer() []string {
	t := b.run.Trials[0]
	var out []string
	if t.Void != nil {
		out = append(out, "This attack is void: "+*t.Void+".")
	}
	failed := "none failed"
	if t.Failed > 0 {
		failed = count(t.Failed) + " failed: " + summary.Failures(t.FailedBy)
	}
	out = append(out, fmt.Sprintf("%s requests sent in %v, %s answered right (%s a second), %s.", count(t.Sent), time.Duration(t.DurationNS), count(t.OK), whole(t.AchievedRPS), failed))
	words := ""
	for _, p := range summary.Percentiles() {
		if stats.Carries(p.Quantile, t.Sent) {
			words += fmt.Sprintf("%s %s ms, ", p.Name, milli(ms(p.Of(t))))
		}
	}
	from := "from the intended send"
	if t.Arrival == "closed" {
		from = "from the send, which in a closed loop hides queueing"
	}
	return append(out, fmt.Sprintf("Response time %slargest %s ms, %s.", words, milli(ms(t.LatencyMaxNS)), from))
}

func (b *build) attackLimits() []string {
	return []string{
		"Anything of the target's CPU, memory or bottleneck: it is not the lab's, and only its answers were looked at.",
		"Other rates, requests and machines; and whatever shared this machine meanwhile is in the figures.",
		"How sure the figures are: one attack has no interval. Attack again, and see how much they move.",
	}
}
