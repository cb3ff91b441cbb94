package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MayReadOthersMemory says whether this program may read /proc/PID/smaps_rollup of a process of another user, which even
// root may not in some containers (CAP_SYS_PTRACE).
func MayReadOthersMemory() bool {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(text, []byte("\nCapEff:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	capabilities, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return err == nil && capabilities&(1<<unix.CAP_SYS_PTRACE) != 0
}

func OperatingSystem() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return runtime.GOOS
	}
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); found {
			return strings.Trim(name, `"`)
		}
	}
	return runtime.GOOS
}

func KernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

func CPUModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func MemoryBytes() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return StatusNumber(append([]byte("\n"), text...), "\nMemTotal:") * 1024
}

// CPUs returns the CPUs that this program may use, ordered by socket, core and thread, so that parts of a run that
// get neighbours share cores among themselves and not with another part.
func CPUs() ([]int, error) {
	cpus, err := AllowedCPUs()
	if err != nil {
		return nil, err
	}
	place := make(map[int][3]int, len(cpus))
	for _, cpu := range cpus {
		place[cpu] = [3]int{topology(cpu, "physical_package_id"), topology(cpu, "core_id"), cpu}
	}
	slices.SortFunc(cpus, func(a, b int) int {
		pa, pb := place[a], place[b]
		return slices.Compare(pa[:], pb[:])
	})
	return cpus, nil
}

func topology(cpu int, file string) int {
	text, err := os.ReadFile(filepath.Join("/sys/devices/system/cpu", "cpu"+strconv.Itoa(cpu), "topology", file))
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
}

// AllowedCPUs returns the CPUs that this program may use, in numerical order.
func AllowedCPUs() ([]int, error) {
	var set unix.CPUSet
	// 0 is the calling thread; the spawners' threads alone have another mask than the program was given.
	if err := unix.SchedGetaffinity(unix.Getpid(), &set); err != nil {
		return nil, fmt.Errorf("ask for the CPU affinity: %w", err)
	}
	var cpus []int
	for cpu := 0; cpu < len(set)*64; cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) == 0 {
		return nil, errors.New("the CPU affinity is empty")
	}
	return cpus, nil
}
