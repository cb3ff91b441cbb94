package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// A scenario beside the library is a claim: the sentence, what was done, the chart that decides, the verdict with its
// uncertainty, and what would change it.

// scenario is what the record says of a group's scenario; nil for the library, benchmarks and attacks.
func (b *build) scenario(g summary.Group) *record.Scenario { return b.run.ScenarioNamed(g.Scenario) }

// headlines are the groups that are no claims, claimed those that are.
func (b *build) headlines() (headlines, claimed []summary.Group) {
	for _, g := range b.groups {
		if b.scenario(g) == nil {
			headlines = append(headlines, g)
		} else {
			claimed = append(claimed, g)
		}
	}
	return headlines, claimed
}

// asked is what a group's requests ask: an operation, or a mix with its shares.
func (b *build) asked(g summary.Group) string {
	if s := b.scenario(g); s != nil && len(s.Mix) > 0 {
		return chart.Clean(summary.OperationWords(b.run, g), 60)
	}
	return operation(g)
}

// rate is the common rate of a group's trials, requests a second.
func (b *build) rate(g summary.Group) float64 { return b.run.PlanOf(g.Scenario).RateRPS }

// atRate says at which rate, for titles.
func (b *build) atRate(g summary.Group) string {
	if s := b.scenario(g); s != nil && s.OwnShare > 0 {
		return fmt.Sprintf("at %.0f %% of what arms bore", 100*s.OwnShare)
	}
	return fmt.Sprintf("at %s requests a second", whole(b.rate(g)))
}

// explained are the charts that explain a claim, where the usual ones are another scenario's: what the runtimes told of
// what decides it. Of the tail that is all of it, under latency over time; of recoveries the ways to the data, under the
// same; of CPU how busy servers were and their heap; of throughput the same and each worker, where the arms had all to do
// that they can; of a median and of what a database does the ways to it. Where there is a Redis, it is how much was found there
// too.
func (b *build) explained(g summary.Group, s *record.Scenario) []section {
	var out []section
	told := b.told(g)
	switch {
	case slices.Contains(tailMetrics, s.Metric):
		out = append(drawn(b.pausesAgainstTail(g, s), b.latencyTime(g)), b.runtime(g)...)
	case s.Metric == contract.MetricRecovery, s.Metric == "latency_p50_ns":
		out = drawn(b.latencyTime(g), b.runtimeWork(g, told))
	case s.Metric == "achieved_rps", s.Metric == contract.MetricGrowth:
		most := b.toldAtMost(g)
		out = drawn(b.runtimeLoad(g, most), b.eachWorker(g, most))
	case s.Metric == "cpu_us_per_request":
		out = drawn(b.runtimeLoad(g, told))
		if told.tells(inRedis) {
			out = append(out, drawn(b.runtimeWork(g, told))...)
		}
	case s.Metric == "statements_per_request", s.Metric == "database_primary_cpu_us_per_request", s.Metric == contract.MetricLoader, told.tells(inRedis):
		out = drawn(b.runtimeWork(g, told))
	}
	for i := range out {
		out[i].Title = chart.Clean(s.ID+": "+lower(out[i].Title), 80)
	}
	return out
}

// tailMetrics are those that pauses explain.
var tailMetrics = []string{"latency_p90_ns", "latency_p99_ns", farTail, contract.MetricMedianSecond}

// lower begins a title as a part of a sentence.
func lower(text string) string {
	if text == "" {
		return text
	}
	return strings.ToLower(text[:1]) + text[1:]
}

// quantity is how a metric of the rules is shown.
type quantity struct {
	head, axis, unit string
	of               func(summary.Arm) summary.Quantity
	format           func(float64) string
}

// decidingQuantity shows what decides a scenario.
func decidingQuantity(s *record.Scenario) quantity {
	if most := s.MostConnections(); s.Metric == "achieved_rps" && most > 0 {
		return quantity{fmt.Sprintf("answers /s, %d connections", most), fmt.Sprintf("right answers a second, %s", summary.Plural(most, "connection")), "answers a second", func(a summary.Arm) summary.Quantity {
			return a.ClosedAnswers(most)
		}, whole}
	}
	if s.Metric == contract.MetricGrowth && len(s.Connections) > 0 {
		fewest, most := s.Connections[0], s.MostConnections()
		return quantity{"times as many", fmt.Sprintf("right answers a second with %s, in those with %s", summary.Plural(most, "connection"), summary.Plural(fewest, "connection")), "times as many", func(a summary.Arm) summary.Quantity {
			return a.ClosedGrowth(fewest, most)
		}, two}
	}
	return quantityOf(s.Metric, s.Operation)
}

