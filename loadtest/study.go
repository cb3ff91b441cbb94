package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trial"
)

// study is a scenario as one run measures it.
type study struct {
	contract.Scenario
	arms []contender.Arm
	// profile is the run's, with the number of blocks that this scenario gets.
	profile profile
	// absent are the arms of the scenario that cannot be tested here, each with the reason.
	absent map[string]string
	// leastRate is how long a trial at the common rate must take for its requests to carry what decides; 0: it is not known.
	leastRate time.Duration
	// budget is how long it may take, from its pilot on; 0: no bound.
	budget time.Duration
}

// library is the scenario library over other arms.
func (l *lab) library(arms []contender.Arm, p profile) (*study, error) {
	scenarios, err := contract.Named(l.scenarios, libraryScenario)
	if err != nil {
		return nil, err
	}
	return &study{Scenario: scenarios[0], arms: arms, profile: p}, nil
}

// headline tells the scenario library, whose plan is the run's own and whose arms' capacities are searched, from the others.
func (st *study) headline() bool { return st.ID == libraryScenario }

// loads are the kinds of trial of one process.
func (st *study) loads() []record.Load {
	var out []record.Load
	for _, load := range st.Load {
		out = append(out, record.Load(load))
	}
	return out
}

// ask is one trial that a process is asked for: a kind of load, and of a closed loop its number of connections.
type ask struct {
	load        record.Load
	connections int
}

func askOf(t *record.Trial) ask { return ask{t.Load, t.Connections} }

// asks are what one process is asked, one trial after the other: first what decides, so that the second of an A/A pair, which is
// asked nothing else, comes to it as the first did.
func (st *study) asks() []ask {
	var out []ask
	for _, load := range st.loads() {
		if load != record.LoadClosed {
			out = append(out, ask{load: load})
			continue
		}
		for _, n := range st.Connections {
			out = append(out, ask{load, n})
		}
	}
	first := slices.DeleteFunc(slices.Clone(out), func(a ask) bool { return !st.decides(a) })
	return append(first, slices.DeleteFunc(out, st.decides)...)
}

// asksOf are what the process of a slot is asked. What decides is, in all blocks; where a claim's time is short, the rest is
// asked in as many blocks as stand beside what is judged, and never of the second of an A/A pair, which is in no figure.
func (st *study) asksOf(block int, slot plan.Slot) []ask {
	return slices.DeleteFunc(st.asks(), func(a ask) bool { return !st.decides(a) && !st.beside(block, slot) })
}

// decides tells whether what is claimed is taken from trials of an ask.
func (st *study) decides(a ask) bool {
	return contract.Decides(st.Metric, string(a.load), a.connections, st.Connections)
}

// together are the asks that are measured again of those that were spoilt: where what decides is of two trials of one process, all
// that decide.
func (st *study) together(spoilt, asks []ask) []ask {
	if st.Metric != contract.MetricGrowth || !slices.ContainsFunc(spoilt, st.decides) {
		return spoilt
	}
	return slices.DeleteFunc(slices.Clone(asks), func(a ask) bool { return !st.decides(a) && !slices.Contains(spoilt, a) })
}

// beside tells whether the process of a slot is asked what decides nothing, too.
func (st *study) beside(block int, slot plan.Slot) bool {
	if st.headline() || st.budget == 0 {
		return true
	}
	few := slices.ContainsFunc(st.arms, func(arm contender.Arm) bool { return arm.Name == slot.Arm && st.few(arm) })
	return !slot.Duplicate && (few || block < st.profile.floorBlocks)
}

// clientDelay is added to each round trip between the load generator and a contender.
func (st *study) clientDelay() time.Duration { return time.Duration(st.Delays[contract.WayClient]) }

// leaveOut takes arms out that cannot be tested here, each with the reason.
func (st *study) leaveOut(absent map[string]string) {
	if len(absent) == 0 {
		return
	}
	if st.absent == nil {
		st.absent = map[string]string{}
	}
	maps.Copy(st.absent, absent)
	st.arms = slices.DeleteFunc(slices.Clone(st.arms), func(a contender.Arm) bool { return st.absent[a.Name] != "" })
}

