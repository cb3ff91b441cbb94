// Package played is an engine for tests in which nothing is started: a contender is an HTTP server of the test that gives
// one answer, the load generator runs in the test, and the database only counts statements. What is built on
// package engine (plans, records, interrupts) can be tried with it in no time; figures of it say nothing.
package played

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

// cpuPerRequest is what a played contender says that an answer cost it.
const cpuPerRequest = 100 * time.Microsecond

// answerTime keeps a pilot from finding that a played contender bears more than the test's machine does.
const answerTime = 4 * time.Millisecond

// Engine is an engine.Engine that starts nothing.
type Engine struct {
	// Machine is what Describe says.
	Machine engine.Description
	// BeforeAttack is called before a load generator runs, with its job and how many ran before; its error is the
	// generator's. May be nil. The null server is nobody's, and not counted.
	BeforeAttack func(ctx context.Context, n int, job agent.Job) error
	// Bears has arms of known capacity, in requests a second: an attack on one takes no time, and its result says what an
	// exact server would show, quick up to that rate and slow beyond.
	Bears map[string]float64
	// Undelayed is the name of a link that adds none of the delay that is set on it.
	Undelayed string
	// SlowAtFirst is the name of a link that adds three times the delay when that is measured first.
	SlowAtFirst string
	// GeneratorBears is the rate from which the load generator is late, against the null server and arms of known capacity.
	GeneratorBears float64

	// PlaysRedis has Redis start; without it there is none.
	PlaysRedis bool

	// StaysBroken has every contender answer 503 from the first fault on that is caused while it runs.
	StaysBroken bool

	t        *testing.T
	answer   atomic.Pointer[string]
	attacks  atomic.Int64
	requests atomic.Int64
	gone     atomic.Pointer[error]
	ended    chan struct{} // the database's
	ending   sync.Once
	closed   atomic.Int64
	proxies  atomic.Int64

	mu      sync.Mutex
	started []engine.ContenderSpec
	caused  []string
	last    *server       // the contender that was started last
	redis   *service      // or nil
	cut     chan struct{} // closed to end the connections to the database
	crashes []string      // what the database has logged of its own
}

var _ engine.Engine = (*Engine)(nil)

// New makes an engine on two CPUs, whose contenders give that answer.
func New(t *testing.T, answer string) *Engine {
	cpus := []int{0, 1}
	e := &Engine{
		t: t, ended: make(chan struct{}), cut: make(chan struct{}), GeneratorBears: 5000,
		Machine: engine.Description{
			Engine: "native", OS: "played", Kernel: "1", Arch: "none", CPUModel: "played", CPUs: cpus, Placement: engine.Place(cpus), MemoryBytes: 1 << 30,
			PostgreSQL: "0", PostgreSQLSource: "played", PostgreSQLSettings: map[string]string{}, Missing: map[string]string{},
		},
	}
	e.Say(answer)
	return e
}

// Say sets what every contender answers to every request.
func (e *Engine) Say(answer string) { e.answer.Store(&answer) }

// EndDatabase has both servers end, as a crash would.
func (e *Engine) EndDatabase() { e.ending.Do(func() { close(e.ended) }) }

// CrashBackend is CutDatabase with what a database logs that recovers from a backend that was killed.
func (e *Engine) CrashBackend() {
	e.mu.Lock()
	e.crashes = append(e.crashes, fmt.Sprintf("primary: LOG:  server process (PID %d) was terminated by signal 9: Killed", 7+len(e.crashes)))
	e.mu.Unlock()
	e.CutDatabase()
}

// CutDatabase ends all connections to it.
func (e *Engine) CutDatabase() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.cut)
	e.cut = make(chan struct{})
}

// EndContender has the contender that was started last end, as a crash would.
func (e *Engine) EndContender() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last.crash()
}

// EndWorker has the contender that was started last have another process in place of its own.
func (e *Engine) EndWorker() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last.pids.Store(&[]int{-1})
}

