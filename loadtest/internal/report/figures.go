package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// section is one chart with its numbers.
type section struct {
	ID     string
	Title  string
	Lead   string // how to read it
	Figure *chart.Figure
	Table  table
}

// table is what stands beside a chart. The first column names the row.
type table struct {
	Caption string
	Heads   []string
	Rows    [][]string
}

const labelRunes = 40

func label(a summary.Arm) string { return chart.Clean(a.Name, labelRunes) }

// note is what stands small under an arm's name.
func note(a summary.Arm, words string) (string, bool) {
	switch {
	case a.Nonconformant:
		return "not conformant!", true
	case a.Void == a.Trials:
		return "all trials void", true
	case a.Void > 0:
		return fmt.Sprintf("%s · %d void", words, a.Void), false
	}
	return words, false
}

// build is a run on its way to a report.
type build struct {
	run    record.Run
	groups []summary.Group
	styles map[string]chart.Style
	logs   map[string]map[string]*latencies // operation → arm
	// runtimes are what the arms' runtimes told in one trial each at the common rate, atMost where they had all to do that
	// they can and that decides.
	runtimes, atMost map[string]map[string]runtimeOf // operation → arm
	// pauses are what each trial's tail and longest pause were, of the scenarios that a tail decides.
	pauses map[string]map[string][]pauseBeside // operation → arm
	// prefixes of figures' names, where there are several operations
	prefixes map[string]string
}

// latencies are the response times of an arm's trials at the common rate, from their HDR logs.
type latencies struct {
	all     *hdr.Histogram   // all trials together: histograms merge without loss
	seconds []*hdr.Histogram // the k-th second of all trials together
	trials  []trialSeconds
}

type trialSeconds struct {
	trial   record.Trial
	seconds []secondFigures
}

type secondFigures struct {
	requests uint64
	p50, p99 float64 // ms; NaN where the requests do not carry it
}

func (b *build) rows(g summary.Group, cells func(summary.Arm) []chart.Cell, words func(summary.Arm) string) []chart.Row {
	var out []chart.Row
	groupOf := map[string]int{}
	for _, a := range g.Arms {
		n, ok := groupOf[a.Contender]
		if !ok {
			n = len(groupOf)
			groupOf[a.Contender] = n
		}
		text, alarm := note(a, words(a))
		out = append(out, chart.Row{Label: label(a), Note: text, Alarm: alarm, Style: b.styles[a.Contender], Tier: a.Tier, Group: n, Cells: cells(a)})
	}
	return out
}

// cell draws a quantity. The format is of the numbers beside it, unit is for the tip.
func cell(a summary.Arm, q summary.Quantity, format func(float64) string, unit string) chart.Cell {
	c := chart.Cell{Mid: q.Median, Low: math.NaN(), High: math.NaN()}
	if len(q.Values) == 0 {
		c.Text = "–"
		return c
	}
	c.Text = format(q.Median)
	middle := "median "
	if q.Geometric {
		middle = "geometric mean "
	}
	c.Tip = []string{label(a), middle + format(q.Median) + " " + unit}
	if q.HasInterval() {
		c.Low, c.High = q.Low, q.High
		c.Small = format(q.Low) + "–" + format(q.High)
		c.Tip = append(c.Tip, "95 % interval "+c.Small+" "+unit)
	} else {
		c.Small = summary.Plural(len(q.Values), "trial")
		c.Tip = append(c.Tip, fmt.Sprintf("%s: too few for a 95 %% interval", summary.Plural(len(q.Values), "trial")))
	}
	c.Tip = append(c.Tip, fmt.Sprintf("%s, %s requests", summary.Plural(len(q.Values), "trial"), count(q.Requests())))
	for i, v := range q.Values {
		t := q.Trials[i]
		c.Dots = append(c.Dots, chart.Dot{Value: v, Tip: []string{fmt.Sprintf("%s · block %d, place %d", label(a), t.Block, t.Position), format(v) + " " + unit, count(t.Sent) + " requests · bottleneck: " + chart.Clean(t.Bottleneck, labelRunes)}})
	}
	return c
}

// quantityTable lists quantities of all arms of a group.
func quantityTable(caption string, g summary.Group, columns []column) table {
	t := table{Caption: caption, Heads: []string{"arm", "tier"}}
	for _, c := range columns {
		t.Heads = append(t.Heads, c.head, "95 %", "least–most")
	}
	t.Heads = append(t.Heads, "trials", "requests")
	for _, a := range g.Arms {
		row := []string{marked(a), a.Tier}
		most := 0
		var requests uint64
		for _, c := range columns {
			q := c.of(a)
			row = append(row, quantityCells(q, c.format)...)
			if len(q.Values) >= most {
				most, requests = len(q.Values), q.Requests()
			}
		}
		t.Rows = append(t.Rows, append(row, fmt.Sprint(most), count(requests)))
	}
	return t
}

