package conformance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/engine"
)

// lockItems locks the table of items on the primary and, as such a lock travels in the log, on the replica: whatever
// reads items waits until release is called.
func lockItems(ctx context.Context, db engine.Database) (release func() error, err error) {
	conn, err := pgx.Connect(ctx, db.AdminPrimaryURL())
	if err != nil {
		return nil, fmt.Errorf("lock items: %w", err)
	}
	release = func() error {
		ctx := context.WithoutCancel(ctx)
		defer conn.Close(ctx)
		// A commit is in the log before it returns; a rollback would reach the replica some time later.
		if _, err := conn.Exec(ctx, "commit"); err != nil {
			return fmt.Errorf("unlock items: %w", err)
		}
		return nil
	}
	if err := lockOn(ctx, conn, db); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("lock items: %w", err)
	}
	return release, nil
}

func lockOn(ctx context.Context, conn *pgx.Conn, db engine.Database) error {
	for _, sql := range []string{"begin", "lock table item in access exclusive mode"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	other, err := pgx.Connect(ctx, db.AdminPrimaryURL())
	if err != nil {
		return err
	}
	defer other.Close(context.WithoutCancel(ctx))
	// The commit of another transaction takes the lock's record to the disk and so to the replica.
	if err := flush(ctx, other); err != nil {
		return err
	}
	replica, err := pgx.Connect(ctx, db.AdminReplicaURL())
	if err != nil {
		return err
	}
	defer replica.Close(context.WithoutCancel(ctx))
	locked := false
	eventually(ctx, patience, func() bool {
		err = replica.QueryRow(ctx, `select exists (select from pg_locks where granted and mode = 'AccessExclusiveLock'
			and relation = 'item'::regclass and database = (select oid from pg_database where datname = current_database()))`).Scan(&locked)
		return err != nil || locked
	})
	if err == nil && !locked {
		err = fmt.Errorf("the replica has no lock after %s", patience)
	}
	return err
}

// requestTimeout locks a table, so that requests take longer than they may.
func requestTimeout(ctx context.Context, s *subject, t *tally) error {
	const limit = "1s"
	// The contract gives statements one second to end; as much again for a busy machine.
	const endWithin = 2 * time.Second
	return s.withFork(ctx, map[string]string{"REQUEST_TIMEOUT": limit}, func(db engine.Database, c engine.Contender) error {
		w, err := s.watch(ctx, db)
		if err != nil {
			return err
		}
		defer w.close(ctx)
		golden := s.golden()
		s.pose(ctx, t, c.GraphQLURL(), golden, graphqlResponse, "before the table is locked")
		release, err := lockItems(ctx, db)
		if err != nil {
			return err
		}
		// One alone, then more than the pool has connections, so that some wait for a connection.
		for _, n := range []int{1, 40} {
			atOnce(n, func(int) {
				a, err := s.client.post(ctx, c.GraphQLURL(), golden.body, graphqlResponse)
				t.answers.Add(1)
				f := Finding{Operation: fmt.Sprintf("%s with items locked, %d at once", golden.name, n)}
				switch {
				case err != nil:
					f.Expected, f.Got = "504 REQUEST_TIMEOUT", err.Error()
					t.find(f)
				case !s.fits(a, want{statuses: []int{http.StatusGatewayTimeout}, code: "REQUEST_TIMEOUT"}, &f):
					t.find(f)
				}
			})
			answered := time.Now()
			if err := w.gone(ctx, endWithin); errors.Is(err, errStillThere) {
				f := Finding{
					Operation: fmt.Sprintf("%s with items locked, %d at once", golden.name, n), Path: "pg_stat_activity",
					Expected: "no statement of the request within a second of its answer", Got: err.Error(),
				}
				if err := w.gone(ctx, patience); err == nil {
					f.Detail = fmt.Sprintf("gone after %s", time.Since(answered).Round(time.Millisecond))
				}
				t.find(f)
			} else if err != nil {
				return err
			}
		}
		if err := release(); err != nil {
			return err
		}
		if err := waitReplica(ctx, db); err != nil {
			return err
		}
		eachOf(ctx, 64, 4, func(int) { s.pose(ctx, t, c.GraphQLURL(), golden, graphqlResponse, "after requests that timed out") })
		return nil
	})
}

// inFlight sends more requests than may be in flight at once while none can be answered.
func inFlight(ctx context.Context, s *subject, t *tally) error {
	const beyond = 40
	const refusedWithin = 15 * time.Second
	limit := s.Contract.Limits.RequestsInFlight
	return s.withFork(ctx, nil, func(db engine.Database, c engine.Contender) error {
		golden := s.golden()
		s.pose(ctx, t, c.GraphQLURL(), golden, graphqlResponse, "before the table is locked")
		release, err := lockItems(ctx, db)
		if err != nil {
			return err
		}
		// All answers, in the order in which they come.
		type result struct {
			a   answer
			err error
		}
		results := make(chan result, limit+beyond)
		request := wireRequest{body: golden.body}.bytes()
		var conns []net.Conn
		defer func() {
			for _, conn := range conns {
				conn.Close()
			}
		}()
		for range limit + beyond {
			conn, err := dial(ctx, c.GraphQLURL())
			if err != nil {
				_ = release()
				return err
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			conns = append(conns, conn)
			if _, err := conn.Write(request); err != nil {
				_ = release()
				return fmt.Errorf("send a request: %w", err)
			}
			go func() {
				a, err := readAnswer(bufio.NewReader(conn), http.MethodPost)
				results <- result{a, err}
			}()
		}
		busy := want{statuses: []int{http.StatusServiceUnavailable}, code: "SERVICE_UNAVAILABLE", headers: []string{"Retry-After"}}
		operation := fmt.Sprintf("%d requests at once", limit+beyond)
		early := 0
		timeout := time.After(refusedWithin)
	refused:
		for early < beyond {
			select {
			case r := <-results:
				early++
				f := Finding{Operation: operation}
				if r.err != nil {
					f.Expected, f.Got = busy.describe(), r.err.Error()
					t.find(f)
				} else if !s.fits(r.a, busy, &f) {
					t.find(f)
				}
			case <-timeout:
				t.find(Finding{Operation: operation, Expected: fmt.Sprintf("%d answers of %s at once", beyond, busy.describe()), Got: fmt.Sprint(early)})
				break refused
			case <-ctx.Done():
				_ = release()
				return ctx.Err()
			}
		}
		// Requests in flight come first in the order of checks: one that is wrong in other ways is refused for that.
		for _, f := range s.faceWire(ctx, c.GraphQLURL(), hostileCase{
			name: "PUT of text while too many are in flight", method: http.MethodPut, want: busy,
			parts: [][]byte{wireRequest{method: http.MethodPut, body: []byte("x"), headers: []string{"Content-Type", "text/plain"}}.bytes()},
		}) {
			t.find(f)
		}
		// Whoever looks after the server can still ask how it is.
		if a, err := s.client.get(ctx, c.URL()+"/livez"); err != nil || a.status != http.StatusOK {
			t.find(Finding{Operation: "GET /livez while too many are in flight", Path: "status", Expected: "200", Got: describeEither(a, err)})
		}
		if err := release(); err != nil {
			return err
		}
		for range limit + beyond - early {
			select {
			case r := <-results:
				t.answers.Add(1)
				f := Finding{Operation: golden.name, Detail: "taken, and answered after the table was unlocked"}
				if r.err != nil {
					f.Expected, f.Got = "an answer", r.err.Error()
					t.find(f)
				} else if !s.compare(golden, r.a, graphqlResponse, &f) {
					t.find(f)
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s.pose(ctx, t, c.GraphQLURL(), golden, graphqlResponse, "when all had been answered")
		return nil
	})
}

func describeEither(a answer, err error) string {
	if err != nil {
		return err.Error()
	}
	return a.describe()
}

// unavailable is what a request gets while there is no database.
var unavailable = want{statuses: []int{http.StatusServiceUnavailable}, code: "SERVICE_UNAVAILABLE", headers: []string{"Retry-After"}}

// databaseAway takes the database away, first by cutting the wire, then by restarting it, and waits for recovery.
func databaseAway(ctx context.Context, s *subject, t *tally) error {
	db, err := s.fork(ctx)
	if err != nil {
		return err
	}
	defer s.dropFork(ctx, db)
	if err := s.wireCut(ctx, t, db); err != nil {
		return err
	}
	return s.restarted(ctx, t, db)
}

func (s *subject) wireCut(ctx context.Context, t *tally, db engine.Database) error {
	primary, err := newCable(ctx, s.Engine, db.PrimaryURL())
	if err != nil {
		return err
	}
	defer primary.cut()
	replica, err := newCable(ctx, s.Engine, db.ReplicaURL())
	if err != nil {
		return err
	}
	defer replica.cut()
	c, err := s.startAt(ctx, primary.url, replica.url, map[string]string{"REQUEST_TIMEOUT": "5s"})
	if err != nil {
		return err
	}
	defer s.stop(ctx, c.Stop)
	golden := s.golden()
	s.pose(ctx, t, c.GraphQLURL(), golden, graphqlResponse, "before the database went away")
	primary.cut()
	replica.cut()
	for i := range 8 {
		a, err := s.client.post(ctx, c.GraphQLURL(), golden.body, graphqlResponse)
		f := Finding{Operation: golden.name, Detail: fmt.Sprintf("request %d without a database", i+1)}
		t.answers.Add(1)
		if err != nil {
			f.Expected, f.Got = unavailable.describe(), err.Error()
			t.find(f)
		} else if !s.fits(a, unavailable, &f) {
			t.find(f)
		}
	}
	s.waitStatus(ctx, t, c.URL()+"/readyz", http.StatusServiceUnavailable, "without a database")
	s.waitStatus(ctx, t, c.URL()+"/livez", http.StatusOK, "without a database")
	if err := primary.join(ctx); err != nil {
		return err
	}
	if err := replica.join(ctx); err != nil {
		return err
	}
	s.waitStatus(ctx, t, c.URL()+"/readyz", http.StatusOK, "with the database again")
	s.waitRight(ctx, t, c.GraphQLURL(), "the database could be reached again")
	return nil
}

func (s *subject) restarted(ctx context.Context, t *tally, db engine.Database) error {
	c, err := s.start(ctx, db, map[string]string{"REQUEST_TIMEOUT": "5s"})
	if err != nil {
		return err
	}
	defer s.stop(ctx, c.Stop)
	golden := s.golden()
	s.pose(ctx, t, c.GraphQLURL(), golden, graphqlResponse, "before the database was restarted")
	var over atomic.Bool
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for !over.Load() && ctx.Err() == nil && !t.enough() {
				a, err := s.client.post(ctx, c.GraphQLURL(), golden.body, graphqlResponse)
				t.answers.Add(1)
				f := Finding{Operation: golden.name, Detail: "while the database was being restarted"}
				switch {
				case err != nil:
					f.Expected, f.Got = "the right answer or "+unavailable.describe(), err.Error()
					t.find(f)
				case a.status == http.StatusOK && !s.compare(golden, a, graphqlResponse, &f), a.status != http.StatusOK && !s.fits(a, unavailable, &f):
					t.find(f)
				}
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond): // refusals come fast; there is no need for thousands of them
				}
			}
		})
	}
	err = db.Restart(ctx)
	over.Store(true)
	wait.Wait()
	if err != nil {
		return err
	}
	s.waitRight(ctx, t, c.GraphQLURL(), "the database was restarted")
	// The arm's other process was idle meanwhile and has to get over it as well.
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	s.waitRight(ctx, t, url, "the database was restarted, in a process that was idle")
	return nil
}

