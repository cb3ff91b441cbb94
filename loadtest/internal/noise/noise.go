// Package noise makes comparisons out of noise that was recorded and effects that are known, so that what the rule of a
// verdict promises can be counted: false verdicts, coverage, power.
//
// The noise is that of a real run (recorded.json, from results/). Each trial's logarithm is what its arm costs, plus what
// the machine did to its block, plus a rest; the rests are what is drawn from, with replacement, and so are the blocks.
package noise

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

//go:embed recorded.json
var recordedText []byte

// Recorded is the extract of a run.
type Recorded struct {
	Run    string  `json:"run"`
	About  string  `json:"about"`
	Trials []Trial `json:"trials"`
}

// Trial is what noise is taken from.
type Trial struct {
	Block           int     `json:"block"`
	Arm             string  `json:"arm"`
	Duplicate       bool    `json:"duplicate"`
	CPUUsPerRequest float64 `json:"cpu_us_per_request"`
	LatencyP50NS    int64   `json:"latency_p50_ns"`
	LatencyP99NS    int64   `json:"latency_p99_ns"`
}

// Quick is the noise of the run in results/ whose name it has.
func Quick() Recorded {
	var r Recorded
	if err := json.Unmarshal(recordedText, &r); err != nil {
		panic(fmt.Sprintf("recorded.json: %v", err)) // it is part of the program
	}
	return r
}

// Metric is a figure that noise is known of.
type Metric string

// The metrics, by their names in a record.
const (
	CPU Metric = "cpu_us_per_request"
	P50 Metric = "latency_p50_ns"
	P99 Metric = "latency_p99_ns"
)

func (m Metric) of(t Trial) float64 {
	switch m {
	case P50:
		return float64(t.LatencyP50NS)
	case P99:
		return float64(t.LatencyP99NS)
	}
	return t.CPUUsPerRequest
}

// Value reads the metric off a trial at the common rate, as a rule does.
func (m Metric) Value(t *record.Trial) (float64, bool) {
	if t.Load != record.LoadRate {
		return 0, false
	}
	switch m {
	case P50:
		return float64(t.LatencyP50NS), true
	case P99:
		return float64(t.LatencyP99NS), true
	}
	if t.CPUUsPerRequest == nil {
		return 0, false
	}
	return *t.CPUUsPerRequest, true
}

func (m Metric) set(t *record.Trial, v *float64) {
	switch m {
	case P50:
		t.LatencyP50NS = int64(math.Round(*v))
	case P99:
		t.LatencyP99NS = int64(math.Round(*v))
	default:
		t.CPUUsPerRequest = v
	}
}

// Parts are what a run's trials are made of, as logarithms.
type Parts struct {
	Metric Metric
	Blocks []float64 // what the machine did to each block; their mean is 0
	// Rests are what is left of each trial; their mean is 0. A fit takes some of the noise away: with n trials, a arms and
	// b blocks the rests have the variance (n-a-b+1)/n of it, and are widened by that.
	Rests []float64
	// ByArm are the same rests, arm by arm, the mean of each 0.
	ByArm map[string][]float64
	level float64
}

// Parts fits arms and blocks by least squares (two-way analysis of variance without interaction; of unequal numbers, so
// by turns until nothing moves).
func (r Recorded) Parts(m Metric) Parts {
	arms, blocks := map[string]float64{}, map[int]float64{}
	var level float64
	for _, t := range r.Trials {
		arms[t.Arm], blocks[t.Block] = 0, 0
		level += math.Log(m.of(t)) / float64(len(r.Trials))
	}
	for range 200 { // it converges within a few dozen
		sumArm, sumBlock := map[string]float64{}, map[int]float64{}
		nArm, nBlock := map[string]float64{}, map[int]float64{}
		for _, t := range r.Trials {
			sumArm[t.Arm] += math.Log(m.of(t)) - level - blocks[t.Block]
			nArm[t.Arm]++
		}
		for a := range arms {
			arms[a] = sumArm[a] / nArm[a]
		}
		for _, t := range r.Trials {
			sumBlock[t.Block] += math.Log(m.of(t)) - level - arms[t.Arm]
			nBlock[t.Block]++
		}
		var mean float64
		for _, b := range slices.Sorted(maps.Keys(blocks)) { // a sum in another order is another number
			blocks[b] = sumBlock[b] / nBlock[b]
			mean += blocks[b] / float64(len(blocks))
		}
		for b := range blocks {
			blocks[b] -= mean
		}
	}
	p := Parts{Metric: m, ByArm: map[string][]float64{}, level: level}
	p.Blocks = slices.Sorted(maps.Values(blocks))
	n := float64(len(r.Trials))
	widen := math.Sqrt(n / (n - float64(len(arms)+len(blocks)-1)))
	for _, t := range r.Trials {
		rest := widen * (math.Log(m.of(t)) - level - arms[t.Arm] - blocks[t.Block])
		p.ByArm[t.Arm] = append(p.ByArm[t.Arm], rest)
	}
	for _, arm := range slices.Sorted(maps.Keys(p.ByArm)) {
		centre(p.ByArm[arm])
		p.Rests = append(p.Rests, p.ByArm[arm]...)
	}
	centre(p.Rests)
	return p
}

