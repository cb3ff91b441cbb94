// Package contender loads and validates the manifests (contender.yaml) with which each server presents itself: how it is
// built and started, and which arms it has. It is pure data; package engine is what starts something.
package contender

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"lab/loadtest/internal/locate"
)

// ManifestName is the file, one folder below the repository's root, that makes that folder a contender.
const ManifestName = "contender.yaml"

// Tier says how a contender comes to its answers. One figure never mixes tiers.
type Tier string

// The tiers of the contract.
const (
	// TierFloor has no GraphQL library: the headline operations by hand.
	TierFloor Tier = "floor"
	// TierMainstream is what most would use, in its usual settings.
	TierMainstream Tier = "mainstream"
	// TierCompiled has a plan compiled per document.
	TierCompiled Tier = "compiled"
)

var tiers = []Tier{TierFloor, TierMainstream, TierCompiled}

// Contender is one server: a folder with a manifest.
type Contender struct {
	// Name is the contender's name, such as "go"; its arms are named after it.
	Name string
	// Language is the programming language, in lower case.
	Language string
	// Version, Build and Start are commands, run in the repository's root: one that prints one JSON line (see
	// [Version]), one that builds the server, and one that runs it.
	Version, Build, Start []string
	// Arms are the contender's arms in the manifest's order.
	Arms []Arm
	// Deviations are the library's departures from the contract that it allows.
	Deviations []Deviation
	// Profile says whose functions are whose, or is nil.
	Profile *Profile
	// Settings are what can be set on its arms.
	Settings Settings
	// Dir is the contender's folder, relative to the repository's root.
	Dir string
}

// Arm is a contender with settings: what a scenario compares.
type Arm struct {
	// Name is the arm's name with its settings in the order of their names, such as "rust" or "rust+LOADER=off".
	Name string
	// Base is the name without settings: the arm in the manifest.
	Base string
	// Contender is the name of the contender whose arm this is.
	Contender string
	Language  string
	Tier      Tier
	// Environment is what the arm sets for the server, on top of what the engine sets.
	Environment map[string]string
	// Build, Start and Version are the commands to run in Root.
	Build, Start, Version []string
	// BuildArguments are those of the Dockerfile in Dir, where the arm is built otherwise than its contender.
	BuildArguments map[string]string
	// Root is the repository's root (absolute); Dir is the contender's folder, relative to it.
	Root, Dir  string
	Deviations []Deviation
	// Profile says whose the functions in a profile are, or is nil.
	Profile *Profile
	// Settings are what can be set on it.
	Settings Settings
}

// Profile are patterns of functions as the contender's /profile writes them.
type Profile struct {
	// Loader matches those of the loader, Runtime those of the language's runtime and standard library.
	Loader, Runtime []*regexp.Regexp
}

// Deviation is a place where a library breaks the contract and cannot be mended around; every report shows it.
type Deviation struct {
	ID string `yaml:"id"`
	// Rule is what of the contract is broken, in words.
	Rule string `yaml:"rule"`
	// Upstream is the library's issue.
	Upstream string `yaml:"upstream"`
	// Test is the test that shows it.
	Test string `yaml:"test"`
}

// manifest is contender.yaml as written.
type manifest struct {
	Name       string                 `yaml:"name"`
	Language   string                 `yaml:"language"`
	Version    []string               `yaml:"version"`
	Build      []string               `yaml:"build"`
	Start      []string               `yaml:"start"`
	Arms       map[string]manifestArm `yaml:"arms"`
	Deviations []Deviation            `yaml:"deviations"`
	Profile    *manifestProfile       `yaml:"profile"`
	// Settings are what can be set on any arm, and RuntimeSettings begin the names of what the language's runtime takes.
	Settings        map[string]Values `yaml:"settings"`
	RuntimeSettings []string          `yaml:"runtime_settings"`
}

type manifestProfile struct {
	Loader  []string `yaml:"loader"`
	Runtime []string `yaml:"runtime"`
}

type manifestArm struct {
	Tier        Tier              `yaml:"tier"`
	Environment map[string]string `yaml:"environment"`
	// Version, Build and Start replace the contender's, for an arm that differs in how it is built; BuildArguments do so
	// for its image. Such an arm has all four.
	Version        []string          `yaml:"version"`
	Build          []string          `yaml:"build"`
	Start          []string          `yaml:"start"`
	BuildArguments map[string]string `yaml:"build_arguments"`
}

var (
	contenderName   = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	armName         = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	environmentName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	// argumentValue is one that can stand in an image's name.
	argumentValue = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
)

