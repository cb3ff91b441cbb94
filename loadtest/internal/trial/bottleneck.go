package trial

import (
	"slices"
	"time"

	"lab/loadtest/internal/engine"
)

// The bottlenecks.
const (
	BottleneckContender = "contender"
	BottleneckEventLoop = "event loop"
	BottleneckPool      = "pool"
	BottleneckDatabase  = "database"
	BottleneckFaults    = "fault proxy"
	BottleneckGenerator = "generator"
	BottleneckNoise     = "machine noise"
	BottleneckNone      = "none"
)

// The shares from which a bottleneck is named. docs/METHODOLOGY.md has them as a table.
const (
	// busyShare of its CPUs over a whole trial: what is that busy has been waited for; below it, waiting was elsewhere.
	busyShare  = 0.85
	stealShare = 0.05
	otherShare = 0.15 // of one CPU
	// Statements that stand waiting for a connection, on average over the trial, and what share of the median response time
	// a request spends so.
	poolWaiters  = 1.0
	poolOfMedian = 0.25
)

// load is what a bottleneck is named from.
type load struct {
	// attacked is how long requests were under way; counted also has the start and end of the generator, which an engine
	// may take long over, and in which nobody can be busy for the trial's sake.
	attacked, counted          time.Duration
	cpus                       engine.Placement
	contender, database, agent float64 // CPU seconds
	faults                     float64 // CPU seconds of the fault proxy, which is on the database's CPUs
	steal                      float64 // share of all CPU time
	other                      float64 // CPU seconds of anybody else
	// busiestThread is the CPU time of the contender's busiest thread; nil where it cannot be told.
	busiestThread *time.Duration
	// poolWait adds up how long statements waited for a connection of the contender's pools; nil where it does not tell.
	poolWait *time.Duration
	answered uint64
	median   time.Duration // of the response time
}

// share is how busy CPUs were with so many CPU seconds.
func (l load) share(used float64, cpus []int) float64 {
	return used / (l.attacked.Seconds() * float64(max(1, len(cpus))))
}

// rule is one row of the table: a trial has the bottleneck of the first rule that holds.
type rule struct {
	bottleneck string
	holds      func(load) bool
}

// rules in their order. Full CPUs come first, since all else that waits may wait for them: an event loop's thread, a
// connection that the database has not given back. A full pool is told before noise, because there the waiting itself was
// seen.
var rules = []rule{
	{BottleneckContender, load.fullOfContender},
	{BottleneckEventLoop, func(l load) bool {
		return l.busiestThread != nil && l.busiestThread.Seconds() >= busyShare*l.attacked.Seconds()
	}},
	{BottleneckDatabase, load.fullOfDatabase},
	{BottleneckFaults, load.fullOfFaults},
	{BottleneckGenerator, load.fullOfAgent},
	{BottleneckPool, func(l load) bool {
		if l.poolWait == nil || l.answered == 0 {
			return false
		}
		// Little's law: time waited over time passed is how many stood waiting.
		waiters := l.poolWait.Seconds() / l.attacked.Seconds()
		each := l.poolWait.Seconds() / float64(l.answered)
		return waiters >= poolWaiters && each >= poolOfMedian*l.median.Seconds()
	}},
	{BottleneckNoise, func(l load) bool {
		return l.steal >= stealShare || l.other >= otherShare*l.counted.Seconds()
	}},
}

func (l load) fullOfContender() bool {
	if l.cpus.Shared {
		return l.mostOf(l.cpus.Contender, l.contender, nil, []float64{l.database, l.faults, l.agent})
	}
	return l.mostOf(l.cpus.Contender, l.contender, nil, nil)
}

func (l load) fullOfDatabase() bool {
	switch {
	case l.cpus.Shared:
		return l.mostOf(l.cpus.Contender, l.database, []float64{l.contender}, []float64{l.faults, l.agent})
	case l.together():
		return l.mostOf(l.cpus.Database, l.database, nil, []float64{l.faults, l.agent})
	}
	return l.mostOf(l.cpus.Database, l.database, nil, []float64{l.faults})
}

func (l load) fullOfFaults() bool {
	switch {
	case l.cpus.Shared:
		return l.mostOf(l.cpus.Contender, l.faults, []float64{l.contender, l.database}, []float64{l.agent})
	case l.together():
		return l.mostOf(l.cpus.Database, l.faults, []float64{l.database}, []float64{l.agent})
	}
	return l.mostOf(l.cpus.Database, l.faults, []float64{l.database}, nil)
}

func (l load) fullOfAgent() bool {
	switch {
	case l.cpus.Shared:
		return l.mostOf(l.cpus.Contender, l.agent, []float64{l.contender, l.database, l.faults}, nil)
	case l.together():
		return l.mostOf(l.cpus.Agent, l.agent, []float64{l.database, l.faults}, nil)
	}
	return l.mostOf(l.cpus.Agent, l.agent, nil, nil)
}

// mostOf tells whether CPUs are full with what one part and others used of them (CPU seconds), and the one used most. Of
// two that used as much the earlier one is named.
func (l load) mostOf(cpus []int, one float64, earlier, later []float64) bool {
	all := one
	for _, used := range earlier {
		if all += used; used >= one {
			return false
		}
	}
	for _, used := range later {
		if all += used; used > one {
			return false
		}
	}
	return l.share(all, cpus) >= busyShare
}

// together says that database and generator have the same CPUs.
func (l load) together() bool { return slices.Equal(l.cpus.Database, l.cpus.Agent) }

// bottleneck names what held a trial back: the first rule that holds, or nothing that could be seen.
func bottleneck(l load) string {
	for _, r := range rules {
		if r.holds(l) {
			return r.bottleneck
		}
	}
	return BottleneckNone
}
