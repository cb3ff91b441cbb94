package engine

import (
	"context"
	"fmt"
	"time"

	"lab/loadtest/internal/record"
)

// FaultKind is what a fault does, in Toxiproxy's words where it has one.
type FaultKind string

// The kinds of faults.
const (
	// FaultLatency delays whatever comes back, by the delay of a whole round trip: what is asked arrives at once and its
	// answer late. What was sent together arrives together, so throughput is not bounded. The delay does not vary. What comes
	// unasked (a notification of PostgreSQL) is late by all of it too, where a network would delay it by half.
	FaultLatency FaultKind = "latency"
	// FaultBandwidth bounds how much passes, each way for itself.
	FaultBandwidth FaultKind = "bandwidth"
	// FaultResetPeer resets all open connections at once (their client reads ECONNRESET), and new ones at their first bytes.
	FaultResetPeer FaultKind = "reset_peer"
	// FaultTimeout loses whatever is sent, both ways, and closes each connection when it ends, or before, after Fault.After.
	FaultTimeout FaultKind = "timeout"
	// FaultStall holds whatever is sent, both ways, and lets it go when it ends: packets that are late and not lost.
	FaultStall FaultKind = "stall"
	// FaultDown closes all connections and refuses new ones.
	FaultDown FaultKind = "down"
)

// Fault is what befalls a [FaultLink] while it is set.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// Delay is what FaultLatency adds to a round trip.
	Delay time.Duration `json:"delay_ns,omitempty"`
	// BytesPerSecond is what FaultBandwidth lets pass each way: a multiple of 1000, in whose steps Toxiproxy counts.
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"`
	// After is how long FaultTimeout keeps a connection on which nothing is sent: a multiple of a millisecond; zero means for
	// as long as it is set.
	After time.Duration `json:"after_ns,omitempty"`
}

// String is such as "latency 20ms".
func (f Fault) String() string {
	switch {
	case f.Kind == FaultLatency:
		return fmt.Sprintf("%s %s", f.Kind, f.Delay)
	case f.Kind == FaultBandwidth:
		return fmt.Sprintf("%s %d B/s", f.Kind, f.BytesPerSecond)
	case f.Kind == FaultTimeout && f.After > 0:
		return fmt.Sprintf("%s after %s", f.Kind, f.After)
	}
	return string(f.Kind)
}

// longestFault is beyond what any request waits for.
const longestFault = time.Hour

// Check says what is wrong with a fault, or nil.
func (f Fault) Check() error {
	if f.Kind != FaultLatency && f.Delay != 0 {
		return fmt.Errorf("fault %s: delay %s: only a latency has one", f.Kind, f.Delay)
	}
	if f.Kind != FaultBandwidth && f.BytesPerSecond != 0 {
		return fmt.Errorf("fault %s: %d bytes a second: only a bandwidth has them", f.Kind, f.BytesPerSecond)
	}
	if f.Kind != FaultTimeout && f.After != 0 {
		return fmt.Errorf("fault %s: after %s: only a timeout has it", f.Kind, f.After)
	}
	switch f.Kind {
	case FaultLatency:
		if f.Delay <= 0 || f.Delay > longestFault {
			return fmt.Errorf("fault latency: delay %s: expected more than 0 and at most %s", f.Delay, longestFault)
		}
	case FaultBandwidth:
		if f.BytesPerSecond < 1000 || f.BytesPerSecond%1000 != 0 {
			return fmt.Errorf("fault bandwidth: %d bytes a second: expected a multiple of 1000", f.BytesPerSecond)
		}
	case FaultTimeout:
		if f.After < 0 || f.After > longestFault || f.After%time.Millisecond != 0 {
			return fmt.Errorf("fault timeout: after %s: expected whole milliseconds, at most %s, or 0", f.After, longestFault)
		}
	case FaultResetPeer, FaultStall, FaultDown:
	default:
		return fmt.Errorf("fault %q: expected %s, %s, %s, %s, %s or %s", f.Kind,
			FaultLatency, FaultBandwidth, FaultResetPeer, FaultTimeout, FaultStall, FaultDown)
	}
	return nil
}

// CheckFaults says what is wrong with faults that are to be set together, or nil. Delays and bandwidth go together; what
// lets nothing pass goes alone.
func CheckFaults(faults []Fault) error {
	seen := map[FaultKind]bool{}
	for _, f := range faults {
		if err := f.Check(); err != nil {
			return err
		}
		if seen[f.Kind] {
			return fmt.Errorf("fault %s: given twice", f.Kind)
		}
		seen[f.Kind] = true
		if f.Kind != FaultLatency && f.Kind != FaultBandwidth && len(faults) > 1 {
			return fmt.Errorf("fault %s: lets nothing pass, so it is set alone", f.Kind)
		}
	}
	return nil
}

// FaultProxy is a proxy of TCP connections between contenders and what they depend on: Toxiproxy in a process or container
// of its own, on the CPUs of the database. It is a [Meter], so that what it costs is a part of a trial's account, apart from
// the contender's. Its URL is that of Toxiproxy's HTTP API, for this tool and for people.
//
// Without a fault a link only passes bytes on, and even that takes time ([FaultProxy.Overhead]). So the arms that are
// compared all have it in their way or none has.
type FaultProxy interface {
	Service
	// Link lays a way to what answers at that URL: one of a [Database], of the upstream service or of Redis. The name is one
	// that is not taken, such as "database_primary".
	Link(ctx context.Context, name, url string) (FaultLink, error)
	// Overhead measures round trips (a prepared statement, or GET /readyz) on the way through the link and on the direct one
	// in turns, from a process on the generator's CPUs, and what the proxy's CPU time grew by meanwhile. With a latency
	// set, it says how exact that is. Nothing else may use the proxy meanwhile.
	Overhead(ctx context.Context, link FaultLink, roundTrips int) (record.FaultOverhead, error)
}

// FaultLink is a way through a [FaultProxy].
type FaultLink interface {
	// Name is that of the link, Target the URL of what it leads to.
	Name() string
	Target() string
	// URL is the target's with the link's address, as contenders of the engine reach it; this program may not.
	URL() string
	// Set replaces the faults of the link, also while connections are open and busy; it returns when they are in force.
	// Without faults everything passes again.
	Set(ctx context.Context, faults ...Fault) error
	// Faults are those in force.
	Faults() []Fault
}
