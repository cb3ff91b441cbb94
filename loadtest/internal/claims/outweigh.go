package claims

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// Outweigh decides, for each pair of two languages, "the choice of library changes more than the choice of language": the
// ratio of the claim's two libraries is further from 1, up or down, than the ratio of the pair. Of no claim there is no
// verdict, nor of a pair that has an arm without a trial.
//
// With L and G the logarithms of the two ratios within a block, |L| is above |G| where L − G and L + G have one sign, and
// below it where they have two. Each of them has its exact sign-flip test, and both must be significant: an
// intersection–union test, whose p is the larger one (Berger, Multiparameter hypothesis testing and acceptance sampling,
// Technometrics 1982). Holm corrects over the pairs. A verdict's ratio is the factor by which the library changes over the
// factor by which the language does, exp(|L| − |G|), and its interval inverts the test of that difference.
func Outweigh(o *record.Outweighs, trials []record.Trial) []record.Verdict {
	if o == nil {
		return nil
	}
	values := byBlock(trials, false, CPUAtRate)
	var verdicts []record.Verdict
	weighed := map[int]weighing{}
	for _, pair := range o.Pairs {
		if slices.ContainsFunc([]string{o.Library[0], o.Library[1], pair[0], pair[1]}, func(arm string) bool { return !has(trials, arm) }) {
			continue
		}
		v := record.Verdict{
			ID: fmt.Sprintf("%s/outweighs/%s-vs-%s", scenarioLibrary, pair[0], pair[1]), Scenario: scenarioLibrary, Metric: o.Metric,
			Arms: pair, Library: &o.Library, Margin: o.Margin,
		}
		if why := withoutWork(trials, o.Library[0], o.Library[1], pair[0], pair[1]); why != "" {
			v.Verdict, v.Reason = Untested, why
			verdicts = append(verdicts, v)
			continue
		}
		w, err := weigh(values, o.Library, pair)
		v.Blocks = w.blocks
		if err != nil {
			v.Verdict, v.Reason = Untested, err.Error()
		} else {
			v.P, v.Ratio = pointer(w.p), pointer(math.Exp(w.mean))
			if !math.IsInf(w.low, 0) {
				v.RatioLow, v.RatioHigh = pointer(math.Exp(w.low)), pointer(math.Exp(w.high))
			}
			weighed[len(verdicts)] = w
		}
		verdicts = append(verdicts, v)
	}
	exact.family(verdicts, sameArm(values, byBlock(trials, true, CPUAtRate)), false, func(i int, v *record.Verdict, noise float64) {
		w := weighed[i]
		words := fmt.Sprintf("%s in place of %s changes the %s by a factor of %.2f, %s in place of %s by one of %.2f",
			o.Library[1], o.Library[0], MetricWords(o.Metric), w.library, v.Arms[1], v.Arms[0], w.language)
		differ(v, noise, w.mean < 0, difference{found: words, beforeP: words + ": ", beforeNoise: words + ", and "})
	})
	return verdicts
}

// weighing is what the choice of library changes, held against what the choice of language does.
type weighing struct {
	blocks int
	p      float64 // of both tests, the larger one
	// mean, low and high are of |L| − |G|, in logarithms; without enough blocks the interval is infinite.
	mean, low, high float64
	// library and language are the two factors, at least 1.
	library, language float64
}

func weigh(values map[string]map[int]float64, library, pair [2]string) (w weighing, err error) {
	arms := [4]string{library[0], library[1], pair[0], pair[1]}
	var l, g []float64
	for _, block := range slices.Sorted(maps.Keys(values[arms[0]])) { // a sum in another order is another number
		var x [4]float64
		whole := true
		for i, arm := range arms {
			v, ok := values[arm][block]
			x[i], whole = v, whole && ok && v > 0
		}
		if whole {
			l, g = append(l, math.Log(x[0]/x[1])), append(g, math.Log(x[2]/x[3]))
		}
	}
	if w.blocks = len(l); w.blocks == 0 {
		return w, errors.New("no block in which all were measured")
	}
	meanL, meanG := stats.Mean(l), stats.Mean(g)
	signL, signG := math.Copysign(1, meanL), math.Copysign(1, meanG)
	apart, together, difference := make([]float64, len(l)), make([]float64, len(l)), make([]float64, len(l))
	for i := range l {
		apart[i], together[i], difference[i] = l[i]-g[i], l[i]+g[i], signL*l[i]-signG*g[i]
	}
	for _, d := range [][]float64{apart, together} {
		p, err := stats.SignFlip(d, 0)
		if err != nil {
			return w, err
		}
		w.p = max(w.p, p)
	}
	if w.low, w.high, err = stats.Interval(difference, 1-alpha); err != nil {
		return w, err
	}
	w.mean = stats.Mean(difference)
	w.library, w.language = math.Exp(math.Abs(meanL)), math.Exp(math.Abs(meanG))
	return w, nil
}
