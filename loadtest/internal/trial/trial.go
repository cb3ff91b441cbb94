// Package trial turns one attack on one running arm into a record: what was asked, what was answered, what it cost, and
// what held it back.
package trial

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

// Subject is what a trial measures, already running.
type Subject struct {
	Engine    engine.Engine
	Arm       contender.Arm
	Contender engine.Contender
	// Database is nil where the contender has none; then nobody counts statements.
	Database engine.Database
	// Upstream is the stub of the quote service, or nil.
	Upstream engine.Service
	// Redis is where the arm has its master data, or nil.
	Redis engine.Service
	// Faults is the proxy that the contender reaches them through, or nil.
	Faults engine.FaultProxy
	// Links are the contender's ways through it.
	Links     Links
	Placement engine.Placement
	// ColdStart is the time from the program's start to its first right answer.
	ColdStart time.Duration
	// IdleMemory is what it held then.
	IdleMemory engine.Memory
	// Born are the processes that it had then; none where the engine cannot tell.
	Born []int
	// Warm is how it was warmed up, or nil.
	Warm *record.Warm
	// Another starts one more contender as this one was started, for whoever calls to stop; nil: there can be none.
	Another func(context.Context) (engine.Contender, error)
}

// meters are the parts whose account is read at a trial's start and end.
func (s Subject) meters() map[string]engine.Meter {
	meters := map[string]engine.Meter{"contender": s.Contender}
	if s.Database != nil {
		meters["database_primary"], meters["database_replica"] = s.Database.Primary(), s.Database.Replica()
	}
	if s.Upstream != nil {
		meters["upstream"] = s.Upstream
	}
	if s.Redis != nil {
		meters["redis"] = s.Redis
	}
	if s.Faults != nil {
		meters["fault_proxy"] = s.Faults
	}
	return meters
}

// Ended counts the contender's processes that have ended since its first right answer. A worker that was killed may fail no
// request: its supervisor starts another, and until that is warm the contender is another one than was to be measured. Now are
// those that it has; where the engine cannot tell, none has ended.
func (s Subject) Ended(now []int) (ended int) {
	if len(now) == 0 {
		return 0
	}
	for _, pid := range s.Born {
		if !slices.Contains(now, pid) {
			ended++
		}
	}
	return ended
}

// Spec says what one trial does.
type Spec struct {
	ID        string
	Scenario  string
	Operation string // its name in contract/operations
	Body      string // the request's body
	Expected  string // the answer each body is compared with
	// Operations, where there are any, are sent in place of Body; Operation is one of them.
	Operations []agent.Operation
	// Statements are how many SQL statements a request for each operation takes of this arm, by the contract; of one that is not
	// there it is not known, and then nothing is made of how many there were.
	Statements map[string]contract.Range
	// Bench is the benchmark command that the arm's program is asked after the trial, or nil.
	Bench *record.BenchAsked
	// Staleness has the arm make writes after the trial, and looks how soon they can be read.
	Staleness bool
	// Phases has the arm asked, after the trial, where the time of some requests goes.
	Phases bool
	// ProfileSeconds, where not 0, is for how long the arm's own profiler looks at the same requests in a closed loop, after the trial.
	ProfileSeconds int

	Load      record.Load
	Block     int
	Position  int
	Duplicate bool
	Seed      uint64

	RPS         float64
	Duration    time.Duration
	MaxInFlight uint64
	Closed      bool
	Timeout     time.Duration
	// ClientDelay is added to each round trip between generator and contender; ClientProbes measure what it comes to.
	ClientDelay  time.Duration
	ClientProbes int
	// Faults are caused and taken back meanwhile, in their order.
	Faults []record.PlannedFault
	// Bound is what the time to recover from them is held against, or 0.
	Bound time.Duration
	// TooSlow says of a trial that is not at the common rate that its service times alone are worse than what was asked, so
	// that a late generator does not make it void; nil where nothing was asked.
	TooSlow func(record.Trial) bool
}