// recovery is how long a server may take to find its database again: a bound for waiting.
var recovery = 30 * time.Second // a variable for the test with a server that never recovers

// waitRight waits until a row of requests is answered right, on all connections of the pool.
func (s *subject) waitRight(ctx context.Context, t *tally, url, when string) {
	const inARow = 64
	golden := s.golden()
	var last Finding
	ok := eventually(ctx, recovery, func() bool {
		var mu sync.Mutex
		right := true
		eachOf(ctx, inARow, 16, func(int) {
			mu.Lock()
			goOn := right
			mu.Unlock()
			if !goOn {
				return
			}
			f := Finding{Operation: golden.name, Detail: fmt.Sprintf("%s after %s", recovery, when)}
			a, err := s.client.post(ctx, url, golden.body, graphqlResponse)
			t.answers.Add(1)
			if err != nil {
				f.Expected, f.Got = "an answer", err.Error()
			} else if s.compare(golden, a, graphqlResponse, &f) {
				return
			}
			mu.Lock()
			last, right = f, false
			mu.Unlock()
		})
		return right
	})
	if !ok && ctx.Err() == nil {
		t.find(last)
	}
}

// waitStatus waits until a page has that status.
func (s *subject) waitStatus(ctx context.Context, t *tally, url string, status int, when string) {
	last := ""
	if !eventually(ctx, recovery, func() bool {
		a, err := s.client.get(ctx, url)
		last = describeEither(a, err)
		return err == nil && a.status == status
	}) && ctx.Err() == nil {
		page := url[strings.LastIndex(url, "/"):]
		t.find(Finding{Operation: "GET " + page, Path: "status", Expected: fmt.Sprintf("%d within %s %s", status, recovery, when), Got: last})
	}
}

