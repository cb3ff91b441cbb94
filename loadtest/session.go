package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/postgres"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trial"
)

// session is a database under measurement with its upstream, and what is known of the machine.
type session struct {
	lab         *lab
	engine      engine.Engine
	description engine.Description
	database    engine.Database
	upstream    engine.Service
	redis       engine.Service // nil where no arm has its master data there
	// ways are those through the fault proxy, for the scenario under way; nil: nothing is in anybody's way.
	ways     *ways
	folder   record.Folder
	run      record.Run
	progress *progress
	// nonconformant arms are measured only because it was asked for.
	nonconformant map[string]bool
	// interrupts say whether the run is to end after the trial under way; nil: nobody asks.
	interrupts *interrupts
	// pilots and ceilings are those of this session, by what each hangs on: scenarios that ask the same share them.
	pilots   map[string]piloted
	ceilings map[string]*float64
	// begun says that run.json is on disk.
	begun bool
	// recovered are the lines of PostgreSQL's logs about crashes before the process under way was started.
	recovered []string
	// staleness looks how soon writes can be read.
	staleness func(context.Context, trial.Subject, trial.Spec) ([]record.Staleness, error)
	// try runs a trial; nil is trial.Run.
	try func(context.Context, trial.Subject, trial.Spec) (record.Trial, []byte, error)
}

// open starts database and upstream and fills the run's environment.
func (s *session) open(ctx context.Context, size string, arms []contender.Arm) error {
	var err error
	if s.description, err = s.engine.Describe(ctx); err != nil {
		return err
	}
	s.progress.say("PostgreSQL: primary and replica with data of size %s …", size)
	if s.database, err = s.engine.Database(ctx, engine.DatabaseSpec{Size: size, MasterMiB: contender.MostMasterMiB(arms)}); err != nil {
		return err
	}
	if s.upstream, err = s.engine.Upstream(ctx, engine.UpstreamSpec{Size: size}); err != nil {
		return err
	}
	if slices.ContainsFunc(arms, contender.Arm.UsesRedis) {
		if s.redis, err = s.engine.Redis(ctx); err != nil {
			return fmt.Errorf("redis: %w", err)
		}
	}
	d := s.description
	s.run.Environment = record.Environment{
		Engine: d.Engine, EngineVersion: d.EngineVersion, OS: d.OS, Kernel: d.Kernel, Arch: d.Arch, CPUModel: d.CPUModel, CPUs: d.CPUs,
		Placement:  map[string][]int{"contender": d.Placement.Contender, "database": d.Placement.Database, "agent": d.Placement.Agent},
		CPUsShared: d.Placement.Shared, MemoryBytes: d.MemoryBytes,
		PostgreSQL: d.PostgreSQL, PostgreSQLSource: d.PostgreSQLSource, PostgreSQLSettings: d.PostgreSQLSettings,
		DataSize: size, MasterMiB: contender.MostMasterMiB(arms), DataDigest: s.lab.contract.Digests[size], ContractDigest: s.lab.contract.Digest, Missing: d.Missing,
		Contenders: map[string]json.RawMessage{},
	}
	if d.Placement.Note != "" {
		s.warn("%s", d.Placement.Note)
	}
	for _, arm := range arms {
		if _, ok := s.run.Environment.Contenders[arm.Contender]; ok {
			continue
		}
		version, err := s.engine.Version(ctx, arm)
		if err != nil {
			return err
		}
		if s.run.Environment.Contenders[arm.Contender], err = json.Marshal(version); err != nil {
			return err
		}
	}
	// Asking for versions has built the images, and the database's containers show what can be told of one.
	if d, err := s.engine.Describe(ctx); err == nil {
		s.run.Environment.ImageSizeBytes, s.run.Environment.Missing = d.ImageSizeBytes, d.Missing
	}
	return nil
}

func (s *session) warn(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if !slices.Contains(s.run.Warnings, line) {
		s.run.Warnings = append(s.run.Warnings, line)
	}
}

