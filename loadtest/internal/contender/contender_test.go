package contender

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const goManifest = `name: go
language: go
version: [bin/go-server, --version]
build: [make, build-go]
start: [bin/go-server]
arms:
  go:       { tier: mainstream, environment: { TIER: mainstream } }
  go-floor: { tier: floor, environment: { TIER: floor, WORKERS: 1 } }
settings:
  LOADER:          { one_of: ["on", "off"] }
  MASTER:          { one_of: [memory, redis, none] }
  REPLICA:         { one_of: ["on", "off"] }
  REQUEST_TIMEOUT: { duration: true }
  WORKERS:         { from: 1, to: 1024 }
runtime_settings: [GO]
deviations: []
`

const rustManifest = `name: rust
language: rust
version: [rust-server/target/release/rust-server, --version]
build: [make, build-rust]
start: [rust-server/target/release/rust-server]
arms:
  rust: { tier: mainstream }
  rust-system-malloc:
    tier: mainstream
    version: [rust-server/target/system/rust-server, --version]
    build: [make, build-rust-system-malloc]
    start: [rust-server/target/system/rust-server]
    build_arguments: { CARGO_FEATURES: system-malloc }
settings: { LOADER: { one_of: ["on", "off"] } }
deviations:
  - { id: short-path, rule: "4.2", upstream: "https://example.org/1", test: tests/paths.rs }
`

// repository writes manifests, by folder, and returns the root.
func repository(t *testing.T, manifests map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for dir, text := range manifests {
		require.NoError(t, os.Mkdir(filepath.Join(root, dir), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, dir, ManifestName), []byte(text), 0o644))
	}
	return root
}

func TestLoadReadsEveryManifest(t *testing.T) {
	root := repository(t, map[string]string{"rust-server": rustManifest, "go-server": goManifest})
	contenders, err := Load(root)
	require.NoError(t, err)
	require.Len(t, contenders, 2)
	assert.Equal(t, "go", contenders[0].Name)
	assert.Equal(t, "go-server", contenders[0].Dir)
	var names []string
	for _, arm := range Arms(contenders) {
		names = append(names, arm.Name)
	}
	assert.Equal(t, []string{"go", "go-floor", "rust", "rust-system-malloc"}, names)
	floor := contenders[0].Arms[1]
	assert.Equal(t, TierFloor, floor.Tier)
	assert.Equal(t, map[string]string{"TIER": "floor", "WORKERS": "1"}, floor.Environment)
	rust := contenders[1]
	assert.Equal(t, map[string]string{"TIER": "mainstream"}, rust.Arms[0].Environment, "the tier is always said")
	assert.Equal(t, []string{"make", "build-rust"}, rust.Arms[0].Build)
	assert.Equal(t, []string{"make", "build-rust-system-malloc"}, rust.Arms[1].Build)
	assert.Equal(t, []string{"rust-server/target/system/rust-server"}, rust.Arms[1].Start)
	assert.Equal(t, []string{"rust-server/target/system/rust-server", "--version"}, rust.Arms[1].Version)
	assert.Equal(t, map[string]string{"CARGO_FEATURES": "system-malloc"}, rust.Arms[1].BuildArguments)
	assert.Empty(t, rust.Arms[0].BuildArguments)
	assert.Equal(t, "short-path", rust.Arms[0].Deviations[0].ID)
}

