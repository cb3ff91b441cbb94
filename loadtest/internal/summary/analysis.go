package summary

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// Group is what was measured of one operation in one scenario.
type Group struct {
	Scenario  string
	Operation string
	Closed    bool  // a closed loop: there is no common rate
	Arms      []Arm // a language's arms stand together, the floor first; languages by their cheapest mainstream arm
}

// Arm has an arm's trials of a group. Void ones are in no figure, and neither is the second of an A/A pair, which only
// tells how much identical arms differ: each block counts once.
type Arm struct {
	Name          string
	Contender     string
	Tier          string
	Rate          []record.Trial // at the common rate, not void
	Throughput    []record.Trial // beyond what the arm bears or in a closed loop, not void
	ClosedLoops   []record.Trial // of a number of connections each, not void
	Duplicates    []record.Trial // the second of A/A pairs, not void
	Void, Trials  int
	Nonconformant bool
	closed        bool
}

// Quantity is one number per trial, and what the trials say of it together.
type Quantity struct {
	Values    []float64
	Trials    []record.Trial // the trial of each value
	Median    float64        // NaN of nothing
	Geometric bool           // Median is the geometric mean, of ratios
	Low, High float64        // 95 %, exact, of the median; infinite where the trials are too few
}

// Least and Most are the ends of what was seen.
func (q Quantity) Least() float64 { return edge(q.Values, slices.Min[[]float64]) }

// Most is the largest value.
func (q Quantity) Most() float64 { return edge(q.Values, slices.Max[[]float64]) }

func edge(x []float64, f func([]float64) float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	return f(x)
}

// HasInterval tells whether the trials are enough for a 95 % interval.
func (q Quantity) HasInterval() bool { return len(q.Values) > 0 && !math.IsInf(q.Low, 0) }

// Requests is how many were sent in the trials.
func (q Quantity) Requests() uint64 {
	var n uint64
	for _, t := range q.Trials {
		n += t.Sent
	}
	return n
}

// Of takes one number from each trial that has it.
func Of(trials []record.Trial, value func(record.Trial) (float64, bool)) Quantity {
	q := Quantity{Median: math.NaN(), Low: math.Inf(-1), High: math.Inf(1)}
	for _, t := range trials {
		if v, ok := value(t); ok {
			q.Values, q.Trials = append(q.Values, v), append(q.Trials, t)
		}
	}
	if len(q.Values) > 0 {
		q.Median = stats.Median(q.Values)
		q.Low, q.High = stats.MedianInterval(q.Values, 0.95)
	}
	return q
}

// Costed has the trials that CPU per request is told of: those at the common rate, or in a closed loop all. The two are
// never mixed: a busy server pays less for a request than one that is woken for it.
func (a Arm) Costed() []record.Trial {
	if a.closed {
		return a.Throughput
	}
	return a.Rate
}

// CPU is microseconds per request.
func (a Arm) CPU() Quantity {
	return Of(a.Costed(), func(t record.Trial) (float64, bool) {
		if t.CPUUsPerRequest == nil {
			return 0, false
		}
		return *t.CPUUsPerRequest, true
	})
}

// Answers is how many a second where the arm was always busy.
func (a Arm) Answers() Quantity {
	return Of(a.Throughput, func(t record.Trial) (float64, bool) { return t.AchievedRPS, true })
}

// ClosedAnswers is how many a second in closed loops of so many connections.
func (a Arm) ClosedAnswers(connections int) Quantity {
	return Of(a.ClosedAt(connections), func(t record.Trial) (float64, bool) { return t.AchievedRPS, true })
}

// ClosedGrowth is how many times the answers a second of fewer connections those of so many are, of each process that was
// asked with both.
func (a Arm) ClosedGrowth(fewer, connections int) Quantity {
	first := map[record.Process]float64{}
	for _, t := range a.ClosedAt(fewer) {
		first[t.Process()] = t.AchievedRPS
	}
	return Of(a.ClosedAt(connections), func(t record.Trial) (float64, bool) {
		by := first[t.Process()]
		return t.AchievedRPS / by, by > 0
	})
}

