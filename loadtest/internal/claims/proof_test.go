package claims

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/noise"
	"lab/loadtest/internal/stats"
)

// The proofs let the code that gives verdicts decide 10,000 comparisons each, made of the noise of the run in results/.
// Their seeds are fixed, and a count is held against bounds beyond which it comes with a chance of at most 0.001.
const replicates = 10_000

func parts(m noise.Metric) noise.Parts { return noise.Quick().Parts(m) }

// check says what is wrong with a proof of a rule, or nothing.
func (p Proof) check() error {
	var wrong []error
	most, least := Most(p.Replicates), Least(p.Replicates)
	if p.FalseVerdicts > most {
		wrong = append(wrong, fmt.Errorf("false verdicts in %d of %d, more than %d", p.FalseVerdicts, p.Replicates, most))
	}
	if p.FalseTests > most {
		wrong = append(wrong, fmt.Errorf("corrected p below 0.05 where nothing differs in %d of %d, more than %d", p.FalseTests, p.Replicates, most))
	}
	if p.WithinFloor > 0 {
		wrong = append(wrong, fmt.Errorf("%d verdicts on what identical arms differ by", p.WithinFloor))
	}
	for pair, n := range p.Covered {
		if n < least {
			wrong = append(wrong, fmt.Errorf("the interval of %v covers in %d of %d, less than %d", pair, n, p.Replicates, least))
		}
	}
	return errors.Join(wrong...)
}

func (p Proof) log(t *testing.T) {
	t.Helper()
	percent := func(n int) string { return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(p.Replicates)) }
	t.Logf("false verdicts %s, false tests %s; at most %s", percent(p.FalseVerdicts), percent(p.FalseTests), percent(Most(p.Replicates)))
	for pair, n := range p.Covered {
		t.Logf("%v: covered %s (at least %s), decided %s", pair, percent(n), percent(Least(p.Replicates)), percent(p.Decided[pair]))
	}
}

// Where nothing differs, at most 5 % of comparisons say of any pair that it does; and of any pair, whatever differs, the
// interval has the truth in it in at least 95 %.
func TestVerdictsAreRarelyFalse(t *testing.T) {
	for _, c := range NullCases() {
		t.Run(c.Name, func(t *testing.T) {
			p := c.Prove(t.Context(), replicates, 1)
			p.log(t)
			require.Equal(t, replicates, p.Replicates)
			assert.Len(t, p.Covered, c.Family())
			assert.NoError(t, p.check())
		})
	}
}

// Power is what the calculation promised: of a family of one exactly, of three at least, as it promises for the pair that
// Holm treats worst.
func TestPowerIsAsPromised(t *testing.T) {
	for _, c := range PowerCases() {
		t.Run(c.Name, func(t *testing.T) {
			promised, err := c.Promised()
			require.NoError(t, err)
			p := c.Prove(t.Context(), replicates, 2)
			require.NoError(t, p.check())
			kept := c.Kept(p)
			// The promise is itself of 2,000 experiments.
			band := 3.3 * math.Sqrt(promised*(1-promised)*(1.0/replicates+1.0/2000))
			t.Logf("a ratio of %.2f: promised %.1f %%, kept %.1f %%", c.Ratio, 100*promised, 100*kept)
			assert.Greater(t, promised, 0.2)
			assert.Less(t, promised, 0.98, "a power of one would hide anything")
			assert.Greater(t, kept, promised-band)
			if c.Family() == 1 {
				assert.Less(t, kept, promised+band)
			}
		})
	}
}

// A claim of equality: arms that are as far apart as the margin are called equal, or unequal, in at most 5 % of
// comparisons; arms that are equal are called so where the noise allows it.
func TestEqualityIsRarelyFalse(t *testing.T) {
	equal := Rule{Scenario: "s", Metric: "m", Claim: Equal, Margin: 1.1}
	at := func(ratio float64) map[string]float64 {
		return map[string]float64{"node": math.Log(ratio), "rust": -math.Log(ratio)}
	}
	for name, c := range map[string]struct {
		metric  noise.Metric
		effects map[string]float64
		margin  float64
	}{
		"two pairs a hair beyond the margin": {noise.CPU, at(1.1000001), 1.1},
		"two pairs a hair within the margin": {noise.CPU, at(1.0999999), 1.1},
		"far apart":                          {noise.CPU, at(1.3), 1.1},
		"alike":                              {noise.CPU, nil, 1.1},
		"latency, a hair beyond":             {noise.P50, at(1.2000001), 1.2},
	} {
		t.Run(name, func(t *testing.T) {
			rule := equal
			rule.Margin = c.margin
			p := rule.Prove(t.Context(), parts(c.metric), noise.Design{Arms: three, Blocks: 10, Effects: c.effects}, replicates, 3)
			p.log(t)
			assert.NoError(t, p.check())
			first := [2]string{"go", "node"}
			switch name {
			case "alike":
				assert.Greater(t, p.Held[first], replicates/2, "nothing would be easier than never to decide")
			case "far apart":
				assert.Zero(t, p.Held[first])
				assert.Greater(t, p.Decided[first], replicates/2)
			}
		})
	}
}

