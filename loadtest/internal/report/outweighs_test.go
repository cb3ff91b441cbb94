package report

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
)

// The claim of the library has its chart, its line among the answers and its place in the guide, and is no pair of the
// headline.
func TestTheClaimOfTheLibraryIsTold(t *testing.T) {
	m := quick()
	m.change = func(r *record.Run) {
		r.Outweighs = &record.Outweighs{
			Claim: "a library can outweigh a language", Metric: "cpu_us_per_request", Library: [2]string{"node", "node-compiled"},
			Pairs: [][2]string{{"go", "node"}, {"node", "rust"}, {"go", "rust"}}, Alpha: 0.05, Margin: 1.05, ChangedBy: "another query",
		}
	}
	dir := m.write(t)
	r := reportOf(t, dir)
	for _, text := range []string{r["report.html"], r["README.md"]} {
		for _, words := range []string{
			"“a library can outweigh a language”: holds.",
			"; and 1 claim put to the test",
			"This claim is the project", "The claim: “a library can outweigh a language”. Verdict: holds. What was done: Q2 at 180 requests a second",
			"ode-compiled in place of node changes the CPU per request by a factor of 1.", "What would change it: another query.",
			"gainst the claim: node-compiled in place of node",
		} {
			says(t, text, words)
		}
	}
	assert.True(t, has(r, "charts/outweighs-light.svg"))
	b, err := open(opened(t, dir))
	require.NoError(t, err)
	assert.Len(t, sectionOf(t, b, "pairs").Table.Rows, 3)
	assert.Len(t, sectionOf(t, b, "outweighs").Table.Rows, 3)
	told := b.bears(libraryID)
	assert.Equal(t, claims.Holds, told.Verdict)
	assert.Equal(t, "a library can outweigh a language", told.Claim)
	assert.Contains(t, told.Words, "over that language's floor")
}
