package native

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lab/loadtest/internal/engine"
)

// Describe says what this machine is.
func (e *Engine) Describe(ctx context.Context) (engine.Description, error) {
	d := engine.Description{
		Engine: e.Name(), OS: operatingSystem(), Kernel: kernelRelease(), Arch: runtime.GOARCH,
		CPUModel: cpuModel(), CPUs: e.cpus, Placement: e.placement, MemoryBytes: memoryBytes(),
		PostgreSQLSettings: map[string]string{},
		Missing: map[string]string{
			"memory_cgroup_peak_bytes": "the native engine starts processes without a cgroup of their own",
		},
	}
	pg, err := e.postgres(ctx)
	if err != nil {
		return engine.Description{}, err
	}
	d.PostgreSQL, d.PostgreSQLSource = pg.version, pg.source
	for _, name := range speedSettings {
		d.PostgreSQLSettings[name] = strings.Trim(serverSettings[name], "'")
	}
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		reason := "this kernel has no /proc/PID/smaps_rollup"
		d.Missing["memory_pss_peak_bytes"], d.Missing["memory_pss_end_bytes"] = reason, reason
	} else if e.user.credential != nil && !mayReadOthersMemory() {
		d.Missing["database_memory_pss_bytes"] = "the memory of another user's processes cannot be read"
	}
	if e.unpinned != nil {
		d.Missing["cpu_placement"] = e.unpinned.Error()
	}
	return d, nil
}

// mayReadOthersMemory says whether this program may read /proc/PID/smaps_rollup of a process of another user, which even
// root may not in some containers (CAP_SYS_PTRACE).
func mayReadOthersMemory() bool {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(text, []byte("\nCapEff:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	capabilities, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return err == nil && capabilities&(1<<unix.CAP_SYS_PTRACE) != 0
}

func operatingSystem() string {
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

func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

func cpuModel() string {
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

func memoryBytes() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return statusNumber(append([]byte("\n"), text...), "\nMemTotal:") * 1024
}

// orderedCPUs returns the CPUs that this program may use, ordered by socket, core and thread, so that parts of a run that
// get neighbours share cores among themselves and not with another part.
func orderedCPUs() ([]int, error) {
	cpus, err := allowedCPUs()
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

// CPUs returns the CPUs that this program may use, in the order in which [engine.Place] shares them out.
func CPUs() ([]int, error) { return orderedCPUs() }

// CheckPinning says why processes cannot be given these CPUs, or nil.
func CheckPinning(cpus []int) error {
	s, err := newSpawner(cpus)
	if err != nil {
		return err
	}
	s.close()
	return nil
}

// CheckUser names the user that PostgreSQL would run as and checks that this user can reach the folder for runs.
func CheckUser(tempDir string) (name string, err error) {
	user, err := findServerUser()
	if err != nil {
		return "", err
	}
	if !user.canReach(tempDir) {
		return user.name, fmt.Errorf("user %s, who runs PostgreSQL, cannot reach %s", user.name, tempDir)
	}
	return user.name, nil
}
