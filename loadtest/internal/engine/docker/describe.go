package docker

import (
	"context"
	"fmt"
	"maps"

	"github.com/moby/moby/client"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/postgres"
)

// Describe says what the engine's machine is.
func (e *Engine) Describe(ctx context.Context) (engine.Description, error) {
	found, err := e.c.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return engine.Description{}, fmt.Errorf("ask the engine for its machine: %w", explain(err))
	}
	info := found.Info
	d := engine.Description{
		Engine: e.Name(), OS: info.OperatingSystem, Kernel: info.KernelVersion, Arch: architecture(info.Architecture),
		EngineVersion: fmt.Sprintf("%s, API %s, cgroup version %s, storage %s", e.c.server.Version, e.c.server.API, info.CgroupVersion, info.Driver),
		CPUs:          e.cpus, Placement: e.placement, MemoryBytes: info.MemTotal,
		PostgreSQLSettings: postgres.SpeedSettings(), ImageSizeBytes: e.imageSizes(), Missing: map[string]string{},
	}
	if d.PostgreSQL, d.PostgreSQLSource, err = e.postgresVersion(ctx); err != nil {
		return engine.Description{}, err
	}
	if info.CgroupVersion == "1" {
		d.Missing["pressure_seconds"] = "control groups of version 1 keep no account of pressure"
	}
	local := info.KernelVersion == host.KernelRelease()
	if local {
		d.CPUModel = host.CPUModel()
	}
	switch {
	case !local:
		reason := "the engine's containers are another machine's processes"
		for _, field := range []string{"memory_pss_peak_bytes", "memory_pss_end_bytes", "memory_pss_idle_bytes", "voluntary_switches", "involuntary_switches", "run_delay_seconds", "busiest_thread_cpu_seconds", "cpu_model"} {
			d.Missing[field] = reason
		}
	case !host.MayReadOthersMemory():
		reason := "the memory of another user's processes cannot be read (CAP_SYS_PTRACE)"
		for _, field := range []string{"memory_pss_peak_bytes", "memory_pss_end_bytes", "memory_pss_idle_bytes"} {
			d.Missing[field] = reason
		}
	}
	d.Missing["agent_switches"] = "control groups keep no account of context switches, and the generator's threads have ended when it is asked"
	if local && !host.HasRunDelay() {
		d.Missing["run_delay_seconds"] = "this kernel keeps no account of how long threads wait for a CPU (schedstat)"
	}
	e.mu.Lock()
	told := e.told
	e.mu.Unlock()
	if told != nil {
		for field, reason := range told.missing() {
			if _, said := d.Missing[field]; !said {
				d.Missing[field] = reason
			}
		}
	}
	return d, nil
}

// account is what was to be had of a container that ran.
type account struct {
	// processes says that they are this machine's, as this program sees it.
	processes bool
	usage     engine.Usage
	memory    engine.Memory
}

// missing has a reason for each figure that the account has not: which those are depends on kernel, engine and on where
// this program itself runs, and is best seen.
func (a account) missing() map[string]string {
	reasons := map[string]string{}
	say := func(reason string, fields ...string) {
		for _, field := range fields {
			reasons[field] = reason
		}
	}
	if a.memory.PSSBytes == nil {
		say("the memory of the containers' processes cannot be read from here", "memory_pss_peak_bytes", "memory_pss_end_bytes", "memory_pss_idle_bytes")
	}
	if !a.processes {
		say("the containers' processes cannot be seen from here", "voluntary_switches", "involuntary_switches")
	}
	if a.memory.CgroupPeakBytes == nil {
		say("no peak is kept of this control group: version 2 tells it from Linux 5.19 on, and container engines pass on that of version 1 only", "memory_cgroup_peak_bytes")
	}
	if a.usage.Pressure == nil {
		say("no account of pressure is kept of this control group, or the container engine does not pass it on", "pressure_seconds")
	}
	if a.usage.Throttled == nil {
		say("no account of quotas is kept of this control group", "throttled_seconds")
	}
	return reasons
}

// learn keeps what the account of the first container that can be asked has.
func (e *Engine) learn(ctx context.Context, u *unit) {
	e.mu.Lock()
	known := e.told != nil
	e.mu.Unlock()
	if known {
		return
	}
	usage, err := u.Usage(ctx)
	if err != nil {
		return
	}
	memory, err := u.Memory(ctx)
	if err != nil {
		return
	}
	told := &account{processes: len(u.Pids()) > 0, usage: usage, memory: memory}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = told
}

func (e *Engine) imageSizes() map[string]int64 {
	e.images.mu.Lock()
	defer e.images.mu.Unlock()
	return maps.Clone(e.images.sizes)
}

// architecture is Go's name for what the kernel calls its machine.
func architecture(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return machine
}
