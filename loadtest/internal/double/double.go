// Package double is a contender of known behaviour for the lab's own tests: its answers are right, since package reference
// gives them, and what they cost is what it was told. With it a claim is made true, and then false.
package double

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine/redis"
	"lab/loadtest/internal/listen"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/reference"
)

// Variable is the environment variable that has a Behaviour as JSON.
const Variable = "DOUBLE"

// Behaviour is what a double costs beside what it takes to answer at all.
type Behaviour struct {
	// Wait is how long each request waits for nothing.
	Wait time.Duration `json:"wait_ns,omitempty"`
	// Work is how many blocks of 64 KiB are hashed for each request.
	Work int `json:"work_blocks,omitempty"`
	// Statements are run for each request, one after the other, on the replica.
	Statements int `json:"statements,omitempty"`
	// PrimaryRows are counted by the primary for each request.
	PrimaryRows int `json:"primary_rows,omitempty"`
	// MemoryMiB are held from the start on by each of its Processes, of which the first answers and the others do nothing else: a
	// copy each, or one that is Shared by all. 0 is one process.
	MemoryMiB int  `json:"memory_mib,omitempty"`
	Processes int  `json:"processes,omitempty"`
	Shared    bool `json:"shared,omitempty"`
	// Start is how long it takes to become ready beside reading its data.
	Start time.Duration `json:"start_ns,omitempty"`
	// Broken is for how long it answers nothing right after it has lost a connection to the primary or, where it is given one,
	// to Redis; 0: it keeps none. Meanwhile it tries to have it again, and is broken for as long from each attempt that fails,
	// unless it Bears that.
	Broken time.Duration `json:"broken_ns,omitempty"`
	Bears  bool          `json:"bears,omitempty"`
	// Supervised has a first process that does nothing but start another, which answers, and again after Broken when that ends.
	Supervised bool `json:"supervised,omitempty"`
	// Bench is what its benchmark command prints, in nanoseconds.
	Bench float64 `json:"bench_ns,omitempty"`
}

// Serve is the double as a contender: with HOST, PORT, CONTRACT_DIR, DATABASE_URL, DATABASE_REPLICA_URL and Variable in its
// environment, until the context ends.
func Serve(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	var b Behaviour
	if err := json.Unmarshal([]byte(getenv(Variable)), &b); err != nil {
		return fmt.Errorf("double: %s=%q: %w", Variable, getenv(Variable), err)
	}
	if getenv(holder) != "" {
		if err := holdAlone(ctx, b, os.Stdin, stdout); err != nil {
			return fmt.Errorf("double: %w", err)
		}
		return nil
	}
	listener, err := listenerOf(getenv, stdout)
	if err != nil {
		return fmt.Errorf("double: %w", err)
	}
	if b.Supervised {
		return supervise(ctx, b, listener)
	}
	s := &server{behaviour: b, answers: map[string][]byte{}}
	running := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- running.Serve(listener) }()
	defer running.Close()
	if err := s.open(ctx, getenv); err != nil {
		return fmt.Errorf("double: %w", err)
	}
	defer s.close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return fmt.Errorf("double: %w", err)
	}
}

// inherited is the environment variable that says that the listener is open already, as descriptor 3.
const inherited = Variable + "_INHERITED"

func listenerOf(getenv func(string) string, stdout io.Writer) (net.Listener, error) {
	if getenv(inherited) != "" {
		return net.FileListener(os.NewFile(3, "listener"))
	}
	return listen.TCP(net.JoinHostPort(getenv("HOST"), getenv("PORT")), stdout)
}

// supervise starts this program anew, unsupervised and on the same port, for as long as nobody asks it to end.
func supervise(ctx context.Context, b Behaviour, listener net.Listener) error {
	b.Supervised = false
	alone, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("double: %w", err)
	}
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return fmt.Errorf("double: %w", err)
	}
	for {
		cmd := exec.CommandContext(ctx, os.Args[0], os.Args[1:]...)
		cmd.Env = append(os.Environ(), Variable+"="+string(alone), inherited+"=1")
		cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{socket}
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		_ = cmd.Run() // however it ended, there is another
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(b.Broken):
		}
	}
}

