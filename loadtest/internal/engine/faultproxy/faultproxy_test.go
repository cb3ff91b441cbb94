package faultproxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/record"
)

// TestMain lets the test binary play the command.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "fault-proxy" {
		os.Exit(Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// inTest is a fault proxy whose program is the test itself.
type inTest struct {
	engine.Service // nil: only what follows is asked for
	url            string
}

func (s inTest) URL() string { return s.url }
func (s inTest) Usage(context.Context) (engine.Usage, error) {
	return host.TreeUsage(os.Getpid())
}

func newProxy(t *testing.T) *Proxy {
	t.Helper()
	s := newServer("127.0.0.1", io.Discard)
	t.Cleanup(s.close)
	api := httptest.NewServer(s.handler())
	t.Cleanup(api.Close)
	return New(Options{Service: inTest{url: api.URL}, Dial: "127.0.0.1", Probe: func(ctx context.Context, stdin []byte) ([]byte, error) {
		var stdout, stderr bytes.Buffer
		if code := ProbeMain(ctx, bytes.NewReader(stdin), &stdout, &stderr); code != 0 {
			return nil, errors.New(stderr.String())
		}
		return stdout.Bytes(), nil
	}})
}

// echo is a server that sends back what it gets, and keeps it.
type echo struct {
	address string
	mu      sync.Mutex
	got     bytes.Buffer
	// ended says how each connection ended: nil where the peer closed it.
	ended chan error
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	e := &echo{address: listener.Addr().String(), ended: make(chan error, 1000)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, err := io.Copy(io.MultiWriter(e, conn), conn) // it has heard what it answers
				e.ended <- err
			}()
		}
	}()
	return e
}

func (e *echo) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got.Write(p)
}

func (e *echo) received() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got.String()
}

// newLink is a link to an echo.
func newLink(t *testing.T) (engine.FaultLink, *echo) {
	t.Helper()
	e := newEcho(t)
	l, err := newProxy(t).Link(t.Context(), "echo", "tcp://"+e.address)
	require.NoError(t, err)
	return l, e
}

func address(t *testing.T, l engine.FaultLink) string {
	t.Helper()
	u, err := url.Parse(l.URL())
	require.NoError(t, err)
	return u.Host
}

func dial(t *testing.T, l engine.FaultLink) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address(t, l))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	// Nothing here takes so long; what hangs is told of.
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return conn
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

func hear(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

// silent requires that nothing comes for a while.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
}

func set(t *testing.T, l engine.FaultLink, faults ...engine.Fault) {
	t.Helper()
	require.NoError(t, l.Set(t.Context(), faults...))
	assert.ElementsMatch(t, faults, l.Faults())
}

