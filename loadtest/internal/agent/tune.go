package agent

import (
	"math"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// ballastBytes are allocated and never touched, so they cost no memory, but Go's collector counts them: it lets this
	// much garbage come together before it looks, and not as little as the agent keeps, which it makes in a thousand
	// requests. Collections cost CPU and, worse, delay requests that are due. A larger GOGC would do the same at first,
	// but multiply whatever a longer attack keeps.
	ballastBytes = 16 << 20

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
// nothing else to do. Where GOMAXPROCS, GOGC or GOMEMLIMIT is set in the environment that is left as it is, but
// Job.Processors is stronger.
func Tune(job Job) (restore func()) {
	var undo []func()
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		ballast := make([]byte, ballastBytes)
		undo = append(undo, func() { runtime.KeepAlive(ballast) })
	}
	switch {
	case job.Processors > 0:
		before := runtime.GOMAXPROCS(job.Processors)
		undo = append(undo, func() { runtime.GOMAXPROCS(before) })
	case os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) > 1 && !job.Closed && job.RPS <= oneProcessorRPS:
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
	at   time.Time
	cpu  time.Duration
	busy int // looks in a row at which it was not
}

// One busy look may be the machine's: a hypervisor that takes the processor away makes all that runs then look busy.
const (
	gaugeEvery = 250 * time.Millisecond
	gaugeBusy  = 2
)

// look is called for every hit, with the time of its sending.
func (g *gauge) look(now time.Time) {
	if g.at.IsZero() {
		g.at, g.cpu = now, ownCPU()
		return
	}
	if now.Sub(g.at) >= gaugeEvery && onOne.Load() && g.full(now, ownCPU()) {
		useAll()
	}
}

// full tells whether the processor has not been enough for long, by the CPU time that was used until now.
func (g *gauge) full(now time.Time, cpu time.Duration) bool {
	if float64(cpu-g.cpu) > oneProcessorShare*float64(now.Sub(g.at)) {
		g.busy++
	} else {
		g.busy = 0
	}
	g.at, g.cpu = now, cpu
	return g.busy >= gaugeBusy
}

// idle is the number of connections that may be kept for a job.
func idle(job Job) int { return int(min(job.MaxInFlight, math.MaxInt32)) }
