package report

import (
	"fmt"
	"slices"
	"time"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// runtimeOf is what an arm's runtime told in the trial that is drawn for it.
type runtimeOf struct {
	trial  record.Trial
	series *record.RuntimeSeries
}

// readRuntime reads the series of one trial of an arm at the common rate: the one with the median p99, the lower of two.
// All trials would be drawn over each other, and an average would flatten what a line is looked at for.
func (b *build) readRuntime(s record.Saved, g summary.Group, a summary.Arm) error {
	trials := slices.DeleteFunc(slices.Clone(a.Rate), func(t record.Trial) bool { return t.RuntimeSeries == "" })
	if len(trials) == 0 {
		return nil
	}
	slices.SortStableFunc(trials, func(x, y record.Trial) int { return int(x.LatencyP99NS - y.LatencyP99NS) })
	t := trials[(len(trials)-1)/2]
	series, err := s.Runtime(t)
	if err != nil {
		return err
	}
	key := groupKey(g)
	if b.runtimes[key] == nil {
		b.runtimes[key] = map[string]runtimeOf{}
	}
	b.runtimes[key][a.Name] = runtimeOf{t, series}
	return nil
}

// seconds are the intervals of the trial, by the seconds at which they begin and end, that lie in its load by more than
// half.
func (r runtimeOf) seconds() (places []int, begin, end []float64) {
	before := r.series.BeganNS
	for i, at := range r.series.EndsNS {
		if middle := (before + at) / 2; middle >= 0 && middle <= r.trial.DurationNS {
			places = append(places, i)
			begin, end = append(begin, time.Duration(before).Seconds()), append(end, time.Duration(at).Seconds())
		}
		before = at
	}
	return places, begin, end
}

// runtimePanel is one panel and one column: the first of the series that an arm has, in another unit.
type runtimePanel struct {
	title, head, unit string
	series            []string
	factor            float64
	format            func(float64) string
}

// value is what an arm has in an interval, or false.
func (p runtimePanel) value(r runtimeOf, interval int) (float64, bool) {
	for _, name := range p.series {
		if values, ok := r.series.Series[name]; ok {
			if values[interval] == nil {
				return 0, false
			}
			return *values[interval] * p.factor, true
		}
	}
	return 0, false
}

// absent is why an arm has none of the panel's series; empty where it has one.
func (p runtimePanel) absent(r runtimeOf) string {
	why := ""
	for _, name := range p.series {
		if _, ok := r.series.Series[name]; ok {
			return ""
		}
		if why == "" {
			why = r.series.Absent[name]
		}
	}
	return why
}

var (
	runtimePauses = []runtimePanel{
		{"GC pause, ms in a second", "GC pause ms/s", "ms/s", []string{"gc_pause_seconds_per_second"}, 1e3, three},
		{"delay before running, p99, ms", "delay p99 ms", "ms", []string{"scheduling_delay_p99_seconds", "event_loop_delay_p99_seconds"}, 1e3, three},
	}
	runtimeLoad = []runtimePanel{
		{"busy share of workers, %", "workers busy %", "%", []string{"worker_busy_share"}, 100, one},
		{"CPU time, s in a second", "CPU s/s", "s/s", []string{"cpu_seconds_per_second"}, 1, two},
		{"heap of the system, MB", "heap MB", "MB", []string{"heap_committed_bytes"}, 1e-6, one},
	}
)

// runtime is what explains a latency: what the arms' runtimes told meanwhile.
func (b *build) runtime(g summary.Group) []section {
	const oneTrial = "One trial of each arm is shown, the one with the median p99: it has the block in the table. "
	var out []section
	if s := b.runtimeCharts(g, "runtime-pauses", "Pauses and delays of the runtime", "What each server says of its runtime, of each second of one trial. Lower is better. ", runtimePauses,
		oneTrial+"Pause: how long the garbage collector kept everything else from running, over all processes. Delay: in Go how long a goroutine that could run had no thread; in Node how much later than asked a timer of the event loop ran, of the worst process. The worst of a hundred counts (p99), in Go to the end of its bucket, which is at most a quarter wider."); s != nil {
		out = append(out, *s)
	}
	if s := b.runtimeCharts(g, "runtime-load", "Busy workers and heap", "What each server says of its runtime, of each second of one trial. ", runtimeLoad,
		oneTrial+"Busy: the share of a second in which a worker (an event loop, a thread of tokio) was not waiting, mean of the workers; one that had no CPU counts as busy. CPU time is of the whole process, or of all that answer. Heap: what the runtime or the allocator has of the system, used or not."); s != nil {
		out = append(out, *s)
	}
	return out
}

func (b *build) runtimeCharts(g summary.Group, id, title, subtitle string, panels []runtimePanel, lead string) *section {
	told := b.runtimes[groupKey(g)]
	t := table{Caption: title + ", in each second of one trial", Heads: []string{"arm", "block", "seconds"}}
	curves := make([]chart.CurvePanel, len(panels))
	for i, p := range panels {
		t.Heads = append(t.Heads, p.head)
		curves[i] = chart.CurvePanel{Title: p.title, Axis: p.title, Plain: true}
	}
	t.Heads = append(t.Heads, "requests")
	variants := map[string]int{}
	var reasons []string
	for _, a := range g.Arms {
		r, ok := told[a.Name]
		if !ok {
			continue
		}
		variant := variants[a.Contender+"/"+a.Tier]
		variants[a.Contender+"/"+a.Tier]++
		places, begin, end := r.seconds()
		for i, p := range panels {
			line := chart.Line{Name: chart.Clean(marked(a), labelRunes+18), Style: b.styles[a.Contender], Tier: a.Tier, Number: variant}
			for k, place := range places {
				if v, ok := p.value(r, place); ok {
					line.Points = append(line.Points, chart.Point{X: (begin[k] + end[k]) / 2, Y: v, Marked: true, Tip: []string{
						fmt.Sprintf("second %s–%s", one(begin[k]), one(end[k])), label(a) + "  " + p.format(v) + " " + p.unit,
					}})
				}
			}
			if len(line.Points) > 0 {
				curves[i].Lines = append(curves[i].Lines, line)
			}
			why := fmt.Sprintf("%s has no “%s”: %s", chart.Clean(a.Contender, labelRunes), p.head, p.absent(r))
			if p.absent(r) != "" && !slices.Contains(reasons, why) {
				reasons = append(reasons, why)
			}
		}
		for k, place := range places {
			row := []string{marked(a), fmt.Sprint(r.trial.Block), one(begin[k]) + "–" + one(end[k])}
			for _, p := range panels {
				if v, ok := p.value(r, place); ok {
					row = append(row, p.format(v))
				} else {
					row = append(row, "–")
				}
			}
			t.Rows = append(t.Rows, append(row, count(r.trial.Sent)))
		}
	}
	curves = slices.DeleteFunc(curves, func(p chart.CurvePanel) bool { return len(p.Lines) == 0 })
	if len(curves) == 0 {
		return nil
	}
	drawn := func(a summary.Arm) summary.Quantity {
		r, ok := told[a.Name]
		if !ok {
			return summary.Quantity{}
		}
		return summary.Of([]record.Trial{r.trial}, func(record.Trial) (float64, bool) { return 0, true })
	}
	f := chart.Curves{
		ID: b.id(g, id), Title: fmt.Sprintf("%s %s, %s", title, b.atRate(g), operation(g)), Subtitle: subtitle + b.count(g, drawn),
		Finding: title + " in each second of one trial at the common rate, by arm; the numbers are in the table.", Axis: "time in the trial", Height: 200, Panels: curves,
	}.Figure()
	if len(reasons) > 0 {
		lead += " " + sentences(reasons)
	}
	return &section{b.id(g, id), title, lead, &f, t}
}