// settle leaves out what this machine cannot run, before anything is proven or planned.
func (c *comparison) settle(ctx context.Context, e engine.Engine, tell func(string)) error {
	d, err := e.Describe(ctx)
	if err != nil {
		return err
	}
	noRedis := ""
	if slices.ContainsFunc(c.union(), contender.Arm.UsesRedis) {
		err := tryRedis(ctx, e)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			noRedis = fmt.Sprintf("there is no Redis: %v", err)
		}
	}
	for _, st := range c.studies {
		absent := map[string]string{}
		for _, arm := range st.arms {
			why := ""
			if _, err := d.Placement.With(arm.CPUCount()); err != nil {
				why = err.Error()
			} else if arm.UsesRedis() {
				why = noRedis
			}
			if why != "" {
				absent[arm.Name] = why
				tell(fmt.Sprintf("scenario %s: %s cannot be tested here: %s", st.ID, arm.Name, why))
			}
		}
		st.leaveOut(absent)
	}
	c.arms = c.union()
	return nil
}

// tryRedis says why an engine has no Redis to give.
func tryRedis(ctx context.Context, e engine.Engine) error {
	redis, err := e.Redis(ctx)
	if err != nil {
		return err
	}
	return redis.Stop(ctx)
}

// benchAsked is the benchmark command that each server is asked, or nil.
func (st *study) benchAsked() *record.BenchAsked {
	if st.Bench == nil {
		return nil
	}
	return &record.BenchAsked{Command: st.Bench.Command, Sizes: st.Bench.Sizes}
}

// profileSeconds is how long a profile takes, where one is taken of each process that is not a double's.
func (st *study) profileSeconds() int {
	switch {
	case !st.Profile:
		return 0
	case st.profile.evidence:
		return 3
	}
	return 1
}

// environment is what the study's processes are started with beside what all are.
func (st *study) environment() map[string]string {
	if st.Profile {
		return map[string]string{trial.ProfilerSetting: "on"}
	}
	return nil
}

// plan is the study's plan in a run's record.
func (st *study) plan(r *record.Run) *record.Plan { return r.PlanOf(st.ID) }

// planned tells whether a run's record has the study's plan.
func (st *study) planned(r *record.Run) bool {
	return (st.headline() || r.ScenarioNamed(st.ID) != nil) && len(st.plan(r).Order) > 0
}

// enter puts what the scenario's file says into the record, without a plan yet, and the load generator's ceiling.
func (st *study) enter(r *record.Run, ceiling *float64) {
	if st.headline() {
		r.GeneratorCeilingRPS = ceiling
		r.Outweighs = st.outweighs()
		return
	}
	s := record.Scenario{
		ID: st.ID, Article: st.Article, Claim: st.Claim, About: st.About, Operation: st.Operation, Mix: st.Mix, OwnConnections: st.OwnConnections, Loads: st.loads(), Connections: st.Connections, RateRPS: st.RateRPS, Share: st.Share, OwnShare: st.OwnShare, Metric: st.Metric, Rule: st.Rule, Alpha: st.Alpha, Margin: st.Margin, ChangedBy: st.ChangedBy, GeneratorCeilingRPS: ceiling, Absent: st.absent,
	}
	for _, arm := range st.arms {
		s.Arms = append(s.Arms, arm.Name)
	}
	s.Arms = append(s.Arms, slices.Sorted(maps.Keys(st.absent))...)
	for arm, baseline := range st.Baselines {
		if slices.Contains(s.Arms, arm) && slices.Contains(s.Arms, baseline) {
			if s.Baselines == nil {
				s.Baselines = map[string]string{}
			}
			s.Baselines[arm] = baseline
		}
	}
	s.Pairs, s.Faults, s.BoundNS = st.among(s.Arms), st.faults(), int64(st.Bound)
	s.Bench, s.Phases, s.Staleness, s.Profile = st.benchAsked(), st.Phases, st.Staleness, st.Profile
	for way, d := range st.Delays {
		if s.DelaysNS == nil {
			s.DelaysNS = map[string]int64{}
		}
		s.DelaysNS[way] = int64(d)
	}
	s.Plan.Pilot = []record.PilotOutcome{}
	r.Scenarios = append(r.Scenarios, s)
}

// outweighs is the claim of the library, of those of its pairs that are measured; nil where none is, or a library is not.
func (st *study) outweighs() *record.Outweighs {
	measured := func(arms []string) bool {
		return !slices.ContainsFunc(arms, func(name string) bool {
			return !slices.ContainsFunc(st.arms, func(a contender.Arm) bool { return a.Name == name })
		})
	}
	o := st.Outweighs
	if o == nil || !measured(o.Library) {
		return nil
	}
	out := &record.Outweighs{Claim: st.Claim, Metric: st.Metric, Library: [2]string(o.Library), Alpha: st.Alpha, Margin: st.Margin, ChangedBy: st.ChangedBy}
	for _, pair := range o.Pairs {
		if measured(pair) {
			out.Pairs = append(out.Pairs, [2]string(pair))
		}
	}
	if len(out.Pairs) == 0 {
		return nil
	}
	return out
}

