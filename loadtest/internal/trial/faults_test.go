package trial

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

// stepsOf has one step for each rune: "." one success, "x" one failure (status), "w" one wrong answer, "b" one of each of
// the first two, " " nothing.
func stepsOf(text string) []agent.Outcome {
	var out []agent.Outcome
	for _, c := range text {
		var o agent.Outcome
		switch c {
		case '.':
			o.OK = 1
		case 'x':
			o.FailedBy.Status = 1
		case 'w':
			o.FailedBy.WrongAnswer = 1
		case 'b':
			o.OK, o.FailedBy.Status = 1, 1
		}
		out = append(out, o)
	}
	return out
}

// By hand, in steps of 10 ms: the fault is caused with step 2, has ended with step 4, and is looked at up to step 12.
func TestRecovery(t *testing.T) {
	at := func(steps int64) int64 { return steps * int64(faultResolution) }
	for name, c := range map[string]struct {
		steps      string
		first      int64 // in steps; -1: none
		recovery   int64
		recovered  bool
		ok, failed uint64
	}{
		"nothing fails": {"................", 1, 1, true, 10, 0},
		"what fails before the end is no recovery":   {"..xx............", 1, 1, true, 8, 2},
		"what fails before the cause is not counted": {"xx..............", 1, 1, true, 10, 0},
		"three steps of failures":                    {"..xxxxx.........", 4, 4, true, 5, 5},
		"a success between failures ends nothing":    {"..xx.xx.........", 1, 3, true, 6, 4},
		"a step with both":                           {"..xxbb..........", 1, 2, true, 8, 4},
		"nobody asks for a while":                    {"..xxx    .......", 6, 6, true, 3, 3},
		"all fails to the end":                       {"..xxxxxxxxxxxx..", -1, 8, false, 0, 10},
		"and so does the last":                       {"..xx.......x....", 1, 8, false, 7, 3},
		"of the next fault nothing counts":           {"............xxxx", 1, 1, true, 10, 0},
		"silence to the end is no recovery":          {"..xx        ....", -1, 8, false, 0, 2},
		"a failure after a success":                  {"....x.x.........", 2, 3, true, 8, 2},
		"wrong answers are failures":                 {"....ww..........", 3, 3, true, 8, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := record.FaultOutcome{CausedNS: at(2), EndedNS: at(4), UntilNS: at(12)}
			assertRecovery(t, &f, c.steps, at(c.first), at(c.recovery), c.recovered)
			assert.Equal(t, []uint64{c.ok, c.failed, f.FailedBy.Total()}, []uint64{f.OK, f.Failed, c.failed})
		})
	}
}

// The step in which the next fault is caused belongs to that one, wherever in it that is.
func TestAStepBelongsToOneFault(t *testing.T) {
	step := int64(faultResolution)
	for _, into := range []int64{0, 1, step / 2, step - 1} {
		cause := 8*step + into
		first := record.FaultOutcome{CausedNS: 2 * step, EndedNS: 2 * step, UntilNS: cause}
		next := record.FaultOutcome{CausedNS: cause, EndedNS: cause, UntilNS: 16 * step}
		steps := stepsOf("........xx......") // all that fails is the next one's
		recovery(&first, steps, -1)
		recovery(&next, steps, -1)
		assert.Zero(t, first.Failed, into)
		assert.True(t, first.Recovered, into)
		assert.EqualValues(t, 2, next.Failed, into)
		assert.EqualValues(t, 14, first.OK+first.Failed+next.OK+next.Failed, "each once")
	}
}

// A restart that takes long leaves no time in which a server that never recovers could be told from one that does.
func TestAFaultThatEndsTooLateSettlesNothing(t *testing.T) {
	trial := func(kind contract.FaultKind, ended, until time.Duration) *record.Trial {
		return &record.Trial{Faults: []record.FaultOutcome{{Kind: string(kind), EndedNS: int64(ended), UntilNS: int64(until)}}}
	}
	assert.Nil(t, unsettled(trial(contract.FaultDatabaseRestarted, 12*time.Second, 14*time.Second), time.Second))
	why := unsettled(trial(contract.FaultDatabaseRestarted, 13*time.Second, 14*time.Second), time.Second)
	require.NotNil(t, why)
	assert.Contains(t, *why, "database_restarted ended 13.0 s after the trial's beginning, and the 1.0 s until")
	assert.Nil(t, unsettled(trial(contract.FaultDatabaseRestarted, 13*time.Second, 14*time.Second), 0), "no bound")
	slow := trial(contract.FaultDatabaseRestarted, 13*time.Second, 14*time.Second)
	slow.RecoveryNS = new(int64)
	*slow.RecoveryNS = int64(1900 * time.Millisecond)
	assert.Nil(t, unsettled(slow, time.Second), "another of its faults took longer than the bound")
	assert.Nil(t, unsettled(trial(contract.FaultRedisGone, 13*time.Second, 14*time.Second), time.Second), "it counts from its cause")
}

