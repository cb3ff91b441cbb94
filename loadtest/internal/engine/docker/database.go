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
	"sync"
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

// cluster is a primary and its replica.
type cluster struct {
	e                *Engine
	primary, replica *server
	passwords        postgres.Passwords
	size             string
	volumes          []string
	stopOnce         sync.Once
	stopErr          error
	forget           func()
	// restarting keeps readings and stops away from servers that are being replaced.
	restarting sync.RWMutex
}

// server is one of them.
type server struct {
	*unit
	port int
}

func (s *server) known() postgres.Server {
	return postgres.Server{Name: s.spec.role, Address: postgres.At("127.0.0.1", s.port), Exited: s.Exited(), Logs: s.Logs}
}

// database is one database on a cluster; it is an engine.Database.
type database struct {
	*cluster
	name string
	fork bool
}

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
	c := &cluster{e: e, passwords: postgres.NewPasswords(), size: spec.Size}
	c.forget = e.keep(c.stop)
	if err := c.build(ctx, image, seed); err != nil {
		if stopErr := c.stop(context.WithoutCancel(ctx)); stopErr != nil {
			e.log(stopErr.Error())
		}
		return nil, fmt.Errorf("make a database: %w", err)
	}
	return &database{cluster: c, name: postgres.LabDatabase}, nil
}

func (c *cluster) build(ctx context.Context, image image, seed postgres.Seed) error {
	e := c.e
	var names []string
	for _, role := range []string{"primary", "replica"} {
		name, err := e.makeVolume(ctx, role)
		if err != nil {
			return err
		}
		c.volumes = append(c.volumes, name)
		names = append(names, e.alias(role))
	}
	follow := postgres.FollowSettings(postgres.At(names[0], postgresPort), c.passwords.Replication)
	old, err := e.copySeed(ctx, image, seed, c.volumes[0], c.volumes[1], postgres.File(follow))
	if err != nil {
		return err
	}
	if c.primary, err = e.startServer(ctx, image, "database_primary", names[0], c.volumes[0]); err != nil {
		return err
	}
	if err := c.primary.known().WaitReady(ctx, old.Superuser); err != nil {
		return err
	}
	pair := postgres.Pair{Primary: c.primary.known(), Passwords: c.passwords}
	if err := pair.ChangePasswords(ctx, old); err != nil {
		return err
	}
	// With the new password: it answers to that only when it has followed the primary so far.
	if c.replica, err = e.startServer(ctx, image, "database_replica", names[1], c.volumes[1]); err != nil {
		return err
	}
	if err := c.pair().WaitStreaming(ctx); err != nil {
		return err
	}
	e.learn(ctx, c.primary.unit)
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

// pair is what package postgres needs to know of the two servers.
func (c *cluster) pair() postgres.Pair {
	return postgres.Pair{Primary: c.primary.known(), Replica: c.replica.known(), Passwords: c.passwords}
}

// stop ends both servers and deletes their data: at once, since nobody needs it any more.
func (c *cluster) stop(ctx context.Context) error {
	c.stopOnce.Do(func() {
		if c.forget != nil {
			defer c.forget()
		}
		c.restarting.Lock()
		defer c.restarting.Unlock()
		var wait sync.WaitGroup
		errs := make([]error, 2)
		for i, s := range []*server{c.replica, c.primary} {
			if s != nil {
				wait.Go(func() { errs[i] = s.remove(ctx) })
			}
		}
		wait.Wait()
		for _, volume := range c.volumes {
			errs = append(errs, c.e.removeVolume(ctx, volume))
		}
		c.stopErr = errors.Join(errs...)
	})
	return c.stopErr
}

func (d *database) PrimaryURL() string {
	return d.primary.known().Address.URL(postgres.LabRole, d.passwords.Lab, d.name)
}

func (d *database) ReplicaURL() string {
	return d.replica.known().Address.URL(postgres.LabRole, d.passwords.Lab, d.name)
}

func (d *database) AdminPrimaryURL() string {
	return d.primary.known().Address.URL(postgres.Superuser, d.passwords.Superuser, d.name)
}

func (d *database) AdminReplicaURL() string {
	return d.replica.known().Address.URL(postgres.Superuser, d.passwords.Superuser, d.name)
}

func (d *database) Size() string { return d.size }

// Primary and Replica are the meters of one server each.
func (d *database) Primary() engine.Meter { return serverMeter{d.cluster, d.primary} }
func (d *database) Replica() engine.Meter { return serverMeter{d.cluster, d.replica} }

// serverMeter keeps away from a server that is being started again.
type serverMeter struct {
	c *cluster
	s *server
}

func (m serverMeter) Pids() []int {
	m.c.restarting.RLock()
	defer m.c.restarting.RUnlock()
	return m.s.Pids()
}

func (m serverMeter) Usage(ctx context.Context) (engine.Usage, error) {
	m.c.restarting.RLock()
	defer m.c.restarting.RUnlock()
	return m.s.Usage(ctx)
}

func (m serverMeter) Memory(ctx context.Context) (engine.Memory, error) {
	m.c.restarting.RLock()
	defer m.c.restarting.RUnlock()
	return m.s.Memory(ctx)
}

func (d *database) Pids() []int { return append(d.Primary().Pids(), d.Replica().Pids()...) }

func (d *database) Usage(ctx context.Context) (engine.Usage, error) {
	primary, err := d.Primary().Usage(ctx)
	if err != nil {
		return engine.Usage{}, err
	}
	replica, err := d.Replica().Usage(ctx)
	return primary.Add(replica), err
}

func (d *database) Memory(ctx context.Context) (engine.Memory, error) {
	primary, err := d.Primary().Memory(ctx)
	if err != nil {
		return engine.Memory{}, err
	}
	replica, err := d.Replica().Memory(ctx)
	return primary.Add(replica), err
}

func (d *database) Logs(n int) []string {
	return append(d.primary.Logs(n), d.replica.Logs(n)...)
}

func (d *database) WaitReplica(ctx context.Context) error { return d.pair().WaitReplica(ctx) }

// Fork makes a further database out of the seeded template that both servers have.
func (d *database) Fork(ctx context.Context, name string) (engine.Database, error) {
	if err := d.pair().Fork(ctx, name); err != nil {
		return nil, err
	}
	return &database{cluster: d.cluster, name: name, fork: true}, nil
}

// Restart stops both servers cleanly, as an administrator would, and starts the same containers, at the same addresses.
func (d *database) Restart(ctx context.Context) error {
	d.restarting.Lock()
	defer d.restarting.Unlock()
	// The replica first: while the primary's name is gone it would be busy asking for it.
	for _, s := range []*server{d.replica, d.primary} {
		if err := s.stop(ctx, "SIGINT", 15*time.Second); err != nil {
			return fmt.Errorf("restart the database: %w", err)
		}
	}
	for _, s := range []*server{d.primary, d.replica} {
		if err := s.unit.start(ctx); err != nil {
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