// ClosedLatency is a percentile in milliseconds of the closed loops of so many connections, of those whose requests carry it.
func (a Arm) ClosedLatency(p Percentile, connections int) Quantity {
	return Of(a.ClosedAt(connections), func(t record.Trial) (float64, bool) {
		return float64(p.Of(t)) / 1e6, stats.Carries(p.Quantile, t.Sent)
	})
}

// ClosedCPU is CPU per request in µs in closed loops of so many connections.
func (a Arm) ClosedCPU(connections int) Quantity {
	return Of(a.ClosedAt(connections), func(t record.Trial) (float64, bool) {
		if t.CPUUsPerRequest == nil {
			return 0, false
		}
		return *t.CPUUsPerRequest, true
	})
}

// ClosedAt has the trials of closed loops of so many connections.
func (a Arm) ClosedAt(connections int) []record.Trial {
	return slices.DeleteFunc(slices.Clone(a.ClosedLoops), func(t record.Trial) bool { return t.Connections != connections })
}

// Latency is a percentile in milliseconds of each trial at the common rate whose requests carry it.
func (a Arm) Latency(p Percentile) Quantity {
	return Of(a.Rate, func(t record.Trial) (float64, bool) {
		return float64(p.Of(t)) / 1e6, stats.Carries(p.Quantile, t.Sent)
	})
}

// MedianSecond is the p99 in milliseconds of each trial's median second at the common rate, of those that have one.
func (a Arm) MedianSecond() Quantity {
	return Of(a.Rate, func(t record.Trial) (float64, bool) {
		if t.LatencyP99MedianSecondNS == nil {
			return 0, false
		}
		return float64(*t.LatencyP99MedianSecondNS) / 1e6, true
	})
}

// LatencyOf is Latency of one operation of a mix, or of all requests where the trials are of no mix.
func (a Arm) LatencyOf(p Percentile, operation string) Quantity {
	return Of(a.Rate, func(t record.Trial) (float64, bool) {
		if o := t.OperationNamed(operation); o != nil {
			return float64(p.OfOperation(*o)) / 1e6, stats.Carries(p.Quantile, o.Sent)
		}
		return float64(p.Of(t)) / 1e6, stats.Carries(p.Quantile, t.Sent)
	})
}

// Percentile is one that records have.
type Percentile struct {
	Name     string
	Quantile float64
	Of       func(record.Trial) int64 // nanoseconds
}

// Metric is what records and rules call it.
func (p Percentile) Metric() string {
	return "latency_" + strings.ReplaceAll(p.Name, ".", "") + "_ns"
}

// PercentileOf is that of a metric, where it is of one.
func PercentileOf(metric string) (Percentile, bool) {
	for _, p := range Percentiles() {
		if p.Metric() == metric {
			return p, true
		}
	}
	return Percentile{}, false
}

// OfOperation is that of an operation of a mix, in nanoseconds.
func (p Percentile) OfOperation(o record.OperationFigures) int64 {
	return p.Of(record.Trial{LatencyP50NS: o.LatencyP50NS, LatencyP90NS: o.LatencyP90NS, LatencyP99NS: o.LatencyP99NS, LatencyP999NS: o.LatencyP999NS})
}

// Percentiles are those of the tables.
func Percentiles() []Percentile {
	return []Percentile{
		{"p50", 0.5, func(t record.Trial) int64 { return t.LatencyP50NS }},
		{"p90", 0.9, func(t record.Trial) int64 { return t.LatencyP90NS }},
		{"p99", 0.99, func(t record.Trial) int64 { return t.LatencyP99NS }},
		{"p99.9", 0.999, func(t record.Trial) int64 { return t.LatencyP999NS }},
	}
}

