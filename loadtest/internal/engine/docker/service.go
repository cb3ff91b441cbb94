package docker

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/ready"
	"lab/loadtest/internal/engine/redis"
)

// Limits of memory, far above need: they keep a leak from taking the machine along and decide no figure. The contender's
// is also what a runtime that sizes itself by its container sees (Node takes its heap from it), so it is that of an
// ordinary server rather than of a cramped one.
const (
	contenderMemoryBytes = 4 << 30
	agentMemoryBytes     = 4 << 30
	toolMemoryBytes      = 512 << 20
	servicePort          = 8080
)

// service is a container that answers at a published port.
type service struct {
	*unit
	e        *Engine
	patience time.Duration
	stopOnce sync.Once
	stopErr  error
	forget   func()
	// beside is stopped at the same time.
	beside func(context.Context)
}

func (s *service) URL() string {
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(int(s.hostPort)))
}

// Stop sends SIGTERM, waits for a graceful end and removes the container.
func (s *service) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		defer s.forget()
		var beside sync.WaitGroup
		if s.beside != nil {
			beside.Go(func() { s.beside(ctx) })
		}
		s.stopErr = errors.Join(s.stop(ctx, "SIGTERM", s.patience), s.remove(context.WithoutCancel(ctx)))
		beside.Wait()
	})
	return s.stopErr
}

// startService starts a container and waits until it is ready.
func (e *Engine) startService(ctx context.Context, s spec, patience, stopPatience time.Duration) (*service, time.Duration, error) {
	s.port = servicePort
	u, err := e.start(ctx, s)
	if err != nil {
		return nil, 0, err
	}
	started := &service{unit: u, e: e, patience: stopPatience}
	started.forget = e.stops.Keep(started.Stop)
	fail := func(err error) error {
		_ = u.remove(context.WithoutCancel(ctx))
		started.forget()
		return err
	}
	if u.hostPort == 0 {
		select {
		case <-u.Exited():
			return nil, 0, fail(u.exitError())
		default:
			return nil, 0, fail(fmt.Errorf("%s: the engine published no port%s", s.role, host.QuoteLog(u.Logs(20))))
		}
	}
	after, err := ready.Wait(ctx, ready.Program{
		Name: s.role, URL: started.URL() + "/readyz", Started: u.begun, Patience: patience,
		Exited: u.Exited(), ExitError: u.exitError, Logs: u.Logs,
	})
	if err != nil {
		return nil, 0, fail(err)
	}
	e.publish(net.JoinHostPort("127.0.0.1", strconv.Itoa(int(u.hostPort))), net.JoinHostPort(s.alias, strconv.Itoa(servicePort)))
	return started, after, nil
}

// contenderService is an engine.Contender.
type contenderService struct {
	*service
	arm        contender.Arm
	readyAfter time.Duration

	// agent is the container in this one's network in which load generators run, and jobs the one that runs there.
	agentMu sync.Mutex
	agent   *unit
	// talking is held by whoever has the load generator there, jobs, at work.
	talking sync.Mutex
	jobs    *conversation
}

func (c *contenderService) Arm() contender.Arm        { return c.arm }
func (c *contenderService) GraphQLURL() string        { return c.URL() + "/graphql" }
func (c *contenderService) MetricsURL() string        { return c.URL() + "/metrics" }
func (c *contenderService) Started() time.Time        { return c.begun }
func (c *contenderService) ReadyAfter() time.Duration { return c.readyAfter }

// LoadURL is the contender's own loopback, where the load generator is too.
func (c *contenderService) LoadURL() string {
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(servicePort)) + "/graphql"
}

// addresses are the settings that name something which a contender has to reach.
var addresses = []string{"DATABASE_URL", "DATABASE_REPLICA_URL", "UPSTREAM_URL", "REDIS_URL"}

// inside gives an address as a container reaches it: what the engine publishes by its name in the run's network. What
// listens elsewhere on this machine's loopback cannot be reached at all, and that is an error.
func (e *Engine) inside(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	inner, known := e.inner[u.Host]
	e.mu.Unlock()
	if known {
		u.Host = inner
		return u.String(), nil
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return "", fmt.Errorf("%s is this machine's loopback, which a container cannot reach: listen at %s", u.Host, e.network.listen)
	}
	return address, nil
}

