// Package agent is the load generator: an open loop on vegeta/v12 whose latency counts from the intended send, so that
// a server that stalls cannot make its own stall disappear (wrk2, Tene: "coordinated omission"). It runs as a process
// of its own, so that it has its own CPUs and its own CPU account. Nothing else imports vegeta.
package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"lab/loadtest/internal/record"
	"net/url"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Job is what one attack does. It arrives as one JSON object on standard input.
type Job struct {
	URL         string            `json:"url"`
	Body        string            `json:"body"`   // sent as it is, by POST
	Header      map[string]string `json:"header"` // beside Content-Type and Accept
	RPS         float64           `json:"rps"`
	Duration    Duration          `json:"duration_ns"`
	Arrival     Arrival           `json:"arrival"`
	Seed        uint64            `json:"seed"`
	MaxInFlight uint64            `json:"max_in_flight"`
	// Closed asks for a closed loop instead: MaxInFlight clients, each sending its next request when the last is
	// answered. RPS, Arrival and Seed are ignored then, nothing is intended and so nothing can be late or unsent.
	Closed  bool     `json:"closed"`
	Timeout Duration `json:"timeout_ns"`
	// Expected is the answer that every body is compared with as a JSON value with the order of fields; empty: only
	// `errors` in the body are a failure.
	Expected string `json:"expected"`
	// Operations, where there are any, are mixed in place of Body and Expected.
	Operations []Operation `json:"operations,omitempty"`
	// CheckShare is the share of answers whose bodies are compared, drawn by Seed; 0: all. Of the others only status and
	// `errors` are looked at.
	CheckShare float64 `json:"check_share,omitempty"`
	// ClientDelay is what a link within the agent's process adds to each round trip to the target, as a network would; 0: none.
	ClientDelay Duration `json:"client_delay_ns,omitempty"`
	// ClientProbes are round trips by which is measured, before the attack, what such a link adds; 0: it is not measured.
	ClientProbes int `json:"client_probes,omitempty"`
	// OutcomeStep, where not 0, has the result say what became of the requests that were over in each step of that length.
	OutcomeStep Duration `json:"outcome_step_ns,omitempty"`
	// Processors is on how many CPUs the agent runs Go code at once; 0: on one while that is enough, see Tune.
	Processors int `json:"processors,omitempty"`
}

// Duration is a time.Duration that JSON carries as a number of nanoseconds.
type Duration = time.Duration

// Failed counts failures by kind. Every request that was sent and is not ok is in exactly one of them.
type Failed struct {
	Refused       uint64 `json:"refused"`
	Reset         uint64 `json:"reset"`
	Timeout       uint64 `json:"timeout"`
	Status        uint64 `json:"status"`
	GraphQLErrors uint64 `json:"graphql_errors"`
	WrongAnswer   uint64 `json:"wrong_answer"`
}

func (f *Failed) add(g Failed) {
	f.Refused += g.Refused
	f.Reset += g.Reset
	f.Timeout += g.Timeout
	f.Status += g.Status
	f.GraphQLErrors += g.GraphQLErrors
	f.WrongAnswer += g.WrongAnswer
}

// Total is the number of requests that failed.
func (f Failed) Total() uint64 {
	return f.Refused + f.Reset + f.Timeout + f.Status + f.GraphQLErrors + f.WrongAnswer
}

