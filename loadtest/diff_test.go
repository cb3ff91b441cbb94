package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/diff"
	"lab/loadtest/internal/record"
)

func diffWith(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	return runCommand(t, append([]string{"diff"}, args...)...)
}

func TestDiffOfARunWithItselfFindsNothing(t *testing.T) {
	dir := realRun(t)
	code, out, said := diffWith(t, dir, dir)
	require.Zero(t, code, said)
	assert.Contains(t, out, "rank")
	code, out, _ = diffWith(t, "--json", dir, dir)
	require.Zero(t, code)
	var r diff.Result
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.NotEmpty(t, r.Changes)
	compared := 0
	for _, c := range r.Changes {
		if c.OldTrials > 0 { // the others' only trial is void
			compared++
			require.NotNil(t, c.Ratio)
			assert.InDelta(t, 1, *c.Ratio, 1e-9)
		}
		assert.NotEqual(t, diff.Regression, c.Verdict)
	}
	assert.Positive(t, compared)
}

func TestDiffRefusesAndNames(t *testing.T) {
	dir := realRun(t)
	other := evidence(t, nil) // another profile
	code, out, said := diffWith(t, dir, other)
	assert.Equal(t, exitCannot, code)
	assert.Empty(t, out)
	assert.Contains(t, said, "profile")
	assert.Contains(t, said, "--across")
	summary := filepath.Join(t.TempDir(), "summary")
	t.Setenv("GITHUB_STEP_SUMMARY", summary)
	code, out, said = diffWith(t, dir, other, "--if-comparable")
	assert.Zero(t, code)
	assert.Empty(t, out)
	assert.Contains(t, said, "profile")
	text, err := os.ReadFile(summary)
	require.NoError(t, err)
	assert.Contains(t, string(text), "profile")
	t.Setenv("GITHUB_STEP_SUMMARY", "")
	code, _, said = diffWith(t, dir, filepath.Join(dir, "none"), "--if-comparable")
	assert.Equal(t, exitCannot, code, "only what differs is let pass")
	assert.Contains(t, said, "none")
	code, _, said = diffWith(t, dir, other, "--across", "profile")
	assert.Zero(t, code, said)
	code, _, said = diffWith(t, dir, other, "--across", "weather")
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, said, "weather")
	code, _, said = diffWith(t, dir, filepath.Join(dir, "none"))
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, said, "none")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), []byte("{"), 0o600))
	code, _, said = diffWith(t, dir, other)
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, said, "run.json")
}

// The page of the method shows the same comparison in both engines, from records that are committed: it must be what the
// records give, and they must rank the arms alike.
func TestBothEnginesRankAlike(t *testing.T) {
	root, err := findRoot()
	require.NoError(t, err)
	native, err := record.Open(filepath.Join(root, "results", nativeRun))
	require.NoError(t, err)
	docker, err := record.Open(filepath.Join(root, "results", dockerRun))
	require.NoError(t, err)
	assert.Equal(t, "native", native.Run.Environment.Engine)
	assert.Equal(t, "docker", docker.Run.Environment.Engine)
	r, err := diff.Runs(native.Run, docker.Run, []string{diff.Engine})
	require.NoError(t, err)
	assert.True(t, r.RanksAlike, "%v", r.Swapped)
	page, err := os.ReadFile(filepath.Join(root, "docs", "METHODOLOGY.md"))
	require.NoError(t, err)
	shown, err := between(string(page), diffCommand)
	require.NoError(t, err)
	assert.Equal(t, "\n"+r.Markdown(), shown, "loadtest diff --across engine --update docs/METHODOLOGY.md results/%s results/%s", nativeRun, dockerRun)
}

// The runs that docs/METHODOLOGY.md sets beside each other.
const (
	nativeRun = "2026-11-26-quick-all"
	dockerRun = "2026-11-26-quick-docker"
)
