// Package record is the on-disk format of a run: a folder with run.json, and trials/ with one JSON file and one HDR log
// for each trial. Field names carry their units. Every file is written under a temporary name, synced and renamed, so
// that a crash leaves whole files only.
package record

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"lab/loadtest/internal/locate"
)

// Format is the version of the format. A reader refuses a newer one.
const Format = 1

// Method is the version of how figures come about: it goes up when a change of the lab alone moves them. Runs of
// different methods are not compared. 2: the load generator's own transport, warm-up until steady. 3: the generator rests
// between two wake-ups and sends together what is due; the profile nightly has other lengths. 4: a contender's /metrics is
// read each second of a trial, at its own cost. 5: no warm-up where no load has a part in what decides; a worker's busy share is of
// the time by its own clock; the profile nightly's agent starts sooner in containers. 6: arms of one server that are compared are
// offered the same where each has a rate of its own; of a mix it is the deciding operation's silence that counts under a fault
// that is to be borne; ten thousand goroutines or tasks are started, before anything is handed over; Rust prepares its statements
// at once. 7: a benchmark command has the arm's CPUs; START is about master data's tables alone, and all servers open their pools
// meanwhile; a fault's failures are its own to the step in which the next is caused; the worker that is killed is the oldest; a
// closed loop's connections are open before it begins; what decides is asked first. 8: rust-per-core is built as rust-steal-counts
// is; an answer of Redis from before a change does not count.
const Method = 8

// Run is run.json.
type Run struct {
	Format   int       `json:"format"`
	Method   int       `json:"method,omitempty"` // 0 before it was recorded
	ID       string    `json:"id"`
	Profile  string    `json:"profile"`
	Evidence bool      `json:"evidence"` // false for smoke: figures of such a run prove nothing
	Command  []string  `json:"command"`  // repeats the run
	Seed     uint64    `json:"seed"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`    // zero before that: see UnderWay
	Complete bool      `json:"complete"` // false where the run was interrupted
	// Resumed has the times at which what a killed or interrupted run lacked was gone on with.
	Resumed []time.Time `json:"resumed,omitempty"`
	// Environment is what the engine said of the machine, the versions of the programs, and why some figures are null.
	Environment Environment  `json:"environment"`
	Conformance []Conformity `json:"conformance"`
	// Plan is that of the scenario library, of a benchmark or of an attack.
	Plan Plan `json:"plan"`
	// Scenarios are the others that were measured, in their order, each with its own plan.
	Scenarios []Scenario `json:"scenarios,omitempty"`
	// Outweighs is the claim of the scenario library; nil where not all of it was measured, or before it was recorded.
	Outweighs *Outweighs `json:"outweighs,omitempty"`
	Trials    []Trial    `json:"trials"`
	Verdicts  []Verdict  `json:"verdicts"`
	Warnings  []string   `json:"warnings"`
	// GeneratorCeilingRPS is the rate up to which the load generator keeps its schedule against a server that answers at
	// once (see Capacity); nil where it was not measured.
	GeneratorCeilingRPS *float64   `json:"generator_ceiling_rps,omitempty"`
	Capacities          []Capacity `json:"capacities,omitempty"`
}

// UnderWay tells whether a run has not ended, as far as its run.json says: that is written before the first trial,
// without trials, and again when the run ends in whatever way but a kill.
func (r *Run) UnderWay() bool { return r.Ended.IsZero() && !r.Complete }

// ProfileAttack is the profile of a run that attacked a target which is not one of the lab's own.
const ProfileAttack = "attack"

// ProfileRevisions is the profile of a run of one contender at two revisions (loadtest diff --base --head).
const ProfileRevisions = "revisions"

// Environment describes the machine and the programs.
type Environment struct {
	Engine             string            `json:"engine"`
	EngineVersion      string            `json:"engine_version,omitempty"` // of a container engine
	OS                 string            `json:"os"`
	Kernel             string            `json:"kernel"`
	Arch               string            `json:"arch"`
	CPUModel           string            `json:"cpu_model"`
	CPUs               []int             `json:"cpus"`
	Placement          map[string][]int  `json:"placement"` // role → CPUs
	CPUsShared         bool              `json:"cpus_shared"`
	MemoryBytes        int64             `json:"memory_bytes"`
	PostgreSQL         string            `json:"postgresql"`
	PostgreSQLSource   string            `json:"postgresql_source"`
	PostgreSQLSettings map[string]string `json:"postgresql_settings"`
	DataSize           string            `json:"data_size"`
	// MasterMiB is how much master data in bulk was added to the seeded data, whose digest is that without it.
	MasterMiB      int                        `json:"master_mib,omitempty"`
	DataDigest     string                     `json:"data_digest"`
	ContractDigest string                     `json:"contract_digest,omitempty"`  // of all that contract/ says; empty before it was recorded
	Contenders     map[string]json.RawMessage `json:"contenders"`                 // contender → what its program says of its versions
	Missing        map[string]string          `json:"missing"`                    // field → why it is null
	ImageSizeBytes map[string]int64           `json:"image_size_bytes,omitempty"` // contender → its image, layers shared with others included
	// FaultOverhead is what the fault proxy added, where one was in the way.
	FaultOverhead []FaultOverhead `json:"fault_overhead,omitempty"`
}

