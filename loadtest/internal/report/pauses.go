package report

import (
	"cmp"
	"fmt"
	"slices"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// longestPause is what collectors report, so that whether their pauses are a tail can be told.
const longestPause = "gc_longest_pause_seconds"

// pauseBeside is one trial's tail, and the longest pause that the runtime reported while it was under load, both in ms; and its
// response times in the seconds in which the runtime told of a pause, and in the others, nil where there were none.
type pauseBeside struct {
	tail, longest, collectorCPU float64
	collected, quiet            *hdr.Histogram
}

// addPauses reads what an arm's runtime reported of its pauses in a trial of a claim that a tail decides, whose response times in
// each second these are.
func (b *build) addPauses(s record.Saved, g summary.Group, t record.Trial, seconds []*hdr.Histogram) error {
	claim := b.scenario(g)
	if claim == nil || !slices.Contains(tailMetrics, claim.Metric) || t.RuntimeSeries == "" {
		return nil
	}
	series, err := s.Runtime(t)
	if err != nil {
		return err
	}
	p, _ := tailOf(claim.Metric)
	tail := summary.Arm{Rate: []record.Trial{t}}.LatencyOf(p, claim.Operation)
	if _, told := series.Series[longestPause]; !told || len(tail.Values) == 0 {
		return nil
	}
	x := pauseBeside{tail: tail.Values[0]}
	in := func(name string, place int) (float64, bool) {
		if values := series.Series[name]; values != nil && values[place] != nil {
			return *values[place], true
		}
		return 0, false
	}
	places, _, _ := runtimeOf{t, series}.seconds()
	for k, place := range places {
		if told, ok := in("gc_pauses_per_second", place); ok && k < len(seconds) {
			into := &x.quiet
			if told > 0 {
				into = &x.collected
			}
			if *into == nil {
				*into = empty(seconds[k])
			}
			(*into).Merge(seconds[k])
		}
		longest, _ := in(longestPause, place)
		x.longest = max(x.longest, longest*1e3)
		cpu, _ := in("gc_cpu_seconds_per_second", place)
		x.collectorCPU = max(x.collectorCPU, cpu)
	}
	key := groupKey(g)
	if b.pauses[key] == nil {
		b.pauses[key] = map[string][]pauseBeside{}
	}
	b.pauses[key][t.Arm] = append(b.pauses[key][t.Arm], x)
	return nil
}

// pauseShares are an arm's medians over its trials: the tail, the longest pause, and how much of the tail that is.
func pauseShares(of []pauseBeside) (tail, longest, share, collectorCPU float64) {
	var tails, pauses, shares, cpus []float64
	for _, x := range of {
		tails, pauses, shares, cpus = append(tails, x.tail), append(pauses, x.longest), append(shares, x.longest/x.tail), append(cpus, x.collectorCPU)
	}
	return stats.Median(tails), stats.Median(pauses), stats.Median(shares), stats.Median(cpus)
}

// bySeconds are p99, in ms, of all seconds of an arm's trials in which its runtime told of a pause, and of the others; 0 where
// there are none.
func bySeconds(of []pauseBeside) (collected, quiet float64) {
	p99 := func(pick func(pauseBeside) *hdr.Histogram) float64 {
		var all *hdr.Histogram
		for _, x := range of {
			switch h := pick(x); {
			case h == nil:
			case all == nil:
				all = empty(h)
				fallthrough
			default:
				all.Merge(h)
			}
		}
		if all == nil || !stats.Carries(0.99, uint64(all.TotalCount())) {
			return 0
		}
		return float64(all.ValueAtQuantile(99)) / 1e6
	}
	return p99(func(x pauseBeside) *hdr.Histogram { return x.collected }), p99(func(x pauseBeside) *hdr.Histogram { return x.quiet })
}

// pausesAgainstTail holds the longest pause that each runtime reported against the tail of the same trial; nil where none
// reported any.
func (b *build) pausesAgainstTail(g summary.Group, s *record.Scenario) *section {
	of := b.pauses[groupKey(g)]
	p, ok := tailOf(s.Metric)
	words := b.pauseWords(g, s)
	if words == "" || !ok {
		return nil
	}
	t := table{Caption: "The longest reported pause beside the tail of the same trial", Heads: []string{"arm", p.Name + " ms", "longest pause ms", "least–most", "longest in the tail %", "p99 ms in seconds with a collection", "in those without", "collector's CPU s/s, most", "trials"}}
	for _, a := range g.Arms {
		trials, told := of[a.Name]
		if !told {
			why := ""
			if r, drawn := b.runtimes[groupKey(g)][a.Name]; drawn {
				why = r.series.Absent[longestPause]
			}
			t.Rows = append(t.Rows, []string{marked(a), milli(a.LatencyOf(p, s.Operation).Median), chart.Clean(cmp.Or(why, "–"), 80), "–", "–", "–", "–", "–", "0"})
			continue
		}
		tail, longest, share, cpu := pauseShares(trials)
		least, most := trials[0].longest, trials[0].longest
		for _, x := range trials {
			least, most = min(least, x.longest), max(most, x.longest)
		}
		cpuWords := "–"
		if cpu > 0 {
			cpuWords = two(cpu)
		}
		with, without := "–", "–"
		if collected, quiet := bySeconds(trials); collected > 0 {
			with = milli(collected)
			if quiet > 0 {
				without = milli(quiet)
			}
		}
		t.Rows = append(t.Rows, []string{marked(a), milli(tail), three(longest), three(least) + "–" + three(most), one(100 * share), with, without, cpuWords, fmt.Sprint(len(trials))})
	}
	return &section{
		ID: b.id(g, "pauses-tail"), Title: "Reported pauses against the tail",
		Lead: "The longest single pause that a runtime reported in a trial, in which nothing else of its process ran (in Node, of its thread), beside " + p.Name + " of the same trial: medians of the trials. " + words +
			" The collector's CPU is Go's, in the second with the most of it: most of its work is beside the program.",
		Table: t,
	}
}

// pauseWords say of the arms that are compared how much of their tail the longest reported pause is, and what follows where that is
// little; empty where nobody reported pauses, or the tail is not about them.
func (b *build) pauseWords(g summary.Group, s *record.Scenario) string {
	compared := func(a summary.Arm) bool {
		return slices.ContainsFunc(s.Pairs, func(pair [2]string) bool { return slices.Contains(pair[:], a.Name) })
	}
	var said, short, with []string
	for _, a := range g.Arms {
		of, told := b.pauses[groupKey(g)][a.Name]
		if !told || !compared(a) {
			continue
		}
		tail, longest, share, _ := pauseShares(of)
		said = append(said, fmt.Sprintf("%s has a tail of %s ms, in which the longest reported pause is %s ms", a.Name, milli(tail), three(longest)))
		if share < littleOfTail {
			short = append(short, a.Name)
		}
	}
	if len(said) == 0 {
		return ""
	}
	words := sentences(said)
	for _, a := range g.Arms {
		if collected, quiet := bySeconds(b.pauses[groupKey(g)][a.Name]); collected > 0 && quiet > 0 && compared(a) {
			words += fmt.Sprintf(" In the seconds in which %s collected its p99 is %s ms, in the others %s ms.", a.Name, milli(collected), milli(quiet))
			if collected >= clearlyMore*quiet && slices.Contains(short, a.Name) {
				with = append(with, a.Name)
			}
		}
	}
	if len(short) > 0 {
		words += " A pause so much shorter than the tail is not what makes it, in " + list(short) + "."
	}
	if len(with) > 0 {
		words += " The tail comes with the collections all the same, in " + list(with) + ": by what else they do to requests that are under way."
	}
	return words
}

// farTail is the metric of the far tail, and aboutPauses has those of claims that are about pauses.
const farTail = "latency_p999_ns"

var aboutPauses = []string{farTail, contract.MetricMedianSecond}

// tailOf is the percentile of whole trials that a pause is held against: what decides, or the far tail where single seconds do.
func tailOf(metric string) (summary.Percentile, bool) {
	if metric == contract.MetricMedianSecond {
		metric = farTail
	}
	return summary.PercentileOf(metric)
}

// clearlyMore is how many times the p99 of the other seconds that of the seconds with a collection is, where the tail comes with them.
const clearlyMore = 2

// littleOfTail is the share of a tail below which a pause is not what makes it: even several in a row would be some of it.
const littleOfTail = 0.1
