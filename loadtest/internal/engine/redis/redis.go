// Package redis is what a Redis of the lab is in every engine: a cache in memory that is never on disk, behind a password.
package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lab/loadtest/internal/engine/host"
)

// Configuration is what redis-server reads, on standard input or from a file. The directory is one that it may write to.
func Configuration(bind string, port int, password string) string {
	return fmt.Sprintf("bind %s\nport %d\nrequirepass %s\nsave \"\"\nappendonly no\nmaxmemory 256mb\nmaxmemory-policy allkeys-lru\n", bind, port, password)
}

// URL is the server's address with its password.
func URL(address, password string) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("default", password), Host: address}
	return u.String()
}

// WaitReady returns when the server takes the password and answers.
func WaitReady(ctx context.Context, address, password string, exited <-chan struct{}, exitError func() error, logs func(int) []string) error {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := Command(ctx, URL(address, password), "PING")
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return exitError()
		case <-ctx.Done():
			return fmt.Errorf("redis does not answer: %w%s", err, host.QuoteLog(logs(20)))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Conn is a connection to a server that has taken the password.
type Conn struct {
	conn   net.Conn
	reader *bufio.Reader
}

// Dial connects to the server at that URL.
func Dial(ctx context.Context, address string) (*Conn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("redis: that is no URL")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn, bufio.NewReader(conn)}
	password, _ := u.User.Password()
	if _, err := c.Do(ctx, "AUTH", password); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Do asks the server one thing, within ctx's deadline, and gives its answer: a status, a number or a text. An error of the
// server's is an error here.
func (c *Conn) Do(ctx context.Context, words ...string) (string, error) {
	deadline, _ := ctx.Deadline() // none is the zero time, which is none here too
	if err := c.conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(c.conn, b.String()); err != nil {
		return "", err
	}
	answer, err := readAnswer(c.reader)
	if err != nil {
		return "", fmt.Errorf("redis: %s: %w", words[0], err)
	}
	return answer, nil
}

// Close closes the connection.
func (c *Conn) Close() { _ = c.conn.Close() }

// Command asks the server at that URL one thing on a connection of its own.
func Command(ctx context.Context, address string, words ...string) (string, error) {
	c, err := Dial(ctx, address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.Do(ctx, words...)
}

// readAnswer reads a status, an error, a number or a text of the protocol.
func readAnswer(reader *bufio.Reader) (string, error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("an empty answer")
	}
	switch line[0] {
	case '+', ':':
		return line[1:], nil
	case '-':
		return "", errors.New(line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return "", nil // nothing is there
		}
		text := make([]byte, n+2)
		if _, err := io.ReadFull(reader, text); err != nil {
			return "", err
		}
		return string(text[:n]), nil
	}
	return "", fmt.Errorf("an answer of another kind: %q", line)
}