// Conformity says whether an arm was proven to answer as the contract asks, before anything was timed.
type Conformity struct {
	Arm        string `json:"arm"`
	Conformant bool   `json:"conformant"`
	Form       string `json:"form"` // "full" or "short"
	Digest     string `json:"digest"`
	// ServerDigest names the server alone: its sources, program and settings. Empty before it was recorded.
	ServerDigest string   `json:"server_digest,omitempty"`
	Findings     []string `json:"findings"`
	// Deviations are what the contender's manifest lists as its library's departures from the contract, each with where
	// the library's makers say so.
	Deviations []string `json:"deviations,omitempty"`
}

// Scenario is what a file of contract/scenarios said when the run began, and what was planned by it.
type Scenario struct {
	ID string `json:"id"`
	// Article is the article's own sentence; empty where the claim is this project's, or was recorded before it was.
	Article string `json:"article,omitempty"`
	Claim   string `json:"claim"`
	// About says what the scenario is for and what it does; empty of runs recorded before it was.
	About     string `json:"about,omitempty"`
	Operation string `json:"operation"`
	// Mix has the weights of what is sent, where that is not Operation alone; latencies that decide are those of Operation.
	Mix map[string]float64 `json:"mix,omitempty"`
	// OwnConnections has the operations of the mix that went over so many connections of their own.
	OwnConnections map[string]int `json:"own_connections,omitempty"`

	Arms  []string `json:"arms"`
	Loads []Load   `json:"loads"`
	// Connections are those of the closed loops, rising.
	Connections []int `json:"connections,omitempty"`
	// RateRPS is the common rate that the file sets, requests a second; 0: it follows from the pilot.
	RateRPS float64 `json:"rate_rps,omitempty"`
	// Share is that of what the weakest arm bore in the pilot which all were offered; 0: half of it, or a rate of another kind.
	Share float64 `json:"share,omitempty"`
	// OwnShare is the share of what each arm bore in the pilot that it was offered, in place of a common rate; 0: a common one.
	// Since Method 6 arms of one server that are compared with each other are offered what the weakest of them is.
	OwnShare float64 `json:"own_share,omitempty"`
	// Bench is the command that each server was asked after each trial at the common rate.
	Bench *BenchAsked `json:"bench,omitempty"`
	// Phases says that each server was asked, after each trial at the common rate, where the time of some requests went.
	Phases bool `json:"phases,omitempty"`
	// Staleness says that each server made some writes then, which were read back.
	Staleness bool `json:"staleness,omitempty"`
	// Profile says that each server's own profiler looked at the same requests in a closed loop.
	Profile bool `json:"profile,omitempty"`
	// DelaysNS has what the fault proxy added to each round trip on a way: "client", "database", "upstream", "redis".
	DelaysNS map[string]int64 `json:"delays_ns,omitempty"`
	// Faults are caused and taken back in each trial.
	Faults []PlannedFault `json:"faults,omitempty"`
	// BoundNS is what each arm's metric is held against where the rule is "within".
	BoundNS int64 `json:"bound_ns,omitempty"`
	// Metric decides, by the rule "differ", "equal" or "less" for each of the pairs, or "within" for each arm, whose pair is
	// with contract.Bound.
	Metric string      `json:"metric"`
	Rule   string      `json:"rule"`
	Pairs  [][2]string `json:"pairs"`
	// Baselines have, for an arm, another whose figure of the same block is taken off its own before pairs are compared.
	Baselines map[string]string `json:"baselines,omitempty"`
	Alpha     float64           `json:"alpha"`
	Margin    float64           `json:"margin"`
	// ChangedBy says in words what would change the verdict.
	ChangedBy string `json:"changed_by"`
	// FaultOverhead is what the fault proxy added, where delays were set.
	FaultOverhead []FaultOverhead `json:"fault_overhead,omitempty"`
	// GeneratorCeilingRPS is as that of the run, with this scenario's question.
	GeneratorCeilingRPS *float64 `json:"generator_ceiling_rps,omitempty"`
	// Absent are the arms that cannot be tested here, each with the reason; they have no trials.
	Absent map[string]string `json:"absent,omitempty"`
	Plan   Plan              `json:"plan"`
}