// shutdown sends SIGTERM while a request is under way.
func shutdown(ctx context.Context, s *subject, t *tally) error {
	db, err := s.fork(ctx)
	if err != nil {
		return err
	}
	defer s.dropFork(ctx, db)
	w, err := s.watch(ctx, db)
	if err != nil {
		return err
	}
	defer w.close(ctx)
	// Half a request may hold the end up for as long as a request may take, and that is less than the engine's patience.
	c, err := s.start(ctx, db, map[string]string{"REQUEST_TIMEOUT": "4s"})
	if err != nil {
		return err
	}
	golden := s.golden()
	// A connection that is kept and idle, and half a request, must not hold the shutdown up.
	s.pose(ctx, t, c.GraphQLURL(), golden, graphqlResponse, "before SIGTERM")
	half, err := dial(ctx, c.GraphQLURL())
	if err != nil {
		return err
	}
	defer half.Close()
	if _, err := half.Write([]byte("POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\n")); err != nil {
		return err
	}
	release, err := lockItems(ctx, db)
	if err != nil {
		return err
	}
	const underWay = 4
	answers := make(chan error, underWay)
	findings := make(chan Finding, underWay)
	for range underWay {
		go func() {
			a, err := s.client.post(ctx, c.GraphQLURL(), golden.body, graphqlResponse)
			f := Finding{Operation: golden.name, Detail: "under way when SIGTERM came"}
			if err != nil {
				f.Expected, f.Got = "an answer", err.Error()
				findings <- f
			} else if !s.compare(golden, a, graphqlResponse, &f) {
				findings <- f
			}
			answers <- err
		}()
	}
	if !eventually(ctx, patience, func() bool {
		primary, primaryErr := active(ctx, w.primary)
		replica, replicaErr := active(ctx, w.replica)
		err = primaryErr
		if err == nil {
			err = replicaErr
		}
		return err != nil || primary+replica >= underWay
	}) {
		_ = release()
		return fmt.Errorf("%d requests do not reach the locked table", underWay)
	}
	if err != nil {
		_ = release()
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(context.WithoutCancel(ctx)) }()
	// It takes no more requests: a new connection is refused, or what comes over it is.
	last := ""
	if !eventually(ctx, wirePatience, func() bool {
		answers, closed, err := exchange(ctx, c.GraphQLURL(), 1, http.MethodPost, false, wireRequest{body: []byte("[")}.bytes())
		switch {
		case err != nil || closed:
			return true
		default:
			last = answers[0].describe()
			return answers[0].status == http.StatusServiceUnavailable
		}
	}) {
		t.find(Finding{Operation: "a request after SIGTERM", Expected: "a refused connection or 503", Got: last})
	}
	select {
	case err := <-stopped:
		t.find(Finding{Operation: "SIGTERM with requests under way", Expected: "that it waits for them", Got: "it ended", Detail: fmt.Sprint(err)})
		stopped <- err
	default:
	}
	if err := release(); err != nil {
		return err
	}
	for range underWay {
		<-answers
		t.answers.Add(1)
	}
	close(findings)
	for f := range findings {
		t.find(f)
	}
	if err := <-stopped; err != nil {
		t.find(Finding{Operation: "SIGTERM", Expected: "exit status 0", Got: err.Error(), Detail: strings.Join(c.Logs(3), " | ")})
	}
	return nil
}

