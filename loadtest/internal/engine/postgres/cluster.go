package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"lab/loadtest/internal/engine"
)

// Runner is a server as its engine runs it.
type Runner interface {
	engine.Meter
	// Known is what this package needs to know of the server; it changes when the server is started again.
	Known() Server
	// Start starts it once more, at the address it had.
	Start(ctx context.Context) error
	// ShutDown ends it cleanly, as an administrator would.
	ShutDown(ctx context.Context) error
	// Discard ends it at once: nobody needs its data any more.
	Discard(ctx context.Context) error
}

// Cluster is a primary and its replica while an engine runs them.
type Cluster struct {
	// Primary and Replica are nil until there is one.
	Primary, Replica Runner
	Passwords        Passwords
	Size             string
	// Delete deletes the data when both have ended.
	Delete func(ctx context.Context) error
	// Forget is called when the cluster has been stopped.
	Forget func()

	stopOnce sync.Once
	stopErr  error
	// restarting keeps readings and stops away from servers that are being replaced.
	restarting sync.RWMutex
}

// Pair is what there is to know of both servers.
func (c *Cluster) Pair() Pair {
	return Pair{Primary: c.Primary.Known(), Replica: c.Replica.Known(), Passwords: c.Passwords}
}

// Stop ends both servers and deletes their data.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stopOnce.Do(func() {
		defer c.Forget()
		c.restarting.Lock()
		defer c.restarting.Unlock()
		var wait sync.WaitGroup
		errs := make([]error, 2)
		for i, s := range []Runner{c.Replica, c.Primary} {
			if s != nil {
				wait.Go(func() { errs[i] = s.Discard(ctx) })
			}
		}
		wait.Wait()
		c.stopErr = errors.Join(append(errs, c.Delete(ctx))...)
	})
	return c.stopErr
}

// restart stops both servers cleanly and starts them again.
func (c *Cluster) restart(ctx context.Context) error {
	c.restarting.Lock()
	defer c.restarting.Unlock()
	// The replica first: without its primary it would be busy looking for it.
	for _, s := range []Runner{c.Replica, c.Primary} {
		if err := s.ShutDown(ctx); err != nil {
			return err
		}
	}
	for _, s := range []Runner{c.Primary, c.Replica} {
		if err := s.Start(ctx); err != nil {
			return err
		}
		if err := s.Known().WaitReady(ctx, c.Passwords.Superuser); err != nil {
			return err
		}
	}
	return c.Pair().WaitStreaming(ctx)
}

// meter reads one server, but not while it is being started again.
type meter struct {
	c *Cluster
	s Runner
}

func (m meter) Pids() []int {
	m.c.restarting.RLock()
	defer m.c.restarting.RUnlock()
	return m.s.Pids()
}

func (m meter) Usage(ctx context.Context) (engine.Usage, error) {
	m.c.restarting.RLock()
	defer m.c.restarting.RUnlock()
	return m.s.Usage(ctx)
}

func (m meter) Memory(ctx context.Context) (engine.Memory, error) {
	m.c.restarting.RLock()
	defer m.c.restarting.RUnlock()
	return m.s.Memory(ctx)
}

// Database is one database on a cluster. It is an engine.Database.
type Database struct {
	On   *Cluster
	name string
	fork bool
}

var _ engine.Database = (*Database)(nil)

// Database is the seeded one.
func (c *Cluster) Database() *Database { return &Database{On: c, name: LabDatabase} }

// PrimaryURL and those below are where its servers answer.
func (d *Database) PrimaryURL() string { return d.labURL(d.On.Primary) }

// ReplicaURL is the replica's for the role lab.
func (d *Database) ReplicaURL() string { return d.labURL(d.On.Replica) }

// AdminPrimaryURL is the primary's for the superuser.
func (d *Database) AdminPrimaryURL() string { return d.adminURL(d.On.Primary) }

// AdminReplicaURL is the replica's for the superuser.
func (d *Database) AdminReplicaURL() string { return d.adminURL(d.On.Replica) }

func (d *Database) labURL(s Runner) string {
	return s.Known().Address.URL(LabRole, d.On.Passwords.Lab, d.name)
}

func (d *Database) adminURL(s Runner) string {
	return s.Known().Address.URL(Superuser, d.On.Passwords.Superuser, d.name)
}

// Size is the name of the data's size.
func (d *Database) Size() string { return d.On.Size }

// Primary is the meter of the primary alone.
func (d *Database) Primary() engine.Meter { return meter{d.On, d.On.Primary} }

// Replica is the meter of the replica alone.
func (d *Database) Replica() engine.Meter { return meter{d.On, d.On.Replica} }

// Pids are the processes of both servers.
func (d *Database) Pids() []int { return append(d.Primary().Pids(), d.Replica().Pids()...) }

// Usage is what both servers have used.
func (d *Database) Usage(ctx context.Context) (engine.Usage, error) {
	primary, err := d.Primary().Usage(ctx)
	if err != nil {
		return engine.Usage{}, err
	}
	replica, err := d.Replica().Usage(ctx)
	return primary.Add(replica), err
}

// Memory is what both servers hold.
func (d *Database) Memory(ctx context.Context) (engine.Memory, error) {
	primary, err := d.Primary().Memory(ctx)
	if err != nil {
		return engine.Memory{}, err
	}
	replica, err := d.Replica().Memory(ctx)
	return primary.Add(replica), err
}

// Logs returns the last n lines of each server's log, each with its server's name before it.
func (d *Database) Logs(n int) (lines []string) {
	for _, s := range []Server{d.On.Primary.Known(), d.On.Replica.Known()} {
		for _, line := range s.Logs(n) {
			lines = append(lines, s.Name+": "+line)
		}
	}
	return lines
}

// crash is how a server tells that a process of its own crashed or was killed: then it ends all the others, and with them every
// connection, and recovers. One that is shut down, or whose connections are ended on purpose, says nothing of the kind.
var crash = regexp.MustCompile(`LOG: +.+ \(PID \d+\) was terminated by (signal|exception) |LOG: +server process \(PID \d+\) exited with exit code `)

// Crashes are the lines of a log that tell of crashes, each with what follows of the statement that it was in.
func Crashes(log []string) (lines []string) {
	for i, line := range log {
		if !crash.MatchString(line) {
			continue
		}
		lines = append(lines, line)
		if i+1 < len(log) && strings.Contains(log[i+1], "DETAIL:") {
			lines = append(lines, log[i+1])
		}
	}
	return lines
}

// WaitReplica returns when the replica has all that the primary has written until now.
func (d *Database) WaitReplica(ctx context.Context) error { return d.On.Pair().WaitReplica(ctx) }

// Fork makes a further database out of the seeded template that both servers have.
func (d *Database) Fork(ctx context.Context, name string) (engine.Database, error) {
	if err := d.On.Pair().Fork(ctx, name); err != nil {
		return nil, err
	}
	return &Database{On: d.On, name: name, fork: true}, nil
}

// Restart cuts all connections; the addresses stay.
func (d *Database) Restart(ctx context.Context) error {
	if err := d.On.restart(ctx); err != nil {
		return fmt.Errorf("restart the database: %w", err)
	}
	return nil
}

// Stop ends the servers, or drops a fork.
func (d *Database) Stop(ctx context.Context) error {
	if !d.fork {
		return d.On.Stop(ctx)
	}
	return d.On.Pair().DropFork(ctx, d.name)
}
