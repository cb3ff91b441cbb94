package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/conformance"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trial"
)

// profile says how much is measured.
type profile struct {
	name        string
	about       string
	evidence    bool
	size        string
	form        conformance.Form
	blocks      int
	floorBlocks int
	// spares are blocks measured at the end where void trials left a pair of arms with fewer blocks than planned. Whether
	// one is measured hangs on what is void and on whether it still fits into the budget, never on a figure.
	spares     int
	budget     time.Duration // from the pilot on; 0: no bound
	pilotWarm  time.Duration
	pilot      time.Duration
	warm       time.Duration
	rate       time.Duration
	throughput time.Duration
}

// The number of blocks is fixed here, before anything is measured: eight is the least with which the exact test can
// reject over a family of six pairs (stats.MinPairs).
var profiles = []profile{
	{"smoke", "shows that everything works; its figures are no evidence", false, "small", conformance.Short, 1, 1, 0, 0,
		500 * time.Millisecond, 500 * time.Millisecond, 800 * time.Millisecond, 1500 * time.Millisecond, time.Second},
	{"quick", "a verdict in at most ten minutes", true, "standard", conformance.Full, 8, 4, 2, 10 * time.Minute,
		1500 * time.Millisecond, time.Second, 2 * time.Second, 3500 * time.Millisecond, 2 * time.Second},
	{"standard", "to be published", true, "standard", conformance.Full, 14, 6, 3, 0,
		2 * time.Second, 2 * time.Second, 4 * time.Second, 10 * time.Second, 4 * time.Second},
	{"nightly", "as standard, for a machine that has the night", true, "standard", conformance.Full, 16, 8, 4, 0,
		2 * time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, 5 * time.Second},
}

func profileNamed(name string) (profile, error) {
	var names []string
	for _, p := range profiles {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return profile{}, fmt.Errorf("--profile %q: expected %s", name, strings.Join(names, ", "))
}

const (
	libraryScenario = "library"
	libraryQuestion = "q2"
)

var libraryArms = []string{"go", "node", "rust", "node-compiled", "go-floor", "node-floor", "rust-floor"}

func compareMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("compare", "[--profile smoke|quick|standard|nightly] [flags]")
	profileName := f.String("profile", "quick", "`NAME`: smoke, quick, standard or nightly")
	scenario := f.String("scenario", "", "`ID,…` of contract/scenarios (default all that are built: library)")
	contenders := f.String("contender", "", "`ARM,…` instead of the scenario's arms")
	engineName := f.String("engine", "auto", "`NAME`: auto, docker or native")
	seed := f.Uint64("seed", 0, "`N` for the order and the arrivals (default: a new one, printed)")
	out := f.String("out", "", "`DIR` for the run's records (default results/local/DATE-PROFILE)")
	allow := f.Bool("allow-nonconformant", false, "measure arms that were not proven equal too, and mark each of their figures")
	asJSON := f.Bool("json", false, "print run.json instead of tables")
	capacities := capacityFlags(f)
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	p, err := profileNamed(*profileName)
	if err != nil {
		return fail(ctx, s, "compare", err)
	}
	searched, searchedBy, err := capacities(p.name)
	if err != nil {
		return fail(ctx, s, "compare", err)
	}
	if *scenario != "" && *scenario != libraryScenario {
		return fail(ctx, s, "compare", fmt.Errorf("--scenario %q: built so far: %s", *scenario, libraryScenario))
	}
	l, err := openLab()
	if err != nil {
		return fail(ctx, s, "compare", err)
	}
	arms, err := l.arms(*contenders, libraryArms)
	if err != nil {
		return fail(ctx, s, "compare", err)
	}
	if *seed == 0 {
		*seed = 1 + rand.Uint64N(1<<32)
	}
	if *out != "" {
		if err := record.CheckFree(*out); err != nil {
			return fail(ctx, s, "compare", fmt.Errorf("--out: %w", err))
		}
	}
	release, err := engine.Lock(os.Args)
	if err != nil {
		return fail(ctx, s, "compare", err)
	}
	defer release()
	began := time.Now().UTC()
	if *out == "" {
		*out = localRun(l.root, began, p.name)
	}
	folder, err := record.Create(*out)
	if err != nil {
		return fail(ctx, s, "compare", fmt.Errorf("--out: %w", err))
	}
	defer folder.RemoveUnused()
	session := &session{lab: l, folder: folder, progress: newProgress(s.Err), nonconformant: map[string]bool{}, capacity: searched}
	if err := chart.Ready(); err != nil {
		session.progress.say("there will be records, but no report: %v", err)
	}
	session.run = record.Run{
		Format: record.Format, Method: record.Method, ID: filepath.Base(*out), Profile: p.name, Evidence: p.evidence, Seed: *seed, Began: began,
	}
	if session.engine, err = l.engine(ctx, *engineName, func(line string) { session.progress.say("%s", line) }); err != nil {
		return fail(ctx, s, "compare", err)
	}
	defer closeEngine(session.engine, s)
	// What auto took is named, so that the command repeats the run on a machine where it would take another.
	session.run.Command = repeatCommand(p.name, *scenario, *contenders, session.engine.Name(), *seed, *allow)
	session.run.Command = append(session.run.Command, searchedBy...)

	if arms, err = session.prove(ctx, p, arms, *allow); err != nil {
		if errors.Is(err, errNotConformant) {
			fmt.Fprintf(s.Err, "loadtest compare: %v\n", err)
			return exitNo
		}
		return fail(ctx, s, "compare", err)
	}
	err = session.compare(ctx, p, arms)
	session.progress.end()
	if len(session.run.Trials) > 0 {
		session.run.Verdicts = claims.Library(session.run.Trials)
		err = session.finish(err, s)
		session.print(s, *asJSON)
		fmt.Fprintf(s.Err, "records: %s\n", folder.Path())
		if err == nil {
			err = reportAfter(ctx, folder.Path(), s)
		}
	}
	if err != nil {
		return fail(ctx, s, "compare", err)
	}
	return exitOK
}

