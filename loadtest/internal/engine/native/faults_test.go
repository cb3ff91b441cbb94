package native

import (
	"context"
	"errors"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/enginetest"
)

func TestFaults(t *testing.T) {
	e := testEngine(t)
	ctx := t.Context()
	d, err := e.Database(ctx, engine.DatabaseSpec{Size: "small"})
	require.NoError(t, err)
	upstream, err := e.Upstream(ctx, engine.UpstreamSpec{Size: "small"})
	require.NoError(t, err)
	proxy := enginetest.Faults(t, e, d, upstream)
	assert.Equal(t, e.placement.Database, affinityOf(t, proxy.Pids()[0]))

	l, err := proxy.Link(ctx, "database_primary_2", d.PrimaryURL())
	require.NoError(t, err)
	set := func(t *testing.T, faults ...engine.Fault) {
		t.Helper()
		require.NoError(t, l.Set(ctx, faults...))
		// One subtest that fails must not spoil the next.
		t.Cleanup(func() { _ = l.Set(context.Background()) })
	}
	// works requires that a new connection gets right answers.
	works := func(t *testing.T) {
		t.Helper()
		conn := enginetest.Connect(t, l.URL())
		assert.Equal(t, 1000, enginetest.Value[int](t, conn, "select count(*)::int from item"))
		require.NoError(t, conn.Close(ctx))
	}
	backends := func(t *testing.T) int {
		t.Helper()
		conn := enginetest.Connect(t, d.PrimaryURL())
		defer conn.Close(ctx)
		return enginetest.Value[int](t, conn, "select count(*)::int from pg_stat_activity where application_name = 'faulted'")
	}
	faulted := func(t *testing.T) *pgx.Conn {
		t.Helper()
		config, err := pgx.ParseConfig(l.URL())
		require.NoError(t, err)
		config.RuntimeParams["application_name"] = "faulted"
		conn, err := pgx.ConnectConfig(ctx, config)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	// within is for what must not be answered; nothing here takes so long.
	within := func(t *testing.T, d time.Duration) context.Context {
		t.Helper()
		short, cancel := context.WithTimeout(ctx, d)
		t.Cleanup(cancel)
		return short
	}

	t.Run("latency is in each statement and not in how long it runs", func(t *testing.T) {
		conn := faulted(t)
		const delay = 20 * time.Millisecond
		set(t, engine.Fault{Kind: engine.FaultLatency, Delay: delay})
		began := time.Now()
		const statements = 5
		for range statements {
			assert.Equal(t, "1", enginetest.Value[string](t, conn, "select id::text from item where id = 1"))
		}
		assert.GreaterOrEqual(t, time.Since(began), statements*delay)
		set(t)
		works(t)
	})
	t.Run("bandwidth bounds a large answer, which is whole", func(t *testing.T) {
		conn := faulted(t)
		const bytes, rate = 200_000, 1_000_000
		set(t, engine.Fault{Kind: engine.FaultBandwidth, BytesPerSecond: rate})
		began := time.Now()
		assert.Len(t, enginetest.Value[string](t, conn, "select repeat('x', $1)", bytes), bytes)
		assert.GreaterOrEqual(t, time.Since(began), bytes*time.Second/rate)
		set(t)
	})
	t.Run("reset_peer resets what is open, idle or busy, and what comes", func(t *testing.T) {
		idle, busy := faulted(t), faulted(t)
		ended := make(chan error, 1)
		go func() {
			_, err := busy.PgConn().Exec(ctx, "select pg_sleep(600)").ReadAll()
			ended <- err
		}()
		require.Eventually(t, func() bool {
			conn := enginetest.Connect(t, d.PrimaryURL())
			defer conn.Close(ctx)
			return enginetest.Value[int](t, conn, "select count(*)::int from pg_stat_activity where query = 'select pg_sleep(600)'") > 0
		}, 30*time.Second, 10*time.Millisecond)
		set(t, engine.Fault{Kind: engine.FaultResetPeer})
		require.Error(t, <-ended)
		_, err := idle.Exec(ctx, "select 1")
		require.Error(t, err)
		_, err = pgx.Connect(ctx, l.URL())
		require.ErrorIs(t, err, syscall.ECONNRESET)
		set(t)
		works(t)
		// PostgreSQL does not look at its client while it works, so it is ended here, unless the driver's request to cancel came
		// through by now.
		conn := enginetest.Connect(t, d.PrimaryURL())
		require.Eventually(t, func() bool {
			return enginetest.Value[int](t, conn, "select count(pg_terminate_backend(pid))::int from pg_stat_activity where query = 'select pg_sleep(600)'") == 0
		}, 30*time.Second, 10*time.Millisecond, "nothing of it is left")
	})
	t.Run("timeout answers nothing and closes when it ends", func(t *testing.T) {
		conn := faulted(t)
		set(t, engine.Fault{Kind: engine.FaultTimeout})
		_, err := pgx.Connect(within(t, 200*time.Millisecond), l.URL())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		set(t)
		_, err = conn.Exec(ctx, "select 1")
		require.Error(t, err)
		works(t)
		require.Eventually(t, func() bool { return backends(t) == 0 }, 30*time.Second, 10*time.Millisecond, "no backend is left")
	})
	t.Run("stall holds an answer and loses none", func(t *testing.T) {
		conn := faulted(t)
		set(t, engine.Fault{Kind: engine.FaultStall})
		answered := make(chan int, 1)
		go func() {
			var n int
			if err := conn.QueryRow(ctx, "select count(*)::int from item").Scan(&n); err != nil {
				n = -1
			}
			answered <- n
		}()
		select {
		case <-answered:
			t.Error("answered through a stall")
		case <-time.After(200 * time.Millisecond):
		}
		set(t)
		assert.Equal(t, 1000, <-answered)
	})
	t.Run("down refuses, closes what is open, and leaves no backend", func(t *testing.T) {
		conn := faulted(t)
		set(t, engine.Fault{Kind: engine.FaultDown})
		_, err := conn.Exec(ctx, "select 1")
		require.Error(t, err)
		_, err = pgx.Connect(ctx, l.URL())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.Eventually(t, func() bool { return backends(t) == 0 }, 30*time.Second, 10*time.Millisecond)
		set(t)
		works(t)
	})
	t.Run("a database that is restarted is reached at the same address again", func(t *testing.T) {
		require.NoError(t, d.Restart(ctx))
		works(t)
	})
	t.Run("HTTP through a link", func(t *testing.T) {
		l, err := proxy.Link(ctx, "upstream_2", upstream.URL())
		require.NoError(t, err)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 200 * time.Millisecond}
		ask := func() error {
			response, err := client.Get(l.URL() + "/env")
			if err != nil {
				return err
			}
			defer response.Body.Close()
			_, err = io.Copy(io.Discard, response.Body)
			return err
		}
		require.NoError(t, l.Set(ctx, engine.Fault{Kind: engine.FaultStall}))
		require.ErrorIs(t, ask(), context.DeadlineExceeded)
		require.NoError(t, l.Set(ctx))
		client.Timeout = 30 * time.Second
		require.NoError(t, ask())
	})
	t.Run("it stops like any service, and then says so", func(t *testing.T) {
		require.NoError(t, proxy.Stop(ctx))
		require.NoError(t, proxy.Stop(ctx))
		_, err := proxy.Usage(ctx)
		require.ErrorIs(t, err, engine.ErrExited)
		require.Error(t, l.Set(ctx))
		_, err = pgx.Connect(ctx, l.URL())
		require.True(t, errors.Is(err, syscall.ECONNREFUSED), err)
	})
}