// leave takes a scenario out of the record that was not begun, and so has no trials.
func (st *study) leave(r *record.Run) {
	r.Scenarios = slices.DeleteFunc(r.Scenarios, func(s record.Scenario) bool { return s.ID == st.ID })
}

// design is how the study's rule will decide with so many blocks.
func (st *study) design(blocks int) stats.Design {
	if st.headline() {
		return claims.LibraryDesign(mainstream(st.arms), blocks)
	}
	return stats.Design{Blocks: blocks, Family: len(st.pairs()), Alpha: claims.Alpha}
}

// pairs are those of the scenario's file of which both arms are measured.
func (st *study) pairs() [][2]string { return st.among(st.names()) }

// names are those of the measured arms.
func (st *study) names() []string {
	var names []string
	for _, arm := range st.arms {
		names = append(names, arm.Name)
	}
	return names
}

// missing are the baselines that are not measured though both arms of a pair are whose growth is told from them.
func (st *study) missing() []string {
	names := st.names()
	var out []string
	for _, pair := range st.Compared() {
		if !slices.Contains(names, pair[0]) || !slices.Contains(names, pair[1]) {
			continue
		}
		for _, arm := range pair {
			if baseline, grows := st.Baselines[arm]; grows && !slices.Contains(names, baseline) && !slices.Contains(out, baseline) {
				out = append(out, baseline)
			}
		}
	}
	return out
}

// among are the pairs of the scenario's file of which both arms are among these, with what their growth is told from.
func (st *study) among(names []string) [][2]string {
	missing := func(arm string) bool {
		baseline, grows := st.Baselines[arm]
		return !slices.Contains(names, arm) || grows && !slices.Contains(names, baseline)
	}
	return slices.DeleteFunc(st.Compared(), func(pair [2]string) bool {
		return missing(pair[0]) || pair[1] != contract.Bound && missing(pair[1])
	})
}

// processes is how many a plan of so many blocks starts, repeats apart.
func (st *study) processes(blocks, floorBlocks int) int {
	n, doubled := 0, false
	for _, arm := range st.arms {
		if st.few(arm) {
			n += floorBlocks
		} else {
			n, doubled = n+blocks, true
		}
	}
	if doubled && st.doubled() {
		n += blocks // the A/A arm's
	}
	return n
}

// doubled tells whether each block has one of its arms twice: a rule about each arm alone asks nothing of identical arms.
func (st *study) doubled() bool { return st.Rule != contract.RuleWithin }

// judged tells whether an arm's own number is compared with another's, so that how much identical arms differ is of the same: what is
// taken off another's is not.
func (st *study) judged(arm contender.Arm) bool {
	return st.headline() || st.compares(func(name string) bool { return name == arm.Name })
}

// compares tells whether one of those that are compared is an arm that is meant.
func (st *study) compares(meant func(name string) bool) bool {
	return slices.ContainsFunc(st.Compared(), func(pair [2]string) bool { return slices.ContainsFunc(pair[:], meant) })
}

// few tells whether an arm takes part in fewer blocks and is no A/A arm, since it stands beside what is judged: the floors of
// the library, and where a claim's time is short, its arms that are in none of its pairs.
func (st *study) few(arm contender.Arm) bool {
	if st.headline() {
		return arm.Tier == contender.TierFloor
	}
	return st.budget > 0 && !st.compares(func(name string) bool { return name == arm.Name || st.Baselines[name] == arm.Name })
}

// The shortest trials that a scenario of many arms is given where its time is short: those of a night.
const (
	shortestRate       = 1500 * time.Millisecond
	shortestThroughput = 1200 * time.Millisecond
)

// longestRate bounds how long a trial is made for the percentile that decides.
const longestRate = 12500 * time.Millisecond

// fewestBeside are the blocks in which an arm that stands beside takes part at least: one figure has no spread.
const fewestBeside = 2

