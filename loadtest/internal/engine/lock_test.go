package engine

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary play the part of another run.
func TestMain(m *testing.M) {
	if path := os.Getenv("ENGINE_TEST_HOLD_LOCK"); path != "" {
		if _, err := lockFile(path, []string{"loadtest", "compare"}); err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Stdout.WriteString("held\n")
		select {}
	}
	os.Exit(m.Run())
}

func TestLockNamesWhoRunsAndIsGivenBackByAKilledRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "ENGINE_TEST_HOLD_LOCK="+path)
	stdout, err := other.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	t.Cleanup(func() { _ = other.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", line)

	_, err = lockFile(path, []string{"loadtest", "conformance"})
	var busy *BusyError
	require.ErrorAs(t, err, &busy)
	assert.Equal(t, other.Process.Pid, busy.Holder.Pid)
	assert.Equal(t, "loadtest compare", busy.Holder.Command)
	assert.False(t, busy.Holder.Since.IsZero())
	assert.Contains(t, err.Error(), "loadtest compare")

	require.NoError(t, other.Process.Kill())
	_ = other.Wait()
	release, err := lockFile(path, []string{"loadtest", "conformance"})
	require.NoError(t, err)
	_, err = lockFile(path, nil)
	require.ErrorAs(t, err, &busy, "also within one program")
	release()
	release, err = lockFile(path, nil)
	require.NoError(t, err)
	release()
}

func TestLockFollowsNoSymbolicLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "precious")
	require.NoError(t, os.WriteFile(target, []byte("precious"), 0o600))
	path := filepath.Join(dir, "lock")
	require.NoError(t, os.Symlink(target, path))
	_, err := lockFile(path, nil)
	require.Error(t, err)
	text, err := os.ReadFile(target)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(text))
}
