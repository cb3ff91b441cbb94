package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// fact is one line of the environment.
type fact struct{ Name, Value string }

func cpuList(cpus []int) string {
	if len(cpus) == 0 {
		return "unknown"
	}
	var out []string
	for _, c := range cpus {
		out = append(out, fmt.Sprint(c))
	}
	return strings.Join(out, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// environment is what the record says of machine and programs.
func (b *build) environment() []fact {
	e := b.run.Environment
	out := []fact{
		{"CPU", e.CPUModel},
		{"CPUs of the machine", cpuList(e.CPUs)},
	}
	for _, role := range sortedKeys(e.Placement) {
		name := role
		if role == "agent" {
			name = "load generator"
		}
		out = append(out, fact{"CPUs of the " + name, cpuList(e.Placement[role])})
	}
	shared := "no"
	if e.CPUsShared {
		shared = "yes"
	}
	out = append(out,
		fact{"CPUs shared between server, database and generator", shared},
		fact{"memory", fmt.Sprintf("%.1f GB", float64(e.MemoryBytes)/1e9)},
		fact{"system", strings.TrimSpace(e.OS + ", kernel " + e.Kernel + ", " + e.Arch)},
		fact{"engine", strings.TrimSpace(e.Engine + " " + e.EngineVersion)},
		fact{"PostgreSQL", e.PostgreSQL + " (" + e.PostgreSQLSource + ")"},
		fact{"data", e.DataSize + ", digest " + shorten(e.DataDigest, 12)},
	)
	for _, name := range sortedKeys(e.Contenders) {
		out = append(out, fact{name + " says of itself", versions(e.Contenders[name])})
	}
	for _, name := range sortedKeys(e.ImageSizeBytes) {
		out = append(out, fact{"image of " + name, fmt.Sprintf("%.1f MB, layers shared with others included", float64(e.ImageSizeBytes[name])/1e6)})
	}
	if c := b.run.GeneratorCeilingRPS; c != nil {
		out = append(out, fact{"the load generator's ceiling", summary.RateText(*c) + " requests a second against a server that answers at once"})
	}
	for i := range b.run.Scenarios {
		if x := &b.run.Scenarios[i]; x.GeneratorCeilingRPS != nil {
			out = append(out, fact{"the load generator's ceiling with the question of " + x.ID, summary.RateText(*x.GeneratorCeilingRPS) + " requests a second"})
		}
	}
	for _, o := range b.overheads() {
		set := "without a delay"
		if o.DelayNS > 0 {
			set = "with a delay of " + time.Duration(o.DelayNS).String()
		}
		out = append(out, fact{"fault proxy before " + o.Link + ", " + set, fmt.Sprintf(
			"adds %.2f ms to a round trip of %.2f ms (medians; 99th percentile of what it adds: %.2f ms) and takes %.0f µs of CPU time for it; %d round trips each",
			float64(o.AddedP50NS)/1e6, float64(o.DirectP50NS)/1e6, float64(o.AddedP99NS)/1e6, o.CPUUsPerRoundTrip, o.RoundTrips)})
	}
	if len(e.PostgreSQLSettings) > 0 {
		var settings []string
		for _, k := range sortedKeys(e.PostgreSQLSettings) {
			settings = append(settings, k+"="+e.PostgreSQLSettings[k])
		}
		out = append(out, fact{"PostgreSQL's settings", strings.Join(settings, ", ")})
	}
	for _, field := range sortedKeys(e.Missing) {
		out = append(out, fact{"why " + field + " is missing", e.Missing[field]})
	}
	for _, at := range b.run.Resumed {
		out = append(out, fact{"resumed", at.UTC().Format("2006-01-02 15:04 UTC")})
	}
	out = append(out, fact{"measured", b.run.Began.UTC().Format("2006-01-02 15:04") + " to " + b.run.Ended.UTC().Format("15:04 UTC")})
	return out
}

// versions flattens what a program says of its versions, whatever its shape.
func versions(raw json.RawMessage) string {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return string(raw)
	}
	var out []string
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range sortedKeys(v) {
				walk(strings.TrimSpace(name+" "+k), v[k])
			}
		case []any:
			for _, x := range v {
				walk(name, x)
			}
		case nil:
		default:
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %v", name, v)))
		}
	}
	walk("", v)
	return strings.Join(out, ", ")
}

