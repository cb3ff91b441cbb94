package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The trees under testdata are those of a container as kernels lay them out: version 1 as Docker 20.10 on Debian 11 mounts
// it, the same with a mount for each controller, version 2 with systemd, and version 2 of Linux 5.10 without accounting of
// pressure.
const (
	recordedID  = "4f1c9e0d7a3b5c2e8f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6"
	recordedPid = 4242
)

func find(t *testing.T, tree string) Group {
	t.Helper()
	group, err := Find(filepath.Join("testdata", tree, "proc"), filepath.Join("testdata", tree, "sys"), recordedPid, recordedID)
	require.NoError(t, err)
	return group
}

func TestRecordedTrees(t *testing.T) {
	const missing = -1
	for _, c := range []struct {
		tree                     string
		version                  int
		cpu, throttled, pressure time.Duration
		memoryPeakBytes          int64
	}{
		{"v1", 1, 1234567890 * time.Nanosecond, 30500 * time.Microsecond, missing, 73400320},
		{"v1-apart", 1, 77 * time.Nanosecond, 0, missing, missing},
		{"v2", 2, 1234567 * time.Microsecond, 30500 * time.Microsecond, 345678 * time.Microsecond, 73400320},
		{"v2-old", 2, 5 * time.Microsecond, missing, missing, missing},
	} {
		t.Run(c.tree, func(t *testing.T) {
			group := find(t, c.tree)
			assert.Equal(t, c.version, group.Version)
			for name, figure := range map[string]struct {
				read func() (time.Duration, error)
				want time.Duration
			}{
				"cpu":       {group.CPU, c.cpu},
				"throttled": {group.Throttled, c.throttled},
				"pressure":  {group.Pressure, c.pressure},
				"memory peak": {func() (time.Duration, error) {
					n, err := group.MemoryPeakBytes()
					return time.Duration(n), err
				}, time.Duration(c.memoryPeakBytes)},
			} {
				got, err := figure.read()
				if figure.want == missing {
					require.ErrorIs(t, err, ErrUnsupported, name)
					continue
				}
				require.NoError(t, err, name)
				assert.Equal(t, figure.want, got, name)
			}
		})
	}
}

func TestFindRefuses(t *testing.T) {
	proc, sys := filepath.Join("testdata", "v2", "proc"), filepath.Join("testdata", "v2", "sys")
	t.Run("a process of another machine with the same id", func(t *testing.T) {
		_, err := Find(proc, sys, recordedPid, "another")
		require.ErrorContains(t, err, "is not in the container")
	})
	t.Run("no such process", func(t *testing.T) {
		_, err := Find(proc, sys, 1, recordedID)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("a path that this reader cannot see", func(t *testing.T) {
		_, err := Find(proc, filepath.Join("testdata", "v1", "sys"), recordedPid, recordedID)
		require.ErrorContains(t, err, "no folder of it")
	})
}

func TestDamageIsAnError(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "no number": "usage_usec x\n"} {
		t.Run(name, func(t *testing.T) {
			proc, sys := t.TempDir(), t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(proc, "7"), 0o755))
			require.NoError(t, os.MkdirAll(filepath.Join(sys, "c"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(proc, strconv.Itoa(7), "cgroup"), []byte("0::/c\n"), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(sys, "c", "cpu.stat"), []byte(text), 0o644))
			group, err := Find(proc, sys, 7, "")
			require.NoError(t, err)
			_, err = group.CPU()
			require.Error(t, err)
			_, err = group.Pressure()
			require.ErrorIs(t, err, ErrUnsupported)
			require.NoError(t, os.RemoveAll(filepath.Join(sys, "c")))
			_, err = group.CPU()
			require.ErrorContains(t, err, "gone")
		})
	}
}
