package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"lab/loadtest/internal/engine/host"
)

// spec says what to start.
type spec struct {
	// role is what messages and labels call it: contender, database_primary and so on.
	role string
	// alias is its name in the run's network; empty means that it is in none.
	alias string
	image string
	// entrypoint and command replace the image's where they are set.
	entrypoint, command []string
	environment         map[string]string
	cpus                []int
	memoryBytes         int64
	// port inside the container is published on loopback as hostPort, or where that is 0 as one that is free. Every
	// container in a network has one: testcontainers would publish what the image exposes, and to everybody.
	port, hostPort uint16
	// joins is the container whose network this one shares.
	joins string
	// volumes are mounted at these places.
	volumes map[string]string
	// scratch are folders in memory, for a root that is read-only.
	scratch []string
	// writable leaves the root writable, for what runs only for a moment.
	writable     bool
	user         string
	capabilities []string
	// files are put there before the start; the root must be writable.
	files map[string][]byte
	init  bool
}

// mostProcesses bounds each container's processes and threads: PostgreSQL needs about 220, a contender fewer.
const mostProcesses = 1024

// unit is one container.
type unit struct {
	c    *connection
	spec spec
	id   string

	mu sync.Mutex
	// begun is when the engine was asked to start it.
	begun   time.Time
	exited  chan struct{}
	status  int64
	exitErr error
	// pid is the first process as the engine's machine counts.
	pid      int
	hostPort uint16
	removed  bool
	lastLogs []string
}

// create makes the container without starting it.
func (e *Engine) create(ctx context.Context, s spec) (*unit, error) {
	request := testcontainers.ContainerRequest{
		Image: s.image, Entrypoint: s.entrypoint, Cmd: s.command, Env: s.environment,
		Labels: e.owner.labels(s.role),
		Name:   fmt.Sprintf("%s%s-%s-%s", namePrefix, e.owner.run, strings.ReplaceAll(s.role, "_", "-"), host.RandomHex(3)),
	}
	for volume, target := range s.volumes {
		request.Mounts = append(request.Mounts, testcontainers.VolumeMount(volume, testcontainers.ContainerMountTarget(target)))
	}
	for path, content := range s.files {
		request.Files = append(request.Files, testcontainers.ContainerFile{Reader: bytes.NewReader(content), ContainerFilePath: path, FileMode: 0o644})
	}
	if s.alias != "" {
		request.Networks = []string{e.network.name}
		request.NetworkAliases = map[string][]string{e.network.name: {s.alias}}
		request.ExposedPorts = []string{strconv.Itoa(int(s.port)) + "/tcp"}
	}
	request.ConfigModifier = func(c *container.Config) {
		c.User = s.user
		// Its probes would be in the account of what is measured.
		c.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
	}
	request.HostConfigModifier = func(h *container.HostConfig) {
		e.confine(h, s)
		switch {
		case s.joins != "":
			h.NetworkMode = container.NetworkMode("container:" + s.joins)
		case s.alias == "":
			h.NetworkMode = "none"
		default:
			h.NetworkMode = container.NetworkMode(e.network.name)
			port, _ := network.PortFrom(s.port, network.TCP)
			hostPort := ""
			if s.hostPort != 0 {
				hostPort = strconv.Itoa(int(s.hostPort))
			}
			h.PortBindings = network.PortMap{port: {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: hostPort}}}
		}
	}
	making, cancel := whole(ctx)
	defer cancel()
	made, err := e.c.provider.CreateContainer(making, request)
	if err != nil {
		if made != nil && made.GetContainerID() != "" {
			_ = e.c.removeContainer(context.WithoutCancel(ctx), made.GetContainerID())
		}
		return nil, fmt.Errorf("make the container of %s: %w", s.role, explain(err))
	}
	return &unit{c: e.c, spec: s, id: made.GetContainerID()}, nil
}

