package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/report"
)

// reportMain makes page, pictures and README of a run anew, from its records alone.
func reportMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("report", "DIR [flags]")
	asJSON := f.Bool("json", false, "print the names of the files written, as JSON")
	if code, ok := parseWith(f, args, s, 1); !ok {
		return code
	}
	dir := f.Arg(0)
	files, err := writeReport(ctx, dir, s)
	if err != nil {
		return fail(ctx, s, "report", err)
	}
	if *asJSON {
		_ = json.NewEncoder(s.Out).Encode(map[string]any{"dir": dir, "files": files})
		return exitOK
	}
	fmt.Fprintln(s.Out, reportPath(dir))
	return exitOK
}

// writeReport reads a run's records, writes its report beside them, and names the files.
func writeReport(ctx context.Context, dir string, s streams) (files []string, err error) {
	saved, err := record.Open(dir)
	if err != nil {
		return nil, err
	}
	for _, note := range saved.Notes {
		fmt.Fprintf(s.Err, "note: %s\n", note)
	}
	made, err := report.Make(ctx, saved, report.Options{CacheDir: cacheDir()})
	if err != nil {
		return nil, err
	}
	if made.NoPictures != nil {
		fmt.Fprintf(s.Err, "no charts/: %v\n", made.NoPictures)
	}
	for _, f := range made.Files {
		files = append(files, f.Name)
	}
	return files, made.Write(dir)
}

// reportAfter writes the report of a run just measured. The records are safe by then, so what fails here is told and
// can be done again.
func reportAfter(ctx context.Context, dir string, s streams) error {
	_, err := writeReport(ctx, dir, s)
	switch {
	case errors.Is(err, chart.ErrNoAssets):
		fmt.Fprintf(s.Err, "no report: %v; then: loadtest report %s\n", err, dir)
		return nil
	case err != nil:
		return fmt.Errorf("the records are whole, but not the report (again: loadtest report %s): %w", dir, err)
	}
	fmt.Fprintf(s.Err, "report: %s\n", reportPath(dir))
	return nil
}

func reportPath(dir string) string { return filepath.Join(dir, "report.html") }
