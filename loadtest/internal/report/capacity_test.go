package report

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// withCapacity adds a search and a curve for two arms to a run on disk, made up by hand: go holds up to 500, node up to 240.
func withCapacity(t *testing.T, dir string) {
	t.Helper()
	run, err := record.ReadRun(dir)
	require.NoError(t, err)
	ceiling := 600.0
	run.GeneratorCeilingRPS = &ceiling
	n := 0
	add := func(load record.Load, arm string, rps float64, p99 time.Duration) string {
		n++
		x := record.Trial{
			ID: fmt.Sprintf("library-q2-%s-n%03d-%s", load, n, arm), Scenario: "library", Operation: "q2", Load: load, Arm: arm, Contender: arm, Tier: "mainstream", Position: n, Seed: 1, Arrival: "poisson",
			Began: run.Began, DurationNS: 5e9, ElapsedNS: 5e9, RateRPS: rps, Bottleneck: "contender", CountedNS: 6e9, NearGeneratorCeiling: rps >= record.NearCeiling*ceiling,
		}
		x.HDRLog = x.ID + ".hlog"
		h := hdr.New(1000, 100e9, 3)
		for i := range 1000 {
			v := p99 / 10
			if i >= 980 {
				v = p99
			}
			require.NoError(t, h.RecordValue(int64(v)))
		}
		x.Offered, x.Sent, x.OK, x.OfferedRPS, x.AchievedRPS = 1000, 1000, 1000, rps, rps
		x.LatencyP50NS, x.LatencyP90NS, x.LatencyP99NS, x.LatencyP999NS, x.LatencyMaxNS = h.ValueAtQuantile(50), h.ValueAtQuantile(90), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max()
		run.Trials = append(run.Trials, x)
		require.NoError(t, record.WriteFile(filepath.Join(dir, "trials", x.HDRLog), logOf(t, []*hdr.Histogram{h})))
		writeJSON(t, filepath.Join(dir, "trials", x.ID+".json"), x)
		return x.ID
	}
	for _, arm := range []struct {
		name      string
		low, high float64
		confirmed bool
	}{{"go", 500, 520, true}, {"node", 240, 0, false}} {
		c := record.Capacity{Arm: arm.name, SLO: "p99=100ms", LowRPS: arm.low, Confirmed: arm.confirmed}
		for range 4 {
			c.Steps = append(c.Steps, add(record.LoadCapacity, arm.name, arm.low, 90*time.Millisecond))
			if arm.high > 0 {
				c.Steps = append(c.Steps, add(record.LoadCapacity, arm.name, arm.high, 900*time.Millisecond))
			}
		}
		if arm.high > 0 {
			c.HighRPS = &arm.high
		} else {
			c.Note = "ended early: its time was over"
		}
		run.Capacities = append(run.Capacities, c)
		for _, share := range []float64{0.9, 0.25, 0.5} {
			add(record.LoadCurve, arm.name, share*arm.low, time.Duration(share*80*float64(time.Millisecond)))
		}
	}
	writeJSON(t, filepath.Join(dir, "run.json"), run)
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	require.NoError(t, err)
	require.NoError(t, record.WriteFile(path, b))
}

