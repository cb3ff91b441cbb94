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
			if more := particular[id]; all && more != nil {
				more(t, l, entered(t, l, id))
			}
		})
	}
}

// particular are truths of one scenario that a factor of two in its figure is not: of what makes the figure.
var particular = map[string]func(*testing.T, *lab, record.Scenario){"io-bound": nearDoubles, "cluster-memory": copyDoubles}

// nearDoubles has two servers that ask the database as often, of which one needs twice as long itself: behind the scenario's
// delay nobody notices, and where the database is near the same two contradict the claim.
func nearDoubles(t *testing.T, l *lab, s record.Scenario) {
	s.Pairs = s.Pairs[:1]
	s.Arms = s.Pairs[0][:]
	for want, delayed := range map[string]bool{claims.Holds: true, claims.Contradicted: false} {
		t.Run(map[bool]string{true: "behind a delay", false: "without a delay"}[delayed], func(t *testing.T) {
			verdicts := measureDoubles(t, l, s, func(arm string) double.Behaviour {
				b := double.Behaviour{Statements: 2, Wait: time.Millisecond}
				if arm == s.Arms[1] {
					b.Wait *= 2
				}
				return b
			}, func(st *study) {
				st.RateRPS = 40 // which the few connections of a double carry
				if !delayed {
					st.Delays = nil
				}
			})
			require.Len(t, verdicts, 1)
			t.Logf("%s, ratio %s (%s)", verdicts[0].Verdict, ratioSaid(verdicts[0]), verdicts[0].Reason)
			assert.Equal(t, want, verdicts[0].Verdict)
		})
	}
}

// copyDoubles has a cluster of two processes beside one process: the claim holds where each of the two has a copy, and does not
// where both have the same one, of which neither has more.
func copyDoubles(t *testing.T, l *lab, s record.Scenario) {
	s.Pairs = s.Pairs[:1]
	one, cluster := s.Pairs[0][0], s.Pairs[0][1]
	s.Arms = []string{one, s.Baselines[one], cluster, s.Baselines[cluster]}
	for _, c := range []struct {
		says     string
		shared   bool
		verdicts []string
		ratio    float64
	}{
		{"a copy each", false, []string{claims.Holds}, 0.5},
		// Too close, as they are alike; of so few blocks chance may decide, and half of the time against the claim.
		{"one copy that both share", true, []string{claims.TooClose, claims.Contradicted}, 1},
	} {
		t.Run(c.says, func(t *testing.T) {
			verdicts := measureDoubles(t, l, s, func(arm string) double.Behaviour {
				b := double.Behaviour{MemoryMiB: 400}
				if arm != one && arm != cluster {
					b.MemoryMiB = 20 // what it grows from
				}
				if arm == cluster || arm == s.Baselines[cluster] {
					b.Processes, b.Shared = 2, c.shared
				}
				return b
			}, nil)
			require.Len(t, verdicts, 1)
			t.Logf("%s, ratio %s (%s)", verdicts[0].Verdict, ratioSaid(verdicts[0]), verdicts[0].Reason)
			assert.Contains(t, c.verdicts, verdicts[0].Verdict)
			if assert.NotNil(t, verdicts[0].Ratio) {
				assert.InDelta(t, c.ratio, *verdicts[0].Ratio, 0.05)
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

// compareDoubles measures a scenario whose arms are doubles that differ in its figure by their levels.
func compareDoubles(t *testing.T, l *lab, s record.Scenario, level func(arm string) float64) []record.Verdict {
	t.Helper()
	return measureDoubles(t, l, s, func(arm string) double.Behaviour { return behaviourOf(s, level(arm)) }, nil)
}

// measureDoubles measures a scenario whose arms are doubles, as compare does, with trials as short as its metric bears. change
// makes it another scenario than its file says, or is nil.
func measureDoubles(t *testing.T, l *lab, s record.Scenario, behaviourOf func(arm string) double.Behaviour, change func(*study)) []record.Verdict {
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
	if s.Metric == contract.MetricMedianSecond {
		profiles[0].rate = contract.FewestSeconds * time.Second
	}
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
		if change != nil {
			change(st)
		}
		for i := range st.arms {
			arm := &st.arms[i]
			behaviour, err := json.Marshal(behaviourOf(arm.Name))
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