// engineSets lists what the engine alone gives a server; a manifest or an arm that set it would break the comparison.
var engineSets = []string{"HOST", "PORT", "CONTRACT_DIR", "DATABASE_URL", "DATABASE_REPLICA_URL", "UPSTREAM_URL", "REDIS_URL"}

// Settings that are the engine's to carry out; no contender is told of them.
const (
	// Replica is on or off: off starts a contender without DATABASE_REPLICA_URL, so that it reads from the primary too.
	Replica = "REPLICA"
	// CPUs is on how many CPUs the contender runs, where that is not what the machine's placement gives it.
	CPUs = "CPUS"
)

// EngineSettings are those settings.
var EngineSettings = []string{CPUs, Replica}

// ReadsReplica tells whether the arm is given a replica to read from.
func (a Arm) ReadsReplica() bool { return a.Environment[Replica] != "off" }

// HasWorkers tells whether the arm has several processes, runtimes or threads with data of their own, where WORKERS says so.
func (a Arm) HasWorkers() bool {
	return slices.Contains([]string{"cluster", "workers", "workers-message", "per-core"}, a.Environment["CONCURRENCY_MODEL"])
}

// UsesRedis tells whether the arm has its master data in Redis.
func (a Arm) UsesRedis() bool { return a.Environment["MASTER"] == "redis" }

// MasterMB is how many MiB of master data in bulk a contender keeps in memory.
const MasterMB = "MASTER_MB"

// MasterMiB is how much master data in bulk the arm keeps.
func (a Arm) MasterMiB() int {
	n, _ := strconv.Atoi(a.Environment[MasterMB]) // was checked
	return n
}

// MostMasterMiB is how much any of the arms keeps.
func MostMasterMiB(arms []Arm) int {
	most := 0
	for _, arm := range arms {
		most = max(most, arm.MasterMiB())
	}
	return most
}

// CPUCount is on how many CPUs the arm asks to run; 0: on those of the machine's placement.
func (a Arm) CPUCount() int {
	n, _ := strconv.Atoi(a.Environment[CPUs]) // was checked
	return n
}

// SameCode tells whether two arms are one program with the same settings of the contract, and differ at most in those of the
// language's runtime, in what the engine carries out, and in how much data they keep that no request reads.
func (a Arm) SameCode(b Arm) bool {
	return a.Contender == b.Contender && maps.Equal(a.BuildArguments, b.BuildArguments) && maps.Equal(a.codeSettings(), b.codeSettings())
}

func (a Arm) codeSettings() map[string]string {
	out := maps.Clone(a.Environment)
	maps.DeleteFunc(out, func(name, _ string) bool {
		return name == MasterMB || slices.Contains(EngineSettings, name) || a.Settings.isRuntime(name)
	})
	return out
}

// Load reads the manifest of every contender of the repository at root and returns the contenders sorted by name.
func Load(root string) ([]Contender, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("find the repository: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(root, "*", ManifestName))
	if err != nil {
		return nil, fmt.Errorf("look for manifests: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no */%s in %s: is this the repository's root?", ManifestName, root)
	}
	var contenders []Contender
	owner := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		dir := filepath.Base(filepath.Dir(file))
		c, err := parse(text, root, dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, ManifestName), err)
		}
		for _, arm := range c.Arms {
			if other, taken := owner[arm.Name]; taken {
				return nil, fmt.Errorf("%s: arms: %q is already an arm of %s", filepath.Join(dir, ManifestName), arm.Name, filepath.Join(other, ManifestName))
			}
			owner[arm.Name] = dir
		}
		contenders = append(contenders, c)
	}
	sort.Slice(contenders, func(i, j int) bool { return contenders[i].Name < contenders[j].Name })
	for i := 1; i < len(contenders); i++ {
		if contenders[i].Name == contenders[i-1].Name {
			return nil, fmt.Errorf("two contenders are named %q: %s and %s", contenders[i].Name, contenders[i-1].Dir, contenders[i].Dir)
		}
	}
	return contenders, nil
}

