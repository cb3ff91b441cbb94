package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/reference"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trial"
)

// headerFlags collects --header NAME: VALUE.
type headerFlags map[string]string

func (h headerFlags) String() string { return "" }

func (h headerFlags) Set(text string) error {
	name, value, found := strings.Cut(text, ":")
	if name = strings.TrimSpace(name); !found || name == "" {
		return fmt.Errorf("%q: expected NAME: VALUE", text)
	}
	h[name] = strings.TrimSpace(value)
	return nil
}

// attackMain drives the lab's load generator at a target of the user's own.
func attackMain(ctx context.Context, args []string, s streams) int {
	job := agent.Job{Header: map[string]string{}}
	f := newFlags("attack", "--url URL (--rate N | --closed N) --duration D (--body FILE… | --mix FILE) [flags]")
	f.StringVar(&job.URL, "url", "", "`URL` of the target, http://…; asked by POST")
	f.Float64Var(&job.RPS, "rate", 0, "`N` requests a second, whatever the target does (open loop)")
	clients := f.Uint64("closed", 0, "`N` clients that each wait for an answer before they ask again (closed loop)")
	f.DurationVar(&job.Duration, "duration", 0, "`D` in which requests are intended, such as 30s")
	var bodies bodyFlags
	f.Var(&bodies, "body", "`FILE` sent as it is, as application/json; - is standard input. Given again, or as FILE=WEIGHT, the files are mixed by weight")
	mixPath := f.String("mix", "", "`FILE` with weighted operations, drawn variables and answers, in place of --body and --expected (docs/METHODOLOGY.md)")
	expectedFile := f.String("expected", "", "`FILE` with the GraphQL answer that every body must equal as JSON, order of fields included")
	f.Var(headerFlags(job.Header), "header", "`NAME: VALUE` of a further header; may be given again")
	arrival := f.String("arrival", string(agent.Poisson), "`NAME`: poisson or constant")
	database := f.String("answers-from", "", "`URL` of a database of the lab's (serve prints it): what every request must give is derived from it by SQL")
	f.Float64Var(&job.CheckShare, "check-share", 1, "`SHARE` of answers whose bodies are compared with what is expected")
	f.Uint64Var(&job.Seed, "seed", 0, "`N` for arrivals, operations and variables (default: a new one, recorded)")
	f.DurationVar(&job.Timeout, "timeout", requestTimeout, "`D` after which a request has failed")
	f.Uint64Var(&job.MaxInFlight, "max-in-flight", rateMaxInFlight, "`N` requests under way at most in an open loop; the others wait, and that counts")
	f.IntVar(&job.Processors, "processors", 0, "`N` CPUs on which the generator runs at once (default: one up to 10000/s, while that is enough)")
	own := f.Bool("i-own-this-target", false, "allow a target that is not on this machine's loopback")
	out := f.String("out", "", "`DIR` for the records (default results/local/DATE-attack)")
	asJSON := f.Bool("json", false, "print the trial's record instead of a table")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	cannot := func(err error) int { return fail(ctx, s, "attack", err) }
	switch {
	case job.URL == "":
		return cannot(errors.New("--url is needed"))
	case (job.RPS != 0) == (*clients != 0):
		return cannot(errors.New("--rate N for an open loop or --closed N for a closed one: one of the two is needed"))
	case job.Duration <= 0:
		return cannot(fmt.Errorf("--duration %v: how long to attack must be given, and positive", job.Duration))
	case len(bodies) == 0 && *mixPath == "":
		return cannot(errors.New("--body FILE or --mix FILE is needed"))
	case *mixPath != "" && (len(bodies) > 0 || *expectedFile != ""):
		return cannot(errors.New("--mix FILE has bodies and answers in it: --body and --expected do not go with it"))
	case *database != "" && *expectedFile != "":
		return cannot(errors.New("--answers-from and --expected are two sources of one answer: one of the two is expected"))
	case bodies.mixed() && *expectedFile != "":
		return cannot(errors.New("--expected FILE is the answer to one body; the answers of several belong into --mix FILE"))
	case !(job.CheckShare > 0 && job.CheckShare <= 1):
		return cannot(fmt.Errorf("--check-share %g: expected a share above 0, up to 1", job.CheckShare))
	}
	if *clients > 0 {
		job.Closed, job.MaxInFlight = true, *clients
	}
	job.Arrival = agent.Arrival(*arrival)
	var err error
	operation := "mix"
	switch {
	case *mixPath != "":
		if job.Operations, err = readMix(*mixPath); err != nil {
			return cannot(fmt.Errorf("--mix: %w", err))
		}
	case bodies.mixed():
		if job.Operations, err = bodies.operations(s); err != nil {
			return cannot(err)
		}
	default:
		if job.Body, err = readInput(bodies[0].path, s); err != nil {
			return cannot(fmt.Errorf("--body: %w", err))
		}
		if operation = operationName(bodies[0].path); bodies[0].path == "-" {
			operation = "request"
		}
	}
	if *expectedFile != "" {
		if job.Expected, err = readInput(*expectedFile, s); err != nil {
			return cannot(fmt.Errorf("--expected: %w", err))
		}
		if _, err := reference.ParseExpected([]byte(job.Expected)); err != nil {
			return cannot(fmt.Errorf("--expected %s: no GraphQL answer: %w", *expectedFile, err))
		}
	}
	if *database != "" {
		if err := answersFrom(ctx, *database, &job); err != nil {
			return cannot(fmt.Errorf("--answers-from: %w", err))
		}
	}
	if job.Seed == 0 {
		job.Seed = 1 + rand.Uint64N(1<<32)
	}
	if err := job.Check(); err != nil {
		return cannot(err)
	}
	asked, _ := url.Parse(job.URL) // Check has parsed it
	if err := aim(ctx, &job, *own); err != nil {
		return cannot(err)
	}
	began := time.Now().UTC()
	if *out == "" {
		root, err := findRoot()
		if err != nil {
			root = "" // an attack needs no repository: beside where it is called, then
		}
		*out = localRun(root, began, "attack")
	}
	folder, err := record.Create(*out)
	if err != nil {
		return cannot(fmt.Errorf("--out: %w", err))
	}
	defer folder.RemoveUnused()

	run, result, log, err := attack(ctx, job, asked.Host, operation, folder, s)
	if result == nil {
		return cannot(err)
	}
	run.ID, run.Command = filepath.Base(*out), append([]string{"loadtest"}, repeatAttack(args, job.Seed)...)
	t := run.Trials[0]
	if saved := errors.Join(folder.WriteTrial(t, log), folder.WriteRun(run)); saved != nil {
		return cannot(errors.Join(err, saved))
	}
	if *asJSON {
		_ = json.NewEncoder(s.Out).Encode(t)
	} else {
		fmt.Fprint(s.Out, summary.Text(run))
	}
	fmt.Fprintf(s.Err, "records: %s\n", folder.Path())
	if err == nil {
		err = reportAfter(ctx, folder.Path(), s)
	}
	if err != nil {
		return cannot(err)
	}
	if t.Void != nil {
		return exitNo // no figure came of it
	}
	return exitOK
}

