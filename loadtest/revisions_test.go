package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// madeUpLab is a repository with this one's contract and one contender whose build is the given command. Its two commits
// are tagged v1 and v2; change is made between them.
func madeUpLab(t *testing.T, build string, change func(root string)) string {
	t.Helper()
	temp := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(temp), 0o755)) // whoever runs PostgreSQL must get in
	for name, value := range map[string]string{
		"TMPDIR": temp, "GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull, "LAB_CACHE_DIR": t.TempDir(), "GITHUB_STEP_SUMMARY": "",
		"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
	} {
		t.Setenv(name, value)
	}
	lock := lockMachine
	t.Cleanup(func() { lockMachine = lock })
	lockMachine = func([]string) (func(), error) { return func() {}, nil } // nothing is measured here
	real, err := findRoot()
	require.NoError(t, err)
	root := t.TempDir()
	tracked, err := exec.Command("git", "-C", real, "ls-files", "contract").Output()
	require.NoError(t, err)
	for _, name := range strings.Fields(string(tracked)) {
		b, err := os.ReadFile(filepath.Join(real, name))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), b, 0o600))
	}
	manifest := "name: go\nlanguage: go\nversion: [./version]\nbuild: [sh, -c, '" + build + "']\nstart: [./start]\narms: { go: { tier: mainstream }, go-floor: { tier: floor } }\n"
	require.NoError(t, os.MkdirAll(filepath.Join(root, "go-server"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(root, "go-server", "contender.yaml"), []byte(manifest), 0o600))
	git := func(args ...string) {
		out, err := exec.Command("git", append([]string{"-C", root}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	git("init", "-q", "-b", "main")
	git("add", ".")
	git("commit", "-q", "-m", "one")
	git("tag", "v1")
	if change != nil {
		change(root)
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "two"), nil, 0o600))
	git("add", ".")
	git("commit", "-q", "-m", "two")
	git("tag", "v2")
	t.Chdir(root)
	return root
}

// nothingLeft says that no worktree and no folder stays, whatever happened.
func nothingLeft(t *testing.T, root string) {
	t.Helper()
	out, err := exec.Command("git", "-C", root, "worktree", "list", "--porcelain").Output()
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(out), "worktree "), string(out))
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "loadtest-revisions-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
	runs, _ := filepath.Glob(filepath.Join(root, "results", "local", "*"))
	assert.Empty(t, runs, "no folder of a run that never began")
}

func TestRevisionsThatCannotBeComparedAreNamed(t *testing.T) {
	root := madeUpLab(t, "exit 3", func(root string) {
		file := filepath.Join(root, "contract", "limits.json")
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, bytes.Replace(b, []byte(`"depth": 10`), []byte(`"depth": 11`), 1), 0o600))
	})
	both := []string{"diff", "--base", "v1", "--head", "v2", "--contender", "go", "--engine", "native"}
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"an unknown base":      {[]string{"diff", "--base", "nonsense", "--head", "v2", "--contender", "go"}, []string{`--base: "nonsense"`, "no such revision", "a branch, a tag or a commit is expected"}},
		"an unknown head":      {[]string{"diff", "--base", "v1", "--head", "v9", "--contender", "go"}, []string{`--head: "v9"`, "no such revision"}},
		"a ref like a flag":    {[]string{"diff", "--base=--all", "--head", "v2", "--contender", "go"}, []string{`"--all"`, "no such revision"}},
		"no head":              {[]string{"diff", "--base", "v1", "--contender", "go"}, []string{"--base and --head belong together"}},
		"no contender":         {both[:5], []string{"--contender"}},
		"an unknown contender": {append(both[:5:5], "--contender", "zig"), []string{`"zig"`}},
		"a floor":              {append(both[:5:5], "--contender", "go-floor"), []string{"go-floor", "A/A"}},
		"too few blocks":       {append(both[:7:7], "--blocks", "5"), []string{"--blocks 5", "from 6"}},
		"an unknown engine":    {append(both[:7:7], "--engine", "vm"), []string{`"vm"`, "native"}},
		"nothing to compare":   {[]string{"diff"}, []string{"two runs' folders", "--base"}},
		"one run":              {[]string{"diff", "x"}, []string{"two runs' folders"}},
		"confirm alone":        {[]string{"diff", "a", "b", "--confirm"}, []string{"--confirm needs --base REF and --head REF"}},
		"another contract":     {both, []string{"--base v1", "contract/limits.json", "cannot be compared"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := runCommand(t, c.args...)
			assert.Equal(t, exitCannot, code)
			assert.Empty(t, out)
			for _, says := range c.says {
				assert.Contains(t, errs, says)
			}
			nothingLeft(t, root)
		})
	}
}

func TestABuildThatFailsIsToldAndLeavesNothing(t *testing.T) {
	root := madeUpLab(t, "echo compiling; echo it is broken; exit 3", nil)
	code, out, errs := runCommand(t, "diff", "--base", "v1", "--head", "v2", "--contender", "go", "--engine", "native")
	assert.Equal(t, exitCannot, code)
	assert.Empty(t, out)
	assert.Contains(t, errs, "build of v1")
	assert.Contains(t, errs, "exit status 3")
	assert.Contains(t, errs, "it is broken")
	nothingLeft(t, root)
}

// An interrupt in the middle of a build ends it, and leaves nothing.
func TestAnInterruptLeavesNothing(t *testing.T) {
	root := madeUpLab(t, "echo compiling now; sleep 600", nil)
	ctx, interrupt := context.WithCancel(t.Context())
	var out bytes.Buffer
	errs := &watched{at: "compiling now", then: interrupt}
	code := run(ctx, []string{"diff", "--base", "v1", "--head", "v2", "--contender", "go", "--engine", "native"}, streams{strings.NewReader(""), &out, errs})
	assert.Equal(t, exitInterrupted, code, errs.String())
	assert.Empty(t, out.String())
	nothingLeft(t, root)
}

// watched calls then when a text is written to it.
type watched struct {
	bytes.Buffer
	at   string
	then func()
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if strings.Contains(w.String(), w.at) {
		w.then()
	}
	return n, err
}

// Two runs that show no regression need no confirmation, so nothing is built for one.
func TestNothingIsConfirmedWhereNothingRegressed(t *testing.T) {
	dir := goldenRun(t, "2026-03-04T050607Z-golden", 1)
	next := goldenRun(t, "2026-03-05T050607Z-golden", 1)
	dearer := goldenRun(t, "2026-03-06T050607Z-golden", 1.5)
	root := madeUpLab(t, "echo it is broken; exit 3", nil)
	code, out, errs := runCommand(t, "diff", dir, next, "--confirm", "--base", "v1", "--head", "v2")
	assert.Equal(t, exitOK, code, errs)
	assert.Contains(t, out, "too close to call")
	code, _, errs = runCommand(t, "diff", dir, dearer, "--confirm", "--base", "v1", "--head", "v2", "--engine", "native")
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, errs, "build of v1", "the arm that got dearer is built")
	nothingLeft(t, root)
	r, err := record.ReadRun(dearer)
	require.NoError(t, err)
	assert.NotEmpty(t, r.Verdicts)
}
