package claims

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// records makes a run in which each arm costs its factor, with noise of that standard deviation in the logarithm.
func records(r *rand.Rand, blocks int, noise float64, cost map[string]float64) []record.Trial {
	var trials []record.Trial
	names := []string{"go", "node", "rust"}
	for block := 1; block <= blocks; block++ {
		weather := math.Exp(r.NormFloat64() * 0.3) // what the machine did to the whole block
		add := func(arm string, duplicate bool) {
			v := 500 * cost[arm] * weather * math.Exp(r.NormFloat64()*noise)
			trials = append(trials, record.Trial{Arm: arm, Tier: "mainstream", Load: record.LoadRate, Block: block, Duplicate: duplicate, CPUUsPerRequest: &v})
		}
		for _, n := range names {
			add(n, false)
		}
		add(names[block%3], true)
	}
	return trials
}

func TestAFactorOfTwoIsDecided(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	v := Library(records(r, 8, 0.05, map[string]float64{"go": 2, "node": 1, "rust": 0.5}))
	require.Len(t, v, 3)
	for _, v := range v {
		assert.Equal(t, Holds, v.Verdict, "%+v", v)
		assert.Less(t, *v.RatioLow, *v.Ratio)
		assert.Greater(t, *v.RatioHigh, *v.Ratio)
	}
	assert.InDelta(t, 2, *v[0].Ratio, 0.3)
	assert.Equal(t, [2]string{"go", "node"}, v[0].Arms)
	assert.Contains(t, v[0].Reason, "go costs")
}

// Identical arms must not be told apart more often than 5 % of runs, over the whole family.
func TestIdenticalArmsAreNotToldApart(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	const runs = 2000
	wrong := 0
	for range runs {
		for _, v := range Library(records(r, 8, 0.1, map[string]float64{"go": 1, "node": 1, "rust": 1})) {
			if v.Verdict == Holds {
				wrong++
				break
			}
		}
	}
	// Three standard deviations of a binomial above 5 %.
	assert.LessOrEqual(t, float64(wrong)/runs, 0.05+3*math.Sqrt(0.05*0.95/runs))
}

func TestTooLittleIsSaid(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, v := range Library(records(r, 3, 0.05, map[string]float64{"go": 2, "node": 1, "rust": 0.5})) {
		assert.Equal(t, Untested, v.Verdict)
		assert.Contains(t, v.Reason, "3 blocks")
		assert.Nil(t, v.RatioLow)
	}
	assert.Empty(t, Library(nil))
}

func TestVoidTrialsAreInNoVerdict(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	trials := records(r, 9, 0.05, map[string]float64{"go": 2, "node": 1, "rust": 0.5})
	why := "noise"
	for i := range trials {
		if trials[i].Block == 4 && trials[i].Arm == "go" {
			trials[i].Void = &why
		}
	}
	v := Library(trials)
	assert.Equal(t, 8, v[0].Blocks)
	assert.Equal(t, 9, v[2].Blocks)
}

// Who repeats the verdicts from the records must get the same numbers, to the last digit.
func TestVerdictsAreTheSameEachTime(t *testing.T) {
	trials := records(rand.New(rand.NewPCG(11, 13)), 16, 0.1, map[string]float64{"go": 2, "node": 1, "rust": 0.5})
	first := Library(trials)
	for range 50 {
		require.Equal(t, first, Library(trials))
	}
}

func TestAnAlteredVerdictIsNamed(t *testing.T) {
	trials := records(rand.New(rand.NewPCG(1, 1)), 8, 0.05, map[string]float64{"go": 2, "node": 1, "rust": 0.5})
	require.NoError(t, Check(record.Run{Trials: trials, Verdicts: Library(trials)}))
	require.NoError(t, Check(record.Run{Trials: trials}), "an interrupted run judges nothing")
	for field, change := range map[string]func(v *record.Verdict){
		"ratio is":        func(v *record.Verdict) { v.Ratio = pointer(*v.Ratio * 1.001) },
		"ratio_low is":    func(v *record.Verdict) { v.RatioLow = pointer(*v.RatioLow * 0.9) },
		"ratio_high is":   func(v *record.Verdict) { v.RatioHigh = nil },
		"margin is":       func(v *record.Verdict) { v.Margin = 1.5 },
		"p is":            func(v *record.Verdict) { v.P = pointer(0) },
		"p_holm is":       func(v *record.Verdict) { v.PHolm = pointer(1) },
		"noise_floor is":  func(v *record.Verdict) { v.NoiseFloor = pointer(2) },
		"blocks is":       func(v *record.Verdict) { v.Blocks-- },
		"verdict is":      func(v *record.Verdict) { v.Verdict = TooClose },
		"arms is":         func(v *record.Verdict) { v.Arms = [2]string{"node", "go"} },
		"verdicts has 2 ": func(v *record.Verdict) { v.Metric = "another" },
	} {
		run := record.Run{Trials: trials, Verdicts: Library(trials)}
		change(&run.Verdicts[0])
		require.ErrorContains(t, Check(run), field)
	}
}
