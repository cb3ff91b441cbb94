package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// check refuses what net/http's Transport refuses before it connects, and https.
func check(req *http.Request) error {
	switch {
	case req.URL == nil:
		return errors.New("transport: nil Request.URL")
	case req.Header == nil:
		return errors.New("transport: nil Request.Header")
	case req.URL.Scheme != "http":
		return fmt.Errorf("transport: unsupported protocol scheme %q", req.URL.Scheme)
	case req.Method != "" && !isToken(req.Method):
		return fmt.Errorf("transport: invalid method %q", req.Method)
	case req.URL.Host == "":
		return errors.New("transport: no Host in request URL")
	}
	for _, h := range []http.Header{req.Header, req.Trailer} {
		for name, values := range h {
			if !isToken(name) {
				return fmt.Errorf("transport: invalid header field name %q", name)
			}
			for _, v := range values {
				if !isFieldValue(v) {
					return fmt.Errorf("transport: invalid header field value for %q", name)
				}
			}
		}
	}
	return nil
}

// isToken is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			continue
		}
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// isFieldValue allows what net/http allows: no control characters but the tab.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// prepare puts a plain request into c.out, as http.Request.Write would write it, and closes its body. A request is plain
// where its body is none, or small and in memory, and nothing about it is unusual; false: it is not.
func (c *conn) prepare(req *http.Request) (bool, error) {
	length := int64(0)
	if hasBody(req) {
		// GetBody is what http.NewRequest gives to bodies in memory. Another one might be a pipe that is filled only
		// once the server has seen the head.
		if length = req.ContentLength; length <= 0 || length > plainLimitBytes || req.GetBody == nil {
			return false, nil
		}
	}
	b, _, ok := appendPlainHead(c.out[:0], req, length)
	if !ok {
		return false, nil
	}
	c.out = b
	if len(b)+int(length) > plainLimitBytes {
		return false, nil
	}
	if length > 0 {
		b = slices.Grow(b, int(length))[:len(b)+int(length)]
		c.out = b
		n, err := io.ReadFull(req.Body, b[len(b)-int(length):])
		if err == nil {
			var more [1]byte
			if n, _ := io.ReadFull(req.Body, more[:]); n > 0 {
				err = fmt.Errorf("transport: ContentLength=%d with a longer Body", length)
			}
		} else if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = fmt.Errorf("transport: ContentLength=%d with Body length %d", length, n)
		}
		if err != nil {
			closeBody(req)
			return false, err
		}
	}
	if req.Body != nil {
		if err := req.Body.Close(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// appendPlainHead appends the head of a request whose body has length bytes, and tells where in it the digits of the
// length end, 0 where it says none. false: something about the request is unusual.
func appendPlainHead(b []byte, req *http.Request, length int64) (head []byte, digitsEnd int, ok bool) {
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	if req.Close || len(req.TransferEncoding) > 0 || req.Trailer != nil || req.Method == http.MethodConnect || req.URL.Opaque != "" || !isPlainHost(host) {
		return b, 0, false
	}
	if len(req.Header) > plainFields {
		return b, 0, false
	}
	if _, waits := req.Header["Expect"]; waits {
		return b, 0, false
	}
	target := req.URL.RequestURI()
	if !isFieldValue(target) || strings.IndexByte(target, '\t') >= 0 || strings.IndexByte(target, ' ') >= 0 {
		return b, 0, false
	}
	method := req.Method
	if method == "" {
		method = http.MethodGet
	}
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	agent := "Go-http-client/1.1"
	if given, ok := req.Header["User-Agent"]; ok {
		agent = ""
		if len(given) > 0 {
			agent = given[0]
		}
	}
	if agent != "" {
		b = appendField(b, "User-Agent", agent)
	}
	if length > 0 || alwaysHasLength(method) {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, length, 10)
		digitsEnd = len(b)
		b = append(b, "\r\n"...)
	}
	var names [plainFields]string
	fields := names[:0]
	for name := range req.Header {
		switch name {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
			continue // not taken from here by net/http either
		}
		fields = append(fields, name)
	}
	slices.Sort(fields)
	for _, name := range fields {
		for _, v := range req.Header[name] {
			b = appendField(b, name, v)
		}
	}
	b = append(b, "\r\n"...)
	return b, digitsEnd, true
}

// alwaysHasLength tells whether net/http says the length of a body even where it is 0.
func alwaysHasLength(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

// plainFields is how many header fields a plain request may have.
const plainFields = 16

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, strings.Trim(value, " \t")...)
	return append(b, "\r\n"...)
}

