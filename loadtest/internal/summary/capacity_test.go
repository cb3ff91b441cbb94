package summary

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"lab/loadtest/internal/record"
)

func TestCapacityText(t *testing.T) {
	number := func(x float64) *float64 { return &x }
	for want, c := range map[string]record.Capacity{
		"500–520":    {LowRPS: 500, HighRPS: number(520)},
		"at least 5": {LowRPS: 5},
		"below 19":   {HighRPS: number(19)},
		"not found":  {},
		"18.5–19":    {LowRPS: 18.5, HighRPS: number(19)},
	} {
		assert.Equal(t, want, CapacityText(c))
	}
}

func TestCapacitiesOnTheScreen(t *testing.T) {
	r := run()
	assert.NotContains(t, Text(r), "Capacity")
	before := Groups(r)
	ceiling, high := 5000.0, 520.0
	r.GeneratorCeilingRPS = &ceiling
	slow := int64(time.Second)
	r.Trials = append(r.Trials,
		record.Trial{ID: "a", Arm: "go", Operation: "q2", Load: record.LoadCapacity, RateRPS: 500, Sent: 1000, OK: 1000, Bottleneck: "none"},
		record.Trial{ID: "b", Arm: "go", Operation: "q2", Load: record.LoadCapacity, RateRPS: 520, Sent: 1000, OK: 1000, LatencyP99NS: slow, Bottleneck: "pool", NearGeneratorCeiling: true})
	r.Capacities = []record.Capacity{{Arm: "go", SLO: "p99=100ms", LowRPS: 500, HighRPS: &high, Steps: []string{"a", "b"}, Note: "ended early: no more time"}}
	text := Text(r)
	assert.Contains(t, text, "the highest rate with p99 under 100ms and no failure lies between")
	assert.Regexp(t, `go +500–520 /s +not confirmed +2 trials +held back by: pool +ended early: no more time`, text)
	assert.Contains(t, text, "keeps its schedule up to 5000 requests a second. Within 20 % of that: 1 trial.")
	assert.Equal(t, before, Groups(r), "trials of a search are in no figure of the blocks")
}