// requireReset requires that the next thing that a client hears is a reset.
func requireReset(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestALinkPassesBytesOn(t *testing.T) {
	l, _ := newLink(t)
	assert.Equal(t, "echo", l.Name())
	assert.Empty(t, l.Faults())
	conn := dial(t, l)
	text := strings.Repeat("all of this, and more: ", 100_000)
	go func() { _, _ = io.WriteString(conn, text) }()
	hear(t, conn, text)
}

func TestLatency(t *testing.T) {
	const delay = 20 * time.Millisecond
	roundTrip := func(t *testing.T, conn net.Conn) time.Duration {
		began := time.Now()
		say(t, conn, "x")
		hear(t, conn, "x")
		return time.Since(began)
	}
	t.Run("delays each round trip, of open connections and new ones, until it is taken back", func(t *testing.T) {
		l, _ := newLink(t)
		old := dial(t, l)
		roundTrip(t, old)
		set(t, l, engine.Fault{Kind: engine.FaultLatency, Delay: delay})
		for range 3 {
			assert.GreaterOrEqual(t, roundTrip(t, old), delay)
			assert.GreaterOrEqual(t, roundTrip(t, dial(t, l)), delay)
		}
		set(t, l, engine.Fault{Kind: engine.FaultLatency, Delay: time.Hour})
		set(t, l)
		roundTrip(t, old)
	})
	t.Run("what is asked arrives at once, its answer is late", func(t *testing.T) {
		l, e := newLink(t)
		set(t, l, engine.Fault{Kind: engine.FaultLatency, Delay: time.Hour})
		conn := dial(t, l)
		say(t, conn, "x")
		require.Eventually(t, func() bool { return e.received() == "x" }, 30*time.Second, time.Millisecond)
		silent(t, conn)
	})
	t.Run("what was sent one after the other is delayed at once", func(t *testing.T) {
		l, _ := newLink(t)
		// Delays that add up would take longer than the connection's deadline.
		const long, pieces = time.Second, 50
		set(t, l, engine.Fault{Kind: engine.FaultLatency, Delay: long})
		conn := dial(t, l)
		began := time.Now()
		for range pieces {
			say(t, conn, "x")
			time.Sleep(time.Millisecond) // a piece of its own
		}
		hear(t, conn, strings.Repeat("x", pieces))
		assert.GreaterOrEqual(t, time.Since(began), long)
	})
	t.Run("what is on its way when it is taken back is not lost, and stays in order", func(t *testing.T) {
		l, _ := newLink(t)
		set(t, l, engine.Fault{Kind: engine.FaultLatency, Delay: time.Hour})
		conn := dial(t, l)
		text := ""
		for i := range 50 {
			say(t, conn, strconv.Itoa(i)+" ")
			text += strconv.Itoa(i) + " "
			time.Sleep(time.Millisecond)
		}
		set(t, l)
		hear(t, conn, text)
	})
	t.Run("goes together with a bandwidth", func(t *testing.T) {
		l, _ := newLink(t)
		set(t, l, engine.Fault{Kind: engine.FaultLatency, Delay: delay}, engine.Fault{Kind: engine.FaultBandwidth, BytesPerSecond: 1_000_000})
		assert.GreaterOrEqual(t, roundTrip(t, dial(t, l)), delay)
	})
}

func TestBandwidth(t *testing.T) {
	l, _ := newLink(t)
	conn := dial(t, l)
	say(t, conn, "x")
	hear(t, conn, "x")
	set(t, l, engine.Fault{Kind: engine.FaultBandwidth, BytesPerSecond: 100_000})
	text := strings.Repeat("x", 20_000)
	began := time.Now()
	say(t, conn, text)
	hear(t, conn, text)
	assert.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)
	set(t, l)
	say(t, conn, "y")
	hear(t, conn, "y")
}

func TestResetPeer(t *testing.T) {
	l, e := newLink(t)
	busy, idle := dial(t, l), dial(t, l)
	for _, conn := range []net.Conn{busy, idle} {
		say(t, conn, "x")
		hear(t, conn, "x")
	}
	set(t, l, engine.Fault{Kind: engine.FaultResetPeer})
	requireReset(t, busy)
	requireReset(t, idle)
	for range 2 {
		<-e.ended
	}
	fresh := dial(t, l)
	say(t, fresh, "x")
	requireReset(t, fresh)
	waiting := dial(t, l)
	set(t, l)
	say(t, waiting, "y")
	hear(t, waiting, "y")
	again := dial(t, l)
	say(t, again, "y")
	hear(t, again, "y")
	// Those that were there before it was taken back end as usual again.
	require.NoError(t, waiting.(*net.TCPConn).CloseWrite())
	_, err := waiting.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestTimeout(t *testing.T) {
	t.Run("loses what is sent, and closes when it is taken back", func(t *testing.T) {
		l, e := newLink(t)
		conn := dial(t, l)
		say(t, conn, "before")
		hear(t, conn, "before")
		set(t, l, engine.Fault{Kind: engine.FaultTimeout})
		say(t, conn, "lost")
		silent(t, conn)
		set(t, l)
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, "before", e.received())
		again := dial(t, l)
		say(t, again, "after")
		hear(t, again, "after")
	})
	t.Run("closes by itself after a time", func(t *testing.T) {
		l, _ := newLink(t)
		const after = 50 * time.Millisecond
		conn := dial(t, l)
		say(t, conn, "before")
		hear(t, conn, "before")
		began := time.Now()
		set(t, l, engine.Fault{Kind: engine.FaultTimeout, After: after})
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.GreaterOrEqual(t, time.Since(began), after)
	})
}

