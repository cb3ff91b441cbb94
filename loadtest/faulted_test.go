package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trial"
)

// newFaultStage is the scenario pool-recovery in no time, with these faults.
func newFaultStage(t *testing.T, contenders string, blocks int, d, bound time.Duration, faults ...contract.Fault) *stage {
	t.Helper()
	inNoTime(t)
	profiles[0].blocks = blocks
	s := newStage(t, compareOptions{seed: 7, scenario: "pool-recovery", contenders: contenders})
	require.NoError(t, s.anew())
	st := s.studies[0]
	st.Faults, st.Bound, st.RateRPS, st.profile.rate = faults, contract.Span(bound), 200, d
	// What a busy machine does to so short a trial is not what is tried here.
	s.try = func(ctx context.Context, subject trial.Subject, spec trial.Spec) (record.Trial, []byte, error) {
		x, log, err := trial.Run(ctx, subject, spec)
		x.Void = nil
		return x, log, err
	}
	return s
}

func (s *stage) beginChosen(t *testing.T, dir string) record.Run {
	t.Helper()
	folder, err := record.Create(dir)
	require.NoError(t, err)
	require.Equal(t, exitOK, s.run(t.Context(), folder, time.Now().UTC(), streams{Out: &s.out, Err: s.errs}), s.errs)
	return whole(t, dir)
}

// beginWithPage measures what was chosen, and gives its page too.
func (s *stage) beginWithPage(t *testing.T) (r record.Run, page string) {
	t.Helper()
	s.report = reportAfter
	dir := filepath.Join(t.TempDir(), "run")
	r = s.beginChosen(t, dir)
	text, err := os.ReadFile(filepath.Join(dir, "report.html"))
	require.NoError(t, err)
	return r, string(text)
}

const ms = contract.Span(time.Millisecond)

// Every fault of the file is caused in every trial and taken back, the contender's way leads through the proxy, and what
// came of it is recorded and told.
func TestFaultsAreCausedInEveryTrial(t *testing.T) {
	s := newFaultStage(t, "go,node", 1, 1200*time.Millisecond, 20*time.Millisecond,
		contract.Fault{Kind: contract.FaultBackendsKilled, At: 60 * ms},
		contract.Fault{Kind: contract.FaultConnectionsReset, At: 240 * ms, Lasts: 20 * ms},
		contract.Fault{Kind: contract.FaultPacketsStalled, At: 420 * ms, Lasts: 20 * ms},
		contract.Fault{Kind: contract.FaultReplicaLost, At: 600 * ms, Lasts: 20 * ms},
		contract.Fault{Kind: contract.FaultUpstreamSlow, At: 780 * ms, Lasts: 20 * ms, Delay: contract.Delay(time.Millisecond)},
		contract.Fault{Kind: contract.FaultDatabaseRestarted, At: 960 * ms},
	)
	r := s.beginChosen(t, filepath.Join(t.TempDir(), "run"))
	require.Len(t, r.Scenarios, 1)
	is := r.Scenarios[0]
	assert.Len(t, is.Faults, 6)
	assert.Equal(t, int64(20e6), is.BoundNS)
	assert.Equal(t, [][2]string{{"go", contract.Bound}, {"node", contract.Bound}}, is.Pairs)
	require.Len(t, r.Trials, 2, "two arms, and none of them again: the rule is about each alone")
	each := []string{
		"backends killed", "backends killed", // on both servers
		"database_primary reset_peer", "database_replica reset_peer", "database_primary stall", "database_replica stall", "database_replica down", "restart",
	}
	var want []string
	for _, x := range r.Trials {
		want = append(want, each...)
		require.Len(t, x.Faults, 6)
		for i, f := range x.Faults {
			assert.Equal(t, is.Faults[i].Kind, f.Kind)
			assert.GreaterOrEqual(t, f.EndedNS-f.CausedNS, is.Faults[i].LastsNS-int64(20e6), "it is taken back when it should be")
			assert.Zero(t, f.Failed)
			if i+1 < len(x.Faults) && x.Faults[i+1].CausedNS-f.CausedNS < int64(90*time.Millisecond) {
				continue // the machine slept, and the next one came at once: half of what there should be between them
			}
			require.NotNil(t, f.FirstSuccessNS)
			if contract.FaultTraitsOf[contract.FaultKind(f.Kind)].Borne { // the longest silence counts too
				assert.GreaterOrEqual(t, f.RecoveryNS, *f.FirstSuccessNS)
				continue
			}
			assert.Equal(t, *f.FirstSuccessNS, f.RecoveryNS)
		}
		assert.Equal(t, x.Faults[0].CausedNS, x.Faults[0].EndedNS, "it takes no time")
		require.NotNil(t, x.RecoveryNS)
		assert.Nil(t, x.StatementsPerRequest, "what counts them may be cut")
	}
	assert.Equal(t, want, s.engine.Caused())
	assert.Zero(t, s.engine.Proxies())
	assert.Contains(t, s.engine.Started()[0].ReplicaURL, "#database_replica")
	assert.Contains(t, s.engine.Started()[0].UpstreamURL, "#upstream")
	for _, words := range []string{
		"Scenario pool-recovery: Q2, open loop with Poisson arrivals at 200 requests a second, with the database's backends killed at 60ms, connections to the database reset at 240ms for 20ms,",
		"the quote service slow at 780ms for 20ms by 1ms, the database restarted at 960ms",
		"Decided by longest time to recover from a fault: the median of an arm's blocks is below the bound of 20ms, and no answer is wrong.",
		"go against bound", "first success ms", "packets to and from the database stalled",
	} {
		assert.Contains(t, s.out.String(), words)
	}
	for _, v := range r.Verdicts {
		assert.Equal(t, claims.Untested, v.Verdict, "one block decides nothing")
	}
}

