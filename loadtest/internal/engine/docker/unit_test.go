package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
)

// newServerAt serves at an address of this machine for as long as the test runs.
func newServerAt(t *testing.T, listen string, handler http.Handler) string {
	t.Helper()
	listener, err := net.Listen("tcp4", net.JoinHostPort(listen, "0"))
	require.NoError(t, err)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return "http://" + listener.Addr().String()
}

func TestOnlyEnginesOfThisMachine(t *testing.T) {
	for address, fine := range map[string]bool{
		"unix:///var/run/docker.sock": true, "tcp://127.0.0.1:2375": true, "tcp://localhost:2375": true, "tcp://[::1]:2375": true,
		"tcp://192.0.2.1:2376": false, "ssh://me@build.example": false, "tcp://build.example:2376": false,
	} {
		err := checkAddress(address)
		if fine {
			require.NoError(t, err, address)
		} else {
			require.ErrorContains(t, err, address)
		}
	}
}

func TestWhatIsLeft(t *testing.T) {
	me, err := newOwner()
	require.NoError(t, err)
	labels := me.labels("contender")
	assert.False(t, isLeft(labels), "this program lives")
	assert.True(t, isLeft(withLabels(labels, labelStart, "1")), "another program with the same process id")
	assert.True(t, isLeft(withLabels(labels, labelBoot, "another")), "the machine was started since")
	assert.True(t, isLeft(withLabels(labels, labelPid, strconv.Itoa(1<<22+1))), "no such process")
	assert.False(t, isLeft(withLabels(labels, labelHost, "another", labelBoot, "another")), "another machine's runs cannot be told")
	assert.False(t, isLeft(withLabels(labels, labelPid, "nonsense")), "a label that is not ours")
	assert.False(t, isLeft(map[string]string{labelCache: "seed-small"}), "what is kept")
	assert.NotEqual(t, me.run, host.RandomHex(6))
}

func TestBuildArguments(t *testing.T) {
	const dockerfile = "# ARG COMMENT_IMAGE=x\nARG GO_IMAGE=golang:1.26-bookworm\nARG DEBIAN_IMAGE=\"debian:bookworm-slim\"\nARG VERSION=1\nFROM ${GO_IMAGE} AS build\nFROM ${DEBIAN_IMAGE}\n"
	t.Setenv("GO_IMAGE", "")
	t.Setenv("DEBIAN_IMAGE", "mirror.example/debian:12")
	arguments, bases := buildArguments(dockerfile, map[string]string{"PROFILE": "slow"})
	assert.Equal(t, []string{"golang:1.26-bookworm", "mirror.example/debian:12"}, bases)
	assert.Equal(t, map[string]string{"GO_IMAGE": "golang:1.26-bookworm", "DEBIAN_IMAGE": "mirror.example/debian:12", "PROFILE": "slow"}, arguments)
}

func TestContextFiles(t *testing.T) {
	root := t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"contract/limits.json": 0o600, "contract/notes.md": 0o644,
		"go-server/main.go": 0o664, "go-server/run": 0o700, "go-server/main_test.go": 0o644, "go-server/Dockerfile": 0o644,
		"go-server/node_modules/x/index.js": 0o644, "go-server/node_modules/keep/index.js": 0o644,
		"rust-server/main.rs": 0o644, "results/secret": 0o644,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(name), mode))
	}
	ignore := "*\n!contract\n!go-server\n!rust-server\n**/*.md\n**/*_test.go\n**/Dockerfile\n**/node_modules\n!go-server/node_modules/keep\n"
	require.NoError(t, os.WriteFile(filepath.Join(root, ".dockerignore"), []byte(ignore), 0o644))
	files, err := contextFiles(root, "go-server")
	require.NoError(t, err)
	modes := map[string]os.FileMode{}
	for _, f := range files {
		modes[f.name] = f.mode
		assert.Equal(t, f.name, string(f.content))
	}
	assert.Equal(t, map[string]os.FileMode{
		"contract/limits.json": 0o644, "go-server/main.go": 0o644, "go-server/run": 0o755, "go-server/node_modules/keep/index.js": 0o644,
	}, modes)

	var one, other bytes.Buffer
	require.NoError(t, writeTar(&one, files))
	now, err := contextFiles(root, "go-server")
	require.NoError(t, err)
	require.NoError(t, writeTar(&other, now))
	assert.Equal(t, one.Bytes(), other.Bytes(), "the same files are the same bytes")
	var names []string
	for archive := tar.NewReader(&one); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names = append(names, header.Name)
	}
	assert.Equal(t, []string{
		"contract/", "contract/limits.json", "go-server/", "go-server/main.go",
		"go-server/node_modules/", "go-server/node_modules/keep/", "go-server/node_modules/keep/index.js", "go-server/run",
	}, names, "each folder once, before what is in it")

	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(root, "go-server", "link")))
	_, err = contextFiles(root, "go-server")
	require.ErrorContains(t, err, "go-server/link")
}