// parse reads one manifest; an error names the key that is wrong.
func parse(text []byte, root, dir string) (Contender, error) {
	var m manifest
	if err := locate.DecodeYAML(text, &m, yaml.Strict()); err != nil {
		return Contender{}, err
	}
	switch {
	case !contenderName.MatchString(m.Name):
		return Contender{}, located(text, fmt.Errorf("name: %q is not a name of lower-case letters and digits", m.Name), "name")
	case m.Language == "":
		return Contender{}, errors.New("language: is missing")
	case len(m.Arms) == 0:
		return Contender{}, errors.New("arms: there is none")
	}
	for _, command := range []struct {
		key   string
		words []string
	}{{"version", m.Version}, {"build", m.Build}, {"start", m.Start}} {
		if len(command.words) == 0 || slices.Contains(command.words, "") {
			return Contender{}, located(text, fmt.Errorf("%s: expected a command as a list of words, got %q", command.key, command.words), command.key)
		}
	}
	for i, d := range m.Deviations {
		if d.ID == "" || d.Rule == "" || d.Upstream == "" || d.Test == "" {
			return Contender{}, located(text, fmt.Errorf("deviations[%d]: id, rule, upstream and test are all required", i), "deviations", fmt.Sprint(i))
		}
	}
	profile, err := m.Profile.patterns(text)
	if err != nil {
		return Contender{}, err
	}
	settings, err := m.settings(text)
	if err != nil {
		return Contender{}, err
	}
	// A Go map forgets the order in which the manifest lists the arms; tables keep to it.
	var ordered struct {
		Arms yaml.MapSlice `yaml:"arms"`
	}
	if err := locate.DecodeYAML(text, &ordered); err != nil {
		return Contender{}, err
	}
	c := Contender{
		Name: m.Name, Language: m.Language, Version: m.Version, Build: m.Build, Start: m.Start,
		Deviations: m.Deviations, Dir: dir, Profile: profile, Settings: settings,
	}
	for _, item := range ordered.Arms {
		name := fmt.Sprint(item.Key)
		arm, err := m.arm(name, root, dir)
		if err != nil {
			return Contender{}, located(text, fmt.Errorf("arms.%s: %w", strings.Join(strings.Fields(name), " "), err), "arms", name)
		}
		arm.Profile, arm.Settings = profile, settings
		if err := arm.checkEnvironment(); err != nil {
			return Contender{}, located(text, fmt.Errorf("arms.%s: environment: %w", name, err), "arms", name)
		}
		c.Arms = append(c.Arms, arm)
	}
	return c, nil
}

// patterns reads the regular expressions of a manifest's text.
func (m *manifestProfile) patterns(text []byte) (*Profile, error) {
	if m == nil {
		return nil, nil
	}
	p := &Profile{}
	for _, of := range []struct {
		key     string
		written []string
		into    *[]*regexp.Regexp
	}{{"loader", m.Loader, &p.Loader}, {"runtime", m.Runtime, &p.Runtime}} {
		if len(of.written) == 0 {
			return nil, located(text, fmt.Errorf("profile.%s: expected regular expressions of functions", of.key), "profile")
		}
		for i, written := range of.written {
			pattern, err := regexp.Compile(written)
			if err != nil || written == "" {
				return nil, located(text, fmt.Errorf("profile.%s[%d]: %q is no regular expression that matches functions", of.key, i, written), "profile", of.key, fmt.Sprint(i))
			}
			*of.into = append(*of.into, pattern)
		}
	}
	return p, nil
}

// located adds the line of what an error is about, where the manifest has it.
func located(text []byte, err error, path ...string) error {
	if place, ok := locate.YAML(text, path...); ok {
		return fmt.Errorf("line %d: %w", place.Line, err)
	}
	return err
}

// checkEnvironment tells what of the arm's own settings cannot be set.
func (a Arm) checkEnvironment() error {
	if !a.Settings.listed() {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(a.Environment)) {
		if key == "TIER" {
			continue
		}
		if err := a.Settings.check(key, a.Environment[key]); err != nil {
			return err
		}
	}
	return nil
}

// checkName tells what is wrong with a name that stands under a key of the manifest and is to be set for a server.
func checkName(under, name string) error {
	switch {
	case !environmentName.MatchString(name):
		return fmt.Errorf("%s: %q is not a name of upper-case letters, digits and _", under, name)
	case slices.Contains(engineSets, name):
		return fmt.Errorf("%s.%s: is set by the engine alone", under, name)
	}
	return nil
}