type server struct {
	behaviour Behaviour
	ready     atomic.Bool
	executor  *reference.Executor
	pools     struct{ primary, replica *pgxpool.Pool }
	held      *memory

	mu          sync.Mutex
	answers     map[string][]byte // by the request's body
	brokenUntil time.Time
}

func (s *server) open(ctx context.Context, getenv func(string) string) error {
	c, err := contract.Load(getenv("CONTRACT_DIR"))
	if err != nil {
		return err
	}
	primary := getenv("DATABASE_URL")
	data, err := reference.Open(ctx, primary)
	if err != nil {
		return err
	}
	s.executor = reference.NewExecutor(c, data)
	replica := getenv("DATABASE_REPLICA_URL")
	if replica == "" {
		replica = primary
	}
	if s.behaviour.PrimaryRows > 0 {
		if s.pools.primary, err = pgxpool.New(ctx, primary); err != nil {
			return err
		}
	}
	if s.behaviour.Statements > 0 {
		if s.pools.replica, err = pgxpool.New(ctx, replica); err != nil {
			return err
		}
	}
	if s.behaviour.Broken > 0 {
		err := s.watch(ctx, func(ctx context.Context) (watched, error) {
			c, err := pgx.Connect(ctx, primary)
			return watchedDatabase{c}, err
		})
		if err != nil {
			return err
		}
		if cache := getenv("REDIS_URL"); cache != "" {
			err := s.watch(ctx, func(ctx context.Context) (watched, error) {
				c, err := redis.Dial(ctx, cache)
				return watchedRedis{c}, err
			})
			if err != nil {
				return err
			}
		}
	}
	if s.held, err = holdMemory(ctx, s.behaviour); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(s.behaviour.Start):
	}
	s.ready.Store(true)
	return nil
}

func (s *server) close() {
	for _, pool := range []*pgxpool.Pool{s.pools.primary, s.pools.replica} {
		if pool != nil {
			pool.Close()
		}
	}
	s.held.free()
}

// watched is a connection whose loss breaks the double.
type watched interface {
	// alive makes a round trip.
	alive(ctx context.Context) error
	close()
}

type watchedDatabase struct{ *pgx.Conn }

func (w watchedDatabase) alive(ctx context.Context) error {
	_, err := w.Exec(ctx, "select 1")
	return err
}
func (w watchedDatabase) close() { _ = w.Close(context.Background()) }

type watchedRedis struct{ *redis.Conn }

func (w watchedRedis) alive(ctx context.Context) error {
	_, err := w.Do(ctx, "PING")
	return err
}
func (w watchedRedis) close() { w.Close() }

// watch looks at one connection and is broken for a while whenever that is lost.
func (s *server) watch(ctx context.Context, connect func(context.Context) (watched, error)) error {
	w, err := connect(ctx)
	if err != nil {
		return err
	}
	// A machine that is busy answers late; only who is silent for longer is lost.
	const often, slow = 10 * time.Millisecond, 3 * time.Second
	go func() {
		for ctx.Err() == nil {
			time.Sleep(often)
			bounded, cancel := context.WithTimeout(ctx, slow)
			err := w.alive(bounded)
			cancel()
			if err == nil {
				continue
			}
			s.breakFor(s.behaviour.Broken)
			w.close()
			for ctx.Err() == nil {
				bounded, cancel := context.WithTimeout(ctx, time.Second)
				again, err := connect(bounded)
				cancel()
				if err == nil {
					w = again
					break
				}
				if !s.behaviour.Bears {
					s.breakFor(s.behaviour.Broken)
				}
				time.Sleep(often)
			}
		}
		w.close()
	}()
	return nil
}

