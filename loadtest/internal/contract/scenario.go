package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"lab/loadtest/internal/locate"
)

// Scenario is one file of scenarios/: the claim that it tests and the rule that decides.
type Scenario struct {
	// ID is the file's stem.
	ID string `yaml:"id"`
	// Article is the article's own sentence; empty where the claim is this project's.
	Article string `yaml:"article"`
	// Claim is what of it is put to the test.
	Claim string `yaml:"claim"`
	// About is the prose that the file opens with, below the first line, which is the claim in other words.
	About string `yaml:"-"`
	// Arms are compared; which exist is for the contenders to say.
	Arms []string `yaml:"arms"`
	// Operation is a name in operations/.
	Operation string `yaml:"operation"`
	// Mix, where there is one, has the weight of each operation that is sent, Operation among them; latencies that decide are
	// those of Operation.
	Mix map[string]float64 `yaml:"mix"`
	// OwnConnections has the operations of the mix whose requests go over so many connections of their own.
	OwnConnections map[string]int `yaml:"own_connections"`
	// Load are the kinds of trial for each process: "rate", "throughput", "closed".
	Load []string `yaml:"load"`
	// Connections are those of the closed loops, one trial each, rising.
	Connections []int `yaml:"connections"`
	// RateRPS is the common rate, requests a second; 0: a share of what arms bore in the pilot.
	RateRPS float64 `yaml:"rate_rps"`
	// Share is that of what the weakest arm bore in the pilot at which all are asked; 0: half of it.
	Share float64 `yaml:"share"`
	// OwnShare, where it is set, replaces the common rate: each arm is offered this share of what it bore itself in the pilot;
	// of one server the arms that are compared with each other are offered the same, by the weakest of them.
	OwnShare float64 `yaml:"own_share"`
	// Duration is the least time of a trial at the common rate, for a percentile that needs more requests than a profile's
	// trials have, or for Faults; 0: the profile's.
	Duration Span `yaml:"duration"`
	// Faults are caused and taken back in each trial, in their order.
	Faults []Fault `yaml:"faults"`
	// Delays are what the fault proxy adds to each round trip on a way, of DelayWays.
	Delays map[string]Delay `yaml:"delays"`
	// Bench, where there is one, is a command of each server that is run after each trial at the common rate.
	Bench *Bench `yaml:"bench"`
	// Phases has each server asked, after each trial at the common rate, where the time of some requests went.
	Phases bool `yaml:"phases"`
	// Staleness has each server make some writes, after each trial at the common rate, and tell how soon they can be read.
	Staleness bool `yaml:"staleness"`
	// Profile has each server's own profiler look at the same requests in a closed loop, after each trial at the common rate.
	Profile bool `yaml:"profile"`
	// Metric decides. It has its unit in its name.
	Metric string `yaml:"metric"`
	// Rule says what is claimed of each pair: "differ", "equal" (within the margin), or "less" (the first has less of the
	// metric than the second); or of each arm: "within" (it has less than Bound).
	Rule string `yaml:"rule"`
	// Bound is what the arms' metric is held against where the rule is "within"; else 0.
	Bound Span `yaml:"bound"`
	// Baselines have, for an arm that is compared, another whose figure of the same block is taken off its own, so that what
	// decides is the growth from the one to the other.
	Baselines map[string]string `yaml:"baselines"`
	// Pairs are what is compared; none: every two of the arms, in their order, for a rule without direction.
	Pairs [][]string `yaml:"pairs"`
	// Outweighs, of the library alone, is its claim.
	Outweighs *Outweighs `yaml:"outweighs"`
	// Alpha is the chance of a false verdict; Margin, a ratio above 1, is the effect below which nobody would care.
	Alpha  float64 `yaml:"alpha"`
	Margin float64 `yaml:"margin"`
	// ChangedBy says in words what would change the verdict.
	ChangedBy string `yaml:"changed_by"`
}

// Delay is a time as Go writes it, such as 20ms.
type Delay time.Duration

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (d *Delay) UnmarshalYAML(text []byte) error {
	v, err := time.ParseDuration(strings.Trim(strings.TrimSpace(string(text)), `"'`))
	if err != nil || v <= 0 || v > longestDelay {
		return fmt.Errorf("%q: expected a time with its unit, up to %v, as in 20ms", strings.TrimSpace(string(text)), longestDelay)
	}
	*d = Delay(v)
	return nil
}

const longestDelay = 10 * time.Second

