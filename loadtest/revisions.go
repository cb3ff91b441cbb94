package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/diff"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/revision"
	"lab/loadtest/internal/stats"
)

// revisions is one contender at two revisions, to be measured in the same blocks.
type revisions struct {
	base, head string
	arm        string
	engine     string
	blocks     int
	seed       uint64
	out        string
	confirm    bool
	allow      bool
}

// lockMachine is replaced by tests that measure nothing.
var lockMachine = engine.Lock

// revisionBlocks is the number of blocks unless another is asked for: the least that published comparisons should have.
const revisionBlocks = 10

// check names what cannot be, before anything is checked out or built.
func (o revisions) check(l *lab) error {
	switch least := stats.MinPairs(0.05, 1); {
	case o.base == "" || o.head == "":
		return errors.New("--base and --head belong together")
	case o.arm == "":
		return errors.New("--base and --head need --contender ARM")
	case o.blocks < least || o.blocks > stats.MaxPairs:
		return fmt.Errorf("--blocks %d: from %d, with which the exact test can decide, to %d", o.blocks, least, stats.MaxPairs)
	}
	if !slices.Contains([]string{"auto", "native", "docker"}, o.engine) {
		return fmt.Errorf("--engine %q: expected auto, docker or native", o.engine)
	}
	arm, err := contender.Resolve(l.contenders, o.arm)
	if err != nil {
		return err
	}
	return notFloor(arm)
}

// notFloor: a floor has no A/A arm in a plan, so nobody would know what identical ones differ by.
func notFloor(arm contender.Arm) error {
	if arm.Tier == contender.TierFloor {
		return fmt.Errorf("--contender %s: a floor is measured beside others and has no A/A arm; name an arm of another tier", arm.Name)
	}
	return nil
}

// compare checks out both revisions, builds the contender in each, and measures them interleaved; twice where the first
// run finds a regression that is to be confirmed. Everything it made but the records is removed again.
func (o revisions) compare(ctx context.Context, l *lab, s streams) (result *diff.Interleaved, err error) {
	trees, err := revision.Open(ctx, l.root)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, trees.Close()) }()
	progress := newProgress(s.Err)
	// Both are looked up before either is checked out.
	for _, side := range [][2]string{{"--base", o.base}, {"--head", o.head}} {
		if _, err := trees.Resolve(ctx, side[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", side[0], err)
		}
	}
	var arms []contender.Arm
	var at []revision.Tree
	for _, side := range []struct{ name, ref, suffix string }{{"base", o.base, claims.AtBase}, {"head", o.head, claims.AtHead}} {
		tree, err := trees.Checkout(ctx, side.name, side.ref)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", side.name, err)
		}
		arm, err := armAt(l, tree, o.arm)
		if err != nil {
			return nil, fmt.Errorf("--%s %s: %w", side.name, side.ref, err)
		}
		arm.Name, arm.Contender = arm.Name+side.suffix, arm.Contender+side.suffix
		arms, at = append(arms, arm), append(at, tree)
	}
	result = &diff.Interleaved{
		Base: diff.Revision{Ref: o.base, Commit: at[0].Commit}, Head: diff.Revision{Ref: o.head, Commit: at[1].Commit}, Arm: o.arm, Confirm: o.confirm,
	}
	// A build would disturb whoever measures, too.
	release, err := lockMachine(os.Args)
	if err != nil {
		return nil, err
	}
	defer release()
	built := map[string]bool{}
	began := time.Now().UTC()
	if o.out == "" {
		o.out = localRun(l.root, began, record.ProfileRevisions)
	}
	for {
		out, seed := o.out, o.seed
		if len(result.Runs) > 0 {
			// Another order and other arrivals: a second run that repeats the first would confirm its chance.
			out, seed = o.out+"-confirm", rand.New(rand.NewPCG(o.seed, 0xc0f)).Uint64N(1<<32)+1
			progress.say("a regression of %s; a second run is to confirm it", result.Runs[0].Reason)
		}
		run, err := o.measure(ctx, l, arms, at, out, seed, built, s)
		if err != nil {
			return result, err
		}
		result.Engine = run.Environment.Engine
		if err := result.Add(run); err != nil {
			return result, err
		}
		if !result.NeedsConfirmation() {
			return result, nil
		}
	}
}

