package report

import (
	"slices"
	"strings"
	"testing"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// ofScenario has the blocks beyond the first so many measured for a claim in place of the library.
func ofScenario(blocks int, s record.Scenario) func(*record.Run) {
	return func(r *record.Run) {
		s.Operation, s.Loads, s.Alpha = "q2", []record.Load{record.LoadRate, record.LoadThroughput}, 0.05
		for _, a := range madeArms {
			s.Arms = append(s.Arms, a.name)
		}
		s.Plan = r.Plan
		s.Plan.RateRPS, s.Plan.Order, s.Plan.Blocks = r.Plan.RateRPS, r.Plan.Order[blocks:], r.Plan.Blocks-blocks
		s.Plan.FloorBlocks = max(0, r.Plan.FloorBlocks-blocks)
		r.Plan.Order, r.Plan.Blocks, r.Plan.FloorBlocks = r.Plan.Order[:blocks], blocks, min(blocks, r.Plan.FloorBlocks)
		for i := range r.Trials {
			if x := &r.Trials[i]; x.Block > blocks {
				x.Scenario, x.Block = s.ID, x.Block-blocks
			}
		}
		r.Scenarios = []record.Scenario{s}
		r.Scenarios[0].FaultOverhead = []record.FaultOverhead{{Link: "database_replica", RoundTrips: 50, DelayNS: 20e6, AddedP50NS: 20.4e6, AddedP99NS: 21.5e6}}
	}
}

// reportOf has a report's files by name.
func reportOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	needsAssets(t)
	r, err := Make(t.Context(), opened(t, dir), Options{})
	require.NoError(t, err)
	out := map[string]string{}
	for _, f := range r.Files {
		out[f.Name] = string(f.Content)
	}
	return out
}

// says is Contains without all of a page where it fails.
func says(t *testing.T, text, words string) {
	t.Helper()
	assert.True(t, strings.Contains(text, words), words)
}

func has(files map[string]string, name string) bool {
	_, ok := files[name]
	return ok
}

var (
	equalClaim = record.Scenario{
		ID: "io-bound", Claim: "the language makes <b>no</b> difference", DelaysNS: map[string]int64{"database": 20e6}, Metric: "latency_p50_ns", Rule: "equal", Margin: 1.05,
		Pairs: [][2]string{{"go", "node"}, {"go", "rust"}}, ChangedBy: "a database that is near",
	}
	lessClaim = record.Scenario{
		ID: "shared-state", Article: "in shared memory the difference is clear", Claim: "node answers fewer", About: "Here they share & share.", Metric: "achieved_rps", Rule: "less", Margin: 1.05,
		Pairs: [][2]string{{"node", "go"}, {"rust", "go"}}, ChangedBy: "more CPUs",
	}
)

// A scenario is told with its sentence, what was done, the verdict with its uncertainty, and what would change it.
func TestAClaimIsToldWhole(t *testing.T) {
	r := reportOf(t, made{profile: "quick", blocks: 8, seconds: 2, rps: 300, change: ofScenario(0, lessClaim)}.write(t))
	for _, text := range []string{r["report.html"], r["README.md"]} {
		for _, words := range []string{
			"Put to the test: “node answers fewer”", "“node answers fewer”: contradicted.",
			"The article: “in shared memory the difference is clear”. The claim: “node answers fewer”. Verdict: contradicted. What was done: Q2 at 300 requests a second, and with more than the arm bears; 8 blocks in random order.",
			"Decided by throughput: the first of a pair has less. What would change it: more CPUs.",
			"times the throughput of go", "SQL/request",
		} {
			says(t, text, words)
		}
	}
	assert.True(t, has(r, "charts/claim-light.svg"))
	assert.True(t, has(r, "charts/figure-dark.png"))
	assert.True(t, has(r, "charts/throughput-light.svg"), "a scenario alone has the usual charts too")
	assert.Less(t, strings.Index(r["README.md"], "charts/claim"), strings.Index(r["README.md"], "charts/cpu"), "the chart that decides comes first")
	says(t, r["report.html"], "Here they share &amp; share. Bar: median of the trials.")
	says(t, r["report.html"], "shared-state 8")
}

