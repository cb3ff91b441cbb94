package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trend"
)

// goldenNights are runs on disk, a day apart; from the given one on, go costs more.
func goldenNights(t *testing.T, n, from int, ratio float64) []string {
	t.Helper()
	first := goldenRun(t, "night", 1)
	var dirs []string
	for i := range n {
		dearer := 1 + 0.004*float64(i%5) // nights are not alike to the last digit
		if i >= from {
			dearer *= ratio
		}
		dir := filepath.Join(t.TempDir(), fmt.Sprintf("night-%02d", i))
		require.NoError(t, os.CopyFS(dir, os.DirFS(first)))
		editRun(t, dir, func(r *record.Run) {
			r.ID, r.Began = filepath.Base(dir), r.Began.Add(time.Duration(i)*24*time.Hour)
			for k := range r.Trials {
				x := &r.Trials[k]
				if x.Arm == "go" {
					cpu := *x.CPUUsPerRequest * dearer
					x.CPUUsPerRequest, x.CPUSeconds = &cpu, cpu*float64(x.Sent)/1e6
				}
				b, err := json.Marshal(x)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(dir, "trials", x.ID+".json"), b, 0o600))
			}
			r.Verdicts = claims.Library(r.Trials)
		})
		dirs = append(dirs, dir)
	}
	return dirs
}

func editRun(t *testing.T, dir string, change func(r *record.Run)) {
	t.Helper()
	r, err := record.ReadRun(dir)
	require.NoError(t, err)
	change(&r)
	b, err := json.Marshal(r)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), b, 0o600))
}

func TestTrendOfNights(t *testing.T) {
	needsAssets(t)
	dirs := goldenNights(t, 14, 7, 1.4)
	page := filepath.Join(t.TempDir(), "trend.html")
	code, out, errs := runCommand(t, append([]string{"trend", "--json", "--page", page}, dirs...)...)
	require.Zero(t, code, errs)
	var r trend.Result
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Len(t, r.Series, 4)
	for _, s := range r.Series {
		require.Len(t, s.Nights, 14)
		if s.Arm != "go" {
			assert.Empty(t, s.Changes, s.Arm)
			continue
		}
		require.Len(t, s.Changes, 1)
		assert.Equal(t, "night-07", s.Changes[0].Run)
		assert.InEpsilon(t, 1.4, s.Changes[0].Ratio, 0.02)
		assert.InEpsilon(t, 1234, s.Nights[0].CPU, 0.001)
	}
	assert.Less(t, float64(r.Error.Found), 0.07*float64(r.Error.Replicates))

	b, err := os.ReadFile(page)
	require.NoError(t, err)
	text := string(b)
	assert.Regexp(t, `go, Q2: 40\.[0-9] % dearer from 2026-03-11 on, ratio 1\.4[01]`, text)
	assert.Contains(t, text, "made-up histories of 4 series of 14 nights")
	assert.Contains(t, text, "Binary segmentation")
	head, _, ok := strings.Cut(strings.ToLower(text), "<script")
	require.True(t, ok)
	for _, m := range regexp.MustCompile(`\b(?:src|href)="([^"]+)"`).FindAllStringSubmatch(head, -1) {
		assert.Regexp(t, `^(#|data:)`, m[1], "all in one file")
	}
	assert.Contains(t, text, "default-src &#39;none&#39;")
	tables := pageTables(text)
	goldenRow{
		{"night", "2026-03-04"}, {"run", "night-00"}, {"CPU per request, µs", "1234"}, {"95 %", "1159.96–1308.04"}, {"p50 ms", "1020"}, {"throughput /s", "8765"}, {"trials", "9"}, {"requests", "90000"},
	}.check(t, "trend", tables["go, Q2"][0], tables["go, Q2"][1])

	code, again, _ := runCommand(t, append([]string{"trend"}, dirs...)...)
	require.Zero(t, code)
	assert.Regexp(t, `(?m)^go +Q2 +14 +1234 +17[0-9]{2} +night-07: × 1\.4[01]$`, again)
	assert.Regexp(t, `(?m)^node +Q2 +14 .* none found$`, again)
}

func TestTrendRefusesAndNames(t *testing.T) {
	dirs := goldenNights(t, 2, 9, 1)
	editRun(t, dirs[1], func(r *record.Run) { r.Environment.Engine = "docker" })
	code, out, errs := runCommand(t, append([]string{"trend"}, dirs...)...)
	assert.Equal(t, exitCannot, code)
	assert.Empty(t, out)
	assert.Contains(t, errs, "engine")
	assert.Contains(t, errs, "--separate")
	code, out, errs = runCommand(t, append([]string{"trend", "--separate"}, dirs...)...)
	assert.Zero(t, code, errs)
	assert.Contains(t, out, "engine docker")
	assert.Contains(t, out, "engine native")
	assert.Contains(t, out, "Too few nights")
	for says, args := range map[string][]string{
		"usage":        {"trend"},
		"none":         {"trend", dirs[0], filepath.Join(dirs[0], "none")},
		"is there":     {"trend", dirs[0], dirs[0]},
		"no folder to": {"trend", dirs[0], "--page", filepath.Join(dirs[0], "none", "x.html")},
		"are evidence": {"trend", realRun(t)},
	} {
		code, out, errs := runCommand(t, args...)
		assert.Equal(t, exitCannot, code, says)
		assert.Empty(t, out)
		assert.Contains(t, errs, says)
	}
	file := filepath.Join(dirs[0], "run.json")
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(b), `"seed"`, `"moon":1,"seed"`, 1)), 0o600))
	for _, args := range [][]string{{"trend", dirs[0]}, {"diff", dirs[0], dirs[0]}} {
		code, _, errs := runCommand(t, args...)
		assert.Equal(t, exitCannot, code)
		assert.Contains(t, errs, file+": line 1: ")
		assert.Contains(t, errs, "moon")
	}
}
