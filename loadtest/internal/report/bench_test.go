package report

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
)

// benched has a claim whose trials ran the servers' own benchmark, with those figures in each.
func benched(metric string, asked record.BenchAsked, figures func(arm string) []record.Benched) func(*record.Run) {
	claim := ofScenario(0, record.Scenario{
		ID: "own-bench", Claim: "the one is less", Metric: metric, Rule: "less", Margin: 1.05, Pairs: [][2]string{{"go", "node"}}, Bench: &asked, ChangedBy: "little",
	})
	return func(r *record.Run) {
		claim(r)
		for i := range r.Trials {
			if x := &r.Trials[i]; x.Load == record.LoadRate {
				x.Benched = figures(x.Arm)
			}
		}
	}
}

// Everything that a server's own benchmark printed is shown, in the units of its heads, and not only what decides.
func TestAllOfABenchmarkIsShown(t *testing.T) {
	pss := 2_048_000.0
	over := func(arm string) []record.Benched {
		first := record.BenchWay{Way: "clone", Iterations: 9, WallNSP50: 12_340, WallNSP99: 56_780, CPUNSPerOperation: 9_870, TouchWallNSP50: 210}
		second := record.BenchWay{Way: "worker-shared", Iterations: 9, WallNSP50: 3_450, WallNSP99: 4_560, CPUNSPerOperation: 5_670, TouchWallNSP50: 220}
		start := record.BenchStart{Unit: "worker", Count: 4, WallNSP50: 45_670_000, CPUNSEach: 34_560_000, PSSBytesEach: &pss}
		if arm == "go" {
			start.PSSBytesEach = nil
		}
		ways := []record.BenchWay{first}
		if arm == "node" {
			ways = append(ways, second)
		}
		return []record.Benched{
			{Bench: record.BenchHandOver, Bytes: 1000, Ways: ways, Starts: []record.BenchStart{start}},
			{Bench: record.BenchHandOver, Bytes: 100_000, Ways: []record.BenchWay{{Way: "clone", Iterations: 9, WallNSP50: 112_340}}, Starts: []record.BenchStart{{Unit: "worker", WallNSP50: 1}}},
		}
	}
	b, err := open(opened(t, made{profile: "quick", blocks: 8, seconds: 2, rps: 300, change: benched(contract.MetricHandOver, record.BenchAsked{Command: record.BenchHandOver, Sizes: []int{1000, 100_000}}, over)}.write(t)))
	require.NoError(t, err)
	ways := sectionOf(t, b, "ways").Table
	assert.Equal(t, []string{"arm", "way", "bytes", "p50 µs", "p99 µs", "CPU µs each", "reading alone, p50 µs", "trials"}, ways.Heads)
	assert.Contains(t, ways.Rows, []string{"node", "clone", "1,000", "12.34", "56.78", "9.87", "0.21", "8"})
	assert.Contains(t, ways.Rows, []string{"node", "worker-shared", "1,000", "3.45", "4.56", "5.67", "0.22", "8"})
	assert.Contains(t, ways.Rows, []string{"node", "clone", "100,000", "112.34", "0.00", "0.00", "0.00", "8"})
	for _, row := range ways.Rows {
		assert.False(t, row[0] == "go" && row[1] == "worker-shared", "go has no such way")
		assert.False(t, row[1] == "worker-shared" && row[2] == "100,000", "it was not measured with that size")
	}
	starts := sectionOf(t, b, "starts").Table
	assert.Equal(t, []string{"arm", "unit", "p50 µs", "CPU µs each", "memory kB each", "trials"}, starts.Heads)
	assert.Contains(t, starts.Rows, []string{"node", "worker", "45670.00", "34560.00", "2048.00", "8"})
	assert.Contains(t, starts.Rows, []string{"go", "worker", "45670.00", "34560.00", "–", "8"})
	assert.Contains(t, sectionOf(t, b, "ways").Lead, "Starting one takes: ")
	assert.Contains(t, sectionOf(t, b, "ways").Lead, "a worker of go 45670.00 µs, ")
	assert.Contains(t, sectionOf(t, b, "ways").Lead, "Posted in shared memory, which nobody serialises, it takes node 3.45 µs.")
	assert.Contains(t, b.besideVerdict(&b.run.Scenarios[0]), "a worker of node 45670.00 µs and 2048.00 kB")

	loads := func(string) []record.Benched {
		return []record.Benched{
			{Bench: record.BenchLoader, Keys: 1000, Batch: 20, Batches: 50, CPUNSPerKey: 171.5, WallNS: 250_000},
			{Bench: record.BenchLoader, Keys: 1000, Batch: 1, Batches: 1000, CPUNSPerKey: 900, WallNS: 1_000_000},
		}
	}
	b, err = open(opened(t, made{profile: "quick", blocks: 8, seconds: 2, rps: 300, change: benched(contract.MetricLoader, record.BenchAsked{Command: record.BenchLoader, Sizes: []int{20, 1}}, loads)}.write(t)))
	require.NoError(t, err)
	loader := sectionOf(t, b, "loader").Table
	assert.Equal(t, []string{"arm", "keys at once", "CPU ns/key", "wall ns/key", "batches", "trials"}, loader.Heads)
	assert.Contains(t, loader.Rows, []string{"node", "20", "172", "250", "50", "8"})
	assert.Contains(t, loader.Rows, []string{"node", "1", "900", "1,000", "1,000", "8"})
}
