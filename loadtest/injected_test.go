package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/native"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/trial"
)

// injectVariable has the scenarios in which an effect is injected into a real server, or all of them: that takes most of an
// hour. Without it one is, whose figure is a count (see doublesAlways).
const injectVariable = "LAB_INJECT"

// injectEngine has the engine in which it is done: native, if it is not set, or docker, whose build of the images takes minutes.
const injectEngine = "LAB_INJECT_ENGINE"

// injectedFactor is what is injected. With 1 nothing is, and the test has to fail.
const injectedFactor = 2

// The server that an effect is injected into, beside itself under two other names: one that has twice of what its scenario is
// decided by (or half, of a throughput), and one that has the same.
const (
	plainArm   = "go"
	clusterArm = "node-cluster" // where a worker is killed, and one is needed
	twice      = "-twice"
	same       = "-same"
)

// plainOf is that server of a scenario.
func plainOf(s contract.Scenario) string {
	if slices.ContainsFunc(s.Faults, func(f contract.Fault) bool { return f.Kind == contract.FaultWorkerKilled }) {
		return clusterArm
	}
	return plainArm
}

// In each scenario a real server, under real load, is held against itself with a factor of two injected into what decides. The
// verdict must be decided, and must follow what was injected.
func TestAFactorOfTwoIsDecidedOnRealServers(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	asked := os.Getenv(injectVariable)
	all := asked != ""
	if all {
		release, err := engine.Lock(os.Args)
		require.NoError(t, err)
		defer release()
	} else {
		asked = doublesAlways
	}
	chosen, err := contract.Named(l.scenarios, asked)
	require.NoError(t, err)
	for _, scenario := range chosen {
		t.Run(scenario.ID, func(t *testing.T) {
			began := time.Now()
			file, expected := injectedScenario(scenario)
			run := compareInjected(t, l, file, !all)
			for _, x := range run.Trials {
				if x.Void != nil {
					t.Logf("void: %s: %s", x.ID, *x.Void)
				}
			}
			for _, x := range expected {
				v := x.in(t, run)
				t.Log(verdictSaid(v))
				want := x.verdicts
				if !all {
					want = append(slices.Clone(want), claims.Untested) // beside other tests, trials may be void
				}
				assert.Contains(t, want, v.Verdict, verdictSaid(v))
				if x.ratio > 0 && v.Ratio != nil {
					assert.InDelta(t, math.Log(x.ratio), math.Log(*v.Ratio), math.Log(injectedTolerance), "what was injected is no factor of two: %s", verdictSaid(v))
				}
			}
			t.Logf("%s took %v", scenario.ID, time.Since(began).Round(time.Second))
		})
	}
}

// injectedTolerance is the factor by which a ratio may miss the one that was injected, up or down: else another effect was decided
// than the one that the test is about.
const injectedTolerance = 1.5

// expectation is what the verdict of two arms must be.
type expectation struct {
	arms     [2]string
	verdicts []string
	// ratio is what was injected, or 0.
	ratio float64
	// over are the libraries of the claim that a library outweighs a language, whose languages are the arms; else nil.
	over *[2]string
}

// in is the verdict of a run's trials. Where the run's own claim says it the other way round, the same trials are held against
// that claim: a scenario compares no two arms twice, and what the trials are does not hang on what is claimed of them.
func (x expectation) in(t *testing.T, r record.Run) record.Verdict {
	t.Helper()
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if mirrored := [2]string{x.arms[1], x.arms[0]}; !slices.Contains(s.Pairs, x.arms) && slices.Contains(s.Pairs, mirrored) {
			s.Pairs = slices.Clone(s.Pairs)
			s.Pairs[slices.Index(s.Pairs, mirrored)] = x.arms
		}
	}
	if x.over != nil {
		claim := *r.Outweighs
		claim.Library, claim.Pairs = *x.over, [][2]string{x.arms}
		r.Outweighs = &claim
	}
	for _, v := range claims.Of(r) {
		if v.Arms == x.arms && (v.Library != nil) == (x.over != nil) {
			return v
		}
	}
	require.Fail(t, "no verdict", "%v", x.arms)
	return record.Verdict{}
}

func verdictSaid(v record.Verdict) string {
	said := strings.Join(v.Arms[:], " and ")
	if v.Library != nil {
		said = strings.Join(v.Library[:], " and ") + " over " + said
	}
	if v.Ratio != nil {
		said += fmt.Sprintf(", ratio %.3f", *v.Ratio)
	}
	if v.RatioLow != nil {
		said += fmt.Sprintf(" (%.3f–%.3f)", *v.RatioLow, *v.RatioHigh)
	}
	if v.NoiseFloor != nil {
		said += fmt.Sprintf(", noise floor %.3f", *v.NoiseFloor)
	}
	return fmt.Sprintf("%s: %s (%s)", said, v.Verdict, v.Reason)
}

