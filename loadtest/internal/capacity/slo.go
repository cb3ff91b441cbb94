package capacity

import (
	"fmt"
	"strings"
	"time"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// SLO is a service level objective: a percentile of the response time, counted from the intended send, is under a limit,
// and no request fails.
type SLO struct {
	// Percentile is its name, such as "p99".
	Percentile string
	// Limit is what the percentile must be under.
	Limit time.Duration
}

// Default is the objective of a run that names none.
var Default = SLO{"p99", 100 * time.Millisecond}

type percentile struct {
	name     string
	quantile float64
	response func(record.Trial) int64 // nanoseconds
}

// percentiles are those that a trial's record has.
var percentiles = []percentile{
	{"p50", 0.5, func(t record.Trial) int64 { return t.LatencyP50NS }},
	{"p90", 0.9, func(t record.Trial) int64 { return t.LatencyP90NS }},
	{"p99", 0.99, func(t record.Trial) int64 { return t.LatencyP99NS }},
	{"p99.9", 0.999, func(t record.Trial) int64 { return t.LatencyP999NS }},
}

// ParseSLO reads an objective such as "p99=100ms": a percentile that records have, and a duration with its unit.
func ParseSLO(text string) (SLO, error) {
	name, limit, ok := strings.Cut(text, "=")
	if !ok {
		return SLO{}, fmt.Errorf("%q: expected PERCENTILE=DURATION, as in p99=100ms", text)
	}
	s := SLO{Percentile: name}
	if _, err := s.percentile(); err != nil {
		return SLO{}, err
	}
	d, err := time.ParseDuration(limit)
	if err != nil {
		return SLO{}, fmt.Errorf("%q: %q is no duration: expected a number with its unit, as in 100ms or 1.5s", text, limit)
	}
	if d <= 0 {
		return SLO{}, fmt.Errorf("%q: the limit must be positive", text)
	}
	s.Limit = d
	return s, nil
}

// String is the objective as ParseSLO reads it.
func (s SLO) String() string { return s.Percentile + "=" + s.Limit.String() }

// Words is the objective as a person reads it.
func (s SLO) Words() string { return fmt.Sprintf("%s under %v and no failure", s.Percentile, s.Limit) }

// Percentiles are the names that an objective may have.
func Percentiles() []string {
	var names []string
	for _, p := range percentiles {
		names = append(names, p.name)
	}
	return names
}

func (s SLO) percentile() (percentile, error) {
	for _, p := range percentiles {
		if p.name == s.Percentile {
			return p, nil
		}
	}
	return percentile{}, fmt.Errorf("percentile %q: expected one of %s", s.Percentile, strings.Join(Percentiles(), ", "))
}

// Requests is how many requests a trial needs for its percentile to mean anything.
func (s SLO) Requests() (uint64, error) {
	p, err := s.percentile()
	if err != nil {
		return 0, err
	}
	return stats.RequestsToCarry(p.quantile), nil
}

// TooSlow tells whether the service time alone, from the true send, is at the limit or above at the objective's percentile
// or a lower one. Then the server was too slow, however late the generator may have been.
func (s SLO) TooSlow(t record.Trial) bool {
	service := t.ServiceP50NS
	if s.Percentile == "p99" || s.Percentile == "p99.9" {
		service = max(service, t.ServiceP99NS)
	}
	return time.Duration(service) >= s.Limit
}

// Judge says whether the objective held in a trial. A failed request or a percentile at or above the limit is a failure of
// the objective. A trial that is void for another reason says nothing, and neither does one with too few requests for its
// percentile.
func (s SLO) Judge(t record.Trial) (Outcome, string) {
	p, err := s.percentile()
	if err != nil {
		return Void, err.Error()
	}
	response := time.Duration(p.response(t))
	switch {
	case t.Void != nil:
		return Void, *t.Void
	case t.Failed > 0:
		return Failed, fmt.Sprintf("%d of %d requests failed: %s", t.Failed, t.Sent, t.FirstFailure)
	case s.TooSlow(t):
		return Failed, fmt.Sprintf("%s was %.1f ms, and the service time alone is not under the limit", p.name, response.Seconds()*1e3)
	case !stats.Carries(p.quantile, t.Sent):
		return Void, fmt.Sprintf("%d requests do not carry %s", t.Sent, p.name)
	case response >= s.Limit:
		return Failed, fmt.Sprintf("%s was %.1f ms", p.name, response.Seconds()*1e3)
	}
	return Held, fmt.Sprintf("%s was %.1f ms", p.name, response.Seconds()*1e3)
}