func centre(x []float64) {
	var mean float64
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for i := range x {
		x[i] -= mean
	}
}

// SameArm has the log-ratio of every two rests, one with itself included: all that two identical arms can differ by in a
// comparison that is drawn from these parts, each as likely as the others.
func (p Parts) SameArm() []float64 {
	out := make([]float64, 0, len(p.Rests)*len(p.Rests))
	for _, a := range p.Rests {
		for _, b := range p.Rests {
			out = append(out, a-b)
		}
	}
	return out
}

// Median is what half of the trials of an arm without an effect have less of the metric than.
func (p Parts) Median() float64 {
	all := make([]float64, 0, len(p.Blocks)*len(p.Rests))
	for _, weather := range p.Blocks {
		for _, rest := range p.Rests {
			all = append(all, weather+rest)
		}
	}
	return math.Exp(p.level + stats.Median(all))
}

// Design is a comparison to be made up.
type Design struct {
	Arms []string
	// Effects are what arms cost more than nothing, as logarithms; an arm that is not named has none.
	Effects map[string]float64
	Blocks  int
	// Own lets each of the run's arms have its own rests, and every other arm those of all.
	Own bool
	// Trend is by how much the machine slows down from a block's first trial to its last, as a logarithm.
	Trend float64
	// Unshuffled is a mistake: arms in the order of their names in every block.
	Unshuffled bool
	// Run is something that happened to the whole run, as a logarithm.
	Run float64
}

// Trials makes up a comparison's trials, in blocks as package plan makes them.
func (p Parts) Trials(r *rand.Rand, d Design) []record.Trial {
	arms := make([]plan.Arm, len(d.Arms))
	for i, name := range d.Arms {
		arms[i] = plan.Arm{Name: name, Blocks: d.Blocks, Double: tier(name) != "floor"}
	}
	order, err := plan.Blocks(arms, d.Blocks, r.Uint64())
	if err != nil {
		panic(err) // a mistake in the design, which is code
	}
	out := make([]record.Trial, 0, d.Blocks*(len(d.Arms)+1))
	values := make([]float64, 0, cap(out))
	for b, block := range order {
		weather := p.Blocks[r.IntN(len(p.Blocks))]
		if d.Unshuffled {
			slices.SortFunc(block, func(x, y plan.Slot) int { return slices.Index(d.Arms, x.Arm) - slices.Index(d.Arms, y.Arm) })
			for i := range block {
				block[i].Duplicate = i > 0 && block[i-1].Arm == block[i].Arm
			}
		}
		for i, slot := range block {
			rests := p.Rests
			if own, ok := p.ByArm[slot.Arm]; ok && d.Own {
				rests = own
			}
			trend := d.Trend * float64(i) / float64(max(1, len(block)-1))
			values = append(values, math.Exp(p.level+weather+trend+d.Run+d.Effects[slot.Arm]+rests[r.IntN(len(rests))]))
			out = append(out, record.Trial{
				Scenario: "library", Operation: "q2", Load: record.LoadRate, Arm: slot.Arm, Contender: strings.TrimSuffix(slot.Arm, "-floor"), Tier: tier(slot.Arm),
				Block: b + 1, Position: i + 1, Duplicate: slot.Duplicate,
			})
			p.Metric.set(&out[len(out)-1], &values[len(values)-1])
		}
	}
	return out
}

// tier is that of an arm by its name.
func tier(arm string) string {
	if strings.HasSuffix(arm, "-floor") {
		return "floor"
	}
	return "mainstream"
}

// Replicates calls f n times, on all CPUs, each time with random numbers that depend on seed and the replicate's number
// alone; results are added up by the caller, one for each worker, so that the sum is the same on any machine. Once the
// context has ended it returns with what there is, which is of no use.
func Replicates[T any](ctx context.Context, n int, seed uint64, f func(r *rand.Rand, sum *T), add func(into *T, from T)) T {
	workers := runtime.GOMAXPROCS(0)
	sums := make([]T, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				f(rand.New(rand.NewPCG(seed, uint64(i))), &sums[w])
			}
		})
	}
	all.Wait()
	for _, s := range sums[1:] {
		add(&sums[0], s)
	}
	return sums[0]
}
