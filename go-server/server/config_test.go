package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) {
	const url = "postgres://postgres@127.0.0.1:5432/lab"
	load := func(environment map[string]string) (Settings, error) {
		all := map[string]string{"CONTRACT_DIR": contractDir, "DATABASE_URL": url}
		for name, value := range environment {
			all[name] = value
		}
		return LoadSettings(func(name string) string { return all[name] })
	}

	t.Run("defaults", func(t *testing.T) {
		s, err := load(nil)
		require.NoError(t, err)
		assert.Equal(t, "127.0.0.1", s.Host)
		assert.Equal(t, "8080", s.Port)
		assert.Equal(t, url, s.ReplicaURL)
		assert.Equal(t, int32(16), s.PoolSize)
		assert.Equal(t, TierMainstream, s.Tier)
		assert.Equal(t, MasterMemory, s.Master)
		assert.True(t, s.Loader)
		assert.Equal(t, 5*time.Second, s.RequestTimeout)
		assert.Equal(t, 10, s.Limits.Depth)
	})

	t.Run("bad config fails", func(t *testing.T) {
		for _, c := range []struct{ name, value, says string }{
			{"DATABASE_URL", "", "DATABASE_URL"},
			{"DATABASE_URL", "mysql://x", "postgres URL"},
			{"DATABASE_REPLICA_URL", "nonsense", "DATABASE_REPLICA_URL"},
			{"PORT", "65536", "0 to 65535"},
			{"PORT", "http", "PORT"},
			{"POOL_SIZE", "0", "POOL_SIZE"},
			{"TIER", "compiled", "does not have this one yet"},
			{"TIER", "Floor", "floor, mainstream"},
			{"MASTER", "disk", "memory, redis, none"},
			{"MASTER", "redis", "REDIS_URL"},
			{"REDIS_URL", "http://127.0.0.1", "redis URL"},
			{"MASTER_MB", "-1", "0 to 1024"},
			{"MASTER_MB", "1025", "0 to 1024"},
			{"LOADER", "yes", "on, off"},
			{"START", "slow", "concurrent, sequential"},
			{"WORKERS", "0", "WORKERS"},
			{"CONCURRENCY_MODEL", "cluster", "goroutines"},
			{"REQUEST_TIMEOUT", "5", "duration"},
			{"REQUEST_TIMEOUT", "-1s", "duration"},
			{"GRAPHIQL", "1", "on, off"},
			{"PROFILER", "yes", "on, off"},
			{"LOG_LEVEL", "loud", "debug, info"},
			{"UPSTREAM_URL", "ftp://x", "UPSTREAM_URL"},
			{"CONTRACT_DIR", "nowhere", "CONTRACT_DIR"},
		} {
			t.Run(c.name+"="+c.value, func(t *testing.T) {
				_, err := load(map[string]string{c.name: c.value})
				require.Error(t, err)
				assert.ErrorContains(t, err, c.says)
				assert.ErrorContains(t, err, c.name)
			})
		}
	})

	t.Run("a password stays out of the message", func(t *testing.T) {
		_, err := load(map[string]string{"DATABASE_URL": "http://user:secret@127.0.0.1/lab"})
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "secret")
	})
}
