package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/diff"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/report"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// The golden run: each of its numbers is unlike every other one, so that a number under another's label, or in another
// unit, shows. Others' tables were found to call p95 p99 and to read 1.02s as 1.02 ms.
const (
	goldenP50, goldenP90, goldenP95, goldenP99, goldenP999, goldenMax = 1.02, 1.31, 1.75, 2.34, 3.57, 5.21 // seconds

	goldenSent, goldenUnsent, goldenReset = 10_000, 400, 70
	goldenBusySent                        = 7_000 // of a trial for throughput
	goldenRate, goldenAnswered            = 5_200, 3_972
	goldenBlocks                          = 9
)

// What the machine did to each block, and by how much the arms' ratios differ from block to block.
var (
	goldenBlock = []float64{1.03, 0.90, 1.00, 1.10, 0.97, 0.94, 1.06, 0.99, 1.01}
	goldenRest  = []float64{0.04, -0.01, 0.03, -0.04, 0, 0.01, -0.03, 0.02, -0.02}
)

var goldenArms = []struct {
	name, contender, tier, bottleneck string
	cpuUs, rps                        float64
}{
	{"go", "go", "mainstream", "contender", 1234, 8765},
	{"node", "node", "mainstream", "contender", 1234 * 3, 2468},
	{"rust", "rust", "mainstream", "database", 1234 / 2.0, 13579},
	{"go-floor", "go", "floor", "contender", 1234 / 4.0, 31415},
}

func goldenCPU(arm string, block int) float64 {
	base, rest := 1234.0, 0.0
	switch arm {
	case "node":
		base, rest = base*3, goldenRest[block-1]/2
	case "rust":
		base, rest = base/2, goldenRest[block-1]
	case "go-floor":
		base, rest = base/4, -goldenRest[block-1]/4
	}
	return base * goldenBlock[block-1] * math.Exp(rest)
}

func medianCPU(arm string) float64 {
	var all []float64
	for block := 1; block <= goldenBlocks; block++ {
		all = append(all, goldenCPU(arm, block))
	}
	return stats.Median(all)
}

// goldenSecond is a second of response times, in parts of a trial.
func goldenSecond(t *testing.T, of int) *hdr.Histogram {
	t.Helper()
	h := hdr.New(1000, 100e9, 3)
	for _, v := range []struct {
		seconds float64
		n       int
	}{{goldenP50, 5000}, {goldenP90, 4000}, {goldenP95, 500}, {goldenP99, 400}, {goldenP999, 90}, {goldenMax, 10}} {
		require.NoError(t, h.RecordValues(int64(v.seconds*1e9), int64(v.n*goldenSent/10_000/of)))
	}
	return h
}

func goldenLog(t *testing.T, seconds []*hdr.Histogram) []byte {
	t.Helper()
	var b bytes.Buffer
	w := hdr.NewHistogramLogWriter(&b)
	require.NoError(t, w.OutputLogFormatVersion())
	for i, h := range seconds {
		h.SetStartTimeMs(int64(i) * 1000)
		h.SetEndTimeMs(int64(i+1) * 1000)
		require.NoError(t, w.OutputIntervalHistogram(h))
	}
	return b.Bytes()
}

// goldenTrial is a trial at the common rate.
func goldenTrial(t *testing.T, id string) (record.Trial, []byte) {
	t.Helper()
	seconds := []*hdr.Histogram{goldenSecond(t, 2), goldenSecond(t, 2)}
	all := record.Merge(seconds)
	idle, end, peak, cgroup, database, databaseCgroup := int64(33.3e6), int64(55.5e6), int64(77.7e6), int64(99.9e6), int64(66.6e6), int64(88.8e6)
	sql := 5.25
	x := record.Trial{
		ID: id, Scenario: "library", Operation: "q2", Load: record.LoadRate, Seed: 4242, Arrival: "poisson", Began: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		DurationNS: 2e9, ElapsedNS: 2_500_000_000, Offered: goldenSent + goldenUnsent, OfferedRPS: goldenRate, AchievedRPS: goldenAnswered, Sent: goldenSent,
		OK: goldenSent - goldenReset, Failed: goldenReset, Unsent: goldenUnsent, FailedBy: record.Failed{Reset: goldenReset}, FirstFailure: "connection reset",
		LatencyP50NS: all.ValueAtQuantile(50), LatencyP90NS: all.ValueAtQuantile(90), LatencyP99NS: all.ValueAtQuantile(99), LatencyP999NS: all.ValueAtQuantile(99.9), LatencyMaxNS: all.Max(),
		ServiceP50NS: 410e6, ServiceP99NS: 770e6, SendLagP99NS: 6_660_000, DatabaseCPUSeconds: 3.21, AgentCPUSeconds: 2.12,
		MemoryPSSIdleBytes: &idle, MemoryPSSEndBytes: &end, MemoryPSSPeakBytes: &peak, MemoryCgroupPeakBytes: &cgroup, ColdStartNS: 123_000_000, StatementsPerRequest: &sql,
		MachineStealShare: 0.034, Bottleneck: "contender", HDRLog: id + ".hlog",
		Warm:  &record.Warm{Windows: 7, WindowNS: 190_000_000, RateDrift: 0.128, CPUDrift: 0.057},
		Parts: map[string]record.Part{"database_replica": {CPUSeconds: 4.44, MemoryPSSPeakBytes: &database, MemoryCgroupPeakBytes: &databaseCgroup}},
	}
	return x, goldenLog(t, seconds)
}

