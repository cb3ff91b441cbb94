package stack_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the repository.
func root(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../..")
	require.NoError(t, err)
	return path
}

// needEngine skips where no engine answers; in CI that is a failure.
func needEngine(t *testing.T) {
	t.Helper()
	text, err := exec.Command("docker", "version", "--format", "{{.Server.Version}}").CombinedOutput()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("in CI an engine has to answer: docker version: %v: %s", err, text)
	}
	t.Skipf("no engine answers: docker version: %v: %s", err, text)
}

// result is what a program said.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a program in the repository, in this environment with some settings more.
func run(t *testing.T, environment []string, name string, args ...string) result {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), environment...)
	return finish(t, cmd)
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// docker runs docker, which has to succeed, and returns what it printed.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	r := run(t, nil, "docker", args...)
	require.Zero(t, r.code, "docker %s: %s", strings.Join(args, " "), r.stderr)
	return strings.TrimSpace(r.stdout)
}
