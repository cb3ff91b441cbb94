package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trial"
)

// injecting is an engine in which one arm has a factor more of what a metric counts. Nearly all of it is real: CPU time that a
// process burns beside the server's, memory that one holds, delays on the way, statements that the database carries out.
type injecting struct {
	engine.Engine
	metric string
	factor int
	// first is the question that a process is asked first, and seed the run's, of which its body is made.
	first question
	seed  uint64
	// bound is that of a recovery.
	bound time.Duration

	database engine.Database
	// session has the primary compute. It lasts as long as the engine: the CPU time of a backend that has ended is known to
	// hundredths of a second only.
	session *pgx.Conn

	// value takes the metric's number from a trial, and level is the delay that is as long as that of the arm with nothing injected,
	// where it has to be known before; 0: nothing is injected.
	value func(*record.Trial) (float64, bool)
	level time.Duration

	mu sync.Mutex
	// hit says that the contender that was started last is the arm, and last is that contender.
	hit  bool
	last engine.Contender
}

func (e *injecting) hits(arm contender.Arm) bool { return strings.HasSuffix(arm.Base, twice) }

// more is how much of an amount is added to it.
func (e *injecting) more(amount time.Duration) time.Duration {
	return amount * time.Duration(e.factor-1)
}

// late tells whether what is injected is a delay: where what decides is a response time, or grows from what one client is
// answered, who waits.
func (e *injecting) late() bool {
	return strings.HasPrefix(e.metric, "latency_") || e.metric == contract.MetricGrowth
}

// Contender starts a contender, and what the arm has beside it.
func (e *injecting) Contender(ctx context.Context, spec engine.ContenderSpec) (engine.Contender, error) {
	c, err := e.Engine.Contender(ctx, spec)
	e.mu.Lock()
	e.hit, e.last = e.hits(spec.Arm), c
	e.mu.Unlock()
	if err != nil || !e.hits(spec.Arm) || e.factor == 1 {
		return c, err
	}
	var with engine.Contender
	switch e.metric {
	case "cpu_us_per_request", "achieved_rps":
		with, err = newBurning(c, e.factor)
	case "memory_pss_peak_bytes":
		with, err = newHolding(c, e.factor)
	case "cold_start_ns":
		with, err = c, e.hold(ctx, c)
	case contract.MetricRecovery:
		with = e.freezing(c)
	default:
		return c, nil
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
	}
	return with, nil
}

