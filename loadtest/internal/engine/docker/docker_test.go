package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/enginetest"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/postgres"
)

// TestMain lets the test binary play an orchestrator that is stopped in all the ways there are.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "orchestrator" {
		os.Exit(playOrchestrator(os.Args[2]))
	}
	os.Exit(m.Run())
}

// needEngine skips a test where no container engine answers; in CI that is a failure.
func needEngine(t *testing.T) {
	t.Helper()
	if testing.Short() && os.Getenv("CI") != "true" {
		t.Skip("short: containers take long")
	}
	if _, err := Answers(t.Context()); err != nil {
		if os.Getenv("CI") == "true" {
			require.NoError(t, err, "in CI a skipped engine is a failure")
		}
		t.Skip(err)
	}
}

func repositoryRoot() string {
	root, _ := filepath.Abs("../../../..")
	return root
}

// testContract reads the part of the contract that databases need.
func testContract() (*contract.Contract, error) {
	return contract.LoadWithoutExpectations(filepath.Join(repositoryRoot(), "contract"))
}

func testArm() (contender.Arm, error) {
	contenders, err := contender.Load(repositoryRoot())
	if err != nil {
		return contender.Arm{}, err
	}
	return contender.Resolve(contenders, "go")
}

func testEngine(t *testing.T) *Engine {
	t.Helper()
	needEngine(t)
	c, err := testContract()
	require.NoError(t, err)
	e, err := New(t.Context(), Options{Root: repositoryRoot(), Contract: c, Log: func(line string) { t.Log(line) }})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, e.Close(context.Background()))
		require.NoError(t, e.Close(context.Background()), "twice is as good")
		assert.Empty(t, leftOf(t, e.owner.run), "a closed engine leaves nothing")
	})
	return e
}

// leftOf lists what the engine has of a run.
func leftOf(t *testing.T, run string) []string {
	t.Helper()
	c, err := connect(context.Background())
	require.NoError(t, err)
	ctx := context.Background()
	ours := make(client.Filters).Add("label", labelRun+"="+run)
	var left []string
	containers, err := c.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: ours})
	require.NoError(t, err)
	for _, item := range containers.Items {
		left = append(left, "container "+strings.Join(item.Names, " "))
	}
	networks, err := c.api.NetworkList(ctx, client.NetworkListOptions{Filters: ours})
	require.NoError(t, err)
	for _, item := range networks.Items {
		left = append(left, "network "+item.Name)
	}
	volumes, err := c.api.VolumeList(ctx, client.VolumeListOptions{Filters: ours})
	require.NoError(t, err)
	for _, item := range volumes.Items {
		left = append(left, "volume "+item.Name)
	}
	return left
}

func TestDatabase(t *testing.T) {
	e := testEngine(t)
	d := enginetest.Database(t, e, e.options.Contract).(*postgres.Database)
	servers := []*server{d.On.Primary.(*server), d.On.Replica.(*server)}
	ctx := t.Context()
	t.Run("memory and its peak are known", func(t *testing.T) {
		require.NotNil(t, e.told, "and what cannot be told has its reason")
		memory, err := d.Memory(ctx)
		require.NoError(t, err)
		require.NotNil(t, memory.CgroupPeakBytes)
		assert.Greater(t, *memory.CgroupPeakBytes, int64(10<<20))
		if host.MayReadOthersMemory() {
			require.NotNil(t, memory.PSSBytes)
			assert.Greater(t, *memory.PSSBytes, int64(10<<20))
		}
	})
	t.Run("the parts add up", func(t *testing.T) {
		primary, err := d.Primary().Usage(ctx)
		require.NoError(t, err)
		replica, err := d.Replica().Usage(ctx)
		require.NoError(t, err)
		both, err := d.Usage(ctx)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, both.CPU, primary.CPU+replica.CPU)
		require.NotNil(t, both.Throttled)
		assert.Zero(t, *both.Throttled, "the lab sets no quota")
	})
	t.Run("is confined", func(t *testing.T) {
		for _, s := range servers {
			assertConfined(t, e, s.unit, e.placement.Database)
		}
	})
	t.Run("the replica's password is in nobody's arguments", func(t *testing.T) {
		found, err := e.c.api.ContainerInspect(ctx, servers[1].id, client.ContainerInspectOptions{})
		require.NoError(t, err)
		assert.NotContains(t, string(found.Raw), d.On.Passwords.Replication)
		assert.NotContains(t, string(found.Raw), d.On.Passwords.Superuser)
	})
}