// EndRedis has it end, as a crash would.
func (e *Engine) EndRedis() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.redis.crash()
}

// End has the engine itself be gone.
func (e *Engine) End() {
	err := fmt.Errorf("%w: EOF", engine.ErrGone)
	e.gone.Store(&err)
}

// Started are the contenders that were started, in order.
func (e *Engine) Started() []engine.ContenderSpec {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.started)
}

// Caused are the faults that were caused, in order: "backends killed" for each server, "restart", or a link and its fault.
func (e *Engine) Caused() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.caused)
}

func (e *Engine) cause(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.caused = append(e.caused, what)
}

// Attacks is how many load generators have been run.
func (e *Engine) Attacks() int { return int(e.attacks.Load()) }

// Closed is how often the engine was closed.
func (e *Engine) Closed() int { return int(e.closed.Load()) }

// Name is what it plays.
func (e *Engine) Name() string { return e.Machine.Engine }

// Describe says what the test set.
func (e *Engine) Describe(context.Context) (engine.Description, error) { return e.Machine, nil }

// Database makes one that counts statements.
func (e *Engine) Database(_ context.Context, spec engine.DatabaseSpec) (engine.Database, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go e.servePostgres(connection)
		}
	}()
	return &database{meter: meter{e, e.ended}, size: spec.Size, url: "postgres://played:played@" + listener.Addr().String() + "/lab?sslmode=disable"}, nil
}

// Upstream is never asked.
func (e *Engine) Upstream(context.Context, engine.UpstreamSpec) (engine.Service, error) {
	return &service{meter: meter{e, make(chan struct{})}, exited: make(chan struct{})}, nil
}

// Redis is never asked, and starts where the test says so.
func (e *Engine) Redis(context.Context) (engine.Service, error) {
	if !e.PlaysRedis {
		return nil, errors.New("no Redis is played")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.redis = &service{meter: meter{e, make(chan struct{})}, url: "redis://played", exited: make(chan struct{})}
	return e.redis, nil
}

// Faults makes a proxy whose links lead to their targets themselves, and that keeps what was set.
func (e *Engine) Faults(context.Context) (engine.FaultProxy, error) {
	e.proxies.Add(1)
	return &proxy{service: service{meter: meter{e, make(chan struct{})}, exited: make(chan struct{}), stop: func() { e.proxies.Add(-1) }}}, nil
}

// Proxies is how many fault proxies run.
func (e *Engine) Proxies() int { return int(e.proxies.Load()) }

type proxy struct{ service }

// Link lays a way that is the direct one, under an address that shows it.
func (p *proxy) Link(_ context.Context, name, url string) (engine.FaultLink, error) {
	return &link{e: p.e, name: name, target: url}, nil
}

// Overhead is what was set, to the nanosecond, but for the links that are Undelayed and SlowAtFirst.
func (p *proxy) Overhead(_ context.Context, l engine.FaultLink, roundTrips int) (record.FaultOverhead, error) {
	out := record.FaultOverhead{Link: l.Name(), RoundTrips: roundTrips}
	for _, f := range l.Faults() {
		out.DelayNS += int64(f.Delay)
	}
	added := out.DelayNS
	switch l.Name() {
	case p.e.Undelayed:
		added = 0
	case p.e.SlowAtFirst:
		if !l.(*link).measured {
			added *= 3
		}
	}
	l.(*link).measured = true
	out.ProxiedP50NS, out.ProxiedP99NS, out.AddedP50NS, out.AddedP99NS = added, added, added, added
	return out, nil
}

type link struct {
	e            *Engine
	name, target string
	faults       []engine.Fault
	measured     bool
}

func (l *link) Name() string           { return l.name }
func (l *link) Target() string         { return l.target }
func (l *link) Faults() []engine.Fault { return l.faults }

// URL is the target's, with the link's name behind #.
func (l *link) URL() string { return l.target + "#" + l.name }

// Set keeps the faults.
func (l *link) Set(_ context.Context, faults ...engine.Fault) error {
	l.faults = faults
	for _, f := range faults {
		if f.Kind != engine.FaultLatency {
			l.e.cause(l.name + " " + f.String())
		}
	}
	return engine.CheckFaults(faults)
}

// Contender starts a server of the test.
func (e *Engine) Contender(_ context.Context, spec engine.ContenderSpec) (engine.Contender, error) {
	if err := e.Alive(context.Background()); err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.started = append(e.started, spec)
	e.mu.Unlock()
	started, before := time.Now(), len(e.Caused())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/profile" {
			_, _ = io.WriteString(w, "played.answer (src/played) 7\n")
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		e.requests.Add(1)
		select {
		case <-e.ended:
			w.WriteHeader(http.StatusInternalServerError)
			return
		case <-time.After(answerTime):
		}
		if e.StaysBroken && len(e.Caused()) > before {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/graphql-response+json")
		if r.Header.Get("X-Server-Timing") == "1" {
			w.Header().Set("Server-Timing", "parse;dur=0.1, validate;dur=0.2, execute;dur=0.6, db;dur=50, upstream;dur=50, serialize;dur=0.1, total;dur=101")
		}
		_, _ = io.WriteString(w, *e.answer.Load())
	}))
	e.t.Cleanup(s.Close)
	c := &server{service: service{meter: meter{e, make(chan struct{})}, url: s.URL, exited: make(chan struct{}), stop: s.Close}, arm: spec.Arm, started: started}
	e.mu.Lock()
	e.last = c
	e.mu.Unlock()
	return c, nil
}