// contenderEnvironment returns what a contender is told: what joins it to this run, the arm's settings, and the caller's,
// each replacing those before.
func (e *Engine) contenderEnvironment(spec engine.ContenderSpec) (map[string]string, error) {
	merged := map[string]string{
		"HOST": "0.0.0.0", "PORT": strconv.Itoa(servicePort), "TZ": "UTC", "LANG": "C.UTF-8",
		// The line that says where it listens is of level info; no line is written per request.
		"LOG_LEVEL": "info",
	}
	spec.Join(merged)
	for _, name := range addresses {
		if merged[name] == "" {
			continue
		}
		inside, err := e.inside(merged[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		merged[name] = inside
	}
	return merged, nil
}

// imageOf is the image that an arm is started from: its contender's, or one of its own where it is built otherwise.
func (e *Engine) imageOf(ctx context.Context, arm contender.Arm) (image, error) {
	return e.images.ofTree(ctx, arm.Root, arm.Dir, arm.BuildArguments)
}

// Bench starts a container of the arm's image with its program's benchmark command, on the CPUs that the arm has and in a
// contender's memory.
func (e *Engine) Bench(ctx context.Context, arm contender.Arm, args []string) ([]byte, error) {
	image, err := e.imageOf(ctx, arm)
	if err != nil {
		return nil, err
	}
	placement, err := e.placement.With(arm.CPUCount())
	if err != nil {
		return nil, fmt.Errorf("bench of %s: %w", arm.Name, err)
	}
	return e.runToEnd(ctx, spec{
		role: "bench", image: image.reference, command: slices.Concat([]string{"bench"}, args), environment: maps.Clone(arm.Environment),
		cpus: placement.Contender, memoryBytes: contenderMemoryBytes, scratch: []string{"/tmp"},
	})
}

// Identity is the id of the arm's image.
func (e *Engine) Identity(ctx context.Context, arm contender.Arm) (string, error) {
	image, err := e.imageOf(ctx, arm)
	return image.id, err
}

// Contender starts an arm and waits until it is ready.
func (e *Engine) Contender(ctx context.Context, cs engine.ContenderSpec) (engine.Contender, error) {
	image, err := e.imageOf(ctx, cs.Arm)
	if err != nil {
		return nil, err
	}
	environment, err := e.contenderEnvironment(cs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cs.Arm.Name, err)
	}
	placement, err := e.placement.With(cs.Arm.CPUCount())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cs.Arm.Name, err)
	}
	patience := cs.ReadyTimeout
	if patience == 0 {
		patience = time.Minute
	}
	// A request may take as long as its limit, and the server a second more.
	limit := time.Duration(e.options.Contract.Limits.RequestTimeout)
	s, readyAfter, err := e.startService(ctx, spec{
		role: "contender", alias: e.alias("contender"), image: image.reference, environment: environment,
		cpus: placement.Contender, memoryBytes: contenderMemoryBytes, scratch: []string{"/tmp"},
	}, patience, limit+10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cs.Arm.Name, err)
	}
	c := &contenderService{service: s, arm: cs.Arm, readyAfter: readyAfter}
	c.beside = c.stopAgent
	return c, nil
}

