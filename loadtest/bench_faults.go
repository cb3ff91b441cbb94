package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/faultproxy"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

func faultProxyMain(_ context.Context, args []string, s streams) int {
	return faultproxy.Main(args, s.Out, s.Err)
}

func faultProbeMain(ctx context.Context, _ []string, s streams) int {
	return faultproxy.ProbeMain(ctx, s.In, s.Out, s.Err)
}

// faultFigure is what one way with one delay cost, one value a round.
type faultFigure struct {
	Link string `json:"link"`
	// By is who delays: nobody, the lab's toxic (as faults have it, on the way back, or half each way), or Toxiproxy's own.
	By     string                 `json:"by"`
	Delay  time.Duration          `json:"delay_ns"`
	Rounds []record.FaultOverhead `json:"rounds"`

	toxics []map[string]any
}

// faultBench is the whole outcome.
type faultBench struct {
	Environment engine.Description `json:"environment"`
	Seed        uint64             `json:"seed"`
	Figures     []faultFigure      `json:"figures"`
}

const (
	byNobody    = "no delay"
	byLab       = "the lab's delay"
	byToxiproxy = "Toxiproxy's latency"
	byHalves    = "the lab's delay, half each way"
)

// benchFaultsMain measures the fault proxy before PostgreSQL and the quote service. The settings of a round come in random
// order, and in each of them the direct way is measured beside the one through the proxy.
func benchFaultsMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("bench-faults", "[flags]")
	engineName := f.String("engine", "native", "`NAME`: auto, docker or native")
	rounds := f.Int("rounds", 5, "`N` rounds, each with every setting once")
	roundTrips := f.Int("round-trips", 200, "`N` on each way in each measurement")
	delays := f.String("delays", "1ms,20ms,50ms", "`TIME,…` that are set in turn, beside none")
	seed := f.Uint64("seed", 0, "`N` for the order (default: a new one, printed)")
	asJSON := f.Bool("json", false, "print JSON instead of a table")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	cannot := func(err error) int { return fail(ctx, s, "bench-faults", err) }
	if *rounds < 1 || *roundTrips < 1 {
		return cannot(errors.New("--rounds and --round-trips must be positive"))
	}
	var set []time.Duration
	for text := range strings.SplitSeq(*delays, ",") {
		d, err := time.ParseDuration(strings.TrimSpace(text))
		if err == nil {
			err = engine.Fault{Kind: engine.FaultLatency, Delay: d}.Check()
		}
		if err != nil {
			return cannot(fmt.Errorf("--delays: %q: %w", text, err))
		}
		set = append(set, d)
	}
	if *seed == 0 {
		*seed = 1 + rand.Uint64N(1<<32)
	}
	l, err := openLab()
	if err != nil {
		return cannot(err)
	}
	release, err := engine.Lock(os.Args)
	if err != nil {
		return cannot(err)
	}
	defer release()
	e, err := l.engine(ctx, *engineName, logTo(s.Err))
	if err != nil {
		return cannot(err)
	}
	defer closeEngine(e, s)
	out := faultBench{Seed: *seed}
	p := newProgress(s.Err)
	err = out.run(ctx, e, set, *rounds, *roundTrips, p)
	p.end()
	if err != nil {
		return cannot(err)
	}
	if *asJSON {
		encoder := json.NewEncoder(s.Out)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(out)
	} else {
		fmt.Fprint(s.Out, out.text())
	}
	return exitOK
}

// faultSettings are all that is measured on a link.
func faultSettings(link string, delays []time.Duration) []faultFigure {
	out := []faultFigure{{Link: link, By: byNobody}}
	toxic := func(kind, way string, attributes map[string]any) map[string]any {
		return map[string]any{"name": kind + "_" + way, "type": kind, "stream": way, "attributes": attributes}
	}
	for _, d := range delays {
		out = append(out, faultFigure{Link: link, By: byLab, Delay: d}, faultFigure{Link: link, By: byHalves, Delay: d, toxics: []map[string]any{
			toxic(faultproxy.TypeDelay, "upstream", map[string]any{"delay_ns": int64(d / 2)}),
			toxic(faultproxy.TypeDelay, "downstream", map[string]any{"delay_ns": int64(d - d/2)}),
		}})
		// Toxiproxy's counts in milliseconds.
		if d%time.Millisecond == 0 {
			out = append(out, faultFigure{Link: link, By: byToxiproxy, Delay: d, toxics: []map[string]any{
				toxic("latency", "downstream", map[string]any{"latency": d.Milliseconds()}),
			}})
		}
	}
	return out
}

