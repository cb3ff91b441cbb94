package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/postgres"
)

// cluster is a primary and its replica.
type cluster struct {
	engine           *Engine
	dir              string
	primary, replica *server
	passwords        postgres.Passwords
	size             string
	stopOnce         sync.Once
	stopErr          error
	forget           func()
	// restarting keeps readings and stops away from servers that are being replaced.
	restarting sync.RWMutex
}

// database is one database on a cluster; it is an engine.Database.
type database struct {
	*cluster
	name string
	fork bool
}

// Database makes a primary and a replica out of copies of the seeded template.
func (e *Engine) Database(ctx context.Context, spec engine.DatabaseSpec) (engine.Database, error) {
	pg, err := e.postgres(ctx)
	if err != nil {
		return nil, err
	}
	t, err := e.findTemplate(ctx, pg, spec.Size)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(e.run.dir, "database-")
	if err != nil {
		return nil, fmt.Errorf("make a database: %w", err)
	}
	c := &cluster{engine: e, dir: dir, passwords: postgres.NewPasswords(), size: spec.Size}
	if err := c.build(ctx, pg, t); err != nil {
		if stopErr := c.stop(context.WithoutCancel(ctx)); stopErr != nil {
			e.log(stopErr.Error())
		}
		return nil, fmt.Errorf("make a database: %w", err)
	}
	c.forget = e.keep(c.stop)
	return &database{cluster: c, name: postgres.LabDatabase}, nil
}

// build copies the template twice and starts both.
func (c *cluster) build(ctx context.Context, pg binaries, t template) error {
	e := c.engine
	if err := os.Chmod(c.dir, 0o711); err != nil {
		return err
	}
	newServer := func(name string) *server {
		return &server{
			engine: e, pg: pg, name: name, spawner: e.databaseCPUs,
			data: filepath.Join(c.dir, name), logPath: filepath.Join(c.dir, name+".log"),
		}
	}
	c.primary, c.replica = newServer("primary"), newServer("replica")
	// The copy of the stopped template is as good a base backup as any: the primary's log goes on where it ends.
	var copies sync.WaitGroup
	errs := make([]error, 2)
	for i, s := range []*server{c.primary, c.replica} {
		copies.Go(func() { errs[i] = e.user.copyData(t.data, s.data) })
	}
	copies.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := c.primary.startReady(ctx, t.passwords.Superuser); err != nil {
		return err
	}
	// The template is used by all runs; its passwords are not.
	if err := c.pair().ChangePasswords(ctx, t.passwords); err != nil {
		return err
	}
	c.replica.settings = postgres.FollowSettings(c.primary.address(), c.passwords.Replication)
	standby := filepath.Join(c.replica.data, "standby.signal")
	if err := os.WriteFile(standby, nil, 0o600); err != nil {
		return err
	}
	if err := e.user.own(standby); err != nil {
		return err
	}
	// With the new password: it answers to that only when it has followed the primary so far.
	if err := c.replica.start(ctx); err != nil {
		return err
	}
	return c.pair().WaitStreaming(ctx)
}

// pair is what package postgres needs to know of the two servers.
func (c *cluster) pair() postgres.Pair {
	return postgres.Pair{Primary: c.primary.known(), Replica: c.replica.known(), Passwords: c.passwords}
}

// stop ends both servers and deletes their data.
func (c *cluster) stop(ctx context.Context) error {
	c.stopOnce.Do(func() {
		if c.forget != nil {
			defer c.forget()
		}
		c.restarting.Lock()
		defer c.restarting.Unlock()
		// Both at once, and at once: nobody needs the data any more.
		var wait sync.WaitGroup
		errs := make([]error, 2)
		for i, s := range []*server{c.replica, c.primary} {
			if s == nil {
				continue
			}
			wait.Go(func() { errs[i] = s.stop(ctx, syscall.SIGQUIT) })
		}
		wait.Wait()
		for _, err := range errs {
			if err != nil && c.stopErr == nil {
				c.stopErr = err
			}
		}
		if err := os.RemoveAll(c.dir); err != nil && c.stopErr == nil {
			c.stopErr = fmt.Errorf("delete a database: %w", err)
		}
	})
	return c.stopErr
}

