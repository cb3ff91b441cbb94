package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/report"
)

func needsAssets(t *testing.T) {
	t.Helper()
	if err := chart.Ready(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// realRun is a copy of a real smoke run's records.
func realRun(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("internal", "report", "testdata", "smoke"))))
	return dir
}

// evidence makes of the real run one that may be published, which its few trials do not make it.
func evidence(t *testing.T, change func(r *record.Run)) string {
	t.Helper()
	dir := realRun(t)
	r, err := record.ReadRun(dir)
	require.NoError(t, err)
	r.ID, r.Profile, r.Evidence = "2026-03-04T050607Z-quick", "quick", true
	if change != nil {
		change(&r)
	}
	write := func(name string, v any) {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	write("run.json", r)
	for _, x := range r.Trials {
		write(filepath.Join("trials", x.ID+".json"), x)
	}
	return dir
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir)] = string(b)
		return err
	}))
	return out
}

func TestReportCommandIsRepeatable(t *testing.T) {
	needsAssets(t)
	t.Setenv("LAB_CACHE_DIR", t.TempDir())
	dir := realRun(t)
	before := snapshot(t, dir)
	code, out, errs := runCommand(t, "report", dir)
	require.Equal(t, exitOK, code, errs)
	assert.Equal(t, filepath.Join(dir, "report.html")+"\n", out)
	assert.Contains(t, errs, "no evidence", "it says why there are no pictures")
	first := snapshot(t, dir)
	for name, text := range before {
		assert.Equal(t, text, first[name], "records stay as they are")
	}
	assert.Len(t, first, len(before)+2, "report.html and README.md")
	code, out, errs = runCommand(t, "report", dir, "--json")
	require.Equal(t, exitOK, code, errs)
	var told struct{ Files []string }
	require.NoError(t, json.Unmarshal([]byte(out), &told))
	assert.Equal(t, []string{"report.html", "README.md"}, told.Files)
	assert.Equal(t, first, snapshot(t, dir))
}

func TestReportOfDamagedRecordsWritesNothing(t *testing.T) {
	needsAssets(t)
	dir := realRun(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "report.html"), []byte("precious"), 0o600))
	file := filepath.Join(dir, "run.json")
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, b[:len(b)/2], 0o600))
	before := snapshot(t, dir)
	code, out, errs := runCommand(t, "report", dir)
	assert.Equal(t, exitCannot, code)
	assert.Empty(t, out)
	assert.Contains(t, errs, file)
	assert.Equal(t, before, snapshot(t, dir))
}

func TestPublishing(t *testing.T) {
	needsAssets(t)
	t.Setenv("LAB_CACHE_DIR", t.TempDir())
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "results"), 0o755))
	begin, end := markers(publishCommand)
	readme := filepath.Join(root, "README.md")
	require.NoError(t, os.WriteFile(readme, []byte("# Lab\n\n"+begin+"\n"+end+"\n\nmore\n"), 0o600))
	p, err := openPages(readme, publishCommand)
	require.NoError(t, err)
	from := evidence(t, nil)
	to, err := publish(t.Context(), root, from, p, pages{})
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(root, "results", "2026-03-04T050607Z-quick"), to)
	page, err := os.ReadFile(readme)
	require.NoError(t, err)
	assert.Contains(t, string(page), "results/2026-03-04T050607Z-quick/charts/cpu-dark.svg")
	assert.True(t, strings.HasSuffix(string(page), end+"\n\nmore\n"))
	// What was published is what its records give.
	saved, err := record.Open(to)
	require.NoError(t, err)
	made, err := report.Make(t.Context(), saved, published())
	require.NoError(t, err)
	require.NoError(t, made.Equal(to))
	entries, err := os.ReadDir(filepath.Join(root, "results"))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing half done stays")

	t.Run("again, after the pages could not be written", func(t *testing.T) {
		before := snapshot(t, to)
		// A page that is a folder by then cannot be replaced.
		empty := pages{publishCommand, map[string]string{filepath.Join(root, "results"): begin + "\n" + end}}
		_, err := publish(t.Context(), root, from, empty, pages{})
		require.ErrorContains(t, err, "--update")
		require.NoError(t, os.WriteFile(readme, []byte(begin+"\n"+end), 0o600))
		p, err := openPages(readme, publishCommand)
		require.NoError(t, err)
		for range 2 {
			again, err := publish(t.Context(), root, from, p, pages{})
			require.NoError(t, err)
			assert.Equal(t, to, again)
		}
		written, err := os.ReadFile(readme)
		require.NoError(t, err)
		assert.Contains(t, string(written), "results/2026-03-04T050607Z-quick/charts/cpu-dark.svg")
		assert.Equal(t, before, snapshot(t, to), "what is published stays as it is")
	})
	t.Run("another run of that name", func(t *testing.T) {
		_, err := publish(t.Context(), root, evidence(t, func(r *record.Run) { r.Warnings = append(r.Warnings, "another") }), p, pages{})
		require.ErrorContains(t, err, "run.json is another; a published run is never changed")
	})
	t.Run("pages of another version of this program", func(t *testing.T) {
		page := filepath.Join(to, "README.md")
		old, err := os.ReadFile(page)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(page, append(old, "more"...), 0o600))
		_, err = publish(t.Context(), root, from, p, pages{})
		require.ErrorContains(t, err, "loadtest report "+to)
		require.NoError(t, os.WriteFile(page, old, 0o600))
	})

	for name, c := range map[string]struct {
		dir  string
		says string
	}{
		"smoke":             {realRun(t), "no evidence"},
		"interrupted":       {evidence(t, func(r *record.Run) { r.ID = "b"; r.Complete = false }), "interrupted"},
		"an odd id":         {evidence(t, func(r *record.Run) { r.ID = "../x" }), "no name for a folder"},
		"a private folder":  {evidence(t, func(r *record.Run) { r.ID = "c"; r.Warnings = append(r.Warnings, "see "+root) }), root},
		"an arm not proven": {evidence(t, func(r *record.Run) { r.ID = "d"; r.Trials[0].Nonconformant = true }), "was not proven"},
		"without a proof":   {evidence(t, func(r *record.Run) { r.ID = "e"; r.Conformance = []record.Conformity{} }), "was not proven"},
		"an arm disproven":  {evidence(t, func(r *record.Run) { r.ID = "f"; r.Conformance[0].Conformant = false }), "was not proven"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := publish(t.Context(), root, c.dir, p, pages{})
			require.ErrorContains(t, err, c.says)
		})
	}
}

// Published runs stay readable, and their pages, pictures and excerpts are what their records give, byte for byte.
func TestPublishedRunsAreWhatTheirRecordsGive(t *testing.T) {
	root, err := findRoot()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(root, "results", "*", "run.json"))
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	block, err := between(string(readme), publishCommand)
	require.NoError(t, err)
	shown := false
	for _, file := range files {
		needsAssets(t)
		dir := filepath.Dir(file)
		saved, err := record.Open(dir)
		require.NoError(t, err)
		made, err := report.Make(t.Context(), saved, published())
		require.NoError(t, err)
		require.NoError(t, made.Equal(dir))
		excerpt, err := report.Excerpt(saved, "results/"+filepath.Base(dir)+"/")
		require.NoError(t, err)
		shown = shown || "\n"+excerpt == block
	}
	assert.True(t, shown || strings.TrimSpace(block) == "", "what README.md shows is of no run in results/")
}
