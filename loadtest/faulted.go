package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
)

// faults are what the scenario's file has caused in each trial, as the record has it.
func (st *study) faults() []record.PlannedFault {
	var out []record.PlannedFault
	for _, f := range st.Faults {
		out = append(out, record.PlannedFault{Kind: string(f.Kind), AtNS: int64(f.At), LastsNS: int64(f.Lasts), DelayNS: int64(f.Delay)})
	}
	return out
}

// hits says for which of the study's arms a fault or a delay would do nothing, and why; nil where there is none.
func (st *study) hits(c *contract.Contract) error {
	quotes := false
	for _, name := range append(slices.Collect(maps.Keys(st.Mix)), st.Operation) {
		operation, err := c.Operation(name)
		quotes = quotes || err == nil && strings.Contains(operation.Query, "quote(")
	}
	redis := slices.ContainsFunc(st.arms, contender.Arm.UsesRedis)
	if st.Delays[contract.WayRedis] > 0 && !redis {
		return fmt.Errorf("scenario %s: delay on %s: no arm has anything there (MASTER=redis)", st.ID, contract.WayRedis)
	}
	for _, f := range st.Faults {
		if f.Kind == contract.FaultUpstreamSlow && !quotes {
			return fmt.Errorf("scenario %s: fault %s: none of its operations asks for a quote", st.ID, f.Kind)
		}
		for _, arm := range st.arms {
			why := ""
			switch {
			case slices.Contains(contract.FaultTraitsOf[f.Kind].Ways, contract.WayRedis) && !arm.UsesRedis():
				why = "has nothing in Redis (MASTER=redis)"
			case f.Kind == contract.FaultReplicaLost && !arm.ReadsReplica():
				why = "reads no replica"
			case f.Kind == contract.FaultWorkerKilled && arm.Environment["CONCURRENCY_MODEL"] != "cluster":
				why = "has one process"
			}
			if why != "" {
				return fmt.Errorf("scenario %s: fault %s: %s %s", st.ID, f.Kind, arm.Name, why)
			}
		}
	}
	return nil
}

// proxied are the ways of the study's contenders that lead through the fault proxy, of contract.DelayWays: those with a
// delay, and those on which something is to go wrong.
func (st *study) proxied() []string {
	ways := slices.Collect(maps.Keys(st.Delays))
	ways = slices.DeleteFunc(ways, func(way string) bool { return way == contract.WayClient }) // it is the generator's own
	for _, f := range st.Faults {
		ways = append(ways, contract.FaultTraitsOf[f.Kind].Ways...)
	}
	slices.Sort(ways)
	return slices.Compact(ways)
}

// faultedInFlight is how many requests may be under way at once in a trial with faults: more than can be if none of them is
// answered until its time is over (Little's law), so that a server that hangs leaves none unsent.
func faultedInFlight(rps float64, timeout time.Duration) uint64 {
	return max(rateMaxInFlight, uint64(1.5*rps*timeout.Seconds()))
}
