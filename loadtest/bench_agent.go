package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/null"
)

const (
	nullQuestion = `{"query":"{ areas { id } }"}`
	nullAnswer   = `{"data":{"areas":[{"id":"1"}]}}`

	// lagLimit is the send lag p99 up to which a generator counts as keeping its schedule.
	lagLimit = time.Millisecond
	// The search for the highest rate begins at the first of these, doubles to the last, and halves the rest of the way
	// until the two rates between which the limit lies are within that share of each other.
	lowestRPS, highestRPS = 1000, 64_000
	capacityShare         = 0.1

	wrkName = "wrk (closed loop)"
)

// generator is one of those that are compared.
type generator struct {
	name       string
	sender     agent.Sender // empty: wrk
	processors int          // 0: as the agent has it
}

// findGenerators are those with a schedule to keep. Whether one processor sends later than several is looked at where
// there are several.
func findGenerators(cpus int) []generator {
	out := []generator{
		{"lab's agent", agent.SenderLab, 0},
		{"lab's agent, net/http's transport", agent.SenderStock, 0},
		{"vegeta's own attacker", agent.SenderVegeta, 0},
	}
	if cpus > 1 {
		out = append(out, generator{"lab's agent on 1 processor", agent.SenderLab, 1}, generator{"lab's agent on 2 processors", agent.SenderLab, 2})
	}
	return out
}

// agentFigure is what one generator cost at one rate, one value a round.
type agentFigure struct {
	Generator string    `json:"generator"`
	RPS       float64   `json:"offered_rps"` // 0: a closed loop
	CPUUs     []float64 `json:"cpu_us_per_request"`
	// CPU over that of another in the same round: of vegeta's own attacker, and of the agent with net/http's transport.
	VegetaRatio []float64 `json:"vegeta_ratio"`
	StockRatio  []float64 `json:"stock_ratio"`
	LagP99Us    []float64 `json:"send_lag_p99_us"`
	LagP999Us   []float64 `json:"send_lag_p999_us"`
	SentRPS     []float64 `json:"sent_rps"`
	Unsent      uint64    `json:"unsent"`
	Failed      uint64    `json:"failed"`
}

// agentCapacity has, for each round, between which rates a generator begins to send late.
type agentCapacity struct {
	Generator string    `json:"generator"`
	KeptRPS   []float64 `json:"kept_rps"` // 0: not even the lowest
	LateRPS   []float64 `json:"late_rps"` // 0: kept the highest
}

// agentBench is the whole outcome.
type agentBench struct {
	Rounds     int             `json:"rounds"`
	Searches   int             `json:"search_rounds"`
	DurationNS time.Duration   `json:"duration_ns"`
	Seed       uint64          `json:"seed"`
	CPUModel   string          `json:"cpu_model"`
	CPUs       int             `json:"cpus"`
	Figures    []agentFigure   `json:"figures"`
	Capacities []agentCapacity `json:"capacities"`
	Notes      []string        `json:"notes"`
}

// agentBencher runs generators against a null server, all of them in processes of their own.
type agentBencher struct {
	binary   string // this program
	wrk      string // empty: not installed
	rounds   int
	duration time.Duration
	rates    []float64
	seed     uint64
	searches int // rounds of the search for the highest rate
	progress *progress
	address  string // of the null server
}

