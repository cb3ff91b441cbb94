// Package transport is an http.RoundTripper for a load generator: HTTP/1.1 over TCP, as net/http's Transport speaks it,
// at half the cost.
//
// What makes it cheap:
//   - The goroutine that calls RoundTrip writes the request and reads the answer itself. net/http has two goroutines for
//     each connection and hands every request over to them and back, which wakes threads.
//   - A request whose body is small and in memory is one write from a buffer of the connection's.
//   - The time limit is the socket's read deadline, armed once in a while and not once a request (see conn.arm); no
//     context and no timer are made.
//   - A request that is sent again and again is prepared once (see Prepared), so nothing builds and clones headers for it.
//   - An answer whose head has the same bytes as the one before is not parsed again (see memo).
//
// What makes it right: whatever is not such a request or such an answer is written and parsed by net/http's own code
// (http.Request.Write, http.ReadResponse), so chunked bodies, trailers, interim answers, limits and what counts as
// malformed are net/http's by construction. The tests hold both against the same servers.
//
// Where it differs from net/http.Transport on purpose: no proxy, TLS, HTTP/2, httptrace, Request.Cancel, transparent
// gzip or names outside ASCII; a request that dials waits for its own connection, even where another falls idle before;
// an answer that comes before the request could be written is returned even if the write then fails, where net/http
// returns whichever it meets first; a trailer may have as many bytes as the read buffer, 16 KiB and not 4 KiB.
package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultMaxIdle is how many idle connections are kept where MaxIdle is 0.
	DefaultMaxIdle = 100
	// DefaultMaxHeaderBytes is the most that the heads of one answer may have where MaxHeaderBytes is 0; net/http's.
	DefaultMaxHeaderBytes = 10 << 20

	readBufferBytes = 16 << 10
	// plainLimitBytes bounds a request that is written at once: what a socket's send buffer takes for certain.
	plainLimitBytes = 16 << 10
	// writeWait is how long a connection whose answer came before its request was written may take to finish writing, to
	// be used again; net/http's maxWriteWaitBeforeConnReuse.
	writeWait = 50 * time.Millisecond
)

// Transport is the RoundTripper. Its fields must not change once it is in use. It is safe for concurrent use; each
// connection carries one request at a time. Memory is bounded by the requests under way and the idle connections: some
// 20 KiB each, and MaxHeaderBytes while a head is read.
type Transport struct {
	// Timeout ends a request that has not been answered to the last byte of its body; 0 is never. Set it rather than
	// http.Client.Timeout, which costs a goroutine and a timer for each request.
	Timeout time.Duration
	// MaxIdle bounds the idle connections of all hosts together; one too many is closed.
	MaxIdle int
	// MaxHeaderBytes bounds the heads of one answer, interim ones included.
	MaxHeaderBytes int64
	// ExpectContinueTimeout is how long a request with "Expect: 100-continue" waits with its body for the interim answer;
	// 0 sends it at once.
	ExpectContinueTimeout time.Duration
	// ShareHeaders lets answers whose heads have the same bytes share one Header map. Nobody may change it then.
	ShareHeaders bool

	mu        sync.Mutex
	idle      map[string]*stack // by HOST:PORT
	idleCount int
	closeIdle bool // since CloseIdleConnections no request has come
	memo      atomic.Pointer[memo]
}

// stack has the idle connections to one address; the last in is the first out, so that few are in use at a low rate.
type stack struct{ conns []*conn }

// TimeoutError says that a request was not answered in time. It implements net.Error and is a
// context.DeadlineExceeded.
type TimeoutError struct{ After time.Duration }

// Error has the word timeout in it.
func (e *TimeoutError) Error() string { return fmt.Sprintf("timeout: no whole answer in %v", e.After) }

// Timeout implements net.Error.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary implements net.Error.
func (e *TimeoutError) Temporary() bool { return true }

// Is makes it one of context.DeadlineExceeded.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

var (
	errStale        = errors.New("transport: the idle connection was closed, or bytes came that nobody had asked for")
	errReadOnClosed = errors.New("transport: read on closed response body")
)

// firstByteError is a connection that failed before any byte of the answer; a request that may be repeated is.
type firstByteError struct{ error }

func (e firstByteError) Unwrap() error { return e.error }

// unwrittenError is a connection that failed before any byte of the request was written.
type unwrittenError struct{ error }

func (e unwrittenError) Unwrap() error { return e.error }

// RoundTrip implements http.RoundTripper. The error is a *TimeoutError, the context's cause, of package net, or says
// what was malformed in request or answer.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := check(req); err != nil {
		closeBody(req)
		return nil, err
	}
	return t.roundTrip(req, req, address(req.URL), nil)
}

