package revision

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/engine/host"
)

// repository has two commits; the file is "one" in the first and "two" in the second, tagged v2.
func repository(t *testing.T) string {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	for name, value := range map[string]string{"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull,
		"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"} {
		t.Setenv(name, value)
	}
	root := t.TempDir()
	run := func(args ...string) {
		out, err := exec.Command("git", append([]string{"-C", root}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	run("init", "-q", "-b", "main")
	for _, text := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, "file"), []byte(text), 0o600))
		run("add", "file")
		run("commit", "-q", "-m", text)
	}
	run("tag", "v2")
	return root
}

// clean says that neither the repository nor the temporary folder has anything of a worktree.
func clean(t *testing.T, root string) {
	t.Helper()
	out, err := git(t.Context(), root, "worktree", "list", "--porcelain")
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(out, "worktree "), out)
	left, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestRevisionsStandBesideEachOtherAndGo(t *testing.T) {
	root := repository(t)
	require.NoError(t, os.WriteFile(filepath.Join(root, "file"), []byte("not committed"), 0o600))
	t.Setenv("GIT_DIR", "/nowhere") // as in a hook
	trees, err := Open(t.Context(), root)
	require.NoError(t, err)
	base, err := trees.Checkout(t.Context(), "base", "HEAD~1")
	require.NoError(t, err)
	head, err := trees.Checkout(t.Context(), "head", "v2")
	require.NoError(t, err)
	same, err := trees.Checkout(t.Context(), "again", "main")
	require.NoError(t, err, "a branch that is checked out elsewhere")
	assert.Equal(t, head.Commit, same.Commit)
	for tree, want := range map[Tree]string{base: "one", head: "two", same: "two"} {
		text, err := os.ReadFile(filepath.Join(tree.Dir, "file"))
		require.NoError(t, err)
		assert.Equal(t, want, string(text), tree.Ref)
		assert.Len(t, tree.Commit, 40)
		require.NoError(t, tree.Build(t.Context(), []string{"sh", "-c", "mkdir -p bin && echo built > bin/x"}, func(string) {}))
		assert.FileExists(t, filepath.Join(tree.Dir, "bin", "x"))
	}
	require.NoError(t, trees.Close())
	require.NoError(t, trees.Close())
	clean(t, root)
	text, err := os.ReadFile(filepath.Join(root, "file"))
	require.NoError(t, err)
	assert.Equal(t, "not committed", string(text), "the user's own tree is left alone")
}

func TestUnknownRevisionsAreNamed(t *testing.T) {
	root := repository(t)
	trees, err := Open(t.Context(), root)
	require.NoError(t, err)
	for _, ref := range []string{"nonsense", "", "--help", "v3", "HEAD:file", "main..v2", "0123456789012345678901234567890123456789"} {
		_, err := trees.Checkout(t.Context(), "base", ref)
		require.ErrorIs(t, err, ErrUnknown, ref)
		require.ErrorContains(t, err, `"`+ref+`"`)
	}
	require.NoError(t, trees.Close())
	clean(t, root)
	_, err = Open(t.Context(), t.TempDir())
	require.ErrorContains(t, err, "no git repository")
}

func TestAFailedBuildIsQuoted(t *testing.T) {
	root := repository(t)
	trees, err := Open(t.Context(), root)
	require.NoError(t, err)
	tree, err := trees.Checkout(t.Context(), "base", "v2")
	require.NoError(t, err)
	var lines []string
	err = tree.Build(t.Context(), []string{"sh", "-c", "echo first; printf 'no newline'; exit 3"}, func(l string) { lines = append(lines, l) })
	require.ErrorContains(t, err, "build of v2")
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "no newline")
	assert.Equal(t, []string{"first", "no newline"}, lines)
	require.NoError(t, trees.Close())
	clean(t, root)
}

// An interrupted build leaves no process, not even one that its command had started and that does not listen.
func TestAnInterruptedBuildEnds(t *testing.T) {
	root := repository(t)
	trees, err := Open(t.Context(), root)
	require.NoError(t, err)
	tree, err := trees.Checkout(t.Context(), "base", "v2")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	err = tree.Build(ctx, []string{"sh", "-c", `(trap '' TERM; echo $$ > child; exec sleep 600) & echo $! > pid; echo started; wait`}, func(line string) {
		if line == "started" {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	b, err := os.ReadFile(filepath.Join(tree.Dir, "pid"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(b)), "stat"))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, time.Minute, time.Millisecond)
	require.NoError(t, trees.Close())
	clean(t, root)
}

// What a killed program left goes the next time; what belongs to one that runs, or to nobody known, stays.
func TestLeftoversAreSwept(t *testing.T) {
	root := repository(t)
	killed, err := Open(t.Context(), root)
	require.NoError(t, err)
	_, err = killed.Checkout(t.Context(), "base", "v2")
	require.NoError(t, err)
	var o owner
	file := filepath.Join(killed.dir, ownerFile)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &o))
	Sweep(t.Context())
	assert.DirExists(t, killed.dir, "its program, this one, lives")

	o.Process.StartTicks++ // the process id has gone to another
	b, err = json.Marshal(o)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, b, 0o600))
	foreign := filepath.Join(os.TempDir(), prefix+"foreign")
	require.NoError(t, os.Mkdir(foreign, 0o700))
	assert.Equal(t, host.BootID(), o.Boot)
	trees, err := Open(t.Context(), root)
	require.NoError(t, err)
	assert.NoDirExists(t, killed.dir)
	assert.DirExists(t, foreign, "nothing marks it as ours")
	require.NoError(t, os.Remove(foreign))
	require.NoError(t, trees.Close())
	clean(t, root)
}
