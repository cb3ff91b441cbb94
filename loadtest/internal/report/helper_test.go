package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
)

// made is a run made up for a test, with records on disk as compare writes them.
type made struct {
	profile string
	blocks  int
	floors  int
	seconds int
	rps     int
	change  func(r *record.Run)
	// rename gives an arm another name.
	rename map[string]string
	// runtime gives the trials series of the runtime.
	runtime bool
}

// madeRuntime is what a contender told of its runtime in a trial: the n-th second is n times the first.
func madeRuntime(x record.Trial, seconds int) *record.RuntimeSeries {
	of := func(first float64) (values []*float64) {
		values = append(values, nil) // before the load
		for k := range seconds {
			v := first * float64(k+1)
			values = append(values, &v)
		}
		return append(values, &first) // after it
	}
	r := &record.RuntimeSeries{
		Trial: x.ID, BeganNS: -900e6, EndsNS: []int64{100e6},
		Series: map[string][]*float64{"cpu_seconds_per_second": of(0.25), "heap_committed_bytes": of(12.5e6)}, Absent: map[string]string{},
	}
	for k := range seconds + 1 {
		r.EndsNS = append(r.EndsNS, int64(k+1)*1e9+100e6)
	}
	none := func(why string, names ...string) {
		for _, name := range names {
			r.Absent[name] = why
		}
	}
	switch x.Contender {
	case "go":
		r.Series["gc_pause_seconds_per_second"], r.Series["scheduling_delay_p99_seconds"] = of(0.0015), of(0.00025)
		r.Series["pool_in_use_connections"], r.Series["document_cache_hit_share"], r.Series["goroutines"] = of(2), of(0.25), of(30)
		r.Series["gc_longest_pause_seconds"], r.Series["gc_pauses_per_second"] = of(0.0001), of(2)
		r.Series["gc_pauses_per_second"][1] = new(float64) // no collection in the first second
		none("it does not tell", "worker_busy_share", "event_loop_delay_p99_seconds")
		none("it has one kind", "gc_minor_pause_seconds_per_second")
	case "node":
		r.Series["gc_pause_seconds_per_second"], r.Series["event_loop_delay_p99_seconds"], r.Series["worker_busy_share"] = of(0.0175), of(0.004), of(0.125)
		r.Series["gc_minor_pause_seconds_per_second"], r.Series["gc_longest_pause_seconds"] = of(0.01), of(0.002)
		r.Workers = map[string]map[string][]*float64{
			"10": {"worker_busy_share": of(0.25), "gc_longest_pause_seconds": of(0.0025), "gc_major_pause_seconds_per_second": of(0.0075)},
			"9":  {"worker_busy_share": of(0.125)},
		}
		none("there is no queue", "scheduling_delay_p99_seconds")
	default:
		r.Series["worker_busy_share"], r.Series["worker_steals_per_second"], r.Series["global_queue_tasks"] = of(0.0625), of(70), of(3)
		none("there is no garbage collector", "gc_pause_seconds_per_second", "gc_longest_pause_seconds", "gc_minor_pause_seconds_per_second")
		none("nobody measures it", "scheduling_delay_p99_seconds", "event_loop_delay_p99_seconds")
	}
	return r
}

type madeArm struct {
	name, contender, tier string
	cpuUs, latencyMS, rps float64
}

var madeArms = []madeArm{
	{"go", "go", "mainstream", 1180, 3.9, 820}, {"node", "node", "mainstream", 2310, 7.2, 410}, {"rust", "rust", "mainstream", 840, 3.1, 1130},
	{"node-compiled", "node", "compiled", 1320, 4.4, 730}, {"go-floor", "go", "floor", 205, 1.9, 2900}, {"node-floor", "node", "floor", 890, 3.2, 1080}, {"rust-floor", "rust", "floor", 140, 1.7, 3100},
}

