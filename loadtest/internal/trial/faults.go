package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/record"
)

// What a trial with faults looks at. Requests are counted in steps of faultResolution, by when they were over; the
// record keeps the coarser outcomeStep, which is enough to look at.
const (
	faultResolution = 10 * time.Millisecond
	outcomeStep     = 100 * time.Millisecond
)

// The names of a contender's links through a fault proxy.
const (
	LinkPrimary  = "database_primary"
	LinkReplica  = "database_replica"
	LinkUpstream = "upstream"
	LinkRedis    = "redis"
)

// LinksOf are the links of each way that leads through a fault proxy.
var LinksOf = map[string][]string{
	contract.WayDatabase: {LinkPrimary, LinkReplica}, contract.WayUpstream: {LinkUpstream}, contract.WayRedis: {LinkRedis},
}

// Links are a contender's links by their names: to be made worse, and good again. What is not among them leads past the proxy.
type Links map[string]engine.FaultLink

// named are those of these names that there are.
func (l Links) named(names []string) []engine.FaultLink {
	var out []engine.FaultLink
	for _, name := range names {
		if link := l[name]; link != nil {
			out = append(out, link)
		}
	}
	return out
}

// cause causes a fault. It calls begun right before it does, and gives what takes the fault back, or nil where nothing is
// left to take back. An error says that it was not caused, or that nobody was hit: such a trial would show a recovery from
// nothing.
type cause func(ctx context.Context, f *faulting, planned record.PlannedFault, begun func()) (undo func(context.Context) error, err error)

// causes has a cause for every kind of the contract.
var causes = map[contract.FaultKind]cause{
	contract.FaultBackendsKilled:    killBackends,
	contract.FaultDatabaseRestarted: restartDatabase,
	contract.FaultReplicaLost:       onLinks([]string{LinkReplica}, engine.Fault{Kind: engine.FaultDown}),
	contract.FaultConnectionsReset:  onLinks(LinksOf[contract.WayDatabase], engine.Fault{Kind: engine.FaultResetPeer}),
	contract.FaultPacketsStalled:    onLinks(LinksOf[contract.WayDatabase], engine.Fault{Kind: engine.FaultStall}),
	contract.FaultRedisGone:         onLinks(LinksOf[contract.WayRedis], engine.Fault{Kind: engine.FaultDown}),
	contract.FaultRedisSlow:         slow(contract.WayRedis),
	contract.FaultUpstreamSlow:      slow(contract.WayUpstream),
	contract.FaultWorkerKilled:      killWorker,
}

// killBackends ends the contender's connections on both databases. Only its role is the contenders' own.
func killBackends(ctx context.Context, f *faulting, _ record.PlannedFault, begun func()) (func(context.Context) error, error) {
	if f.subject.Database == nil {
		return nil, errors.New("there is no database")
	}
	var connections []*pgx.Conn
	defer func() {
		for _, c := range connections {
			_ = c.Close(context.WithoutCancel(ctx))
		}
	}()
	for _, url := range []string{f.subject.Database.AdminPrimaryURL(), f.subject.Database.AdminReplicaURL()} {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return nil, err
		}
		connections = append(connections, c)
	}
	begun()
	var killed int64
	for _, c := range connections {
		var n int64
		const kill = `select count(pg_terminate_backend(pid))::int8 from pg_stat_activity
			where usename = 'lab' and datname = current_database() and pid <> pg_backend_pid()`
		if err := c.QueryRow(ctx, kill).Scan(&n); err != nil {
			return nil, err
		}
		killed += n
	}
	if killed == 0 {
		return nil, errors.New("the contender had no connection to a database")
	}
	return nil, nil
}

// restartDatabase also keeps what the servers had used, since their accounts begin anew.
func restartDatabase(ctx context.Context, f *faulting, _ record.PlannedFault, begun func()) (func(context.Context) error, error) {
	d := f.subject.Database
	if d == nil {
		return nil, errors.New("there is no database")
	}
	for name, meter := range map[string]engine.Meter{"database_primary": d.Primary(), "database_replica": d.Replica()} {
		used, err := meter.Usage(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the CPU time of %s: %w", name, err)
		}
		f.carried[name] = f.carried[name].Add(used)
	}
	begun()
	return nil, d.Restart(ctx)
}

// onLinks sets one fault on the links of these names, and then what was set before.
func onLinks(names []string, fault engine.Fault) cause {
	return func(ctx context.Context, f *faulting, _ record.PlannedFault, begun func()) (func(context.Context) error, error) {
		links := f.subject.Links.named(names)
		if len(links) == 0 {
			return nil, errors.New("the contender's way leads through no fault proxy")
		}
		before := make([][]engine.Fault, len(links))
		for i, l := range links {
			before[i] = l.Faults()
		}
		undo := func(ctx context.Context) error {
			var errs []error
			for i, l := range links {
				errs = append(errs, l.Set(ctx, before[i]...))
			}
			return errors.Join(errs...)
		}
		begun()
		for _, l := range links {
			if err := l.Set(ctx, fault); err != nil {
				return undo, err
			}
		}
		return undo, nil
	}
}