func TestStall(t *testing.T) {
	l, e := newLink(t)
	conn := dial(t, l)
	say(t, conn, "before ")
	hear(t, conn, "before ")
	set(t, l, engine.Fault{Kind: engine.FaultStall})
	say(t, conn, "held ")
	silent(t, conn)
	assert.Equal(t, "before ", e.received())
	fresh := dial(t, l)
	say(t, fresh, "and this")
	silent(t, fresh)
	gone := dial(t, l)
	say(t, gone, ".")
	require.NoError(t, gone.Close())
	set(t, l)
	hear(t, conn, "held ")
	hear(t, fresh, "and this")
	say(t, conn, "after")
	hear(t, conn, "after")
}

func TestDown(t *testing.T) {
	l, e := newLink(t)
	conn := dial(t, l)
	say(t, conn, "x")
	hear(t, conn, "x")
	for range 3 {
		set(t, l, engine.Fault{Kind: engine.FaultDown})
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		<-e.ended
		// A client that tries and tries is never connected to itself.
		for range 200 {
			_, err := net.Dial("tcp", address(t, l))
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
		}
		set(t, l)
		conn = dial(t, l)
		say(t, conn, "x")
		hear(t, conn, "x")
	}
	set(t, l, engine.Fault{Kind: engine.FaultDown})
	set(t, l, engine.Fault{Kind: engine.FaultLatency, Delay: time.Millisecond})
	conn = dial(t, l)
	say(t, conn, "x")
	hear(t, conn, "x")
}

func TestATargetThatIsGone(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	gone := listener.Addr().String()
	require.NoError(t, listener.Close())
	l, err := newProxy(t).Link(t.Context(), "gone", "tcp://"+gone)
	require.NoError(t, err, "it may come")
	_, err = dial(t, l).Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// Faults come and go while many connections are busy: nothing hangs, and what is answered is right.
func TestFaultsUnderLoad(t *testing.T) {
	l, _ := newLink(t)
	target := address(t, l)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wait sync.WaitGroup
	var mu sync.Mutex
	answered, wrong := 0, 0
	for range 16 {
		wait.Go(func() {
			for n := 0; ctx.Err() == nil; {
				conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", target)
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				reader := bufio.NewReader(conn)
				for {
					n++
					text := strings.Repeat(strconv.Itoa(n)+" ", 1+n%1000) + "\n"
					_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
					if _, err := io.WriteString(conn, text); err != nil {
						break
					}
					got, err := reader.ReadString('\n')
					if err != nil {
						break
					}
					mu.Lock()
					answered++
					if got != text {
						wrong++
					}
					mu.Unlock()
				}
				conn.Close()
			}
		})
	}
	for round := range 5 {
		for _, f := range []engine.Fault{
			{Kind: engine.FaultLatency, Delay: time.Duration(1+round) * time.Millisecond}, {Kind: engine.FaultBandwidth, BytesPerSecond: 50_000_000},
			{Kind: engine.FaultResetPeer}, {Kind: engine.FaultTimeout}, {Kind: engine.FaultTimeout, After: time.Millisecond}, {Kind: engine.FaultStall}, {Kind: engine.FaultDown},
		} {
			set(t, l, f)
			time.Sleep(10 * time.Millisecond)
			set(t, l)
			mu.Lock()
			before := answered
			mu.Unlock()
			require.Eventually(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return answered > before+100
			}, 30*time.Second, time.Millisecond, "after %s everything passes again", f)
		}
	}
	stop()
	wait.Wait()
	assert.Zero(t, wrong)
}