// assertConfined holds a running container to what every one of the lab has.
func assertConfined(t *testing.T, e *Engine, u *unit, cpus []int) {
	t.Helper()
	found, err := e.c.api.ContainerInspect(t.Context(), u.id, client.ContainerInspectOptions{})
	require.NoError(t, err)
	h := found.Container.HostConfig
	assert.Equal(t, joinInts(cpus), h.CpusetCpus)
	assert.Equal(t, []string{"ALL"}, h.CapDrop)
	assert.Empty(t, h.CapAdd)
	assert.True(t, h.ReadonlyRootfs)
	assert.Contains(t, h.SecurityOpt, "no-new-privileges")
	assert.NotZero(t, h.Memory)
	assert.Equal(t, h.Memory, h.MemorySwap, "no swap")
	require.NotNil(t, h.PidsLimit)
	assert.EqualValues(t, mostProcesses, *h.PidsLimit)
	for port, bindings := range found.Container.NetworkSettings.Ports {
		for _, binding := range bindings {
			assert.Equal(t, "127.0.0.1", binding.HostIP.String(), "port %s", port)
		}
	}
	for _, pid := range u.Pids() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		assert.NotContains(t, string(text), "\nUid:\t0\t", "nothing runs as root")
		assert.Contains(t, string(text), "\nCapEff:\t0000000000000000\n")
		assert.Contains(t, string(text), "\nNoNewPrivs:\t1\n")
	}
}

func TestNull(t *testing.T) {
	e := testEngine(t)
	const answer = `{"data":{"items":[]}}`
	s, err := e.Null(t.Context(), engine.NullSpec{Answer: answer})
	require.NoError(t, err)
	c := s.(*contenderService)
	assertConfined(t, e, c.unit, e.placement.Contender)
	assert.Equal(t, answer, ask(t, c.GraphQLURL(), `{ x }`))
	job, err := json.Marshal(map[string]any{
		"url": c.LoadURL(), "body": `{"query":"{ x }"}`, "expected": answer, "rps": 50, "duration_ns": time.Second, "arrival": "constant", "seed": 1, "max_in_flight": 8, "timeout_ns": 5 * time.Second,
	})
	require.NoError(t, err)
	result, err := e.Agent(t.Context(), s, job)
	require.NoError(t, err)
	var r agent.Result
	require.NoError(t, json.Unmarshal(result.Stdout, &r))
	assert.EqualValues(t, 50, r.Offered)
	assert.Equal(t, r.Offered, r.OK+r.Unsent, "on a busy machine it may not get to the last in time")
	assert.Positive(t, r.OK)
	require.NoError(t, s.Stop(t.Context()))
}

