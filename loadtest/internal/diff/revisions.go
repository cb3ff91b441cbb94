package diff

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/report"
)

// NotConfirmed is a regression that a first run found and a second, independent one did not.
const NotConfirmed = "not confirmed"

// Revision is a revision of the repository.
type Revision struct {
	Ref    string `json:"ref"`
	Commit string `json:"commit"`
}

// Interleaved compares one arm at two revisions that were measured in the same blocks.
type Interleaved struct {
	Base   Revision `json:"base"`
	Head   Revision `json:"head"`
	Arm    string   `json:"arm"`
	Engine string   `json:"engine"`
	Metric string   `json:"metric"`
	// Runs has the run, and the second one where the first found a regression and a confirmation was asked for.
	Runs []InterleavedRun `json:"runs"`
	// Confirm says that a regression counts only where a second run finds it too.
	Confirm bool   `json:"confirm"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
}

// InterleavedRun is what one run says. Ratio is head over base of CPU per request.
type InterleavedRun struct {
	ID         string   `json:"id"`
	Seed       uint64   `json:"seed"`
	Blocks     int      `json:"blocks"`
	Ratio      *float64 `json:"ratio"`
	RatioLow   *float64 `json:"ratio_low"`
	RatioHigh  *float64 `json:"ratio_high"`
	P          *float64 `json:"p"`
	NoiseFloor *float64 `json:"noise_floor"` // as a ratio
	Verdict    string   `json:"verdict"`
	Reason     string   `json:"reason"`
}

// Add takes in a run of the arm at both revisions, and decides.
func (x *Interleaved) Add(r record.Run) error {
	i := slices.IndexFunc(r.Verdicts, func(v record.Verdict) bool {
		return v.Arms == [2]string{x.Arm + claims.AtHead, x.Arm + claims.AtBase}
	})
	if i < 0 {
		return fmt.Errorf("run %s: no verdict on %s at two revisions", r.ID, x.Arm)
	}
	v := r.Verdicts[i]
	run := InterleavedRun{
		ID: r.ID, Seed: r.Seed, Blocks: v.Blocks, Ratio: v.Ratio, RatioLow: v.RatioLow, RatioHigh: v.RatioHigh, P: v.P, NoiseFloor: v.NoiseFloor, Reason: v.Reason,
	}
	switch {
	case v.Verdict == claims.Holds && *v.Ratio > 1:
		run.Verdict, run.Reason = Regression, fmt.Sprintf("%.1f %% dearer", 100*(*v.Ratio-1))
	case v.Verdict == claims.Holds:
		run.Verdict, run.Reason = Improvement, fmt.Sprintf("%.1f %% cheaper", 100*(1-*v.Ratio))
	case v.Verdict == claims.TooClose:
		run.Verdict = TooClose
	default:
		run.Verdict = Untested
	}
	x.Metric = v.Metric
	x.Runs = append(x.Runs, run)
	x.decide()
	return nil
}

// NeedsConfirmation tells whether a second run is to be made.
func (x *Interleaved) NeedsConfirmation() bool {
	return x.Confirm && len(x.Runs) == 1 && x.Runs[0].Verdict == Regression
}

// Regressed tells whether the head is dearer beyond doubt, twice where that was asked for.
func (x *Interleaved) Regressed() bool { return x.Verdict == Regression }

func (x *Interleaved) decide() {
	first := x.Runs[0]
	x.Verdict, x.Reason = first.Verdict, first.Reason
	if !x.Confirm || first.Verdict != Regression {
		return
	}
	switch {
	case len(x.Runs) == 1:
		x.Verdict, x.Reason = NotConfirmed, first.Reason+"; the second run is still to come"
	case x.Runs[1].Verdict != Regression:
		x.Verdict, x.Reason = NotConfirmed, fmt.Sprintf("%s in the first run; the second: %s, %s", first.Reason, x.Runs[1].Verdict, x.Runs[1].Reason)
	default:
		x.Reason = fmt.Sprintf("%s, and %s in a second run", first.Reason, x.Runs[1].Reason)
	}
}

var interleavedHeads = []string{"run", "head ÷ base", "95 %", "blocks", "p", "identical arms differ by up to", "verdict", "reason"}

func (r InterleavedRun) cells() []string {
	interval, floor := "–", "–"
	if r.RatioLow != nil && r.RatioHigh != nil {
		interval = fmt.Sprintf("%.3f–%.3f", *r.RatioLow, *r.RatioHigh)
	}
	if r.NoiseFloor != nil {
		floor = fmt.Sprintf("%.1f %%", 100*(*r.NoiseFloor-1))
	}
	return []string{r.ID, number(r.Ratio, 3), interval, fmt.Sprint(r.Blocks), number(r.P, 3), floor, r.Verdict, r.Reason}
}

func (x *Interleaved) title() string {
	name := func(r Revision) string {
		if strings.HasPrefix(r.Commit, r.Ref) {
			return r.Commit[:min(12, len(r.Commit))]
		}
		return fmt.Sprintf("%s (%.12s)", r.Ref, r.Commit)
	}
	return fmt.Sprintf("CPU per request of %s, engine %s: head %s against base %s, interleaved", x.Arm, x.Engine, name(x.Head), name(x.Base))
}

// Text is for a terminal.
func (x *Interleaved) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", x.title())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(interleavedHeads, "\t"))
	for _, r := range x.Runs {
		fmt.Fprintln(w, strings.Join(r.cells(), "\t"))
	}
	_ = w.Flush()
	fmt.Fprintf(&b, "\n%s: %s\n", x.Verdict, x.Reason)
	return b.String()
}

// Markdown is for a page or a step summary.
func (x *Interleaved) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| %s |\n|%s\n", report.Escape(x.title()), strings.Join(interleavedHeads, " | "), strings.Repeat(" --- |", len(interleavedHeads)))
	for _, r := range x.Runs {
		var cells []string
		for _, cell := range r.cells() {
			cells = append(cells, report.Escape(cell))
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	fmt.Fprintf(&b, "\n**%s**: %s\n", report.Escape(x.Verdict), report.Escape(x.Reason))
	return b.String()
}
