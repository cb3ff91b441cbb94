package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"golang.org/x/sys/unix"

	"lab/loadtest/internal/agent/transport"
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

	mu       sync.Mutex
	intended map[uint64]time.Duration // by sequence number, until the result comes
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
	at := p.schedule.At(hits)
	if at >= p.duration || elapsed > p.duration+grace {
		return 0, true
	}
	p.mu.Lock()
	p.intended[hits] = at
	p.mu.Unlock()
	p.alarm.sleepUntil(p.began, at)
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

// Attack runs one job to its end or until the context ends. Bodies are compared off the timing path: the latency of a
// request is final before its body is looked at.
func Attack(ctx context.Context, job Job, compare Compare) (*Result, error) {
	return AttackWatched(ctx, job, compare, nil)
}

// AttackWatched is Attack, told hit by hit.
func AttackWatched(ctx context.Context, job Job, compare Compare, watch Watch) (*Result, error) {
	return attack(ctx, job, compare, watch, leanClient)
}

func leanClient(job Job) *http.Client {
	return &http.Client{
		// The time limit is the transport's: http.Client's own costs a goroutine and a timer for each request.
		Transport: &transport.Transport{
			Timeout: job.Timeout, MaxIdle: idle(job), MaxHeaderBytes: maxHeaderBytes,
			ShareHeaders: true, // nobody here looks at them
		},
		CheckRedirect: useLastResponse,
	}
}

func stockClient(job Job) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: job.Timeout}).DialContext,
			MaxIdleConns:           idle(job),
			MaxIdleConnsPerHost:    idle(job),
			MaxResponseHeaderBytes: maxHeaderBytes,
			DisableCompression:     true,
		},
		Timeout: job.Timeout, CheckRedirect: useLastResponse,
	}
}

// maxHeaderBytes bounds what a target can make the agent keep of the head of an answer.
const maxHeaderBytes = 1 << 20

func useLastResponse(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func attack(ctx context.Context, job Job, compare Compare, watch Watch, newClient func(Job) *http.Client) (*Result, error) {
	if err := job.Check(); err != nil {
		return nil, err
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
	}
	target := targetOf(job)
	client := newClient(job)
	defer client.CloseIdleConnections()
	// vegeta starts another whenever all are busy. It hands requests to its workers in turn, so many of them would only
	// keep many stacks and connections cold.
	workers := min(2, job.MaxInFlight)
	if job.Closed {
		workers = job.MaxInFlight
	}
	// A new attacker per attack: a used one stops early.
	attacker := vegeta.NewAttacker(
		vegeta.Client(client), vegeta.Workers(workers), vegeta.MaxWorkers(job.MaxInFlight),
	)
	r := &Result{Offered: offered, Service: newHistogram(), SendLag: newHistogram()}
	for range int((job.Duration + time.Second - 1) / time.Second) {
		r.Seconds = append(r.Seconds, newHistogram())
	}
	judge := &judge{expected: []byte(job.Expected), compare: compare}
	stop := context.AfterFunc(ctx, func() { attacker.Stop() })
	defer stop()
	before := ownCPU()
	var enough gauge
	var last time.Time
	for hit := range attacker.Attack(target, p, 0, "") { // the pacer ends it

		intended := p.take(hit.Seq, hit.Timestamp)
		lag := hit.Timestamp.Sub(p.began) - intended
		enough.look(hit.Timestamp)
		r.Sent++
		r.Seconds[min(max(int(intended/time.Second), 0), len(r.Seconds)-1)].record(lag + hit.Latency)
		r.Service.record(hit.Latency)
		r.SendLag.record(lag)
		if end := hit.Timestamp.Add(hit.Latency); end.After(last) {
			last = end
		}
		why := judge.look(hit, &r.FailedBy)
		if why == "" {
			r.OK++
		} else if r.FirstFailure == "" {
			r.FirstFailure = why
		}
		if watch != nil {
			watch(Hit{
				Seq: hit.Seq, Began: p.began, Intended: intended, Sent: intended + lag, Response: lag + hit.Latency, Failure: why, Code: hit.Code,
				BytesOut: hit.BytesOut, BytesIn: hit.BytesIn, Method: hit.Method, URL: hit.URL,
			})
		}
	}
	r.CPUSeconds = (ownCPU() - before).Seconds()
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

func targetOf(job Job) vegeta.Targeter {
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/graphql-response+json"}}
	for k, v := range job.Header {
		header.Set(k, v)
	}
	return vegeta.NewStaticTargeter(vegeta.Target{Method: http.MethodPost, URL: job.URL, Body: []byte(job.Body), Header: header})
}

// judge sorts answers into right and the kinds of wrong.
type judge struct {
	expected []byte
	compare  Compare
	known    []byte // a body that compared equal: the same bytes again need no second look
}

// look counts a failure and describes it; "" where the answer is right.
func (j *judge) look(hit *vegeta.Result, failed *Failed) string {
	if hit.Code == 0 || (hit.Error != "" && hit.Code == http.StatusOK) {
		switch {
		case strings.Contains(hit.Error, "refused"):
			failed.Refused++
		case strings.Contains(hit.Error, "Client.Timeout"), strings.Contains(hit.Error, "timeout"), strings.Contains(hit.Error, "deadline"):
			failed.Timeout++
		default:
			failed.Reset++ // a connection that ended early, a body cut short
		}
		return hit.Error
	}
	if hit.Code != http.StatusOK {
		failed.Status++
		return fmt.Sprintf("status %d: %s", hit.Code, head(hit.Body))
	}
	if j.known != nil && bytes.Equal(hit.Body, j.known) {
		return ""
	}
	var answer struct {
		Errors json.RawMessage `json:"errors"`
	}
	if err := json.Unmarshal(hit.Body, &answer); err != nil {
		failed.WrongAnswer++
		return fmt.Sprintf("not JSON (%v): %s", err, head(hit.Body))
	}
	if len(j.expected) == 0 || j.compare == nil {
		if answer.Errors != nil {
			failed.GraphQLErrors++
			return "errors: " + head(answer.Errors)
		}
		return ""
	}
	if err := j.compare(j.expected, hit.Body); err != nil {
		if answer.Errors != nil {
			failed.GraphQLErrors++
			return "errors: " + head(answer.Errors)
		}
		failed.WrongAnswer++
		return err.Error()
	}
	j.known = bytes.Clone(hit.Body)
	return ""
}

func head(b []byte) string {
	if len(b) > 200 {
		return string(b[:200]) + "…"
	}
	return string(b)
}

func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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

// MainAs is Main with another sender.
func MainAs(ctx context.Context, sender Sender, stdin io.Reader, stdout, stderr io.Writer, compare Compare) int {
	run := func(job Job, newClient func(Job) *http.Client) (*Result, error) {
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
	result, err := attack(job)
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