// trialTable has every trial, in the order measured.
func (b *build) trialTable() table {
	t := table{Caption: "Every trial, in the order measured", Heads: []string{
		"block", "place", "arm", "operation", "load", "offered /s", "achieved /s", "offered", "sent", "ok", "failed", "unsent", "p50 ms", "p99 ms", "largest ms", "send lag p99 ms",
		"CPU µs/request", "CPU s", "database CPU s", "generator CPU s", "PSS end MB", "PSS peak MB", "SQL/request", "stolen", "warm-up", "bottleneck", "void", "seed",
	}}
	for _, x := range b.run.Trials {
		name := x.Arm
		if x.Duplicate {
			name += " (A/A)"
		}
		if x.Nonconformant {
			name += " (not conformant!)"
		}
		void := ""
		if x.Void != nil {
			void = *x.Void
		}
		p50, p99, largest, lag := milli(ms(x.LatencyP50NS)), milli(ms(x.LatencyP99NS)), milli(ms(x.LatencyMaxNS)), milli(ms(x.SendLagP99NS))
		if x.Load == record.LoadThroughput { // its queue grows without end, or nothing was intended
			p50, p99, largest, lag = "", "", "", ""
		} else if !carriesP99(x) {
			p99 = "–"
		}
		load, block := string(x.Load), fmt.Sprint(x.Block)
		if !x.Load.Blocked() {
			block = "–"
		}
		if x.Arrival == "closed" {
			load = "closed loop"
		}
		t.Rows = append(t.Rows, []string{
			block, fmt.Sprint(x.Position), name, asked(x), load, one(x.OfferedRPS), one(x.AchievedRPS), count(x.Offered), count(x.Sent), count(x.OK), count(x.Failed), count(x.Unsent),
			p50, p99, largest, lag, optional(x.CPUUsPerRequest, whole), two(x.CPUSeconds), two(x.DatabaseCPUSeconds), two(x.AgentCPUSeconds),
			megabytes(x.MemoryPSSEndBytes), megabytes(x.MemoryPSSPeakBytes), optional(x.StatementsPerRequest, two), one(100*x.MachineStealShare) + " %", warmWords(x.Warm), x.Bottleneck + nearCeiling(x), void, fmt.Sprint(x.Seed),
		})
	}
	return t
}

// asked is what a trial asked, and for which claim.
func asked(x record.Trial) string { return x.Operation + summary.OfScenario(x.Scenario) }

// warmWords says how long a process was warmed up, and whether it came to rest.
func warmWords(w *record.Warm) string {
	if w == nil {
		return "–"
	}
	took := two(float64(w.Windows)*float64(w.WindowNS)/1e9) + " s"
	if !w.Converged {
		return fmt.Sprintf("not warm after %s: rate %s %% apart, CPU %s %%", took, one(100*w.RateDrift), one(100*w.CPUDrift))
	}
	return took
}

func ms(ns int64) float64 { return float64(ns) / float64(time.Millisecond) }

func megabytes(bytes *int64) string {
	if bytes == nil {
		return "–"
	}
	return one(float64(*bytes) / 1e6)
}

func carriesP99(t record.Trial) bool {
	a := summary.Arm{Rate: []record.Trial{t}}
	return len(a.Latency(summary.Percentiles()[2]).Values) > 0
}

// order is the plan: what was measured in which block, in order.
func (b *build) order() table {
	t := table{Caption: "The order, drawn from the seed", Heads: []string{"block", "arms, in order"}}
	of := ""
	if len(b.run.Scenarios) > 0 && len(b.run.Plan.Order) > 0 {
		of = "library "
	}
	for i, arms := range b.run.Plan.Order {
		t.Rows = append(t.Rows, []string{fmt.Sprintf("%s%d", of, i+1), strings.Join(arms, ", ")})
	}
	for _, s := range b.run.Scenarios {
		for i, arms := range s.Plan.Order {
			t.Rows = append(t.Rows, []string{fmt.Sprintf("%s %d", s.ID, i+1), strings.Join(arms, ", ")})
		}
	}
	return t
}
