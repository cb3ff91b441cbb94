// Package postgres is what a PostgreSQL of the lab is in every engine: settings, roles, seeded data, forks, and what it
// means that the replica follows. Engines start the servers; this package talks to them.
package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine/host"
)

// Roles and databases of every server.
const (
	Superuser       = "postgres"
	LabRole         = "lab"
	ReplicationRole = "replicator"
	LabDatabase     = "lab"
	// TemplateDatabase is a copy of the seeded database that nobody connects to, so that forks can be made of it while
	// contenders use the other.
	TemplateDatabase = "lab_template"
	// adminDatabase is beside all databases that tests use.
	adminDatabase = "postgres"
	// seedFormat is part of every cache's key: change it with anything here that changes what a seeded server holds.
	seedFormat = "3"
)

// serverSettings are those that every server of the lab has. Durability is given up on purpose: the data is thrown away
// with the run, and what is compared is not the disk.
var serverSettings = map[string]string{
	"unix_socket_directories": "''",
	"max_connections":         "200",
	"shared_buffers":          "256MB",
	"timezone":                "'UTC'",
	"log_timezone":            "'UTC'",
	"lc_messages":             "'C'",
	"datestyle":               "'ISO, YMD'",
	"password_encryption":     "'scram-sha-256'",
	// Statements are counted by query id.
	"shared_preload_libraries":         "'pg_stat_statements'",
	"pg_stat_statements.max":           "5000",
	"pg_stat_statements.track":         "'top'",
	"pg_stat_statements.track_utility": "on",
	"pg_stat_statements.save":          "off",
	// What would happen now and then, in some trials and not in others.
	"autovacuum":         "off",
	"jit":                "off",
	"checkpoint_timeout": "'1h'",
	"max_wal_size":       "'2GB'",
	"min_wal_size":       "'32MB'",
	"bgwriter_delay":     "'10s'",
	// The data is thrown away. Commits still write their WAL before they return, so that the replica has it at once.
	"fsync":            "off",
	"full_page_writes": "off",
	// The replica needs no slot: this much is kept for one that was restarted.
	"wal_level":                   "replica",
	"max_wal_senders":             "4",
	"wal_keep_size":               "'512MB'",
	"hot_standby":                 "on",
	"hot_standby_feedback":        "on",
	"max_worker_processes":        "8",
	"wal_receiver_timeout":        "'5s'",
	"wal_retrieve_retry_interval": "'100ms'",
}

// SpeedSettings are those settings that a reader of figures should know.
func SpeedSettings() map[string]string {
	out := map[string]string{}
	for _, name := range []string{"autovacuum", "fsync", "full_page_writes", "jit", "max_connections", "shared_buffers"} {
		out[name] = strings.Trim(serverSettings[name], "'")
	}
	return out
}

// SeedingSettings are added while a server is seeded: the last checkpoint then leaves hardly any log to copy.
func SeedingSettings() map[string]string {
	return map[string]string{"wal_keep_size": "0", "min_wal_size": "2MB", "wal_recycle": "off"}
}

// WALSegmentMegabytes is --wal-segsize of initdb: every run copies the log's files twice, and small ones make that short.
const WALSegmentMegabytes = 1

// Settings returns those that every server of the lab has, with more set after them.
func Settings(more ...map[string]string) map[string]string {
	all := maps.Clone(serverSettings)
	for _, settings := range more {
		maps.Copy(all, settings)
	}
	return all
}

// File writes settings as postgresql.conf has them, in the order of their names. Their values are quoted already.
func File(settings map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = %s\n", name, settings[name])
	}
	return text.String()
}

// FollowSettings make a server with standby.signal the replica of the primary at that address.
func FollowSettings(primary Address, password string) map[string]string {
	hostname, port, _ := strings.Cut(string(primary), ":")
	return map[string]string{
		"primary_conninfo": fmt.Sprintf("'host=%s port=%s user=%s password=%s sslmode=disable application_name=replica'",
			hostname, port, ReplicationRole, password),
	}
}

// Address is HOST:PORT of a server.
type Address string

// At makes an address.
func At(hostname string, port int) Address {
	return Address(net.JoinHostPort(hostname, strconv.Itoa(port)))
}

// URL is the address of a database on the server.
func (a Address) URL(role, password, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password),
		Host: string(a), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (a Address) connect(ctx context.Context, password string) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, a.URL(Superuser, password, adminDatabase))
}

// Passwords are those of one set of servers.
type Passwords struct {
	Superuser   string `json:"superuser"`
	Lab         string `json:"lab"`
	Replication string `json:"replication"`
}

// NewPasswords makes random ones.
func NewPasswords() Passwords {
	return Passwords{Superuser: host.RandomHex(16), Lab: host.RandomHex(16), Replication: host.RandomHex(16)}
}

// Execute runs a script of one or more statements and returns the first value of the last row set, or "".
func Execute(ctx context.Context, conn *pgconn.PgConn, script string) (string, error) {
	results, err := conn.Exec(ctx, script).ReadAll()
	if err != nil {
		return "", err
	}
	for i := len(results) - 1; i >= 0; i-- {
		if rows := results[i].Rows; len(rows) > 0 && len(rows[0]) > 0 {
			return string(rows[0][0]), nil
		}
	}
	return "", nil
}

// Seed says which rows a seeded server holds.
type Seed struct {
	Size     string
	contract *contract.Contract
	// settings tell the seed its size: set lab.items = 1000; and so on.
	settings   string
	wantDigest string
}

// SeedOf looks a size up in the contract.
func SeedOf(c *contract.Contract, size string) (Seed, error) {
	numbers, known := c.Sizes[size]
	if !known {
		return Seed{}, fmt.Errorf("size %q is not known; there are: %s", size, strings.Join(slices.Sorted(maps.Keys(c.Sizes)), ", "))
	}
	want, known := c.Digests[size]
	if !known {
		return Seed{}, fmt.Errorf("size %q has no digest in digests.json", size)
	}
	settings, err := seedSettings(numbers)
	if err != nil {
		return Seed{}, err
	}
	return Seed{Size: size, contract: c, settings: settings, wantDigest: want}, nil
}

// Key digests all that a seeded data folder depends on; more are what an engine's own way of making it adds.
func (s Seed) Key(more ...string) string {
	hash := sha256.New()
	c := s.contract
	for _, part := range append([]string{seedFormat, s.Size, s.settings, s.wantDigest, c.SchemaSQL, c.SeedSQL, c.DigestSQL}, more...) {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16]
}

// Arguments writes settings as arguments of the program postgres.
func Arguments(settings map[string]string) []string {
	var arguments []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		arguments = append(arguments, "-c", name+"="+strings.Trim(settings[name], "'"))
	}
	return arguments
}
