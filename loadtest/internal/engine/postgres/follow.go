package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"lab/loadtest/internal/engine/host"
)

// patience bounds every wait for a server.
const patience = 60 * time.Second

// ErrEnded says that a server ended while it was waited for.
var ErrEnded = errors.New("ended")

// Server is a running server as this package needs to know it.
type Server struct {
	Name    string
	Address Address
	// Exited is closed when the server has ended.
	Exited <-chan struct{}
	// Logs returns the last n lines that it logged.
	Logs func(n int) []string
}

// WaitReady returns when the server accepts a connection of the superuser.
func (s Server) WaitReady(ctx context.Context, password string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	wait := 5 * time.Millisecond
	for {
		conn, err := s.Address.connect(ctx, password)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.Exited:
			return fmt.Errorf("%s %w at its start%s", s.Name, ErrEnded, host.QuoteLog(s.Logs(20)))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w%s", s.Name, err, host.QuoteLog(s.Logs(20)))
		case <-time.After(wait):
			wait = min(2*wait, 50*time.Millisecond)
		}
	}
}

// Pair is a primary and its replica.
type Pair struct {
	Primary, Replica Server
	Passwords        Passwords
}

// ChangePasswords replaces the passwords that the seeded data came with: it is used by all runs, they are not.
func (p Pair) ChangePasswords(ctx context.Context, old Passwords) error {
	conn, err := p.Primary.Address.connect(ctx, old.Superuser)
	if err != nil {
		return fmt.Errorf("connect to the primary: %w", err)
	}
	defer conn.Close(ctx)
	for role, password := range map[string]string{
		Superuser: p.Passwords.Superuser, LabRole: p.Passwords.Lab, ReplicationRole: p.Passwords.Replication,
	} {
		if _, err := Execute(ctx, conn, "alter role "+role+" password '"+password+"'"); err != nil {
			return fmt.Errorf("set the password of %s: %w", role, err)
		}
	}
	return nil
}

// WaitStreaming returns when the replica streams from the primary and has all that was written before.
func (p Pair) WaitStreaming(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := p.Primary.Address.connect(ctx, p.Passwords.Superuser)
	if err != nil {
		return fmt.Errorf("connect to the primary: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		streaming, err := Execute(ctx, conn, "select count(*) from pg_stat_replication where state = 'streaming'")
		if err != nil {
			return fmt.Errorf("ask the primary for its replica: %w", err)
		}
		if streaming == "1" {
			break
		}
		select {
		case <-p.Replica.Exited:
			return fmt.Errorf("the replica ended%s", host.QuoteLog(p.Replica.Logs(20)))
		case <-ctx.Done():
			return fmt.Errorf("the replica does not stream: %w%s", ctx.Err(), host.QuoteLog(p.Replica.Logs(20)))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return p.WaitReplica(ctx)
}

// AddMasterText adds to the seeded database what it lacks of so many MiB of master data in bulk; the replica has it on
// return.
func (p Pair) AddMasterText(ctx context.Context, mib int) error {
	if mib <= seededMasterMiB {
		return nil
	}
	lab, err := pgconn.Connect(ctx, p.Primary.Address.URL(LabRole, p.Passwords.Lab, LabDatabase))
	if err != nil {
		return fmt.Errorf("add master data in bulk: connect: %w", err)
	}
	defer lab.Close(context.WithoutCancel(ctx))
	for _, statement := range []string{
		fmt.Sprintf("insert into master_text select i, master_text_body(i) from generate_series(%d, %d) i", seededMasterMiB<<10+1, mib<<10),
		"vacuum (analyze, freeze) master_text", // so that whoever reads it first does not write
	} {
		if _, err := Execute(ctx, lab, statement); err != nil {
			return fmt.Errorf("add master data in bulk: %w", err)
		}
	}
	return p.WaitReplica(ctx)
}

// seededMasterMiB is what seed.sql makes of it: 1,024 rows of 1,024 bytes.
const seededMasterMiB = 1

// WaitReplica returns when the replica has replayed all that the primary has written until now.
func (p Pair) WaitReplica(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	primary, err := p.Primary.Address.connect(ctx, p.Passwords.Superuser)
	if err != nil {
		return fmt.Errorf("wait for the replica: connect to the primary: %w", err)
	}
	defer primary.Close(context.WithoutCancel(ctx))
	// A mark of our own: its commit flushes all before it, and it tells where a record ends. The position at which the
	// next record will be inserted does not: past the end of a page it counts that page's successor's header, and the
	// replica gets there only with a further record.
	position, err := Execute(ctx, primary, "select pg_logical_emit_message(true, 'lab', '')")
	if err != nil {
		return fmt.Errorf("wait for the replica: %w", err)
	}
	if err := p.Replica.WaitReady(ctx, p.Passwords.Superuser); err != nil {
		return fmt.Errorf("wait for the replica: %w", err)
	}
	replica, err := p.Replica.Address.connect(ctx, p.Passwords.Superuser)
	if err != nil {
		return fmt.Errorf("wait for the replica: connect to it: %w", err)
	}
	defer replica.Close(context.WithoutCancel(ctx))
	for {
		there, err := Execute(ctx, replica, "select coalesce(pg_last_wal_replay_lsn() >= '"+position+"'::pg_lsn, false)")
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

// databaseName is what a fork may be called, so that no name needs quoting.
var databaseName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// Fork makes a further database out of the seeded template that both servers have; the replica has it on return.
func (p Pair) Fork(ctx context.Context, name string) error {
	if !databaseName.MatchString(name) {
		return fmt.Errorf("fork a database: %q is not a name of lower-case letters, digits and _", name)
	}
	if err := p.administer(ctx, "create database "+name+" owner "+LabRole+" template "+TemplateDatabase); err != nil {
		return fmt.Errorf("fork a database: %w", err)
	}
	if err := p.WaitReplica(ctx); err != nil {
		return fmt.Errorf("fork a database: %w", err)
	}
	return nil
}

// DropFork drops what Fork made, whoever is connected.
func (p Pair) DropFork(ctx context.Context, name string) error {
	if err := p.administer(ctx, "drop database if exists "+name+" with (force)"); err != nil {
		return fmt.Errorf("drop a fork: %w", err)
	}
	return nil
}

// administer runs one statement as superuser, beside all databases that tests use.
func (p Pair) administer(ctx context.Context, statement string) error {
	conn, err := p.Primary.Address.connect(ctx, p.Passwords.Superuser)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = Execute(ctx, conn, statement)
	return err
}
