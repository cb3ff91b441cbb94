package contender

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A manifest is refused in one line, or each of its arms can be asked for by its name and is of a tier.
func FuzzManifest(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "*", ManifestName))
	if err != nil || len(files) == 0 {
		f.Fatal("no manifests", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("name: go\nlanguage: go\nversion: [v]\nbuild: [b]\nstart: [s]\narms: { go: { tier: floor }, ? [a] : {} }\n"))
	f.Add([]byte("name: go\nlanguage: go\nversion: [v]\nbuild: [b]\nstart: [s]\narms: { go: &x { tier: floor, environment: *x } }\n"))
	f.Add([]byte("arms: [1]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(text, "/root", "x-server")
		if err != nil {
			assert.NotContains(t, err.Error(), "\n")
			return
		}
		require.NotEmpty(t, c.Arms)
		for _, arm := range c.Arms {
			found, err := Resolve([]Contender{c}, arm.Name)
			require.NoError(t, err)
			assert.Equal(t, arm.Name, found.Name)
			assert.Contains(t, tiers, arm.Tier)
			assert.Equal(t, string(arm.Tier), arm.Environment["TIER"])
			for _, key := range engineSets {
				assert.NotContains(t, arm.Environment, key)
			}
		}
	})
}

// An arm's name is refused, or has the settings that it names.
func FuzzResolve(f *testing.F) {
	for _, text := range []string{"go", "go+LOADER=off", "go+GOGC=50+LOADER=on", "go+", "go+=", "go+A=B=C", "go+GODEBUG=a=1+WORKERS=2", "go+REQUEST_TIMEOUT=5s", "rust"} {
		f.Add(text)
	}
	least, most := 1, 9
	settings := Settings{Values: map[string]Values{"LOADER": {OneOf: []string{"on", "off"}}, "WORKERS": {From: &least, To: &most}, "REQUEST_TIMEOUT": {Duration: true}}, Runtime: []string{"GO"}}
	contenders := []Contender{{Name: "go", Arms: []Arm{{Name: "go", Base: "go", Tier: TierMainstream, Environment: map[string]string{"TIER": "mainstream"}, Settings: settings}}}}
	f.Fuzz(func(t *testing.T, text string) {
		arm, err := Resolve(contenders, text)
		if err != nil {
			return
		}
		again, err := Resolve(contenders, arm.Name)
		require.NoError(t, err, "its own name, settings in order")
		assert.Equal(t, arm, again)
	})
}
