package conformance

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
)

// subject is the arm that is being checked.
type subject struct {
	*prover
	arm     contender.Arm
	setting contract.Setting
	client  *client

	// shared runs against the shared database, which nobody changes. Checks that read use it, so that it grows old.
	shared engine.Contender
	// mutated is what came of each mutation, made once for several checks.
	mutated  map[string]*mutation
	mutating sync.Mutex
	// background is what goes on beside the checks.
	background sync.WaitGroup
	// runs counts, by question, how often the shared contender was asked it.
	runs sync.Map
	// together is how many of a question were asked at once and compared, at most.
	together map[*question]int
	// slow are the clients that the check hostile left waiting.
	slow *slowClients
}

// startError says that the arm did not become ready, which is a finding.
type startError struct{ cause error }

func (e *startError) Error() string { return e.cause.Error() }
func (e *startError) Unwrap() error { return e.cause }

// provenMasterMiB is how much master data in bulk is kept where that is proven: as much as the seed makes.
const provenMasterMiB = "1"

// patientTimeout is REQUEST_TIMEOUT where a check is not about time: two cores may be busy with something else.
const patientTimeout = "60s"

// start starts the arm against a database.
func (s *subject) start(ctx context.Context, db engine.Database, environment map[string]string) (engine.Contender, error) {
	return s.startAt(ctx, db.PrimaryURL(), db.ReplicaURL(), environment)
}

func (s *subject) startAt(ctx context.Context, primary, replica string, environment map[string]string) (engine.Contender, error) {
	merged := map[string]string{"REQUEST_TIMEOUT": patientTimeout}
	if s.arm.MasterMiB() > 0 {
		// How much there is of what no request reads changes no answer, and each check makes databases and processes of its own.
		merged[contender.MasterMB] = provenMasterMiB
	}
	for name, value := range environment {
		merged[name] = value
	}
	redis, err := s.redisOf(ctx, s.arm)
	if err != nil {
		return nil, err
	}
	c, err := s.Engine.Contender(ctx, engine.ContenderSpec{
		Arm: s.arm, PrimaryURL: primary, ReplicaURL: replica, UpstreamURL: s.upstream.URL(), RedisURL: redis, Environment: merged,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &startError{err}
	}
	return c, nil
}

// url gives the address of the contender on the shared database and starts it where there is none.
func (s *subject) url(ctx context.Context) (string, error) {
	if s.shared == nil {
		c, err := s.start(ctx, s.database, nil)
		if err != nil {
			return "", err
		}
		s.shared = c
	}
	return s.shared.GraphQLURL(), nil
}

// asked tells how often the shared contender was asked a question.
func (s *subject) asked(q *question) int {
	if n, ok := s.runs.Load(q); ok {
		return int(n.(*atomic.Int64).Load())
	}
	return 0
}

func (s *subject) countRun(url string, q *question) {
	if s.shared != nil && url == s.shared.GraphQLURL() {
		n, _ := s.runs.LoadOrStore(q, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	}
}

// withFork runs f on a fresh copy of the data and a fresh contender.
func (s *subject) withFork(ctx context.Context, environment map[string]string, f func(db engine.Database, c engine.Contender) error) error {
	db, err := s.fork(ctx)
	if err != nil {
		return err
	}
	defer s.dropFork(ctx, db)
	c, err := s.start(ctx, db, environment)
	if err != nil {
		return err
	}
	defer s.stop(ctx, c.Stop)
	return f(db, c)
}

// dropFork drops a database and what pg_stat_statements knows of it, which has room for so many statements only.
func (s *subject) dropFork(ctx context.Context, db engine.Database) {
	for _, url := range []string{db.AdminPrimaryURL(), db.AdminReplicaURL()} {
		if err := forget(context.WithoutCancel(ctx), url); err != nil {
			s.Log(fmt.Sprintf("conformance: %s: reset pg_stat_statements: %v", s.arm.Name, err))
		}
	}
	s.stop(ctx, db.Stop)
}

func forget(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `select pg_stat_statements_reset(0, (select oid from pg_database where datname = current_database()), 0)`)
	return err
}

// stop stops something whose end is not what is being checked.
func (s *subject) stop(ctx context.Context, stop func(context.Context) error) {
	// A connection that was opened and never used looks to a server like a request that is about to come, and it waits.
	s.client.close()
	if err := stop(context.WithoutCancel(ctx)); err != nil {
		s.Log(fmt.Sprintf("conformance: %s: %v", s.arm.Name, err))
	}
}

func (s *subject) close(ctx context.Context) {
	s.background.Wait()
	s.client.close()
	if s.slow != nil {
		s.slow.close()
	}
	if s.shared != nil {
		s.stop(ctx, s.shared.Stop)
		s.shared = nil
	}
}

// checkAlive reports a contender that ended by itself.
func (s *subject) checkAlive(t *tally) {
	if s.shared == nil {
		return
	}
	select {
	case <-s.shared.Exited():
		t.find(Finding{Operation: "the process", Expected: "that it goes on", Got: "it ended", Detail: strings.Join(s.shared.Logs(5), " | ")})
		s.shared = nil
	default:
	}
}

// tally collects what a check finds. Its methods may be called by several goroutines.
type tally struct {
	check   string
	answers atomic.Int64

	mu    sync.Mutex
	list  []Finding
	kinds map[Finding]bool
	total int
	notes []string
}

// find keeps a finding; one of the same operation, place and expectation is only counted.
func (t *tally) find(f Finding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.Check = t.check
	t.total++
	kind := Finding{Operation: f.Operation, Path: f.Path, Expected: f.Expected}
	if t.kinds[kind] || len(t.list) >= mostFindings {
		return
	}
	if t.kinds == nil {
		t.kinds = map[Finding]bool{}
	}
	t.kinds[kind] = true
	t.list = append(t.list, f)
}

// note keeps an observation that breaks no rule.
func (t *tally) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// enough says that going on would only repeat what was found.
func (t *tally) enough() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.list) >= mostFindings || t.total >= mostRepeats
}

// distinct is how many findings differ in operation, place or expectation, up to those that a report lists.
func (t *tally) distinct() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.list)
}

// eachOf calls f for 0 to n-1 from so many goroutines and waits for all. It stops early with the context.
func eachOf(ctx context.Context, n, workers int, f func(i int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(n, workers) {
		wait.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wait.Wait()
}

// atOnce calls f from n goroutines that begin together, as nearly as can be.
func atOnce(n int, f func(i int)) {
	gate := make(chan struct{})
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			<-gate
			f(i)
		})
	}
	close(gate)
	wait.Wait()
}

// eventually asks until the answer is yes or the patience ends; it returns the last answer.
func eventually(ctx context.Context, patience time.Duration, ask func() bool) bool {
	deadline := time.Now().Add(patience)
	pause := time.Millisecond
	for {
		if ask() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
		pause = min(2*pause, 20*time.Millisecond)
	}
}