type column struct {
	head   string
	of     func(summary.Arm) summary.Quantity
	format func(float64) string
}

func quantityCells(q summary.Quantity, format func(float64) string) []string {
	if len(q.Values) == 0 {
		return []string{"–", "–", "–"}
	}
	interval := "too few"
	if q.HasInterval() {
		interval = format(q.Low) + "–" + format(q.High)
	}
	return []string{format(q.Median), interval, format(q.Least()) + "–" + format(q.Most())}
}

func marked(a summary.Arm) string {
	if a.Nonconformant {
		return a.Name + " (not conformant!)"
	}
	return a.Name
}

// line is an arm's, without its points, as it looks in every chart of its group.
func (b *build) line(g summary.Group, a summary.Arm) chart.Line {
	number := 0
	for _, other := range g.Arms[:slices.IndexFunc(g.Arms, func(other summary.Arm) bool { return other.Name == a.Name })] {
		if other.Contender == a.Contender && other.Tier == a.Tier {
			number++
		}
	}
	return chart.Line{Name: chart.Clean(marked(a), labelRunes+18), Style: b.styles[a.Contender], Tier: a.Tier, Number: number}
}

const readRows = "Bar: median of the trials. Whisker: its 95 % interval (order statistics, exact), where there are at least six trials. Marks below: single trials."

// cpu is the chart that carries the answer.
func (b *build) cpu(g summary.Group) section {
	mainstream := g.Mainstream()
	var finding []string
	for _, a := range mainstream {
		finding = append(finding, a.Name+" "+b.costWords(a))
	}
	f := chart.Rows{
		ID: b.id(g, "cpu"), Title: "CPU per request, " + b.asked(g), Subtitle: "µs of user and system time. Shorter is cheaper. Hollow: the floor, by hand without a GraphQL library. " + b.count(g, summary.Arm.CPU),
		Finding: "CPU per request. Mainstream: " + list(finding) + "." + b.floorWords(g),
		Panels:  []chart.Panel{{Axis: "CPU per request, µs", Format: "number"}},
		Rows: b.rows(g, func(a summary.Arm) []chart.Cell {
			return []chart.Cell{cell(a, a.CPU(), whole, "µs")}
		}, func(a summary.Arm) string { return tierWords(g, a) }),
	}.Figure()
	t := quantityTable("CPU per request, "+operation(g), g, []column{{"µs", summary.Arm.CPU, whole}})
	t.Heads = append(t.Heads, "÷ floor", "95 %", "blocks")
	for i, a := range g.Arms {
		q := g.OverFloor(a)
		switch {
		case a.Tier == "floor":
			t.Rows[i] = append(t.Rows[i], "1", "", "")
		case len(q.Values) == 0:
			t.Rows[i] = append(t.Rows[i], "–", "–", "–")
		default:
			t.Rows[i] = append(t.Rows[i], two(q.Median), ratioInterval(q), fmt.Sprint(len(q.Values)))
		}
	}
	return section{b.id(g, "cpu"), "CPU per request", readRows + " ÷ floor: geometric mean of the ratios within each block that has both.", &f, t}
}

func ratioInterval(q summary.Quantity) string {
	if q.HasInterval() {
		return two(q.Low) + "–" + two(q.High)
	}
	return two(q.Least()) + "–" + two(q.Most()) + " (least–most)"
}

func tierWords(g summary.Group, a summary.Arm) string {
	if a.Tier == "floor" {
		return "floor, by hand"
	}
	words := a.Tier
	if q := g.OverFloor(a); len(q.Values) > 0 {
		words = two(q.Median) + " × its floor"
	}
	return chart.Clean(words, labelRunes)
}