// benchAgentMain measures what load costs the one who makes it. The generators of a round come in random order.
func benchAgentMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("bench-agent", "[flags]")
	rounds := f.Int("rounds", benchRounds, "`N` rounds, each with every generator once at every rate")
	duration := f.Duration("duration", 2*time.Second, "`TIME` of each measurement")
	rates := f.String("rates", "2000,8000", "`RPS,…` at which CPU and send lag are measured")
	searches := f.Int("search-rounds", 3, "`N` rounds of the search for the highest rate at which send lag p99 stays under 1 ms")
	seed := f.Uint64("seed", 0, "`N` for the order (default: a new one, printed)")
	asJSON := f.Bool("json", false, "print JSON instead of a table")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	b := &agentBencher{rounds: *rounds, duration: *duration, seed: *seed, searches: *searches, progress: newProgress(s.Err)}
	if *rounds < 1 || *duration <= 0 || *searches < 0 {
		return fail(ctx, s, "bench-agent", errors.New("--rounds and --duration must be positive, --search-rounds not negative"))
	}
	for text := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || !(rate >= 1) || rate > 1e6 {
			return fail(ctx, s, "bench-agent", fmt.Errorf("--rates: %q: expected requests a second, from 1 to 1000000", text))
		}
		b.rates = append(b.rates, rate)
	}
	if b.seed == 0 {
		b.seed = 1 + rand.Uint64N(1<<32)
	}
	var err error
	if b.binary, err = os.Executable(); err != nil {
		return fail(ctx, s, "bench-agent", err)
	}
	b.wrk, _ = exec.LookPath("wrk")
	release, err := engine.Lock(os.Args)
	if err != nil {
		return fail(ctx, s, "bench-agent", err)
	}
	defer release()
	out, err := b.run(ctx)
	b.progress.end()
	if err != nil {
		return fail(ctx, s, "bench-agent", err)
	}
	if *asJSON {
		e := json.NewEncoder(s.Out)
		e.SetIndent("", "  ")
		_ = e.Encode(out)
	} else {
		fmt.Fprint(s.Out, agentBenchText(out))
	}
	return exitOK
}

func (b *agentBencher) run(ctx context.Context) (agentBench, error) {
	out := agentBench{Rounds: b.rounds, Searches: b.searches, DurationNS: b.duration, Seed: b.seed, CPUModel: host.CPUModel(), CPUs: runtime.NumCPU(), Notes: []string{}}
	stop, err := b.startNull(ctx)
	if err != nil {
		return out, err
	}
	defer stop()
	type slot struct {
		generator
		rps float64
	}
	generators := findGenerators(out.CPUs)
	var slots []slot
	index := map[string]int{}
	for _, rps := range b.rates {
		for _, g := range generators {
			slots = append(slots, slot{g, rps})
		}
	}
	if b.wrk == "" {
		out.Notes = append(out.Notes, "wrk is not installed, so it was not measured")
	} else {
		slots = append(slots, slot{generator{name: wrkName}, 0})
	}
	key := func(s slot) string { return fmt.Sprint(s.name, s.rps) }
	for i, s := range slots {
		index[key(s)] = i
		out.Figures = append(out.Figures, agentFigure{Generator: s.name, RPS: s.rps})
	}
	order := rand.New(rand.NewPCG(b.seed, 0))
	b.progress.start(b.rounds * len(slots))
	for round := range b.rounds {
		order.Shuffle(len(slots), func(i, j int) { slots[i], slots[j] = slots[j], slots[i] })
		stock, vegeta, mine := map[float64]float64{}, map[float64]float64{}, map[int]float64{}
		for _, s := range slots {
			b.progress.step("round %d of %d: %s, %s", round+1, b.rounds, s.name, rateText(s.rps))
			f := &out.Figures[index[key(s)]]
			if s.sender == "" {
				cpuUs, rps, err := b.attackWrk(ctx)
				if err != nil {
					return out, err
				}
				f.CPUUs, f.SentRPS = append(f.CPUUs, cpuUs), append(f.SentRPS, rps)
				continue
			}
			r, err := b.attack(ctx, s.generator, s.rps)
			if err != nil {
				return out, err
			}
			cpuUs := r.CPUSeconds * 1e6 / float64(r.Sent)
			f.CPUUs = append(f.CPUUs, cpuUs)
			lag := r.SendLag()
			f.LagP99Us = append(f.LagP99Us, float64(lag.ValueAtQuantile(99))/1e3)
			f.LagP999Us = append(f.LagP999Us, float64(lag.ValueAtQuantile(99.9))/1e3)
			f.SentRPS = append(f.SentRPS, float64(r.Sent)/max(r.Elapsed, b.duration).Seconds())
			f.Unsent += r.Unsent
			f.Failed += r.FailedBy.Total()
			mine[index[key(s)]] = cpuUs
			switch s.sender {
			case agent.SenderStock:
				stock[s.rps] = cpuUs
			case agent.SenderVegeta:
				vegeta[s.rps] = cpuUs
			}
		}
		for i, cpuUs := range mine {
			f := &out.Figures[i]
			f.StockRatio = append(f.StockRatio, cpuUs/stock[f.RPS])
			f.VegetaRatio = append(f.VegetaRatio, cpuUs/vegeta[f.RPS])
		}
	}
	if b.searches == 0 {
		return out, nil
	}
	for _, g := range generators {
		out.Capacities = append(out.Capacities, agentCapacity{Generator: g.name})
	}
	for round := range b.searches {
		for _, i := range order.Perm(len(generators)) {
			g := generators[i]
			kept, late, err := search(func(rps float64) (bool, error) {
				b.progress.line("search %d of %d, highest rate of %s: %s", round+1, b.searches, g.name, rateText(rps))
				return b.keeps(ctx, g, rps)
			})
			if err != nil {
				return out, err
			}
			c := &out.Capacities[i]
			c.KeptRPS, c.LateRPS = append(c.KeptRPS, kept), append(c.LateRPS, late)
		}
	}
	return out, nil
}

