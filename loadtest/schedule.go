package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trial"
)

// schedule is a plan with what carries it out.
type schedule struct {
	study    *study
	profile  profile // the study's
	seed     uint64
	arms     map[string]contender.Arm
	question question
	mixed    []weighted         // what is sent in place of the question alone, it among them
	rate     float64            // requests a second, for all
	capacity map[string]float64 // arm → requests a second, by the pilot
	blocks   [][]plan.Slot
	// measured has the trials that are on disk.
	measured map[string]bool
	began    time.Time // for the budget
	// done and ahead are the processes measured, in done of blocksBegan, and those that blocks still ask for.
	done, ahead int
	blocksBegan time.Time
	// spoilt tells which trials are void for no fault of the arm's.
	spoilt func(*record.Trial) bool
	// search says whether and how capacities are searched, order of the arms included.
	search   capacitySettings
	searched []contender.Arm
	// unrepeated are trials that were spoilt and not measured again.
	unrepeated int
}

// schedule makes the one that follows from a study's plan and the run's seed.
func (c *comparison) schedule(st *study, r record.Run, q question) (*schedule, error) {
	p, fixed := st.profile, st.plan(&r)
	todo := &schedule{
		study: st, profile: p, seed: r.Seed, question: q, rate: fixed.RateRPS,
		arms: map[string]contender.Arm{}, capacity: map[string]float64{}, measured: map[string]bool{}, began: time.Now(), spoilt: c.spoilt,
	}
	var planned []plan.Arm
	for _, arm := range st.arms {
		a := plan.Arm{Name: arm.Name, Blocks: p.blocks, Double: st.doubled() && st.judged(arm)}
		if st.few(arm) {
			a.Blocks, a.Double = p.floorBlocks, false
		}
		planned = append(planned, a)
		todo.arms[arm.Name] = arm
	}
	todo.searched = st.arms
	var err error
	if todo.search, err = c.capacities(); err != nil {
		return nil, err
	}
	todo.search.on = todo.search.on && st.headline()
	for _, pilot := range fixed.Pilot {
		todo.capacity[pilot.Arm] = pilot.CapacityRPS
	}
	todo.blocks, err = plan.Blocks(planned, p.blocks, st.seed(r.Seed))
	return todo, err
}

// seed is the run's for the library, and for another scenario one that follows from it and the scenario's name.
func (st *study) seed(run uint64) uint64 {
	if st.headline() {
		return run
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(st.ID))
	return plan.Seeds(run, int(h.Sum64()&0x7fffffff), 0)
}

// order is that of the blocks without repeats.
func (todo *schedule) order() [][]string { return plan.Names(todo.blocks) }

// spec is the trial of a slot for an ask. Blocks and places are counted from 0.
func (todo *schedule) spec(block, place int, slot plan.Slot, ask ask) trial.Spec {
	arm := todo.arms[slot.Arm]
	spec := trial.Spec{
		ID:       trialID(todo.study.ID, todo.question.name, ask, block, place, arm.Name, slot.Duplicate),
		Scenario: todo.study.ID, Operation: todo.question.name, Body: todo.question.body(arm.Tier, todo.seed), Expected: todo.question.expected,
		Load: ask.load, Block: block + 1, Position: place + 1, Duplicate: slot.Duplicate, Seed: plan.Seeds(todo.study.seed(todo.seed), block, place), Timeout: requestTimeout,
		ClientDelay: todo.study.clientDelay(), RPS: todo.rate, Duration: todo.profile.duration(ask.load), MaxInFlight: rateMaxInFlight,
	}
	spec.Operations, spec.Statements = operations(todo.mixed, arm, todo.seed), todo.statements(arm)
	if spec.Faults = todo.study.faults(); len(spec.Faults) > 0 {
		spec.MaxInFlight, spec.Bound = faultedInFlight(spec.RPS, spec.Timeout), time.Duration(todo.study.Bound)
	}
	if ask.load == record.LoadRate {
		spec.Bench, spec.Phases = todo.study.benchAsked(), todo.study.Phases
		spec.Staleness = todo.study.Staleness && !slot.Duplicate && todo.study.beside(block, slot)
		if !slot.Duplicate {
			spec.ProfileSeconds = todo.study.profileSeconds()
		}
	}
	switch {
	case ask.load == record.LoadThroughput:
		spec.RPS, spec.MaxInFlight = overload*todo.capacity[arm.Name], throughputMaxInFlight
	case ask.load == record.LoadClosed:
		spec.RPS, spec.MaxInFlight, spec.Closed = 0, uint64(ask.connections), true
	case todo.study.OwnShare > 0:
		spec.RPS = ownRate(todo.study.OwnShare, todo.study.weakest(todo.capacity)[arm.Name])
	}
	return spec
}