// goldenRun writes the run; go costs so many times what it costs.
func goldenRun(t *testing.T, id string, dearer float64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), id)
	folder, err := record.Create(dir)
	require.NoError(t, err)
	began := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	r := record.Run{
		Format: record.Format, Method: record.Method, ID: id, Profile: "quick", Evidence: true, Seed: 7, Began: began, Ended: began.Add(9 * time.Minute), Complete: true,
		Command: []string{"loadtest", "compare"}, Conformance: []record.Conformity{}, Warnings: []string{},
		Environment: record.Environment{
			Engine: "native", OS: "Debian", CPUModel: "Made-up CPU", CPUs: []int{0, 1}, Placement: map[string][]int{"contender": {0}, "database": {1}, "agent": {1}},
			PostgreSQLSettings: map[string]string{}, DataSize: "standard", DataDigest: "d", Contenders: map[string]json.RawMessage{}, Missing: map[string]string{},
		},
		Plan: record.Plan{Blocks: goldenBlocks, FloorBlocks: goldenBlocks, RateRPS: goldenRate, Pilot: []record.PilotOutcome{}},
	}
	for block := 1; block <= goldenBlocks; block++ {
		var order []string
		place := func(i int, duplicate bool) {
			a := goldenArms[i]
			order = append(order, a.name)
			for _, load := range []record.Load{record.LoadRate, record.LoadThroughput} {
				x, log := goldenTrial(t, fmt.Sprintf("library-q2-%s-b%02d-p%02d-%s", load, block, len(order), a.name))
				cpu := goldenCPU(a.name, block)
				if a.name == "go" {
					cpu *= dearer
				}
				if duplicate {
					cpu *= math.Exp(goldenRest[block-1] / 2)
				}
				if load == record.LoadThroughput {
					x.Load, x.AchievedRPS, x.Bottleneck = load, a.rps*goldenBlock[block-1], a.bottleneck
					x.Sent, x.Offered, x.OK, x.Unsent, x.Failed, x.FailedBy, x.FirstFailure = goldenBusySent, goldenBusySent, goldenBusySent, 0, 0, record.Failed{}, ""
					cpu *= 0.8 // busy servers pay less; in no table of CPU per request
					h := hdr.New(1000, 100e9, 3)
					require.NoError(t, h.RecordValues(9e9, goldenBusySent))
					x.LatencyP50NS, x.LatencyP90NS, x.LatencyP99NS, x.LatencyP999NS, x.LatencyMaxNS = h.Max(), h.Max(), h.Max(), h.Max(), h.Max()
					log = goldenLog(t, []*hdr.Histogram{h})
				}
				x.Arm, x.Contender, x.Tier, x.Block, x.Position, x.Duplicate = a.name, a.contender, a.tier, block, len(order), duplicate
				x.CPUUsPerRequest, x.CPUSeconds = &cpu, cpu*float64(x.Sent)/1e6
				require.NoError(t, folder.WriteTrial(x, log))
				r.Trials = append(r.Trials, x)
			}
		}
		for i := range goldenArms {
			place(i, false)
		}
		place(block%3, true)
		r.Plan.Order = append(r.Plan.Order, order)
	}
	r.Verdicts = claims.Library(r.Trials)
	require.NoError(t, folder.WriteRun(r))
	return dir
}

var (
	goldenNumber = regexp.MustCompile(`[0-9](?:[0-9,]*[0-9])?(?:\.[0-9]+)?`)
	goldenCommas = regexp.MustCompile(`,`)
)

// sameCell says whether a cell has the text, its numbers those of the text within what an HDR histogram of three digits
// and the digits shown leave open.
func sameCell(got, want string) bool {
	if goldenNumber.ReplaceAllString(got, "#") != goldenNumber.ReplaceAllString(want, "#") {
		return false
	}
	a, b := goldenNumber.FindAllString(got, -1), goldenNumber.FindAllString(want, -1)
	for i := range a {
		x, err1 := strconv.ParseFloat(goldenCommas.ReplaceAllString(a[i], ""), 64)
		y, err2 := strconv.ParseFloat(goldenCommas.ReplaceAllString(b[i], ""), 64)
		_, decimals, _ := strings.Cut(a[i], ".")
		if err1 != nil || err2 != nil || math.Abs(x-y) > 0.001*y+0.501*math.Pow(10, -float64(len(decimals))) {
			return false
		}
	}
	return true
}

func TestSameCell(t *testing.T) {
	for _, c := range []struct {
		got, want string
		same      bool
	}{
		{"1,021", "1020", true},
		{"1,750", "2340", false}, // p95 for p99
		{"1.02", "1020", false},  // seconds for milliseconds
		{"1.0", "1020", false},
		{"1,160–1,308", "1159.96–1308.04", true},
		{"1,308–1,160", "1159.96–1308.04", false},
		{"5.25", "5.25", true},
		{"5.3", "5.25", true},
		{"5", "5.25 MB", false},
		{"contender 9", "contender 9", true},
		{"contender 9", "database 9", false},
	} {
		assert.Equal(t, c.same, sameCell(c.got, c.want), "%q %q", c.got, c.want)
	}
}

// goldenRow is a row with its heads: every head of a table, in order, with what stands under it.
type goldenRow [][2]string