func TestPackageSettings(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, settingsFolder), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, settingsFolder, "README.md"), []byte("settings"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, settingsFolder, "env"), []byte("of another build"), 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "scripts"), 0o755))
	script := filepath.Join(root, "scripts", "build-settings")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho A=1 >\"$1/env\"\necho 'that proxy cannot be reached' >&2\n"), 0o755))
	var log []string
	files, err := packageSettings(t.Context(), root, func(line string) { log = append(log, line) })
	require.NoError(t, err)
	assert.Equal(t, []file{{".lab-build/README.md", 0o644, []byte("settings")}, {".lab-build/env", 0o644, []byte("A=1\n")}}, files)
	assert.Equal(t, []string{"that proxy cannot be reached"}, log)

	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho 'no such certificates' >&2\nexit 2\n"), 0o755))
	_, err = packageSettings(t.Context(), root, func(string) {})
	require.ErrorContains(t, err, "no such certificates")
}

func TestInside(t *testing.T) {
	e := &Engine{inner: map[string]string{}, network: runNetwork{listen: "172.18.0.1"}}
	e.publish("127.0.0.1:40123", "primary-1:5432")
	for address, want := range map[string]string{
		"postgres://lab:secret@127.0.0.1:40123/lab?sslmode=disable": "postgres://lab:secret@primary-1:5432/lab?sslmode=disable",
		"http://172.18.0.1:4000":                                    "http://172.18.0.1:4000",
		"http://service.example:80/x":                               "http://service.example:80/x",
	} {
		got, err := e.inside(address)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, address := range []string{"http://127.0.0.1:1", "http://localhost:80", "http://[::1]:80"} {
		_, err := e.inside(address)
		require.ErrorContains(t, err, "listen at 172.18.0.1", address)
	}
}

// fakeEngine answers what a test lets it.
type fakeEngine struct {
	client.APIClient
	info     error
	inspect  error
	networks map[string]bool
	signals  []string
	// stats is the engine's own account of a container.
	stats string
}

func (f *fakeEngine) Close() error { return nil }

func (f *fakeEngine) Info(context.Context, client.InfoOptions) (client.SystemInfoResult, error) {
	return client.SystemInfoResult{}, f.info
}

func (f *fakeEngine) ContainerList(context.Context, client.ContainerListOptions) (client.ContainerListResult, error) {
	return client.ContainerListResult{}, nil
}

func (f *fakeEngine) NetworkList(context.Context, client.NetworkListOptions) (client.NetworkListResult, error) {
	return client.NetworkListResult{}, nil
}

func (f *fakeEngine) VolumeList(context.Context, client.VolumeListOptions) (client.VolumeListResult, error) {
	return client.VolumeListResult{}, nil
}

func (f *fakeEngine) NetworkCreate(ctx context.Context, name string, _ client.NetworkCreateOptions) (client.NetworkCreateResult, error) {
	f.networks[name] = true
	return client.NetworkCreateResult{ID: name}, ctx.Err()
}

func (f *fakeEngine) NetworkInspect(context.Context, string, client.NetworkInspectOptions) (client.NetworkInspectResult, error) {
	return client.NetworkInspectResult{}, f.inspect
}

func (f *fakeEngine) NetworkRemove(_ context.Context, id string, _ client.NetworkRemoveOptions) (client.NetworkRemoveResult, error) {
	delete(f.networks, id)
	return client.NetworkRemoveResult{}, nil
}

func TestASetUpThatFailsLeavesNothing(t *testing.T) {
	t.Setenv("LAB_CACHE_DIR", t.TempDir())
	fake := &fakeEngine{networks: map[string]bool{}, inspect: errors.New("no such driver")}
	me, err := newOwner()
	require.NoError(t, err)
	e := &Engine{
		options: Options{Log: func(line string) { t.Log(line) }}, c: &connection{api: fake}, owner: me,
	}
	require.ErrorContains(t, e.setUp(t.Context()), "no such driver")
	assert.Empty(t, fake.networks)
}

func (f *fakeEngine) ContainerStats(context.Context, string, client.ContainerStatsOptions) (client.ContainerStatsResult, error) {
	return client.ContainerStatsResult{Body: io.NopCloser(strings.NewReader(f.stats))}, nil
}

func TestUsageOfAnotherMachinesContainer(t *testing.T) {
	fake := &fakeEngine{}
	u := &unit{c: &connection{api: fake}, spec: spec{role: "contender"}, exited: make(chan struct{})}
	fake.stats = `{"cpu_stats":{"cpu_usage":{"total_usage":2000000},"throttling_data":{"throttled_time":3}},"memory_stats":{"max_usage":7}}`
	usage, err := u.Usage(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2*time.Millisecond, usage.CPU)
	assert.Equal(t, 3*time.Nanosecond, *usage.Throttled)
	assert.Nil(t, usage.Pressure)
	memory, err := u.Memory(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 7, *memory.CgroupPeakBytes)
	assert.Nil(t, memory.PSSBytes)
	fake.stats = `{"cpu_stats":{"cpu_usage":{"total_usage":0}}}`
	_, err = u.Usage(t.Context())
	require.ErrorContains(t, err, "no account", "no figure rather than a wrong one")
}

func TestNoAccountSaysWhoIsGone(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	for _, test := range []struct {
		name        string
		watch, want error
	}{
		{"the container", nil, engine.ErrExited},
		{"the engine", fmt.Errorf("%w: EOF", engine.ErrGone), engine.ErrGone},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := &unit{spec: spec{role: "contender"}, exited: ended, exitErr: test.watch}
			_, err := u.Usage(t.Context())
			require.ErrorIs(t, err, test.want)
			_, err = u.Memory(t.Context())
			require.ErrorIs(t, err, test.want)
		})
	}
}

