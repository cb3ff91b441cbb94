// Package conformance proves that an arm is what the contract says: it answers right, runs the statements it may run,
// and behaves at every door. What is compared in a figure was proven here first.
//
// The expected answers come from contract/operations, which a program derived from SQL alone, and from package
// reference, which reads the database and shares no code with any server. No server is the reference for another one.
//
// Every check is one function in the list returned by [Checks]. A check that finds something says operation, path,
// expected and got; an error means that the check could not be made.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/reference"
)

// Form says how much is proven.
type Form string

const (
	// Full is every check.
	Full Form = "full"
	// Short is what the profile smoke pays for: each operation once, the statements of the headline operations one at a
	// time, and twenty random queries.
	Short Form = "short"
)

// size is the data that expected answers were derived for.
const size = "small"

// Options say what to prove with.
type Options struct {
	Contract *contract.Contract
	Engine   engine.Engine
	// Root is the repository's root.
	Root string
	Form Form
	// Seed makes the random queries.
	Seed uint64
	// Log receives one line at a time of what is under way; nil means nowhere.
	Log func(line string)
	// CacheDir keeps the reports of conformant arms by digest; empty means that nothing is kept or looked up.
	CacheDir string
	// Fresh proves again what is proven already; the new proof is kept all the same.
	Fresh bool
	// AtOnce is how many arms are proven at once, each with a database of its own; 0 is one. Proving waits more than it
	// computes: for servers and databases to start, for times to run out.
	AtOnce int
	// Checks are the names of the checks to make; empty means all of the form. A report of some checks is never kept.
	Checks []string
}

