package agent

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	// The agent makes some 3 kB of garbage a request and keeps a few MB. With Go's default it would collect every
	// thousand requests, which costs CPU and, worse, delays those that are due. Now the heap may grow to 17 times what is
	// kept, at least to 64 MiB, and not beyond the limit as long as less is kept.
	gcPercent        = 1600
	memoryLimitBytes = 512 << 20

	// oneProcessorRPS is the rate up to which one processor is tried. Where a second one is idle, Go wakes a thread at
	// every hand-over from one goroutine to another, of which a request has four, to see whether there is work for it.
	// That is most of what a request costs at a low rate.
	oneProcessorRPS = 10_000
	// oneProcessorShare is how busy it may be before the others are used too: beyond, requests wait for it.
	oneProcessorShare = 0.8
)

// onOne is whether Tune has put the process on one of several processors.
var onOne atomic.Bool

// Tune makes the process a load generator's: fewer collections of garbage, and one processor as long as that is enough
// for the job (an attack that keeps it busy takes the others as well). restore undoes it. It is for a process that has
// nothing else to do; where GOMAXPROCS, GOGC or GOMEMLIMIT is set in the environment, that is left as it is.
func Tune(job Job) (restore func()) {
	var undo []func()
	if os.Getenv("GOGC") == "" {
		before := debug.SetGCPercent(gcPercent)
		undo = append(undo, func() { debug.SetGCPercent(before) })
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		before := debug.SetMemoryLimit(memoryLimitBytes)
		undo = append(undo, func() { debug.SetMemoryLimit(before) })
	}
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) > 1 && !job.Closed && job.RPS <= oneProcessorRPS {
		runtime.GOMAXPROCS(1)
		onOne.Store(true)
		undo = append(undo, useAll)
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}

func useAll() {
	if onOne.CompareAndSwap(true, false) {
		runtime.SetDefaultGOMAXPROCS()
	}
}

// gauge watches in an attack whether one processor is enough.
type gauge struct {
	at  time.Time
	cpu time.Duration
}

const gaugeEvery = 250 * time.Millisecond

// look is called for every hit, with the time of its sending.
func (g *gauge) look(now time.Time) {
	if g.at.IsZero() {
		g.at, g.cpu = now, ownCPU()
		return
	}
	past := now.Sub(g.at)
	if past < gaugeEvery || !onOne.Load() {
		return
	}
	cpu := ownCPU()
	if float64(cpu-g.cpu) > oneProcessorShare*float64(past) {
		useAll()
	}
	g.at, g.cpu = now, cpu
}

// idle is the number of connections that may be kept for a job.
func idle(job Job) int { return int(min(job.MaxInFlight, math.MaxInt32)) }
