package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// mostProfiled is how many functions of an arm the page shows.
const mostProfiled = 8

// profiled are an arm's profiles, one of each of its trials at the common rate.
func profiled(a summary.Arm) []record.Profile {
	var out []record.Profile
	for _, t := range a.Rate {
		if t.Profile != nil {
			out = append(out, *t.Profile)
		}
	}
	return out
}

// profiles say how much of the CPU time that each language's profiler saw was the loader's, and whose the rest was.
func (b *build) profiles(g summary.Group, s *record.Scenario) []section {
	shares := table{Caption: "Whose CPU time it was", Heads: []string{"arm", "loader", "lowest–highest", "rest of the server and its libraries", "runtime alone", "samples", "profiles"}}
	functions := table{Caption: "Functions with the most CPU time", Heads: []string{"arm", "function", "share"}}
	for _, a := range g.Arms {
		var all record.Profile
		by := map[string]int64{}
		var each []float64
		taken := profiled(a)
		for _, p := range taken {
			all.Samples, all.LoaderSamples, all.RuntimeSamples = all.Samples+p.Samples, all.LoaderSamples+p.LoaderSamples, all.RuntimeSamples+p.RuntimeSamples
			each = append(each, float64(p.LoaderSamples)/float64(p.Samples))
			for _, f := range p.Functions {
				by[f.Function] += f.Samples
			}
		}
		if len(taken) == 0 {
			continue
		}
		share := func(samples int64) string { return percent(float64(samples) / float64(all.Samples)) }
		shares.Rows = append(shares.Rows, []string{
			marked(a), share(all.LoaderSamples), percent(slices.Min(each)) + " – " + percent(slices.Max(each)), share(all.Samples - all.LoaderSamples - all.RuntimeSamples), share(all.RuntimeSamples),
			count(uint64(all.Samples)), fmt.Sprint(len(taken)),
		})
		names := slices.SortedFunc(maps.Keys(by), func(x, y string) int { return cmp.Or(cmp.Compare(by[y], by[x]), strings.Compare(x, y)) })
		for _, name := range names[:min(len(names), mostProfiled)] {
			functions.Rows = append(functions.Rows, []string{marked(a), chart.Clean(name, 120), share(by[name])})
		}
	}
	if len(shares.Rows) == 0 {
		return nil
	}
	lead := "After each trial the same requests were sent in a closed loop, with the profiler of that language at work: Go's runtime/pprof and in Rust a sampler of the same kind (100 samples each second of the process's CPU time), in Node V8's (1,000 each second of the main thread, idle ones left out). " +
		"A sample is the loader's where the innermost function that is none of the runtime's or of the standard library's is one of the loader's: what the loader has done for it, allocating or hashing, is the loader's. What ran without any such function, such as collecting garbage, scheduling or reading sockets, is the runtime's alone."
	return []section{
		{ID: b.id(g, "profile"), Title: chart.Clean(s.ID+": the loader's share of the CPU", 80), Lead: lead, Table: shares},
		{ID: b.id(g, "functions"), Title: chart.Clean(s.ID+": where the rest goes", 80), Lead: fmt.Sprintf("The %d functions of each arm with the most samples, each with what it called of the runtime; of each profile the record has the 20 with the most.", mostProfiled), Table: functions},
	}
}

// percent shows a share.
func percent(share float64) string { return one(100*share) + " %" }
