package claims

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// Claim is what a rule says of each pair of its arms.
type Claim string

const (
	// Differ is "these two differ". It holds where the exact test says so after Holm's correction and the effect is beyond
	// the noise floor. It is never contradicted: a difference that was not found is not equality.
	Differ Claim = "differ"
	// Equal is "these two are the same within the margin". It holds where the whole interval of the ratio is inside the
	// margin, corrected by Holm; it is contradicted where all of it is outside, beyond the noise floor as well.
	Equal Claim = "equal"
	// Less is "the first has less of it than the second". It holds where Differ would and the ratio is below 1, and is
	// contradicted where Differ would and the ratio is above 1: the test has two sides, so both errors together are as
	// seldom as alpha says.
	Less Claim = "less"
	// Within is "each arm has less of it than a bound". It holds where the exact sign test says, after Holm's correction, that
	// the arm's median over the blocks is below the bound, and is contradicted where it is above. A bound is no arm: what the
	// machine does to a block does not cancel, and need not be symmetric, so that the sign-flip test does not apply; and
	// identical arms have no part in it. One wrong answer contradicts the claim, whatever the metric says.
	Within Claim = "within"
)

// Rule decides a claim about one metric, for each pair of arms, from one number per trial. The pairs are the family of
// Holm's correction. The rule is fixed before anything is measured.
//
// A pair's numbers are the log-ratios within the blocks that have both arms. Their test is the exact sign-flip test
// (stats.SignFlip), their interval inverts it (stats.Interval), the noise floor is that of the A/A pairs
// (stats.NoiseFloor), and equality is tested against both ends of the margin (stats.Equivalence). Of Within they are the
// log-ratios to the bound, the ratio is their median, the test the sign test (stats.SignTest) and the interval that of order
// statistics (stats.MedianInterval).
type Rule struct {
	Scenario, Metric string
	Claim            Claim
	// Margin is a ratio above 1: the effect that nobody would care about, and for Equal the one that is tested.
	Margin float64
	// Bound is, of Within, what each arm's numbers are held against; its pairs are an arm and contract.Bound.
	Bound float64
	// Baselines have, for an arm, another whose number of the same block is taken off its own: what decides is the growth. A
	// block in which there is none has no number.
	Baselines map[string]string
	// Pairs are what is compared; nil: every two of Arms, in their order.
	Pairs [][2]string
	Arms  []string
	// Absent are arms that were not measured, each with the reason: their pairs cannot be tested, and are not in the family. Nor are
	// those of an arm that answered without the statements that its requests take.
	Absent map[string]string
	// Value is a trial's number; false where the trial has none or is not one that the claim is about. Void trials are
	// left out before, and the second of an A/A pair counts for the noise floor only.
	Value func(t *record.Trial) (float64, bool)
	// Per, where there is one, is the number of another trial of the same process, by which Value's is divided. A process that has
	// only one of them has no number.
	Per func(t *record.Trial) (float64, bool)
	// Says puts a ratio above 1 into words; nil: in terms of the metric.
	Says func(more, less string, ratio float64) string
}

// method is how a rule decides. There is one; tests break it to see that its proof would notice.
type method struct {
	pair       func(x, y map[int]float64) ([]float64, error)
	test       func(d []float64, shift float64) (float64, error)
	equivalent func(d []float64, margin float64) (p float64, inside bool, err error)
	interval   func(d []float64, confidence float64) (low, high float64, err error)
	side       func(d []float64, shift float64) (float64, error) // of Within
	correct    func(p []float64) []float64
	floor      func(aa []float64) (float64, error)
}

var exact = method{pairs, stats.SignFlip, stats.Equivalence, stats.Interval, stats.SignTest, stats.Holm, stats.NoiseFloor}

// Decide gives one verdict for each pair of arms.
func (r Rule) Decide(trials []record.Trial) []record.Verdict { return r.decide(trials, exact) }