// confine gives the container its CPUs and limits and takes from it what it does not need.
func (e *Engine) confine(h *container.HostConfig, s spec) {
	h.CpusetCpus = joinInts(s.cpus)
	h.Memory, h.MemorySwap = s.memoryBytes, s.memoryBytes
	processes := int64(mostProcesses)
	h.PidsLimit = &processes
	h.CapDrop, h.CapAdd = []string{"ALL"}, s.capabilities
	h.SecurityOpt = []string{"no-new-privileges"}
	h.ReadonlyRootfs = !s.writable
	if s.init {
		yes := true
		h.Init = &yes
	}
	if s.alias != "" {
		// Names beyond the run's network are asked of nobody: a question would leave the network, and a name that is gone
		// (a server that is being restarted) would keep whoever asks for it waiting for ten seconds instead of two.
		h.DNS, h.DNSSearch = []netip.Addr{netip.MustParseAddr("127.0.0.1")}, []string{"."}
		h.DNSOptions = []string{"timeout:1", "attempts:1"}
	}
	h.Tmpfs = map[string]string{}
	for _, dir := range s.scratch {
		h.Tmpfs[dir] = "rw,nosuid,nodev,noexec,mode=1777,size=64m"
	}
	if h.ExtraHosts == nil && e.network.dial == desktopHost && s.alias != "" {
		h.ExtraHosts = []string{desktopHost + ":host-gateway"}
	}
	// Read on demand, and bounded; what the daemon is set to do with logs may not be readable at all.
	h.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "8m", "max-file": "1"}}
}

func joinInts(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ",")
}