// statements are how many a request for each operation takes of an arm.
func (todo *schedule) statements(arm contender.Arm) map[string]contract.Range {
	questions := []question{todo.question}
	for _, w := range todo.mixed {
		questions = append(questions, w.question)
	}
	return allowed(arm, questions...)
}

// weakest says of each arm how many requests a second the weakest of those bore that are asked alike: of one server the arms
// that are compared with each other, whose rates may not differ by what their pilots do.
func (st *study) weakest(capacity map[string]float64) map[string]float64 {
	of := map[string]string{}
	for _, arm := range st.arms {
		of[arm.Name] = arm.Contender
	}
	least := maps.Clone(capacity)
	for range st.arms { // the longest way from one to another has fewer steps
		for _, p := range st.Compared() {
			if a, b := p[0], p[1]; of[a] == of[b] {
				least[a], least[b] = min(least[a], least[b]), min(least[a], least[b])
			}
		}
	}
	return least
}

// ownRate is a share of what an arm bore, requests a second.
func ownRate(share, capacity float64) float64 { return roundDown(share * capacity) }

// weighted is one question of a mix.
type weighted struct {
	question
	weight float64
	// connections, where not 0, are those of its own.
	connections int
}

// operations are a mix as an arm is sent it, or none.
func operations(mixed []weighted, arm contender.Arm, seed uint64) []agent.Operation {
	var out []agent.Operation
	for _, q := range mixed {
		out = append(out, agent.Operation{Name: q.name, Weight: q.weight, Connections: q.connections, Body: q.body(arm.Tier, seed), Expected: q.expected})
	}
	return out
}

// missing are the trials of a slot by these asks that are not on disk.
func (todo *schedule) missing(block, place int, slot plan.Slot, asks []ask) []trial.Spec {
	var out []trial.Spec
	for _, ask := range asks {
		if spec := todo.spec(block, place, slot, ask); !todo.measured[spec.ID] {
			out = append(out, spec)
		}
	}
	return out
}

// processes is how many slots of the blocks lack a trial.
func (todo *schedule) processes() int {
	n := 0
	for b, block := range todo.blocks {
		for place, slot := range block {
			if len(todo.missing(b, place, slot, todo.study.asksOf(b, slot))) > 0 {
				n++
			}
		}
	}
	return n
}

// carryOut measures what the blocks lack.
func (s *session) carryOut(ctx context.Context, todo *schedule) error {
	todo.blocksBegan, todo.ahead = time.Now(), todo.processes()
	s.progress.start(todo.ahead)
	for b, block := range todo.blocks {
		if err := s.block(ctx, todo, b, block); err != nil {
			return err
		}
	}
	s.noteRepeats(todo)
	return nil
}

// again is a slot of which trials were spoilt.
type again struct {
	slot plan.Slot
	asks []ask
}

// block measures what a block lacks, and at its end once more what the machine or the generator spoilt. What is repeated
// in which order follows from the block's trials alone, so a resumed run repeats what the first part would have.
func (s *session) block(ctx context.Context, todo *schedule, b int, block []plan.Slot) error {
	var queue []again
	measure := func(place int, slot plan.Slot, asks []ask, planned bool) error {
		if specs := todo.missing(b, place, slot, asks); len(specs) > 0 {
			if s.interrupts.wanted() {
				return errInterrupted
			}
			s.progress.step("block %d of %d: %s", b+1, len(todo.blocks), slot.Arm)
			if err := s.process(ctx, todo, todo.arms[slot.Arm], specs); err != nil {
				return err
			}
			todo.done++
			if planned {
				todo.ahead--
			}
		}
		if spoilt := s.spoilt(todo, b, place, slot, asks); len(spoilt) > 0 {
			queue = append(queue, again{slot, spoilt})
		}
		return nil
	}
	for place, slot := range block {
		if err := measure(place, slot, todo.study.asksOf(b, slot), true); err != nil {
			return err
		}
	}
	for place := len(block); len(queue) > 0; {
		next := queue[0]
		queue = queue[1:]
		order := &todo.plan(s).Order[b]
		if place == len(*order) { // else an earlier part of this run has begun it
			if !s.mayRepeat(todo) {
				todo.unrepeated += len(next.asks)
				continue
			}
			*order = append(*order, next.slot.Arm)
			todo.plan(s).Repeats++
			if err := s.begin(); err != nil {
				return err
			}
		}
		if len(todo.missing(b, place, next.slot, next.asks)) > 0 {
			s.progress.more(1)
		}
		if err := measure(place, next.slot, next.asks, false); err != nil {
			return err
		}
		place++
	}
	return nil
}

