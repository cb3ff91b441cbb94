package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/conformance"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/native"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/scrape"
	"lab/loadtest/internal/trial"
)

// victim is a process that is killed in the middle of a trial of an arm.
type victim struct {
	name, arm string
	pid       func(ctx context.Context, e *killing, c engine.Contender) (int, error)
	// says are what the run has to say of it; ends is whether that is its end.
	says []string
	ends bool

	killed error
	// trials has the seed of those of the process whose trial it was.
	trials uint64
}

// killing is a real engine in which victims are killed, each once, one in a trial and none after one that ends the run.
type killing struct {
	engine.Engine
	database engine.Database
	redis    engine.Service

	mu     sync.Mutex
	left   []*victim
	killed []*victim
}

func (e *killing) Database(ctx context.Context, spec engine.DatabaseSpec) (_ engine.Database, err error) {
	e.database, err = e.Engine.Database(ctx, spec)
	return e.database, err
}

func (e *killing) Redis(ctx context.Context) (_ engine.Service, err error) {
	e.redis, err = e.Engine.Redis(ctx)
	return e.redis, err
}

// next is the victim in a trial of an arm, or nil.
func (e *killing) next(arm string, seed uint64) *victim {
	e.mu.Lock()
	defer e.mu.Unlock()
	if slices.ContainsFunc(e.killed, func(v *victim) bool { return v.ends || v.trials == seed }) {
		return nil
	}
	i := slices.IndexFunc(e.left, func(v *victim) bool { return v.arm == arm })
	if i < 0 {
		return nil
	}
	v := e.left[i]
	v.trials = seed
	e.left, e.killed = slices.Delete(e.left, i, i+1), append(e.killed, v)
	return v
}

// Agent kills once the contender answers what it was sent, so that it is neither before the load nor after it.
func (e *killing) Agent(ctx context.Context, against engine.Contender, stdin []byte) (engine.AgentResult, error) {
	var job agent.Job
	if err := json.Unmarshal(stdin, &job); err != nil {
		return engine.AgentResult{}, err
	}
	var v *victim
	if !job.Closed { // neither a pilot nor a warm-up
		v = e.next(against.Arm().Name, job.Seed)
	}
	if v == nil {
		return e.Engine.Agent(ctx, against, stdin)
	}
	pid, err := v.pid(ctx, e, against)
	if err != nil {
		return engine.AgentResult{}, err
	}
	ended := make(chan struct{})
	var kill sync.WaitGroup
	kill.Go(func() { v.killed = killAtWork(ctx, pid, against, ended) })
	result, err := e.Engine.Agent(ctx, against, stdin)
	close(ended)
	kill.Wait()
	return result, err
}

