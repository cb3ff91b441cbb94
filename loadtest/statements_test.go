package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/conformance"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/native"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trial"
)

// None of the published trials that count has fewer statements than its operations take with its arm's settings, nor so many that
// it would be told. The contract's numbers are those of the size small; of these operations the size of the nights has the same.
func TestPublishedTrialsHaveTheirStatements(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(l.root, "results", "*", "run.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		var r record.Run
		require.NoError(t, json.Unmarshal(b, &r))
		judged, counted := 0, 0
		for _, x := range r.Trials {
			if x.Void != nil || x.StatementsPerRequest == nil {
				continue
			}
			counted++
			arm, err := contender.Resolve(l.contenders, x.Arm)
			if err != nil {
				continue // an arm that there is no more
			}
			var questions []question
			for _, operation := range append([]record.OperationFigures{{Operation: x.Operation}}, x.Operations...) {
				o, err := l.contract.Operation(operation.Operation)
				require.NoError(t, err, x.ID)
				questions = append(questions, question{name: o.Name, statements: o.Statements})
			}
			trial.Allow(&x, allowed(arm, questions...))
			require.NotNil(t, x.StatementsLeastPerRequest, x.ID)
			assert.Positive(t, *x.StatementsLeastPerRequest, x.ID)
			assert.False(t, x.LacksStatements(), "%s of %s: %g of %g", x.ID, name, *x.StatementsPerRequest, *x.StatementsLeastPerRequest)
			assert.Empty(t, trial.Surplus(&x), "%s of %s", x.ID, name)
			judged++
		}
		t.Logf("%s: %d of %d trials that are not void and count statements", name, judged, counted)
		require.Positive(t, counted, name)
		if strings.HasSuffix(name, "-nightly") {
			assert.Greater(t, judged, 8*counted/10, name)
		}
	}
}

// The settings decide: what is not batched takes more, what is in memory or may be in Redis takes less.
func TestStatementsFollowTheArmsSettings(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	operation, err := l.contract.Operation("q2")
	require.NoError(t, err)
	q := question{name: "q2", statements: operation.Statements}
	for name, want := range map[string]contract.Range{
		"go": {Min: 4, Max: 4}, "go-floor": {Min: 4, Max: 4}, "node+REPLICA=off": {Min: 4, Max: 4}, "rust+LOADER=off": {Min: 94, Max: 94}, "go+MASTER=none": {Min: 5, Max: 5}, "node+MASTER=redis": {Min: 4, Max: 5},
	} {
		arm, err := contender.Resolve(l.contenders, name)
		require.NoError(t, err)
		assert.Equal(t, map[string]contract.Range{"q2": want}, allowed(arm, q, question{name: "unknown"}), name)
	}
}

// Of an arm whose requests take more than the database is asked nothing is told but that: no verdict, and no second try.
func TestAnArmThatDoesNotAskTheDatabaseIsHeldAgainstNobody(t *testing.T) {
	for name, c := range map[string]struct {
		takes contract.Range
		lacks bool
		tells string
	}{
		"as many as it takes": {contract.Range{Min: 2, Max: 2}, false, ""},
		"fewer":               {contract.Range{Min: 3, Max: 4}, true, ""},
		"more than it may":    {contract.Range{Min: 0, Max: 1}, false, "asked the database more than it may"},
	} {
		t.Run(name, func(t *testing.T) {
			inNoTime(t)
			s := newStage(t, compareOptions{seed: 7, contenders: "go,node"})
			ask := s.questions
			s.questions = func(ctx context.Context, d engine.Database, names ...string) ([]question, error) {
				out, err := ask(ctx, d, names...)
				for i := range out {
					out[i].statements = contract.Counts{contract.Default: {"items": c.takes}}
				}
				return out, err
			}
			bears := map[string]float64{} // attacks then take no time, and each has enough requests
			for _, arm := range []string{"go", "node"} {
				bears[arm] = 20_000
			}
			s.engine.Bears, s.engine.GeneratorBears = bears, 100_000
			dir := filepath.Join(t.TempDir(), "run")
			require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
			r := whole(t, dir)
			require.NotEmpty(t, r.Trials)
			for _, x := range r.Trials {
				require.NotNil(t, x.StatementsLeastPerRequest, x.ID)
				if c.lacks {
					require.NotNil(t, x.Void, x.ID)
					assert.Equal(t, "2 SQL statements a request; q2 with this arm's settings takes at least 3", *x.Void)
				} else if x.Void != nil {
					assert.NotContains(t, *x.Void, "SQL statements")
				}
			}
			assert.Zero(t, r.Plan.Repeats)
			if c.lacks {
				require.NotEmpty(t, r.Verdicts)
				assert.Equal(t, claims.Untested, r.Verdicts[0].Verdict)
				assert.Equal(t, *r.Trials[0].Void, strings.SplitN(r.Verdicts[0].Reason, ": ", 2)[1])
			}
			if c.tells == "" {
				assert.NotContains(t, strings.Join(r.Warnings, "\n"), "SQL statements")
			} else {
				told := 0
				for _, line := range r.Warnings {
					if strings.Contains(line, c.tells) {
						told++
					}
				}
				assert.Equal(t, 2, told, "once for each arm: %q", r.Warnings)
			}
		})
	}
}

