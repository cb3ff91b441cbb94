package faultproxy

import (
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// The lab's own toxics, beside Toxiproxy's, as its API names them.
const (
	// TypeDelay has the attribute delay_ns.
	TypeDelay = "lab_delay"
	typeStall = "lab_stall"
)

func init() {
	toxics.Register(TypeDelay, new(delayToxic))
	toxics.Register(typeStall, new(stallToxic))
}

// theClock is the process's, made when the first delay is.
var theClock = sync.OnceValues(newClock)

// patience is how long a toxic that is being removed tries to hand on what it has: the one that it goes to may be gone.
const patience = 5 * time.Second

// delayToxic hands each piece on at a set time after it was read, to some tens of microseconds. Toxiproxy's own toxic
// latency does the same with Go's timers, which are up to a millisecond late, and counts in milliseconds.
type delayToxic struct {
	DelayNS int64 `json:"delay_ns"`
}

// GetBufferSize is how many pieces may be on their way; while there is room, each is read when it comes.
func (t *delayToxic) GetBufferSize() int { return 1024 }

// Pipe is the work on one direction of one connection.
func (t *delayToxic) Pipe(stub *toxics.ToxicStub) {
	clock, err := theClock()
	if err != nil {
		// Main has made it before it serves; without one nothing may pass as if it had been delayed.
		stub.Close()
		return
	}
	w := newWaiter()
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			due := c.Timestamp.Add(time.Duration(t.DelayNS))
			if time.Until(due) > 0 {
				clock.set(w, due)
				select {
				case <-w.due:
				case <-stub.Interrupt:
					clock.unset(w)
					_ = stub.WriteOutput(c, patience)
					return
				}
			}
			// Where another delay follows, it counts from here.
			c.Timestamp = due
			if !hand(stub, c) {
				return
			}
		}
	}
}

// hand hands on a piece; false means that the toxic was interrupted meanwhile.
func hand(stub *toxics.ToxicStub, c *stream.StreamChunk) bool {
	select {
	case stub.Output <- c:
		return true
	case <-stub.Interrupt:
		_ = stub.WriteOutput(c, patience)
		return false
	}
}

// stallToxic hands nothing on while it is there, and loses nothing. Toxiproxy's own toxic timeout loses what comes and
// closes the connection when it is removed.
type stallToxic struct{}

// Pipe is the work on one direction of one connection: none. Whoever removes the toxic takes what has come to the next.
func (t *stallToxic) Pipe(stub *toxics.ToxicStub) { <-stub.Interrupt }