func (r Rule) decide(trials []record.Trial, m method) []record.Verdict {
	values := r.values(trials)
	var verdicts []record.Verdict
	inside := map[int]bool{} // of Equal: what the pair's p is for
	for _, pair := range r.pairs() {
		v := record.Verdict{
			ID: fmt.Sprintf("%s/%s/%s-vs-%s", r.Scenario, r.Metric, pair[0], pair[1]), Scenario: r.Scenario, Metric: r.Metric,
			Arms: pair, Margin: r.Margin,
		}
		if why := cmp.Or(r.Absent[pair[0]], r.Absent[pair[1]], withoutWork(trials, pair[:]...)); why != "" {
			v.Verdict, v.Reason = Untested, why
			verdicts = append(verdicts, v)
			continue
		}
		other := values[pair[1]]
		if r.Claim == Within {
			other = r.bound(values[pair[0]])
		}
		d, err := m.pair(values[pair[0]], other)
		v.Blocks = len(d)
		if err == nil {
			inside[len(verdicts)], err = r.measure(&v, d, m)
		}
		if err != nil {
			v.Verdict, v.Reason = Untested, err.Error()
		}
		verdicts = append(verdicts, v)
	}
	m.family(verdicts, r.sameArm(trials), r.Claim == Within, func(i int, v *record.Verdict, noise float64) {
		switch r.Claim {
		case Within:
			r.within(v, *v.PHolm)
		case Equal:
			r.equal(v, *v.PHolm, noise, inside[i])
		default:
			differ(v, noise, r.Claim == Less && *v.Ratio > 1, difference{found: r.words(*v)})
		}
	})
	if r.Claim == Within {
		for i := range verdicts {
			if n := wrongAnswers(trials, verdicts[i].Arms[0]); n > 0 {
				verdicts[i].Verdict, verdicts[i].Reason = Contradicted, fmt.Sprintf("%s gave %s", verdicts[i].Arms[0], counted(int(n), "wrong answer"))
			}
		}
	}
	return verdicts
}

// family ends the verdicts that have a p, which are the family: decide has those that have blocks enough and, unless each arm
// stands alone, A/A pairs enough to know the noise floor, a logarithm.
func (m method) family(verdicts []record.Verdict, aa []float64, alone bool, decide func(i int, v *record.Verdict, noise float64)) {
	var ps []float64
	var tested []int
	for i := range verdicts {
		if verdicts[i].P != nil {
			ps, tested = append(ps, *verdicts[i].P), append(tested, i)
		}
	}
	noise, err := m.floor(aa)
	for k, p := range m.correct(ps) {
		v := &verdicts[tested[k]]
		v.PHolm = pointer(p)
		if !alone && err == nil && !math.IsInf(noise, 0) {
			v.NoiseFloor = pointer(math.Exp(noise))
		}
		switch need := stats.MinPairs(alpha, len(ps)); {
		case v.Blocks < need:
			v.Verdict, v.Reason = Untested, fmt.Sprintf("%s; a family of %s needs at least %d", counted(v.Blocks, "block"), counted(len(ps), "pair"), need)
		case !alone && v.NoiseFloor == nil:
			v.Verdict, v.Reason = Untested, "too few A/A pairs to know what identical arms differ by"
		default:
			decide(tested[k], v, noise)
		}
	}
}

// difference is what a verdict says: that it was found, and what stands before the reason why it was not.
type difference struct{ found, beforeP, beforeNoise string }

// differ decides by p and by what identical arms differ by; against is whether what was found contradicts the claim.
func differ(v *record.Verdict, noise float64, against bool, words difference) {
	switch p := *v.PHolm; {
	case p >= alpha:
		v.Verdict, v.Reason = TooClose, words.beforeP+fmt.Sprintf("p %.3f after Holm's correction", p)
	case math.Abs(math.Log(*v.Ratio)) <= noise:
		v.Verdict, v.Reason = TooClose, words.beforeNoise+fmt.Sprintf("identical arms differ by up to %.1f %%", 100*(*v.NoiseFloor-1))
	case against:
		v.Verdict, v.Reason = Contradicted, words.found
	default:
		v.Verdict, v.Reason = Holds, words.found
	}
}

// bound is that of Within in each block that an arm has a number of.
func (r Rule) bound(arm map[int]float64) map[int]float64 {
	out := make(map[int]float64, len(arm))
	for block := range arm {
		out[block] = r.Bound
	}
	return out
}

