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
		err := ping(ctx, address, password)
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

// ping speaks the few words of the protocol that this needs.
func ping(ctx context.Context, address, password string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nPING\r\n", password); err != nil {
		return err
	}
	reader := bufio.NewReader(conn)
	for _, want := range []string{"+OK", "+PONG"} {
		line, err := reader.ReadString('\n')
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(line); got != want {
			return fmt.Errorf("expected %s, got %s", want, got)
		}
	}
	return nil
}

// Command asks the server at that URL one thing and gives its answer: a status, a number or a text. An error of the server's
// is an error here.
func Command(ctx context.Context, address string, words ...string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", errors.New("redis: that is no URL")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	password, _ := u.User.Password()
	reader := bufio.NewReader(conn)
	answer := ""
	for _, command := range [][]string{{"AUTH", password}, words} {
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(command))
		for _, word := range command {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
		}
		if _, err := io.WriteString(conn, b.String()); err != nil {
			return "", err
		}
		if answer, err = readAnswer(reader); err != nil {
			return "", fmt.Errorf("redis: %s: %w", command[0], err)
		}
	}
	return answer, nil
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
