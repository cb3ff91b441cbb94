package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/conformance"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/double"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/native"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/trial"
)

// doublesVariable has the scenarios whose claims are made true and false with doubles, or all of them: that takes an hour and
// a half. Without it one is, between two of its arms.
const doublesVariable = "LAB_DOUBLES"

// doublesAlways is one whose figure is a count: where tests run beside each other, trials may be void, and a verdict that
// hangs on time would be chance.
const doublesAlways = "n-plus-one"

// Each scenario's claim is made true and then false by a factor of two, with servers of known behaviour in place of its
// arms: real processes, a real database, real load. The verdict must follow.
func TestClaimsFollowDoubles(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	asked := os.Getenv(doublesVariable)
	all := asked != ""
	if !all {
		asked = doublesAlways
	}
	chosen, err := contract.Named(l.scenarios, asked)
	require.NoError(t, err)
	for _, scenario := range chosen {
		id := scenario.ID
		t.Run(id, func(t *testing.T) {
			if id == libraryScenario {
				outweighDoubles(t, l)
				return
			}
			s := entered(t, l, id)
			if !all {
				s.Pairs = s.Pairs[:1]
				s.Arms = s.Pairs[0][:]
			}
			alike, halved, doubled, spread := truths(s)
			truth := map[string]func(string) float64{claims.Holds: halved, claims.Contradicted: doubled}
			if scenario.Rule == contract.RuleEqual {
				truth = map[string]func(string) float64{claims.Holds: alike, claims.Contradicted: spread}
			}
			for want, level := range truth {
				t.Run(want, func(t *testing.T) {
					verdicts := compareDoubles(t, l, s, level)
					var said []string
					for _, v := range verdicts {
						said = append(said, fmt.Sprintf("%s: %s, ratio %s (%s)", strings.Join(v.Arms[:], " and "), v.Verdict, ratioSaid(v), v.Reason))
					}
					if all {
						assert.Equal(t, want, claims.Overall(verdicts), "%s", strings.Join(said, "\n"))
						return
					}
					require.Len(t, verdicts, 1)
					assert.Contains(t, []string{want, claims.Untested}, verdicts[0].Verdict, "%s", said)
				})
			}
		})
	}
}

// outweighDoubles makes the claim of the library true, by a library that halves what its language needs and languages that need
// as much as each other, and false, by languages that need twice as much and a library that changes nothing. That two of its
// arms differ is for the audit, which compares an arm with itself.
func outweighDoubles(t *testing.T, l *lab) {
	s := record.Scenario{ID: libraryScenario, Metric: "cpu_us_per_request", Arms: []string{"go", "node", "rust", "node-compiled"}, Pairs: make([][2]string, 3)}
	for want, levels := range map[string]map[string]float64{
		claims.Holds:        {"node-compiled": 0.5},
		claims.Contradicted: {"go": 2, "rust": 0.5},
	} {
		t.Run(want, func(t *testing.T) {
			verdicts := compareDoubles(t, l, s, func(arm string) float64 {
				if level, ok := levels[arm]; ok {
					return level
				}
				return 1
			})
			verdicts = slices.DeleteFunc(verdicts, func(v record.Verdict) bool { return v.Library == nil })
			require.Len(t, verdicts, 3)
			assert.Equal(t, want, claims.Overall(verdicts), "%+v", verdicts)
		})
	}
}

func ratioSaid(v record.Verdict) string {
	if v.Ratio == nil {
		return "none"
	}
	return fmt.Sprintf("%.3f", *v.Ratio)
}

// entered is what the record says of a scenario.
func entered(t *testing.T, l *lab, id string) record.Scenario {
	t.Helper()
	c, err := newComparison(l, compareOptions{profile: "quick", scenario: id})
	require.NoError(t, err)
	require.NoError(t, c.choose())
	var r record.Run
	c.studies[0].enter(&r, nil)
	return r.Scenarios[0]
}