// within decides "this arm has less than the bound".
func (r Rule) within(v *record.Verdict, p float64) {
	switch {
	case p >= alpha:
		v.Verdict, v.Reason = TooClose, fmt.Sprintf("p %.3f after Holm's correction", p)
	case *v.Ratio > 1:
		v.Verdict, v.Reason = Contradicted, fmt.Sprintf("the %s of %s is %.2f times the bound", MetricWords(r.Metric), v.Arms[0], *v.Ratio)
	default:
		v.Verdict, v.Reason = Holds, fmt.Sprintf("the %s of %s is %.2f times the bound", MetricWords(r.Metric), v.Arms[0], *v.Ratio)
	}
}

// withoutWork is why arms cannot be held against others, or empty: one of them has answered without asking the database what the
// answer takes. What its other trials say is of a server that may do so at any time.
func withoutWork(trials []record.Trial, arms ...string) string {
	for i := range trials {
		if t := &trials[i]; t.LacksStatements() && slices.Contains(arms, t.Arm) {
			why := fmt.Sprintf("%.2f SQL statements a request in place of %.2f", *t.StatementsPerRequest, *t.StatementsLeastPerRequest)
			if t.Void != nil {
				why = *t.Void
			}
			return t.Arm + ": " + why
		}
	}
	return ""
}

// wrongAnswers are an arm's in all its trials, void ones and the second of an A/A pair too.
func wrongAnswers(trials []record.Trial, arm string) uint64 {
	var n uint64
	for i := range trials {
		if trials[i].Arm == arm {
			n += trials[i].FailedBy.WrongAnswer
		}
	}
	return n
}

func (r Rule) pairs() [][2]string {
	if r.Pairs != nil {
		return slices.Clone(r.Pairs)
	}
	out := [][2]string{}
	for i, a := range r.Arms {
		if r.Claim == Within {
			out = append(out, [2]string{a, contract.Bound})
			continue
		}
		for _, b := range r.Arms[i+1:] {
			out = append(out, [2]string{a, b})
		}
	}
	return out
}

// equal decides "these two are the same within the margin".
func (r Rule) equal(v *record.Verdict, p, noise float64, inside bool) {
	margin := fmt.Sprintf("%.1f %%", 100*(r.Margin-1))
	switch {
	case p >= alpha && inside && noise >= math.Log(r.Margin):
		v.Verdict, v.Reason = TooClose, fmt.Sprintf("identical arms differ by up to %.1f %%, which is no less than the margin of %s", 100*(*v.NoiseFloor-1), margin)
	case p >= alpha && inside:
		v.Verdict, v.Reason = TooClose, fmt.Sprintf("not shown to be within %s: p %.3f after Holm's correction", margin, p)
	case p >= alpha:
		v.Verdict, v.Reason = TooClose, fmt.Sprintf("not shown to be more than %s apart: p %.3f after Holm's correction", margin, p)
	case inside:
		v.Verdict, v.Reason = Holds, fmt.Sprintf("the whole interval of the ratio is within %s", margin)
	case math.Abs(math.Log(*v.Ratio)) <= noise:
		v.Verdict, v.Reason = TooClose, fmt.Sprintf("identical arms differ by up to %.1f %%", 100*(*v.NoiseFloor-1))
	default:
		v.Verdict, v.Reason = Contradicted, fmt.Sprintf("%s, and the whole interval is beyond %s", r.words(*v), margin)
	}
}

func (r Rule) words(v record.Verdict) string {
	less, more, ratio := order(v.Arms, *v.Ratio)
	if r.Says != nil {
		return r.Says(more, less, ratio)
	}
	return fmt.Sprintf("%s has %.2f times the %s of %s", more, ratio, decidingWords(r.Metric, r.Baselines), less)
}

// values gives arm → block → what decides.
func (r Rule) values(trials []record.Trial) map[string]map[int]float64 {
	all := r.numbers(trials, false)
	return r.grow(all, all)
}

