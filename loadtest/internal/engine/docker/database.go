package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/postgres"
)

const (
	postgresPort = 5432
	// dataFolder is PGDATA of the official image up to PostgreSQL 17; it is set, so that newer ones have it too.
	dataFolder = "/var/lib/postgresql/data"
	// postgresUser runs the servers; the official image has it.
	postgresUser = "postgres"
	// databaseMemoryBytes is eight times what a server of the lab has been seen to hold (shared buffers of 256 MB and
	// 200 connections included), so that the limit only keeps a mistake from taking the machine along.
	databaseMemoryBytes = 4 << 30
	// secretsName is the file beside seeded data that has its passwords; completeName is written last.
	secretsName  = "lab-passwords.json"
	completeName = "lab-complete"
)

// entrypointCapabilities are what the image's entrypoint needs to give the data folder to its user and to become it.
var entrypointCapabilities = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"}

// replicationScript is run by the image's entrypoint when it makes a cluster: by default it admits no replication.
const replicationScript = "scripts/postgres/10-replication.sh"

// server is a PostgreSQL server of the run. It is a postgres.Runner.
type server struct {
	*unit
	port int
}

// Known is what package postgres needs to know of the server.
func (s *server) Known() postgres.Server {
	return postgres.Server{Name: s.spec.role, Address: postgres.At("127.0.0.1", s.port), Exited: s.Exited(), Logs: s.Logs}
}

// Start starts the same container again.
func (s *server) Start(ctx context.Context) error { return s.start(ctx) }

// ShutDown ends the server cleanly and leaves its container.
func (s *server) ShutDown(ctx context.Context) error { return s.stop(ctx, "SIGINT", 15*time.Second) }

// Discard removes the container.
func (s *server) Discard(ctx context.Context) error { return s.remove(ctx) }

// Database makes a primary and a replica out of copies of the seeded data.
func (e *Engine) Database(ctx context.Context, spec engine.DatabaseSpec) (engine.Database, error) {
	seed, err := postgres.SeedOf(e.options.Contract, spec.Size)
	if err != nil {
		return nil, err
	}
	image, err := e.c.have(ctx, postgresImageName(), e.log)
	if err != nil {
		return nil, err
	}
	c := &postgres.Cluster{Passwords: postgres.NewPasswords(), Size: spec.Size}
	c.Forget = e.stops.Keep(c.Stop)
	err = e.buildCluster(ctx, c, image, seed)
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

// buildCluster fills two volumes and starts a server of each.
func (e *Engine) buildCluster(ctx context.Context, c *postgres.Cluster, image image, seed postgres.Seed) error {
	var volumes []string
	c.Delete = func(ctx context.Context) error {
		var errs []error
		for _, volume := range volumes {
			errs = append(errs, e.removeVolume(ctx, volume))
		}
		return errors.Join(errs...)
	}
	for _, role := range []string{"primary", "replica"} {
		volume, err := e.makeVolume(ctx, role)
		if err != nil {
			return err
		}
		volumes = append(volumes, volume)
	}
	primaryName, replicaName := e.alias("primary"), e.alias("replica")
	follow := postgres.FollowSettings(postgres.At(primaryName, postgresPort), c.Passwords.Replication)
	old, err := e.copySeed(ctx, image, seed, volumes[0], volumes[1], postgres.File(follow))
	if err != nil {
		return err
	}
	primary, err := e.startServer(ctx, image, "database_primary", primaryName, volumes[0])
	if err != nil {
		return err
	}
	c.Primary = primary
	if err := primary.Known().WaitReady(ctx, old.Superuser); err != nil {
		return err
	}
	pair := postgres.Pair{Primary: primary.Known(), Passwords: c.Passwords}
	if err := pair.ChangePasswords(ctx, old); err != nil {
		return err
	}
	// With the new password: it answers to that only when it has followed the primary so far.
	replica, err := e.startServer(ctx, image, "database_replica", replicaName, volumes[1])
	if err != nil {
		return err
	}
	c.Replica = replica
	if err := c.Pair().WaitStreaming(ctx); err != nil {
		return err
	}
	e.learn(ctx, primary.unit)
	return nil
}

// makeVolume makes a volume that lives as long as the run.
func (e *Engine) makeVolume(ctx context.Context, role string) (string, error) {
	name := namePrefix + e.owner.run + "-" + role + "-" + host.RandomHex(3)
	making, cancel := whole(ctx)
	defer cancel()
	_, err := e.c.api.VolumeCreate(making, client.VolumeCreateOptions{Name: name, Labels: e.owner.labels(role)})
	if err != nil {
		return "", fmt.Errorf("make a volume: %w", explain(err))
	}
	return name, nil
}

func (e *Engine) removeVolume(ctx context.Context, name string) error {
	if _, err := e.c.api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove a volume: %w", explain(err))
	}
	return nil
}

