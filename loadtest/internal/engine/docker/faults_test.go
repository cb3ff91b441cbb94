package docker

import (
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contender"
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
	arm, err := testArm()
	require.NoError(t, err)

	spec := engine.ContenderSpec{Arm: arm, PrimaryURL: d.PrimaryURL(), ReplicaURL: d.ReplicaURL(), UpstreamURL: upstream.URL()}
	links := map[*string]engine.FaultLink{}
	for name, address := range map[string]*string{"contender_primary": &spec.PrimaryURL, "contender_replica": &spec.ReplicaURL, "contender_upstream": &spec.UpstreamURL} {
		links[address], err = proxy.Link(ctx, name, *address)
		require.NoError(t, err)
		*address = links[address].URL()
	}
	c, err := e.Contender(ctx, spec)
	require.NoError(t, err)
	t.Run("a contender reaches everything through it", func(t *testing.T) {
		assert.Contains(t, ask(t, c.GraphQLURL(), `{ item(id: 1) { name } }`), `"name"`)
		assert.Contains(t, ask(t, c.GraphQLURL(), `{ quote(itemId: 1, guests: 1) { totalCents } }`), `"totalCents":1037`)
	})
	t.Run("and nothing while it is down", func(t *testing.T) {
		for _, l := range links {
			require.NoError(t, l.Set(ctx, engine.Fault{Kind: engine.FaultDown}))
		}
		assert.Contains(t, ask(t, c.GraphQLURL(), `{ quote(itemId: 1, guests: 1) { totalCents } }`), `"errors"`)
		for _, l := range links {
			require.NoError(t, l.Set(ctx))
		}
	})
	require.NoError(t, proxy.Stop(ctx))
}

func TestContainersOfFaults(t *testing.T) {
	e := &Engine{placement: engine.Place([]int{0, 1, 2, 3}), network: runNetwork{name: "n", listen: "192.0.2.1", dial: "192.0.2.1"}, inner: map[string]string{}}
	tool := image{reference: "polyglot-lab/loadtest:1"}
	t.Run("the proxy is beside the database, in the run's network, and may do nothing else", func(t *testing.T) {
		s := e.faultProxySpec(tool, "faults-1")
		assert.Equal(t, []string{"fault-proxy", "--host", "0.0.0.0", "--port", "8080"}, s.command)
		assert.Equal(t, "faults-1", s.alias)
		var h container.HostConfig
		e.confine(&h, s)
		assert.Equal(t, "0", h.CpusetCpus)
		assert.Equal(t, []string{"ALL"}, []string(h.CapDrop))
		assert.Empty(t, h.CapAdd)
		assert.True(t, h.ReadonlyRootfs)
		assert.Positive(t, h.Memory)
	})
	t.Run("the probe is where the proxy is, on the generator's CPUs", func(t *testing.T) {
		s := e.faultProbeSpec(tool, "0123")
		assert.Equal(t, "0123", s.joins)
		assert.Empty(t, s.alias)
		var h container.HostConfig
		e.confine(&h, s)
		assert.Equal(t, "1", h.CpusetCpus)
		assert.Empty(t, h.DNS, "it has the proxy's")
	})
	t.Run("a contender gets a link's address as it is", func(t *testing.T) {
		const through = "postgres://lab:x@faults-1:15000/lab?sslmode=disable"
		environment, err := e.contenderEnvironment(engine.ContenderSpec{Arm: contender.Arm{Name: "a"}, PrimaryURL: through})
		require.NoError(t, err)
		assert.Equal(t, through, environment["DATABASE_URL"])
	})
}