// deadline is when what begins now has to be over; the zero time is never.
func (t *Transport) deadline() (at time.Time) {
	if t.Timeout > 0 {
		at = time.Now().Add(t.Timeout)
	}
	return at
}

// roundTrip answers what was asked by sending req, a checked request: itself or, as the prepared bytes, another.
func (t *Transport) roundTrip(asked, req *http.Request, at string, prepared *Prepared) (*http.Response, error) {
	deadline := t.deadline()
	ctx := asked.Context()
	var out []byte // the request, once it has been put into one buffer
	for attempt := req; ; {
		if ctx.Err() != nil {
			closeBody(attempt)
			return nil, context.Cause(ctx)
		}
		c, err := t.take(ctx, at, deadline)
		if err != nil {
			closeBody(attempt)
			return nil, err
		}
		plain := out != nil || prepared != nil
		switch {
		case out != nil:
			c.out = append(c.out[:0], out...)
		case prepared != nil:
			c.out = prepared.appendTo(c.out[:0], asked)
		default:
			if plain, err = c.prepare(attempt); err != nil {
				t.put(c)
				return nil, err
			}
		}
		resp, err := c.roundTrip(ctx, attempt, deadline, plain)
		if err == nil {
			resp.Request = asked
			return resp, nil
		}
		if !shouldRetry(c.reused, attempt, err) {
			if plain {
				return nil, bare(err)
			}
			closeBody(attempt)
			return nil, bare(err)
		}
		if plain {
			out = c.out
		} else if !errors.Is(err, errStale) { // then the body was not touched
			if attempt, err = rewind(attempt); err != nil {
				return nil, err
			}
		}
	}
}

// shouldRetry is net/http's persistConn.shouldRetryRequest: only on a connection that had been used before, so that a
// server that hangs up on everybody is not asked for ever.
func shouldRetry(reused bool, req *http.Request, err error) bool {
	if !reused {
		return false
	}
	if errors.Is(err, errStale) { // net/http would not have had it among its idle ones any more
		return true
	}
	if _, ok := err.(unwrittenError); ok {
		return !hasBody(req) || req.GetBody != nil
	}
	_, ok := err.(firstByteError)
	return ok && replayable(req)
}