// Null starts nothing: nobody but the load generator asks it.
func (e *Engine) Null(context.Context, engine.NullSpec) (engine.Contender, error) {
	if err := e.Alive(context.Background()); err != nil {
		return nil, err
	}
	return &server{
		service: service{meter: meter{e, make(chan struct{})}, url: "http://127.0.0.1:1", exited: make(chan struct{})}, arm: contender.Arm{Name: engine.NullName, Base: engine.NullName, Contender: engine.NullName}, started: time.Now(),
	}, nil
}

// Version names the arm.
func (e *Engine) Version(_ context.Context, arm contender.Arm) (contender.Version, error) {
	return contender.Version{Name: arm.Contender, Language: arm.Language, LanguageVersion: "0"}, nil
}

// Bench prints what a server would, as fast for each arm.
func (e *Engine) Bench(_ context.Context, _ contender.Arm, args []string) ([]byte, error) {
	if err := e.Alive(context.Background()); err != nil {
		return nil, err
	}
	flags := map[string]int{}
	for i := 1; i+1 < len(args); i += 2 {
		flags[args[i]], _ = strconv.Atoi(args[i+1]) // a time is none
	}
	if args[0] == record.BenchLoader {
		keys, batch := flags["--keys"], flags["--batch"]
		return fmt.Appendf(nil, `{"bench":"loader","keys":%d,"batch":%d,"batches":%d,"cpu_ns_per_key":100,"wall_ns":1000}`, keys, batch, (keys+batch-1)/batch), nil
	}
	return fmt.Appendf(nil, `{"bench":%q,"bytes":%d,"ways":[{"way":"played","iterations":10,"wall_ns_p50":2000,"wall_ns_p99":3000,"cpu_ns_per_operation":2500,"touch_wall_ns_p50":100}],"starts":[{"unit":"played","count":1,"wall_ns_p50":500,"cpu_ns_each":500,"pss_bytes_each":4096}]}`, args[0], flags["--bytes"]), nil
}

// Identity is nothing.
func (e *Engine) Identity(context.Context, contender.Arm) (string, error) { return "", nil }