// assertRecovery looks at what recovery makes of a fault's steps; a first success below 0 stands for none.
func assertRecovery(t *testing.T, f *record.FaultOutcome, steps string, first, longest int64, recovered bool) {
	t.Helper()
	recovery(f, stepsOf(steps), -1)
	assertRecovered(t, *f, first, longest, recovered)
}

// assertRecovered holds what recovery made of a fault against what it should have.
func assertRecovered(t *testing.T, f record.FaultOutcome, first, longest int64, recovered bool) {
	t.Helper()
	if first < 0 {
		assert.Nil(t, f.FirstSuccessNS)
	} else {
		require.NotNil(t, f.FirstSuccessNS)
		assert.Equal(t, first, *f.FirstSuccessNS)
	}
	assert.Equal(t, longest, f.RecoveryNS)
	assert.Equal(t, recovered, f.Recovered)
}

// What a server is to bear counts from its cause on.
func TestRecoveryFromWhatIsToBeBorne(t *testing.T) {
	at := func(steps int64) int64 { return steps * int64(faultResolution) }
	for name, c := range map[string]struct {
		steps           string
		first, recovery int64
		recovered       bool
	}{
		"nothing fails":            {"................", 1, 1, true},
		"what was under way fails": {"..x.............", 2, 2, true},
		"all fails meanwhile":      {"..xxxxx.........", 6, 6, true},
		"one of many fails":        {"......x.........", 1, 5, true},
		"all fails to the end":     {"..xxxxxxxxxxxxxx", -1, 10, false},
		"all wait meanwhile":       {"..     .........", 6, 6, true},
		"all but the first wait":   {"...    .........", 1, 5, true},
		"all wait beyond its time": {"....            ", 1, 8, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := record.FaultOutcome{Kind: string(contract.FaultRedisGone), CausedNS: at(2), EndedNS: at(7), UntilNS: at(12)}
			assertRecovery(t, &f, c.steps, at(c.first), at(c.recovery), c.recovered)
		})
	}
}

// Where operations are mixed, silence is that of the one that decides: others may have no part in what is gone.
func TestSilenceIsThatOfTheOperationThatDecides(t *testing.T) {
	at := func(steps int64) int64 { return steps * int64(faultResolution) }
	const deciding = 1
	for name, c := range map[string]struct {
		steps           string // ".": both are answered, "o": only the other is
		first, recovery int64
		recovered       bool
	}{
		"both are answered":          {"................", 1, 1, true},
		"it waits, the other not":    {"..oooooo........", 7, 7, true},
		"it waits to the end":        {"..oooooooooooooo", -1, 10, false},
		"it fails, the other is not": {"..ooxooo........", 7, 7, true},
	} {
		t.Run(name, func(t *testing.T) {
			steps := stepsOf(strings.ReplaceAll(c.steps, "o", "."))
			for i := range steps {
				if steps[i].OK > 0 {
					steps[i].OKOf = []uint64{1, 1}
				}
				if c.steps[i] == 'o' {
					steps[i].OKOf[deciding] = 0
				}
			}
			f := record.FaultOutcome{Kind: string(contract.FaultRedisSlow), CausedNS: at(2), EndedNS: at(7), UntilNS: at(12)}
			recovery(&f, steps, deciding)
			assertRecovered(t, f, at(c.first), at(c.recovery), c.recovered)
		})
	}
}

