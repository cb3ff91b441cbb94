package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/engine"
)

// machineTime is the first line of /proc/stat: clock ticks of all CPUs since boot.
type machineTime struct{ user, nice, system, idle, iowait, irq, softirq, steal float64 }

// clockTick is USER_HZ, which Linux fixes at 100 for every architecture that matters here.
const clockTick = 100

// readMachine is a variable for tests that run beside others.
var readMachine = func() (machineTime, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineTime{}, fmt.Errorf("read the machine's CPU time: %w", err)
	}
	return parseMachine(string(text))
}

func parseMachine(text string) (machineTime, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return machineTime{}, fmt.Errorf("/proc/stat begins with %q, not with the CPUs' times", line)
	}
	var v [8]float64
	for i := range v {
		n, err := strconv.ParseFloat(fields[i+1], 64)
		if err != nil {
			return machineTime{}, fmt.Errorf("/proc/stat: %w", err)
		}
		v[i] = n / clockTick
	}
	return machineTime{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]}, nil
}

func (m machineTime) sub(o machineTime) machineTime {
	return machineTime{m.user - o.user, m.nice - o.nice, m.system - o.system, m.idle - o.idle, m.iowait - o.iowait, m.irq - o.irq, m.softirq - o.softirq, m.steal - o.steal}
}

func (m machineTime) busySeconds() float64 { return m.user + m.nice + m.system + m.irq + m.softirq }

func (m machineTime) stealShare() float64 {
	total := m.busySeconds() + m.idle + m.iowait + m.steal
	if total <= 0 {
		return 0
	}
	return m.steal / total
}

// statementCounter counts what the contender's role ran on both servers; its own statements run as another role.
type statementCounter struct{ connections []*pgx.Conn }

// ErrStatements marks that the statements could not be counted: somebody cut the counter's connection, as a database does that has
// to recover from a backend that was killed.
var ErrStatements = errors.New("count statements")

func openCounter(ctx context.Context, d engine.Database) (*statementCounter, error) {
	c := &statementCounter{}
	for _, url := range []string{d.AdminPrimaryURL(), d.AdminReplicaURL()} {
		if url == "" {
			continue // nobody to ask
		}
		connection, err := pgx.Connect(ctx, url)
		if err != nil {
			c.close()
			return nil, fmt.Errorf("%w: %w", ErrStatements, err)
		}
		c.connections = append(c.connections, connection)
	}
	return c, nil
}

func (c *statementCounter) read(ctx context.Context) (int64, error) {
	var all int64
	for _, connection := range c.connections {
		var calls int64
		const count = `select coalesce(sum(calls), 0)::int8 from pg_stat_statements
			where userid = 'lab'::regrole and dbid = (select oid from pg_database where datname = current_database())`
		if err := connection.QueryRow(ctx, count).Scan(&calls); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrStatements, err)
		}
		all += calls
	}
	return all, nil
}

func (c *statementCounter) close() {
	for _, connection := range c.connections {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		_ = connection.Close(ctx)
		stop()
	}
}
