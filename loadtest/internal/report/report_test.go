package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

func fileOf(t *testing.T, r Report, name string) string {
	t.Helper()
	for _, f := range r.Files {
		if f.Name == name {
			return string(f.Content)
		}
	}
	t.Fatalf("no %s", name)
	return ""
}

func sectionOf(t *testing.T, b *build, id string) section {
	t.Helper()
	for _, s := range b.sections() {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("no section %s", id)
	return section{}
}

// The same records give the same bytes, wherever they are.
func TestReportIsTheSameEachTime(t *testing.T) {
	needsAssets(t)
	dir := smoke().write(t)
	first, err := Make(t.Context(), opened(t, dir), Options{})
	require.NoError(t, err)
	require.NoError(t, first.Write(dir))
	elsewhere := filepath.Join(t.TempDir(), "other", "place")
	require.NoError(t, os.CopyFS(elsewhere, os.DirFS(dir)))
	again, err := Make(t.Context(), opened(t, elsewhere), Options{})
	require.NoError(t, err)
	assert.Equal(t, first.Files, again.Files)
	assert.NoError(t, again.Equal(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README.md"), []byte("other"), 0o600))
	assert.ErrorContains(t, again.Equal(dir), "README.md")
}

func TestARunThatIsNoEvidenceHasNoPictures(t *testing.T) {
	needsAssets(t)
	r, err := Make(t.Context(), opened(t, smoke().write(t)), Options{})
	require.NoError(t, err)
	require.ErrorIs(t, r.NoPictures, ErrNoPictures)
	for _, f := range r.Files {
		assert.NotContains(t, f.Name, "charts/")
	}
	readme, page := fileOf(t, r, "README.md"), fileOf(t, r, "report.html")
	assert.NotContains(t, readme, "<picture>")
	assert.Contains(t, readme, "Its figures are no evidence.")
	assert.Contains(t, page, `<aside class="banner"`)
	_, err = Excerpt(opened(t, smoke().write(t)), "x/")
	require.ErrorIs(t, err, ErrNoPictures)
}

func TestARunThatIsEvidenceHasPicturesInBothThemes(t *testing.T) {
	needsAssets(t)
	m := smoke()
	m.profile, m.blocks, m.runtime = "quick", 2, true
	r, err := Make(t.Context(), opened(t, m.write(t)), Options{NoPage: true, CacheDir: t.TempDir()})
	require.NoError(t, err)
	require.NoError(t, r.NoPictures)
	readme := fileOf(t, r, "README.md")
	for _, name := range []string{"cpu", "pairs", "throughput", "latency-percentiles", "latency-trials", "latency-time", "runtime-pauses", "runtime-load", "memory"} {
		for _, theme := range []string{"light", "dark"} {
			assert.NotEmpty(t, fileOf(t, r, "charts/"+name+"-"+theme+".png"))
			svg := fileOf(t, r, "charts/"+name+"-"+theme+".svg")
			assert.Contains(t, svg, "Run 2026-03-04T050607Z-quick", "a picture names its source")
			assert.Contains(t, readme, "charts/"+name+"-"+theme+".svg")
		}
	}
	assert.NotContains(t, readme, "no evidence")
}

// Only a whole run's pictures look like a whole run's.
func TestPicturesOfAnInterruptedRunSaySo(t *testing.T) {
	m := quick()
	m.blocks = 2
	b, err := open(opened(t, m.write(t)))
	require.NoError(t, err)
	assert.NotContains(t, b.source(), "INTERRUPTED")
	b.run.Complete = false
	assert.Contains(t, b.source(), "INTERRUPTED")
}

// The numbers of the tables are those of the records: p99 is p99, and nanoseconds become milliseconds.
func TestTablesHaveTheRecordsNumbers(t *testing.T) {
	dir := quick().write(t)
	b, err := open(opened(t, dir))
	require.NoError(t, err)
	want := map[string][]float64{}
	var cpu, rps []float64
	peakOf := map[int]float64{} // block → the larger of its trials
	requests := uint64(0)
	for _, x := range b.run.Trials {
		if x.Arm != "node" || x.Duplicate {
			continue
		}
		peakOf[x.Block] = max(peakOf[x.Block], float64(*x.MemoryPSSPeakBytes)/1e6)
		if x.Load == record.LoadThroughput {
			rps = append(rps, x.AchievedRPS)
			continue
		}
		requests += x.Sent
		cpu = append(cpu, *x.CPUUsPerRequest)
		for name, ns := range map[string]int64{"p50": x.LatencyP50NS, "p90": x.LatencyP90NS, "p99": x.LatencyP99NS} {
			want[name] = append(want[name], float64(ns)/1e6)
		}
	}
	require.Len(t, cpu, 8)
	cell := func(id, arm, head string) string {
		s := sectionOf(t, b, id)
		column := slices.Index(s.Table.Heads, head)
		require.GreaterOrEqual(t, column, 0, "%s has no column %s", id, head)
		for _, row := range s.Table.Rows {
			require.Len(t, row, len(s.Table.Heads))
			if row[0] == arm {
				return row[column]
			}
		}
		t.Fatalf("%s has no row %s", id, arm)
		return ""
	}
	for name, values := range want {
		assert.Equal(t, milli(stats.Median(values)), cell("latency-trials", "node", name+" ms"), name)
	}
	assert.Equal(t, whole(stats.Median(cpu)), cell("cpu", "node", "µs"))
	low, high := stats.MedianInterval(cpu, 0.95)
	assert.Equal(t, whole(low)+"–"+whole(high), cell("cpu", "node", "95 %"))
	assert.Equal(t, count(requests), cell("cpu", "node", "requests"))
	assert.Equal(t, "8", cell("cpu", "node", "trials"))
	assert.Equal(t, "too few", cell("cpu", "go-floor", "95 %"), "four trials have no 95 % interval")
	assert.Equal(t, whole(stats.Median(rps)), cell("throughput", "node", "answers /s"))
	assert.Equal(t, one(stats.Median(slices.Collect(maps.Values(peakOf)))), cell("memory", "node", "peak MB"))
	assert.Equal(t, "8", cell("memory", "node", "trials"), "the two trials of a process are one number")
	assert.Equal(t, "too few", cell("memory", "go-floor", "95 %"), "four processes have no 95 % interval")
	// All trials together: merged, not averaged.
	all := b.logs["library q2"]["node"].all
	assert.Equal(t, int64(requests), all.TotalCount())
	assert.Equal(t, milli(float64(all.ValueAtQuantile(99))/1e6), cell("latency-percentiles", "node", "p99 ms"))
	assert.Equal(t, "–", cell("latency-percentiles", "go-floor", "p99.9 ms"), "2,880 requests do not carry p99.9")
	assert.Equal(t, 7, len(sectionOf(t, b, "cpu").Table.Rows))
	assertRequestsAreNamed(t, b)
}

// A picture says of how many requests it is, where a picture of this width has room.
func assertRequestsAreNamed(t *testing.T, b *build) {
	t.Helper()
	for _, s := range b.sections() {
		if s.Figure == nil {
			continue
		}
		assert.Regexp(t, `[0-9] requests an arm\.$`, s.Figure.Subtitle, s.ID)
		assert.LessOrEqual(t, len([]rune(s.Figure.Subtitle)), 150, s.ID)
	}
}

// A percentile that a trial's requests cannot carry is in no table.
func TestTooFewRequestsCarryNoPercentile(t *testing.T) {
	b, err := open(opened(t, smoke().write(t))) // 200 requests a trial
	require.NoError(t, err)
	s := sectionOf(t, b, "latency-trials")
	assert.Equal(t, "–", s.Table.Rows[0][slices.Index(s.Table.Heads, "p99 ms")])
	assert.NotEqual(t, "–", s.Table.Rows[0][slices.Index(s.Table.Heads, "p90 ms")])
}

func TestVoidAndNonconformantAreMarkedEverywhere(t *testing.T) {
	needsAssets(t)
	m := smoke()
	m.change = func(r *record.Run) {
		why := "the generator sent late"
		for i := range r.Trials {
			if r.Trials[i].Arm == "go" && r.Trials[i].Load == record.LoadRate {
				r.Trials[i].Void = &why
			}
			r.Trials[i].Nonconformant = r.Trials[i].Arm == "node"
		}
		r.Conformance[1].Conformant, r.Conformance[1].Findings = false, []string{"items: answered wrongly"}
		r.Conformance[2].Deviations = []string{"one-more: lists a directive more (its makers say so)"}
	}
	dir := m.write(t)
	b, err := open(opened(t, dir))
	require.NoError(t, err)
	for _, s := range b.sections() {
		if s.ID == "pairs" {
			continue
		}
		text := fmt.Sprint(s.Table.Rows)
		assert.Contains(t, text, "node (not conformant!)", s.ID)
	}
	assert.Equal(t, "–", sectionOf(t, b, "cpu").Table.Rows[slices.IndexFunc(sectionOf(t, b, "cpu").Table.Rows, func(r []string) bool { return r[0] == "go" })][2], "void trials are in no figure")
	r, err := Make(t.Context(), opened(t, dir), Options{})
	require.NoError(t, err)
	for _, name := range []string{"report.html", "README.md"} {
		text := fileOf(t, r, name)
		assert.Contains(t, text, "the generator sent late")
		assert.Contains(t, text, "items: answered wrongly")
		assert.Contains(t, text, "one-more: lists a directive more")
		assert.Contains(t, text, "not conformant")
	}
	assert.Contains(t, fileOf(t, r, "report.html"), "Not proven equal")
}

var reference = regexp.MustCompile(`(?i)\b(src|href|srcset|action|poster|data)\s*=\s*["']?([^"'\s>]+)`)

// Everything is in the one file, with a policy that lets nothing else in; and it stays small with many trials.
func TestPageRefersToNothingOutside(t *testing.T) {
	needsAssets(t)
	m := quick()
	m.blocks, m.floors, m.seconds, m.rps, m.runtime = 14, 6, 10, 60, true
	r, err := Make(t.Context(), opened(t, m.write(t)), Options{NoPNG: true})
	require.NoError(t, err)
	page := fileOf(t, r, "report.html")
	assert.Less(t, len(page), 3_000_000)
	head, _, ok := strings.Cut(page, "<script")
	require.True(t, ok)
	for _, m := range reference.FindAllStringSubmatch(head, -1) {
		assert.Regexp(t, `^(#|data:)`, m[2])
	}
	assert.Regexp(t, `Content-Security-Policy" content="default-src &#39;none&#39;; script-src &#39;sha256-[^ ]+&#39;; style-src &#39;sha256-[^ ]+&#39;; img-src data:; font-src data:; base-uri &#39;none&#39;; form-action &#39;none&#39;"`, page)
	assert.NotContains(t, page, "unsafe-")
}

// A name must not turn around the numbers after it.
func TestNoTextOfARecordTurnsThePage(t *testing.T) {
	needsAssets(t)
	b, err := open(opened(t, hostile().write(t))) // one arm's name has U+202E in it
	require.NoError(t, err)
	page, err := b.page(t.Context(), b.sections())
	require.NoError(t, err)
	for name, text := range map[string]string{"report.html": string(page), "README.md": b.markdown(b.sections())} {
		assert.Contains(t, text, "evil", name)
		assert.NotContains(t, text, "\u202e", name)
	}
}

func TestHostileTextStaysTextInMarkdown(t *testing.T) {
	b, err := open(opened(t, hostile().write(t)))
	require.NoError(t, err)
	text := b.markdown(b.sections())
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "  <source") || strings.HasPrefix(line, "  <img") || strings.HasPrefix(line, "<picture>") || strings.HasPrefix(line, "</picture>") {
			continue // code, and what the report itself writes
		}
		assert.NotContains(t, line, "<", line)
		assert.NotRegexp(t, `(^|[^\\])\]\(`, line)
		assert.NotRegexp(t, "(^|[^\\\\])`", line)
		assert.NotContains(t, line, "http://")
		assert.NotRegexp(t, `^#+ heading`, line)
	}
	// A row of a table has as many cells as its head.
	cells := func(line string) int {
		return len(regexp.MustCompile(`(^|[^\\])\|`).FindAllString(line, -1))
	}
	want := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			want = 0
			continue
		}
		if want == 0 {
			want = cells(line)
		}
		assert.Equal(t, want, cells(line), line)
	}
}

