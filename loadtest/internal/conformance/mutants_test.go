package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/reference"
	"lab/loadtest/internal/trial"
)

// caught is what a finding about a mutant must say; empty parts are not looked at.
type caught struct{ check, operation, path, expected, got string }

func (c caught) in(r Report) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Check == c.check && strings.Contains(f.Operation, c.operation) && strings.Contains(f.Path, c.path) &&
			strings.Contains(f.Expected, c.expected) && strings.Contains(f.Got, c.got)
	})
}

// requireCaught wants a report that is not conformant and says operation, path, expected and got.
func requireCaught(t *testing.T, r Report, want caught) {
	t.Helper()
	require.False(t, r.Conformant, "the mutant passes")
	var lines []string
	for _, f := range r.Findings {
		assert.NotEmpty(t, f.Operation, "%v", f)
		assert.NotEmpty(t, f.Expected, "%v", f)
		assert.NotEmpty(t, f.Got, "%v", f)
		lines = append(lines, f.String())
	}
	require.True(t, want.in(r), "expected a finding like %+v among:\n%s", want, strings.Join(lines, "\n"))
}

// replace alters answers by a regular expression.
func replace(pattern, with string) alter {
	expression := regexp.MustCompile(pattern)
	return func(_ []byte, a answer) answer {
		a.body = expression.ReplaceAll(a.body, []byte(with))
		return a
	}
}

// items alters the list of items of an answer that has nothing else.
func items(change func([]json.RawMessage) []json.RawMessage) alter {
	return func(_ []byte, a answer) answer {
		const head = `{"data":{"items":`
		if !bytes.HasPrefix(a.body, []byte(head)) {
			return a
		}
		var whole struct {
			Data struct{ Items []json.RawMessage }
		}
		if json.Unmarshal(a.body, &whole) != nil || len(whole.Data.Items) < 2 {
			return a
		}
		list, err := json.Marshal(change(whole.Data.Items))
		if err != nil {
			return a
		}
		a.body = append([]byte(head), append(list, "}}"...)...)
		return a
	}
}

// sometimes applies a change to one answer in n of those that it would alter.
func sometimes(n int64, change alter) alter {
	var count atomic.Int64
	return func(request []byte, a answer) answer {
		changed := change(request, a)
		if bytes.Equal(changed.body, a.body) || count.Add(1)%n != 0 {
			return a
		}
		return changed
	}
}