// A server that goes on failing after a fault is told from one that does not, and its failures void nothing.
func TestAServerThatStaysBrokenContradictsTheClaim(t *testing.T) {
	for name, c := range map[string]struct{ broken bool }{"stays broken": {true}, "recovers": {false}} {
		t.Run(name, func(t *testing.T) {
			s := newFaultStage(t, "go", 6, 1500*time.Millisecond, 100*time.Millisecond, contract.Fault{Kind: contract.FaultBackendsKilled, At: 60 * ms})
			s.engine.StaysBroken = c.broken
			try := s.try
			s.try = func(ctx context.Context, subject trial.Subject, spec trial.Spec) (record.Trial, []byte, error) {
				x, log, err := try(ctx, subject, spec)
				assert.Equal(t, c.broken, x.Failed > 0)
				return x, log, err
			}
			r := s.beginChosen(t, filepath.Join(t.TempDir(), "run"))
			require.Len(t, r.Verdicts, 1)
			v := r.Verdicts[0]
			assert.Equal(t, [2]string{"go", contract.Bound}, v.Arms)
			// How soon the other is right again is the test machine's, so that the verdict may be another than "holds".
			assert.Equal(t, c.broken, v.Verdict == claims.Contradicted, v.Reason)
			assert.Nil(t, v.NoiseFloor)
			for _, x := range r.Trials {
				require.Len(t, x.Faults, 1)
				assert.Equal(t, !c.broken, x.Faults[0].Recovered)
				assert.Equal(t, x.Faults[0].Failed, x.Faults[0].FailedBy.Status)
			}
			assert.Contains(t, s.out.String(), "“a pool checks its connections and throws broken ones away”: "+v.Verdict)
		})
	}
}

// A fault that cannot be caused is an error that names it: a trial without it would show a recovery from nothing.
func TestAFaultThatCannotBeCausedEndsTheRun(t *testing.T) {
	s := newFaultStage(t, "go", 1, 300*time.Millisecond, 50*time.Millisecond, contract.Fault{Kind: contract.FaultWorkerKilled, At: 20 * ms})
	folder, err := record.Create(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, err)
	assert.Equal(t, exitCannot, s.run(t.Context(), folder, time.Now().UTC(), streams{Out: &s.out, Err: s.errs}))
	assert.Contains(t, s.errs.String(), "fault worker_killed: go has 1 processes that can be seen here, and one beside its first is expected")
}

// In a trial with faults a failed request is an answer, but not where the database crashed as well, which nobody asked for.
func TestACrashOfTheDatabaseIsNoFault(t *testing.T) {
	s := newFaultStage(t, "go", 1, 300*time.Millisecond, 50*time.Millisecond, contract.Fault{Kind: contract.FaultBackendsKilled, At: 20 * ms})
	s.engine.StaysBroken = true
	s.engine.BeforeAttack = beforeTrials(s.engine.CrashBackend)
	dir := filepath.Join(t.TempDir(), "run")
	folder, err := record.Create(dir)
	require.NoError(t, err)
	assert.Equal(t, exitCannot, s.run(t.Context(), folder, time.Now().UTC(), streams{Out: &s.out, Err: s.errs}))
	assert.Contains(t, s.errs.String(), "a process of PostgreSQL crashed or was killed")
	saved, err := record.Open(dir)
	require.NoError(t, err)
	assert.Empty(t, saved.Run.Trials)
}