func repeatCommand(profile, scenario, contenders, engineName string, seed uint64, allow bool) []string {
	c := []string{"loadtest", "compare", "--profile", profile, "--engine", engineName, "--seed", fmt.Sprint(seed)}
	if scenario != "" {
		c = append(c, "--scenario", scenario)
	}
	if contenders != "" {
		c = append(c, "--contender", contenders)
	}
	if allow {
		c = append(c, "--allow-nonconformant")
	}
	return c
}

var errNotConformant = errors.New("not conformant, so nothing was measured (--allow-nonconformant measures and marks)")

// prove checks the arms against the contract before anything is timed.
func (s *session) prove(ctx context.Context, p profile, arms []contender.Arm, allow bool) ([]contender.Arm, error) {
	reports, err := conformance.Prove(ctx, conformance.Options{
		Contract: s.lab.contract, Engine: s.engine, Root: s.lab.root, Form: p.form, Seed: s.run.Seed, CacheDir: cacheDir(),
		Log: func(line string) { s.progress.say("%s", line) },
	}, arms)
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	deviations := map[string][]string{}
	for _, arm := range arms {
		for _, d := range arm.Deviations {
			deviations[arm.Name] = append(deviations[arm.Name], fmt.Sprintf("%s: %s (%s)", d.ID, d.Rule, d.Upstream))
		}
	}
	var bad []string
	for _, r := range reports {
		c := record.Conformity{Arm: r.Arm, Conformant: r.Conformant, Form: string(r.Form), Digest: r.Digest, Findings: []string{}, Deviations: deviations[r.Arm]}
		for _, finding := range r.Findings {
			c.Findings = append(c.Findings, finding.String())
		}
		s.run.Conformance = append(s.run.Conformance, c)
		if !r.Conformant {
			bad = append(bad, r.Arm)
			s.nonconformant[r.Arm] = true
			for i, line := range c.Findings {
				if i == 5 {
					s.progress.say("%s: and %d more", r.Arm, len(c.Findings)-i)
					break
				}
				s.progress.say("%s: %s", r.Arm, line)
			}
		}
	}
	if len(bad) > 0 && !allow {
		return nil, fmt.Errorf("%s: %w", strings.Join(bad, ", "), errNotConformant)
	}
	return arms, nil
}

