package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"golang.org/x/sys/unix"

	"lab/loadtest/internal/agent/transport"
	"lab/loadtest/internal/engine/faultproxy"
	"lab/loadtest/internal/record"
)

// Compare tells whether an answer is the one expected; nil is yes.
type Compare func(expected, got []byte) error

// pacer hands vegeta the schedule and keeps the intended time of every request that is under way, because vegeta
// stamps a request when a worker takes it up, which hides both the pacer's lag and the wait for a free worker.
type pacer struct {
	schedule *Schedule // nil: a closed loop
	duration time.Duration
	alarm    *alarm
	once     sync.Once
	began    time.Time
	// rest is the least time between two wake-ups, woke the last one, from the beginning; wakes counts them.
	rest, woke time.Duration
	wakes      int

	mu       sync.Mutex
	intended map[uint64]time.Duration // by sequence number, until the result comes
}

// Waking is most of what a request costs the generator where it has to wake for each. So it rests between two wake-ups, and
// sends what has become due meanwhile together: a little late, never early, and every send lag is in the record. The rest
// is in proportion to the rate, so that the share of requests that wait for it falls with the square of the rate: at 8,000
// requests a second four are sent at a time, at 500 it is 31 µs and one request in 64 waits for it.
const (
	longestRest = 500 * time.Microsecond
	restAtRPS   = 8000
)

// restOf is the rest of a schedule of that rate.
func restOf(rps float64) time.Duration {
	return time.Duration(min(1, rps/restAtRPS) * float64(longestRest))
}

// grace is how long after the end a request intended before it may still be sent. Beyond, it counts as unsent: a queue
// that grew over the whole attack is not sent to its end.
const grace = 100 * time.Millisecond

// Pace implements vegeta.Pacer. It sleeps by itself, since Go's timers wake in steps of a millisecond.
func (p *pacer) Pace(elapsed time.Duration, hits uint64) (time.Duration, bool) {
	p.once.Do(func() { p.began = time.Now().Add(-elapsed) })
	if p.schedule == nil {
		return 0, elapsed >= p.duration
	}
	// By the clock that lags are counted from: the caller's began before ours, if only by the time to get here.
	elapsed = time.Since(p.began)
	at := p.schedule.At(hits)
	if at >= p.duration || elapsed > p.duration+grace {
		return 0, true
	}
	p.mu.Lock()
	p.intended[hits] = at
	p.mu.Unlock()
	if at > elapsed {
		p.alarm.sleepUntil(p.began, max(at, p.woke+p.rest))
		p.woke = time.Since(p.began)
		p.wakes++
	}
	return 0, false
}

// Rate implements vegeta.Pacer.
func (p *pacer) Rate(time.Duration) float64 {
	if p.schedule == nil {
		return 0
	}
	return 1e9 / p.schedule.gap
}

