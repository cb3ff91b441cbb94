package report

import (
	"fmt"
	"math"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// faultStepNS is that of the chart: fewer requests than in half a second would be a line of noise.
const faultStepNS = 500_000_000

// faults tells what each arm made of a scenario's faults, and draws right answers and failures over time; nil where there
// were none.
func (b *build) faults(g summary.Group) *section {
	faults := summary.Faults(g)
	if len(faults) == 0 {
		return nil
	}
	t := table{Caption: "What each arm made of each fault", Heads: summary.FaultHeads}
	for _, f := range faults {
		cells := f.Cells()
		for i := range cells {
			cells[i] = chart.Clean(cells[i], 200)
		}
		t.Rows = append(t.Rows, cells)
	}
	right := chart.CurvePanel{Title: "right answers a second", Axis: "right answers a second", Plain: true, Spans: faultSpans(g)}
	failed := chart.CurvePanel{Title: "failures a second", Axis: "failures a second", Plain: true, Spans: right.Spans}
	var finding []string
	for _, a := range g.Arms {
		ok, bad := b.line(g, a), b.line(g, a)
		ok.Points = perSecond(a, "right", func(o *record.Outcomes) []uint64 { return o.OK })
		bad.Points = perSecond(a, "failed", func(o *record.Outcomes) []uint64 { return o.Failed })
		right.Lines, failed.Lines = append(right.Lines, ok), append(failed.Lines, bad)
		q := quantityOf("recovery_ns", g.Operation)
		finding = append(finding, a.Name+" "+quantityWords(q.of(a), q.format, q.unit))
	}
	f := chart.Curves{
		ID: b.id(g, "faults"), Title: "Right answers and failures over time, " + operation(g),
		Subtitle: "By when requests were over; mean of an arm's trials. Shaded: from a fault's cause to its end. " + b.count(g, atRate),
		Finding:  "Longest time to recover from a fault: " + list(finding) + ".", Axis: "time in the trial", Height: 260,
		Panels: []chart.CurvePanel{right, failed},
	}.Figure()
	return &section{b.id(g, "faults"), chart.Clean(fmt.Sprintf("%s: faults and recovery", g.Scenario), 80), summary.FaultLegend, &f, t}
}

// faultSpans are from where a fault was first in force in a trial to where it last was, in seconds.
func faultSpans(g summary.Group) [][2]float64 {
	var out [][2]float64
	for _, a := range g.Arms {
		for _, t := range a.Rate {
			for i, f := range t.Faults {
				from, to := float64(f.CausedNS)/1e9, float64(f.EndedNS)/1e9
				if i == len(out) {
					out = append(out, [2]float64{from, to})
				}
				out[i] = [2]float64{math.Min(out[i][0], from), math.Max(out[i][1], to)}
			}
		}
	}
	return out
}

// spanWords say what is shaded, where something is.
func spanWords(spans [][2]float64) string {
	if len(spans) == 0 {
		return ""
	}
	return "Shaded: faults. "
}

// perSecond is the mean over an arm's trials of what was counted in each step, as a rate; what reaches beyond the trial's
// time, where nothing was sent any more, is left out.
func perSecond(a summary.Arm, what string, of func(*record.Outcomes) []uint64) []chart.Point {
	var sums []float64
	trials := 0
	for _, t := range a.Rate {
		if t.Outcomes == nil || t.Outcomes.StepNS > faultStepNS {
			continue
		}
		trials++
		each := int(faultStepNS / t.Outcomes.StepNS)
		for i, n := range of(t.Outcomes) {
			if int64(i)*t.Outcomes.StepNS >= t.DurationNS {
				break
			}
			for i/each >= len(sums) {
				sums = append(sums, 0)
			}
			sums[i/each] += float64(n)
		}
	}
	var out []chart.Point
	for i, sum := range sums {
		from, y := float64(i)*faultStepNS/1e9, sum/float64(trials)/(faultStepNS/1e9)
		out = append(out, chart.Point{X: from + faultStepNS/2e9, Y: y, Tip: []string{fmt.Sprintf("%.1f s", from), fmt.Sprintf("%s  %s %s", label(a), what, whole(y))}})
	}
	return out
}