func TestLoadNamesFileAndKeyOfWhatIsWrong(t *testing.T) {
	const head = "name: go\nlanguage: go\nversion: [v]\nbuild: [b]\nstart: [s]\n"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"unknown key at the top", head + "colour: blue\narms: { go: { tier: floor } }\n", []string{"colour"}},
		{"unknown key of an arm", head + "arms: { go: { tier: floor, port: 1 } }\n", []string{"port"}},
		{"key written twice", head + "name: rust\narms: { go: { tier: floor } }\n", []string{"name"}},
		{"no arms", head, []string{"arms"}},
		{"no start command", "name: go\nlanguage: go\nversion: [v]\nbuild: [b]\narms: { go: { tier: floor } }\n", []string{"start"}},
		{"no language", "name: go\nversion: [v]\nbuild: [b]\nstart: [s]\narms: { go: { tier: floor } }\n", []string{"language"}},
		{"a command that is one string", "name: go\nlanguage: go\nversion: [v]\nbuild: make\nstart: [s]\narms: { go: { tier: floor } }\n", []string{"string"}},
		{"an unknown tier", head + "arms: { go: { tier: fast } }\n", []string{"arms.go", "tier", `"fast"`}},
		{"an arm of another name", head + "arms: { gopher: { tier: floor } }\n", []string{"arms.gopher"}},
		{"a tier that contradicts its environment", head + "arms: { go: { tier: floor, environment: { TIER: mainstream } } }\n", []string{"arms.go", "environment.TIER"}},
		{"a variable that the engine sets", head + "arms: { go: { tier: floor, environment: { PORT: 80 } } }\n", []string{"environment.PORT"}},
		{"a variable in lower case", head + "arms: { go: { tier: floor, environment: { loader: off } } }\n", []string{`"loader"`}},
		{"a name with a plus", "name: g+o\nlanguage: go\nversion: [v]\nbuild: [b]\nstart: [s]\narms: { go: { tier: floor } }\n", []string{"name"}},
		{"an arm that is built otherwise natively only", head + "arms: { go: { tier: floor, version: [v], build: [b], start: [s] } }\n", []string{"arms.go", "build_arguments"}},
		{"an arm that is built otherwise as an image only", head + "arms: { go: { tier: floor, build_arguments: { TAGS: x } } }\n", []string{"arms.go", "version"}},
		{"an arm that is built otherwise and started as the others", head + "arms: { go: { tier: floor, version: [v], build: [b], build_arguments: { TAGS: x } } }\n", []string{"arms.go", "start"}},
		{"a base image as an arm's", head + "arms: { go: { tier: floor, version: [v], build: [b], start: [s], build_arguments: { GO_IMAGE: x } } }\n", []string{"build_arguments", `"GO_IMAGE"`}},
		{"a build argument that is no part of a name", head + "arms: { go: { tier: floor, version: [v], build: [b], start: [s], build_arguments: { TAGS: a/b } } }\n", []string{"build_arguments.TAGS", `"a/b"`}},
		{"a setting in lower case", head + "arms: { go: { tier: floor } }\nsettings: { loader: { duration: true } }\n", []string{`settings: "loader" is not a name`}},
		{"a tier as a setting", head + "arms: { go: { tier: floor } }\nsettings: { TIER: { one_of: [floor] } }\n", []string{"settings.TIER"}},
		{"a setting that the engine sets", head + "arms: { go: { tier: floor } }\nsettings: { PORT: { from: 1, to: 2 } }\n", []string{"settings.PORT"}},
		{"a setting without values", head + "arms: { go: { tier: floor } }\nsettings: { LOADER: {} }\n", []string{"settings.LOADER: expected one of"}},
		{"a setting with an empty word", head + "arms: { go: { tier: floor } }\nsettings: { LOADER: { one_of: [on, ''] } }\n", []string{"settings.LOADER: expected one of"}},
		{"a setting that is a word and a number", head + "arms: { go: { tier: floor } }\nsettings: { LOADER: { one_of: [on], from: 1, to: 2 } }\n", []string{"settings.LOADER: expected one of"}},
		{"a number without an end", head + "arms: { go: { tier: floor } }\nsettings: { WORKERS: { from: 1 } }\n", []string{"settings.WORKERS: expected one of"}},
		{"a number that ends before it begins", head + "arms: { go: { tier: floor } }\nsettings: { WORKERS: { from: 2, to: 1 } }\n", []string{"settings.WORKERS: expected one of"}},
		{"a runtime's setting in lower case", head + "arms: { go: { tier: floor } }\nruntime_settings: [go]\n", []string{`runtime_settings[0]: "go"`}},
		{"an arm with a setting that there is none", head + "arms: { go: { tier: floor, environment: { LODER: off } } }\nsettings: { LOADER: { one_of: [on, off] } }\n", []string{"arms.go: environment: LODER is no setting", "LOADER"}},
		{"an arm with a value that there is none", head + "arms: { go: { tier: floor, environment: { LOADER: of } } }\nsettings: { LOADER: { one_of: [on, off] } }\n", []string{`arms.go: environment: LOADER is "of": expected on or off`}},
		{"a profile without patterns", head + "arms: { go: { tier: floor } }\nprofile: { loader: [a] }\n", []string{"profile.runtime: expected regular expressions"}},
		{"a profile with a pattern that is none", head + "arms: { go: { tier: floor } }\nprofile: { loader: [a], runtime: ['('] }\n", []string{`profile.runtime[0]: "(" is no regular expression`}},
		{"a profile with an empty pattern", head + "arms: { go: { tier: floor } }\nprofile: { loader: [a, ''], runtime: [b] }\n", []string{`profile.loader[1]: "" is no regular expression`}},
		{"a deviation without a test", head + "arms: { go: { tier: floor } }\ndeviations: [{ id: a, rule: b, upstream: c }]\n", []string{"deviations[0]", "test"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(repository(t, map[string]string{"go-server": test.text}))
			require.Error(t, err)
			assert.Contains(t, err.Error(), "go-server/contender.yaml")
			for _, want := range test.want {
				assert.Contains(t, err.Error(), want)
			}
			assert.NotContains(t, err.Error(), "\n", "an error is one line")
		})
	}
	t.Run("two folders with one name", func(t *testing.T) {
		_, err := Load(repository(t, map[string]string{"a": goManifest, "b": goManifest}))
		require.ErrorContains(t, err, `"go"`)
	})
	t.Run("no manifest at all", func(t *testing.T) {
		_, err := Load(t.TempDir())
		require.ErrorContains(t, err, ManifestName)
	})
}

