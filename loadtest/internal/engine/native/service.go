package native

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/ready"
	"lab/loadtest/internal/engine/redis"
)

// service is a started program that says on its first line where it listens.
type service struct {
	*process
	url      string
	stopOnce sync.Once
	stopErr  error
	// patience is how long a graceful shutdown may take.
	patience time.Duration
	forget   func()
}

func (s *service) URL() string             { return s.url }
func (s *service) Logs(n int) []string     { return s.logs.Last(n) }
func (s *service) Exited() <-chan struct{} { return s.exited }

// Stop sends SIGTERM and waits for a graceful end.
func (s *service) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		defer s.forget()
		if !s.alive() {
			s.stopErr = fmt.Errorf("before it was stopped: %w", s.exitError())
			return
		}
		if s.stopErr = s.stop(ctx, s.patience, syscall.SIGTERM); s.stopErr == nil && !s.status.Success() {
			s.stopErr = s.exitError()
		}
	})
	return s.stopErr
}

// contenderService is an engine.Contender.
type contenderService struct {
	*service
	arm        contender.Arm
	readyAfter time.Duration
}

func (c *contenderService) Arm() contender.Arm        { return c.arm }
func (c *contenderService) GraphQLURL() string        { return c.url + "/graphql" }
func (c *contenderService) MetricsURL() string        { return c.url + "/metrics" }
func (c *contenderService) LoadURL() string           { return c.GraphQLURL() }
func (c *contenderService) Started() time.Time        { return c.started }
func (c *contenderService) ReadyAfter() time.Duration { return c.readyAfter }

// command makes the command of an arm: a program named with a slash is the repository's own.
func command(arm contender.Arm, words []string) (*exec.Cmd, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("%s: no command", arm.Name)
	}
	program := words[0]
	if strings.Contains(program, "/") {
		if !filepath.IsAbs(program) {
			program = filepath.Join(arm.Root, program)
		}
		if info, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s is not built (no %s): run `%s`", arm.Name, words[0], strings.Join(arm.Build, " "))
		} else if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return nil, fmt.Errorf("%s: %s is no program", arm.Name, words[0])
		}
	} else {
		found, err := exec.LookPath(program)
		if err != nil {
			return nil, fmt.Errorf("%s: %s is not installed", arm.Name, program)
		}
		program = found
	}
	cmd := exec.Command(program, words[1:]...)
	cmd.Dir = arm.Root
	return cmd, nil
}

// contenderEnvironment returns the whole environment of a contender: what is the same for all, what joins it to this run,
// the arm's settings, and the caller's, each replacing those before.
func (e *Engine) contenderEnvironment(spec engine.ContenderSpec) []string {
	merged := map[string]string{}
	for _, pair := range e.baseEnvironment() {
		name, value, _ := strings.Cut(pair, "=")
		merged[name] = value
	}
	merged["HOST"], merged["PORT"], merged["CONTRACT_DIR"] = "127.0.0.1", "0", filepath.Join(e.options.Root, "contract")
	// The line that says where it listens is of level info; no line is written per request.
	merged["LOG_LEVEL"] = "info"
	spec.Join(merged)
	environment := make([]string, 0, len(merged))
	for name, value := range merged {
		environment = append(environment, name+"="+value)
	}
	sort.Strings(environment)
	return environment
}

// Contender starts an arm and waits until it is ready.
func (e *Engine) Contender(ctx context.Context, spec engine.ContenderSpec) (engine.Contender, error) {
	cmd, err := command(spec.Arm, spec.Arm.Start)
	if err != nil {
		return nil, err
	}
	cpus, err := e.contenderSpawner(spec.Arm.CPUCount())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spec.Arm.Name, err)
	}
	cmd.Env = e.contenderEnvironment(spec)
	patience := spec.ReadyTimeout
	if patience == 0 {
		patience = time.Minute
	}
	// A request may take as long as its limit, and the server a second more.
	limit := time.Duration(e.options.Contract.Limits.RequestTimeout)
	s, err := e.startService(ctx, cpus, spec.Arm.Name, cmd, patience, "/readyz", limit+10*time.Second)
	if err != nil {
		return nil, err
	}
	return &contenderService{service: s.service, arm: spec.Arm, readyAfter: s.readyAfter}, nil
}