func (m made) write(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	folder, err := record.Create(dir)
	require.NoError(t, err)
	began := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	r := record.Run{
		Format: record.Format, ID: "2026-03-04T050607Z-" + m.profile, Profile: m.profile, Evidence: m.profile != "smoke", Seed: 7, Began: began, Ended: began.Add(9 * time.Minute), Complete: true,
		Command: []string{"loadtest", "compare", "--profile", m.profile, "--seed", "7"},
		Environment: record.Environment{
			Engine: "native", OS: "Debian GNU/Linux 12", Kernel: "6.1.0", Arch: "amd64", CPUModel: "Made-up CPU @ 2.00GHz", CPUs: []int{0, 1}, Placement: map[string][]int{"contender": {0}, "database": {1}, "agent": {1}},
			MemoryBytes: 24e9, PostgreSQL: "15.1", PostgreSQLSource: "local", PostgreSQLSettings: map[string]string{"fsync": "off"}, DataSize: "standard", DataDigest: "0123456789abcdef",
			Contenders: map[string]json.RawMessage{"go": json.RawMessage(`{"go":"1.26","libraries":{"gqlgen":"0.17"}}`)}, Missing: map[string]string{"memory_cgroup_peak_bytes": "no cgroup of its own"},
		},
		Plan: record.Plan{Blocks: m.blocks, FloorBlocks: min(m.floors, m.blocks), RateRPS: float64(m.rps)},
	}
	random := rand.New(rand.NewPCG(1, 2))
	around := func(x, spread float64) float64 { return x * math.Exp(spread*random.NormFloat64()) }
	for block := 1; block <= m.blocks; block++ {
		var order []string
		position := 0
		for i, a := range append(madeArms, madeArms[block%3]) {
			if a.tier == "floor" && block > m.floors {
				continue
			}
			position++
			name := a.name
			if n, ok := m.rename[name]; ok {
				name = n
			}
			order = append(order, name)
			for _, load := range []record.Load{record.LoadRate, record.LoadThroughput} {
				x := record.Trial{
					ID: fmt.Sprintf("library-q2-%s-b%02d-p%02d-%s", load, block, position, a.name), Scenario: "library", Operation: "q2", Load: load, Arm: name, Contender: a.contender, Tier: a.tier,
					Block: block, Position: position, Duplicate: i == len(madeArms), Seed: uint64(block*100 + position), Arrival: "poisson", Began: began, DurationNS: int64(m.seconds) * 1e9, ElapsedNS: int64(m.seconds) * 1e9,
					Bottleneck: "contender", ColdStartNS: int64(around(9e7, 0.1)),
				}
				if a.tier == "floor" && load == record.LoadThroughput {
					x.Bottleneck = "database"
				}
				x.HDRLog = x.ID + ".hlog"
				rate := float64(m.rps)
				if load == record.LoadThroughput {
					rate = around(a.rps, 0.03)
				}
				x.Sent = uint64(rate * float64(m.seconds))
				x.Offered, x.OK = x.Sent, x.Sent
				x.OfferedRPS, x.AchievedRPS = rate, rate
				cpu, pss, end, sql := around(a.cpuUs, 0.03), int64(around(9e7, 0.05)), int64(around(8e7, 0.05)), 5.0
				x.CPUUsPerRequest, x.MemoryPSSPeakBytes, x.MemoryPSSEndBytes, x.StatementsPerRequest = &cpu, &pss, &end, &sql
				x.CPUSeconds = cpu * float64(x.Sent) / 1e6
				var seconds []*hdr.Histogram
				left := x.Sent
				for k := range m.seconds {
					h := hdr.New(1000, 100e9, 3)
					n := left / uint64(m.seconds-k)
					left -= n
					for range n {
						require.NoError(t, h.RecordValue(int64(around(a.latencyMS*1e6, 0.5))))
					}
					seconds = append(seconds, h)
				}
				all := record.Merge(seconds)
				x.LatencyP50NS, x.LatencyP90NS, x.LatencyP99NS, x.LatencyP999NS, x.LatencyMaxNS = all.ValueAtQuantile(50), all.ValueAtQuantile(90), all.ValueAtQuantile(99), all.ValueAtQuantile(99.9), all.Max()
				if m.runtime {
					x.RuntimeSeries, x.Runtime = record.RuntimeFile(x.ID), madeRuntime(x, m.seconds)
				}
				r.Trials = append(r.Trials, x)
				require.NoError(t, folder.WriteTrial(x, logOf(t, seconds)))
			}
		}
		r.Plan.Order = append(r.Plan.Order, order)
	}
	for _, a := range madeArms {
		name := a.name
		if n, ok := m.rename[name]; ok {
			name = n
		}
		r.Conformance = append(r.Conformance, record.Conformity{Arm: name, Conformant: true, Form: "full", Digest: strings.Repeat("ab", 32), Findings: []string{}})
	}
	if m.change != nil {
		m.change(&r)
		for _, x := range r.Trials { // the change may be to trials
			b, err := json.MarshalIndent(x, "", "  ")
			require.NoError(t, err)
			require.NoError(t, record.WriteFile(filepath.Join(dir, "trials", x.ID+".json"), b))
		}
	}
	r.Verdicts = append(r.Verdicts, claims.Of(r)...)
	require.NoError(t, folder.WriteRun(r))
	return dir
}

func logOf(t *testing.T, seconds []*hdr.Histogram) []byte {
	t.Helper()
	var b bytes.Buffer
	w := hdr.NewHistogramLogWriter(&b)
	require.NoError(t, w.OutputLogFormatVersion())
	require.NoError(t, w.OutputLegend())
	for i, h := range seconds {
		h.SetStartTimeMs(int64(i) * 1000)
		h.SetEndTimeMs(int64(i+1) * 1000)
		require.NoError(t, w.OutputIntervalHistogram(h))
	}
	return b.Bytes()
}

func quick() made { return made{profile: "quick", blocks: 8, floors: 4, seconds: 4, rps: 180} }
func smoke() made { return made{profile: "smoke", blocks: 1, floors: 1, seconds: 2, rps: 100} }

func opened(t *testing.T, dir string) record.Saved {
	t.Helper()
	s, err := record.Open(dir)
	require.NoError(t, err)
	return s
}