// replayable is net/http's Request.isReplayable.
func replayable(req *http.Request) bool {
	if hasBody(req) && req.GetBody == nil {
		return false
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, key := req.Header["Idempotency-Key"]
	_, x := req.Header["X-Idempotency-Key"]
	return key || x
}

func rewind(req *http.Request) (*http.Request, error) {
	if !hasBody(req) {
		return req, nil
	}
	if req.GetBody == nil {
		return nil, errors.New("transport: the connection was lost, and the request's body cannot be had again")
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	again := *req
	again.Body = body
	return &again, nil
}

// bare takes off what only shouldRetry asks for.
func bare(err error) error {
	switch e := err.(type) {
	case firstByteError:
		return e.error
	case unwrittenError:
		return e.error
	}
	return err
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

func address(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// take gives an idle connection, else a new one.
func (t *Transport) take(ctx context.Context, at string, deadline time.Time) (*conn, error) {
	t.mu.Lock()
	t.closeIdle = false
	if s := t.idle[at]; s != nil && len(s.conns) > 0 {
		last := len(s.conns) - 1
		c := s.conns[last]
		s.conns[last] = nil
		s.conns = s.conns[:last]
		t.idleCount--
		t.mu.Unlock()
		return c, nil
	}
	t.mu.Unlock()
	return t.dial(ctx, at, deadline)
}

func (t *Transport) dial(ctx context.Context, at string, deadline time.Time) (*conn, error) {
	dialer := net.Dialer{Deadline: deadline}
	n, err := dialer.DialContext(ctx, "tcp", at)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return newConn(t, n.(*net.TCPConn), at)
}

// put takes a connection back that can be used again.
func (t *Transport) put(c *conn) {
	limit := t.MaxIdle
	if limit == 0 {
		limit = DefaultMaxIdle
	}
	c.reused = true
	t.mu.Lock()
	if t.closeIdle || t.idleCount >= limit {
		t.mu.Unlock()
		_ = c.tcp.Close()
		return
	}
	if t.idle == nil {
		t.idle = map[string]*stack{}
	}
	s := t.idle[c.address]
	if s == nil {
		s = &stack{}
		t.idle[c.address] = s
	}
	s.conns = append(s.conns, c)
	t.idleCount++
	t.mu.Unlock()
}

// CloseIdleConnections closes the connections that no request uses. Those in use are closed when their request is over,
// unless another request has come until then.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	idle := t.idle
	t.idle, t.idleCount, t.closeIdle = nil, 0, true
	t.mu.Unlock()
	for _, s := range idle {
		for _, c := range s.conns {
			_ = c.tcp.Close()
		}
	}
}

func (t *Transport) maxHeaderBytes() int64 {
	if t.MaxHeaderBytes > 0 {
		return t.MaxHeaderBytes
	}
	return DefaultMaxHeaderBytes
}

// roundTrip makes one attempt. Where it fails the connection is closed and no goroutine touches the request any more.
func (c *conn) roundTrip(ctx context.Context, req *http.Request, deadline time.Time, plain bool) (*http.Response, error) {
	x := exchange{}
	c.begin(ctx, deadline)
	if ctx.Done() != nil {
		x.unwatch = context.AfterFunc(ctx, c.stop)
	}
	err := c.write(req, plain, &x)
	if err == nil {
		var resp *http.Response
		if resp, err = c.receive(req, &x); err == nil {
			return resp, nil
		}
	}
	return nil, c.abandon(&x, err)
}

// exchange is what one request on a connection has beside the connection.
type exchange struct {
	unwatch func() bool // ends the watch over the context; nil where it cannot end
	writer  *writer     // a request that is written while its answer is awaited; else nil
}

// abandon closes a connection whose request failed, and chooses what to call the failure.
func (c *conn) abandon(x *exchange, err error) error {
	var written error
	running := x.writer != nil
	if running {
		select {
		case written = <-x.writer.done:
			running = false
		default:
		}
	}
	_ = c.tcp.Close()
	if running {
		x.writer.goOn(false)
		<-x.writer.done // it would read the request's body while the caller believes it is free
	}
	if x.unwatch != nil {
		x.unwatch()
	}
	if c.stopped.Load() {
		return context.Cause(c.ctx)
	}
	if c.late != nil {
		return c.late
	}
	if written != nil {
		if x.writer.count == 0 && x.writer.broken {
			return unwrittenError{written}
		}
		return written
	}
	return err
}

// finish ends an exchange whose answer was read to its end; the connection is used again if that is safe.
func (c *conn) finish(x *exchange, keep bool) {
	if x.unwatch != nil && !x.unwatch() {
		keep = false
	}
	if keep && x.writer != nil {
		keep = x.writer.wait(writeWait)
	}
	// Bytes beyond the answer belong to nothing that was asked.
	if !keep || c.sawEOF || c.in.Buffered() > 0 {
		_ = c.tcp.Close()
		return
	}
	c.ctx = nil
	c.t.put(c)
}

// memo is the last head of an answer that was parsed, with what it means. Servers send the same head for a second and
// longer: only the date in it changes. Only heads with a length in them are kept, in answer to anything but HEAD, since
// then the meaning depends on their bytes alone.
type memo struct {
	head []byte
	resp http.Response // without Request and Body
	keep bool          // the connection stays open behind it
}

const memoLimitBytes = 8 << 10

// answer has what a remembered head costs in memory, in one piece.
type answer struct {
	resp http.Response
	body body
}

// receive reads the head of the answer.
func (c *conn) receive(req *http.Request, x *exchange) (*http.Response, error) {
	c.limit = c.t.maxHeaderBytes()
	if _, err := c.in.Peek(1); err != nil {
		return nil, firstByteError{err}
	}
	buffered := c.in.Buffered()
	head, _ := c.in.Peek(buffered)
	memorable := req.Method != http.MethodHead && x.writer == nil && !req.Close
	if m := c.t.memo.Load(); memorable && m != nil && len(head) >= len(m.head) && string(head[:len(m.head)]) == string(m.head) {
		_, _ = c.in.Discard(len(m.head))
		return c.remembered(m, x), nil
	}
	if memorable {
		head = bytes.Clone(headOf(head)) // parsing changes the buffer
	}
	resp, interim, err := c.parse(req, x)
	if err != nil {
		if c.limit <= 0 {
			return nil, fmt.Errorf("transport: the head of the answer exceeded %d bytes", c.t.maxHeaderBytes())
		}
		return nil, fmt.Errorf("transport: reading the answer: %w", err)
	}
	c.limit = math.MaxInt64
	if resp.StatusCode == http.StatusSwitchingProtocols && switches(resp.Header) {
		return c.switchProtocol(resp, x), nil
	}
	keep := !resp.Close && !req.Close && resp.StatusCode > 199
	if memorable && !interim && resp.StatusCode > 199 && resp.ContentLength >= 0 && len(head) > 0 && buffered-c.in.Buffered() == len(head) {
		m := &memo{head: head, resp: *resp, keep: keep}
		m.resp.Request, m.resp.Body = nil, nil
		if !c.t.ShareHeaders {
			m.resp.Header = resp.Header.Clone()
		}
		c.t.memo.Store(m)
	}
	if req.Method == http.MethodHead || resp.ContentLength == 0 {
		c.finish(x, keep)
		return resp, nil
	}
	resp.Body = &body{c: c, exchange: *x, keep: keep, source: resp.Body}
	return resp, nil
}

// parse reads heads until one is final.
func (c *conn) parse(req *http.Request, x *exchange) (resp *http.Response, interim bool, err error) {
	for {
		if resp, err = http.ReadResponse(c.in, req); err != nil {
			return nil, interim, err
		}
		if resp.StatusCode == http.StatusContinue && x.writer != nil {
			x.writer.goOn(true)
		}
		if resp.StatusCode < 100 || resp.StatusCode > 199 || resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		interim = true
	}
	if x.writer != nil {
		// A final answer in place of "100 Continue": the body is sent all the same if the connection is to be kept.
		x.writer.goOn(!resp.Close && !req.Close)
	}
	return resp, interim, nil
}

func (c *conn) remembered(m *memo, x *exchange) *http.Response {
	c.limit = math.MaxInt64
	a := &answer{resp: m.resp}
	if !c.t.ShareHeaders {
		a.resp.Header = m.resp.Header.Clone()
	}
	if a.resp.ContentLength == 0 {
		a.resp.Body = http.NoBody
		c.finish(x, m.keep)
		return &a.resp
	}
	a.body.c, a.body.exchange, a.body.keep, a.body.left = c, *x, m.keep, a.resp.ContentLength
	a.resp.Body = &a.body
	return &a.resp
}

const (
	bodyOpen int32 = iota
	bodyOver       // the connection has been given back or closed
)

// body is an answer's body. At its end, and not only at Close, the connection is free for the next request.
type body struct {
	c        *conn
	exchange exchange
	keep     bool
	source   io.Reader // net/http's own; nil: left bytes from the connection
	left     int64
	state    atomic.Int32
	closed   atomic.Bool
	err      error // what Read found at the end; io.EOF where all is well
}

// Read implements io.Reader. A body that ends before its length or its last chunk is io.ErrUnexpectedEOF.
func (b *body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, errReadOnClosed
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.read(p)
	if err == nil {
		return n, nil
	}
	if b.state.CompareAndSwap(bodyOpen, bodyOver) {
		if err == io.EOF {
			b.c.finish(&b.exchange, b.keep)
		} else {
			err = b.c.abandonBody(&b.exchange, err)
		}
	} else {
		err = errReadOnClosed // closed meanwhile
	}
	b.err = err
	return n, err
}

func (b *body) read(p []byte) (int, error) {
	if b.source != nil {
		return b.source.Read(p)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.c.in.Read(p)
	b.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && b.left == 0 {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer. A body that was not read to its end costs its connection.
func (b *body) Close() error {
	b.closed.Store(true)
	if b.state.CompareAndSwap(bodyOpen, bodyOver) {
		_ = b.c.tcp.Close()
		if b.exchange.unwatch != nil {
			b.exchange.unwatch()
		}
	}
	return nil
}

// abandonBody is abandon for a body; a request that is still being written is not waited for, as net/http does not.
func (c *conn) abandonBody(x *exchange, err error) error {
	_ = c.tcp.Close()
	if x.unwatch != nil {
		x.unwatch()
	}
	switch {
	case c.stopped.Load():
		return context.Cause(c.ctx)
	case c.late != nil:
		return c.late
	}
	return err
}

// switchProtocol hands the connection over to the caller, as the body of the answer, for reading and writing.
func (c *conn) switchProtocol(resp *http.Response, x *exchange) *http.Response {
	if x.unwatch != nil {
		x.unwatch()
	}
	c.deadline = time.Time{}
	c.arm()
	_ = c.tcp.SetWriteDeadline(time.Time{})
	resp.Body = &switched{c.in, c.tcp}
	return resp
}

type switched struct {
	in  *bufio.Reader
	tcp *net.TCPConn
}

func (s *switched) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *switched) Write(p []byte) (int, error) { return s.tcp.Write(p) }
func (s *switched) Close() error                { return s.tcp.Close() }
func (s *switched) CloseWrite() error           { return s.tcp.CloseWrite() }
