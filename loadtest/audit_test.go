package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/audit"
	"lab/loadtest/internal/record"
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

// What an interrupted audit has is not measured again, and nothing else goes into it.
func TestAuditGoesOn(t *testing.T) {
	environment, _, err := auditMachine()
	require.NoError(t, err)
	begun := func(change func(*audit.Report)) string {
		r := audit.Report{
			Method: record.Method, Began: time.Now(), Seed: 7, Environment: environment, Command: []string{"loadtest", "audit", "--part", "stall", "--seed", "7"},
			Rows: []audit.Row{{What: "stalls", True: "280.0 ms", Reported: "281.0 ms", Bound: "2 %", Within: true, Part: "stall"}},
		}
		change(&r)
		dir := t.TempDir()
		require.NoError(t, record.WriteJSON(filepath.Join(dir, auditFile), r))
		return dir
	}
	dir := begun(func(*audit.Report) {})
	code, out, errs := runCommand(t, "audit", "--resume", dir)
	assert.Equal(t, exitOK, code, errs)
	assert.Contains(t, out, "281.0 ms")
	assert.Contains(t, out, "--seed 7")
	assert.Contains(t, errs, "stall: measured before")

	for name, c := range map[string]struct {
		change func(*audit.Report)
		args   []string
		says   string
	}{
		"another seed":       {func(*audit.Report) {}, []string{"--seed", "8"}, `--seed "8"`},
		"another folder":     {func(*audit.Report) {}, []string{"--out", t.TempDir()}, "leave the flag out"},
		"another method":     {func(r *audit.Report) { r.Method-- }, nil, "method was"},
		"another machine":    {func(r *audit.Report) { r.Environment = json.RawMessage(`{"cpus":[9]}`) }, nil, "another machine"},
		"another command":    {func(r *audit.Report) { r.Command[1] = "compare" }, nil, "no loadtest audit"},
		"an unknown setting": {func(r *audit.Report) { r.Command[2] = "--weather" }, nil, "--weather"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := runCommand(t, append([]string{"audit", "--resume", begun(c.change)}, c.args...)...)
			assert.Equal(t, exitCannot, code)
			assert.Empty(t, out)
			assert.Contains(t, errs, c.says)
		})
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, auditFile), []byte("{\"seed\":\n\"many\"}"), 0o600))
	code, _, errs = runCommand(t, "audit", "--resume", dir)
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, errs, `line 2: key "seed" is "many"`)
}

// A comparison that was broken off is measured again; one that is whole is kept.
func TestAuditKeepsWholeComparisonsOnly(t *testing.T) {
	dir := t.TempDir()
	_, ok := auditedBefore(dir)
	assert.False(t, ok, "an empty folder")
	folder := filepath.Join(dir, "same-01")
	f, err := record.Create(folder)
	require.NoError(t, err)
	run := record.Run{Format: record.Format, Method: record.Method, ID: "same-01", Profile: record.ProfileRevisions, Began: time.Now()}
	require.NoError(t, f.WriteRun(run))
	_, ok = auditedBefore(folder)
	assert.False(t, ok, "one under way")
}