// grow takes their baselines off numbers; all are those of the first processes, baselines among them.
func (r Rule) grow(all, numbers map[string]map[int]float64) map[string]map[int]float64 {
	out := map[string]map[int]float64{}
	for arm, blocks := range numbers {
		out[arm] = map[int]float64{}
		for block, v := range blocks {
			if grown, ok := r.grown(all, arm, block, v); ok {
				out[arm][block] = grown
			}
		}
	}
	return out
}

// numbers are those of the processes, by arm and block: of the first, or of the second of A/A pairs.
func (r Rule) numbers(trials []record.Trial, second bool) map[string]map[int]float64 {
	if r.Per == nil {
		return byBlock(trials, second, r.Value)
	}
	per := map[record.Process]float64{}
	for i := range trials {
		if v, ok := r.Per(&trials[i]); ok && trials[i].Void == nil {
			per[trials[i].Process()] = v
		}
	}
	return byBlock(trials, second, func(t *record.Trial) (float64, bool) {
		v, ok := r.Value(t)
		by := per[t.Process()]
		return v / by, ok && by > 0
	})
}

// grown takes an arm's baseline off its number.
func (r Rule) grown(all map[string]map[int]float64, arm string, block int, v float64) (float64, bool) {
	baseline, has := r.Baselines[arm]
	if !has {
		return v, true
	}
	less, ok := all[baseline][block]
	return v - less, ok && v > less
}

// sameArm gives the log-ratios of the A/A pairs: the second's number over the first's.
func (r Rule) sameArm(trials []record.Trial) []float64 {
	first := r.numbers(trials, false)
	return sameArm(r.grow(first, first), r.grow(first, r.numbers(trials, true)))
}

// measure fills in a pair's ratio, interval and p.
func (r Rule) measure(v *record.Verdict, d []float64, m method) (inside bool, err error) {
	if len(d) == 0 {
		return false, errors.New("no block in which both were measured")
	}
	var p float64
	if r.Claim == Within {
		if p, err = m.side(d, 0); err != nil {
			return false, err
		}
		low, high := stats.MedianInterval(d, 1-alpha)
		v.P, v.Ratio = pointer(p), pointer(math.Exp(stats.Median(d)))
		if !math.IsInf(low, 0) {
			v.RatioLow, v.RatioHigh = pointer(math.Exp(low)), pointer(math.Exp(high))
		}
		return false, nil
	}
	if r.Claim == Equal {
		p, inside, err = m.equivalent(d, math.Log(r.Margin))
	} else {
		p, err = m.test(d, 0)
	}
	if err != nil {
		return false, err
	}
	low, high, err := m.interval(d, 1-alpha)
	if err != nil {
		return false, err
	}
	v.P, v.Ratio = pointer(p), pointer(math.Exp(stats.Mean(d)))
	if !math.IsInf(low, 0) {
		v.RatioLow, v.RatioHigh = pointer(math.Exp(low)), pointer(math.Exp(high))
	}
	return inside, nil
}

// byBlock gives arm → block → the trial's number, of the first processes or of the second of A/A pairs; void trials are left out.
func byBlock(trials []record.Trial, second bool, value func(*record.Trial) (float64, bool)) map[string]map[int]float64 {
	out := map[string]map[int]float64{}
	for i := range trials {
		t := &trials[i]
		if t.Void != nil || t.Duplicate != second {
			continue
		}
		v, ok := value(t)
		if !ok {
			continue
		}
		if out[t.Arm] == nil {
			out[t.Arm] = map[int]float64{}
		}
		out[t.Arm][t.Block] = v
	}
	return out
}

// sameArm gives the log-ratios of the A/A pairs, the second's number over the first's.
func sameArm(first, second map[string]map[int]float64) []float64 {
	var out []float64
	for _, arm := range slices.Sorted(maps.Keys(second)) {
		for _, block := range slices.Sorted(maps.Keys(second[arm])) {
			v, w := second[arm][block], first[arm][block]
			if v > 0 && w > 0 {
				out = append(out, math.Log(v/w))
			}
		}
	}
	return out
}

// CPUAtRate is CPU per request, in µs, of a trial at the common rate.
func CPUAtRate(t *record.Trial) (float64, bool) {
	if t.Load != record.LoadRate || t.CPUUsPerRequest == nil {
		return 0, false
	}
	return *t.CPUUsPerRequest, true
}
