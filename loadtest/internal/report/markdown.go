package report

import (
	"fmt"
	"slices"
	"strings"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/summary"
)

var markup = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "|", `\|`, "~", `\~`, "#", `\#`, "!", `\!`, "$", `\$`, "@", "&#64;", "://", `:\//`, "www.", `www\.`,
)

// escape keeps text of a record from being markup, in Markdown and in the HTML that Markdown may hold.
func escape(s string) string { return Escape(s) }

// Escape is text of a record as Markdown that cannot be markup.
func Escape(s string) string { return markup.Replace(chart.Clean(s, 2000)) }

// plain keeps our own words readable: only what would be markup in the middle of a line.
func paragraph(b *strings.Builder, s string) { fmt.Fprintf(b, "%s\n\n", escapeLine(s)) }

// escapeLine also keeps a line from beginning like a heading, list or quote.
func escapeLine(s string) string {
	s = escape(s)
	if s != "" && strings.ContainsRune("-+=0123456789", rune(s[0])) {
		i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if i >= 0 && strings.ContainsRune(".)-+=", rune(s[i])) {
			s = s[:i] + `\` + s[i:]
		}
	}
	return s
}

func (t table) markdown(b *strings.Builder) {
	line := func(cells []string) {
		out := make([]string, len(cells))
		for i := range cells {
			out[i] = escape(cells[i])
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(out, " | "))
	}
	line(t.Heads)
	fmt.Fprintf(b, "|%s\n", strings.Repeat(" --- |", len(t.Heads)))
	for _, row := range t.Rows {
		line(row)
	}
	b.WriteString("\n")
}

// picture shows a chart in the reader's theme. The folder is where charts/ is, with a slash at its end, or empty.
func picture(b *strings.Builder, s section, folder string) {
	alternative := strings.NewReplacer("&", "&amp;", `"`, "&quot;", "<", "&lt;", ">", "&gt;").Replace(chart.Clean(s.Figure.Finding, 2000))
	fmt.Fprintf(b, "<picture>\n  <source media=\"(prefers-color-scheme: dark)\" srcset=\"%scharts/%s-dark.svg\">\n  <img src=\"%scharts/%s-light.svg\" alt=\"%s\">\n</picture>\n\n",
		folder, s.ID, folder, s.ID, alternative)
}

// markdown is the run's README.md.
func (b *build) markdown(sections []section) string {
	var m strings.Builder
	r := b.run
	fmt.Fprintf(&m, "# %s\n\n", escape(b.headline()))
	if c := strings.TrimSpace(summary.Caution(r)); c != "" {
		for line := range strings.Lines(c) {
			fmt.Fprintf(&m, "**%s**\n\n", escape(strings.TrimSpace(line)))
		}
	}
	if bad := b.notProven(); bad != "" {
		fmt.Fprintf(&m, "**%s**\n\n", escape(bad))
	}
	paragraph(&m, fmt.Sprintf("Run %s, %s.", r.ID, r.Began.UTC().Format("2006-01-02 15:04 UTC")))
	for _, g := range b.groups {
		paragraph(&m, summary.What(r, g))
	}
	for _, line := range b.answer() {
		fmt.Fprintf(&m, "- %s\n", escape(line))
	}
	m.WriteString("\n")
	for _, s := range sections {
		fmt.Fprintf(&m, "## %s\n\n", escape(s.Title))
		if s.Figure != nil && r.Evidence {
			picture(&m, s, "")
		}
		paragraph(&m, s.Lead)
		s.Table.markdown(&m)
	}
	if g := b.guide(); g != nil {
		m.WriteString("## Which language, then?\n\n")
		g.markdown(&m, "###")
	}
	m.WriteString("## What this does not say\n\n")
	for _, line := range b.limits() {
		fmt.Fprintf(&m, "- %s\n", escape(line))
	}
	m.WriteString("\n## Proven equal\n\n")
	b.conformanceTable().markdown(&m)
	m.WriteString("## Environment\n\n")
	t := table{Heads: []string{"what", "is"}}
	for _, p := range b.environment() {
		t.Rows = append(t.Rows, []string{p.Name, p.Value})
	}
	t.markdown(&m)
	if voids := b.voids(); len(voids.Rows) > 0 {
		m.WriteString("## Void trials\n\n")
		voids.markdown(&m)
	}
	m.WriteString("## The same again\n\n")
	fmt.Fprintf(&m, "    %s\n", command(r.Command))
	for _, line := range r.Warnings {
		fmt.Fprintf(&m, "\nNote: %s\n", escape(line))
	}
	return m.String()
}

// notProven warns of arms that were measured although they were not proven equal; empty where there are none.
func (b *build) notProven() string {
	var bad []string
	for _, g := range b.groups {
		for _, a := range g.Arms {
			if a.Nonconformant && !slices.Contains(bad, a.Name) {
				bad = append(bad, a.Name)
			}
		}
	}
	if len(bad) == 0 {
		return ""
	}
	return "Not proven equal, so their figures may be of another answer: " + list(bad) + "."
}

// command is words for a shell, on one line.
func command(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		w = chart.Clean(w, 2000)
		if w == "" || strings.ContainsFunc(w, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=+,./:", r))
		}) {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		out[i] = w
	}
	if len(out) > 0 && out[0] == "loadtest" {
		out[0] = "bin/loadtest"
	}
	return strings.Join(out, " ")
}

func (b *build) voids() table {
	t := table{Heads: []string{"trial", "why it is in no figure"}}
	for _, x := range b.run.Trials {
		if x.Void != nil {
			t.Rows = append(t.Rows, []string{x.ID, *x.Void})
		}
	}
	return t
}

func (b *build) conformanceTable() table {
	t := table{Caption: "Proof, before anything was timed, that the arms answer the same", Heads: []string{"arm", "conformant", "form of the proof", "digest of contract and server", "listed deviations", "findings"}}
	for _, c := range b.run.Conformance {
		yes := "yes"
		if !c.Conformant {
			yes = "NO"
		}
		deviations := "none"
		if len(c.Deviations) > 0 {
			deviations = strings.Join(c.Deviations, "; ")
		}
		findings := "none"
		if len(c.Findings) > 0 {
			findings = strings.Join(c.Findings[:min(5, len(c.Findings))], "; ")
			if n := len(c.Findings) - 5; n > 0 {
				findings += fmt.Sprintf("; and %d more in run.json", n)
			}
		}
		t.Rows = append(t.Rows, []string{c.Arm, yes, c.Form, shorten(c.Digest, 12), deviations, findings})
	}
	if len(t.Rows) == 0 {
		arms := []string{}
		for _, g := range b.groups {
			for _, a := range g.Arms {
				if !slices.Contains(arms, a.Name) {
					arms = append(arms, a.Name)
					t.Rows = append(t.Rows, []string{a.Name, "not proven in this run", "–", "–", "–", "–"})
				}
			}
		}
	}
	return t
}

func shorten(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