// killAtWork kills a process as soon as the contender has answered more than it had: however slow the machine is, a load asks
// something.
func killAtWork(ctx context.Context, pid int, c engine.Contender, ended <-chan struct{}) error {
	answered := func() (float64, error) {
		samples, err := scrape.Get(ctx, c.MetricsURL())
		return samples.Sum("lab_requests_total"), err
	}
	before, err := answered()
	if err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return fmt.Errorf("the load was over before %s had answered anything", c.Arm().Name)
		case <-tick.C:
		}
		now, err := answered()
		if err != nil {
			return err
		}
		if now > before {
			return syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// backend is a process that answers the contender on one of the two servers.
func backend(url func(engine.Database) string) func(context.Context, *killing, engine.Contender) (int, error) {
	return func(ctx context.Context, e *killing, _ engine.Contender) (pid int, err error) {
		c, err := pgx.Connect(ctx, url(e.database))
		if err != nil {
			return 0, err
		}
		defer c.Close(context.WithoutCancel(ctx))
		const first = `select pid from pg_stat_activity where usename = 'lab' and backend_type = 'client backend' order by backend_start limit 1`
		return pid, c.QueryRow(ctx, first).Scan(&pid)
	}
}

// killableStage is a comparison of real servers, with trials that last a moment.
func killableStage(t *testing.T, e *killing, contenders string) *stage {
	t.Helper()
	l, err := openLab()
	require.NoError(t, err)
	binary := filepath.Join(l.root, "bin", "loadtest")
	require.FileExists(t, binary, "run `make build-loadtest build-go build-node` first")
	c, err := newComparison(l, compareOptions{profile: "smoke", engine: "native", contenders: contenders, seed: 7, power: 100 * defaultPower})
	require.NoError(t, err)
	c.proofs = allConformant
	c.report = func(_ context.Context, dir string, _ streams) error {
		_, err := record.Open(dir)
		return err
	}
	c.openEngine = func(ctx context.Context, _ string, log func(string)) (_ engine.Engine, err error) {
		e.Engine, err = native.New(ctx, native.Options{Root: l.root, Contract: l.contract, Log: log, Binary: binary})
		return e, err
	}
	return &stage{comparison: c, errs: &lockedBuffer{}}
}

// What is killed under real servers in the middle of a trial is named, that trial is in no figure, and what the run lacks then can be
// measured. In which of its parts somebody's turn comes hangs on the order that the seed gives.
func TestKillsInTheMiddleOfATrial(t *testing.T) {
	const (
		ms    = time.Millisecond
		redis = "go+MASTER=redis"
	)
	all := profiles
	t.Cleanup(func() { profiles = all })
	profiles = []profile{{
		name: "smoke", size: "small", form: conformance.Short, blocks: 1, floorBlocks: 1,
		pilotWarm: 200 * ms, pilot: 400 * ms, warm: trial.Warmth{Window: 100 * ms, Most: 300 * ms}, rate: 1200 * ms, throughput: 400 * ms,
		capacity: capacityTimes{ceiling: 200 * ms},
	}}
	const crashed = "loadtest compare: a process of PostgreSQL crashed or was killed"
	left := []*victim{
		{name: "a backend of the primary", arm: "go", ends: true, pid: backend(engine.Database.AdminPrimaryURL), says: []string{crashed, "\n  primary: ", "was terminated by signal 9"}},
		{name: "a backend of the replica", arm: "go", ends: true, pid: backend(engine.Database.AdminReplicaURL), says: []string{crashed, "\n  replica: ", "was terminated by signal 9"}},
		{
			name: "a worker of a cluster", arm: clusterArm, says: []string{"void: ", ": 1 of the contender's processes ended"},
			pid: func(_ context.Context, _ *killing, c engine.Contender) (int, error) {
				pids := c.Pids()
				if len(pids) < 2 {
					return 0, fmt.Errorf("%s has no workers: %v", c.Arm().Name, pids)
				}
				return pids[len(pids)-1], nil
			},
		},
	}
	contenders := []string{"go", clusterArm}
	if _, err := exec.LookPath("redis-server"); err == nil {
		contenders = append(contenders, redis)
		left = append(left, &victim{
			name: "Redis", arm: redis, ends: true, says: []string{"loadtest compare: Redis is gone: ", "redis ended with signal: killed; its last lines:\n  ", "Ready to accept connections"},
			pid: func(_ context.Context, e *killing, _ engine.Contender) (int, error) { return e.redis.Pids()[0], nil },
		})
	} else {
		t.Run("Redis", func(t *testing.T) {
			t.Skip("redis-server is not installed: that Redis is killed in a trial is NOT TESTED here")
		})
	}
	dir := filepath.Join(t.TempDir(), "run")
	var workers []*victim
	for part := 1; ; part++ {
		e := &killing{left: left}
		s := killableStage(t, e, strings.Join(contenders, ","))
		code := exitOK
		if part == 1 {
			code = s.begin(t.Context(), t, dir)
		} else {
			var err error
			code, err = s.resume(t.Context(), t, dir)
			require.NoError(t, err)
		}
		said, ends := s.errs.String(), false
		saved, err := record.Open(dir)
		require.NoError(t, err, said)
		for _, v := range e.killed {
			t.Logf("part %d: %s was killed", part, v.name)
			require.NoError(t, v.killed, "%s: %s", v.name, said)
			for _, words := range v.says {
				assert.Contains(t, said, words, v.name)
			}
			assert.LessOrEqual(t, strings.Count(said, "Ready to accept connections"), 1, "told once")
			if !v.ends {
				workers = append(workers, v)
				continue
			}
			ends = true
			for _, x := range saved.Run.Trials {
				assert.NotEqual(t, v.trials, x.Seed, "%s: without %s", x.ID, v.name)
			}
		}
		for _, v := range workers {
			n := 0
			for _, x := range saved.Run.Trials {
				if x.Seed != v.trials {
					assert.Zero(t, x.ProcessesEnded, x.ID)
					continue
				}
				n++
				assert.Equal(t, 1, x.ProcessesEnded, x.ID)
				require.NotNil(t, x.Void, x.ID)
				assert.Equal(t, "1 of the contender's processes ended", *x.Void, x.ID)
			}
			assert.Equal(t, 2, n, "the trial in which %s was killed, and the one after it", v.name)
		}
		left = e.left
		if !ends {
			require.Equal(t, exitOK, code, said)
			assert.Empty(t, left, "nobody killed them")
			break
		}
		require.Equal(t, exitCannot, code, said)
		assert.Contains(t, said, "what it lacks is measured by: loadtest compare --resume")
		assert.False(t, saved.Run.Complete)
	}
	require.Len(t, workers, 1)
	r := whole(t, dir)
	if !slices.ContainsFunc(r.Trials, func(x record.Trial) bool { return x.Arm == clusterArm && x.Void == nil }) { // no other process of that arm
		for _, v := range r.Verdicts {
			if slices.Contains(v.Arms[:], clusterArm) {
				assert.Nil(t, v.Ratio, "%v: %s", v.Arms, v.Reason)
			}
		}
	}
}
