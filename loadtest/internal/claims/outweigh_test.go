package claims

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

var canOutweigh = record.Outweighs{
	Claim: "it can", Metric: metricCPU, Library: [2]string{"node", "node-compiled"}, Pairs: [][2]string{{"go", "node"}, {"go", "rust"}, {"node", "rust"}}, Margin: libraryMargin, Alpha: alpha,
}

// ofLibraries are trials of arms that cost so much, with noise of that standard deviation in the logarithm.
func ofLibraries(r *rand.Rand, blocks int, noise float64, cost map[string]float64) []record.Trial {
	trials := records(r, blocks, noise, cost)
	for i := range trials {
		if t := trials[i]; t.Arm == "node" && !t.Duplicate {
			v := *t.CPUUsPerRequest * cost["node-compiled"] / cost["node"] * math.Exp(r.NormFloat64()*noise)
			t.Arm, t.Tier, t.CPUUsPerRequest = "node-compiled", "compiled", &v
			trials = append(trials, t)
		}
	}
	return trials
}

// Which of the two factors is larger decides, whichever arm of either is the dearer one.
func TestALibraryOutweighsALanguageOrNot(t *testing.T) {
	for name, c := range map[string]struct {
		cost    map[string]float64
		verdict string
		ratio   float64 // of go and node
	}{
		"the library changes more":               {map[string]float64{"go": 1.2, "node": 1, "rust": 0.9, "node-compiled": 0.5}, Holds, 2 / 1.2},
		"more, the other way round":              {map[string]float64{"go": 0.8, "node": 1, "rust": 0.9, "node-compiled": 2.5}, Holds, 2.5 * 0.8},
		"the language changes more":              {map[string]float64{"go": 2, "node": 1, "rust": 0.4, "node-compiled": 0.9}, Contradicted, 1 / 0.9 / 2},
		"less, and the compiled one is dearer":   {map[string]float64{"go": 2, "node": 1, "rust": 0.4, "node-compiled": 1.2}, Contradicted, 0.6},
		"neither changes anything":               {map[string]float64{"go": 1, "node": 1, "rust": 1, "node-compiled": 1}, TooClose, 1},
		"both change as much":                    {map[string]float64{"go": 2, "node": 1, "rust": 0.5, "node-compiled": 0.5}, TooClose, 1},
		"as much, one up and the other one down": {map[string]float64{"go": 0.5, "node": 1, "rust": 2, "node-compiled": 0.5}, TooClose, 1},
	} {
		verdicts := Outweigh(&canOutweigh, ofLibraries(rand.New(rand.NewPCG(3, 1)), 8, 0.02, c.cost))
		require.Len(t, verdicts, 3, name)
		v := verdicts[0]
		assert.Equal(t, c.verdict, v.Verdict, "%s: %s", name, v.Reason)
		assert.InEpsilon(t, c.ratio, *v.Ratio, 0.08, name)
		assert.True(t, *v.RatioLow <= *v.Ratio && *v.Ratio <= *v.RatioHigh, name)
		assert.Equal(t, [2]string{"node", "node-compiled"}, *v.Library, name)
		assert.Equal(t, 8, v.Blocks, name)
		if c.verdict != TooClose {
			assert.Equal(t, c.verdict, Overall(verdicts), name)
		}
	}
}

// Hand-computed, without noise: the factors are told as they are.
func TestWhatALibraryAndALanguageChangeIsTold(t *testing.T) {
	w, err := weigh(map[string]map[int]float64{
		"node": {1: 300, 2: 600}, "node-compiled": {1: 200, 2: 400}, "go": {1: 360, 2: 720, 3: 5},
	}, [2]string{"node", "node-compiled"}, [2]string{"go", "node"})
	require.NoError(t, err)
	assert.Equal(t, 2, w.blocks, "a block without one of them has no part")
	assert.InDelta(t, 1.5, w.library, 1e-9)
	assert.InDelta(t, 1.2, w.language, 1e-9)
	assert.InDelta(t, math.Log(1.25), w.mean, 1e-9)
	assert.InDelta(t, 0.5, w.p, 1e-9, "two blocks: the sum is as far from nothing in two of four patterns")
	_, err = weigh(nil, [2]string{"a", "b"}, [2]string{"c", "d"})
	require.ErrorContains(t, err, "no block in which all")
}

// That something can be takes one pair that shows it; that it cannot, all of them.
func TestThatItCanTakesOnePair(t *testing.T) {
	of := func(verdicts ...string) (out []record.Verdict) {
		for _, v := range verdicts {
			out = append(out, record.Verdict{Verdict: v, Library: &canOutweigh.Library})
		}
		return out
	}
	assert.Equal(t, Holds, Overall(of(Contradicted, Untested, Holds)))
	assert.Equal(t, Contradicted, Overall(of(Contradicted, Contradicted)))
	assert.Equal(t, TooClose, Overall(of(Contradicted, TooClose)))
	assert.Equal(t, Untested, Overall(of(Contradicted, Untested)))
}

// Where both change as much, a verdict for either is as seldom as alpha says: with both factors at 1, where both tests are
// of nothing, and far from it, where one of them is.
func TestOutweighingIsRarelyFalse(t *testing.T) {
	const n = 2000
	for name, cost := range map[string]map[string]float64{
		"nothing changes":  {"go": 1, "node": 1, "rust": 1, "node-compiled": 1},
		"both change much": {"go": 2, "node": 1, "rust": 0.5, "node-compiled": 0.5},
	} {
		wrong := 0
		for i := range n {
			claim := canOutweigh
			claim.Pairs = [][2]string{{"go", "node"}, {"node", "rust"}}
			for _, v := range Outweigh(&claim, ofLibraries(rand.New(rand.NewPCG(uint64(i), 9)), 8, 0.05, cost)) {
				if *v.PHolm < alpha {
					wrong++
					break
				}
			}
		}
		assert.LessOrEqual(t, float64(wrong)/n, alpha+3*math.Sqrt(alpha*(1-alpha)/n), name)
	}
}

func TestAClaimOfTheLibraryIsOfItsOwnArms(t *testing.T) {
	trials := ofLibraries(rand.New(rand.NewPCG(3, 1)), 8, 0.02, map[string]float64{"go": 1.2, "node": 1, "rust": 0.9, "node-compiled": 0.5})
	run := record.Run{Trials: trials, Outweighs: &canOutweigh}
	run.Verdicts = Of(run)
	require.Len(t, run.Verdicts, 6, "that two differ, and that one choice outweighs the other")
	require.NoError(t, Check(run))
	run.Verdicts[4].Library = &[2]string{"node", "rust"}
	require.ErrorContains(t, Check(run), "library")
	assert.Empty(t, Outweigh(nil, trials))
	few := canOutweigh
	few.Pairs = [][2]string{{"go", "elixir"}}
	assert.Empty(t, Outweigh(&few, trials), "an arm without a trial")
	assert.Equal(t, Untested, Outweigh(&canOutweigh, ofLibraries(rand.New(rand.NewPCG(3, 1)), 6, 0.02, map[string]float64{"go": 1.2, "node": 1, "rust": 0.9, "node-compiled": 0.5}))[0].Verdict, "six blocks are too few for three pairs")
	ids := map[string]bool{}
	for _, v := range run.Verdicts {
		ids[v.ID] = true
	}
	assert.Len(t, ids, len(run.Verdicts), fmt.Sprint(ids))
}
