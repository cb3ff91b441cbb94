package docker

import (
	"context"
	"testing"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Seeded data of another key is of no use to this checkout; what a container holds, or is of another size, stays.
func TestOlderSeededDataGoes(t *testing.T) {
	e := testEngine(t)
	ctx := t.Context()
	image, err := e.c.have(ctx, postgresImageName(), e.log)
	require.NoError(t, err)
	const size, other = "test-only", "test-only-2"
	volume := func(name, size string) string {
		name = namePrefix + "seed-" + name + "-" + e.owner.run
		_, err := e.c.api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: map[string]string{labelCache: seedLabel(size)}})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.removeVolume(context.Background(), name)) })
		return name
	}
	now, old, used, others := volume("now", size), volume("old", size), volume("used", size), volume("others", other)
	u, err := e.create(ctx, spec{role: "test", alias: e.alias("test"), image: image.reference, volumes: map[string]string{used: "/used"}, memoryBytes: 64 << 20, port: postgresPort})
	require.NoError(t, err)
	e.removeOlderSeeds(ctx, size, now)
	there := func(name string) bool {
		_, err := e.c.api.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
		return err == nil
	}
	assert.True(t, there(now))
	assert.False(t, there(old))
	assert.True(t, there(used))
	assert.True(t, there(others))
	require.NoError(t, u.remove(ctx))
}