// Result is what one attack saw. offered = sent + unsent, and sent = ok + Σ failed_by, exactly.
type Result struct {
	Offered  uint64        `json:"offered"`
	Sent     uint64        `json:"sent"`
	Unsent   uint64        `json:"unsent"`
	OK       uint64        `json:"ok"`
	FailedBy Failed        `json:"failed_by"`
	Began    time.Time     `json:"began"`
	Elapsed  time.Duration `json:"elapsed_ns"` // from the start to the last answer
	// Compared is how many bodies were looked at as a whole, of requests that were answered with status 200.
	Compared uint64 `json:"compared"`
	// FirstFailure describes the first request that failed, for a person to read.
	FirstFailure string `json:"first_failure,omitempty"`
	// Of all requests that were sent, one histogram for each second of intended time; nanoseconds, three digits. Merged
	// they are the whole, without loss.
	ResponseSeconds Series `json:"response_seconds"` // from the intended send to the end of the answer
	ServiceSeconds  Series `json:"service_seconds"`  // from the true send
	SendLagSeconds  Series `json:"send_lag_seconds"` // from the intended to the true send
	// Operations has the same of each operation of a job that mixes several, in its order.
	Operations []OperationResult `json:"operations,omitempty"`
	// ClientOverhead is what the link of a job's ClientDelay was measured to add.
	ClientOverhead *record.FaultOverhead `json:"client_overhead,omitempty"`
	// Outcomes has what became of the requests that were over in each step of a job's OutcomeStep: together they are all, and
	// reach beyond the duration where a request was over later.
	Outcomes []Outcome `json:"outcomes,omitempty"`
	// CPUSeconds is user and system time of the agent itself.
	CPUSeconds float64 `json:"cpu_seconds"`
	// MemoryPeakBytes is the most that the agent's process has had resident since it began; 0 where the kernel does not
	// tell.
	MemoryPeakBytes int64 `json:"memory_peak_bytes"`
}

// OperationResult is one operation's part of a result; sent = ok + Σ failed_by.
type OperationResult struct {
	Name            string `json:"name"`
	Sent            uint64 `json:"sent"`
	OK              uint64 `json:"ok"`
	FailedBy        Failed `json:"failed_by"`
	FirstFailure    string `json:"first_failure,omitempty"`
	ResponseSeconds Series `json:"response_seconds"`
}

func (o *OperationResult) count(intended, response time.Duration, failed Failed, why string) {
	o.Sent++
	o.ResponseSeconds.record(intended, response)
	o.FailedBy.add(failed)
	if why == "" {
		o.OK++
	} else if o.FirstFailure == "" {
		o.FirstFailure = why
	}
}

func newResult(d time.Duration) *Result {
	return &Result{ResponseSeconds: newSeries(d), ServiceSeconds: newSeries(d), SendLagSeconds: newSeries(d)}
}

// Response has the response times of all seconds.
func (r *Result) Response() *hdr.Histogram { return r.ResponseSeconds.Merge() }

// Service has the service times of all seconds.
func (r *Result) Service() *hdr.Histogram { return r.ServiceSeconds.Merge() }

// SendLag has the send lags of all seconds.
func (r *Result) SendLag() *hdr.Histogram { return r.SendLagSeconds.Merge() }

// Check says what a job lacks, naming the field.
func (j *Job) Check() error {
	u, err := url.Parse(j.URL)
	switch {
	case err != nil:
		return fmt.Errorf("job: url: %w", err)
	case u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("job: url %q: expected http://HOST:PORT/PATH", j.URL)
	case j.Duration <= 0:
		return fmt.Errorf("job: duration_ns %d: must be positive", j.Duration)
	case j.Timeout <= 0:
		return fmt.Errorf("job: timeout_ns %d: must be positive", j.Timeout)
	case j.MaxInFlight == 0:
		return errors.New("job: max_in_flight 0: must be positive")
	case j.ClientDelay < 0:
		return fmt.Errorf("job: client_delay_ns %d: must not be negative", j.ClientDelay)
	case j.ClientProbes < 0 || j.ClientProbes > 0 && j.ClientDelay == 0:
		return fmt.Errorf("job: client_probes %d: must not be negative, and there must be a client_delay_ns", j.ClientProbes)
	case j.OutcomeStep < 0 || j.OutcomeStep > 0 && (j.Duration+j.Timeout)/j.OutcomeStep > maxOutcomes:
		return fmt.Errorf("job: outcome_step_ns %d: expected 0, or at most %d steps within the duration and the timeout", j.OutcomeStep, maxOutcomes)
	case j.Processors < 0:
		return fmt.Errorf("job: processors %d: must not be negative", j.Processors)
	}
	if _, err := newMix(j); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	if j.Closed {
		return nil
	}
	if _, err = NewSchedule(j.Arrival, j.RPS, j.Seed); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	return nil
}

// ReadJob reads exactly one job; an unknown field is an error that names it.
func ReadJob(r io.Reader) (Job, error) {
	var j Job
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return j, fmt.Errorf("job: %w", err)
	}
	return j, j.Check()
}
