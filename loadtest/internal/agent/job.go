// Package agent is the load generator: an open loop on vegeta/v12 whose latency counts from the intended send, so that
// a server that stalls cannot make its own stall disappear (wrk2, Tene: "coordinated omission"). It runs as a process
// of its own, so that it has its own CPUs and its own CPU account. Nothing else imports vegeta.
package agent

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	// FirstFailure describes the first request that failed, for a person to read.
	FirstFailure string `json:"first_failure,omitempty"`
	// Response times from the intended send, of all requests that were sent, one histogram for each second of intended
	// time; nanoseconds, three digits. Merged they are the whole, without loss.
	Seconds []*Histogram `json:"seconds"`
	Service *Histogram   `json:"service"`  // from the true send
	SendLag *Histogram   `json:"send_lag"` // from the intended to the true send
	// CPUSeconds is user and system time of the agent itself.
	CPUSeconds float64 `json:"cpu_seconds"`
}

// Response merges the histograms of all seconds.
func (r *Result) Response() *hdr.Histogram {
	all := newHistogram().Histogram
	for _, s := range r.Seconds {
		all.Merge(s.Histogram)
	}
	return all
}

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

// Histogram is an HDR histogram of nanoseconds that JSON carries in the V2 compressed encoding of HdrHistogram,
// base64.
type Histogram struct{ *hdr.Histogram }

// From 1 µs to 100 s in three significant digits: a relative error of at most 0.1 %.
const (
	histogramLowest  = int64(time.Microsecond)
	histogramHighest = int64(100 * time.Second)
	histogramDigits  = 3
)

func newHistogram() *Histogram {
	return &Histogram{hdr.New(histogramLowest, histogramHighest, histogramDigits)}
}

func (h *Histogram) record(d time.Duration) {
	// Clamped, never dropped: a lost value would break offered = sent + unsent.
	_ = h.RecordValue(min(max(int64(d), 0), histogramHighest))
}

// MarshalJSON encodes the histogram.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	b, err := h.Encode(hdr.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, err
	}
	return json.Marshal(string(b))
}

// UnmarshalJSON decodes the histogram.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	// The library panics on some damaged input, so what can be checked is checked before.
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(raw) < 8 {
		return errors.New("histogram: not an encoded HDR histogram")
	}
	z, err := zlib.NewReader(bytes.NewReader(raw[8:]))
	if err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	if _, err := io.Copy(io.Discard, z); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	decoded, err := hdr.Decode([]byte(s))
	if err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	h.Histogram = decoded
	return nil
}
