// Package null is a server that gives the same answer to every request at once, so that what a load generator costs is all
// there is to see. It reads of a request no more than where it ends.
package null

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"

	"lab/loadtest/internal/listen"
)

// longestBody is how much of a body it reads before it takes the request for a mistake.
const longestBody = 64 << 20

// Serve listens at an address, says where on its first line as every contender does ({"msg":"listening",…}), and answers
// until the context ends.
func Serve(ctx context.Context, address, answer string, stdout io.Writer) error {
	l, err := listen.TCP(address, stdout)
	if err != nil {
		return fmt.Errorf("null server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/graphql-response+json; charset=utf-8\r\nContent-Length: " + strconv.Itoa(len(answer)) + "\r\n\r\n" + answer)
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("null server: %w", err)
		}
		go serve(c, response)
	}
}

func serve(c net.Conn, response []byte) {
	defer c.Close()
	in := bufio.NewReader(c)
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		line = bytes.TrimSpace(line)
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 || length > longestBody {
				return
			}
		}
		if len(line) > 0 {
			continue
		}
		if _, err := in.Discard(length); err != nil {
			return
		}
		length = 0
		if _, err := c.Write(response); err != nil {
			return
		}
	}
}