func TestWhatIsRefused(t *testing.T) {
	p := newProxy(t)
	l, err := p.Link(t.Context(), "one", "tcp://127.0.0.1:1")
	require.NoError(t, err)
	_, err = p.Link(t.Context(), "one", "tcp://127.0.0.1:2")
	require.ErrorContains(t, err, "link one: there is one of that name")
	_, err = p.Link(t.Context(), "a/b", "tcp://127.0.0.1:2")
	require.ErrorContains(t, err, `link "a/b"`)
	_, err = p.Link(t.Context(), "two", "postgres://lab:secret@db/lab")
	require.ErrorContains(t, err, `link two: target "db": expected HOST:PORT`)
	_, err = p.Link(t.Context(), "two", "postgres://lab:sec ret@\x7f/lab")
	require.ErrorContains(t, err, "link two")
	require.NotContains(t, err.Error(), "sec")
	for text, fault := range map[string]engine.Fault{
		`fault "": expected latency, bandwidth, reset_peer, timeout, stall or down`: {},
		"fault latency: delay 0s: expected more than 0":                             {Kind: engine.FaultLatency},
		"delay -1ms":   {Kind: engine.FaultLatency, Delay: -time.Millisecond},
		"delay 2h0m0s": {Kind: engine.FaultLatency, Delay: 2 * time.Hour},
		"1500 bytes a second: expected a multiple": {Kind: engine.FaultBandwidth, BytesPerSecond: 1500},
		"0 bytes a second":                         {Kind: engine.FaultBandwidth},
		"after 1.5ms: expected whole":              {Kind: engine.FaultTimeout, After: 1500 * time.Microsecond},
		"only a latency has one":                   {Kind: engine.FaultDown, Delay: time.Second},
		"only a bandwidth has them":                {Kind: engine.FaultStall, BytesPerSecond: 1000},
		"only a timeout has it":                    {Kind: engine.FaultResetPeer, After: time.Second},
	} {
		require.ErrorContains(t, l.Set(t.Context(), fault), text)
	}
	slow := engine.Fault{Kind: engine.FaultLatency, Delay: time.Second}
	require.ErrorContains(t, l.Set(t.Context(), slow, slow), "given twice")
	require.ErrorContains(t, l.Set(t.Context(), slow, engine.Fault{Kind: engine.FaultDown}), "fault down: lets nothing pass")
	assert.Empty(t, l.Faults())
	response, err := http.Post(p.URL()+"/links", "application/json", strings.NewReader(`{"name":"x","to":"y"}`))
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, http.StatusBadRequest, response.StatusCode)
}

func TestToxiproxysOwnAPI(t *testing.T) {
	p := newProxy(t)
	_, err := p.Link(t.Context(), "one", "tcp://127.0.0.1:1")
	require.NoError(t, err)
	response, err := http.Get(p.URL() + "/proxies")
	require.NoError(t, err)
	defer response.Body.Close()
	var proxies map[string]struct{ Upstream string }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&proxies))
	assert.Equal(t, "127.0.0.1:1", proxies["one"].Upstream)
}

func TestOverhead(t *testing.T) {
	t.Run("of a TCP echo, with a delay", func(t *testing.T) {
		e, p := newEcho(t), newProxy(t)
		l, err := p.Link(t.Context(), "echo", "tcp://"+e.address)
		require.NoError(t, err)
		o, err := p.Overhead(t.Context(), l, 50)
		require.NoError(t, err)
		assert.Equal(t, 50, o.RoundTrips)
		assert.Zero(t, o.DelayNS)
		assert.Positive(t, o.DirectP50NS)
		assert.GreaterOrEqual(t, o.DirectP99NS, o.DirectP50NS)
		assert.GreaterOrEqual(t, o.AddedP99NS, o.AddedP50NS)
		set(t, l, engine.Fault{Kind: engine.FaultLatency, Delay: 5 * time.Millisecond})
		o, err = p.Overhead(t.Context(), l, 50)
		require.NoError(t, err)
		assert.Equal(t, int64(5*time.Millisecond), o.DelayNS)
		assert.GreaterOrEqual(t, o.ProxiedP50NS, o.DelayNS)
		assert.Equal(t, 50*(1+0)+warmUp, len(e.received())/4, "each way of each measurement, warm-up included")
		set(t, l, engine.Fault{Kind: engine.FaultStall})
		_, err = p.Overhead(t.Context(), l, 50)
		require.ErrorContains(t, err, "stall is set")
	})
	t.Run("of HTTP", func(t *testing.T) {
		asked := make(chan string, 1000)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- r.URL.Path
			_, _ = io.WriteString(w, `{"status":"ok"}`)
		}))
		defer server.Close()
		p := newProxy(t)
		l, err := p.Link(t.Context(), "upstream", server.URL)
		require.NoError(t, err)
		o, err := p.Overhead(t.Context(), l, 10)
		require.NoError(t, err)
		assert.Equal(t, "upstream", o.Link)
		assert.Len(t, asked, 2*(10+warmUp))
		assert.Equal(t, "/readyz", <-asked)
	})
	t.Run("an answer of another status is an error", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		defer server.Close()
		p := newProxy(t)
		l, err := p.Link(t.Context(), "upstream", server.URL)
		require.NoError(t, err)
		_, err = p.Overhead(t.Context(), l, 10)
		require.ErrorContains(t, err, "404")
	})
	t.Run("figures by hand", func(t *testing.T) {
		r := probeResult{}
		for i := int64(1); i <= 100; i++ {
			r.DirectNS = append(r.DirectNS, 10*i)
			r.ProxiedNS = append(r.ProxiedNS, 10*i+i)
		}
		var o record.FaultOverhead
		r.fill(&o)
		assert.Equal(t, record.FaultOverhead{DirectP50NS: 500, DirectP99NS: 990, ProxiedP50NS: 550, ProxiedP99NS: 1089, AddedP50NS: 50, AddedP99NS: 99}, o)
	})
}