// WarmUp keeps the arm busy for a while, so that its compilers, caches and pools are where they will stay.
func WarmUp(ctx context.Context, s Subject, spec Spec, d time.Duration) (*agent.Result, error) {
	job := spec.job(s)
	job.Closed, job.Duration = true, d
	result, err := flawless(ctx, s, job)
	if err != nil {
		return nil, fmt.Errorf("warm up %s: %w", s.Arm.Name, err)
	}
	return result, nil
}

// flawless is an attack of which no request may fail.
func flawless(ctx context.Context, s Subject, job agent.Job) (*agent.Result, error) {
	result, _, err := attack(ctx, s, job)
	if err != nil {
		return nil, err
	}
	if failed := result.FailedBy.Total(); failed > 0 {
		return nil, fmt.Errorf("%d of %d requests failed: %s", failed, result.Sent, result.FirstFailure)
	}
	return result, nil
}

func (spec Spec) job(s Subject) agent.Job {
	job := agent.Job{
		URL: s.Contender.LoadURL(), Body: spec.Body, Expected: spec.Expected, Operations: spec.Operations,
		RPS: spec.RPS, Duration: spec.Duration, Arrival: agent.Poisson, Seed: spec.Seed,
		MaxInFlight: spec.MaxInFlight, Closed: spec.Closed, Timeout: spec.Timeout, ClientDelay: spec.ClientDelay, ClientProbes: spec.ClientProbes,
	}
	if len(job.Operations) > 0 {
		job.Body, job.Expected = "", ""
	}
	return job
}

func attack(ctx context.Context, s Subject, job agent.Job) (*agent.Result, engine.AgentResult, error) {
	in, err := json.Marshal(job)
	if err != nil {
		return nil, engine.AgentResult{}, err
	}
	out, err := s.Engine.Agent(ctx, s.Contender, in)
	if err != nil {
		return nil, out, fmt.Errorf("load generator: %w", err)
	}
	var result agent.Result
	if err := json.Unmarshal(out.Stdout, &result); err != nil {
		return nil, out, fmt.Errorf("load generator: its result: %w", err)
	}
	return &result, out, nil
}

