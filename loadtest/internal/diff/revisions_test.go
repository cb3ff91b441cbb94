package diff

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/noise"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

func interleavedRun(id string, seed uint64, ratio float64, blocks int) record.Run {
	d := noise.Design{Arms: []string{"go" + claims.AtBase, "go" + claims.AtHead}, Blocks: blocks, Effects: map[string]float64{"go" + claims.AtHead: math.Log(ratio)}}
	run := record.Run{ID: id, Seed: seed, Profile: record.ProfileRevisions, Trials: noise.Quick().Parts(noise.CPU).Trials(rand.New(rand.NewPCG(seed, 1)), d)}
	run.Verdicts = claims.Of(run)
	return run
}

func TestTwoRevisionsInOneRun(t *testing.T) {
	for name, c := range map[string]struct {
		ratios  []float64
		confirm bool
		verdict string
		again   bool // a second run is asked for after the first
	}{
		"dearer":                              {[]float64{1.5}, false, Regression, false},
		"cheaper":                             {[]float64{0.5}, false, Improvement, false},
		"the same":                            {[]float64{1}, false, TooClose, false},
		"dearer, to be confirmed":             {[]float64{1.5}, true, NotConfirmed, true},
		"dearer, confirmed":                   {[]float64{1.5, 1.5}, true, Regression, true},
		"dearer once only":                    {[]float64{1.5, 1}, true, NotConfirmed, true},
		"dearer, then cheaper":                {[]float64{1.5, 0.5}, true, NotConfirmed, true},
		"the same, so nothing is to confirm":  {[]float64{1}, true, TooClose, false},
		"cheaper, which needs no second look": {[]float64{0.5}, true, Improvement, false},
	} {
		t.Run(name, func(t *testing.T) {
			x := Interleaved{Base: Revision{"main", strings.Repeat("a", 40)}, Head: Revision{"topic", strings.Repeat("b", 40)}, Arm: "go", Engine: "native", Confirm: c.confirm}
			for i, ratio := range c.ratios {
				require.NoError(t, x.Add(interleavedRun([]string{"run-one", "run-two"}[i], uint64(i+1), ratio, 10)))
				if i == 0 {
					assert.Equal(t, c.again, x.NeedsConfirmation())
				}
			}
			assert.Equal(t, c.verdict, x.Verdict, x.Reason)
			assert.Equal(t, c.verdict == Regression, x.Regressed())
			assert.InEpsilon(t, c.ratios[0], *x.Runs[0].Ratio, 0.15, "head over base")
			for _, text := range []string{x.Text(), x.Markdown()} {
				assert.Contains(t, text, "head topic (bbbbbbbbbbbb) against base main (aaaaaaaaaaaa)")
				assert.Contains(t, text, c.verdict)
				assert.Equal(t, len(c.ratios) == 2, strings.Contains(text, "run-two"))
			}
			b, err := json.Marshal(&x)
			require.NoError(t, err)
			assert.Contains(t, string(b), `"verdict":"`+c.verdict+`"`)
			assert.Contains(t, string(b), `"metric":"cpu_us_per_request"`)
		})
	}
	x := Interleaved{Arm: "rust"}
	require.ErrorContains(t, x.Add(interleavedRun("first", 1, 1, 10)), "rust")
	few := Interleaved{Arm: "go"}
	require.NoError(t, few.Add(interleavedRun("first", 1, 3, 5)))
	assert.Equal(t, Untested, few.Verdict)
	assert.Contains(t, few.Reason, "5 blocks")
}

// How often a slowdown is called a regression, on recorded noise; loadtest simulate makes the table of it. What may not
// be is that one is found where there is none.
func TestHowOftenRegressionsAreFound(t *testing.T) {
	const replicates = 1000
	_, most := stats.BinomialBounds(replicates, 0.05, claims.Significance)
	for _, way := range Ways() {
		t.Run(way.Name, func(t *testing.T) {
			before := -1
			for _, slowdown := range Slowdowns {
				found := way.Found(t.Context(), replicates, slowdown, 7)
				t.Logf("%2.0f %% dearer: called a regression in %.1f %% of %d", 100*slowdown, 100*float64(found)/replicates, replicates)
				assert.GreaterOrEqual(t, found, before, "more of it is found more often")
				before = found
				switch {
				case slowdown == 0 && way.Name != driftUnseen:
					assert.LessOrEqual(t, found, most)
				case slowdown == 0:
					assert.Greater(t, found, most, "two times of a machine are not told from two programs: why revisions are interleaved")
				case slowdown == 0.20 && strings.HasPrefix(way.Name, "--base"):
					assert.Greater(t, found, replicates*8/10)
				}
			}
		})
	}
}