// A trial's record has the longest recovery, each fault up to the next, and coarser steps that add up.
func TestFillFaults(t *testing.T) {
	began := time.Now()
	moment := func(steps int) time.Time { return began.Add(time.Duration(steps) * faultResolution) }
	r := &agent.Result{Began: began, Outcomes: stepsOf("..xxx......x....xx......")}
	x := record.Trial{DurationNS: int64(24 * faultResolution), OK: 18, Failed: 6}
	planned := []record.PlannedFault{{Kind: "backends_killed"}, {Kind: "replica_lost", LastsNS: 1}}
	require.NoError(t, fillFaults(&x, r, planned, []time.Time{moment(2), moment(11)}, []time.Time{moment(2), moment(12)}))
	assert.Equal(t, int64(4*faultResolution), x.Faults[0].RecoveryNS)
	assert.Equal(t, int64(6*faultResolution), x.Faults[1].RecoveryNS)
	assert.Equal(t, int64(11*faultResolution), x.Faults[0].UntilNS)
	assert.Equal(t, x.DurationNS, x.Faults[1].UntilNS)
	assert.Equal(t, int64(6*faultResolution), *x.RecoveryNS)
	assert.Equal(t, []uint64{7, 7, 4}, x.Outcomes.OK)
	assert.Equal(t, []uint64{3, 3, 0}, x.Outcomes.Failed)
	require.ErrorContains(t, fillFaults(&x, &agent.Result{}, planned, nil, nil), "no outcomes")
}

// Failures void no trial that has faults, and neither does a lag that is small beside what it tells.
func TestVoidUnderFaults(t *testing.T) {
	good := record.Trial{Load: record.LoadRate, Offered: 1000, Sent: 1000, OK: 600, Failed: 400, DurationNS: 2e9, Faults: []record.FaultOutcome{{Kind: "database_restarted", CausedNS: 5e8, EndedNS: 1e9}}}
	for name, c := range map[string]struct {
		change func(*record.Trial)
		says   string
		spoilt bool
	}{
		"failures":               {func(*record.Trial) {}, "", false},
		"nothing answered":       {func(t *record.Trial) { t.OK, t.Failed = 0, 1000 }, "", false},
		"nothing asked":          {func(t *record.Trial) { t.OK, t.Failed = 0, 0 }, "no request was answered", false},
		"a little late":          {func(t *record.Trial) { t.SendLagP99NS = 50e6 }, "", false},
		"late":                   {func(t *record.Trial) { t.SendLagP99NS = 101e6 }, "the limit is 100 ms", true},
		"the hypervisor":         {func(t *record.Trial) { t.MachineStealShare = 0.2 }, "hypervisor", true},
		"a fault too early":      {func(t *record.Trial) { t.Faults[0].CausedNS = 0 }, "database_restarted was caused before the load began", true},
		"a fault without an end": {func(t *record.Trial) { t.Faults[0].EndedNS = 2e9 }, "database_restarted ended 2.0 s after the trial's beginning, when nothing was sent", false},
	} {
		t.Run(name, func(t *testing.T) {
			x := good
			x.Faults = append([]record.FaultOutcome(nil), good.Faults...)
			c.change(&x)
			x.Void = void(&x, nil)
			assert.Equal(t, c.spoilt, Spoilt(&x))
			if c.says == "" {
				assert.Nil(t, x.Void)
				return
			}
			require.NotNil(t, x.Void)
			assert.Contains(t, *x.Void, c.says)
		})
	}
}

func TestEveryKindOfFaultHasACause(t *testing.T) {
	for _, kind := range contract.FaultKinds() {
		assert.Contains(t, causes, kind)
		traits := contract.FaultTraitsOf[kind]
		assert.NotEmpty(t, traits.Words, kind)
		assert.False(t, traits.Lasts && traits.Instant, kind)
	}
	assert.Len(t, causes, len(contract.FaultKinds()))
}

// link keeps what was set, or fails to set one kind.
type link struct {
	engine.FaultLink
	faults []engine.Fault
	all    []engine.FaultKind
	fails  engine.FaultKind
}

func (l *link) Faults() []engine.Fault { return l.faults }
func (l *link) Set(ctx context.Context, faults ...engine.Fault) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.faults = faults
	if len(faults) == 0 {
		l.all = append(l.all, "")
		return nil
	}
	l.all = append(l.all, faults[0].Kind)
	if faults[0].Kind == l.fails {
		return errors.New("no")
	}
	return nil
}

