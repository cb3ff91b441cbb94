package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trial"
)

// recall reads the run that --resume names and takes all settings from it. f has the flags that were given: each must
// say what the run was begun with.
func (c *comparison) recall(f *flag.FlagSet) (record.Folder, error) {
	dir := c.options.resume
	cannot := func(err error) (record.Folder, error) { return record.Folder{}, fmt.Errorf("--resume: %w", err) }
	remains, err := record.OpenRemains(dir)
	if err != nil {
		return cannot(err)
	}
	old := remains.Run
	switch {
	case len(old.Command) < 2 || old.Command[1] != "compare":
		return cannot(fmt.Errorf("%s: no run of loadtest compare", dir))
	case !hasPlan(old):
		return cannot(fmt.Errorf("%s: that run ended before its plan was made; begin anew: %s", dir, strings.Join(old.Command, " ")))
	case old.Method != record.Method:
		return cannot(fmt.Errorf("%s: figures of two methods do not go into one run: method was %d and is %d", dir, old.Method, record.Method))
	}
	begun, o := compareFlags()
	if err := begun.Parse(old.Command[2:]); err != nil {
		return cannot(fmt.Errorf("%s: run.json: command: %w", dir, err))
	}
	if err := sameFlags(f, begun, dir); err != nil {
		return cannot(err)
	}
	o.resume, o.asJSON, o.engine, o.seed = dir, c.options.asJSON, old.Environment.Engine, old.Seed
	if err := o.checkCapacity(); err != nil {
		return cannot(fmt.Errorf("%s: run.json: command: %w", dir, err))
	}
	// What its command does not say it was not begun with, whatever the profile does today.
	o.capacity = choice{made: true, yes: o.capacity.yes}
	c.options, c.earlier = *o, &remains
	if c.profile, err = profileNamed(old.Profile); err != nil {
		return cannot(fmt.Errorf("%s: %w", dir, err))
	}
	if err := c.choose(); err != nil {
		return cannot(fmt.Errorf("%s: %w", dir, err))
	}
	for _, st := range c.studies {
		if !st.planned(&old) {
			continue
		}
		if x := old.ScenarioNamed(st.ID); x != nil {
			st.leaveOut(x.Absent)
		}
		if err := st.recall(*st.plan(&old)); err != nil {
			return cannot(fmt.Errorf("%s: %w", dir, err))
		}
	}
	return record.Reopen(dir)
}

func hasPlan(r record.Run) bool {
	has := func(p record.Plan) bool { return len(p.Order) > 0 && len(p.Pilot) > 0 }
	return has(r.Plan) || slices.ContainsFunc(r.Scenarios, func(s record.Scenario) bool { return has(s.Plan) })
}

// recall takes the number of blocks from a plan, and says what of it is not as it would be planned today.
func (st *study) recall(plan record.Plan) error {
	p := &st.profile
	p.blocks, p.floorBlocks = plan.Blocks, plan.FloorBlocks
	if was, now := plan.WarmMostNS, int64(p.warm.Most); was != now {
		return fmt.Errorf("the longest warm-up took %v and takes %v in profile %s", time.Duration(was), time.Duration(now), p.name)
	}
	// Shorter than the profile's they may be, where the scenario's time was short, and longer for the percentile that decides.
	shortestRate, shortestThroughput, longest := max(shortestRate, time.Duration(st.Duration)), shortestThroughput, p.rate
	if st.headline() || st.budget == 0 {
		shortestRate, shortestThroughput = p.rate, p.throughput
	}
	if _, tail := st.decidingPercentile(); tail {
		longest = max(longest, longestRate)
	}
	for _, d := range []struct {
		name              string
		was               int64
		now               *time.Duration
		shortest, longest time.Duration
	}{
		{"a trial at the common rate", plan.RateDurationNS, &p.rate, shortestRate, longest},
		{"a throughput trial", plan.ThroughputDurationNS, &p.throughput, shortestThroughput, p.throughput},
	} {
		was := time.Duration(d.was)
		if was > d.longest || was < min(d.shortest, *d.now) {
			return fmt.Errorf("%s took %v and takes %v in profile %s", d.name, was, *d.now, p.name)
		}
		*d.now = was
	}
	var was, now []string
	for _, pilot := range plan.Pilot {
		was = append(was, pilot.Arm)
	}
	for _, arm := range st.arms {
		now = append(now, arm.Name)
	}
	if !slices.Equal(was, now) {
		return fmt.Errorf("the arms of scenario %s were %s and are %s", st.ID, strings.Join(was, ", "), strings.Join(now, ", "))
	}
	return nil
}

