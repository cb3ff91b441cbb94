package agent

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Arrival names how intended send times are spread.
type Arrival string

// The two kinds of arrival. Poisson arrivals are what independent users make (Schroeder et al., Open Versus Closed,
// NSDI 2006; MLPerf loadgen's server scenario); constant ones are easier to reason about by hand.
const (
	Poisson  Arrival = "poisson"
	Constant Arrival = "constant"
)

// Schedule foretells the intended send time of every request of an open loop. The same seed, rate and arrival give the
// same times on every machine. It keeps one time only, so it costs no memory that grows with the number of requests.
type Schedule struct {
	arrival Arrival
	gap     float64 // mean nanoseconds between two requests
	random  *rand.Rand
	next    uint64  // the index that at stands for
	at      float64 // nanoseconds from the start
}

// NewSchedule makes a schedule of rate requests a second; rate must be positive and finite.
func NewSchedule(arrival Arrival, rate float64, seed uint64) (*Schedule, error) {
	if !(rate > 0) || math.IsInf(rate, 0) {
		return nil, fmt.Errorf("rate %g: must be positive", rate)
	}
	s := &Schedule{arrival: arrival, gap: 1e9 / rate, random: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))}
	switch arrival {
	case Poisson:
		s.at = s.random.ExpFloat64() * s.gap
	case Constant:
	default:
		return nil, fmt.Errorf("arrival %q: expected %q or %q", arrival, Poisson, Constant)
	}
	return s, nil
}

// At is the intended time of request k, from the start. k must not go down from call to call.
func (s *Schedule) At(k uint64) time.Duration {
	for s.next < k {
		s.next++
		if s.arrival == Constant {
			s.at = float64(s.next) * s.gap
		} else {
			s.at += s.random.ExpFloat64() * s.gap
		}
	}
	return time.Duration(s.at)
}

// CountWithin is the number of requests that a schedule of these settings intends before the duration ends: what is
// offered, whether or not it can be sent.
func CountWithin(arrival Arrival, rate float64, seed uint64, d time.Duration) (uint64, error) {
	s, err := NewSchedule(arrival, rate, seed)
	if err != nil {
		return 0, err
	}
	k := uint64(0)
	for s.At(k) < d {
		k++
	}
	return k, nil
}