// Whatever ends a trial, what was set before is set again.
func TestAFaultIsTakenBack(t *testing.T) {
	delay := engine.Fault{Kind: engine.FaultLatency, Delay: time.Millisecond}
	stall := []record.PlannedFault{{Kind: string(contract.FaultPacketsStalled), LastsNS: int64(time.Hour)}}
	for name, c := range map[string]struct {
		planned []record.PlannedFault
		fails   engine.FaultKind
		says    string
	}{
		"when its time is over":    {[]record.PlannedFault{{Kind: string(contract.FaultPacketsStalled), LastsNS: 1}}, "", ""},
		"when the attack failed":   {stall, "", "context canceled"},
		"when it could not be set": {stall, engine.FaultStall, "fault packets_stalled: no"},
	} {
		t.Run(name, func(t *testing.T) {
			l := &link{faults: []engine.Fault{delay}, fails: c.fails}
			failed := make(chan struct{}, 1)
			f := causeFaults(t.Context(), Subject{Links: Links{LinkReplica: l}}, c.planned, func() { failed <- struct{}{} })
			err := f.end(c.planned[0].LastsNS > 1 && c.fails == "")
			if c.says == "" {
				require.NoError(t, err)
				assert.Len(t, f.ended, 1)
			} else {
				require.ErrorContains(t, err, c.says)
				<-failed
			}
			assert.Equal(t, []engine.Fault{delay}, l.faults)
		})
	}
	t.Run("no proxy in the way", func(t *testing.T) {
		err := causeFaults(t.Context(), Subject{}, stall, func() {}).end(false)
		require.ErrorContains(t, err, "the contender's way leads through no fault proxy")
	})
	for kind, name := range map[contract.FaultKind]string{contract.FaultUpstreamSlow: LinkUpstream, contract.FaultRedisSlow: LinkRedis} {
		t.Run(string(kind)+" is slower by as much as is set", func(t *testing.T) {
			l := &link{faults: []engine.Fault{delay}}
			f := &faulting{subject: Subject{Links: Links{name: l}}}
			undo, err := causes[kind](t.Context(), f, record.PlannedFault{DelayNS: int64(time.Second)}, func() {})
			require.NoError(t, err)
			assert.Equal(t, []engine.Fault{{Kind: engine.FaultLatency, Delay: time.Second + time.Millisecond}}, l.faults)
			require.NoError(t, undo(t.Context()))
			assert.Equal(t, []engine.Fault{delay}, l.faults)
		})
	}
}

// processes is a contender of these.
type processes struct {
	engine.Contender
	pids []int
}

func (p processes) Pids() []int { return p.pids }

// The oldest of a contender's workers is killed, never its first process, never its youngest, and never one that is not there.
func TestAWorkerIsKilled(t *testing.T) {
	start := func() *exec.Cmd {
		c := exec.Command("sleep", "600")
		require.NoError(t, c.Start())
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		return c
	}
	first, oldest := start(), start()
	time.Sleep(50 * time.Millisecond) // the kernel tells starts apart by ticks of 10 ms
	youngest := start()
	f := &faulting{subject: Subject{Arm: contender.Arm{Name: "node-cluster"}, Contender: processes{pids: []int{first.Process.Pid, youngest.Process.Pid, oldest.Process.Pid}}}}
	begun := false
	undo, err := killWorker(t.Context(), f, record.PlannedFault{}, func() { begun = true })
	require.NoError(t, err)
	assert.Nil(t, undo)
	assert.True(t, begun)
	require.ErrorContains(t, oldest.Wait(), "killed")
	require.NoError(t, youngest.Process.Signal(syscall.Signal(0)), "it lives")
	f.subject.Contender = processes{pids: []int{first.Process.Pid, oldest.Process.Pid}}
	_, err = killWorker(t.Context(), f, record.PlannedFault{}, func() {})
	require.ErrorContains(t, err, "could not be killed")
	f.subject.Contender = processes{pids: []int{first.Process.Pid}}
	_, err = killWorker(t.Context(), f, record.PlannedFault{}, func() {})
	require.ErrorContains(t, err, "node-cluster has 1 processes that can be seen here")
	require.NoError(t, first.Process.Signal(syscall.Signal(0)), "it lives")
}