// What only the rule can tell is told before anything is made of it.
func TestAVerdictThatItsTrialsDoNotGiveIsNamed(t *testing.T) {
	needsAssets(t)
	dir := smoke().write(t)
	replace(t, filepath.Join(dir, "run.json"), `"verdict": "cannot be tested here"`, `"verdict": "holds"`)
	_, err := Make(t.Context(), opened(t, dir), Options{})
	require.ErrorContains(t, err, `run.json of 2026-03-04T050607Z-smoke: verdict library/cpu_us_per_request/`)
	require.ErrorContains(t, err, `verdict is "holds", but its trials give "cannot be tested here"`)
}

// What is damaged, unknown or newer is named, and nothing is written.
func TestDamagedRecordsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string, r record.Run)
		says   []string
	}{
		"no run.json": {func(t *testing.T, dir string, _ record.Run) {
			require.NoError(t, os.Remove(filepath.Join(dir, "run.json")))
		}, []string{"no run.json"}},
		"run.json cut short": {func(t *testing.T, dir string, _ record.Run) { truncate(t, filepath.Join(dir, "run.json"), 2) }, []string{"run.json", "not JSON"}},
		"a newer format": {func(t *testing.T, dir string, _ record.Run) {
			replace(t, filepath.Join(dir, "run.json"), `"format": 1`, `"format": 9`)
		}, []string{"run.json", "format 9 is newer"}},
		"a trial lost": {func(t *testing.T, dir string, r record.Run) {
			require.NoError(t, os.Remove(filepath.Join(dir, "trials", r.Trials[3].ID+".json")))
		}, []string{"library-q2"}},
		"a trial altered": {func(t *testing.T, dir string, r record.Run) {
			replace(t, filepath.Join(dir, "trials", r.Trials[0].ID+".json"), `"seed": 101`, `"seed": 102`)
		}, []string{"differs from the same trial in run.json"}},
		"a trial too many": {func(t *testing.T, dir string, _ record.Run) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "trials", "stray.json"), []byte("{}"), 0o600))
		}, []string{"stray.json", "no trial of run.json"}},
		"an HDR log lost": {func(t *testing.T, dir string, r record.Run) {
			require.NoError(t, os.Remove(filepath.Join(dir, "trials", r.Trials[1].HDRLog)))
		}, []string{".hlog"}},
		"an HDR log cut short": {func(t *testing.T, dir string, r record.Run) {
			truncate(t, filepath.Join(dir, "trials", r.Trials[1].HDRLog), 3)
		}, []string{".hlog"}},
		"an HDR log emptied": {func(t *testing.T, dir string, r record.Run) {
			truncate(t, filepath.Join(dir, "trials", r.Trials[1].HDRLog), 1000000)
		}, []string{".hlog", "no interval"}},
		"another trial's HDR log": {func(t *testing.T, dir string, r record.Run) {
			b, err := os.ReadFile(filepath.Join(dir, "trials", r.Trials[2].HDRLog))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "trials", r.Trials[0].HDRLog), b, 0o600))
		}, []string{".hlog", "latency_p"}},
		"a file outside": {func(t *testing.T, dir string, r record.Run) {
			for _, file := range []string{"run.json", filepath.Join("trials", r.Trials[0].ID+".json")} {
				replace(t, filepath.Join(dir, file), `"hdr_log": "`+r.Trials[0].HDRLog, `"hdr_log": "../../secret`)
			}
		}, []string{"../../secret", "no file name"}},
		"a file for a folder": {func(t *testing.T, dir string, _ record.Run) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		}, []string{"not a folder"}},
		"nothing": {func(t *testing.T, dir string, _ record.Run) { require.NoError(t, os.RemoveAll(dir)) }, []string{"no such folder"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := smoke().write(t)
			c.damage(t, dir, opened(t, dir).Run)
			_, err := record.Open(dir)
			require.Error(t, err)
			for _, s := range c.says {
				assert.ErrorContains(t, err, s)
			}
		})
	}
}

