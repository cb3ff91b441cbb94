// Package host reads what this machine tells of itself and of its processes: /proc, CPUs, memory.
package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lab/loadtest/internal/engine"
)

// userHz is the unit of times in /proc/PID/stat: USER_HZ, 100 on every architecture that Linux runs Go on.
const userHz = 100

// ProcStat holds the fields of /proc/PID/stat that are used here (see proc_pid_stat(5)).
type ProcStat struct {
	PID, Parent int
	State       byte
	// ChildCPU is the CPU time of children that have been waited for, and of theirs.
	ChildCPU time.Duration
	// StartTicks is when the process started, in ticks since the machine did. With the pid it names a process for good.
	StartTicks uint64
}

// ReadProcStat reads a process's line.
func ReadProcStat(procDir string, pid int) (ProcStat, error) {
	text, err := os.ReadFile(filepath.Join(procDir, strconv.Itoa(pid), "stat"))
	if err != nil {
		return ProcStat{}, err
	}
	return parseProcStat(text)
}

func parseProcStat(text []byte) (ProcStat, error) {
	// The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return ProcStat{}, fmt.Errorf("not a stat line: %q", text)
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return ProcStat{}, fmt.Errorf("a stat line of only %d fields", len(fields)+2)
	}
	// fields[0] is field 3 of the manual page.
	number := func(field int) uint64 {
		n, err := strconv.ParseUint(fields[field-3], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:open])))
	if err != nil {
		return ProcStat{}, fmt.Errorf("not a stat line: %q", text)
	}
	return ProcStat{
		PID:        pid,
		State:      fields[0][0],
		Parent:     int(number(4)),
		ChildCPU:   time.Duration(number(16)+number(17)) * time.Second / userHz,
		StartTicks: number(22),
	}, nil
}

// Processes reads the stat line of every process there is. Processes that end meanwhile are left out.
func Processes(procDir string) (map[int]ProcStat, error) {
	dir, err := os.Open(procDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[int]ProcStat, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if stat, err := ReadProcStat(procDir, pid); err == nil {
			all[pid] = stat
		}
	}
	return all, nil
}

// Tree returns those of the roots that live, and their descendants, each before its children.
func Tree(procDir string, roots ...int) ([]ProcStat, error) {
	all, err := Processes(procDir)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	children := map[int][]int{}
	for pid, stat := range all {
		children[stat.Parent] = append(children[stat.Parent], pid)
	}
	for _, pids := range children {
		sort.Ints(pids)
	}
	var found []ProcStat
	seen := map[int]bool{}
	queue := append([]int(nil), roots...)
	for len(queue) > 0 {
		pid := queue[0]
		queue = queue[1:]
		stat, lives := all[pid]
		if !lives || stat.State == 'Z' || stat.State == 'X' || seen[pid] {
			continue
		}
		seen[pid] = true
		found = append(found, stat)
		queue = append(queue, children[pid]...)
	}
	return found, nil
}

// CPUTime reads a process's CPU clock: user and system time of all its threads, ended ones included, in nanoseconds.
// The counters in /proc/PID/stat are the same account cut to hundredths of a second.
func CPUTime(pid int) (time.Duration, error) {
	// A process's clock has the id ~pid << 3 | CPUCLOCK_SCHED, as clock_getcpuclockid(3) makes it.
	const cpuClockSched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuClockSched), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// TreeUsage adds up what the trees under the roots have used.
func TreeUsage(roots ...int) (engine.Usage, error) {
	found, err := Tree("/proc", roots...)
	if err != nil {
		return engine.Usage{}, err
	}
	if len(found) == 0 {
		return engine.Usage{}, engine.ErrExited
	}
	usage := engine.Usage{Threads: engine.Threads{}}
	for _, stat := range found {
		own, err := CPUTime(stat.PID)
		if err != nil {
			// It ended since; its parent's account has it by the next reading.
			continue
		}
		usage.CPU += own + stat.ChildCPU
		readThreads("/proc", stat.PID, usage.Threads)
	}
	return usage, nil
}

// ThreadsOf reads what the kernel tells of the processes' living threads.
func ThreadsOf(pids []int) engine.Threads {
	threads := engine.Threads{}
	for _, pid := range pids {
		readThreads("/proc", pid, threads)
	}
	return threads
}

// readThreads adds a process's living threads. Those that end meanwhile are left out.
func readThreads(procDir string, pid int, to engine.Threads) {
	tasks := filepath.Join(procDir, strconv.Itoa(pid), "task")
	dir, err := os.Open(tasks)
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		id, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		status, err := os.ReadFile(filepath.Join(tasks, name, "status"))
		if err != nil {
			continue
		}
		thread := engine.Thread{
			Voluntary:   StatusNumber(status, "\nvoluntary_ctxt_switches:"),
			Involuntary: StatusNumber(status, "\nnonvoluntary_ctxt_switches:"),
		}
		if text, err := os.ReadFile(filepath.Join(tasks, name, "schedstat")); err == nil {
			thread.CPU, thread.RunDelay = parseSchedstat(text)
		} else if text, err := os.ReadFile(filepath.Join(tasks, name, "stat")); err == nil {
			thread.CPU = threadTicks(text) // a kernel without the scheduler's account, to the hundredth of a second
		}
		to[id] = thread
	}
}

// HasRunDelay says whether the kernel keeps the scheduler's account of threads (CONFIG_SCHED_INFO).
func HasRunDelay() bool {
	_, err := os.Stat("/proc/self/schedstat")
	return err == nil
}

// parseSchedstat reads "CPU-ns RUN-DELAY-ns TIMESLICES" (Documentation/scheduler/sched-stats.rst); zero where it is
// anything else.
func parseSchedstat(text []byte) (cpu, runDelay time.Duration) {
	fields := bytes.Fields(text)
	if len(fields) != 3 {
		return 0, 0
	}
	number := func(field []byte) time.Duration {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil || n < 0 {
			return 0
		}
		return time.Duration(n)
	}
	return number(fields[0]), number(fields[1])
}

// threadTicks adds up utime and stime of a stat line.
func threadTicks(text []byte) time.Duration {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return 0
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) < 13 {
		return 0
	}
	var sum uint64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			return 0
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / userHz
}

// StatusNumber returns the number after a key of a /proc file of "key: number" lines, or 0.
func StatusNumber(text []byte, key string) int64 {
	_, rest, found := bytes.Cut(text, []byte(key))
	if !found {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// TreeMemory adds up the proportional set sizes of the trees under the roots.
func TreeMemory(roots ...int) (engine.Memory, error) {
	found, err := Tree("/proc", roots...)
	if err != nil {
		return engine.Memory{}, err
	}
	var sum int64
	var read int
	for _, stat := range found {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(stat.PID) + "/smaps_rollup")
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH):
			continue
		case err != nil:
			// Another user's process, or a kernel without the file: no figure is better than a part of one.
			return engine.Memory{}, nil
		}
		sum += StatusNumber(text, "\nPss:") * 1024
		read++
	}
	if read == 0 {
		return engine.Memory{}, engine.ErrExited
	}
	return engine.Memory{PSSBytes: &sum}, nil
}

// PidsOf returns the processes of the trees under the roots that live now, each before its children.
func PidsOf(roots ...int) []int {
	found, err := Tree("/proc", roots...)
	if err != nil {
		return nil
	}
	pids := make([]int, len(found))
	for i, stat := range found {
		pids[i] = stat.PID
	}
	return pids
}