// injectedScenario is a scenario as its file has it, but for its arms and pairs, and what they must come to.
func injectedScenario(s contract.Scenario) (contract.Scenario, []expectation) {
	with := injectedSettings(s)
	name := plainOf(s)
	plain, twice, same := name+with, name+twice+with, name+same+with
	s.Arms = []string{plain, twice}
	if baselines := s.Baselines; baselines != nil {
		baseline := strings.TrimPrefix(baselines[plain], name)
		s.Baselines = map[string]string{plain: name + baseline, twice: strings.TrimSuffix(twice, with) + baseline}
		s.Arms = append(s.Arms, s.Baselines[plain], s.Baselines[twice])
	}
	decided := func(verdict string, ratio float64, a, b string) expectation {
		return expectation{arms: [2]string{a, b}, verdicts: []string{verdict}, ratio: ratio}
	}
	switch s.Rule {
	case contract.RuleLess:
		less, more := plain, twice
		if s.Metric == "achieved_rps" {
			less, more = twice, plain
		}
		s.Pairs = [][]string{{less, more}}
		return s, []expectation{decided(claims.Holds, 1./2, less, more), decided(claims.Contradicted, 2, more, less)}
	case contract.RuleEqual:
		s.Arms = append(s.Arms, same)
		s.Pairs = [][]string{{plain, twice}, {plain, same}}
		return s, []expectation{
			decided(claims.Contradicted, 1./2, plain, twice),
			{arms: [2]string{plain, same}, verdicts: []string{claims.Holds, claims.TooClose}},
		}
	case contract.RuleWithin:
		s.Pairs = nil
		return s, []expectation{decided(claims.Contradicted, 2, twice, contract.Bound), decided(claims.Holds, 0, plain, contract.Bound)}
	}
	// Of the library: a language that costs twice as much, a library that does, and either that changes nothing.
	s.Arms = append(s.Arms, same)
	s.Outweighs = &contract.Outweighs{Library: []string{plain, twice}, Pairs: [][]string{{plain, same}}}
	return s, []expectation{
		decided(claims.Holds, 1./2, plain, twice),
		{arms: [2]string{plain, same}, verdicts: []string{claims.TooClose}},
		{arms: [2]string{plain, same}, verdicts: []string{claims.Holds}, over: &[2]string{plain, twice}},
		{arms: [2]string{plain, twice}, verdicts: []string{claims.Contradicted}, over: &[2]string{plain, same}},
	}
}

// injectedSettings are those of the server's arm that the scenario compares, and what an effect needs in order to be one.
func injectedSettings(s contract.Scenario) string {
	switch s.Metric {
	case "database_primary_cpu_us_per_request":
		return "+REPLICA=off" // where the replica is read, the primary does nothing of which there could be twice
	case "cpu_us_per_request", "achieved_rps":
		return "+CPUS=1" // so that what burns it takes it from the server
	}
	for _, pair := range s.Compared() {
		for _, arm := range pair {
			if name, _, _ := strings.Cut(arm, "+"); name == plainOf(s) {
				return strings.TrimPrefix(arm, name)
			}
		}
	}
	return ""
}

// named is the lab with the arms that this test has beside the contender's own, and with that one scenario.
func (l *lab) named(s contract.Scenario) *lab {
	out := *l
	out.scenarios = []contract.Scenario{s}
	out.contenders = slices.Clone(l.contenders)
	for i, c := range out.contenders {
		for _, arm := range c.Arms {
			if arm.Name != plainOf(s) {
				continue
			}
			c.Arms = slices.Clone(c.Arms)
			for _, name := range []string{arm.Name + twice, arm.Name + same} {
				again := arm
				again.Name, again.Base, again.Environment = name, name, maps.Clone(arm.Environment)
				c.Arms = append(c.Arms, again)
			}
			out.contenders[i] = c
			break
		}
	}
	return &out
}

// compareInjected measures a scenario as a night does, with no more blocks than can decide.
func compareInjected(t *testing.T, l *lab, s contract.Scenario, short bool) record.Run {
	t.Helper()
	const ms = time.Millisecond
	binary := filepath.Join(l.root, "bin", "loadtest")
	require.FileExists(t, binary, "run `make build-loadtest build-go build-node` first")
	c, err := newComparison(l.named(s), compareOptions{profile: "nightly", engine: cmp.Or(os.Getenv(injectEngine), "native"), scenario: s.ID, seed: 7, power: 100 * defaultPower})
	require.NoError(t, err)
	c.profile.capacity.ceiling = 200 * ms
	if short {
		c.profile.size = "small"
		c.profile.pilotWarm, c.profile.pilot, c.profile.warm, c.profile.rate, c.profile.throughput = 200*ms, 400*ms, trial.Warmth{Window: 100 * ms, Most: 300 * ms}, 700*ms, 400*ms
	}
	c.profile.blocks = stats.MinPairs(claims.Alpha, len(s.Compared()))
	c.proofs = allConformant // of the server under its own name make conformance is the proof
	c.report = func(context.Context, string, streams) error { return nil }
	require.NoError(t, c.anew())
	e := &injecting{metric: s.Metric, factor: injectedFactor, bound: time.Duration(s.Bound), seed: c.options.seed}
	c.openEngine = func(ctx context.Context, name string, log func(string)) (_ engine.Engine, err error) {
		if name == "native" {
			e.Engine, err = native.New(ctx, native.Options{Root: l.root, Contract: l.contract, Log: log, Binary: binary})
		} else {
			e.Engine, err = l.engine(ctx, name, log)
		}
		return e, err
	}
	c.questions = func(ctx context.Context, d engine.Database, names ...string) ([]question, error) {
		out, err := l.questions(ctx, d, names...)
		if err == nil {
			e.first = out[len(out)-1] // which a process is asked first
		}
		return out, err
	}
	if e.late() {
		var r record.Run
		c.studies[0].enter(&r, nil)
		rule := claims.RuleOf(r.Scenarios[0])
		if e.value = rule.Per; e.value == nil {
			e.value = rule.Value
		}
		c.try = e.levelled
	}
	return carriedOut(t, c)
}