func TestContender(t *testing.T) {
	e := testEngine(t)
	ctx := t.Context()
	arm, err := testArm()
	require.NoError(t, err)
	d, err := e.Database(ctx, engine.DatabaseSpec{Size: "small"})
	require.NoError(t, err)
	upstream, err := e.Upstream(ctx, engine.UpstreamSpec{Size: "small"})
	require.NoError(t, err)
	spec := engine.ContenderSpec{Arm: arm, PrimaryURL: d.PrimaryURL(), ReplicaURL: d.ReplicaURL(), UpstreamURL: upstream.URL()}
	s, err := e.Contender(ctx, spec)
	require.NoError(t, err)
	c := s.(*contenderService)

	t.Run("reaches database and service", func(t *testing.T) {
		assert.Positive(t, c.ReadyAfter())
		body := ask(t, c.GraphQLURL(), `{ item(id: 1) { name } quote(itemId: 1, guests: 1) { totalCents } }`)
		assert.Contains(t, body, `"totalCents":1037`)
	})
	t.Run("is confined", func(t *testing.T) { assertConfined(t, e, c.unit, e.placement.Contender) })
	t.Run("has no way out, not even by name", func(t *testing.T) {
		inspected, err := e.c.api.ContainerInspect(ctx, c.id, client.ContainerInspectOptions{})
		require.NoError(t, err)
		require.Len(t, inspected.Container.HostConfig.DNS, 1)
		assert.True(t, inspected.Container.HostConfig.DNS[0].IsLoopback())
		found, err := e.c.api.NetworkInspect(ctx, e.network.id, client.NetworkInspectOptions{})
		require.NoError(t, err)
		assert.Equal(t, "false", found.Network.Options["com.docker.network.bridge.enable_ip_masquerade"])
	})
	t.Run("gets no answer from beyond this machine", func(t *testing.T) { assertNoWayOut(t, e, c) })
	t.Run("its usage grows with work, and is the kernel's", func(t *testing.T) {
		before, err := c.Usage(ctx)
		require.NoError(t, err)
		for range 20 {
			ask(t, c.GraphQLURL(), `{ items(first: 100) { name category { name } } }`)
		}
		after, err := c.Usage(ctx)
		require.NoError(t, err)
		used := after.Sub(before)
		assert.Positive(t, used.CPU)
		assert.Less(t, used.CPU, time.Minute)
		stats, err := c.stats(ctx)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, time.Duration(stats.CPUStats.CPUUsage.TotalUsage), after.CPU, "the engine reads the same account")
	})
	t.Run("load comes from its own loopback", func(t *testing.T) {
		job, err := json.Marshal(map[string]any{
			"url": c.LoadURL(), "body": `{"query":"{ item(id: 1) { name } }"}`, "rps": 50, "duration_ns": time.Second,
			"arrival": "constant", "seed": 1, "max_in_flight": 8, "timeout_ns": 5 * time.Second,
		})
		require.NoError(t, err)
		result, err := e.Agent(ctx, c, job)
		require.NoError(t, err)
		var said struct {
			OK         int     `json:"ok"`
			CPUSeconds float64 `json:"cpu_seconds"`
		}
		require.NoError(t, json.Unmarshal(result.Stdout, &said))
		assert.Positive(t, said.OK)
		assert.GreaterOrEqual(t, result.CPU.Seconds(), said.CPUSeconds)
		found, err := e.c.api.ContainerInspect(ctx, c.agent.id, client.ContainerInspectOptions{})
		require.NoError(t, err)
		assert.Equal(t, "container:"+c.id, string(found.Container.HostConfig.NetworkMode))
		assertConfined(t, e, c.agent, e.placement.Agent)

		generator := c.jobs
		require.NotNil(t, generator)
		again, err := e.Agent(ctx, c, job)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(again.Stdout, &said))
		assert.Positive(t, said.OK)
		assert.Same(t, generator, c.jobs, "the same load generator")
	})
	t.Run("a bad job is an error with the agent's words", func(t *testing.T) {
		_, err := e.Agent(ctx, c, []byte(`{"url":"ftp://x"}`))
		require.ErrorContains(t, err, "exit status 2")
		require.ErrorContains(t, err, "ftp://x")
		assert.Nil(t, c.jobs, "the next job has another load generator")
	})
	t.Run("an attack that nobody waits for ends", func(t *testing.T) {
		job, err := json.Marshal(map[string]any{
			"url": c.LoadURL(), "body": `{"query":"{ item(id: 1) { name } }"}`, "rps": 10, "duration_ns": time.Minute,
			"arrival": "constant", "seed": 1, "max_in_flight": 8, "timeout_ns": 5 * time.Second,
		})
		require.NoError(t, err)
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		_, err = e.Agent(short, c, job)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Nil(t, c.agent, "its container is gone")
		assert.Nil(t, c.jobs)
	})
	t.Run("a helper of this program is reached where Loopback says", func(t *testing.T) {
		listen, dial := e.Loopback()
		assert.NotEmpty(t, dial)
		reached := spec
		server := newServerAt(t, listen, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"totalCents":7,"currency":"EUR"}`)
		}))
		_, port, _ := strings.Cut(strings.TrimPrefix(server, "http://"), ":")
		reached.UpstreamURL = "http://" + dial + ":" + port
		other, err := e.Contender(ctx, reached)
		require.NoError(t, err)
		assert.Contains(t, ask(t, other.GraphQLURL(), `{ quote(itemId: 1, guests: 1) { totalCents } }`), `"totalCents":7`)
		require.NoError(t, other.Stop(ctx))
	})
	t.Run("an address on this machine's loopback is refused by name", func(t *testing.T) {
		wrong := spec
		wrong.PrimaryURL = "postgres://lab@127.0.0.1:1/lab"
		_, err := e.Contender(ctx, wrong)
		require.ErrorContains(t, err, "DATABASE_URL")
		require.ErrorContains(t, err, "127.0.0.1:1")
	})
	t.Run("one that ends at its start says why", func(t *testing.T) {
		bad := spec
		bad.Environment = map[string]string{"LOADER": "perhaps"}
		_, err := e.Contender(ctx, bad)
		require.ErrorContains(t, err, "ended with exit status")
		require.ErrorContains(t, err, "LOADER")
	})
	t.Run("one that never gets ready is given up", func(t *testing.T) {
		bad := spec
		bad.PrimaryURL = "postgres://lab:x@192.0.2.1:5432/lab"
		bad.ReadyTimeout = 500 * time.Millisecond
		_, err := e.Contender(ctx, bad)
		require.ErrorContains(t, err, "not ready within 500ms")
	})
	t.Run("ends by itself on SIGTERM, and keeps its last words", func(t *testing.T) {
		require.NotEmpty(t, c.Logs(5))
		require.NoError(t, c.Stop(ctx))
		require.NoError(t, c.Stop(ctx), "twice is as good")
		<-c.Exited()
		assert.NotEmpty(t, c.Logs(5))
		_, err := c.Usage(ctx)
		require.ErrorIs(t, err, engine.ErrExited)
		assert.Empty(t, c.Pids())
	})
	t.Run("its version and image are known", func(t *testing.T) {
		version, err := e.Version(ctx, arm)
		require.NoError(t, err)
		assert.Equal(t, "go", version.Language)
		identity, err := e.Identity(ctx, arm)
		require.NoError(t, err)
		assert.Contains(t, identity, "sha256:")
		description, err := e.Describe(ctx)
		require.NoError(t, err)
		assert.Positive(t, description.ImageSizeBytes["go"])
		assert.Equal(t, "image "+postgresImageName(), description.PostgreSQLSource)
		assert.NotEmpty(t, description.PostgreSQL)
		assert.NotEmpty(t, description.EngineVersion)
	})
}

func ask(t *testing.T, url, query string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"query": query})
	require.NoError(t, err)
	response, err := http.Post(url, "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", text)
	return string(text)
}

// playOrchestrator starts one of everything, says what there is, and then does as it was told.
func playOrchestrator(end string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	c, err := testContract()
	if err != nil {
		return fail(err)
	}
	arm, err := testArm()
	if err != nil {
		return fail(err)
	}
	e, err := New(ctx, Options{Root: repositoryRoot(), Contract: c})
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err := e.Close(context.Background()); err != nil {
			fail(err)
		}
	}()
	d, err := e.Database(ctx, engine.DatabaseSpec{Size: "small"})
	if err != nil {
		return fail(err)
	}
	spec := engine.ContenderSpec{Arm: arm, PrimaryURL: d.PrimaryURL(), ReplicaURL: d.ReplicaURL()}
	if end == "failure" {
		fmt.Println(e.owner.run)
		spec.Environment = map[string]string{"LOADER": "perhaps"}
	}
	s, err := e.Contender(ctx, spec)
	if err != nil {
		return fail(err)
	}
	if _, err := e.Agent(ctx, s, []byte(`{}`)); err == nil {
		return fail(errors.New("an empty job is none"))
	}
	fmt.Println(e.owner.run)
	if end == "success" {
		return 0
	}
	if end == "engine gone" {
		// The parent cuts the way to the engine before it closes our input.
		_, _ = io.Copy(io.Discard, os.Stdin)
		_, err := e.Contender(ctx, engine.ContenderSpec{Arm: arm, PrimaryURL: d.PrimaryURL(), ReplicaURL: d.ReplicaURL()})
		return fail(err)
	}
	<-ctx.Done()
	return 130
}

// orchestrator is this test binary as a run of its own, with one of everything.
type orchestrator struct {
	*exec.Cmd
	// run is its id.
	run    string
	stdin  io.Closer
	stdout io.Reader
	stderr *bytes.Buffer
}

// startOrchestrator returns when it has said that all is there.
func startOrchestrator(t *testing.T, end string, environment ...string) orchestrator {
	t.Helper()
	o := orchestrator{Cmd: exec.Command(os.Args[0], "orchestrator", end), stderr: &bytes.Buffer{}}
	o.Env, o.Stderr = append(os.Environ(), environment...), o.stderr
	var err error
	o.stdout, err = o.StdoutPipe()
	require.NoError(t, err)
	o.stdin, err = o.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, o.Start())
	t.Cleanup(func() { _ = o.Process.Kill() })
	_, err = fmt.Fscanln(o.stdout, &o.run)
	require.NoError(t, err, "%s", o.stderr)
	return o
}

// status waits for its end.
func (o orchestrator) status() int {
	_, _ = io.Copy(io.Discard, o.stdout)
	_ = o.Wait()
	return o.ProcessState.ExitCode()
}

// TestNothingIsLeft ends runs in every way there is; what was started is gone, or after a kill with the next start.
func TestNothingIsLeft(t *testing.T) {
	needEngine(t)
	for _, test := range []struct {
		name   string
		signal syscall.Signal
		status int
		// swept is left for the next run.
		swept bool
	}{
		{name: "success", status: 0},
		{name: "failure", status: 2},
		{name: "SIGINT", signal: syscall.SIGINT, status: 130},
		{name: "SIGTERM", signal: syscall.SIGTERM, status: 130},
		{name: "SIGKILL", signal: syscall.SIGKILL, status: -1, swept: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := startOrchestrator(t, test.name)
			if test.signal != 0 {
				left := strings.Join(leftOf(t, o.run), "\n")
				for _, part := range []string{"database-primary", "database-replica", "contender", "agent", "network", "volume"} {
					assert.Contains(t, left, part)
				}
				require.NoError(t, o.Process.Signal(test.signal))
			}
			assert.Equal(t, test.status, o.status(), "%s", o.stderr)
			if test.swept {
				assert.NotEmpty(t, leftOf(t, o.run))
				e := testEngine(t)
				assert.NotEmpty(t, leftOf(t, e.owner.run), "its own network")
			}
			assert.Empty(t, leftOf(t, o.run))
		})
	}
}

// TestAnEngineThatStops cuts the way to the engine in the middle of a run.
func TestAnEngineThatStops(t *testing.T) {
	needEngine(t)
	server, err := Answers(t.Context())
	require.NoError(t, err)
	target, local := strings.CutPrefix(server.Address, "unix://")
	if !local {
		t.Skip("the engine has no socket to stand before")
	}
	// Not t.TempDir: a socket's path may have some hundred bytes only.
	dir, err := os.MkdirTemp("", "lab-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "engine.sock")
	cut := standBefore(t, socket, target)

	o := startOrchestrator(t, "engine gone", "DOCKER_HOST=unix://"+socket)
	cut()
	require.NoError(t, o.stdin.Close())
	assert.Equal(t, 2, o.status())
	assert.Contains(t, o.stderr.String(), engine.ErrGone.Error())
	assert.Contains(t, o.stderr.String(), "removed by the next run")
	assert.NotEmpty(t, leftOf(t, o.run))
	testEngine(t)
	assert.Empty(t, leftOf(t, o.run))
}

// standBefore passes connections to a socket on to another until it is cut.
func standBefore(t *testing.T, socket, target string) (cut func()) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	var mu sync.Mutex
	var conns []net.Conn
	cut = func() {
		listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range conns {
			conn.Close()
		}
	}
	t.Cleanup(cut)
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("unix", target)
			if err != nil {
				from.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, from, to)
			mu.Unlock()
			for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
				go func() {
					_, _ = io.Copy(way[1], way[0])
					if half, ok := way[1].(*net.UnixConn); ok {
						_ = half.CloseWrite()
					}
				}()
			}
		}
	}()
	return cut
}

func TestOnlyTheEngineThatWasAskedFor(t *testing.T) {
	needEngine(t)
	t.Setenv("DOCKER_HOST", "unix:///nowhere/engine.sock")
	_, err := Answers(t.Context())
	require.ErrorContains(t, err, "/nowhere/engine.sock")
}

func TestRedis(t *testing.T) {
	e := testEngine(t)
	s, err := e.Redis(t.Context())
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(s.URL(), "redis://default:"))
	r := s.(*redisService)
	assertConfined(t, e, r.unit, e.placement.Database)
	inside, err := e.inside(s.URL())
	require.NoError(t, err)
	assert.Contains(t, inside, "@redis-1:6379")
	found, err := e.c.api.ContainerInspect(t.Context(), r.id, client.ContainerInspectOptions{})
	require.NoError(t, err)
	assert.NotContains(t, strings.Join(append(found.Container.Config.Entrypoint, found.Container.Args...), " "), r.password)
	require.NoError(t, s.Stop(t.Context()))
}

func TestAnImageThatIsNotToBeHad(t *testing.T) {
	// Nobody listens there.
	t.Setenv("POSTGRES_IMAGE", "127.0.0.1:1/postgres:none")
	e := testEngine(t)
	_, err := e.Database(t.Context(), engine.DatabaseSpec{Size: "small"})
	var missing *MissingImageError
	require.ErrorAs(t, err, &missing)
	require.ErrorContains(t, err, "127.0.0.1:1/postgres:none")
	require.ErrorContains(t, err, "scripts/base-images")
}

func TestBuild(t *testing.T) {
	needEngine(t)
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	}
	write("contract/x", "x")
	write(".lab-build/README.md", "settings")
	write("scripts/build-settings", "#!/bin/sh\necho export SECRET=1 >\"$1/env\"\n")
	write(".dockerignore", "*\n!.lab-build\n!contract\n!buildtest-server\n**/Dockerfile\n")
	const dockerfile = "ARG DEBIAN_IMAGE=debian:bookworm-slim\nFROM ${DEBIAN_IMAGE} AS build\nCOPY .lab-build /settings\nRUN grep SECRET /settings/env\n" +
		"FROM ${DEBIAN_IMAGE}\nCOPY buildtest-server/file /file\n"
	write("buildtest-server/Dockerfile", dockerfile)
	write("buildtest-server/file", "one")
	contract, err := testContract()
	require.NoError(t, err)
	t.Setenv("LAB_CACHE_DIR", t.TempDir())
	var log []string
	open := func() *Engine {
		log = nil
		e, err := New(t.Context(), Options{Root: root, Contract: contract, Log: func(line string) { log = append(log, line) }})
		require.NoError(t, err)
		return e
	}
	// Each as a run of its own, which is over when the image is there.
	build := func() (image, error) {
		e := open()
		defer func() { require.NoError(t, e.Close(context.Background())) }()
		return e.images.of(t.Context(), "buildtest-server", nil)
	}
	c, err := connect(t.Context())
	require.NoError(t, err)
	here := func(reference string) bool {
		t.Helper()
		_, here, err := c.inspect(t.Context(), reference)
		require.NoError(t, err)
		return here
	}
	t.Cleanup(func() {
		found, err := c.api.ImageList(context.Background(), client.ImageListOptions{Filters: make(client.Filters).Add("label", labelImage+"=buildtest")})
		require.NoError(t, err)
		for _, i := range found.Items {
			_, err := c.api.ImageRemove(context.Background(), i.ID, client.ImageRemoveOptions{Force: true, PruneChildren: true})
			require.NoError(t, err)
		}
	})
	cacheDir, err := cacheFolder()
	require.NoError(t, err)
	t.Cleanup(func() {
		(&Engine{c: c, cacheDir: cacheDir}).replaceStages(context.Background(), "buildtest", nil)
	})
	stages := func() []string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(cacheDir, "stages-buildtest.json"))
		require.NoError(t, err)
		var ids []string
		require.NoError(t, json.Unmarshal(text, &ids))
		return ids
	}
	first, err := build()
	require.NoError(t, err)
	assert.True(t, slices.ContainsFunc(log, func(line string) bool { return strings.Contains(line, "Step 1/") }), "it shows its progress: %q", log)

	t.Run("is reused while its inputs are the same", func(t *testing.T) {
		again, err := build()
		require.NoError(t, err)
		assert.Equal(t, first, again)
		assert.Empty(t, log)
	})
	t.Run("one that another run holds stays, with all its names", func(t *testing.T) {
		other := open()
		defer func() { require.NoError(t, other.Close(context.Background())) }()
		held, err := other.images.of(t.Context(), "buildtest-server", nil)
		require.NoError(t, err)
		second := "polyglot-lab/buildtest:second"
		_, err = c.api.ImageTag(t.Context(), client.ImageTagOptions{Source: held.id, Target: second})
		require.NoError(t, err)
		write("buildtest-server/file", "meanwhile")
		_, err = build()
		require.NoError(t, err)
		assert.True(t, here(held.reference))
		assert.True(t, here(second))
	})
	t.Run("a changed file makes another and removes the older ones", func(t *testing.T) {
		older := stages()
		require.Len(t, older, 1)
		write("buildtest-server/file", "two")
		write("scripts/build-settings", "#!/bin/sh\necho export SECRET=2 >\"$1/env\"\n")
		second, err := build()
		require.NoError(t, err)
		assert.NotEqual(t, first.id, second.id)
		assert.False(t, here(first.reference))
		assert.NotEqual(t, older, stages())
		assert.False(t, here(older[0]), "the older stage is gone too")
	})
	t.Run("a failure has the builder's words", func(t *testing.T) {
		write("buildtest-server/Dockerfile", dockerfile+"RUN echo unfit for purpose && exit 7\n")
		_, err := build()
		require.ErrorContains(t, err, "unfit for purpose")
		require.ErrorContains(t, err, "7")
	})
	t.Run("a base image that is not to be had is named", func(t *testing.T) {
		t.Setenv("DEBIAN_IMAGE", "127.0.0.1:1/debian:none")
		_, err := build()
		var missing *MissingImageError
		require.ErrorAs(t, err, &missing)
		assert.Equal(t, "127.0.0.1:1/debian:none", missing.Image)
	})
}