// fit fixes the number of blocks by the time that the scenario has: as many of the profile's as fit, each process taking
// what its pilot took around its trials, and no fewer than can decide anything. Where even those take longer, trials are
// shorter, as far as the scenario's file lets them be, and where that is not short enough, what stands beside is asked less:
// not in a night, whose time is all scenarios' together.
func (st *study) fit(spent, around time.Duration) {
	p := &st.profile
	if st.budget == 0 || st.headline() {
		return
	}
	for p.blocks > st.least() && spent+st.takes(around) > st.budget {
		p.blocks--
	}
	p.floorBlocks = min(p.floorBlocks, p.blocks)
	const step = 100 * time.Millisecond
	leastRate := min(p.rate, max(shortestRate, time.Duration(st.Duration), st.leastRate))
	leastThroughput := min(p.throughput, shortestThroughput)
	for spent+st.takes(around) > st.budget && (p.rate > leastRate || p.throughput > leastThroughput) {
		p.rate, p.throughput = max(leastRate, p.rate-step), max(leastThroughput, p.throughput-step)
	}
	for !p.all && spent+st.takes(around) > st.budget && p.floorBlocks > fewestBeside {
		p.floorBlocks--
	}
}

// least is how many blocks can decide anything, or the profile's if those cannot.
func (st *study) least() int {
	return min(st.profile.blocks, stats.MinPairs(claims.Alpha, max(1, st.design(0).Family)))
}

// takes is how long the blocks take if each arm is warm as soon as can be.
func (st *study) takes(around time.Duration) time.Duration {
	p := st.profile
	each := around
	if st.Warmed() {
		each += min(p.warm.Most, trial.WarmWindows*p.warm.Window)
	}
	all := st.processes(p.blocks, p.floorBlocks)
	sum := time.Duration(all) * each
	// Those of A/A pairs' seconds are asked less, and so are those of the blocks that only decide.
	first, beside := all, all
	if st.doubled() {
		first -= p.blocks
	}
	if !st.headline() && st.budget > 0 {
		beside = len(st.arms) * min(p.blocks, p.floorBlocks)
	}
	for _, ask := range st.asks() {
		trials := beside
		if st.decides(ask) {
			trials = all
		}
		sum += time.Duration(trials) * st.askTakes(ask)
		if ask.load == record.LoadRate {
			sum += time.Duration(min(first, trials)) * trial.ProfileTime(st.profileSeconds())
		}
	}
	if st.Staleness {
		sum += time.Duration(min(first, beside)) * trial.StalenessTime
	}
	return sum
}

// askTakes is how long the trial of an ask takes, and what each at the common rate is followed by.
func (st *study) askTakes(a ask) time.Duration {
	sum := st.profile.duration(a.load)
	if a.load != record.LoadRate {
		return sum
	}
	sum += trial.BenchTime(st.benchAsked())
	if st.Phases {
		sum += trial.PhaseTime(time.Duration(st.Delays["database"] + st.Delays["upstream"]))
	}
	return sum
}

// trialsTake is how long the trials of one process take, and what is asked after them.
func (st *study) trialsTake() time.Duration {
	sum := trial.ProfileTime(st.profileSeconds())
	if st.Staleness {
		sum += trial.StalenessTime
	}
	for _, ask := range st.asks() {
		sum += st.askTakes(ask)
	}
	return sum
}

// duration is that of a trial.
func (p profile) duration(load record.Load) time.Duration {
	if load == record.LoadRate {
		return p.rate
	}
	return p.throughput
}

func mainstream(arms []contender.Arm) int {
	n := 0
	for _, arm := range arms {
		if arm.Tier == contender.TierMainstream {
			n++
		}
	}
	return n
}

// chosen are the scenarios that a run is asked for, by their names.
func (c *comparison) chosen() string {
	switch {
	case c.options.scenario != "":
		return c.options.scenario
	case c.profile.all:
		return contract.AllScenarios
	}
	return libraryScenario
}