// A claim of equality shows its margin, and its delays with how exact they were; text of a record stays text.
func TestAClaimBesideTheHeadline(t *testing.T) {
	dir := made{profile: "quick", blocks: 16, seconds: 2, rps: 300, change: ofScenario(8, equalClaim)}.write(t)
	r := reportOf(t, dir)
	page, readme := r["report.html"], r["README.md"]
	assert.False(t, strings.Contains(page, "<b>no</b>"))
	says(t, page, "makes &lt;b&gt;no&lt;/b&gt; difference”: contradicted.")
	for _, text := range []string{page, readme} {
		says(t, text, "and 1 claim put to the test")
		says(t, text, "20ms added to each round trip to the database")
		says(t, text, "go and node are not equal")
		says(t, text, "the fault proxy added 20.40 ms to a round trip (median; p99 21.50 ms)")
		says(t, text, "costs")
	}
	svg := r["charts/io-bound-claim-light.svg"]
	says(t, svg, "shaded: equal, within 5.0 %")
	assert.True(t, has(r, "charts/cpu-light.svg"), "as without the claim")
	assert.False(t, has(r, "charts/io-bound-throughput-light.svg"))
	saved, err := record.Open(dir)
	require.NoError(t, err)
	for _, v := range saved.Run.Verdicts {
		if v.Scenario == "io-bound" {
			assert.Equal(t, claims.Contradicted, v.Verdict, "%+v", v)
		}
	}
}

// Every metric that a rule may have is shown in its unit.
func TestMetricsOfClaimsHaveTheirUnits(t *testing.T) {
	dir := made{profile: "smoke", blocks: 8, seconds: 2, rps: 300, change: ofScenario(0, lessClaim)}.write(t)
	saved, err := record.Open(dir)
	require.NoError(t, err)
	x := saved.Run.Trials[0]
	for metric, want := range map[string]struct {
		head  string
		value float64
	}{
		"cpu_us_per_request": {"µs", *x.CPUUsPerRequest}, "latency_p50_ns": {"p50 ms", float64(x.LatencyP50NS) / 1e6}, "latency_p90_ns": {"p90 ms", float64(x.LatencyP90NS) / 1e6},
		"latency_p99_ns": {"p99 ms", float64(x.LatencyP99NS) / 1e6}, "statements_per_request": {"SQL/request", *x.StatementsPerRequest},
		"memory_pss_peak_bytes": {"PSS MB", float64(*x.MemoryPSSPeakBytes) / 1e6}, "cold_start_ns": {"first answer ms", float64(x.ColdStartNS) / 1e6},
	} {
		require.Equal(t, record.LoadRate, x.Load)
		b, err := open(saved)
		require.NoError(t, err)
		q := quantityOf(metric, "q2")
		assert.Equal(t, want.head, q.head)
		for _, a := range b.groups[0].Arms {
			if a.Name == x.Arm {
				assert.Contains(t, roundedTo(q.of(a).Values), three(want.value), metric)
			}
		}
	}
}

func roundedTo(values []float64) []string {
	var out []string
	for _, v := range values {
		out = append(out, three(v))
	}
	return out
}

// A claim about the tail that is one of several has latency over time of its own, and its titles say at which rate it was
// measured; a claim about anything else leaves that to the scenario that has the usual charts.
func TestATailHasWhatExplainsIt(t *testing.T) {
	for metric, explained := range map[string]bool{"latency_p99_ns": true, "latency_p999_ns": true, "cpu_us_per_request": false} {
		b, err := open(opened(t, made{profile: "quick", blocks: 16, seconds: 3, rps: 300, change: ofScenario(8, record.Scenario{
			ID: "tail", Claim: "go has less", Metric: metric, Rule: "less", Margin: 1.05, Pairs: [][2]string{{"go", "node"}}, OwnShare: 0.6, ChangedBy: "little",
		})}.write(t)))
		require.NoError(t, err)
		titles := map[string]string{}
		for _, s := range b.sections() {
			titles[s.ID] = s.Title
			if s.ID == "tail-latency-time" {
				require.NotNil(t, s.Figure)
				assert.Contains(t, s.Figure.Title, "at 60 % of what arms bore")
			}
		}
		assert.Contains(t, titles, "latency-time", "the library's")
		assert.Equal(t, explained, titles["tail-latency-time"] == "tail: latency over time", "%s: %v", metric, titles)
	}
}