func TestCapacityAndCurveAreShown(t *testing.T) {
	needsAssets(t)
	dir := quick().write(t)
	plain, err := open(opened(t, dir))
	require.NoError(t, err)
	withCapacity(t, dir)
	b, err := open(opened(t, dir))
	require.NoError(t, err)

	s := sectionOf(t, b, "capacity")
	require.Len(t, s.Table.Rows, 2)
	assert.Equal(t, []string{"go", "p99 under 100ms and no failure", "500", "520", "yes", "8", "none", "contender; 8 trials within 20 % of the generator's ceiling", ""}, s.Table.Rows[0])
	assert.Equal(t, []string{"node", "p99 under 100ms and no failure", "240", "nowhere tried", "NO", "4", "none", "–", "ended early: its time was over"}, s.Table.Rows[1])

	curve := sectionOf(t, b, "curve")
	require.Len(t, curve.Table.Rows, 6)
	assert.Equal(t, []string{"go", "125", "25 %", "2.00", "2.00", "20.0", "–", "1,000", "0", "itself"}, curve.Table.Rows[0], "ascending rates")
	assert.Equal(t, []string{"node", "216", "90 %"}, curve.Table.Rows[5][:3])
	assert.Contains(t, curve.Figure.Finding, "go at 450 requests a second p50 7.20 ms, p99 72.0 ms")
	svg, err := curve.Figure.Picture("source").SVG("light", curve.Figure.Title, curve.Figure.Finding)
	require.NoError(t, err)
	assert.Contains(t, svg, "objective: p99 under 100ms and no failure")
	assert.Contains(t, svg, "requests a second")
	assert.Contains(t, svg, "Latency against rate, Q2")

	assert.Contains(t, strings.Join(b.answer(), " "), "p99 stays under 100ms and no request fails: go 500–520 and node at least 240 (not confirmed).")
	assert.NotContains(t, strings.Join(b.limits(), " "), "Latency elsewhere")
	assert.Contains(t, strings.Join(plain.limits(), " "), "Latency elsewhere")

	// Searches are in no figure of the blocks.
	assert.Equal(t, sectionOf(t, plain, "cpu").Table, sectionOf(t, b, "cpu").Table)
	assert.Equal(t, sectionOf(t, plain, "throughput").Table, sectionOf(t, b, "throughput").Table)
	assert.Equal(t, sectionOf(t, plain, "latency-trials").Table, sectionOf(t, b, "latency-trials").Table)

	made, err := Make(t.Context(), opened(t, dir), Options{NoPNG: true})
	require.NoError(t, err)
	assert.NotEmpty(t, fileOf(t, made, "charts/curve-dark.svg"))
	assert.Contains(t, fileOf(t, made, "README.md"), "## Latency against rate")
	page := fileOf(t, made, "report.html")
	assert.Contains(t, page, "generator&#39;s ceiling")
}

func TestACapacityThatItsStepsDoNotGiveIsNamed(t *testing.T) {
	needsAssets(t)
	dir := quick().write(t)
	withCapacity(t, dir)
	run, err := record.ReadRun(dir)
	require.NoError(t, err)
	run.Capacities[0].LowRPS = 510
	writeJSON(t, filepath.Join(dir, "run.json"), run)
	_, err = Make(t.Context(), opened(t, dir), Options{})
	require.ErrorContains(t, err, "capacity of go: low_rps is 510, but its steps give 500")
}

func TestThroughputNearTheGeneratorsCeilingIsMarked(t *testing.T) {
	needsAssets(t)
	m := quick()
	m.change = func(r *record.Run) {
		ceiling := 3500.0
		r.GeneratorCeilingRPS = &ceiling
		for i := range r.Trials {
			x := &r.Trials[i]
			x.NearGeneratorCeiling = x.Arm == "rust-floor" && x.Load == record.LoadThroughput
		}
	}
	b, err := open(opened(t, m.write(t)))
	require.NoError(t, err)
	for _, row := range sectionOf(t, b, "throughput").Table.Rows {
		by := row[len(row)-1]
		if row[0] == "rust-floor" {
			assert.Equal(t, "database 4, 4 within 20 % of the generator's ceiling", by)
		} else {
			assert.NotContains(t, by, "ceiling", row[0])
		}
	}
	assert.Contains(t, strings.Join(b.limits(), " "), "within 20 % of the load generator's own ceiling, 3500 requests a second: rust-floor (4 of 4)")
}

func TestPartsShowWhatTheKernelTells(t *testing.T) {
	needsAssets(t)
	m := quick()
	m.change = func(r *record.Run) {
		for i := range r.Trials {
			x := &r.Trials[i]
			voluntary, involuntary, delay := int64(3*x.Sent), int64(x.Sent), 0.5
			x.CountedNS = 5e9
			x.Parts = map[string]record.Part{"contender": {CPUSeconds: x.CPUSeconds, VoluntarySwitches: &voluntary, InvoluntarySwitches: &involuntary, RunDelaySeconds: &delay}}
		}
	}
	b, err := open(opened(t, m.write(t)))
	require.NoError(t, err)
	s := sectionOf(t, b, "parts")
	require.Equal(t, extraPartHeads, s.Table.Heads[len(s.Table.Heads)-len(extraPartHeads):])
	for _, row := range s.Table.Rows {
		assert.Equal(t, []string{"3.00", "1.00", "100.0", "–", "–"}, row[len(row)-5:])
	}
}