func truncate(t *testing.T, path string, divisor int) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, b[:len(b)/divisor], 0o600))
}

func replace(t *testing.T, path, old, with string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(b), old)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(b), old, with, 1)), 0o600))
}

// A field of a later version does no harm and is told.
func TestUnknownFieldsAreTold(t *testing.T) {
	dir := smoke().write(t)
	replace(t, filepath.Join(dir, "run.json"), `"seed": 7`, `"moon_phase": "full", "seed": 7`)
	s, err := record.Open(dir)
	require.NoError(t, err)
	require.Len(t, s.Notes, 1)
	assert.Contains(t, s.Notes[0], "moon_phase")
}

// A real smoke run, as a two-core machine under other load gave it, with void trials.
func TestRealRecordsMakeAReport(t *testing.T) {
	needsAssets(t)
	s := opened(t, filepath.Join("testdata", "smoke"))
	r, err := Make(t.Context(), s, Options{})
	require.NoError(t, err)
	page := fileOf(t, r, "report.html")
	for _, x := range s.Run.Trials {
		if x.Void != nil {
			assert.Contains(t, page, x.ID, "a void trial is named")
		}
	}
	for _, c := range s.Run.Conformance {
		assert.Contains(t, page, c.Arm)
	}
	assert.Contains(t, page, fmt.Sprint(s.Run.Seed))
	assert.Contains(t, page, "bin/loadtest compare --profile smoke")
}

