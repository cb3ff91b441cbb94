package native

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// serverSettings are those that every server of the lab has. Durability is given up on purpose: the data is thrown away
// with the run, and what is compared is not the disk.
var serverSettings = map[string]string{
	"listen_addresses":        "'127.0.0.1'",
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

// speedSettings are the names of those settings that a reader of figures should know.
var speedSettings = []string{"autovacuum", "fsync", "full_page_writes", "jit", "max_connections", "shared_buffers"}

// hostRules let in who has a password, from this machine.
const hostRules = `host all all 127.0.0.1/32 scram-sha-256
host replication ` + replicationRole + ` 127.0.0.1/32 scram-sha-256
`

// server is one PostgreSQL server of this run.
type server struct {
	engine  *Engine
	pg      binaries
	name    string
	data    string
	logPath string
	spawner *spawner
	// settings are added to serverSettings.
	settings map[string]string
	// port is chosen at the first start and kept.
	port    int
	process *process
}

// configure writes the server's settings into its data folder, in place of what initdb wrote.
func (s *server) configure() error {
	names := make([]string, 0, len(serverSettings)+len(s.settings)+1)
	values := map[string]string{"port": strconv.Itoa(s.port)}
	for _, settings := range []map[string]string{serverSettings, s.settings} {
		for name, value := range settings {
			values[name] = value
		}
	}
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	var text strings.Builder
	for _, name := range names {
		fmt.Fprintf(&text, "%s = %s\n", name, values[name])
	}
	for file, content := range map[string]string{"postgresql.conf": text.String(), "postgresql.auto.conf": "", "pg_hba.conf": hostRules} {
		path := filepath.Join(s.data, file)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return fmt.Errorf("configure %s: %w", s.name, err)
		}
		if err := s.engine.user.own(path); err != nil {
			return fmt.Errorf("configure %s: %w", s.name, err)
		}
	}
	return nil
}

// start starts the server, at first at a port that is free. It does not wait until it answers.
func (s *server) start(ctx context.Context) error {
	if s.port == 0 {
		port, err := freePort()
		if err != nil {
			return fmt.Errorf("start %s: %w", s.name, err)
		}
		s.port = port
	}
	if err := s.configure(); err != nil {
		return err
	}
	log, err := os.OpenFile(s.logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.pg.bin, "postgres"), "-D", s.data)
	cmd.Env = s.engine.baseEnvironment()
	cmd.Dir = s.data
	// SIGQUIT is PostgreSQL's immediate shutdown: it ends its backends, which SIGKILL would not.
	s.process, err = s.engine.start(s.spawner, cmd, startOptions{name: s.name, logTo: log, deathSignal: syscall.SIGQUIT, credential: s.engine.user.credential})
	return s.engine.explainStart(s.pg, err)
}

// freePort returns a port on loopback that nobody has at the moment.
func freePort() (int, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("find a free port: got %v", listener.Addr())
	}
	return address.Port, nil
}

// errPortTaken says that another program was quicker to take the port that was free.
var errPortTaken = errors.New("the port was taken")

// startReady starts the server at a port of its own and waits until it answers.
func (s *server) startReady(ctx context.Context, role, password string) error {
	for try := 1; ; try++ {
		if err := s.start(ctx); err != nil {
			return err
		}
		err := s.waitReady(ctx, role, password)
		if errors.Is(err, errPortTaken) && try < 5 {
			s.port = 0
			continue
		}
		return err
	}
}

// waitReady returns when the server accepts a connection.
func (s *server) waitReady(ctx context.Context, role, password string) error {
	const patience = 60 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	wait := 5 * time.Millisecond
	for {
		conn, err := pgconn.Connect(ctx, s.url(role, password, "postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.process.exited:
			for _, line := range s.logs(20) {
				if strings.Contains(line, "could not bind") {
					return errPortTaken
				}
			}
			return fmt.Errorf("%s ended at its start%s", s.name, quoteLog(s.logs(20)))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w%s", s.name, err, quoteLog(s.logs(20)))
		case <-time.After(wait):
			wait = min(2*wait, 50*time.Millisecond)
		}
	}
}

// stop stops the server: SIGINT is a fast and clean shutdown, SIGQUIT an immediate one that leaves the data as a crash would.
func (s *server) stop(ctx context.Context, signal syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	signals := []syscall.Signal{signal}
	if signal != syscall.SIGQUIT {
		signals = append(signals, syscall.SIGQUIT)
	}
	return s.process.stop(ctx, 15*time.Second, signals...)
}

// url returns the address of a database on the server.
func (s *server) url(role, password, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// logs returns the last n lines of the server's log.
func (s *server) logs(n int) []string {
	file, err := os.Open(s.logPath)
	if err != nil {
		return nil
	}
	defer file.Close()
	const tail = 64 << 10
	info, err := file.Stat()
	if err != nil {
		return nil
	}
	text := make([]byte, min(tail, info.Size()))
	read, _ := file.ReadAt(text, info.Size()-int64(len(text)))
	lines := strings.Split(strings.TrimRight(string(text[:read]), "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}
