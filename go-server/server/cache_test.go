package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testRedis is an empty Redis; where none is installed the test is skipped, but not in CI.
func testRedis(t *testing.T) string {
	t.Helper()
	address := os.Getenv("TEST_REDIS_URL")
	if address == "" && os.Getenv("CI") == "" {
		t.Skip("TEST_REDIS_URL is not set")
	}
	require.NotEmpty(t, address, "TEST_REDIS_URL")
	return address
}

// testCache is one process's cache of a database of that name, which hears of changes.
func testCache(t *testing.T, address, database string) *Cache {
	t.Helper()
	c, err := newCache(address, "postgres://nobody@127.0.0.1/"+database, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(c.close)
	c.heard.Store(true)
	return c
}

// afterAnswer is a hook of go-redis that does something once a command of that name has been answered.
type afterAnswer struct {
	name string
	do   func()
}

func (afterAnswer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a afterAnswer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		err := next(ctx, command)
		if command.Name() == a.name {
			a.do()
		}
		return err
	}
}

func (afterAnswer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestCache(t *testing.T) {
	ctx := context.Background()
	t.Run("databases are told apart by the same names in all servers", func(t *testing.T) {
		assert.Equal(t, "lab:eff25a3ed2cc3d54:", cachePrefix("postgres://lab:secret@127.0.0.1:5432/lab?sslmode=disable"))
	})
	t.Run("what was read before a change is not put over it", func(t *testing.T) {
		address := testRedis(t)
		one, two := testCache(t, address, t.Name()), testCache(t, address, t.Name())
		for _, c := range []*Cache{one, two} {
			_, err := c.forget(ctx, "area")
			require.NoError(t, err)
		}
		seen, ok := one.ask(ctx, "area", []string{"1"})
		require.True(t, ok)
		assert.Empty(t, seen.names)
		_, err := two.forget(ctx, "area") // a change, after one read the old name and before it puts it there
		require.NoError(t, err)
		one.fill(ctx, "area", seen.epoch, map[string]string{"1": "old"})
		seen, ok = one.ask(ctx, "area", []string{"1"})
		require.True(t, ok)
		assert.Empty(t, seen.names)
		one.fill(ctx, "area", seen.epoch, map[string]string{"1": "new", cacheAll: "1"})
		for _, c := range []*Cache{one, two} {
			got, ok := c.ask(ctx, "area", []string{"1", "2"})
			require.True(t, ok)
			assert.Equal(t, map[string]string{"1": "new"}, got.names)
			assert.True(t, got.all)
		}
	})
	t.Run("a table that could not be forgotten is not asked for", func(t *testing.T) {
		c := testCache(t, "redis://127.0.0.1:1", t.Name())
		_, err := c.forget(ctx, "area")
		require.Error(t, err)
		assert.Equal(t, cachedTables, c.pending(cachedTables))
		c.away.Store(0) // the pause is over
		_, ok := c.ask(ctx, "area", []string{"1"})
		assert.False(t, ok)
	})
	t.Run("a later change outlives an earlier one's success", func(t *testing.T) {
		c := testCache(t, testRedis(t), t.Name())
		_, err := c.forget(ctx, "area")
		require.NoError(t, err)
		assert.True(t, c.trusts("area"))
		c.distrust("area")
		assert.False(t, c.trusts("area"))
		assert.Equal(t, []string{"area"}, c.pending([]string{"area"}))
	})
	t.Run("an answer from before a change does not count", func(t *testing.T) {
		c := testCache(t, testRedis(t), t.Name())
		forget := func() {
			_, err := c.forget(ctx, "area")
			assert.NoError(t, err)
		}
		forget()
		_, ok := c.ask(ctx, "area", []string{"1"})
		require.True(t, ok)
		c.client.AddHook(afterAnswer{"hmget", forget})
		_, ok = c.ask(ctx, "area", []string{"1"})
		assert.False(t, ok)
		assert.True(t, c.trusts("area"), "the next may ask")
	})
	t.Run("who does not hear of changes does not ask", func(t *testing.T) {
		c := testCache(t, testRedis(t), t.Name())
		_, err := c.forget(ctx, "area")
		require.NoError(t, err)
		c.heard.Store(false)
		_, ok := c.ask(ctx, "area", []string{"1"})
		assert.False(t, ok)
	})
	for what, cause := range map[string]error{
		"after an answer that is an error": redis.ErrNoScript,
		"after a late answer":              context.DeadlineExceeded,
		"after a late packet":              &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded},
	} {
		t.Run(what+" nobody asks for a while", func(t *testing.T) {
			c := testCache(t, testRedis(t), t.Name())
			_, err := c.forget(ctx, "area")
			require.NoError(t, err)
			c.failed(ctx, "area", cause)
			assert.False(t, c.trusts("area"))
			c.away.Store(time.Now().UnixNano())
			assert.True(t, c.trusts("area"))
		})
	}
	t.Run("after a lost connection nobody asks before every table was forgotten anew", func(t *testing.T) {
		c := testCache(t, testRedis(t), t.Name())
		for _, table := range cachedTables {
			_, err := c.forget(ctx, table)
			require.NoError(t, err)
		}
		c.failed(ctx, "area", io.EOF)
		c.away.Store(0) // the pause is over
		assert.Equal(t, cachedTables, c.pending(cachedTables))
		_, ok := c.ask(ctx, "genre", []string{"1"})
		assert.False(t, ok)
		_, err := c.forget(ctx, "genre")
		require.NoError(t, err)
		_, ok = c.ask(ctx, "genre", []string{"1"})
		assert.True(t, ok)
	})
	t.Run("another Redis than before is not trusted", func(t *testing.T) {
		c := testCache(t, testRedis(t), t.Name())
		_, err := c.forget(ctx, "area")
		require.NoError(t, err)
		conn := c.client.Conn()
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, c.connected(ctx, conn))
		assert.True(t, c.trusts("area"), "one more connection to the same")
		require.NotEmpty(t, c.run)
		c.run = "the one that was here before"
		require.NoError(t, c.connected(ctx, conn))
		assert.Equal(t, cachedTables, c.pending(cachedTables))
	})
}

// A row that was made a moment ago, and of which nothing has been heard yet, is in no hash, and an item may name it.
func TestWhatAWholeHashDoesNotHaveIsLookedUp(t *testing.T) {
	app := startApp(t, map[string]string{"MASTER": MasterRedis, "REDIS_URL": testRedis(t)})
	ctx, cache := context.Background(), app.master.cache
	key := cache.prefix + "area"
	taken, err := cache.client.HDel(ctx, key, "3").Result()
	require.NoError(t, err)
	require.Equal(t, int64(1), taken)
	names := map[int32]string{}
	counts := statementsOf(t, app, func() {
		require.NoError(t, app.master.byIDs(ctx, "area", app.store.areasByIDsStatement, []int32{2, 3}, func(id int32, row *namedRow) {
			names[id] = row.name
		}))
	})
	assert.Equal(t, map[string]int{"areas_by_ids": 1}, counts)
	assert.Equal(t, map[int32]string{
		2: sqlText(t, "select name from area where id = 2"), 3: sqlText(t, "select name from area where id = 3"),
	}, names)
	got, ok := cache.ask(ctx, "area", []string{"3"})
	require.True(t, ok)
	assert.True(t, got.all)
	assert.Empty(t, got.names, "it is not put there")
}