func TestPartsAreShownWhereTheyAre(t *testing.T) {
	m := smoke()
	idle, pss := int64(55e6), int64(77e6)
	m.change = func(r *record.Run) {
		r.Environment.ImageSizeBytes = map[string]int64{"go": 12_300_000}
		r.Environment.FaultOverhead = []record.FaultOverhead{{Link: "database_primary", RoundTrips: 200, DelayNS: 20e6, DirectP50NS: 140e3, AddedP50NS: 20_340e3, AddedP99NS: 23_120e3, CPUUsPerRoundTrip: 312}}
		for i := range r.Trials {
			r.Trials[i].MemoryPSSIdleBytes = &idle
			r.Trials[i].Parts = map[string]record.Part{"database_replica": {CPUSeconds: float64(r.Trials[i].Sent) * 250e-6, MemoryPSSPeakBytes: &pss}}
		}
	}
	b, err := open(opened(t, m.write(t)))
	require.NoError(t, err)
	parts := sectionOf(t, b, "parts")
	assert.Equal(t, []string{"rust-floor", "database_replica", "250", "77.0", "–", "1", "200"}, parts.Table.Rows[0])
	assert.NotContains(t, parts.Table.Heads, "PSS peak, MB", "of a database there is one reading, not a highest one")
	memory := sectionOf(t, b, "memory")
	assert.Equal(t, "55.0", memory.Table.Rows[0][slices.Index(memory.Table.Heads, "idle MB")])
	assert.Contains(t, fmt.Sprint(b.environment()), "12.3 MB")
	assert.Contains(t, fmt.Sprint(b.environment()), "fault proxy before database_primary, with a delay of 20ms")
	assert.Contains(t, fmt.Sprint(b.environment()), "adds 20.34 ms to a round trip of 0.14 ms (medians; 99th percentile of what it adds: 23.12 ms) and takes 312 µs")
}

