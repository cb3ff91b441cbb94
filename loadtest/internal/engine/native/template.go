package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/postgres"
)

// template is a stopped, seeded data folder from which primaries and replicas are copied.
type template struct {
	data      string
	passwords postgres.Passwords
}

// findTemplate returns the template of that size from the cache, or makes it: initdb, schema, seed, check of the digest,
// vacuum and analyze, clean stop.
func (e *Engine) findTemplate(ctx context.Context, pg binaries, size string) (template, error) {
	seed, err := postgres.SeedOf(e.options.Contract, size)
	if err != nil {
		return template{}, err
	}
	key := fmt.Sprintf("postgres-%s-%s-%s", pg.version, size, seed.Key(pg.version, pg.source, e.user.name))
	dir, err := cached(ctx, e.cacheDir, key, func(dir string) error {
		e.log(fmt.Sprintf("seeding a database of size %s with PostgreSQL %s (once; kept for later runs)", size, pg.version))
		return e.buildTemplate(ctx, pg, dir, seed)
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

// buildTemplate makes the template's folder: data/, which belongs to the server's user, and passwords.json.
func (e *Engine) buildTemplate(ctx context.Context, pg binaries, dir string, seed postgres.Seed) (err error) {
	secret := postgres.NewPasswords()
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
		settings: postgres.SeedingSettings()}
	if err := s.Start(ctx); err != nil {
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
	if err := s.Known().WaitReady(ctx, secret.Superuser); err != nil {
		return err
	}
	if err := seed.Fill(ctx, s.address(), secret); err != nil {
		return fmt.Errorf("%w%s", err, host.QuoteLog(s.logs(10)))
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
		"--pgdata="+data, "--username="+postgres.Superuser, "--pwfile="+file.Name(), "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
		"--wal-segsize="+strconv.Itoa(postgres.WALSegmentMegabytes))
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