// hold keeps a start back for as long again as it took until the first answer. What whoever asked for the start then takes to
// ask for a first answer of its own is a part of that.
func (e *injecting) hold(ctx context.Context, c engine.Contender) error {
	ready := time.Since(c.Started())
	took, err := trial.FirstAnswer(ctx, c, e.first.body(c.Arm().Tier, e.seed), e.first.expected)
	if err != nil {
		return err
	}
	return sleep(ctx, time.Until(c.Started().Add(took+e.more(took)-(took-ready))))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Agent runs the load generator. What is injected into trials is none of the business of the closed loops that warm up and
// find out what is borne.
func (e *injecting) Agent(ctx context.Context, against engine.Contender, stdin []byte) (engine.AgentResult, error) {
	var job agent.Job
	if err := json.Unmarshal(stdin, &job); err != nil {
		return engine.AgentResult{}, err
	}
	hit := e.hits(against.Arm())
	if e.late() && against.Arm().Name != engine.NullName {
		// All arms have the link in their way, and only one of them its delay. The link takes CPU time from the generator, so it
		// is there too where the rate is found that trials are offered.
		job.ClientDelay = max(job.ClientDelay, time.Nanosecond)
		if hit {
			job.ClientDelay += e.more(e.level)
		}
		var err error
		if stdin, err = json.Marshal(job); err != nil {
			return engine.AgentResult{}, err
		}
	}
	send := func() (engine.AgentResult, error) { return e.Engine.Agent(ctx, against, stdin) }
	switch {
	case job.Closed || !hit:
	case e.metric == "statements_per_request":
		return e.withStatements(ctx, send)
	case e.metric == "database_primary_cpu_us_per_request":
		return e.withPrimaryCPU(ctx, send)
	}
	return send()
}

// levelled is trial.Run. A response time's level is measured by the same trial of the same process, with nothing injected, right
// before: of a tail it differs so much from process to process that one measured once would be another factor in the next block.
func (e *injecting) levelled(ctx context.Context, s trial.Subject, spec trial.Spec) (record.Trial, []byte, error) {
	// Of what grows it is the one client that is answered half as often: the many have their answers when the server can.
	if e.hits(s.Arm) && (e.metric != contract.MetricGrowth || spec.MaxInFlight == 1) {
		t, log, err := trial.Run(ctx, s, spec)
		if err != nil {
			return t, log, err
		}
		level, ok := e.value(&t)
		if !ok {
			return t, log, fmt.Errorf("%s has no %s to inject as much again", t.ID, e.metric)
		}
		e.level = time.Duration(level)
		if e.metric == contract.MetricGrowth {
			e.level = time.Duration(float64(time.Second) / level)
		}
		defer func() { e.level = 0 }()
	}
	return trial.Run(ctx, s, spec)
}

// Database starts the database, and keeps it in mind.
func (e *injecting) Database(ctx context.Context, spec engine.DatabaseSpec) (_ engine.Database, err error) {
	e.database, err = e.Engine.Database(ctx, spec)
	return e.database, err
}

// Close ends the session before the databases.
func (e *injecting) Close(ctx context.Context) error {
	if e.session != nil {
		_ = e.session.Close(ctx)
	}
	return e.Engine.Close(ctx)
}

// withStatements has the database carry out as many statements again as the server had it carry out, under the same role.
func (e *injecting) withStatements(ctx context.Context, send func() (engine.AgentResult, error)) (engine.AgentResult, error) {
	before, err := e.statements(ctx)
	if err != nil {
		return engine.AgentResult{}, err
	}
	result, err := send()
	if err != nil {
		return result, err
	}
	after, err := e.statements(ctx)
	if err != nil {
		return result, err
	}
	c, err := pgx.Connect(ctx, e.database.ReplicaURL())
	if err != nil {
		return result, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	batch := &pgx.Batch{}
	for range (after - before) * int64(e.factor-1) {
		batch.Queue("select 1")
	}
	return result, c.SendBatch(ctx, batch).Close()
}

// statements are those that the server's role has run, on both databases.
func (e *injecting) statements(ctx context.Context) (all int64, err error) {
	for _, url := range []string{e.database.AdminPrimaryURL(), e.database.AdminReplicaURL()} {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return 0, err
		}
		var calls int64
		err = c.QueryRow(ctx, `select coalesce(sum(calls), 0)::int8 from pg_stat_statements
			where userid = 'lab'::regrole and dbid = (select oid from pg_database where datname = current_database())`).Scan(&calls)
		if err = errors.Join(err, c.Close(ctx)); err != nil {
			return 0, err
		}
		all += calls
	}
	return all, nil
}

// withPrimaryCPU has the primary compute until it has used as much CPU time again as it did for the server.
func (e *injecting) withPrimaryCPU(ctx context.Context, send func() (engine.AgentResult, error)) (engine.AgentResult, error) {
	if e.session == nil {
		var err error
		if e.session, err = pgx.Connect(ctx, e.database.PrimaryURL()); err != nil {
			return engine.AgentResult{}, err
		}
	}
	primary := e.database.Primary()
	before, err := primary.Usage(ctx)
	if err != nil {
		return engine.AgentResult{}, err
	}
	result, err := send()
	if err != nil {
		return result, err
	}
	after, err := primary.Usage(ctx)
	if err != nil {
		return result, err
	}
	for until := after.CPU + e.more(after.Sub(before).CPU); ; {
		now, err := primary.Usage(ctx)
		if err != nil || now.CPU >= until {
			return result, err
		}
		if _, err := e.session.Exec(ctx, "select count(*) from generate_series(1, 10000)"); err != nil {
			return result, err
		}
	}
}

// Bench runs a benchmark command. A loader is given the keys of several and its CPU time told for one; what a hand-over takes
// cannot be had twice in one, since nothing between giving and taking is the caller's, so what was printed of it is multiplied.
func (e *injecting) Bench(ctx context.Context, arm contender.Arm, args []string) ([]byte, error) {
	if !e.hits(arm) {
		return e.Engine.Bench(ctx, arm, args)
	}
	args = slices.Clone(args)
	if i := slices.Index(args, "--keys"); i >= 0 {
		keys, err := strconv.Atoi(args[i+1])
		if err != nil {
			return nil, err
		}
		args[i+1] = strconv.Itoa(keys * e.factor)
	}
	printed, err := e.Engine.Bench(ctx, arm, args)
	if err != nil {
		return nil, err
	}
	var b record.Benched
	if err := json.Unmarshal(printed, &b); err != nil {
		return nil, err
	}
	factor := int64(e.factor)
	b.Keys, b.Batches, b.CPUNSPerKey = b.Keys/factor, b.Batches/factor, b.CPUNSPerKey*float64(factor)
	for i := range b.Ways {
		b.Ways[i].WallNSP50 *= factor
		b.Ways[i].WallNSP99 *= factor
	}
	return json.Marshal(b)
}

// freezing is a contender of which what is left stands still for a factor of the bound whenever a process of it has gone.
func (e *injecting) freezing(c engine.Contender) engine.Contender {
	f := &frozen{Contender: c, done: make(chan struct{})}
	f.watching.Go(func() {
		for pids := c.Pids(); ; {
			select {
			case <-f.done:
				return
			case <-time.After(2 * time.Millisecond):
			}
			now := c.Pids()
			if slices.ContainsFunc(pids, func(pid int) bool { return !slices.Contains(now, pid) }) {
				e.freeze(c)
				now = c.Pids()
			}
			pids = now
		}
	})
	return f
}

type frozen struct {
	engine.Contender
	watching sync.WaitGroup
	done     chan struct{}
	once     sync.Once
}

// Stop ends the watch first: that its processes go is then as it should be.
func (f *frozen) Stop(ctx context.Context) error {
	f.once.Do(func() { close(f.done) })
	f.watching.Wait()
	return f.Contender.Stop(ctx)
}

// freeze has a contender stand still for a factor of the bound.
func (e *injecting) freeze(c engine.Contender) {
	pids := c.Pids()
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGSTOP)
	}
	time.Sleep(e.bound * time.Duration(e.factor))
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
}

