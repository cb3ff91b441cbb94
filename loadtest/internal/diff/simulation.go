package diff

import (
	"context"
	"math"
	"math/rand/v2"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/noise"
	"lab/loadtest/internal/record"
)

// Slowdowns are the regressions that Found is asked of, in shares of CPU per request.
var Slowdowns = []float64{0, 0.05, 0.10, 0.20}

// Blocks of a simulated run of two revisions, and of a simulated run as the profile quick has it.
const (
	interleavedBlocks = 10
	quickBlocks       = 8
)

// driftUnseen is the way that has nothing to see a machine's drift by.
const driftUnseen = "OLD NEW, the machine ±10 % other in one of them"

// Way is a way to look for a regression.
type Way struct {
	Name string
	// Finds makes up what is needed, with a slowdown given as a logarithm, and tells whether it is called a regression.
	Finds func(p noise.Parts, r *rand.Rand, effect float64) bool
}

// Ways are those that loadtest diff has. The drift of a machine between two runs is not in the recorded noise; where one
// is made up, it is the same for all arms of a run, normal, with that standard deviation.
func Ways() []Way {
	return []Way{
		{"OLD NEW, 8 blocks each, the machine the same", func(p noise.Parts, r *rand.Rand, effect float64) bool { return findsBetween(p, r, effect, 0, false) }},
		{driftUnseen, func(p noise.Parts, r *rand.Rand, effect float64) bool { return findsBetween(p, r, effect, 0.1, false) }},
		{"the same, with floors measured", func(p noise.Parts, r *rand.Rand, effect float64) bool { return findsBetween(p, r, effect, 0.1, true) }},
		{"--base --head, 10 blocks", func(p noise.Parts, r *rand.Rand, effect float64) bool { return findsInterleaved(p, r, effect, false) }},
		{"--base --head --confirm", func(p noise.Parts, r *rand.Rand, effect float64) bool { return findsInterleaved(p, r, effect, true) }},
	}
}

// Found counts in how many of so many replicates a slowdown is called a regression, on recorded noise.
func (w Way) Found(ctx context.Context, replicates int, slowdown float64, seed uint64) int {
	p := noise.Quick().Parts(noise.CPU)
	return noise.Replicates(ctx, replicates, seed, func(r *rand.Rand, found *int) {
		if w.Finds(p, r, math.Log1p(slowdown)) {
			*found++
		}
	}, func(into *int, from int) { *into += from })
}

func findsBetween(p noise.Parts, r *rand.Rand, effect, drift float64, floors bool) bool {
	d := noise.Design{Arms: []string{"go", "node", "rust"}, Blocks: quickBlocks}
	if floors {
		d.Arms = append(d.Arms, "go-floor", "node-floor", "rust-floor")
	}
	old := simulated(p.Trials(r, d))
	d.Effects, d.Run = map[string]float64{"go": effect}, drift*r.NormFloat64()
	result, err := Runs(old, simulated(p.Trials(r, d)), nil)
	if err != nil {
		panic(err) // both were made up here, of the same
	}
	for _, c := range result.Changes {
		if c.Arm == "go" {
			return c.Verdict == Regression
		}
	}
	return false
}

func findsInterleaved(p noise.Parts, r *rand.Rand, effect float64, confirm bool) bool {
	x := Interleaved{Arm: "go", Confirm: confirm}
	d := noise.Design{Arms: []string{"go" + claims.AtBase, "go" + claims.AtHead}, Blocks: interleavedBlocks, Effects: map[string]float64{"go" + claims.AtHead: effect}}
	for len(x.Runs) == 0 || x.NeedsConfirmation() {
		run := simulated(p.Trials(r, d))
		run.Profile = record.ProfileRevisions
		run.Verdicts = claims.Of(run)
		if err := x.Add(run); err != nil {
			panic(err)
		}
	}
	return x.Regressed()
}

func simulated(trials []record.Trial) record.Run {
	return record.Run{ID: "simulated", Profile: "quick", Method: record.Method, Trials: trials}
}
