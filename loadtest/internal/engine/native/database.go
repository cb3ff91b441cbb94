package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/postgres"
)

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
	c := &postgres.Cluster{Passwords: postgres.NewPasswords(), Size: spec.Size, Delete: func(context.Context) error {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("delete a database: %w", err)
		}
		return nil
	}}
	c.Forget = e.stops.Keep(c.Stop)
	err = e.buildCluster(ctx, c, pg, t, dir)
	if err == nil {
		err = c.Pair().AddMasterText(ctx, spec.MasterMiB)
	}
	if err != nil {
		if stopErr := c.Stop(context.WithoutCancel(ctx)); stopErr != nil {
			e.log(stopErr.Error())
		}
		return nil, fmt.Errorf("make a database: %w", err)
	}
	return c.Database(), nil
}

// buildCluster copies the template twice and starts both.
func (e *Engine) buildCluster(ctx context.Context, c *postgres.Cluster, pg binaries, t template, dir string) error {
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	newServer := func(name string) *server {
		return &server{
			engine: e, pg: pg, name: name, spawner: e.databaseCPUs,
			data: filepath.Join(dir, name), logPath: filepath.Join(dir, name+".log"),
		}
	}
	primary, replica := newServer("primary"), newServer("replica")
	c.Primary, c.Replica = primary, replica
	// The copy of the stopped template is as good a base backup as any: the primary's log goes on where it ends.
	var copies sync.WaitGroup
	errs := make([]error, 2)
	for i, s := range []*server{primary, replica} {
		copies.Go(func() { errs[i] = e.user.copyData(t.data, s.data) })
	}
	copies.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := primary.startReady(ctx, t.passwords.Superuser); err != nil {
		return err
	}
	// The template is used by all runs; its passwords are not.
	if err := c.Pair().ChangePasswords(ctx, t.passwords); err != nil {
		return err
	}
	replica.settings = postgres.FollowSettings(primary.address(), c.Passwords.Replication)
	standby := filepath.Join(replica.data, "standby.signal")
	if err := os.WriteFile(standby, nil, 0o600); err != nil {
		return err
	}
	if err := e.user.own(standby); err != nil {
		return err
	}
	// With the new password: it answers to that only when it has followed the primary so far.
	if err := replica.Start(ctx); err != nil {
		return err
	}
	return c.Pair().WaitStreaming(ctx)
}
