package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/postgres"
)

// hostRules let in who has a password, from this machine.
const hostRules = `host all all 127.0.0.1/32 scram-sha-256
host replication ` + postgres.ReplicationRole + ` 127.0.0.1/32 scram-sha-256
`

// server is one PostgreSQL server of this run. It is a postgres.Runner.
type server struct {
	engine  *Engine
	pg      binaries
	name    string
	data    string
	logPath string
	spawner *spawner
	// settings are added to those of all servers.
	settings map[string]string
	// port is chosen at the first start and kept.
	port    int
	process *process
}

// configure writes the server's settings into its data folder, in place of what initdb wrote.
func (s *server) configure() error {
	text := postgres.File(postgres.Settings(map[string]string{"listen_addresses": "'127.0.0.1'", "port": strconv.Itoa(s.port)}, s.settings))
	for file, content := range map[string]string{"postgresql.conf": text, "postgresql.auto.conf": "", "pg_hba.conf": hostRules} {
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

// Start starts the server, at first at a port that is free. It does not wait until it answers.
func (s *server) Start(ctx context.Context) error {
	if s.port == 0 {
		port, err := host.FreePort()
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

// startReady starts the server at a port of its own and waits until it answers.
func (s *server) startReady(ctx context.Context, password string) error {
	for try := 1; ; try++ {
		if err := s.Start(ctx); err != nil {
			return err
		}
		err := s.Known().WaitReady(ctx, password)
		// Another program may have been quicker to take the port that was free.
		if errors.Is(err, postgres.ErrEnded) && try < 5 && slices.ContainsFunc(s.logs(20), func(line string) bool {
			return strings.Contains(line, "could not bind")
		}) {
			s.port = 0
			continue
		}
		return err
	}
}

// Known is what package postgres needs to know of the server.
func (s *server) Known() postgres.Server {
	known := postgres.Server{Name: s.name, Address: s.address(), Logs: s.logs}
	if s.process != nil {
		known.Exited = s.process.exited
	}
	return known
}

func (s *server) address() postgres.Address { return postgres.At("127.0.0.1", s.port) }

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

// ShutDown ends the server cleanly.
func (s *server) ShutDown(ctx context.Context) error { return s.stop(ctx, syscall.SIGINT) }

// Discard ends the server at once.
func (s *server) Discard(ctx context.Context) error { return s.stop(ctx, syscall.SIGQUIT) }

// Pids returns the processes that live now.
func (s *server) Pids() []int { return s.process.Pids() }

// Usage reads the account of the server and its backends.
func (s *server) Usage(ctx context.Context) (engine.Usage, error) { return s.process.Usage(ctx) }

// Memory reads the memory of the server and its backends.
func (s *server) Memory(ctx context.Context) (engine.Memory, error) { return s.process.Memory(ctx) }

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
