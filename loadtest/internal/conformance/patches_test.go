package conformance

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
)

// TestLoaderMutants patches each server's real loader, builds it and proves it: the patches are in mutants/.
func TestLoaderMutants(t *testing.T) {
	l := newTestLab(t)
	root := repositoryRoot(t)
	contenders, err := contender.Load(root)
	require.NoError(t, err)
	// What each kind must be caught by: rows by arrival, not by key; a batch per key; what one request read, another gets; keys
	// of several requests in one batch. The last one's requests keep loaders and caches of their own, so one request alone runs
	// what it should, and all answers are right: what passes says that only the counts at once tell it.
	kinds := []struct {
		name   string
		want   caught
		passes []string
	}{
		{"sorted-wrongly", caught{check: "answers-cold", operation: "q2", path: "data.items["}, nil},
		{"statement-per-key", caught{"statements", "q2", "statement users_by_ids", "1 for one request", "too many"}, nil},
		{"shared-cache", caught{check: "fresh-rows", operation: "q2", path: "author.name", expected: "(changed)", got: `"User `}, nil},
		{
			"shared-batch", caught{"statements-16", "q2", "statement users_by_ids", "16 for 16 requests", "too few"},
			[]string{"mutations", "statements", "answers-64", "isolation"},
		},
	}
	for _, server := range []struct {
		name  string
		tier  contender.Tier
		build func(t *testing.T, source string) (start []string)
	}{
		{"go", contender.TierMainstream, func(t *testing.T, source string) []string {
			t.Helper()
			binary := filepath.Join(t.TempDir(), "go-server")
			build(t, source, []string{"GOWORK=off"}, "go", "build", "-o", binary, ".")
			return []string{binary}
		}},
		{"node", contender.TierMainstream, func(t *testing.T, source string) []string {
			t.Helper()
			modules := filepath.Join(root, "node-server", "node_modules")
			require.DirExists(t, modules, "run `make build-node` first")
			_ = os.Remove(filepath.Join(source, "node_modules")) // of an earlier run
			require.NoError(t, os.Symlink(modules, filepath.Join(source, "node_modules")))
			return []string{nodeProgram(root), filepath.Join(source, "src", "main.ts")}
		}},
		{"rust", contender.TierMainstream, func(t *testing.T, source string) []string {
			t.Helper()
			// Quick to build, not to run; in a folder of its own, so that nobody takes it for the real one.
			target := filepath.Join(root, "rust-server", "target", "mutants")
			reuseDependencies(t, filepath.Join(root, "rust-server", "target", "debug"), filepath.Join(target, "debug"))
			build(t, source, []string{"CARGO_TARGET_DIR=" + target}, "cargo", "build", "--locked", "--bin", "rust-server")
			return []string{filepath.Join(target, "debug", "rust-server")}
		}},
	} {
		t.Run(server.name, func(t *testing.T) {
			unpatched, err := contender.Resolve(contenders, server.name)
			require.NoError(t, err)
			for _, kind := range kinds {
				t.Run(kind.name, func(t *testing.T) {
					patch, err := filepath.Abs(filepath.Join("mutants", server.name+"-"+kind.name+".patch"))
					require.NoError(t, err)
					// The same folder for all kinds, so that a second build is of what differs.
					source := filepath.Join(sourcesDir(t, root), server.name+"-server")
					copySources(t, filepath.Join(root, server.name+"-server"), source, patch)
					arm := contender.Arm{
						Name: server.name + "-" + kind.name, Base: server.name, Contender: server.name, Tier: server.tier, Root: root,
						Start: server.build(t, source), Environment: map[string]string{"TIER": string(server.tier)},
						Deviations: unpatched.Deviations,
					}
					reports, err := Prove(t.Context(), Options{
						Contract: l.contract, Engine: l.shared, Root: root, Form: Full, Seed: 7,
						Checks: append([]string{kind.want.check}, kind.passes...),
					}, []contender.Arm{arm})
					require.NoError(t, err)
					requireCaught(t, reports[0], kind.want)
					for _, check := range reports[0].Checks {
						assert.Equal(t, slices.Contains(kind.passes, check.Name), check.Passed, "%s: %v", check.Name, reports[0].Findings)
					}
				})
			}
		})
	}
}