// TestAnswerMutants puts proxies that alter answers in front of a server that is right.
func TestAnswerMutants(t *testing.T) {
	l := newTestLab(t)
	t.Run("without a change the server is conformant", func(t *testing.T) {
		report := l.prove(t, nil, answerChecks...)
		assert.Empty(t, report.Findings)
		assert.True(t, report.Conformant)
		assert.GreaterOrEqual(t, report.Answers(), 5000, "enough to see one answer in a thousand")
	})
	for _, row := range []struct {
		name   string
		change func() alter
		want   caught
	}{
		{
			"authors are null", func() alter { return replace(`"author":\{"name":"(?:[^"\\]|\\.)*"\}`, `"author":null`) },
			caught{"answers-cold", "q2", "data.items[0].reviews[0].author", "an object {name}", "null"},
		},
		{
			"a key gets another key's author", func() alter {
				authors := regexp.MustCompile(`"author":\{"name":"(?:[^"\\]|\\.)*"\}`)
				return func(_ []byte, a answer) answer {
					all := authors.FindAll(a.body, -1)
					turn := 0
					if len(all) > 1 {
						a.body = authors.ReplaceAllFunc(a.body, func([]byte) []byte { turn++; return all[turn%len(all)] })
					}
					return a
				}
			},
			caught{"answers-cold", "q2", "data.items[0].reviews[0].author.name", `"User `, `"User `},
		},
		{
			"rows in the order of arrival", func() alter {
				return items(func(list []json.RawMessage) []json.RawMessage { slices.Reverse(list); return list })
			},
			caught{"answers-cold", "q1", "data.items[0].id", `"1"`, `"20"`},
		},
		{
			"an element is missing", func() alter {
				return items(func(list []json.RawMessage) []json.RawMessage { return list[:len(list)-1] })
			},
			caught{"answers-cold", "q1", "data.items", "an array of 20 elements", "an array of 19 elements"},
		},
		{
			"fields in another order", func() alter { return replace(`("id":"[0-9]+"),("name":"(?:[^"\\]|\\.)*")`, `$2,$1`) },
			caught{"answers-cold", "q1", "data.items[0]", "{id name priceCents category}", "{name id priceCents category}"},
		},
		{
			"status 200 and errors beside all the data", func() alter {
				return replace(`^\{"data":\{"items"`, `{"errors":[{"message":"oops","path":["items"],"extensions":{"code":"INTERNAL_SERVER_ERROR"}}],"data":{"items"`)
			},
			caught{"answers-cold", "q1", "errors", "no error", "INTERNAL_SERVER_ERROR at items"},
		},
		{
			"another request's answer, now and then", func() alter {
				var mu sync.Mutex
				var last []byte
				return sometimes(50, func(_ []byte, a answer) answer {
					mu.Lock()
					defer mu.Unlock()
					last, a.body = a.body, last
					if a.body == nil {
						a.body = last
					}
					return a
				})
			},
			caught{check: "isolation", operation: "user ", path: "data"},
		},
		{
			"one answer in a thousand is wrong", func() alter { return sometimes(1000, replace(`"name":"(\w)`, `"name":"not $1`)) },
			caught{check: "isolation", path: ".name", got: `"not `},
		},
		{
			"an error code of another name", func() alter { return replace("GRAPHQL_VALIDATION_FAILED", "BAD_REQUEST") },
			caught{"answers-cold", "refused_unknown_field", "errors", "GRAPHQL_VALIDATION_FAILED", "BAD_REQUEST"},
		},
		{
			"another status", func() alter {
				return func(_ []byte, a answer) answer {
					if a.status == http.StatusBadRequest {
						a.status = http.StatusOK
					}
					return a
				}
			},
			caught{"answers-cold", "refused_fragment_cycle", "status", "400", "200 GRAPHQL_VALIDATION_FAILED"},
		},
		{
			"numbers as text", func() alter { return replace(`"priceCents":([0-9]+)`, `"priceCents":"$1"`) },
			caught{check: "answers-cold", operation: "q1", path: "data.items[0].priceCents", got: `"`},
		},
		{
			"another media type", func() alter {
				return func(_ []byte, a answer) answer { a.header.Set("Content-Type", plainJSON); return a }
			},
			caught{"answers-cold", "q1", "Content-Type", graphqlResponse, plainJSON},
		},
		{
			"a member that nobody asked for", func() alter { return replace(`\}$`, `,"extensions":{}}`) },
			caught{check: "answers-cold", operation: "q1", got: "extensions"},
		},
		{
			"rows as they were when first asked for", func() alter {
				var kept sync.Map
				return func(request []byte, a answer) answer {
					first, _ := kept.LoadOrStore(string(request), a.body)
					a.body = first.([]byte)
					return a
				}
			},
			caught{"fresh-rows", "q1", "data.items[0].name", "(changed)", `"Item 1`},
		},
		{
			"wrong when many ask at once", func() alter {
				var now atomic.Int64
				wrong := replace(`"name":"(\w)`, `"name":"not $1`)
				return func(request []byte, a answer) answer {
					defer now.Add(-1)
					if now.Add(1) > 24 {
						a = wrong(request, a)
					}
					time.Sleep(time.Millisecond) // so that requests meet
					return a
				}
			},
			caught{check: "answers-64", path: ".name", got: `"not `},
		},
		{
			"wrong after a hundred runs", func() alter {
				var runs sync.Map
				wrong := replace(`"name":"(\w)`, `"name":"not $1`)
				return func(request []byte, a answer) answer {
					n, _ := runs.LoadOrStore(string(request), new(atomic.Int64))
					if n.(*atomic.Int64).Add(1) > warmRuns {
						a = wrong(request, a)
					}
					return a
				}
			},
			caught{check: "answers-warm", path: ".name", got: `"not `},
		},
		{
			"wrong for queries that stand in no file", func() alter {
				known := map[string]bool{}
				for _, o := range l.contract.Operations {
					known[string(reference.RequestOf(o).Body())] = true
				}
				wrong := replace(`"(\w+)":null`, `"$1":0`)
				return func(request []byte, a answer) answer {
					if !known[string(request)] {
						a = wrong(request, a)
					}
					return a
				}
			},
			caught{check: "random", expected: "null", got: "0"},
		},
		{
			"a new row's id is another", func() alter { return replace(`"review":\{"id":"10001"`, `"review":{"id":"10002"`) },
			caught{check: "mutations", operation: "add_review", path: "review.id", expected: `"10001"`, got: `"10002"`},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			checks := []string{row.want.check}
			requireCaught(t, l.prove(t, row.change(), checks...), row.want)
		})
	}
}