// Agent runs the load generator in the test.
func (e *Engine) Agent(ctx context.Context, against engine.Contender, stdin []byte) (engine.AgentResult, error) {
	var job agent.Job
	if err := json.Unmarshal(stdin, &job); err != nil {
		return engine.AgentResult{}, err
	}
	arm := against.Arm().Name
	if arm == engine.NullName {
		return e.exact(job, math.Inf(1))
	}
	n := int(e.attacks.Add(1)) - 1
	if e.BeforeAttack != nil {
		if err := e.BeforeAttack(ctx, n, job); err != nil {
			return engine.AgentResult{}, err
		}
	}
	if err := e.Alive(ctx); err != nil {
		return engine.AgentResult{}, err
	}
	if bears, known := e.Bears[arm]; known {
		return e.exact(job, bears)
	}
	var out, errs bytes.Buffer
	code := agent.Main(ctx, bytes.NewReader(stdin), &out, &errs, func(expected, got []byte) error {
		if !bytes.Equal(expected, got) {
			return errors.New("another answer")
		}
		return nil
	})
	if err := ctx.Err(); err != nil {
		return engine.AgentResult{}, err
	}
	if code != 0 {
		return engine.AgentResult{}, fmt.Errorf("status %d: %s", code, errs.Bytes())
	}
	return engine.AgentResult{Stdout: out.Bytes(), Stderr: errs.Bytes(), CPU: time.Millisecond}, nil
}

// exact is what the load generator would see of a server that bears so many requests a second.
func (e *Engine) exact(job agent.Job, bears float64) (engine.AgentResult, error) {
	if err := e.Alive(context.Background()); err != nil {
		return engine.AgentResult{}, err
	}
	n := uint64(bears * job.Duration.Seconds())
	if !job.Closed {
		var err error
		if n, err = agent.CountWithin(job.Arrival, job.RPS, job.Seed, job.Duration); err != nil {
			return engine.AgentResult{}, err
		}
	}
	e.requests.Add(int64(n))
	latency, lag := 5*time.Millisecond, 100*time.Microsecond
	if !job.Closed && job.RPS > bears {
		latency = 500 * time.Millisecond
	}
	if !job.Closed && job.RPS > e.GeneratorBears {
		lag = 50 * time.Millisecond
	}
	series := func(d time.Duration) agent.Series {
		var s agent.Series
		for range int((job.Duration + time.Second - 1) / time.Second) {
			s = append(s, agent.NewHistogram())
		}
		_ = s[0].RecordValues(int64(d), int64(n)) // in its range
		return s
	}
	out, err := json.Marshal(agent.Result{
		Offered: n, Sent: n, OK: n, Compared: n, Began: time.Now(), Elapsed: job.Duration, ResponseSeconds: series(latency), ServiceSeconds: series(latency), SendLagSeconds: series(lag),
	})
	return engine.AgentResult{Stdout: out, CPU: time.Millisecond}, err
}

// Loopback is this machine.
func (e *Engine) Loopback() (listen, dial string) { return "127.0.0.1", "127.0.0.1" }

// Alive is an engine.ErrGone after End.
func (e *Engine) Alive(context.Context) error {
	if err := e.gone.Load(); err != nil {
		return *err
	}
	return nil
}

// Close counts.
func (e *Engine) Close(context.Context) error {
	e.closed.Add(1)
	return nil
}

// meter makes up an account out of the requests that were answered.
type meter struct {
	e     *Engine
	ended chan struct{}
}

func (m meter) Pids() []int { return []int{os.Getpid()} }

func (m meter) Usage(context.Context) (engine.Usage, error) {
	select {
	case <-m.ended:
		return engine.Usage{}, fmt.Errorf("played: %w", engine.ErrExited)
	default:
		return engine.Usage{CPU: time.Duration(m.e.requests.Load()) * cpuPerRequest}, nil
	}
}

func (m meter) Memory(context.Context) (engine.Memory, error) {
	bytes := int64(1 << 20)
	return engine.Memory{PSSBytes: &bytes}, nil
}

type service struct {
	meter
	url    string
	exited chan struct{}
	stop   func()
	once   sync.Once
	// crashed says that it ended by itself.
	crashed atomic.Bool
}