// Finding is one place where an arm is not what the contract says.
type Finding struct {
	Check string `json:"check"`
	// Operation is the name of an operation, the text of a random query, or what was done.
	Operation string `json:"operation"`
	// Path is where in the answer, as in data.items[3].name; empty for the answer as a whole.
	Path     string `json:"path"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
	// Detail is what else helps to find the cause.
	Detail string `json:"detail,omitempty"`
}

// String says it in one line.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", f.Check, f.Operation)
	if f.Path != "" {
		fmt.Fprintf(&b, ": %s", f.Path)
	}
	fmt.Fprintf(&b, ": expected %s, got %s", f.Expected, f.Got)
	if f.Detail != "" {
		fmt.Fprintf(&b, " (%s)", f.Detail)
	}
	return b.String()
}

// CheckResult is what came of one check.
type CheckResult struct {
	Name string `json:"name"`
	// Passed is false where something was found; a check that does not concern the arm is passed and says why in Skipped.
	Passed  bool   `json:"passed"`
	Skipped string `json:"skipped,omitempty"`
	// Answers is how many answers were compared with an expected one.
	Answers int `json:"answers"`
	// Findings is how many there were, those beyond what a report lists included.
	Findings   int           `json:"findings"`
	DurationNS time.Duration `json:"duration_ns"`
	// Notes are observations that break no rule.
	Notes []string `json:"notes,omitempty"`
}

// Report is what is known of one arm.
type Report struct {
	Arm        string `json:"arm"`
	Conformant bool   `json:"conformant"`
	Form       Form   `json:"form"`
	// Digest names contract, server, settings and this program; the report holds for no others.
	Digest string `json:"digest"`
	// ServerDigest names the server alone: what the engine starts, settings, sources and program.
	ServerDigest string `json:"server_digest"`
	// Cached says that the proof was made by an earlier run.
	Cached bool `json:"cached"`
	// ProvenAt is when the proof was made.
	ProvenAt time.Time     `json:"proven_at"`
	Seed     uint64        `json:"seed"`
	Checks   []CheckResult `json:"checks"`
	Findings []Finding     `json:"findings"`
	// Deviations are the departures that the contender's manifest lists.
	Deviations []contender.Deviation `json:"deviations"`
}

// Answers is how many answers were compared in all.
func (r Report) Answers() int {
	sum := 0
	for _, c := range r.Checks {
		sum += c.Answers
	}
	return sum
}

// mostFindings is how many findings of one check a report lists; the rest is counted. After mostRepeats, all of them
// counted, a check asks no more questions.
const (
	mostFindings = 50
	mostRepeats  = 1000
)

// fewestAnswers is how many answers the full form compares at least: with so many, one wrong answer in a thousand stays
// unseen in one proof of a hundred and fifty (0.999 to the power of 5,000).
const fewestAnswers = 5000

// Check is one property that is proven.
type Check struct {
	// Name is how reports call it.
	Name string
	// Forms are those that include it.
	Forms []Form
	// About says what it proves, in a line.
	About string
	// skip says why it does not concern an arm, or nothing.
	skip func(s *subject) string
	run  func(ctx context.Context, s *subject, t *tally) error
}

// Checks lists all checks in the order in which they are made.
func Checks() []Check {
	both, full := []Form{Full, Short}, []Form{Full}
	return []Check{
		{Name: "answers-cold", Forms: both, About: "every operation's first answer equals expected.json", run: answersCold},
		{Name: "mutations", Forms: both, About: "every mutation on a fresh copy of the data", skip: notFloor, run: mutations},
		{Name: "statements", Forms: both, About: "the statements of statements.json, one request at a time", run: statementsAlone},
		{Name: "random", Forms: both, About: "random queries answer as the reference does", skip: notFloor, run: random},
		{Name: "statements-16", Forms: full, About: "the same statements with 16 requests at once", run: statementsAt(16)},
		{Name: "statements-128", Forms: full, About: "the same statements with 128 requests at once", run: statementsAt(128)},
		{Name: "answers-64", Forms: full, About: "64 of one operation at once, and of all", run: answersAtOnce},
		{Name: "answers-warm", Forms: full, About: "after a hundred runs", run: answersWarm},
		{Name: "isolation", Forms: full, About: "concurrent requests never see each other's data", run: isolation},
		{Name: "fresh-rows", Forms: full, About: "a row changed by SQL is in the next answer", run: freshRows},
		{Name: "writes", Forms: full, About: "a mutation writes what it says, once", skip: notFloor, run: writes},
		{Name: "master-data", Forms: both, About: "changed master data becomes visible, also after LISTEN was cut off", skip: knownFromFull, run: masterData},
		{Name: "redis-away", Forms: both, About: "a Redis that is away, silent, emptied or full never makes an answer wrong", skip: noRedis, run: redisAway},
		{Name: "hostile", Forms: full, About: "limits, malformed requests and hostile input", skip: otherSetting, run: hostile},
		{Name: "in-flight", Forms: full, About: "requestsInFlight requests are taken and not one more", skip: otherSetting, run: inFlight},
		{Name: "request-timeout", Forms: full, About: "a request over its time ends, and so do its statements", skip: otherSetting, run: requestTimeout},
		{Name: "upstream", Forms: full, About: "whatever the quote service does is UPSTREAM_FAILED", skip: either(notFloor, otherSetting), run: upstreamFailures},
		{Name: "database-away", Forms: full, About: "without a database 503, and recovery by itself", skip: otherSetting, run: databaseAway},
		{Name: "shutdown", Forms: full, About: "SIGTERM lets requests under way finish", skip: otherSetting, run: shutdown},
		{Name: "server-timing", Forms: full, About: "disjoint phases that add up to the total", run: serverTiming},
		{Name: "metrics", Forms: full, About: "/metrics has the contract's names, and they count", run: metrics},
		{Name: "profile", Forms: full, About: "the server's own profiler, asked under load", skip: otherSetting, run: profiles},
		{Name: "audits", Forms: full, About: "the audits of npm's graphql-http", skip: either(notFloor, otherSetting), run: audits},
		{Name: "slow-clients", Forms: full, About: "half a request is not waited for without end", skip: otherSetting, run: slowEnds},
	}
}

// notFloor skips what only an arm that answers any query can be asked.
func notFloor(s *subject) string {
	if s.arm.Tier == contender.TierFloor {
		return "a floor answers the headline operations only"
	}
	return ""
}

// otherSetting skips what is asked at the doors and of the process, which LOADER and MASTER have no part in: it is asked of
// the same program in its usual setting.
func otherSetting(s *subject) string {
	if s.setting != contract.Default {
		return "is asked of the arm in its usual setting"
	}
	return ""
}

// knownFromFull skips in the short form what the full one has shown of the same code. An arm that reads from the primary is
// proven in the short form alone, since the engine carries that out and not the code.
func knownFromFull(s *subject) string {
	if s.Form == Short && s.arm.ReadsReplica() {
		return "is asked in the full form"
	}
	return ""
}

func either(reasons ...func(*subject) string) func(*subject) string {
	return func(s *subject) string {
		for _, reason := range reasons {
			if text := reason(s); text != "" {
				return text
			}
		}
		return ""
	}
}

// Prove checks arms and reports on them in their order. The error is nil where everything could be checked, whatever was
// found; else the reports are those that there were by then. Where an arm cannot be started, that is a finding.
func Prove(ctx context.Context, options Options, arms []contender.Arm) ([]Report, error) {
	if options.Log == nil {
		options.Log = func(string) {}
	}
	if options.Form == "" {
		options.Form = Full
	}
	if options.Form != Full && options.Form != Short {
		return nil, fmt.Errorf("conformance: form %q is neither %q nor %q", options.Form, Full, Short)
	}
	checks, err := choose(options)
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	var logging sync.Mutex
	log := options.Log
	options.Log = func(line string) {
		logging.Lock()
		defer logging.Unlock()
		log(line)
	}
	// Programs are built first: one that cannot be is told before minutes have gone into the proofs of others.
	for _, arm := range arms {
		if _, err := options.Engine.Identity(ctx, arm); err != nil {
			return nil, fmt.Errorf("conformance of %s: %w", arm.Name, err)
		}
	}
	made := make([]*Report, len(arms))
	var next atomic.Int64
	lanes, ctx := errgroup.WithContext(ctx)
	for range max(1, min(options.AtOnce, len(arms))) {
		lanes.Go(func() error {
			p := &prover{Options: options, checks: checks}
			defer p.close(context.WithoutCancel(ctx))
			for {
				i := int(next.Add(1)) - 1
				if i >= len(arms) {
					return nil
				}
				report, err := p.prove(ctx, arms[i], fmt.Sprintf("%d of %d", i+1, len(arms)))
				if err != nil {
					return fmt.Errorf("conformance of %s: %w", arms[i].Name, err)
				}
				made[i] = &report
			}
		})
	}
	err = lanes.Wait()
	var reports []Report
	for _, report := range made {
		if report != nil {
			reports = append(reports, *report)
		}
	}
	return reports, err
}

// choose gives the checks of the form, or those that were named.
func choose(options Options) ([]Check, error) {
	var chosen []Check
	known := map[string]bool{}
	for _, c := range Checks() {
		known[c.Name] = true
		if len(options.Checks) > 0 && slices.Contains(options.Checks, c.Name) || len(options.Checks) == 0 && slices.Contains(c.Forms, options.Form) {
			chosen = append(chosen, c)
		}
	}
	for _, name := range options.Checks {
		if !known[name] {
			return nil, fmt.Errorf("there is no check %q", name)
		}
	}
	return chosen, nil
}

// prover holds what the arms of one lane share: the database, the stub of the quote service and what was read of them.
type prover struct {
	Options
	checks []Check

	database engine.Database
	upstream engine.Service
	// redis is started for the first arm that has its master data there.
	redis    engine.Service
	redisMu  sync.Mutex
	data     *reference.Data
	executor *reference.Executor
	// operations are those of the contract with their answers read.
	operations []*question
	forks      int
	forksMu    sync.Mutex
	randoms    []*question
}

func (p *prover) subjectOf(arm contender.Arm) *subject {
	return &subject{prover: p, arm: arm, setting: contract.SettingOf(arm.Environment), client: newClient(), together: map[*question]int{}}
}

// open starts what arms share, once; a run whose arms are all known to be conformant never gets here.
func (p *prover) open(ctx context.Context) error {
	if p.database != nil {
		return nil
	}
	var err error
	if p.upstream, err = p.Engine.Upstream(ctx, engine.UpstreamSpec{Size: size}); err != nil {
		return err
	}
	if p.database, err = p.Engine.Database(ctx, engine.DatabaseSpec{Size: size}); err != nil {
		return err
	}
	if p.data, err = reference.Open(ctx, p.database.PrimaryURL()); err != nil {
		return err
	}
	p.executor = reference.NewExecutor(p.Contract, p.data)
	p.operations, err = questionsOf(p.Contract)
	return err
}

// redisOf is the address that an arm is given of Redis, or nothing.
func (p *prover) redisOf(ctx context.Context, arm contender.Arm) (string, error) {
	if !arm.UsesRedis() {
		return "", nil
	}
	p.redisMu.Lock()
	defer p.redisMu.Unlock()
	if p.redis == nil {
		var err error
		if p.redis, err = p.Engine.Redis(ctx); err != nil {
			return "", fmt.Errorf("redis: %w", err)
		}
	}
	return p.redis.URL(), nil
}

func (p *prover) close(ctx context.Context) {
	if p.database != nil {
		if err := p.database.Stop(ctx); err != nil {
			p.Log("conformance: " + err.Error())
		}
	}
	if p.redis != nil {
		if err := p.redis.Stop(ctx); err != nil {
			p.Log("conformance: " + err.Error())
		}
	}
	if p.upstream != nil {
		if err := p.upstream.Stop(ctx); err != nil {
			p.Log("conformance: " + err.Error())
		}
	}
}

// fork makes a database that a check may change.
func (p *prover) fork(ctx context.Context) (engine.Database, error) {
	p.forksMu.Lock()
	p.forks++
	name := fmt.Sprintf("conformance_%d", p.forks)
	p.forksMu.Unlock()
	return p.database.Fork(ctx, name)
}

func (p *prover) prove(ctx context.Context, arm contender.Arm, which string) (Report, error) {
	report := Report{Arm: arm.Name, Form: p.Form, Seed: p.Seed, Deviations: arm.Deviations, Findings: []Finding{}}
	if report.Deviations == nil {
		report.Deviations = []contender.Deviation{}
	}
	identity, err := p.Engine.Identity(ctx, arm)
	if err != nil {
		return report, err
	}
	if report.Digest, report.ServerDigest, err = digests(p.Contract, p.Engine.Name(), identity, arm); err != nil {
		return report, err
	}
	if cached, ok := p.cached(report.Digest); ok {
		cached.Arm, cached.Cached, cached.ServerDigest = arm.Name, true, report.ServerDigest
		p.Log(fmt.Sprintf("conformance: %s (%s) was proven at %s", arm.Name, which, cached.ProvenAt.Format(time.DateTime)))
		return cached, nil
	}
	if err := p.open(ctx); err != nil {
		return report, err
	}
	report.ProvenAt = time.Now().UTC().Truncate(time.Second)
	s := p.subjectOf(arm)
	defer s.close(context.WithoutCancel(ctx))
	if p.Form == Short && notFloor(s) == "" && slices.ContainsFunc(p.checks, func(c Check) bool { return c.Name == "mutations" }) {
		// The short form is in a hurry, and a copy of the data takes its time. What fails here fails again where it is
		// looked at.
		s.background.Go(func() { _ = s.mutate(ctx) })
	}
	for i, check := range p.checks {
		t := &tally{check: check.Name}
		result := CheckResult{Name: check.Name}
		began := time.Now()
		if check.skip != nil {
			result.Skipped = check.skip(s)
		}
		if result.Skipped == "" {
			p.Log(fmt.Sprintf("conformance: %s (%s), check %d of %d: %s", arm.Name, which, i+1, len(p.checks), check.Name))
			err := check.run(ctx, s, t)
			var failed *startError
			switch {
			case errors.As(err, &failed):
				t.find(Finding{Operation: "start the contender", Expected: "that it becomes ready", Got: failed.Error()})
			case ctx.Err() != nil:
				return report, ctx.Err()
			case err != nil:
				return report, fmt.Errorf("check %s: %w", check.Name, err)
			}
			// A contender that ended by itself cannot be asked any more; the next check gets a new one.
			s.checkAlive(t)
			if t.total > 0 {
				// Who is asked through an engine that has ended answers nothing, and that is no finding.
				if err := p.Engine.Alive(ctx); err != nil {
					return report, fmt.Errorf("check %s: %w", check.Name, err)
				}
			}
		}
		result.DurationNS = time.Since(began)
		result.Answers, result.Findings, result.Notes = int(t.answers.Load()), t.total, t.notes
		result.Passed = t.total == 0
		report.Checks = append(report.Checks, result)
		report.Findings = append(report.Findings, t.list...)
	}
	report.Conformant = len(report.Findings) == 0
	if report.Conformant && p.Form == Full && len(p.Checks) == 0 && report.Answers() < fewestAnswers {
		return report, fmt.Errorf("%d answers were compared, and %d are needed to see one wrong answer in a thousand", report.Answers(), fewestAnswers)
	}
	if report.Conformant && len(p.Checks) == 0 {
		if err := p.keep(report); err != nil {
			p.Log("conformance: " + err.Error())
		}
	}
	return report, nil
}
