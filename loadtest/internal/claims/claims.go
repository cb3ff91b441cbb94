// Package claims turns the records of a run into verdicts, each by a rule that was fixed before the run.
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

// The four verdicts.
const (
	Holds        = "holds"
	Contradicted = "contradicted"
	TooClose     = "too close to call"
	Untested     = "cannot be tested here"
)

const (
	alpha = 0.05
	// libraryMargin is the ratio of CPU per request below which nobody would choose by it.
	libraryMargin = 1.05
)

// metricCPU decides the scenario library: it survives a noisy machine.
const metricCPU = "cpu_us_per_request"

// Library decides, for each pair of the run's mainstream arms, "these two differ in CPU per request". The family of
// Holm's correction is those pairs. It holds where the corrected p is below 0.05 and the effect is beyond what
// identical arms (A/A) differ by; it never is contradicted, since a difference not found is not equality.
func Library(trials []record.Trial) []record.Verdict {
	arms := mainstream(trials)
	values := cpuByBlock(trials)
	noise, noiseErr := stats.NoiseFloor(sameArm(trials))
	var verdicts []record.Verdict
	var ps []float64
	var decided []int
	for i, a := range arms {
		for _, b := range arms[i+1:] {
			v := record.Verdict{
				ID: fmt.Sprintf("library/%s/%s-vs-%s", metricCPU, a, b), Scenario: "library", Metric: metricCPU,
				Arms: [2]string{a, b}, Margin: libraryMargin,
			}
			d, err := pairs(values[a], values[b])
			v.Blocks = len(d)
			if err == nil {
				err = decide(&v, d)
			}
			if err != nil {
				v.Verdict, v.Reason = Untested, err.Error()
			} else {
				ps = append(ps, *v.P)
				decided = append(decided, len(verdicts))
			}
			verdicts = append(verdicts, v)
		}
	}
	for k, p := range stats.Holm(ps) {
		v := &verdicts[decided[k]]
		v.PHolm = pointer(p)
		if noiseErr == nil && !math.IsInf(noise, 0) {
			v.NoiseFloor = pointer(math.Exp(noise))
		}
		switch need := stats.MinPairs(alpha, len(ps)); {
		case v.Blocks < need:
			v.Verdict, v.Reason = Untested, fmt.Sprintf("%s; a family of %d pairs needs at least %d", blocksText(v.Blocks), len(ps), need)
		case v.NoiseFloor == nil:
			v.Verdict, v.Reason = Untested, "too few A/A pairs to know what identical arms differ by"
		case p >= alpha:
			v.Verdict, v.Reason = TooClose, fmt.Sprintf("p %.3f after Holm's correction", p)
		case math.Abs(math.Log(*v.Ratio)) <= noise:
			v.Verdict, v.Reason = TooClose, fmt.Sprintf("identical arms differ by up to %.1f %%", 100*(*v.NoiseFloor-1))
		default:
			cheaper, dearer, ratio := order(v.Arms, *v.Ratio)
			v.Verdict, v.Reason = Holds, fmt.Sprintf("%s costs %.2f times the CPU of %s", dearer, ratio, cheaper)
		}
	}
	return verdicts
}

// LeastBlocks is the smallest number of blocks that any pair of mainstream arms has both of, void trials left out.
func LeastBlocks(trials []record.Trial) int {
	values := cpuByBlock(trials)
	arms := mainstream(trials)
	least := math.MaxInt
	for i, a := range arms {
		for _, b := range arms[i+1:] {
			both := 0
			for block := range values[a] {
				if _, ok := values[b][block]; ok {
					both++
				}
			}
			least = min(least, both)
		}
	}
	return least
}

func mainstream(trials []record.Trial) []string {
	var arms []string
	for _, t := range trials {
		if t.Tier == "mainstream" && !slices.Contains(arms, t.Arm) {
			arms = append(arms, t.Arm)
		}
	}
	return arms
}

func blocksText(n int) string {
	if n == 1 {
		return "1 block"
	}
	return fmt.Sprintf("%d blocks", n)
}

func order(arms [2]string, ratio float64) (cheaper, dearer string, by float64) {
	if ratio >= 1 {
		return arms[1], arms[0], ratio
	}
	return arms[0], arms[1], 1 / ratio
}

func decide(v *record.Verdict, d []float64) error {
	if len(d) == 0 {
		return errors.New("no block in which both were measured")
	}
	p, err := stats.SignFlip(d, 0)
	if err != nil {
		return err
	}
	low, high, err := stats.Interval(d, 1-alpha)
	if err != nil {
		return err
	}
	v.P, v.Ratio = pointer(p), pointer(math.Exp(stats.Mean(d)))
	if !math.IsInf(low, 0) {
		v.RatioLow, v.RatioHigh = pointer(math.Exp(low)), pointer(math.Exp(high))
	}
	return nil
}

// cpuByBlock gives arm → block → CPU per request of the trial at the common rate; void trials and the second of an
// A/A pair are left out.
func cpuByBlock(trials []record.Trial) map[string]map[int]float64 {
	out := map[string]map[int]float64{}
	for _, t := range trials {
		if t.Load != record.LoadRate || t.Void != nil || t.Duplicate || t.CPUUsPerRequest == nil {
			continue
		}
		if out[t.Arm] == nil {
			out[t.Arm] = map[int]float64{}
		}
		out[t.Arm][t.Block] = *t.CPUUsPerRequest
	}
	return out
}

// pairs gives the log-ratios of the blocks that both have.
func pairs(x, y map[int]float64) ([]float64, error) {
	var xs, ys []float64
	for _, block := range slices.Sorted(maps.Keys(x)) { // a sum in another order is another number
		if w, ok := y[block]; ok {
			xs, ys = append(xs, x[block]), append(ys, w)
		}
	}
	return stats.LogRatios(xs, ys)
}

// sameArm gives the log-ratios of the A/A pairs.
func sameArm(trials []record.Trial) []float64 {
	first := cpuByBlock(trials)
	var out []float64
	for _, t := range trials {
		if t.Load != record.LoadRate || t.Void != nil || !t.Duplicate || t.CPUUsPerRequest == nil {
			continue
		}
		if v, ok := first[t.Arm][t.Block]; ok && v > 0 && *t.CPUUsPerRequest > 0 {
			out = append(out, math.Log(*t.CPUUsPerRequest/v))
		}
	}
	return out
}

func pointer(x float64) *float64 { return &x }