// take returns when a request was intended; in a closed loop, when it was sent.
func (p *pacer) take(seq uint64, sent time.Time) time.Duration {
	if p.schedule == nil {
		return sent.Sub(p.began)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.intended[seq]
	delete(p.intended, seq)
	return at
}

// Attack runs one job to its end or until the context ends.
func Attack(ctx context.Context, job Job, compare Compare) (*Result, error) {
	return AttackWatched(ctx, job, compare, nil)
}

// AttackWatched is Attack, told hit by hit.
func AttackWatched(ctx context.Context, job Job, compare Compare, watch Watch) (*Result, error) {
	return attack(ctx, job, compare, watch, leanClient)
}

// clientMaker makes what sends a job's requests, and what vegeta is to ask it for.
type clientMaker func(job Job, m *mix) (*http.Client, vegeta.Targeter, error)

// leanClient sends by the lab's own transport.
func leanClient(job Job, m *mix) (*http.Client, vegeta.Targeter, error) {
	target := targetOf(job)
	req, err := target.Request()
	if err != nil {
		return nil, nil, fmt.Errorf("job: %w", err)
	}
	if u := req.URL.User; u != nil && req.Header.Get("Authorization") == "" { // as http.Client does, whose header would not be seen
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	body := func(asked *http.Request) []byte { return m.body(m.at(seqOf(asked))) }
	if m.constant() {
		only := m.body(draw{})
		body = func(*http.Request) []byte { return only }
	}
	prepared := true
	connections := func() http.RoundTripper {
		lean := &transport.Transport{
			// The time limit is the transport's: http.Client's own costs a goroutine and a timer for each request.
			Timeout: job.Timeout, MaxIdle: idle(job), MaxHeaderBytes: maxHeaderBytes,
			ShareHeaders: true, // nobody here looks at them
		}
		rt, err := lean.Prepare(req, body)
		if err != nil {
			prepared = false
			return &bodied{lean, body} // a header that needs more care than a prepared head takes
		}
		return rt
	}
	rt := apart(m, connections)
	if prepared {
		target.Header = nil // the prepared head has them, so vegeta need not copy them for each hit
	}
	return &http.Client{Transport: rt, CheckRedirect: useLastResponse}, vegeta.NewStaticTargeter(target), nil
}

// stockClient sends by net/http's transport.
func stockClient(job Job, m *mix) (*http.Client, vegeta.Targeter, error) {
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: job.Timeout}).DialContext,
			MaxIdleConns:           idle(job),
			MaxIdleConnsPerHost:    idle(job),
			MaxResponseHeaderBytes: maxHeaderBytes,
			DisableCompression:     true,
		},
		Timeout: job.Timeout, CheckRedirect: useLastResponse,
	}
	target := targetOf(job)
	if m.constant() {
		target.Body = m.body(draw{})
	} else {
		client.Transport = &bodied{client.Transport, func(asked *http.Request) []byte { return m.body(m.at(seqOf(asked))) }}
	}
	return client, vegeta.NewStaticTargeter(target), nil
}

// seqHeader is what vegeta tells the number of a request by.
const seqHeader = "X-Vegeta-Seq"

func seqOf(req *http.Request) uint64 {
	seq, _ := strconv.ParseUint(req.Header.Get(seqHeader), 10, 64) // vegeta has just written it
	return seq
}

// bodied gives requests their bodies.
type bodied struct {
	http.RoundTripper
	body func(asked *http.Request) []byte
}

// RoundTrip implements http.RoundTripper.
func (b *bodied) RoundTrip(asked *http.Request) (*http.Response, error) {
	body := b.body(asked)
	req := asked.Clone(asked.Context())
	req.Header.Del(seqHeader)
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.Body, _ = req.GetBody()
	return b.RoundTripper.RoundTrip(req)
}

// CloseIdleConnections closes those of the transport.
func (b *bodied) CloseIdleConnections() { closeIdle(b.RoundTripper) }