// goArm builds the Go server, which is quick to build, and gives its arm: what is wrong with it here was done to it.
func goArm(t *testing.T) contender.Arm {
	t.Helper()
	root := repositoryRoot(t)
	binary := filepath.Join(t.TempDir(), "go-server")
	build(t, filepath.Join(root, "go-server"), nil, "go", "build", "-o", binary, ".")
	return contender.Arm{
		Name: "go", Base: "go", Contender: "go", Language: "go", Tier: contender.TierMainstream, Root: root, Start: []string{binary},
		Environment: map[string]string{"TIER": "mainstream"},
		Profile:     &contender.Profile{Loader: []*regexp.Regexp{regexp.MustCompile("loaders")}, Runtime: []*regexp.Regexp{regexp.MustCompile("^runtime")}},
	}
}

// build runs a command in a folder.
func build(t *testing.T, dir string, environment []string, command ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...) //nolint:gosec // the commands stand in this file
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environment...)
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", strings.Join(command, " "), output)
}

// twistedEngine starts real contenders otherwise than it was asked to.
type twistedEngine struct {
	*sharedEngine
	// spec changes what a contender is started with.
	spec func(ctx context.Context, spec *engine.ContenderSpec) error
	// around puts something between the contender and whoever asks it.
	around func(c engine.Contender) engine.Contender
}

func (e *twistedEngine) Contender(ctx context.Context, spec engine.ContenderSpec) (engine.Contender, error) {
	if e.spec != nil {
		if err := e.spec(ctx, &spec); err != nil {
			return nil, err
		}
	}
	c, err := e.Engine.Contender(ctx, spec)
	if err != nil || e.around == nil {
		return c, err
	}
	return e.around(c), nil
}

// proxied is a contender behind a proxy of this test.
type proxied struct {
	engine.Contender
	server *httptest.Server
}

func (p *proxied) URL() string        { return p.server.URL }
func (p *proxied) GraphQLURL() string { return p.server.URL + "/graphql" }
func (p *proxied) MetricsURL() string { return p.server.URL + "/metrics" }

func (p *proxied) Stop(ctx context.Context) error {
	err := p.Contender.Stop(ctx)
	p.server.CloseClientConnections()
	p.server.Close()
	return err
}

// behind puts a proxy in front of a contender that alters answers to any request.
func behind(change func(request *http.Request, response *http.Response, body []byte) []byte) func(engine.Contender) engine.Contender {
	return func(c engine.Contender) engine.Contender {
		target, err := url.Parse(c.URL())
		if err != nil {
			panic(err) // an engine's own address
		}
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.ErrorLog = nil
		proxy.ModifyResponse = func(response *http.Response) error {
			body, err := io.ReadAll(response.Body)
			if err != nil {
				return err
			}
			response.Body.Close()
			body = change(response.Request, response, body)
			response.Body = io.NopCloser(bytes.NewReader(body))
			response.ContentLength = int64(len(body))
			response.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		}
		return &proxied{c, httptest.NewServer(proxy)}
	}
}

func withText(from, to string) func(*http.Request, *http.Response, []byte) []byte {
	return func(_ *http.Request, _ *http.Response, body []byte) []byte {
		return bytes.ReplaceAll(body, []byte(from), []byte(to))
	}
}

