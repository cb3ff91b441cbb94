package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"lab/loadtest/internal/contract"
)

// seedSettings returns the statements that tell the seed its size: set lab.items = 1000; and so on.
func seedSettings(size contract.Size) (string, error) {
	text, err := json.Marshal(size)
	if err != nil {
		return "", err
	}
	var numbers map[string]int
	if err := json.Unmarshal(text, &numbers); err != nil {
		return "", err
	}
	var names []string
	for name := range numbers {
		names = append(names, name)
	}
	sort.Strings(names)
	var statements strings.Builder
	for _, name := range names {
		fmt.Fprintf(&statements, "set lab.%s = %d;\n", name, numbers[name])
	}
	return statements.String(), nil
}

// Fill fills an empty cluster and checks that it holds what it must.
func (s Seed) Fill(ctx context.Context, at Address, secret Passwords) error {
	admin, err := at.connect(ctx, secret.Superuser)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer admin.Close(ctx)
	// The role lab owns the database and is no superuser; what only a superuser may do is done for it here.
	for _, statement := range []string{
		"create role " + LabRole + " login password '" + secret.Lab + "'",
		"create role " + ReplicationRole + " login replication password '" + secret.Replication + "'",
		"grant pg_read_all_stats, pg_signal_backend to " + LabRole,
		"create database " + LabDatabase + " owner " + LabRole,
	} {
		if _, err := Execute(ctx, admin, statement); err != nil {
			return err
		}
	}
	inLab, err := pgconn.Connect(ctx, at.URL(Superuser, secret.Superuser, LabDatabase))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer inLab.Close(ctx)
	for _, statement := range []string{
		"create extension if not exists pg_stat_statements",
		"alter schema public owner to " + LabRole,
		`do $$ declare f regprocedure; begin
		   for f in select oid::regprocedure from pg_proc where proname = 'pg_stat_statements_reset' loop
		     execute format('grant execute on function %s to ` + LabRole + `', f);
		   end loop;
		 end $$`,
	} {
		if _, err := Execute(ctx, inLab, statement); err != nil {
			return err
		}
	}
	lab, err := pgconn.Connect(ctx, at.URL(LabRole, secret.Lab, LabDatabase))
	if err != nil {
		return fmt.Errorf("connect as %s: %w", LabRole, err)
	}
	defer lab.Close(ctx)
	if _, err := Execute(ctx, lab, s.contract.SchemaSQL); err != nil {
		return fmt.Errorf("schema.sql: %w", err)
	}
	if _, err := Execute(ctx, lab, s.settings+s.contract.SeedSQL); err != nil {
		return fmt.Errorf("seed.sql: %w", err)
	}
	digest, err := Execute(ctx, lab, s.contract.DigestSQL)
	if err != nil {
		return fmt.Errorf("digest.sql: %w", err)
	}
	if digest != s.wantDigest {
		return fmt.Errorf("the seeded rows have the digest %q, but digests.json says %q: this machine computes other data", digest, s.wantDigest)
	}
	if _, err := Execute(ctx, inLab, "vacuum (analyze, freeze)"); err != nil {
		return err
	}
	// A database can be copied only while nobody is connected to it.
	for _, conn := range []*pgconn.PgConn{lab, inLab} {
		if err := conn.Close(ctx); err != nil {
			return err
		}
	}
	if err := copyDatabase(ctx, admin, LabDatabase, TemplateDatabase, func(statement string) error {
		_, err := Execute(ctx, admin, statement)
		return err
	}); err != nil {
		return err
	}
	// Two, since each keeps what was written since the one before.
	for range 2 {
		if _, err := Execute(ctx, admin, "checkpoint"); err != nil {
			return err
		}
	}
	return nil
}

// copyDatabase makes the template out of the seeded database and closes it to connections.
func copyDatabase(ctx context.Context, admin *pgconn.PgConn, from, to string, do func(string) error) error {
	create := "create database " + to + " owner " + LabRole + " template " + from
	for {
		err := do(create)
		var refused *pgconn.PgError
		// A backend takes a moment to end after its client has gone.
		if errors.As(err, &refused) && refused.Code == "55006" && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	return do("alter database " + to + " with is_template true allow_connections false")
}
