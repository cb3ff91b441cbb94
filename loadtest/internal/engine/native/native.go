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
	"time"

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

	findPostgres func() (binaries, error)

	mu     sync.Mutex
	closed bool
	// stops end what was started, by the order in which it was.
	stops   map[int]func(context.Context) error
	started int
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
	e := &Engine{options: options, stops: map[int]func(context.Context) error{}}
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
	if err := e.startSpawners(); err != nil {
		return nil, fmt.Errorf("native engine: %w", err)
	}
	if e.run, err = newRun(options.TempDir); err != nil {
		e.closeSpawners()
		return nil, fmt.Errorf("native engine: %w", err)
	}
	if !e.user.canReach(e.run.dir) {
		_ = e.run.delete()
		e.closeSpawners()
		return nil, fmt.Errorf("native engine: user %s, who runs PostgreSQL, cannot reach %s: set TMPDIR to a folder that all can pass through", e.user.name, options.TempDir)
	}
	e.findPostgres = sync.OnceValues(func() (binaries, error) { return findBinaries(context.WithoutCancel(ctx), e.cacheDir, e.log) })
	return e, nil
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

func (e *Engine) closeSpawners() {
	for _, s := range []*spawner{e.everywhere, e.contenderCPUs, e.databaseCPUs, e.agentCPUs} {
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

// keep has Close stop what was started, unless it is forgotten before.
func (e *Engine) keep(stop func(context.Context) error) (forget func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	number := e.started
	e.started++
	e.stops[number] = stop
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.stops, number)
	}
}

// baseEnvironment is the whole environment of what is started, the same for all: nothing of this user's own shell.
func (e *Engine) baseEnvironment() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + e.run.dir,
		"TZ=UTC",
		"LANG=C.UTF-8",
	}
}

// Close stops what still runs, the last started first, and deletes the run's folder.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	stops := maps.Clone(e.stops)
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	// Stopping must also work when the run was interrupted.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	for _, number := range slices.Backward(slices.Sorted(maps.Keys(stops))) {
		if err := stops[number](ctx); err != nil {
			errs = append(errs, err)
		}
	}
	e.closeSpawners()
	if err := e.run.delete(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
