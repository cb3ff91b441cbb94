// Package enginetest holds every engine to the same promises. It is for tests only.
package enginetest

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
)

func newDatabase(t *testing.T, e engine.Engine) engine.Database {
	t.Helper()
	d, err := e.Database(t.Context(), engine.DatabaseSpec{Size: "small"})
	require.NoError(t, err)
	return d
}

// Connect opens a connection for as long as the test runs.
func Connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Value returns the first value of a query.
func Value[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) T {
	t.Helper()
	var v T
	require.NoError(t, conn.QueryRow(t.Context(), query, args...).Scan(&v))
	return v
}

// endRecordWithItsPage writes to the log until its last record ends where a page of 8 KiB ends. The position at which the
// next one will be inserted then lies behind that page's successor's header, where no record has ended yet.
func endRecordWithItsPage(t *testing.T, primary *pgx.Conn) {
	t.Helper()
	const page, header, align = 8192, 24, 8
	position := func() int {
		return Value[int](t, primary, "select mod(pg_current_wal_insert_lsn() - '0/0'::pg_lsn, 8192)::int")
	}
	overhead := 0 // of a message and its commit
	for range 100 {
		before := position()
		length := page - before - overhead
		if length < 1024 { // all messages have a long one's form
			length += page - header
		}
		_, err := primary.Exec(t.Context(), "select pg_logical_emit_message(true, 'lab', repeat('x', $1))", length)
		require.NoError(t, err)
		after := position()
		if after == header {
			return
		}
		// By how much it ended too late; others write as well, so that it may be wrong once.
		late := after
		if late > page/2 {
			late -= page
		} else {
			late -= header
		}
		overhead += late / align * align
	}
	t.Fatal("no record ended with its page in 100 attempts")
}

