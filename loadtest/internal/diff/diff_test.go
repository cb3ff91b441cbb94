package diff

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// runOf makes a run's records: eight blocks, each arm's CPU per request around its own with the noise given.
func runOf(id string, seed uint64, noise float64, cost map[string]float64) record.Run {
	r := rand.New(rand.NewPCG(seed, 1))
	run := record.Run{ID: id, Profile: "quick", Method: record.Method, Environment: record.Environment{
		Engine: "native", CPUModel: "A", CPUs: []int{0, 1}, Placement: map[string][]int{"contender": {0}}, DataSize: "standard", DataDigest: "d",
	}}
	for block := 1; block <= 8; block++ {
		for _, arm := range []string{"go", "node", "rust", "go-floor"} {
			for copies := range 2 {
				if copies == 1 && arm != "go" {
					continue
				}
				cpu := cost[arm] * (1 + noise*r.NormFloat64())
				tier := "mainstream"
				if arm == "go-floor" {
					tier = "floor"
				}
				run.Trials = append(run.Trials, record.Trial{
					ID: fmt.Sprint(block, arm, copies), Scenario: "library", Operation: "q2", Load: record.LoadRate, Arm: arm, Contender: arm, Tier: tier,
					Block: block, Duplicate: copies == 1, Sent: 1000, CPUUsPerRequest: &cpu, Arrival: "poisson",
				})
			}
		}
	}
	return run
}

func costsOf(goCost float64) map[string]float64 {
	return map[string]float64{"go": goCost, "node": 2000, "rust": 700, "go-floor": 400}
}

func verdicts(r Result) map[string]string {
	out := map[string]string{}
	for _, c := range r.Changes {
		out[c.Arm] = c.Verdict
	}
	return out
}

func TestRegressionIsFoundAndNamed(t *testing.T) {
	r, err := Runs(runOf("a", 1, 0.02, costsOf(1000)), runOf("b", 2, 0.02, costsOf(1200)), nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"go": Regression, "node": TooClose, "rust": TooClose, "go-floor": TooClose}, verdicts(r))
	assert.True(t, r.Regressed())
	for _, c := range r.Changes {
		if c.Arm == "go" {
			assert.InDelta(t, 1.2, *c.Ratio, 0.03)
			assert.Less(t, *c.RatioLow, 1.2)
			assert.Greater(t, *c.RatioHigh, 1.2)
		}
	}
	assert.True(t, r.RanksAlike)
	back, err := Runs(runOf("b", 2, 0.02, costsOf(1200)), runOf("a", 1, 0.02, costsOf(1000)), nil)
	require.NoError(t, err)
	assert.Equal(t, Improvement, verdicts(back)["go"])
	assert.False(t, back.Regressed())
}

// A machine that is slower as a whole slows the floors too, and must not be called a regression.
func TestSlowerMachineIsDrift(t *testing.T) {
	slow := costsOf(1200)
	for arm := range slow {
		if arm != "go" {
			slow[arm] *= 1.22
		}
	}
	r, err := Runs(runOf("a", 1, 0.02, costsOf(1000)), runOf("b", 2, 0.02, slow), nil)
	require.NoError(t, err)
	require.NotNil(t, r.Drift)
	assert.InDelta(t, 1.22, *r.Drift, 0.03)
	assert.Equal(t, TooClose, verdicts(r)["go"])
	assert.False(t, r.Regressed())
}

func TestFewTrialsDecideNothing(t *testing.T) {
	few := func(r record.Run) record.Run {
		r.Trials = r.Trials[:10] // two blocks
		return r
	}
	r, err := Runs(few(runOf("a", 1, 0.02, costsOf(1000))), few(runOf("b", 2, 0.02, costsOf(3000))), nil)
	require.NoError(t, err)
	assert.Equal(t, Untested, verdicts(r)["go"])
	assert.False(t, r.Regressed())
}

