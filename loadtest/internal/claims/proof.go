package claims

import (
	"context"
	"math"
	"math/rand/v2"

	"lab/loadtest/internal/noise"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// Proof is what was counted when a rule decided made-up comparisons whose truth is known.
type Proof struct {
	Replicates int
	// FalseVerdicts are comparisons with at least one verdict that is not true, over the whole family; FalseTests are those
	// with a corrected p below 0.05 for a pair that does not differ, whatever the noise floor said.
	FalseVerdicts, FalseTests int
	// WithinFloor are verdicts of a difference that is no larger than what identical arms differ by. None may be.
	WithinFloor int
	// Covered are intervals of a pair that have the true ratio in them; Decided are verdicts other than too close to call.
	Covered, Decided, Held map[[2]string]int
}

func (p *Proof) add(from Proof) {
	p.Replicates += from.Replicates
	p.FalseVerdicts += from.FalseVerdicts
	p.FalseTests += from.FalseTests
	p.WithinFloor += from.WithinFloor
	for _, m := range []struct{ into, from *map[[2]string]int }{{&p.Covered, &from.Covered}, {&p.Decided, &from.Decided}, {&p.Held, &from.Held}} {
		if *m.into == nil {
			*m.into = map[[2]string]int{}
		}
		for k, n := range *m.from {
			(*m.into)[k] += n
		}
	}
}

// Prove has a rule decide so many comparisons that are made of recorded noise and the design's effects. The rule's arms
// and its value are those of the design; everything else of it is as given.
func (r Rule) Prove(ctx context.Context, parts noise.Parts, design noise.Design, replicates int, seed uint64) Proof {
	return r.prove(ctx, parts, design, replicates, seed, exact)
}

func (r Rule) prove(ctx context.Context, parts noise.Parts, design noise.Design, replicates int, seed uint64, m method) Proof {
	r.Arms, r.Value = design.Arms, parts.Metric.Value
	return noise.Replicates(ctx, replicates, seed, func(random *rand.Rand, sum *Proof) {
		trials := parts.Trials(random, design)
		sum.add(r.judge(trials, r.decide(trials, m), design))
	}, func(into *Proof, from Proof) { into.add(from) })
}

// judge holds verdicts against the truth.
func (r Rule) judge(trials []record.Trial, verdicts []record.Verdict, design noise.Design) Proof {
	p := Proof{Replicates: 1, Covered: map[[2]string]int{}, Decided: map[[2]string]int{}, Held: map[[2]string]int{}}
	wrong, significant := false, false
	for i := range verdicts {
		v := &verdicts[i]
		truth := design.Effects[v.Arms[0]] - design.Effects[v.Arms[1]]
		if v.RatioLow != nil && math.Log(*v.RatioLow) <= truth+1e-12 && truth-1e-12 <= math.Log(*v.RatioHigh) {
			p.Covered[v.Arms]++
		}
		if v.Verdict == Holds || v.Verdict == Contradicted {
			p.Decided[v.Arms]++
		}
		if v.Verdict == Holds {
			p.Held[v.Arms]++
		}
		// The floor is taken from the A/A pairs anew: what the verdict says of it is what is judged.
		beyond := func() bool {
			floor, err := stats.NoiseFloor(r.sameArm(trials))
			return err == nil && v.Ratio != nil && math.Abs(math.Log(*v.Ratio)) > floor
		}
		switch r.Claim {
		case Equal:
			equal := math.Abs(truth) < math.Log(r.Margin)
			wrong = wrong || v.Verdict == Holds && !equal || v.Verdict == Contradicted && equal
			if v.Verdict == Contradicted && !beyond() {
				p.WithinFloor++
			}
		case Less:
			significant = significant || truth == 0 && v.PHolm != nil && *v.PHolm < alpha
			wrong = wrong || v.Verdict == Holds && truth >= 0 || v.Verdict == Contradicted && truth <= 0
			if (v.Verdict == Holds || v.Verdict == Contradicted) && !beyond() {
				p.WithinFloor++
			}
		case Within: // the bound has no effect, and what identical arms differ by no part
			significant = significant || truth == 0 && v.PHolm != nil && *v.PHolm < alpha
			wrong = wrong || v.Verdict == Holds && truth >= 0 || v.Verdict == Contradicted && truth <= 0
		default:
			significant = significant || truth == 0 && v.PHolm != nil && *v.PHolm < alpha
			wrong = wrong || v.Verdict == Holds && (truth == 0 || truth*math.Log(*v.Ratio) < 0)
			if v.Verdict == Holds && !beyond() {
				p.WithinFloor++
			}
		}
	}
	if wrong {
		p.FalseVerdicts++
	}
	if significant {
		p.FalseTests++
	}
	return p
}

// Significance is the chance with which a count may be beyond a bound by luck alone (stats.BinomialBounds).
const Significance = 0.001

// Most is the largest number of so many replicates that is not significantly above alpha; Least is the smallest that is
// not significantly below 1 - alpha.
func Most(replicates int) int {
	_, high := stats.BinomialBounds(replicates, alpha, Significance)
	return high
}

// Least is the number of covering intervals that is not significantly below 95 %.
func Least(replicates int) int {
	low, _ := stats.BinomialBounds(replicates, 1-alpha, Significance)
	return low
}

// Case is one truth that rules are proven with.
type Case struct {
	Name   string
	Metric noise.Metric
	Design noise.Design
	// Ratio, where not 0, is by how much node is dearer than go, and what power is promised for.
	Ratio float64
}

var (
	two   = []string{"go", "node"}
	three = []string{"go", "node", "rust"}
)

// NullCases are comparisons in which some or all pairs do not differ.
func NullCases() []Case {
	shift := map[string]float64{"node": math.Log(1.1), "rust": math.Log(1.1)} // these two are alike, go is not
	return []Case{
		{Name: "CPU, 8 blocks", Metric: noise.CPU, Design: noise.Design{Arms: three, Blocks: 8}},
		{Name: "CPU, 14 blocks", Metric: noise.CPU, Design: noise.Design{Arms: three, Blocks: 14}},
		{Name: "CPU, 8 blocks, each arm with its own noise", Metric: noise.CPU, Design: noise.Design{Arms: three, Blocks: 8, Own: true}},
		{Name: "CPU, 8 blocks, one arm of three differs", Metric: noise.CPU, Design: noise.Design{Arms: three, Blocks: 8, Effects: shift}},
		{Name: "CPU, 8 blocks, the machine slows by a fifth within each", Metric: noise.CPU, Design: noise.Design{Arms: three, Blocks: 8, Trend: 0.2}},
		{Name: "CPU, 8 blocks, four arms", Metric: noise.CPU, Design: noise.Design{Arms: []string{"a", "b", "c", "d"}, Blocks: 8}},
		{Name: "p50, 8 blocks", Metric: noise.P50, Design: noise.Design{Arms: three, Blocks: 8}},
		{Name: "p50, 8 blocks, each arm with its own noise", Metric: noise.P50, Design: noise.Design{Arms: three, Blocks: 8, Own: true}},
		{Name: "p99, 8 blocks", Metric: noise.P99, Design: noise.Design{Arms: three, Blocks: 8}},
	}
}

// PowerCases are comparisons in which one arm is dearer than all others.
func PowerCases() []Case {
	of := func(name string, arms []string, blocks int, ratio float64) Case {
		return Case{name, noise.CPU, noise.Design{Arms: arms, Blocks: blocks, Effects: map[string]float64{"node": math.Log(ratio)}}, ratio}
	}
	return []Case{
		of("two arms, 8 blocks", two, 8, 1.10), of("two arms, 14 blocks", two, 14, 1.07),
		of("three arms, 8 blocks", three, 8, 1.12), of("three arms, 14 blocks", three, 14, 1.08),
	}
}

// Family is the number of pairs.
func (c Case) Family() int { return len(c.Design.Arms) * (len(c.Design.Arms) - 1) / 2 }

// Promised is the power that stats.Power promises for the case's ratio.
func (c Case) Promised() (float64, error) {
	return stats.Power(noise.Quick().Parts(c.Metric).SameArm(), math.Log(c.Ratio), stats.Design{Blocks: c.Design.Blocks, Family: c.Family(), Alpha: alpha})
}

// Prove has the rule of the scenario library decide the case.
func (c Case) Prove(ctx context.Context, replicates int, seed uint64) Proof {
	return LibraryRule(nil).Prove(ctx, noise.Quick().Parts(c.Metric), c.Design, replicates, seed)
}

// Kept is the share of comparisons that decided the pair whose ratio the case has.
func (c Case) Kept(p Proof) float64 {
	return float64(p.Decided[[2]string{"go", "node"}]) / float64(p.Replicates)
}