// Faults starts the fault proxy. Where recovery is measured, its links are longer down for the arm than they are said to be.
func (e *injecting) Faults(ctx context.Context) (engine.FaultProxy, error) {
	proxy, err := e.Engine.Faults(ctx)
	if err != nil || e.metric != contract.MetricRecovery {
		return proxy, err
	}
	return &downForLonger{proxy, e}, nil
}

type downForLonger struct {
	engine.FaultProxy
	e *injecting
}

func (p *downForLonger) Link(ctx context.Context, name, url string) (engine.FaultLink, error) {
	l, err := p.FaultProxy.Link(ctx, name, url)
	if err != nil {
		return nil, err
	}
	return &longerLink{FaultLink: l, e: p.e}, nil
}

func (p *downForLonger) Overhead(ctx context.Context, l engine.FaultLink, roundTrips int) (record.FaultOverhead, error) {
	return p.FaultProxy.Overhead(ctx, l.(*longerLink).FaultLink, roundTrips)
}

type longerLink struct {
	engine.FaultLink
	e *injecting

	mu   sync.Mutex
	said []engine.Fault
}

// Faults are those that the link is said to have.
func (l *longerLink) Faults() []engine.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said)
}

// Set sets faults. A link to the arm that is to be free again is so only after a factor of the bound, until when it is down;
// where the arm can do without what is behind a link, it stands still for as long from when that is broken.
func (l *longerLink) Set(ctx context.Context, faults ...engine.Fault) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	wasBroken := len(l.said) > 0
	l.said = slices.Clone(faults)
	l.e.mu.Lock()
	hit, c := l.e.hit, l.e.last
	l.e.mu.Unlock()
	borne := l.Name() == trial.LinkRedis || l.Name() == trial.LinkUpstream
	if hit && borne && !wasBroken && len(faults) > 0 && l.e.factor > 1 {
		go l.e.freeze(c)
	}
	if !hit || borne || !wasBroken || len(faults) > 0 || l.e.factor == 1 {
		return l.FaultLink.Set(ctx, faults...)
	}
	if err := l.FaultLink.Set(ctx, engine.Fault{Kind: engine.FaultDown}); err != nil {
		return err
	}
	time.AfterFunc(l.e.bound*time.Duration(l.e.factor), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		// A trial that was given up has taken its proxy with it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = l.FaultLink.Set(ctx, l.said...)
	})
	return nil
}

// burdenVariable makes the test binary a burden: a process that uses as much of something as a server does.
const burdenVariable = "LOADTEST_TEST_AS_BURDEN"

// burden is such a process. It ends when its standard input does.
type burden struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  *bufio.Reader
}

func newBurden(kind string, args ...string) (*burden, error) {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), burdenVariable+"="+kind, "GOMAXPROCS=4"), os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &burden{cmd, stdin, bufio.NewReader(stdout)}, nil
}

// number reads one that it says.
func (b *burden) number() (int64, error) {
	line, err := b.said.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("a burden: %w", err)
	}
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}

func (b *burden) end() {
	_ = b.stdin.Close()
	_ = b.cmd.Wait()
}