// slow adds to whatever delay the scenario has on a way.
func slow(way string) cause {
	return func(ctx context.Context, f *faulting, planned record.PlannedFault, begun func()) (func(context.Context) error, error) {
		delay := time.Duration(planned.DelayNS)
		for _, l := range f.subject.Links.named(LinksOf[way]) {
			for _, set := range l.Faults() {
				delay += set.Delay
			}
		}
		return onLinks(LinksOf[way], engine.Fault{Kind: engine.FaultLatency, Delay: delay})(ctx, f, planned, begun)
	}
}

// killWorker kills the oldest of the contender's workers: never its first process, which has to start another, and where one was
// killed before, not the one that took its place, so that in the end nobody answers but replacements.
func killWorker(_ context.Context, f *faulting, _ record.PlannedFault, begun func()) (func(context.Context) error, error) {
	pids := f.subject.Contender.Pids()
	if len(pids) < 2 {
		return nil, fmt.Errorf("%s has %d processes that can be seen here, and one beside its first is expected", f.subject.Arm.Name, len(pids))
	}
	pid := slices.MinFunc(pids[1:], func(a, b int) int { return cmp.Compare(startOf(a), startOf(b)) })
	begun()
	if !host.Kill(pid, func() bool { return slices.Contains(f.subject.Contender.Pids(), pid) }) {
		return nil, fmt.Errorf("process %d of %s could not be killed: it was gone, or is not this user's", pid, f.subject.Arm.Name)
	}
	return nil, nil
}

// startOf is when a process started, in the kernel's ticks; ids begin again at 1 some time. One that is gone is no older than any.
func startOf(pid int) uint64 {
	stat, err := host.ReadProcStat("/proc", pid)
	if err != nil {
		return math.MaxUint64
	}
	return stat.StartTicks
}

// attackWithFaults attacks, and causes the faults of the trial meanwhile. Without any it only attacks.
func attackWithFaults(ctx context.Context, s Subject, spec Spec) (*agent.Result, engine.AgentResult, *faulting, error) {
	job := spec.job(s)
	if len(spec.Faults) == 0 {
		result, out, err := attack(ctx, s, job)
		return result, out, &faulting{}, err
	}
	job.OutcomeStep = faultResolution
	attacked, cancel := context.WithCancel(ctx)
	defer cancel()
	f := causeFaults(ctx, s, spec.Faults, cancel)
	result, out, err := attack(attacked, s, job)
	if faultErr := f.end(err != nil); faultErr != nil && (err == nil || ctx.Err() == nil && !errors.Is(faultErr, context.Canceled)) {
		err = faultErr // it is why the attack was ended
	}
	return result, out, f, err
}

// faulting causes a trial's faults while it is under load.
type faulting struct {
	subject Subject
	planned []record.PlannedFault
	// carried is what parts had used when their accounts began anew.
	carried map[string]engine.Usage

	caused, ended []time.Time
	stop          context.CancelFunc
	done          chan error
}

// undoPatience is how long taking a fault back may take once nobody waits for the trial any more.
const undoPatience = 10 * time.Second

// causeFaults begins to cause faults, each at its time from now on. failed is called where one could not be.
func causeFaults(ctx context.Context, s Subject, planned []record.PlannedFault, failed func()) *faulting {
	f := &faulting{subject: s, planned: planned, carried: map[string]engine.Usage{}, done: make(chan error, 1)}
	ctx, f.stop = context.WithCancel(ctx)
	began := time.Now()
	go func() {
		err := f.all(ctx, began)
		if err != nil {
			failed()
		}
		f.done <- err
	}()
	return f
}

func (f *faulting) all(ctx context.Context, began time.Time) error {
	for _, planned := range f.planned {
		at := began.Add(time.Duration(planned.AtNS))
		if err := wait(ctx, at); err != nil {
			return err
		}
		if err := f.one(ctx, planned, at.Add(time.Duration(planned.LastsNS))); err != nil {
			return fmt.Errorf("fault %s: %w", planned.Kind, err)
		}
	}
	return nil
}

