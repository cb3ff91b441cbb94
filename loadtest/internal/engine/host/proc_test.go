package host

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/engine"
)

func TestParseProcStat(t *testing.T) {
	// Fields 14 to 17 are utime, stime, cutime and cstime in ticks; 22 is the start time.
	const rest = " S 7 42 42 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 5 0 98765 1 2 3"
	for _, test := range []struct{ name, line string }{
		{"a plain name", "42 (postgres)" + rest},
		{"a name with spaces and parentheses", "42 (a) b (c)" + rest},
		{"a name like the rest of a line", "42 () S 1 1 1)" + rest},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseProcStat([]byte(test.line))
			require.NoError(t, err)
			assert.Equal(t, ProcStat{PID: 42, Parent: 7, State: 'S', ChildCPU: 770 * time.Millisecond, StartTicks: 98765}, got)
		})
	}
	for _, bad := range []string{"", "42", "42 (x", "42 (x) S 1", "x (x)" + rest, ") ("} {
		_, err := parseProcStat([]byte(bad))
		require.Error(t, err, "%q", bad)
	}
}

func FuzzParseProcStat(f *testing.F) {
	f.Add([]byte("42 (postgres) S 7 42 42 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 5 0 98765 1 2 3"))
	f.Add([]byte("1 (a) b) R 0"))
	f.Fuzz(func(t *testing.T, text []byte) { _, _ = parseProcStat(text) })
}

// procTree writes a recorded /proc.
func procTree(t *testing.T, stats map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for pid, line := range stats {
		require.NoError(t, os.Mkdir(filepath.Join(dir, pid), 0o755))
		if line != "" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, pid, "stat"), []byte(line), 0o644))
		}
	}
	return dir
}

func TestTree(t *testing.T) {
	const rest = " 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0"
	dir := procTree(t, map[string]string{
		"1":  "1 (init) S 0" + rest,
		"10": "10 (server) S 1" + rest,
		"12": "12 (worker) S 10" + rest,
		"11": "11 (worker) R 10" + rest,
		"20": "20 (grandchild) S 11" + rest,
		"13": "13 (gone) Z 10" + rest,
		"30": "30 (other) S 1" + rest,
		// It ended between the listing and the look.
		"40":   "",
		"self": "",
	})
	pids := func(roots ...int) []int {
		found, err := Tree(dir, roots...)
		require.NoError(t, err)
		var pids []int
		for _, stat := range found {
			pids = append(pids, stat.PID)
		}
		return pids
	}
	assert.Equal(t, []int{10, 11, 12, 20}, pids(10), "a parent is before its children, and a zombie is none")
	assert.Equal(t, []int{10, 30, 11, 12, 20}, pids(10, 30))
	assert.Equal(t, []int{10, 11, 12, 20}, pids(10, 11), "nothing is counted twice")
	assert.Empty(t, pids(99))
	assert.Empty(t, pids(13))
}

func TestStatusNumber(t *testing.T) {
	const rollup = "55d0-7ffe ---p 0 00:00 0 [rollup]\nRss:  2048 kB\nPss:   1536 kB\nPss_Dirty:  9 kB\n"
	assert.Equal(t, int64(1536), StatusNumber([]byte(rollup), "\nPss:"))
	assert.Equal(t, int64(0), StatusNumber([]byte(rollup), "\nSwap:"))
	assert.Equal(t, int64(0), StatusNumber([]byte("x\nPss:\n"), "\nPss:"))
}

func TestCPUTimeIsOfTheWholeProcess(t *testing.T) {
	before, err := CPUTime(os.Getpid())
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if now, err := CPUTime(os.Getpid()); err != nil || now-before >= 20*time.Millisecond {
				return
			}
		}
	}()
	<-done
	after, err := CPUTime(os.Getpid())
	require.NoError(t, err)
	assert.GreaterOrEqual(t, after-before, 20*time.Millisecond)
	_, err = CPUTime(1 << 22)
	require.Error(t, err)
}

func TestRingKeepsTheLastLines(t *testing.T) {
	var r Lines
	assert.Empty(t, r.Last(5))
	for i := range 3*KeptLines + 7 {
		r.Add(string(rune('a' + i%26)))
	}
	assert.Len(t, r.Last(KeptLines*3), KeptLines)
	last := 3*KeptLines + 6
	assert.Equal(t, []string{string(rune('a' + (last-1)%26)), string(rune('a' + last%26))}, r.Last(2))
	assert.Empty(t, r.Last(0))
}

func TestReadThreads(t *testing.T) {
	dir := t.TempDir()
	write := func(tid, file, text string) {
		t.Helper()
		folder := filepath.Join(dir, "42", "task", tid)
		require.NoError(t, os.MkdirAll(folder, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), []byte(text), 0o644))
	}
	const status = "Name:\tx\nPid:\t1\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n"
	write("42", "status", status)
	write("42", "schedstat", "5000000 7000000 9\n")
	write("43", "status", status)
	write("43", "schedstat", "bad\n")
	// A kernel without schedstat.
	write("44", "status", status)
	write("44", "stat", "44 (a) b) S 7 42 42 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 5 0 98765 1 2 3")
	// It ended between the listing and the look.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "42", "task", "45"), 0o755))
	got := engine.Threads{}
	readThreads(dir, 42, got)
	assert.Equal(t, engine.Threads{
		42: {CPU: 5 * time.Millisecond, RunDelay: 7 * time.Millisecond, Voluntary: 12, Involuntary: 3},
		43: {Voluntary: 12, Involuntary: 3},
		44: {CPU: 330 * time.Millisecond, Voluntary: 12, Involuntary: 3},
	}, got)
}

func TestThreadsOfThisProcess(t *testing.T) {
	threads := ThreadsOf([]int{os.Getpid()})
	require.Contains(t, threads, os.Getpid())
	assert.Positive(t, threads.Total().CPU)
	assert.Positive(t, threads.Total().Voluntary+threads.Total().Involuntary)
}
