// Package summary says what a run found, as text for a terminal and as Markdown, from its record alone.
package summary

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// row is what the tables say of one arm.
type row struct {
	arm, tier                   string
	cpu, cpuLow, cpuHigh        float64 // µs per request at the common rate: median, least, most of the blocks
	floor                       float64 // cpu ÷ that of the contender's floor; NaN without one
	p50, p90, p99, p999         float64 // ms, median of the blocks' percentiles
	requests                    uint64
	throughput, lowest, highest float64
	bottlenecks                 string
	pss                         float64 // MB, the most of all blocks
	statements                  float64
	trials, void                int
	nonconformant               bool
}

func rows(r record.Run) []row {
	var order []string
	byArm := map[string][]record.Trial{}
	for _, t := range r.Trials {
		if _, ok := byArm[t.Arm]; !ok {
			order = append(order, t.Arm)
		}
		byArm[t.Arm] = append(byArm[t.Arm], t)
	}
	var out []row
	floors := map[string]float64{}
	for _, arm := range order {
		x := rowOf(arm, byArm[arm])
		if x.tier == "floor" {
			floors[byArm[arm][0].Contender] = x.cpu
		}
		out = append(out, x)
	}
	for i := range out {
		out[i].floor = math.NaN()
		if f, ok := floors[byArm[out[i].arm][0].Contender]; ok && f > 0 {
			out[i].floor = out[i].cpu / f
		}
	}
	slices.SortStableFunc(out, func(a, b row) int {
		switch {
		case a.cpu < b.cpu || math.IsNaN(b.cpu):
			return -1
		case a.cpu > b.cpu:
			return 1
		}
		return 0
	})
	return out
}

func rowOf(arm string, trials []record.Trial) row {
	x := row{arm: arm, tier: trials[0].Tier}
	var cpu, p50, p90, p99, p999, throughput, statements []float64
	bottlenecks := map[string]int{}
	for _, t := range trials {
		x.trials++
		x.nonconformant = x.nonconformant || t.Nonconformant
		if t.Void != nil {
			x.void++
			continue
		}
		if t.MemoryPSSPeakBytes != nil {
			x.pss = max(x.pss, float64(*t.MemoryPSSPeakBytes)/1e6)
		}
		switch t.Load {
		case record.LoadRate:
			if t.CPUUsPerRequest != nil {
				cpu = append(cpu, *t.CPUUsPerRequest)
			}
			if t.StatementsPerRequest != nil {
				statements = append(statements, *t.StatementsPerRequest)
			}
			p50, p90 = append(p50, float64(t.LatencyP50NS)/1e6), append(p90, float64(t.LatencyP90NS)/1e6)
			p99, p999 = append(p99, float64(t.LatencyP99NS)/1e6), append(p999, float64(t.LatencyP999NS)/1e6)
			x.requests += t.OK
		case record.LoadThroughput:
			throughput = append(throughput, t.AchievedRPS)
			bottlenecks[t.Bottleneck]++
		}
	}
	x.cpu, x.cpuLow, x.cpuHigh = spread(cpu)
	x.p50, x.p90, x.p99, x.p999 = stats.Median(p50), stats.Median(p90), stats.Median(p99), stats.Median(p999)
	x.throughput, x.lowest, x.highest = spread(throughput)
	x.statements = stats.Median(statements)
	most := 0
	for _, name := range slices.Sorted(mapsKeys(bottlenecks)) {
		if bottlenecks[name] > most {
			most, x.bottlenecks = bottlenecks[name], name
		}
	}
	return x
}

func mapsKeys(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func spread(x []float64) (median, low, high float64) {
	if len(x) == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	return stats.Median(x), slices.Min(x), slices.Max(x)
}

var heads = []string{"arm", "tier", "CPU µs/request", "÷ floor", "p50 ms", "p90 ms", "p99 ms", "requests", "throughput /s", "held back by", "PSS MB", "SQL/request", "void"}

func (x row) cells() []string {
	name := x.arm
	if x.nonconformant {
		name += " (not conformant!)"
	}
	return []string{
		name, x.tier,
		fmt.Sprintf("%s (%s–%s)", number(x.cpu, 0), number(x.cpuLow, 0), number(x.cpuHigh, 0)), number(x.floor, 2),
		number(x.p50, 1), number(x.p90, 1), number(x.p99, 1), fmt.Sprint(x.requests),
		fmt.Sprintf("%s (%s–%s)", number(x.throughput, 0), number(x.lowest, 0), number(x.highest, 0)), x.bottlenecks,
		number(x.pss, 0), number(x.statements, 2), fmt.Sprintf("%d of %d", x.void, x.trials),
	}
}

func number(x float64, digits int) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, x)
}

