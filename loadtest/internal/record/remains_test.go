package record

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A run that has not ended is no run to be reported on, and says how to end it.
func TestARunUnderWayIsNamed(t *testing.T) {
	run, _ := sample()
	run.Trials = nil
	dir := filepath.Join(t.TempDir(), "run")
	f, err := Create(dir)
	require.NoError(t, err)
	require.NoError(t, f.WriteRun(run))
	_, err = Open(dir)
	require.ErrorIs(t, err, ErrUnderWay)
	require.ErrorContains(t, err, "loadtest compare --resume "+dir)
	r, err := OpenRemains(dir)
	require.NoError(t, err)
	assert.Empty(t, r.Trials)
	assert.Empty(t, r.Damaged)

	run.Ended = time.Unix(1, 0).UTC()
	require.NoError(t, f.WriteRun(run))
	_, err = Open(dir)
	require.NoError(t, err, "an interrupted run is told of")
	_, err = OpenRemains(dir)
	require.NoError(t, err, "and can be gone on with")
	run.Complete = true
	require.NoError(t, f.WriteRun(run))
	_, err = OpenRemains(dir)
	require.ErrorIs(t, err, ErrComplete)
	run.Ended = time.Time{}
	require.NoError(t, f.WriteRun(run))
	_, err = Open(dir)
	require.ErrorContains(t, err, "complete is true")
}

func TestWhatIsSetAsideOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(dir)
	require.NoError(t, err)
	for _, text := range []string{"first", "second", "third"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "trials", "a.json"), []byte(text), 0o600))
		to, err := f.SetAside([]string{"a.json"})
		require.NoError(t, err)
		require.Len(t, to, 1)
		b, err := os.ReadFile(to[0])
		require.NoError(t, err)
		assert.Equal(t, text, string(b))
	}
	entries, err := os.ReadDir(filepath.Join(dir, "damaged"))
	require.NoError(t, err)
	assert.Len(t, entries, 3)
	_, err = f.SetAside([]string{"a.json"})
	require.Error(t, err)
}

// What was half written when a run was killed before its first trial must not cost its folder; what is whole must.
func TestHalfWrittenFilesAreNoRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	_, err := Create(dir)
	require.NoError(t, err)
	temporary, err := os.CreateTemp(dir, ".run.json.*")
	require.NoError(t, err)
	require.NoError(t, temporary.Close())
	require.NoError(t, CheckFree(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".hidden"), nil, 0o600))
	require.ErrorIs(t, CheckFree(dir), ErrNotEmpty)
}