// Upstream starts this program's hidden command of that name.
func (e *Engine) Upstream(ctx context.Context, us engine.UpstreamSpec) (engine.Service, error) {
	size, known := e.options.Contract.Sizes[us.Size]
	if !known {
		return nil, fmt.Errorf("upstream: size %q is not known", us.Size)
	}
	image, err := e.images.of(ctx, toolFolder, nil)
	if err != nil {
		return nil, err
	}
	s, _, err := e.startService(ctx, spec{
		role: "upstream", alias: e.alias("upstream"), image: image.reference,
		command: []string{"upstream", "--host", "0.0.0.0", "--port", strconv.Itoa(servicePort),
			"--items", strconv.Itoa(size.Items), "--latency", us.Latency.String()},
		cpus: e.placement.Database, memoryBytes: toolMemoryBytes,
	}, time.Minute, us.Latency+5*time.Second)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Version asks the arm's program, without a network.
func (e *Engine) Version(ctx context.Context, arm contender.Arm) (contender.Version, error) {
	image, err := e.imageOf(ctx, arm)
	if err != nil {
		return contender.Version{}, err
	}
	output, err := e.runToEnd(ctx, spec{
		role: "version", image: image.reference, command: []string{"--version"}, memoryBytes: toolMemoryBytes, scratch: []string{"/tmp"},
	})
	if err != nil {
		return contender.Version{}, fmt.Errorf("version of %s: %w", arm.Name, err)
	}
	version, err := contender.ParseVersion(output)
	if err != nil {
		return contender.Version{}, fmt.Errorf("version of %s: %w", arm.Name, err)
	}
	return version, nil
}

// agentOf is the container in the contender's network in which attacks are made, started at the first of them.
func (c *contenderService) agentOf(ctx context.Context) (*unit, error) {
	image, err := c.e.images.of(ctx, toolFolder, nil)
	if err != nil {
		return nil, err
	}
	c.agentMu.Lock()
	defer c.agentMu.Unlock()
	if c.agent != nil {
		return c.agent, nil
	}
	c.agent, err = c.e.start(ctx, spec{
		role: "agent", image: image.reference, command: []string{"idle"}, joins: c.id,
		cpus: c.e.placement.Agent, memoryBytes: agentMemoryBytes,
	})
	return c.agent, err
}

// stopAgent removes the container of attacks and with it whatever runs there.
func (c *contenderService) stopAgent(ctx context.Context) {
	c.agentMu.Lock()
	defer c.agentMu.Unlock()
	if c.agent != nil {
		if err := c.agent.remove(context.WithoutCancel(ctx)); err != nil {
			c.e.log(err.Error())
		}
		c.agent = nil
		// Its stream has ended, and with it whatever was being asked.
		c.talking.Lock()
		defer c.talking.Unlock()
		if c.jobs != nil {
			c.jobs.close()
			c.jobs = nil
		}
	}
}

// talk gives the load generator in the agent's container a job and reads its result. The first job starts it; for a job beside
// another one there is another.
func (c *contenderService) talk(ctx context.Context, u *unit, job []byte) (engine.AgentResult, error) {
	if !c.talking.TryLock() {
		return u.exec(ctx, []string{"agent"}, job)
	}
	defer c.talking.Unlock()
	if c.jobs == nil {
		var err error
		if c.jobs, err = u.converse(ctx, []string{"agent"}); err != nil {
			return engine.AgentResult{}, err
		}
	}
	result, err := c.jobs.ask(ctx, job)
	if err != nil {
		c.jobs.close()
		c.jobs = nil
	}
	return result, err
}

// Agent runs the load generator beside the contender.
func (e *Engine) Agent(ctx context.Context, against engine.Contender, stdin []byte) (engine.AgentResult, error) {
	c, ours := against.(*contenderService)
	if !ours {
		return engine.AgentResult{}, fmt.Errorf("agent: %T is no contender of this engine", against)
	}
	u, err := c.agentOf(ctx)
	if err != nil {
		return engine.AgentResult{}, fmt.Errorf("agent: %w", err)
	}
	before, err := u.Usage(ctx)
	if err != nil {
		return engine.AgentResult{}, fmt.Errorf("agent: %w", err)
	}
	result, err := c.talk(ctx, u, stdin)
	if err != nil {
		if ctx.Err() != nil {
			// An attack that nobody waits for must not go on.
			c.stopAgent(ctx)
		}
		return result, fmt.Errorf("agent: %w", err)
	}
	after, err := u.Usage(ctx)
	if err != nil {
		return result, fmt.Errorf("agent: %w", err)
	}
	used := after.Sub(before)
	// The container's account; control groups keep none of context switches.
	result.CPU, result.Throttled, result.Pressure = used.CPU, used.Throttled, used.Pressure
	if memory, err := u.Memory(ctx); err == nil {
		result.MemoryCgroupPeakBytes = memory.CgroupPeakBytes
	}
	return result, nil
}

// attach starts a program in the container, with its three streams.
func (u *unit) attach(ctx context.Context, command []string) (id string, streams client.HijackedResponse, err error) {
	made, err := u.c.api.ExecCreate(ctx, u.id, client.ExecCreateOptions{Cmd: command, AttachStdin: true, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", streams, explain(err)
	}
	attached, err := u.c.api.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", streams, explain(err)
	}
	return made.ID, attached.HijackedResponse, nil
}

// exec runs a program in the container: its input and its output pass through the engine, before and after it works.
func (u *unit) exec(ctx context.Context, command []string, stdin []byte) (engine.AgentResult, error) {
	var result engine.AgentResult
	id, attached, err := u.attach(ctx, command)
	if err != nil {
		return result, err
	}
	defer attached.Close()
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	if _, err := attached.Conn.Write(stdin); err != nil {
		return result, fmt.Errorf("hand over the job: %w", err)
	}
	if err := attached.CloseWrite(); err != nil {
		return result, fmt.Errorf("hand over the job: %w", err)
	}
	var stdout, stderr bytes.Buffer
	_, copyErr := stdcopy.StdCopy(&stdout, &stderr, attached.Reader)
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	if copyErr != nil {
		return result, fmt.Errorf("read what it printed: %w", explain(copyErr))
	}
	ended, err := u.c.api.ExecInspect(ctx, id, client.ExecInspectOptions{})
	if err != nil {
		return result, explain(err)
	}
	if ended.Running || ended.ExitCode != 0 {
		return result, fmt.Errorf("ended with exit status %d%s", ended.ExitCode, quoteSaid(stderr.Bytes()))
	}
	result.Stdout, result.Stderr = stdout.Bytes(), stderr.Bytes()
	return result, nil
}

// conversation is a program in a container that answers each line of its input with a line.
type conversation struct {
	u        *unit
	id       string
	attached client.HijackedResponse
	answers  *bufio.Reader
	// mu guards what it said beside its answers.
	mu     sync.Mutex
	stderr bytes.Buffer
}

// converse starts a program in the container.
func (u *unit) converse(ctx context.Context, command []string) (*conversation, error) {
	id, attached, err := u.attach(ctx, command)
	if err != nil {
		return nil, err
	}
	answers, says := io.Pipe()
	c := &conversation{u: u, id: id, attached: attached, answers: bufio.NewReader(answers)}
	go func() {
		_, err := stdcopy.StdCopy(says, lockedWriter{&c.mu, &c.stderr}, attached.Reader)
		_ = says.CloseWithError(cmp.Or(err, io.EOF))
	}()
	return c, nil
}

// lockedWriter writes under a lock.
type lockedWriter struct {
	mu *sync.Mutex
	to io.Writer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

// quoteSaid says the last lines that a program wrote beside its answers, at the end of an error.
func quoteSaid(said []byte) string {
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	return host.QuoteLog(lines[max(0, len(lines)-20):])
}

// ask gives the program a line and waits for its answer.
func (c *conversation) ask(ctx context.Context, line []byte) (engine.AgentResult, error) {
	var result engine.AgentResult
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	if _, err := c.attached.Conn.Write(append(bytes.TrimSpace(line), '\n')); err != nil {
		return result, fmt.Errorf("hand over the job: %w", err)
	}
	answer, err := c.answers.ReadBytes('\n')
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	said := c.said()
	if err != nil {
		ended, inspectErr := c.u.c.api.ExecInspect(ctx, c.id, client.ExecInspectOptions{})
		if inspectErr != nil {
			return result, fmt.Errorf("read what it printed: %w: %w%s", err, explain(inspectErr), quoteSaid(said))
		}
		return result, fmt.Errorf("ended with exit status %d%s", ended.ExitCode, quoteSaid(said))
	}
	result.Stdout, result.Stderr = answer, said
	return result, nil
}

// said is what the program said beside its answers since it was asked for that.
func (c *conversation) said() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := bytes.Clone(c.stderr.Bytes())
	c.stderr.Reset()
	return said
}

// close ends the program's input, and with it the program.
func (c *conversation) close() { c.attached.Close() }

// redisService is a Redis of the run.
type redisService struct {
	*service
	password string
}

// URL is its address with its password.
func (r *redisService) URL() string {
	return redis.URL(net.JoinHostPort("127.0.0.1", strconv.Itoa(int(r.hostPort))), r.password)
}

const (
	redisPort = 6379
	// redisMemoryBytes is twice what the configuration lets it hold.
	redisMemoryBytes = 512 << 20
)

// Redis starts one beside the database. Its configuration goes in by the environment and a shell, so that the password is
// in nobody's arguments.
func (e *Engine) Redis(ctx context.Context) (engine.Service, error) {
	image, err := e.c.have(ctx, redisImageName(), e.log)
	if err != nil {
		return nil, err
	}
	password, alias := host.RandomHex(16), e.alias("redis")
	u, err := e.start(ctx, spec{
		role: "redis", alias: alias, image: image.reference, user: "redis",
		entrypoint:  []string{"sh", "-c", "cd /tmp && exec redis-server - <<END\n$LAB_CONFIGURATION\nEND\n"},
		environment: map[string]string{"LAB_CONFIGURATION": redis.Configuration("0.0.0.0", redisPort, password)},
		cpus:        e.placement.Database, memoryBytes: redisMemoryBytes, port: redisPort, scratch: []string{"/tmp"},
	})
	if err != nil {
		return nil, err
	}
	s := &service{unit: u, e: e, patience: 5 * time.Second}
	s.forget = e.stops.Keep(s.Stop)
	published := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(u.hostPort)))
	if err := redis.WaitReady(ctx, published, password, u.Exited(), u.exitError, u.Logs); err != nil {
		_ = u.remove(context.WithoutCancel(ctx))
		s.forget()
		return nil, err
	}
	e.publish(published, net.JoinHostPort(alias, strconv.Itoa(redisPort)))
	return &redisService{s, password}, nil
}
