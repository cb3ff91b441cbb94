package contract

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// FaultKind is what a scenario causes while its trials are under load.
type FaultKind string

// The kinds of faults of a scenario. Adding one: a line in FaultTraits and what causes it in package trial.
const (
	// FaultBackendsKilled ends every connection of the contender on both databases (pg_terminate_backend).
	FaultBackendsKilled FaultKind = "backends_killed"
	// FaultDatabaseRestarted stops both databases and starts them again; it lasts for as long as that takes.
	FaultDatabaseRestarted FaultKind = "database_restarted"
	// FaultReplicaLost closes all connections to the replica and refuses new ones.
	FaultReplicaLost FaultKind = "replica_lost"
	// FaultConnectionsReset resets all connections to both databases, and new ones at their first bytes.
	FaultConnectionsReset FaultKind = "connections_reset"
	// FaultPacketsStalled holds whatever is sent between the contender and both databases, and lets it go at its end.
	FaultPacketsStalled FaultKind = "packets_stalled"
	// FaultUpstreamSlow adds a delay to each answer of the quote service.
	FaultUpstreamSlow FaultKind = "upstream_slow"
	// FaultRedisSlow adds a delay to each answer of Redis.
	FaultRedisSlow FaultKind = "redis_slow"
	// FaultRedisGone closes all connections to Redis and refuses new ones.
	FaultRedisGone FaultKind = "redis_gone"
	// FaultWorkerKilled kills (kill -9) one of the contender's processes that is not its first.
	FaultWorkerKilled FaultKind = "worker_killed"
)

// FaultTraits is what is particular to a kind of fault.
type FaultTraits struct {
	// Lasts says that it is taken back after a time that the file sets; else it is over when it was caused. Instant says
	// that causing it takes no time, so that what it does counts from then on.
	Lasts, Instant bool
	// Borne says that a server does its work without what is gone or slow, so that what it does counts from the fault's cause
	// on and not from its end.
	Borne bool
	// Delays says that the file sets by how much it delays.
	Delays bool
	// Ways are those of DelayWays that lead through the fault proxy for it.
	Ways []string
	// Words say it to a person.
	Words string
}

// FaultTraitsOf has the traits of every kind of fault.
var FaultTraitsOf = map[FaultKind]FaultTraits{
	FaultBackendsKilled:    {Instant: true, Words: "the database's backends killed"},
	FaultDatabaseRestarted: {Words: "the database restarted"},
	FaultReplicaLost:       {Lasts: true, Ways: []string{WayDatabase}, Words: "the replica lost"},
	FaultConnectionsReset:  {Lasts: true, Ways: []string{WayDatabase}, Words: "connections to the database reset"},
	FaultPacketsStalled:    {Lasts: true, Ways: []string{WayDatabase}, Words: "packets to and from the database stalled"},
	FaultUpstreamSlow:      {Lasts: true, Borne: true, Delays: true, Ways: []string{WayUpstream}, Words: "the quote service slow"},
	FaultRedisSlow:         {Lasts: true, Borne: true, Delays: true, Ways: []string{WayRedis}, Words: "Redis slow"},
	FaultRedisGone:         {Lasts: true, Borne: true, Ways: []string{WayRedis}, Words: "Redis gone"},
	FaultWorkerKilled:      {Instant: true, Words: "a worker process killed"},
}

// FaultKinds are all kinds, in order of their names.
func FaultKinds() []FaultKind {
	var out []FaultKind
	for kind := range FaultTraitsOf {
		out = append(out, kind)
	}
	slices.Sort(out)
	return out
}

// Fault is one fault of a scenario's trials.
type Fault struct {
	Kind FaultKind `yaml:"kind"`
	// At is when it is caused, from the trial's beginning.
	At Span `yaml:"at"`
	// Lasts is after how long it is taken back, for a kind that lasts.
	Lasts Span `yaml:"lasts"`
	// Delay is what a kind that delays adds to each round trip.
	Delay Delay `yaml:"delay"`
}