// spoilt are the asks of which a slot's trial is void for no fault of the arm's.
func (s *session) spoilt(todo *schedule, block, place int, slot plan.Slot, asks []ask) []ask {
	var out []ask
	for _, ask := range asks {
		id := todo.spec(block, place, slot, ask).ID
		if i := slices.IndexFunc(s.run.Trials, func(t record.Trial) bool { return t.ID == id }); i >= 0 && todo.spoilt(&s.run.Trials[i]) {
			out = append(out, ask)
		}
	}
	return todo.study.together(out, asks)
}

// mayRepeat tells whether the profile's repeats and its time leave room for one more process.
func (s *session) mayRepeat(todo *schedule) bool {
	p := todo.profile
	if todo.plan(s).Repeats >= p.repeats {
		return false
	}
	// Of blocks that are no more than can decide, each is needed, whatever time it takes; one repeat for each is enough.
	if st := todo.study; !st.headline() && len(todo.blocks) <= st.least() {
		return todo.plan(s).Repeats < len(todo.blocks)
	}
	// Where a resumed run has measured nothing yet, the time of a process is that of its trials.
	each := p.warm.Most + todo.study.trialsTake()
	if todo.done > 0 {
		each = time.Since(todo.blocksBegan) / time.Duration(todo.done)
	}
	budget := p.budget
	if !todo.study.headline() {
		budget = todo.study.budget
	}
	return budget == 0 || time.Since(todo.began)+each*time.Duration(todo.ahead+1) <= budget
}

// plan is the study's in the session's record.
func (todo *schedule) plan(s *session) *record.Plan { return todo.study.plan(&s.run) }

const (
	repeatsNote    = "The machine or the load generator spoilt trials. Measured again for that, at the end of their blocks: "
	unrepeatedNote = "Spoilt and not measured again, since the profile's time or its number of repeats was used up: "
)

// noteRepeats says in the record what a reader has to know of spoilt trials.
func (s *session) noteRepeats(todo *schedule) {
	s.run.Warnings = slices.DeleteFunc(slices.Clone(s.run.Warnings), func(line string) bool {
		return (strings.HasPrefix(line, repeatsNote) || strings.HasPrefix(line, unrepeatedNote)) &&
			(strings.HasSuffix(line, " of scenario "+todo.study.ID+".") || todo.study.headline() && !strings.Contains(line, " of scenario "))
	})
	of := ""
	if !todo.study.headline() {
		of = " of scenario " + todo.study.ID
	}
	if n := todo.plan(s).Repeats; n > 0 {
		s.warn("%s%s%s.", repeatsNote, summary.Plural(n, "process"), of)
	}
	if n := todo.unrepeated; n > 0 {
		s.warn("%s%s%s.", unrepeatedNote, summary.Plural(n, "trial"), of)
	}
}

// process measures these trials one after the other on one fresh process, warmed up.
func (s *session) process(ctx context.Context, todo *schedule, arm contender.Arm, specs []trial.Spec) error {
	return s.with(ctx, arm, todo.question, todo.study.environment(), func(subject trial.Subject) error {
		if todo.study.Warmed() {
			busy := specs[0]
			busy.MaxInFlight = pilotConnections
			var err error
			if subject.Warm, err = trial.WarmUntilSteady(ctx, subject, busy, todo.profile.warm); err != nil {
				return err
			}
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

// because names what is behind an error of a scenario where it is one of the parts that all arms lean on.
func (s *session) because(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, errInterrupted) || ofParts(err) {
		return err
	}
	if gone := s.ended(ctx); gone != nil {
		return fmt.Errorf("%w\nseen by: %w", gone, err)
	}
	if errors.Is(err, trial.ErrStatements) { // it is there, and its log may say why nobody answered
		return fmt.Errorf("%w%s", err, host.QuoteLog(s.database.Logs(10)))
	}
	return err
}
