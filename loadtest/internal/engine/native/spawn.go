package native

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// spawner starts processes from one operating-system thread of its own. That thread has the CPU affinity that the children
// are to have: they inherit it before their first instruction, which matters because Go, Node and Tokio size themselves by
// it when they start. And it lives as long as the spawner: a parent-death signal is sent when the *thread* that forked
// ends, which for an ordinary goroutine's thread may be long before the program does.
type spawner struct {
	requests chan spawnRequest
	closed   chan struct{}
	closing  sync.Once
}

type spawnRequest struct {
	cmd  *exec.Cmd
	done chan error
}

// newSpawner starts the thread. No cpus means that the children keep this program's affinity.
func newSpawner(cpus []int) (*spawner, error) {
	s := &spawner{requests: make(chan spawnRequest), closed: make(chan struct{})}
	ready := make(chan error)
	onOwnThread(func() {
		// Never unlocked: when this goroutine returns, the runtime ends the thread and does not reuse its affinity.
		if err := setAffinity(cpus); err != nil {
			ready <- err
			return
		}
		ready <- nil
		for {
			select {
			case request := <-s.requests:
				request.done <- request.cmd.Start()
			case <-s.closed:
				return
			}
		}
	})
	if err := <-ready; err != nil {
		return nil, err
	}
	return s, nil
}

// onOwnThread runs f on a thread that is locked to it, and is not the program's first: that one outlives what was locked to
// it, and its affinity is what the program is asked for.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		started := make(chan struct{})
		onOwnThread(func() {
			close(started)
			f()
		})
		<-started // so that this thread is not the one that is taken
		runtime.UnlockOSThread()
	}()
}

// start starts the command from the spawner's thread.
func (s *spawner) start(cmd *exec.Cmd) error {
	request := spawnRequest{cmd: cmd, done: make(chan error)}
	select {
	case s.requests <- request:
		return <-request.done
	case <-s.closed:
		return errors.New("the engine is closed")
	}
}

// close ends the thread and with it, by their parent-death signal, the children that still live.
func (s *spawner) close() { s.closing.Do(func() { close(s.closed) }) }

// setAffinity pins the calling thread.
func setAffinity(cpus []int) error {
	if len(cpus) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to CPUs %v: %w", cpus, err)
	}
	return nil
}
