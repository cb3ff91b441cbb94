package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trial"
)

// schedule is a plan with what carries it out.
type schedule struct {
	profile  profile
	seed     uint64
	arms     map[string]contender.Arm
	question question
	rate     float64            // requests a second, for all
	capacity map[string]float64 // arm → requests a second, by the pilot
	// blocks are measured whatever comes; spares only where void trials ask for it.
	blocks, spares [][]plan.Slot
	// measured has the trials that are on disk.
	measured map[string]bool
	began    time.Time // for the budget
}

// schedule makes the one that follows from a run's plan and seed.
func (c *comparison) schedule(r record.Run, q question) (*schedule, error) {
	p := c.profile
	todo := &schedule{
		profile: p, seed: r.Seed, question: q, rate: r.Plan.RateRPS,
		arms: map[string]contender.Arm{}, capacity: map[string]float64{}, measured: map[string]bool{}, began: time.Now(),
	}
	var planned []plan.Arm
	for _, arm := range c.arms {
		a := plan.Arm{Name: arm.Name, Blocks: p.blocks, Double: true}
		if arm.Tier == contender.TierFloor {
			a.Blocks, a.Double = p.floorBlocks, false
		} else {
			a.Blocks = p.blocks + p.spares
		}
		planned = append(planned, a)
		todo.arms[arm.Name] = arm
	}
	for _, pilot := range r.Plan.Pilot {
		todo.capacity[pilot.Arm] = pilot.CapacityRPS
	}
	blocks, err := plan.Blocks(planned, p.blocks+p.spares, r.Seed)
	if err != nil {
		return nil, err
	}
	todo.blocks, todo.spares = blocks[:p.blocks], blocks[p.blocks:]
	return todo, nil
}

// order is that of the blocks without spares.
func (todo *schedule) order() [][]string { return plan.Names(todo.blocks) }

// loads are what one process is asked, one trial after the other.
var loads = []record.Load{record.LoadRate, record.LoadThroughput}

// spec is the trial of a slot under a load. Blocks and places are counted from 0.
func (todo *schedule) spec(block, place int, slot plan.Slot, load record.Load) trial.Spec {
	arm := todo.arms[slot.Arm]
	spec := trial.Spec{
		ID:       trialID(libraryScenario, todo.question.name, load, block, place, arm.Name, slot.Duplicate),
		Scenario: libraryScenario, Operation: todo.question.name, Body: todo.question.body(arm.Tier, todo.seed), Expected: todo.question.expected,
		Load: load, Block: block + 1, Position: place + 1, Duplicate: slot.Duplicate, Seed: plan.Seeds(todo.seed, block, place), Timeout: requestTimeout,
		RPS: todo.rate, Duration: todo.profile.rate, MaxInFlight: rateMaxInFlight,
	}
	if load == record.LoadThroughput {
		spec.RPS, spec.Duration, spec.MaxInFlight = overload*todo.capacity[arm.Name], todo.profile.throughput, throughputMaxInFlight
	}
	return spec
}

// missing are the trials of a slot that are not on disk.
func (todo *schedule) missing(block, place int, slot plan.Slot) []trial.Spec {
	var out []trial.Spec
	for _, load := range loads {
		if spec := todo.spec(block, place, slot, load); !todo.measured[spec.ID] {
			out = append(out, spec)
		}
	}
	return out
}

// processes is how many slots of these blocks, the first of which has that number, lack a trial.
func (todo *schedule) processes(first int, blocks [][]plan.Slot) int {
	n := 0
	for b, block := range blocks {
		for place, slot := range block {
			if len(todo.missing(first+b, place, slot)) > 0 {
				n++
			}
		}
	}
	return n
}

// carryOut measures what the schedule lacks. One interrupt ends it after the trial under way.
func (s *session) carryOut(ctx context.Context, todo *schedule) error {
	defer s.interrupts.patient(s.progress.say)()
	began := time.Now()
	processes := todo.processes(0, todo.blocks)
	s.progress.start(processes)
	for b, block := range todo.blocks {
		if err := s.block(ctx, todo, b, block); err != nil {
			return err
		}
	}
	// Where a resumed run lacked no block, the time of a process is that of its trials.
	each := todo.profile.warm.Most + todo.profile.rate + todo.profile.throughput
	if processes > 0 {
		each = time.Since(began) / time.Duration(processes)
	}
	return s.spareBlocks(ctx, todo, each)
}

// spareBlocks measures, where void trials left too little, blocks more; each is about how long a process takes.
func (s *session) spareBlocks(ctx context.Context, todo *schedule, each time.Duration) error {
	p := todo.profile
	for k, block := range todo.spares {
		if k >= s.run.Plan.SpareBlocks { // else an earlier part of this run has begun it
			if claims.LeastBlocks(s.run.Trials) >= p.blocks {
				break
			}
			if p.budget > 0 && time.Since(todo.began)+each*time.Duration(len(block)) > p.budget {
				s.warn("Void trials left a pair of arms with fewer than %d blocks, and another block would have taken longer than the %v that this profile may take.", p.blocks, p.budget)
				break
			}
			s.progress.say("a spare block: void trials left a pair of arms with fewer than %d blocks", p.blocks)
			s.run.Plan.SpareBlocks++
			s.run.Plan.Order = append(s.run.Plan.Order, plan.Names([][]plan.Slot{block})...)
			if err := s.begin(); err != nil {
				return err
			}
		}
		s.progress.start(todo.processes(p.blocks+k, [][]plan.Slot{block}))
		if err := s.block(ctx, todo, p.blocks+k, block); err != nil {
			return err
		}
	}
	if n := s.run.Plan.SpareBlocks; n > 0 {
		s.warn("Void trials left a pair of arms with fewer than %d blocks; measured at the end for that: %s.", p.blocks, summary.Plural(n, "spare block"))
	}
	return nil
}

func (s *session) block(ctx context.Context, todo *schedule, b int, block []plan.Slot) error {
	for place, slot := range block {
		specs := todo.missing(b, place, slot)
		if len(specs) == 0 {
			continue
		}
		if s.interrupts.wanted() {
			return errInterrupted
		}
		s.progress.step("block %d of %d: %s", b+1, len(s.run.Plan.Order), slot.Arm)
		if err := s.process(ctx, todo, todo.arms[slot.Arm], specs); err != nil {
			return s.because(ctx, err)
		}
	}
	return nil
}

// process measures these trials one after the other on one fresh process, warmed up.
func (s *session) process(ctx context.Context, todo *schedule, arm contender.Arm, specs []trial.Spec) error {
	return s.with(ctx, arm, todo.question, func(subject trial.Subject) error {
		busy := specs[0]
		busy.MaxInFlight = pilotConnections
		var err error
		if subject.Warm, err = trial.WarmUntilSteady(ctx, subject, busy, todo.profile.warm); err != nil {
			return err
		}
		for i, spec := range specs {
			if i > 0 && s.interrupts.wanted() {
				return errInterrupted
			}
			if _, err := s.measure(ctx, subject, spec); err != nil {
				return err
			}
			todo.measured[spec.ID] = true
		}
		return nil
	})
}

// because names what is behind an error of a trial where it is one of the parts that all arms lean on.
func (s *session) because(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, errInterrupted) || errors.Is(err, engine.ErrGone) || errors.Is(err, errPartGone) {
		return err
	}
	if gone := s.ended(ctx); gone != nil {
		return fmt.Errorf("%w\nseen by: %w", gone, err)
	}
	return err
}
