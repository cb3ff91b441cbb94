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
		for _, field := range []string{"memory_pss_peak_bytes", "memory_pss_end_bytes", "memory_pss_idle_bytes", "voluntary_switches", "involuntary_switches", "cpu_model"} {
			d.Missing[field] = reason
		}
	case !host.MayReadOthersMemory():
		reason := "the memory of another user's processes cannot be read (CAP_SYS_PTRACE)"
		for _, field := range []string{"memory_pss_peak_bytes", "memory_pss_end_bytes", "memory_pss_idle_bytes"} {
			d.Missing[field] = reason
		}
	}
	return d, nil
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
