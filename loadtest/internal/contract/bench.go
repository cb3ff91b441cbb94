package contract

import (
	"fmt"
	"slices"
)

// Metrics of the servers' own benchmark commands, each that of the first of the sizes: the median time to hand memory to
// another thread of control by the runtime's usual way and get an answer, and the CPU time of the loader for each key.
const (
	MetricHandOver = "bench_hand_over_wall_ns_p50"
	MetricLoader   = "bench_loader_cpu_ns_per_key"
)

// benchMetrics has each command's metric.
var benchMetrics = map[string]string{"hand-over": MetricHandOver, "loader": MetricLoader}

// Bench is a benchmark command of each server.
type Bench struct {
	// Command is "hand-over" or "loader".
	Command string `yaml:"command"`
	// Sizes are bytes that are handed over, or keys that are loaded at once; the first decides.
	Sizes []int `yaml:"sizes"`
}

// check names the key that is wrong and what is expected there, or nothing.
func (b *Bench) check(metric string) (key, expected string) {
	needed := ""
	for command, m := range benchMetrics {
		if m == metric {
			needed = command
		}
	}
	switch {
	case b == nil && needed != "":
		return "bench", fmt.Sprintf("the command %q, since it gives the metric", needed)
	case b == nil:
		return "", ""
	case benchMetrics[b.Command] == "":
		return "bench.command", `"hand-over" or "loader"`
	case needed != "" && needed != b.Command:
		return "bench.command", fmt.Sprintf("%q, since it gives the metric", needed)
	case len(b.Sizes) == 0:
		return "bench.sizes", "one size or more"
	}
	for i, size := range b.Sizes {
		most := 100_000_000
		if b.Command == "loader" {
			most = 10_000
		}
		if size < 1 || size > most || b.Command == "hand-over" && size%4 != 0 || slices.Index(b.Sizes, size) != i {
			return fmt.Sprintf("bench.sizes.%d", i), fmt.Sprintf("a size from 1 to %d, each once, of bytes a multiple of 4", most)
		}
	}
	return "", ""
}