func TestResolve(t *testing.T) {
	contenders, err := Load(repository(t, map[string]string{"rust-server": rustManifest, "go-server": goManifest}))
	require.NoError(t, err)
	for _, test := range []struct {
		name, text, armName string
		environment         map[string]string
	}{
		{"an arm as it is", "go", "go", map[string]string{"TIER": "mainstream"}},
		{"one setting", "rust+LOADER=off", "rust+LOADER=off", map[string]string{"TIER": "mainstream", "LOADER": "off"}},
		{"a setting replaces the manifest's", "go-floor+WORKERS=2", "go-floor+WORKERS=2", map[string]string{"TIER": "floor", "WORKERS": "2"}},
		{"settings have one order", "go+MASTER=none+LOADER=off", "go+LOADER=off+MASTER=none", map[string]string{"TIER": "mainstream", "LOADER": "off", "MASTER": "none"}},
		{"a runtime's own setting", "go+GOGC=50", "go+GOGC=50", map[string]string{"TIER": "mainstream", "GOGC": "50"}},
		{"a value with an equals sign", "go+GODEBUG=gctrace=1", "go+GODEBUG=gctrace=1", map[string]string{"TIER": "mainstream", "GODEBUG": "gctrace=1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			arm, err := Resolve(contenders, test.text)
			require.NoError(t, err)
			assert.Equal(t, test.armName, arm.Name)
			assert.Equal(t, test.environment, arm.Environment)
		})
	}
	for _, test := range []struct{ name, text, want string }{
		{"an unknown arm lists what there is", "java", "go, go-floor, rust, rust-system-malloc"},
		{"a slip of the pen is not passed on", "go+LODER=off", "LODER"},
		{"no value", "go+LOADER", "KEY=VALUE"},
		{"an empty value", "go+LOADER=", "KEY=VALUE"},
		{"nothing after the plus", "go+", "KEY=VALUE"},
		{"the same setting twice", "go+LOADER=on+LOADER=off", "twice"},
		{"a tier is an arm", "go+TIER=floor", "go-floor"},
		{"half a replica", "go+REPLICA=half", "expected on or off"},
		{"no duration", "go+REQUEST_TIMEOUT=5", "expected a duration such as 5s"},
		{"a timeout of nothing", "go+REQUEST_TIMEOUT=0s", "expected a duration such as 5s"},
		{"a number out of range", "go+WORKERS=0", "expected a number from 1 to 1024"},
		{"a number in another writing", "go+WORKERS=02", "expected a number from 1 to 1024"},
		{"a setting of another contender", "rust+MASTER=none", "there are: LOADER, and those of its runtime (none)"},
		{"a setting of another runtime", "go+NODE_OPTIONS=x", "NODE_OPTIONS is no setting of this contender"},
		{"what the engine sets", "go+DATABASE_URL=x", "engine"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Resolve(contenders, test.text)
			require.ErrorContains(t, err, test.want)
		})
	}
	t.Run("one arm's settings do not reach another", func(t *testing.T) {
		changed, err := Resolve(contenders, "go+LOADER=off")
		require.NoError(t, err)
		changed.Environment["X"] = "y"
		plain, err := Resolve(contenders, "go")
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"TIER": "mainstream"}, plain.Environment)
	})
}

