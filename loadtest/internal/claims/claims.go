// Package claims turns the records of a run into verdicts, each by a rule that was fixed before the run.
package claims

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"lab/loadtest/internal/contract"
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
	// Alpha is the chance of a false verdict that is accepted.
	Alpha = 0.05
	alpha = Alpha
	// libraryMargin is the ratio of CPU per request below which nobody would choose by it.
	libraryMargin = 1.05
)

// metricCPU decides the scenario library: it survives a noisy machine.
const metricCPU = "cpu_us_per_request"

const scenarioLibrary = "library"

// Library decides, for each pair of the run's mainstream arms, "these two differ in CPU per request". The family of
// Holm's correction is those pairs. It holds where the corrected p is below 0.05 and the effect is beyond what
// identical arms (A/A) differ by; it never is contradicted, since a difference not found is not equality.
func Library(trials []record.Trial) []record.Verdict { return LibraryRule(trials).Decide(trials) }

// LibraryRule is the rule of the scenario library, over the mainstream arms that the trials have.
func LibraryRule(trials []record.Trial) Rule {
	return Rule{
		Scenario: scenarioLibrary, Metric: metricCPU, Claim: Differ, Margin: libraryMargin, Arms: mainstream(trials), Value: CPUAtRate, Says: cpuWords,
	}
}

// RuleOf is the rule that a scenario's file stated when the run began.
func RuleOf(s record.Scenario) Rule {
	r := Rule{Scenario: s.ID, Metric: s.Metric, Claim: Claim(s.Rule), Margin: s.Margin, Arms: s.Arms, Pairs: s.Pairs, Absent: s.Absent, Baselines: s.Baselines, Bound: float64(s.BoundNS), Value: valueOf(s)}
	if s.Metric == contract.MetricGrowth && len(s.Connections) > 0 {
		r.Per = answersAt(slices.Min(s.Connections))
	}
	if s.Metric == metricCPU {
		r.Says = cpuWords
	}
	return r
}

// valueOf takes the number of a scenario's metric from the trials that it is about.
func valueOf(s record.Scenario) func(*record.Trial) (float64, bool) {
	at := func(load record.Load, value func(*record.Trial) (float64, bool)) func(*record.Trial) (float64, bool) {
		return func(t *record.Trial) (float64, bool) {
			if t.Load != load {
				return 0, false
			}
			return value(t)
		}
	}
	percentile := func(q float64, of func(*record.Trial) int64) func(*record.Trial) (float64, bool) {
		return at(record.LoadRate, func(t *record.Trial) (float64, bool) {
			if o := t.OperationNamed(t.Operation); o != nil { // of a mix
				t = &record.Trial{Sent: o.Sent, LatencyP50NS: o.LatencyP50NS, LatencyP90NS: o.LatencyP90NS, LatencyP99NS: o.LatencyP99NS, LatencyP999NS: o.LatencyP999NS}
			}
			return float64(of(t)), stats.Carries(q, t.Sent)
		})
	}
	switch s.Metric {
	case metricCPU:
		return CPUAtRate
	case "latency_p50_ns":
		return percentile(0.5, func(t *record.Trial) int64 { return t.LatencyP50NS })
	case "latency_p90_ns":
		return percentile(0.9, func(t *record.Trial) int64 { return t.LatencyP90NS })
	case "latency_p99_ns":
		return percentile(0.99, func(t *record.Trial) int64 { return t.LatencyP99NS })
	case "latency_p999_ns":
		return percentile(0.999, func(t *record.Trial) int64 { return t.LatencyP999NS })
	case contract.MetricMedianSecond:
		return at(record.LoadRate, func(t *record.Trial) (float64, bool) { return told(t.LatencyP99MedianSecondNS) })
	case contract.MetricGrowth:
		return answersAt(s.MostConnections())
	case "achieved_rps":
		if most := s.MostConnections(); most > 0 {
			return answersAt(most)
		}
		return at(record.LoadThroughput, func(t *record.Trial) (float64, bool) { return t.AchievedRPS, t.AchievedRPS > 0 })
	case "statements_per_request":
		return at(record.LoadRate, func(t *record.Trial) (float64, bool) { return known(t.StatementsPerRequest) })
	case "database_primary_cpu_us_per_request":
		return at(record.LoadRate, func(t *record.Trial) (float64, bool) { return known(t.PrimaryCPUUsPerRequest()) })
	case contract.MetricHandOver, contract.MetricLoader:
		return at(record.LoadRate, func(t *record.Trial) (float64, bool) { return known(t.BenchFigure()) })
	case "memory_pss_peak_bytes":
		return at(record.LoadRate, func(t *record.Trial) (float64, bool) { return told(t.MemoryPSSPeakBytes) })
	case contract.MetricRecovery:
		// What is no longer than can be seen counts as long as that: a ratio of nothing is none.
		return at(record.LoadRate, func(t *record.Trial) (float64, bool) {
			if t.RecoveryNS == nil || t.Outcomes == nil {
				return 0, false
			}
			return float64(max(*t.RecoveryNS, t.Outcomes.ResolutionNS)), true
		})
	case contract.MetricColdStart:
		// All trials of a process have it; it counts once.
		return at(record.LoadRate, func(t *record.Trial) (float64, bool) { return float64(t.ColdStartNS), t.ColdStartNS > 0 })
	}
	return func(*record.Trial) (float64, bool) { return 0, false }
}