// upstreamFailures puts a service in place of the stub that fails in every way there is.
func upstreamFailures(ctx context.Context, s *subject, t *tally) error {
	listen, dial := s.Engine.Loopback()
	listener, err := net.Listen("tcp4", net.JoinHostPort(listen, "0"))
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	over := make(chan struct{})
	service := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		send := func(status int, body string) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
		switch r.URL.Query().Get("itemId") {
		case "1":
			send(http.StatusOK, `{"totalCents":`+r.URL.Query().Get("guests")+`,"currency":"EUR"}`)
		case "2":
			send(http.StatusInternalServerError, `{"totalCents":1,"currency":"EUR"}`)
		case "3":
			send(http.StatusOK, `{"totalCents":`)
		case "4":
			send(http.StatusOK, `{"currency":"EUR"}`)
		case "5":
			send(http.StatusOK, `{"totalCents":"many","currency":"EUR"}`)
		case "6":
			send(http.StatusOK, `[]`)
		case "7":
			if hijacker, ok := w.(http.Hijacker); ok {
				if conn, _, err := hijacker.Hijack(); err == nil {
					conn.Close()
				}
			}
		case "8": // never
			select {
			case <-over:
			case <-r.Context().Done():
			}
		case "9": // begins to answer and goes on for ever
			w.WriteHeader(http.StatusOK)
			for {
				select {
				case <-over:
					return
				case <-r.Context().Done():
					return
				case <-time.After(50 * time.Millisecond):
					_, _ = w.Write([]byte(" "))
					if f, ok := w.(http.Flusher); ok {
						f.Flush()
					}
				}
			}
		default:
			send(http.StatusNotFound, `{"error":"no such item"}`)
		}
	})}
	go func() { _ = service.Serve(listener) }()
	defer service.Close()
	defer close(over)
	c, err := s.start(ctx, s.database, map[string]string{"UPSTREAM_URL": "http://" + net.JoinHostPort(dial, port)})
	if err != nil {
		return err
	}
	defer s.stop(ctx, c.Stop)
	const query = `query ($id: ID!) { quote(itemId: $id, guests: 2) { itemId guests totalCents currency } }`
	for _, row := range []struct{ id, name string }{
		{"2", "status 500"}, {"3", "half an object"}, {"4", "no price"}, {"5", "a price that is no number"}, {"6", "an array"},
		{"7", "a connection that is closed"}, {"8", "no answer"}, {"9", "an answer without end"}, {"10", "status 404"},
	} {
		right, failed := fmt.Sprintf(`{"variables":{"id":1},"query":%s}`, quote(query)), fmt.Sprintf(`{"variables":{"id":%s},"query":%s}`, row.id, quote(query))
		f := Finding{Operation: "quote, the service gives " + row.name}
		a, err := s.client.post(ctx, c.GraphQLURL(), []byte(failed), graphqlResponse)
		t.answers.Add(1)
		if err != nil {
			f.Expected, f.Got = "UPSTREAM_FAILED", err.Error()
			t.find(f)
		} else if !s.fits(a, want{statuses: []int{http.StatusOK}, code: "UPSTREAM_FAILED", path: "quote", accept: graphqlResponse}, &f) {
			t.find(f)
		}
		f = Finding{Operation: "quote after the service gave " + row.name}
		a, err = s.client.post(ctx, c.GraphQLURL(), []byte(right), graphqlResponse)
		t.answers.Add(1)
		const expected = `{"data":{"quote":{"itemId":"1","guests":2,"totalCents":2,"currency":"EUR"}}}`
		switch {
		case err != nil:
			f.Expected, f.Got = expected, err.Error()
			t.find(f)
		case !bytes.Equal(bytes.TrimSpace(a.body), []byte(expected)):
			f.Expected, f.Got = expected, a.describe()
			t.find(f)
		}
	}
	return nil
}
