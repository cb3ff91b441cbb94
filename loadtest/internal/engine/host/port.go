package host

import (
	"fmt"
	"net"
)

// FreePort returns a port on loopback that nobody has at the moment.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("find a free port: got %v", listener.Addr())
	}
	return address.Port, nil
}
