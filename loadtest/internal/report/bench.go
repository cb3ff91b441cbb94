package report

import (
	"fmt"
	"slices"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// benchFigure is the deciding figure of an arm's own benchmark, in another unit.
func benchFigure(unit float64) func(summary.Arm) summary.Quantity {
	return func(a summary.Arm) summary.Quantity {
		return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
			if v := t.BenchFigure(); v != nil {
				return *v * unit, true
			}
			return 0, false
		})
	}
}

// benchWords say what each server's own benchmark was asked, after the requests.
func benchWords(asked *record.BenchAsked) string {
	switch {
	case asked == nil:
		return ""
	case asked.Command == record.BenchLoader:
		return fmt.Sprintf(", and each server's own `bench loader` with keys from memory, %s at once", whole(float64(asked.Sizes[0])))
	}
	return fmt.Sprintf(", and each server's own `bench hand-over` of %s bytes", whole(float64(asked.Sizes[0])))
}

// benchTables are all that the servers' own benchmarks printed: what decides is a single figure of it.
func (b *build) benchTables(g summary.Group, s *record.Scenario) []section {
	of := func(id, title, lead string, t table) section {
		return section{ID: b.id(g, id), Title: chart.Clean(s.ID+": "+title, 80), Lead: lead, Table: t}
	}
	const median = "Each figure is the median of those of the arm's trials, in each of which the command ran in a process of its own. "
	if s.Bench.Command == record.BenchLoader {
		return []section{of("loader", "all numbers of keys", median+"The keys are answered from memory, so this is what the loader itself takes. The database would add to it.", loaderTable(g, s.Bench.Sizes))}
	}
	return []section{
		of("ways", "every way and size", median+b.startWords(g, s)+" The first way of an arm is its runtime's usual one. The answer is the sum of all words of what was handed over: reading alone is what the sender itself takes to add them up, and is part of the time to the answer.", waysTable(g, s.Bench.Sizes)),
		of("starts", "starting one", median+"Until the new goroutine, task, thread or worker has said that it runs. Memory is PSS of the process with many waiting, less that without, for each.", startsTable(g)),
	}
}

// benchedOf is the median over an arm's trials of what one run of its command printed.
func benchedOf(a summary.Arm, size int, value func(record.Benched) (float64, bool)) summary.Quantity {
	return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
		for _, x := range t.Benched {
			if x.Bytes == int64(size) || x.Batch == int64(size) {
				return value(x)
			}
		}
		return 0, false
	})
}

// benchRow adds the figures of one row, in their units, or nothing where no trial has them.
func benchRow(t *table, first []string, columns []summary.Quantity, formats ...func(float64) string) {
	row, most := first, 0
	for i, q := range columns {
		most = max(most, len(q.Values))
		if len(q.Values) == 0 {
			row = append(row, "–")
			continue
		}
		row = append(row, formats[i](q.Median))
	}
	if most > 0 {
		t.Rows = append(t.Rows, append(row, fmt.Sprint(most)))
	}
}

// startWords are what the verdict of a hand-over leaves open: what starting one takes, and what of the hand-over is not serialising.
func (b *build) startWords(g summary.Group, s *record.Scenario) string {
	var starts, without []string
	for _, row := range startsTable(g).Rows {
		memory := ""
		if row[4] != "–" {
			memory = " and " + row[4] + " kB"
		}
		starts = append(starts, fmt.Sprintf("a %s of %s %s µs%s", row[1], row[0], row[2], memory))
	}
	for _, row := range waysTable(g, s.Bench.Sizes[:1]).Rows {
		if row[1] == sharedWay {
			without = append(without, fmt.Sprintf("Posted in shared memory, which nobody serialises, it takes %s %s µs", row[0], row[3]))
		}
	}
	var words []string
	if len(starts) > 0 {
		words = append(words, "Starting one takes: "+list(starts))
	}
	return sentences(append(words, without...))
}

