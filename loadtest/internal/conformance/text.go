package conformance

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Text is the reports as a table of arms and checks, the findings below it.
func Text(reports []Report) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ARM\tCHECK\tRESULT\tANSWERS\tSECONDS\tWHAT")
	about := map[string]string{}
	for _, c := range Checks() {
		about[c.Name] = c.About
	}
	for _, r := range reports {
		for _, c := range r.Checks {
			result := "ok"
			switch {
			case c.Skipped != "":
				result = "-"
			case !c.Passed:
				result = fmt.Sprintf("%d found", c.Findings)
			}
			what := about[c.Name]
			if c.Skipped != "" {
				what = c.Skipped
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.1f\t%s\n", r.Arm, c.Name, result, c.Answers, c.DurationNS.Seconds(), what)
		}
	}
	_ = w.Flush() // into memory
	for _, r := range reports {
		verdict := "conformant"
		if !r.Conformant {
			verdict = "NOT CONFORMANT"
		}
		fmt.Fprintf(&b, "\n%s: %s (%s form, %d answers compared", r.Arm, verdict, r.Form, r.Answers())
		if r.Cached {
			fmt.Fprintf(&b, ", proven at %s", r.ProvenAt.Format(time.RFC3339))
		}
		b.WriteString(")\n")
		for _, d := range r.Deviations {
			fmt.Fprintf(&b, "  deviation %s: rule %s, %s, shown by %s\n", d.ID, d.Rule, d.Upstream, d.Test)
		}
		listed := 0
		for _, f := range r.Findings {
			fmt.Fprintf(&b, "  %s\n", f)
			listed++
		}
		total := 0
		for _, c := range r.Checks {
			total += c.Findings
			for _, note := range c.Notes {
				fmt.Fprintf(&b, "  note, %s: %s\n", c.Name, note)
			}
		}
		if total > listed {
			fmt.Fprintf(&b, "  and %d more\n", total-listed)
		}
	}
	return b.String()
}
