package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// The values of TIER, MASTER and START that this server knows.
const (
	TierFloor      = "floor"
	TierMainstream = "mainstream"

	MasterMemory = "memory"
	MasterRedis  = "redis"
	MasterNone   = "none"

	StartConcurrent = "concurrent"
	StartSequential = "sequential"

	// ModelGoroutines is Go's one concurrency model: the runtime's scheduler runs goroutines on WORKERS threads.
	ModelGoroutines = "goroutines"
)

// Settings are everything the server takes from its environment.
type Settings struct {
	Host, Port     string
	ContractDir    string
	DatabaseURL    string
	ReplicaURL     string
	PoolSize       int32
	UpstreamURL    string
	RedisURL       string
	Tier           string
	Loader         bool
	Master         string
	MasterMB       int // master data in bulk that is kept in memory, MiB
	Start          string
	Model          string
	Workers        int // GOMAXPROCS; 0 leaves it to the runtime, which knows the cores allowed to the process
	RequestTimeout time.Duration
	GraphiQL       bool
	Profiler       bool
	LogLevel       slog.Level
	Limits         Limits
}

// Limits are the contract's limits.json.
type Limits struct {
	BodyBytes        int64  `json:"bodyBytes"`
	Tokens           int    `json:"tokens"`
	Depth            int    `json:"depth"`
	Aliases          int    `json:"aliases"`
	Cost             int64  `json:"cost"`
	PageSize         int32  `json:"pageSize"`
	RankingSize      int32  `json:"rankingSize"`
	BusinessDays     int32  `json:"businessDays"`
	RequestTimeout   string `json:"requestTimeout"`
	RequestsInFlight int64  `json:"requestsInFlight"`
	CachedDocuments  int    `json:"cachedDocuments"`
}

// mostMasterMB is the most that MASTER_MB may be.
const mostMasterMB = 1024

// Where the server listens unless told otherwise.
const (
	defaultHost = "127.0.0.1"
	defaultPort = 8080
)

// SettingsHelp lists the environment variables, for --help.
const SettingsHelp = `HOST                  address to listen on (127.0.0.1)
PORT                  port to listen on; 0 takes any free one (8080)
CONTRACT_DIR          folder of schema.graphql, limits.json, sql/ (../contract)
DATABASE_URL          postgres URL of the primary (required)
DATABASE_REPLICA_URL  postgres URL that queries read from (DATABASE_URL)
POOL_SIZE             connections per address (16)
UPSTREAM_URL          base URL of the price service (none: quote fails with UPSTREAM_FAILED)
REDIS_URL             redis URL of the cache of master data (none)
TIER                  floor | mainstream (mainstream)
LOADER                on | off (on)
MASTER                memory | redis | none (memory); redis needs REDIS_URL and no TIER=floor
MASTER_MB             MiB of master data in bulk to keep in memory, 0 to 1024 (0)
START                 concurrent | sequential (concurrent)
CONCURRENCY_MODEL     goroutines (goroutines)
WORKERS               GOMAXPROCS (cores allowed to the process)
REQUEST_TIMEOUT       duration such as 5s or 300ms (limits.json)
GRAPHIQL              on | off (off)
PROFILER              on | off (off): GET /profile?seconds=N
LOG_LEVEL             debug | info | warn | error (info)
`

// LoadSettings reads the environment, and limits.json in CONTRACT_DIR. An error names the variable, its value and what
// was expected.
func LoadSettings(getenv func(string) string) (Settings, error) {
	e := environment{getenv: getenv}
	c := Settings{
		Host:        e.text("HOST", defaultHost),
		Port:        strconv.Itoa(e.number("PORT", defaultPort, 0, 65535)),
		ContractDir: e.text("CONTRACT_DIR", filepath.Join("..", "contract")),
		DatabaseURL: e.databaseURL("DATABASE_URL", ""),
		PoolSize:    int32(e.number("POOL_SIZE", 16, 1, 1024)),
		UpstreamURL: e.httpURL("UPSTREAM_URL"),
		RedisURL:    e.redisURL("REDIS_URL"),
		Tier:        e.choice("TIER", TierMainstream, TierFloor, TierMainstream),
		Loader:      e.choice("LOADER", "on", "on", "off") == "on",
		Master:      e.choice("MASTER", MasterMemory, MasterMemory, MasterRedis, MasterNone),
		MasterMB:    e.number("MASTER_MB", 0, 0, mostMasterMB),
		Start:       e.choice("START", StartConcurrent, StartConcurrent, StartSequential),
		Model:       e.choice("CONCURRENCY_MODEL", ModelGoroutines, ModelGoroutines),
		Workers:     e.number("WORKERS", 0, 1, 1024),
		GraphiQL:    e.choice("GRAPHIQL", "off", "on", "off") == "on",
		Profiler:    e.choice("PROFILER", "off", "on", "off") == "on",
		LogLevel:    e.level("LOG_LEVEL"),
	}
	c.ReplicaURL = e.databaseURL("DATABASE_REPLICA_URL", c.DatabaseURL)
	if net.ParseIP(c.Host) == nil && strings.ContainsAny(c.Host, " /:") {
		e.fail("HOST", c.Host, "an address or a host name")
	}
	if c.Master == MasterRedis {
		switch {
		case c.RedisURL == "":
			e.fail("REDIS_URL", "", "an address, since MASTER is redis")
		case c.Tier == TierFloor:
			e.fail("MASTER", c.Master, "memory or none, since TIER is floor")
		}
	}
	if e.err != nil {
		return Settings{}, e.err
	}
	var err error
	if c.Limits, err = loadLimits(filepath.Join(c.ContractDir, "limits.json")); err != nil {
		return Settings{}, fmt.Errorf("CONTRACT_DIR=%q: %w", c.ContractDir, err)
	}
	c.RequestTimeout = e.duration("REQUEST_TIMEOUT", c.Limits.RequestTimeout)
	return c, e.err
}