func TestEachFigureThatCannotBeToldHasItsReason(t *testing.T) {
	fake := &fakeEngine{stats: `{"cpu_stats":{"cpu_usage":{"total_usage":2000000}}}`}
	e := &Engine{}
	e.learn(t.Context(), &unit{c: &connection{api: fake}, exited: make(chan struct{})})
	require.NotNil(t, e.told)
	assert.ElementsMatch(t, []string{
		"memory_pss_peak_bytes", "memory_pss_end_bytes", "memory_pss_idle_bytes", "voluntary_switches", "involuntary_switches",
		"memory_cgroup_peak_bytes", "pressure_seconds",
	}, slices.Collect(maps.Keys(e.told.missing())))

	figure, while := int64(1), time.Second
	all := account{
		processes: true, usage: engine.Usage{Throttled: &while, Pressure: &while},
		memory: engine.Memory{PSSBytes: &figure, CgroupPeakBytes: &figure},
	}
	assert.Empty(t, all.missing())
}

func (f *fakeEngine) ContainerKill(_ context.Context, _ string, options client.ContainerKillOptions) (client.ContainerKillResult, error) {
	f.signals = append(f.signals, options.Signal)
	return client.ContainerKillResult{}, nil
}

func TestAStopEndsWhateverTheEngineDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeEngine{}
		u := &unit{c: &connection{api: fake}, spec: spec{role: "contender"}, exited: make(chan struct{})}
		require.ErrorContains(t, u.stop(t.Context(), "SIGTERM", time.Second), "contender does not end")
		assert.Equal(t, []string{"SIGTERM", "SIGKILL"}, fake.signals)
	})
}

func TestMakingIsNotCutShort(t *testing.T) {
	interrupted, interrupt := context.WithCancel(t.Context())
	making, cancel := whole(interrupted)
	defer cancel()
	interrupt()
	require.NoError(t, making.Err(), "the engine would finish what nobody learns of")
	_, bounded := making.Deadline()
	assert.True(t, bounded)
	late, cancelLate := whole(interrupted)
	defer cancelLate()
	require.ErrorIs(t, late.Err(), context.Canceled, "nothing is begun after an interrupt")
}

func TestErrorsOfTheEngineSayWhatToDo(t *testing.T) {
	require.NoError(t, explain(nil))
	for _, cause := range []error{io.EOF, io.ErrUnexpectedEOF, fmt.Errorf("read: %w", io.EOF)} {
		require.ErrorIs(t, explain(cause), engine.ErrGone, "an answer that breaks off")
		require.ErrorIs(t, explain(cause), cause)
	}
	full := explain(errors.New("write /var/lib/x: no space left on device"))
	require.ErrorContains(t, full, "docker system df")
	require.NotErrorIs(t, full, engine.ErrGone)
	other := errors.New("conflict")
	assert.Equal(t, other, explain(other))
}

// withLabels adds labels to a copy.
func withLabels(labels map[string]string, more ...string) map[string]string {
	out := maps.Clone(labels)
	for pair := range slices.Chunk(more, 2) {
		out[pair[0]] = pair[1]
	}
	return out
}

// Each part that is tried says that the engine is gone; whoever cleans up hears it once.
func TestAnEngineThatIsGoneIsSaidOnce(t *testing.T) {
	e := &Engine{}
	tried := 0
	for range 3 {
		e.stops.Keep(func(context.Context) error {
			tried++
			gone := fmt.Errorf("%w: EOF", engine.ErrGone)
			return errors.Join(fmt.Errorf("remove database_primary: %w", gone), fmt.Errorf("remove database_replica: %w", gone))
		})
	}
	err := e.Close(t.Context())
	require.ErrorIs(t, err, engine.ErrGone)
	require.Equal(t, 1, strings.Count(err.Error(), engine.ErrGone.Error()))
	require.Contains(t, err.Error(), "removed by the next run")
	require.Equal(t, 1, tried)
}