// repeatAttack is the command with its seed.
func repeatAttack(args []string, seed uint64) []string {
	out := append([]string{"attack"}, args...)
	for _, a := range args {
		if name, _, _ := strings.Cut(strings.TrimLeft(a, "-"), "="); name == "seed" {
			return out
		}
	}
	return append(out, "--seed", fmt.Sprint(seed))
}

func readInput(file string, s streams) (string, error) {
	if file == "-" {
		var b strings.Builder
		_, err := bufio.NewReader(s.In).WriteTo(&b)
		return b.String(), err
	}
	b, err := os.ReadFile(file)
	return string(b), err
}

// aim resolves the target's name once and for all, so that load goes where it was looked at: to loopback only, unless
// the user vouches for the target.
func aim(ctx context.Context, job *agent.Job, own bool) error {
	u, err := url.Parse(job.URL)
	if err != nil {
		return err
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, u.Hostname())
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	for _, a := range addresses {
		if !a.IP.IsLoopback() && !own {
			return fmt.Errorf("--url %s is %s, which is not this machine's loopback: load at a machine of somebody else is an attack; --i-own-this-target says that it is yours", job.URL, a.IP)
		}
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	address := net.JoinHostPort(addresses[0].IP.String(), port)
	// A name may stand for two addresses of which one listens.
	for _, a := range addresses {
		candidate := net.JoinHostPort(a.IP.String(), port)
		dialer := net.Dialer{Timeout: time.Second}
		if c, err := dialer.DialContext(ctx, "tcp", candidate); err == nil {
			_ = c.Close()
			address = candidate
			break
		}
	}
	if address != u.Host {
		if _, given := job.Header["Host"]; !given {
			job.Header["Host"] = u.Host
		}
		u.Host = address
		job.URL = u.String()
	}
	return nil
}

// attack runs the job, showing how it goes, and gives the run's record without what the command line knows.
func attack(ctx context.Context, job agent.Job, target, operation string, folder record.Folder, s streams) (record.Run, *agent.Result, []byte, error) {
	load := record.LoadRate
	what := string(job.Arrival)
	if job.Closed {
		load, what = record.LoadThroughput, "closed"
	}
	t := record.Trial{
		ID: "attack", Scenario: "attack", Operation: operation, Load: load, Arm: target, Contender: target, Tier: "target", Block: 1, Position: 1,
		Seed: job.Seed, Arrival: what, DurationNS: int64(job.Duration), HDRLog: "attack.hlog",
	}
	hits, err := os.Create(filepath.Join(folder.Path(), "attack.vegeta"))
	if err != nil {
		return record.Run{}, nil, nil, err
	}
	buffer := bufio.NewWriterSize(hits, 1<<16)
	write, writeErr := agent.VegetaResults(buffer, operation)
	live := newLive(job, newProgress(s.Err))
	began := time.Now().UTC()
	restore := agent.Tune(job)
	result, err := agent.AttackWatched(ctx, job, reference.CompareJSON, func(h agent.Hit) { write(h); live.hit(h) })
	restore()
	live.end()
	if closed := errors.Join(writeErr(), buffer.Flush(), hits.Close()); closed != nil {
		err = errors.Join(err, fmt.Errorf("attack.vegeta: %w", closed))
	}
	if result == nil {
		_ = os.Remove(hits.Name())
		return record.Run{}, nil, nil, err
	}
	log, recordErr := trial.Alone(&t, result)
	if recordErr != nil {
		return record.Run{}, nil, nil, errors.Join(err, recordErr)
	}
	if ctx.Err() != nil {
		interrupted := "interrupted"
		t.Void = &interrupted
	}
	const notOurs = "the target is not the lab's, so its processes are not known"
	cpus, _ := host.AllowedCPUs()
	run := record.Run{
		Format: record.Format, Method: record.Method, Profile: record.ProfileAttack, Evidence: true, Seed: job.Seed, Began: began, Ended: time.Now().UTC(), Complete: err == nil,
		Environment: record.Environment{
			Engine: "none", OS: host.OperatingSystem(), Kernel: host.KernelRelease(), Arch: runtime.GOARCH, CPUModel: host.CPUModel(), CPUs: cpus,
			Placement: map[string][]int{}, CPUsShared: true, MemoryBytes: host.MemoryBytes(), PostgreSQLSettings: map[string]string{}, Contenders: map[string]json.RawMessage{},
			Missing: map[string]string{
				"cpu_us_per_request": notOurs, "memory_pss_peak_bytes": notOurs, "memory_pss_end_bytes": notOurs, "memory_cgroup_peak_bytes": notOurs,
				"statements_per_request": notOurs, "bottleneck": notOurs,
			},
		},
		Conformance: []record.Conformity{}, Verdicts: []record.Verdict{}, Warnings: []string{},
		Plan:   record.Plan{Blocks: 1, RateRPS: job.RPS, Order: [][]string{{t.Arm}}, Pilot: []record.PilotOutcome{}},
		Trials: []record.Trial{t},
	}
	return run, result, log, err
}

// live says each second how the attack goes.
type live struct {
	job      agent.Job
	progress *progress
	mu       sync.Mutex
	ok       uint64
	failed   uint64
	answered uint64         // in the last second
	second   *hdr.Histogram // response times that came in since the last line
	began    time.Time
	done     chan struct{}
	over     sync.WaitGroup
}

func newLive(job agent.Job, p *progress) *live {
	l := &live{job: job, progress: p, second: hdr.New(1000, int64(100*time.Second), 3), began: time.Now(), done: make(chan struct{})}
	l.over.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-l.done:
				return
			case <-tick.C:
				l.say()
			}
		}
	})
	return l
}

func (l *live) hit(h agent.Hit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered++
	if h.Failure == "" {
		l.ok++
	} else {
		l.failed++
	}
	_ = l.second.RecordValue(min(max(int64(h.Response), 0), int64(100*time.Second)))
}

func (l *live) say() {
	l.mu.Lock()
	defer l.mu.Unlock()
	ms := func(q float64) float64 { return float64(l.second.ValueAtQuantile(q)) / 1e6 }
	asked := fmt.Sprintf("%d clients", l.job.MaxInFlight)
	if !l.job.Closed {
		asked = fmt.Sprintf("offered %.0f/s", l.job.RPS)
	}
	l.progress.line("%.0f of %.0f s: %s, answered %d/s, p50 %.1f ms, p99 %.1f ms; %d right, %d failed so far",
		time.Since(l.began).Seconds(), l.job.Duration.Seconds(), asked, l.answered, ms(50), ms(99), l.ok, l.failed)
	l.answered = 0
	l.second.Reset()
}

func (l *live) end() {
	close(l.done)
	l.over.Wait()
	l.progress.end()
}