// roots are the two postmasters.
func (c *cluster) roots() []int { return []int{c.primary.process.pid, c.replica.process.pid} }

func (d *database) PrimaryURL() string {
	return d.primary.address().URL(postgres.LabRole, d.passwords.Lab, d.name)
}

func (d *database) ReplicaURL() string {
	return d.replica.address().URL(postgres.LabRole, d.passwords.Lab, d.name)
}

func (d *database) AdminPrimaryURL() string {
	return d.primary.address().URL(postgres.Superuser, d.passwords.Superuser, d.name)
}

func (d *database) AdminReplicaURL() string {
	return d.replica.address().URL(postgres.Superuser, d.passwords.Superuser, d.name)
}

func (d *database) Size() string { return d.size }

// Primary and Replica are the meters of one server each.
func (d *database) Primary() engine.Meter { return serverMeter{d.cluster, d.primary} }
func (d *database) Replica() engine.Meter { return serverMeter{d.cluster, d.replica} }

// serverMeter keeps away from a server that is being replaced.
type serverMeter struct {
	c *cluster
	s *server
}

func (m serverMeter) Pids() []int {
	m.c.restarting.RLock()
	defer m.c.restarting.RUnlock()
	return m.s.process.Pids()
}

func (m serverMeter) Usage(ctx context.Context) (engine.Usage, error) {
	m.c.restarting.RLock()
	defer m.c.restarting.RUnlock()
	return m.s.process.Usage(ctx)
}

func (m serverMeter) Memory(ctx context.Context) (engine.Memory, error) {
	m.c.restarting.RLock()
	defer m.c.restarting.RUnlock()
	return m.s.process.Memory(ctx)
}

func (d *database) Pids() []int {
	d.restarting.RLock()
	defer d.restarting.RUnlock()
	return host.PidsOf(d.roots()...)
}

func (d *database) Usage(context.Context) (engine.Usage, error) {
	d.restarting.RLock()
	defer d.restarting.RUnlock()
	return host.TreeUsage(d.roots()...)
}

func (d *database) Memory(context.Context) (engine.Memory, error) {
	d.restarting.RLock()
	defer d.restarting.RUnlock()
	return host.TreeMemory(d.roots()...)
}

func (d *database) Logs(n int) []string {
	return append(d.primary.logs(n), d.replica.logs(n)...)
}

func (d *database) WaitReplica(ctx context.Context) error { return d.pair().WaitReplica(ctx) }

// Fork makes a further database out of the seeded template that both servers have.
func (d *database) Fork(ctx context.Context, name string) (engine.Database, error) {
	if err := d.pair().Fork(ctx, name); err != nil {
		return nil, err
	}
	return &database{cluster: d.cluster, name: name, fork: true}, nil
}

// Restart stops both servers cleanly, as an administrator would, and starts them at the ports they had.
func (d *database) Restart(ctx context.Context) error {
	d.restarting.Lock()
	defer d.restarting.Unlock()
	for _, s := range []*server{d.primary, d.replica} {
		if err := s.stop(ctx, syscall.SIGINT); err != nil {
			return fmt.Errorf("restart the database: %w", err)
		}
	}
	for _, s := range []*server{d.primary, d.replica} {
		if err := s.start(ctx); err != nil {
			return fmt.Errorf("restart the database: %w", err)
		}
		if err := s.known().WaitReady(ctx, d.passwords.Superuser); err != nil {
			return fmt.Errorf("restart the database: %w", err)
		}
	}
	if err := d.pair().WaitStreaming(ctx); err != nil {
		return fmt.Errorf("restart the database: %w", err)
	}
	return nil
}

func (d *database) Stop(ctx context.Context) error {
	if !d.fork {
		return d.stop(ctx)
	}
	return d.pair().DropFork(ctx, d.name)
}