// quantityOf shows a metric; of a mix, latencies are those of the operation.
func quantityOf(metric, operation string) quantity {
	if p, ok := summary.PercentileOf(metric); ok {
		return quantity{p.Name + " ms", p.Name + " of response time, ms", "ms", func(a summary.Arm) summary.Quantity { return a.LatencyOf(p, operation) }, milli}
	}
	switch metric {
	case contract.MetricMedianSecond:
		return quantity{"p99 ms, median second", "p99 of response time in the median second, ms", "ms", summary.Arm.MedianSecond, milli}
	case "achieved_rps":
		return quantity{"answers /s", "right answers a second", "answers a second", summary.Arm.Answers, whole}
	case "statements_per_request":
		return quantity{"SQL/request", "SQL statements per request", "statements", summary.Arm.Statements, one}
	case contract.MetricHandOver:
		return quantity{"hand-over µs", "time to hand over and get an answer, median, µs", "µs", benchFigure(1e-3), two}
	case contract.MetricLoader:
		return quantity{"loader ns/key", "CPU of the loader per key, ns", "ns", benchFigure(1), whole}
	case "memory_pss_peak_bytes":
		return quantity{"PSS MB", "memory, PSS, MB", "MB", func(a summary.Arm) summary.Quantity {
			return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
				if t.MemoryPSSPeakBytes == nil {
					return 0, false
				}
				return float64(*t.MemoryPSSPeakBytes) / 1e6, true
			})
		}, whole}
	case "database_primary_cpu_us_per_request":
		return quantity{"primary's µs", "CPU of the primary database per request, µs", "µs", func(a summary.Arm) summary.Quantity {
			return summary.Of(a.Costed(), func(t record.Trial) (float64, bool) {
				if v := t.PrimaryCPUUsPerRequest(); v != nil {
					return *v, true
				}
				return 0, false
			})
		}, whole}
	case contract.MetricRecovery:
		return quantity{"recovered ms", "longest time to recover from a fault, ms", "ms", func(a summary.Arm) summary.Quantity {
			return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
				if t.RecoveryNS == nil {
					return 0, false
				}
				return float64(*t.RecoveryNS) / 1e6, true
			})
		}, whole}
	case "cold_start_ns":
		return quantity{"first answer ms", "start to first right answer, ms", "ms", summary.Arm.ColdStart, whole}
	}
	return quantity{"µs", "CPU per request, µs", "µs", summary.Arm.CPU, whole}
}

// claim are the sections of a scenario.
func (b *build) claim(g summary.Group, s *record.Scenario) []section {
	out := []section{b.decides(g, s)}
	if len(s.Connections) > 0 {
		out = append(out, b.closedLoops(g, s))
	}
	if memory := b.memoryByMaster(g, s); memory != nil {
		out = append(out, *memory)
	}
	if s.Phases {
		out = append(out, b.budget(g, s))
	}
	if s.Staleness {
		out = append(out, b.staleness(g, s))
	}
	if s.Bench != nil {
		out = append(out, b.benchTables(g, s)...)
	}
	if s.Profile {
		out = append(out, b.profiles(g, s)...)
	}
	if faults := b.faults(g); faults != nil {
		out = append(out, *faults)
	}
	if pairs := b.claimPairs(g, s); pairs != nil {
		out = append([]section{*pairs}, out...)
	}
	return out
}