// environment starts contenders with settings that nobody asked for.
func environment(pairs ...string) func(context.Context, *engine.ContenderSpec) error {
	return func(_ context.Context, spec *engine.ContenderSpec) error {
		merged := map[string]string{}
		for name, value := range spec.Environment {
			merged[name] = value
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			merged[pairs[i]] = pairs[i+1]
		}
		spec.Environment = merged
		return nil
	}
}

// otherContract gives a copy of the contract folder in which a file was changed.
func otherContract(t *testing.T, file string, change func(string) string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "contract")
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(repositoryRoot(t), "contract"))))
	path := filepath.Join(dir, file)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	changed := change(string(text))
	require.NotEqual(t, string(text), changed)
	require.NoError(t, os.WriteFile(path, []byte(changed), 0o600))
	return dir
}

// killed is a contender that is ended the hard way.
type killed struct{ engine.Contender }

func (k killed) Stop(ctx context.Context) error {
	for _, pid := range k.Pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return k.Contender.Stop(ctx)
}

// TestServerMutants starts a real server and gives it, or those who ask it, something else than they think. That the
// server passes when nothing is twisted is what `make conformance` tests.
func TestServerMutants(t *testing.T) {
	l := newTestLab(t)
	arm := goArm(t)
	prove := func(t *testing.T, e *twistedEngine, checks ...string) Report {
		t.Helper()
		e.sharedEngine = l.shared
		reports, err := Prove(t.Context(), Options{Contract: l.contract, Engine: e, Root: arm.Root, Form: Full, Seed: 7, Checks: checks}, []contender.Arm{arm})
		require.NoError(t, err)
		require.Len(t, reports, 1)
		return reports[0]
	}
	limits := otherContract(t, "limits.json", func(text string) string {
		return regexp.MustCompile(`: (\d+)`).ReplaceAllStringFunc(text, func(value string) string {
			n, err := strconv.Atoi(strings.TrimPrefix(value, ": "))
			require.NoError(t, err)
			return fmt.Sprintf(": %d", n+1)
		})
	})
	oldSlowEnd, oldHeard, oldRecovery := slowEnd, heard, recovery
	t.Cleanup(func() { slowEnd, heard, recovery = oldSlowEnd, oldHeard, oldRecovery })
	// What these servers never do need not be waited for as long as what a slow one does late.
	heard, recovery = 4*time.Second, 10*time.Second
	for _, row := range []struct {
		name  string
		twist *twistedEngine
		wants []caught
	}{
		{
			"one statement per key", &twistedEngine{spec: environment("LOADER", "off")},
			[]caught{
				{"statements", "q2", "statement users_by_ids", "1 for one request", ""},
				{"statements-16", "q2", "statement reviews_by_item_ids", "16 for 16 requests", "320"},
				{"statements-128", "q1", "statement categories_by_ids", "128 for 128 requests", ""},
			},
		},
		{
			"queries read from the primary", &twistedEngine{spec: func(_ context.Context, spec *engine.ContenderSpec) error {
				spec.ReplicaURL = spec.PrimaryURL
				return nil
			}},
			[]caught{{"statements", "q1", "statement items", "that it runs on the replica", "1 on the primary"}},
		},
		{
			"a statement of its own", &twistedEngine{spec: environment("CONTRACT_DIR", otherContract(t, "sql/statements/items.sql", func(text string) string {
				return strings.Replace(text, "limit $2::int4", "limit $2::int4 + 0", 1)
			}))},
			[]caught{
				{"statements", "q1", "statement of no file", "only the texts of contract/sql/statements", "-- Query.items."},
				{"statements", "q1", "statement items", "1 for one request", "0"},
			},
		},
		{
			"every limit one above", &twistedEngine{spec: environment("CONTRACT_DIR", limits)},
			[]caught{
				{"hostile", "tokens one above", "", "QUERY_TOO_LONG", ""},
				{"hostile", "depth one above", "", "400 QUERY_TOO_DEEP", ""},
				{"hostile", "aliases one above", "", "400 QUERY_TOO_MANY_ALIASES", ""},
				{"hostile", "cost one above", "", "400 QUERY_TOO_COSTLY", ""},
				{"hostile", "page one above", "", "BAD_USER_INPUT", ""},
				{"hostile", "ranking one above", "", "BAD_USER_INPUT", ""},
				{"hostile", "business days one above", "", "BAD_USER_INPUT", ""},
				{"hostile", "a body one byte above", "status", "413 REQUEST_TOO_LARGE", "200"},
				{"hostile", "a body one byte above, in chunks", "status", "413 REQUEST_TOO_LARGE", "200"},
				{"in-flight", "requests at once", "", "40 answers", "39"},
			},
		},
		{
			"a refusal that says the cause", &twistedEngine{around: behind(withText(`"code":"BAD_REQUEST"`, `"code":"INTERNAL_SERVER_ERROR"`))},
			[]caught{{"hostile", "JSON: an array of requests", "code", "BAD_REQUEST", "INTERNAL_SERVER_ERROR"}},
		},
		{
			"forms are taken", &twistedEngine{around: func(c engine.Contender) engine.Contender {
				p := behind(func(_ *http.Request, _ *http.Response, body []byte) []byte { return body })(c).(*proxied)
				inner := p.server.Config.Handler
				p.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.Header.Set("Content-Type", plainJSON)
					inner.ServeHTTP(w, r)
				})
				return p
			}},
			[]caught{{"hostile", "HTTP: Content-Type: text/plain", "status", "415", "200"}},
		},
		{
			"no answer in time, and the statements go on", &twistedEngine{
				spec: environment("REQUEST_TIMEOUT", "30s"),
				around: func(c engine.Contender) engine.Contender {
					p := behind(func(_ *http.Request, _ *http.Response, body []byte) []byte { return body })(c).(*proxied)
					inner := p.server.Config.Handler
					p.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						// What dropping a future does: the client has its answer, the database knows nothing of it.
						body, _ := io.ReadAll(r.Body)
						detached := r.Clone(context.WithoutCancel(r.Context()))
						detached.Body = io.NopCloser(bytes.NewReader(body))
						recorder, done := httptest.NewRecorder(), make(chan struct{})
						go func() { defer close(done); inner.ServeHTTP(recorder, detached) }()
						select {
						case <-done:
							answerWith(w, recorder.Code, graphqlResponse, recorder.Body.Bytes())
						case <-time.After(time.Second):
							answerWith(w, http.StatusGatewayTimeout, graphqlResponse, []byte(`{"errors":[{"message":"late","extensions":{"code":"REQUEST_TIMEOUT"}}]}`))
						}
					})
					return p
				},
			},
			[]caught{{"request-timeout", "q1 with items locked", "pg_stat_activity", "no statement of the request", "1 on the replica"}},
		},
		{
			"the service's failure is passed on as another", &twistedEngine{around: behind(withText("UPSTREAM_FAILED", "INTERNAL_SERVER_ERROR"))},
			[]caught{{"upstream", "the service gives status 500", "code", "UPSTREAM_FAILED", "INTERNAL_SERVER_ERROR"}},
		},
		{
			"no database is an error of the server", &twistedEngine{around: behind(func(_ *http.Request, response *http.Response, body []byte) []byte {
				if response.StatusCode == http.StatusServiceUnavailable {
					response.StatusCode = http.StatusInternalServerError
				}
				return body
			})},
			[]caught{{"database-away", "q1", "status", "503 SERVICE_UNAVAILABLE", "500"}},
		},
		{
			"no word of when to come again", &twistedEngine{around: behind(func(_ *http.Request, response *http.Response, body []byte) []byte {
				response.Header.Del("Retry-After")
				return body
			})},
			[]caught{{"database-away", "q1", "header Retry-After", "that it is there", "none"}},
		},
		{
			"requests under way are cut off", &twistedEngine{around: func(c engine.Contender) engine.Contender { return killed{c} }},
			[]caught{
				{"shutdown", "q1", "", "an answer", ""},
				{"shutdown", "SIGTERM", "", "exit status 0", ""},
			},
		},
		{
			"writes go elsewhere", &twistedEngine{spec: func(ctx context.Context, spec *engine.ContenderSpec) error {
				if !strings.Contains(spec.PrimaryURL, "/test_") {
					return nil
				}
				elsewhere, err := l.shared.database.Fork(ctx, fmt.Sprintf("elsewhere_%d", time.Now().UnixNano()))
				if err != nil {
					return err
				}
				spec.PrimaryURL = elsewhere.PrimaryURL()
				return nil
			}},
			[]caught{{"writes", "a review is written as it was sent", "the database", "1 7 3 4", "nothing"}},
		},
		{
			"deaf to changes of master data", &twistedEngine{spec: func(ctx context.Context, spec *engine.ContenderSpec) error {
				u, err := url.Parse(l.shared.database.AdminPrimaryURL())
				if err != nil {
					return err
				}
				lab, err := url.Parse(spec.PrimaryURL)
				if err != nil || !strings.HasPrefix(lab.Path, "/test_") {
					return err
				}
				u.Path = lab.Path
				conn, err := pgx.Connect(ctx, u.String())
				if err != nil {
					return err
				}
				defer conn.Close(ctx)
				_, err = conn.Exec(ctx, "drop trigger if exists area_changed on area")
				return err
			}},
			[]caught{{"master-data", "areas", "name", "by SQL", "Area"}},
		},
		{
			"phases that overlap", &twistedEngine{around: behind(func(_ *http.Request, response *http.Response, body []byte) []byte {
				if text := response.Header.Get("Server-Timing"); text != "" {
					if timing, err := parseServerTiming(text); err == nil {
						response.Header.Set("Server-Timing", fmt.Sprintf("parse;dur=%f, validate;dur=%f, execute;dur=%f, db;dur=%f, serialize;dur=%f, total;dur=%f",
							timing["parse"], timing["validate"], timing["execute"]+timing["db"]+0.2, timing["db"], timing["serialize"], timing["total"]))
					}
				}
				return body
			})},
			[]caught{{"server-timing", "q2", "Server-Timing", "phases that add up", "ms"}},
		},
		{
			"the quote service's time is the server's own", &twistedEngine{around: behind(func(_ *http.Request, response *http.Response, body []byte) []byte {
				if text := response.Header.Get("Server-Timing"); text != "" {
					if timing, err := parseServerTiming(text); err == nil {
						response.Header.Set("Server-Timing", fmt.Sprintf("parse;dur=%f, validate;dur=%f, execute;dur=%f, db;dur=%f, serialize;dur=%f, total;dur=%f",
							timing["parse"], timing["validate"], timing["execute"]+timing[phaseUpstream], timing["db"], timing["serialize"], timing["total"]))
					}
				}
				return body
			})},
			[]caught{{"server-timing", "quote", "Server-Timing", "time in upstream", "0.000 ms"}},
		},
		{
			"a metric of another name", &twistedEngine{around: behind(withText("lab_statements_total", "lab_queries_total"))},
			[]caught{{"metrics", "q2", `lab_statements_total{statement="items"}`, "7 more", "0 more"}},
		},
		{
			"busy time of nobody knows how long", &twistedEngine{around: behind(withText("\nlab_documents_cached ", "\nlab_worker_busy_seconds_total{worker=\"0\"} 1\nlab_documents_cached "))},
			[]caught{{"metrics", "/metrics", `lab_worker_elapsed_seconds_total{worker="0"}`, "that it is there", "nothing"}},
		},
		{
			"collections of one worker alone", &twistedEngine{around: behind(withText("\nlab_documents_cached ", "\nlab_worker_busy_seconds_total{worker=\"0\"} 1\nlab_worker_busy_seconds_total{worker=\"1\"} 1\nlab_worker_elapsed_seconds_total{worker=\"0\"} 2\nlab_worker_elapsed_seconds_total{worker=\"1\"} 2\nlab_gc_pause_seconds_sum{worker=\"0\"} 1\nlab_documents_cached "))},
			[]caught{{"metrics", "/metrics", "lab_gc_pause_seconds_sum", `of the workers ["0" "1"]`, `of ["0"]`}},
		},
		{
			"a profiler that nobody switched on", &twistedEngine{spec: func(_ context.Context, spec *engine.ContenderSpec) error {
				delete(spec.Environment, trial.ProfilerSetting)
				return nil
			}},
			[]caught{{"profile", "GET /profile?seconds=0", "status", "400", "404"}},
		},
		{
			"a profile of nothing", &twistedEngine{around: behind(func(request *http.Request, _ *http.Response, body []byte) []byte {
				if request.URL.Path == "/profile" {
					return nil
				}
				return body
			})},
			[]caught{{"profile", "twice at once", "", "folded stacks", "without a sample"}},
		},
		{
			"master data in bulk is not kept", &twistedEngine{spec: func(_ context.Context, spec *engine.ContenderSpec) error {
				delete(spec.Environment, contender.MasterMB)
				return nil
			}},
			[]caught{{"metrics", "/metrics with MASTER_MB=1", "lab_master_text_bytes", "1048576 for each copy", "0"}},
		},
		{
			"always status 200", &twistedEngine{around: behind(func(_ *http.Request, response *http.Response, body []byte) []byte {
				response.StatusCode = http.StatusOK
				return body
			})},
			[]caught{{"audits", "audit ", "", "SHOULD", "Response status"}},
		},
		{
			"half a request is waited for without end", &twistedEngine{around: behind(func(_ *http.Request, _ *http.Response, body []byte) []byte { return body })},
			[]caught{{"slow-clients", "a client that sends half the headers", "", "408 or a closed connection", "neither"}},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			var checks []string
			for _, want := range row.wants {
				if !slices.Contains(checks, want.check) {
					checks = append(checks, want.check)
				}
			}
			slowEnd = oldSlowEnd
			if slices.Contains(checks, "slow-clients") {
				checks = append(checks, "hostile") // opens them
				slowEnd = time.Second
			}
			report := prove(t, row.twist, checks...)
			for _, want := range row.wants {
				requireCaught(t, report, want)
			}
		})
	}
}