// startServer starts a server of a data folder that is there, at a port of this machine that it keeps when it is started
// again. Its user needs no capability at all.
func (e *Engine) startServer(ctx context.Context, image image, role, alias, volume string) (*server, error) {
	for try := 1; ; try++ {
		port, err := host.FreePort()
		if err != nil {
			return nil, err
		}
		u, err := e.start(ctx, spec{
			role: role, alias: alias, image: image.reference, user: postgresUser,
			command:     append([]string{"postgres"}, postgres.Arguments(postgres.Settings(map[string]string{"listen_addresses": "*"}))...),
			environment: map[string]string{"PGDATA": dataFolder}, volumes: map[string]string{volume: dataFolder},
			scratch: []string{"/tmp", "/var/run/postgresql"},
			cpus:    e.placement.Database, memoryBytes: databaseMemoryBytes,
			port: postgresPort, hostPort: uint16(port),
		})
		// Another program may have been quicker to take the port that was free.
		if err != nil && try < 5 && (strings.Contains(err.Error(), "port is already allocated") || strings.Contains(err.Error(), "address already in use")) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e.publish(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), net.JoinHostPort(alias, strconv.Itoa(postgresPort)))
		return &server{unit: u, port: port}, nil
	}
}

// copyScript fills two volumes from the seeded one. It runs as root, which owns a new volume; what it copies keeps its
// owner. Status 3 says that the seeded data is not complete.
const copyScript = `set -eu
[ -f /seed/` + completeName + ` ] || exit 3
for to in /primary /replica; do
  cp -a /seed/. "$to"/ &
  copies="${copies:-} $!"
done
for copy in $copies; do wait "$copy"; done
rm /primary/lab-* /replica/lab-*
touch /replica/standby.signal
cat /tmp/follow.conf >>/replica/postgresql.auto.conf
chown --reference=/seed/PG_VERSION /replica/standby.signal /replica/postgresql.auto.conf
cat /seed/` + secretsName

// copySeed fills the volumes of a primary and its replica and returns the passwords that the data has.
func (e *Engine) copySeed(ctx context.Context, image image, seed postgres.Seed, primary, replica, follow string) (postgres.Passwords, error) {
	replication, err := os.ReadFile(filepath.Join(e.options.Root, replicationScript))
	if err != nil {
		return postgres.Passwords{}, err
	}
	name := namePrefix + "seed-" + seed.Size + "-" + seed.Key(image.id, string(replication))
	release, err := host.LockFile(ctx, filepath.Join(e.cacheDir, name+".lock"))
	if err != nil {
		return postgres.Passwords{}, err
	}
	defer release()
	for try := 1; ; try++ {
		if err := e.haveSeed(ctx, image, seed, replication, name, try > 1); err != nil {
			return postgres.Passwords{}, fmt.Errorf("seed a database: %w", err)
		}
		output, err := e.runToEnd(ctx, spec{
			role: "copy", image: image.reference, entrypoint: []string{"sh", "-c", copyScript}, user: "root", writable: true,
			volumes:      map[string]string{name: "/seed", primary: "/primary", replica: "/replica"},
			files:        map[string][]byte{"/tmp/follow.conf": []byte(follow)},
			capabilities: entrypointCapabilities, memoryBytes: databaseMemoryBytes,
		})
		var ended *statusError
		if errors.As(err, &ended) && ended.status == 3 && try == 1 {
			e.log("the seeded data is not complete; it is made anew")
			continue
		}
		if err != nil {
			return postgres.Passwords{}, fmt.Errorf("copy the seeded data: %w", err)
		}
		var old postgres.Passwords
		if err := json.Unmarshal(output, &old); err != nil {
			return postgres.Passwords{}, fmt.Errorf("copy the seeded data: its passwords: %w", err)
		}
		return old, nil
	}
}

// haveSeed makes the volume of seeded data where there is none, or anew.
func (e *Engine) haveSeed(ctx context.Context, image image, seed postgres.Seed, replication []byte, name string, anew bool) error {
	_, err := e.c.api.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	switch {
	case err == nil && !anew:
		return nil
	case err == nil:
		if err := e.removeVolume(ctx, name); err != nil {
			return err
		}
	case !errdefs.IsNotFound(err):
		return explain(err)
	}
	e.log(fmt.Sprintf("seeding a database of size %s with %s (once; kept for later runs)", seed.Size, image.reference))
	// In a volume of the run, so that what a kill leaves is swept; only what is whole is kept.
	draft, err := e.makeVolume(ctx, "seeding")
	if err != nil {
		return err
	}
	defer func() {
		if err := e.removeVolume(context.WithoutCancel(ctx), draft); err != nil {
			e.log(err.Error())
		}
	}()
	secret, err := e.seedInto(ctx, image, seed, replication, draft)
	if err != nil {
		return err
	}
	text, err := json.Marshal(secret)
	if err != nil {
		return err
	}
	labels := map[string]string{labelCache: seedLabel(seed.Size)}
	if _, err := e.c.api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: labels}); err != nil {
		return explain(err)
	}
	_, err = e.runToEnd(ctx, spec{
		role: "keep", image: image.reference, user: "root", writable: true,
		entrypoint: []string{"sh", "-c", "set -eu; cp -a /draft/. /seed/; install -m 600 /tmp/secrets /seed/" + secretsName + "; sync; touch /seed/" + completeName},
		volumes:    map[string]string{draft: "/draft", name: "/seed"}, files: map[string][]byte{"/tmp/secrets": text},
		capabilities: entrypointCapabilities, memoryBytes: databaseMemoryBytes,
	})
	if err != nil {
		_ = e.removeVolume(context.WithoutCancel(ctx), name)
		return err
	}
	e.removeOlderSeeds(ctx, seed.Size, name)
	return nil
}

