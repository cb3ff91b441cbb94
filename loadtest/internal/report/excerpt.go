package report

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// measuredOn says of what stands elsewhere than on a run's own page on which machine it was measured, with which database and
// when, and what the run warns of.
func measuredOn(r record.Run, machine string) string {
	return strings.TrimSpace(fmt.Sprintf("%s; PostgreSQL %s; %s. %s", machine, r.Environment.PostgreSQL, r.Began.UTC().Format("2006-01-02"), sentences(r.Warnings)))
}

// Excerpt is what a page elsewhere shows of a published run: the answer, one picture and one table. The folder is where
// the run is, seen from that page, with a slash at its end.
func Excerpt(s record.Saved, folder string) (string, error) {
	b, err := open(s)
	if err != nil {
		return "", err
	}
	sections := b.sections()
	if len(sections) == 0 || !s.Run.Evidence {
		return "", fmt.Errorf("%w (profile %s)", ErrNoPictures, s.Run.Profile)
	}
	r := b.run
	var m strings.Builder
	for _, line := range b.headlineAnswer() {
		fmt.Fprintf(&m, "- %s\n", escape(line))
	}
	m.WriteString("\n")
	picture(&m, sections[0], folder)
	shown, _ := b.headlines()
	if len(shown) == 0 {
		return "", errors.New("a run of claims alone has no headline to show elsewhere; its own page has them")
	}
	for _, g := range shown {
		b.excerptTable(g).markdown(&m)
	}
	if t := b.claimsTable(); len(t.Rows) > 0 {
		t.markdown(&m)
	}
	var what []string
	for _, g := range shown {
		what = append(what, summary.What(r, g))
	}
	paragraph(&m, strings.Join(slices.Compact(what), " ")+" In brackets: 95 % interval of the median over the blocks, or least–most where the blocks are too few. Latency counts from the intended send. "+
		measuredOn(r, fmt.Sprintf("%s, server on %s of %d", r.Environment.CPUModel, summary.Plural(len(r.Environment.Placement["contender"]), "CPU"), len(r.Environment.CPUs))))
	fmt.Fprintf(&m, "Made by `%s`; [every trial and all charts](%sREADME.md); `make report RUN=%s` makes its page from the records.\n", strings.ReplaceAll(command(r.Command), "`", "'"), folder, strings.TrimSuffix(folder, "/"))
	return m.String(), nil
}

// claimsTable has the verdict on each claim.
func (b *build) claimsTable() table {
	t := table{Heads: []string{"claim", "put to the test", "verdict"}}
	if o, verdicts := b.run.Outweighs, summary.Outweighing(b.run); o != nil && len(verdicts) > 0 {
		t.Rows = append(t.Rows, []string{libraryID, o.Claim, claims.Overall(verdicts)})
	}
	for _, s := range b.run.Scenarios {
		if verdicts := summary.VerdictsOf(b.run, s.ID); len(verdicts) > 0 {
			t.Rows = append(t.Rows, []string{s.ID, s.Claim, claims.Overall(verdicts)})
		}
	}
	return t
}

func (b *build) excerptTable(g summary.Group) table {
	t := table{Heads: []string{"arm", "tier", "CPU per request, µs", "÷ floor"}}
	rate := !g.Closed
	if rate {
		t.Heads = append(t.Heads, "p50 ms", "p99 ms")
	}
	t.Heads = append(t.Heads, "throughput /s", "held back by", "memory peak, MB", "requests")
	for _, a := range g.Arms {
		over := "–"
		if q := g.OverFloor(a); len(q.Values) > 0 {
			over = two(q.Median)
		}
		if a.Tier == "floor" {
			over = "1"
		}
		row := []string{marked(a), a.Tier, bracketed(a.CPU(), whole), over}
		if rate {
			row = append(row, milli(a.Latency(summary.Percentiles()[0]).Median), milli(a.Latency(summary.Percentiles()[2]).Median))
		}
		bottleneck, _ := a.Bottleneck()
		t.Rows = append(t.Rows, append(row, bracketed(a.Answers(), whole), bottleneck, one(a.Memory(func(x record.Trial) *int64 { return x.MemoryPSSPeakBytes }).Median), count(a.CPU().Requests())))
	}
	return t
}

func bracketed(q summary.Quantity, format func(float64) string) string {
	switch {
	case len(q.Values) == 0:
		return "–"
	case q.HasInterval():
		return fmt.Sprintf("%s (%s–%s)", format(q.Median), format(q.Low), format(q.High))
	}
	return fmt.Sprintf("%s (%s–%s)", format(q.Median), format(q.Least()), format(q.Most()))
}
