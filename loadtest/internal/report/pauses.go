package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// longestPause is what collectors report, so that whether their pauses are a tail can be told.
const longestPause = "gc_longest_pause_seconds"

// pauseBeside is one trial's tail, and the longest pause that the runtime reported while it was under load, both in ms.
type pauseBeside struct{ tail, longest, collectorCPU float64 }

// readPauses reads what an arm's runtime reported of its pauses in each trial whose tail is in the figures.
func (b *build) readPauses(s record.Saved, g summary.Group, a summary.Arm, claim *record.Scenario) error {
	p, ok := percentileOf(claim.Metric)
	if !ok {
		return nil
	}
	for _, t := range a.Rate {
		if t.RuntimeSeries == "" {
			continue
		}
		series, err := s.Runtime(t)
		if err != nil {
			return err
		}
		pauses, told := series.Series[longestPause]
		one := summary.Arm{Rate: []record.Trial{t}}.LatencyOf(p, claim.Operation)
		if !told || len(one.Values) == 0 {
			continue
		}
		x := pauseBeside{tail: one.Values[0]}
		places, _, _ := runtimeOf{t, series}.seconds()
		for _, place := range places {
			if v := pauses[place]; v != nil {
				x.longest = max(x.longest, *v*1e3)
			}
			if cpu := series.Series["gc_cpu_seconds_per_second"]; cpu != nil && cpu[place] != nil {
				x.collectorCPU = max(x.collectorCPU, *cpu[place])
			}
		}
		key := groupKey(g)
		if b.pauses[key] == nil {
			b.pauses[key] = map[string][]pauseBeside{}
		}
		b.pauses[key][a.Name] = append(b.pauses[key][a.Name], x)
	}
	return nil
}

// percentileOf is that of a metric, where it is of one.
func percentileOf(metric string) (summary.Percentile, bool) {
	for _, p := range summary.Percentiles() {
		if metric == "latency_"+strings.ReplaceAll(p.Name, ".", "")+"_ns" {
			return p, true
		}
	}
	return summary.Percentile{}, false
}

// pauseShares are an arm's medians over its trials: the tail, the longest pause, and how much of the tail that is.
func pauseShares(of []pauseBeside) (tail, longest, share, collectorCPU float64) {
	var tails, pauses, shares, cpus []float64
	for _, x := range of {
		tails, pauses, shares, cpus = append(tails, x.tail), append(pauses, x.longest), append(shares, x.longest/x.tail), append(cpus, x.collectorCPU)
	}
	return stats.Median(tails), stats.Median(pauses), stats.Median(shares), stats.Median(cpus)
}

// pausesAgainstTail holds the longest pause that each runtime reported against the tail of the same trial; nil where none
// reported any.
func (b *build) pausesAgainstTail(g summary.Group, s *record.Scenario) *section {
	of := b.pauses[groupKey(g)]
	p, ok := percentileOf(s.Metric)
	words := b.pauseWords(g, s)
	if words == "" || !ok {
		return nil
	}
	t := table{Caption: "The longest reported pause beside the tail of the same trial", Heads: []string{"arm", p.Name + " ms", "longest pause ms", "least–most", "longest in the tail %", "collector's CPU s/s, most", "trials"}}
	for _, a := range g.Arms {
		trials, told := of[a.Name]
		if !told {
			why := ""
			if r, drawn := b.runtimes[groupKey(g)][a.Name]; drawn {
				why = r.series.Absent[longestPause]
			}
			t.Rows = append(t.Rows, []string{marked(a), milli(a.LatencyOf(p, s.Operation).Median), chart.Clean(cmp.Or(why, "–"), 80), "–", "–", "–", "0"})
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
		t.Rows = append(t.Rows, []string{marked(a), milli(tail), three(longest), three(least) + "–" + three(most), one(100 * share), cpuWords, fmt.Sprint(len(trials))})
	}
	return &section{
		ID: b.id(g, "pauses-tail"), Title: chart.Clean(s.ID+": reported pauses against the tail", 80),
		Lead: "The longest single pause that a runtime reported in a trial, in which nothing else of its process ran (in Node, of its thread), beside " + p.Name + " of the same trial: medians of the trials. " + words +
			" The collector's CPU is Go's, in the second with the most of it: most of its work is beside the program.",
		Table: t,
	}
}

// pauseWords say of the arms that are compared how much of their tail the longest reported pause is, and what follows where that is
// little; empty where nobody reported pauses, or the tail is not about them.
func (b *build) pauseWords(g summary.Group, s *record.Scenario) string {
	var said, short []string
	for _, a := range g.Arms {
		of, told := b.pauses[groupKey(g)][a.Name]
		if !told || !slices.ContainsFunc(s.Pairs, func(pair [2]string) bool { return slices.Contains(pair[:], a.Name) }) {
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
	if len(short) > 0 {
		words += " A pause so much shorter than the tail is not what makes it: in " + list(short) + " it is the collector's work beside the requests, or waiting for something else, and not a pause."
	}
	return words
}

// farTail is the metric of claims that are about pauses.
const farTail = "latency_p999_ns"

// littleOfTail is the share of a tail below which a pause is not what makes it: even several in a row would be some of it.
const littleOfTail = 0.1