// Database holds an engine to what [engine.Database] promises; the database that it made goes on for more checks.
func Database(t *testing.T, e engine.Engine, c *contract.Contract) engine.Database {
	d := newDatabase(t, e)
	ctx := t.Context()
	primary, replica := Connect(t, d.PrimaryURL()), Connect(t, d.ReplicaURL())

	t.Run("holds the seed on both servers", func(t *testing.T) {
		assert.Equal(t, "small", d.Size())
		for _, conn := range []*pgx.Conn{primary, replica} {
			assert.Equal(t, 1000, Value[int](t, conn, "select count(*)::int from item"))
			results, err := conn.PgConn().Exec(ctx, c.DigestSQL).ReadAll()
			require.NoError(t, err)
			assert.Equal(t, c.Digests["small"], string(results[len(results)-1].Rows[0][0]))
		}
		assert.False(t, Value[bool](t, primary, "select pg_is_in_recovery()"))
		assert.True(t, Value[bool](t, replica, "select pg_is_in_recovery()"))
	})
	t.Run("sorts by code point, in UTC, in UTF-8", func(t *testing.T) {
		assert.Equal(t, "UTF8", Value[string](t, primary, "show server_encoding"))
		assert.Equal(t, "UTC", Value[string](t, primary, "show timezone"))
		assert.Equal(t, "C.UTF-8", Value[string](t, primary, "select datcollate from pg_database where datname = current_database()"))
		assert.True(t, Value[bool](t, primary, "select 'Z' < 'a' and 'z' < 'é'"))
	})
	t.Run("the role lab is the owner and no superuser", func(t *testing.T) {
		assert.Equal(t, "lab", Value[string](t, primary, "select current_user::text"))
		assert.False(t, Value[bool](t, primary, "select rolsuper or rolreplication or rolcreaterole from pg_roles where rolname = 'lab'"))
		assert.Equal(t, "lab", Value[string](t, primary, "select tableowner::text from pg_tables where tablename = 'review'"))
	})
	t.Run("the role lab may read and reset statement statistics on both servers", func(t *testing.T) {
		for _, conn := range []*pgx.Conn{primary, replica} {
			_, err := conn.Exec(ctx, "select name from area where id = $1", 1)
			require.NoError(t, err)
			const count = "select coalesce(sum(calls), 0)::int from pg_stat_statements where query = 'select name from area where id = $1'"
			assert.Positive(t, Value[int](t, conn, count))
			_, err = conn.Exec(ctx, "select pg_stat_statements_reset()")
			require.NoError(t, err)
			assert.Zero(t, Value[int](t, conn, count))
			// Others' statements too, not only its own.
			assert.True(t, Value[bool](t, conn, "select pg_has_role('lab', 'pg_read_all_stats', 'member')"))
		}
	})
	t.Run("the role lab may end another's backend", func(t *testing.T) {
		other := Connect(t, d.PrimaryURL())
		assert.True(t, Value[bool](t, primary, "select pg_terminate_backend($1)", int32(other.PgConn().PID())))
	})
	t.Run("a write reaches the replica", func(t *testing.T) {
		_, err := primary.Exec(ctx, "update area set name = 'changed' where id = 1")
		require.NoError(t, err)
		require.NoError(t, d.WaitReplica(ctx))
		assert.Equal(t, "changed", Value[string](t, replica, "select name from area where id = 1"))
	})
	t.Run("it is not waited for in vain where a record of the log ends with its page", func(t *testing.T) {
		endRecordWithItsPage(t, primary)
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		require.NoError(t, d.WaitReplica(bounded))
	})
	t.Run("the replica refuses writes", func(t *testing.T) {
		_, err := replica.Exec(ctx, "update area set name = 'changed' where id = 1")
		require.ErrorContains(t, err, "read-only")
	})
	t.Run("a fork is freshly seeded, also while the other is in use, and apart from it", func(t *testing.T) {
		fork, err := d.Fork(ctx, "mutations_1")
		require.NoError(t, err)
		forkReplica := Connect(t, fork.ReplicaURL())
		assert.Equal(t, 1000, Value[int](t, forkReplica, "select count(*)::int from item"))
		assert.NotEqual(t, "changed", Value[string](t, forkReplica, "select name from area where id = 1"))
		forkPrimary := Connect(t, fork.PrimaryURL())
		_, err = forkPrimary.Exec(ctx, "delete from review")
		require.NoError(t, err)
		assert.Equal(t, 10000, Value[int](t, primary, "select count(*)::int from review"))
		_, err = forkPrimary.Exec(ctx, "select pg_stat_statements_reset()")
		require.NoError(t, err, "grants come along")
		_, err = d.Fork(ctx, "mutations_1")
		require.Error(t, err, "a name is used once")
		require.NoError(t, fork.Stop(ctx), "also while somebody is connected to it")
		assert.Zero(t, Value[int](t, primary, "select count(*)::int from pg_database where datname = 'mutations_1'"))
	})
	t.Run("a fork's name is no SQL", func(t *testing.T) {
		_, err := d.Fork(ctx, "x; drop database lab")
		require.ErrorContains(t, err, "not a name")
	})
	t.Run("nobody gets in without the password", func(t *testing.T) {
		for _, address := range []string{d.PrimaryURL(), d.ReplicaURL(), d.AdminPrimaryURL()} {
			u, err := url.Parse(address)
			require.NoError(t, err)
			assert.Equal(t, "127.0.0.1", u.Hostname())
			password, _ := u.User.Password()
			assert.Len(t, password, 32)
			u.User = url.UserPassword(u.User.Username(), "guess")
			_, err = pgconn.Connect(ctx, u.String())
			require.ErrorContains(t, err, "password authentication failed")
		}
	})
	t.Run("usage counts the backends of both servers, ended ones included", func(t *testing.T) {
		for _, address := range []string{d.PrimaryURL(), d.ReplicaURL()} {
			before, err := d.Usage(ctx)
			require.NoError(t, err)
			conn, err := pgx.Connect(ctx, address)
			require.NoError(t, err)
			var spent float64
			require.NoError(t, conn.QueryRow(ctx, "select count(*) from generate_series(1, 2000000) n where n % 7 = 3").Scan(&spent))
			during, err := d.Usage(ctx)
			require.NoError(t, err)
			require.NoError(t, conn.Close(ctx))
			assert.Greater(t, during.CPU, before.CPU)
			assert.Eventually(t, func() bool {
				after, err := d.Usage(ctx)
				// The backend's account goes over to the postmaster's, which is kept in hundredths of a second.
				return err == nil && after.CPU >= during.CPU-30*time.Millisecond && len(d.Pids()) > 0
			}, 10*time.Second, 10*time.Millisecond)
		}
	})
	t.Run("a restart cuts connections, keeps the addresses and the data", func(t *testing.T) {
		require.NoError(t, d.Restart(ctx))
		_, err := primary.Exec(ctx, "select 1")
		require.Error(t, err, "the old connection is cut")
		again, onReplica := Connect(t, d.PrimaryURL()), Connect(t, d.ReplicaURL())
		assert.Equal(t, "changed", Value[string](t, again, "select name from area where id = 1"))
		_, err = again.Exec(ctx, "update area set name = 'after' where id = 1")
		require.NoError(t, err)
		require.NoError(t, d.WaitReplica(ctx))
		assert.Equal(t, "after", Value[string](t, onReplica, "select name from area where id = 1"))
	})
	t.Run("two have passwords and ports of their own", func(t *testing.T) {
		other := newDatabase(t, e)
		assert.NotEqual(t, d.PrimaryURL(), other.PrimaryURL())
		assert.NotEqual(t, "after", Value[string](t, Connect(t, other.PrimaryURL()), "select name from area where id = 1"))
		require.NoError(t, other.Stop(ctx))
		assert.Empty(t, other.Pids())
		require.NoError(t, other.Stop(ctx), "twice is as good")
	})
	t.Run("there is as much master data in bulk as was asked for", func(t *testing.T) {
		assert.Equal(t, 1024, Value[int](t, Connect(t, d.ReplicaURL()), "select count(*)::int from master_text"))
		other, err := e.Database(ctx, engine.DatabaseSpec{Size: "small", MasterMiB: 2})
		require.NoError(t, err)
		text := Connect(t, other.ReplicaURL())
		assert.Equal(t, 2048, Value[int](t, text, "select count(*)::int from master_text"))
		assert.Equal(t, 2<<20, Value[int](t, text, "select sum(octet_length(body))::int from master_text"))
		require.NoError(t, other.Stop(ctx))
	})
	t.Run("an unknown size lists what there is", func(t *testing.T) {
		_, err := e.Database(ctx, engine.DatabaseSpec{Size: "huge"})
		require.ErrorContains(t, err, "small, standard")
	})
	return d
}
