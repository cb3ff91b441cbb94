//go:build race

package transport

import (
	"errors"
	"syscall"
)

// The race detector learns from package syscall that what one side did before it wrote came before what the other does
// after it read, so in its builds the calls are made through that.

func read(fd uintptr, p []byte) (int, syscall.Errno) { return again(syscall.Read, fd, p) }

func write(fd uintptr, p []byte) (int, syscall.Errno) { return again(syscall.Write, fd, p) }

func peek(fd uintptr) syscall.Errno {
	_, errno := again(func(fd int, p []byte) (int, error) {
		n, _, err := syscall.Recvfrom(fd, p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return n, err
	}, fd, make([]byte, 1))
	return errno
}

func again(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, err := call(int(fd), p)
		var errno syscall.Errno
		if err == nil {
			return n, 0
		}
		if !errors.As(err, &errno) {
			return 0, syscall.EIO
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