// arm makes the arm of that name out of the manifest.
func (m *manifest) arm(name, root, dir string) (Arm, error) {
	a := m.Arms[name]
	if !armName.MatchString(name) || (name != m.Name && !strings.HasPrefix(name, m.Name+"-")) {
		return Arm{}, fmt.Errorf("an arm of %q is named %q or %q", m.Name, m.Name, m.Name+"-something")
	}
	if !slices.Contains(tiers, a.Tier) {
		return Arm{}, fmt.Errorf("tier: got %q, expected one of %q", a.Tier, tiers)
	}
	for key := range a.Environment {
		if err := checkName("environment", key); err != nil {
			return Arm{}, err
		}
	}
	if tier, set := a.Environment["TIER"]; set && tier != string(a.Tier) {
		return Arm{}, fmt.Errorf("environment.TIER: is %q, but the arm's tier is %q", tier, a.Tier)
	}
	arm := Arm{
		Name: name, Base: name, Contender: m.Name, Language: m.Language, Tier: a.Tier,
		Environment: map[string]string{"TIER": string(a.Tier)},
		Build:       m.Build, Start: m.Start, Version: m.Version,
		Root: root, Dir: dir, Deviations: m.Deviations,
	}
	for key, value := range a.Environment {
		arm.Environment[key] = value
	}
	if len(a.Version) == 0 && len(a.Build) == 0 && len(a.Start) == 0 && len(a.BuildArguments) == 0 {
		return arm, nil
	}
	for _, command := range []struct {
		key   string
		words []string
	}{{"version", a.Version}, {"build", a.Build}, {"start", a.Start}} {
		if len(command.words) == 0 || slices.Contains(command.words, "") {
			return Arm{}, fmt.Errorf("%s: expected a command as a list of words, got %q: an arm that is built otherwise has version, build, start and build_arguments", command.key, command.words)
		}
	}
	if len(a.BuildArguments) == 0 {
		return Arm{}, errors.New("build_arguments: there is none, but the arm is built otherwise than its contender")
	}
	for key, value := range a.BuildArguments {
		switch {
		case !environmentName.MatchString(key) || strings.HasSuffix(key, "_IMAGE"):
			return Arm{}, fmt.Errorf("build_arguments: %q is not a name of upper-case letters, digits and _, or is that of a base image", key)
		case !argumentValue.MatchString(value):
			return Arm{}, fmt.Errorf("build_arguments.%s: %q is not of lower-case letters, digits and single hyphens", key, value)
		}
	}
	arm.Version, arm.Build, arm.Start, arm.BuildArguments = a.Version, a.Build, a.Start, a.BuildArguments
	return arm, nil
}

// Arms returns the arms of all contenders in their order.
func Arms(contenders []Contender) []Arm {
	var arms []Arm
	for _, c := range contenders {
		arms = append(arms, c.Arms...)
	}
	return arms
}

// Resolve finds the arm written as NAME[+KEY=VALUE…], such as "go-floor" or "rust+LOADER=off+MASTER=none".
func Resolve(contenders []Contender, text string) (Arm, error) {
	name, rest, hasSettings := strings.Cut(text, "+")
	var names []string
	for _, arm := range Arms(contenders) {
		names = append(names, arm.Name)
		if arm.Name != name {
			continue
		}
		if !hasSettings {
			return arm.with(nil), nil
		}
		changed, err := arm.Settings.parse(rest)
		if err != nil {
			return Arm{}, fmt.Errorf("contender %q: %w", text, err)
		}
		return arm.with(changed), nil
	}
	return Arm{}, fmt.Errorf("contender %q is not known; there are: %s", name, strings.Join(names, ", "))
}

// with returns a copy of the arm with more settings, named after them.
func (a Arm) with(changed map[string]string) Arm {
	environment := make(map[string]string, len(a.Environment)+len(changed))
	for key, value := range a.Environment {
		environment[key] = value
	}
	keys := make([]string, 0, len(changed))
	for key, value := range changed {
		environment[key] = value
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		a.Name += "+" + key + "=" + changed[key]
	}
	a.Environment = environment
	return a
}

// Version is what a contender's program says of itself when run with --version: one JSON line.
type Version struct {
	Name            string            `json:"name"`
	Language        string            `json:"language"`
	LanguageVersion string            `json:"language_version"`
	Libraries       map[string]string `json:"libraries"`
}

// ParseVersion reads the line that a contender's version command printed.
func ParseVersion(output []byte) (Version, error) {
	line := bytes.TrimSpace(output)
	if len(line) == 0 || bytes.ContainsRune(line, '\n') {
		return Version{}, fmt.Errorf("expected one line of JSON, got %d bytes in %d lines", len(line), bytes.Count(line, []byte("\n"))+1)
	}
	var v Version
	if err := json.Unmarshal(line, &v); err != nil {
		return Version{}, fmt.Errorf("expected one line of JSON: %w", err)
	}
	if v.Name == "" || v.Language == "" || v.LanguageVersion == "" {
		return Version{}, fmt.Errorf("name, language and language_version are required, got %s", line)
	}
	return v, nil
}
