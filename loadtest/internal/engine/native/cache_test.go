package native

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/engine/host"
)

// builder counts how often it builds.
type builder struct{ count atomic.Int32 }

func (b *builder) build(dir string) error {
	b.count.Add(1)
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "data", "file"), []byte("content"), 0o600)
}

func TestCachedBuildsOnce(t *testing.T) {
	cache := t.TempDir()
	var b builder
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			dir, err := cached(t.Context(), cache, "key", b.build)
			if assert.NoError(t, err) {
				assert.FileExists(t, filepath.Join(dir, "data", "file"))
			}
		})
	}
	wait.Wait()
	assert.Equal(t, int32(1), b.count.Load())
	_, err := cached(t.Context(), cache, "other", b.build)
	require.NoError(t, err)
	assert.Equal(t, int32(2), b.count.Load(), "another key is built apart")
}

func TestCachedRebuildsWhatIsDamaged(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"no mark of completeness", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, completeName))) }},
		{"a file is gone", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "data", "file"))) }},
		{"a file is cut short", func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "data", "file"), 3))
		}},
		{"a file was changed", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "data", "file")
			require.NoError(t, os.WriteFile(path, []byte("CONTENT"), 0o600))
			require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)))
		}},
		{"a file came in", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), nil, 0o600))
		}},
		{"the whole is empty", func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.Mkdir(dir, 0o700))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cache := t.TempDir()
			var b builder
			dir, err := cached(t.Context(), cache, "key", b.build)
			require.NoError(t, err)
			test.damage(t, dir)
			again, err := cached(t.Context(), cache, "key", b.build)
			require.NoError(t, err)
			assert.Equal(t, dir, again)
			assert.Equal(t, int32(2), b.count.Load())
			text, err := os.ReadFile(filepath.Join(dir, "data", "file"))
			require.NoError(t, err)
			assert.Equal(t, "content", string(text))
			assert.NoFileExists(t, filepath.Join(dir, "data", "postmaster.pid"))
		})
	}
}

func TestCachedLeavesNothingOfAFailedBuild(t *testing.T) {
	cache := t.TempDir()
	var b builder
	_, err := cached(t.Context(), cache, "key", func(dir string) error {
		_ = b.build(dir)
		return errors.New("no room")
	})
	require.ErrorContains(t, err, "no room")
	// As one that was killed would have.
	require.NoError(t, os.Mkdir(filepath.Join(cache, "building-key-123"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(cache, "building-other-123"), 0o700))
	_, err = cached(t.Context(), cache, "key", b.build)
	require.NoError(t, err)
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	assert.Equal(t, []string{"building-other-123", "key", "key.lock"}, names)
}

func TestCachedWaitsNoLongerThanItMay(t *testing.T) {
	cache := t.TempDir()
	release, err := host.LockFile(t.Context(), filepath.Join(cache, "key.lock"))
	require.NoError(t, err)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var b builder
	_, err = cached(ctx, cache, "key", b.build)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestCacheFolder(t *testing.T) {
	user, err := findServerUser()
	require.NoError(t, err)
	open, err := os.MkdirTemp("", "cache-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(open, 0o711))
	t.Cleanup(func() { os.RemoveAll(open) })

	t.Run("the named one", func(t *testing.T) {
		t.Setenv(cacheVariable, filepath.Join(open, "mine"))
		dir, err := cacheFolder(open, user)
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(open, "mine"), dir)
	})
	t.Run("the user's, where it can be reached", func(t *testing.T) {
		t.Setenv(cacheVariable, "")
		t.Setenv("XDG_CACHE_HOME", open)
		dir, err := cacheFolder(open, user)
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(open, cacheName), dir)
	})
	t.Run("one that others can write to is refused", func(t *testing.T) {
		shared := filepath.Join(open, "shared")
		require.NoError(t, os.Mkdir(shared, 0o777))
		require.NoError(t, os.Chmod(shared, 0o777))
		t.Setenv(cacheVariable, shared)
		_, err := cacheFolder(open, user)
		require.ErrorContains(t, err, "written by others")
	})
	t.Run("a closed one is refused, or passed over where it is not named", func(t *testing.T) {
		closed := filepath.Join(open, "closed")
		require.NoError(t, os.Mkdir(closed, 0o700))
		other := serverUser{name: "somebody", uid: 54321, gid: 54321}
		t.Setenv(cacheVariable, filepath.Join(closed, "mine"))
		_, err := cacheFolder(open, other)
		require.ErrorContains(t, err, "cannot reach")
		t.Setenv(cacheVariable, "")
		t.Setenv("XDG_CACHE_HOME", closed)
		dir, err := cacheFolder(open, other)
		require.NoError(t, err)
		assert.Equal(t, open, filepath.Dir(dir))
	})
}

// archive makes an npm archive of files by name.
func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	zipped := gzip.NewWriter(&buffer)
	writer := tar.NewWriter(zipped)
	for name, content := range files {
		require.NoError(t, writer.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}))
		_, err := writer.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, writer.Close())
	require.NoError(t, zipped.Close())
	return buffer.Bytes()
}

func TestUnpack(t *testing.T) {
	t.Run("writes the files and the links that the package lists", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, unpack(archive(t, map[string]string{
			"package/native/lib/libpq.so.5.17":   "library",
			"package/native/pg-symlinks.json":    `[{"source":"native/lib/libpq.so.5.17","target":"native/lib/libpq.so.5"}]`,
			"package/native/share/deep/er/x.sql": "select 1",
		}), dir))
		require.NoError(t, restoreLinks(dir))
		text, err := os.ReadFile(filepath.Join(dir, "native/lib/libpq.so.5"))
		require.NoError(t, err)
		assert.Equal(t, "library", string(text))
		link, err := os.Readlink(filepath.Join(dir, "native/lib/libpq.so.5"))
		require.NoError(t, err)
		assert.Equal(t, "libpq.so.5.17", link, "relative, so that the folder can be moved")
		assert.FileExists(t, filepath.Join(dir, "native/share/deep/er/x.sql"))
	})
	t.Run("stays inside its folder", func(t *testing.T) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		require.NoError(t, os.Mkdir(dir, 0o755))
		_ = unpack(archive(t, map[string]string{"package/../../out": "x"}), dir)
		assert.NoFileExists(t, filepath.Join(parent, "out"))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "native"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "native", "pg-symlinks.json"), []byte(`[{"source":"../out","target":"native/x"}]`), 0o644))
		require.ErrorContains(t, restoreLinks(dir), "out of the package")
	})
	t.Run("refuses what is no archive", func(t *testing.T) {
		require.Error(t, unpack([]byte("<html>sign in</html>"), t.TempDir()))
	})
}
