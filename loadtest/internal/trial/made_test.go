package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/null"
	"lab/loadtest/internal/record"
)

// Trials that are made to be held back by one thing each. Their parts are processes of their own, as in the native engine:
// this test's program, started again as what the variable says.
const doubleVariable = "LAB_TRIAL_DOUBLE"

func TestMain(m *testing.M) {
	switch double := os.Getenv(doubleVariable); double {
	case "":
		os.Exit(m.Run())
	case "agent":
		os.Exit(agent.Main(context.Background(), os.Stdin, os.Stdout, os.Stderr, nil))
	case "spin":
		fmt.Println("{}")
		//lint:ignore SA5002 it is there to be busy
		for {
		}
	default:
		serveDouble(double)
	}
}

const doubleAnswer = `{"data":{"x":1}}`

// burn keeps a CPU busy for so much CPU time of its own thread.
func burn(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			panic(err)
		}
		return time.Duration(ts.Nano())
	}
	for until := now() + d; now() < until; {
	}
}

// serveDouble is a contender, or a database, of one behaviour.
func serveDouble(double string) {
	name, database, _ := strings.Cut(double, " ")
	if name == "null" {
		panic(null.Serve(context.Background(), "127.0.0.1:0", doubleAnswer, os.Stdout))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("{\"url\":\"http://%s\"}\n", listener.Addr())
	var pool struct {
		sync.Mutex
		waited time.Duration
	}
	connection := make(chan struct{}, 1)
	loop := make(chan chan struct{})
	go func() { // the one thread of an event loop
		runtime.LockOSThread()
		for done := range loop {
			burn(2 * time.Millisecond)
			close(done)
		}
	}()
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		pool.Lock()
		defer pool.Unlock()
		fmt.Fprintf(w, "lab_pool_wait_seconds_sum{address=\"replica\"} %g\n", pool.waited.Seconds())
	})
	http.HandleFunc("/graphql", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch name {
		case "burn":
			burn(4 * time.Millisecond)
		case "loop":
			done := make(chan struct{})
			loop <- done
			<-done
		case "wait":
			time.Sleep(20 * time.Millisecond)
		case "pool":
			asked := time.Now()
			connection <- struct{}{}
			pool.Lock()
			pool.waited += time.Since(asked)
			pool.Unlock()
			time.Sleep(10 * time.Millisecond) // the database
			<-connection
		case "ask":
			answer, err := http.Post("http://"+database+"/graphql", "application/json", strings.NewReader("{}"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, doubleAnswer)
	})
	panic(http.Serve(listener, nil)) //nolint:gosec // it lives for one test
}

// double is a process of this test.
type double struct {
	engine.Contender // what no trial asks for

	cmd     *exec.Cmd
	address string
}

// startDouble starts it on its CPUs, as the native engine does: pinned before its first instruction.
func startDouble(t *testing.T, cpus []int, name string) *double {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	// Many threads keep most of a CPU from whatever else runs here, as other tests do.
	cmd.Env = append(os.Environ(), doubleVariable+"="+name, "GOMAXPROCS=64")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, startOn(cpus, cmd, name == "spin"))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var listening struct{ URL string }
	require.NoError(t, json.NewDecoder(out).Decode(&listening))
	return &double{cmd: cmd, address: strings.TrimPrefix(listening.URL, "http://")}
}

// startOn starts a program from a thread that has these CPUs, before all that is ordinary.
func startOn(cpus []int, cmd *exec.Cmd, ordinary bool) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var set unix.CPUSet
		for _, cpu := range cpus {
			set.Set(cpu)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			done <- err
			return
		}
		if !ordinary {
			// Other tests run beside these. Where this is allowed, they get what these leave.
			_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
		}
		done <- cmd.Start()
	}()
	return <-done
}

func (d *double) Arm() contender.Arm { return contender.Arm{Name: "double"} }
func (d *double) LoadURL() string    { return "http://" + d.address + "/graphql" }
func (d *double) MetricsURL() string { return "http://" + d.address + "/metrics" }
func (d *double) Pids() []int        { return host.PidsOf(d.cmd.Process.Pid) }
func (d *double) Usage(context.Context) (engine.Usage, error) {
	return host.TreeUsage(d.cmd.Process.Pid)
}
func (d *double) Memory(context.Context) (engine.Memory, error) {
	return host.TreeMemory(d.cmd.Process.Pid)
}

// idle is a part that uses nothing.
type idle struct{ engine.Meter }

func (idle) Usage(context.Context) (engine.Usage, error)   { return engine.Usage{}, nil }
func (idle) Memory(context.Context) (engine.Memory, error) { return engine.Memory{}, nil }

// doubleDatabase has no SQL, so nobody counts statements.
type doubleDatabase struct {
	engine.Database
	primary engine.Meter
}

func (d doubleDatabase) Primary() engine.Meter   { return d.primary }
func (d doubleDatabase) Replica() engine.Meter   { return idle{} }
func (d doubleDatabase) AdminPrimaryURL() string { return "" }
func (d doubleDatabase) AdminReplicaURL() string { return "" }

// doubleEngine runs the real load generator as a process on its CPUs.
type doubleEngine struct {
	engine.Engine
	cpus []int
}

func (e doubleEngine) Agent(ctx context.Context, _ engine.Contender, stdin []byte) (engine.AgentResult, error) {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), doubleVariable+"=agent", "GOMAXPROCS=64")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := startOn(e.cpus, cmd, false); err != nil {
		return engine.AgentResult{}, err
	}
	if err := cmd.Wait(); err != nil {
		return engine.AgentResult{}, fmt.Errorf("%w: %s", err, stderr.String())
	}
	used, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	voluntary, involuntary := int64(used.Nvcsw), int64(used.Nivcsw)
	return engine.AgentResult{
		Stdout: stdout.Bytes(), CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), VoluntarySwitches: &voluntary, InvoluntarySwitches: &involuntary,
	}, nil
}