func TestClosedLoopHasNoLatency(t *testing.T) {
	m := smoke()
	m.change = func(r *record.Run) {
		r.Profile, r.Evidence = "bench", true
		r.Trials = slices.DeleteFunc(r.Trials, func(x record.Trial) bool { return x.Load == record.LoadRate || x.Duplicate })
		for i := range r.Trials {
			r.Trials[i].Arrival = "closed"
		}
	}
	dir := m.write(t)
	files, err := filepath.Glob(filepath.Join(dir, "trials", "*"))
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(dir, "run.json"))
	require.NoError(t, err)
	for _, file := range files {
		if !strings.Contains(string(text), strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".json"), ".hlog")) {
			require.NoError(t, os.Remove(file))
		}
	}
	b, err := open(opened(t, dir))
	require.NoError(t, err)
	var ids []string
	for _, s := range b.sections() {
		ids = append(ids, s.ID)
	}
	assert.Equal(t, []string{"cpu", "floor", "throughput", "memory"}, ids)
	assert.Contains(t, strings.Join(b.limits(), " "), "hides queueing")
	throughput := sectionOf(t, b, "throughput")
	assert.Equal(t, "Throughput of a closed loop", throughput.Title, "it is not the highest: nothing more was offered")
	assert.NotContains(t, throughput.Figure.Title+throughput.Figure.Subtitle+throughput.Figure.Finding, "Highest")
	assert.NotContains(t, throughput.Figure.Subtitle, "offered")
	assertRequestsAreNamed(t, b)
	option, err := json.Marshal(sectionOf(t, b, "floor").Figure.Wide().Option)
	require.NoError(t, err)
	assert.Contains(t, string(option), `"geometric mean `)
	assert.NotContains(t, string(option), `"median `, "ratios have no median here")
}

