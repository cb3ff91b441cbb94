package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/conformance"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
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
	// repeats bounds how many processes are measured again, at their block's end, because the machine or the generator
	// spoilt a trial. Whether one is hangs on why a trial is void and on whether it still fits into the budget, never on a
	// figure.
	repeats    int
	budget     time.Duration // from the pilot on; 0: no bound
	pilotWarm  time.Duration
	pilot      time.Duration
	warm       trial.Warmth
	rate       time.Duration
	throughput time.Duration
	capacity   capacityTimes
	// scenario is the time of each scenario but the library, from its pilot on, from which the number of its blocks is
	// fixed; 0: no bound. all says that every scenario is measured where none is named.
	scenario time.Duration
	all      bool
}

// The number of blocks is fixed here, or by --margin, before anything is measured: eight is the least with which the
// exact test can reject over a family of six pairs (stats.MinPairs).
var profiles = []profile{
	{"smoke", "shows that everything works; its figures are no evidence", false, "small", conformance.Short, 1, 1, 0, 0,
		500 * time.Millisecond, 500 * time.Millisecond, trial.Warmth{Window: 250 * time.Millisecond, Most: time.Second}, 1500 * time.Millisecond, time.Second,
		capacityTimes{false, 200 * time.Millisecond, time.Second, 2 * time.Minute, time.Minute}, 0, false},
	{"quick", "a verdict in at most ten minutes", true, "standard", conformance.Full, 8, 4, 32, 10 * time.Minute,
		1500 * time.Millisecond, time.Second, trial.Warmth{Window: 500 * time.Millisecond, Most: 2500 * time.Millisecond}, 3500 * time.Millisecond, 2 * time.Second,
		capacityTimes{false, 500 * time.Millisecond, 3 * time.Second, 12 * time.Minute, 5 * time.Minute}, 9 * time.Minute, false},
	{"standard", "to be published", true, "standard", conformance.Full, 14, 6, 48, 0,
		2 * time.Second, 2 * time.Second, trial.Warmth{Window: 500 * time.Millisecond, Most: 6 * time.Second}, 10 * time.Second, 4 * time.Second,
		capacityTimes{true, time.Second, 6 * time.Second, 40 * time.Minute, 15 * time.Minute}, 0, false},
	{"nightly", "every scenario, in at most 90 minutes once the arms are proven", true, "standard", conformance.Full, 8, 3, 40, 9 * time.Minute,
		time.Second, 700 * time.Millisecond, trial.Warmth{Window: 400 * time.Millisecond, Most: 2 * time.Second}, 1500 * time.Millisecond, 1200 * time.Millisecond,
		capacityTimes{false, 500 * time.Millisecond, 3 * time.Second, 12 * time.Minute, 5 * time.Minute}, 3 * time.Minute, true},
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

// libraryScenario is the headline.
const libraryScenario = "library"

// compareOptions are the flags of compare.
type compareOptions struct {
	profile, scenario, contenders, engine string
	seed                                  uint64
	out, resume                           string
	margin, power                         float64 // percent
	capacity                              choice  // whether capacities are searched
	slo                                   string  // empty is capacity.Default
	allow, asJSON                         bool
}

func compareFlags() (*flag.FlagSet, *compareOptions) {
	f, o := newFlags("compare", "[--profile smoke|quick|standard|nightly] [flags]"), &compareOptions{}
	f.StringVar(&o.profile, "profile", "quick", "`NAME`: smoke, quick, standard or nightly")
	f.StringVar(&o.scenario, "scenario", "", "`ID,…` of contract/scenarios, or all (default: library; profile nightly: all)")
	f.StringVar(&o.contenders, "contender", "", "`ARM,…` instead of the scenario's arms")
	f.StringVar(&o.engine, "engine", "auto", "`NAME`: auto, docker or native")
	f.Uint64Var(&o.seed, "seed", 0, "`N` for the order and the arrivals (default: a new one, printed)")
	f.Float64Var(&o.margin, "margin", 0, "`PERCENT` of difference that the blocks are to find, as many as that takes (default: the profile's blocks)")
	f.Float64Var(&o.power, "power", 100*defaultPower, "`PERCENT` of comparisons in which they are to find it")
	f.Var(&o.capacity, "capacity", "after the blocks, search the highest rate at which each mainstream arm keeps the objective, and measure latency against rate (standard does; --capacity=false: not)")
	f.StringVar(&o.slo, "slo", capacity.Default.String(), "`PERCENTILE=DURATION`: the objective of --capacity, beside that no request fails; "+strings.Join(capacity.Percentiles(), ", "))
	f.StringVar(&o.out, "out", "", "`DIR` for the run's records (default results/local/DATE-PROFILE)")
	f.StringVar(&o.resume, "resume", "", "`DIR` of a run that was killed or interrupted: measure what it lacks, by its own plan")
	f.BoolVar(&o.allow, "allow-nonconformant", false, "measure arms that were not proven equal too, and mark each of their figures")
	f.BoolVar(&o.asJSON, "json", false, "print run.json instead of tables")
	return f, o
}

// check says what no run can be asked for.
func (o compareOptions) check() error {
	switch {
	case !(o.margin >= 0 && o.margin <= 1000):
		return fmt.Errorf("--margin %g: a percentage above 0 is expected, such as 5", o.margin)
	case !(o.power > 0 && o.power < 100):
		return fmt.Errorf("--power %g: a percentage between 0 and 100 is expected, such as 80", o.power)
	case o.margin == 0 && o.power != 100*defaultPower:
		return fmt.Errorf("--power %g: says how often --margin is to be found, and there is no --margin", o.power)
	}
	return o.checkCapacity()
}

// comparison is what one call of compare does, and with what.
type comparison struct {
	lab     *lab
	options compareOptions
	profile profile
	studies []*study
	arms    []contender.Arm // of all studies
	noise   pastNoise
	// earlier is what a run has left that is to be gone on with, or nil.
	earlier *record.Remains

	// The ways to the world, which tests play.
	openEngine func(ctx context.Context, name string, log func(string)) (engine.Engine, error)
	proofs     func(ctx context.Context, options conformance.Options, arms []contender.Arm) ([]conformance.Report, error)
	questions  func(ctx context.Context, database engine.Database, names ...string) ([]question, error)
	report     func(ctx context.Context, dir string, s streams) error
	spoilt     func(*record.Trial) bool
	try        func(context.Context, trial.Subject, trial.Spec) (record.Trial, []byte, error)
	staleness  func(context.Context, trial.Subject, trial.Spec) ([]record.Staleness, error)
}

func newComparison(l *lab, o compareOptions) (*comparison, error) {
	c := &comparison{lab: l, options: o, openEngine: l.engine, proofs: conformance.Prove, report: reportAfter, spoilt: trial.Spoilt, try: trial.Run, staleness: trial.Staleness}
	c.questions = l.questions
	var err error
	c.profile, err = profileNamed(o.profile)
	return c, err
}

func compareMain(ctx context.Context, args []string, s streams) int {
	cannot := func(err error) int { return fail(ctx, s, "compare", err) }
	f, o := compareFlags()
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	if _, err := profileNamed(o.profile); err != nil {
		return cannot(err)
	}
	if err := o.check(); err != nil {
		return cannot(err)
	}
	l, err := openLab()
	if err != nil {
		return cannot(err)
	}
	c, err := newComparison(l, *o)
	if err != nil {
		return cannot(err)
	}
	if o.resume == "" {
		if err := c.anew(); err != nil {
			return cannot(err)
		}
	}
	release, err := engine.Lock(os.Args)
	if err != nil {
		return cannot(err)
	}
	defer release()
	began := time.Now().UTC()
	var folder record.Folder
	if o.resume != "" {
		folder, err = c.recall(f)
	} else {
		if c.options.out == "" {
			c.options.out = localRun(l.root, began, c.profile.name)
		}
		if folder, err = record.Create(c.options.out); err != nil {
			err = fmt.Errorf("--out: %w", err)
		}
	}
	if err != nil {
		return cannot(err)
	}
	defer folder.RemoveUnused()
	return c.run(ctx, folder, began, s)
}

// anew settles what a new run is asked for.
func (c *comparison) anew() (err error) {
	if err = c.choose(); err != nil {
		return err
	}
	if !c.studies[0].headline() {
		switch {
		case c.options.margin > 0:
			return fmt.Errorf("--margin %g: is of the scenario %s, which is not measured", c.options.margin, libraryScenario)
		case c.options.capacity.yes || c.options.slo != "" && c.options.slo != capacity.Default.String():
			return fmt.Errorf("--capacity, --slo: capacities are searched of the arms of the scenario %s, which is not measured", libraryScenario)
		}
	}
	if c.options.seed == 0 {
		c.options.seed = 1 + rand.Uint64N(1<<32)
	}
	if c.options.out != "" {
		if err := record.CheckFree(c.options.out); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	return nil
}

// run measures into a folder, and says what came of it.
func (c *comparison) run(ctx context.Context, folder record.Folder, began time.Time, s streams) int {
	session := &session{lab: c.lab, folder: folder, progress: newProgress(s.Err), nonconformant: map[string]bool{}, interrupts: interruptsOf(ctx), try: c.try, staleness: c.staleness, pilots: map[string]piloted{}, ceilings: map[string]*float64{}}
	if err := chart.Ready(); err != nil {
		session.progress.say("there will be records, but no report: %v", err)
	}
	session.run = record.Run{
		Format: record.Format, Method: record.Method, ID: filepath.Base(folder.Path()), Profile: c.profile.name, Evidence: c.profile.evidence, Seed: c.options.seed, Began: began,
	}
	var err error
	tell := func(line string) { session.progress.say("%s", line) }
	if session.engine, err = c.openEngine(ctx, c.options.engine, tell); err != nil {
		return fail(ctx, s, "compare", err)
	}
	defer closeEngine(session.engine, s)
	// What auto took is named, so that the command repeats the run on a machine where it would take another.
	session.run.Command = c.repeat(session.engine.Name())

	if c.noise = publishedNoise(c.lab.root, session.engine.Name(), libraryScenario, tell); c.earlier == nil {
		if c.options.margin > 0 {
			if err := c.blocksForMargin(c.noise); err != nil {
				return fail(ctx, s, "compare", err)
			}
		}
	}
	if err := c.settle(ctx, session.engine, tell); err != nil {
		return fail(ctx, s, "compare", err)
	}
	if err := session.prove(ctx, c); err != nil {
		if errors.Is(err, errNotConformant) {
			fmt.Fprintf(s.Err, "loadtest compare: %v\n", err)
			return exitNo
		}
		return fail(ctx, s, "compare", err)
	}
	err = session.compare(ctx, c)
	session.progress.end()
	if session.begun {
		err = session.conclude(ctx, c, err, s)
	}
	if err != nil {
		return fail(ctx, s, "compare", err)
	}
	return exitOK
}

// conclude puts on disk what a run came to, whatever ended it, tells it, and adds to that error.
func (s *session) conclude(ctx context.Context, c *comparison, err error, out streams) error {
	// Interrupted or not, what there is becomes a report; a further signal ends the program.
	ctx = context.WithoutCancel(ctx)
	dir := s.folder.Path()
	s.run.Verdicts = claims.Of(s.run)
	written := s.put(err, out)
	lacks := err != nil || written != nil
	closeEngine(s.engine, out) // a report takes its time, and whoever interrupts may insist
	if len(s.run.Trials) > 0 || c.options.asJSON {
		s.print(out, c.options.asJSON)
	}
	fmt.Fprintf(out.Err, "records: %s\n", dir)
	if written == nil {
		if written = c.report(ctx, dir, out); written != nil && err != nil {
			fmt.Fprintln(out.Err, written) // of an interrupted run nobody shows the error
		}
	}
	if lacks {
		fmt.Fprintf(out.Err, "what it lacks is measured by: loadtest compare --resume %s\n", dir)
	}
	return errors.Join(err, written)
}

// repeat is the command that repeats the run.
func (c *comparison) repeat(engineName string) []string {
	o := c.options
	words := []string{"loadtest", "compare", "--profile", c.profile.name, "--engine", engineName, "--seed", fmt.Sprint(o.seed)}
	if scenario := c.chosen(); o.scenario != "" || scenario != libraryScenario {
		words = append(words, "--scenario", scenario)
	}
	if o.contenders != "" {
		words = append(words, "--contender", o.contenders)
	}
	if o.margin > 0 {
		words = append(words, "--margin", fmt.Sprint(o.margin), "--power", fmt.Sprint(o.power))
	}
	if len(c.studies) > 0 && c.studies[0].headline() {
		words = append(words, o.capacityWords(c.profile)...)
	}
	if o.allow {
		words = append(words, "--allow-nonconformant")
	}
	return words
}

var errNotConformant = errors.New("not conformant, so nothing was measured (--allow-nonconformant measures and marks)")

// formsOf gives, one form after the other, the arms to be proven in it. Of arms of the same code the first is proven in the
// form that is asked for; of the others it is enough to see that they answer and read as it does.
func formsOf(form conformance.Form, arms []contender.Arm) iter.Seq2[conformance.Form, []contender.Arm] {
	return func(yield func(conformance.Form, []contender.Arm) bool) {
		var first, others []contender.Arm
		for _, arm := range arms {
			if form == conformance.Full && slices.ContainsFunc(first, arm.SameCode) {
				others = append(others, arm)
			} else {
				first = append(first, arm)
			}
		}
		if yield(form, first) && len(others) > 0 {
			yield(conformance.Short, others)
		}
	}
}

// prove checks the arms against the contract before anything is timed.
func (s *session) prove(ctx context.Context, c *comparison) error {
	var reports []conformance.Report
	for form, arms := range formsOf(c.profile.form, c.arms) {
		made, err := c.proofs(ctx, conformance.Options{
			Contract: s.lab.contract, Engine: s.engine, Root: s.lab.root, Form: form, Seed: s.run.Seed, CacheDir: cacheDir(), AtOnce: provenAtOnce(),
			Log: func(line string) { s.progress.say("%s", line) },
		}, arms)
		if err != nil {
			return fmt.Errorf("conformance: %w", err)
		}
		reports = append(reports, made...)
	}
	deviations := map[string][]string{}
	for _, arm := range c.arms {
		for _, d := range arm.Deviations {
			deviations[arm.Name] = append(deviations[arm.Name], fmt.Sprintf("%s: %s (%s)", d.ID, d.Rule, d.Upstream))
		}
	}
	var bad []string
	for _, r := range reports {
		of := record.Conformity{
			Arm: r.Arm, Conformant: r.Conformant, Form: string(r.Form), Digest: r.Digest, ServerDigest: r.ServerDigest, Findings: []string{}, Deviations: deviations[r.Arm],
		}
		for _, finding := range r.Findings {
			of.Findings = append(of.Findings, finding.String())
		}
		s.run.Conformance = append(s.run.Conformance, of)
		if !r.Conformant {
			bad = append(bad, r.Arm)
			s.nonconformant[r.Arm] = true
			for i, line := range of.Findings {
				if i == 5 {
					s.progress.say("%s: and %d more", r.Arm, len(of.Findings)-i)
					break
				}
				s.progress.say("%s: %s", r.Arm, line)
			}
		}
	}
	if len(bad) > 0 && !c.options.allow {
		return fmt.Errorf("%s: %w", strings.Join(bad, ", "), errNotConformant)
	}
	return nil
}

// nightMost is how long the scenarios of a night may take in all, from the first pilot on.
const nightMost = 90 * time.Minute

// compare measures the scenarios one after the other.
func (s *session) compare(ctx context.Context, c *comparison) error {
	if err := s.open(ctx, c.profile.size, c.arms); err != nil {
		return err
	}
	var todos map[string]*schedule
	if c.earlier != nil {
		var err error
		if todos, err = s.takeUp(c); err != nil {
			return err
		}
	}
	var refused []error
	measurable, began := 0, time.Now()
	for i, st := range c.studies {
		if i > 0 && s.interrupts.wanted() {
			return errInterrupted
		}
		if len(c.studies) > 1 || !st.headline() {
			s.progress.end()
			s.progress.say("%s", scenarioWords(st))
		}
		if todos[st.ID] == nil { // a run that is gone on with may have entered it without one
			st.leave(&s.run)
		}
		if len(st.arms) == 0 { // its record says of each arm why
			st.enter(&s.run, nil)
			if err := s.begin(); err != nil {
				return err
			}
			continue
		}
		measurable++
		err := s.study(ctx, c, st, todos[st.ID])
		if errors.Is(err, errRefused) && !ofParts(err) && len(c.studies) > 1 { // the others can be measured
			s.progress.say("%v", err)
			s.warn("%s.", capital(err.Error()))
			refused = append(refused, err)
			continue
		}
		if err != nil {
			return err
		}
		s.run.Warnings = slices.DeleteFunc(slices.Clone(s.run.Warnings), func(line string) bool { return strings.HasPrefix(line, capital(st.refusal())) })
	}
	if len(refused) > 0 && len(refused) == measurable {
		return errors.Join(refused...)
	}
	if took := time.Since(began); c.profile.all && took > nightMost {
		s.warn("Measuring took %.0f minutes, and a night is to take %.0f at most.", took.Minutes(), nightMost.Minutes())
	}
	return nil
}

// plan finds what each arm bears and fixes what will be measured.
func (s *session) plan(ctx context.Context, c *comparison, st *study, q question, mixed []weighted) (*schedule, error) {
	p := st.profile
	began := time.Now()
	largest := q
	for _, x := range mixed {
		if len(x.expected) > len(largest.expected) {
			largest = x.question
		}
	}
	ceiling, known := s.ceilings[largest.name]
	if !known {
		var err error
		if ceiling, err = s.findCeiling(ctx, largest, p.capacity.ceiling); err != nil {
			return nil, err
		}
		s.ceilings[largest.name] = ceiling
	}
	st.enter(&s.run, ceiling)
	plan := st.plan(&s.run)
	s.progress.start(len(st.arms))
	weakest, around := record.PilotOutcome{CapacityRPS: math.Inf(1)}, time.Duration(0)
	for i, arm := range st.arms {
		s.progress.step("pilot of %s", arm.Name)
		spec := trial.Spec{ClientDelay: st.clientDelay()}
		if i == 0 && spec.ClientDelay > 0 {
			spec.ClientProbes = overheadRoundTrips
		}
		key := st.pilotKey(arm)
		pilot, known := s.pilots[key]
		if !known || spec.ClientProbes > 0 {
			var overhead *record.FaultOverhead
			var err error
			if pilot, overhead, err = s.pilot(ctx, arm, q, mixed, spec, p.pilotWarm, p.pilot); err != nil {
				return nil, err
			}
			s.pilots[key] = pilot
			if overhead != nil {
				if err := st.delayed(*overhead); err != nil {
					return nil, err
				}
				if x := s.run.ScenarioNamed(st.ID); x != nil {
					x.FaultOverhead = append(x.FaultOverhead, *overhead)
				}
			}
		}
		around += pilot.around / time.Duration(len(st.arms))
		outcome := record.PilotOutcome{Arm: arm.Name, CapacityRPS: pilot.rps}
		if pilot.rps < weakest.CapacityRPS {
			weakest = outcome
		}
		plan.Pilot = append(plan.Pilot, outcome)
	}
	s.progress.end()
	if err := c.withinBudget(st, time.Since(began), around); err != nil {
		return nil, err
	}
	plan.RateRPS = roundDown(cmp.Or(st.Share, rateShare) * weakest.CapacityRPS)
	if st.OwnShare > 0 {
		plan.RateRPS = ownRate(st.OwnShare, weakest.CapacityRPS) // the least of all, by which percentiles are planned
	}
	if st.RateRPS > 0 {
		plan.RateRPS = st.RateRPS
		if st.RateRPS > weakest.CapacityRPS {
			s.warn("Scenario %s asks for %.0f requests a second, and in the pilot %s bore %.0f.", st.ID, st.RateRPS, weakest.Arm, weakest.CapacityRPS)
		}
	}
	st.lengthen(plan.RateRPS)
	st.fit(time.Since(began), around)
	p = st.profile
	plan.Blocks, plan.FloorBlocks = p.blocks, p.floorBlocks
	plan.WarmMostNS, plan.RateDurationNS, plan.ThroughputDurationNS = int64(p.warm.Most), int64(p.rate), int64(p.throughput)
	todo, err := c.schedule(st, s.run, q)
	if err != nil {
		return nil, err
	}
	todo.began, todo.mixed = began, mixed
	plan.Order = todo.order()
	rate := fmt.Sprintf("%.0f requests a second for all", plan.RateRPS)
	if st.OwnShare > 0 {
		rate = fmt.Sprintf("%.0f %% of what arms bear, at least %.0f requests a second", 100*st.OwnShare, plan.RateRPS)
	}
	s.progress.say("seed %d, %d blocks, %s, %s over the wire", s.run.Seed, p.blocks, rate, strings.ToUpper(q.name))
	return todo, s.foretell(c, st)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

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
