package trial

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/scrape"
)

const (
	// phaseRequests are asked for their phases after a trial, one after the other.
	phaseRequests = 10
	// phaseTimeout is the most that one of them may take.
	phaseTimeout = 10 * time.Second
)

// PhaseTime is about how long asking for phases takes in one trial, where a request waits as long as the delays say.
func PhaseTime(waits time.Duration) time.Duration {
	return phaseRequests * (waits + 10*time.Millisecond)
}

// Phases asks a trial's operation some more times, one request after the other and beside no other load, and has the
// contender say where their time went.
func Phases(ctx context.Context, s Subject, spec Spec) (*record.Phases, error) {
	client := &http.Client{Timeout: phaseTimeout, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	by := map[string][]int64{}
	for range phaseRequests {
		timing, err := askPhases(ctx, client, s.Contender.GraphQLURL(), spec)
		if err != nil {
			return nil, fmt.Errorf("phases of %s: %w", s.Arm.Name, err)
		}
		timing[record.PhaseOwn] = timing[record.PhaseTotal] - timing[record.PhaseDatabase] - timing[record.PhaseUpstream]
		for _, phase := range record.PhaseNames {
			by[phase] = append(by[phase], int64(timing[phase]*1e6))
		}
	}
	out := &record.Phases{Requests: phaseRequests, MedianNS: map[string]int64{}}
	for phase, values := range by {
		out.MedianNS[phase] = median(values)
	}
	return out, nil
}

// median is the middle value of some, or the mean of the two in the middle, in whole nanoseconds.
func median(ns []int64) int64 {
	sorted := slices.Sorted(slices.Values(ns))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// askPhases sends one request and gives its phases in milliseconds.
func askPhases(ctx context.Context, client *http.Client, url string, spec Spec) (map[string]float64, error) {
	response, text, err := ask(ctx, client, url, spec.Body, "X-Server-Timing", "1")
	if err == nil {
		err = right(response, text, spec.Expected)
	}
	if err != nil {
		return nil, err
	}
	header := response.Header.Get("Server-Timing")
	if header == "" {
		return nil, errors.New("an answer without Server-Timing, which was asked for")
	}
	timing, err := scrape.ServerTiming(header)
	if err != nil {
		return nil, fmt.Errorf("Server-Timing: %w", err)
	}
	if _, there := timing[record.PhaseTotal]; !there {
		return nil, fmt.Errorf("Server-Timing %q has no total", header)
	}
	return timing, nil
}