// Upstream starts this program's hidden command of that name.
func (e *Engine) Upstream(ctx context.Context, spec engine.UpstreamSpec) (engine.Service, error) {
	size, known := e.options.Contract.Sizes[spec.Size]
	if !known {
		return nil, fmt.Errorf("upstream: size %q is not known", spec.Size)
	}
	cmd := exec.Command(e.options.Binary, "upstream", "--items", strconv.Itoa(size.Items), "--latency", spec.Latency.String())
	cmd.Env = e.baseEnvironment()
	cmd.Dir = e.run.dir
	s, err := e.startService(ctx, e.databaseCPUs, "upstream", cmd, time.Minute, "/readyz", 5*time.Second)
	if err != nil {
		return nil, err
	}
	return s.service, nil
}

type startedService struct {
	*service
	readyAfter time.Duration
}

// startService starts a program, learns its address from its first line and waits until readyPath answers 200.
func (e *Engine) startService(ctx context.Context, cpus *spawner, name string, cmd *exec.Cmd, patience time.Duration, readyPath string, stopPatience time.Duration) (startedService, error) {
	p, err := e.start(cpus, cmd, startOptions{name: name, deathSignal: syscall.SIGKILL})
	if err != nil {
		return startedService{}, err
	}
	s := &service{process: p, patience: stopPatience}
	s.forget = e.stops.Keep(s.Stop)
	readyAfter, err := s.waitReady(ctx, patience, readyPath)
	if err != nil {
		p.signal(syscall.SIGKILL)
		<-p.exited
		s.forget()
		return startedService{}, err
	}
	return startedService{service: s, readyAfter: readyAfter}, nil
}

// waitReady returns how long it took from the start to the first 200.
func (s *service) waitReady(ctx context.Context, patience time.Duration, path string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case line, printed := <-s.firstLine:
		if !printed {
			// Its streams have ended; so will it.
			select {
			case <-s.exited:
				return 0, s.exitError()
			case <-ctx.Done():
				return 0, fmt.Errorf("%s closed its output without saying where it listens%s", s.name, host.QuoteLog(s.logs.Last(20)))
			}
		}
		url, err := addressOf(line)
		if err != nil {
			// Perhaps it says more before it ends.
			select {
			case <-s.exited:
				return 0, s.exitError()
			case <-time.After(200 * time.Millisecond):
			}
			return 0, fmt.Errorf("%s: the first line does not say where it listens: %w%s", s.name, err, host.QuoteLog(s.logs.Last(20)))
		}
		s.url = url
	case <-ctx.Done():
		return 0, fmt.Errorf("%s did not say within %s where it listens%s", s.name, patience, host.QuoteLog(s.logs.Last(20)))
	}
	return ready.Wait(ctx, ready.Program{
		Name: s.name, URL: s.url + path, Started: s.started, Patience: patience,
		Exited: s.exited, ExitError: s.exitError, Logs: s.logs.Last,
	})
}

// addressOf reads the base address out of a line such as {"msg":"listening","port":40123,…}.
func addressOf(line string) (string, error) {
	var said struct {
		Msg  string `json:"msg"`
		Port int    `json:"port"`
	}
	if err := json.Unmarshal([]byte(line), &said); err != nil {
		return "", fmt.Errorf("not JSON: %w", err)
	}
	if said.Msg != "listening" || said.Port < 1 || said.Port > 65535 {
		return "", fmt.Errorf("expected msg listening and a port, got msg %q and port %d", said.Msg, said.Port)
	}
	return "http://127.0.0.1:" + strconv.Itoa(said.Port), nil
}

// Version runs the arm's version command.
func (e *Engine) Version(ctx context.Context, arm contender.Arm) (contender.Version, error) {
	cmd, err := command(arm, arm.Version)
	if err != nil {
		return contender.Version{}, err
	}
	cmd.Env = e.baseEnvironment()
	stdout, p, err := e.runToEnd(ctx, e.everywhere, cmd, "version of "+arm.Name, nil, 30*time.Second)
	if err != nil {
		return contender.Version{}, err
	}
	if !p.status.Success() {
		return contender.Version{}, p.exitError()
	}
	version, err := contender.ParseVersion(stdout)
	if err != nil {
		return contender.Version{}, fmt.Errorf("version of %s: %w", arm.Name, err)
	}
	return version, nil
}

// benchPatience is how long a benchmark command may take.
const benchPatience = 5 * time.Minute

