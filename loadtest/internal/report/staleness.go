package report

import (
	"fmt"
	"slices"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// staleness tells how soon each arm's writes could be read.
func (b *build) staleness(g summary.Group, s *record.Scenario) section {
	var columns []column
	elsewhere := ""
	for _, of := range []struct{ write, words string }{{record.WriteRow, "row"}, {record.WriteMaster, "master data"}, {record.WriteMasterElsewhere, "master data in another server"}} {
		from := func(value func(x record.Staleness) float64) func(summary.Arm) summary.Quantity {
			return func(a summary.Arm) summary.Quantity {
				return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
					x, ok := t.StalenessOf(of.write)
					return value(x), ok
				})
			}
		}
		readable := from(func(x record.Staleness) float64 { return float64(x.ReadableNSP50) / 1e6 })
		if !slices.ContainsFunc(g.Arms, func(a summary.Arm) bool { return len(readable(a).Values) > 0 }) {
			continue
		}
		if of.write == record.WriteMasterElsewhere {
			elsewhere = "; of master data another server, started beside it, is asked too"
		}
		columns = append(columns,
			column{of.words + " readable after ms", readable, milli},
			column{"at most ms", from(func(x record.Staleness) float64 { return float64(x.ReadableNSMax) / 1e6 }), milli},
			column{"stale reads of " + of.words + " for each write", from(func(x record.Staleness) float64 { return float64(x.StaleReads) / float64(x.Writes) }), two},
		)
	}
	lead := "After a trial " + besideWords(g) + " each server renames an area (master data) and adds reviews (rows, read from the replica where it has one), one write after the other, and is asked on the same connection until it gives what was written" + elsewhere + ". From the write's answer to the end of the first answer that has it: with no stale read that is one request. The median and the longest of a trial's writes, as medians over the trials."
	return section{b.id(g, "staleness"), chart.Clean(fmt.Sprintf("%s: how soon a write can be read", s.ID), 80), lead, nil, quantityTable("How soon a write can be read", g, columns)}
}

// besideWords say beside which load the writes were made, as far as the trials tell.
func besideWords(g summary.Group) string {
	loaded, all := 0, 0
	for _, a := range g.Arms {
		for _, t := range a.Rate {
			for _, x := range t.Staleness {
				if x.LoadRPS > 0 {
					loaded, all = loaded+x.LoadedWrites, all+x.Writes
				}
			}
		}
	}
	switch {
	case all == 0:
		return "and beside no load"
	case loaded < all:
		return fmt.Sprintf("and beside the same load again (%s of %s writes; the others before it began or after it had ended)", count(uint64(loaded)), count(uint64(all)))
	}
	return "and beside the same load again"
}