// Memory is megabytes (10⁶ bytes) of what a record has under a name, of one process a block.
func (a Arm) Memory(of func(record.Trial) *int64) Quantity {
	return a.ofProcesses(func(t record.Trial) (float64, bool) {
		if v := of(t); v != nil {
			return float64(*v) / 1e6, true
		}
		return 0, false
	})
}

// ColdStart is milliseconds from the start of the process to its first right answer.
func (a Arm) ColdStart() Quantity {
	return a.ofProcesses(func(t record.Trial) (float64, bool) { return float64(t.ColdStartNS) / 1e6, t.ColdStartNS > 0 })
}

// ofProcesses takes one number from each block, the larger of its trials: they share a process, so two numbers of it
// would feign twice the evidence.
func (a Arm) ofProcesses(value func(record.Trial) (float64, bool)) Quantity {
	largest := map[int]record.Trial{}
	for _, t := range append(slices.Clone(a.Rate), a.Throughput...) {
		v, ok := value(t)
		if !ok {
			continue
		}
		if other, had := largest[t.Block]; had {
			if w, _ := value(other); w >= v {
				continue
			}
		}
		largest[t.Block] = t
	}
	var trials []record.Trial
	for _, block := range slices.Sorted(maps.Keys(largest)) {
		trials = append(trials, largest[block])
	}
	return Of(trials, value)
}

// Statements is how many SQL statements a request took.
func (a Arm) Statements() Quantity {
	return Of(a.Costed(), func(t record.Trial) (float64, bool) {
		if t.StatementsPerRequest == nil {
			return 0, false
		}
		return *t.StatementsPerRequest, true
	})
}

// Bottleneck is what most often held the arm back where it was always busy, and in how many of the trials.
func (a Arm) Bottleneck() (name string, trials int) { return bottleneck(a.Throughput) }

// ClosedBottleneck is the same of closed loops of so many connections.
func (a Arm) ClosedBottleneck(connections int) (name string, trials int) {
	return bottleneck(a.ClosedAt(connections))
}

func bottleneck(of []record.Trial) (name string, trials int) {
	counts := map[string]int{}
	for _, t := range of {
		counts[t.Bottleneck]++
	}
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		if counts[k] > trials {
			name, trials = k, counts[k]
		}
	}
	return name, trials
}

// Floor is the arm of the same contender that answers by hand; nil where there is none or it is that arm.
func (g Group) Floor(a Arm) *Arm {
	if a.Tier == "floor" {
		return nil
	}
	for i := range g.Arms {
		if g.Arms[i].Tier == "floor" && g.Arms[i].Contender == a.Contender {
			return &g.Arms[i]
		}
	}
	return nil
}

// OverFloor is CPU per request over that of the floor, one ratio for each block in which both were measured: what the
// machine did to a block then cancels. The interval inverts the sign-flip test.
func (g Group) OverFloor(a Arm) Quantity {
	f := g.Floor(a)
	if f == nil {
		return Of(nil, nil)
	}
	return Ratio(a, *f)
}

// Ratio is a's CPU per request over b's, block by block. Median is the geometric mean here, as in verdicts, to which
// the interval belongs.
func Ratio(a, b Arm) Quantity {
	of := map[int]float64{}
	for _, t := range b.Costed() {
		if t.CPUUsPerRequest != nil && *t.CPUUsPerRequest > 0 {
			of[t.Block] = *t.CPUUsPerRequest
		}
	}
	q := Of(a.Costed(), func(t record.Trial) (float64, bool) {
		other, ok := of[t.Block]
		if !ok || t.CPUUsPerRequest == nil || *t.CPUUsPerRequest <= 0 {
			return 0, false
		}
		return *t.CPUUsPerRequest / other, true
	})
	logs := make([]float64, len(q.Values))
	for i, v := range q.Values {
		logs[i] = math.Log(v)
	}
	if len(logs) == 0 {
		return q
	}
	q.Median, q.Geometric = math.Exp(stats.Mean(logs)), true
	q.Low, q.High = math.Inf(-1), math.Inf(1)
	if low, high, err := stats.Interval(logs, 0.95); err == nil {
		q.Low, q.High = math.Exp(low), math.Exp(high)
		if math.IsInf(low, 0) {
			q.Low = math.Inf(-1)
		}
	}
	return q
}

