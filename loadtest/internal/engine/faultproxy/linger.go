package faultproxy

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// setLinger says how the connections that clients have at a port of this process end when they are closed: with a reset
// (as SO_LINGER of 0 seconds does), or as usual. Toxiproxy does so for connections that begin under its toxic reset_peer, and
// not for those that are open when it is added; they are its own, so they are found where the kernel lists this process's.
func setLinger(port int, reset bool) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("look for open connections: %w", err)
	}
	linger := unix.Linger{}
	if reset {
		linger.Onoff = 1
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// A copy cannot be closed and given to another connection between the look and the setting.
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if localPort(own) == port && isConnected(own) {
			_ = unix.SetsockoptLinger(own, unix.SOL_SOCKET, unix.SO_LINGER, &linger)
		}
		_ = unix.Close(own)
	}
	return nil
}

func localPort(fd int) int {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return -1
	}
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return a.Port
	case *unix.SockaddrInet6:
		return a.Port
	}
	return -1
}

func isConnected(fd int) bool {
	_, err := unix.Getpeername(fd)
	return err == nil
}