// choose settles which scenarios are measured, and the arms of each.
func (c *comparison) choose() error {
	scenarios, err := contract.Named(c.lab.scenarios, c.chosen())
	if err != nil {
		return fmt.Errorf("--scenario %w", err)
	}
	// The library first: who interrupts has the headline.
	slices.SortStableFunc(scenarios, func(a, b contract.Scenario) int {
		switch {
		case (a.ID == libraryScenario) == (b.ID == libraryScenario):
			return 0
		case a.ID == libraryScenario:
			return -1
		}
		return 1
	})
	c.studies = nil
	for _, s := range scenarios {
		arms, err := c.lab.arms(c.options.contenders, s.Arms)
		if err != nil {
			return err
		}
		st := &study{Scenario: s, arms: arms, profile: c.profile, budget: c.profile.scenario}
		if c.profile.evidence || len(s.Faults) > 0 {
			st.profile.rate = max(st.profile.rate, time.Duration(s.Duration))
		}
		if err := st.hits(c.lab.contract); err != nil {
			return err
		}
		if !st.headline() && st.design(0).Family == 0 {
			if missing := st.missing(); len(missing) > 0 {
				return fmt.Errorf("--contender %q: scenario %s compares %s by how they grow, and the arms from which that is told are missing: %s", c.options.contenders, s.ID, pairWords(s.Compared()), strings.Join(missing, ", "))
			}
			return fmt.Errorf("--contender %q: scenario %s compares %s, and no two of these are among them", c.options.contenders, s.ID, pairWords(s.Compared()))
		}
		c.studies = append(c.studies, st)
	}
	c.arms = c.union()
	return nil
}

// union are the arms of all studies, each once.
func (c *comparison) union() []contender.Arm {
	var all []contender.Arm
	for _, st := range c.studies {
		for _, arm := range st.arms {
			if !slices.ContainsFunc(all, func(a contender.Arm) bool { return a.Name == arm.Name }) {
				all = append(all, arm)
			}
		}
	}
	return all
}

func pairWords(pairs [][2]string) string {
	var words []string
	for _, pair := range pairs {
		words = append(words, pair[0]+" with "+pair[1])
	}
	return strings.Join(words, ", ")
}

// ways are links through the fault proxy that all arms of a study have in their way.
type ways struct {
	proxy engine.FaultProxy
	links trial.Links
}

// overheadRoundTrips are made on each way to measure what the proxy adds.
const overheadRoundTrips = 50

// lay starts the proxy where the study's delays or faults need it, sets the delays, measures how exact they are, and puts the
// links into the way of whatever contender starts from now on. take ends the proxy.
func (s *session) lay(ctx context.Context, st *study) (overheads []record.FaultOverhead, take func(), err error) {
	if len(st.proxied()) == 0 {
		return nil, func() {}, nil
	}
	proxy, err := s.engine.Faults(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("fault proxy: %w", err)
	}
	take = func() {
		s.ways = nil
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		if err := proxy.Stop(stop); err != nil {
			s.warn("the fault proxy did not end as it should: %v", err)
		}
	}
	targets := map[string]string{trial.LinkPrimary: s.database.PrimaryURL(), trial.LinkReplica: s.database.ReplicaURL(), trial.LinkUpstream: s.upstream.URL()}
	if s.redis != nil {
		targets[trial.LinkRedis] = s.redis.URL()
	}
	w := &ways{proxy, trial.Links{}}
	for _, way := range st.proxied() {
		for _, name := range trial.LinksOf[way] {
			target, there := targets[name]
			if !there {
				continue // Redis, where none of the arms uses it
			}
			overhead, err := s.layOne(ctx, w, name, target, time.Duration(st.Delays[way]))
			if err != nil {
				take()
				return nil, nil, fmt.Errorf("fault proxy: %s: %w", name, err)
			}
			if err := st.delayed(*overhead); err != nil {
				take()
				return nil, nil, err
			}
			overheads = append(overheads, *overhead)
		}
	}
	s.ways = w
	return overheads, take, nil
}

// What a link adds where its delay is there: at least the share delayShort of it, the clocks of a machine are better than that; at
// most delayLong times it and delayMore, for what the proxy and a busy machine need themselves.
const (
	delayShort = 0.95
	delayLong  = 1.5
	delayMore  = 2 * time.Millisecond
)

// isDelayed tells whether what was measured on a way fits the delay that was asked of it.
func isDelayed(o record.FaultOverhead) bool {
	added, asked := float64(o.AddedP50NS), float64(o.DelayNS)
	return added >= delayShort*asked && added <= delayLong*asked+float64(delayMore)
}

// delayed says that a way does not have the delay that the scenario is about, by what was measured on it before the pilot.
func (st *study) delayed(o record.FaultOverhead) error {
	if isDelayed(o) {
		return nil
	}
	return fmt.Errorf("%s %w: a round trip on the way %s was to take %v longer, and takes %v longer (median of %d)", st.refusal(), errRefused, o.Link, time.Duration(o.DelayNS), time.Duration(o.AddedP50NS).Round(10*time.Microsecond), o.RoundTrips)
}