func seedLabel(size string) string { return "seed-" + size }

// removeOlderSeeds removes the volumes of seeded data that the one just made replaces: they are of other rows, another
// image or another script. What a container uses stays; its run or a later one may go on with it.
func (e *Engine) removeOlderSeeds(ctx context.Context, size, name string) {
	kept, err := e.c.api.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("label", labelCache+"="+seedLabel(size))})
	if err != nil {
		e.log(fmt.Sprintf("look for older seeded data: %v", err))
		return
	}
	for _, item := range kept.Items {
		if item.Name == name || !strings.HasPrefix(item.Name, namePrefix) {
			continue
		}
		if _, err := e.c.api.VolumeRemove(ctx, item.Name, client.VolumeRemoveOptions{}); err == nil {
			e.log("removed the older seeded data " + item.Name)
		}
	}
}

// seedInto has the image make a cluster in a volume, by its own contract, and fills it.
func (e *Engine) seedInto(ctx context.Context, image image, seed postgres.Seed, replication []byte, volume string) (secret postgres.Passwords, err error) {
	secret = postgres.NewPasswords()
	settings := postgres.Settings(postgres.SeedingSettings(), map[string]string{"listen_addresses": "*"})
	// The entrypoint's set-up talks to the server by a socket.
	delete(settings, "unix_socket_directories")
	u, err := e.start(ctx, spec{
		role: "seeding", alias: e.alias("seeding"), image: image.reference, writable: true,
		command: append([]string{"postgres"}, postgres.Arguments(settings)...),
		environment: map[string]string{
			"PGDATA": dataFolder, "POSTGRES_USER": postgres.Superuser, "POSTGRES_PASSWORD": secret.Superuser,
			"POSTGRES_INITDB_ARGS": fmt.Sprintf("--encoding=UTF8 --locale=C.UTF-8 --no-sync --auth-host=scram-sha-256 --wal-segsize=%d", postgres.WALSegmentMegabytes),
		},
		files:        map[string][]byte{"/docker-entrypoint-initdb.d/" + filepath.Base(replicationScript): replication},
		volumes:      map[string]string{volume: dataFolder},
		capabilities: entrypointCapabilities, memoryBytes: databaseMemoryBytes, port: postgresPort,
	})
	if err != nil {
		return secret, err
	}
	defer func() {
		// A clean stop makes sure that the folder can be copied.
		stopErr := u.stop(context.WithoutCancel(ctx), "SIGINT", 30*time.Second)
		if removeErr := u.remove(context.WithoutCancel(ctx)); stopErr == nil {
			stopErr = removeErr
		}
		if err == nil {
			err = stopErr
		}
	}()
	s := postgres.Server{Name: "postgres (seeding)", Address: postgres.At("127.0.0.1", int(u.hostPort)), Exited: u.Exited(), Logs: u.Logs}
	if err := s.WaitReady(ctx, secret.Superuser); err != nil {
		return secret, err
	}
	if err := seed.Fill(ctx, s.Address, secret); err != nil {
		return secret, fmt.Errorf("%w%s", err, host.QuoteLog(u.Logs(10)))
	}
	return secret, nil
}

// postgresVersion asks the image's program, once.
func (e *Engine) postgresVersion(ctx context.Context) (version, source string, err error) {
	e.versionMu.Lock()
	defer e.versionMu.Unlock()
	source = "image " + postgresImageName()
	if e.version != "" {
		return e.version, source, nil
	}
	image, err := e.c.have(ctx, postgresImageName(), e.log)
	if err != nil {
		return "", "", err
	}
	output, err := e.runToEnd(ctx, spec{
		role: "version", image: image.reference, entrypoint: []string{"postgres", "--version"}, user: postgresUser, memoryBytes: toolMemoryBytes,
	})
	if err != nil {
		return "", "", fmt.Errorf("ask for PostgreSQL's version: %w", err)
	}
	// postgres (PostgreSQL) 15.18 (Debian …)
	words := strings.Fields(string(output))
	if len(words) < 3 {
		return "", "", fmt.Errorf("ask for PostgreSQL's version: got %q", output)
	}
	e.version = words[2]
	return e.version, source, nil
}