// one causes a fault and takes it back, whatever happens meanwhile.
func (f *faulting) one(ctx context.Context, planned record.PlannedFault, until time.Time) (err error) {
	kind := contract.FaultKind(planned.Kind)
	does, known := causes[kind]
	if !known {
		return fmt.Errorf("expected one of %q", contract.FaultKinds())
	}
	var caused time.Time
	undo, err := does(ctx, f, planned, func() { caused = time.Now() })
	if undo != nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
			defer cancel()
			if undoErr := undo(ctx); undoErr != nil {
				err = errors.Join(err, fmt.Errorf("take it back: %w", undoErr))
			}
			if err == nil {
				f.ended = append(f.ended, time.Now())
			}
		}()
	}
	if err != nil {
		return err
	}
	f.caused = append(f.caused, caused)
	if undo != nil {
		return wait(ctx, until)
	}
	ended := time.Now()
	if contract.FaultTraitsOf[kind].Instant {
		ended = caused
	}
	f.ended = append(f.ended, ended)
	return nil
}

func wait(ctx context.Context, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end waits for the last fault; where the attack has failed, for nothing but what has to be taken back.
func (f *faulting) end(attackFailed bool) error {
	if attackFailed {
		f.stop()
	}
	err := <-f.done
	f.stop()
	return err
}

// fillFaults turns moments and outcomes into what is recorded of a trial's faults.
func fillFaults(t *record.Trial, r *agent.Result, planned []record.PlannedFault, caused, ended []time.Time) error {
	if len(r.Outcomes) == 0 {
		return errors.New("load generator: its result has no outcomes")
	}
	t.Outcomes = &record.Outcomes{StepNS: int64(outcomeStep), ResolutionNS: int64(faultResolution)}
	const each = int(outcomeStep / faultResolution)
	for i, o := range r.Outcomes {
		if i%each == 0 {
			t.Outcomes.OK, t.Outcomes.Failed = append(t.Outcomes.OK, 0), append(t.Outcomes.Failed, 0)
		}
		t.Outcomes.OK[i/each] += o.OK
		t.Outcomes.Failed[i/each] += o.FailedBy.Total()
	}
	deciding := slices.IndexFunc(r.Operations, func(o agent.OperationResult) bool { return o.Name == t.Operation })
	var longest int64
	for i, p := range planned {
		// A generator that was slow to start has the fault before its first request; such a trial is void.
		at := func(moment time.Time) int64 { return max(0, moment.Sub(r.Began).Nanoseconds()) }
		f := record.FaultOutcome{Kind: p.Kind, CausedNS: at(caused[i]), EndedNS: at(ended[i]), UntilNS: max(t.DurationNS, int64(len(r.Outcomes))*int64(faultResolution))}
		if i+1 < len(planned) {
			f.UntilNS = at(caused[i+1])
		}
		f.UntilNS = max(f.UntilNS, f.EndedNS) // where it took longer than the trial, which is void for that
		recovery(&f, r.Outcomes, deciding)
		longest = max(longest, f.RecoveryNS)
		t.Faults = append(t.Faults, f)
	}
	t.RecoveryNS = &longest
	return nil
}

// recovery looks at what became of the requests of a fault's time. A step belongs to where it begins. Of a fault that is to be
// borne the longest time without a right answer counts too; where operations are mixed, without one of the operation that
// decides (from 0; below 0: of any), since others may have no part in what is gone.
func recovery(f *record.FaultOutcome, steps []agent.Outcome, deciding int) {
	const step = int64(faultResolution)
	from, borne := f.EndedNS, contract.FaultTraitsOf[contract.FaultKind(f.Kind)].Borne
	if borne {
		from = f.CausedNS
	}
	answered, silent := from, int64(0)
	for i, o := range steps {
		at := int64(i) * step
		if at+step <= f.CausedNS || at+step > f.UntilNS {
			continue // the step in which the next fault is caused is that one's: what fails in it is not this one's doing
		}
		f.OK += o.OK
		f.FailedBy = f.FailedBy.Add(record.Failed(o.FailedBy))
		if at < from {
			continue
		}
		since, right := at+step-from, o.OK
		if borne && deciding >= 0 {
			right = 0
			if o.OKOf != nil {
				right = o.OKOf[deciding]
			}
		}
		if right > 0 {
			answered, silent = at+step, max(silent, at+step-answered)
		}
		if right > 0 && f.FirstSuccessNS == nil {
			f.FirstSuccessNS, f.RecoveryNS = &since, max(f.RecoveryNS, since)
		}
		if o.FailedBy.Total() > 0 {
			f.RecoveryNS, f.Recovered = since, false
		} else if right > 0 {
			f.Recovered = true
		}
	}
	f.Failed = f.FailedBy.Total()
	if borne { // who lets all wait, until the fault is over or longer, fails none
		f.RecoveryNS = max(f.RecoveryNS, silent, f.UntilNS-answered)
	}
	if f.FirstSuccessNS == nil { // it may have been silent
		f.RecoveryNS = f.UntilNS - from
	}
}