// Definition is what makes figures of a scenario comparable with those of another run: what is asked, at which rate if that
// is fixed, by trials of which length, over which delays.
func (s *Scenario) Definition() string {
	words := fmt.Sprintf("%s %v, loads %v, %g requests a second, trials of %v, delays %v", s.Operation, s.Mix, s.Loads, s.RateRPS, time.Duration(s.Plan.RateDurationNS), s.DelaysNS)
	if s.Share > 0 {
		words += fmt.Sprintf(", %g of what the weakest bears", s.Share)
	}
	if s.OwnShare > 0 {
		words += fmt.Sprintf(", %g of what arms bear", s.OwnShare)
	}
	if len(s.Connections) > 0 {
		words += fmt.Sprintf(", closed loops of %v", s.Connections)
	}
	if len(s.OwnConnections) > 0 {
		words += fmt.Sprintf(", own connections %v", s.OwnConnections)
	}
	for _, f := range s.Faults {
		words += ", " + f.String()
	}
	if s.Bench != nil {
		words += fmt.Sprintf(", bench %s of %v", s.Bench.Command, s.Bench.Sizes)
	}
	return words
}

// CeilingOf is the load generator's ceiling with a scenario's question, or nil.
func (r *Run) CeilingOf(scenario string) *float64 {
	if s := r.ScenarioNamed(scenario); s != nil {
		return s.GeneratorCeilingRPS
	}
	return r.GeneratorCeilingRPS
}

// ScenarioNamed is one of those that have a plan of their own, or nil.
func (r *Run) ScenarioNamed(id string) *Scenario {
	for i := range r.Scenarios {
		if r.Scenarios[i].ID == id {
			return &r.Scenarios[i]
		}
	}
	return nil
}

// MostConnections are those of the scenario's largest closed loop; 0: it has none.
func (s *Scenario) MostConnections() int {
	if len(s.Connections) == 0 {
		return 0
	}
	return slices.Max(s.Connections)
}

// PlanOf is the plan of a scenario's trials.
func (r *Run) PlanOf(scenario string) *Plan {
	if s := r.ScenarioNamed(scenario); s != nil {
		return &s.Plan
	}
	return &r.Plan
}

// Plan is what was decided before the first trial.
type Plan struct {
	Blocks      int            `json:"blocks"`
	FloorBlocks int            `json:"floor_blocks"`
	Repeats     int            `json:"repeats,omitempty"` // processes measured again at the end of their blocks, because the machine or the generator spoilt a trial
	RateRPS     float64        `json:"rate_rps"`          // the rate that all bear
	Order       [][]string     `json:"order"`             // arms of each block, in the order measured, repeats included
	Pilot       []PilotOutcome `json:"pilot"`
	// How long an arm is warmed up at most, and how long its trials take; 0 before it was recorded.
	WarmMostNS           int64 `json:"warm_most_ns,omitempty"`
	RateDurationNS       int64 `json:"rate_duration_ns,omitempty"`
	ThroughputDurationNS int64 `json:"throughput_duration_ns,omitempty"`
	// Power is what the plan can find, Percentiles what a trial at the common rate can tell; nil before they were recorded
	// and where no pair of arms is judged.
	Power       *Power              `json:"power,omitempty"`
	Percentiles []PlannedPercentile `json:"percentiles,omitempty"`
}

// Power is what a plan can find of a difference, by recorded noise (stats.Power). Ratios are those of the metric.
type Power struct {
	Metric string  `json:"metric"`
	Family int     `json:"family"` // pairs that Holm's correction goes over
	Alpha  float64 `json:"alpha"`
	Power  float64 `json:"power"` // the share of comparisons in which a difference is to be found
	// NoiseLogRatios are those of identical arms (A/A) in the published runs named; NoiseEngine is theirs.
	NoiseLogRatios []float64 `json:"noise_log_ratios"`
	NoiseRuns      []string  `json:"noise_runs"`
	NoiseEngine    string    `json:"noise_engine"`
	// DetectableRatio is the least that the plan's blocks find; null where they can decide nothing.
	DetectableRatio *float64 `json:"detectable_ratio"`
	Margin          float64  `json:"margin"`
	// BlocksForMargin is how many blocks find the margin; null where no number does that the exact test can count.
	BlocksForMargin *int `json:"blocks_for_margin"`
}

// PlannedPercentile says whether the requests planned for a trial at the common rate carry a percentile.
type PlannedPercentile struct {
	Name             string `json:"name"`
	RequestsPlanned  uint64 `json:"requests_planned"`
	RequestsRequired uint64 `json:"requests_required"`
	Carried          bool   `json:"carried"`
}

// PilotOutcome is what an arm did before the plan was fixed.
type PilotOutcome struct {
	Arm         string  `json:"arm"`
	CapacityRPS float64 `json:"capacity_rps"`
}