// doneWords say what was done.
func (b *build) doneWords(g summary.Group, s *record.Scenario) string {
	asked := operation(g)
	if len(s.Mix) > 0 {
		asked = fmt.Sprintf("%s, latencies of %s,", chart.Clean(summary.OperationWords(b.run, g), 200), operation(g))
	}
	words := fmt.Sprintf("%s%s%s", asked, summary.RateWords(b.run, s.ID), chart.Clean(summary.DelayWords(b.run, s.ID)+summary.FaultWords(b.run, s.ID), 400))
	for _, load := range s.Loads {
		switch load {
		case record.LoadThroughput:
			if slices.Contains(s.Loads, record.LoadRate) {
				words += ", and with more than the arm bears"
			}
		case record.LoadClosed:
			words += ", and in closed loops of " + summary.ConnectionWords(s.Connections)
		}
	}
	words += benchWords(s.Bench)
	of := slices.DeleteFunc(slices.Clone(b.run.Trials), func(t record.Trial) bool { return t.Scenario != s.ID })
	if !(contract.Scenario{Metric: s.Metric}).Warmed() && !slices.ContainsFunc(of, func(t record.Trial) bool { return t.Warm != nil }) {
		words += "; without a warm-up, since no load has a part in what decides"
	}
	beside := map[int]bool{}
	for _, t := range of {
		if t.Load.Blocked() && !t.Duplicate && !contract.Decides(s.Metric, string(t.Load), t.Connections, s.Connections) {
			beside[t.Block] = true
		}
	}
	few := ""
	if n := len(beside); 0 < n && n < s.Plan.Blocks {
		few = fmt.Sprintf(", in %d of them what decides nothing", n)
	}
	return fmt.Sprintf("%s; %s in random order%s.", words, summary.Plural(s.Plan.Blocks, "block"), few)
}

// claimPairs is the chart that decides: the ratio of each pair.
func (b *build) claimPairs(g summary.Group, s *record.Scenario) *section {
	verdicts := summary.VerdictsOf(b.run, s.ID)
	if len(verdicts) == 0 {
		return nil
	}
	metric := claims.DecidingWords(*s)
	overall := claims.Overall(verdicts)
	panel := chart.Panel{Axis: "ratio of " + metric, Format: "ratio", Log: true, Line: 1}
	if s.Rule == string(claims.Equal) {
		panel.Band, panel.BandLabel = [2]float64{1 / s.Margin, s.Margin}, fmt.Sprintf("shaded: equal, within %s %%", one(100*(s.Margin-1)))
	}
	t := verdictTable()
	var rows []chart.Row
	var finding []string
	for _, v := range verdicts {
		row := b.verdictBar(v, ratioCell(v))
		if s.Rule == string(claims.Within) { // the second is no arm
			if k := slices.IndexFunc(g.Arms, func(a summary.Arm) bool { return a.Name == v.Arms[0] }); k >= 0 {
				row.Style = b.styles[g.Arms[k].Contender]
			}
		}
		if s.Rule != string(claims.Equal) {
			shadeIdentical(&panel, v)
		}
		rows = append(rows, row)
		finding = append(finding, claimedWords(v, s))
		t.Rows = append(t.Rows, verdictRow(v))
	}
	how := "Geometric mean of the blocks' ratios, 95 % interval (exact sign-flip test). "
	if s.Rule == string(claims.Within) {
		how = fmt.Sprintf("Ratio to the bound of %v: median of the blocks, 95 %% interval (order statistics, sign test). ", time.Duration(s.BoundNS))
	}
	f := chart.Rows{
		ID: b.id(g, "claim"), Title: "Ratio of " + metric, Subtitle: how + b.count(g, decidingQuantity(s).of),
		Finding: sentences(finding), Panels: []chart.Panel{panel}, Rows: rows,
	}.Figure()
	article := ""
	if s.Article != "" {
		article = fmt.Sprintf("The article: “%s”. ", strings.TrimSuffix(s.Article, "."))
	} else if s.About != "" { // recorded since articles are
		article = ownClaim
	}
	lead := article + fmt.Sprintf("The claim: “%s”. Verdict: %s. What was done: %s %s What would change it: %s.",
		strings.TrimSuffix(s.Claim, "."), overall, b.doneWords(g, s), summary.RuleWords(*s), strings.TrimSuffix(s.ChangedBy, "."))
	if beside := b.besideVerdict(s); beside != "" {
		lead += " What the verdict leaves open: " + beside
	}
	return &section{b.id(g, "claim"), chart.Clean(fmt.Sprintf("%s: %s", s.ID, overall), 80), lead, &f, t}
}

// ownClaim says whose a claim is that is not the article's.
const ownClaim = "This claim is the project's own, not the article's. "

// aboutRunes bounds what a scenario says of itself.
const aboutRunes = 2000

