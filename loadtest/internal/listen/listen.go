// Package listen opens the address of one of the lab's own services.
package listen

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// line is the first that a service says, with the fields of a contender's.
type line struct {
	Time  string `json:"time"`
	Level string `json:"level"`
	Msg   string `json:"msg"`
	URL   string `json:"url"`
	Port  int    `json:"port"`
	Pid   int    `json:"pid"`
}

// TCP listens at host:port, where port 0 is any free one, and says where on stdout, as one line of JSON.
func TCP(address string, stdout io.Writer) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("listen: got %v", l.Addr())
	}
	said := line{time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), "info", "listening", "http://" + at.String(), at.Port, os.Getpid()}
	if err := json.NewEncoder(stdout).Encode(said); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("say where it listens: %w", err)
	}
	return l, nil
}