// Load names what a trial asks of the arm.
type Load string

// The kinds of load of a comparison; capacity.go has two more.
const (
	LoadRate       Load = "rate"       // open loop at the rate that all bear
	LoadThroughput Load = "throughput" // open loop beyond what the arm bears, so that it is always busy
	LoadClosed     Load = "closed"     // closed loop of Trial.Connections clients: nothing is intended, so nothing can be late
)

// Trial is one measurement of one arm.
type Trial struct {
	ID        string `json:"id"`
	Scenario  string `json:"scenario"`
	Operation string `json:"operation"`
	Load      Load   `json:"load"`
	Arm       string `json:"arm"`
	Contender string `json:"contender"`
	Tier      string `json:"tier"`
	Block     int    `json:"block"`
	Position  int    `json:"position"` // in the block, from 1
	// Duplicate marks the second trial of the block's A/A arm.
	Duplicate bool   `json:"duplicate"`
	Seed      uint64 `json:"seed"`
	Arrival   string `json:"arrival"`
	// Connections is how many clients of a closed loop each sent their next request when the last was answered; 0 in an open
	// loop.
	Connections int       `json:"connections,omitempty"`
	Began       time.Time `json:"began"`
	// DurationNS is the time in which requests were intended; ElapsedNS runs to the last answer.
	DurationNS int64 `json:"duration_ns"`
	ElapsedNS  int64 `json:"elapsed_ns"`

	// RateRPS is what the schedule was asked for; what came of its random arrivals is OfferedRPS.
	RateRPS     float64 `json:"rate_rps,omitempty"`
	Offered     uint64  `json:"offered"`
	OfferedRPS  float64 `json:"offered_rps"`
	AchievedRPS float64 `json:"achieved_rps"` // ok answers per second
	Sent        uint64  `json:"sent"`
	OK          uint64  `json:"ok"`
	Failed      uint64  `json:"failed"`
	Unsent      uint64  `json:"unsent"`
	FailedBy    Failed  `json:"failed_by"`
	// FirstFailure describes the first failure, for a person.
	FirstFailure string `json:"first_failure,omitempty"`

	LatencyP50NS  int64 `json:"latency_p50_ns"` // from the intended send
	LatencyP90NS  int64 `json:"latency_p90_ns"`
	LatencyP99NS  int64 `json:"latency_p99_ns"`
	LatencyP999NS int64 `json:"latency_p999_ns"`
	LatencyMaxNS  int64 `json:"latency_max_ns"`
	// LatencyP99MedianSecondNS is MedianSecond of the trial's whole seconds; absent where there is none.
	LatencyP99MedianSecondNS *int64 `json:"latency_p99_median_second_ns,omitempty"`
	ServiceP50NS             int64  `json:"service_p50_ns"` // from the true send
	ServiceP99NS             int64  `json:"service_p99_ns"`
	SendLagP99NS             int64  `json:"send_lag_p99_ns"`

	CPUSeconds            float64  `json:"cpu_seconds"`
	CPUUsPerRequest       *float64 `json:"cpu_us_per_request"` // null where nothing was answered
	DatabaseCPUSeconds    float64  `json:"database_cpu_seconds"`
	AgentCPUSeconds       float64  `json:"agent_cpu_seconds"`
	MemoryPSSPeakBytes    *int64   `json:"memory_pss_peak_bytes"`
	MemoryPSSEndBytes     *int64   `json:"memory_pss_end_bytes"`
	MemoryCgroupPeakBytes *int64   `json:"memory_cgroup_peak_bytes"`
	// MemoryPSSIdleBytes is after the first right answer and before any load.
	MemoryPSSIdleBytes *int64 `json:"memory_pss_idle_bytes,omitempty"`
	// Processes is how many of the contender lived at the trial's end; 0 where the engine cannot tell.
	Processes int `json:"processes,omitempty"`
	// ProcessesEnded is how many of the contender's have ended since its first right answer, of a trial without faults: such a trial is
	// void, and so are those after it in what is left.
	ProcessesEnded int `json:"processes_ended,omitempty"`
	// ColdStartNS runs from the program's start, of the process or of the container, to its first right answer.
	ColdStartNS          int64    `json:"cold_start_ns"`
	StatementsPerRequest *float64 `json:"statements_per_request"`
	// StatementsLeastPerRequest is the fewest that the contract lets the requests that were answered right take, by operation and by
	// the arm's settings, and StatementsMostPerRequest the most that it lets all take, each over the number of requests as
	// StatementsPerRequest is. They are there where the contract says it.
	StatementsLeastPerRequest *float64 `json:"statements_least_per_request,omitempty"`
	StatementsMostPerRequest  *float64 `json:"statements_most_per_request,omitempty"`
	VoluntarySwitches         int64    `json:"voluntary_switches"`
	InvoluntarySwitches       int64    `json:"involuntary_switches"`
	MachineStealShare         float64  `json:"machine_steal_share"` // of all CPU time meanwhile, taken by the hypervisor
	MachineOtherCPUSeconds    float64  `json:"machine_other_cpu_seconds"`
	// MachinePressureSeconds is for how long something on the machine was ready to run and had no CPU.
	MachinePressureSeconds *float64 `json:"machine_pressure_seconds,omitempty"`
	// CountedNS is the time between the two readings of the counters, which has start and end of the generator in it.
	CountedNS int64 `json:"counted_ns,omitempty"`
	// BusiestThreadCPUSeconds is the CPU time of the contender's busiest thread, which of a server with one event loop is
	// the loop's; PoolWaitSeconds adds up how long its statements waited for a connection, as it says itself.
	BusiestThreadCPUSeconds *float64 `json:"busiest_thread_cpu_seconds,omitempty"`
	PoolWaitSeconds         *float64 `json:"pool_wait_seconds,omitempty"`
	// NearGeneratorCeiling marks a trial whose rate is within 20 % of the generator's ceiling.
	NearGeneratorCeiling bool `json:"near_generator_ceiling,omitempty"`

	Bottleneck string  `json:"bottleneck"`
	Void       *string `json:"void"` // null, or why this trial is in no figure
	// Warm is how the process was warmed up before; nil where it was not, or (before method 2) was kept busy for a set time.
	Warm *Warm `json:"warm,omitempty"`
	// Nonconformant marks figures of an arm that was not proven equal (--allow-nonconformant).
	Nonconformant bool `json:"nonconformant"`
	// Parts are what each part of the run used during the trial: contender, database_primary, database_replica, upstream,
	// agent, redis, fault_proxy.
	Parts map[string]Part `json:"parts,omitempty"`
	// Compared is how many answers' bodies were compared as a whole; the others of status 200 only for `errors`.
	Compared uint64 `json:"compared,omitempty"`
	// Operations are those of a mix, each with its part of the requests. Their response times are in the HDR log, with tags.
	Operations []OperationFigures `json:"operations,omitempty"`
	// Faults are those that were caused in the trial, in their order; RecoveryNS is the longest of their times to recover,
	// see Faulted. Outcomes has what became of requests over time. They are there where the scenario has faults.
	Faults     []FaultOutcome `json:"faults,omitempty"`
	RecoveryNS *int64         `json:"recovery_ns,omitempty"`
	Outcomes   *Outcomes      `json:"outcomes,omitempty"`
	// Benched is what the arm's own benchmark commands printed after the trial, in the order of the scenario's sizes.
	Benched []Benched `json:"benched,omitempty"`
	// Phases are where the time of some more requests went, where the scenario asks for them.
	Phases *Phases `json:"phases,omitempty"`
	// Staleness is how soon some writes could be read, where the scenario asks for that.
	Staleness []Staleness `json:"staleness,omitempty"`
	// Profile is whose CPU time was sampled, where the scenario asks for it.
	Profile *Profile `json:"profile,omitempty"`
	// HDRLog is the trial's log of response times, beside its JSON file.
	HDRLog string `json:"hdr_log"`
	// RuntimeSeries is the file beside it with what the contender told of its runtime each second; empty where it told
	// nothing. Runtime is what is in it: set by whoever measured, and not read with the record.
	RuntimeSeries string         `json:"runtime_series,omitempty"`
	Runtime       *RuntimeSeries `json:"-"`
}