// answersAt takes the answers a second from the closed loop of so many connections.
func answersAt(connections int) func(*record.Trial) (float64, bool) {
	return func(t *record.Trial) (float64, bool) {
		return t.AchievedRPS, t.Load == record.LoadClosed && t.Connections == connections && t.AchievedRPS > 0
	}
}

func told(x *int64) (float64, bool) {
	if x == nil {
		return 0, false
	}
	return float64(*x), true
}

func known(x *float64) (float64, bool) {
	if x == nil || *x <= 0 {
		return 0, false
	}
	return *x, true
}

// MetricWords is a metric as a person says it, without an article: it stands behind "the" and "ratio of" alike.
func MetricWords(metric string) string {
	words := map[string]string{
		metricCPU: "CPU per request", "latency_p50_ns": "median response time", "latency_p90_ns": "p90 of response time", "latency_p99_ns": "p99 of response time", "latency_p999_ns": "p99.9 of response time", contract.MetricMedianSecond: "p99 of response time in the median second",
		contract.MetricHandOver: "time to hand over and get an answer", contract.MetricLoader: "CPU of the loader per key",
		"achieved_rps": "throughput", contract.MetricGrowth: "growth in throughput", "statements_per_request": "SQL statements per request", "memory_pss_peak_bytes": "memory (PSS)", "database_primary_cpu_us_per_request": "CPU per request of the primary database", contract.MetricColdStart: "time from start to first answer",
		contract.MetricRecovery: "longest time to recover from a fault",
	}
	if w, ok := words[metric]; ok {
		return w
	}
	return metric
}

// DecidingWords is what decides a scenario, as a person says it.
func DecidingWords(s record.Scenario) string { return decidingWords(s.Metric, s.Baselines) }

func decidingWords(metric string, baselines map[string]string) string {
	if len(baselines) > 0 {
		return "growth of " + MetricWords(metric)
	}
	return MetricWords(metric)
}

// Overall is what the verdicts of a scenario's pairs say of its claim together: it holds where all hold, is contradicted
// where one is, and cannot be tested where one cannot; else it is too close to call. That a library can outweigh a language
// holds where it does for one pair, and is contradicted where it is for all.
func Overall(verdicts []record.Verdict) string {
	found := map[string]bool{}
	for _, v := range verdicts {
		found[v.Verdict] = true
	}
	first := []string{Contradicted, Untested, TooClose, Holds}
	if len(verdicts) > 0 && verdicts[0].Library != nil {
		first = []string{Holds, TooClose, Untested, Contradicted}
	}
	for _, verdict := range first {
		if found[verdict] {
			return verdict
		}
	}
	return Untested
}

func cpuWords(more, less string, ratio float64) string {
	return fmt.Sprintf("%s costs %.2f times the CPU of %s", more, ratio, less)
}

func mainstream(trials []record.Trial) []string {
	var arms []string
	for i := range trials {
		if t := &trials[i]; t.Tier == "mainstream" && !slices.Contains(arms, t.Arm) {
			arms = append(arms, t.Arm)
		}
	}
	return arms
}