// search doubles the rate until it is not kept, then halves the way between (as Nighthawk's step controller does). kept
// is 0 where the lowest rate was not kept, late where the highest was.
func search(keeps func(rps float64) (bool, error)) (kept, late float64, err error) {
	for rps := float64(lowestRPS); ; rps *= 2 {
		if rps > highestRPS {
			return kept, 0, nil
		}
		ok, err := keeps(rps)
		if err != nil {
			return 0, 0, err
		}
		if !ok {
			late = rps
			break
		}
		kept = rps
	}
	for kept > 0 && late > kept*(1+capacityShare) {
		middle := (kept + late) / 2
		ok, err := keeps(middle)
		if err != nil {
			return 0, 0, err
		}
		if ok {
			kept = middle
		} else {
			late = middle
		}
	}
	return kept, late, nil
}

// keeps tells whether a generator keeps a rate at one of two tries: a hiccup of the machine is not its fault.
func (b *agentBencher) keeps(ctx context.Context, g generator, rps float64) (bool, error) {
	for range 2 {
		r, err := b.attack(ctx, g, rps)
		if err != nil {
			return false, err
		}
		if r.SendLag().ValueAtQuantile(99) < int64(lagLimit) && r.Unsent == 0 && r.FailedBy.Total() == 0 {
			return true, nil
		}
	}
	return false, nil
}

// attack runs this program's hidden command agent.
func (b *agentBencher) attack(ctx context.Context, g generator, rps float64) (*agent.Result, error) {
	job, err := json.Marshal(agent.Job{
		URL: "http://" + b.address + "/graphql", Body: nullQuestion, Expected: nullAnswer, RPS: rps, Duration: b.duration,
		Arrival: agent.Constant, // vegeta's own knows no other that could be compared
		Seed:    b.seed, MaxInFlight: 256, Timeout: requestTimeout, Processors: g.processors,
	})
	if err != nil {
		return nil, err
	}
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, b.binary, "agent", "--sender", string(g.sender))
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(job), &out, &errs
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", g.name, err, strings.TrimSpace(errs.String()))
	}
	r := &agent.Result{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("%s: %w", g.name, err)
	}
	if r.Sent == 0 {
		return nil, fmt.Errorf("%s: nothing was sent", g.name)
	}
	return r, nil
}

var wrkRequests = regexp.MustCompile(`(?m)^\s*(\d+) requests in `)