// PrimaryCPUUsPerRequest is the primary database's user and system time for each request sent, in µs; nil where it is not known.
func (t *Trial) PrimaryCPUUsPerRequest() *float64 {
	part, ok := t.Parts["database_primary"]
	if !ok || t.Sent == 0 {
		return nil
	}
	v := part.CPUSeconds * 1e6 / float64(t.Sent)
	return &v
}

// MaxStatementsMissing is the share of the fewest statements that a trial's record may lack. A server that works lacks none: what a
// request needs has been counted when it is answered. The share is for what the database's own account may lose, which forgets the
// statement that ran least where it has no room for another.
const MaxStatementsMissing = 0.005

// LacksStatements tells whether the database was asked less than the contract says that what was answered takes.
func (t *Trial) LacksStatements() bool {
	return t.StatementsPerRequest != nil && t.StatementsLeastPerRequest != nil &&
		*t.StatementsPerRequest < (1-MaxStatementsMissing)**t.StatementsLeastPerRequest
}

// StatementsBeside are how many statements beside those of requests a trial may have before it is told: connections are set up anew
// and listened on, and master data is read.
const StatementsBeside = 100

// ExceedsStatements tells whether the database was asked more than the contract says that requests may take.
func (t *Trial) ExceedsStatements() bool {
	return t.StatementsPerRequest != nil && t.StatementsMostPerRequest != nil &&
		(*t.StatementsPerRequest-(1+MaxStatementsMissing)**t.StatementsMostPerRequest)*float64(t.Sent) > StatementsBeside
}