// Run measures once and returns the record and its HDR log.
func Run(ctx context.Context, s Subject, spec Spec) (record.Trial, []byte, error) {
	t := record.Trial{
		ID: spec.ID, Scenario: spec.Scenario, Operation: spec.Operation, Load: spec.Load,
		Arm: s.Arm.Name, Contender: s.Arm.Contender, Tier: string(s.Arm.Tier),
		Block: spec.Block, Position: spec.Position, Duplicate: spec.Duplicate, Seed: spec.Seed,
		Arrival: string(agent.Poisson), DurationNS: int64(spec.Duration),
		ColdStartNS: int64(s.ColdStart), Warm: s.Warm, HDRLog: spec.ID + ".hlog",
	}
	if spec.Closed {
		t.Arrival = "closed"
		if spec.Load == record.LoadClosed {
			t.Connections = int(spec.MaxInFlight)
		}
	} else {
		t.RateRPS = spec.RPS
	}
	statements := &statementCounter{}
	if s.Database != nil && len(spec.Faults) == 0 { // a fault may cut what counts them
		var err error
		if statements, err = openCounter(ctx, s.Database); err != nil {
			return t, nil, err
		}
	}
	defer statements.close()
	told := newRuntimeSampler(ctx, s.Contender)
	before, err := readCounters(ctx, s, statements)
	if err != nil {
		return t, nil, err
	}
	memory := sampleMemory(ctx, s.Contender)
	told.start(ctx)
	began := time.Now()
	result, out, faults, err := attackWithFaults(ctx, s, spec)
	counted := time.Since(began)
	told.end()
	t.MemoryPSSPeakBytes, t.MemoryPSSEndBytes, t.MemoryCgroupPeakBytes = memory.end(ctx)
	if err != nil {
		return t, nil, err
	}
	after, err := readCounters(ctx, s, statements)
	if err != nil {
		return t, nil, err
	}
	told.last(ctx)
	for name, used := range faults.carried {
		after.used[name] = after.used[name].Add(used)
	}
	pool := told.poolWait()
	fill(&t, result)
	if t.Runtime = told.series(t.ID, s.Arm, result.Began); t.Runtime != nil {
		t.RuntimeSeries = record.RuntimeFile(t.ID)
	}
	if len(spec.Faults) > 0 {
		if err := fillFaults(&t, result, spec.Faults, faults.caused, faults.ended); err != nil {
			return t, nil, err
		}
	}
	pids := s.Contender.Pids()
	if len(spec.Faults) == 0 { // one of them may be that a process is killed
		t.ProcessesEnded = s.Ended(pids)
	}
	used := after.used["contender"].Sub(before.used["contender"])
	t.MemoryPSSIdleBytes, t.Processes = s.IdleMemory.PSSBytes, len(pids)
	t.CPUSeconds = used.CPU.Seconds()
	if threads := used.Threads.Total(); threads != nil {
		t.VoluntarySwitches, t.InvoluntarySwitches = threads.Voluntary, threads.Involuntary
	}
	t.BusiestThreadCPUSeconds, t.PoolWaitSeconds, t.CountedNS = seconds(used.Threads.Busiest()), seconds(pool), int64(counted)
	t.Parts = parts(s, before, after, out)
	t.Parts["contender"] = withPeaks(t.Parts["contender"], engine.Memory{PSSBytes: t.MemoryPSSPeakBytes, CgroupPeakBytes: t.MemoryCgroupPeakBytes})
	for name, memory := range othersMemory(ctx, s) {
		t.Parts[name] = withPeaks(t.Parts[name], memory)
	}
	t.DatabaseCPUSeconds = t.Parts["database_primary"].CPUSeconds + t.Parts["database_replica"].CPUSeconds
	t.AgentCPUSeconds = out.CPU.Seconds()
	if t.Sent > 0 {
		perRequest := t.CPUSeconds * 1e6 / float64(t.Sent)
		t.CPUUsPerRequest = &perRequest
		if len(statements.connections) > 0 {
			n := float64(after.statements-before.statements) / float64(t.Sent)
			t.StatementsPerRequest = &n
			Allow(&t, spec.Statements)
		}
	}
	t.MachinePressureSeconds = seconds(waited(before.pressure, after.pressure))
	machine := after.machine.sub(before.machine)
	t.MachineStealShare = machine.stealShare()
	t.MachineOtherCPUSeconds = othersSeconds(machine.busySeconds(), t.Parts)
	t.Bottleneck = bottleneck(load{
		attacked: max(time.Duration(t.ElapsedNS), time.Duration(t.DurationNS)), counted: counted, cpus: s.Placement, contender: t.CPUSeconds, database: t.DatabaseCPUSeconds,
		faults: t.Parts["fault_proxy"].CPUSeconds, agent: t.AgentCPUSeconds, steal: t.MachineStealShare, other: t.MachineOtherCPUSeconds,
		busiestThread: used.Threads.Busiest(), poolWait: pool, answered: t.OK, median: time.Duration(t.LatencyP50NS),
	})
	t.Void = cmp.Or(void(&t, spec.TooSlow), unsettled(&t, spec.Bound))
	log, err := hdrLog(result)
	if err != nil {
		return t, nil, err
	}
	return t, log, t.Check()
}