func (want goldenRow) check(t *testing.T, where string, heads, cells []string) {
	t.Helper()
	var names []string
	for _, w := range want {
		names = append(names, w[0])
	}
	if !assert.Equal(t, names, heads, where) || !assert.Len(t, cells, len(heads), where) {
		return
	}
	for i, w := range want {
		assert.True(t, sameCell(cells[i], w[1]), "%s: under %q stands %q, expected %q", where, heads[i], cells[i], w[1])
	}
}

func scaled(format string, by float64, x ...float64) string {
	var args []any
	for _, v := range x {
		args = append(args, v*by)
	}
	return fmt.Sprintf(format, args...)
}

// Of nine blocks the 95 % interval of the median runs from the second to the eighth.
const (
	goldenLow, goldenHigh, goldenLeast, goldenMost = 0.94, 1.06, 0.90, 1.10
)

func spreadOf(x float64) [3]string {
	return [3]string{fmt.Sprint(x), scaled("%.2f–%.2f", x, goldenLow, goldenHigh), scaled("%.2f–%.2f", x, goldenLeast, goldenMost)}
}

func constant(x float64) [3]string {
	return [3]string{fmt.Sprintf("%.2f", x), fmt.Sprintf("%.2f–%.2f", x, x), fmt.Sprintf("%.2f–%.2f", x, x)}
}

// ratioOf is the exact interval of the ratio of two arms.
func ratioOf(t *testing.T, a, b string) (mean, low, high float64) {
	t.Helper()
	var d []float64
	for block := 1; block <= goldenBlocks; block++ {
		d = append(d, math.Log(goldenCPU(a, block)/goldenCPU(b, block)))
	}
	l, h, err := stats.Interval(d, 0.95)
	require.NoError(t, err)
	return math.Exp(stats.Mean(d)), math.Exp(l), math.Exp(h)
}

// goldenTables are the rows of the arm go, by the heading that they stand under.
func goldenTables(t *testing.T) map[string]goldenRow {
	t.Helper()
	cpu, answers, idle, end, peak, cold := spreadOf(1234), spreadOf(8765), constant(33.3), constant(55.5), constant(77.7), constant(123)
	over, overLow, overHigh := ratioOf(t, "go", "go-floor")
	ms := func(seconds float64) [3]string { return constant(1000 * seconds) }
	p50, p90, p99 := ms(goldenP50), ms(goldenP90), ms(goldenP99)
	return map[string]goldenRow{
		"CPU per request": {
			{"arm", "go"}, {"tier", "mainstream"}, {"µs", cpu[0]}, {"95 %", cpu[1]}, {"least–most", cpu[2]}, {"trials", "9"}, {"requests", "90000"},
			{"÷ floor", fmt.Sprintf("%.3f", over)}, {"95 %", fmt.Sprintf("%.3f–%.3f", overLow, overHigh)}, {"blocks", "9"},
		},
		"Highest throughput": {
			{"arm", "go"}, {"tier", "mainstream"}, {"answers /s", answers[0]}, {"95 %", answers[1]}, {"least–most", answers[2]}, {"trials", "9"}, {"requests", "63000"}, {"held back by", "contender 9"},
		},
		"Latency by percentile": {
			{"arm", "go"}, {"tier", "mainstream"}, {"p50 ms", p50[0]}, {"p90 ms", p90[0]}, {"p99 ms", p99[0]}, {"p99.9 ms", ms(goldenP999)[0]}, {"largest ms", ms(goldenMax)[0]}, {"trials", "9"}, {"requests", "90000"},
		},
		"Latency, trial by trial": {
			{"arm", "go"}, {"tier", "mainstream"}, {"p50 ms", p50[0]}, {"95 %", p50[1]}, {"least–most", p50[2]}, {"p90 ms", p90[0]}, {"95 %", p90[1]}, {"least–most", p90[2]},
			{"p99 ms", p99[0]}, {"95 %", p99[1]}, {"least–most", p99[2]}, {"trials", "9"}, {"requests", "90000"},
		},
		"Latency over time": {{"arm", "go"}, {"second", "0–1"}, {"p50 ms", p50[0]}, {"p99 ms", p99[0]}, {"trials", "9"}, {"requests", "45000"}},
		"Memory and start": {
			{"arm", "go"}, {"tier", "mainstream"}, {"idle MB", idle[0]}, {"95 %", idle[1]}, {"least–most", idle[2]}, {"end MB", end[0]}, {"95 %", end[1]}, {"least–most", end[2]},
			{"peak MB", peak[0]}, {"95 %", peak[1]}, {"least–most", peak[2]}, {"trials", "9"}, {"requests", "90000"}, {"start to first right answer, ms", cold[0]}, {"95 %", cold[1]}, {"least–most", cold[2]},
		},
		"Where the CPU time went": {
			{"arm", "go"}, {"part", "database_replica"}, {"CPU per request, µs", "444"}, {"PSS, MB", "66.6"}, {"cgroup peak, MB", "88.8"}, {"trials", "9"}, {"requests", "90000"},
		},
	}
}

