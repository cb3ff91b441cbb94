package server

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lockTable keeps everyone from reading a table until the function that it gives is called.
func lockTable(t *testing.T, table string) (unlock func()) {
	t.Helper()
	conn := connect(t)
	transaction, err := conn.Begin(context.Background())
	require.NoError(t, err)
	_, err = transaction.Exec(context.Background(), "lock table "+table+" in access exclusive mode")
	require.NoError(t, err)
	unlock = sync.OnceFunc(func() { assert.NoError(t, transaction.Rollback(context.Background())) })
	t.Cleanup(unlock)
	return unlock
}

func TestRequestTimeout(t *testing.T) {
	app := startApp(t, map[string]string{"REQUEST_TIMEOUT": "3s", "POOL_SIZE": "3"})
	handler := app.Handler()
	watcher := connect(t)
	unlock := lockTable(t, "category")
	var wg sync.WaitGroup
	for range 12 { // most of them wait for a connection
		wg.Go(func() {
			got := post(handler, "{items(first:2){category{name} reviews{id}}}", "")
			assert.Equal(t, http.StatusGatewayTimeout, got.status)
			assert.Equal(t, codeRequestTimeout, got.code(t))
			assert.Contains(t, got.body, "Request took longer than 3000 ms.")
			assert.NotContains(t, got.body, `"data"`)
		})
	}
	wg.Wait()
	assert.Eventually(t, func() bool {
		var n int
		require.NoError(t, watcher.QueryRow(context.Background(), `select count(*) from pg_stat_activity
			where datname = current_database() and application_name = 'lab-go' and state = 'active'`).Scan(&n))
		return n == 0
	}, time.Second, 5*time.Millisecond, "nothing of it is left in the database")
	unlock()
	for range 20 {
		assert.Equal(t, http.StatusOK, post(handler, "{items(first:2){category{name}}}", "").status)
	}
}

// A statement that PostgreSQL ends, as after the session's time, counts as late.
func TestCanceledStatement(t *testing.T) {
	for _, tier := range []string{TierMainstream, TierFloor} {
		t.Run(tier, func(t *testing.T) {
			handler := startApp(t, map[string]string{"TIER": tier, "REQUEST_TIMEOUT": "30s"}).Handler()
			query, watcher := readOperation(t, "q1"), connect(t)
			lockTable(t, "category")
			answered := make(chan answer, 1)
			go func() { answered <- post(handler, query, "") }()
			require.Eventually(t, func() bool {
				var n int
				require.NoError(t, watcher.QueryRow(context.Background(), `select count(pg_cancel_backend(pid)) from pg_stat_activity
					where datname = current_database() and application_name = 'lab-go' and wait_event_type = 'Lock'`).Scan(&n))
				return n > 0
			}, 10*time.Second, time.Millisecond)
			got := <-answered
			assert.Equal(t, http.StatusGatewayTimeout, got.status)
			assert.Equal(t, codeRequestTimeout, got.code(t))
		})
	}
}

func TestDeadConnections(t *testing.T) {
	app := startApp(t, map[string]string{"POOL_SIZE": "4"})
	handler := app.Handler()
	conn := connect(t)
	for range 3 {
		var n int
		require.NoError(t, conn.QueryRow(context.Background(), `select count(pg_terminate_backend(pid)) from pg_stat_activity
			where datname = current_database() and application_name = 'lab-go'`).Scan(&n))
		require.Positive(t, n)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { assert.Equal(t, http.StatusOK, post(handler, readOperation(t, "q2"), "").status) })
		}
		wg.Wait()
		got := post(handler, `mutation{addReview(input:{itemId:1,authorId:99999999999,rating:1,body:"x"}){__typename}}`, "")
		assert.Equal(t, codeOK, got.code(t))
	}
}

func TestDatabaseAway(t *testing.T) {
	// Nothing listens there.
	u, err := url.Parse(databaseURL(t))
	require.NoError(t, err)
	u.Host = "127.0.0.1:1"
	environment := map[string]string{"CONTRACT_DIR": contractDir, "DATABASE_URL": u.String(), "POOL_SIZE": "2"}
	settings, err := LoadSettings(func(name string) string { return environment[name] })
	require.NoError(t, err)
	app, err := NewApp(settings, NewLogger(discard{}, settings.LogLevel))
	require.NoError(t, err)
	app.Start()
	t.Cleanup(app.Close)
	handler := app.Handler()

	got := send(handler, http.MethodGet, "/readyz", "", nil)
	assert.Equal(t, http.StatusServiceUnavailable, got.status)
	assert.Equal(t, http.StatusOK, send(handler, http.MethodGet, "/livez", "", nil).status)
	assert.Equal(t, http.StatusServiceUnavailable, post(handler, "{__typename}", "").status)

	app.ready.Store(true) // as if it had been there once
	got = post(handler, "{items(first:1){id}}", "")
	assert.Equal(t, http.StatusServiceUnavailable, got.status)
	assert.Equal(t, codeServiceUnavailable, got.code(t))
	assert.NotEmpty(t, got.header.Get("Retry-After"))
	assert.NotContains(t, got.body, "127.0.0.1")
	got = send(handler, http.MethodGet, "/readyz", "", nil)
	assert.Equal(t, http.StatusServiceUnavailable, got.status)
	assert.Contains(t, got.body, "primary database not reachable")
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// What could not be prepared is tried again on the same connection, where what came before it is prepared already.
func TestPreparingIsTriedAgain(t *testing.T) {
	conn := connect(t)
	d := &database{name: "primary", statements: []*statement{{name: "good", sql: "select 1"}, {name: "other", sql: "select nothing_there"}}}
	require.ErrorContains(t, d.prepareAll(t.Context(), conn), "prepare other")
	d.statements[1].sql = "select 2"
	require.NoError(t, d.prepareAll(t.Context(), conn))
	for _, s := range d.statements {
		assert.True(t, isPrepared(conn.PgConn(), s), s.name)
	}
}

// An area or genre that was made a moment ago, and of which nothing has been heard yet, is looked up.
func TestMasterDataThatIsNotAnnouncedYet(t *testing.T) {
	const query = `{items(first:20){area{id name}genre{id name}}}`
	for _, tier := range []string{TierMainstream, TierFloor} {
		app := startApp(t, map[string]string{"TIER": tier})
		asked := query
		if tier == TierFloor {
			asked = readOperation(t, "q2")
		}
		want := post(app.Handler(), asked, "")
		require.Equal(t, codeOK, want.code(t))
		app.master.areas.Store(newMasterTable[Area](nil, nil))
		app.master.genres.Store(newMasterTable[Genre](nil, nil))
		got := post(app.Handler(), asked, "")
		assert.Equal(t, want.body, got.body, tier)
	}
}

func TestInt4Array(t *testing.T) {
	conn := connect(t)
	for _, values := range [][]int32{{}, {1}, {-1, 0, 2147483647, -2147483648}} {
		var back []int32
		require.NoError(t, conn.PgConn().ExecParams(context.Background(), "select coalesce(array_length($1::int4[], 1), 0)::int4",
			[][]byte{int4Array(values)}, nil, binaryFormat, binaryFormat).Read().Err)
		rows := conn.PgConn().ExecParams(context.Background(), "select unnest($1::int4[])", [][]byte{int4Array(values)}, nil, binaryFormat, binaryFormat).Read()
		require.NoError(t, rows.Err)
		for _, row := range rows.Rows {
			back = append(back, readInt4(row[0]))
		}
		assert.ElementsMatch(t, values, back)
	}
}