// A claim of a bound: arms that are at the bound are said to be within or beyond it in at most 5 % of comparisons, and those
// that are far from it are told.
func TestABoundIsRarelyFalse(t *testing.T) {
	for name, c := range map[string]struct {
		metric noise.Metric
		ratio  float64 // of each arm to the bound
		held   bool
	}{
		"at the bound":                      {noise.CPU, 1, false},
		"latency, at the bound":             {noise.P50, 1, false},
		"half of the bound":                 {noise.CPU, 0.5, true},
		"twice the bound":                   {noise.CPU, 2, false},
		"latency of the tail, half of it":   {noise.P99, 0.5, true},
		"latency of the tail, twice of it":  {noise.P99, 2, false},
		"latency of the tail, at the bound": {noise.P99, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			effects := map[string]float64{}
			for _, arm := range three {
				effects[arm] = math.Log(c.ratio)
			}
			rule := Rule{Scenario: "s", Metric: "m", Claim: Within, Margin: 1.05, Bound: parts(c.metric).Median()}
			p := rule.Prove(t.Context(), parts(c.metric), noise.Design{Arms: three, Blocks: 8, Effects: effects}, replicates, 4)
			p.log(t)
			require.NoError(t, p.check())
			for _, arm := range three {
				pair := [2]string{arm, contract.Bound}
				require.Contains(t, p.Covered, pair)
				switch {
				case c.ratio == 1:
					assert.Less(t, p.Decided[pair], replicates/20)
				case c.held:
					assert.Greater(t, p.Held[pair], replicates/2)
				default:
					assert.Zero(t, p.Held[pair])
					assert.Greater(t, p.Decided[pair], replicates/2)
				}
			}
		})
	}
}

// The proof must notice a rule that is broken.
func TestTheProofNoticesABrokenRule(t *testing.T) {
	quick := noise.Design{Arms: three, Blocks: 8}
	library := LibraryRule(nil)
	for name, c := range map[string]struct {
		breaks func(m *method)
		design noise.Design
		says   string
	}{
		"no correction for the family": {func(m *method) {
			m.correct = func(p []float64) []float64 { return p }
		}, quick, "corrected p below 0.05"},
		"the noise floor ignored": {func(m *method) {
			m.floor = func([]float64) (float64, error) { return 0, nil }
		}, quick, "verdicts on what identical arms differ by"},
		"a test of one side, taken for two": {func(m *method) {
			m.test = func(d []float64, shift float64) (float64, error) {
				p, err := stats.SignFlip(d, shift)
				return p / 2, err
			}
		}, quick, "corrected p below 0.05"},
		"intervals of 90 %": {func(m *method) {
			m.interval = func(d []float64, _ float64) (float64, float64, error) { return stats.Interval(d, 0.9) }
		}, quick, "the interval of"},
		"intervals from the bootstrap's normal approximation": {func(m *method) {
			m.interval = func(d []float64, _ float64) (float64, float64, error) {
				mean, sd := stats.Mean(d), 0.0
				for _, v := range d {
					sd += (v - mean) * (v - mean) / float64(len(d))
				}
				half := 1.96 * math.Sqrt(sd/float64(len(d)))
				return mean - half, mean + half, nil
			}
		}, quick, "the interval of"},
		"arms measured in a fixed order on a machine that tires": {func(*method) {}, noise.Design{Arms: three, Blocks: 8, Trend: 0.2, Unshuffled: true}, "false verdicts"},
		"ratios not taken as logarithms": {func(m *method) {
			m.pair = func(x, y map[int]float64) ([]float64, error) {
				d, err := pairs(x, y)
				for i := range d {
					d[i] = math.Exp(d[i]) - 1 + 0.02
				}
				return d, err
			}
		}, quick, "the interval of"},
	} {
		t.Run(name, func(t *testing.T) {
			m := exact
			c.breaks(&m)
			p := library.prove(t.Context(), parts(noise.CPU), c.design, replicates, 1, m)
			require.ErrorContains(t, p.check(), c.says)
		})
	}
	t.Run("a bound judged as if eight blocks were many", func(t *testing.T) {
		m := exact
		m.side = func(d []float64, _ float64) (float64, error) { // the normal approximation of a mean
			mean, variance := stats.Mean(d), 0.0
			for _, v := range d {
				variance += (v - mean) * (v - mean) / float64(len(d)-1)
			}
			return math.Erfc(math.Abs(mean) / math.Sqrt(2*variance/float64(len(d)))), nil
		}
		rule := Rule{Claim: Within, Margin: 1.05, Bound: parts(noise.P50).Median()}
		p := rule.prove(t.Context(), parts(noise.P50), quick, replicates, 4, m)
		require.ErrorContains(t, p.check(), "false verdicts")
	})
	t.Run("arms not paired by block", func(t *testing.T) {
		m := exact
		m.pair = func(x, y map[int]float64) ([]float64, error) {
			turned := map[int]float64{}
			for b, v := range y {
				turned[b%len(y)+1] = v
			}
			return pairs(x, turned)
		}
		effect := math.Log(1.10)
		promised, err := stats.Power(parts(noise.CPU).SameArm(), effect, stats.Design{Blocks: 8, Family: 1, Alpha: alpha})
		require.NoError(t, err)
		p := library.prove(t.Context(), parts(noise.CPU), noise.Design{Arms: three[:2], Blocks: 8, Effects: map[string]float64{"node": effect}}, replicates, 2, m)
		kept := float64(p.Decided[[2]string{"go", "node"}]) / replicates
		assert.Less(t, kept, promised-3.3*math.Sqrt(promised*(1-promised)*(1.0/replicates+1.0/2000)), "its power is not kept")
	})
	t.Run("equality for want of a difference", func(t *testing.T) {
		m := exact
		m.equivalent = func(d []float64, margin float64) (float64, bool, error) {
			p, err := stats.SignFlip(d, 0)
			if p >= alpha {
				p = 0
			}
			return p, math.Abs(stats.Mean(d)) < margin, err
		}
		rule := Rule{Claim: Equal, Margin: 1.05}
		p := rule.prove(t.Context(), parts(noise.P99), noise.Design{Arms: three, Blocks: 8, Effects: map[string]float64{"node": math.Log(1.06)}}, replicates, 3, m)
		require.ErrorContains(t, p.check(), "false verdicts")
	})
}