// layOne adds a link to ways, and measures what it adds to a round trip.
func (s *session) layOne(ctx context.Context, w *ways, name, target string, delay time.Duration) (*record.FaultOverhead, error) {
	link, err := w.proxy.Link(ctx, name, target)
	if err != nil {
		return nil, err
	}
	w.links[name] = link
	if delay > 0 {
		if err := link.Set(ctx, engine.Fault{Kind: engine.FaultLatency, Delay: delay}); err != nil {
			return nil, err
		}
	}
	overhead, err := w.proxy.Overhead(ctx, link, overheadRoundTrips)
	if err == nil && !isDelayed(overhead) {
		// The machine may have been busy: a delay that is not there is not there the second time either.
		overhead, err = w.proxy.Overhead(ctx, link, overheadRoundTrips)
	}
	if err != nil {
		return nil, err
	}
	s.progress.say("fault proxy, delay of %v on %s: %v added to a round trip (median)", delay, name, time.Duration(overhead.AddedP50NS).Round(10*time.Microsecond))
	return &overhead, nil
}

// through gives the addresses that a contender is started with.
func (w *ways) through(spec *engine.ContenderSpec) {
	if w == nil {
		return
	}
	for name, url := range map[string]*string{trial.LinkPrimary: &spec.PrimaryURL, trial.LinkReplica: &spec.ReplicaURL, trial.LinkUpstream: &spec.UpstreamURL, trial.LinkRedis: &spec.RedisURL} {
		if name == trial.LinkRedis && *url == "" {
			continue // the arm uses none
		}
		if link := w.links[name]; link != nil {
			*url = link.URL()
		}
	}
}

// subject gives a trial's subject the links, to be made worse.
func (w *ways) subject(s *trial.Subject) {
	if w != nil {
		s.Faults, s.Links = w.proxy, w.links
	}
}

// study measures one scenario: pilot, plan, blocks; or what a run has left of it.
func (s *session) study(ctx context.Context, c *comparison, st *study, todo *schedule) (err error) {
	take := func() {}
	defer func() {
		err = s.because(ctx, err) // which asks the fault proxy too
		take()
	}()
	// All at once, since the reference reads the whole database for its answers.
	names := slices.Sorted(maps.Keys(st.Mix))
	questions, err := c.questions(ctx, s.database, append(names, st.Operation)...)
	if err != nil {
		return err
	}
	q := questions[len(names)]
	var mixed []weighted
	for i, name := range names {
		mixed = append(mixed, weighted{questions[i], st.Mix[name], st.OwnConnections[name]})
	}
	if slices.ContainsFunc(mixed, func(w weighted) bool { return w.mutates() }) {
		last, err := trial.LastReview(ctx, s.database)
		if err != nil {
			return fmt.Errorf("scenario %s: what it will write: %w", st.ID, err)
		}
		defer func() { // the scenarios after it ask the data that this one found
			if err := trial.RemoveReviews(context.WithoutCancel(ctx), s.database, last); err != nil {
				s.warn("Scenario %s: what it wrote could not be removed: %v", st.ID, err)
			}
		}()
	}
	overheads, laid, err := s.lay(ctx, st)
	if err != nil {
		return err
	}
	take = laid
	if todo == nil {
		if todo, err = s.plan(ctx, c, st, q, mixed); err != nil {
			st.leave(&s.run)
			return err
		}
		// A pilot reads no meter, and a plan that was made without a part would be gone on with.
		if gone := s.ended(ctx); gone != nil {
			st.leave(&s.run)
			return gone
		}
	} else {
		todo.question, todo.mixed, todo.began = q, mixed, time.Now()
	}
	if x := s.run.ScenarioNamed(st.ID); x != nil && (x.FaultOverhead == nil || len(x.FaultOverhead) < len(st.Delays)) {
		x.FaultOverhead = append(x.FaultOverhead, overheads...)
	}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.interrupts.patient(s.progress.say)()
	if err := s.carryOut(ctx, todo); err != nil {
		return err
	}
	if st.headline() {
		return s.searchCapacities(ctx, todo)
	}
	return nil
}

// scenarioWords says before a scenario what is measured.
func scenarioWords(st *study) string {
	var names []string
	for _, arm := range st.arms {
		names = append(names, arm.Name)
	}
	return fmt.Sprintf("scenario %s (%s): “%s”", st.ID, summary.Plural(len(names), "arm"), st.Claim)
}
