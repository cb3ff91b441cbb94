package native

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
)

const longestLogBytes = 16 << 10

// process is one started program with its process group.
type process struct {
	name    string
	cmd     *exec.Cmd
	pid     int
	started time.Time
	logs    host.Lines
	// firstLine receives the first line on standard output, and is closed without one where that ends first.
	firstLine chan string
	exited    chan struct{}
	// status is how the process ended; read it only after exited is closed.
	status *os.ProcessState
	// waitErr is why waiting failed, for the same readers.
	waitErr error
}

// startOptions say how to start a program.
type startOptions struct {
	name string
	// logTo receives both streams where it is set; else they are read line by line.
	logTo *os.File
	// deathSignal is what the process gets when this program dies.
	deathSignal syscall.Signal
	credential  *syscall.Credential
	// stdin and stdout replace reading by lines, for the agent.
	stdin  io.Reader
	stdout io.Writer
}

// start starts the command in a process group of its own and enters it in the run's marker.
func (e *Engine) start(s *spawner, cmd *exec.Cmd, options startOptions) (*process, error) {
	p := &process{name: options.name, cmd: cmd, firstLine: make(chan string, 1), exited: make(chan struct{})}
	cmd.Env = append(cmd.Env, runVariable+"="+e.run.id)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: options.deathSignal, Credential: options.credential}
	cmd.Stdin = options.stdin
	// A grandchild that keeps a pipe open must not keep us.
	cmd.WaitDelay = 2 * time.Second
	var readers []func()
	var theirs []*os.File
	pipe := func(first chan string) (*os.File, error) {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, write)
		readers = append(readers, func() { p.readLines(read, first) })
		return write, nil
	}
	defer func() {
		for _, file := range theirs {
			file.Close()
		}
	}()
	if options.logTo != nil {
		cmd.Stdout, cmd.Stderr = options.logTo, options.logTo
		close(p.firstLine)
	} else {
		var err error
		if options.stdout != nil {
			cmd.Stdout = options.stdout
			close(p.firstLine)
		} else if cmd.Stdout, err = pipe(p.firstLine); err != nil {
			return nil, fmt.Errorf("start %s: %w", options.name, err)
		}
		if cmd.Stderr, err = pipe(nil); err != nil {
			return nil, fmt.Errorf("start %s: %w", options.name, err)
		}
	}
	p.started = time.Now()
	if err := s.start(cmd); err != nil {
		// The pipes' read ends go with the garbage; their write ends are closed above.
		return nil, fmt.Errorf("start %s: %w", options.name, err)
	}
	p.pid = cmd.Process.Pid
	for _, read := range readers {
		go read()
	}
	e.run.add(options.name, p.pid)
	go p.wait(e.run)
	return p, nil
}

// wait waits for the end of the process and then ends what is left of its group.
func (p *process) wait(r *run) {
	// First without reaping: until then nobody else can have this process id, so the group is surely ours.
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	p.waitErr = p.cmd.Wait()
	p.status = p.cmd.ProcessState
	r.remove(p.pid)
	close(p.exited)
}

// readLines keeps the last lines of a stream; the first one goes to first as well.
func (p *process) readLines(stream *os.File, first chan string) {
	defer stream.Close()
	reader := bufio.NewReaderSize(stream, longestLogBytes)
	for {
		line, isPrefix, err := reader.ReadLine()
		if err != nil {
			break
		}
		text := string(line)
		// What is longer than the buffer is cut, not kept.
		for isPrefix && err == nil {
			_, isPrefix, err = reader.ReadLine()
		}
		p.logs.Add(text)
		if first != nil {
			first <- text
			close(first)
			first = nil
		}
	}
	if first != nil {
		close(first)
	}
}

// alive says whether the process has not yet been seen to end.
func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal sends a signal to the process; SIGKILL, which it cannot pass on to its children, goes to its whole group.
func (p *process) signal(signal syscall.Signal) {
	if !p.alive() {
		return
	}
	if signal == syscall.SIGKILL {
		_ = syscall.Kill(-p.pid, signal)
	}
	_ = p.cmd.Process.Signal(signal)
}

// stop sends each signal in turn, at most patience apart, and at last SIGKILL, until the process has ended.
func (p *process) stop(ctx context.Context, patience time.Duration, signals ...syscall.Signal) error {
	for _, signal := range signals {
		p.signal(signal)
		select {
		case <-p.exited:
			return nil
		case <-ctx.Done():
		case <-time.After(patience):
		}
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
	return fmt.Errorf("%s (process %d) had to be killed: it did not end within %s of %v", p.name, p.pid, patience, signals)
}

// exitError says how a process that ended by itself did so, with the end of its log.
func (p *process) exitError() error {
	status := "unknown"
	if p.status != nil {
		status = p.status.String()
	} else if p.waitErr != nil {
		status = p.waitErr.Error()
	}
	return fmt.Errorf("%s ended with %s%s", p.name, status, host.QuoteLog(p.logs.Last(20)))
}

// Pids, Usage and Memory make a process an engine.Meter.

func (p *process) Pids() []int { return host.PidsOf(p.pid) }

func (p *process) Usage(context.Context) (engine.Usage, error) {
	if !p.alive() {
		return engine.Usage{}, fmt.Errorf("%s: %w", p.name, engine.ErrExited)
	}
	return host.TreeUsage(p.pid)
}

func (p *process) Memory(context.Context) (engine.Memory, error) {
	if !p.alive() {
		return engine.Memory{}, fmt.Errorf("%s: %w", p.name, engine.ErrExited)
	}
	return host.TreeMemory(p.pid)
}
