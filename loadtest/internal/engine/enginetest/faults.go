package enginetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/engine"
)

// Faults holds an engine to what [engine.FaultProxy] promises of databases and services, as far as the engine's own probe
// can see: it is where contenders are, which the test may not be. The proxy that was started goes on for more checks.
func Faults(t *testing.T, e engine.Engine, d engine.Database, upstream engine.Service) engine.FaultProxy {
	ctx := t.Context()
	proxy, err := e.Faults(ctx)
	require.NoError(t, err)
	links := map[string]engine.FaultLink{}
	for name, url := range map[string]string{"database_primary": d.PrimaryURL(), "database_replica": d.ReplicaURL(), "upstream": upstream.URL()} {
		links[name], err = proxy.Link(ctx, name, url)
		require.NoError(t, err)
		assert.Equal(t, name, links[name].Name())
		assert.Equal(t, url, links[name].Target())
		assert.NotEqual(t, url, links[name].URL())
	}
	const roundTrips, delay = 10, 20 * time.Millisecond
	for name, l := range links {
		t.Run("what passes without a fault costs CPU time of the proxy: "+name, func(t *testing.T) {
			before, err := proxy.Usage(ctx)
			require.NoError(t, err)
			o, err := proxy.Overhead(ctx, l, 10*roundTrips)
			require.NoError(t, err)
			after, err := proxy.Usage(ctx)
			require.NoError(t, err)
			assert.Equal(t, name, o.Link)
			assert.Zero(t, o.DelayNS)
			assert.Positive(t, o.CPUUsPerRoundTrip)
			assert.GreaterOrEqual(t, float64((after.CPU-before.CPU).Microseconds())+1, o.CPUUsPerRoundTrip*10*roundTrips)
		})
		t.Run("a latency is in each round trip, and in no other link's: "+name, func(t *testing.T) {
			require.NoError(t, l.Set(ctx, engine.Fault{Kind: engine.FaultLatency, Delay: delay}))
			o, err := proxy.Overhead(ctx, l, roundTrips)
			require.NoError(t, err)
			assert.Equal(t, int64(delay), o.DelayNS)
			assert.GreaterOrEqual(t, o.ProxiedP50NS, int64(delay))
			for _, other := range links {
				assert.Equal(t, other == l, len(other.Faults()) > 0)
			}
			require.NoError(t, l.Set(ctx))
		})
		t.Run("what lets nothing pass is seen, and ends: "+name, func(t *testing.T) {
			require.NoError(t, l.Set(ctx, engine.Fault{Kind: engine.FaultDown}))
			_, err := proxy.Overhead(ctx, l, roundTrips)
			require.ErrorContains(t, err, "down is set")
			require.NoError(t, l.Set(ctx))
			_, err = proxy.Overhead(ctx, l, roundTrips)
			require.NoError(t, err)
		})
	}
	t.Run("a target that is none of the engine's or nonsense is refused by name", func(t *testing.T) {
		_, err := proxy.Link(ctx, "nowhere", "http://nowhere")
		require.ErrorContains(t, err, "link nowhere")
		_, err = proxy.Link(ctx, "upstream", upstream.URL())
		require.ErrorContains(t, err, "link upstream: there is one of that name")
	})
	return proxy
}
