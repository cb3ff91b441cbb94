package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"lab/loadtest/internal/diff"
	"lab/loadtest/internal/record"
)

// diffMain compares two runs from their records.
func diffMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("diff", "OLD NEW [flags]")
	across := f.String("across", "", "`KIND,…` of difference to compare across all the same: "+strings.Join(diff.Kinds(), ", "))
	asJSON := f.Bool("json", false, "print the comparison as JSON")
	asMarkdown := f.Bool("markdown", false, "print it as Markdown")
	update := f.String("update", "", "`FILE,…` whose text between the markers of loadtest diff is replaced by the Markdown")
	if code, ok := parseWith(f, args, s, 2); !ok {
		return code
	}
	cannot := func(err error) int { return fail(ctx, s, "diff", err) }
	pages, err := openPages(*update, diffCommand)
	if err != nil {
		return cannot(err)
	}
	var runs [2]record.Run
	for i := range runs {
		saved, err := record.Open(f.Arg(i))
		if err != nil {
			return cannot(err)
		}
		for _, note := range saved.Notes {
			fmt.Fprintf(s.Err, "note: %s\n", note)
		}
		runs[i] = saved.Run
	}
	var kinds []string
	if *across != "" {
		kinds = strings.Split(*across, ",")
	}
	r, err := diff.Runs(runs[0], runs[1], kinds)
	if err != nil {
		return cannot(fmt.Errorf("%w; --across KIND,… compares all the same", err))
	}
	switch {
	case *asJSON:
		_ = json.NewEncoder(s.Out).Encode(r)
	case *asMarkdown:
		fmt.Fprint(s.Out, r.Markdown())
	default:
		fmt.Fprint(s.Out, r.Text())
	}
	if len(pages.texts) > 0 {
		if err := pages.splice(r.Markdown()); err != nil {
			return cannot(err)
		}
	}
	if file := os.Getenv("GITHUB_STEP_SUMMARY"); file != "" && !*asJSON {
		if err := appendTo(file, r.Markdown()); err != nil {
			fmt.Fprintf(s.Err, "no step summary: %v\n", err)
		}
	}
	if r.Regressed() {
		return exitNo
	}
	return exitOK
}

func appendTo(file, text string) error {
	out, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := out.WriteString(text); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