func TestNobodyElseIsGivenALinksPort(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	require.NoError(t, err)
	first, err := strconv.Atoi(strings.Fields(string(text))[0])
	require.NoError(t, err)
	if first <= 11000 {
		t.Skip("here the kernel gives nearly all ports to outgoing connections")
	}
	for range 1000 {
		port := stablePort()
		assert.Less(t, port, first)
		assert.GreaterOrEqual(t, port, 10000)
	}
	p := newProxy(t)
	for n := range 20 {
		l, err := p.Link(t.Context(), strconv.Itoa(n), "tcp://127.0.0.1:1")
		require.NoError(t, err)
		_, text, err := net.SplitHostPort(address(t, l))
		require.NoError(t, err)
		port, err := strconv.Atoi(text)
		require.NoError(t, err)
		assert.Less(t, port, first)
	}
}

func TestClockWakesInOrderAndNotBefore(t *testing.T) {
	c, err := newClock()
	require.NoError(t, err)
	defer c.file.Close()
	began := time.Now()
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			w := newWaiter()
			for n := range 5 {
				at := time.Now().Add(time.Duration((i*37+n*11)%50) * 100 * time.Microsecond)
				c.set(w, at)
				if n == 2 {
					c.unset(w) // as if it had never been
					continue
				}
				<-w.due
				assert.False(t, time.Now().Before(at))
			}
		})
	}
	wait.Wait()
	assert.Empty(t, c.waiters)
	w := newWaiter()
	c.set(w, began) // long past
	<-w.due
}

func TestTheCommandServesUntilSIGTERM(t *testing.T) {
	cmd := exec.Command(os.Args[0], "fault-proxy")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	var said struct {
		Msg       string
		Port, Pid int
	}
	require.NoError(t, json.Unmarshal([]byte(line), &said))
	assert.Equal(t, "listening", said.Msg)
	assert.Equal(t, cmd.Process.Pid, said.Pid)
	e := newEcho(t)
	p := New(Options{Service: inTest{url: "http://127.0.0.1:" + strconv.Itoa(said.Port)}, Dial: "127.0.0.1"})
	l, err := p.Link(t.Context(), "echo", "tcp://"+e.address)
	require.NoError(t, err)
	conn := dial(t, l)
	say(t, conn, "x")
	hear(t, conn, "x")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "it ends with status 0")
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
}

func TestTheCommandRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, args := range []string{"--host here", "--port 70000", "--port x", "more", "--speed 1"} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, 2, Main(strings.Fields(args), &stdout, &stderr))
			assert.Empty(t, stdout.String())
			assert.NotEmpty(t, stderr.String())
		})
	}
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 2, ProbeMain(t.Context(), strings.NewReader(`{"direct":"ftp://127.0.0.1:1"}`), &stdout, &stderr))
	assert.Contains(t, stderr.String(), "round_trips 0")
}