// Beside the library each claim has what the runtimes told of what decides it, each chart once; an arm that told nothing has
// no chart. Throughput is explained by a trial with more than the arm bears, not by one at the common rate.
func TestAClaimHasWhatItsRuntimesTold(t *testing.T) {
	for name, c := range map[string]struct {
		metric    string
		told      bool
		explained []string
	}{
		"CPU":               {"cpu_us_per_request", true, []string{"claim-runtime-load"}},
		"throughput":        {"achieved_rps", true, []string{"claim-runtime-load", "claim-runtime-workers"}},
		"the tail":          {"latency_p99_ns", true, []string{"claim-pauses-tail", "claim-latency-time", "claim-runtime-pauses", "claim-runtime-collections", "claim-runtime-load", "claim-runtime-tasks", "claim-runtime-work", "claim-runtime-steals", "claim-runtime-workers"}},
		"recovery":          {"recovery_ns", true, []string{"claim-latency-time", "claim-runtime-work"}},
		"the median":        {"latency_p50_ns", true, []string{"claim-latency-time", "claim-runtime-work"}},
		"statements":        {"statements_per_request", true, []string{"claim-runtime-work"}},
		"CPU untold":        {"cpu_us_per_request", false, nil},
		"throughput untold": {"achieved_rps", false, nil},
		"recovery untold":   {"recovery_ns", false, []string{"claim-latency-time"}},
	} {
		t.Run(name, func(t *testing.T) {
			claim := record.Scenario{ID: "claim", Claim: "go has less", Metric: c.metric, Rule: "less", Margin: 1.05, Pairs: [][2]string{{"go", "node"}}, ChangedBy: "little"}
			if c.metric == "recovery_ns" {
				claim.Rule, claim.BoundNS, claim.Pairs, claim.Loads = "within", 1e9, nil, []record.Load{record.LoadRate}
			}
			b, err := open(opened(t, made{profile: "quick", blocks: 16, seconds: 3, rps: 300, runtime: c.told, change: ofScenario(8, claim)}.write(t)))
			require.NoError(t, err)
			var explained []string
			for _, s := range b.explained(b.groups[len(b.groups)-1], &b.run.Scenarios[0]) {
				explained = append(explained, s.ID)
				if s.ID == "claim-pauses-tail" {
					continue // a table
				}
				require.NotNil(t, s.Figure)
				assert.True(t, strings.HasPrefix(s.Title, "claim: "), s.Title)
				if c.metric == "achieved_rps" {
					assert.Contains(t, s.Figure.Title, "with more than the arm bears")
					assert.Contains(t, s.Lead, "the one with the median throughput")
				} else if s.ID != "claim-latency-time" {
					assert.Contains(t, s.Figure.Title, "at 300 requests a second")
					assert.Contains(t, s.Lead, "the one with the median p99")
				}
			}
			assert.Equal(t, c.explained, explained)
		})
	}
}