// TestEachCheckHasAMutant reads the tables of mutants: a check that nothing was seen to fail proves nothing.
func TestEachCheckHasAMutant(t *testing.T) {
	var tables []byte
	for _, file := range []string{"mutants_test.go", "patches_test.go", "arms_test.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		tables = append(tables, text...)
	}
	row := regexp.MustCompile(`\{(?:check: )?"([a-z0-9-]+)", (?:operation: |path: |expected: |got: )?["` + "`" + `]`)
	caughtBy := map[string]bool{}
	for _, match := range row.FindAllSubmatch(tables, -1) {
		caughtBy[string(match[1])] = true
	}
	for _, check := range Checks() {
		assert.True(t, caughtBy[check.Name], "no mutant is caught by the check %s", check.Name)
	}
}

// TestHostileTable holds the table's expectations against the reference, so that a slip in the table is not a finding
// about a server.
func TestHostileTable(t *testing.T) {
	l := newTestLab(t)
	d, err := l.shared.Database(t.Context(), engine.DatabaseSpec{Size: size})
	require.NoError(t, err)
	rows, err := reference.Open(t.Context(), d.PrimaryURL())
	require.NoError(t, err)
	executor := reference.NewExecutor(l.contract, rows)
	names := map[string]bool{}
	for _, hc := range hostileTable(l.contract) {
		assert.False(t, names[hc.name], "two rows are named %q", hc.name)
		names[hc.name] = true
		if hc.request == nil {
			assert.NotEmpty(t, hc.parts, hc.name)
			continue
		}
		response := executor.Execute(*hc.request)
		code := ""
		if len(response.Errors) > 0 {
			code = response.Errors[0].Code
		}
		if hc.name == "id literal of a thousand digits" || hc.name == "two ids of a thousand digits" {
			continue // the reference's parser takes no integer beyond 64 bits for an id; the contract does
		}
		assert.Equal(t, hc.want.code, code, hc.name)
		assert.Equal(t, hc.want.code != "" && !hc.atField, response.RequestError, hc.name)
		if hc.want.path != "" && len(response.Errors) > 0 {
			assert.Equal(t, hc.want.path, joined(response.Errors[0].Path), hc.name)
		}
	}
	assert.Greater(t, len(names), 200)
}