// Process tells the contender's process that a trial was of from all others of its scenario: what was spoilt is measured again at a
// place of its own in its block's order, and what an interrupt cut off at the same place, by a process that started in another time.
type Process struct {
	Arm             string
	Block, Position int
	Duplicate       bool
	ColdStartNS     int64
}

// Process is that of the trial.
func (t *Trial) Process() Process {
	return Process{t.Arm, t.Block, t.Position, t.Duplicate, t.ColdStartNS}
}

// OperationNamed is an operation of the trial's mix, or nil.
func (t *Trial) OperationNamed(name string) *OperationFigures {
	for i := range t.Operations {
		if t.Operations[i].Operation == name {
			return &t.Operations[i]
		}
	}
	return nil
}

// OperationFigures is what became of one operation of a mix.
type OperationFigures struct {
	Operation     string `json:"operation"`
	Sent          uint64 `json:"sent"`
	OK            uint64 `json:"ok"`
	Failed        uint64 `json:"failed"`
	FailedBy      Failed `json:"failed_by"`
	FirstFailure  string `json:"first_failure,omitempty"`
	LatencyP50NS  int64  `json:"latency_p50_ns"`
	LatencyP90NS  int64  `json:"latency_p90_ns"`
	LatencyP99NS  int64  `json:"latency_p99_ns"`
	LatencyP999NS int64  `json:"latency_p999_ns"`
	LatencyMaxNS  int64  `json:"latency_max_ns"`
}

// Part is what one part of a run used during a trial. What the engine cannot tell is not there.
type Part struct {
	CPUSeconds float64 `json:"cpu_seconds"`
	// MemoryPSSPeakBytes is the highest of a reading each second for the contender, and one reading right after the trial
	// for the others, whose many processes take long to read.
	MemoryPSSPeakBytes *int64 `json:"memory_pss_peak_bytes,omitempty"`
	// MemoryCgroupPeakBytes is the highest since the part began, page cache included.
	MemoryCgroupPeakBytes *int64 `json:"memory_cgroup_peak_bytes,omitempty"`
	// ThrottledSeconds is for how long a quota kept it from running; the lab sets none.
	ThrottledSeconds *float64 `json:"throttled_seconds,omitempty"`
	// PressureSeconds is for how long some process of it was ready to run and had no CPU.
	PressureSeconds *float64 `json:"pressure_seconds,omitempty"`
	// RunDelaySeconds adds up for how long each of its threads was ready to run and had no CPU. It and the context switches
	// are of the threads that lived at the trial's end.
	RunDelaySeconds     *float64 `json:"run_delay_seconds,omitempty"`
	VoluntarySwitches   *int64   `json:"voluntary_switches,omitempty"`
	InvoluntarySwitches *int64   `json:"involuntary_switches,omitempty"`
}

// Failed counts failures by kind; see package agent.
type Failed struct {
	Refused       uint64 `json:"refused"`
	Reset         uint64 `json:"reset"`
	Timeout       uint64 `json:"timeout"`
	Status        uint64 `json:"status"`
	GraphQLErrors uint64 `json:"graphql_errors"`
	WrongAnswer   uint64 `json:"wrong_answer"`
}

// Add returns the sums.
func (f Failed) Add(g Failed) Failed {
	return Failed{f.Refused + g.Refused, f.Reset + g.Reset, f.Timeout + g.Timeout, f.Status + g.Status, f.GraphQLErrors + g.GraphQLErrors, f.WrongAnswer + g.WrongAnswer}
}

// Total is the number of requests that failed.
func (f Failed) Total() uint64 {
	return f.Refused + f.Reset + f.Timeout + f.Status + f.GraphQLErrors + f.WrongAnswer
}

// Warm is a warm-up by windows, which ends when the last ones agree (package trial says when they do).
type Warm struct {
	Windows   int   `json:"windows"`
	WindowNS  int64 `json:"window_ns"`
	Converged bool  `json:"converged"` // false: it ended because it may take no longer
	// RateDrift and CPUDrift are by how much the last windows differ in rate and in CPU per request: the largest less the
	// smallest, over their mean.
	RateDrift float64 `json:"rate_drift"`
	CPUDrift  float64 `json:"cpu_drift"`
}

