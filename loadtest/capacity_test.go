package main

import (
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/record"
)

func TestCapacityFlags(t *testing.T) {
	for name, c := range map[string]struct {
		profile string
		args    []string
		on      bool
		slo     capacity.SLO
		said    []string
		says    string
	}{
		"quick does not by itself":       {"quick", nil, false, capacity.Default, nil, ""},
		"quick when asked":               {"quick", []string{"--capacity"}, true, capacity.Default, []string{"--capacity=true"}, ""},
		"standard does":                  {"standard", nil, true, capacity.Default, nil, ""},
		"nightly does":                   {"nightly", []string{"--slo", "p50=5ms"}, true, capacity.SLO{Percentile: "p50", Limit: 5 * time.Millisecond}, []string{"--slo", "p50=5ms"}, ""},
		"standard when told not to":      {"standard", []string{"--capacity=false"}, false, capacity.Default, []string{"--capacity=false"}, ""},
		"an objective that is none":      {"standard", []string{"--slo", "p95=1s"}, false, capacity.SLO{}, nil, `--slo: percentile "p95": expected one of p50, p90, p99, p99.9`},
		"an objective without a search":  {"quick", []string{"--slo", "p99=1s"}, false, capacity.SLO{}, nil, "add --capacity"},
		"a limit without its unit":       {"standard", []string{"--slo", "p99=100"}, false, capacity.SLO{}, nil, "a number with its unit"},
		"an objective, and told not to":  {"nightly", []string{"--capacity=false", "--slo", "p99=1s"}, false, capacity.SLO{}, nil, "add --capacity"},
		"every profile has its times":    {"smoke", []string{"--capacity"}, true, capacity.Default, []string{"--capacity=true"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := flag.NewFlagSet("compare", flag.ContinueOnError)
			read := capacityFlags(f)
			require.NoError(t, f.Parse(c.args))
			got, said, err := read(c.profile)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.on, got.on)
			assert.Equal(t, c.slo, got.slo)
			assert.Equal(t, c.said, said)
			assert.Positive(t, got.times.budget)
		})
	}
	for _, p := range profiles {
		times, ok := capacityTimesOf[p.name]
		require.True(t, ok, p.name)
		assert.Positive(t, times.ceiling)
		assert.Positive(t, times.step)
		assert.Positive(t, times.curve)
	}
}

func TestCurvePoints(t *testing.T) {
	arms := []contender.Arm{{Name: "go"}, {Name: "node"}}
	rates := func(arm string, points []point) []float64 {
		var out []float64
		for _, p := range points {
			if p.arm.Name == arm {
				out = append(out, p.rps)
			}
		}
		return out
	}
	points := curvePoints(arms, map[string]float64{"go": 1000, "node": 400}, 19)
	assert.Equal(t, []float64{100, 200, 250, 300, 500, 750, 900}, rates("go", points), "shares of its own, and of the weakest")
	assert.Equal(t, []float64{100, 200, 300, 360}, rates("node", points), "none twice")
	points = curvePoints(arms, map[string]float64{"go": 1000, "node": 400}, 240)
	assert.Equal(t, []float64{300, 360}, rates("node", points), "none that its requests could not carry")
}

func TestLeastRate(t *testing.T) {
	need, err := capacity.Default.Requests()
	require.NoError(t, err)
	assert.InDelta(t, 19, leastRate(need), 1e-9)
}

func TestNearTheGeneratorsCeiling(t *testing.T) {
	ceiling := 5000.0
	s := &session{run: record.Run{GeneratorCeilingRPS: &ceiling}}
	trial := func(sent uint64) record.Trial {
		return record.Trial{Sent: sent, DurationNS: int64(2 * time.Second), ElapsedNS: int64(time.Second)}
	}
	assert.True(t, s.nearCeiling(trial(8000)), "4000 a second are within 20 % of 5000")
	assert.False(t, s.nearCeiling(trial(7990)))
	assert.False(t, (&session{}).nearCeiling(trial(8000)), "nothing is near what is not known")
}
