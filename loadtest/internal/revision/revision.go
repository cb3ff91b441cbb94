// Package revision checks out revisions of the repository beside each other, in temporary git worktrees, and removes
// them again: after success, after failure, on a signal, and those of a program that was killed the next time.
package revision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lab/loadtest/internal/engine/host"
)

// prefix begins the names of the folders that hold worktrees, ownerFile is what marks them as ours.
const (
	prefix    = "loadtest-revisions-"
	ownerFile = "owner.json"
)

// Trees are the worktrees of one command.
type Trees struct {
	root, dir string
	made      []string
}

// Tree is a revision that is checked out.
type Tree struct {
	Ref    string // as asked for
	Commit string // 40 hexadecimal digits
	Dir    string
}

// owner marks a folder with who made it. A process id alone is used again.
type owner struct {
	Process host.ProcessID `json:"process"`
	Boot    string         `json:"boot_id"`
	Root    string         `json:"root"`
}

// Open makes a temporary folder for worktrees of the repository at root, and removes what killed programs left.
func Open(ctx context.Context, root string) (*Trees, error) {
	if _, err := git(ctx, root, "rev-parse", "--git-dir"); err != nil {
		return nil, fmt.Errorf("%s is no git repository: %w", root, err)
	}
	Sweep(ctx)
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, err
	}
	process, err := host.ThisProcess()
	if err == nil {
		var b []byte
		if b, err = json.Marshal(owner{process, host.BootID(), root}); err == nil {
			err = os.WriteFile(filepath.Join(dir, ownerFile), b, 0o600)
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Trees{root: root, dir: dir}, nil
}

// ErrUnknown says that a repository has no such revision.
var ErrUnknown = errors.New("no such revision in this repository")

// Resolve gives the commit that a branch, tag or other name of a revision stands for.
func (t *Trees) Resolve(ctx context.Context, ref string) (string, error) {
	out, err := git(ctx, t.root, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil || ref == "":
		return "", fmt.Errorf("%q: %w; a branch, a tag or a commit is expected", ref, ErrUnknown)
	}
	return strings.TrimSpace(out), nil
}

// Checkout puts a revision into a worktree of that name.
func (t *Trees) Checkout(ctx context.Context, name, ref string) (Tree, error) {
	commit, err := t.Resolve(ctx, ref)
	if err != nil {
		return Tree{}, err
	}
	tree := Tree{ref, commit, filepath.Join(t.dir, name)}
	t.made = append(t.made, tree.Dir) // first: half a worktree has to go too
	if _, err := git(ctx, t.root, "worktree", "add", "--detach", "--force", tree.Dir, commit); err != nil {
		return Tree{}, fmt.Errorf("check out %s: %w", ref, err)
	}
	return tree, nil
}

// Close removes the worktrees with all that was built in them. It may be called twice.
func (t *Trees) Close() error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	for _, dir := range t.made {
		// What this cannot remove, such as half a worktree, goes with the folder.
		_, _ = git(ctx, t.root, "worktree", "remove", "--force", "--force", dir)
	}
	t.made = nil
	err := os.RemoveAll(t.dir)
	if _, pruneErr := git(ctx, t.root, "worktree", "prune"); pruneErr != nil {
		err = errors.Join(err, pruneErr)
	}
	return err
}

// Sweep removes the folders of programs that no longer run. One without our mark, of another user, or of a program that
// lives stays.
func Sweep(ctx context.Context) {
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range folders {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Getuid() {
			continue
		}
		var o owner
		b, err := os.ReadFile(filepath.Join(dir, ownerFile))
		if err != nil || json.Unmarshal(b, &o) != nil || o.Boot == host.BootID() && o.Process.Lives() {
			continue
		}
		if os.RemoveAll(dir) == nil {
			_, _ = git(ctx, o.Root, "worktree", "prune")
		}
	}
}

// git runs a command of git's in a repository and returns what it printed.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	for _, pair := range os.Environ() {
		// Set in a hook or an alias of git's, they would point elsewhere.
		if name, _, _ := strings.Cut(pair, "="); name == "GIT_DIR" || name == "GIT_WORK_TREE" || name == "GIT_INDEX_FILE" {
			continue
		}
		cmd.Env = append(cmd.Env, pair)
	}
	cmd.Env = append(cmd.Env, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		if text := strings.TrimSpace(errs.String()); text != "" {
			return "", fmt.Errorf("git %s: %s", args[0], text)
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return string(out), nil
}

// Build runs a build's command in a tree, its output line by line to log. Where ctx ends first, the command and all that
// it started are ended.
func (t Tree) Build(ctx context.Context, words []string, log func(line string)) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = t.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second
	var said host.Lines
	lines := &lineWriter{func(line string) { said.Add(line); log(line) }, nil}
	cmd.Stdout, cmd.Stderr = lines, lines
	err := cmd.Run()
	lines.end()
	if cmd.Process != nil && ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // who did not listen
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("build of %s (%s): %s: %w%s", t.Ref, t.Commit[:12], strings.Join(words, " "), err, host.QuoteLog(said.Last(30)))
	}
	return nil
}

type lineWriter struct {
	say  func(string)
	rest []byte
}

// Write implements io.Writer.
func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, after, found := strings.Cut(string(w.rest), "\n")
		if !found {
			return len(b), nil
		}
		w.say(strings.TrimRight(line, "\r"))
		w.rest = []byte(after)
	}
}

func (w *lineWriter) end() {
	if len(w.rest) > 0 {
		w.say(string(w.rest))
	}
}