// decides has the deciding figure of each arm, and the others beside it.
func (b *build) decides(g summary.Group, s *record.Scenario) section {
	q := decidingQuantity(s)
	var finding []string
	for _, a := range told(g) {
		finding = append(finding, a.Name+" "+quantityWords(q.of(a), q.format, q.unit))
	}
	f := chart.Rows{
		ID: b.id(g, "figure"), Title: capital(q.axis) + ", " + operation(g), Subtitle: b.doneWords(g, s) + " " + b.count(g, q.of),
		Finding: capital(q.axis) + ": " + list(finding) + ".",
		Panels:  []chart.Panel{{Axis: q.axis, Format: "number"}},
		Rows: b.rows(g, func(a summary.Arm) []chart.Cell {
			return []chart.Cell{cell(a, q.of(a), q.format, q.unit)}
		}, func(a summary.Arm) string { return chart.Clean(a.Tier, labelRunes) }),
	}.Figure()
	columns := []column{{q.head, q.of, q.format}}
	for _, metric := range []string{"cpu_us_per_request", "latency_p50_ns", "latency_p99_ns", "achieved_rps", "statements_per_request", "memory_pss_peak_bytes"} {
		if other := quantityOf(metric, s.Operation); other.head != q.head {
			columns = append(columns, column{other.head, other.of, other.format})
		}
	}
	if s.Metric == "memory_pss_peak_bytes" {
		columns = append(columns, b.shares(g)...)
	}
	lead := readRows
	if s.About != "" {
		lead = chart.Clean(s.About, aboutRunes) + " " + readRows
	}
	return section{b.id(g, "figure"), chart.Clean(fmt.Sprintf("%s: %s of each arm", s.ID, claims.MetricWords(s.Metric)), 80), lead, &f, quantityTable(capital(q.axis)+" and what stands beside it", g, columns)}
}

// shares are what a server's memory is for each of its processes and of its CPUs, as far as the trials tell.
func (b *build) shares(g summary.Group) []column {
	perProcess := memoryOver(func(_ summary.Arm, t record.Trial) int { return t.Processes })
	columns := []column{{perCPUHead, b.memoryPerCPU(g), one}, {"CPUs it can keep busy", func(a summary.Arm) summary.Quantity {
		return summary.Of(a.Rate, func(record.Trial) (float64, bool) { n := b.busyCPUs(g, a); return float64(n), n > 0 })
	}, whole}}
	if slices.ContainsFunc(g.Arms, func(a summary.Arm) bool { return len(perProcess(a).Values) > 0 }) {
		columns = append(columns, column{"MB per process", perProcess, one}, column{"processes", func(a summary.Arm) summary.Quantity {
			return summary.Of(a.Rate, func(t record.Trial) (float64, bool) { return float64(t.Processes), t.Processes > 0 })
		}, whole})
	}
	return columns
}

// memoryOver is an arm's memory, MB, for each of so many; without a figure where there are none.
func memoryOver(of func(a summary.Arm, t record.Trial) int) func(summary.Arm) summary.Quantity {
	return func(a summary.Arm) summary.Quantity {
		return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
			n := of(a, t)
			if n == 0 || t.MemoryPSSPeakBytes == nil {
				return 0, false
			}
			return float64(*t.MemoryPSSPeakBytes) / 1e6 / float64(n), true
		})
	}
}

// perCPUHead is what memoryPerCPU is called in tables.
const perCPUHead = "MB per CPU it can keep busy"

// memoryPerCPU is an arm's memory, MB, for each CPU that it can keep busy.
func (b *build) memoryPerCPU(g summary.Group) func(summary.Arm) summary.Quantity {
	return memoryOver(func(a summary.Arm, _ record.Trial) int { return b.busyCPUs(g, a) })
}

// busyCPUs is how many CPUs an arm's own work can keep busy: of those that it was given no more than it has workers, where
// they tell of their time (one process of Node has one event loop, whatever it was given). An arm whose runtime tells of no
// worker (Go) runs on all; 0 where the record does not tell.
func (b *build) busyCPUs(g summary.Group, a summary.Arm) int {
	given := b.cpusOf(a)
	told, ok := b.runtimes[groupKey(g)][a.Name]
	switch {
	case given <= 1:
		return given
	case !ok:
		return 0 // it may have one worker, or as many as CPUs
	}
	if n := told.workers(); n > 0 {
		return min(given, n)
	}
	return given
}