func TestAnArmWithoutATrialHasNoFigure(t *testing.T) {
	void := "late"
	next := runOf("b", 2, 0.02, costsOf(1000))
	for i := range next.Trials {
		if next.Trials[i].Arm == "rust" {
			next.Trials[i].Void = &void
		}
	}
	r, err := Runs(runOf("a", 1, 0.02, costsOf(1000)), next, nil)
	require.NoError(t, err)
	assert.Equal(t, Untested, verdicts(r)["rust"])
	for _, c := range r.Changes {
		if c.Arm == "rust" {
			assert.NotNil(t, c.Old)
			assert.Nil(t, c.New)
			assert.Equal(t, []string{"–", "–"}, c.cells()[3:5])
		}
	}
}

func TestSwappedRanksAreNamed(t *testing.T) {
	other := costsOf(1000)
	other["rust"] = 3000
	r, err := Runs(runOf("a", 1, 0.02, costsOf(1000)), runOf("b", 2, 0.02, other), nil)
	require.NoError(t, err)
	assert.False(t, r.RanksAlike)
	assert.Equal(t, []string{"rust and go", "rust and node"}, r.Swapped)
	assert.Contains(t, r.Text(), "changed places")
}

func TestWhatCannotBeComparedIsNamed(t *testing.T) {
	old := runOf("a", 1, 0.02, costsOf(1000))
	for kind, change := range map[string]func(r *record.Run){
		Machine:  func(r *record.Run) { r.Environment.CPUModel = "B" },
		Engine:   func(r *record.Run) { r.Environment.Engine = "docker" },
		Contract: func(r *record.Run) { r.Environment.DataDigest = "e" },
		Profile:  func(r *record.Run) { r.Profile = "standard" },
		Method:   func(r *record.Run) { r.Method = 99 },
	} {
		t.Run(kind, func(t *testing.T) {
			next := runOf("b", 2, 0.02, costsOf(1000))
			change(&next)
			_, err := Runs(old, next, nil)
			require.ErrorIs(t, err, ErrNotComparable)
			require.ErrorContains(t, err, kind)
			r, err := Runs(old, next, []string{kind})
			require.NoError(t, err)
			assert.Len(t, r.Differences, 1)
			assert.Contains(t, r.Markdown(), "Compared across")
		})
	}
	_, err := Runs(old, old, []string{"weather"})
	require.ErrorContains(t, err, "weather")
	foreign := runOf("b", 2, 0.02, costsOf(1000))
	for i := range foreign.Trials {
		foreign.Trials[i].Operation = "q1"
	}
	_, err = Runs(old, foreign, nil)
	require.ErrorIs(t, err, ErrNotComparable)
}

// withClaim adds a second scenario to a run, of that noise, measured with that delay.
func withClaim(run record.Run, seed uint64, noise float64, delay int64) record.Run {
	claim := runOf(run.ID, seed, noise, costsOf(1000))
	for i := range claim.Trials {
		claim.Trials[i].Scenario = "io-bound"
	}
	run.Trials = append(run.Trials, claim.Trials...)
	run.Scenarios = []record.Scenario{{ID: "io-bound", Operation: "q2", DelaysNS: map[string]int64{"database": delay}}}
	return run
}

// A noisy claim does not hide what became dearer in the headline, and one that was measured otherwise is not compared.
func TestScenariosAreComparedEachForItself(t *testing.T) {
	a, b := runOf("a", 1, 0.02, costsOf(1000)), runOf("b", 2, 0.02, costsOf(1200))
	r, err := Runs(withClaim(a, 3, 0.3, 20e6), withClaim(b, 4, 0.3, 20e6), nil)
	require.NoError(t, err)
	require.Len(t, r.Changes, 8)
	for _, c := range r.Changes {
		if c.Scenario == "library" && c.Arm == "go" {
			assert.Equal(t, Regression, c.Verdict, c.Reason)
		} else {
			assert.NotEqual(t, Regression, c.Verdict, "%+v", c)
		}
	}
	assert.Greater(t, *r.NoiseFloor, 1.2, "the claim's")
	r, err = Runs(withClaim(a, 3, 0.02, 20e6), withClaim(b, 4, 0.02, 30e6), nil)
	require.NoError(t, err)
	assert.Len(t, r.Changes, 4, "the headline's")
	require.Len(t, r.Differences, 1)
	assert.Contains(t, r.Differences[0], "scenario io-bound was “q2")
	assert.Contains(t, r.Differences[0], "delays map[database:20000000]” and is")
}