// what says in one sentence what was measured.
func what(r record.Run) string {
	operation := ""
	if len(r.Trials) > 0 {
		operation = strings.ToUpper(r.Trials[0].Operation)
	}
	return fmt.Sprintf("%s, open loop with Poisson arrivals at %.0f requests a second; %d blocks in random order (floors %d), seed %d; data %s.",
		operation, r.Plan.RateRPS, r.Plan.Blocks, r.Plan.FloorBlocks, r.Seed, r.Environment.DataSize)
}

const legend = `CPU: median of the blocks (least–most), user and system time of the contender. ÷ floor: against the same answer by hand
in the same language. Latency counts from the intended send; medians of the blocks' percentiles. Throughput: answers
a second when offered 1.3 times what the pilot bore, and what held the arm back there.`

// caution is what must stand on every page of a run that proves nothing or is not whole.
func caution(r record.Run) string {
	var b strings.Builder
	if !r.Evidence {
		fmt.Fprintf(&b, "This is a %s run: it shows that everything works. Its figures are no evidence.\n", r.Profile)
	}
	if !r.Complete {
		b.WriteString("This run was interrupted: what follows is what was measured until then.\n")
	}
	return b.String()
}

// Text is for a terminal.
func Text(r record.Run) string {
	var b strings.Builder
	b.WriteString(caution(r))
	fmt.Fprintf(&b, "%s\n\n", what(r))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heads, "\t"))
	for _, x := range rows(r) {
		fmt.Fprintln(w, strings.Join(x.cells(), "\t"))
	}
	_ = w.Flush()
	fmt.Fprintf(&b, "\n%s\n", legend)
	if len(r.Verdicts) > 0 {
		b.WriteString("\nDo these two differ in CPU per request?\n")
		w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, v := range r.Verdicts {
			fmt.Fprintf(w, "  %s against %s\t%s\t%s\t%s\n", v.Arms[0], v.Arms[1], v.Verdict, ratio(v), v.Reason)
		}
		_ = w.Flush()
	}
	for _, line := range r.Warnings {
		fmt.Fprintf(&b, "Note: %s\n", line)
	}
	return b.String()
}

func ratio(v record.Verdict) string {
	if v.Ratio == nil {
		return "–"
	}
	if v.RatioLow == nil || v.RatioHigh == nil {
		return fmt.Sprintf("%.2f", *v.Ratio)
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]", *v.Ratio, *v.RatioLow, *v.RatioHigh)
}

// escape keeps a name from being markup.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "\n", " ", "`", "'", "[", `\[`, "]", `\]`).Replace(s)
}

// Markdown is the run's README.md.
func Markdown(r record.Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Run %s\n\n", escape(r.ID))
	if c := caution(r); c != "" {
		fmt.Fprintf(&b, "**%s**\n\n", strings.TrimSpace(c))
	}
	fmt.Fprintf(&b, "%s\n\n", what(r))
	table(&b, heads, func(yield func([]string)) {
		for _, x := range rows(r) {
			yield(x.cells())
		}
	})
	fmt.Fprintf(&b, "\n%s\n", legend)
	if len(r.Verdicts) > 0 {
		b.WriteString("\n## Do these two differ in CPU per request?\n\n")
		table(&b, []string{"pair", "verdict", "ratio [95 %]", "blocks", "p (Holm)", "why"}, func(yield func([]string)) {
			for _, v := range r.Verdicts {
				p := "–"
				if v.PHolm != nil {
					p = fmt.Sprintf("%.3f", *v.PHolm)
				}
				yield([]string{v.Arms[0] + " ÷ " + v.Arms[1], v.Verdict, ratio(v), fmt.Sprint(v.Blocks), p, v.Reason})
			}
		})
	}
	e := r.Environment
	fmt.Fprintf(&b, "\n## Environment\n\n%s, %s on %s; CPUs %v: contender %v, database %v, generator %v; engine %s; PostgreSQL %s (%s).\n",
		escape(e.CPUModel), escape(e.Kernel), escape(e.Arch), e.CPUs, e.Placement["contender"], e.Placement["database"], e.Placement["agent"], e.Engine, escape(e.PostgreSQL), escape(e.PostgreSQLSource))
	fmt.Fprintf(&b, "\nThe same again: `%s`\n", strings.Join(r.Command, " "))
	for _, line := range r.Warnings {
		fmt.Fprintf(&b, "\nNote: %s\n", escape(line))
	}
	return b.String()
}

func table(b *strings.Builder, heads []string, each func(yield func([]string))) {
	line := func(cells []string) {
		for i := range cells {
			cells[i] = escape(cells[i])
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
	line(slices.Clone(heads))
	fmt.Fprintf(b, "|%s\n", strings.Repeat(" --- |", len(heads)))
	each(line)
}
