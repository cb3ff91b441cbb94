package report

import (
	"fmt"
	"strings"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// outweighs is the claim of the library: what another library changes, held against what another language does; nil where it
// was not measured.
func (b *build) outweighs(g summary.Group) *section {
	o, verdicts := b.run.Outweighs, summary.Outweighing(b.run)
	if o == nil || g.Scenario != libraryID || len(verdicts) == 0 {
		return nil
	}
	metric := claims.MetricWords(o.Metric)
	panel := chart.Panel{Axis: "change by library ÷ change by language", Format: "ratio", Log: true, Line: 1}
	t := verdictTable()
	var rows []chart.Row
	for _, v := range verdicts {
		shadeIdentical(&panel, v)
		bar, row := b.verdictBar(v, ratioCell(v)), verdictRow(v)
		// The same two arms have a ratio of their own above, which this is not.
		bar.Label, row[0] = "library ÷ ("+bar.Label+")", "library ÷ ("+row[0]+")"
		rows = append(rows, bar)
		t.Rows = append(t.Rows, row)
	}
	f := chart.Rows{
		ID: b.id(g, "outweighs"), Title: "Change of " + metric + " by library over that by language",
		Subtitle: fmt.Sprintf("Factor of %s in place of %s over the factor of the one language in place of the other, geometric mean of the blocks, 95 %% interval (exact sign-flip test). Right of the line the library changes more. ",
			chart.Clean(o.Library[1], labelRunes), chart.Clean(o.Library[0], labelRunes)) + b.count(g, summary.Arm.CPU),
		Finding: b.outweighsWords(verdicts), Panels: []chart.Panel{panel}, Rows: rows,
	}.Figure()
	overall := claims.Overall(verdicts)
	lead := ownClaim + fmt.Sprintf("The claim: “%s”. Verdict: %s. What was done: %s%s, the same query by each arm; %s in random order. %s What would change it: %s.",
		strings.TrimSuffix(o.Claim, "."), overall, operation(g), summary.RateWords(b.run, g.Scenario), summary.Plural(b.run.Plan.Blocks, "block"), summary.OutweighsWords(*o), strings.TrimSuffix(o.ChangedBy, "."))
	return &section{b.id(g, "outweighs"), chart.Clean(fmt.Sprintf("%s: %s", libraryID, overall), 80), lead, &f, t}
}

// outweighsWords are its verdicts as sentences.
func (b *build) outweighsWords(verdicts []record.Verdict) string {
	var words []string
	for _, v := range verdicts {
		switch v.Verdict {
		case claims.Untested:
			words = append(words, fmt.Sprintf("For %s and %s it cannot be tested here: %s", v.Arms[0], v.Arms[1], v.Reason))
		case claims.TooClose:
			words = append(words, fmt.Sprintf("For %s and %s it is too close to call: %s", v.Arms[0], v.Arms[1], v.Reason))
		case claims.Contradicted:
			words = append(words, "Against the claim: "+v.Reason)
		default:
			words = append(words, v.Reason)
		}
	}
	return sentences(words)
}

// outweighsAnswer is what the claim of the library came to, in one line; empty where it was not measured.
func (b *build) outweighsAnswer() string {
	o, verdicts := b.run.Outweighs, summary.Outweighing(b.run)
	if o == nil || len(verdicts) == 0 {
		return ""
	}
	return fmt.Sprintf("“%s”: %s. %s", strings.TrimSuffix(o.Claim, "."), claims.Overall(verdicts), b.outweighsWords(verdicts))
}