// counts is after which time, from its cause on, what a server does counts.
func (f Fault) counts(traits FaultTraits) Span {
	if traits.Borne {
		return 0
	}
	return f.Lasts
}

// Bound stands for the bound of a scenario in its pairs, where the rule is "within": what each arm is held against.
const Bound = "bound"

// Span is a length or a moment of a trial as Go writes a time, such as 14s.
type Span time.Duration

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (s *Span) UnmarshalYAML(text []byte) error {
	v, err := time.ParseDuration(strings.Trim(strings.TrimSpace(string(text)), `"'`))
	if err != nil || v <= 0 || v > longestSpan {
		return fmt.Errorf("%q: expected a time with its unit, up to %v, as in 14s", strings.TrimSpace(string(text)), longestSpan)
	}
	*s = Span(v)
	return nil
}

const longestSpan = 2 * time.Minute

// checkFaults says which key of a scenario's faults, or of what comes with them, is not as it should be, and what is expected.
func (s *Scenario) checkFaults() (path []string, expected string) {
	for i, f := range s.Faults {
		at := func(key string) []string { return []string{"faults", fmt.Sprint(i), key} }
		traits, known := FaultTraitsOf[f.Kind]
		until := s.Duration
		if i+1 < len(s.Faults) {
			until = s.Faults[i+1].At
		}
		switch {
		case !known:
			return at("kind"), fmt.Sprintf("one of %q", FaultKinds())
		case f.At <= 0:
			return at("at"), "when it is caused, from the trial's beginning, as in 2s"
		case traits.Lasts != (f.Lasts > 0):
			if traits.Lasts {
				return at("lasts"), "after how long it is taken back, as in 500ms"
			}
			return at("lasts"), fmt.Sprintf("nothing: %s is over when it was caused", f.Kind)
		case traits.Delays != (f.Delay > 0):
			if traits.Delays {
				return at("delay"), "what it adds to each round trip, as in 200ms"
			}
			return at("delay"), fmt.Sprintf("nothing: %s adds no delay", f.Kind)
		case traits.Borne && f.Lasts < s.Bound:
			return at("lasts"), fmt.Sprintf("at least the bound (%v), since what a server does counts from the fault's cause: else nothing could contradict the claim", time.Duration(s.Bound))
		case traits.Borne && traits.Delays && time.Duration(f.Delay) < time.Duration(s.Bound):
			return at("delay"), fmt.Sprintf("at least the bound (%v): a server that lets all wait for as long would be within it", time.Duration(s.Bound))
		case f.At+f.Lasts > until:
			return at("lasts"), "to be over before the next fault or the trial's end"
		case f.At+f.counts(traits)+2*s.Bound > until:
			return at("at"), fmt.Sprintf("at least twice the bound (%v) between its end (or its cause, of what a server is to bear) and the next fault or the trial's end, or nothing could contradict the claim", time.Duration(s.Bound))
		}
	}
	switch {
	case len(s.Faults) > 0 && s.Duration == 0:
		return []string{"duration"}, "that of a trial, which its faults need"
	case len(s.Faults) > 0 && !slices.Equal(s.Load, []string{"rate"}):
		return []string{"load"}, "[rate] alone, since faults are caused at a rate that is borne"
	case s.Metric == MetricRecovery && len(s.Faults) == 0:
		return []string{"faults"}, "some, since the metric is the time to recover from them"
	case s.Rule == RuleWithin && s.Metric != MetricRecovery:
		return []string{"rule"}, fmt.Sprintf("another, or metric %s, which is what a bound is of", MetricRecovery)
	case (s.Rule == RuleWithin) != (s.Bound > 0):
		return []string{"bound"}, "a time with rule within, and with no other"
	case s.Rule == RuleWithin && len(s.Pairs) > 0:
		return []string{"pairs"}, "none: each arm is held against the bound"
	case slices.Contains(s.Arms, Bound):
		return []string{"arms"}, fmt.Sprintf("none of the name %q, which is the bound's", Bound)
	}
	return nil, ""
}