// attackWrk runs wrk with one thread and 16 connections. Its CPU is that of the whole process.
func (b *agentBencher) attackWrk(ctx context.Context) (cpuUs, rps float64, err error) {
	dir, err := os.MkdirTemp("", "bench-agent-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	script := filepath.Join(dir, "post.lua")
	lua := fmt.Sprintf("wrk.method = 'POST'\nwrk.body = '%s'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.headers['Accept'] = 'application/graphql-response+json'\n", nullQuestion)
	if err := os.WriteFile(script, []byte(lua), 0o600); err != nil {
		return 0, 0, err
	}
	// wrk knows whole seconds only.
	seconds := max(1, int(b.duration.Round(time.Second)/time.Second))
	c := exec.CommandContext(ctx, b.wrk, "-t1", "-c16", fmt.Sprintf("-d%ds", seconds), "-s", script, "http://"+b.address+"/graphql")
	text, err := c.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("wrk: %w: %s", err, strings.TrimSpace(string(text)))
	}
	m := wrkRequests.FindSubmatch(text)
	if m == nil {
		return 0, 0, fmt.Errorf("wrk: no number of requests in what it printed: %s", strings.TrimSpace(string(text)))
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || n == 0 {
		return 0, 0, errors.New("wrk: nothing was sent")
	}
	cpu := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	return float64(cpu.Nanoseconds()) / 1e3 / n, n / float64(seconds), nil
}

// startNull starts the null server in a process of its own; it ends with its standard input, so also with this process.
func (b *agentBencher) startNull(ctx context.Context) (stop func(), err error) {
	c := exec.CommandContext(ctx, b.binary, "null")
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("the null server: %w", err)
	}
	stop = func() { _ = in.Close(); _ = c.Wait() }
	var listening struct {
		URL string `json:"url"`
	}
	if err := json.NewDecoder(out).Decode(&listening); err != nil {
		stop()
		return nil, fmt.Errorf("the null server: %w", err)
	}
	b.address = strings.TrimPrefix(listening.URL, "http://")
	return stop, nil
}

// nullMain is the null server until standard input ends.
func nullMain(ctx context.Context, args []string, s streams) int {
	if code, ok := parse(newFlags("null", ""), args, s); !ok {
		return code
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, s.In)
	}()
	if err := null.Serve(ctx, "127.0.0.1:0", nullAnswer, s.Out); err != nil {
		return fail(ctx, s, "null", err)
	}
	return exitOK
}

func rateText(rps float64) string {
	if rps == 0 {
		return "as fast as it can"
	}
	return fmt.Sprintf("%.0f/s", rps)
}

func agentBenchText(b agentBench) string {
	var t strings.Builder
	fmt.Fprintf(&t, "What load costs its generator, against a server that answers at once: median of %d interleaved rounds of %v (least–most).\nCPU is user + system of the generator; ÷ vegeta: against vegeta's own attacker in the same round, ÷ net/http: against the\nlab's agent with net/http's transport. %s, %d CPUs, seed %d, constant arrivals.\n",
		b.Rounds, b.DurationNS, b.CPUModel, b.CPUs, b.Seed)
	if b.Rounds < benchRounds {
		fmt.Fprintf(&t, "Fewer than %d rounds are for trying out.\n", benchRounds)
	}
	t.WriteString("\n")
	w := tabwriter.NewWriter(&t, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "rate\tgenerator\tCPU µs/request\t÷ vegeta\t÷ net/http\tsend lag p99, µs\tp99.9, µs\tsent/s\tunsent\tfailed\n")
	for _, f := range b.Figures {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", rateText(f.RPS), f.Generator, spreadText(f.CPUUs, 1), spreadText(f.VegetaRatio, 2), spreadText(f.StockRatio, 2),
			spreadText(f.LagP99Us, 0), spreadText(f.LagP999Us, 0), spreadText(f.SentRPS, 0), f.Unsent, f.Failed)
	}
	_ = w.Flush()
	if len(b.Capacities) > 0 {
		fmt.Fprintf(&t, "\nHighest rate with a send lag p99 under %v, nothing unsent and nothing failed, at one of two tries, to within %.0f %%:\nmedian of %d interleaved rounds (least–most); 0: not even %d/s; the search ends at %d/s.\n", lagLimit, 100*capacityShare, b.Searches, lowestRPS, highestRPS)
		w = tabwriter.NewWriter(&t, 0, 0, 2, ' ', 0)
		for _, c := range b.Capacities {
			fmt.Fprintf(w, "%s\t%s/s\n", c.Generator, spreadText(c.KeptRPS, 0))
		}
		_ = w.Flush()
	}
	for _, note := range b.Notes {
		fmt.Fprintf(&t, "\n%s.\n", note)
	}
	return t.String()
}