// A tail is held against the longest pause that the runtime of the same trial reported, in the section, with the verdict and in
// the tree; where that is little of it, it is said that a pause is not what makes it.
func TestATailIsHeldAgainstTheReportedPauses(t *testing.T) {
	claim := record.Scenario{ID: "claim", Claim: "rust has less", Metric: "latency_p99_ns", Rule: "less", Margin: 1.05, Pairs: [][2]string{{"rust", "go"}, {"rust", "node"}}, ChangedBy: "little"}
	b, err := open(opened(t, made{profile: "quick", blocks: 16, seconds: 3, rps: 300, runtime: true, change: ofScenario(8, claim)}.write(t)))
	require.NoError(t, err)
	g := b.groups[len(b.groups)-1]
	for arm, longest := range map[string]float64{"go": 0.3, "node": 6} { // of the third second
		of := b.pauses[groupKey(g)][arm]
		require.Len(t, of, 8, arm)
		for _, x := range of {
			assert.InDelta(t, longest, x.longest, 1e-9)
			assert.Positive(t, x.tail)
		}
	}
	assert.NotContains(t, b.pauses[groupKey(g)], "rust")
	s := b.pausesAgainstTail(g, &b.run.Scenarios[0])
	require.NotNil(t, s)
	for _, row := range s.Table.Rows {
		switch row[0] {
		case "go":
			assert.Equal(t, []string{"0.300", "0.300–0.300"}, row[2:4])
		case "node":
			assert.Equal(t, []string{"6.000", "6.000–6.000"}, row[2:4])
		case "rust":
			assert.Equal(t, "there is no garbage collector", row[2])
		}
	}
	assert.Contains(t, s.Lead, "A pause so much shorter than the tail is not what makes it, in go.")
	assert.Regexp(t, `node has a tail of [0-9.]+ ms, in which the longest reported pause is 6\.000 ms`, s.Lead)
	assert.NotContains(t, s.Lead, "comes with the collections", "it is no longer in those seconds")
	for _, x := range b.pauses[groupKey(g)]["go"] {
		assert.EqualValues(t, 300, x.quiet.TotalCount(), "the first second")
		assert.EqualValues(t, 600, x.collected.TotalCount(), "the others")
	}
	of, slow := b.pauses[groupKey(g)]["go"], hdr.New(1, 1e12, 3)
	require.NoError(t, slow.RecordValues(25e6, 100_000))
	quick := hdr.New(1, 1e12, 3)
	require.NoError(t, quick.RecordValues(4e6, 100_000))
	of[0].collected, of[0].quiet = slow, quick
	words := b.pauseWords(g, &b.run.Scenarios[0])
	assert.Contains(t, words, "In the seconds in which go collected its p99 is 25.0 ms, in the others 4.00 ms.")
	assert.Contains(t, words, "The tail comes with the collections all the same, in go: ")
	of[0].collected = quick
	assert.NotContains(t, b.pauseWords(g, &b.run.Scenarios[0]), "comes with the collections")
	assert.Empty(t, b.besideVerdict(&b.run.Scenarios[0]), "a claim about p99 is not about pauses")
	for _, metric := range aboutPauses {
		b.run.Scenarios[0].Metric = metric
		assert.Contains(t, b.besideVerdict(&b.run.Scenarios[0]), "go has a tail of", metric)
	}
}

