package report

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contract"
)

// Every scenario of the contract is behind one advice, and only one.
func TestTheTreeHasEveryClaim(t *testing.T) {
	c, err := contract.Load(filepath.Join("..", "..", "..", "contract"))
	require.NoError(t, err)
	scenarios, err := contract.LoadScenarios(c)
	require.NoError(t, err)
	var claims []string
	for _, l := range leaves {
		claims = append(claims, slices.Concat(l.decides, l.beside)...)
	}
	slices.Sort(claims)
	assert.Len(t, slices.Compact(slices.Clone(claims)), len(claims), "a claim twice")
	for _, s := range scenarios {
		assert.Contains(t, claims, s.ID)
		if s.ID == libraryID {
			assert.Equal(t, libraryClaim, s.Claim)
		}
	}
}

// The tree carries the verdicts of the run and says what it did not measure, on the page, in the run's README and alone.
func TestTheTreeCarriesTheRunsVerdicts(t *testing.T) {
	dir := made{profile: "quick", blocks: 16, seconds: 2, rps: 300, change: ofScenario(8, lessClaim)}.write(t)
	r := reportOf(t, dir)
	alone, err := Guide(opened(t, dir), "../results/it/")
	require.NoError(t, err)
	for _, text := range []string{r["report.html"], r["README.md"], alone} {
		for _, words := range []string{
			theTeam,
			"Is there high traffic over state that requests share",
			"shared-state", "node answers fewer",
			"This run speaks against it: of what decides it, shared-state: contradicted; parallel-cpu and cluster-memory: not measured in this run.",
			"This run says nothing of it: gc-tail: not measured in this run.",
			"times the throughput of go",
			"the choice of library can outweigh the choice of language",
			"No benchmark can say whether the team writes Rust or Go today",
		} {
			says(t, text, words)
		}
	}
	says(t, alone, "- **shared-state**: node answers fewer. **Contradicted.** ")
	says(t, alone, "(../results/it/README.md)")
	says(t, r["report.html"], "<b>shared-state</b>: node answers fewer. <b>contradicted</b>. ")
	assert.False(t, strings.Contains(alone, "**gc-tail**"), "only what was measured")
	assert.Equal(t, 1, strings.Count(r["report.html"], `id="guide"`))
}

// An advice follows where all that decides it holds; what was not measured settles nothing, and what is undecided leaves
// it open.
func TestWhetherAnAdviceFollows(t *testing.T) {
	of := func(verdicts ...string) string {
		var all []borne
		for i, v := range verdicts {
			all = append(all, borne{ID: string(rune('a' + i)), Verdict: v})
		}
		return follows(all)
	}
	for want, got := range map[string]string{
		"This run bears it out: of what decides it, a and b: holds.":                                                of(claims.Holds, claims.Holds),
		"This run alone does not settle it: of what decides it, b: not measured in this run; a: holds.":             of(claims.Holds, notMeasured),
		"This run says nothing of it: a and b: not measured in this run.":                                           of(notMeasured, notMeasured),
		"This run speaks against it: of what decides it, b: contradicted; a: holds.":                                of(claims.Holds, claims.Contradicted),
		"This run leaves it open: of what decides it, a: too close to call; b: cannot be tested here.":              of(claims.TooClose, claims.Untested),
		"This run leaves it open: of what decides it, a: too close to call; c: not measured in this run; b: holds.": of(claims.TooClose, claims.Holds, notMeasured),
	} {
		assert.Equal(t, want, got)
	}
}

// A run without claims has no tree.
func TestNoTreeWithoutClaims(t *testing.T) {
	dir := made{profile: "quick", blocks: 8, seconds: 2, rps: 300}.write(t)
	assert.False(t, strings.Contains(reportOf(t, dir)["report.html"], `id="guide"`))
	_, err := Guide(opened(t, dir), "")
	assert.ErrorContains(t, err, "--scenario all")
}

// The page that holds the tree has room for it.
func TestDecidingHasRoomForTheTree(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "DECIDING.md"))
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(text), "<!-- begin: make publish -->"))
	assert.Equal(t, 1, strings.Count(string(text), "<!-- end: make publish -->"))
}
