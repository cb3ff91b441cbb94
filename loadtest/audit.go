package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/audit"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/locate"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/revision"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trial"
)

// auditParts are the parts of an audit, in order.
var auditParts = []string{"stall", "slower", "same"}

// auditOptions are the flags of audit.
type auditOptions struct {
	parts, contender, engine string
	comparisons, blocks      int
	seed                     uint64
	out, resume, update      string
	asJSON                   bool
}

func auditFlags() (*flag.FlagSet, *auditOptions) {
	f, o := newFlags("audit", "[flags]"), &auditOptions{}
	f.StringVar(&o.parts, "part", strings.Join(auditParts, ","), "`NAME,…`: stall (300 ms every 2 s), slower (20 ms against 22 ms), same (a contender against itself)")
	f.StringVar(&o.contender, "contender", "go", "`ARM` that is compared with itself")
	f.StringVar(&o.engine, "engine", "auto", "`NAME` of the engine for that: auto, docker or native")
	f.IntVar(&o.comparisons, "comparisons", 20, "`N` comparisons of the contender with itself")
	f.IntVar(&o.blocks, "blocks", 8, "`N` blocks of each, as in the profile quick")
	f.Uint64Var(&o.seed, "seed", 0, "`N` for orders and arrivals (default: a new one, recorded)")
	f.StringVar(&o.out, "out", "", "`DIR` for the records (default results/local/DATE-audit)")
	f.StringVar(&o.resume, "resume", "", "`DIR` of an audit that was interrupted: what it has is kept, the rest is measured")
	f.StringVar(&o.update, "update", "", "`FILE,…` whose table between the markers of make audit is replaced")
	f.BoolVar(&o.asJSON, "json", false, "print the audit as JSON")
	return f, o
}

// auditMain measures what is known beforehand. It is no test: it takes an hour, and a machine that has that hour for it.
func auditMain(ctx context.Context, args []string, s streams) int {
	f, o := auditFlags()
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	cannot := func(err error) int { return fail(ctx, s, "audit", err) }
	var earlier audit.Report
	if o.resume != "" {
		var err error
		if earlier, err = o.recall(f); err != nil {
			return cannot(fmt.Errorf("--resume: %w", err))
		}
	}
	chosen := strings.Split(o.parts, ",")
	for _, part := range chosen {
		if !slices.Contains(auditParts, part) {
			return cannot(fmt.Errorf("--part %q: expected any of %s", part, strings.Join(auditParts, ", ")))
		}
	}
	if least := stats.MinPairs(claims.Alpha, 1); o.comparisons < 1 || o.blocks < least || o.blocks > stats.MaxPairs {
		return cannot(fmt.Errorf("--comparisons %d, --blocks %d: at least one comparison, of %d to %d blocks", o.comparisons, o.blocks, least, stats.MaxPairs))
	}
	pages, err := openPages(o.update, auditCommand)
	if err != nil {
		return cannot(err)
	}
	l, err := openLab()
	if err != nil {
		return cannot(err)
	}
	// By name, so that an audit that goes on later does so in the same engine.
	o.engine = autoEngine(ctx, o.engine, logTo(s.Err))
	same := revisions{base: "the working tree", head: "the working tree", arm: o.contender, engine: o.engine, blocks: o.blocks}
	if slices.Contains(chosen, "same") {
		if err := same.check(l); err != nil {
			return cannot(err)
		}
	}
	if o.seed == 0 {
		o.seed = 1 + rand.Uint64N(1<<32)
	}
	if o.out != "" && o.resume == "" {
		if err := record.CheckFree(o.out); err != nil {
			return cannot(fmt.Errorf("--out: %w", err))
		}
	}
	release, err := engine.Lock(os.Args)
	if err != nil {
		return cannot(err)
	}
	defer release()
	r := audit.Report{Method: record.Method, Began: time.Now().UTC(), Seed: o.seed, Command: []string{
		"loadtest", "audit", "--part", o.parts, "--contender", o.contender, "--engine", o.engine, "--comparisons", fmt.Sprint(o.comparisons), "--blocks", fmt.Sprint(o.blocks), "--seed", fmt.Sprint(o.seed),
	}}
	var machine string
	if r.Environment, machine, err = auditMachine(); err != nil {
		return cannot(err)
	}
	if o.resume != "" {
		if !sameJSON(earlier.Environment, r.Environment) {
			return cannot(fmt.Errorf("--resume: %s was measured on another machine: %s, and this is %s", o.resume, earlier.Environment, r.Environment))
		}
		r = earlier
	}
	if o.out == "" {
		o.out = localRun(l.root, r.Began, "audit")
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return cannot(fmt.Errorf("--out: %w", err))
	}
	keep := func() error { return record.WriteJSON(filepath.Join(o.out, auditFile), r) }
	if err := keep(); err != nil { // what --resume goes on with, from the first moment
		return cannot(err)
	}
	a := &auditor{lab: l, out: o.out, seed: o.seed, progress: newProgress(s.Err), streams: s}
	for _, part := range chosen {
		if r.Has(part) {
			a.progress.say("%s: measured before", part)
			continue
		}
		var rows []audit.Row
		switch part {
		case "stall":
			rows, err = a.stall(ctx)
		case "slower":
			rows, err = a.slower(ctx)
		case "same":
			rows, err = a.same(ctx, same, o.comparisons)
		}
		a.progress.end()
		if err != nil {
			fmt.Fprintf(s.Err, "what it lacks is measured by: loadtest audit --resume %s\n", o.out)
			return cannot(fmt.Errorf("%s: %w", part, err))
		}
		for _, row := range rows {
			row.Part = part
			r.Rows = append(r.Rows, row)
		}
		// What was found so far is on disk before the next part, which may take long.
		if err := keep(); err != nil {
			return cannot(err)
		}
	}
	if o.asJSON {
		_ = json.NewEncoder(s.Out).Encode(r)
	} else {
		fmt.Fprint(s.Out, r.Markdown(machine))
	}
	fmt.Fprintf(s.Err, "records: %s\n", o.out)
	if err := pages.splice(r.Markdown(machine)); err != nil {
		return cannot(err)
	}
	if !r.Passed() {
		return exitNo
	}
	return exitOK
}