// Groups sorts a run's trials.
func Groups(r record.Run) []Group {
	type key struct{ scenario, operation string }
	var order []key
	byKey := map[key]*Group{}
	for _, t := range r.Trials {
		if !t.Load.Blocked() {
			continue // a step of a search or a point of a curve
		}
		k := key{t.Scenario, t.Operation}
		g, ok := byKey[k]
		if !ok {
			g = &Group{Scenario: t.Scenario, Operation: t.Operation}
			byKey[k] = g
			order = append(order, k)
		}
		closed := t.Arrival == "closed" && t.Load != record.LoadClosed // a benchmark's, which has nothing else
		g.Closed = g.Closed || closed
		i := slices.IndexFunc(g.Arms, func(a Arm) bool { return a.Name == t.Arm })
		if i < 0 {
			i = len(g.Arms)
			g.Arms = append(g.Arms, Arm{Name: t.Arm, Contender: t.Contender, Tier: t.Tier, closed: closed})
		}
		a := &g.Arms[i]
		a.Trials++
		a.Nonconformant = a.Nonconformant || t.Nonconformant
		switch {
		case t.Void != nil:
			a.Void++
		case t.Duplicate:
			a.Duplicates = append(a.Duplicates, t)
		case t.Load == record.LoadRate:
			a.Rate = append(a.Rate, t)
		case t.Load == record.LoadClosed:
			a.ClosedLoops = append(a.ClosedLoops, t)
		default:
			a.Throughput = append(a.Throughput, t)
		}
	}
	slices.SortStableFunc(order, func(a, b key) int {
		return cmp.Or(cmp.Compare(OfScenario(a.scenario), OfScenario(b.scenario)), cmp.Compare(a.operation, b.operation)) // the headline first
	})
	out := make([]Group, len(order))
	for i, k := range order {
		out[i] = *byKey[k]
		out[i].sort()
	}
	return out
}

func (g *Group) sort() {
	cost := map[string]float64{} // of a contender: its cheapest mainstream arm, else its cheapest
	own := map[string]float64{}
	for _, tier := range []string{"mainstream", ""} {
		for _, a := range g.Arms {
			c := a.CPU().Median
			if math.IsNaN(c) {
				c = math.Inf(1)
			}
			own[a.Name] = c
			if had, ok := cost[a.Contender]; (tier == "" && !ok) || (tier == a.Tier && (!ok || c < had)) {
				cost[a.Contender] = c
			}
		}
	}
	rank := func(a Arm) int {
		if a.Tier == "floor" {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(g.Arms, func(a, b Arm) int {
		return cmp.Or(cmp.Compare(cost[a.Contender], cost[b.Contender]), cmp.Compare(a.Contender, b.Contender), cmp.Compare(rank(a), rank(b)), cmp.Compare(own[a.Name], own[b.Name]), cmp.Compare(a.Name, b.Name))
	})
}

// Mainstream has the arms that headlines compare, the cheapest first, and last those without a figure.
func (g Group) Mainstream() []Arm {
	var out []Arm
	for _, a := range g.Arms {
		if a.Tier == "mainstream" {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b Arm) int { return cheaper(a.CPU(), b.CPU()) })
	return out
}

// cheaper sorts by the median; what has none comes last, where cmp.Compare would put it first.
func cheaper(a, b Quantity) int {
	x, y := a.Median, b.Median
	if math.IsNaN(x) || math.IsNaN(y) {
		return cmp.Compare(y, x)
	}
	return cmp.Compare(x, y)
}
