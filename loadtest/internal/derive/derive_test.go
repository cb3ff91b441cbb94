package derive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/derive"
)

const contractDir = "../../../contract"

func databaseURL(t *testing.T) string {
	t.Helper()
	url := os.Getenv("TEST_DATABASE_URL")
	require.NotEmpty(t, url, "TEST_DATABASE_URL must name a freshly seeded database of size small")
	return url
}

func TestExpectedAnswersAreWhatSQLGives(t *testing.T) {
	files, err := derive.Derive(t.Context(), contractDir, databaseURL(t))
	require.NoError(t, err)
	differing, err := derive.Differing(contractDir, files)
	require.NoError(t, err)
	assert.Empty(t, differing, "derive them again: loadtest derive --database-url URL")
	_, err = contract.Load(contractDir)
	assert.NoError(t, err)
}

func TestCommandWritesThenFindsNothingToDoThenNamesWhatWasChanged(t *testing.T) {
	url := databaseURL(t)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(contractDir)))
	expected := filepath.Join(dir, "operations", "q1", "expected.json")
	require.NoError(t, os.Remove(expected))
	run := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		status := derive.Main(t.Context(), append([]string{"--contract", dir, "--database-url", url}, args...), &stdout, &stderr)
		return status, stdout.String(), stderr.String()
	}

	status, stdout, stderr := run()
	require.Equal(t, 0, status, stderr)
	assert.Equal(t, "operations/q1/expected.json written\n", stdout)

	status, stdout, stderr = run("--check")
	assert.Equal(t, 0, status, stderr)
	assert.Empty(t, stdout)

	text, err := os.ReadFile(expected)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(expected, []byte(strings.Replace(string(text), "Item", "Itom", 1)), 0o600))
	status, stdout, _ = run("--check")
	assert.Equal(t, 1, status)
	assert.Equal(t, "operations/q1/expected.json differs from what SQL gives\n", stdout)
}

func TestCommandThatCannotRun(t *testing.T) {
	for name, args := range map[string][]string{
		"no database given":      {"--contract", contractDir},
		"no such contract":       {"--contract", t.TempDir(), "--database-url", "postgres://127.0.0.1:1/none"},
		"database not to be had": {"--contract", contractDir, "--database-url", "postgres://127.0.0.1:1/none"},
		"a word too many":        {"--contract", contractDir, "--database-url", "postgres://127.0.0.1:1/none", "please"},
		"unknown flag":           {"--nonsense"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, 2, derive.Main(t.Context(), args, &stdout, &stderr))
			assert.Empty(t, stdout.String())
			assert.NotEmpty(t, stderr.String())
		})
	}
}