// auditFile is what an audit found so far, in its folder.
const auditFile = "audit.json"

// recall reads the audit that --resume names and takes all settings from it. f has the flags that were given: each must say
// what the audit was begun with.
func (o *auditOptions) recall(f *flag.FlagSet) (audit.Report, error) {
	var r audit.Report
	dir := o.resume
	file := filepath.Join(dir, auditFile)
	b, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %w", file, locate.JSONError(b, err))
	}
	if r.Method != record.Method {
		return r, fmt.Errorf("%s: figures of two methods do not go into one audit: method was %d and is %d", dir, r.Method, record.Method)
	}
	if len(r.Command) < 2 || r.Command[1] != "audit" {
		return r, fmt.Errorf("%s: command is no loadtest audit", file)
	}
	begun, was := auditFlags()
	if err := begun.Parse(r.Command[2:]); err != nil {
		return r, fmt.Errorf("%s: command %q: %w", file, r.Command, err)
	}
	if err := sameFlags(f, begun, dir); err != nil {
		return r, err
	}
	was.out, was.resume, was.update, was.asJSON = dir, dir, o.update, o.asJSON
	*o = *was
	return r, nil
}

// auditMachine describes the machine, for the record and in words.
func auditMachine() (environment json.RawMessage, words string, err error) {
	cpus, _ := host.AllowedCPUs()
	environment, err = json.Marshal(map[string]any{"cpu_model": host.CPUModel(), "cpus": cpus, "kernel": host.KernelRelease(), "arch": runtime.GOARCH, "os": host.OperatingSystem()})
	return environment, fmt.Sprintf("%s, %s", host.CPUModel(), summary.Plural(len(cpus), "CPU")), err
}

// sameJSON tells whether two texts say the same, however they are laid out.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

type auditor struct {
	lab      *lab
	out      string
	seed     uint64
	progress *progress
	streams  streams
}