// The ways on which a scenario may set a delay: that of the requests themselves, from the client to the contender, and from
// that to the database (primary and replica), to the quote service and to Redis.
const (
	WayClient   = "client"
	WayDatabase = "database"
	WayUpstream = "upstream"
	WayRedis    = "redis"
)

// DelayWays are all of them.
var DelayWays = []string{WayClient, WayDatabase, WayUpstream, WayRedis}

// Rules of a scenario.
const (
	RuleDiffer = "differ"
	RuleEqual  = "equal"
	RuleLess   = "less"
	RuleWithin = "within"
)

var scenarioRules = []string{RuleDiffer, RuleEqual, RuleLess, RuleWithin}

// Compared are the pairs that the rule is about.
func (s Scenario) Compared() [][2]string {
	var out [][2]string
	for _, pair := range s.Pairs {
		out = append(out, [2]string{pair[0], pair[1]})
	}
	if out != nil {
		return out
	}
	if s.Rule == RuleWithin {
		for _, arm := range s.Arms {
			out = append(out, [2]string{arm, Bound})
		}
		return out
	}
	for i, a := range s.Arms {
		for _, b := range s.Arms[i+1:] {
			out = append(out, [2]string{a, b})
		}
	}
	return out
}

// AllScenarios is the name of every scenario.
const AllScenarios = "all"

// Named gives the scenarios of a comma-separated list of ids, in the order of all; an id that is none of them is an error.
func Named(all []Scenario, list string) ([]Scenario, error) {
	if list == AllScenarios {
		return slices.Clone(all), nil
	}
	wanted := map[string]bool{}
	var ids []string
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	for id := range strings.SplitSeq(list, ",") {
		id = strings.TrimSpace(id)
		if !slices.Contains(ids, id) {
			return nil, fmt.Errorf("%q: expected all, or of %s", id, strings.Join(ids, ", "))
		}
		wanted[id] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(s Scenario) bool { return !wanted[s.ID] }), nil
}

// ScenarioMetrics are those of a trial's record that a scenario may be decided by.
var ScenarioMetrics = []string{"cpu_us_per_request", "latency_p50_ns", "latency_p90_ns", "latency_p99_ns", "latency_p999_ns", "achieved_rps", "statements_per_request", "memory_pss_peak_bytes", MetricMedianSecond, MetricColdStart, "database_primary_cpu_us_per_request", MetricRecovery, MetricGrowth, MetricHandOver, MetricLoader}

// MetricColdStart is the time from a server's start to its first right answer.
const MetricColdStart = "cold_start_ns"

// Warmed tells whether a scenario's servers are warmed up before their trials: not where no load has a part in what decides.
// What a loader costs for a key (MetricLoader) is told by a process of its own too, but stands beside a profile of the server.
func (s Scenario) Warmed() bool { return s.Metric != MetricColdStart && s.Metric != MetricHandOver }

// MetricRecovery is the longest time, over a trial's faults, from a fault's end (its cause, of one that is to be borne) until all
// requests succeed again.
const MetricRecovery = "recovery_ns"

// MetricGrowth is how many times the right answers a second in the closed loop with the fewest connections those of the same process
// are in the one with the most.
const MetricGrowth = "achieved_rps_growth_ratio"

// MetricMedianSecond is the median of the p99 of the response times of each whole second of a trial: one second in which the machine
// stood still does not make it, as it makes the tail of the whole trial.
const MetricMedianSecond = "latency_p99_median_second_ns"

// FewestSeconds is how many whole seconds a trial has whose median second one of them alone does not make.
const FewestSeconds = 3

// scenarioAlpha is the chance of a false verdict that is accepted, in every scenario.
const scenarioAlpha = 0.05

var scenarioLoads = []string{"rate", "throughput", loadClosed}

const loadClosed = "closed"

// mostConnections is what one agent can keep open beside a server's own on a usual limit of files.
const mostConnections = 4096

