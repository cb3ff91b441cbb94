package diff

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"lab/loadtest/internal/report"
)

var heads = []string{"arm", "tier", "old, µs", "new, µs", "new ÷ old", "95 %", "rank old → new", "trials", "p (Holm)", "verdict", "reason"}

func (c Change) cells() []string {
	interval := "–"
	if c.RatioLow != nil {
		interval = fmt.Sprintf("%.2f–%.2f", *c.RatioLow, *c.RatioHigh)
	}
	return []string{
		c.Arm, c.Tier, number(c.Old, 0), number(c.New, 0), number(c.Ratio, 2), interval, fmt.Sprintf("%d → %d", c.OldRank, c.NewRank),
		fmt.Sprintf("%d, %d", c.OldTrials, c.NewTrials), number(c.PHolm, 3), c.Verdict, c.Reason,
	}
}

func number(x *float64, digits int) string {
	if x == nil {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, *x)
}

// operations lists what the changes are of, in order.
func (r Result) operations() (names []string, of map[string][]Change) {
	of = map[string][]Change{}
	for _, c := range r.Changes {
		name := c.Scenario + ", " + strings.ToUpper(c.Operation)
		if of[name] == nil {
			names = append(names, name)
		}
		of[name] = append(of[name], c)
	}
	return names, of
}

// notes are what must be said beside the table.
func (r Result) notes() []string {
	var out []string
	for _, d := range r.Differences {
		out = append(out, "Compared across: "+d+".")
	}
	if r.NoiseFloor != nil {
		out = append(out, fmt.Sprintf("Identical arms within a run differ by up to %.1f %% (noise floor).", 100*(*r.NoiseFloor-1)))
	}
	if r.Drift != nil {
		out = append(out, fmt.Sprintf("The floors changed by %+.1f %% between the runs (drift): what changes no more than they do may be the machine.", 100*(*r.Drift-1)))
	}
	if r.RanksAlike {
		out = append(out, "Both rank the arms alike: no two arms of a tier changed places beyond chance.")
	} else {
		out = append(out, "They rank arms differently: "+strings.Join(r.Swapped, "; ")+" changed places beyond chance.")
	}
	return out
}

// Text is for a terminal.
func (r Result) Text() string {
	var b strings.Builder
	names, of := r.operations()
	for _, name := range names {
		fmt.Fprintf(&b, "CPU per request, %s: %s against %s\n\n", name, r.OldID, r.NewID)
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, strings.Join(heads, "\t"))
		for _, c := range of[name] {
			fmt.Fprintln(w, strings.Join(c.cells(), "\t"))
		}
		_ = w.Flush()
		b.WriteString("\n")
	}
	for _, line := range r.notes() {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// Markdown is for a page or a step summary.
func (r Result) Markdown() string {
	var b strings.Builder
	names, of := r.operations()
	for _, name := range names {
		fmt.Fprintf(&b, "CPU per request, %s: old is `%s`, new is `%s`.\n\n", report.Escape(name), report.Escape(r.OldID), report.Escape(r.NewID))
		fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat(" --- |", len(heads)))
		for _, c := range of[name] {
			var cells []string
			for _, cell := range c.cells() {
				cells = append(cells, report.Escape(cell))
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		}
		b.WriteString("\n")
	}
	for _, line := range r.notes() {
		fmt.Fprintf(&b, "- %s\n", report.Escape(line))
	}
	return b.String()
}