// What a plan could find, whether arms were warm and when a run was resumed is in the record, and on the page.
func TestPlanAndWarmUpAreTold(t *testing.T) {
	needsAssets(t)
	m := quick()
	m.blocks = 2
	ratio := 1.083
	m.change = func(r *record.Run) {
		r.Resumed = []time.Time{r.Began.Add(time.Hour)}
		r.Plan.Power = &record.Power{Metric: "cpu_us_per_request", Family: 3, Alpha: 0.05, Power: 0.8, NoiseLogRatios: []float64{0.1}, NoiseRuns: []string{"a"}, DetectableRatio: &ratio, Margin: 1.05}
		for i := range r.Trials {
			r.Trials[i].Warm = &record.Warm{Windows: 3, WindowNS: 5e8, Converged: true, CPUDrift: 0.02}
		}
		r.Trials[0].Warm = &record.Warm{Windows: 5, WindowNS: 5e8, RateDrift: 0.234, CPUDrift: 0.05}
	}
	b, err := open(opened(t, m.write(t)))
	require.NoError(t, err)
	trials := b.trialTable()
	column := slices.Index(trials.Heads, "warm-up")
	require.GreaterOrEqual(t, column, 0)
	for _, row := range trials.Rows {
		require.Len(t, row, len(trials.Heads))
	}
	assert.Equal(t, "not warm after 2.50 s: rate 23.4 % apart, CPU 5.0 %", trials.Rows[0][column])
	assert.Equal(t, "1.50 s", trials.Rows[1][column])
	limits := strings.Join(b.limits(), "\n")
	assert.Contains(t, limits, "Differences of less than 8.3 %: by the noise of earlier runs, 2 blocks find that much in 80 % of comparisons")
	assert.Contains(t, limits, fmt.Sprintf("in 1 of %d rate or CPU per request still moved when the warm-up was over (%s)", len(b.run.Trials), b.run.Trials[0].Arm))
	assert.Contains(t, fmt.Sprint(b.environment()), "{resumed 2026-03-04 06:06 UTC}")

	old, err := open(opened(t, quick().write(t)))
	require.NoError(t, err)
	assert.Equal(t, "–", old.trialTable().Rows[0][column], "nobody looked")
	assert.NotContains(t, strings.Join(old.limits(), "\n"), "warm")
}

// An arm that answers fewer when offered more than it bears is named, with what it answered of what it bore.
func TestOverloadIsTold(t *testing.T) {
	b, err := open(opened(t, quick().write(t)))
	require.NoError(t, err)
	assert.NotContains(t, strings.Join(b.limits(), "\n"), "what they did in the pilot", "nobody knows what they bore")
	arms := b.groups[0].Arms
	answered := func(i int, share float64) record.PilotOutcome {
		return record.PilotOutcome{Arm: arms[i].Name, CapacityRPS: arms[i].Answers().Median / share}
	}
	b.run.Plan.Pilot = []record.PilotOutcome{answered(0, 0.71), answered(1, 0.95)}
	assert.Contains(t, strings.Join(b.limits(), "\n"), fmt.Sprintf("some answered only a part of what they did in the pilot (one short closed loop): %s 71 %%.", arms[0].Name))
}

// A run that was interrupted before its first trial has a page all the same.
func TestARunWithoutTrialsHasAPage(t *testing.T) {
	needsAssets(t)
	m := smoke()
	m.blocks, m.floors = 0, 0
	m.change = func(r *record.Run) { r.Complete = false }
	r, err := Make(t.Context(), opened(t, m.write(t)), Options{})
	require.NoError(t, err)
	for _, name := range []string{"report.html", "README.md"} {
		assert.Contains(t, fileOf(t, r, name), "This run was interrupted")
	}
}

// A run of which nothing counts, on a machine that was busy throughout, has a page that says so.
func TestARunOfVoidTrialsHasAPage(t *testing.T) {
	needsAssets(t)
	for name, voids := range map[string]func(x record.Trial) bool{
		"all":             func(record.Trial) bool { return true },
		"at the rate":     func(x record.Trial) bool { return x.Load == record.LoadRate },
		"beyond capacity": func(x record.Trial) bool { return x.Load == record.LoadThroughput },
	} {
		t.Run(name, func(t *testing.T) {
			m := smoke()
			m.change = func(r *record.Run) {
				why := "the generator sent late"
				for i := range r.Trials {
					if voids(r.Trials[i]) {
						r.Trials[i].Void = &why
					}
				}
			}
			r, err := Make(t.Context(), opened(t, m.write(t)), Options{})
			require.NoError(t, err)
			assert.Contains(t, fileOf(t, r, "report.html"), "the generator sent late")
		})
	}
}

// Trials of a few requests carry no percentile, and have a page all the same.
func TestARunOfFewRequestsHasAPage(t *testing.T) {
	needsAssets(t)
	for _, rps := range []int{1, 3} {
		m := smoke()
		m.rps = rps
		r, err := Make(t.Context(), opened(t, m.write(t)), Options{})
		require.NoError(t, err, "%d requests a second", rps)
		assert.NotEmpty(t, fileOf(t, r, "report.html"))
	}
}