// armAt is an arm as a revision has it. Answers can be compared only where both revisions serve what this lab's contract
// asks.
func armAt(l *lab, tree revision.Tree, name string) (contender.Arm, error) {
	contenders, err := contender.Load(tree.Dir)
	if err != nil {
		return contender.Arm{}, err
	}
	contender.TakeSettings(contenders, l.contenders)
	arm, err := contender.Resolve(contenders, name)
	if err != nil {
		return arm, err
	}
	if err := notFloor(arm); err != nil {
		return arm, err
	}
	c, err := contract.Load(filepath.Join(tree.Dir, "contract"))
	if err != nil {
		return arm, fmt.Errorf("the contract: %w", err)
	}
	for _, part := range []string{"schema.graphql", "limits.json", "errors.json", "sql", "operations"} {
		if c.PartDigests[part] != l.contract.PartDigests[part] {
			return arm, fmt.Errorf("its contract/%s is another than this working tree's, so its answers %w", part, diff.ErrNotComparable)
		}
	}
	return arm, nil
}

// measure makes one run. It is a comparison like any other, of two arms, with its records and report.
func (o revisions) measure(ctx context.Context, l *lab, arms []contender.Arm, at []revision.Tree, out string, seed uint64, built map[string]bool, s streams) (run record.Run, err error) {
	p, err := profileNamed("quick")
	if err != nil {
		return run, err
	}
	p.name, p.about, p.blocks, p.floorBlocks, p.budget = record.ProfileRevisions, "one contender at two revisions", o.blocks, o.blocks, 0
	p.throughput = time.Second // the decision is about CPU per request at the common rate
	folder, err := record.Create(out)
	if err != nil {
		return run, fmt.Errorf("--out: %w", err)
	}
	defer folder.RemoveUnused()
	m := &session{lab: l, folder: folder, progress: newProgress(s.Err), nonconformant: map[string]bool{}, interrupts: interruptsOf(ctx)}
	m.run = record.Run{
		Format: record.Format, Method: record.Method, ID: filepath.Base(out), Profile: p.name, Evidence: p.evidence, Seed: seed, Began: time.Now().UTC(),
	}
	if m.engine, err = l.engine(ctx, o.engine, func(line string) { m.progress.say("%s", line) }); err != nil {
		return run, err
	}
	defer closeEngine(m.engine, s)
	if m.engine.Name() == "native" { // an engine of containers builds images of the sources
		for i, arm := range arms {
			if built[arm.Root] {
				continue
			}
			m.progress.say("building %s (%.12s) …", arm.Name, at[i].Commit)
			if err := at[i].Build(ctx, arm.Build, func(line string) { m.progress.say("%s: %s", arm.Name, line) }); err != nil {
				return run, err
			}
			built[arm.Root] = true
		}
	}
	m.run.Command = []string{"loadtest", "diff", "--base", at[0].Commit, "--head", at[1].Commit, "--contender", o.arm, "--engine", m.engine.Name(), "--blocks", fmt.Sprint(o.blocks), "--seed", fmt.Sprint(seed)}
	for i, arm := range arms {
		m.warn("%s is commit %s.", arm.Name, at[i].Commit)
	}
	c, err := newComparison(l, compareOptions{profile: "quick", contenders: o.arm, engine: o.engine, seed: seed, power: 100 * defaultPower, allow: o.allow})
	if err != nil {
		return run, err
	}
	st, err := l.library(arms, p)
	if err != nil {
		return run, err
	}
	c.profile, c.studies, c.arms = p, []*study{st}, arms
	c.noise = publishedNoise(l.root, m.engine.Name(), libraryScenario, func(line string) { m.progress.say("%s", line) })
	if err := m.prove(ctx, c); err != nil {
		return run, err
	}
	err = m.compare(ctx, c)
	m.progress.end()
	if len(m.run.Trials) > 0 {
		m.run.Verdicts = claims.Of(m.run)
		for i, arm := range arms {
			m.run.Environment.Contenders[arm.Contender] = withRevision(m.run.Environment.Contenders[arm.Contender], at[i].Commit)
		}
		err = m.finish(err, s)
		fmt.Fprintf(s.Err, "records: %s\n", folder.Path())
		if err == nil {
			err = reportAfter(ctx, folder.Path(), s)
		}
	}
	return m.run, err
}

// withRevision adds the commit to what a contender's program says of itself.
func withRevision(version json.RawMessage, commit string) json.RawMessage {
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(version, &fields) != nil {
		return version
	}
	fields["revision"], _ = json.Marshal(commit)
	b, err := json.Marshal(fields)
	if err != nil {
		return version
	}
	return b
}
