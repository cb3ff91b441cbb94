package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/null"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trial"
)

// nullContenderMain is the server that engines start in a contender's place.
func nullContenderMain(ctx context.Context, args []string, s streams) int {
	f := newFlags(engine.NullCommand, "")
	host := f.String("host", "127.0.0.1", "`ADDRESS` to listen at")
	port := f.Uint("port", 0, "`N`, or 0 for any free one")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	answer, err := engine.UnpackAnswer(os.Getenv(engine.NullAnswer))
	if err != nil {
		return fail(ctx, s, engine.NullCommand, fmt.Errorf("%s: it has the answer, packed: %w", engine.NullAnswer, err))
	}
	if err := null.Serve(ctx, net.JoinHostPort(*host, strconv.FormatUint(uint64(*port), 10)), answer, s.Out); err != nil {
		return fail(ctx, s, engine.NullCommand, err)
	}
	return exitOK
}

// The search for the generator's ceiling: coarser than that for an arm's capacity, since it is only to tell when the
// generator comes near it.
const (
	ceilingFirst     = 4000.0
	ceilingLeast     = 50.0
	ceilingMost      = 200_000.0
	ceilingPrecision = 0.10
	ceilingSteps     = 24
)

// findCeiling measures up to which rate the load generator keeps its schedule against a server that gives the right answer
// at once, on a contender's CPUs and with the database idle.
// Larger answers cost it more, so the ceiling is of one question: of a mix, of that with the largest answer. nil: it kept no rate.
func (s *session) findCeiling(ctx context.Context, q question, step time.Duration) (rps *float64, err error) {
	s.progress.say("a null server shows the load generator's ceiling …")
	server, err := s.engine.Null(ctx, engine.NullSpec{Answer: q.expected})
	if err != nil {
		return nil, err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		if err := server.Stop(stop); err != nil {
			s.warn("the null server did not end as it should: %v", err)
		}
	}()
	subject := trial.Subject{Engine: s.engine, Arm: server.Arm(), Contender: server, Placement: s.description.Placement}
	n := 0
	result, _, err := capacity.Run(ctx, capacity.Options{
		Start: ceilingFirst, Floor: ceilingLeast, Ceiling: ceilingMost, Precision: ceilingPrecision, Confirm: 1, Steps: ceilingSteps,
	}, func(ctx context.Context, rps float64) (capacity.Outcome, error) {
		n++
		attacked, err := trial.Probe(ctx, subject, trial.Spec{
			Body: string(q.request.Body()), Expected: q.expected, RPS: rps, Duration: step, MaxInFlight: rateMaxInFlight, Timeout: requestTimeout,
			Seed: s.seedOf(ceilingBlock, n),
		})
		if err != nil {
			return "", fmt.Errorf("the generator's ceiling: %w", err)
		}
		if trial.KeptSchedule(attacked) {
			return capacity.Held, nil
		}
		return capacity.Failed, nil
	}, nil)
	if err != nil {
		return nil, err
	}
	if result.LowRPS == 0 {
		s.warn("The load generator did not even keep %.0f requests a second against a server that answers at once; this machine is too busy to measure on.", ceilingLeast)
		return nil, nil
	}
	s.progress.say("the load generator keeps its schedule up to %.0f requests a second", result.LowRPS)
	return &result.LowRPS, nil
}

// nearCeiling says whether a trial asked of the generator nearly what it can give at most.
func (s *session) nearCeiling(t record.Trial) bool {
	ceiling := s.run.CeilingOf(t.Scenario)
	if ceiling == nil {
		return false
	}
	sent := float64(t.Sent) / max(time.Duration(t.DurationNS), time.Duration(t.ElapsedNS)).Seconds()
	return sent >= record.NearCeiling**ceiling
}
