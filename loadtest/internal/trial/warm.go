package trial

import (
	"context"
	"fmt"
	"time"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// When an arm counts as warm. How long a runtime takes to get there differs from process to process, and some never do
// (Barrett and others, Virtual Machine Warmup Blows Hot and Cold, OOPSLA 2017), so no set time is right for all; that
// the last windows agree is how Georges, Buytaert and Eeckhout (OOPSLA 2007) find the steady state, and what Kalibera and
// Jones (ISMM 2013) would have a person look for. Their windows are of whole benchmarks and their tolerances 1 to 2 %; a
// window of half a second has a few hundred requests. Windows differ by the largest less the smallest, over their mean.
const (
	// WarmWindows are the last windows, which must agree.
	WarmWindows = 3
	// WarmCPUTolerance is by how much they may differ in CPU per request.
	WarmCPUTolerance = 0.10
	// WarmRateTolerance is by how much they may differ in rate, which a noisy machine moves more: in the 32 throughput
	// trials of the run published as 2026-11-25-quick, all of warm servers, two neighbouring seconds differ by 12 % in the
	// median and by more than 25 % in one of four.
	WarmRateTolerance = 0.25
)

// Warmth bounds a warm-up.
type Warmth struct {
	// Window is how long the arm is kept busy before it is looked at.
	Window time.Duration
	// Most is how long it is kept busy in all, where it does not come to rest before. WarmWindows windows there are
	// always.
	Most time.Duration
}

// windows is the largest number of windows.
func (w Warmth) windows() int { return max(WarmWindows, int(w.Most/w.Window)) }

// window is what a window showed.
type window struct{ rps, cpuUs float64 }

// WarmUntilSteady keeps the arm busy, in a closed loop of spec.MaxInFlight clients and window by window, until the last
// windows agree or the time is over; the record says which.
func WarmUntilSteady(ctx context.Context, s Subject, spec Spec, w Warmth) (*record.Warm, error) {
	before, err := s.Contender.Usage(ctx)
	if err != nil {
		return nil, fmt.Errorf("warm up %s: %w", s.Arm.Name, err)
	}
	var seen []window
	for {
		result, err := WarmUp(ctx, s, spec, w.Window)
		if err != nil {
			return nil, err
		}
		after, err := s.Contender.Usage(ctx)
		if err != nil {
			return nil, fmt.Errorf("warm up %s: %w", s.Arm.Name, err)
		}
		var now window // of nothing where nothing was answered
		if result.OK > 0 {
			now = window{float64(result.OK) / result.Elapsed.Seconds(), float64(after.Sub(before).CPU.Microseconds()) / float64(result.OK)}
		}
		seen, before = append(seen, now), after
		if warm := w.over(seen); warm != nil {
			if warm.Converged && now.rps == 0 {
				return nil, fmt.Errorf("warm up %s: no request was answered in the last %d windows of %v", s.Arm.Name, WarmWindows, w.Window)
			}
			return warm, nil
		}
	}
}

// over is how a warm-up ended, or nil where it goes on.
func (w Warmth) over(seen []window) *record.Warm {
	if len(seen) < WarmWindows {
		return nil
	}
	var rps, cpu []float64
	for _, x := range seen[len(seen)-WarmWindows:] {
		rps, cpu = append(rps, x.rps), append(cpu, x.cpuUs)
	}
	out := &record.Warm{Windows: len(seen), WindowNS: int64(w.Window), RateDrift: spread(rps), CPUDrift: spread(cpu)}
	out.Converged = out.RateDrift <= WarmRateTolerance && out.CPUDrift <= WarmCPUTolerance
	if !out.Converged && len(seen) < w.windows() {
		return nil
	}
	return out
}

// spread is the largest less the smallest, over the mean; 0 of nothing but zeros.
func spread(x []float64) float64 {
	low, high := x[0], x[0]
	for _, v := range x {
		low, high = min(low, v), max(high, v)
	}
	if high == low {
		return 0
	}
	return (high - low) / stats.Mean(x)
}