// sameFlags says which flag that was given is not what the run was begun with.
func sameFlags(given, begun *flag.FlagSet, dir string) error {
	var errs []error
	given.Visit(func(x *flag.Flag) {
		now, was := x.Value.String(), begun.Lookup(x.Name).Value.String()
		switch x.Name {
		case "resume", "json", "update":
			return
		case "out":
			was = filepath.Clean(dir)
			now = filepath.Clean(now)
		case "engine":
			if now == "auto" {
				return
			}
		}
		if now != was {
			errs = append(errs, fmt.Errorf("--%s %q: the run in %s was begun with %q; leave the flag out", x.Name, now, dir, was))
		}
	})
	return errors.Join(errs...)
}

// takeUp goes on with an earlier run: it holds what is there now to what was there then, then sets aside what is damaged
// and keeps the rest. Where it refuses, nothing on disk is changed. It gives the schedules of the scenarios that have a plan.
func (s *session) takeUp(c *comparison) (map[string]*schedule, error) {
	old := c.earlier.Run
	if differences := differences(old, s.run); len(differences) > 0 {
		return nil, fmt.Errorf("--resume: what is measured now would be no part of the run in %s: %s", s.folder.Path(), strings.Join(differences, "; "))
	}
	todos := map[string]*schedule{}
	var trials []record.Trial
	damaged := slices.Clone(c.earlier.Damaged)
	setAside := func(t record.Trial, why string) {
		damaged = append(damaged, record.Damaged{Files: t.Files(), Why: why})
	}
	ahead, searched := 0, false
	for _, st := range c.studies {
		if !st.planned(&old) {
			continue
		}
		todo, err := c.schedule(st, old, question{name: st.Operation})
		if err != nil {
			return nil, err
		}
		own := slices.DeleteFunc(slices.Clone(c.earlier.Trials), func(t record.Trial) bool { return t.Scenario != st.ID })
		kept, err := todo.takeUp(&old, own, setAside)
		if err != nil {
			return nil, fmt.Errorf("--resume: %s: %w", s.folder.Path(), err)
		}
		for _, t := range kept {
			todo.measured[t.ID] = true
		}
		trials = append(trials, kept...)
		todos[st.ID] = todo
		ahead += todo.processes()
		searched = searched || st.headline() && todo.search.on
	}
	for _, t := range c.earlier.Trials {
		if todos[t.Scenario] == nil {
			setAside(t, fmt.Sprintf("not of this run's plan: scenario is %s", t.Scenario))
		}
	}
	for _, d := range damaged {
		to, err := s.folder.SetAside(d.Files)
		if err != nil {
			return nil, fmt.Errorf("set aside what is damaged: %w", err)
		}
		s.progress.say("damaged: %s: %s; now %s", strings.Join(d.Files, ", "), d.Why, strings.Join(to, ", "))
	}
	s.run = old
	s.run.Trials, s.run.Verdicts, s.run.Capacities = trials, nil, nil
	s.run.Resumed = append(slices.Clone(old.Resumed), time.Now().UTC())
	s.noteResumption(len(damaged))
	then := ""
	if searched {
		then = ", then what the searches of capacity lack"
	}
	if n := len(c.studies) - len(todos); n > 0 {
		then += fmt.Sprintf(", then %s without a plan yet", summary.Plural(n, "scenario"))
	}
	s.progress.say("goes on by its plan, seed %d: %s on disk, %s of the blocks to measure%s", s.run.Seed, summary.Plural(len(trials), "trial"), summary.Plural(ahead, "process"), then)
	return todos, nil
}

