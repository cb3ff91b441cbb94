package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/faultproxy"
	"lab/loadtest/internal/engine/native"
	"lab/loadtest/internal/reference"
	"lab/loadtest/internal/upstream"
)

// TestMain lets the test binary play the stub of the quote service and the fault proxy, which an engine starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "fault-proxy" {
		os.Exit(faultproxy.Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == "upstream" {
		os.Exit(upstream.Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func repositoryRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	return root
}

func loadContract(t *testing.T) *contract.Contract {
	t.Helper()
	c, err := contract.Load(filepath.Join(repositoryRoot(t), "contract"))
	require.NoError(t, err)
	return c
}

// startEngine makes a native engine and, for all subtests, one database that [playedEngine] gives out again and again.
func startEngine(t *testing.T, c *contract.Contract) engine.Engine {
	t.Helper()
	e, err := native.New(t.Context(), native.Options{Root: repositoryRoot(t), Contract: c, Log: func(line string) { t.Log(line) }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close(context.Background())) })
	return e
}

// sharedEngine gives the same database and the same stub to every proof: seeding and starting take most of the time.
type sharedEngine struct {
	engine.Engine
	mu       sync.Mutex
	database engine.Database
	upstream engine.Service
	forks    int
}

// kept is a database or service that outlives the proof that asked for it.
type keptDatabase struct {
	engine.Database
	shared *sharedEngine
}

func (keptDatabase) Stop(context.Context) error { return nil }

func (d keptDatabase) Fork(ctx context.Context, _ string) (engine.Database, error) {
	d.shared.mu.Lock()
	d.shared.forks++
	name := fmt.Sprintf("test_%d", d.shared.forks)
	d.shared.mu.Unlock()
	return d.Database.Fork(ctx, name)
}

type keptService struct{ engine.Service }

func (keptService) Stop(context.Context) error { return nil }

func (e *sharedEngine) Database(ctx context.Context, spec engine.DatabaseSpec) (engine.Database, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.database == nil {
		d, err := e.Engine.Database(ctx, spec)
		if err != nil {
			return nil, err
		}
		e.database = d
	}
	return keptDatabase{e.database, e}, nil
}

func (e *sharedEngine) Upstream(ctx context.Context, spec engine.UpstreamSpec) (engine.Service, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.upstream == nil {
		u, err := e.Engine.Upstream(ctx, spec)
		if err != nil {
			return nil, err
		}
		e.upstream = u
	}
	return keptService{e.upstream}, nil
}

// playedEngine starts, in place of contenders, HTTP servers of this test: perhaps one that is right, perhaps a proxy in
// front of it that is not.
type playedEngine struct {
	*sharedEngine
	// play gives the handler for a database.
	play func(ctx context.Context, spec engine.ContenderSpec) (http.Handler, error)
}

func (e *playedEngine) Contender(ctx context.Context, spec engine.ContenderSpec) (engine.Contender, error) {
	handler, err := e.play(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &played{server: httptest.NewServer(handler), arm: spec.Arm, exited: make(chan struct{})}, nil
}

// played is a contender inside this process.
type played struct {
	engine.Meter
	server *httptest.Server
	arm    contender.Arm
	exited chan struct{}
	once   sync.Once
}

func (p *played) URL() string               { return p.server.URL }
func (p *played) GraphQLURL() string        { return p.server.URL + "/graphql" }
func (p *played) MetricsURL() string        { return p.server.URL + "/metrics" }
func (p *played) Arm() contender.Arm        { return p.arm }
func (p *played) LoadURL() string           { return p.GraphQLURL() }
func (p *played) Started() time.Time        { return time.Time{} }
func (p *played) ReadyAfter() time.Duration { return 0 }
func (p *played) Logs(int) []string         { return nil }
func (p *played) Exited() <-chan struct{}   { return p.exited }
func (p *played) Stop(context.Context) error {
	p.once.Do(func() { p.server.Close(); close(p.exited) })
	return nil
}

// referenceServer answers POST /graphql from package reference: it is right by definition, as long as the envelope is.
type referenceServer struct {
	contract *contract.Contract
	url      string
	// keep: the data never changes, so it is read once. Else it is read whenever something was written.
	keep bool

	mu      sync.Mutex
	conn    *pgx.Conn
	written string
	data    *reference.Executor
}

func (r *referenceServer) executor(ctx context.Context) (*reference.Executor, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data != nil && r.keep {
		return r.data, nil
	}
	if r.conn == nil {
		conn, err := pgx.Connect(ctx, r.url)
		if err != nil {
			return nil, err
		}
		r.conn = conn
	}
	var written string
	if err := r.conn.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&written); err != nil {
		return nil, err
	}
	if r.data == nil || written != r.written {
		data, err := reference.Open(ctx, r.url)
		if err != nil {
			return nil, err
		}
		r.data, r.written = reference.NewExecutor(r.contract, data), written
	}
	return r.data, nil
}

func (r *referenceServer) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var body struct {
		Query         string          `json:"query"`
		Variables     json.RawMessage `json:"variables"`
		OperationName string          `json:"operationName"`
	}
	if err := json.NewDecoder(request.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	executor, err := r.executor(request.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	response := executor.Execute(reference.Request{Query: body.Query, Variables: body.Variables, OperationName: body.OperationName})
	code := ""
	if response.RequestError {
		code = response.Errors[0].Code
	}
	accept := request.Header.Get("Accept")
	status, err := r.contract.Errors.StatusOf(code, accept == graphqlResponse)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answerWith(w, status, accept, response.JSON())
}

func answerWith(w http.ResponseWriter, status int, mediaType string, body []byte) {
	w.Header().Set("Content-Type", mediaType+"; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// lab is what the tests share.
type testLab struct {
	contract *contract.Contract
	shared   *sharedEngine
}

func newTestLab(t *testing.T) *testLab {
	t.Helper()
	c := loadContract(t)
	return &testLab{contract: c, shared: &sharedEngine{Engine: startEngine(t, c)}}
}

// answerChecks are those that a server without statements, limits on its doors or processes can pass.
var answerChecks = []string{"answers-cold", "mutations", "random", "answers-64", "answers-warm", "isolation", "fresh-rows"}

// alter changes what passes through a proxy; nil leaves it as it is.
type alter func(request []byte, a answer) answer

// prove proves a reference server behind a proxy that alters answers.
func (l *testLab) prove(t *testing.T, change alter, checks ...string) Report {
	t.Helper()
	play := func(_ context.Context, spec engine.ContenderSpec) (http.Handler, error) {
		r := &referenceServer{contract: l.contract, url: spec.PrimaryURL, keep: !strings.Contains(spec.PrimaryURL, "/test_")}
		if change == nil {
			return r, nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			body, err := io.ReadAll(request.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			request.Body = io.NopCloser(bytes.NewReader(body))
			recorder := httptest.NewRecorder()
			r.ServeHTTP(recorder, request)
			a := change(body, answer{status: recorder.Code, header: recorder.Header(), body: recorder.Body.Bytes()})
			mediaType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
			answerWith(w, a.status, mediaType, a.body)
		}), nil
	}
	arm := contender.Arm{Name: "played", Base: "played", Contender: "played", Tier: contender.TierMainstream, Root: repositoryRoot(t)}
	reports, err := Prove(t.Context(), Options{
		Contract: l.contract, Engine: &playedEngine{sharedEngine: l.shared, play: play}, Root: arm.Root, Form: Full, Seed: 7,
		Checks: checks,
	}, []contender.Arm{arm})
	require.NoError(t, err)
	require.Len(t, reports, 1)
	return reports[0]
}

// goneEngine has ended before it can start a contender.
type goneEngine struct{ *sharedEngine }

func (goneEngine) Contender(context.Context, engine.ContenderSpec) (engine.Contender, error) {
	return nil, engine.ErrGone
}

func (goneEngine) Alive(context.Context) error { return engine.ErrGone }

// The answer "not conformant" would be wrong: nobody was asked.
func TestAnEngineThatIsGoneIsNoFinding(t *testing.T) {
	if testing.Short() {
		t.Skip("short: makes a database")
	}
	l := newTestLab(t)
	arm := contender.Arm{Name: "played", Base: "played", Contender: "played", Tier: contender.TierMainstream, Root: repositoryRoot(t)}
	_, err := Prove(t.Context(), Options{
		Contract: l.contract, Engine: goneEngine{l.shared}, Root: arm.Root, Form: Short, Checks: []string{"answers-cold"},
	}, []contender.Arm{arm})
	require.ErrorIs(t, err, engine.ErrGone)
}