func fill(t *record.Trial, r *agent.Result) {
	t.Began, t.ElapsedNS = r.Began.UTC(), int64(r.Elapsed)
	t.Offered, t.Sent, t.OK, t.Unsent = r.Offered, r.Sent, r.OK, r.Unsent
	t.FailedBy = record.Failed(r.FailedBy)
	t.Failed, t.FirstFailure = r.FailedBy.Total(), r.FirstFailure
	t.OfferedRPS = float64(r.Offered) / (time.Duration(t.DurationNS)).Seconds()
	if r.Elapsed > 0 {
		t.AchievedRPS = float64(r.OK) / max(r.Elapsed, time.Duration(t.DurationNS)).Seconds()
	}
	h := r.Response()
	t.LatencyP50NS, t.LatencyP90NS = h.ValueAtQuantile(50), h.ValueAtQuantile(90)
	t.LatencyP99NS, t.LatencyP999NS, t.LatencyMaxNS = h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max()
	t.LatencyP99MedianSecondNS = record.MedianSecond(r.ResponseSeconds.Each(), time.Duration(t.DurationNS))
	service := r.Service()
	t.ServiceP50NS, t.ServiceP99NS = service.ValueAtQuantile(50), service.ValueAtQuantile(99)
	t.SendLagP99NS = r.SendLag().ValueAtQuantile(99)
	t.Compared = r.Compared
	for _, o := range r.Operations {
		h := o.ResponseSeconds.Merge()
		t.Operations = append(t.Operations, record.OperationFigures{
			Operation: o.Name, Sent: o.Sent, OK: o.OK, Failed: o.FailedBy.Total(), FailedBy: record.Failed(o.FailedBy), FirstFailure: o.FirstFailure,
			LatencyP50NS: h.ValueAtQuantile(50), LatencyP90NS: h.ValueAtQuantile(90), LatencyP99NS: h.ValueAtQuantile(99),
			LatencyP999NS: h.ValueAtQuantile(99.9), LatencyMaxNS: h.Max(),
		})
	}
}

type counters struct {
	used       map[string]engine.Usage
	machine    machineTime
	pressure   *time.Duration
	statements int64
}

func readCounters(ctx context.Context, s Subject, statements *statementCounter) (c counters, err error) {
	if c.statements, err = statements.read(ctx); err != nil {
		return c, err
	}
	c.used = map[string]engine.Usage{}
	for name, meter := range s.meters() {
		if c.used[name], err = meter.Usage(ctx); err != nil {
			return c, fmt.Errorf("read the CPU time of %s: %w", name, err)
		}
	}
	c.pressure = machinePressure()
	c.machine, err = readMachine()
	return c, err
}

// othersMemory reads what the parts beside the contender hold, once and after the trial: many processes take long to read.
func othersMemory(ctx context.Context, s Subject) map[string]engine.Memory {
	out := map[string]engine.Memory{}
	for name, meter := range s.meters() {
		if name == "contender" {
			continue
		}
		if memory, err := meter.Memory(ctx); err == nil {
			out[name] = memory
		}
	}
	return out
}

func withPeaks(part record.Part, memory engine.Memory) record.Part {
	part.MemoryPSSPeakBytes, part.MemoryCgroupPeakBytes = memory.PSSBytes, memory.CgroupPeakBytes
	return part
}

// The limits beyond which a trial is void. A generator that sends late, or not at all, measures itself.
const (
	MaxSendLagP99  = 10 * time.Millisecond
	MaxUnsentShare = 0.01
	MaxSteal       = 0.10
)

// MaxSendLagP99UnderFaults is the limit of a trial with faults: restarting a database takes CPU time from whoever shares it,
// and what such a trial tells is when requests succeed, not how soon they are answered.
const MaxSendLagP99UnderFaults = 100 * time.Millisecond

// maxSendLag is the limit of a trial.
func maxSendLag(t *record.Trial) time.Duration {
	if len(t.Faults) > 0 {
		return MaxSendLagP99UnderFaults
	}
	return MaxSendLagP99
}

