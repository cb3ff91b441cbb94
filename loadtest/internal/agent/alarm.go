package agent

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// alarm sleeps to the microsecond without a thread of its own. Go's timers wake in steps of a millisecond, since they
// are the time limit of epoll_wait. A nanosleep is exact, but it keeps a thread, to which and from which every request
// has to be handed over, and it makes the runtime's monitor thread look every 20 µs whether the sleeper's processor can
// be taken away. A timerfd is exact too, and the poller that waits for answers waits for it as well.
type alarm struct {
	file *os.File
	raw  syscall.RawConn
	step func(fd uintptr) bool
	spec unix.ItimerSpec
	set  bool
	errn syscall.Errno
}

// spin is the longest wait that is not worth going to sleep for.
const spin = 3 * time.Microsecond

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	a := &alarm{file: os.NewFile(uintptr(fd), "timerfd")}
	if a.raw, err = a.file.SyscallConn(); err != nil {
		_ = a.file.Close()
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	a.step = a.try
	return a, nil
}

// sleepUntil returns at that time after began, not before.
func (a *alarm) sleepUntil(began time.Time, at time.Duration) {
	for wait := at - time.Since(began); wait > 0; wait = at - time.Since(began) {
		if wait < spin {
			runtime.Gosched()
			continue
		}
		a.spec.Value = unix.NsecToTimespec(int64(wait))
		a.set, a.errn = false, 0
		if err := a.raw.Read(a.step); err != nil || a.errn != 0 {
			time.Sleep(wait) // coarse, but no busy loop
		}
	}
}

// try arms the timer at its first call and is called again when it has gone off. The poller's memory of earlier events
// is cleared before the first call, so the timer is armed in here and not before. Nobody reads the timer: arming it
// anew clears it.
func (a *alarm) try(fd uintptr) bool {
	if a.set {
		return true
	}
	a.set = true
	// Raw, as in package transport: it does not wait, so the scheduler need not be told.
	_, _, a.errn = syscall.RawSyscall6(unix.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&a.spec)), 0, 0, 0)
	return a.errn != 0
}

func (a *alarm) close() { _ = a.file.Close() }