// start makes the container and starts it; on failure nothing is left.
func (e *Engine) start(ctx context.Context, s spec) (*unit, error) {
	u, err := e.create(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := u.start(ctx); err != nil {
		_ = u.remove(context.WithoutCancel(ctx))
		return nil, err
	}
	return u, nil
}

// start starts the container and learns its process and its port.
func (u *unit) start(ctx context.Context) error {
	exited := make(chan struct{})
	// The watch outlives the call that starts it, and is there before there is something to miss.
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	wait := u.c.api.ContainerWait(watching, u.id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	u.mu.Lock()
	u.exited, u.begun = exited, time.Now()
	u.mu.Unlock()
	go func() {
		defer unwatch()
		status, err := int64(-1), error(nil)
		select {
		case response := <-wait.Result:
			status = response.StatusCode
			if response.Error != nil {
				err = errors.New(response.Error.Message)
			}
		case err = <-wait.Error:
			err = explain(err)
		}
		u.mu.Lock()
		u.status, u.exitErr = status, err
		u.mu.Unlock()
		close(exited)
	}()
	if _, err := u.c.api.ContainerStart(ctx, u.id, client.ContainerStartOptions{}); err != nil {
		unwatch()
		return fmt.Errorf("start %s: %w", u.spec.role, explain(err))
	}
	state, err := u.c.api.ContainerInspect(ctx, u.id, client.ContainerInspectOptions{})
	if err != nil {
		return fmt.Errorf("start %s: %w", u.spec.role, explain(err))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if state.Container.State != nil {
		u.pid = state.Container.State.Pid
	}
	if u.spec.port == 0 || state.Container.NetworkSettings == nil {
		return nil
	}
	for port, bindings := range state.Container.NetworkSettings.Ports {
		for _, binding := range bindings {
			if n, err := strconv.ParseUint(binding.HostPort, 10, 16); err == nil && port.Num() == u.spec.port {
				u.hostPort = uint16(n)
			}
		}
	}
	return nil
}

// Exited is closed when the container has ended, by itself or by stop.
func (u *unit) Exited() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.exited
}

func (u *unit) alive() bool {
	select {
	case <-u.Exited():
		return false
	default:
		return true
	}
}

// exitError says how a container that ended by itself did so, with the end of its log.
func (u *unit) exitError() error {
	u.mu.Lock()
	status, err := u.status, u.exitErr
	u.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", u.spec.role, err)
	}
	return &statusError{u.spec.role, status, u.Logs(20)}
}

// statusError says that a container ended with a status.
type statusError struct {
	role   string
	status int64
	logs   []string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s ended with exit status %d%s", e.role, e.status, host.QuoteLog(e.logs))
}

// stop sends the signal, waits for at most patience, and insists; it returns an error where it had to, or where the
// status is not 0. The container is still there.
func (u *unit) stop(ctx context.Context, signal string, patience time.Duration) error {
	if !u.alive() {
		return fmt.Errorf("before it was stopped: %w", u.exitError())
	}
	if _, err := u.c.api.ContainerKill(ctx, u.id, client.ContainerKillOptions{Signal: signal}); err != nil && u.alive() {
		return fmt.Errorf("stop %s: %w", u.spec.role, explain(err))
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-u.Exited():
		if u.mu.Lock(); u.status != 0 || u.exitErr != nil {
			u.mu.Unlock()
			return u.exitError()
		}
		u.mu.Unlock()
		return nil
	case <-ctx.Done():
	case <-timer.C:
	}
	if _, err := u.c.api.ContainerKill(context.WithoutCancel(ctx), u.id, client.ContainerKillOptions{Signal: "SIGKILL"}); err != nil && u.alive() {
		return fmt.Errorf("kill %s: %w", u.spec.role, explain(err))
	}
	// An engine that hangs must not keep whoever is being interrupted.
	const lastPatience = 10 * time.Second
	select {
	case <-u.Exited():
	case <-time.After(lastPatience):
		return fmt.Errorf("%s does not end: the engine says nothing of it %s after SIGKILL", u.spec.role, lastPatience)
	}
	return fmt.Errorf("%s had to be killed: it did not end within %s of %s", u.spec.role, patience, signal)
}

// remove removes the container, running or not; its last lines are kept.
func (u *unit) remove(ctx context.Context) error {
	u.mu.Lock()
	removed := u.removed
	u.mu.Unlock()
	if removed {
		return nil
	}
	lines := u.Logs(host.KeptLines)
	err := u.c.removeContainer(ctx, u.id)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lastLogs, u.removed = lines, err == nil
	if err != nil {
		return fmt.Errorf("remove %s: %w", u.spec.role, explain(err))
	}
	return nil
}

// Logs returns the last n lines that it printed, on both streams.
func (u *unit) Logs(n int) []string {
	u.mu.Lock()
	removed, kept := u.removed, u.lastLogs
	u.mu.Unlock()
	if removed {
		return slices.Clone(kept[max(0, len(kept)-n):])
	}
	if n <= 0 {
		return nil
	}
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := u.c.api.ContainerLogs(ctx, u.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(n)})
	if err != nil {
		return nil
	}
	defer stream.Close()
	var text bytes.Buffer
	_, _ = stdcopy.StdCopy(&text, &text, stream)
	if text.Len() == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
}

// output waits for the end and returns what was printed on standard output.
func (u *unit) output(ctx context.Context) ([]byte, error) {
	select {
	case <-u.Exited():
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", u.spec.role, ctx.Err())
	}
	if u.mu.Lock(); u.status != 0 || u.exitErr != nil {
		u.mu.Unlock()
		return nil, u.exitError()
	}
	u.mu.Unlock()
	stream, err := u.c.api.ContainerLogs(ctx, u.id, client.ContainerLogsOptions{ShowStdout: true})
	if err != nil {
		return nil, fmt.Errorf("read what %s printed: %w", u.spec.role, explain(err))
	}
	defer stream.Close()
	var stdout bytes.Buffer
	if _, err := stdcopy.StdCopy(&stdout, io.Discard, stream); err != nil {
		return nil, fmt.Errorf("read what %s printed: %w", u.spec.role, err)
	}
	return stdout.Bytes(), nil
}

// runToEnd runs a container to its end, removes it, and returns what it printed on standard output.
func (e *Engine) runToEnd(ctx context.Context, s spec) ([]byte, error) {
	u, err := e.start(ctx, s)
	if err != nil {
		return nil, err
	}
	output, err := u.output(ctx)
	if removeErr := u.remove(context.WithoutCancel(ctx)); err == nil {
		err = removeErr
	}
	return output, err
}
