package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	none := func(string) string { return "" }

	t.Run("version", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitFine, run([]string{"--version"}, none, &stdout, &stderr))
		var v versionInfo
		require.NoError(t, json.Unmarshal(stdout.Bytes(), &v))
		assert.Equal(t, "go", v.Name)
		assert.Equal(t, "go", v.Language)
		assert.Regexp(t, `^1\.\d+`, v.LanguageVersion)
		assert.Equal(t, 1, bytes.Count(stdout.Bytes(), []byte("\n")))
	})

	t.Run("help lists every variable", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitFine, run([]string{"--help"}, none, &stdout, &stderr))
		for _, name := range []string{"HOST", "PORT", "CONTRACT_DIR", "DATABASE_URL", "DATABASE_REPLICA_URL", "POOL_SIZE", "UPSTREAM_URL", "TIER", "LOADER", "MASTER", "START", "CONCURRENCY_MODEL", "WORKERS", "REQUEST_TIMEOUT", "GRAPHIQL", "PROFILER", "LOG_LEVEL"} {
			assert.Contains(t, stdout.String(), name)
		}
	})

	t.Run("health without a server", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		// Nothing listens on port 1, and no other setting is needed to find that out.
		getenv := func(name string) string { return map[string]string{"PORT": "1"}[name] }
		assert.Equal(t, exitFailed, run([]string{"--health"}, getenv, &stdout, &stderr))
		assert.Contains(t, stderr.String(), "127.0.0.1:1")
		assert.Empty(t, stdout.String())
	})

	t.Run("an unknown argument", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, exitUsage, run([]string{"serve"}, none, &stdout, &stderr))
		assert.Contains(t, stderr.String(), `"serve"`)
	})

	t.Run("bad config fails", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, exitUsage, run(nil, none, &stdout, &stderr))
		assert.Contains(t, stderr.String(), "DATABASE_URL")
		assert.Equal(t, 1, bytes.Count(stderr.Bytes(), []byte("\n")))
		assert.Empty(t, stdout.String())
	})
}