// pairs is the ratio of each pair that a verdict is about.
func (b *build) pairs() *section {
	verdicts := b.headlineVerdicts()
	if len(verdicts) == 0 {
		return nil
	}
	var rows []chart.Row
	var finding []string
	var compared summary.Group
	panel := chart.Panel{Axis: "ratio of CPU per request", Format: "ratio", Log: true, Line: 1}
	t := verdictTable()
	for _, v := range verdicts {
		v = upright(v)
		first, second, ok := b.armsOf(v)
		c := ratioCell(v)
		style := chart.Style{Color: "fg", Symbol: "circle"}
		if v.NoiseFloor != nil {
			panel.Band = [2]float64{1 / *v.NoiseFloor, *v.NoiseFloor}
			panel.BandLabel = "shaded: what identical arms (A/A) differ by"
		}
		if v.Ratio != nil && ok {
			compared.Arms = append(compared.Arms, first, second)
			style = b.styles[first.Contender]
			q := summary.Ratio(first, second)
			for i, x := range q.Values {
				c.Dots = append(c.Dots, chart.Dot{Value: x, Tip: []string{pairLabel(v), fmt.Sprintf("block %d: %s×", q.Trials[i].Block, two(x))}})
			}
		}
		rows = append(rows, chart.Row{Label: pairLabel(v), Note: chart.Clean(shortVerdict(v.Verdict), labelRunes), Style: style, Tier: "mainstream", Cells: []chart.Cell{c}})
		finding = append(finding, verdictWords(v))
		t.Rows = append(t.Rows, verdictRow(v))
	}
	f := chart.Rows{
		ID: "pairs", Title: "How many times the CPU per request", Subtitle: "Mainstream arms: geometric mean of the blocks' ratios, 95 % interval (exact sign-flip test); marks: single blocks. " + b.count(compared, summary.Arm.CPU),
		Finding: sentences(finding), Panels: []chart.Panel{panel}, Rows: rows,
	}.Figure()
	return &section{"pairs", "Do these two differ?", "A pair differs where the exact sign-flip test over the blocks, corrected by Holm, is below 0.05 and the ratio is beyond what identical arms differ by. Line: no difference. Whisker: the 95 % interval that inverts the test. Marks below: single blocks.", &f, t}
}

func verdictTable() table {
	return table{Caption: "Verdicts", Heads: []string{"pair", "verdict", "ratio", "95 %", "blocks", "p", "p (Holm)", "identical arms differ by up to", "why"}}
}

func verdictRow(v record.Verdict) []string {
	return []string{v.Arms[0] + " ÷ " + v.Arms[1], v.Verdict, optional(v.Ratio, summary.Times), intervalText(v), fmt.Sprint(v.Blocks), optional(v.P, three), optional(v.PHolm, three), percentOver(v.NoiseFloor), v.Reason}
}

// ratioCell draws a pair's ratio with its interval.
func ratioCell(v record.Verdict) chart.Cell {
	c := chart.Cell{Mid: math.NaN(), Low: math.NaN(), High: math.NaN(), Text: "–"}
	if v.Ratio == nil {
		return c
	}
	c.Mid, c.Text = *v.Ratio, summary.Times(*v.Ratio)+"×"
	c.Tip = []string{pairLabel(v), "ratio " + ratioText(v), v.Verdict}
	if v.RatioLow != nil && v.RatioHigh != nil {
		c.Low, c.High = *v.RatioLow, *v.RatioHigh
		c.Small = summary.Times(c.Low) + "–" + summary.Times(c.High)
	}
	return c
}

// verdictBar is a verdict's row of a chart, in the colour of its first arm.
func (b *build) verdictBar(v record.Verdict, c chart.Cell) chart.Row {
	style := chart.Style{Color: "fg", Symbol: "circle"}
	if first, _, ok := b.armsOf(v); ok {
		style = b.styles[first.Contender]
	}
	return chart.Row{Label: pairLabel(v), Note: chart.Clean(shortVerdict(v.Verdict), labelRunes), Style: style, Tier: "mainstream", Cells: []chart.Cell{c}}
}

// shadeIdentical shades what identical arms differ by, where a verdict knows it.
func shadeIdentical(panel *chart.Panel, v record.Verdict) {
	if v.NoiseFloor != nil && *v.NoiseFloor > 1 {
		panel.Band, panel.BandLabel = [2]float64{1 / *v.NoiseFloor, *v.NoiseFloor}, "shaded: what identical arms (A/A) differ by"
	}
}

// headlineVerdicts are those of no claim.
func (b *build) headlineVerdicts() []record.Verdict {
	return slices.DeleteFunc(slices.Clone(b.run.Verdicts), func(v record.Verdict) bool {
		return v.Library != nil || b.run.ScenarioNamed(v.Scenario) != nil
	})
}

func shortVerdict(verdict string) string {
	if verdict == "cannot be tested here" {
		return "not testable here"
	}
	return verdict
}

func (b *build) armsOf(v record.Verdict) (first, second summary.Arm, ok bool) {
	for _, g := range b.groups {
		if g.Scenario != v.Scenario {
			continue
		}
		i := slices.IndexFunc(g.Arms, func(a summary.Arm) bool { return a.Name == v.Arms[0] })
		k := slices.IndexFunc(g.Arms, func(a summary.Arm) bool { return a.Name == v.Arms[1] })
		if i >= 0 && k >= 0 {
			return g.Arms[i], g.Arms[k], true
		}
	}
	return first, second, false
}