// TestBottleneckOfTrialsMadeToBe runs real trials. Other programs of this machine may spoil one: then it is named machine
// noise, rightly, and made again; a machine that leaves no trial alone within a minute cannot show the bottleneck, and only
// the table of TestBottleneck holds it there. Any other wrong name is a failure at once.
func TestBottleneckOfTrialsMadeToBe(t *testing.T) {
	cpus, err := host.CPUs()
	require.NoError(t, err)
	placed := engine.Place(cpus)
	all := engine.Placement{Contender: cpus, Database: placed.Database, Agent: placed.Agent}
	for _, c := range []struct {
		name      string
		double    string
		database  string
		placement engine.Placement
		rps       float64
		inFlight  uint64
		spin      bool
		alone     bool // what other programs of this machine do is left out
		want      string
		check     func(t *testing.T, x record.Trial)
	}{
		{name: "the contender burns CPU", double: "burn", placement: placed, rps: 400 * float64(len(placed.Contender)), inFlight: 64, want: BottleneckContender, check: func(t *testing.T, x record.Trial) {
			part := x.Parts["contender"]
			require.NotNil(t, part.VoluntarySwitches)
			assert.Positive(t, *part.VoluntarySwitches+*part.InvoluntarySwitches)
			require.NotNil(t, x.Parts["agent"].VoluntarySwitches)
			assert.Positive(t, *x.Parts["agent"].VoluntarySwitches)
			assert.Positive(t, x.CountedNS)
		}},
		{name: "one thread of it has all the work", double: "loop", placement: all, rps: 1000, inFlight: 256, want: BottleneckEventLoop, check: func(t *testing.T, x record.Trial) {
			require.NotNil(t, x.BusiestThreadCPUSeconds)
			assert.LessOrEqual(t, *x.BusiestThreadCPUSeconds, x.CPUSeconds+0.02)
		}},
		{name: "its pool has one connection to a slow database", double: "pool", placement: placed, rps: 200, inFlight: 32, want: BottleneckPool, check: func(t *testing.T, x record.Trial) {
			require.NotNil(t, x.PoolWaitSeconds)
			assert.Positive(t, *x.PoolWaitSeconds)
		}},
		{name: "the database burns CPU", double: "ask", database: "burn", placement: placed, rps: 400 * float64(len(placed.Database)), inFlight: 64, want: BottleneckDatabase, check: func(t *testing.T, x record.Trial) {
			assert.Greater(t, x.DatabaseCPUSeconds, x.CPUSeconds)
			assert.Nil(t, x.StatementsPerRequest)
		}},
		{name: "the rate is beyond the generator's ceiling", double: "null", placement: all, rps: 400_000, inFlight: 64, want: BottleneckGenerator, check: func(t *testing.T, x record.Trial) {
			assert.Positive(t, x.Unsent)
			assert.Nil(t, x.PoolWaitSeconds, "it tells no metrics")
		}},
		{name: "a sibling spins", double: "wait", placement: placed, rps: 50, inFlight: 32, spin: true, want: BottleneckNoise, check: func(t *testing.T, x record.Trial) {
			assert.Positive(t, x.MachineOtherCPUSeconds)
		}},
		{name: "it waits", double: "wait", placement: placed, rps: 50, inFlight: 32, alone: true, want: BottleneckNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(cpus) == 1 && c.want == BottleneckEventLoop {
				c.want = BottleneckContender // its one thread has the one CPU
			}
			s := Subject{Engine: doubleEngine{cpus: c.placement.Agent}, Placement: c.placement}
			database := doubleDatabase{primary: idle{}}
			name := c.double
			if c.database != "" {
				d := startDouble(t, c.placement.Database, c.database)
				database.primary = d
				name += " " + d.address
			}
			d := startDouble(t, c.placement.Contender, name)
			s.Contender, s.Arm, s.Database = d, d.Arm(), database
			if c.spin {
				for range len(cpus) {
					startDouble(t, cpus, "spin")
				}
			}
			spec := Spec{
				ID: "made", Load: record.LoadThroughput, Seed: 1, Body: "{}", Expected: "", RPS: c.rps, Duration: 1500 * time.Millisecond, MaxInFlight: c.inFlight, Timeout: 10 * time.Second,
			}
			if c.alone {
				read := readMachine
				readMachine = func() (machineTime, error) { return machineTime{idle: 1}, nil }
				defer func() { readMachine = read }()
			}
			until := time.Now().Add(time.Minute)
			for attempt := 1; ; attempt++ {
				x, log, err := Run(t.Context(), s, spec)
				require.NoError(t, err)
				require.NotEmpty(t, log)
				require.Positive(t, x.OK, "%s", x.FirstFailure)
				require.Zero(t, x.Failed, "%s", x.FirstFailure)
				said, _ := json.Marshal(x)
				if x.Bottleneck != c.want && x.Bottleneck == BottleneckNoise {
					why := fmt.Sprintf("attempt %d: somebody else was at work: %.2f CPU seconds, hypervisor %.0f %%", attempt, x.MachineOtherCPUSeconds, 100*x.MachineStealShare)
					if time.Now().After(until) {
						t.Skip(why)
					}
					t.Log(why)
					continue
				}
				require.Equal(t, c.want, x.Bottleneck, "%s", said)
				if c.check != nil {
					c.check(t, x)
				}
				return
			}
		})
	}
}
