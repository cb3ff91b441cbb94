package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"

	"lab/loadtest/internal/engine"
)

// answerWithin is how long an engine may take to answer at first.
const answerWithin = 5 * time.Second

// prepare sets what testcontainers reads once, at its first use.
var prepare = sync.OnceFunc(func() {
	set := func(name, value string) {
		if _, given := os.LookupEnv(name); !given {
			os.Setenv(name, value)
		}
	}
	// The sweep does the reaper's work without a further container, which would need an image that not everybody can have,
	// the engine's socket, and CPU time of the machine that is measured.
	set("TESTCONTAINERS_RYUK_DISABLED", "true")
	// Some machines that are no container carry this file; testcontainers would then look for ports at the gateway.
	if _, err := os.Stat("/.dockerenv"); err == nil {
		set("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	}
	tclog.SetDefault(tclog.NewNoopLogger())
})

// Server is what an engine says of itself.
type Server struct {
	// Address is where it answers, such as unix:///var/run/docker.sock.
	Address string
	// Version and API are the engine's own version and the one of the interface that both sides speak.
	Version, API string
}

func (s Server) String() string { return fmt.Sprintf("%s (API %s) at %s", s.Version, s.API, s.Address) }

// connection is a container engine that answers.
type connection struct {
	provider *testcontainers.DockerProvider
	api      client.APIClient
	server   Server
}

// connect finds the engine as testcontainers does: its properties file, DOCKER_HOST, the client's context, the usual
// sockets. The error says where nobody answered.
func connect(ctx context.Context) (*connection, error) {
	prepare()
	type found struct {
		c   *connection
		err error
	}
	answer := make(chan found, 1)
	// The library takes no context where it looks for the engine.
	go func() {
		c, err := discover(ctx)
		answer <- found{c, err}
	}()
	select {
	case f := <-answer:
		return f.c, f.err
	case <-time.After(answerWithin):
		return nil, fmt.Errorf("the container engine does not answer within %s", answerWithin)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func discover(ctx context.Context) (*connection, error) {
	generic, err := testcontainers.ProviderDefault.GetProvider(testcontainers.WithLogger(tclog.NewNoopLogger()))
	if err != nil {
		return nil, fmt.Errorf("no container engine answers: %w", err)
	}
	provider, ok := generic.(*testcontainers.DockerProvider)
	if !ok {
		return nil, fmt.Errorf("no container engine of Docker's API: got %T", generic)
	}
	api := provider.Client()
	// The library goes on looking where the engine that was asked for does not answer; another one is not what was meant.
	if asked := os.Getenv("DOCKER_HOST"); asked != "" && asked != api.DaemonHost() {
		return nil, fmt.Errorf("no container engine answers at DOCKER_HOST, %s (one does at %s)", asked, api.DaemonHost())
	}
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil, fmt.Errorf("no container engine answers at %s: %w", api.DaemonHost(), err)
	}
	version, err := api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return nil, fmt.Errorf("no container engine answers at %s: %w", api.DaemonHost(), err)
	}
	c := &connection{provider: provider, api: api, server: Server{Address: api.DaemonHost(), Version: version.Version, API: api.ClientVersion()}}
	return c, checkAddress(c.server.Address)
}

// checkAddress refuses engines of other machines: what the lab publishes can be reached on loopback only.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("the container engine's address %q: %w", address, err)
	}
	switch u.Scheme {
	case "unix", "npipe":
		return nil
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("the container engine at %s is another machine's; the lab publishes on loopback only and needs one of this machine", address)
}

// Answers says which container engine answers, or why none does.
func Answers(ctx context.Context) (Server, error) {
	c, err := connect(ctx)
	if err != nil {
		return Server{}, err
	}
	defer c.api.Close()
	return c.server, nil
}

// whole is the context for making something in the engine: an interrupt in the middle would leave the engine to finish
// what nobody here learns of, perhaps after the last sweep. What was made is removed as usual.
func whole(ctx context.Context) (context.Context, context.CancelFunc) {
	const patience = time.Minute
	if ctx.Err() != nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

// explain adds to an error of the engine what a person can do about it.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case client.IsErrConnectionFailed(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// An answer that breaks off is one of an engine that has ended in the middle of it.
		return fmt.Errorf("%w: %w", engine.ErrGone, err)
	case strings.Contains(err.Error(), "no space left on device"):
		return fmt.Errorf("the container engine's disk is full (docker system df shows what takes it): %w", err)
	}
	return err
}