// The servers of an audit, and how they are asked. At 200 a second a stall of 300 ms holds 60 requests, which are
// answered within a few milliseconds of its end: the lab's own work stays out of the arithmetic.
const (
	auditRPS       = 200
	auditStallTime = 60 * time.Second // thirty stalls: p99 by chance is within 0.7 %
	auditTrialTime = 5 * time.Second
	auditBlocks    = 10
	auditLatency   = 20 * time.Millisecond
	auditMore      = 2 * time.Millisecond
)

func (a *auditor) stall(ctx context.Context) ([]audit.Row, error) {
	a.progress.start(1)
	a.progress.step("stalls for %v", auditStallTime)
	server := audit.Stall{Stall: 300 * time.Millisecond, Period: 2 * time.Second}
	t, err := a.trial(ctx, server, record.Trial{ID: "stall", Arm: "stalls", Seed: a.seed, Block: 1, Position: 1}, auditStallTime)
	if err != nil {
		return nil, err
	}
	return audit.JudgeStall(server, t), nil
}

func (a *auditor) slower(ctx context.Context) ([]audit.Row, error) {
	fast, slow := fmt.Sprintf("a server of %v", auditLatency), fmt.Sprintf("one of %v", auditLatency+auditMore)
	servers := map[string]audit.Stall{fast: {Latency: auditLatency}, slow: {Latency: auditLatency + auditMore}}
	order, err := plan.Blocks([]plan.Arm{{Name: fast, Blocks: auditBlocks, Double: true}, {Name: slow, Blocks: auditBlocks, Double: true}}, auditBlocks, a.seed)
	if err != nil {
		return nil, err
	}
	a.progress.start(3 * auditBlocks)
	var trials []record.Trial
	for b, block := range order {
		for i, slot := range block {
			a.progress.step("block %d of %d: %s", b+1, auditBlocks, slot.Arm)
			t, err := a.trial(ctx, servers[slot.Arm], record.Trial{
				ID: fmt.Sprintf("slower-b%02d-p%02d", b+1, i+1), Arm: slot.Arm, Block: b + 1, Position: i + 1, Duplicate: slot.Duplicate, Seed: plan.Seeds(a.seed, b, i),
			}, auditTrialTime)
			if err != nil {
				return nil, err
			}
			trials = append(trials, t)
		}
	}
	return audit.JudgeSlower(trials, fast, slow, auditMore), nil
}

// trial starts a stub in a process of its own, drives the load generator's process at it, and puts the record on disk.
func (a *auditor) trial(ctx context.Context, server audit.Stall, t record.Trial, d time.Duration) (record.Trial, error) {
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	url, stop, err := startStub(ctx, self, server)
	if err != nil {
		return t, err
	}
	defer stop()
	job := agent.Job{
		URL: url, Body: `{"query":"{ok}"}`, Expected: audit.Answer, RPS: auditRPS, Duration: d, Arrival: agent.Poisson, Seed: t.Seed, MaxInFlight: rateMaxInFlight, Timeout: requestTimeout,
	}
	warm := job
	warm.Closed, warm.Duration, warm.MaxInFlight = true, 500*time.Millisecond, 4
	for _, j := range []agent.Job{warm, job} {
		in, err := json.Marshal(j)
		if err != nil {
			return t, err
		}
		cmd := exec.CommandContext(ctx, self, "agent")
		cmd.Stdin = bytes.NewReader(in)
		var said bytes.Buffer
		cmd.Stderr = &said
		text, err := cmd.Output()
		if err != nil {
			return t, fmt.Errorf("load generator: %w: %s", err, strings.TrimSpace(said.String()))
		}
		if j.Closed {
			continue
		}
		var result agent.Result
		if err := json.Unmarshal(text, &result); err != nil {
			return t, fmt.Errorf("load generator: its result: %w", err)
		}
		t.Scenario, t.Operation, t.Load, t.Contender, t.Tier = "audit", "stub", record.LoadRate, t.Arm, "target"
		t.Arrival, t.DurationNS, t.HDRLog = string(agent.Poisson), int64(d), t.ID+".hlog"
		log, err := trial.Alone(&t, &result)
		if err != nil {
			return t, err
		}
		if err := errors.Join(record.WriteJSON(filepath.Join(a.out, t.ID+".json"), t), record.WriteFile(filepath.Join(a.out, t.HDRLog), log)); err != nil {
			return t, err
		}
	}
	return t, nil
}