// reuseDependencies gives Cargo what the server's own tests have built of its dependencies, by links that keep the times
// it goes by. Where there is nothing, or the copy fails, it only builds longer.
func reuseDependencies(t *testing.T, from, to string) {
	t.Helper()
	if _, err := os.Stat(to); err == nil {
		return
	}
	if _, err := os.Stat(filepath.Join(from, "deps")); err != nil {
		return
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	if out, err := exec.Command("cp", "-al", from, to).CombinedOutput(); err != nil {
		t.Logf("dependencies are built anew: %v: %s", err, out)
		require.NoError(t, os.RemoveAll(to))
	}
}

// sourcesDir is where patched sources are kept from one run to the next, beside what Cargo builds of them.
func sourcesDir(t *testing.T, root string) string {
	t.Helper()
	dir := filepath.Join(root, "rust-server", "target", "mutants", "sources")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	return dir
}

// copySources makes the folder to what the server's is, with the patch: files that are right already stay untouched, so
// that nothing is built for their sake.
func copySources(t *testing.T, from, to, patch string) {
	t.Helper()
	patched := t.TempDir()
	var files []string
	require.NoError(t, filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{"node_modules", "target"}, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files = append(files, relative)
		return writeFile(filepath.Join(patched, relative), text)
	}))
	// Not a repository, so that git applies the patch to the folder it is in.
	build(t, patched, []string{"GIT_CEILING_DIRECTORIES=" + filepath.Dir(patched)}, "git", "apply", "--recount", "-C1", patch)
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(patched, file))
		require.NoError(t, err)
		old, err := os.ReadFile(filepath.Join(to, file))
		if err != nil || !bytes.Equal(old, text) {
			require.NoError(t, writeFile(filepath.Join(to, file), text))
		}
	}
	// What the server no longer has must not be built in.
	require.NoError(t, filepath.WalkDir(to, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		relative, err := filepath.Rel(to, path)
		if err == nil && !slices.Contains(files, relative) {
			err = os.Remove(path)
		}
		return err
	}))
}

func writeFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// TestDigest holds that a report is looked up by all that it depends on, and that findings are never kept.
func TestDigest(t *testing.T) {
	root := t.TempDir()
	source, program := filepath.Join(root, "x-server", "main.x"), filepath.Join(root, "bin", "x")
	require.NoError(t, writeFile(source, []byte("source")))
	require.NoError(t, writeFile(program, []byte("program")))
	c := &contract.Contract{Digest: "one"}
	arm := contender.Arm{Name: "x", Root: root, Dir: "x-server", Start: []string{"bin/x"}, Environment: map[string]string{"LOADER": "on"}}
	first, _, err := digests(c, "native", "", arm)
	require.NoError(t, err)
	again, _, err := digests(c, "native", "", arm)
	require.NoError(t, err)
	require.Equal(t, first, again)
	seen := map[string]string{"as it was": first}
	other := func(name string, c *contract.Contract, arm contender.Arm) {
		t.Helper()
		d, _, err := digests(c, "native", "", arm)
		require.NoError(t, err)
		for before, known := range seen {
			require.NotEqual(t, known, d, "%s is told from %s", name, before)
		}
		seen[name] = d
	}
	other("another contract", &contract.Contract{Digest: "two"}, arm)
	changed := arm
	changed.Environment = map[string]string{"LOADER": "off"}
	other("another setting", c, changed)
	changed = arm
	changed.Tier = contender.TierFloor
	other("another tier", c, changed)
	require.NoError(t, writeFile(program, []byte("another program")))
	other("another program", c, arm)
	require.NoError(t, writeFile(source, []byte("another source")))
	other("another source", c, arm)
	require.NoError(t, writeFile(filepath.Join(root, "x-server", "node_modules", "y", "y.js"), []byte("library")))
	other("another library", c, arm)

	p := &prover{Options: Options{CacheDir: t.TempDir(), Form: Full}}
	good := Report{Arm: "x", Conformant: true, Form: Full, Digest: first, Findings: []Finding{}}
	_, found := p.cached(first)
	require.False(t, found)
	require.NoError(t, p.keep(good))
	kept, found := p.cached(first)
	require.True(t, found)
	require.Equal(t, good.Digest, kept.Digest)
	p.Form = Short
	_, found = p.cached(first)
	require.True(t, found, "the full form holds for the short one")
	_, found = p.cached(seen["another source"])
	require.False(t, found)
	require.NoError(t, p.keep(Report{Conformant: false, Form: Full, Digest: seen["another source"]}))
	_, found = p.cached(seen["another source"])
	require.False(t, found, "findings are never taken for a proof")
	p.Fresh = true
	_, found = p.cached(first)
	require.False(t, found, "what is to be proven again is not looked up")
	p.Fresh = false
	p.Checks = []string{"random"}
	_, found = p.cached(first)
	require.False(t, found, "a choice of checks is made, not looked up")
}