// loadAddress reads where a server with these settings listens.
func loadAddress(getenv func(string) string) (host, port string, err error) {
	e := environment{getenv: getenv}
	host, port = e.text("HOST", defaultHost), strconv.Itoa(e.number("PORT", defaultPort, 1, 65535))
	return host, port, e.err
}

func loadLimits(path string) (Limits, error) {
	var l Limits
	b, err := os.ReadFile(path)
	if err != nil {
		return l, fmt.Errorf("expected the contract's folder: %w", err)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("limits.json: %w", err)
	}
	if l.BodyBytes <= 0 || l.Tokens <= 0 || l.Depth <= 0 || l.Aliases < 0 || l.Cost <= 0 || l.PageSize <= 0 ||
		l.RankingSize <= 0 || l.BusinessDays <= 0 || l.RequestTimeout == "" || l.RequestsInFlight <= 0 || l.CachedDocuments <= 0 {
		return l, errors.New("limits.json: a limit is missing or not positive")
	}
	return l, nil
}

// environment reads typed values and keeps the first thing that was wrong.
type environment struct {
	getenv func(string) string
	err    error
}

func (e *environment) fail(name, value, expected string) {
	if e.err == nil {
		e.err = fmt.Errorf("%s=%q: expected %s", name, value, expected)
	}
}

func (e *environment) text(name, fallback string) string {
	if v := e.getenv(name); v != "" {
		return v
	}
	return fallback
}

func (e *environment) number(name string, fallback, low, high int) int {
	v := e.getenv(name)
	if v == "" {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		e.fail(name, v, fmt.Sprintf("a whole number from %d to %d", low, high))
	}
	return n
}

func (e *environment) choice(name, fallback string, possible ...string) string {
	v := e.text(name, fallback)
	for _, p := range possible {
		if v == p {
			return v
		}
	}
	switch {
	case name == "TIER" && v == "compiled":
		e.fail(name, v, "one of "+strings.Join(possible, ", ")+" (the go contender does not have this one yet)")
	default:
		e.fail(name, v, "one of "+strings.Join(possible, ", "))
	}
	return v
}

func (e *environment) databaseURL(name, fallback string) string {
	v := e.text(name, fallback)
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		e.fail(name, redactURL(v), "a postgres URL such as postgres://user:password@127.0.0.1:5432/lab")
		return v
	}
	if _, err := pgxpool.ParseConfig(v); err != nil {
		e.fail(name, redactURL(v), "a postgres URL that can be read")
	}
	return v
}

// redactURL leaves a password out of what is printed.
func redactURL(v string) string {
	u, err := url.Parse(v)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}

func (e *environment) httpURL(name string) string {
	v := e.getenv(name)
	if v == "" {
		return ""
	}
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		e.fail(name, redactURL(v), "an http URL such as http://127.0.0.1:9000")
	}
	return strings.TrimRight(v, "/")
}

func (e *environment) redisURL(name string) string {
	v := e.getenv(name)
	if v == "" {
		return ""
	}
	if _, err := redis.ParseURL(v); err != nil || !strings.HasPrefix(v, "redis://") {
		e.fail(name, redactURL(v), "a redis URL such as redis://127.0.0.1:6379")
	}
	return v
}

func (e *environment) duration(name, fallback string) time.Duration {
	v := e.text(name, fallback)
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Millisecond {
		e.fail(name, v, "a duration of at least 1ms such as 5s or 300ms")
	}
	return d
}

func (e *environment) level(name string) slog.Level {
	switch v := e.text(name, "info"); v {
	case "debug":
		return slog.LevelDebug
	case "info":
		return slog.LevelInfo
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	default:
		e.fail(name, v, "one of debug, info, warn, error")
		return slog.LevelInfo
	}
}