// startStub starts this program's hidden command stub and returns where it answers. It ends with its standard input, so
// with this program, whatever ends that.
func startStub(ctx context.Context, self string, server audit.Stall) (url string, stop func(), err error) {
	cmd := exec.CommandContext(ctx, self, "stub", "--latency", server.Latency.String(), "--stall", server.Stall.String(), "--every", server.Period.String())
	hold, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("stub: %w", err)
	}
	stop = func() {
		_ = hold.Close()
		_ = cmd.Wait()
	}
	var ready struct {
		URL string `json:"url"`
	}
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		stop()
		return "", nil, fmt.Errorf("stub: it ended before it listened: %w", err)
	}
	return ready.URL, stop, nil
}

// stubMain is a server whose response times are known by arithmetic, until its standard input ends or it is interrupted.
func stubMain(ctx context.Context, args []string, s streams) int {
	var server audit.Stall
	f := newFlags("stub", "[--latency D] [--stall D --every D]")
	f.DurationVar(&server.Latency, "latency", 0, "`D` before each answer")
	f.DurationVar(&server.Stall, "stall", 0, "`D` for which it stands still …")
	f.DurationVar(&server.Period, "every", 0, "… at the start of each `D`")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	if server.Latency < 0 || server.Stall < 0 || server.Period < 0 || server.Stall > server.Period {
		return fail(ctx, s, "stub", fmt.Errorf("--latency %v --stall %v --every %v: none may be negative, and a stall is at most as long as its period", server.Latency, server.Stall, server.Period))
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fail(ctx, s, "stub", err)
	}
	running := &http.Server{Handler: server.Handler(time.Now()), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- running.Serve(listener) }()
	_ = json.NewEncoder(s.Out).Encode(map[string]string{"url": "http://" + listener.Addr().String() + "/graphql"})
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, s.In)
		close(over)
	}()
	select {
	case <-ctx.Done():
	case <-over:
	case err := <-ended:
		return fail(ctx, s, "stub", err)
	}
	_ = running.Close()
	return exitOK
}

// same compares a contender with itself many times, each a comparison like any other, with records and report.
func (a *auditor) same(ctx context.Context, o revisions, comparisons int) ([]audit.Row, error) {
	arm, err := contender.Resolve(a.lab.contenders, o.arm)
	if err != nil {
		return nil, err
	}
	var arms []contender.Arm
	for _, suffix := range []string{claims.AtBase, claims.AtHead} {
		x := arm
		x.Name, x.Contender = x.Name+suffix, x.Contender+suffix
		arms = append(arms, x)
	}
	here := revision.Tree{Ref: "the working tree", Commit: "the working tree", Dir: a.lab.root}
	var verdicts []record.Verdict
	for n := range comparisons {
		a.progress.say("comparison %d of %d of %s with itself", n+1, comparisons, o.arm)
		dir := filepath.Join(a.out, fmt.Sprintf("same-%02d", n+1))
		if run, ok := auditedBefore(dir); ok {
			verdicts = append(verdicts, run.Verdicts...)
			continue
		}
		// Half a comparison is no part of one: its blocks were drawn from this seed, and are measured anew.
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		run, err := o.measure(ctx, a.lab, arms, []revision.Tree{here, here}, dir, plan.Seeds(a.seed, n, 0)>>32|1, map[string]bool{a.lab.root: true}, a.streams)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, run.Verdicts...)
	}
	return audit.JudgeSame(o.arm, verdicts), nil
}

// auditedBefore reads a comparison that an interrupted audit has whole.
func auditedBefore(dir string) (record.Run, bool) {
	saved, err := record.Open(dir)
	return saved.Run, err == nil && saved.Run.Complete && saved.Run.Method == record.Method
}