func goldenVerdict(t *testing.T) goldenRow {
	t.Helper()
	mean, low, high := ratioOf(t, "go", "rust")
	floor, err := stats.NoiseFloor(func() (aa []float64) {
		for _, rest := range goldenRest {
			aa = append(aa, rest/2)
		}
		return aa
	}())
	require.NoError(t, err)
	// Nine pairs of a sign: 2/512, and three times that in a family of three.
	return goldenRow{
		{"pair", "go ÷ rust"}, {"verdict", "holds"}, {"ratio", fmt.Sprintf("%.3f", mean)}, {"95 %", fmt.Sprintf("%.3f–%.3f", low, high)}, {"blocks", "9"},
		{"p", fmt.Sprint(2.0 / 512)}, {"p (Holm)", fmt.Sprint(3 * 2.0 / 512)}, {"identical arms differ by up to", fmt.Sprintf("%.2f %%", 100*(math.Exp(floor)-1))},
		{"why", fmt.Sprintf("go costs %.2f times the CPU of rust", mean)},
	}
}

// markdownTables gives the tables of a page by the heading above them: heads and rows.
func markdownTables(text string) map[string][][]string {
	out := map[string][][]string{}
	heading := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			heading = title
		}
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| --- ") {
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, html.UnescapeString(strings.ReplaceAll(strings.TrimSpace(cell), `\`, "")))
		}
		out[heading] = append(out[heading], cells)
	}
	return out
}

var (
	pageSection = regexp.MustCompile(`(?s)<section class="card".*?</section>`)
	pageHeading = regexp.MustCompile(`(?s)<h2[^>]*>(.*?)</h2>`)
	pageTable   = regexp.MustCompile(`(?s)<table>(.*?)</table>`)
	pageRow     = regexp.MustCompile(`(?s)<tr>(.*?)</tr>`)
	pageCell    = regexp.MustCompile(`(?s)<t[hd][^>]*>(.*?)</t[hd]>`)
)

// pageTables gives the tables of a report's page by their section's heading; a section's last table wins.
func pageTables(text string) map[string][][]string {
	out := map[string][][]string{}
	for _, section := range pageSection.FindAllString(text, -1) {
		heading := html.UnescapeString(pageHeading.FindStringSubmatch(section)[1])
		for _, table := range pageTable.FindAllStringSubmatch(section, -1) {
			var rows [][]string
			for _, row := range pageRow.FindAllStringSubmatch(table[1], -1) {
				var cells []string
				for _, cell := range pageCell.FindAllStringSubmatch(row[1], -1) {
					cells = append(cells, html.UnescapeString(cell[1]))
				}
				rows = append(rows, cells)
			}
			caption := ""
			if c := regexp.MustCompile(`<caption>(.*?)</caption>`).FindStringSubmatch(table[1]); c != nil {
				caption = html.UnescapeString(c[1])
			}
			out[heading] = rows
			out[caption] = rows
		}
	}
	return out
}

func rowOf(t *testing.T, where string, table [][]string, first string) []string {
	t.Helper()
	for _, row := range table {
		if len(row) > 0 && row[0] == first {
			return row
		}
	}
	t.Fatalf("%s: no row %q in %v", where, first, table)
	return nil
}

func checkTables(t *testing.T, where string, tables map[string][][]string, suffix func(heading string) string) {
	t.Helper()
	for heading, want := range goldenTables(t) {
		table := tables[suffix(heading)]
		if !assert.NotEmpty(t, table, "%s: no table under %q", where, suffix(heading)) {
			continue
		}
		want.check(t, where+", "+heading, table[0], rowOf(t, where, table, "go"))
	}
	pairs := tables["Do these two differ?"]
	require.NotEmpty(t, pairs, where)
	goldenVerdict(t).check(t, where+", pairs", pairs[0], rowOf(t, where, pairs, "go ÷ rust"))
}

// Every label of every output stands over its own number, in its own unit.
func TestEveryLabelHasItsOwnNumber(t *testing.T) {
	needsAssets(t)
	t.Setenv("LAB_CACHE_DIR", t.TempDir())
	dir := goldenRun(t, "2026-03-04T050607Z-golden", 1)
	saved, err := record.Open(dir)
	require.NoError(t, err)
	made, err := report.Make(t.Context(), saved, report.Options{NoPNG: true})
	require.NoError(t, err)
	require.NoError(t, made.Write(dir))
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(b)
	}
	same := func(h string) string { return h }
	ms := func(seconds float64) string { return fmt.Sprint(1000 * seconds) }

	t.Run("README.md", func(t *testing.T) { checkTables(t, "README.md", markdownTables(read("README.md")), same) })

	t.Run("report.html", func(t *testing.T) {
		tables := pageTables(read("report.html"))
		checkTables(t, "report.html", tables, func(h string) string {
			if h == "CPU per request" {
				return h + " in numbers"
			}
			return h
		})
		all := tables["Every trial, in the order measured"]
		require.NotEmpty(t, all)
		i := slices.IndexFunc(all, func(row []string) bool { return row[0] == "1" && row[2] == "go" && row[4] == "rate" })
		require.Positive(t, i)
		cpu := goldenCPU("go", 1)
		goldenRow{
			{"block", "1"}, {"place", "1"}, {"arm", "go"}, {"operation", "q2"}, {"load", "rate"}, {"offered /s", "5200"}, {"achieved /s", "3972"},
			{"offered", "10400"}, {"sent", "10000"}, {"ok", "9930"}, {"failed", "70"}, {"unsent", "400"}, {"p50 ms", ms(goldenP50)}, {"p99 ms", ms(goldenP99)}, {"largest ms", ms(goldenMax)},
			{"send lag p99 ms", "6.66"}, {"CPU µs/request", fmt.Sprint(cpu)}, {"CPU s", fmt.Sprint(cpu / 100)}, {"database CPU s", "3.21"}, {"generator CPU s", "2.12"},
			{"PSS end MB", "55.5"}, {"PSS peak MB", "77.7"}, {"SQL/request", "5.25"}, {"stolen", "3.4 %"}, {"warm-up", "not warm after 1.33 s: rate 12.8 % apart, CPU 5.7 %"}, {"bottleneck", "contender"}, {"void", ""}, {"seed", "4242"},
		}.check(t, "report.html, trials", all[0], all[i])
	})

	t.Run("sentences", func(t *testing.T) {
		for name, text := range map[string]string{"README.md": strings.ReplaceAll(read("README.md"), `\`, ""), "report.html": html.UnescapeString(read("report.html"))} {
			for what, want := range map[string]string{
				`at ([0-9,]+) requests a second`:                                          "5200",
				`go p50 ([0-9,.]+) ms, p99`:                                               ms(goldenP50),
				`go p50 [0-9,.]+ ms, p99 ([0-9,.]+) ms`:                                   ms(goldenP99),
				`rust took the least CPU for Q2: ([0-9,.]+) µs`:                           fmt.Sprint(medianCPU("rust")),
				`By hand, without a GraphQL library: go-floor ([0-9,.]+) µs`:              fmt.Sprint(medianCPU("go-floor")),
				`Highest throughput: rust ([0-9,]+) a second`:                             "13579",
				`go ([0-9,]+) a second \(95 %: [0-9,–]+\), held back by itself`:           "8765",
				`Memory, peak of a trial: .*?go ([0-9.]+) MB`:                             "77.7",
				`Over its own floor a mainstream library costs .*?([0-9.]+) times for go`: "4",
				`go costs ([0-9.]+) \(95 %: [0-9.]+–[0-9.]+\) times the CPU of rust`:      "2",
				`node costs ([0-9.]+) \(95 %: [0-9.]+–[0-9.]+\) times the CPU of go`:      "3",
				`Latency elsewhere than at ([0-9,]+) requests a second`:                   "5200",
			} {
				m := regexp.MustCompile(what).FindAllStringSubmatch(text, -1)
				if assert.NotEmpty(t, m, "%s says nothing like %s", name, what) {
					for _, m := range m {
						assert.True(t, sameCell(m[1], want), "%s: %q, expected %s", name, m[0], want)
					}
				}
			}
		}
	})

	t.Run("charts", func(t *testing.T) { checkCharts(t, read("report.html")) })

	t.Run("pictures", func(t *testing.T) {
		for _, theme := range []string{"light", "dark"} {
			for name, want := range map[string]map[string]float64{
				"latency-trials": {"p50, ms": 1000 * goldenP50, "p90, ms": 1000 * goldenP90, "p99, ms": 1000 * goldenP99},
				"cpu":            {"CPU per request, µs": 1234},
				"throughput":     {"right answers a second": 8765},
			} {
				checkPicture(t, name, read(filepath.Join("charts", name+"-"+theme+".svg")), want)
			}
		}
	})

	t.Run("the screen's table", func(t *testing.T) {
		var heads, cells []string
		for line := range strings.Lines(summary.Text(saved.Run)) {
			fields := regexp.MustCompile(` {2,}`).Split(strings.TrimSpace(line), -1)
			switch fields[0] {
			case "arm":
				heads = fields
			case "go":
				cells = fields
			case "go against rust":
				mean, low, high := ratioOf(t, "go", "rust")
				assert.True(t, sameCell(fields[2], fmt.Sprintf("%.3f [%.3f, %.3f]", mean, low, high)), line)
			}
		}
		goldenRow{
			{"arm", "go"}, {"tier", "mainstream"}, {"CPU µs/request", "1234 (1110.6–1357.4)"}, {"÷ floor", "4"}, {"p50 ms", ms(goldenP50)}, {"p90 ms", ms(goldenP90)}, {"p99 ms", ms(goldenP99)},
			{"requests", "90000"}, {"throughput /s", "8765 (7888.5–9641.5)"}, {"held back by", "contender"}, {"PSS MB", "77.7"}, {"SQL/request", "5.25"}, {"void", "0 of 24"},
		}.check(t, "screen", heads, cells)
	})

	t.Run("the excerpt that is published", func(t *testing.T) {
		text, err := report.Excerpt(saved, "results/x/")
		require.NoError(t, err)
		table := markdownTables(text)[""]
		goldenRow{
			{"arm", "go"}, {"tier", "mainstream"}, {"CPU per request, µs", "1234 (1159.96–1308.04)"}, {"÷ floor", "4"}, {"p50 ms", ms(goldenP50)}, {"p99 ms", ms(goldenP99)},
			{"throughput /s", "8765 (8239.1–9290.9)"}, {"held back by", "contender"}, {"memory peak, MB", "77.7"}, {"requests", "90000"},
		}.check(t, "excerpt", table[0], rowOf(t, "excerpt", table, "go"))
	})

	t.Run("diff", func(t *testing.T) {
		next, err := record.Open(goldenRun(t, "2026-03-05T050607Z-golden", 1.5))
		require.NoError(t, err)
		r, err := diff.Runs(saved.Run, next.Run, nil)
		require.NoError(t, err)
		i := slices.IndexFunc(r.Changes, func(c diff.Change) bool { return c.Arm == "go" })
		c := r.Changes[i]
		want := goldenRow{
			{"arm", "go"}, {"tier", "mainstream"}, {"old, µs", "1234"}, {"new, µs", "1851"}, {"new ÷ old", "1.5"}, {"95 %", fmt.Sprintf("%.3f–%.3f", *c.RatioLow, *c.RatioHigh)},
			{"rank old → new", "2 → 2"}, {"trials", "9, 9"}, {"p (Holm)", fmt.Sprint(*c.PHolm)}, {"verdict", "regression"}, {"reason", "50.0 % dearer"},
		}
		table := markdownTables(r.Markdown())[""]
		want.check(t, "diff, Markdown", table[0], rowOf(t, "diff", table, "go"))
		var heads, cells []string
		for line := range strings.Lines(r.Text()) {
			fields := regexp.MustCompile(` {2,}`).Split(strings.TrimSpace(line), -1)
			if fields[0] == "arm" {
				heads = fields
			} else if fields[0] == "go" {
				cells = fields
			}
		}
		want.check(t, "diff, screen", heads, cells)
		b, err := json.Marshal(c)
		require.NoError(t, err)
		var told map[string]any
		require.NoError(t, json.Unmarshal(b, &told))
		for key, want := range map[string]float64{"old": 1234, "new": 1851, "ratio": 1.5, "old_trials": 9, "new_trials": 9, "old_rank": 2, "new_rank": 2} {
			assert.InEpsilon(t, want, told[key], 0.001, key)
		}
		assert.Equal(t, "cpu_us_per_request", told["metric"])
		assert.Less(t, told["ratio_low"], 1.5)
		assert.Greater(t, told["ratio_high"], 1.5)
		assert.Less(t, told["p"], told["p_holm"])
	})
}

// checkCharts reads the definitions that the page draws its charts from: each axis has its own arm's numbers.
func checkCharts(t *testing.T, page string) {
	t.Helper()
	m := regexp.MustCompile(`(?s)<script type="application/json" id="figures">(.*?)</script>`).FindStringSubmatch(page)
	require.NotNil(t, m)
	type label struct {
		Text string `json:"$text"`
	}
	var figures []struct {
		ID   string
		Wide struct {
			Option struct {
				XAxis  []struct{ Name label }
				Series []struct {
					Type       string
					Name       label
					XAxisIndex int
					Data       []json.RawMessage
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(m[1]), &figures))
	type dot struct {
		Value []float64
		Tips  struct {
			Text []string `json:"$text"`
		} `json:"tip"`
	}
	seen := map[string]int{}
	for _, f := range figures {
		for _, s := range f.Wide.Option.Series {
			axis := f.Wide.Option.XAxis[s.XAxisIndex].Name.Text
			for _, raw := range s.Data {
				var d dot
				if json.Unmarshal(raw, &d) != nil || len(d.Tips.Text) < 2 {
					continue
				}
				switch {
				case f.ID == "latency-percentiles" && s.Name.Text == "go":
					want, marked := map[string]float64{"p50": goldenP50, "p90": goldenP90, "p95": goldenP95, "p99": goldenP99, "p99.9": goldenP999}[d.Tips.Text[0]]
					if !marked {
						continue
					}
					quantile, err := strconv.ParseFloat(d.Tips.Text[0][1:], 64)
					require.NoError(t, err)
					assert.InEpsilon(t, 1/(1-quantile/100), d.Value[0], 1e-6, "where %s is drawn", d.Tips.Text[0])
					assert.InEpsilon(t, 1000*want, d.Value[1], 0.001, "%s: %v", f.ID, d.Tips.Text)
					assert.True(t, sameCell(d.Tips.Text[1], fmt.Sprintf("go  %g ms", 1000*want)), "%s: %v", f.ID, d.Tips.Text)
					seen[f.ID+" "+d.Tips.Text[0]]++
				case s.Type == "scatter" && strings.HasPrefix(d.Tips.Text[0], "go · block "):
					var block, place int
					_, err := fmt.Sscanf(d.Tips.Text[0], "go · block %d, place %d", &block, &place)
					require.NoError(t, err)
					want := map[string][2]any{
						"cpu CPU per request, µs": {goldenCPU("go", block), "µs"}, "throughput right answers a second": {8765 * goldenBlock[block-1], "answers a second"},
						"latency-trials p50, ms": {1000 * goldenP50, "ms"}, "latency-trials p90, ms": {1000 * goldenP90, "ms"}, "latency-trials p99, ms": {1000 * goldenP99, "ms"},
						"memory PSS, MB": {[]float64{33.3, 55.5, 77.7}[s.XAxisIndex], "MB"},
					}[f.ID+" "+axis]
					require.NotNil(t, want[0], "a chart %s with an axis %q", f.ID, axis)
					assert.InEpsilon(t, want[0], d.Value[0], 0.001, "%s, %s: %v", f.ID, axis, d.Tips.Text)
					assert.True(t, sameCell(d.Tips.Text[1], fmt.Sprintf("%.3f %s", want[0], want[1])), "%s, %s: %v", f.ID, axis, d.Tips.Text)
					seen[f.ID+" "+axis]++
				}
			}
		}
	}
	for what, n := range map[string]int{
		"cpu CPU per request, µs": 9, "throughput right answers a second": 9, "latency-trials p50, ms": 9, "latency-trials p90, ms": 9, "latency-trials p99, ms": 9, "memory PSS, MB": 27,
		"latency-percentiles p50": 1, "latency-percentiles p90": 1, "latency-percentiles p99": 1, "latency-percentiles p99.9": 1,
	} {
		assert.GreaterOrEqual(t, seen[what], n, what)
	}
}

var pictureText = regexp.MustCompile(`<text[^>]*?transform="translate\(([0-9.-]+) ([0-9.-]+)\)"[^>]*>([^<]*)</text>`)

// checkPicture finds each axis's name in a picture, and in the panel above it the arm's number.
func checkPicture(t *testing.T, name, svg string, want map[string]float64) {
	t.Helper()
	type label struct {
		x    float64
		text string
	}
	var labels []label
	for _, m := range pictureText.FindAllStringSubmatch(svg, -1) {
		x, err := strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
		labels = append(labels, label{x, html.UnescapeString(m[3])})
	}
	require.NotEmpty(t, labels, name)
	var axes []label
	for _, l := range labels {
		if _, ok := want[l.text]; ok {
			axes = append(axes, l)
		}
	}
	require.Len(t, axes, len(want), "%s: %v", name, labels)
	for _, axis := range axes {
		// The numbers beside the bars stand right of their panel's middle and left of the next panel's.
		next := math.Inf(1)
		for _, other := range axes {
			if other.x > axis.x {
				next = math.Min(next, other.x)
			}
		}
		found := false
		for _, l := range labels {
			found = found || l.x > axis.x && l.x < next && sameCell(l.text, fmt.Sprintf("%.3f", want[axis.text]))
		}
		assert.True(t, found, "%s: no %g beside the axis %q: %v", name, want[axis.text], axis.text, labels)
	}
}

// An attack's outputs, of one trial.
func TestEveryLabelOfAnAttackHasItsOwnNumber(t *testing.T) {
	needsAssets(t)
	dir := filepath.Join(t.TempDir(), "attack")
	folder, err := record.Create(dir)
	require.NoError(t, err)
	x, log := goldenTrial(t, "attack")
	x.Scenario, x.Operation, x.Arm, x.Contender, x.Tier, x.Block, x.Position, x.Bottleneck = "attack", "body", "127.0.0.1:1", "127.0.0.1:1", "target", 1, 1, "unknown"
	x.Parts, x.MemoryPSSIdleBytes, x.MemoryPSSEndBytes, x.MemoryPSSPeakBytes, x.MemoryCgroupPeakBytes, x.StatementsPerRequest = nil, nil, nil, nil, nil, nil
	x.Operations = []record.OperationFigures{
		{Operation: "often", Sent: 9000, OK: 8950, Failed: 50, FailedBy: record.Failed{Reset: 50}, FirstFailure: "reset", LatencyP50NS: 11e6, LatencyP90NS: 12e6, LatencyP99NS: 13e6, LatencyP999NS: 14e6, LatencyMaxNS: 15e6},
		{Operation: "seldom", Sent: 1000, OK: 980, Failed: 20, FailedBy: record.Failed{Reset: 20}, LatencyP50NS: 21e6, LatencyP90NS: 22e6, LatencyP99NS: 23e6, LatencyP999NS: 24e6, LatencyMaxNS: 25e6},
	}
	require.NoError(t, folder.WriteTrial(x, log))
	r := record.Run{
		Format: record.Format, Method: record.Method, ID: "attack", Profile: record.ProfileAttack, Evidence: true, Seed: 4242, Began: x.Began, Ended: x.Began, Complete: true,
		Command: []string{"loadtest", "attack"}, Conformance: []record.Conformity{}, Verdicts: []record.Verdict{}, Warnings: []string{}, Trials: []record.Trial{x},
		Environment: record.Environment{Engine: "none", CPUs: []int{0}, Placement: map[string][]int{}, PostgreSQLSettings: map[string]string{}, Contenders: map[string]json.RawMessage{}, Missing: map[string]string{}},
		Plan:        record.Plan{Blocks: 1, RateRPS: goldenRate, Order: [][]string{{x.Arm}}, Pilot: []record.PilotOutcome{}},
	}
	require.NoError(t, folder.WriteRun(r))
	saved, err := record.Open(dir)
	require.NoError(t, err)
	made, err := report.Make(t.Context(), saved, report.Options{NoPNG: true})
	require.NoError(t, err)
	texts := map[string]string{"screen": summary.Text(r)}
	for _, f := range made.Files {
		texts[f.Name] = html.UnescapeString(strings.ReplaceAll(string(f.Content), `\`, ""))
	}
	ms := func(seconds float64) string { return fmt.Sprint(1000 * seconds) }
	latencies := map[string]string{
		`p50 ([0-9,.]+) ms, p90`: ms(goldenP50), `p90 ([0-9,.]+) ms, p99`: ms(goldenP90), `p99 ([0-9,.]+) ms, p99\.9`: ms(goldenP99), `p99\.9 ([0-9,.]+) ms, largest`: ms(goldenP999), `largest ([0-9,.]+) ms`: ms(goldenMax),
	}
	for name, want := range map[string]map[string]string{
		"screen": {
			`at ([0-9]+) requests a second for 2s`: "5200", `requests +([0-9]+) offered`: "10400", `offered, ([0-9]+) sent`: "10000", `sent, ([0-9]+) unsent`: "400",
			`rate +([0-9.]+)/s offered`: "5200", `offered, ([0-9.]+)/s answered right`: "3972", `answers +([0-9]+) right`: "9930", `right, ([0-9]+) failed`: "70", `\(([0-9]+) reset`: "70",
			`service time +p50 ([0-9.]+) ms`: "410", `service time +p50 [0-9.]+ ms, p99 ([0-9.]+) ms`: "770", `send lag +p99 ([0-9.]+) ms`: "6.66",
			`generator +([0-9.]+) CPU seconds`: "2.12", `CPU seconds, ([0-9]+) µs a request`: "212",
		},
		"README.md": {
			`answers ([0-9,]+) requests a second`: "5200", `([0-9,]+) requests sent in 2s`: "10000", `in 2s, ([0-9,]+) answered right`: "9930", `answered right \(([0-9,]+) a second`: "3972", `([0-9]+) failed: 70 reset`: "70",
		},
		"report.html": {
			`answers ([0-9,]+) requests a second`: "5200", `([0-9,]+) requests sent in 2s`: "10000", `answered right \(([0-9,]+) a second`: "3972",
		},
	} {
		for _, patterns := range []map[string]string{want, latencies} {
			for pattern, want := range patterns {
				m := regexp.MustCompile(pattern).FindStringSubmatch(texts[name])
				if assert.NotNil(t, m, "%s says nothing like %s", name, pattern) {
					assert.True(t, sameCell(m[1], want), "%s: %q, expected %s", name, m[0], want)
				}
			}
		}
	}
	table := markdownTables(texts["README.md"])["Latency by percentile"]
	require.NotEmpty(t, table)
	goldenRow{
		{"arm", x.Arm}, {"tier", "target"}, {"p50 ms", ms(goldenP50)}, {"p90 ms", ms(goldenP90)}, {"p99 ms", ms(goldenP99)}, {"p99.9 ms", ms(goldenP999)}, {"largest ms", ms(goldenMax)}, {"trials", "1"}, {"requests", "10000"},
	}.check(t, "attack, README.md", table[0], table[1])

	table = markdownTables(texts["README.md"])["By operation"]
	require.Len(t, table, 3, texts["README.md"])
	goldenRow{
		{"operation", "often"}, {"requests", "9000"}, {"right", "8950"}, {"failed", "50 reset or cut short"}, {"p50 ms", "11"}, {"p90 ms", "12"}, {"p99 ms", "13"}, {"p99.9 ms", "14"}, {"largest ms", "15"}, {"first failure", "reset"},
	}.check(t, "attack by operation, README.md", table[0], table[1])
	goldenRow{
		{"operation", "seldom"}, {"requests", "1000"}, {"right", "980"}, {"failed", "20 reset or cut short"}, {"p50 ms", "21"}, {"p90 ms", "22"}, {"p99 ms", "23"}, {"p99.9 ms", "–"}, {"largest ms", "25"}, {"first failure", ""},
	}.check(t, "attack by operation, README.md", table[0], table[2])
	assert.Contains(t, texts["report.html"], "Requests and response times by operation")
	assert.Contains(t, texts["charts/operations-light.svg"], "Medians: often 11.0 ms and seldom 21.0 ms.")
}

// The tables of bench-servers.
func TestEveryLabelOfABenchHasItsOwnNumber(t *testing.T) {
	figures := []benchFigure{
		{Arm: "go", Contender: "go", Tier: "mainstream", Operation: "q1", CPUUs: []float64{110, 120, 130}, FloorRatio: []float64{1.1, 1.2, 1.3}},
		{Arm: "go", Contender: "go", Tier: "mainstream", Operation: "q2", CPUUs: []float64{210, 220, 230}, FloorRatio: []float64{2.1, 2.2, 2.3}},
		{Arm: "go", Contender: "go", Tier: "mainstream", Operation: "q3", CPUUs: []float64{310, 320, 330}, FloorRatio: []float64{3.1, 3.2, 3.3}},
	}
	run := record.Run{Command: []string{"loadtest"}, Environment: record.Environment{CPUModel: "X", Placement: map[string][]int{"contender": {0}}}}
	markdown := benchMarkdown(figures, run, 3, 16)
	assert.Contains(t, markdown, "CPU per request in µs")
	table := markdownTables(markdown)[""]
	goldenRow{
		{"arm", "go"}, {"tier", "mainstream"}, {"Q1", "120 (110–130)"}, {"Q2", "220 (210–230)"}, {"Q3", "320 (310–330)"},
		{"÷ floor Q1", "1.20 (1.10–1.30)"}, {"Q2", "2.20 (2.10–2.30)"}, {"Q3", "3.20 (3.10–3.30)"},
	}.check(t, "bench, Markdown", table[0], table[1])
	text := benchText(figures, 3, 16)
	assert.Contains(t, text, "CPU per request, µs")
	assert.Regexp(t, `arm +tier +Q1 +Q2 +Q3 +÷ floor\ngo +mainstream +120 \(110–130\) +220 \(210–230\) +320 \(310–330\) +1\.2 \(1\.1–1\.3\) / 2\.2 \(2\.1–2\.3\) / 3\.2 \(3\.1–3\.3\)`, text)
	b, err := json.Marshal(figures[0])
	require.NoError(t, err)
	assert.JSONEq(t, `{"arm":"go","contender":"go","tier":"mainstream","operation":"q1","cpu_us_per_request":[110,120,130],"floor_ratio":[1.1,1.2,1.3]}`, string(b))
}
