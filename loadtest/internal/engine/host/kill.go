package host

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Kill kills a process of which still says that it is the one meant, and waits until it is gone. A pidfd holds on to the
// process while we look, so that another one that is given the same id in between is never hit.
func Kill(pid int, still func() bool) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if errors.Is(err, unix.ENOSYS) && still() {
			return syscall.Kill(pid, syscall.SIGKILL) == nil
		}
		return false
	}
	defer unix.Close(fd)
	if !still() {
		return false
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	const patience = 5 * time.Second
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	return true
}