// compare measures the library scenario: pilot, plan, blocks.
func (s *session) compare(ctx context.Context, p profile, arms []contender.Arm) error {
	if err := s.open(ctx, p.size, arms); err != nil {
		return err
	}
	questions, err := s.lab.questions(ctx, s.database, libraryQuestion)
	if err != nil {
		return err
	}
	q := questions[0]

	began := time.Now()
	if err := s.findCeiling(ctx, q, s.capacity.times.ceiling); err != nil {
		return err
	}
	s.progress.start(len(arms))
	capacity := map[string]float64{}
	weakest := math.Inf(1)
	for _, arm := range arms {
		s.progress.step("pilot of %s", arm.Name)
		if capacity[arm.Name], err = s.pilot(ctx, arm, q, p.pilotWarm, p.pilot); err != nil {
			return err
		}
		weakest = min(weakest, capacity[arm.Name])
		s.run.Plan.Pilot = append(s.run.Plan.Pilot, record.PilotOutcome{Arm: arm.Name, CapacityRPS: capacity[arm.Name]})
	}
	rate := roundDown(rateShare * weakest)

	var planned []plan.Arm
	for _, arm := range arms {
		a := plan.Arm{Name: arm.Name, Blocks: p.blocks, Double: true}
		if arm.Tier == contender.TierFloor {
			a.Blocks, a.Double = p.floorBlocks, false
		}
		planned = append(planned, a)
	}
	// Floors have no part in spare blocks, which come after theirs.
	blocks, err := plan.Blocks(planned, p.blocks+p.spares, s.run.Seed)
	if err != nil {
		return err
	}
	blocks, spares := blocks[:p.blocks], blocks[p.blocks:]
	s.run.Plan.Blocks, s.run.Plan.FloorBlocks, s.run.Plan.RateRPS, s.run.Plan.Order = p.blocks, p.floorBlocks, rate, plan.Names(blocks)
	byName := map[string]contender.Arm{}
	for _, arm := range arms {
		byName[arm.Name] = arm
	}
	total := 0
	for _, b := range blocks {
		total += len(b)
	}
	s.progress.end()
	s.progress.say("seed %d, %d blocks, %.0f requests a second for all, %s over the wire", s.run.Seed, p.blocks, rate, strings.ToUpper(q.name))
	s.progress.start(total)
	measure := func(b int, block []plan.Slot) error {
		for i, slot := range block {
			s.progress.step("block %d of %d: %s", b+1, len(s.run.Plan.Order), slot.Arm)
			arm := byName[slot.Arm]
			err := s.with(ctx, arm, q, func(subject trial.Subject) error {
				spec := trial.Spec{
					Scenario: libraryScenario, Operation: q.name, Body: q.body(arm.Tier, s.run.Seed), Expected: q.expected,
					Block: b + 1, Position: i + 1, Duplicate: slot.Duplicate, Seed: s.seedOf(b, i), Timeout: requestTimeout,
					MaxInFlight: pilotConnections,
				}
				if _, err := trial.WarmUp(ctx, subject, spec, p.warm); err != nil {
					return err
				}
				spec.ID = trialID(libraryScenario, q.name, record.LoadRate, b, i, arm.Name, slot.Duplicate)
				spec.Load, spec.RPS, spec.Duration, spec.MaxInFlight = record.LoadRate, rate, p.rate, rateMaxInFlight
				if _, err := s.measure(ctx, subject, spec); err != nil {
					return err
				}
				spec.ID = trialID(libraryScenario, q.name, record.LoadThroughput, b, i, arm.Name, slot.Duplicate)
				spec.Load, spec.RPS, spec.Duration, spec.MaxInFlight = record.LoadThroughput, overload*capacity[arm.Name], p.throughput, throughputMaxInFlight
				_, err := s.measure(ctx, subject, spec)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	blocksBegan := time.Now()
	for b, block := range blocks {
		if err := measure(b, block); err != nil {
			return err
		}
	}
	each := time.Since(blocksBegan) / time.Duration(max(1, total))
	for k, block := range spares {
		if claims.LeastBlocks(s.run.Trials) >= p.blocks {
			break
		}
		if p.budget > 0 && time.Since(began)+each*time.Duration(len(block)) > p.budget {
			s.warn("Void trials left a pair of arms with fewer than %d blocks, and another block would have taken longer than the %v that this profile may take.", p.blocks, p.budget)
			break
		}
		s.progress.say("a spare block: void trials left a pair of arms with fewer than %d blocks", p.blocks)
		s.progress.start(len(block))
		s.run.Plan.SpareBlocks++
		s.run.Plan.Order = append(s.run.Plan.Order, plan.Names([][]plan.Slot{block})...)
		if err := measure(p.blocks+k, block); err != nil {
			return err
		}
	}
	if n := s.run.Plan.SpareBlocks; n > 0 {
		s.warn("Void trials left a pair of arms with fewer than %d blocks; measured at the end for that: %s.", p.blocks, summary.Plural(n, "spare block"))
	}
	return s.searchCapacities(ctx, p, arms, q, capacity)
}

// roundDown keeps two significant digits, so that a rate is a number one can say.
func roundDown(x float64) float64 {
	if x <= 0 || math.IsInf(x, 0) {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-1)
	return max(1, math.Floor(x/unit)*unit)
}

func (s *session) print(out streams, asJSON bool) {
	if asJSON {
		e := json.NewEncoder(out.Out)
		e.SetEscapeHTML(false)
		_ = e.Encode(s.run)
		return
	}
	fmt.Fprint(out.Out, summary.Text(s.run))
}