// cpusOf is how many CPUs an arm was given: those of its setting, or those that the machine has for contenders; 0 where the
// record does not tell.
func (b *build) cpusOf(a summary.Arm) int {
	if _, n := settingOf(a.Name, contender.CPUs); n > 0 {
		return n
	}
	return len(b.run.Environment.Placement["contender"])
}

// settingOf takes a setting that is a number above 0 out of an arm's name: the name without it, and the number; 0: it has none.
func settingOf(name, setting string) (without string, n int) {
	var others []string
	for part := range strings.SplitSeq(name, "+") {
		if text, is := strings.CutPrefix(part, setting+"="); is {
			if v, err := strconv.Atoi(text); err == nil && v > 0 {
				n = v
				continue
			}
		}
		others = append(others, part)
	}
	return strings.Join(others, "+"), n
}

// mark adds a quantity to a line: its median, and its trials as dots.
func mark(l *chart.Line, x float64, q summary.Quantity, tip ...string) {
	l.Points = append(l.Points, chart.Point{X: x, Y: q.Median, Marked: true, Tip: tip})
	for _, v := range q.Values {
		l.Dots = append(l.Dots, chart.Dot2{X: x, Y: v})
	}
}

// memoryByMaster is memory against how much master data there is; nil where no arm is there with several amounts, or memory
// does not decide.
func (b *build) memoryByMaster(g summary.Group, s *record.Scenario) *section {
	if s.Metric != "memory_pss_peak_bytes" {
		return nil
	}
	pss, perCPU := quantityOf(s.Metric, s.Operation), b.memoryPerCPU(g)
	panels := []chart.CurvePanel{{Title: "all processes of a server", Axis: "PSS, MB", Plain: true}, {Title: "for each CPU that it can keep busy", Axis: "PSS, MB", Plain: true}}
	t := table{Caption: "Memory by master data", Heads: []string{"arm", "master data MiB", "PSS MB", "least–most", perCPUHead, "trials"}}
	var steps []int
	at := map[string]int{} // the line of an arm without its amount
	amount := func(a summary.Arm) int {
		_, mib := settingOf(a.Name, contender.MasterMB)
		return mib
	}
	for _, a := range slices.SortedStableFunc(slices.Values(g.Arms), func(x, y summary.Arm) int { return cmp.Compare(amount(x), amount(y)) }) {
		name, mib := settingOf(a.Name, contender.MasterMB)
		all, each := pss.of(a), perCPU(a)
		if mib == 0 || len(all.Values) == 0 {
			continue
		}
		i, known := at[name]
		if !known {
			i = len(at)
			at[name] = i
			l := b.line(g, a)
			l.Name = strings.Replace(l.Name, label(a), chart.Clean(name, labelRunes), 1)
			for p := range panels {
				panels[p].Lines = append(panels[p].Lines, l)
			}
		}
		if !slices.Contains(steps, mib) {
			steps = append(steps, mib)
		}
		for p, q := range []summary.Quantity{all, each} {
			if len(q.Values) == 0 { // how many CPUs an arm can keep busy its runtime may not have told
				continue
			}
			l := &panels[p].Lines[i]
			mark(l, float64(mib), q, fmt.Sprintf("%d MiB", mib), l.Name+"  "+pss.format(q.Median)+" MB")
		}
		t.Rows = append(t.Rows, []string{marked(a), fmt.Sprint(mib), pss.format(all.Median), pss.format(all.Least()) + "–" + pss.format(all.Most()), quantityCells(each, one)[0], fmt.Sprint(len(all.Values))})
	}
	if len(steps) < 2 {
		return nil
	}
	panels = slices.DeleteFunc(panels, func(p chart.CurvePanel) bool {
		return !slices.ContainsFunc(p.Lines, func(l chart.Line) bool { return len(l.Points) > 0 })
	})
	var finding []string
	for _, l := range panels[0].Lines {
		first, last := l.Points[0], l.Points[len(l.Points)-1]
		finding = append(finding, fmt.Sprintf("%s %s MB with %.0f MiB of master data, %s with %.0f", l.Name, pss.format(first.Y), first.X, pss.format(last.Y), last.X))
	}
	f := chart.Curves{
		ID: b.id(g, "master"), Title: "Memory by master data, " + operation(g), Subtitle: "Proportional set size: a page that several processes share counts once in all. Lower is better. Median of the blocks; small marks: single trials. " + b.count(g, pss.of),
		Finding: sentences(finding), Rate: true, Axis: "master data, MiB", Height: 300, Panels: panels,
	}.Figure()
	return &section{f.ID, chart.Clean(s.ID+": memory by master data", 80), "A line that is steeper holds more for each MiB: a copy in each process, or the room that a garbage collector leaves itself.", &f, t}
}

