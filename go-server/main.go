// Command go-server is the lab's GraphQL server in Go. It takes its settings from the environment; see --help.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"lab/go-server/server"
)

//go:generate go tool gqlgen generate

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// Exit statuses.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 1 && args[0] == "--version":
		if err := json.NewEncoder(stdout).Encode(version()); err != nil {
			return exitFailed
		}
		return exitFine
	case len(args) == 1 && args[0] == "--health":
		if err := server.CheckHealth(getenv); err != nil {
			_, _ = fmt.Fprintf(stderr, "go-server: not healthy: %s\n", err)
			return exitFailed
		}
		return exitFine
	case len(args) == 1 && args[0] == "--help":
		_, _ = fmt.Fprintf(stdout, "go-server [--version | --health | --help | bench …]\n\n--health asks the server at HOST and PORT whether it is ready: exit status 0 or 1.\n\nbench hand-over --bytes N --duration TIME and bench loader --keys N --batch N measure this program itself and print a line of JSON.\n\nSettings come from the environment (defaults in parentheses):\n\n%s", server.SettingsHelp)
		return exitFine
	case len(args) > 0 && args[0] == "bench":
		if err := server.Bench(args[1:], stdout); err != nil {
			_, _ = fmt.Fprintf(stderr, "go-server: %s\n", err)
			return exitUsage
		}
		return exitFine
	case len(args) > 0:
		_, _ = fmt.Fprintf(stderr, "go-server: unknown argument %q; it takes --version, --health, --help, bench or nothing\n", args[0])
		return exitUsage
	}
	config, err := server.LoadSettings(getenv)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "go-server: %s\n", err)
		return exitUsage
	}
	if err := serve(config, stdout); err != nil {
		_, _ = fmt.Fprintf(stderr, "go-server: %s\n", err)
		return exitFailed
	}
	return exitFine
}

// serve listens until SIGTERM or SIGINT, then finishes what is under way.
func serve(config server.Settings, stdout io.Writer) error {
	workers := server.StartWorkers(config)
	signals, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	log := server.NewLogger(stdout, config.LogLevel)
	app, err := server.NewApp(config, log)
	if err != nil {
		return err
	}
	defer app.Close()
	listener, err := net.Listen("tcp", net.JoinHostPort(config.Host, config.Port))
	if err != nil {
		return err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	server.LogListening(stdout, config.Host, port, os.Getpid(), config.Model, workers)
	app.Start()

	httpServer := server.NewHTTPServer(app)
	failed := make(chan error, 1)
	go func() { failed <- httpServer.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-signals.Done():
	}
	stop() // a second signal ends the process at once
	log.Info("shutting down")
	app.Drain()
	grace, cancel := context.WithTimeout(context.Background(), app.RequestTimeout()+time.Second)
	defer cancel()
	if err := httpServer.Shutdown(grace); err != nil {
		// What is left was sent by half, or is over its time.
		_ = httpServer.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// versionInfo is what --version prints, from the running program.
type versionInfo struct {
	Name            string            `json:"name"`
	Language        string            `json:"language"`
	LanguageVersion string            `json:"language_version"`
	Libraries       map[string]string `json:"libraries"`
}

// libraries are the modules worth naming.
var libraries = map[string]string{
	"github.com/99designs/gqlgen":         "gqlgen",
	"github.com/vektah/gqlparser/v2":      "gqlparser",
	"github.com/jackc/pgx/v5":             "pgx",
	"github.com/prometheus/client_golang": "client_golang",
	"github.com/redis/go-redis/v9":        "go-redis",
}

func version() versionInfo {
	v := versionInfo{Name: "go", Language: "go", LanguageVersion: strings.TrimPrefix(runtime.Version(), "go"), Libraries: map[string]string{}}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if name, ok := libraries[module.Path]; ok {
				v.Libraries[name] = strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return v
}
