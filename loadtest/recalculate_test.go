package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Another program in another language, which shares no code with this one, gives the same verdicts of what is published, and
// names what is not so.
func TestAnotherProgramGivesTheSameVerdicts(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	root, err := findRoot()
	require.NoError(t, err)
	recalculate := func(folders ...string) (string, int) {
		command := exec.CommandContext(t.Context(), node, append([]string{filepath.Join(root, "scripts", "verdicts", "recalculate.mjs")}, folders...)...)
		out, err := command.CombinedOutput()
		if command.ProcessState == nil {
			require.NoError(t, err)
		}
		return string(out), command.ProcessState.ExitCode()
	}
	files, err := filepath.Glob(filepath.Join(root, "results", "*", "run.json"))
	require.NoError(t, err)
	var folders []string
	most, rules := "", map[string]bool{}
	for _, file := range files {
		folders = append(folders, filepath.Dir(file))
		var r struct{ Scenarios []struct{ Rule string } }
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &r))
		for _, s := range r.Scenarios {
			rules[s.Rule], most = true, file
		}
	}
	out, code := recalculate(folders...)
	assert.Zero(t, code, out)
	assert.Equal(t, map[string]bool{"less": true, "equal": true, "within": true}, rules, "each rule of a scenario is in what is published; the library has its own")

	damaged := func(change func(r map[string]any)) string {
		b, err := os.ReadFile(most)
		require.NoError(t, err)
		var r map[string]any
		require.NoError(t, json.Unmarshal(b, &r))
		change(r)
		b, err = json.Marshal(r)
		require.NoError(t, err)
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), b, 0o600))
		return dir
	}
	verdict := func(r map[string]any, i int) map[string]any { return r["verdicts"].([]any)[i].(map[string]any) }
	for name, c := range map[string]struct {
		change func(r map[string]any)
		says   string
	}{
		"another verdict":           {func(r map[string]any) { verdict(r, 0)["verdict"] = "contradicted" }, "the verdict is"},
		"another ratio":             {func(r map[string]any) { verdict(r, 1)["ratio"] = 1.01 }, "ratio is 1.01"},
		"a narrower interval":       {func(r map[string]any) { verdict(r, 1)["ratio_low"] = verdict(r, 1)["ratio"] }, "ratio_low is"},
		"p without its correction":  {func(r map[string]any) { verdict(r, 0)["p_holm"] = verdict(r, 0)["p"] }, "p_holm is"},
		"a lower noise floor":       {func(r map[string]any) { verdict(r, 0)["noise_floor"] = 1.0 }, "noise_floor is 1"},
		"a verdict left out":        {func(r map[string]any) { r["verdicts"] = r["verdicts"].([]any)[1:] }, "the record has none"},
		"one that nothing supports": {func(r map[string]any) { verdict(r, 0)["id"] = "library/x" }, "the trials give none"},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := recalculate(damaged(c.change))
			assert.Equal(t, 1, code)
			assert.Contains(t, out, c.says)
		})
	}
	for name, folder := range map[string]string{"no folder": filepath.Join(t.TempDir(), "none"), "no verdicts": damaged(func(r map[string]any) { r["verdicts"] = []any{} })} {
		out, code := recalculate(folder)
		assert.Equal(t, 2, code, name)
		assert.Contains(t, out, folder, name)
	}
	_, code = recalculate()
	assert.Equal(t, 2, code)
}
