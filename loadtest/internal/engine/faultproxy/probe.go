package faultproxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/engine/redis"
	"lab/loadtest/internal/record"
)

// probeJob is what the hidden command fault-probe reads on standard input. URLs hold passwords, which are in no arguments.
type probeJob struct {
	Direct     string `json:"direct"`
	Proxied    string `json:"proxied"`
	RoundTrips int    `json:"round_trips"`
}

// probeResult is what each round trip took; those of one index were made one after the other.
type probeResult struct {
	DirectNS  []int64 `json:"direct_ns"`
	ProxiedNS []int64 `json:"proxied_ns"`
}

// ProbeMain is the hidden command fault-probe: it makes round trips on two ways in turns.
func ProbeMain(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) int {
	var job probeJob
	decoder := json.NewDecoder(stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&job); err != nil {
		fmt.Fprintln(stderr, "fault-probe: the job:", err)
		return 2
	}
	result, err := probe(ctx, job)
	if err == nil {
		err = json.NewEncoder(stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(stderr, "fault-probe:", err)
		return 2
	}
	return 0
}

// way is one connection; again makes a round trip on it.
type way struct {
	again func() error
	close func()
}

// warmUp is how many round trips are made on each way before any is timed.
const warmUp = 20

func probe(ctx context.Context, job probeJob) (probeResult, error) {
	if job.RoundTrips < 1 {
		return probeResult{}, fmt.Errorf("round_trips %d: expected at least 1", job.RoundTrips)
	}
	var ways [2]way
	for i, address := range []string{job.Direct, job.Proxied} {
		w, err := open(ctx, address)
		if err != nil {
			return probeResult{}, err
		}
		defer w.close()
		ways[i] = w
	}
	var took [2][]int64
	for n := range warmUp + job.RoundTrips {
		// Who comes second finds the caches warm; so each comes second half of the time.
		for k := range ways {
			i := (k + n) % len(ways)
			if err := ctx.Err(); err != nil {
				return probeResult{}, err
			}
			began := time.Now()
			if err := ways[i].again(); err != nil {
				return probeResult{}, fmt.Errorf("a round trip (%s): %w", []string{"direct", "through the proxy"}[i], err)
			}
			if n >= warmUp {
				took[i] = append(took[i], int64(time.Since(began)))
			}
		}
	}
	return probeResult{DirectNS: took[0], ProxiedNS: took[1]}, nil
}

// open connects to a URL: postgres (a prepared statement), redis (PING), http (GET /readyz), or tcp (a byte, for an echo).
func open(ctx context.Context, address string) (way, error) {
	u, err := url.Parse(address)
	if err != nil {
		return way{}, fmt.Errorf("URL: %w", withoutURL(err))
	}
	if u.Scheme == "postgres" || u.Scheme == "postgresql" {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			return way{}, fmt.Errorf("connect to %s: %w", u.Host, err)
		}
		var one int
		return way{
			again: func() error { return conn.QueryRow(ctx, "select 1").Scan(&one) },
			close: func() { conn.Close(context.WithoutCancel(ctx)) },
		}, nil
	}
	if u.Scheme == "redis" {
		conn, err := redis.Dial(ctx, address)
		if err != nil {
			return way{}, fmt.Errorf("connect to %s: %w", u.Host, err)
		}
		return way{
			again: func() error { _, err := conn.Do(ctx, "PING"); return err },
			close: conn.Close,
		}, nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return way{}, err
	}
	reader := bufio.NewReader(conn)
	w := way{close: func() { conn.Close() }}
	switch u.Scheme {
	case "http":
		// By hand: a client's goroutines would be timed too.
		request := "GET /readyz HTTP/1.1\r\nHost: " + u.Host + "\r\n\r\n"
		w.again = func() error {
			if _, err := io.WriteString(conn, request); err != nil {
				return err
			}
			return readAnswer(reader)
		}
	case "tcp":
		w.again = func() error {
			if _, err := conn.Write([]byte{'x'}); err != nil {
				return err
			}
			_, err := reader.ReadByte()
			return err
		}
	default:
		conn.Close()
		return way{}, fmt.Errorf("URL: scheme %q: expected postgres, redis, http or tcp", u.Scheme)
	}
	return w, nil
}

// readAnswer reads one answer of HTTP with a Content-Length.
func readAnswer(reader *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := reader.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		if first && !strings.HasPrefix(line, "HTTP/1.1 200") {
			return fmt.Errorf("expected status 200, got %q", line)
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
			if _, err := fmt.Sscan(value, &length); err != nil {
				return fmt.Errorf("Content-Length %q: %w", value, err)
			}
		}
		if line == "" {
			_, err := reader.Discard(length)
			return err
		}
	}
}

// fill computes the figures.
func (r probeResult) fill(out *record.FaultOverhead) {
	added := make([]int64, len(r.DirectNS))
	for i := range added {
		added[i] = r.ProxiedNS[i] - r.DirectNS[i]
	}
	out.DirectP50NS, out.DirectP99NS = quantile(r.DirectNS, 0.5), quantile(r.DirectNS, 0.99)
	out.ProxiedP50NS, out.ProxiedP99NS = quantile(r.ProxiedNS, 0.5), quantile(r.ProxiedNS, 0.99)
	out.AddedP50NS, out.AddedP99NS = quantile(added, 0.5), quantile(added, 0.99)
}

// quantile is the nearest rank: the smallest value that at least that share of all does not exceed.
func quantile(values []int64, share float64) int64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}
