package faultproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

// Options say how an engine's fault proxy is reached.
type Options struct {
	// Service is the running program of the hidden command fault-proxy.
	Service engine.Service
	// Dial is the host by which contenders reach its links.
	Dial string
	// Inside gives a URL as the proxy and its probes reach it; nil: as it is.
	Inside func(url string) (string, error)
	// Probe runs the hidden command fault-probe on the generator's CPUs, where contenders' addresses can be reached: a job on
	// its standard input, its standard output.
	Probe func(ctx context.Context, stdin []byte) ([]byte, error)
}

// Proxy is an engine.FaultProxy.
type Proxy struct {
	engine.Service
	options Options
	client  *http.Client
}

var _ engine.FaultProxy = (*Proxy)(nil)

// New makes one of a service that answers.
func New(options Options) *Proxy {
	if options.Inside == nil {
		options.Inside = func(url string) (string, error) { return url, nil }
	}
	// Nothing stands between, and no connection stays in the proxy's account.
	transport := &http.Transport{DisableKeepAlives: true}
	return &Proxy{Service: options.Service, options: options, client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// Link lays a way to what answers at a URL.
func (p *Proxy) Link(ctx context.Context, name, target string) (engine.FaultLink, error) {
	inside, err := p.options.Inside(target)
	if err != nil {
		return nil, fmt.Errorf("fault proxy: link %s: %w", name, err)
	}
	from, err := url.Parse(inside)
	if err != nil {
		return nil, fmt.Errorf("fault proxy: link %s: %w", name, withoutURL(err))
	}
	var made linkResponse
	if err := p.do(ctx, http.MethodPost, "/links", linkRequest{Name: name, Target: from.Host}, &made); err != nil {
		return nil, err
	}
	through := *from
	through.Host = net.JoinHostPort(p.options.Dial, strconv.Itoa(made.Port))
	return &link{p: p, name: name, target: target, inside: inside, url: through.String()}, nil
}

// withoutURL keeps a password out of a message.
func withoutURL(err error) error {
	if of := (*url.Error)(nil); errors.As(err, &of) {
		return of.Err
	}
	return err
}

// do asks the proxy.
func (p *Proxy) do(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("fault proxy: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, p.URL()+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("fault proxy: %w", err)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("fault proxy: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("fault proxy: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("fault proxy: %s", strings.TrimSpace(string(answer)))
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("fault proxy: its answer: %w", err)
	}
	return nil
}

// link is an engine.FaultLink.
type link struct {
	p                         *Proxy
	name, target, inside, url string

	mu     sync.Mutex
	faults []engine.Fault
}

func (l *link) Name() string   { return l.name }
func (l *link) Target() string { return l.target }
func (l *link) URL() string    { return l.url }

// Set replaces the link's faults.
func (l *link) Set(ctx context.Context, faults ...engine.Fault) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := engine.CheckFaults(faults); err != nil {
		return fmt.Errorf("link %s: %w", l.name, err)
	}
	if faults == nil {
		faults = []engine.Fault{}
	}
	var inForce []engine.Fault
	if err := l.p.do(ctx, http.MethodPut, "/links/"+url.PathEscape(l.name)+"/faults", faults, &inForce); err != nil {
		return err
	}
	l.faults = inForce
	return nil
}

// Faults are those in force.
func (l *link) Faults() []engine.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.faults)
}

// Overhead measures what the proxy adds.
func (p *Proxy) Overhead(ctx context.Context, way engine.FaultLink, roundTrips int) (record.FaultOverhead, error) {
	l, ours := way.(*link)
	if !ours || l.p != p {
		return record.FaultOverhead{}, fmt.Errorf("fault proxy: %T is no link of it", way)
	}
	out := record.FaultOverhead{Link: l.name, RoundTrips: roundTrips}
	for _, f := range l.Faults() {
		if f.Kind != engine.FaultLatency {
			return out, fmt.Errorf("fault proxy: overhead of %s: %s is set; expected a latency or nothing", l.name, f)
		}
		out.DelayNS = int64(f.Delay)
	}
	job, err := json.Marshal(probeJob{Direct: l.inside, Proxied: l.url, RoundTrips: roundTrips})
	if err != nil {
		return out, fmt.Errorf("fault proxy: %w", err)
	}
	before, err := p.Usage(ctx)
	if err != nil {
		return out, fmt.Errorf("fault proxy: %w", err)
	}
	text, err := p.options.Probe(ctx, job)
	if err != nil {
		return out, fmt.Errorf("fault proxy: overhead of %s: %w", l.name, err)
	}
	after, err := p.Usage(ctx)
	if err != nil {
		return out, fmt.Errorf("fault proxy: %w", err)
	}
	var took probeResult
	if err := json.Unmarshal(text, &took); err != nil {
		return out, fmt.Errorf("fault proxy: overhead of %s: what the probe printed: %w", l.name, err)
	}
	if len(took.DirectNS) != roundTrips || len(took.ProxiedNS) != roundTrips {
		return out, fmt.Errorf("fault proxy: overhead of %s: %d and %d round trips, expected %d", l.name, len(took.DirectNS), len(took.ProxiedNS), roundTrips)
	}
	took.fill(&out)
	out.CPUUsPerRoundTrip = float64((after.CPU - before.CPU).Nanoseconds()) / 1e3 / float64(roundTrips)
	return out, nil
}