// with runs f on a fresh process of the arm, started with more in its environment, which has answered the first question
// right, and ends that process.
func (s *session) with(ctx context.Context, arm contender.Arm, first question, more map[string]string, f func(trial.Subject) error) error {
	placement, err := s.description.Placement.With(arm.CPUCount())
	if err != nil {
		return fmt.Errorf("%s: %w", arm.Name, err)
	}
	if placement.Shared && !s.description.Placement.Shared {
		s.warn("%s", placement.Note)
	}
	spec := engine.ContenderSpec{
		Arm: arm, PrimaryURL: s.database.PrimaryURL(), ReplicaURL: s.database.ReplicaURL(), UpstreamURL: s.upstream.URL(),
		// One line per failed request at most: logging must not be what is measured.
		Environment: map[string]string{"LOG_LEVEL": "warn"},
	}
	maps.Copy(spec.Environment, more)
	var redis engine.Service
	if s.redis != nil && arm.UsesRedis() {
		redis, spec.RedisURL = s.redis, s.redis.URL()
	}
	s.ways.through(&spec)
	s.recovered = postgres.Crashes(s.database.Logs(host.KeptLines))
	c, err := s.engine.Contender(ctx, spec)
	if err != nil {
		return err
	}
	subject := trial.Subject{Engine: s.engine, Arm: arm, Contender: c, Database: s.database, Upstream: s.upstream, Redis: redis, Placement: placement}
	subject.Another = func(ctx context.Context) (engine.Contender, error) { return s.engine.Contender(ctx, spec) }
	s.ways.subject(&subject)
	if subject.ColdStart, err = trial.FirstAnswer(ctx, c, first.body(arm.Tier, s.run.Seed), first.expected); err == nil {
		subject.Born = c.Pids()
		if subject.IdleMemory, err = c.Memory(ctx); err == nil {
			err = f(subject)
		}
	}
	crashed := false
	select {
	case <-c.Exited():
		crashed = true
	default:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	switch stopErr := c.Stop(stop); {
	case stopErr == nil:
	case err == nil:
		s.warn("%s did not end as it should: %v", arm.Name, stopErr)
	case crashed && !errors.Is(stopErr, engine.ErrGone): // how it ended is what whoever saw it cannot know
		err = fmt.Errorf("%s: %w\nseen by: %w", arm.Name, stopErr, err)
	}
	return err
}

// measure runs one trial and puts it on disk before it returns.
func (s *session) measure(ctx context.Context, subject trial.Subject, spec trial.Spec) (record.Trial, error) {
	try := s.try
	if try == nil {
		try = trial.Run
	}
	if s.nonconformant[subject.Arm.Name] {
		spec.Statements = nil // it is known to do otherwise, and marked so
	}
	t, log, err := try(ctx, subject, spec)
	if err != nil {
		return t, err
	}
	s.tellSurplus(&t)
	if t.Failed > 0 {
		// What a contender answers without its database says nothing of it, and must not stand as measured.
		if err := s.ended(ctx); err != nil {
			return t, err
		}
	}
	if spec.Bench != nil {
		if t.Benched, err = trial.Bench(ctx, subject, *spec.Bench); err != nil {
			return t, err
		}
	}
	if spec.Phases {
		if t.Phases, err = trial.Phases(ctx, subject, spec); err != nil {
			return t, err
		}
	}
	if spec.Staleness {
		if t.Staleness, err = s.staleness(ctx, subject, spec); err != nil {
			if gone := s.ended(ctx); gone != nil || ctx.Err() != nil {
				return t, errors.Join(gone, ctx.Err(), err)
			}
			// What was measured stands by itself.
			s.warn("%s: not known how soon a write can be read: %v", t.ID, err)
		}
	}
	if spec.ProfileSeconds > 0 {
		if t.Profile, err = trial.Profile(ctx, subject, spec); err != nil {
			if gone := s.ended(ctx); gone != nil || ctx.Err() != nil {
				return t, errors.Join(gone, ctx.Err(), err)
			}
			// What was measured stands by itself.
			s.warn("%s: no profile: %v", t.ID, err)
		}
	}
	if spec.Phases || spec.Staleness {
		// Without Redis a server answers these from its database.
		if gone := s.ended(ctx); gone != nil {
			return t, gone
		}
	}
	t.Nonconformant, t.NearGeneratorCeiling = s.nonconformant[subject.Arm.Name], s.nearCeiling(t)
	if err := s.folder.WriteTrial(t, log); err != nil {
		return t, err
	}
	s.run.Trials = append(s.run.Trials, t)
	if t.Void != nil {
		s.progress.say("void: %s: %s", t.ID, *t.Void)
	}
	return t, nil
}

// tellSurplus warns, once for an arm in a scenario, that the database was asked more than the arm's requests may take.
func (s *session) tellSurplus(t *record.Trial) {
	more := trial.Surplus(t)
	about := fmt.Sprintf("%s of scenario %s asked the database more than it may", t.Arm, t.Scenario)
	if more == "" || slices.ContainsFunc(s.run.Warnings, func(line string) bool { return strings.HasPrefix(line, about) }) {
		return
	}
	s.warn("%s, first in %s: %s.", about, t.ID, more)
}

// piloted is what a pilot showed.
type piloted struct {
	rps float64
	// around is what its process took beside warm-up and load.
	around time.Duration
}

// pilot finds about how much an arm bears: a closed loop after a warm-up. It plans; its figures are in no verdict. spec has
// the delay between client and contender, and overhead what its link was measured to add where that is asked for.
func (s *session) pilot(ctx context.Context, arm contender.Arm, q question, mixed []weighted, spec trial.Spec, warm, d time.Duration) (shown piloted, overhead *record.FaultOverhead, err error) {
	began := time.Now()
	err = s.with(ctx, arm, q, nil, func(subject trial.Subject) error {
		spec.Body, spec.Expected, spec.Operations = q.body(arm.Tier, s.run.Seed), q.expected, operations(mixed, arm, s.run.Seed)
		spec.MaxInFlight, spec.Timeout = pilotConnections, requestTimeout
		warmed, err := trial.WarmUp(ctx, subject, spec, warm)
		if err != nil {
			return err
		}
		overhead, spec.ClientProbes = warmed.ClientOverhead, 0
		result, err := trial.WarmUp(ctx, subject, spec, d)
		if err != nil {
			return err
		}
		if n := subject.Ended(subject.Contender.Pids()); n > 0 {
			return fmt.Errorf("pilot of %s: %d of its processes ended", arm.Name, n)
		}
		if result.OK == 0 {
			return fmt.Errorf("pilot of %s: no request was answered within %v, so there is no rate to plan with", arm.Name, d)
		}
		shown.rps = float64(result.OK) / result.Elapsed.Seconds()
		return nil
	})
	shown.around = time.Since(began) - warm - d
	return shown, overhead, err
}

// pilotKey names all that an arm's pilot hangs on within a run, so that scenarios which ask the same share it.
func (st *study) pilotKey(arm contender.Arm) string {
	return fmt.Sprintf("%s %s %v %v %v %v", arm.Name, st.Operation, st.Mix, st.OwnConnections, st.Delays, st.proxied())
}

// Fixed parts of every comparison.
const (
	pilotConnections      = 16
	rateMaxInFlight       = 512
	throughputMaxInFlight = 64
	requestTimeout        = 10 * time.Second
	// rateShare of the weakest arm's capacity is a rate that all bear without a queue that grows.
	rateShare = 0.5
	// overload is how much more than its own capacity an arm is offered where throughput is measured.
	overload = 1.3
)

func trialID(scenario, operation string, ask ask, block, position int, arm string, duplicate bool) string {
	load := string(ask.load)
	if ask.connections > 0 {
		load += fmt.Sprintf("-c%04d", ask.connections)
	}
	id := fmt.Sprintf("%s-%s-%s-b%02d-p%02d-%s", scenario, operation, load, block+1, position+1, fileName(arm))
	if duplicate {
		id += "-aa"
	}
	return id
}

// fileName keeps an arm's name to what every file system takes.
func fileName(arm string) string {
	out := []byte(arm)
	for i, c := range out {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '+', c == '=', c == '_', c == '.':
		default:
			out[i] = '_'
		}
	}
	return string(out)
}

