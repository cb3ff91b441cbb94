package report

import (
	"fmt"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// staleness tells how soon each arm's writes could be read.
func (b *build) staleness(g summary.Group, s *record.Scenario) section {
	var columns []column
	for _, of := range []struct{ write, words string }{{record.WriteRow, "row"}, {record.WriteMaster, "master data"}} {
		from := func(value func(x record.Staleness) float64) func(summary.Arm) summary.Quantity {
			return func(a summary.Arm) summary.Quantity {
				return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
					x, ok := t.StalenessOf(of.write)
					return value(x), ok
				})
			}
		}
		columns = append(columns,
			column{of.words + " readable after ms", from(func(x record.Staleness) float64 { return float64(x.ReadableNSP50) / 1e6 }), milli},
			column{"at most ms", from(func(x record.Staleness) float64 { return float64(x.ReadableNSMax) / 1e6 }), milli},
			column{"stale reads of " + of.words + " for each write", from(func(x record.Staleness) float64 { return float64(x.StaleReads) / float64(x.Writes) }), two},
		)
	}
	const lead = "After a trial's own load each server adds reviews (rows, read from the replica where it has one) and renames an area (master data), one write after the other, and is asked on the same connection until it gives what was written. From the write's answer to the end of the first answer that has it: with no stale read that is one request. The median and the longest of a trial's writes, as medians over the trials."
	return section{b.id(g, "staleness"), chart.Clean(fmt.Sprintf("%s: how soon a write can be read", s.ID), 80), lead, nil, quantityTable("How soon a write can be read", g, columns)}
}
