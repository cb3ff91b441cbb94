package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const right = `{"data":1}`

// session is a connection of a server that is written by hand, so that it can do wrong.
type session struct {
	*net.TCPConn
	in *bufio.Reader
}

// asked reads a request to its end; false where none comes.
func (s *session) asked() bool {
	r, err := http.ReadRequest(s.in)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

func (s *session) say(text string) { _, _ = io.WriteString(s.TCPConn, text) }

func (s *session) answer(status int, body string) {
	s.say(fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body))
}

// reset ends the connection so that the other side reads "connection reset by peer".
func (s *session) reset() {
	_ = s.SetLinger(0)
	_ = s.Close()
}

// listen hands every connection to handle, with its number from 0, and closes it after.
func listen(t *testing.T, address string, handle func(n int, s *session)) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	var all sync.WaitGroup
	over := make(chan struct{})
	all.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				s := &session{c.(*net.TCPConn), bufio.NewReader(c)}
				done := make(chan struct{})
				all.Go(func() {
					select {
					case <-over:
					case <-done:
					}
					_ = s.Close()
				})
				defer close(done)
				handle(n, s)
			})
		}
	})
	t.Cleanup(func() { close(over); _ = l.Close(); all.Wait() })
	return "http://" + l.Addr().String()
}

// always answers every request of a connection in the same way, until one returns false.
func always(answer func(s *session) bool) func(int, *session) {
	return func(_ int, s *session) {
		for s.asked() {
			if !answer(s) {
				return
			}
		}
	}
}

// check holds what must be so whatever the server does: the counts add up, and every request that was sent is in each
// histogram once.
func check(t *testing.T, r *Result) {
	t.Helper()
	require.Positive(t, r.Sent)
	assert.Equal(t, r.Offered, r.Sent+r.Unsent, "offered = sent + unsent")
	assert.Equal(t, r.Sent, r.OK+r.FailedBy.Total(), "sent = ok + failed, %+v", r.FailedBy)
	assert.EqualValues(t, r.Sent, r.Response().TotalCount())
	assert.EqualValues(t, r.Sent, r.Service().TotalCount())
	assert.EqualValues(t, r.Sent, r.SendLag().TotalCount())
	assert.Equal(t, r.FailedBy.Total() > 0, r.FirstFailure != "")
}

func sameBytes(expected, got []byte) error {
	if bytes.Equal(expected, got) {
		return nil
	}
	return errors.New("another answer")
}

// senders are what the counts must hold with: the lab's own transport, and net/http's, by which it is measured.
var senders = map[string]clientMaker{"lab": leanClient, "stock": stockClient}