// begin puts run.json on disk before the first trial, and again where the plan grows: without trials, which are beside it,
// and as one of a run that has not ended. What a kill leaves can be gone on with from there.
func (s *session) begin() error {
	head := s.run
	head.Ended, head.Complete, head.Trials, head.Verdicts, head.Capacities = time.Time{}, false, nil, nil, nil
	if err := s.folder.WriteRun(head); err != nil {
		return err
	}
	s.begun = true
	return nil
}

// finish puts run.json on disk, whatever ended the run, and adds to that error.
func (s *session) finish(err error, out streams) error {
	return errors.Join(err, s.put(err, out))
}

// put writes run.json of a run that err has ended. One that could not be written is told at once: of an interrupted run
// nobody shows the error.
func (s *session) put(err error, out streams) error {
	s.run.Ended, s.run.Complete = time.Now().UTC(), err == nil
	writeErr := s.folder.WriteRun(s.run)
	switch {
	case writeErr != nil && s.begun:
		fmt.Fprintf(out.Err, "run.json is that of before the first trial; the trials are beside it: %v\n", writeErr)
	case writeErr != nil:
		fmt.Fprintf(out.Err, "no run.json, only trials: %v\n", writeErr)
	}
	return writeErr
}

// errPartGone marks what all arms lean on and is no longer there.
var errPartGone = errors.New("is gone")

