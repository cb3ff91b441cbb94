package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http's transport logs what it thinks of the servers below
	os.Exit(m.Run())
}

const maxTestHeaderBytes = 64 << 10

// stock is net/http's transport with the limits of ours.
func stock() *http.Transport {
	return &http.Transport{
		DisableCompression: true, MaxResponseHeaderBytes: maxTestHeaderBytes, ReadBufferSize: readBufferBytes, ExpectContinueTimeout: time.Minute,
	}
}

func lean(timeout time.Duration) *Transport {
	return &Transport{Timeout: timeout, MaxHeaderBytes: maxTestHeaderBytes, ExpectContinueTimeout: time.Minute}
}

// session is one connection of a raw server.
type session struct {
	net.Conn
	in     *bufio.Reader
	number int // of the connection, from 1
	over   <-chan struct{}
}

// request reads one request to its end.
func (s *session) request() *http.Request {
	r, err := http.ReadRequest(s.in)
	if err != nil {
		return nil
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

func (s *session) send(text string) { _, _ = io.WriteString(s.Conn, text) }

// reset makes the next Close a reset of the connection.
func (s *session) reset() { _ = s.Conn.(*net.TCPConn).SetLinger(0) }

// gone waits until the client closes.
func (s *session) gone() { _, _ = io.Copy(io.Discard, s.in) }

// answering answers every request of a connection alike and keeps it open.
func answering(text string) func(*session) {
	return func(s *session) {
		for s.request() != nil {
			s.send(text)
		}
	}
}

// once answers one request and closes.
func once(text string) func(*session) {
	return func(s *session) {
		if s.request() != nil {
			s.send(text)
		}
	}
}

// serve runs a raw server until the test ends. The count is of its connections.
func serve(t testing.TB, handle func(*session)) (url string, connections *atomic.Int64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	connections = &atomic.Int64{}
	over := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := connections.Add(1)
			running.Go(func() {
				defer func() { _ = c.Close() }()
				handled := make(chan struct{})
				defer close(handled)
				running.Go(func() {
					select {
					case <-over:
						_ = c.Close()
					case <-handled:
					}
				})
				handle(&session{c, bufio.NewReader(c), int(n), over})
			})
		}
	})
	t.Cleanup(func() { close(over); _ = l.Close(); running.Wait() })
	return "http://" + l.Addr().String(), connections
}

// outcome is all of an answer that a caller can see.
type outcome struct {
	Failed           bool // RoundTrip gave an error
	BodyFailed       bool // reading the body gave one
	Status, Proto    string
	Code             int
	Header, Trailer  http.Header
	Body             string
	ContentLength    int64
	TransferEncoding []string
	Close            bool
}

func (o outcome) equal(p outcome) bool { return fmt.Sprintf("%#v", o) == fmt.Sprintf("%#v", p) }

// ask makes one request and reads its answer. Of an answer that fails in its body, what came before is not compared.
func ask(rt http.RoundTripper, req *http.Request) (outcome, error) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return outcome{Failed: true}, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	o := outcome{
		Status: resp.Status, Proto: resp.Proto, Code: resp.StatusCode, Header: resp.Header, ContentLength: resp.ContentLength,
		TransferEncoding: resp.TransferEncoding, Close: resp.Close, BodyFailed: err != nil,
	}
	if err == nil {
		o.Body, o.Trailer = string(body), resp.Trailer
	}
	return o, err
}

func get(url string) *http.Request { return request(http.MethodGet, url, nil) }

func request(method, url string, body io.Reader) *http.Request {
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		panic(err)
	}
	return r
}

func post(url string) *http.Request {
	return request(http.MethodPost, url, strings.NewReader(`{"query":"{a}"}`))
}

