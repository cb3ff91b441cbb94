package faultproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"lab/loadtest/internal/engine"
)

// server is Toxiproxy with its HTTP API, and beside that: /readyz, POST /links and PUT /links/{name}/faults.
type server struct {
	// host is where links listen.
	host string
	api  *toxiproxy.ApiServer

	// mu: one change of faults at a time.
	mu  sync.Mutex
	set map[string][]engine.Fault
}

// newServer makes one whose links listen at host.
func newServer(host string, log io.Writer) *server {
	// Under load a fault is an error of every connection: a few lines a second tell of it as well.
	logger := zerolog.New(log).Level(zerolog.WarnLevel).With().Timestamp().Logger().
		Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second})
	return &server{host: host, set: map[string][]engine.Fault{}, api: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), logger)}
}

// close ends all links.
func (s *server) close() { _ = s.api.Collection.Clear() }

// linkRequest is the body of POST /links, linkResponse the answer.
type (
	linkRequest struct {
		Name string `json:"name"`
		// Target is HOST:PORT.
		Target string `json:"target"`
	}
	linkResponse struct {
		Port int `json:"port"`
	}
)

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("POST /links", func(w http.ResponseWriter, r *http.Request) {
		var body linkRequest
		if !read(w, r, &body) {
			return
		}
		port, err := s.link(body.Name, body.Target)
		answer(w, linkResponse{port}, err)
	})
	mux.HandleFunc("PUT /links/{name}/faults", func(w http.ResponseWriter, r *http.Request) {
		var faults []engine.Fault
		if !read(w, r, &faults) {
			return
		}
		// Whoever asked may leave; a change that has begun is finished all the same.
		answer(w, faults, s.setFaults(context.WithoutCancel(r.Context()), r.PathValue("name"), faults))
	})
	mux.Handle("/", s.api.Routes())
	return mux
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		http.Error(w, "body: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func answer(w http.ResponseWriter, body any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

// link lays a link and returns the port that it listens at.
func (s *server) link(name, target string) (int, error) {
	if name == "" || strings.ContainsAny(name, "/?# ") {
		return 0, fmt.Errorf("link %q: expected a name without spaces and slashes", name)
	}
	host, port, err := net.SplitHostPort(target)
	if n, portErr := strconv.Atoi(port); err != nil || host == "" || portErr != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("link %s: target %q: expected HOST:PORT", name, target)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.set[name]; taken {
		return 0, fmt.Errorf("link %s: there is one of that name", name)
	}
	const tries = 100
	for range tries {
		port := stablePort()
		err = s.api.Collection.Add(toxiproxy.NewProxy(s.api, name, net.JoinHostPort(s.host, strconv.Itoa(port)), target), true)
		if err == nil {
			s.set[name] = nil
			return port, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return 0, fmt.Errorf("link %s: %w", name, err)
}

// stablePort returns a port below those that the kernel gives to outgoing connections. While a link is down nobody may get
// its port; and a client that asks 127.0.0.1 again and again for a port of that range, where nobody listens, is in the end
// given that port for its own end and connected to itself.
func stablePort() int {
	const lowest, usual = 10000, 32768
	first := usual
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if n, err := strconv.Atoi(strings.Fields(string(text) + " x")[0]); err == nil && n > lowest+1000 {
			first = n
		}
	}
	return lowest + rand.IntN(first-lowest)
}

// toxicsOf gives the toxics that make faults, as Toxiproxy's API takes them.
func toxicsOf(faults []engine.Fault) []map[string]any {
	var out []map[string]any
	add := func(kind, way string, attributes map[string]any) {
		out = append(out, map[string]any{"name": kind + "_" + way, "type": kind, "stream": way, "attributes": attributes})
	}
	const there, back = "upstream", "downstream"
	for _, f := range faults {
		switch f.Kind {
		case engine.FaultLatency:
			// One wait instead of two of half the time: whatever wakes late does so once, and it costs a third less CPU time.
			add(TypeDelay, back, map[string]any{"delay_ns": int64(f.Delay)})
		case engine.FaultBandwidth:
			// In units of 1000 bytes a second, which is a byte a millisecond.
			for _, way := range []string{there, back} {
				add("bandwidth", way, map[string]any{"rate": f.BytesPerSecond / 1000})
			}
		case engine.FaultTimeout:
			for _, way := range []string{there, back} {
				add("timeout", way, map[string]any{"timeout": f.After.Milliseconds()})
			}
		case engine.FaultStall:
			add(typeStall, there, nil)
			add(typeStall, back, nil)
		case engine.FaultResetPeer:
			add("reset_peer", there, map[string]any{"timeout": 0})
		case engine.FaultDown:
		}
	}
	return out
}

// setFaults replaces the faults of a link.
func (s *server) setFaults(ctx context.Context, name string, faults []engine.Fault) error {
	if err := engine.CheckFaults(faults); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	proxy, err := s.api.Collection.Get(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	has := func(kind engine.FaultKind) bool {
		return slices.ContainsFunc(faults, func(f engine.Fault) bool { return f.Kind == kind })
	}
	if has(engine.FaultDown) {
		proxy.Stop()
	}
	proxy.Toxics.ResetToxics(ctx)
	port := portOf(proxy)
	reset := has(engine.FaultResetPeer)
	if err := setLinger(port, reset); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	for _, toxic := range toxicsOf(faults) {
		text, err := json.Marshal(toxic)
		if err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
			return fmt.Errorf("link %s: toxic %s: %w", name, text, err)
		}
	}
	if reset {
		// Those that have come since.
		if err := setLinger(port, true); err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
		// Closes them all. New ones are refused for a moment and then reset.
		proxy.Stop()
	}
	if !has(engine.FaultDown) {
		if err := start(proxy); err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
	}
	s.set[name] = faults
	return nil
}

func portOf(proxy *toxiproxy.Proxy) int {
	_, text, _ := net.SplitHostPort(proxy.Listen)
	port, _ := strconv.Atoi(text)
	return port
}

// start has a proxy accept connections, where it does not.
func start(proxy *toxiproxy.Proxy) error {
	const tries, pause = 50, 20 * time.Millisecond
	for try := 1; ; try++ {
		err := proxy.Start()
		if err == nil || errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
			return nil
		}
		if try == tries {
			return fmt.Errorf("listen again: %w", err)
		}
		time.Sleep(pause)
	}
}