// Bench starts the arm's program with its benchmark command, on the CPUs that the arm has.
func (e *Engine) Bench(ctx context.Context, arm contender.Arm, args []string) ([]byte, error) {
	cmd, err := command(arm, slices.Concat(arm.Start, []string{"bench"}, args))
	if err != nil {
		return nil, err
	}
	cpus, err := e.contenderSpawner(arm.CPUCount())
	if err != nil {
		return nil, fmt.Errorf("bench of %s: %w", arm.Name, err)
	}
	cmd.Env = e.contenderEnvironment(engine.ContenderSpec{Arm: arm})
	stdout, p, err := e.runToEnd(ctx, cpus, cmd, "bench of "+arm.Name, nil, benchPatience)
	if err != nil {
		return nil, err
	}
	if !p.status.Success() {
		return nil, p.exitError()
	}
	return stdout, nil
}

// Identity is empty: an arm is started as the program that is built of its sources here.
func (e *Engine) Identity(context.Context, contender.Arm) (string, error) { return "", nil }

// Loopback is the same for all processes of this machine.
func (e *Engine) Loopback() (listen, dial string) { return "127.0.0.1", "127.0.0.1" }

// Agent runs the load generator.
func (e *Engine) Agent(ctx context.Context, _ engine.Contender, stdin []byte) (engine.AgentResult, error) {
	cmd := exec.Command(e.options.Binary, "agent")
	cmd.Env = e.baseEnvironment()
	cmd.Dir = e.run.dir
	stdout, p, err := e.runToEnd(ctx, e.agentCPUs, cmd, "agent", bytes.NewReader(stdin), 0)
	if err != nil {
		return engine.AgentResult{}, err
	}
	if !p.status.Success() {
		return engine.AgentResult{}, p.exitError()
	}
	result := engine.AgentResult{
		Stdout: stdout,
		Stderr: []byte(strings.Join(p.logs.Last(host.KeptLines), "\n")),
		CPU:    p.status.UserTime() + p.status.SystemTime(),
	}
	if used, ok := p.status.SysUsage().(*syscall.Rusage); ok {
		voluntary, involuntary := int64(used.Nvcsw), int64(used.Nivcsw)
		result.VoluntarySwitches, result.InvoluntarySwitches = &voluntary, &involuntary
	}
	return result, nil
}

// runToEnd starts a program and waits for its end; where the context or a positive patience ends first, it kills it.
func (e *Engine) runToEnd(ctx context.Context, cpus *spawner, cmd *exec.Cmd, name string, stdin io.Reader, patience time.Duration) ([]byte, *process, error) {
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	var stdout bytes.Buffer
	p, err := e.start(cpus, cmd, startOptions{name: name, deathSignal: syscall.SIGKILL, stdin: stdin, stdout: &stdout})
	if err != nil {
		return nil, nil, err
	}
	forget := e.stops.Keep(func(ctx context.Context) error {
		p.signal(syscall.SIGKILL)
		<-p.exited
		return nil
	})
	defer forget()
	select {
	case <-p.exited:
	case <-ctx.Done():
		p.signal(syscall.SIGKILL)
		<-p.exited
		return nil, nil, fmt.Errorf("%s: %w", name, ctx.Err())
	}
	return stdout.Bytes(), p, nil
}

// Redis starts this machine's redis-server beside the database.
func (e *Engine) Redis(ctx context.Context) (engine.Service, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed: on Debian `apt-get install redis-server`")
	}
	port, err := host.FreePort()
	if err != nil {
		return nil, err
	}
	password, address := host.RandomHex(16), net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	// On standard input, so that the password is in nobody's arguments.
	cmd := exec.Command(program, "-")
	cmd.Env = e.baseEnvironment()
	cmd.Dir = e.run.dir
	p, err := e.start(e.databaseCPUs, cmd, startOptions{
		name: "redis", deathSignal: syscall.SIGKILL, stdin: strings.NewReader(redis.Configuration("127.0.0.1", port, password)),
	})
	if err != nil {
		return nil, err
	}
	s := &service{process: p, url: redis.URL(address, password), patience: 5 * time.Second}
	s.forget = e.stops.Keep(s.Stop)
	if err := redis.WaitReady(ctx, address, password, p.exited, p.exitError, p.logs.Last); err != nil {
		p.signal(syscall.SIGKILL)
		<-p.exited
		s.forget()
		return nil, err
	}
	return s, nil
}
