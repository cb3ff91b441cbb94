package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"lab/loadtest/internal/diff"
	"lab/loadtest/internal/record"
)

// diffMain says what became of arms: between two runs from their records, or between two revisions by measuring them
// interleaved, or the one confirmed by the other.
func diffMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("diff", "(OLD NEW | --base REF --head REF --contender ARM) [flags]")
	across := f.String("across", "", "`KIND,…` of difference to compare across all the same: "+strings.Join(diff.Kinds(), ", "))
	ifComparable := f.Bool("if-comparable", false, "where the two runs cannot be compared, as of two machines, say so and end with 0")
	var o revisions
	f.StringVar(&o.base, "base", "", "`REF` of the revision to compare with: a branch, tag or commit of this repository")
	f.StringVar(&o.head, "head", "", "`REF` of the revision that may have got dearer")
	f.StringVar(&o.arm, "contender", "", "`ARM` to build at both revisions (with OLD NEW: default those that got dearer)")
	f.StringVar(&o.engine, "engine", "auto", "`NAME` of the engine for --base and --head: auto, docker or native")
	f.IntVar(&o.blocks, "blocks", revisionBlocks, "`N` blocks, each with both revisions and one of them twice")
	f.Uint64Var(&o.seed, "seed", 0, "`N` for the order and the arrivals (default: a new one, recorded)")
	f.StringVar(&o.out, "out", "", "`DIR` for the records of --base and --head (default results/local/DATE-revisions)")
	f.BoolVar(&o.confirm, "confirm", false, "call it a regression only where a second, independent interleaved run finds it too")
	f.BoolVar(&o.allow, "allow-nonconformant", false, "measure revisions that were not proven equal too, and mark each of their figures")
	asJSON := f.Bool("json", false, "print the comparison as JSON")
	asMarkdown := f.Bool("markdown", false, "print it as Markdown")
	update := f.String("update", "", "`FILE,…` whose text between the markers of loadtest diff is replaced by the Markdown")
	if code, ok := parseBetween(f, args, s, 0, 2); !ok {
		return code
	}
	cannot := func(err error) int { return fail(ctx, s, "diff", err) }
	interleave := o.base != "" || o.head != ""
	switch {
	case f.NArg() == 1 || f.NArg() == 0 && !interleave:
		return cannot(errors.New("two runs' folders are needed, or --base REF --head REF --contender ARM"))
	case o.confirm && !interleave:
		return cannot(errors.New("--confirm needs --base REF and --head REF: what two runs at two times differ by is confirmed by one run that interleaves the revisions"))
	}
	pages, err := openPages(*update, diffCommand)
	if err != nil {
		return cannot(err)
	}
	var told diffReport
	var between *diff.Result
	if f.NArg() == 2 {
		between, err = diffRuns(f.Arg(0), f.Arg(1), *across)
		if *ifComparable && errors.Is(err, diff.ErrNotComparable) {
			fmt.Fprintln(s.Err, err)
			summarise(s, err.Error()+"\n")
			return exitOK
		}
		if err != nil {
			return cannot(err)
		}
		told = append(told, between)
	}
	regressed := between != nil && between.Regressed()
	if interleave && (between == nil || regressed) {
		arms := []string{o.arm}
		if o.arm == "" && between != nil {
			arms = between.RegressedArms()
		}
		var results []*diff.Interleaved
		if results, err = interleaved(ctx, o, arms, s); err != nil {
			if errors.Is(err, errNotConformant) {
				fmt.Fprintf(s.Err, "loadtest diff: %v\n", err)
				return exitNo
			}
			return cannot(err)
		}
		regressed = false
		for _, r := range results {
			told = append(told, r)
			regressed = regressed || r.Regressed()
		}
	}
	switch {
	case *asJSON:
		_ = json.NewEncoder(s.Out).Encode(told.value())
	case *asMarkdown:
		fmt.Fprint(s.Out, told.Markdown())
	default:
		fmt.Fprint(s.Out, told.Text())
	}
	if len(pages.texts) > 0 {
		if err := pages.splice(told.Markdown()); err != nil {
			return cannot(err)
		}
	}
	if !*asJSON {
		summarise(s, told.Markdown())
	}
	if regressed {
		return exitNo
	}
	return exitOK
}

// summarise adds to the summary of a workflow's step, where this is one.
func summarise(s streams, markdown string) {
	if file := os.Getenv("GITHUB_STEP_SUMMARY"); file != "" {
		if err := appendTo(file, markdown); err != nil {
			fmt.Fprintf(s.Err, "no step summary: %v\n", err)
		}
	}
}

// diffReport is all that one call found.
type diffReport []interface {
	Text() string
	Markdown() string
}

// Text is for a terminal.
func (d diffReport) Text() string {
	var parts []string
	for _, x := range d {
		parts = append(parts, x.Text())
	}
	return strings.Join(parts, "\n")
}

// Markdown is for a page.
func (d diffReport) Markdown() string {
	var parts []string
	for _, x := range d {
		parts = append(parts, x.Markdown())
	}
	return strings.Join(parts, "\n")
}

// value is what JSON has: the one comparison, or that of the runs with what confirms it.
func (d diffReport) value() any {
	if len(d) == 1 {
		return d[0]
	}
	if runs, ok := d[0].(*diff.Result); ok {
		return struct {
			*diff.Result
			Interleaved diffReport `json:"interleaved"`
		}{runs, d[1:]}
	}
	return d
}

func diffRuns(old, new, across string) (*diff.Result, error) {
	var runs [2]record.Run
	for i, dir := range []string{old, new} {
		saved, err := record.Open(dir)
		if err != nil {
			return nil, err
		}
		if err := saved.Unknown(); err != nil {
			return nil, err
		}
		runs[i] = saved.Run
	}
	var kinds []string
	if across != "" {
		kinds = strings.Split(across, ",")
	}
	r, err := diff.Runs(runs[0], runs[1], kinds)
	if err != nil {
		return nil, fmt.Errorf("%w; --across KIND,… compares all the same", err)
	}
	return &r, nil
}

func interleaved(ctx context.Context, o revisions, arms []string, s streams) ([]*diff.Interleaved, error) {
	l, err := openLab()
	if err != nil {
		return nil, err
	}
	if o.seed == 0 {
		o.seed = 1 + rand.Uint64N(1<<32)
	}
	for _, arm := range arms {
		o.arm = arm
		if err := o.check(l); err != nil {
			return nil, err
		}
	}
	if o.out != "" {
		for _, dir := range []string{o.out, o.out + "-confirm"} {
			if err := record.CheckFree(dir); err != nil {
				return nil, fmt.Errorf("--out: %w", err)
			}
		}
	}
	var out []*diff.Interleaved
	for i, arm := range arms {
		next := o
		next.arm = arm
		if o.out != "" && i > 0 {
			next.out = fmt.Sprintf("%s-%s", o.out, fileName(arm))
		}
		r, err := next.compare(ctx, l, s)
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
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