func closeIdle(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// connectAhead opens n connections of what can do so ahead of the requests.
func connectAhead(ctx context.Context, rt http.RoundTripper, n int) error {
	c, ok := rt.(interface {
		Connect(ctx context.Context, n int) error
	})
	if !ok {
		return nil
	}
	return c.Connect(ctx, n)
}

// maxHeaderBytes bounds what a target can make the agent keep of the head of an answer.
const maxHeaderBytes = 1 << 20

func useLastResponse(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func attack(ctx context.Context, job Job, compare Compare, watch Watch, newClient clientMaker) (*Result, error) {
	if err := job.Check(); err != nil {
		return nil, err
	}
	m, err := newMix(&job)
	if err != nil {
		return nil, fmt.Errorf("job: %w", err)
	}
	alarm, err := newAlarm()
	if err != nil {
		return nil, err
	}
	defer alarm.close()
	p := &pacer{duration: job.Duration, alarm: alarm, intended: map[uint64]time.Duration{}}
	var offered uint64
	if !job.Closed {
		if offered, err = CountWithin(job.Arrival, job.RPS, job.Seed, job.Duration); err != nil {
			return nil, err
		}
		if p.schedule, err = NewSchedule(job.Arrival, job.RPS, job.Seed); err != nil {
			return nil, err
		}
		p.rest = restOf(job.RPS)
	}
	client, target, err := newClient(job, m)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	if job.Closed {
		// Opening them is not what a closed loop is asked about, and of many connections would be a large part of a short one. Who
		// cannot open one here cannot in the attack either, where it is counted.
		_ = connectAhead(ctx, client.Transport, idle(job))
	}
	// vegeta starts another whenever all are busy. It hands requests to its workers in turn, so many of them would only
	// keep many stacks and connections cold.
	workers := uint64(1)
	if job.Closed {
		workers = job.MaxInFlight
	}
	// A new attacker per attack: a used one stops early.
	attacker := vegeta.NewAttacker(
		vegeta.Client(client), vegeta.Workers(workers), vegeta.MaxWorkers(job.MaxInFlight),
	)
	r := newResult(job.Duration)
	r.Offered = offered
	for _, o := range job.Operations {
		r.Operations = append(r.Operations, OperationResult{Name: o.Name, ResponseSeconds: newSeries(job.Duration)})
	}
	judge, became := newJudge(m, compare), newOutcomes(job)
	stop := context.AfterFunc(ctx, func() { attacker.Stop() })
	defer stop()
	before := ownCPU()
	var enough gauge
	var last time.Time
	for hit := range attacker.Attack(target, p, 0, "") { // the pacer ends it

		intended := p.take(hit.Seq, hit.Timestamp)
		lag := hit.Timestamp.Sub(p.began) - intended
		enough.look(hit.Timestamp)
		response, drawn := lag+hit.Latency, m.at(hit.Seq)
		r.Sent++
		r.ResponseSeconds.record(intended, response)
		r.ServiceSeconds.record(intended, hit.Latency)
		r.SendLagSeconds.record(intended, lag)
		if end := hit.Timestamp.Add(hit.Latency); end.After(last) {
			last = end
		}
		var failed Failed
		why, compared := judge.look(hit, drawn, m.compares(hit.Seq), &failed)
		r.FailedBy.add(failed)
		became.count(intended+response, drawn.operation, failed)
		if why == "" {
			r.OK++
		} else if r.FirstFailure == "" {
			r.FirstFailure = why
		}
		if compared {
			r.Compared++
		}
		if len(r.Operations) > 0 {
			r.Operations[drawn.operation].count(intended, response, failed, why)
		}
		if watch != nil {
			told := Hit{
				Seq: hit.Seq, Began: p.began, Intended: intended, Sent: intended + lag, Response: response, Failure: why, Code: hit.Code,
				BytesIn: hit.BytesIn, Method: hit.Method, URL: hit.URL, Operation: m.operations[drawn.operation].Name,
			}
			if hit.Code != 0 { // vegeta, which does not see the body, counts it where the answer was read to its end
				told.BytesOut = uint64(len(m.body(drawn)))
			}
			watch(told)
		}
	}
	if became != nil {
		r.Outcomes = became.steps
	}
	r.CPUSeconds = (ownCPU() - before).Seconds()
	r.MemoryPeakBytes = ownMemoryPeak()
	if job.Closed {
		r.Offered = r.Sent
	}
	r.Unsent = r.Offered - r.Sent
	r.Began = p.began
	if !last.IsZero() {
		r.Elapsed = last.Sub(p.began)
	}
	return r, ctx.Err()
}

// targetOf is a job's request without its body.
func targetOf(job Job) vegeta.Target {
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/graphql-response+json"}}
	for k, v := range job.Header {
		header.Set(k, v)
	}
	return vegeta.Target{Method: http.MethodPost, URL: job.URL, Header: header}
}

func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// forget gives back what a job left in memory, and begins its peak anew.
func forget() {
	debug.FreeOSMemory()
	// Where this cannot be written the peak is the highest of all jobs, and still true of the process.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// ownMemoryPeak is VmHWM. The peak of getrusage will not do: it includes that of the program which started this one.
func ownMemoryPeak() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscanf(after, "%d kB", &kib); err != nil {
		return 0
	}
	return kib << 10
}

// Sender names what sends an attack's requests.
type Sender string

// The lab's own is what measures; the others are there to be measured against.
const (
	SenderLab    Sender = "lab"
	SenderStock  Sender = "stock"  // the lab's agent with net/http's own transport
	SenderVegeta Sender = "vegeta" // vegeta's attacker with its defaults, without histograms and without a look at the answers
)

// Main is the agent's program: a job on stdin, its result on stdout, exit status 0, 2 or 130.
func Main(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, compare Compare) int {
	return MainAs(ctx, SenderLab, stdin, stdout, stderr, compare)
}

// MainOfEach is Main for one job after the other on stdin, each result on a line of its own, and each as if the process were
// new: nothing of the one before is in its memory. It ends with stdin, status 0, or at the first job that fails, with its status.
func MainOfEach(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, compare Compare) int {
	for jobs := json.NewDecoder(stdin); ; forget() {
		var job json.RawMessage
		switch err := jobs.Decode(&job); {
		case errors.Is(err, io.EOF):
			return 0
		case err != nil:
			fmt.Fprintf(stderr, "job: %v\n", err)
			return 2
		}
		if code := Main(ctx, bytes.NewReader(job), stdout, stderr, compare); code != 0 {
			return code
		}
	}
}

// MainAs is Main with another sender.
func MainAs(ctx context.Context, sender Sender, stdin io.Reader, stdout, stderr io.Writer, compare Compare) int {
	run := func(job Job, newClient clientMaker) (*Result, error) {
		defer Tune(job)()
		return attack(ctx, job, compare, nil, newClient)
	}
	switch sender {
	case SenderLab:
		return program(ctx, stdin, stdout, stderr, func(job Job) (*Result, error) { return run(job, leanClient) })
	case SenderStock:
		return program(ctx, stdin, stdout, stderr, func(job Job) (*Result, error) { return run(job, stockClient) })
	case SenderVegeta:
		return program(ctx, stdin, stdout, stderr, func(job Job) (*Result, error) { return attackVegeta(ctx, job) })
	}
	fmt.Fprintf(stderr, "sender %q: expected %s, %s or %s\n", sender, SenderLab, SenderStock, SenderVegeta)
	return 2
}

func program(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, attack func(Job) (*Result, error)) int {
	job, err := ReadJob(stdin)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	var overhead *record.FaultOverhead
	if job.ClientDelay > 0 {
		var end func()
		if overhead, end, err = delay(ctx, &job); err != nil {
			fmt.Fprintln(stderr, err)
			return 2
		}
		defer end()
	}
	result, err := attack(job)
	if result != nil {
		result.ClientOverhead = overhead
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if err := json.NewEncoder(stdout).Encode(result); err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if ctx.Err() != nil {
		return 130
	}
	return 0
}

// delay lays a job's link, turns its URL there, and measures what the link adds where that is asked for.
func delay(ctx context.Context, job *Job) (overhead *record.FaultOverhead, end func(), err error) {
	fail := func(err error) (*record.FaultOverhead, func(), error) {
		return nil, nil, fmt.Errorf("job: client_delay_ns %d: %w", job.ClientDelay, err)
	}
	if job.ClientProbes > 0 {
		measured, err := faultproxy.LocalOverhead(ctx, job.ClientDelay, job.ClientProbes)
		if err != nil {
			return fail(err)
		}
		overhead = &measured
	}
	u, err := url.Parse(job.URL)
	if err != nil {
		return fail(err)
	}
	address, end, err := faultproxy.Local(ctx, u.Host, job.ClientDelay)
	if err != nil {
		return fail(err)
	}
	u.Host = address
	job.URL = u.String()
	return overhead, end, nil
}