func pairLabel(v record.Verdict) string {
	return chart.Clean(v.Arms[0], 26) + " ÷ " + chart.Clean(v.Arms[1], 26)
}

// upright turns a verdict so that its ratio is at least one: the dearer arm comes first.
func upright(v record.Verdict) record.Verdict {
	if v.Ratio == nil || *v.Ratio >= 1 || *v.Ratio <= 0 {
		return v
	}
	flip := func(x *float64) *float64 {
		if x == nil || *x == 0 {
			return nil
		}
		y := 1 / *x
		return &y
	}
	v.Arms[0], v.Arms[1] = v.Arms[1], v.Arms[0]
	v.Ratio, v.RatioLow, v.RatioHigh = flip(v.Ratio), flip(v.RatioHigh), flip(v.RatioLow)
	return v
}

func (b *build) throughput(g summary.Group) section {
	var finding []string
	for _, a := range told(g) {
		if q := a.Answers(); len(q.Values) > 0 {
			bottleneck, _ := a.Bottleneck()
			finding = append(finding, fmt.Sprintf("%s %s, held back by %s", a.Name, quantityWords(q, whole, "a second"), heldBy(bottleneck)))
		}
	}
	title, load := "Highest throughput", "where more is offered than the arm bears"
	if g.Closed {
		title, load = "Throughput of a closed loop", "where each client waits for its answer"
	}
	f := chart.Rows{
		ID: b.id(g, "throughput"), Title: title + ", " + b.asked(g), Subtitle: "Right answers a second " + load + ". Longer is more. Below each name: what held it back. " + b.count(g, summary.Arm.Answers),
		Finding: title + ": " + list(finding) + ".",
		Panels:  []chart.Panel{{Axis: "right answers a second", Format: "number"}},
		Rows: b.rows(g, func(a summary.Arm) []chart.Cell {
			return []chart.Cell{cell(a, a.Answers(), whole, "answers a second")}
		}, func(a summary.Arm) string {
			name, _ := a.Bottleneck()
			if name == "" {
				return a.Tier
			}
			return "by " + heldBy(chart.Clean(name, labelRunes))
		}),
	}.Figure()
	t := quantityTable("Right answers a second, "+operation(g), g, []column{{"answers /s", summary.Arm.Answers, whole}})
	t.Heads = append(t.Heads, "held back by")
	for i, a := range g.Arms {
		t.Rows[i] = append(t.Rows[i], bottlenecks(a.Throughput))
	}
	lead := readRows + " An arm held back by the database or the generator could do more: only where the contender itself is named is this its limit. Latencies of these trials say nothing, since their queue grows without end, and are not shown."
	if g.Closed {
		lead = readRows + " A closed loop: each client waits for its answer, so these are no limits that an open world would meet."
	}
	return section{b.id(g, "throughput"), title, lead, &f, t}
}

// told are the arms that a chart's words are about: the mainstream ones, or all where there are none. The table has all.
func told(g summary.Group) []summary.Arm {
	if m := g.Mainstream(); len(m) > 0 {
		return m
	}
	return g.Arms
}

func heldBy(bottleneck string) string {
	switch bottleneck {
	case "contender":
		return "itself"
	case "event loop":
		return "itself (its event loop)"
	case "none":
		return "nothing found"
	}
	return bottleneck
}