// What decides by memory has it for each process, and for each CPU that an arm can keep busy, as far as the record tells: Go
// on all that it was given, a cluster on as many as it has processes, one process of Node on one. Of an arm whose runtime
// told nothing it is known only where there is one CPU.
func TestMemoryIsToldForEachProcessAndCPU(t *testing.T) {
	claim := record.Scenario{ID: "cluster-memory", Claim: "less", Metric: "memory_pss_peak_bytes", Rule: "less", Margin: 1.25, Pairs: [][2]string{{"go+CPUS=2", "node+CPUS=4"}}, ChangedBy: "little"}
	renamed := map[string]string{"go": "go+CPUS=2", "node": "node+CPUS=4", "rust": "rust+CPUS=2", "node-compiled": "node-compiled+CPUS=1"}
	for name, c := range map[string]struct {
		processes int
		runtime   bool
		busy      map[string]float64 // where it is not the one CPU that arms were given
	}{
		"the runtimes tell":     {0, true, map[string]float64{"go+CPUS=2": 2, "node+CPUS=4": 2}}, // made nodes have two workers, rust one
		"the runtimes do not":   {0, false, map[string]float64{"go+CPUS=2": 0, "node+CPUS=4": 0, "rust+CPUS=2": 0}},
		"processes are counted": {4, true, map[string]float64{"go+CPUS=2": 2, "node+CPUS=4": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := open(opened(t, made{profile: "quick", blocks: 8, seconds: 2, rps: 100, runtime: c.runtime, rename: renamed, change: func(r *record.Run) {
				ofScenario(0, claim)(r)
				for i, arm := range r.Scenarios[0].Arms {
					if as, ok := renamed[arm]; ok {
						r.Scenarios[0].Arms[i] = as
					}
				}
				for i := range r.Trials {
					r.Trials[i].Processes = c.processes
				}
			}}.write(t)))
			require.NoError(t, err)
			table := sectionOf(t, b, "figure").Table
			for _, a := range b.groups[0].Arms {
				peak := summary.Of(a.Rate, func(t record.Trial) (float64, bool) { return float64(*t.MemoryPSSPeakBytes) / 1e6, true }).Median
				busy, special := c.busy[a.Name]
				if !special {
					busy = 1
				}
				row := slices.IndexFunc(table.Rows, func(r []string) bool { return r[0] == a.Name })
				require.GreaterOrEqual(t, row, 0, a.Name)
				told := func(head string) string {
					k := slices.Index(table.Heads, head)
					if k < 0 {
						return ""
					}
					return table.Rows[row][k]
				}
				if busy == 0 {
					assert.Equal(t, "–", told("MB per CPU it can keep busy"), a.Name)
					assert.Equal(t, "–", told("CPUs it can keep busy"), a.Name)
				} else {
					assert.Equal(t, one(peak/busy), told("MB per CPU it can keep busy"), a.Name)
					assert.Equal(t, one(busy), told("CPUs it can keep busy"), a.Name)
				}
				if c.processes > 0 {
					assert.Equal(t, one(peak/4), told("MB per process"), a.Name)
					assert.Equal(t, "4.0", told("processes"), a.Name)
				} else {
					assert.Empty(t, told("MB per process"), a.Name)
				}
			}
		})
	}
}

// Workers are counted that were there at once: a cluster of two in which one was replaced has two.
func TestWorkersAreCountedThatWereThereAtOnce(t *testing.T) {
	v := 0.5
	is, none := &v, (*float64)(nil)
	of := func(whole bool, workers map[string][]*float64) int {
		s := &record.RuntimeSeries{EndsNS: []int64{1, 2, 3}, Series: map[string][]*float64{}, Workers: map[string]map[string][]*float64{}}
		if whole {
			s.Series[busyShare] = []*float64{is, is, is}
		}
		for name, values := range workers {
			s.Workers[name] = map[string][]*float64{busyShare: values}
		}
		return runtimeOf{series: s}.workers()
	}
	assert.Equal(t, 0, of(false, nil), "nobody tells: not known")
	assert.Equal(t, 1, of(true, nil), "one is told of as the whole")
	assert.Equal(t, 2, of(true, map[string][]*float64{"1": {is, is, is}, "2": {is, none, none}, "3": {none, none, is}}))
}

// Arms that could not be measured are told with the reason, also those that are in no pair.
func TestAbsentArmsAreNamed(t *testing.T) {
	b := &build{run: record.Run{Scenarios: []record.Scenario{
		{ID: "whole"},
		{ID: "x", Absent: map[string]string{"go+CPUS=4": "of 4 CPUs there are 2", "rust+CPUS=4": "of 4 CPUs there are 2", "node+MASTER=redis": "there is no Redis."}},
	}}}
	assert.Equal(t, []string{
		"go+CPUS=4 and rust+CPUS=4 of scenario x, which cannot be tested here: of 4 CPUs there are 2.",
		"node+MASTER=redis of scenario x, which cannot be tested here: there is no Redis.",
	}, b.absentLimits())
}
