package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/diff"
)

func diffWith(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = diffMain(t.Context(), args, streams{Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String()
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