func bottlenecks(trials []record.Trial) string {
	counts := map[string]int{}
	for _, t := range trials {
		counts[t.Bottleneck]++
	}
	var names []string
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int {
		if counts[x] != counts[y] {
			return counts[y] - counts[x]
		}
		return strings.Compare(x, y)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	if n := summary.NearCeiling(trials); n > 0 {
		names = append(names, fmt.Sprintf("%d within 20 %% of the generator's ceiling", n))
	}
	if len(names) == 0 {
		return "–"
	}
	return strings.Join(names, ", ")
}

// latencyTrials has each trial's percentiles beside each other.
func (b *build) latencyTrials(g summary.Group) section {
	var panels []chart.Panel
	var columns []column
	for _, p := range summary.Percentiles()[:3] {
		panels = append(panels, chart.Panel{Title: p.Name, Axis: p.Name + ", ms", Format: "number", Log: true})
		columns = append(columns, column{p.Name + " ms", func(a summary.Arm) summary.Quantity { return a.LatencyOf(p, g.Operation) }, milli})
	}
	var finding []string
	for _, a := range told(g) {
		if q := a.LatencyOf(summary.Percentiles()[0], g.Operation); len(q.Values) > 0 {
			words := fmt.Sprintf("%s p50 %s ms", a.Name, milli(q.Median))
			if q99 := a.LatencyOf(summary.Percentiles()[2], g.Operation); len(q99.Values) > 0 {
				words += fmt.Sprintf(", p99 %s ms", milli(q99.Median))
			}
			finding = append(finding, words)
		}
	}
	f := chart.Rows{
		ID: b.id(g, "latency-trials"), Title: fmt.Sprintf("Latency %s, %s", b.atRate(g), operation(g)),
		Subtitle: "From the intended send, milliseconds, logarithmic. Further left is faster. Line: median of the trials' percentiles. " + b.logged(g),
		Finding:  "Medians of the trials: " + list(finding) + ".", Panels: panels,
		Rows: b.rows(g, func(a summary.Arm) []chart.Cell {
			var out []chart.Cell
			for _, p := range summary.Percentiles()[:3] {
				out = append(out, cell(a, a.LatencyOf(p, g.Operation), milli, "ms"))
			}
			return out
		}, func(a summary.Arm) string { return chart.Clean(a.Tier, labelRunes) }),
	}.Figure()
	return section{b.id(g, "latency-trials"), "Latency, trial by trial", "Each mark is one trial's percentile; the line is their median, the whisker its 95 % interval. Percentiles are never averaged, and one that a trial's requests cannot carry is left out: p99 needs 459 requests.", &f,
		quantityTable(fmt.Sprintf("Latency from the intended send, %s, %s", b.atRate(g), operation(g)), g, columns)}
}

// hdrFrom is the percentile that the plot begins at: below it, lines drop to the fastest request of all, which is of no
// interest and would take half the height.
const hdrFrom = 0.1

// latencyPercentiles is the HDR plot.
func (b *build) latencyPercentiles(g summary.Group) *section {
	logs := b.logs[groupKey(g)]
	var lines []chart.Line
	var finding []string
	t := table{Caption: "Latency by percentile, all trials of an arm together", Heads: []string{"arm", "tier", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "largest ms", "trials", "requests"}}
	for _, a := range g.Arms {
		l := logs[a.Name]
		if l == nil || l.all.TotalCount() == 0 {
			continue
		}
		n := uint64(l.all.TotalCount())
		line := b.line(g, a)
		var steps []float64
		for x := 1 / (1 - hdrFrom); ; x *= math.Pow(10, 0.05) { // twenty points a decade
			steps = append(steps, x)
			if x > 1e7 {
				break
			}
		}
		marks := []float64{2, 10, 100, 1000, 10000}
		steps = append(steps, marks...)
		slices.Sort(steps)
		for _, x := range steps {
			q := 1 - 1/x
			if !stats.Carries(q, n) {
				continue
			}
			ms := float64(l.all.ValueAtQuantile(100*q)) / 1e6
			if ms <= 0 {
				continue
			}
			line.Points = append(line.Points, chart.Point{X: x, Y: ms, Marked: slices.Contains(marks, x), Tip: []string{percentileName(q), label(a) + "  " + milli(ms) + " ms"}})
		}
		if stats.Carries(0.5, n) { // else not even the axis would have a mark
			lines = append(lines, line)
		}
		row := []string{marked(a), a.Tier}
		for _, p := range summary.Percentiles() {
			text := "–"
			if stats.Carries(p.Quantile, n) {
				text = milli(float64(l.all.ValueAtQuantile(100*p.Quantile)) / 1e6)
			}
			row = append(row, text)
		}
		t.Rows = append(t.Rows, append(row, milli(float64(l.all.Max())/1e6), fmt.Sprint(len(l.trials)), count(n)))
		if slices.ContainsFunc(told(g), func(x summary.Arm) bool { return x.Name == a.Name }) {
			finding = append(finding, fmt.Sprintf("%s p50 %s ms, p99 %s ms", a.Name, row[2], row[4]))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	f := chart.Curves{
		ID: b.id(g, "latency-percentiles"), Title: fmt.Sprintf("Latency by percentile %s, %s", b.atRate(g), operation(g)),
		Subtitle: "From the intended send, both axes logarithmic. Lower is faster. All trials of an arm together. " + b.logged(g),
		Finding:  "All trials together: " + list(finding) + ".", Percentile: true, Axis: "percentile", Height: 330, Panels: []chart.CurvePanel{{Axis: "latency", Lines: lines}},
	}.Figure()
	return &section{b.id(g, "latency-percentiles"), "Latency by percentile", "The histograms of all trials of an arm, merged without loss. A line ends where its requests no longer carry the percentile. Marks stand at p50, p90, p99 and p99.9. Full line: mainstream; long dashes: compiled; dots: floor.", &f, t}
}

func percentileName(q float64) string {
	return "p" + strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", 100*q), "0"), ".")
}

// latencyTime shows how a trial went from second to second.
func (b *build) latencyTime(g summary.Group) *section {
	logs := b.logs[groupKey(g)]
	spans := faultSpans(g)
	p50 := chart.CurvePanel{Title: "p50", Axis: "p50", Spans: spans}
	p99 := chart.CurvePanel{Title: "p99", Axis: "p99", Spans: spans}
	t := table{Caption: "Latency in each second of a trial, the trials of an arm together", Heads: []string{"arm", "second", "p50 ms", "p99 ms", "trials", "requests"}}
	longest := 0
	for _, a := range g.Arms {
		l := logs[a.Name]
		if l == nil {
			continue
		}
		l50, l99 := b.line(g, a), b.line(g, a)
		for k, h := range l.seconds {
			n := uint64(h.TotalCount())
			if n == 0 {
				continue
			}
			longest = max(longest, k+1)
			x := float64(k) + 0.5
			cells := []string{marked(a), fmt.Sprintf("%d–%d", k, k+1), "–", "–"}
			if stats.Carries(0.5, n) {
				ms := float64(h.ValueAtQuantile(50)) / 1e6
				cells[2] = milli(ms)
				l50.Points = append(l50.Points, chart.Point{X: x, Y: ms, Marked: true, Tip: []string{"second " + cells[1], label(a) + "  " + cells[2] + " ms"}})
			}
			if stats.Carries(0.99, n) {
				ms := float64(h.ValueAtQuantile(99)) / 1e6
				cells[3] = milli(ms)
				l99.Points = append(l99.Points, chart.Point{X: x, Y: ms, Marked: true, Tip: []string{"second " + cells[1], label(a) + "  " + cells[3] + " ms"}})
			}
			t.Rows = append(t.Rows, append(cells, fmt.Sprint(len(l.trials)), count(n)))
		}
		for i, trial := range l.trials {
			// Side by side within the second, in the order of the blocks.
			shift := 0.5
			if len(l.trials) > 1 {
				shift = 0.2 + 0.6*float64(i)/float64(len(l.trials)-1)
			}
			for k, s := range trial.seconds {
				if s.p50 > 0 {
					l50.Dots = append(l50.Dots, chart.Dot2{X: float64(k) + shift, Y: s.p50})
				}
				if s.p99 > 0 {
					l99.Dots = append(l99.Dots, chart.Dot2{X: float64(k) + shift, Y: s.p99})
				}
			}
		}
		p50.Lines, p99.Lines = append(p50.Lines, l50), append(p99.Lines, l99)
	}
	if len(t.Rows) == 0 {
		return nil
	}
	panels := []chart.CurvePanel{p50}
	if slices.ContainsFunc(p99.Lines, func(l chart.Line) bool { return len(l.Points) > 0 }) {
		panels = append(panels, p99)
	}
	f := chart.Curves{
		ID: b.id(g, "latency-time"), Title: fmt.Sprintf("Latency over time %s, %s", b.atRate(g), operation(g)),
		Subtitle: "By the second of the intended send, the trials of an arm together; small marks: single trials. Lower is faster. " + spanWords(spans) + b.logged(g),
		Finding:  fmt.Sprintf("Latency in each of %s of a trial, by arm; the numbers are in the table.", summary.Plural(longest, "second")), Axis: "time in the trial", Height: 300, Panels: panels,
	}.Figure()
	return &section{b.id(g, "latency-time"), "Latency over time", "A line that falls shows an arm that was not yet warm; one that rises, a queue that grows. Full line: mainstream; long dashes: compiled; dots: floor. The last second may be a part of one. A single trial's p99 is left out where its second has fewer than 459 requests.", &f, t}
}

func (b *build) memory(g summary.Group) *section {
	type kind struct {
		name, title string
		of          func(record.Trial) *int64
	}
	kinds := []kind{
		{"idle", "idle, before any load", func(t record.Trial) *int64 { return t.MemoryPSSIdleBytes }},
		{"end", "at the end of a trial", func(t record.Trial) *int64 { return t.MemoryPSSEndBytes }},
		{"peak", "peak of a trial", func(t record.Trial) *int64 { return t.MemoryPSSPeakBytes }},
	}
	var panels []chart.Panel
	var columns []column
	var shown []kind
	for _, k := range kinds {
		if !slices.ContainsFunc(g.Arms, func(a summary.Arm) bool { return len(a.Memory(k.of).Values) > 0 }) {
			continue
		}
		shown = append(shown, k)
		panels = append(panels, chart.Panel{Title: k.title, Axis: "PSS, MB", Format: "number"})
		columns = append(columns, column{k.name + " MB", func(a summary.Arm) summary.Quantity { return a.Memory(k.of) }, one})
	}
	if len(shown) == 0 {
		return nil
	}
	last := shown[len(shown)-1]
	var finding []string
	for _, a := range told(g) {
		if q := a.Memory(last.of); len(q.Values) > 0 {
			finding = append(finding, a.Name+" "+quantityWords(q, one, "MB"))
		}
	}
	f := chart.Rows{
		ID: b.id(g, "memory"), Title: "Memory of the server, " + operation(g), Subtitle: "Proportional set size (PSS) of the process tree, MB. Shorter is less. " + b.count(g, func(a summary.Arm) summary.Quantity { return a.Memory(last.of) }),
		Finding: "Memory, " + last.title + ": " + list(finding) + ".", Panels: panels,
		Rows: b.rows(g, func(a summary.Arm) []chart.Cell {
			var out []chart.Cell
			for _, k := range shown {
				out = append(out, cell(a, a.Memory(k.of), one, "MB"))
			}
			return out
		}, func(a summary.Arm) string { return chart.Clean(a.Tier, labelRunes) }),
	}.Figure()
	t := quantityTable("Memory and start, "+operation(g), g, columns)
	t.Heads = append(t.Heads, "start to first right answer, ms", "95 %", "least–most")
	for i, a := range g.Arms {
		t.Rows[i] = append(t.Rows[i], quantityCells(a.ColdStart(), whole)...)
	}
	return &section{b.id(g, "memory"), "Memory and start", readRows + " One number a block, the larger of its trials, which share a process. Sampled once a second, so a short peak may be missed. The peak is that of a trial's samples: after its start a server may hold more for a while than under load, which is “idle”.", &f, t}
}

// parts says where the CPU time of a request went, where the engine tells.
func (b *build) parts(g summary.Group) *section {
	t := table{Caption: "Each part of the run, medians of the trials, " + operation(g), Heads: []string{"arm", "part", "CPU per request, µs", "PSS, MB", "cgroup peak, MB", "trials", "requests"}}
	extra := slices.ContainsFunc(g.Arms, func(a summary.Arm) bool { return extraParts(a.Costed()) })
	if extra {
		t.Heads = append(t.Heads, extraPartHeads...)
	}
	for _, a := range g.Arms {
		names := map[string]bool{}
		for _, x := range a.Costed() {
			for name := range x.Parts {
				names[name] = true
			}
		}
		for _, name := range sortedKeys(names) {
			cpu := summary.Of(a.Costed(), func(x record.Trial) (float64, bool) {
				part, ok := x.Parts[name]
				if !ok || x.Sent == 0 {
					return 0, false
				}
				return part.CPUSeconds * 1e6 / float64(x.Sent), true
			})
			bytes := func(of func(record.Part) *int64) float64 {
				return summary.Of(a.Costed(), func(x record.Trial) (float64, bool) {
					if v := of(x.Parts[name]); v != nil {
						return float64(*v) / 1e6, true
					}
					return 0, false
				}).Median
			}
			t.Rows = append(t.Rows, []string{marked(a), name, whole(cpu.Median), one(bytes(func(p record.Part) *int64 { return p.MemoryPSSPeakBytes })), one(bytes(func(p record.Part) *int64 { return p.MemoryCgroupPeakBytes })), fmt.Sprint(len(cpu.Values)), count(cpu.Requests())})
			if extra {
				last := len(t.Rows) - 1
				t.Rows[last] = append(t.Rows[last], extraPartCells(a.Costed(), name)...)
			}
		}
	}
	if len(t.Rows) == 0 {
		return nil
	}
	lead := ""
	if extra {
		lead = extraPartsLead
	}
	return &section{b.id(g, "parts"), "Where the CPU time went", "What server, database, generator and the other parts used for one request, in the trials that CPU per request is told of. PSS is the server's highest in a trial, and what the other parts held right after it. A cgroup's peak counts the page cache and is since the part began." + lead, nil, t}
}

// bench is CPU per request and its ratio to the floor, of all operations beside each other.
func (b *build) bench() []section {
	first := b.groups[0]
	arm := func(g summary.Group, name string) summary.Arm {
		for _, a := range g.Arms {
			if a.Name == name {
				return a
			}
		}
		return summary.Arm{Name: name}
	}
	var cpu, floor []chart.Panel
	cpuTable := table{Caption: "CPU per request, µs", Heads: []string{"arm", "tier", "operation", "µs", "95 %", "least–most", "trials", "requests"}}
	floorTable := table{Caption: "CPU per request ÷ that of the floor, within the same round", Heads: []string{"arm", "tier", "operation", "÷ floor", "95 %", "rounds"}}
	var every summary.Group // the arms of all operations
	for _, g := range b.groups {
		every.Arms = append(every.Arms, g.Arms...)
		cpu = append(cpu, chart.Panel{Title: operation(g), Axis: "CPU per request, µs", Format: "number"})
		floor = append(floor, chart.Panel{Title: operation(g), Axis: "CPU per request ÷ floor", Format: "ratio", Line: 1})
		for _, a := range g.Arms {
			q := a.CPU()
			cpuTable.Rows = append(cpuTable.Rows, append(append([]string{marked(a), a.Tier, operation(g)}, quantityCells(q, whole)...), fmt.Sprint(len(q.Values)), count(q.Requests())))
			if r := g.OverFloor(a); len(r.Values) > 0 {
				floorTable.Rows = append(floorTable.Rows, []string{marked(a), a.Tier, operation(g), two(r.Median), ratioInterval(r), fmt.Sprint(len(r.Values))})
			}
		}
	}
	cpuFigure := chart.Rows{
		ID: "cpu", Title: "CPU per request, each arm always busy", Subtitle: "µs of user and system time, closed loop. Shorter is cheaper. Hollow: the floor, by hand without a GraphQL library. " + b.count(every, summary.Arm.CPU),
		Finding: b.benchWords(), Panels: cpu,
		Rows: b.rows(first, func(a summary.Arm) []chart.Cell {
			var out []chart.Cell
			for _, g := range b.groups {
				x := arm(g, a.Name)
				out = append(out, cell(x, x.CPU(), whole, "µs"))
			}
			return out
		}, func(a summary.Arm) string { return chart.Clean(a.Tier, labelRunes) }),
	}.Figure()
	out := []section{{"cpu", "CPU per request", readRows, &cpuFigure, cpuTable}}
	if len(floorTable.Rows) == 0 {
		return out
	}
	without := first
	without.Arms = slices.DeleteFunc(slices.Clone(first.Arms), func(a summary.Arm) bool { return a.Tier == "floor" })
	floorFigure := chart.Rows{
		ID: "floor", Title: "What a library costs", Subtitle: "Line: the floor in the same round. Geometric mean, 95 % interval (exact sign-flip test); marks: single rounds. " + b.count(every, summary.Arm.CPU),
		Finding: b.benchWords(), Panels: floor,
		Rows: b.rows(without, func(a summary.Arm) []chart.Cell {
			var out []chart.Cell
			for _, g := range b.groups {
				out = append(out, cell(a, g.OverFloor(arm(g, a.Name)), two, "× the floor"))
			}
			return out
		}, func(a summary.Arm) string { return chart.Clean(a.Tier, labelRunes) }),
	}.Figure()
	return append(out, section{"floor", "What a library costs", "How many times the CPU of the same answer by hand, in the same language. Each mark is one round. The ratio survives a change of machine better than the microseconds do.", &floorFigure, floorTable})
}

// id keeps figures of several operations apart.
func (b *build) id(g summary.Group, name string) string {
	if headlines, _ := b.headlines(); len(b.groups) < 2 || len(headlines) < 2 && b.scenario(g) == nil {
		return name
	}
	return b.prefixes[groupKey(g)] + "-" + name
}

// fileName keeps what every file system and every address takes.
func fileName(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') {
			return r
		}
		return '-'
	}, s))
}

