package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// auditsDir is the small npm project that runs graphql-http's audits, relative to the repository's root.
const auditsDir = "loadtest/internal/conformance/audits"

// auditsPatience is how long all audits may take, and how long npm may.
const auditsPatience = 5 * time.Minute

// audits runs the server audits of npm's graphql-http: every MUST and SHOULD passes; what a server MAY do is noted.
func audits(ctx context.Context, s *subject, t *tally) error {
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.Root, auditsDir)
	if err := installAudits(ctx, dir, s.Log); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, auditsPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, nodeProgram(s.Root), "run.mjs", url)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("run the audits: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	made := 0
	for line := range bytes.Lines(output) {
		var audit struct{ ID, Name, Status, Reason string }
		if err := json.Unmarshal(line, &audit); err != nil {
			return fmt.Errorf("run the audits: %q is no result: %w", line, err)
		}
		made++
		t.answers.Add(1)
		if audit.Status == "ok" {
			continue
		}
		if strings.HasPrefix(audit.Name, "MAY") {
			t.note("audit %s, %s: %s", audit.ID, audit.Name, audit.Reason)
			continue
		}
		t.find(Finding{Operation: "audit " + audit.ID, Expected: audit.Name, Got: or(audit.Reason, audit.Status)})
	}
	const atLeast = 50
	if made < atLeast {
		return fmt.Errorf("run the audits: %d were made, and there are more than %d", made, atLeast)
	}
	return nil
}

// installAudits installs what the lock file names, once.
func installAudits(ctx context.Context, dir string, log func(string)) error {
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return fmt.Errorf("install the audits: %w", err)
	}
	// npm writes no copy of the lock file that equals it, so this one says what was installed.
	installed := filepath.Join(dir, "node_modules", ".installed-lock.json")
	have, err := os.ReadFile(installed)
	if err == nil && bytes.Equal(have, lock) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("install the audits: %w", err)
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("install the audits: npm is missing; it comes with Node.js")
	}
	log("conformance: installing graphql-http's audits (once)")
	ctx, cancel := context.WithTimeout(ctx, auditsPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install the audits: npm ci: %w: %s", err, bytes.TrimSpace(output))
	}
	if err := os.WriteFile(installed, lock, 0o600); err != nil {
		return fmt.Errorf("install the audits: %w", err)
	}
	return nil
}

// nodeProgram is the Node that the node server pins where it is installed, else the machine's.
func nodeProgram(root string) string {
	pinned := filepath.Join(root, "node-server", "node_modules", ".bin", "node")
	if _, err := os.Stat(pinned); err == nil {
		return pinned
	}
	return "node"
}