// Verdict is one answer of a run.
type Verdict struct {
	ID       string    `json:"id"`
	Scenario string    `json:"scenario"`
	Metric   string    `json:"metric"`
	Arms     [2]string `json:"arms"`
	// Library are the two libraries of the claim Outweighs, whose ratio is held against that of the arms; else nil.
	Library    *[2]string `json:"library,omitempty"`
	Ratio      *float64   `json:"ratio"` // geometric mean over the blocks of the first arm's figure over the second's; of rule within the median of its figure over the bound
	RatioLow   *float64   `json:"ratio_low"`
	RatioHigh  *float64   `json:"ratio_high"` // 95 %
	Margin     float64    `json:"margin"`     // the effect, as a ratio, below which nobody would care
	Blocks     int        `json:"blocks"`
	P          *float64   `json:"p"`
	PHolm      *float64   `json:"p_holm"`
	NoiseFloor *float64   `json:"noise_floor"` // as a ratio: what identical arms differ by
	Verdict    string     `json:"verdict"`
	Reason     string     `json:"reason"`
}

// Check says where a trial's numbers contradict each other.
func (t *Trial) Check() error {
	switch {
	case t.Offered != t.Sent+t.Unsent:
		return fmt.Errorf("trial %s: offered %d is not sent %d + unsent %d", t.ID, t.Offered, t.Sent, t.Unsent)
	case t.Failed != t.FailedBy.Total():
		return fmt.Errorf("trial %s: failed %d is not the sum of failed_by, %d", t.ID, t.Failed, t.FailedBy.Total())
	case t.Sent != t.OK+t.Failed:
		return fmt.Errorf("trial %s: sent %d is not ok %d + failed %d", t.ID, t.Sent, t.OK, t.Failed)
	case t.Void == nil && t.LacksStatements():
		return fmt.Errorf("trial %s: statements_per_request %g is less than statements_least_per_request %g, and the trial is not void", t.ID, *t.StatementsPerRequest, *t.StatementsLeastPerRequest)
	case t.Compared > t.Sent:
		return fmt.Errorf("trial %s: compared %d is more than sent %d", t.ID, t.Compared, t.Sent)
	case t.LatencyP50NS > t.LatencyP90NS || t.LatencyP90NS > t.LatencyP99NS || t.LatencyP99NS > t.LatencyP999NS:
		return fmt.Errorf("trial %s: percentiles go down", t.ID)
	case t.Profile != nil && t.Profile.Samples < t.Profile.LoaderSamples+t.Profile.RuntimeSamples:
		return fmt.Errorf("trial %s: profile: samples %d are fewer than loader_samples %d and runtime_samples %d", t.ID, t.Profile.Samples, t.Profile.LoaderSamples, t.Profile.RuntimeSamples)
	case t.CPUUsPerRequest != nil && math.Abs(*t.CPUUsPerRequest*float64(t.Sent)-t.CPUSeconds*1e6) > 1e-6*t.CPUSeconds*1e6:
		return fmt.Errorf("trial %s: cpu_us_per_request %g is not cpu_seconds %g over sent %d", t.ID, *t.CPUUsPerRequest, t.CPUSeconds, t.Sent)
	}
	if err := t.checkStaleness(); err != nil {
		return err
	}
	if err := t.checkFaults(); err != nil {
		return fmt.Errorf("trial %s: %w", t.ID, err)
	}
	if len(t.Operations) == 0 {
		return nil
	}
	var sent, ok, failed uint64
	for _, o := range t.Operations {
		if o.Failed != o.FailedBy.Total() || o.Sent != o.OK+o.Failed {
			return fmt.Errorf("trial %s: operation %s: sent %d is not ok %d + failed %d, or failed is not the sum of failed_by", t.ID, o.Operation, o.Sent, o.OK, o.Failed)
		}
		sent, ok, failed = sent+o.Sent, ok+o.OK, failed+o.Failed
	}
	if sent != t.Sent || ok != t.OK || failed != t.Failed {
		return fmt.Errorf("trial %s: operations have sent %d, ok %d and failed %d, but the trial %d, %d and %d", t.ID, sent, ok, failed, t.Sent, t.OK, t.Failed)
	}
	return nil
}

// Folder is a run's folder.
type Folder struct {
	path string
	// made says that it was not there before.
	made bool
}

// ErrNotEmpty says that a folder for a new run holds something.
var ErrNotEmpty = errors.New("folder is not empty")

// CheckFree says whether a new run may have this folder, without making it: it must be empty or not there. A trials/ with
// nothing in it and files half written are what a run leaves that was killed before its first trial, and count as nothing.
func CheckFree(path string) error {
	entries, err := used(path)
	if len(entries) == 1 && entries[0].IsDir() && entries[0].Name() == "trials" {
		entries, err = used(filepath.Join(path, "trials"))
	}
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: %w", path, ErrNotEmpty)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// halfWritten are names that WriteFile gives to what it has not finished.
var halfWritten = regexp.MustCompile(`^\..+\.(json|hlog|html|md|svg|png)\.[0-9]+$`)

// used lists a folder without what is half written.
func used(path string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(path)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Type().IsRegular() && halfWritten.MatchString(e.Name()) }), err
}

