package host

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// holderVariable makes the test binary a process that holds memory: that of its fourth file, or a copy.
const holderVariable = "LOADTEST_TEST_HOLDS"

const heldBytes = 64 << 20

// What processes share counts once in the memory of all of them, and a copy of it counts in each: a cluster that shared one copy
// of its data would be seen to.
func TestWhatIsSharedCountsOnce(t *testing.T) {
	fd, err := unix.MemfdCreate("shared", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fd), "shared")
	defer file.Close()
	require.NoError(t, file.Truncate(heldBytes))
	mine := mapped(t, file)
	for i := 0; i < len(mine); i += os.Getpagesize() {
		mine[i] = 1
	}
	memory := func() int64 {
		m, err := TreeMemory(os.Getpid()) // with its children
		require.NoError(t, err)
		require.NotNil(t, m.PSSBytes)
		return *m.PSSBytes
	}
	with := func(what string) int64 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestAsAHolder$")
		cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), holderVariable+"="+what), []*os.File{file}, os.Stderr
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		defer func() {
			_ = stdin.Close()
			_ = cmd.Wait()
		}()
		_, err = bufio.NewReader(stdout).ReadString('\n')
		require.NoError(t, err)
		return memory()
	}
	nothing := with("nothing")
	assert.Less(t, with("what is shared")-nothing, int64(heldBytes/4), "two processes that share a copy have one")
	assert.Greater(t, with("a copy")-nothing, int64(heldBytes*3/4), "two copies are two")
	runtime.KeepAlive(mine)
}

func mapped(t *testing.T, file *os.File) []byte {
	t.Helper()
	b, err := unix.Mmap(int(file.Fd()), 0, heldBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	return b
}

// TestAsAHolder is no test but what that one starts.
func TestAsAHolder(t *testing.T) {
	what := os.Getenv(holderVariable)
	if what == "" {
		return
	}
	var held []byte
	switch what {
	case "what is shared":
		held = mapped(t, os.NewFile(3, "shared"))
	case "a copy":
		held = make([]byte, heldBytes)
	}
	sum := byte(0)
	for i := 0; i < len(held); i += os.Getpagesize() {
		if what == "a copy" {
			held[i] = 1
		}
		sum += held[i]
	}
	_, _ = os.Stdout.WriteString("holds\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
	_ = sum
}