// bear is what the test binary does as a burden.
func bear(kind string, args []string) int {
	var err error
	switch kind {
	case "burn":
		err = burn(args)
	case "hold":
		err = holdMemory()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "burden %s: %v\n", kind, err)
		return exitCannot
	}
	return exitOK
}

// burning is a contender beside which a process burns CPU time, on the same CPUs and on the same account.
type burning struct {
	engine.Contender
	burden *burden
}

func newBurning(c engine.Contender, factor int) (engine.Contender, error) {
	pids := c.Pids()
	if len(pids) != 1 {
		return nil, fmt.Errorf("%s has %d processes, and what burns watches one", c.Arm().Name, len(pids))
	}
	b, err := newBurden("burn", strconv.Itoa(pids[0]), strconv.Itoa(factor-1))
	if err != nil {
		return nil, err
	}
	if _, err := b.number(); err != nil { // it has begun
		b.end()
		return nil, err
	}
	return &burning{c, b}, nil
}

// Usage is that of both.
func (c *burning) Usage(ctx context.Context) (engine.Usage, error) {
	own, err := c.Contender.Usage(ctx)
	if err != nil {
		return own, err
	}
	burnt, err := host.TreeUsage(c.burden.cmd.Process.Pid)
	return own.Add(burnt), err
}

// Stop ends both.
func (c *burning) Stop(ctx context.Context) error {
	c.burden.end()
	return c.Contender.Stop(ctx)
}

// burn uses so many times the CPU time that a process uses from now on, as soon as it has used it, on its CPUs.
func burn(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	times, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(pid, &cpus); err != nil {
		return err
	}
	theirs, err := host.CPUTime(pid)
	if err != nil {
		return err
	}
	ours, err := host.CPUTime(os.Getpid())
	if err != nil {
		return err
	}
	owed := func() time.Duration {
		now, err := host.CPUTime(pid)
		if err != nil {
			return 0 // it has ended, and so will this
		}
		used, _ := host.CPUTime(os.Getpid())
		return time.Duration(times)*(now-theirs) - (used - ours)
	}
	fmt.Println(0)
	// Two threads, so that a server which is always busy, with more threads than one, cannot keep what burns back.
	failed := make(chan error, 3)
	for range 2 {
		go func() {
			runtime.LockOSThread()
			if err := unix.SchedSetaffinity(0, &cpus); err != nil {
				failed <- err
				return
			}
			for {
				if owed() <= 0 {
					// Looking costs CPU time too, which is a part of what is burnt: where it were more, the factor would be.
					time.Sleep(5 * time.Millisecond)
					continue
				}
				for began := time.Now(); time.Since(began) < 200*time.Microsecond; {
				}
			}
		}()
	}
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}

// holding is a contender beside which a process holds memory, on the same account.
type holding struct {
	engine.Contender
	factor int

	mu     sync.Mutex
	burden *burden
}

func newHolding(c engine.Contender, factor int) (engine.Contender, error) {
	b, err := newBurden("hold")
	return &holding{Contender: c, factor: factor, burden: b}, err
}

// Memory is that of both, once the other holds as much as the contender does.
func (c *holding) Memory(ctx context.Context) (engine.Memory, error) {
	own, err := c.Contender.Memory(ctx)
	if err != nil || own.PSSBytes == nil {
		return own, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := fmt.Fprintln(c.burden.stdin, *own.PSSBytes*int64(c.factor-1)); err != nil {
		return own, err
	}
	held, err := c.burden.number()
	return own.Add(engine.Memory{PSSBytes: &held, CgroupPeakBytes: &held}), err
}

// Stop ends both.
func (c *holding) Stop(ctx context.Context) error {
	c.mu.Lock()
	c.burden.end()
	c.mu.Unlock()
	return c.Contender.Stop(ctx)
}

// holdMemory holds, after each number of bytes that it reads, at least so much, and says how much.
func holdMemory() error {
	var kept [][]byte
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		wanted, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			return err
		}
		now, err := host.TreeMemory(os.Getpid())
		if err != nil {
			return err
		}
		if lack := wanted - *now.PSSBytes; lack > 0 {
			more, err := unix.Mmap(-1, 0, int(lack), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			for i := 0; i < len(more); i += os.Getpagesize() {
				more[i] = 1 // a page that nobody touched is not there
			}
			kept = append(kept, more)
			if now, err = host.TreeMemory(os.Getpid()); err != nil {
				return err
			}
		}
		fmt.Println(*now.PSSBytes)
	}
	runtime.KeepAlive(kept)
	return nil
}
