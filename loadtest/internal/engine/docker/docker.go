// Package docker is the engine whose parts are containers: PostgreSQL from the official image or what keeps its contract,
// contenders and the load generator from images that are built of this repository. It is the only importer of
// testcontainers and of Docker's own packages.
//
// All containers of a run are in one network that leads nowhere else. Load never passes a published port: the load
// generator's container shares the contender's network namespace and asks 127.0.0.1. What is published on loopback is for
// proofs and for people. Everything carries the labels of its run; what a kill leaves, the next run sweeps.
package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/moby/moby/client"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
)

// Options say where things are.
type Options struct {
	// Root is the repository's root.
	Root string
	// Contract is the contract that the databases are seeded by.
	Contract *contract.Contract
	// Log receives one line at a time of what takes long; nil means nowhere.
	Log func(line string)
}

// Engine is the engine of containers. It is an engine.Engine.
type Engine struct {
	options   Options
	c         *connection
	owner     owner
	network   runNetwork
	images    *builder
	cacheDir  string
	cpus      []int
	placement engine.Placement
	// version is PostgreSQL's, once it was asked for.
	versionMu sync.Mutex
	version   string
	stops     host.Stops

	mu sync.Mutex
	// inner are addresses in the run's network, by the published ones.
	inner map[string]string
	names map[string]int
	// told is what the account of a container that runs has, once there was one.
	told *account
}

var _ engine.Engine = (*Engine)(nil)

// runNetwork is the network of a run.
type runNetwork struct {
	name, id string
	// listen is where helpers on this machine listen for containers, dial how containers reach them.
	listen, dial string
}

// desktopHost is this machine as containers of an engine in a virtual machine know it.
const desktopHost = "host.docker.internal"

// New sweeps what killed runs have left and makes an engine.
func New(ctx context.Context, options Options) (*Engine, error) {
	if options.Contract == nil {
		return nil, errors.New("docker engine: no contract")
	}
	root, err := filepath.Abs(options.Root)
	if err != nil {
		return nil, fmt.Errorf("docker engine: %w", err)
	}
	options.Root = root
	if options.Log == nil {
		options.Log = func(string) {}
	}
	e := &Engine{options: options, inner: map[string]string{}, names: map[string]int{}}
	e.images = &builder{e: e, done: map[string]image{}, sizes: map[string]int64{}}
	if e.owner, err = newOwner(); err != nil {
		return nil, fmt.Errorf("docker engine: %w", err)
	}
	if e.c, err = connect(ctx); err != nil {
		return nil, fmt.Errorf("docker engine: %w", err)
	}
	e.stops.Keep(func(context.Context) error { return e.c.api.Close() })
	// What was half made when something failed.
	e.stops.Keep(func(ctx context.Context) error {
		_, err := e.c.sweep(ctx, func(labels map[string]string) bool { return labels[labelRun] == e.owner.run })
		return err
	})
	if err := e.setUp(ctx); err != nil {
		return nil, fmt.Errorf("docker engine: %w", err)
	}
	return e, nil
}

// setUp sweeps and makes what every run has; on failure nothing is left.
func (e *Engine) setUp(ctx context.Context) (err error) {
	defer func() {
		if err == nil {
			return
		}
		if closeErr := e.Close(ctx); closeErr != nil {
			e.log(closeErr.Error())
		}
	}()
	swept, err := e.c.sweep(ctx, isLeft)
	if swept != (Swept{}) {
		e.log(fmt.Sprintf("removed what killed runs left: %d containers, %d networks, %d volumes", swept.Containers, swept.Networks, swept.Volumes))
	}
	if err != nil {
		e.log("sweep: " + err.Error())
	}
	if err := e.place(ctx); err != nil {
		return err
	}
	if e.cacheDir, err = cacheFolder(); err != nil {
		return err
	}
	return e.makeNetwork(ctx)
}

// place shares out the CPUs: those that this program may use where the engine is this machine's own, else the engine's.
func (e *Engine) place(ctx context.Context) error {
	info, err := e.c.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return explain(err)
	}
	if info.Info.KernelVersion == host.KernelRelease() {
		e.cpus, err = host.CPUs()
	}
	if len(e.cpus) == 0 || err != nil {
		e.cpus = nil
		for cpu := range info.Info.NCPU {
			e.cpus = append(e.cpus, cpu)
		}
	}
	e.placement = engine.Place(e.cpus)
	return nil
}

// cacheFolder has the locks of what the engine keeps for later runs.
func cacheFolder() (string, error) {
	dir := os.Getenv("LAB_CACHE_DIR")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = os.TempDir()
		}
		dir = filepath.Join(base, "polyglot-lab")
	}
	dir = filepath.Join(dir, "docker")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a cache folder: %w", err)
	}
	return dir, nil
}

// makeNetwork makes the run's network. Without masquerading nothing in it gets an answer from beyond this machine;
// a network that the engine calls internal would not publish on loopback either.
func (e *Engine) makeNetwork(ctx context.Context) error {
	e.network.name = namePrefix + e.owner.run
	making, cancel := whole(ctx)
	defer cancel()
	made, err := e.c.api.NetworkCreate(making, e.network.name, client.NetworkCreateOptions{
		Driver: "bridge", Labels: e.owner.labels("network"),
		Options: map[string]string{"com.docker.network.bridge.enable_ip_masquerade": "false"},
	})
	if err != nil {
		return fmt.Errorf("make the run's network: %w", explain(err))
	}
	e.network.id = made.ID
	e.stops.Keep(func(ctx context.Context) error {
		if _, err := e.c.api.NetworkRemove(ctx, e.network.id, client.NetworkRemoveOptions{}); err != nil {
			return fmt.Errorf("remove the run's network: %w", explain(err))
		}
		return nil
	})
	e.network.listen, e.network.dial = "127.0.0.1", desktopHost
	found, err := e.c.api.NetworkInspect(ctx, e.network.id, client.NetworkInspectOptions{})
	if err != nil {
		return fmt.Errorf("look at the run's network: %w", explain(err))
	}
	for _, config := range found.Network.IPAM.Config {
		// Where the bridge is this machine's own, its address is one of ours.
		if config.Gateway.Is4() && isOurs(config.Gateway.String()) {
			e.network.listen, e.network.dial = config.Gateway.String(), config.Gateway.String()
		}
	}
	return nil
}

func isOurs(address string) bool {
	addresses, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addresses, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.String() == address
	})
}

func (e *Engine) log(line string) { e.options.Log(line) }

// Name is "docker".
func (e *Engine) Name() string { return "docker" }

// Loopback says where helpers on this machine listen so that contenders reach them, and at which address they do.
func (e *Engine) Loopback() (listen, dial string) { return e.network.listen, e.network.dial }

// alias gives a name in the run's network.
func (e *Engine) alias(role string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names[role]++
	return fmt.Sprintf("%s-%d", role, e.names[role])
}

// publish remembers that a published address is one in the run's network.
func (e *Engine) publish(published, inner string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inner[published] = inner
}

// Alive asks the engine.
func (e *Engine) Alive(ctx context.Context) error {
	_, err := e.c.api.Ping(ctx, client.PingOptions{})
	if err = explain(err); errors.Is(err, engine.ErrGone) {
		return err
	}
	return nil
}

// Close stops what still runs, the last started first, and removes whatever carries the run's labels.
func (e *Engine) Close(ctx context.Context) error {
	err := e.stops.Close(ctx, engine.ErrGone)
	if errors.Is(err, engine.ErrGone) {
		// Each part that was tried says the same.
		return fmt.Errorf("%w; what was started is removed by the next run", engine.ErrGone)
	}
	return err
}
