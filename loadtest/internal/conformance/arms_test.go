package conformance

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contender"
)

// TestArmMutants patches the servers where several processes or threads do the work, each of which may be right by itself
// and wrong together with the others.
func TestArmMutants(t *testing.T) {
	l := newTestLab(t)
	root := repositoryRoot(t)
	modules := filepath.Join(root, "node-server", "node_modules")
	require.DirExists(t, modules, "run `make build-node` first")
	// What comes too late here never comes.
	oldHeard := heard
	t.Cleanup(func() { heard = oldHeard })
	heard = 5 * time.Second
	// A pool of 16 among three processes: one of them has six connections, two have five, by which the patch knows them.
	cluster := map[string]string{"CONCURRENCY_MODEL": "cluster", "WORKERS": "3", "POOL_SIZE": "16"}
	threads := map[string]string{"CONCURRENCY_MODEL": "workers-message", "WORKERS": "3"}
	for _, row := range []struct {
		name, patch string
		environment map[string]string
		want        caught
	}{
		{
			"two of three processes do not hear of changes", "node-cluster-deaf", cluster,
			caught{"master-data", "areas", "data.areas", "By the API", ""},
		},
		{
			"each process has the places of all", "node-cluster-places", cluster,
			caught{"in-flight", "requests at once", "", "40 answers", "0"},
		},
		{
			"threads keep the copy of vectors that they were sent first", "node-workers-message-stale", threads,
			caught{"master-data", "ranking", "score", "", ""},
		},
		{
			"a table that Redis could not be made to forget is asked for all the same", "node-redis-trusted", map[string]string{"MASTER": "redis"},
			caught{"redis-away", "areas", "data.areas", "", ""},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			patch, err := filepath.Abs(filepath.Join("mutants", row.patch+".patch"))
			require.NoError(t, err)
			source := filepath.Join(t.TempDir(), "node-server")
			copySources(t, filepath.Join(root, "node-server"), source, patch)
			require.NoError(t, os.Symlink(modules, filepath.Join(source, "node_modules")))
			arm := contender.Arm{
				Name: row.patch, Base: row.patch, Contender: "node", Tier: contender.TierMainstream, Root: root,
				Start: []string{nodeProgram(root), filepath.Join(source, "src", "main.ts")}, Environment: row.environment,
			}
			reports, err := Prove(t.Context(), Options{
				Contract: l.contract, Engine: l.shared, Root: root, Form: Full, Seed: 7, Checks: []string{row.want.check},
			}, []contender.Arm{arm})
			require.NoError(t, err)
			requireCaught(t, reports[0], row.want)
		})
	}
}
