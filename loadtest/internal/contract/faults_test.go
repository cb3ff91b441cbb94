package contract

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const faultsText = `id: pool-recovery
claim: broken connections are thrown away
arms: [go, node]
operation: q2
rate_rps: 50
load: [rate]
duration: 10s
faults:
  - {kind: backends_killed, at: 1s}
  - {kind: packets_stalled, at: 4s, lasts: 500ms}
metric: recovery_ns
rule: within
bound: 1s
alpha: 0.05
margin: 1.05
changed_by: nothing
`

// What is wrong with a scenario's faults is named by its key, with what is expected.
func TestBadFaultsAreNamed(t *testing.T) {
	s, err := parseScenario([]byte(faultsText))
	require.NoError(t, err)
	assert.Len(t, s.Faults, 2)
	assert.Equal(t, [][2]string{{"go", Bound}, {"node", Bound}}, s.Compared())
	for name, c := range map[string]struct{ from, to, key, says string }{
		"a kind that is none":              {"backends_killed", "redis_eaten", "kind", "backends_killed"},
		"without a moment":                 {"backends_killed, at: 1s", "backends_killed", "at", "from the trial's beginning"},
		"a moment without its unit":        {"at: 1s", "at: 1", "", "expected a time with its unit, up to 2m0s, as in 14s"},
		"one that lasts, without how long": {", lasts: 500ms", "", "lasts", "after how long it is taken back"},
		"one that does not last":           {"at: 1s", "at: 1s, lasts: 1s", "lasts", "nothing: backends_killed is over when it was caused"},
		"a delay where there is none":      {"at: 1s", "at: 1s, delay: 1s", "delay", "nothing: backends_killed adds no delay"},
		"a slow service without a delay":   {"kind: packets_stalled", "kind: upstream_slow", "delay", "what it adds to each round trip"},
		"too near to the next":             {"at: 4s", "at: 2s", "at", "at least twice the bound (1s)"},
		"too near to the trial's end":      {"duration: 10s", "duration: 6s", "at", "at least twice the bound (1s)"},
		"borne into the trial's end":       {"packets_stalled, at: 4s, lasts: 500ms", "redis_gone, at: 4s, lasts: 7s", "lasts", "over before the next fault"},
		"a delay within the bound":         {"packets_stalled, at: 4s, lasts: 500ms", "upstream_slow, at: 4s, lasts: 1s, delay: 900ms", "delay", "at least the bound (1s)"},
		"borne for too short to tell":      {"packets_stalled", "redis_gone", "lasts", "at least the bound (1s)"},
		"beyond what is borne":             {"[rate]", "[rate, throughput]", "load", "[rate] alone"},
		"a rule that has no bound":         {"rule: within", "rule: equal", "bound", "a time with rule within, and with no other"},
		"without a bound":                  {"bound: 1s\n", "", "bound", "a time with rule within"},
		"a bound of another metric":        {"recovery_ns", "latency_p50_ns", "rule", "another, or metric recovery_ns"},
		"pairs beside a bound":             {"bound: 1s", "bound: 1s\npairs: [[go, node]]", "pairs", "none: each arm is held against the bound"},
		"an arm of the bound's name":       {"[go, node]", "[go, bound]", "arms", "none of the name"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, faultsText, c.from)
			_, err := parseScenario([]byte(strings.Replace(faultsText, c.from, c.to, 1)))
			require.ErrorContains(t, err, c.key)
			require.ErrorContains(t, err, c.says)
		})
	}
	without := strings.Split(faultsText, "faults:")[0] + "metric:" + strings.Split(faultsText, "metric:")[1]
	_, err = parseScenario([]byte(without))
	require.ErrorContains(t, err, "some, since the metric is the time to recover from them")
}
