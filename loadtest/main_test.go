package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/conformance"
)

func runCommand(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	return runCommandWith(t, "", args...)
}

func runCommandWith(t *testing.T, input string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, streams{strings.NewReader(input), &o, &e})
	return code, o.String(), e.String()
}

// What cannot be run says so on stderr, naming what was wrong, with status 2 and nothing on stdout.
func TestBadUseIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"no command":               {nil, []string{"compare", "doctor"}},
		"an unknown command":       {[]string{"frobnicate"}, []string{`"frobnicate"`}},
		"an unknown flag":          {[]string{"compare", "--fast"}, []string{"compare", "-fast"}},
		"a stray argument":         {[]string{"compare", "go"}, []string{`unexpected argument "go"`}},
		"an unknown profile":       {[]string{"compare", "--profile", "slow"}, []string{`"slow"`, "quick"}},
		"an unknown scenario":      {[]string{"compare", "--scenario", "x"}, []string{`"x"`, "library"}},
		"an unknown arm":           {[]string{"compare", "--contender", "go,cobol"}, []string{"cobol", "node"}},
		"an unknown setting":       {[]string{"conformance", "--contender", "go+SPEED=max"}, []string{"SPEED"}},
		"an unknown form":          {[]string{"conformance", "--form", "tiny", "--contender", "go"}, []string{`"tiny"`}},
		"an unknown engine":        {[]string{"serve", "--contender", "go", "--engine", "vm"}, []string{`"vm"`, "native"}},
		"an unknown size":          {[]string{"serve", "--contender", "go", "--size", "huge"}, []string{`"huge"`, "small"}},
		"no contender":             {[]string{"serve"}, []string{"--contender"}},
		"two contenders":           {[]string{"serve", "--contender", "go,node"}, []string{"exactly one"}},
		"a malformed setting":      {[]string{"serve", "--contender", "go", "--env", "X"}, []string{`"X"`, "NAME=VALUE"}},
		"report of nothing":        {[]string{"report"}, []string{"usage: loadtest report DIR"}},
		"report of two":            {[]string{"report", "a", "b"}, []string{`unexpected argument "b"`}},
		"report of no run":         {[]string{"report", "no-such-folder"}, []string{"no-such-folder"}},
		"publish without markers":  {[]string{"publish", "x", "--update", "main.go"}, []string{"main.go", "make publish"}},
		"no percentile of ours":    {[]string{"compare", "--profile", "standard", "--slo", "p95=1s"}, []string{"--slo", `"p95"`, "p99.9"}},
		"a limit without a unit":   {[]string{"compare", "--profile", "standard", "--slo", "p99=100"}, []string{"--slo", `"100"`, "100ms"}},
		"an objective for nothing": {[]string{"compare", "--slo", "p99=1s"}, []string{"--slo", "--capacity"}},
		"no rounds":                {[]string{"bench-servers", "--rounds", "0"}, []string{"--rounds"}},
		"no rounds of the agent":   {[]string{"bench-agent", "--rounds", "0"}, []string{"--rounds"}},
		"rates of no number":       {[]string{"bench-agent", "--rates", "1,x"}, []string{"--rates", `"x"`}},
		"no rounds of faults":      {[]string{"bench-faults", "--rounds", "0"}, []string{"--rounds"}},
		"a delay of no unit":       {[]string{"bench-faults", "--delays", "1ms,20"}, []string{"--delays", `"20"`}},
		"a delay of nothing":       {[]string{"bench-faults", "--delays", "0s"}, []string{"--delays", "more than 0"}},
		"a proxy at no address":    {[]string{"fault-proxy", "--host", "here"}, []string{`"here"`}},
		"an unknown sender":        {[]string{"agent", "--sender", "x"}, []string{`"x"`, "vegeta"}},
		"a rate that is no number": {[]string{"compare", "--seed", "x"}, []string{`"x"`}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := runCommand(t, c.args...)
			assert.Equal(t, exitCannot, code)
			assert.Empty(t, out)
			for _, s := range c.says {
				assert.Contains(t, errs, s)
			}
		})
	}
}

func TestAnOccupiedFolderIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "run.json")
	require.NoError(t, os.WriteFile(precious, []byte("precious"), 0o600))
	code, _, errs := runCommand(t, "compare", "--out", dir)
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, errs, dir)
	b, err := os.ReadFile(precious)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(b))
}

func TestARunThatCannotBeginLeavesNoFolder(t *testing.T) {
	for _, command := range []string{"compare", "bench-servers"} {
		out := filepath.Join(t.TempDir(), "run")
		code, _, _ := runCommand(t, command, "--engine", "vm", "--contender", "go", "--out", out)
		assert.Equal(t, exitCannot, code)
		assert.NoDirExists(t, out, command)
	}
}

func TestHelpGoesToStdout(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"--help"}, {"compare", "--help"}, {"serve", "-h"}, {"doctor", "--help"}} {
		code, out, errs := runCommand(t, args...)
		assert.Equal(t, exitOK, code, args)
		assert.NotEmpty(t, out, args)
		assert.Empty(t, errs, args)
	}
	_, out, _ := runCommand(t, "compare", "--help")
	for _, flag := range []string{"--profile", "--scenario", "--contender", "--engine", "--seed", "--out", "--json"} {
		assert.Contains(t, out, flag)
	}
}

func TestRatesAreRoundNumbersBelow(t *testing.T) {
	for in, want := range map[float64]float64{237.9: 230, 1999: 1900, 99.9: 99, 10: 10, 7.38: 7.3, 0.4: 1, 0: 1} {
		assert.InDelta(t, want, roundDown(in), 1e-9, in)
	}
}

// Every make target that a page names is in the Makefile.
func TestPagesNameTargetsThatExist(t *testing.T) {
	root, err := findRoot()
	require.NoError(t, err)
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	for _, page := range []string{"README.md", "docs/METHODOLOGY.md", "docs/BIAS.md", "docs/ENGINES.md", "docs/BEHIND-A-WALL.md", "go-server/README.md", "node-server/README.md", "rust-server/README.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("(?m)(?:`|^)make ([a-z-]+)").FindAllStringSubmatch(string(text), -1) {
			assert.Regexp(t, `(?m)^`+m[1]+`:`, string(makefile), "%s says make %s", page, m[1])
		}
	}
}

// Links between pages lead somewhere.
func TestPagesLinkToFilesThatExist(t *testing.T) {
	root, err := findRoot()
	require.NoError(t, err)
	for _, page := range []string{"README.md", "docs/METHODOLOGY.md", "docs/BIAS.md", "docs/ENGINES.md", "docs/BEHIND-A-WALL.md", "contract/README.md", "results/README.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(string(text), -1) {
			assert.FileExists(t, filepath.Join(root, filepath.Dir(page), m[1]), page)
		}
	}
}

// The contract names, for its obligations, every check that there is and none that there is not.
func TestObligationsNameTheChecks(t *testing.T) {
	root, err := findRoot()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "contract", "README.md"))
	require.NoError(t, err)
	_, obligations, ok := strings.Cut(string(text), "## Obligations")
	require.True(t, ok)
	obligations, _, ok = strings.Cut(obligations, "## Environment")
	require.True(t, ok)
	named := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m) \*([a-z0-9, -]+)\*$`).FindAllStringSubmatch(obligations, -1) {
		for _, name := range strings.Split(m[1], ", ") {
			named[name] = true
		}
	}
	for _, check := range conformance.Checks() {
		assert.True(t, named[check.Name], "no obligation names the check %s", check.Name)
		delete(named, check.Name)
	}
	assert.Empty(t, named, "checks that do not exist")
}
