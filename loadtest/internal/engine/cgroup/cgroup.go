// Package cgroup reads the kernel's account of a container: CPU time and memory of all processes of its control group,
// those that have ended included. It knows version 1 (a hierarchy per controller) and version 2 (one for all).
package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Group is one control group. Where a controller is missing, so are its figures.
type Group struct {
	// Version is 1 or 2.
	Version int
	// cpu, throttle and memory are folders; empty where there is none.
	cpu, throttle, memory string
}

// ErrUnsupported says that this kernel does not keep that account.
var ErrUnsupported = errors.New("this kernel keeps no such account")

// Default folders of a Linux machine.
const (
	ProcDir = "/proc"
	SysDir  = "/sys/fs/cgroup"
)

// Find finds the group of a process, whose path must have the container's id in it: the process id may be one of another
// machine's. The path in procDir is the process's as the reader's own namespace sees it, so a reader inside a container
// finds no folder, and that is an error.
func Find(procDir, sysDir string, pid int, container string) (Group, error) {
	text, err := os.ReadFile(filepath.Join(procDir, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return Group{}, fmt.Errorf("find the control group: %w", err)
	}
	if !strings.Contains(string(text), container) {
		return Group{}, fmt.Errorf("find the control group: process %d of this machine is not in the container", pid)
	}
	v1 := Group{Version: 1}
	unified := ""
	for line := range strings.Lines(string(text)) {
		// ID:CONTROLLER,…:PATH; version 2 has id 0 and no controllers.
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		if fields[0] == "0" && fields[1] == "" {
			unified = fields[2]
			continue
		}
		controllers := strings.Split(fields[1], ",")
		dir := func(controller string) string {
			// Mounted under the name of all its controllers or of one, depending on the distribution.
			for _, name := range []string{fields[1], controller} {
				if d := filepath.Join(sysDir, name, fields[2]); isFolder(d) {
					return d
				}
			}
			return ""
		}
		if slices.Contains(controllers, "cpuacct") {
			v1.cpu = dir("cpuacct")
		}
		if slices.Contains(controllers, "cpu") {
			v1.throttle = dir("cpu")
		}
		if slices.Contains(controllers, "memory") {
			v1.memory = dir("memory")
		}
	}
	if v1.cpu != "" {
		return v1, nil
	}
	if dir := filepath.Join(sysDir, unified); unified != "" && unified != "/" && isFolder(dir) {
		return Group{Version: 2, cpu: dir, throttle: dir, memory: dir}, nil
	}
	return Group{}, fmt.Errorf("find the control group of process %d: no folder of it in %s", pid, sysDir)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// CPU is user and system time of the group together since it began.
func (g Group) CPU() (time.Duration, error) {
	if g.Version == 1 {
		n, err := readNumber(filepath.Join(g.cpu, "cpuacct.usage"))
		return time.Duration(n), err
	}
	n, err := readKey(filepath.Join(g.cpu, "cpu.stat"), "usage_usec")
	return time.Duration(n) * time.Microsecond, err
}

// Throttled is for how long a quota kept the group from running.
func (g Group) Throttled() (time.Duration, error) {
	if g.throttle == "" {
		return 0, fmt.Errorf("throttled time: %w", ErrUnsupported)
	}
	if g.Version == 1 {
		n, err := readKey(filepath.Join(g.throttle, "cpu.stat"), "throttled_time")
		return time.Duration(n), err
	}
	n, err := readKey(filepath.Join(g.throttle, "cpu.stat"), "throttled_usec")
	return time.Duration(n) * time.Microsecond, err
}

// MemoryPeakBytes is the highest memory of the group since it began, the page cache that it filled included. Version 2
// tells it from Linux 5.19 on.
func (g Group) MemoryPeakBytes() (int64, error) {
	if g.memory == "" {
		return 0, fmt.Errorf("peak of memory: %w", ErrUnsupported)
	}
	if g.Version == 1 {
		return readNumber(filepath.Join(g.memory, "memory.max_usage_in_bytes"))
	}
	return readNumber(filepath.Join(g.memory, "memory.peak"))
}

// Pressure is for how long some process of the group was ready to run and had no CPU. Version 1 does not tell it.
func (g Group) Pressure() (time.Duration, error) {
	if g.Version == 1 {
		return 0, fmt.Errorf("CPU pressure: %w", ErrUnsupported)
	}
	text, err := read(filepath.Join(g.cpu, "cpu.pressure"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "some ") {
			continue
		}
		for _, field := range strings.Fields(line) {
			if total, found := strings.CutPrefix(field, "total="); found {
				n, err := strconv.ParseInt(total, 10, 64)
				if err != nil {
					return 0, fmt.Errorf("cpu.pressure: %w", err)
				}
				return time.Duration(n) * time.Microsecond, nil
			}
		}
	}
	return 0, fmt.Errorf("cpu.pressure has no total of some: %q", text)
}

func read(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if isFolder(filepath.Dir(path)) {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), ErrUnsupported)
		}
		return nil, fmt.Errorf("%s: the control group is gone: %w", filepath.Base(path), err)
	}
	return text, err
}

func readNumber(path string) (int64, error) {
	text, err := read(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return n, nil
}

// readKey reads a number of a file of "key number" lines.
func readKey(path, key string) (int64, error) {
	text, err := read(path)
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name == key {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %s: %w", filepath.Base(path), key, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s: no %s: %w", filepath.Base(path), key, ErrUnsupported)
}