// void is why a trial says nothing, or nil. A failed request voids a trial at the common rate and beyond; in a search of
// capacity and under faults it is an answer.
func void(t *record.Trial, tooSlow func(record.Trial) bool) *string {
	objective := t.Load == record.LoadCapacity || t.Load == record.LoadCurve
	switch {
	case t.LacksStatements():
		return lacking(t)
	case t.ProcessesEnded > 0 && !(objective && t.Failed > 0):
		return reason("%d of the contender's processes ended", t.ProcessesEnded)
	case t.MachineStealShare > MaxSteal:
		return reason("the hypervisor took %.0f %% of the CPU time; the limit is %.0f %%", 100*t.MachineStealShare, 100*MaxSteal)
	case len(t.Faults) > 0 && t.Faults[len(t.Faults)-1].EndedNS >= t.DurationNS:
		return reason("%s ended %.1f s after the trial's beginning, when nothing was sent any more", t.Faults[len(t.Faults)-1].Kind, float64(t.Faults[len(t.Faults)-1].EndedNS)/1e9)
	case early(t):
		return reason("%s was caused before the load began", t.Faults[0].Kind)
	case t.OK == 0 && !((objective || len(t.Faults) > 0) && t.Failed > 0):
		return reason("no request was answered")
	case t.Failed > 0 && !objective && len(t.Faults) == 0:
		return reason("%d of %d requests failed: %s", t.Failed, t.Sent, t.FirstFailure)
	case t.Load == record.LoadRate, objective && t.Failed == 0 && (tooSlow == nil || !tooSlow(*t)):
		return late(t)
	}
	return nil // beyond what the arm bears, lag and unsent requests are what was asked for
}

// unsettled is why a fault's time could not contradict a bound, or nil: it ended so late, as a database's restart may, that a server
// which did not recover at all would have taken no longer than that until the next fault or the trial's end.
func unsettled(t *record.Trial, bound time.Duration) *string {
	if t.RecoveryNS != nil && time.Duration(*t.RecoveryNS) > bound {
		return nil // another of its faults did
	}
	for _, f := range t.Faults {
		left := time.Duration(f.UntilNS - f.EndedNS)
		if bound > 0 && left <= bound && !contract.FaultTraitsOf[contract.FaultKind(f.Kind)].Borne {
			return reason("%s ended %.1f s after the trial's beginning, and the %.1f s until the next fault or the trial's end cannot tell whether it takes longer than %v to recover", f.Kind, float64(f.EndedNS)/1e9, left.Seconds(), bound)
		}
	}
	return nil
}

// Spoilt tells whether a trial is void for what the arm had no part in: the hypervisor, or a generator that sent or began
// late. One that failed, whose requests found no room, or that answered without asking the database is void too, but another
// try at it would be a choice of results.
func Spoilt(t *record.Trial) bool {
	return t.Void != nil && t.ProcessesEnded == 0 && !t.LacksStatements() && t.OK > 0 && (t.Failed == 0 || len(t.Faults) > 0) && (t.Load != record.LoadRate || t.Unsent == 0) &&
		(t.MachineStealShare > MaxSteal || early(t) || t.Load == record.LoadRate && time.Duration(t.SendLagP99NS) > maxSendLag(t))
}

// early tells whether the load generator took longer to start than until the first fault.
func early(t *record.Trial) bool { return len(t.Faults) > 0 && t.Faults[0].CausedNS == 0 }

// memorySampler looks at the contender's memory while it works. Reading it costs the contender time, so it is done
// once a second.
type memorySampler struct {
	subject engine.Contender
	stop    context.CancelFunc
	done    sync.WaitGroup
	peak    *int64
	cgroup  *int64
}

func sampleMemory(ctx context.Context, c engine.Contender) *memorySampler {
	ctx, stop := context.WithCancel(ctx)
	m := &memorySampler{subject: c, stop: stop}
	m.done.Go(func() { each(ctx, time.Second, func() { m.look(ctx) }) })
	return m
}

// each looks again and again until the context ends.
func each(ctx context.Context, every time.Duration, look func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			look()
		}
	}
}

func (m *memorySampler) look(ctx context.Context) *int64 {
	now, err := m.subject.Memory(ctx)
	if err != nil {
		return nil
	}
	m.peak, m.cgroup = larger(m.peak, now.PSSBytes), larger(m.cgroup, now.CgroupPeakBytes)
	return now.PSSBytes
}

func larger(a, b *int64) *int64 {
	if a == nil || (b != nil && *b > *a) {
		return b
	}
	return a
}

func (m *memorySampler) end(ctx context.Context) (peak, end, cgroup *int64) {
	m.stop()
	m.done.Wait()
	end = m.look(ctx)
	return m.peak, end, m.cgroup
}