func TestParseVersion(t *testing.T) {
	v, err := ParseVersion([]byte(`{"name":"go","language":"go","language_version":"go1.26.8","libraries":{"gqlgen":"v0.17.80"}}` + "\n"))
	require.NoError(t, err)
	assert.Equal(t, Version{Name: "go", Language: "go", LanguageVersion: "go1.26.8", Libraries: map[string]string{"gqlgen": "v0.17.80"}}, v)
	for name, text := range map[string]string{
		"empty": "", "two lines": "{}\n{}", "not JSON": "go-server 1.0", "no language": `{"name":"go"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseVersion([]byte(text))
			require.Error(t, err)
		})
	}
}

// A revision from before manifests listed settings has those of today, and one that lists them keeps its own.
func TestOlderManifestsTakeTodaysSettings(t *testing.T) {
	now, err := Load(repository(t, map[string]string{"go-server": goManifest, "rust-server": rustManifest}))
	require.NoError(t, err)
	older := strings.Join(slices.DeleteFunc(strings.SplitAfter(goManifest, "\n"), func(line string) bool {
		return strings.Contains(line, "one_of") || strings.Contains(line, "duration") || strings.Contains(line, "from:") || strings.Contains(line, "settings:")
	}), "")
	old, err := Load(repository(t, map[string]string{"go-server": older, "rust-server": rustManifest}))
	require.NoError(t, err)
	_, err = Resolve(old, "go+LOADER=off")
	require.ErrorContains(t, err, "is no setting of this contender")
	TakeSettings(old, now)
	arm, err := Resolve(old, "go+GOGC=50+LOADER=off")
	require.NoError(t, err)
	assert.Equal(t, "off", arm.Environment["LOADER"])
	_, err = Resolve(old, "go+LOADER=of")
	require.ErrorContains(t, err, "expected on or off")
	_, err = Resolve(old, "rust+MASTER=none")
	require.ErrorContains(t, err, "there are: LOADER")
}

// All servers have the settings of the contract's table, with the same values, but for how each can divide its work; so
// has the tool.
func TestSettingsAreTheSame(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	contenders, err := Load(root)
	require.NoError(t, err)
	table, err := os.ReadFile(filepath.Join(root, "contract", "README.md"))
	require.NoError(t, err)
	for _, c := range contenders {
		for name, values := range contenders[0].Settings.Values {
			if name != "CONCURRENCY_MODEL" {
				assert.Equal(t, values, c.Settings.Values[name], "%s of %s and %s", name, contenders[0].Name, c.Name)
			}
			if !slices.Contains(EngineSettings, name) {
				assert.Contains(t, string(table), "\n| `"+name+"` |")
			}
		}
		assert.Len(t, c.Settings.Values, len(contenders[0].Settings.Values), c.Name)
		for _, name := range append([]string{"CONCURRENCY_MODEL", MasterMB}, EngineSettings...) {
			assert.Contains(t, c.Settings.Values, name, c.Name)
		}
		assert.NotEmpty(t, c.Settings.Runtime, c.Name)
	}
}

// Arms of the same code differ in what no line of a server hangs on; what it is built of and the contract's settings are its
// code.
func TestSameCode(t *testing.T) {
	contenders, err := Load(filepath.Join("..", "..", ".."))
	require.NoError(t, err)
	arm := func(text string) Arm {
		a, err := Resolve(contenders, text)
		require.NoError(t, err)
		return a
	}
	for _, same := range [][2]string{
		{"go", "go"}, {"go", "go+CPUS=2"}, {"go+REPLICA=off", "go+CPUS=1"}, {"go", "go-gogc-400"}, {"go-gogc-50", "go-memory-limit"}, {"node", "node-semi-space-64"},
		{"node-cluster+MASTER_MB=64", "node-cluster+MASTER_MB=256"}, {"rust-jemalloc", "rust-jemalloc+CPUS=1"}, {"go+LOADER=off", "go+CPUS=2+LOADER=off"},
	} {
		assert.True(t, arm(same[0]).SameCode(arm(same[1])), "%v", same)
		assert.True(t, arm(same[1]).SameCode(arm(same[0])), "%v", same)
	}
	for _, other := range [][2]string{
		{"go", "node"}, {"go", "go-floor"}, {"go", "go+LOADER=off"}, {"go", "go+MASTER=none"}, {"go", "go-maxprocs-1"}, {"node", "node-cluster"}, {"rust", "rust-jemalloc"},
		{"rust-system-malloc", "rust-jemalloc"}, {"rust", "rust-steal-counts"}, {"rust", "rust-per-core"}, {"rust-steal-counts", "rust-per-core"}, {"go", "go+START=sequential"}, {"node", "node-compiled"},
	} {
		assert.False(t, arm(other[0]).SameCode(arm(other[1])), "%v", other)
		assert.False(t, arm(other[1]).SameCode(arm(other[0])), "%v", other)
	}
}
