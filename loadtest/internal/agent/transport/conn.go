package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is one connection. Between take and put it belongs to one request.
type conn struct {
	t       *Transport
	address string
	tcp     *net.TCPConn
	raw     syscall.RawConn
	in      *bufio.Reader // over Read
	out     []byte        // a request that is written at once, body and all
	reused  bool          // it has been idle

	limit  int64 // bytes that may yet be read
	sawEOF bool

	ctx      context.Context
	deadline time.Time // of the request; zero is none
	armed    time.Time // the socket's read deadline
	stopped  atomic.Bool
	late     *TimeoutError // once the deadline has passed: parsers call a head that ends there malformed

	// What the callbacks of raw work on; they are made once, since a closure for each call would be garbage.
	sendStep, readStep, peekStep func(fd uintptr) bool
	sent                         int
	tried                        bool
	into                         []byte
	n                            int
	errno                        syscall.Errno
}

func newConn(t *Transport, tcp *net.TCPConn, at string) (*conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	c := &conn{t: t, address: at, tcp: tcp, raw: raw}
	c.in = bufio.NewReaderSize(c, readBufferBytes)
	c.sendStep, c.readStep, c.peekStep = c.trySend, c.tryRead, c.tryPeek
	return c, nil
}

// begin gives the connection to a request.
func (c *conn) begin(ctx context.Context, deadline time.Time) {
	c.ctx, c.deadline = ctx, deadline
	// A deadline that is armed and not later than the new one is left as it is: when it wakes a read too early, expired
	// arms the right one. So a connection sets a timer once in a timeout, and not once a request.
	if c.armed.IsZero() != deadline.IsZero() || c.armed.After(deadline) {
		c.arm()
	}
}

func (c *conn) arm() {
	_ = c.tcp.SetReadDeadline(c.deadline)
	c.armed = c.deadline
	if c.stopped.Load() { // stop may have set its own just before
		_ = c.tcp.SetDeadline(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

// stop wakes whoever reads or writes, because the context ended. The connection is not used again.
func (c *conn) stop() {
	c.stopped.Store(true)
	_ = c.tcp.SetDeadline(longAgo)
}

// expired says why the read deadline passed. nil: it was that of an earlier request; now the right one is armed.
func (c *conn) expired() error {
	if c.stopped.Load() {
		return context.Cause(c.ctx)
	}
	if !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		c.late = &TimeoutError{After: c.t.Timeout}
		return c.late
	}
	c.arm()
	return nil
}

// wait runs one of the steps until it is through; it sleeps in between until the socket is readable.
func (c *conn) wait(step func(uintptr) bool) error {
	for {
		err := c.raw.Read(step)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err = c.expired(); err != nil {
			return err
		}
	}
}

// Read implements io.Reader for the buffer c.in.
func (c *conn) Read(p []byte) (int, error) {
	if c.limit <= 0 {
		return 0, errors.New("transport: too long a head")
	}
	if int64(len(p)) > c.limit {
		p = p[:c.limit]
	}
	if len(p) == 0 {
		return 0, nil
	}
	c.into = p
	err := c.wait(c.readStep)
	c.into = nil
	switch {
	case err != nil:
		return 0, err
	case c.errno != 0:
		return 0, socketError("read", c.errno)
	case c.n == 0:
		c.sawEOF = true
		return 0, io.EOF
	}
	c.limit -= int64(c.n)
	return c.n, nil
}

// stale tells whether an idle connection is of no use: closed by the server, or holding bytes that nobody asked for.
func (c *conn) stale() bool {
	c.errno = 0
	return c.wait(c.peekStep) != nil || c.errno != syscall.EAGAIN
}

// send writes c.out and sleeps until something comes back; what came is for Read. It gives the number of bytes written:
// fewer than all without an error means that the socket takes no more now.
//
// All of it is one wait, because the poller tells of a change only once (edge-triggered) and forgets it when a wait
// begins: what happens after the look at the idle connection must not be missed, nor an answer to the write.
func (c *conn) send() (int, error) {
	c.sent, c.errno, c.tried = 0, 0, false
	err := c.wait(c.sendStep)
	switch {
	case err != nil && !c.tried:
		return 0, err
	case err != nil:
		return c.sent, err
	case c.errno != 0:
		return c.sent, socketError("write", c.errno)
	case c.n == staleMark:
		return 0, errStale
	}
	return c.sent, nil
}

const staleMark = -1

func (c *conn) trySend(fd uintptr) bool {
	if c.tried {
		return true // readable, or woken for nothing, which Read will find out
	}
	c.tried, c.n = true, 0
	if c.reused {
		if c.tryPeek(fd); c.errno != syscall.EAGAIN {
			c.n, c.errno = staleMark, 0
			return true
		}
	}
	var n int
	n, c.errno = write(fd, c.out)
	if c.errno == syscall.EAGAIN {
		c.errno = 0
		return true
	}
	c.sent = n
	return c.errno != 0 || n < len(c.out)
}

func (c *conn) tryRead(fd uintptr) bool {
	c.n, c.errno = read(fd, c.into)
	return c.errno != syscall.EAGAIN
}

func (c *conn) tryPeek(fd uintptr) bool {
	c.errno = peek(fd)
	return true
}

func socketError(call string, errno syscall.Errno) error {
	return &net.OpError{Op: call, Net: "tcp", Err: os.NewSyscallError(call, errno)}
}

// headOf gives the bytes of a head that is whole in the buffer, up to memoLimitBytes; else nothing.
func headOf(buffered []byte) []byte {
	if len(buffered) > memoLimitBytes {
		buffered = buffered[:memoLimitBytes]
	}
	end := bytes.Index(buffered, []byte("\r\n\r\n"))
	if end < 0 {
		return nil
	}
	return buffered[:end+4]
}