// takeUp holds a study's trials to its plan in that record, and gives those that are of it. What a block repeats is taken
// out of the plan where the trials it followed from will be others.
func (todo *schedule) takeUp(old *record.Run, own []record.Trial, setAside func(record.Trial, string)) ([]record.Trial, error) {
	fixed := todo.study.plan(old)
	order, planned := fixed.Order, todo.order()
	begins := func(with, planned []string) bool {
		return len(with) >= len(planned) && slices.Equal(with[:len(planned)], planned)
	}
	if !slices.EqualFunc(order, planned, begins) {
		return nil, fmt.Errorf("plan.order of scenario %s is not what the run's seed gives", todo.study.ID)
	}
	var trials, searched []record.Trial
	for _, t := range own {
		if !t.Load.Blocked() {
			searched = append(searched, t)
			continue
		}
		if why := todo.strange(order, t); why != "" {
			setAside(t, "not of this run's plan: "+why)
			continue
		}
		trials = append(trials, t)
	}
	for b := range order {
		if todo.follows(order[b], b, trials) {
			continue
		}
		trials = slices.DeleteFunc(trials, func(t record.Trial) bool {
			repeat := t.Block == b+1 && t.Position > len(planned[b])
			if repeat {
				setAside(t, "it repeats a trial that is damaged or missing itself")
			}
			return repeat
		})
		fixed.Repeats -= len(order[b]) - len(planned[b])
		order[b] = planned[b]
	}
	whole, strangers, err := todo.follow(*old, searched)
	if err != nil {
		return nil, err
	}
	for i, t := range strangers.trials {
		setAside(t, strangers.why[i])
	}
	return append(trials, whole...), nil
}

const resumptionNote = "This run was measured in "

// noteResumption says in the record what a reader has to know of a run that was gone on with.
func (s *session) noteResumption(damaged int) {
	s.run.Warnings = slices.DeleteFunc(slices.Clone(s.run.Warnings), func(line string) bool { return strings.HasPrefix(line, resumptionNote) })
	var at []string
	for _, t := range s.run.Resumed {
		at = append(at, t.Format("2006-01-02 15:04 UTC"))
	}
	s.warn("%s%d parts, by one plan: it was killed or interrupted, and resumed at %s. The arms of a block may have met two states of the machine.", resumptionNote, len(at)+1, strings.Join(at, ", "))
	if damaged > 0 {
		s.warn("At %s damaged records were set aside and measured again, or were of no trial: %d.", at[len(at)-1], damaged)
	}
}

// follows tells whether a block's order is its plan and then what its trials ask to have repeated.
func (todo *schedule) follows(order []string, b int, trials []record.Trial) bool {
	block := todo.blocks[b]
	if len(order) == len(block) {
		return true
	}
	byID := map[string]*record.Trial{}
	for i := range trials {
		byID[trials[i].ID] = &trials[i]
	}
	var queue []again
	look := func(place int, slot plan.Slot, asks []ask) (whole bool) {
		var spoilt []ask
		for _, ask := range asks {
			t := byID[todo.spec(b, place, slot, ask).ID]
			if t == nil {
				return false
			}
			if todo.spoilt(t) {
				spoilt = append(spoilt, ask)
			}
		}
		if len(spoilt) > 0 {
			queue = append(queue, again{slot, todo.study.together(spoilt, asks)})
		}
		return true
	}
	for place, slot := range block {
		if !look(place, slot, todo.study.asksOf(b, slot)) {
			return false
		}
	}
	for place := len(block); place < len(order); place++ {
		if len(queue) == 0 || queue[0].slot.Arm != order[place] {
			return false
		}
		next := queue[0]
		queue = queue[1:]
		if !look(place, next.slot, next.asks) && place < len(order)-1 {
			return false // only the last can have been under way
		}
	}
	return true
}

