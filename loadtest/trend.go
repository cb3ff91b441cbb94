package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/report"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trend"
)

// trendMain follows arms over many runs, from their records.
func trendMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("trend", "DIR… [flags]")
	separate := f.Bool("separate", false, "show runs of different machines, engines, contracts, profiles or methods as series of their own, instead of refusing them")
	page := f.String("page", "", "`FILE` for the page (HTML, all in one file)")
	asJSON := f.Bool("json", false, "print the series as JSON")
	const most = 10_000
	if code, ok := parseBetween(f, args, s, 1, most); !ok {
		return code
	}
	cannot := func(err error) int { return fail(ctx, s, "trend", err) }
	if *page != "" {
		// A page that cannot be written is told before anything is read.
		if info, err := os.Stat(filepath.Dir(*page)); err != nil || !info.IsDir() {
			return cannot(errors.Join(fmt.Errorf("--page %s: no folder to write it to", *page), err))
		}
	}
	var runs []record.Run
	for _, dir := range f.Args() {
		saved, err := record.Open(dir)
		if err == nil {
			err = saved.Unknown()
		}
		if err != nil {
			return cannot(err)
		}
		runs = append(runs, saved.Run)
		if ctx.Err() != nil {
			return cannot(ctx.Err())
		}
	}
	r, err := trend.Of(ctx, runs, *separate)
	if errors.Is(err, trend.ErrNotComparable) && !*separate {
		err = fmt.Errorf("%w; --separate shows them beside each other", err)
	}
	if err != nil {
		return cannot(err)
	}
	if *page != "" {
		b, err := report.Trend(ctx, r)
		if err == nil {
			err = record.WriteFile(*page, b)
		}
		if err != nil {
			return cannot(err)
		}
		fmt.Fprintf(s.Err, "page: %s\n", *page)
	}
	if *asJSON {
		_ = json.NewEncoder(s.Out).Encode(r)
	} else {
		fmt.Fprint(s.Out, trendTable(r))
	}
	return exitOK
}

// trendTable is for a terminal: each series with its first and last night, and its changes.
func trendTable(r trend.Result) string {
	var b strings.Builder
	conditions := ""
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range r.Series {
		if s.Conditions != conditions {
			conditions = s.Conditions
			_ = w.Flush()
			fmt.Fprintf(&b, "%s\n\n", conditions)
			fmt.Fprintln(w, "arm\toperation\tnights\tfirst, µs\tlast, µs\tchanges of CPU per request")
		}
		var changes []string
		for _, c := range s.Changes {
			changes = append(changes, fmt.Sprintf("%s: × %.2f", c.Run, c.Ratio))
		}
		if len(changes) == 0 {
			changes = []string{"none found"}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%.0f\t%.0f\t%s\n", s.Arm, strings.ToUpper(s.Operation)+summary.OfScenario(s.Scenario), len(s.Nights), s.Nights[0].CPU, s.Nights[len(s.Nights)-1].CPU, strings.Join(changes, "; "))
	}
	_ = w.Flush()
	if len(r.Short) > 0 {
		fmt.Fprintf(&b, "\nToo few nights for a change to be found: %s.\n", strings.Join(r.Short, "; "))
	}
	fmt.Fprintf(&b, "\nChanges: %s. Of %d made-up histories without one (%d series, %d nights), one was found in %d.\n", r.Method, r.Error.Replicates, r.Error.Series, r.Error.Nights, r.Error.Found)
	return b.String()
}
