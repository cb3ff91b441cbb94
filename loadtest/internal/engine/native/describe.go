package native

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/postgres"
)

// Describe says what this machine is.
func (e *Engine) Describe(ctx context.Context) (engine.Description, error) {
	const withoutGroup = "the native engine starts processes without a cgroup of their own"
	d := engine.Description{
		Engine: e.Name(), OS: host.OperatingSystem(), Kernel: host.KernelRelease(), Arch: runtime.GOARCH,
		CPUModel: host.CPUModel(), CPUs: e.cpus, Placement: e.placement, MemoryBytes: host.MemoryBytes(),
		PostgreSQLSettings: postgres.SpeedSettings(),
		Missing: map[string]string{
			"memory_cgroup_peak_bytes": withoutGroup, "throttled_seconds": withoutGroup, "pressure_seconds": withoutGroup,
		},
	}
	pg, err := e.postgres(ctx)
	if err != nil {
		return engine.Description{}, err
	}
	d.PostgreSQL, d.PostgreSQLSource = pg.version, pg.source
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		reason := "this kernel has no /proc/PID/smaps_rollup"
		for _, field := range []string{"memory_pss_peak_bytes", "memory_pss_end_bytes", "memory_pss_idle_bytes"} {
			d.Missing[field] = reason
		}
	} else if e.user.credential != nil && !host.MayReadOthersMemory() {
		d.Missing["database_memory_pss_bytes"] = "the memory of another user's processes cannot be read"
	}
	if !host.HasRunDelay() {
		d.Missing["run_delay_seconds"] = "this kernel keeps no account of how long threads wait for a CPU (schedstat)"
	}
	if e.unpinned != nil {
		d.Missing["cpu_placement"] = e.unpinned.Error()
	}
	return d, nil
}

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