// Create makes the folder of a new run. An existing folder must be empty: a run never overwrites another.
func Create(path string) (Folder, error) {
	if err := CheckFree(path); err != nil {
		return Folder{}, err
	}
	_, err := os.Stat(path)
	made := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(filepath.Join(path, "trials"), 0o755); err != nil {
		return Folder{}, fmt.Errorf("make the run's folder: %w", err)
	}
	return Folder{path, made}, nil
}

// RemoveUnused removes the folder of a run that came to nothing; what holds anything stays.
func (f Folder) RemoveUnused() {
	_ = os.Remove(filepath.Join(f.path, "trials"))
	if f.made {
		_ = os.Remove(f.path)
	}
}

// Path is where the folder is.
func (f Folder) Path() string { return f.path }

// WriteTrial writes a trial and its HDR log; when it returns, both are on disk.
func (f Folder) WriteTrial(t Trial, hdrLog []byte) error {
	if err := t.Check(); err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(f.path, "trials", t.HDRLog), hdrLog); err != nil {
		return err
	}
	if err := f.writeRuntime(t); err != nil {
		return err
	}
	return WriteJSON(filepath.Join(f.path, "trials", t.ID+".json"), t)
}

// WriteRun writes run.json.
func (f Folder) WriteRun(r Run) error {
	b, err := encode(r)
	if err != nil {
		return err
	}
	if err := Validate(b); err != nil {
		return err
	}
	return WriteFile(filepath.Join(f.path, "run.json"), b)
}

// ReadRun reads and checks run.json of a folder. What is damaged, or contradicts the rest of it, is named.
func ReadRun(path string) (Run, error) {
	file := filepath.Join(path, "run.json")
	b, err := os.ReadFile(file)
	if err != nil {
		return Run{}, err
	}
	if err := Validate(b); err != nil {
		return Run{}, fmt.Errorf("%s: %w", file, err)
	}
	var r Run
	if err := json.Unmarshal(b, &r); err != nil {
		return Run{}, fmt.Errorf("%s: %w", file, err)
	}
	if r.Format > Format {
		return Run{}, fmt.Errorf("%s: format %d is newer than this program, which knows %d", file, r.Format, Format)
	}
	for i := range r.Trials {
		if err := r.Trials[i].Check(); err != nil {
			return Run{}, fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := r.check(); err != nil {
		return Run{}, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

//go:embed run.schema.json
var schemaText []byte

// SchemaText is the JSON Schema of run.json.
func SchemaText() []byte { return bytes.Clone(schemaText) }

// Validate checks the text of a run.json against the JSON Schema.
func Validate(text []byte) error {
	if err := validate(text, runSchema); err != nil {
		return fmt.Errorf("not a run: %w", err)
	}
	return nil
}

// compile makes a validator of the schema at a place of run.schema.json.
func compile(place string) (*jsonschema.Schema, error) {
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText))
	if err != nil {
		return nil, fmt.Errorf("run.schema.json: %w", err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("run.schema.json", schema); err != nil {
		return nil, fmt.Errorf("run.schema.json: %w", err)
	}
	compiled, err := c.Compile(place)
	if err != nil {
		return nil, fmt.Errorf("run.schema.json: %w", err)
	}
	return compiled, nil
}

var (
	runSchema     = sync.OnceValues(func() (*jsonschema.Schema, error) { return compile("run.schema.json") })
	trialSchema   = sync.OnceValues(func() (*jsonschema.Schema, error) { return compile("run.schema.json#/$defs/Trial") })
	runtimeSchema = sync.OnceValues(func() (*jsonschema.Schema, error) { return compile("run.schema.json#/$defs/RuntimeSeries") })
)

// validate checks a text against a schema.
func validate(text []byte, schema func() (*jsonschema.Schema, error)) error {
	compiled, err := schema()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("not JSON: %w", locate.JSONError(text, err))
	}
	if err := compiled.Validate(value); err != nil {
		return brokenAt(text, err)
	}
	return nil
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func WriteJSON(path string, v any) error {
	b, err := encode(v)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return WriteFile(path, b)
}

// WriteFile writes a file whole or not at all: under a temporary name, synced and renamed.
func WriteFile(path string, b []byte) (err error) {
	dir, name := filepath.Split(path)
	if strings.ContainsAny(name, "/\\") || name == "" {
		return fmt.Errorf("%q is no file name", name)
	}
	f, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	// The new name is on disk only when its folder is.
	folder, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
