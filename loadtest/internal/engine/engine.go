// Package engine says what starts and stops things: databases, contenders, the stub service and the load generator.
// Package native does it with processes of this machine, package docker with containers; nothing here is particular to
// either.
//
// A caller makes one engine, asks it for a [Database], perhaps for the upstream [Service], starts contenders against them
// with [Engine.Contender], and runs the load generator with [Engine.Agent]. Whatever is left when the engine is closed is
// stopped then; whatever is left when the program is killed dies with it or is swept by the next run.
package engine

import (
	"context"
	"errors"
	"maps"
	"time"

	"lab/loadtest/internal/contender"
)

// Engine starts and stops things. Its methods may be called at the same time.
type Engine interface {
	// Name is "native" or "docker".
	Name() string
	// Describe says what the machine is, how its CPUs are shared out, and what cannot be measured here and why.
	Describe(ctx context.Context) (Description, error)
	// Database returns a freshly seeded primary with a streaming replica that has all of it.
	Database(ctx context.Context, spec DatabaseSpec) (Database, error)
	// Upstream starts the stub of the quote service and returns when it answers.
	Upstream(ctx context.Context, spec UpstreamSpec) (Service, error)
	// Redis starts a cache in memory with a password of its own, which is in the service's URL (redis://…).
	Redis(ctx context.Context) (Service, error)
	// Faults starts the fault proxy, for whoever asks for delays or faults. Without it nothing is in anybody's way.
	Faults(ctx context.Context) (FaultProxy, error)
	// Contender starts an arm and returns when its /readyz answers 200. An error carries the last lines of its log.
	Contender(ctx context.Context, spec ContenderSpec) (Contender, error)
	// Null starts a server that gives one answer to everything at once, in a contender's place and on a contender's CPUs:
	// against it a load generator shows its own ceiling.
	Null(ctx context.Context, spec NullSpec) (Contender, error)
	// Version asks an arm's program for its own version and its libraries'.
	Version(ctx context.Context, arm contender.Arm) (contender.Version, error)
	// Bench runs an arm's own benchmark command with these arguments, in a process of its own on the contenders' CPUs with
	// the arm's settings, and returns what it printed.
	Bench(ctx context.Context, arm contender.Arm, args []string) ([]byte, error)
	// Identity names the program that an arm would be started as, beyond its sources: what a proof of it holds for.
	Identity(ctx context.Context, arm contender.Arm) (string, error)
	// Agent runs the load generator (this program's hidden command "agent") on its CPUs against a contender of this
	// engine, which it reaches at [Contender.LoadURL]: the job on standard input, the result on standard output. It
	// returns when the agent ends; where ctx ends first, the agent is killed.
	Agent(ctx context.Context, against Contender, stdin []byte) (AgentResult, error)
	// Loopback says at which address a helper of this program has to listen for contenders, and at which one they reach
	// it: 127.0.0.1 where both are processes of one machine.
	Loopback() (listen, dial string)
	// Alive is an [ErrGone] where the engine can start nothing any more and tell of nothing, so that what was found
	// meanwhile says nothing about who was asked.
	Alive(ctx context.Context) error
	// Close stops what still runs and removes what was written. It may be called twice.
	Close(ctx context.Context) error
}

// DatabaseSpec says which data a database holds.
type DatabaseSpec struct {
	// Size is a name in contract/sql/sizes.json: small or standard.
	Size string
	// MasterMiB is how much master data in bulk it has at least; forks have what the seed makes.
	MasterMiB int
}

// UpstreamSpec says how the stub of the quote service behaves.
type UpstreamSpec struct {
	// Size is that of the data: items beyond it are unknown to the service.
	Size string
	// Latency is how long it waits before each answer.
	Latency time.Duration
}

// ContenderSpec says what to start and what to join it to.
type ContenderSpec struct {
	Arm contender.Arm
	// PrimaryURL and ReplicaURL are addresses of a [Database], of a [FaultLink] to it, or of a proxy before it that listens
	// where [Engine.Loopback] says.
	PrimaryURL, ReplicaURL string
	// UpstreamURL is the address of the quote service or of a [FaultLink] to it, or empty.
	UpstreamURL string
	// RedisURL is the address of Redis or of a [FaultLink] to it, or empty.
	RedisURL string
	// Environment is set last and so wins over the arm's.
	Environment map[string]string
	// ReadyTimeout is how long it may take to become ready; zero means a minute.
	ReadyTimeout time.Duration
}

