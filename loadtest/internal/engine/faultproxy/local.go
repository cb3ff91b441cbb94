package faultproxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

// localHost is where links within a process listen, and echoes.
const localHost = "127.0.0.1"

// Local lays a link within this process to HOST:PORT, on which whatever comes back is late by the delay, and gives its
// HOST:PORT. It is for the way between a load generator and a contender, whose loopback no other process or container of the
// run may share. close ends it.
func Local(ctx context.Context, target string, delay time.Duration) (address string, close func(), err error) {
	s := newServer(localHost, io.Discard)
	port, err := s.link(record.LinkClient, target)
	if err == nil {
		err = s.setFaults(ctx, record.LinkClient, []engine.Fault{{Kind: engine.FaultLatency, Delay: delay}})
	}
	if err != nil {
		s.close()
		return "", nil, err
	}
	return net.JoinHostPort(localHost, strconv.Itoa(port)), s.close, nil
}

// LocalOverhead measures what such a link adds to a round trip, to an echo within this process.
func LocalOverhead(ctx context.Context, delay time.Duration, roundTrips int) (record.FaultOverhead, error) {
	out := record.FaultOverhead{Link: record.LinkClient, RoundTrips: roundTrips, DelayNS: int64(delay)}
	echo, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(localHost, "0"))
	if err != nil {
		return out, fmt.Errorf("echo: %w", err)
	}
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	address, stop, err := Local(ctx, echo.Addr().String(), delay)
	if err != nil {
		return out, err
	}
	defer stop()
	// What the echo and the probe cost themselves is seen on two direct ways.
	direct := "tcp://" + echo.Addr().String()
	var used [2]time.Duration
	var result probeResult
	for i, through := range []string{direct, "tcp://" + address} {
		before := ownCPU()
		if result, err = probe(ctx, probeJob{Direct: direct, Proxied: through, RoundTrips: roundTrips}); err != nil {
			return out, err
		}
		used[i] = ownCPU() - before
	}
	result.fill(&out)
	out.CPUUsPerRoundTrip = max(0, float64((used[1]-used[0]).Microseconds())/float64(warmUp+roundTrips))
	return out, nil
}

// ownCPU is user and system time of this process; 0 where the kernel does not tell.
func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