// behaviourOf makes a double whose figure of a metric is a level times what it is for others.
func behaviourOf(s record.Scenario, level float64) double.Behaviour {
	scaled := func(d time.Duration) time.Duration { return time.Duration(level * float64(d)) }
	switch s.Metric {
	case contract.MetricGrowth: // alone a client waits, many are bounded by the CPU, which all need alike
		return double.Behaviour{Wait: scaled(20 * time.Millisecond), Work: 40}
	case "achieved_rps":
		return double.Behaviour{Work: int(40 / level)}
	case "statements_per_request":
		return double.Behaviour{Statements: int(8 * level)}
	case "memory_pss_peak_bytes":
		return double.Behaviour{MemoryMiB: int(400 * level)}
	case "cold_start_ns":
		return double.Behaviour{Start: scaled(2 * time.Second)}
	case "database_primary_cpu_us_per_request":
		return double.Behaviour{PrimaryRows: int(40_000 * level)}
	case contract.MetricRecovery:
		of := func(kind contract.FaultKind) bool {
			return slices.ContainsFunc(s.Faults, func(f record.PlannedFault) bool { return f.Kind == string(kind) })
		}
		broken, killed := scaled(time.Duration(s.BoundNS)), of(contract.FaultWorkerKilled)
		if killed {
			broken -= 400 * time.Millisecond // a start is some of it
		}
		return double.Behaviour{Broken: broken, Bears: of(contract.FaultRedisGone), Supervised: killed}
	case contract.MetricHandOver, contract.MetricLoader:
		return double.Behaviour{Bench: 1000 * level}
	case "cpu_us_per_request":
		return double.Behaviour{Work: int(60 * level)}
	}
	return double.Behaviour{Wait: scaled(20 * time.Millisecond)} // latencies
}

// compareDoubles measures a scenario whose arms are doubles, as compare does, with trials as short as its metric bears.
func compareDoubles(t *testing.T, l *lab, s record.Scenario, level func(arm string) float64) []record.Verdict {
	t.Helper()
	const ms = time.Millisecond
	binary := filepath.Join(l.root, "bin", "loadtest")
	require.FileExists(t, binary, "run `make build-loadtest` first")
	all := profiles
	t.Cleanup(func() { profiles = all })
	profiles = []profile{{
		name: "smoke", size: "small", form: conformance.Short, blocks: 2, floorBlocks: 1, repeats: 8, budget: time.Hour,
		pilotWarm: 200 * ms, pilot: 400 * ms, warm: trial.Warmth{Window: 100 * ms, Most: 300 * ms}, rate: 700 * ms, throughput: 700 * ms,
		capacity: capacityTimes{ceiling: 200 * ms},
	}}
	profiles[0].blocks = stats.MinPairs(claims.Alpha, max(1, len(s.Pairs)))
	c, err := newComparison(l, compareOptions{profile: "smoke", engine: "native", scenario: s.ID, contenders: strings.Join(s.Arms, ","), seed: 7, power: 100 * defaultPower})
	require.NoError(t, err)
	c.proofs = allConformant
	c.openEngine = func(ctx context.Context, _ string, log func(string)) (engine.Engine, error) {
		return native.New(ctx, native.Options{Root: l.root, Contract: l.contract, Log: log, Binary: binary})
	}
	c.questions = func(ctx context.Context, d engine.Database, names ...string) ([]question, error) {
		out, err := l.questions(ctx, d, names...)
		for i := range out {
			out[i].statements = nil // a double has its own
		}
		return out, err
	}
	c.report = func(context.Context, string, streams) error { return nil }
	require.NoError(t, c.anew())
	for _, st := range c.studies {
		st.Staleness = false // a double's data never changes
		for i := range st.arms {
			arm := &st.arms[i]
			behaviour, err := json.Marshal(behaviourOf(s, level(arm.Name)))
			require.NoError(t, err)
			arm.Start, arm.Version = []string{binary, "double"}, []string{"echo", `{"name":"double","language":"go","language_version":"0","libraries":{}}`}
			environment := map[string]string{double.Variable: string(behaviour)}
			for _, name := range []string{"REPLICA", "CPUS", "MASTER"} { // what the engine carries out, Redis for who asks for it
				if value, ok := arm.Environment[name]; ok {
					environment[name] = value
				}
			}
			arm.Environment = environment
		}
	}
	c.arms = c.union()
	return slices.DeleteFunc(carriedOut(t, c).Verdicts, func(v record.Verdict) bool { return v.Scenario != s.ID })
}

// carriedOut is the record of a comparison that was settled.
func carriedOut(t *testing.T, c *comparison) record.Run {
	t.Helper()
	folder, err := record.Create(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, err)
	var out bytes.Buffer
	errs := &lockedBuffer{}
	require.Equal(t, exitOK, c.run(t.Context(), folder, time.Now().UTC(), streams{Out: &out, Err: errs}), errs)
	saved, err := record.Open(folder.Path())
	require.NoError(t, err)
	return saved.Run
}