// Join adds to a contender's environment what joins it to this run, the arm's settings and the caller's, each replacing those
// before. An arm that reads no replica is given none.
func (s ContenderSpec) Join(environment map[string]string) {
	replica := s.ReplicaURL
	if !s.Arm.ReadsReplica() {
		replica = ""
	}
	for name, value := range map[string]string{"DATABASE_URL": s.PrimaryURL, "DATABASE_REPLICA_URL": replica, "UPSTREAM_URL": s.UpstreamURL, "REDIS_URL": s.RedisURL} {
		if value != "" {
			environment[name] = value
		}
	}
	maps.Copy(environment, s.Arm.Environment)
	maps.Copy(environment, s.Environment)
	for _, name := range contender.EngineSettings {
		delete(environment, name)
	}
}

// Service is something that was started and answers at a URL.
type Service interface {
	// URL is the service's base address, reachable from the host, such as http://127.0.0.1:40123.
	URL() string
	Meter
	// Logs returns the last n lines that the service printed, the oldest first.
	Logs(n int) []string
	// Exited is closed when the service has ended, by itself or by Stop.
	Exited() <-chan struct{}
	// Stop asks the service to end, waits for as long as a graceful shutdown may take, and then insists. It returns an
	// error where the service had to be killed or ended with a status other than 0. It may be called twice.
	Stop(ctx context.Context) error
}

// Contender is a server under comparison.
type Contender interface {
	Service
	Arm() contender.Arm
	// GraphQLURL and MetricsURL are the addresses of /graphql and /metrics.
	GraphQLURL() string
	MetricsURL() string
	// LoadURL is the address of /graphql as the load generator reaches it, past whatever publishes it to others.
	LoadURL() string
	// Started is when the program was started; in an engine of containers, when the engine was asked to start one that
	// had been made before.
	Started() time.Time
	// ReadyAfter is the time from then to its first 200 at /readyz.
	ReadyAfter() time.Duration
}

// Meter tells what something costs.
type Meter interface {
	// Pids returns the processes that live now, the first one started first.
	Pids() []int
	// Usage reads the cumulative counters. It is cheap: call it at a trial's start and end and subtract.
	Usage(ctx context.Context) (Usage, error)
	// Memory reads the memory in use now. It costs the measured processes time: sample it seldom.
	Memory(ctx context.Context) (Memory, error)
}

// Usage is what a process tree has used since it began, ended children included.
type Usage struct {
	// CPU is user and system time together.
	CPU time.Duration
	// Throttled is for how long a quota kept it from running, Pressure for how long some of it was ready to run and had no
	// CPU; nil where the engine cannot tell.
	Throttled, Pressure *time.Duration
	// Threads are those that live now; nil where the engine cannot tell.
	Threads Threads
}

// Sub returns what was used between two readings. The account of children that have ended is cut to hundredths of a second, so
// where one ended in between there may seem to be a little less than before: that is nothing, and not less.
func (u Usage) Sub(earlier Usage) Usage {
	return Usage{
		CPU:       max(0, u.CPU-earlier.CPU),
		Throttled: both(u.Throttled, earlier.Throttled, func(a, b time.Duration) time.Duration { return a - b }),
		Pressure:  both(u.Pressure, earlier.Pressure, func(a, b time.Duration) time.Duration { return a - b }),
		Threads:   u.Threads.Sub(earlier.Threads),
	}
}

// Add returns what two parts have used together.
func (u Usage) Add(other Usage) Usage {
	return Usage{
		CPU:       u.CPU + other.CPU,
		Throttled: both(u.Throttled, other.Throttled, func(a, b time.Duration) time.Duration { return a + b }),
		Pressure:  both(u.Pressure, other.Pressure, func(a, b time.Duration) time.Duration { return a + b }),
		Threads:   u.Threads.Add(other.Threads),
	}
}

// both computes with two figures where both are known.
func both[T any](a, b *T, compute func(a, b T) T) *T {
	if a == nil || b == nil {
		return nil
	}
	result := compute(*a, *b)
	return &result
}