// Every kind of failure is counted as itself, and the counts add up.
func TestFailuresAreCountedByKind(t *testing.T) {
	reset := func(f Failed) uint64 { return f.Reset }
	timeout := func(f Failed) uint64 { return f.Timeout }
	status := func(f Failed) uint64 { return f.Status }
	graphQL := func(f Failed) uint64 { return f.GraphQLErrors }
	wrong := func(f Failed) uint64 { return f.WrongAnswer }
	answering := func(code int, body string) func(int, *session) {
		return always(func(s *session) bool { s.answer(code, body); return true })
	}
	for name, c := range map[string]struct {
		handle  func(int, *session)
		kind    func(Failed) uint64 // nil: none
		timeout time.Duration
	}{
		"ok":           {handle: answering(200, right)},
		"wrong answer": {handle: answering(200, `{"data":2}`), kind: wrong},
		"not JSON":     {handle: answering(200, `<html>`), kind: wrong},
		"nothing":      {handle: answering(200, ``), kind: wrong},
		"errors":       {handle: answering(200, `{"errors":[{"message":"no"}]}`), kind: graphQL},
		"status 503":   {handle: answering(503, right), kind: status},
		"status 204":   {handle: always(func(s *session) bool { s.say("HTTP/1.1 204 X\r\n\r\n"); return true }), kind: status},
		"a redirect": {handle: always(func(s *session) bool {
			s.say("HTTP/1.1 302 X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
			return true
		}), kind: status},
		"a redirect of the same method": {handle: always(func(s *session) bool {
			s.say("HTTP/1.1 307 X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
			return true
		}), kind: status},
		"closed in place of an answer": {handle: always(func(*session) bool { return false }), kind: reset},
		"reset in place of an answer":  {handle: always(func(s *session) bool { s.reset(); return false }), kind: reset},
		"head cut short":               {handle: always(func(s *session) bool { s.say("HTTP/1.1 200 X\r\nContent-Le"); return false }), kind: reset},
		"body cut short":               {handle: always(func(s *session) bool { s.say("HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n{"); return false }), kind: reset},
		"reset within a body": {handle: always(func(s *session) bool {
			s.say("HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n{")
			s.reset()
			return false
		}), kind: reset},
		"chunks cut short": {handle: always(func(s *session) bool {
			s.say("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
			return false
		}), kind: reset},
		"status 500 and a body cut short": {handle: always(func(s *session) bool {
			s.say("HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\n{")
			return false
		}), kind: reset},
		"not HTTP": {handle: always(func(s *session) bool { s.say("ICY 200 OK\r\n\r\n"); return false }), kind: reset},
		"no answer in time": {handle: always(func(s *session) bool {
			_, _ = s.in.ReadByte() // the other side gives up
			return false
		}), kind: timeout, timeout: 50 * time.Millisecond},
		"no whole body in time": {handle: always(func(s *session) bool {
			s.say("HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n{")
			_, _ = s.in.ReadByte()
			return false
		}), kind: timeout, timeout: 50 * time.Millisecond},
		"chunks": {handle: always(func(s *session) bool {
			s.say("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\na\r\n" + right + "\r\n0\r\n\r\n")
			return true
		})},
		"closed after each, and said": {handle: always(func(s *session) bool {
			s.say(fmt.Sprintf("HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(right), right))
			return false
		})},
		"a body until the end": {handle: always(func(s *session) bool { s.say("HTTP/1.1 200 X\r\n\r\n" + right); return false })},
	} {
		for sender, client := range senders {
			t.Run(name+", "+sender, func(t *testing.T) {
				j := job(listen(t, "127.0.0.1:0", c.handle))
				j.Expected, j.Duration = right, 100*time.Millisecond
				if c.timeout > 0 {
					j.Timeout = c.timeout
				}
				r, err := attack(t.Context(), j, sameBytes, nil, client)
				require.NoError(t, err)
				check(t, r)
				if c.kind == nil {
					assert.Equal(t, r.Sent, r.OK, "%+v %s", r.FailedBy, r.FirstFailure)
				} else {
					assert.Equal(t, r.Sent, c.kind(r.FailedBy), "%+v %s", r.FailedBy, r.FirstFailure)
				}
			})
		}
	}
	for sender, client := range senders {
		t.Run("refused, "+sender, func(t *testing.T) {
			r, err := attack(t.Context(), job("http://"+nobody(t)), sameBytes, nil, client)
			require.NoError(t, err)
			check(t, r)
			assert.Equal(t, r.Sent, r.FailedBy.Refused)
		})
	}
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Failures of several kinds among right answers are each counted once, exactly as often as the server did wrong.
func TestFailuresAmongRightAnswersAreCountedExactly(t *testing.T) {
	for sender, client := range senders {
		t.Run(sender, func(t *testing.T) {
			var mu sync.Mutex
			did := map[string]uint64{}
			n := 0
			url := listen(t, "127.0.0.1:0", always(func(s *session) bool {
				mu.Lock()
				n++
				kind := map[int]string{3: "wrong", 5: "errors", 7: "status", 11: "cut", 13: "reset"}[n%20]
				did[kind]++
				mu.Unlock()
				switch kind {
				case "wrong":
					s.answer(200, `{"data":2}`)
				case "errors":
					s.answer(200, `{"data":null,"errors":[{"message":"no"}]}`)
				case "status":
					s.answer(500, `{}`)
				case "cut":
					s.say("HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n{")
					return false
				case "reset":
					s.reset()
					return false
				default:
					s.answer(200, right)
				}
				return true
			}))
			j := job(url)
			j.Expected, j.RPS = right, 1000
			r, err := attack(t.Context(), j, sameBytes, nil, client)
			require.NoError(t, err)
			check(t, r)
			mu.Lock()
			defer mu.Unlock()
			assert.Equal(t, did[""], r.OK)
			assert.Equal(t, Failed{
				Reset: did["cut"] + did["reset"], Status: did["status"], GraphQLErrors: did["errors"], WrongAnswer: did["wrong"],
			}, r.FailedBy)
			for _, kind := range []string{"wrong", "errors", "status", "cut", "reset"} {
				assert.Positive(t, did[kind], kind)
			}
		})
	}
}

// A server that closes each connection after an answer, without a word, takes no answer with it: the end of an idle
// connection is seen before it is used, or else the request counts as reset.
func TestKeepAliveClosedByTheServer(t *testing.T) {
	var mu sync.Mutex
	var answered uint64
	j := job(listen(t, "127.0.0.1:0", always(func(s *session) bool {
		mu.Lock()
		answered++
		mu.Unlock()
		s.answer(200, right)
		return false
	})))
	j.Expected, j.Arrival = right, Constant
	r, err := Attack(t.Context(), j, sameBytes)
	require.NoError(t, err)
	check(t, r)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, answered, r.OK)
	assert.Equal(t, r.Sent, r.OK+r.FailedBy.Reset)
	assert.Greater(t, r.OK, r.FailedBy.Reset)
}

// A server that comes up in the middle of the attack has refused what came before, and is slow with the first answers.
func TestSlowStart(t *testing.T) {
	address := nobody(t)
	j := job("http://" + address)
	j.Expected, j.Duration, j.MaxInFlight = right, 3*time.Second, 256
	up := make(chan struct{})
	var once sync.Once
	r, err := AttackWatched(t.Context(), j, sameBytes, func(h Hit) {
		if h.Failure != "" && h.Seq > 20 {
			once.Do(func() {
				listen(t, address, always(func(s *session) bool {
					time.Sleep(50 * time.Millisecond)
					s.answer(200, right)
					return true
				}))
				close(up)
			})
		}
	})
	require.NoError(t, err)
	<-up
	check(t, r)
	assert.Greater(t, r.FailedBy.Refused, uint64(20))
	assert.Positive(t, r.OK)
	assert.Equal(t, r.Sent, r.OK+r.FailedBy.Refused, "%+v", r.FailedBy)
}

// What waits for a server that answers one at a time is sent late, and at the end not at all; both are counted.
func TestUnsentIsCounted(t *testing.T) {
	j := job(listen(t, "127.0.0.1:0", always(func(s *session) bool {
		time.Sleep(20 * time.Millisecond)
		s.answer(200, right)
		return true
	})))
	j.Expected, j.MaxInFlight = right, 1
	r, err := Attack(t.Context(), j, sameBytes)
	require.NoError(t, err)
	check(t, r)
	assert.Positive(t, r.Unsent)
	assert.Equal(t, r.Sent, r.OK)
}

// Whatever ends an attack early, what was sent is counted and the rest is unsent.
func TestInterruptedAttackAddsUp(t *testing.T) {
	j := job(listen(t, "127.0.0.1:0", always(func(s *session) bool { s.answer(200, right); return true })))
	j.Duration = time.Hour
	j.Expected = right
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, err := AttackWatched(ctx, j, sameBytes, func(h Hit) {
		if h.Seq == 50 {
			stop()
		}
	})
	require.Error(t, err)
	check(t, r)
	assert.Positive(t, r.Unsent)
	assert.Greater(t, r.Sent, uint64(50))
}