// TestCacheIsUsed proves an arm twice and takes the database away in between.
func TestCacheIsUsed(t *testing.T) {
	arm := contender.Arm{Name: "x", Base: "x", Contender: "x", Tier: contender.TierMainstream, Root: t.TempDir()}
	c := &contract.Contract{Digest: "one"}
	options := Options{Contract: c, Engine: noEngine{}, Form: Short, CacheDir: t.TempDir()}
	d, _, err := digests(c, "native", "", arm)
	require.NoError(t, err)
	p := &prover{Options: options}
	require.NoError(t, p.keep(Report{Arm: "y", Conformant: true, Form: Short, Digest: d, Findings: []Finding{}}))
	reports, err := Prove(t.Context(), options, []contender.Arm{arm})
	require.NoError(t, err)
	require.True(t, reports[0].Cached)
	require.True(t, reports[0].Conformant)
	require.Equal(t, "x", reports[0].Arm)
	require.Contains(t, Text(reports), "x: conformant (short form")

	options.Form = Full
	_, err = Prove(t.Context(), options, []contender.Arm{arm})
	require.ErrorContains(t, err, "nothing to start", "the short form does not hold for the full one")
}

// noEngine starts nothing.
type noEngine struct{ engine.Engine }

func (e noEngine) Name() string { return "native" }

func (e noEngine) Identity(context.Context, contender.Arm) (string, error) { return "", nil }

func (e noEngine) Upstream(context.Context, engine.UpstreamSpec) (engine.Service, error) {
	return nil, errors.New("nothing to start")
}

func TestWithoutDirective(t *testing.T) {
	const one = `{"data":{"__schema":{"directives":[{"name":"skip"},{"args":[],"name":"oneOf"},{"name":"include"}],"types":[]}}}`
	require.Equal(t, `{"data":{"__schema":{"directives":[{"name":"skip"},{"name":"include"}],"types":[]}}}`, string(withoutDirective([]byte(one), "oneOf")))
	for name, body := range map[string]string{
		"none of that name":    `{"data":{"__schema":{"directives":[{"name":"skip"}]}}}`,
		"no directives":        `{"data":{"__schema":{"types":[]}}}`,
		"no introspection":     `{"data":{"directives":[{"name":"oneOf"}]}}`,
		"no JSON":              `{"__schema"`,
		"directives elsewhere": `{"data":{"x":{"__schema":1,"directives":[{"name":"oneOf"}]}}}`,
	} {
		require.Equal(t, body, string(withoutDirective([]byte(body), "oneOf")), name)
	}
	s := &subject{arm: contender.Arm{}}
	require.Equal(t, one, string(s.excuse([]byte(one))), "a deviation that is not listed is not excused")
	s.arm.Deviations = []contender.Deviation{{ID: "something-else"}}
	require.Equal(t, one, string(s.excuse([]byte(one))), "nor is another one")
}