func (s *server) breakFor(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.brokenUntil = time.Now().Add(d)
}

func (s *server) isBroken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.brokenUntil)
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "# TYPE lab_pool_wait_seconds summary\nlab_pool_wait_seconds_sum 0\nlab_pool_wait_seconds_count 0\n")
	})
	mux.HandleFunc("GET /profile", func(w http.ResponseWriter, r *http.Request) {
		seconds, _ := strconv.Atoi(r.URL.Query().Get("seconds")) // the lab's own tests ask
		select {
		case <-r.Context().Done():
		case <-time.After(time.Duration(seconds) * time.Second):
		}
		_, _ = io.WriteString(w, "runtime;double.(*server).answer 1\n")
	})
	mux.HandleFunc("POST /graphql", s.answer)
	return mux
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	began := time.Now()
	answer, err := s.answerTo(body)
	if err == nil {
		err = s.cost(r.Context())
	}
	if err != nil || s.isBroken() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/graphql-response+json; charset=utf-8")
	if r.Header.Get("X-Server-Timing") == "1" {
		ms := float64(time.Since(began)) / float64(time.Millisecond)
		w.Header().Set("Server-Timing", fmt.Sprintf("parse;dur=0, validate;dur=0, execute;dur=%.3f, db;dur=0, serialize;dur=0, total;dur=%[1]f", ms))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer)
}

// answerTo executes a request once; the data never changes here.
func (s *server) answerTo(body []byte) ([]byte, error) {
	if !s.ready.Load() {
		return nil, errors.New("not ready")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.answers[string(body)]; ok {
		return known, nil
	}
	var request reference.Request
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	answer := s.executor.Execute(request).JSON()
	s.answers[string(body)] = answer
	return answer, nil
}

// block is what is hashed.
var block [64 << 10]byte

func (s *server) cost(ctx context.Context) error {
	b := s.behaviour
	for range b.Work {
		sha256.Sum256(block[:])
	}
	for range b.Statements {
		var n int
		if err := s.pools.replica.QueryRow(ctx, "select 1").Scan(&n); err != nil {
			return err
		}
	}
	if b.PrimaryRows > 0 {
		var n int
		if err := s.pools.primary.QueryRow(ctx, "select count(*)::int from generate_series(1, $1::int)", b.PrimaryRows).Scan(&n); err != nil {
			return err
		}
	}
	if b.Wait > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(b.Wait):
		}
	}
	return nil
}

// Bench prints what the servers' benchmark commands print, with the figure that it was told for the first size, by which a
// scenario decides.
func Bench(args []string, getenv func(string) string, stdout io.Writer) error {
	var b Behaviour
	if err := json.Unmarshal([]byte(getenv(Variable)), &b); err != nil {
		return fmt.Errorf("double: %s=%q: %w", Variable, getenv(Variable), err)
	}
	flags := map[string]int64{}
	for i := 1; i+1 < len(args); i += 2 {
		flags[args[i]], _ = strconv.ParseInt(args[i+1], 10, 64) // a duration is of no interest
	}
	if len(args) > 0 && args[0] == record.BenchLoader {
		keys, batch := flags["--keys"], max(1, flags["--batch"])
		return json.NewEncoder(stdout).Encode(record.Benched{Bench: args[0], Keys: keys, Batch: batch, Batches: (keys + batch - 1) / batch, CPUNSPerKey: b.Bench, WallNS: int64(b.Bench) * keys})
	}
	return json.NewEncoder(stdout).Encode(record.Benched{
		Bench: record.BenchHandOver, Bytes: flags["--bytes"],
		Ways:   []record.BenchWay{{Way: "told", Iterations: 1, WallNSP50: int64(b.Bench), WallNSP99: int64(b.Bench)}},
		Starts: []record.BenchStart{{Unit: "told", Count: 1, WallNSP50: 1}},
	})
}