// closedLoops are throughput and tail against the number of connections.
func (b *build) closedLoops(g summary.Group, s *record.Scenario) section {
	fewest, most, p99 := s.Connections[0], s.MostConnections(), summary.Percentiles()[2]
	at := func(n int) string { return summary.Plural(n, "connection") }
	f := chart.Curves{
		ID: b.id(g, "closed"), Title: "Closed loops, " + operation(g), Subtitle: "Each client sends its next request when the last was answered: a closed loop, which waits with the server and so hides how long others would have waited. Median of the blocks; small marks: single trials. " + b.count(g, func(a summary.Arm) summary.Quantity { return a.ClosedAnswers(most) }),
		Axis: "connections", Height: 320,
	}
	for _, n := range s.Connections {
		f.Steps = append(f.Steps, float64(n))
	}
	for _, p := range []struct {
		panel  chart.CurvePanel
		unit   string
		of     func(summary.Arm, int) summary.Quantity
		format func(float64) string
	}{
		{chart.CurvePanel{Title: "answers a second: higher is better", Axis: "answers a second", Plain: true}, "answers a second", summary.Arm.ClosedAnswers, whole},
		{chart.CurvePanel{Title: "p99: lower is faster", Axis: "p99"}, "ms", func(a summary.Arm, n int) summary.Quantity { return a.ClosedLatency(p99, n) }, milli},
	} {
		for _, a := range g.Arms {
			l := b.line(g, a)
			for _, n := range s.Connections {
				q := p.of(a, n)
				if len(q.Values) == 0 {
					continue
				}
				mark(&l, float64(n), q, at(n), label(a)+"  "+quantityWords(q, p.format, p.unit))
			}
			p.panel.Lines = append(p.panel.Lines, l)
		}
		if slices.ContainsFunc(p.panel.Lines, func(l chart.Line) bool { return len(l.Points) > 0 }) {
			f.Panels = append(f.Panels, p.panel)
		}
	}
	var finding []string
	for _, a := range told(g) {
		words := fmt.Sprintf("%s %s with %s, %s with %s", a.Name, quantityWords(a.ClosedAnswers(fewest), whole, "answers a second"), at(fewest), quantityWords(a.ClosedAnswers(most), whole, "answers a second"), at(most))
		if growth := a.ClosedGrowth(fewest, most); len(growth.Values) > 0 {
			words += ", which is " + quantityWords(growth, two, "times as many")
		}
		if name, _ := a.ClosedBottleneck(most); name != "" {
			words += ", held back by " + heldBy(name)
		}
		finding = append(finding, words)
	}
	f.Finding = sentences(finding)
	t := table{Caption: "Closed loops by number of connections", Heads: []string{"arm", "connections", "answers a second", "least–most", "times those of " + at(fewest), "95 %", "p50 ms", "p99 ms", "CPU µs/request", "trials", "held back by"}}
	for _, a := range g.Arms {
		for _, n := range s.Connections {
			rps, percentiles := a.ClosedAnswers(n), summary.Percentiles()
			growth := quantityCells(a.ClosedGrowth(fewest, n), two)
			t.Rows = append(t.Rows, []string{marked(a), fmt.Sprint(n), whole(rps.Median), whole(rps.Least()) + "–" + whole(rps.Most()), growth[0], growth[1], milli(a.ClosedLatency(percentiles[0], n).Median), milli(a.ClosedLatency(percentiles[2], n).Median), whole(a.ClosedCPU(n).Median), fmt.Sprint(len(rps.Values)), bottlenecks(a.ClosedAt(n))})
		}
	}
	out := section{ID: f.ID, Title: chart.Clean(s.ID+": throughput and tail by connections", 80), Lead: "A line that goes on rising has room left; one that is flat while its tail grows has not, and more clients only wait longer. How many times the answers of " + at(fewest) + " there are with more, in the same process, says what grows apart from how fast a server is. Only an arm that is held back by itself shows its own limit. The intervals are in the tips of the page's chart, the number of trials is in the table.", Table: t}
	if len(f.Panels) > 0 {
		figure := f.Figure()
		out.Figure = &figure
	}
	return out
}

