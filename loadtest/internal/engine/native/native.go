// Package native is the engine whose parts are processes of this machine: PostgreSQL from local binaries or from a
// registry's package of them, contenders, the stub service and the load generator, each pinned to its CPUs.
//
// Nothing outlives the program that asked for it. Every process is started with a parent-death signal from a thread that
// lives as long as the engine, has a process group of its own, and is entered in the marker of the run's folder; what a
// kill -9 leaves all the same, the next run sweeps.
package native

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

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
	// Binary is the program with the hidden commands agent and upstream; empty means this one.
	Binary string
	// TempDir is where the run's folder is made; empty means the system's.
	TempDir string
	// Log receives one line at a time of what takes long; nil means nowhere.
	Log func(line string)
}

// Engine is the native engine. It is an engine.Engine.
type Engine struct {
	options   Options
	run       *run
	user      serverUser
	cacheDir  string
	cpus      []int
	placement engine.Placement
	// unpinned is why the processes could not be given CPUs of their own, or nil.
	unpinned error

	// One spawner for each set of CPUs, and one for what is not measured.
	everywhere, contenderCPUs, databaseCPUs, agentCPUs *spawner

	mu sync.Mutex
	// otherCPUs are those of contenders that ask for a number of CPUs.
	otherCPUs map[int]*spawner

	findPostgres func() (binaries, error)
	stops        host.Stops
}

var _ engine.Engine = (*Engine)(nil)

// New sweeps what killed runs have left and makes an engine.
func New(ctx context.Context, options Options) (*Engine, error) {
	if options.Contract == nil {
		return nil, errors.New("native engine: no contract")
	}
	root, err := filepath.Abs(options.Root)
	if err != nil {
		return nil, fmt.Errorf("native engine: %w", err)
	}
	options.Root = root
	if options.TempDir == "" {
		options.TempDir = os.TempDir()
	}
	if options.TempDir, err = filepath.Abs(options.TempDir); err != nil {
		return nil, fmt.Errorf("native engine: %w", err)
	}
	if options.Binary == "" {
		if options.Binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("native engine: find this program: %w", err)
		}
	}
	if options.Log == nil {
		options.Log = func(string) {}
	}
	e := &Engine{options: options}
	swept, err := Sweep(options.TempDir)
	for _, s := range swept {
		e.log(fmt.Sprintf("removed what a killed run left: %s, %d processes", s.Dir, len(s.Pids)))
	}
	if err != nil {
		e.log("sweep: " + err.Error())
	}
	if e.user, err = findServerUser(); err != nil {
		return nil, fmt.Errorf("native engine: %w", err)
	}
	if e.cacheDir, err = cacheFolder(options.TempDir, e.user); err != nil {
		return nil, fmt.Errorf("native engine: %w", err)
	}
	if e.cpus, err = host.CPUs(); err != nil {
		e.unpinned = err
	}
	e.placement = engine.Place(e.cpus)
	if err := e.setUp(); err != nil {
		return nil, fmt.Errorf("native engine: %w", errors.Join(err, e.Close(ctx)))
	}
	e.findPostgres = sync.OnceValues(func() (binaries, error) { return findBinaries(context.WithoutCancel(ctx), e.cacheDir, e.log) })
	return e, nil
}

// setUp makes what every run has; Close removes it again.
func (e *Engine) setUp() (err error) {
	if e.run, err = newRun(e.options.TempDir); err != nil {
		return err
	}
	e.stops.Keep(func(context.Context) error { return e.run.delete() })
	if !e.user.canReach(e.run.dir) {
		return fmt.Errorf("user %s, who runs PostgreSQL, cannot reach %s: set TMPDIR to a folder that all can pass through", e.user.name, e.options.TempDir)
	}
	// Ended before the folder is deleted: what has not ended by then is killed with its thread.
	e.stops.Keep(func(context.Context) error {
		e.closeSpawners()
		return nil
	})
	return e.startSpawners()
}

// startSpawners starts the threads. Where the kernel refuses to pin, everything runs everywhere and the description says so.
func (e *Engine) startSpawners() error {
	var err error
	if e.everywhere, err = newSpawner(nil); err != nil {
		return err
	}
	for _, part := range []struct {
		target **spawner
		cpus   []int
	}{{&e.contenderCPUs, e.placement.Contender}, {&e.databaseCPUs, e.placement.Database}, {&e.agentCPUs, e.placement.Agent}} {
		s, err := newSpawner(part.cpus)
		if err != nil {
			e.unpinned = err
			e.placement = engine.Place(nil)
			if s, err = newSpawner(nil); err != nil {
				return err
			}
		}
		*part.target = s
	}
	return nil
}

// contenderSpawner starts contenders that ask for n CPUs; 0: on those of the placement.
func (e *Engine) contenderSpawner(n int) (*spawner, error) {
	placement, err := e.placement.With(n)
	if err != nil || slices.Equal(placement.Contender, e.placement.Contender) {
		return e.contenderCPUs, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.otherCPUs[n] == nil {
		s, err := newSpawner(placement.Contender)
		if err != nil {
			return nil, err
		}
		if e.otherCPUs == nil {
			e.otherCPUs = map[int]*spawner{}
		}
		e.otherCPUs[n] = s
	}
	return e.otherCPUs[n], nil
}

func (e *Engine) closeSpawners() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range append([]*spawner{e.everywhere, e.contenderCPUs, e.databaseCPUs, e.agentCPUs}, slices.Collect(maps.Values(e.otherCPUs))...) {
		if s != nil {
			s.close()
		}
	}
}

func (e *Engine) log(line string) { e.options.Log(line) }

// Name is "native".
func (e *Engine) Name() string { return "native" }

// postgres returns the PostgreSQL of this run, looked for once.
func (e *Engine) postgres(context.Context) (binaries, error) { return e.findPostgres() }

// baseEnvironment is the whole environment of what is started, the same for all: nothing of this user's own shell.
func (e *Engine) baseEnvironment() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + e.run.dir,
		"TZ=UTC",
		"LANG=C.UTF-8",
	}
}

// Alive is always nil: the machine is there as long as this program is.
func (e *Engine) Alive(context.Context) error { return nil }

// Close stops what still runs, the last started first, and deletes the run's folder.
func (e *Engine) Close(ctx context.Context) error { return e.stops.Close(ctx, nil) }