// Check says where a record's verdicts are not what its trials give by the scenarios' rules. Numbers may differ in their
// last digits, since processors do; a reason is words, which another version may choose otherwise.
func Check(r record.Run) error {
	given := map[string]record.Verdict{}
	for _, v := range Of(r) {
		given[v.ID] = v
	}
	judged := 0
	for _, got := range r.Verdicts {
		if r.ScenarioNamed(got.Scenario) == nil && (got.Scenario != scenarioLibrary || got.Metric != metricCPU) {
			continue
		}
		judged++
		want, ok := given[got.ID]
		if !ok || got.Arms != want.Arms {
			return fmt.Errorf("verdict %s: arms is %q, of which its trials give no verdict by that id", got.ID, got.Arms)
		}
		if (got.Library == nil) != (want.Library == nil) || got.Library != nil && *got.Library != *want.Library {
			return fmt.Errorf("verdict %s: library is %q, but the run's claim has %q", got.ID, got.Library, want.Library)
		}
		for _, f := range []struct {
			name      string
			got, want *float64
		}{
			{"ratio", got.Ratio, want.Ratio}, {"ratio_low", got.RatioLow, want.RatioLow}, {"ratio_high", got.RatioHigh, want.RatioHigh}, {"margin", &got.Margin, &want.Margin},
			{"p", got.P, want.P}, {"p_holm", got.PHolm, want.PHolm}, {"noise_floor", got.NoiseFloor, want.NoiseFloor},
		} {
			if !same(f.got, f.want) {
				return fmt.Errorf("verdict %s: %s is %s, but its trials give %s", got.ID, f.name, text(f.got), text(f.want))
			}
		}
		switch {
		case got.Blocks != want.Blocks:
			return fmt.Errorf("verdict %s: blocks is %d, but its trials give %d", got.ID, got.Blocks, want.Blocks)
		case got.Verdict != want.Verdict:
			return fmt.Errorf("verdict %s: verdict is %q, but its trials give %q", got.ID, got.Verdict, want.Verdict)
		}
	}
	if judged > 0 && judged != len(given) { // bench-servers and an attack judge nothing
		return fmt.Errorf("verdicts has %d, but its trials give %d", judged, len(given))
	}
	return nil
}

// Worded gives a record's verdicts, which Check has passed, with their reasons in this version's words: a record keeps those
// of the version that made it, with the mistakes that were in them.
func Worded(r record.Run) []record.Verdict {
	out := slices.Clone(r.Verdicts)
	for _, v := range Of(r) {
		if i := slices.IndexFunc(out, func(w record.Verdict) bool { return w.ID == v.ID }); i >= 0 {
			out[i].Reason = v.Reason
		}
	}
	return out
}

func same(x, y *float64) bool {
	if x == nil || y == nil {
		return x == y
	}
	return math.Abs(*x-*y) <= 1e-9*math.Max(1, math.Abs(*y))
}

func text(x *float64) string {
	if x == nil {
		return "null"
	}
	return fmt.Sprintf("%g", *x)
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func order(arms [2]string, ratio float64) (cheaper, dearer string, by float64) {
	if ratio >= 1 {
		return arms[1], arms[0], ratio
	}
	return arms[0], arms[1], 1 / ratio
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

// SameArm gives the log-ratios of the A/A pairs: CPU per request of the second over that of the first, within a scenario.
func SameArm(trials []record.Trial) []float64 {
	var out []float64
	for _, own := range ByScenario(trials) {
		out = append(out, sameArm(byBlock(own, false, CPUAtRate), byBlock(own, true, CPUAtRate))...)
	}
	return out
}

// ByScenario sorts trials by their scenarios, in the order in which these come first.
func ByScenario(trials []record.Trial) [][]record.Trial {
	var ids []string
	for i := range trials {
		if !slices.Contains(ids, trials[i].Scenario) {
			ids = append(ids, trials[i].Scenario)
		}
	}
	out := make([][]record.Trial, len(ids))
	for i, id := range ids {
		out[i] = ofScenario(trials, id)
	}
	return out
}

func pointer(x float64) *float64 { return &x }