// strange says why a trial is none of the plan's, or nothing. order has what was begun, repeats included.
func (todo *schedule) strange(order [][]string, t record.Trial) string {
	if t.Block < 1 || t.Block > len(order) {
		return fmt.Sprintf("block is %d of %d", t.Block, len(order))
	}
	block, begun := todo.blocks[t.Block-1], order[t.Block-1]
	if t.Position < 1 || t.Position > len(begun) {
		return fmt.Sprintf("position is %d of %d", t.Position, len(begun))
	}
	slot := plan.Slot{Arm: begun[t.Position-1], Duplicate: t.Duplicate} // which of an arm's two is repeated, only the trial tells
	if t.Position <= len(block) {
		slot = block[t.Position-1]
	} else if !slices.Contains(block, slot) {
		return fmt.Sprintf("duplicate is %t, and block %d has no such place of %s to repeat", t.Duplicate, t.Block, slot.Arm)
	}
	return unlike(t, todo.spec(t.Block-1, t.Position-1, slot, askOf(&t)), todo.arms[slot.Arm])
}

// unlike says where a trial is not the one that was to be measured, or nothing.
func unlike(t record.Trial, want trial.Spec, arm contender.Arm) string {
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"id", t.ID, want.ID}, {"scenario", t.Scenario, want.Scenario}, {"operation", t.Operation, want.Operation}, {"load", t.Load, want.Load}, {"arm", t.Arm, arm.Name},
		{"contender", t.Contender, arm.Contender}, {"tier", t.Tier, string(arm.Tier)}, {"block", t.Block, want.Block}, {"position", t.Position, want.Position},
		{"duplicate", t.Duplicate, want.Duplicate}, {"seed", t.Seed, want.Seed}, {"duration_ns", t.DurationNS, int64(want.Duration)},
		{"rate_rps", t.RateRPS, want.RPS},
	} {
		if f.got != f.want {
			return fmt.Sprintf("%s is %v, and %v is expected there", f.name, f.got, f.want)
		}
	}
	return ""
}

// differences are what must not change between the parts of one run, in words.
func differences(old, now record.Run) []string {
	var out []string
	differ := func(what string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			out = append(out, fmt.Sprintf("%s was %s and is %s", what, orNothing(x), orNothing(y)))
		}
	}
	a, b := old.Environment, now.Environment
	differ("the engine", a.Engine, b.Engine)
	differ("the engine's version", a.EngineVersion, b.EngineVersion)
	differ("the processor", a.CPUModel, b.CPUModel)
	differ("the machine's CPUs", a.CPUs, b.CPUs)
	for _, role := range slices.Sorted(maps.Keys(a.Placement)) {
		differ("the placement of the "+role, a.Placement[role], b.Placement[role])
	}
	differ("whether CPUs are shared", a.CPUsShared, b.CPUsShared)
	differ("the architecture", a.Arch, b.Arch)
	differ("the kernel", a.Kernel, b.Kernel)
	differ("PostgreSQL", a.PostgreSQL+" ("+a.PostgreSQLSource+")", b.PostgreSQL+" ("+b.PostgreSQLSource+")")
	differ("PostgreSQL's settings", a.PostgreSQLSettings, b.PostgreSQLSettings) // maps are printed in the order of their keys
	differ("the data's size", a.DataSize, b.DataSize)
	differ("the data's digest", a.DataDigest, b.DataDigest)
	differ("the contract's digest", a.ContractDigest, b.ContractDigest)
	differ("the method's version", old.Method, now.Method)
	for _, name := range slices.Sorted(maps.Keys(a.Contenders)) {
		differ("what "+name+" says of its versions", compact(a.Contenders[name]), compact(b.Contenders[name]))
	}
	proofs := map[string]record.Conformity{}
	for _, proof := range now.Conformance {
		proofs[proof.Arm] = proof
	}
	for _, was := range old.Conformance {
		is := proofs[was.Arm]
		differ("the digest of "+was.Arm+" (sources, program, settings)", was.ServerDigest, is.ServerDigest)
		differ("whether "+was.Arm+" is conformant", was.Conformant, is.Conformant)
	}
	return out
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// compact is JSON without what a writer may set otherwise.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return string(raw)
	}
	return b.String()
}
