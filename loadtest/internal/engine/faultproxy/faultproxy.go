// Package faultproxy is the proxy of package engine's faults: Toxiproxy (github.com/Shopify/toxiproxy/v2) as a library in a
// process of its own, the hidden command "fault-proxy", and what drives it. It is the only importer of Toxiproxy.
//
// Of Toxiproxy are the links, the chains of toxics, the toxics bandwidth, timeout and reset_peer, and the HTTP API, which
// is served as it is. The lab's own are a delay that is exact, a stall that loses nothing, resets of connections that are
// already open, and ports that nobody else is given while a link is down.
package faultproxy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"lab/loadtest/internal/listen"

	"github.com/rs/zerolog/log"
)

// Main is the hidden command fault-proxy: it serves until SIGINT or SIGTERM and returns the exit status. The first line on
// stdout is JSON and says at which port its API listens.
func Main(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fault-proxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	host := flags.String("host", "127.0.0.1", "`address` to listen on, for the API and for links; a container has to listen on 0.0.0.0")
	port := flags.Int("port", 0, "`port` of the API; 0 takes any free one")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if net.ParseIP(*host) == nil || flags.NArg() > 0 || *port < 0 || *port > 65535 {
		fmt.Fprintf(stderr, "fault-proxy: --host %q, --port %d: expected an IP address, a port, and nothing else\n", *host, *port)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *host, *port, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "fault-proxy:", err)
		return 2
	}
	return 0
}

func serve(ctx context.Context, host string, port int, stdout, stderr io.Writer) error {
	if _, err := theClock(); err != nil {
		return err
	}
	s := newServer(host, stderr)
	// Some of Toxiproxy's toxics log here.
	log.Logger = *s.api.Logger
	defer s.close()
	listener, err := listen.TCP(net.JoinHostPort(host, strconv.Itoa(port)), stdout)
	if err != nil {
		return err
	}
	defer listener.Close()
	api := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- api.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	return api.Close()
}
