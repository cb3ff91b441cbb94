package noise

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// The extract is what the run in results/ has, trial by trial.
func TestTheExtractIsOfThePublishedRun(t *testing.T) {
	recorded := Quick()
	run, err := record.ReadRun(filepath.Join("..", "..", "..", "results", recorded.Run))
	require.NoError(t, err)
	var want []Trial
	for _, x := range run.Trials {
		if x.Load == record.LoadRate && x.Void == nil {
			want = append(want, Trial{x.Block, x.Arm, x.Duplicate, *x.CPUUsPerRequest, x.LatencyP50NS, x.LatencyP99NS})
		}
	}
	require.Len(t, want, 31)
	assert.Equal(t, want, recorded.Trials)
}

// Made of known parts, a run gives them back; what it lacks is a trial, as the recorded one does.
func TestPartsAreFoundAgain(t *testing.T) {
	arms := map[string]float64{"a": -0.5, "b": 0.1, "c": 0.4}
	blocks := []float64{-0.2, 0, 0.05, 0.15}
	var r Recorded
	for b, block := range blocks {
		for arm, cost := range arms {
			if arm != "b" || b != 2 {
				r.Trials = append(r.Trials, Trial{Block: b + 1, Arm: arm, CPUUsPerRequest: math.Exp(7 + cost + block)})
			}
		}
	}
	p := r.Parts(CPU)
	assert.InDeltaSlice(t, blocks, p.Blocks, 1e-9)
	for _, rest := range p.Rests {
		assert.InDelta(t, 0, rest, 1e-9, "nothing is left where there was no noise")
	}
}

// Residuals of a fit are smaller than the noise was; what is drawn must not be.
func TestNoiseKeepsItsSize(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	const sd = 0.05
	var squares, n float64
	for range 300 {
		var r Recorded
		for b := range 8 {
			for _, arm := range []string{"a", "b", "c"} {
				r.Trials = append(r.Trials, Trial{Block: b, Arm: arm, LatencyP50NS: int64(1e9 * math.Exp(sd*random.NormFloat64()))})
			}
		}
		for _, rest := range r.Parts(P50).Rests {
			squares, n = squares+rest*rest, n+1
		}
	}
	assert.InDelta(t, sd, math.Sqrt(squares/n), sd*0.05)
}

func TestTrialsCarryTheirEffects(t *testing.T) {
	p := Quick().Parts(CPU)
	require.Len(t, p.Rests, 31)
	require.Len(t, p.Blocks, 8)
	var sum [2]float64
	const runs = 2000
	r := rand.New(rand.NewPCG(1, 2))
	for range runs {
		trials := p.Trials(r, Design{Arms: []string{"go", "node"}, Effects: map[string]float64{"node": 0.2}, Blocks: 8, Run: 0.3})
		require.Len(t, trials, 24, "two arms and one of them again")
		duplicates := 0
		for _, x := range trials {
			v, ok := CPU.Value(&x)
			require.True(t, ok)
			if x.Duplicate {
				duplicates++
				continue
			}
			i := 0
			if x.Arm == "node" {
				i = 1
			}
			sum[i] += (math.Log(v) - p.level) / (8 * runs)
		}
		require.Equal(t, 8, duplicates)
	}
	assert.InDelta(t, 0.3, sum[0], 0.005)
	assert.InDelta(t, 0.5, sum[1], 0.005)
}

func TestReplicatesDoNotDependOnTheMachine(t *testing.T) {
	many := Replicates(t.Context(), 1000, 3, func(r *rand.Rand, sum *[2]uint64) { sum[0]++; sum[1] += r.Uint64() >> 20 },
		func(into *[2]uint64, from [2]uint64) { into[0] += from[0]; into[1] += from[1] })
	one := [2]uint64{} // the same by one worker
	for i := range 1000 {
		one[0]++
		one[1] += rand.New(rand.NewPCG(3, uint64(i))).Uint64() >> 20
	}
	assert.Equal(t, one, many)
}