func (b *faultBench) run(ctx context.Context, e engine.Engine, delays []time.Duration, rounds, roundTrips int, p *progress) error {
	const size = "small"
	database, err := e.Database(ctx, engine.DatabaseSpec{Size: size})
	if err != nil {
		return err
	}
	upstream, err := e.Upstream(ctx, engine.UpstreamSpec{Size: size})
	if err != nil {
		return err
	}
	proxy, err := e.Faults(ctx)
	if err != nil {
		return err
	}
	if b.Environment, err = e.Describe(ctx); err != nil {
		return err
	}
	links := map[string]engine.FaultLink{}
	for _, target := range []struct{ name, url string }{{"database_primary", database.PrimaryURL()}, {"upstream", upstream.URL()}} {
		if links[target.name], err = proxy.Link(ctx, target.name, target.url); err != nil {
			return err
		}
		b.Figures = append(b.Figures, faultSettings(target.name, delays)...)
	}
	order := rand.New(rand.NewPCG(b.Seed, 0))
	p.start(rounds * len(b.Figures))
	for round := range rounds {
		for _, i := range order.Perm(len(b.Figures)) {
			f := &b.Figures[i]
			p.step("round %d of %d: %s, %s %s", round+1, rounds, f.Link, f.By, f.Delay)
			link := links[f.Link]
			var faults []engine.Fault
			if f.By == byLab {
				faults = []engine.Fault{{Kind: engine.FaultLatency, Delay: f.Delay}}
			}
			if err := link.Set(ctx, faults...); err != nil {
				return err
			}
			for _, toxic := range f.toxics {
				if err := addToxic(ctx, proxy, f.Link, toxic); err != nil {
					return err
				}
			}
			overhead, err := proxy.Overhead(ctx, link, roundTrips)
			if err != nil {
				return err
			}
			overhead.DelayNS = int64(f.Delay)
			f.Rounds = append(f.Rounds, overhead)
		}
	}
	return nil
}

// addToxic adds one by Toxiproxy's own API; the next faults that are set replace it.
func addToxic(ctx context.Context, proxy engine.FaultProxy, link string, toxic map[string]any) error {
	body, err := json.Marshal(toxic)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, proxy.URL()+"/proxies/"+link+"/toxics", bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("fault proxy: toxic %s: %s", body, text)
	}
	return nil
}

// text is the outcome as a table: medians of the rounds.
func (b *faultBench) text() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LINK\tDELAY\tBY\tADDED P50, MS\tADDED P99, MS\tDIRECT P50, MS\tDIRECT P99, MS\tPROXY CPU, µS A ROUND TRIP\t")
	for _, f := range b.Figures {
		median := func(of func(record.FaultOverhead) float64) float64 {
			var values []float64
			for _, r := range f.Rounds {
				values = append(values, of(r))
			}
			return stats.Median(values)
		}
		ms := func(of func(record.FaultOverhead) int64) string {
			return fmt.Sprintf("%.3f", median(func(r record.FaultOverhead) float64 { return float64(of(r)) / 1e6 }))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.0f\t\n", f.Link, f.Delay, f.By,
			ms(func(r record.FaultOverhead) int64 { return r.AddedP50NS }), ms(func(r record.FaultOverhead) int64 { return r.AddedP99NS }),
			ms(func(r record.FaultOverhead) int64 { return r.DirectP50NS }), ms(func(r record.FaultOverhead) int64 { return r.DirectP99NS }),
			median(func(r record.FaultOverhead) float64 { return r.CPUUsPerRoundTrip }))
	}
	_ = w.Flush()
	n := 0
	if len(b.Figures) > 0 {
		n = len(b.Figures[0].Rounds)
	}
	fmt.Fprintf(&out, "\nMedians of %d rounds; seed %d; engine %s.\n", n, b.Seed, b.Environment.Engine)
	return out.String()
}
