package main

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/audit"
)

// The stub says where it listens, answers what the audit expects, and ends with its standard input.
func TestStubAnswersUntilItsInputEnds(t *testing.T) {
	in, hold := io.Pipe()
	out, told := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"stub", "--latency", "1ms", "--stall", "1ms", "--every", "10ms"}, streams{in, told, io.Discard})
	}()
	var ready struct{ URL string }
	require.NoError(t, json.NewDecoder(out).Decode(&ready))
	for range 20 {
		response, err := http.Post(ready.URL, "application/json", strings.NewReader(`{"query":"{ok}"}`))
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, audit.Answer, string(body))
	}
	require.NoError(t, hold.Close())
	assert.Equal(t, exitOK, <-code)
	_, err := http.Get(ready.URL)
	assert.Error(t, err)
}

func TestAuditNamesBadInput(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"an unknown part":     {[]string{"audit", "--part", "stall,weather"}, `"weather"`},
		"too few blocks":      {[]string{"audit", "--blocks", "5"}, "--blocks 5"},
		"too many blocks":     {[]string{"audit", "--blocks", "21"}, "--blocks 21"},
		"no comparison":       {[]string{"audit", "--comparisons", "0"}, "--comparisons 0"},
		"an unknown arm":      {[]string{"audit", "--contender", "cobol"}, "cobol"},
		"a floor":             {[]string{"audit", "--contender", "go-floor"}, "floor"},
		"a page without room": {[]string{"audit", "--update", "main.go"}, "make audit"},
		"a stall too long":    {[]string{"stub", "--stall", "2s", "--every", "1s"}, "--stall 2s"},
		"a negative latency":  {[]string{"stub", "--latency", "-1s"}, "-1s"},
		"a bare number":       {[]string{"stub", "--latency", "5"}, `"5"`},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := runCommand(t, c.args...)
			assert.Equal(t, exitCannot, code)
			assert.Empty(t, out)
			assert.Contains(t, errs, c.says)
		})
	}
	dir := t.TempDir()
	code, _, errs := runCommand(t, "audit", "--out", filepath.Dir(dir), "--part", "stall")
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, errs, "not empty")
}