// isPlainHost allows what needs no cleaning: no zone, no name outside ASCII.
func isPlainHost(host string) bool {
	for i := range len(host) {
		c := host[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == ':' || c == '-' || c == '_' || c == '[' || c == ']') {
			return false
		}
	}
	return host != ""
}

// write sends the request: a plain one at once, any other in a goroutine beside the reading of the answer, so that a
// server which answers before it has read everything does not wait for us while we wait for it.
func (c *conn) write(req *http.Request, plain bool, x *exchange) error {
	if !plain {
		if c.reused && c.stale() {
			return errStale
		}
		c.start(newWriter(c, req), x)
		return nil
	}
	n, err := c.send()
	if err != nil {
		if n == 0 && err != errStale {
			return unwrittenError{err}
		}
		if err == errStale {
			return err
		}
		return firstByteError{err}
	}
	if n < len(c.out) { // the server does not read
		w := &writer{c: c, done: make(chan error, 1), count: n}
		rest := c.out[n:]
		w.run = func() error { _, err := w.Write(rest); return err }
		c.start(w, x)
	}
	return nil
}

func (c *conn) start(w *writer, x *exchange) {
	x.writer = w
	_ = c.tcp.SetWriteDeadline(c.deadline)
	if c.stopped.Load() {
		_ = c.tcp.SetDeadline(longAgo)
	}
	go w.write()
}

// writer writes one request in its own goroutine.
type writer struct {
	c      *conn
	run    func() error
	done   chan error // gets the outcome, once
	count  int        // bytes written; broken: the socket failed. Both are for whoever has received from done.
	broken bool

	once sync.Once
	may  chan bool // whether the body is to be sent; nil where it is not asked
}

// newWriter writes by http.Request.Write: it does chunks and trailers, and checks the body's length.
func newWriter(c *conn, req *http.Request) *writer {
	w := &writer{c: c, done: make(chan error, 1)}
	buffer := bufio.NewWriter(w)
	if hasBody(req) && expectsContinue(req) {
		w.may = make(chan bool, 1)
		waiting := *req
		waiting.Body = &waitingBody{ReadCloser: req.Body, flush: buffer.Flush, wait: func() bool { return w.mayGoOn(c.t.ExpectContinueTimeout) }}
		req = &waiting
	}
	w.run = func() error {
		if err := req.Write(buffer); err != nil {
			if errors.Is(err, errNotAsked) {
				return nil
			}
			return err
		}
		return buffer.Flush()
	}
	return w
}

func (w *writer) write() {
	err := w.run()
	w.done <- err
	// Where the socket failed, the reader finds out, and may first find an answer. Where it did not, the request's body
	// did, and nobody would answer half a request.
	if err != nil && !w.broken {
		_ = w.c.tcp.Close()
	}
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.c.tcp.Write(p)
	w.count += n
	w.broken = w.broken || err != nil
	return n, err
}

// wait tells whether the request was written whole, within d.
func (w *writer) wait(d time.Duration) bool {
	select {
	case err := <-w.done:
		return err == nil
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-w.done:
		return err == nil
	case <-timer.C:
		return false
	}
}

// goOn says once whether the body that waits for "100 Continue" is to be sent.
func (w *writer) goOn(yes bool) {
	if w.may != nil {
		w.once.Do(func() { w.may <- yes })
	}
}

func (w *writer) mayGoOn(atMost time.Duration) bool {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case yes := <-w.may:
		return yes
	case <-timer.C:
		return true
	}
}

func expectsContinue(req *http.Request) bool {
	return hasToken([]string{req.Header.Get("Expect")}, "100-continue")
}

// switches tells whether a head with status 101 hands the connection over.
func switches(h http.Header) bool {
	return h.Get("Upgrade") != "" && hasToken(h["Connection"], "upgrade")
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(part, " \t"), token) {
				return true
			}
		}
	}
	return false
}

var errNotAsked = errors.New("transport: the server did not ask for the body")

// waitingBody lets the head out at its first Read, and waits until the body may follow.
type waitingBody struct {
	io.ReadCloser
	flush func() error
	wait  func() bool
	asked bool
}

// Read implements io.Reader.
func (b *waitingBody) Read(p []byte) (int, error) {
	if !b.asked {
		b.asked = true
		if err := b.flush(); err != nil {
			return 0, err
		}
		if !b.wait() {
			return 0, errNotAsked
		}
	}
	return b.ReadCloser.Read(p)
}
