package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// A run that ended by an error still says why its run.json is missing.
func TestAnUnwrittenRunIsTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	folder, err := record.Create(dir)
	require.NoError(t, err)
	saved, err := record.ReadRun(filepath.Join("internal", "report", "testdata", "smoke"))
	require.NoError(t, err)
	var errs bytes.Buffer
	s := &session{folder: folder, run: saved}
	require.ErrorIs(t, s.finish(context.Canceled, streams{Err: &errs}), context.Canceled)
	assert.Empty(t, errs.String())
	written, err := record.ReadRun(dir)
	require.NoError(t, err)
	assert.False(t, written.Complete)

	require.NoError(t, os.RemoveAll(dir))
	err = s.finish(context.Canceled, streams{Err: &errs})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.Contains(t, errs.String(), "run.json")
}