// Memory is what a process tree holds at one moment. What an engine cannot tell is nil; [Description.Missing] says why.
type Memory struct {
	// PSSBytes is the proportional set size: shared pages are counted in parts.
	PSSBytes *int64
	// CgroupPeakBytes is the highest memory of the cgroup since it began.
	CgroupPeakBytes *int64
}

// Add returns what two parts hold together, where both are known.
func (m Memory) Add(other Memory) Memory {
	add := func(a, b int64) int64 { return a + b }
	return Memory{PSSBytes: both(m.PSSBytes, other.PSSBytes, add), CgroupPeakBytes: both(m.CgroupPeakBytes, other.CgroupPeakBytes, add)}
}

// Database is a primary and a streaming replica of it, or one database on such servers.
//
// The URLs without Admin have the role lab: the owner of the tables, no superuser, who may read and reset
// pg_stat_statements on both servers and end backends. Those with Admin have a superuser, for tests that lock, cut and watch.
type Database interface {
	PrimaryURL() string
	ReplicaURL() string
	AdminPrimaryURL() string
	AdminReplicaURL() string
	// Size is the name of the data's size.
	Size() string
	// Primary and Replica are the meters of the two servers.
	Primary() Meter
	Replica() Meter
	// Meter covers both servers with all their backends.
	Meter
	// Logs returns the last n lines of the servers' logs, the primary's before the replica's, each with its server's name before it.
	Logs(n int) []string
	// Fork makes a further, freshly seeded database of that name on the same servers; the replica has it when Fork
	// returns. Stopping the fork drops it.
	Fork(ctx context.Context, name string) (Database, error)
	// WaitReplica returns when the replica has replayed all that the primary has written until now.
	WaitReplica(ctx context.Context) error
	// Restart stops both servers, which cuts all connections, and starts them again at the same addresses. Their usage
	// begins anew.
	Restart(ctx context.Context) error
	// Stop ends the servers and deletes their data; for a fork it drops that database.
	Stop(ctx context.Context) error
}

// AgentResult is what the load generator gave back.
type AgentResult struct {
	// MemoryCgroupPeakBytes is the highest memory of the agent's cgroup, other attacks on the same contender included.
	MemoryCgroupPeakBytes *int64
	// Stdout is the result as the agent printed it.
	Stdout []byte
	// Stderr is what it logged.
	Stderr []byte
	// CPU is the user and system time it took.
	CPU time.Duration
	// VoluntarySwitches and InvoluntarySwitches count its context switches; Throttled and Pressure are as in [Usage]. What
	// the engine cannot tell is nil.
	VoluntarySwitches, InvoluntarySwitches *int64
	Throttled, Pressure                    *time.Duration
}

// Description is the environment of a run.
type Description struct {
	Engine string `json:"engine"`
	// EngineVersion is that of the container engine with what figures may depend on, or empty.
	EngineVersion string `json:"engine_version"`
	OS            string `json:"os"`
	Kernel        string `json:"kernel"`
	Arch          string `json:"arch"`
	CPUModel      string `json:"cpu_model"`
	// CPUs are those this program may use.
	CPUs        []int     `json:"cpus"`
	Placement   Placement `json:"placement"`
	MemoryBytes int64     `json:"memory_bytes"`
	// PostgreSQL is the server's version, such as "15.18"; PostgreSQLSource is "local", or the package or image it came from.
	PostgreSQL       string `json:"postgresql"`
	PostgreSQLSource string `json:"postgresql_source"`
	// PostgreSQLSettings are those that differ from the defaults and bear on speed.
	PostgreSQLSettings map[string]string `json:"postgresql_settings"`
	// ImageSizeBytes is the size of each contender's image; empty in an engine without images.
	ImageSizeBytes map[string]int64 `json:"image_size_bytes"`
	// Missing says, for each figure that this engine or kernel cannot tell, the reason.
	Missing map[string]string `json:"missing"`
}

// ErrGone says that whatever the engine runs its parts with has ended or can no longer be reached.
var ErrGone = errors.New("the container engine no longer answers")

// ErrExited is returned by readings of something that has ended.
var ErrExited = errors.New("the process has ended")