func (s *service) URL() string             { return s.url }
func (s *service) Logs(int) []string       { return nil }
func (s *service) Exited() <-chan struct{} { return s.exited }

func (s *service) Stop(context.Context) error {
	s.end()
	if s.crashed.Load() {
		return errors.New("ended with a played crash")
	}
	return nil
}

func (s *service) end() {
	s.once.Do(func() {
		if s.stop != nil {
			s.stop()
		}
		close(s.exited)
	})
}

// crash ends it, and nobody has an account of it any more.
func (s *service) crash() {
	s.crashed.Store(true)
	close(s.ended)
	s.end()
}

type server struct {
	service
	arm     contender.Arm
	started time.Time
	// pids, where they are set, are in place of the test's own.
	pids atomic.Pointer[[]int]
}

func (s *server) Pids() []int {
	if pids := s.pids.Load(); pids != nil {
		return *pids
	}
	return s.service.Pids()
}

func (s *server) Arm() contender.Arm        { return s.arm }
func (s *server) GraphQLURL() string        { return s.url + "/graphql" }
func (s *server) MetricsURL() string        { return s.url + "/metrics" }
func (s *server) LoadURL() string           { return s.GraphQLURL() }
func (s *server) Started() time.Time        { return s.started }
func (s *server) ReadyAfter() time.Duration { return time.Millisecond }

type database struct {
	meter
	size, url string
}

func (d *database) PrimaryURL() string      { return d.url }
func (d *database) ReplicaURL() string      { return d.url }
func (d *database) AdminPrimaryURL() string { return d.url }
func (d *database) AdminReplicaURL() string { return d.url }
func (d *database) Size() string            { return d.size }
func (d *database) Primary() engine.Meter   { return d.meter }
func (d *database) Replica() engine.Meter   { return d.meter }

func (d *database) Logs(int) []string {
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	return append(slices.Clone(d.e.crashes), "replica: the last line of a played database")
}

func (d *database) Fork(context.Context, string) (engine.Database, error) {
	return nil, errors.New("no fork is played")
}
func (d *database) WaitReplica(context.Context) error { return nil }

// Restart takes no time.
func (d *database) Restart(context.Context) error {
	d.e.cause("restart")
	return nil
}
func (d *database) Stop(context.Context) error { return nil }

// servePostgres answers every query with one number, a statement for each request.
func (e *Engine) servePostgres(connection net.Conn) {
	defer connection.Close()
	e.mu.Lock()
	cut := e.cut
	e.mu.Unlock()
	go func() {
		select {
		case <-e.ended:
		case <-cut:
		}
		connection.Close()
	}()
	b := pgproto3.NewBackend(connection, connection)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if b.Flush() != nil {
		return
	}
	inBinary := false
	for {
		message, err := b.Receive()
		if err != nil {
			return
		}
		switch m := message.(type) {
		case *pgproto3.Parse:
			if strings.Contains(m.Query, "pg_terminate_backend") {
				e.cause("backends killed")
			}
			b.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Describe:
			b.Send(&pgproto3.ParameterDescription{})
			b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("calls"), DataTypeOID: pgtype.Int8OID, DataTypeSize: 8, TypeModifier: -1}}})
		case *pgproto3.Bind:
			inBinary = len(m.ResultFormatCodes) > 0 && m.ResultFormatCodes[0] == 1
			b.Send(&pgproto3.BindComplete{})
		case *pgproto3.Execute:
			n := e.requests.Load()
			value := strconv.AppendInt(nil, n, 10)
			if inBinary {
				value = binary.BigEndian.AppendUint64(nil, uint64(n))
			}
			b.Send(&pgproto3.DataRow{Values: [][]byte{value}})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		case *pgproto3.Sync:
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if b.Flush() != nil {
				return
			}
		case *pgproto3.Terminate:
			return
		default:
			e.t.Errorf("played database: %T is not played", m)
			return
		}
	}
}