// sharedWay is Node's hand-over without a copy.
const sharedWay = "worker-shared"

func loaderTable(g summary.Group, sizes []int) table {
	t := table{Caption: "A loader's cost by the number of keys that are loaded at once", Heads: []string{"arm", "keys at once", "CPU ns/key", "wall ns/key", "batches", "trials"}}
	for _, a := range g.Arms {
		for _, size := range sizes {
			benchRow(&t, []string{marked(a), count(uint64(size))}, []summary.Quantity{
				benchedOf(a, size, func(x record.Benched) (float64, bool) { return x.CPUNSPerKey, true }),
				benchedOf(a, size, func(x record.Benched) (float64, bool) { return float64(x.WallNS) / float64(x.Keys), x.Keys > 0 }),
				benchedOf(a, size, func(x record.Benched) (float64, bool) { return float64(x.Batches), true }),
			}, whole, whole, whole)
		}
	}
	return t
}

func waysTable(g summary.Group, sizes []int) table {
	t := table{Caption: "Handing over: time until the answer is back", Heads: []string{"arm", "way", "bytes", "p50 µs", "p99 µs", "CPU µs each", "reading alone, p50 µs", "trials"}}
	for _, a := range g.Arms {
		for _, size := range sizes {
			for _, way := range namesOf(a, func(x record.Benched) (names []string) {
				for _, w := range x.Ways {
					names = append(names, w.Way)
				}
				return names
			}) {
				figure := func(value func(record.BenchWay) float64) summary.Quantity {
					return benchedOf(a, size, func(x record.Benched) (float64, bool) {
						for _, w := range x.Ways {
							if w.Way == way {
								return value(w) / 1e3, true
							}
						}
						return 0, false
					})
				}
				benchRow(&t, []string{marked(a), chart.Clean(way, labelRunes), count(uint64(size))}, []summary.Quantity{
					figure(func(w record.BenchWay) float64 { return float64(w.WallNSP50) }), figure(func(w record.BenchWay) float64 { return float64(w.WallNSP99) }),
					figure(func(w record.BenchWay) float64 { return w.CPUNSPerOperation }), figure(func(w record.BenchWay) float64 { return float64(w.TouchWallNSP50) }),
				}, two, two, two, two)
			}
		}
	}
	return t
}

func startsTable(g summary.Group) table {
	t := table{Caption: "Starting one unit of concurrency", Heads: []string{"arm", "unit", "p50 µs", "CPU µs each", "memory kB each", "trials"}}
	for _, a := range g.Arms {
		for _, unit := range namesOf(a, func(x record.Benched) (names []string) {
			for _, s := range x.Starts {
				names = append(names, s.Unit)
			}
			return names
		}) {
			// Each size's run starts units anew: the first size's is taken, as for what decides.
			figure := func(value func(record.BenchStart) (float64, bool)) summary.Quantity {
				return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
					if len(t.Benched) == 0 {
						return 0, false
					}
					for _, s := range t.Benched[0].Starts {
						if s.Unit == unit {
							return value(s)
						}
					}
					return 0, false
				})
			}
			benchRow(&t, []string{marked(a), chart.Clean(unit, labelRunes)}, []summary.Quantity{
				figure(func(s record.BenchStart) (float64, bool) { return float64(s.WallNSP50) / 1e3, true }),
				figure(func(s record.BenchStart) (float64, bool) { return s.CPUNSEach / 1e3, true }),
				figure(func(s record.BenchStart) (float64, bool) {
					if s.PSSBytesEach == nil {
						return 0, false
					}
					return *s.PSSBytesEach / 1e3, true
				}),
			}, two, two, two)
		}
	}
	return t
}

// namesOf are the names in an arm's benchmarks, in the order of their first appearance.
func namesOf(a summary.Arm, in func(record.Benched) []string) []string {
	var names []string
	for _, t := range a.Rate {
		for _, x := range t.Benched {
			for _, name := range in(x) {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names
}
