package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/cgroup"
	"lab/loadtest/internal/engine/host"
)

// group is the container's control group, where the engine is this machine's own.
func (u *unit) group() (cgroup.Group, error) {
	u.mu.Lock()
	pid := u.pid
	u.mu.Unlock()
	if pid == 0 {
		return cgroup.Group{}, errors.New("the engine does not tell its processes")
	}
	return cgroup.Find(cgroup.ProcDir, cgroup.SysDir, pid, u.id)
}

// Pids returns the processes of the container, its first one first; none where they are another machine's.
func (u *unit) Pids() []int {
	if _, err := u.group(); err != nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return host.PidsOf(u.pid)
}

// gone says why there is no account any more: the container has ended, or the engine that watched it has.
func (u *unit) gone() error {
	if u.alive() {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.exitErr != nil {
		return fmt.Errorf("%s: %w", u.spec.role, u.exitErr)
	}
	return fmt.Errorf("%s: %w", u.spec.role, engine.ErrExited)
}

// Usage reads the kernel's account of the container: of its files where they are to be had, else by asking the engine,
// which takes it a while.
func (u *unit) Usage(ctx context.Context) (engine.Usage, error) {
	if err := u.gone(); err != nil {
		return engine.Usage{}, err
	}
	group, err := u.group()
	if err != nil {
		stats, err := u.stats(ctx)
		if err != nil {
			return engine.Usage{}, err
		}
		if stats.CPUStats.CPUUsage.TotalUsage == 0 {
			// Nothing has run without CPU time: the container has just ended, or its engine keeps no account.
			return engine.Usage{}, fmt.Errorf("%s: the engine has no account of its CPU time", u.spec.role)
		}
		throttled := time.Duration(stats.CPUStats.ThrottlingData.ThrottledTime)
		return engine.Usage{CPU: time.Duration(stats.CPUStats.CPUUsage.TotalUsage), Throttled: &throttled}, nil
	}
	var usage engine.Usage
	if usage.CPU, err = group.CPU(); err != nil {
		return engine.Usage{}, fmt.Errorf("%s: %w", u.spec.role, err)
	}
	if throttled, err := group.Throttled(); err == nil {
		usage.Throttled = &throttled
	}
	if pressure, err := group.Pressure(); err == nil {
		usage.Pressure = &pressure
	}
	if pids := u.Pids(); len(pids) > 0 {
		usage.Threads = host.ThreadsOf(pids)
	}
	return usage, nil
}

// Memory reads the proportional set size of the container's processes and the peak of its control group.
func (u *unit) Memory(ctx context.Context) (engine.Memory, error) {
	if err := u.gone(); err != nil {
		return engine.Memory{}, err
	}
	group, err := u.group()
	if err != nil {
		stats, err := u.stats(ctx)
		if err != nil {
			return engine.Memory{}, err
		}
		var memory engine.Memory
		// Version 2 tells no peak to the engine.
		if peak := int64(stats.MemoryStats.MaxUsage); peak > 0 {
			memory.CgroupPeakBytes = &peak
		}
		return memory, nil
	}
	u.mu.Lock()
	pid := u.pid
	u.mu.Unlock()
	memory, err := host.TreeMemory(pid)
	if err != nil {
		return engine.Memory{}, fmt.Errorf("%s: %w", u.spec.role, err)
	}
	if peak, err := group.MemoryPeakBytes(); err == nil {
		memory.CgroupPeakBytes = &peak
	}
	return memory, nil
}

// stats asks the engine for one reading.
func (u *unit) stats(ctx context.Context) (container.StatsResponse, error) {
	var stats container.StatsResponse
	result, err := u.c.api.ContainerStats(ctx, u.id, client.ContainerStatsOptions{})
	if err != nil {
		return stats, fmt.Errorf("ask the engine for the account of %s: %w", u.spec.role, explain(err))
	}
	defer result.Body.Close()
	if err := json.NewDecoder(result.Body).Decode(&stats); err != nil {
		return stats, fmt.Errorf("ask the engine for the account of %s: %w", u.spec.role, err)
	}
	return stats, nil
}
