package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"lab/loadtest/internal/engine"
)

// cluster is a primary and its replica.
type cluster struct {
	engine           *Engine
	dir              string
	primary, replica *server
	passwords        passwords
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
	c := &cluster{engine: e, dir: dir, passwords: newPasswords(), size: spec.Size}
	if err := c.build(ctx, pg, t); err != nil {
		if stopErr := c.stop(context.WithoutCancel(ctx)); stopErr != nil {
			e.log(stopErr.Error())
		}
		return nil, fmt.Errorf("make a database: %w", err)
	}
	c.forget = e.keep(c.stop)
	return &database{cluster: c, name: labDatabase}, nil
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
	if err := c.primary.startReady(ctx, superuser, t.passwords.Superuser); err != nil {
		return err
	}
	// The template is used by all runs; its passwords are not.
	if err := c.changePasswords(ctx, t.passwords); err != nil {
		return err
	}
	c.replica.settings = map[string]string{
		"primary_conninfo": fmt.Sprintf("'host=127.0.0.1 port=%d user=%s password=%s sslmode=disable application_name=replica'",
			c.primary.port, replicationRole, c.passwords.Replication),
	}
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
	return c.waitStreaming(ctx)
}

func (c *cluster) changePasswords(ctx context.Context, old passwords) error {
	conn, err := pgconn.Connect(ctx, c.primary.url(superuser, old.Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to the primary: %w", err)
	}
	defer conn.Close(ctx)
	for role, password := range map[string]string{
		superuser: c.passwords.Superuser, labRole: c.passwords.Lab, replicationRole: c.passwords.Replication,
	} {
		if _, err := execute(ctx, conn, "alter role "+role+" password '"+password+"'"); err != nil {
			return fmt.Errorf("set the password of %s: %w", role, err)
		}
	}
	return nil
}

// waitStreaming returns when the replica streams from the primary and has all that was written before.
func (c *cluster) waitStreaming(ctx context.Context) error {
	const patience = 60 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgconn.Connect(ctx, c.primary.url(superuser, c.passwords.Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to the primary: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		streaming, err := execute(ctx, conn, "select count(*) from pg_stat_replication where state = 'streaming'")
		if err != nil {
			return fmt.Errorf("ask the primary for its replica: %w", err)
		}
		if streaming == "1" {
			break
		}
		select {
		case <-c.replica.process.exited:
			return fmt.Errorf("the replica ended%s", quoteLog(c.replica.logs(20)))
		case <-ctx.Done():
			return fmt.Errorf("the replica does not stream: %w%s", ctx.Err(), quoteLog(c.replica.logs(20)))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return c.waitReplica(ctx)
}

// waitReplica returns when the replica has replayed all that the primary has written until now.
func (c *cluster) waitReplica(ctx context.Context) error {
	const patience = 60 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	primary, err := pgconn.Connect(ctx, c.primary.url(superuser, c.passwords.Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("wait for the replica: connect to the primary: %w", err)
	}
	defer primary.Close(context.WithoutCancel(ctx))
	// The insert position, since what is not yet flushed will be.
	position, err := execute(ctx, primary, "select pg_current_wal_insert_lsn()")
	if err != nil {
		return fmt.Errorf("wait for the replica: %w", err)
	}
	if err := c.replica.waitReady(ctx, superuser, c.passwords.Superuser); err != nil {
		return fmt.Errorf("wait for the replica: %w", err)
	}
	replica, err := pgconn.Connect(ctx, c.replica.url(superuser, c.passwords.Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("wait for the replica: connect to it: %w", err)
	}
	defer replica.Close(context.WithoutCancel(ctx))
	for {
		there, err := execute(ctx, replica, "select coalesce(pg_last_wal_replay_lsn() >= '"+position+"'::pg_lsn, false)")
		if err != nil {
			return fmt.Errorf("wait for the replica: %w", err)
		}
		if there == "t" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the replica to reach %s: %w", position, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
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
	return d.primary.url(labRole, d.passwords.Lab, d.name)
}

func (d *database) ReplicaURL() string {
	return d.replica.url(labRole, d.passwords.Lab, d.name)
}

func (d *database) AdminPrimaryURL() string {
	return d.primary.url(superuser, d.passwords.Superuser, d.name)
}

func (d *database) AdminReplicaURL() string {
	return d.replica.url(superuser, d.passwords.Superuser, d.name)
}

func (d *database) Size() string { return d.size }

func (d *database) Pids() []int {
	d.restarting.RLock()
	defer d.restarting.RUnlock()
	return pidsOf(d.roots()...)
}

func (d *database) Usage(context.Context) (engine.Usage, error) {
	d.restarting.RLock()
	defer d.restarting.RUnlock()
	return treeUsage(d.roots()...)
}

func (d *database) Memory(context.Context) (engine.Memory, error) {
	d.restarting.RLock()
	defer d.restarting.RUnlock()
	return treeMemory(d.roots()...)
}

func (d *database) Logs(n int) []string {
	return append(d.primary.logs(n), d.replica.logs(n)...)
}

func (d *database) WaitReplica(ctx context.Context) error { return d.waitReplica(ctx) }

// databaseName is what a fork may be called, so that no name needs quoting.
var databaseName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// Fork makes a further database out of the seeded template that both servers have.
func (d *database) Fork(ctx context.Context, name string) (engine.Database, error) {
	if !databaseName.MatchString(name) {
		return nil, fmt.Errorf("fork a database: %q is not a name of lower-case letters, digits and _", name)
	}
	if err := d.administer(ctx, "create database "+name+" owner "+labRole+" template "+templateDatabase); err != nil {
		return nil, fmt.Errorf("fork a database: %w", err)
	}
	if err := d.waitReplica(ctx); err != nil {
		return nil, fmt.Errorf("fork a database: %w", err)
	}
	return &database{cluster: d.cluster, name: name, fork: true}, nil
}

// administer runs one statement as superuser, beside all databases that tests use.
func (d *database) administer(ctx context.Context, statement string) error {
	conn, err := pgconn.Connect(ctx, d.primary.url(superuser, d.passwords.Superuser, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = execute(ctx, conn, statement)
	return err
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
		if err := s.waitReady(ctx, superuser, d.passwords.Superuser); err != nil {
			return fmt.Errorf("restart the database: %w", err)
		}
	}
	if err := d.waitStreaming(ctx); err != nil {
		return fmt.Errorf("restart the database: %w", err)
	}
	return nil
}

func (d *database) Stop(ctx context.Context) error {
	if !d.fork {
		return d.stop(ctx)
	}
	if err := d.administer(ctx, "drop database if exists "+d.name+" with (force)"); err != nil {
		return fmt.Errorf("drop a fork: %w", err)
	}
	return nil
}