// errCrashed marks that it is there again, and was not meanwhile.
var errCrashed = errors.New("a process of PostgreSQL crashed or was killed, so that it ended all connections and recovered")

// ofParts tells whether an error names one of the parts that all arms lean on.
func ofParts(err error) bool {
	return errors.Is(err, engine.ErrGone) || errors.Is(err, errPartGone) || errors.Is(err, errCrashed)
}

// ended says which of the parts that all arms lean on is no longer there, or was not since the process under way was started, or nil.
func (s *session) ended(ctx context.Context) error {
	if err := s.engine.Alive(ctx); err != nil {
		return err
	}
	type part struct {
		name  string
		meter engine.Meter
		logs  func(int) []string
		stop  func(context.Context) error // or nil
	}
	parts := []part{
		{"the primary database", s.database.Primary(), s.database.Logs, nil},
		{"the replica", s.database.Replica(), s.database.Logs, nil},
		{"the quote service", s.upstream, s.upstream.Logs, s.upstream.Stop},
	}
	if s.redis != nil {
		parts = append(parts, part{"Redis", s.redis, s.redis.Logs, s.redis.Stop})
	}
	if s.ways != nil {
		parts = append(parts, part{"the fault proxy", s.ways.proxy, s.ways.proxy.Logs, nil})
	}
	for _, part := range parts {
		_, err := part.meter.Usage(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if part.stop != nil && errors.Is(err, engine.ErrExited) {
			// Stopping what has ended tells how it ended, with its last lines; else closing the engine would tell it once more.
			if how := part.stop(ctx); how != nil {
				return fmt.Errorf("%s %w: %w", part.name, errPartGone, how)
			}
		}
		return fmt.Errorf("%s %w: %w%s", part.name, errPartGone, err, host.QuoteLog(part.logs(10)))
	}
	crashes := postgres.Crashes(s.database.Logs(host.KeptLines))
	crashes = slices.DeleteFunc(crashes, func(line string) bool { return slices.Contains(s.recovered, line) })
	if len(crashes) > 0 {
		return fmt.Errorf("%w; its log:\n  %s", errCrashed, strings.Join(crashes, "\n  "))
	}
	return nil
}

// seeds of trials, from the run's.
func (s *session) seedOf(block, position int) uint64 { return plan.Seeds(s.run.Seed, block, position) }