// An arm that is measured though it was not proven equal is marked, and known to do otherwise.
func TestAnArmThatIsNotConformantIsNotHeldToItsStatements(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, contenders: "go,node", allow: true})
	proven := s.proofs
	s.proofs = func(ctx context.Context, o conformance.Options, arms []contender.Arm) ([]conformance.Report, error) {
		reports, err := proven(ctx, o, arms)
		for i := range reports {
			reports[i].Conformant = reports[i].Arm != "go"
		}
		return reports, err
	}
	ask := s.questions
	s.questions = func(ctx context.Context, d engine.Database, names ...string) ([]question, error) {
		out, err := ask(ctx, d, names...)
		for i := range out {
			out[i].statements = contract.Counts{contract.Default: {"items": {Min: 3, Max: 3}}}
		}
		return out, err
	}
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	for _, x := range whole(t, dir).Trials {
		assert.Equal(t, x.Arm == "go", x.Nonconformant, x.ID)
		assert.Equal(t, x.Arm == "node", x.LacksStatements(), x.ID)
	}
}

// keeping is a contender in front of which somebody keeps the answer to each body once there have been some hundred requests: right
// to the byte, and no work.
type keeping struct {
	engine.Contender
	url string
}

func (k keeping) LoadURL() string { return k.url }

const keptAfter = 200

func keepAnswers(t *testing.T, c engine.Contender) engine.Contender {
	t.Helper()
	var mu sync.Mutex
	n, kept := 0, map[string][]byte{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		n++
		answer := kept[string(body)]
		if n <= keptAfter {
			answer = nil
		}
		mu.Unlock()
		if answer == nil {
			request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, c.LoadURL(), bytes.NewReader(body))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			request.Header = r.Header.Clone()
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer response.Body.Close()
			if answer, err = io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
				http.Error(w, "the server's answer", http.StatusBadGateway)
				return
			}
			mu.Lock()
			kept[string(body)] = answer
			mu.Unlock()
		}
		w.Header().Set("Content-Type", "application/graphql-response+json")
		_, _ = w.Write(answer)
	}))
	t.Cleanup(s.Close)
	return keeping{c, s.URL}
}

// A real server on a real database, and the same one with a keeper of answers in front of it: every answer is right, none fails, and
// only the database's own account tells them apart.
func TestAServerThatKeepsAnswersUnderLoadIsVoid(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	binary := filepath.Join(l.root, "bin", "loadtest")
	require.FileExists(t, binary, "run `make build-loadtest build-go` first")
	e, err := native.New(t.Context(), native.Options{Root: l.root, Contract: l.contract, Log: func(line string) { t.Log(line) }, Binary: binary})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, e.Close(context.Background())) })
	d, err := e.Database(t.Context(), engine.DatabaseSpec{Size: "small"})
	require.NoError(t, err)
	u, err := e.Upstream(t.Context(), engine.UpstreamSpec{Size: "small"})
	require.NoError(t, err)
	machine, err := e.Describe(t.Context())
	require.NoError(t, err)
	questions, err := l.questions(t.Context(), d, "q1", "q2", "add_review_of_many")
	require.NoError(t, err)
	q := questions[0]
	for _, settings := range []string{"", "+LOADER=off+MASTER=none"} {
		arm, err := contender.Resolve(l.contenders, "go"+settings)
		require.NoError(t, err)
		c, err := e.Contender(t.Context(), engine.ContenderSpec{
			Arm: arm, PrimaryURL: d.PrimaryURL(), ReplicaURL: d.ReplicaURL(), UpstreamURL: u.URL(), Environment: map[string]string{"LOG_LEVEL": "warn"},
		})
		require.NoError(t, err)
		_, err = trial.FirstAnswer(t.Context(), c, q.body(arm.Tier, 7), q.expected)
		require.NoError(t, err)
		var mixed []weighted
		for _, q := range questions {
			mixed = append(mixed, weighted{question: q, weight: 1})
		}
		measure := func(c engine.Contender, mixed []weighted) record.Trial {
			todo := &schedule{question: q, mixed: mixed}
			x, _, err := trial.Run(t.Context(), trial.Subject{Engine: e, Arm: arm, Contender: c, Database: d, Upstream: u, Placement: machine.Placement}, trial.Spec{
				ID: "kept", Operation: q.name, Body: q.body(arm.Tier, 7), Expected: q.expected, Operations: operations(mixed, arm, 7), Statements: todo.statements(arm),
				Load: record.LoadThroughput, Seed: 7, RPS: 400, Duration: 2 * time.Second, MaxInFlight: 64, Timeout: 10 * time.Second,
			})
			require.NoError(t, err)
			require.Zero(t, x.Failed, x.FirstFailure)
			require.Greater(t, x.OK, uint64(keptAfter+100))
			t.Logf("%s: %d answers, %g SQL statements a request of %g to %g", arm.Name, x.OK, *x.StatementsPerRequest, *x.StatementsLeastPerRequest, *x.StatementsMostPerRequest)
			return x
		}
		for name, mixed := range map[string][]weighted{"one operation": nil, "a mix that writes": mixed[:]} {
			works := measure(c, mixed)
			if works.Void != nil { // of the machine, where other tests run beside this one
				assert.NotContains(t, *works.Void, "SQL statements", name)
			}
			assert.Empty(t, trial.Surplus(&works), name)
			keeps := measure(keepAnswers(t, c), mixed)
			require.NotNil(t, keeps.Void, name)
			assert.Contains(t, *keeps.Void, "SQL statements a request", name)
			assert.False(t, trial.Spoilt(&keeps))
			t.Log(*keeps.Void)
		}
		require.NoError(t, c.Stop(t.Context()))
	}
}