func groupKey(g summary.Group) string { return g.Scenario + " " + g.Operation }

func operation(g summary.Group) string { return chart.Clean(strings.ToUpper(g.Operation), 24) }

// atRate stands for the trials that latencies are of.
func atRate(a summary.Arm) summary.Quantity {
	return summary.Of(a.Rate, func(record.Trial) (float64, bool) { return 0, true })
}

// count says how many requests the figures rest on.
func (b *build) count(g summary.Group, of func(summary.Arm) summary.Quantity) string {
	return requests(g, func(a summary.Arm) uint64 {
		if q := of(a); len(q.Values) > 0 {
			return q.Requests()
		}
		return 0
	})
}

// logged says how many response times the arms' histograms have: of a mix, those of its operation.
func (b *build) logged(g summary.Group) string {
	logs := b.logs[groupKey(g)]
	return requests(g, func(a summary.Arm) uint64 {
		if l := logs[a.Name]; l != nil {
			return uint64(l.all.TotalCount())
		}
		return 0
	})
}

// requests says how many an arm has, of those that have any.
func requests(g summary.Group, of func(summary.Arm) uint64) string {
	low, high := uint64(math.MaxUint64), uint64(0)
	for _, a := range g.Arms {
		if n := of(a); n > 0 {
			low, high = min(low, n), max(high, n)
		}
	}
	switch {
	case high == 0:
		return "No request."
	case low == high:
		return count(low) + " requests an arm."
	}
	return count(low) + " to " + count(high) + " requests an arm."
}
