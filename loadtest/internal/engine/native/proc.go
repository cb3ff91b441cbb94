package native

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

// procStat holds the fields of /proc/PID/stat that are used here (see proc_pid_stat(5)).
type procStat struct {
	pid, parent int
	state       byte
	// childCPU is the CPU time of children that have been waited for, and of theirs.
	childCPU time.Duration
	// startTicks is when the process started, in ticks since the machine did. With the pid it names a process for good.
	startTicks uint64
}

func readProcStat(procDir string, pid int) (procStat, error) {
	text, err := os.ReadFile(filepath.Join(procDir, strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, err
	}
	return parseProcStat(text)
}

func parseProcStat(text []byte) (procStat, error) {
	// The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return procStat{}, fmt.Errorf("not a stat line: %q", text)
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return procStat{}, fmt.Errorf("a stat line of only %d fields", len(fields)+2)
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
		return procStat{}, fmt.Errorf("not a stat line: %q", text)
	}
	return procStat{
		pid:        pid,
		state:      fields[0][0],
		parent:     int(number(4)),
		childCPU:   time.Duration(number(16)+number(17)) * time.Second / userHz,
		startTicks: number(22),
	}, nil
}

// processes reads the stat line of every process there is. Processes that end meanwhile are left out.
func processes(procDir string) (map[int]procStat, error) {
	dir, err := os.Open(procDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[int]procStat, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if stat, err := readProcStat(procDir, pid); err == nil {
			all[pid] = stat
		}
	}
	return all, nil
}

// tree returns those of the roots that live, and their descendants, each before its children.
func tree(procDir string, roots ...int) ([]procStat, error) {
	all, err := processes(procDir)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	children := map[int][]int{}
	for pid, stat := range all {
		children[stat.parent] = append(children[stat.parent], pid)
	}
	for _, pids := range children {
		sort.Ints(pids)
	}
	var found []procStat
	seen := map[int]bool{}
	queue := append([]int(nil), roots...)
	for len(queue) > 0 {
		pid := queue[0]
		queue = queue[1:]
		stat, lives := all[pid]
		if !lives || stat.state == 'Z' || stat.state == 'X' || seen[pid] {
			continue
		}
		seen[pid] = true
		found = append(found, stat)
		queue = append(queue, children[pid]...)
	}
	return found, nil
}

// cpuTime reads a process's CPU clock: user and system time of all its threads, ended ones included, in nanoseconds.
// The counters in /proc/PID/stat are the same account cut to hundredths of a second.
func cpuTime(pid int) (time.Duration, error) {
	// A process's clock has the id ~pid << 3 | CPUCLOCK_SCHED, as clock_getcpuclockid(3) makes it.
	const cpuClockSched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuClockSched), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// treeUsage adds up what the trees under the roots have used.
func treeUsage(roots ...int) (engine.Usage, error) {
	found, err := tree("/proc", roots...)
	if err != nil {
		return engine.Usage{}, err
	}
	if len(found) == 0 {
		return engine.Usage{}, engine.ErrExited
	}
	var usage engine.Usage
	for _, stat := range found {
		own, err := cpuTime(stat.pid)
		if err != nil {
			// It ended since; its parent's account has it by the next reading.
			continue
		}
		usage.CPU += own + stat.childCPU
		voluntary, involuntary := contextSwitches(stat.pid)
		usage.VoluntarySwitches += voluntary
		usage.InvoluntarySwitches += involuntary
	}
	return usage, nil
}

// contextSwitches adds up those of a process's living threads.
func contextSwitches(pid int) (voluntary, involuntary int64) {
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		voluntary += statusNumber(text, "\nvoluntary_ctxt_switches:")
		involuntary += statusNumber(text, "\nnonvoluntary_ctxt_switches:")
	}
	return voluntary, involuntary
}

// statusNumber returns the number after a key of a /proc file of "key: number" lines, or 0.
func statusNumber(text []byte, key string) int64 {
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

// treeMemory adds up the proportional set sizes of the trees under the roots.
func treeMemory(roots ...int) (engine.Memory, error) {
	found, err := tree("/proc", roots...)
	if err != nil {
		return engine.Memory{}, err
	}
	var sum int64
	var read int
	for _, stat := range found {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(stat.pid) + "/smaps_rollup")
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH):
			continue
		case err != nil:
			// Another user's process, or a kernel without the file: no figure is better than a part of one.
			return engine.Memory{}, nil
		}
		sum += statusNumber(text, "\nPss:") * 1024
		read++
	}
	if read == 0 {
		return engine.Memory{}, engine.ErrExited
	}
	return engine.Memory{PSSBytes: &sum}, nil
}

// bootID tells one start of the machine from another: process ids and start times begin anew.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