// Servers whose behaviour is known are answered alike by net/http's transport and by ours: two requests, one after the
// other, and how many connections they took.
func TestAnswersAreThoseOfNetHTTP(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nx-a: 2\r\n\r\n{}"
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB: no socket takes it at once
	head := func(url string) *http.Request { return request(http.MethodHead, url, nil) }
	bigPost := func(url string) *http.Request {
		return request(http.MethodPost, url, strings.NewReader(big+big+big+big+big+big+big+big))
	}
	expecting := func(url string) *http.Request {
		r := post(url)
		r.Header.Set("Expect", "100-continue")
		return r
	}
	for _, c := range []struct {
		name        string
		request     func(url string) *http.Request // nil: post
		handle      func(*session)
		fails       bool // both requests, in head or body
		connections int64
	}{
		{"a length", nil, answering(ok), false, 1},
		{"a length, large", nil, answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(big), big)), false, 1},
		{"a length of nothing", nil, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), false, 1},
		{"byte by byte", nil, func(s *session) {
			for s.request() != nil {
				for i := range len(ok) {
					s.send(ok[i : i+1])
				}
			}
		}, false, 1},
		{"bare line feeds", nil, answering("HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"), false, 1},
		{"no reason", nil, answering("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}"), false, 1},
		{"a folded field", nil, answering("HTTP/1.1 200 OK\r\nX: a\r\n  b\r\nContent-Length: 2\r\n\r\n{}"), false, 1},
		{"pragma", nil, answering("HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 2\r\n\r\n{}"), false, 1},

		{"chunks", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), false, 1},
		{"chunks with extensions", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b\"\r\n{}\r\n0;c\r\n\r\n"), false, 1},
		{"chunks with trailers", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-None\r\n\r\n2\r\n{}\r\n0\r\nX-Sum: 1\r\nX-Unsaid: 2\r\n\r\n"), false, 1},
		{"chunks, large", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + big + "\r\n0\r\n\r\n"), false, 1},
		{"chunks cut short", nil, once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{"), true, 2},
		{"chunks without an end", nil, once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), true, 2},
		{"chunks without the last line", nil, once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"), true, 2},
		{"a chunk of no number", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"), true, 2},
		{"a chunk longer than it says", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n"), true, 2},
		{"a chunk of too large a number", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n{}"), true, 2},
		{"a trailer without an end", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("x", 2*readBufferBytes)), true, 2},
		{"a forbidden trailer", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n"), true, 2},

		{"until the connection closes", nil, once("HTTP/1.1 200 OK\r\n\r\n{}"), false, 2},
		{"HTTP/1.0 until it closes", nil, once("HTTP/1.0 200 OK\r\n\r\n{}"), false, 2},
		{"HTTP/1.0 with a length", nil, answering("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"), false, 2},
		{"HTTP/1.0 kept open", nil, answering("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"), false, 1},
		{"HTTP/1.0 with chunks", nil, once("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), false, 2},
		{"Connection: close", nil, answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"), false, 2},
		{"Connection: close among others", nil, answering("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n"), false, 2},
		{"the request says close", func(url string) *http.Request { r := post(url); r.Close = true; return r }, answering(ok), false, 2},
		{"another major version", nil, answering("HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"), false, 1},

		{"204", nil, answering("HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"), false, 1},
		{"204 with a length", nil, answering("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"), false, 1},
		{"304 with a length", nil, answering("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"), false, 1},
		{"HEAD", head, answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"), false, 1},
		{"HEAD of chunks", head, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), false, 1},
		{"HEAD of no length", head, answering("HTTP/1.1 200 OK\r\n\r\n"), false, 1},
		{"500", nil, answering("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"), false, 1},
		{"a redirect", nil, answering("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), false, 1},

		{"100 unasked", nil, answering("HTTP/1.1 100 Continue\r\n\r\n" + ok), false, 1},
		{"103", nil, answering("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + ok), false, 1},
		{"103 and no more", nil, once("HTTP/1.1 103 Early Hints\r\n\r\n"), true, 2},
		{"interim answers without end", nil, answering(strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", 1<<13)), true, 2},
		{"101 without an upgrade", nil, answering("HTTP/1.1 101 Switching\r\n\r\n"), false, 2},
		{"101", nil, once("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello"), false, 2},
		{"status 099", nil, answering("HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\n{}"), false, 2},

		{"a body cut short", nil, once("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}"), true, 2},
		{"a reset in the body", nil, func(s *session) {
			s.request()
			s.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}")
			s.reset()
		}, true, 2},
		{"a reset in a body until it closes", nil, func(s *session) { s.request(); s.send("HTTP/1.1 200 OK\r\n\r\n{}"); s.reset() }, true, 2},
		{"a reset before the head", nil, func(s *session) { s.request(); s.reset() }, true, 2},
		{"no answer", nil, func(s *session) { s.request() }, true, 2},
		{"a head cut short", nil, once("HTTP/1.1 200 OK\r\nContent-Le"), true, 2},

		{"hangs up on a second request, which may be repeated", get, once(ok), false, 2},
		{"hangs up on a second request under way, which may be repeated", get, func(s *session) {
			s.request()
			s.send(ok)
			s.request()
		}, false, 2},
		{"resets a second request under way, which may be repeated", func(url string) *http.Request {
			r := post(url)
			r.Header.Set("Idempotency-Key", "1")
			return r
		}, func(s *session) {
			s.request()
			s.send(ok)
			s.request()
			s.reset()
		}, false, 2},

		{"nonsense", nil, once("nonsense\r\n\r\n"), true, 2},
		{"nothing but a line end", nil, once("\r\n"), true, 2},
		{"another protocol", nil, once("SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), true, 2},
		{"a version of three numbers", nil, once("HTTP/1.1.1 200 OK\r\n\r\n"), true, 2},
		{"a status of two digits", nil, once("HTTP/1.1 20 OK\r\n\r\n"), true, 2},
		{"a status of letters", nil, once("HTTP/1.1 abc OK\r\n\r\n"), true, 2},
		{"a negative status", nil, once("HTTP/1.1 -10 OK\r\n\r\n"), true, 2},
		{"a field without a colon", nil, once("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"), true, 2},
		{"a field without a name", nil, once("HTTP/1.1 200 OK\r\n: x\r\n\r\n"), true, 2},
		{"a field that begins with a space", nil, once("HTTP/1.1 200 OK\r\n X: y\r\n\r\n"), true, 2},
		{"a control character in a field", nil, once("HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n"), true, 2},
		{"too long a head", nil, answering("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxTestHeaderBytes)), true, 2},
		{"too many fields", nil, answering("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", maxTestHeaderBytes)), true, 2},
		{"a head just long enough", nil, answering("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxTestHeaderBytes/2) + "\r\nContent-Length: 2\r\n\r\n{}"), false, 1},

		{"two lengths alike", nil, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"), false, 1},
		{"two lengths that differ", nil, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), true, 2},
		{"two lengths in one field", nil, answering("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}"), true, 2},
		{"a negative length", nil, answering("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"), true, 2},
		{"a length with a sign", nil, answering("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}"), true, 2},
		{"a length of too many digits", nil, answering("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}"), true, 2},
		{"an empty length", nil, answering("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n{}"), true, 2},
		{"a length and chunks", nil, answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), false, 1},
		{"chunks twice", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), true, 2},
		{"another encoding", nil, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), true, 2},

		{"a large request", bigPost, answering(ok), false, 1},
		{"a request of chunks", func(url string) *http.Request {
			r := request(http.MethodPost, url, io.NopCloser(strings.NewReader("hello")))
			r.Trailer = http.Header{"X-Sum": {"1"}}
			return r
		}, answering(ok), false, 1},
		{"an answer before the request was written", bigPost, func(s *session) {
			_, _ = s.in.ReadByte()
			s.send("HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\nno")
			<-s.over
		}, false, 2},
		{"too short a request body", func(url string) *http.Request { r := post(url); r.ContentLength++; return r }, answering(ok), true, -1},
		{"too long a request body", func(url string) *http.Request { r := post(url); r.ContentLength--; return r }, answering(ok), true, -1},
		{"a body that is waited for", expecting, func(s *session) {
			for {
				r, err := http.ReadRequest(s.in)
				if err != nil {
					return
				}
				s.send("HTTP/1.1 100 Continue\r\n\r\n")
				body, _ := io.ReadAll(r.Body)
				s.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
			}
		}, false, 1},
		{"a body that is refused", expecting, func(s *session) {
			_, _ = http.ReadRequest(s.in)
			s.send("HTTP/1.1 417 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
			s.gone()
		}, false, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.request == nil {
				c.request = post
			}
			var of [2][2]outcome
			for i, rt := range []http.RoundTripper{stock(), lean(20 * time.Second)} {
				url, connections := serve(t, c.handle)
				for k := range 2 {
					o, err := ask(rt, c.request(url))
					assert.Equal(t, c.fails, err != nil, "%T, request %d: %v", rt, k+1, err)
					of[i][k] = o
				}
				if c.connections >= 0 {
					assert.Equal(t, c.connections, connections.Load(), "%T: connections", rt)
				}
				rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
			}
			assert.Equal(t, of[0], of[1])
		})
	}
}

// Plain requests are the bytes that net/http writes.
func TestRequestsAreThoseOfNetHTTP(t *testing.T) {
	with := func(r *http.Request, name string, values ...string) *http.Request {
		r.Header[name] = values
		return r
	}
	for name, c := range map[string]func(url string) *http.Request{
		"get":              func(u string) *http.Request { return get(u) },
		"post":             func(u string) *http.Request { return post(u + "/a%20b?c=d#e") },
		"post of nothing":  func(u string) *http.Request { return request(http.MethodPost, u, nil) },
		"post of NoBody":   func(u string) *http.Request { return request(http.MethodPost, u, http.NoBody) },
		"delete":           func(u string) *http.Request { return request(http.MethodDelete, u, nil) },
		"another host":     func(u string) *http.Request { r := post(u); r.Host = "example.org:81"; return r },
		"an odd host":      func(u string) *http.Request { r := post(u); r.Host = "a b"; return r },
		"fields":           func(u string) *http.Request { return with(with(post(u), "X-B", "1", " 2\t"), "X-A", "") },
		"not canonical":    func(u string) *http.Request { return with(post(u), "x-b", "1") },
		"fields not taken": func(u string) *http.Request { return with(with(post(u), "Host", "x"), "Content-Length", "7") },
		"another agent":    func(u string) *http.Request { return with(post(u), "User-Agent", "x", "y") },
		"no agent":         func(u string) *http.Request { return with(post(u), "User-Agent", "") },
		"no method":        func(u string) *http.Request { r := get(u); r.Method = ""; return r },
		"unknown length":   func(u string) *http.Request { return request(http.MethodPost, u, io.NopCloser(strings.NewReader("x"))) },
		"close":            func(u string) *http.Request { r := post(u); r.Close = true; return r },
		"opaque":           func(u string) *http.Request { r := get(u); r.URL.Opaque = "//x/y%2fz"; return r },
		"many fields":      func(u string) *http.Request { r := post(u); manyFields(r.Header); return r },
		"as large as plain": func(u string) *http.Request {
			return request(http.MethodPut, u, bytes.NewReader(make([]byte, plainLimitBytes-10)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var sent [2]string
			for i, rt := range []http.RoundTripper{stock(), lean(time.Minute)} {
				var raw bytes.Buffer
				url, _ := serve(t, func(s *session) {
					s.in = bufio.NewReader(io.TeeReader(s.Conn, &raw))
					if s.request() != nil {
						s.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
					}
				})
				r := c(url)
				o, err := ask(rt, r)
				require.NoError(t, err)
				require.Equal(t, 200, o.Code)
				sent[i] = strings.ReplaceAll(raw.String(), strings.TrimPrefix(url, "http://"), "HOST")
			}
			assert.Equal(t, sent[0], sent[1])
		})
	}
}

func manyFields(h http.Header) {
	for i := range plainFields + 1 {
		h.Set(fmt.Sprintf("X-%d", i), "y")
	}
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	url, connections := serve(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	for name, spoil := range map[string]func(*http.Request){
		"no URL":         func(r *http.Request) { r.URL = nil },
		"no header":      func(r *http.Request) { r.Header = nil },
		"scheme":         func(r *http.Request) { r.URL.Scheme = "ftp" },
		"method":         func(r *http.Request) { r.Method = "A B" },
		"host":           func(r *http.Request) { r.URL.Host = "" },
		"field name":     func(r *http.Request) { r.Header["A B"] = []string{"x"} },
		"field value":    func(r *http.Request) { r.Header["A"] = []string{"x\r\nB: y"} },
		"trailer":        func(r *http.Request) { r.Trailer = http.Header{"A": {"x\n"}} },
		"control in URL": func(r *http.Request) { r.URL.RawQuery = "\x01" },
	} {
		t.Run(name, func(t *testing.T) {
			for _, rt := range []http.RoundTripper{stock(), lean(time.Minute)} {
				r := post(url)
				closed := false
				r.Body = closing{r.Body, &closed}
				spoil(r)
				_, err := rt.RoundTrip(r)
				require.Error(t, err, "%T", rt)
				assert.True(t, closed, "%T: the body is closed", rt)
			}
		})
	}
	_ = connections
}

type closing struct {
	io.ReadCloser
	closed *bool
}

func (c closing) Close() error { *c.closed = true; return c.ReadCloser.Close() }

// A request that must not be repeated is sent on a fresh connection where the idle one was closed before it was sent,
// and is lost where it was closed after.
func TestPostIsNotSentTwice(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
	t.Run("closed while idle", func(t *testing.T) {
		closed := make(chan bool, 9)
		url, connections := serve(t, func(s *session) { once(ok)(s); _ = s.Close(); closed <- true })
		rt := lean(time.Minute)
		for range 3 {
			o, err := ask(rt, post(url))
			require.NoError(t, err)
			assert.Equal(t, "{}", o.Body)
			<-closed
		}
		assert.EqualValues(t, 3, connections.Load())
	})
	t.Run("closed under way", func(t *testing.T) {
		var requests atomic.Int64
		url, connections := serve(t, func(s *session) {
			for s.request() != nil {
				if requests.Add(1) == 2 {
					return
				}
				s.send(ok)
			}
		})
		rt := lean(time.Minute)
		_, err := ask(rt, post(url))
		require.NoError(t, err)
		_, err = ask(rt, post(url))
		require.ErrorIs(t, err, io.EOF)
		_, err = ask(rt, post(url))
		require.NoError(t, err)
		assert.EqualValues(t, 3, requests.Load())
		assert.EqualValues(t, 2, connections.Load())
	})
}

// net/http's transport may take unsolicited bytes for the answer of a request that comes at once; ours never does.
func TestUnsolicitedBytesSpoilTheConnection(t *testing.T) {
	const ok, evil = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for name, c := range map[string]struct{ with, later string }{
		"with the answer":  {ok + evil, ""},
		"after the answer": {ok, evil},
		"line ends":        {ok + "\r\n", ""},
		"a time-out":       {ok, "HTTP/1.1 408 Request Timeout\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan bool, 9)
			read := make(chan bool, 9)
			url, connections := serve(t, func(s *session) {
				for s.request() != nil {
					s.send(c.with)
					<-read
					s.send(c.later)
					sent <- true
				}
			})
			rt := lean(time.Minute)
			for range 3 {
				o, err := ask(rt, post(url))
				require.NoError(t, err)
				assert.Equal(t, "{}", o.Body)
				read <- true
				<-sent
			}
			assert.EqualValues(t, 3, connections.Load())
			rt.CloseIdleConnections()
		})
	}
}

func TestTimeout(t *testing.T) {
	const part = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}"
	for name, c := range map[string]struct {
		request func(string) *http.Request
		send    string
	}{
		"before the head": {post, ""},
		"in the head":     {post, part[:20]},
		"in the body":     {post, part},
		"in a chunk":      {post, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}"},
		"while writing": {func(url string) *http.Request {
			return request(http.MethodPost, url, bytes.NewReader(make([]byte, 32<<20)))
		}, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan bool)
			url, _ := serve(t, func(s *session) {
				if c.send != "-" {
					s.request()
					s.send(c.send)
				}
				<-release
			})
			defer close(release)
			_, err := ask(lean(50*time.Millisecond), c.request(url))
			var late *TimeoutError
			require.ErrorAs(t, err, &late)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Contains(t, err.Error(), "timeout")
			assert.True(t, late.Timeout())
		})
	}
}

// The socket's deadline is that of an earlier request as a rule. It must neither end a later one nor be missed.
func TestDeadlineOfAnEarlierRequestDoesNotCount(t *testing.T) {
	var requests atomic.Int64
	release := make(chan bool)
	url, connections := serve(t, func(s *session) {
		for s.request() != nil {
			if requests.Add(1) == 4 {
				<-release
			}
			s.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		}
	})
	defer close(release)
	rt := lean(time.Minute)
	for range 3 {
		_, err := ask(rt, post(url))
		require.NoError(t, err)
		c := rt.idle[strings.TrimPrefix(url, "http://")].conns[0]
		c.armed = longAgo
		require.NoError(t, c.tcp.SetReadDeadline(longAgo))
	}
	rt.Timeout = 200 * time.Millisecond
	_, err := ask(rt, post(url))
	var late *TimeoutError
	require.ErrorAs(t, err, &late)
	assert.EqualValues(t, 1, connections.Load())
}

func TestContextEndsARequest(t *testing.T) {
	why := errors.New("why")
	for name, send := range map[string]string{"before the head": "", "in the body": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			var url string
			var connections *atomic.Int64
			url, connections = serve(t, func(s *session) {
				s.request()
				if s.number > 1 {
					s.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					return
				}
				s.send(send)
				cancel(why)
				s.gone()
			})
			rt := lean(time.Minute)
			_, err := ask(rt, post(url).WithContext(ctx))
			require.ErrorIs(t, err, why)
			_, err = ask(rt, post(url).WithContext(ctx))
			require.ErrorIs(t, err, why, "already over")
			_, err = ask(rt, post(url))
			require.NoError(t, err)
			assert.EqualValues(t, 2, connections.Load())
		})
	}
	t.Run("not once it is answered", func(t *testing.T) {
		url, connections := serve(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
		rt := lean(time.Minute)
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := ask(rt, post(url).WithContext(ctx))
			require.NoError(t, err)
			cancel()
		}
		assert.EqualValues(t, 1, connections.Load())
		rt.CloseIdleConnections()
	})
}

// A server that takes its time to read a plain request gets the rest of it beside the wait for its answer.
func TestPlainRequestThatTheSocketDoesNotTake(t *testing.T) {
	url, connections := serve(t, func(s *session) {
		for {
			r := s.request()
			if r == nil {
				return
			}
			body, _ := io.ReadAll(r.Body)
			s.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		}
	})
	rt := lean(time.Minute)
	_, err := ask(rt, post(url))
	require.NoError(t, err)
	require.NoError(t, rt.idle[strings.TrimPrefix(url, "http://")].conns[0].tcp.SetWriteBuffer(1))
	long := strings.Repeat("x", plainLimitBytes-1000)
	for range 5 {
		o, err := ask(rt, request(http.MethodPost, url, strings.NewReader(long)))
		require.NoError(t, err)
		assert.Equal(t, long, o.Body)
	}
	assert.EqualValues(t, 1, connections.Load())
	rt.CloseIdleConnections()
}

func TestBodyClosedEarlyCostsItsConnection(t *testing.T) {
	url, connections := serve(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
	rt := lean(time.Minute)
	for range 2 {
		resp, err := rt.RoundTrip(post(url))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.NoError(t, resp.Body.Close())
		_, err = resp.Body.Read(make([]byte, 1))
		require.Error(t, err)
		assert.NotErrorIs(t, err, io.EOF)
	}
	assert.EqualValues(t, 2, connections.Load())
}

// An answer belongs to its caller, however many others had a head of the same bytes.
func TestHeadersAreTheCallersOwn(t *testing.T) {
	url, _ := serve(t, answering("HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\n{}"))
	rt := lean(time.Minute)
	for range 3 {
		resp, err := rt.RoundTrip(post(url))
		require.NoError(t, err)
		assert.Equal(t, http.Header{"X": {"y"}, "Content-Length": {"2"}}, resp.Header)
		resp.Header.Set("X", "mine")
		resp.Header["Content-Length"][0] = "3"
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	rt.CloseIdleConnections()
}

// Many at once: each gets its own answer, whatever form it has, and few connections stay idle.
func TestManyAtOnce(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch len(body) % 4 {
		case 0:
			w.Header().Set("Connection", "close")
		case 1:
			w.(http.Flusher).Flush() // chunks
		}
		_, _ = w.Write(body)
	}))
	defer s.Close()
	rt := lean(time.Minute)
	rt.MaxIdle = 4
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 50 {
				want := strings.Repeat(string(rune('a'+g)), 1+i*i)
				o, err := ask(rt, request(http.MethodPost, s.URL, strings.NewReader(want)))
				if !assert.NoError(t, err) || !assert.Equal(t, want, o.Body) {
					return
				}
				if i%20 == 19 {
					rt.CloseIdleConnections()
				}
			}
		})
	}
	all.Wait()
	rt.mu.Lock()
	idle := 0
	for _, s := range rt.idle {
		idle += len(s.conns)
	}
	assert.Equal(t, rt.idleCount, idle)
	assert.LessOrEqual(t, idle, 4)
	rt.mu.Unlock()
	rt.CloseIdleConnections()
	assert.Zero(t, rt.idleCount)
}

// Whatever bytes a server sends, net/http's transport and ours make the same of them; ours also the second time, when it
// may know the head, and where they come in two pieces. The seeds are kinds of answers from above.
func FuzzAnswersAreThoseOfNetHTTP(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}more", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n{}",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello", "HTTP/1.1 101 Switching\r\n\r\n", "nonsense", "", "\r\n", "HTTP/1.1 200 OK\r\nContent-Le",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\nX: a\n b\n\nbody", "HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 200\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/2.0 099 \r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", readBufferBytes) + "\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\ncontent-length: 2 \r\nX:\r\nx: y\r\n\r\n{}", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n", "HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\n{}",
	} {
		f.Add([]byte(seed), false, uint16(0))
		f.Add([]byte(seed), true, uint16(len(seed)/2))
	}
	var data atomic.Pointer[[]byte]
	var split atomic.Uint32
	url, _ := serve(f, func(s *session) {
		if s.request() == nil {
			return
		}
		all, at := *data.Load(), int(split.Load())
		if at > 0 && at < len(all) {
			_, _ = s.Write(all[:at])
			all = all[at:]
		}
		_, _ = s.Write(all)
		_ = s.Conn.(*net.TCPConn).CloseWrite()
		s.gone()
	})
	f.Fuzz(func(t *testing.T, answer []byte, headOnly bool, at uint16) {
		if len(answer) > maxTestHeaderBytes/2 {
			t.Skip("the limits have tests of their own")
		}
		method := http.MethodGet
		if headOnly {
			method = http.MethodHead
		}
		data.Store(&answer)
		theirs, ours := stock(), lean(time.Minute)
		defer theirs.CloseIdleConnections()
		defer ours.CloseIdleConnections()
		split.Store(0)
		want, wantErr := ask(theirs, request(method, url, nil))
		for _, place := range []uint32{0, 0, uint32(at)} {
			split.Store(place)
			got, err := ask(ours, request(method, url, nil))
			if !want.equal(got) {
				t.Fatalf("%q\nnet/http %+v (%v)\nours     %+v (%v)", answer, want, wantErr, got, err)
			}
		}
	})
}

// Connections that were opened ahead carry the first requests, no more of them than there is room for, and one that cannot be
// opened is told.
func TestConnectionsAreOpenedAhead(t *testing.T) {
	var opened atomic.Int32
	url, _ := serve(t, func(s *session) {
		opened.Add(1)
		for s.request() != nil {
			s.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		}
	})
	rt := lean(time.Minute)
	rt.MaxIdle = 200
	p, err := rt.Prepare(request(http.MethodPost, url, nil), func(*http.Request) []byte { return []byte("{}") })
	require.NoError(t, err)
	require.NoError(t, p.Connect(t.Context(), 150))
	var asking sync.WaitGroup
	for range 150 {
		asking.Go(func() {
			resp, err := p.RoundTrip(request(http.MethodPost, url, nil))
			if assert.NoError(t, err) {
				_, err = io.Copy(io.Discard, resp.Body)
				assert.NoError(t, err)
			}
		})
	}
	asking.Wait()
	assert.EqualValues(t, 150, opened.Load())
	p.CloseIdleConnections()

	nobody, err := rt.Prepare(request(http.MethodPost, "http://127.0.0.1:1/", nil), func(*http.Request) []byte { return nil })
	require.NoError(t, err)
	require.ErrorContains(t, nobody.Connect(t.Context(), 3), "refused")
}

// A prepared request has the bytes that net/http writes for the same request, whatever body it is given, also on a
// connection that the server has ended while it was idle.
func TestPreparedRequestsAreThoseOfNetHTTP(t *testing.T) {
	bodies := []string{`{"query":"{a}"}`, "", strings.Repeat("x", 9), strings.Repeat("y", 10), strings.Repeat("z", 2*plainLimitBytes), "1"}
	var got []string
	ended := make(chan bool, len(bodies))
	url, _ := serve(t, func(s *session) {
		for range 2 {
			var raw bytes.Buffer
			s.in = bufio.NewReader(io.TeeReader(s.Conn, &raw))
			if s.request() == nil {
				return
			}
			got = append(got, raw.String())
			s.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		}
		_ = s.Close()
		ended <- true
	})
	head := request(http.MethodPost, url+"/graphql?x=y", nil)
	head.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"a", "b"}, "Z": {""}}
	rt := lean(time.Minute)
	p, err := rt.Prepare(head, func(asked *http.Request) []byte {
		i, _ := strconv.Atoi(asked.Header.Get("I"))
		return []byte(bodies[i])
	})
	require.NoError(t, err)
	var want []string
	for i, body := range bodies {
		theirs := request(http.MethodPost, url+"/graphql?x=y", strings.NewReader(body))
		theirs.Header = head.Header
		var raw bytes.Buffer
		require.NoError(t, theirs.Write(&raw))
		want = append(want, raw.String())

		asked := request(http.MethodGet, "http://elsewhere/", strings.NewReader("what is asked does not count"))
		asked.Header.Set("I", strconv.Itoa(i))
		closed := false
		asked.Body = closing{asked.Body, &closed}
		resp, err := p.RoundTrip(asked)
		require.NoError(t, err)
		assert.Same(t, asked, resp.Request)
		assert.True(t, closed)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		if i%2 == 1 {
			<-ended
		}
	}
	p.CloseIdleConnections()
	assert.Equal(t, want, got)

	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err = p.RoundTrip(get(url).WithContext(ctx))
	require.ErrorIs(t, err, context.Canceled)
}

func TestWhatCannotBePreparedSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(r *http.Request)
		says  string
	}{
		"a body":       {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("x")) }, "bodies"},
		"another verb": {func(r *http.Request) { r.Method = http.MethodGet }, "GET"},
		"scheme":       {func(r *http.Request) { r.URL.Scheme = "ftp" }, "ftp"},
		"many fields":  {func(r *http.Request) { manyFields(r.Header) }, "unusual"},
		"expect":       {func(r *http.Request) { r.Header.Set("Expect", "100-continue") }, "unusual"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(http.MethodPost, "http://127.0.0.1:1/", nil)
			c.spoil(r)
			_, err := lean(time.Minute).Prepare(r, func(*http.Request) []byte { return nil })
			require.ErrorContains(t, err, c.says)
		})
	}
}

// Whatever a caller asks for, net/http's transport and ours refuse it, or write the same bytes.
func FuzzRequestsAreThoseOfNetHTTP(f *testing.F) {
	f.Add("POST", "/graphql?a=b", "", "Content-Type", "application/json", `{"query":"{a}"}`, false, false)
	f.Add("", "", "example.org:81", "x-b", " 2\t", "", false, true)
	f.Add("DELETE", "/a%20b#c", "a b", "Content-Length", "7", "x", true, false)
	f.Add("PUT", "/ä?\x7f", "[::1%25eth0]", "Transfer-Encoding", "chunked", "x", true, true)
	f.Add("HEAD", "//x/../y", "é.example", "Host", "x", "", false, false)
	f.Add("GET", "?", "", "User-Agent", "", strings.Repeat("x", plainLimitBytes), false, false)
	f.Add("PATCH", "/", "", "A B", "x", "", true, false)
	f.Add("OPTIONS", "*", "", "Connection", "close", "", false, false)
	f.Add("POST", "/", "", "Trailer", "X", "x", false, false)
	type sent struct {
		raw   string
		whole bool
	}
	got := make(chan sent, 16)
	url, _ := serve(f, func(s *session) {
		var raw bytes.Buffer
		s.in = bufio.NewReader(io.TeeReader(s.Conn, &raw))
		whole := s.request() != nil
		got <- sent{raw.String(), whole}
		s.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		_ = s.Conn.(*net.TCPConn).CloseWrite()
		s.gone()
	})
	f.Fuzz(func(t *testing.T, method, target, host, name, value, body string, stream, last bool) {
		if len(target)+len(host)+len(value) > maxTestHeaderBytes/8 || len(body) > 4*plainLimitBytes {
			t.Skip("limits have tests of their own")
		}
		if expectsContinue(&http.Request{Header: http.Header{http.CanonicalHeaderKey(name): {value}}}) || strings.EqualFold(method, http.MethodConnect) {
			t.Skip("the server would have to answer otherwise")
		}
		made := func() *http.Request {
			r, err := http.NewRequest(http.MethodPost, url+target, strings.NewReader(body))
			if err != nil || "http://"+r.URL.Host != url || r.URL.User != nil {
				t.Skip("not an address of the server")
			}
			r.Method, r.Close = method, last
			if host != "" {
				r.Host = host
			}
			if name != "" {
				r.Header[name] = []string{value, "second"}
			}
			switch {
			case stream:
				r.Body, r.GetBody, r.ContentLength = io.NopCloser(strings.NewReader(body)), nil, -1
			case body == "":
				r.Body, r.GetBody = nil, nil
			}
			return r
		}
		var outcomes [2]outcome
		var failures [2]error
		var written [2]sent
		for i, rt := range []http.RoundTripper{stock(), lean(time.Minute)} {
			outcomes[i], failures[i] = ask(rt, made())
			rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
			if failures[i] == nil {
				written[i] = <-got
			}
		}
		if !outcomes[0].equal(outcomes[1]) {
			t.Fatalf("net/http %+v (%v)\nours     %+v (%v)", outcomes[0], failures[0], outcomes[1], failures[1])
		}
		// Of a request that this server does not understand it has read as much as came at once.
		if written[0].whole != written[1].whole || written[0].whole && written[0] != written[1] {
			t.Fatalf("net/http %+q\nours     %+q", written[0].raw, written[1].raw)
		}
		for len(got) > 0 {
			<-got
		}
	})
}
