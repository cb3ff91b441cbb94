package trial

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

// parts is what each part used between two readings, and the load generator in its attack.
func parts(s Subject, before, after counters, agent engine.AgentResult) map[string]record.Part {
	out := map[string]record.Part{"agent": {
		CPUSeconds: agent.CPU.Seconds(), MemoryCgroupPeakBytes: agent.MemoryCgroupPeakBytes,
		ThrottledSeconds: seconds(agent.Throttled), PressureSeconds: seconds(agent.Pressure),
		VoluntarySwitches: agent.VoluntarySwitches, InvoluntarySwitches: agent.InvoluntarySwitches,
	}}
	for name := range s.meters() {
		used := after.used[name].Sub(before.used[name])
		part := record.Part{CPUSeconds: used.CPU.Seconds(), ThrottledSeconds: seconds(used.Throttled), PressureSeconds: seconds(used.Pressure)}
		if threads := used.Threads.Total(); threads != nil {
			part.VoluntarySwitches, part.InvoluntarySwitches = &threads.Voluntary, &threads.Involuntary
			part.RunDelaySeconds = seconds(&threads.RunDelay)
		}
		out[name] = part
	}
	return out
}

// othersSeconds is the CPU time of whoever is no part of the run. The service beside the contender is a part of it too,
// though it holds nobody back.
func othersSeconds(busy float64, parts map[string]record.Part) float64 {
	for _, name := range slices.Sorted(maps.Keys(parts)) { // a sum in another order is another number
		busy -= parts[name].CPUSeconds
	}
	return max(0, busy)
}

func seconds(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	s := d.Seconds()
	return &s
}

// machinePressure is for how long something on this machine was ready to run and had no CPU, since it began; nil where
// the kernel keeps no account of pressure (Documentation/accounting/psi.rst).
func machinePressure() *time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return nil
	}
	return parsePressure(string(text))
}

func parsePressure(text string) *time.Duration {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "some ") {
			continue
		}
		for _, field := range strings.Fields(line) {
			if total, ok := strings.CutPrefix(field, "total="); ok {
				if us, err := strconv.ParseInt(total, 10, 64); err == nil {
					d := time.Duration(us) * time.Microsecond
					return &d
				}
			}
		}
	}
	return nil
}