// claimedWords is a verdict of a scenario as a sentence.
func claimedWords(v record.Verdict, s *record.Scenario) string {
	metric := claims.DecidingWords(*s)
	ratio := func() string {
		return fmt.Sprintf("%s has %s times the %s of %s", v.Arms[0], ratioText(v), metric, v.Arms[1])
	}
	switch {
	case s.Rule == string(claims.Within):
		return withinWords(v, s)
	case v.Verdict == claims.Untested:
		return fmt.Sprintf("%s against %s cannot be tested here: %s", v.Arms[0], v.Arms[1], v.Reason)
	case v.Verdict == claims.TooClose:
		return fmt.Sprintf("%s against %s is too close to call: ratio %s; %s", v.Arms[0], v.Arms[1], ratioText(v), v.Reason)
	case s.Rule == string(claims.Equal) && v.Verdict == claims.Holds:
		return fmt.Sprintf("%s and %s are equal within %s %%: ratio %s", v.Arms[0], v.Arms[1], one(100*(s.Margin-1)), ratioText(v))
	case s.Rule == string(claims.Equal):
		return fmt.Sprintf("%s and %s are not equal: %s", v.Arms[0], v.Arms[1], ratio())
	}
	if v.Verdict == claims.Contradicted {
		return "Against the claim: " + ratio()
	}
	return ratio()
}

// withinWords is a verdict on an arm and its scenario's bound as a sentence.
func withinWords(v record.Verdict, s *record.Scenario) string {
	arm, bound := v.Arms[0], time.Duration(s.BoundNS)
	switch v.Verdict {
	case claims.Holds:
		return fmt.Sprintf("%s stays within %v: its %s is %s times that", arm, bound, claims.MetricWords(s.Metric), ratioText(v))
	case claims.Contradicted:
		return fmt.Sprintf("Against the claim: %s", v.Reason)
	case claims.Untested:
		return fmt.Sprintf("whether %s stays within %v cannot be tested here: %s", arm, bound, v.Reason)
	}
	return fmt.Sprintf("whether %s stays within %v is too close to call: ratio %s; %s", arm, bound, ratioText(v), v.Reason)
}

// claimAnswer is what a scenario came to, in one line.
func (b *build) claimAnswer(s *record.Scenario) string {
	verdicts := summary.VerdictsOf(b.run, s.ID)
	if len(verdicts) == 0 {
		return ""
	}
	untested := map[string][]string{} // one reason is said once
	var words []string
	for _, v := range verdicts {
		if v.Verdict == claims.Untested {
			of := v.Arms[0]
			if s.Rule != string(claims.Within) { // whose other is a bound
				of += " and " + v.Arms[1]
			}
			untested[v.Reason] = append(untested[v.Reason], of)
			continue
		}
		words = append(words, claimedWords(v, s))
	}
	said := fmt.Sprintf("“%s”: %s", strings.TrimSuffix(s.Claim, "."), claims.Overall(verdicts))
	if len(words) == 0 {
		return fmt.Sprintf("%s (%s).", said, strings.Join(sortedKeys(untested), "; "))
	}
	for _, reason := range sortedKeys(untested) {
		words = append(words, fmt.Sprintf("not testable here (%s): %s", reason, strings.Join(untested[reason], "; ")))
	}
	return said + ". " + sentences(words)
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// overheads are what the fault proxy added in all scenarios.
func (b *build) overheads() []record.FaultOverhead {
	out := slices.Clone(b.run.Environment.FaultOverhead)
	for _, s := range b.run.Scenarios {
		for _, o := range s.FaultOverhead {
			o.Link += " in " + s.ID
			out = append(out, o)
		}
	}
	return out
}

// delayLimits say how exact the delays were.
func (b *build) delayLimits() []string {
	var out []string
	for _, o := range b.overheads() {
		if o.DelayNS > 0 {
			out = append(out, fmt.Sprintf("A network of exactly %v on %s: the fault proxy added %s ms to a round trip (median; p99 %s ms), its own time included.",
				time.Duration(o.DelayNS), chart.Clean(o.Link, labelRunes), two(float64(o.AddedP50NS)/1e6), two(float64(o.AddedP99NS)/1e6)))
		}
	}
	return out
}
