//go:build !race

package transport

import (
	"syscall"
	"unsafe"
)

// These read and write a socket that does not block. They are raw: the scheduler is not told, since there is nothing to
// wait for, and telling it would wake the runtime's monitor thread at every request of a program that is mostly idle.

func read(fd uintptr, p []byte) (int, syscall.Errno) { return raw(syscall.SYS_READ, fd, p, 0) }

func write(fd uintptr, p []byte) (int, syscall.Errno) { return raw(syscall.SYS_WRITE, fd, p, 0) }

// peek gives EAGAIN where nothing came and nothing ended.
func peek(fd uintptr) syscall.Errno {
	var b [1]byte
	_, errno := raw(syscall.SYS_RECVFROM, fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return errno
}

// raw makes a call again that a signal interrupted.
func raw(call, fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