// LoadScenarios reads every scenario of a contract's folder, in order of their names.
func LoadScenarios(c *Contract) ([]Scenario, error) {
	files, err := filepath.Glob(filepath.Join(c.Dir, "scenarios", "*"))
	if err != nil {
		return nil, err
	}
	var out []Scenario
	for _, file := range files {
		stem, isYAML := strings.CutSuffix(filepath.Base(file), ".yaml")
		if !isYAML || !operationName.MatchString(strings.ReplaceAll(stem, "-", "_")) {
			if filepath.Base(file) == "README.md" {
				continue
			}
			return nil, fmt.Errorf("%s: only files named ID.yaml and README.md belong here", file)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s, err := parseScenario(text)
		if err == nil && s.ID != stem {
			err = atKey(text, []string{"id"}, fmt.Sprintf("expected %q, as the file is named", stem))
		}
		if err == nil {
			if _, unknown := c.Operation(s.Operation); unknown != nil {
				err = atKey(text, []string{"operation"}, "expected the name of a folder in operations/")
			}
			for name := range s.Mix {
				if _, unknown := c.Operation(name); unknown != nil {
					err = atKey(text, []string{"mix", name}, "expected the name of a folder in operations/")
				}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// prose are the comments that a file begins with, from the second paragraph on, in one line.
func prose(text string) string {
	var words []string
	paragraph := 1
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !ok {
			break
		}
		if comment = strings.TrimSpace(comment); comment == "" {
			paragraph++
		} else if paragraph > 1 {
			words = append(words, comment)
		}
	}
	return strings.Join(words, " ")
}

// parseScenario reads one file; an error names line, key, value and what is expected.
func parseScenario(text []byte) (Scenario, error) {
	s := Scenario{About: prose(string(text))}
	if err := locate.DecodeYAML(text, &s, yaml.Strict()); err != nil {
		return s, err
	}
	for _, check := range []struct {
		key, expected string
		ok            bool
	}{
		{"id", "a name", s.ID != ""},
		{"claim", "a sentence", s.Claim != ""},
		{"arms", "at least two arms, or one and the rule within", len(s.Arms) >= 2 || len(s.Arms) == 1 && s.Rule == RuleWithin},
		{"operation", "the name of an operation", s.Operation != ""},
		{"load", fmt.Sprintf("some of %q", scenarioLoads), len(s.Load) > 0},
		{"rate_rps", "a rate above 0, requests a second", s.RateRPS >= 0 && s.RateRPS < 1e6},
		{"own_share", "a share between 0 and 1", s.OwnShare >= 0 && s.OwnShare < 1},
		{"own_share", "none beside rate_rps", s.OwnShare == 0 || s.RateRPS == 0},
		{"share", "a share between 0 and 1", s.Share >= 0 && s.Share < 1},
		{"share", "none beside rate_rps or own_share", s.Share == 0 || s.RateRPS == 0 && s.OwnShare == 0},
		{"connections", "numbers of connections, as the load has closed loops", (len(s.Connections) > 0) == slices.Contains(s.Load, loadClosed)},
		{"metric", fmt.Sprintf("one of %q", ScenarioMetrics), slices.Contains(ScenarioMetrics, s.Metric)},
		{"connections", "two numbers or more, between which something grows", s.Metric != MetricGrowth || len(s.Connections) > 1},
		{"duration", fmt.Sprintf("%ds or more, of whose seconds there is a median", FewestSeconds), s.Metric != MetricMedianSecond || time.Duration(s.Duration) >= FewestSeconds*time.Second},
		{"mix", "none, as what decides is of all requests", s.Metric != MetricMedianSecond || len(s.Mix) == 0},
		{"rule", fmt.Sprintf("one of %q", scenarioRules), slices.Contains(scenarioRules, s.Rule)},
		{"pairs", "pairs, since the rule says which of two has less", s.Rule != RuleLess || len(s.Pairs) > 0},
		{"changed_by", "a sentence", s.ChangedBy != ""},
		{"alpha", fmt.Sprintf("%g, which all rules have", scenarioAlpha), s.Alpha == scenarioAlpha},
		{"margin", "a ratio above 1, as in 1.05", s.Margin > 1 && s.Margin < 100},
	} {
		if !check.ok {
			return s, atKey(text, []string{check.key}, "expected "+check.expected)
		}
	}
	for i, arm := range s.Arms {
		if arm == "" || slices.Index(s.Arms, arm) != i {
			return s, atKey(text, []string{"arms", fmt.Sprint(i)}, "expected an arm that is not there already")
		}
	}
	if key, expected := s.Bench.check(s.Metric); expected != "" {
		return s, atKey(text, strings.Split(key, "."), "expected "+expected)
	}
	for i, load := range s.Load {
		if !slices.Contains(scenarioLoads, load) || slices.Index(s.Load, load) != i {
			return s, atKey(text, []string{"load", fmt.Sprint(i)}, fmt.Sprintf("expected some of %q, each once", scenarioLoads))
		}
	}
	if len(s.Mix) > 0 && s.Mix[s.Operation] == 0 {
		return s, atKey(text, []string{"operation"}, "expected one of the mix")
	}
	for name, weight := range s.Mix {
		if !(weight > 0 && weight <= 1e6) {
			return s, atKey(text, []string{"mix", name}, "expected a weight above 0")
		}
	}
	for name, n := range s.OwnConnections {
		if s.Mix[name] == 0 {
			return s, atKey(text, []string{"own_connections", name}, "expected an operation of the mix")
		}
		if n < 1 || n > mostConnections {
			return s, atKey(text, []string{"own_connections", name}, fmt.Sprintf("expected a number, 1 to %d", mostConnections))
		}
	}
	for i, n := range s.Connections {
		if n < 1 || n > mostConnections || i > 0 && n <= s.Connections[i-1] {
			return s, atKey(text, []string{"connections", fmt.Sprint(i)}, fmt.Sprintf("expected a number, 1 to %d, above those before", mostConnections))
		}
	}
	if s.Phases && (len(s.Mix) > 0 || !slices.Contains(s.Load, "rate")) {
		return s, atKey(text, []string{"phases"}, "expected trials of load rate and one operation, if phases are asked for")
	}
	if s.Staleness && (len(s.Faults) > 0 || !slices.Contains(s.Load, "rate")) {
		return s, atKey(text, []string{"staleness"}, "expected trials of load rate without faults, if writes are asked for")
	}
	if s.Profile && !slices.Contains(s.Load, "rate") {
		return s, atKey(text, []string{"profile"}, "expected trials of load rate, if a profile is asked for")
	}
	for way := range s.Delays {
		if !slices.Contains(DelayWays, way) {
			return s, atKey(text, []string{"delays", way}, fmt.Sprintf("expected some of %q", DelayWays))
		}
	}
	for arm, baseline := range s.Baselines {
		if !slices.Contains(s.Arms, arm) || !slices.Contains(s.Arms, baseline) || s.Baselines[baseline] != "" || arm == baseline || s.Rule == RuleWithin {
			return s, atKey(text, []string{"baselines", arm}, "expected for one of the arms another that has no baseline itself, in a rule about pairs")
		}
	}
	for i, pair := range s.Pairs {
		if len(pair) != 2 || pair[0] == pair[1] || !slices.Contains(s.Arms, pair[0]) || !slices.Contains(s.Arms, pair[1]) {
			return s, atKey(text, []string{"pairs", fmt.Sprint(i)}, "expected two of the arms")
		}
		if slices.ContainsFunc(s.Pairs[:i], func(other []string) bool { return slices.Contains(other, pair[0]) && slices.Contains(other, pair[1]) }) {
			return s, atKey(text, []string{"pairs", fmt.Sprint(i)}, "expected two that are not compared already")
		}
	}
	if path, expected := s.checkFaults(); path != nil {
		return s, atKey(text, path, "expected "+expected)
	}
	if path, expected := s.checkOutweighs(); path != nil {
		return s, atKey(text, path, "expected "+expected)
	}
	if needs := LoadsOf(s.Metric); !slices.ContainsFunc(s.Load, func(load string) bool { return slices.Contains(needs, load) }) {
		return s, atKey(text, []string{"metric"}, fmt.Sprintf("expected one that the load has; %s is measured by trials of load %s", s.Metric, strings.Join(needs, " or ")))
	}
	return s, nil
}

// LoadsOf are the kinds of trial that a metric may be taken from; of closed loops it is the one with the most connections, and
// where it grows the one with the fewest too.
func LoadsOf(metric string) []string {
	switch metric {
	case "achieved_rps":
		return []string{loadClosed, "throughput"}
	case MetricGrowth:
		return []string{loadClosed}
	}
	return []string{"rate"}
}

// Decides tells whether a metric is taken from a trial of a load, of a closed loop with so many connections of those that there are.
func Decides(metric, load string, connections int, of []int) bool {
	switch {
	case !slices.Contains(LoadsOf(metric), load):
		return false
	case load != loadClosed:
		return true
	}
	return len(of) > 0 && (connections == slices.Max(of) || metric == MetricGrowth && connections == slices.Min(of))
}

// atKey is an error about what stands under a key, or about its absence.
func atKey(text []byte, path []string, expected string) error {
	if place, ok := locate.YAML(text, path...); ok {
		return fmt.Errorf("%s: %s", place, expected)
	}
	return fmt.Errorf("key %q is missing: %s", strings.Join(path, "."), expected)
}
