package native

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"lab/loadtest/internal/contract"
)

const (
	superuser       = "postgres"
	labRole         = "lab"
	replicationRole = "replicator"
	labDatabase     = "lab"
	// templateDatabase is a copy of the seeded database that nobody connects to, so that forks can be made of it while
	// contenders use the other.
	templateDatabase = "lab_template"
	// templateFormat is part of the cache's key: change it with anything here that changes what a template holds.
	templateFormat = "3"
)

// passwords are those of one set of servers.
type passwords struct {
	Superuser   string `json:"superuser"`
	Lab         string `json:"lab"`
	Replication string `json:"replication"`
}

func newPasswords() passwords {
	return passwords{Superuser: randomHex(16), Lab: randomHex(16), Replication: randomHex(16)}
}

// template is a stopped, seeded data folder from which primaries and replicas are copied.
type template struct {
	data      string
	passwords passwords
}

// findTemplate returns the template of that size from the cache, or makes it: initdb, schema, seed, check of the digest,
// vacuum and analyze, clean stop.
func (e *Engine) findTemplate(ctx context.Context, pg binaries, size string) (template, error) {
	c := e.options.Contract
	numbers, known := c.Sizes[size]
	if !known {
		return template{}, fmt.Errorf("size %q is not known; there are: %s", size, strings.Join(sizeNames(c), ", "))
	}
	want, known := c.Digests[size]
	if !known {
		return template{}, fmt.Errorf("size %q has no digest in digests.json", size)
	}
	settings, err := seedSettings(numbers)
	if err != nil {
		return template{}, err
	}
	hash := sha256.New()
	for _, part := range []string{templateFormat, pg.version, pg.source, size, settings, want, c.SchemaSQL, c.SeedSQL, c.DigestSQL, e.user.name} {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	key := fmt.Sprintf("postgres-%s-%s-%s", pg.version, size, hex.EncodeToString(hash.Sum(nil))[:16])
	dir, err := cached(ctx, e.cacheDir, key, func(dir string) error {
		e.log(fmt.Sprintf("seeding a database of size %s with PostgreSQL %s (once; kept for later runs)", size, pg.version))
		return e.buildTemplate(ctx, pg, dir, settings, want)
	})
	if err != nil {
		return template{}, fmt.Errorf("make the seeded database: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "passwords.json"))
	if err != nil {
		return template{}, fmt.Errorf("make the seeded database: %w", err)
	}
	t := template{data: filepath.Join(dir, "data")}
	if err := json.Unmarshal(text, &t.passwords); err != nil {
		return template{}, fmt.Errorf("make the seeded database: passwords.json: %w", err)
	}
	return t, nil
}

func sizeNames(c *contract.Contract) []string {
	var names []string
	for name := range c.Sizes {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

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

// buildTemplate makes the template's folder: data/, which belongs to the server's user, and passwords.json.
func (e *Engine) buildTemplate(ctx context.Context, pg binaries, dir, settings, wantDigest string) (err error) {
	secret := newPasswords()
	data := filepath.Join(dir, "data")
	if err := e.user.makeFolder(data); err != nil {
		return err
	}
	if err := e.initdb(ctx, pg, data, secret.Superuser); err != nil {
		return err
	}
	// In the run's folder: where this program is killed, the sweep finds the server by its log's and its data's place.
	logs, err := os.MkdirTemp(e.run.dir, "seed-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(logs)
	s := &server{engine: e, pg: pg, name: "postgres (seeding)", data: data, logPath: filepath.Join(logs, "postgres.log"), spawner: e.everywhere,
		// The last checkpoint then leaves hardly any log to copy.
		settings: map[string]string{"wal_keep_size": "0", "min_wal_size": "2MB", "wal_recycle": "off"}}
	if err := s.start(ctx); err != nil {
		return err
	}
	defer func() {
		// A clean stop also makes sure that the folder can be copied.
		if stopErr := s.stop(ctx, syscall.SIGINT); err == nil {
			err = stopErr
		}
		for _, leftover := range []string{"postmaster.opts", "postmaster.pid"} {
			_ = os.Remove(filepath.Join(data, leftover))
		}
	}()
	if err := s.waitReady(ctx, superuser, secret.Superuser); err != nil {
		return err
	}
	if err := seed(ctx, s, secret, e.options.Contract, settings, wantDigest); err != nil {
		return fmt.Errorf("%w%s", err, quoteLog(s.logs(10)))
	}
	text, err := json.Marshal(secret)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "passwords.json"), text, 0o600)
}

// initdb makes an empty cluster whose collation sorts by code point.
func (e *Engine) initdb(ctx context.Context, pg binaries, data, password string) error {
	file, err := os.CreateTemp(e.run.dir, "initdb-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err := file.WriteString(password + "\n"); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := e.user.own(file.Name()); err != nil {
		return err
	}
	var output strings.Builder
	cmd := exec.CommandContext(ctx, filepath.Join(pg.bin, "initdb"),
		"--pgdata="+data, "--username="+superuser, "--pwfile="+file.Name(), "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
		// Every run copies the log's files twice: small ones make that short.
		"--wal-segsize=1")
	cmd.Env = append(e.baseEnvironment(), runVariable+"="+e.run.id)
	cmd.Dir = data
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: e.user.credential}
	if err := e.everywhere.start(cmd); err != nil {
		return e.explainStart(pg, fmt.Errorf("initdb: %w", err))
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, lastLines(output.String(), 5))
	}
	return nil
}

// explainStart adds what to do where the server's user cannot reach the binaries.
func (e *Engine) explainStart(pg binaries, err error) error {
	if errors.Is(err, fs.ErrPermission) && !e.user.canReach(pg.bin) {
		return fmt.Errorf("%w: user %s cannot reach %s", err, e.user.name, pg.bin)
	}
	return err
}

// seed fills an empty cluster and checks that it holds what it must.
func seed(ctx context.Context, s *server, secret passwords, c *contract.Contract, settings, wantDigest string) error {
	admin, err := pgconn.Connect(ctx, s.url(superuser, secret.Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer admin.Close(ctx)
	// The role lab owns the database and is no superuser; what only a superuser may do is done for it here.
	for _, statement := range []string{
		"create role " + labRole + " login password '" + secret.Lab + "'",
		"create role " + replicationRole + " login replication password '" + secret.Replication + "'",
		"grant pg_read_all_stats, pg_signal_backend to " + labRole,
		"create database " + labDatabase + " owner " + labRole,
	} {
		if _, err := execute(ctx, admin, statement); err != nil {
			return err
		}
	}
	inLab, err := pgconn.Connect(ctx, s.url(superuser, secret.Superuser, labDatabase))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer inLab.Close(ctx)
	for _, statement := range []string{
		"create extension if not exists pg_stat_statements",
		"alter schema public owner to " + labRole,
		`do $$ declare f regprocedure; begin
		   for f in select oid::regprocedure from pg_proc where proname = 'pg_stat_statements_reset' loop
		     execute format('grant execute on function %s to ` + labRole + `', f);
		   end loop;
		 end $$`,
	} {
		if _, err := execute(ctx, inLab, statement); err != nil {
			return err
		}
	}
	lab, err := pgconn.Connect(ctx, s.url(labRole, secret.Lab, labDatabase))
	if err != nil {
		return fmt.Errorf("connect as %s: %w", labRole, err)
	}
	defer lab.Close(ctx)
	if _, err := execute(ctx, lab, c.SchemaSQL); err != nil {
		return fmt.Errorf("schema.sql: %w", err)
	}
	if _, err := execute(ctx, lab, settings+c.SeedSQL); err != nil {
		return fmt.Errorf("seed.sql: %w", err)
	}
	digest, err := execute(ctx, lab, c.DigestSQL)
	if err != nil {
		return fmt.Errorf("digest.sql: %w", err)
	}
	if digest != wantDigest {
		return fmt.Errorf("the seeded rows have the digest %q, but digests.json says %q: this machine computes other data", digest, wantDigest)
	}
	if _, err := execute(ctx, inLab, "vacuum (analyze, freeze)"); err != nil {
		return err
	}
	// A database can be copied only while nobody is connected to it.
	for _, conn := range []*pgconn.PgConn{lab, inLab} {
		if err := conn.Close(ctx); err != nil {
			return err
		}
	}
	if err := copyDatabase(ctx, admin, labDatabase, templateDatabase, func(statement string) error {
		_, err := execute(ctx, admin, statement)
		return err
	}); err != nil {
		return err
	}
	// Two, since each keeps what was written since the one before.
	for range 2 {
		if _, err := execute(ctx, admin, "checkpoint"); err != nil {
			return err
		}
	}
	return nil
}

// copyDatabase makes the template out of the seeded database and closes it to connections.
func copyDatabase(ctx context.Context, admin *pgconn.PgConn, from, to string, do func(string) error) error {
	create := "create database " + to + " owner " + labRole + " template " + from
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

// execute runs a script of one or more statements and returns the first value of the last row set, or "".
func execute(ctx context.Context, conn *pgconn.PgConn, script string) (string, error) {
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

// copyData copies a data folder for the server's user. Where the file system can share blocks, it costs next to nothing.
func (u serverUser) copyData(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			if err := os.Mkdir(target, 0o700); err != nil {
				return err
			}
		case entry.Type().IsRegular():
			if err := copyFile(path, target, info.Mode().Perm()); err != nil {
				return err
			}
		default:
			return fmt.Errorf("copy %s: neither a file nor a folder", name)
		}
		return u.own(target)
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if unix.IoctlFileClone(int(target.Fd()), int(source.Fd())) != nil {
		if _, err := io.Copy(target, source); err != nil {
			target.Close()
			return err
		}
	}
	return target.Close()
}
