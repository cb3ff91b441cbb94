// Package upstream is the stub of the external service behind Query.quote: a price by arithmetic that SQL can foretell,
// after a set latency. It runs as a process of its own (the hidden command "upstream").
package upstream

import (
	"context"
	"encoding/json"
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
)

// MostGuests is the largest party that gets a quote.
const MostGuests = 100

// Quote is the answer to GET /quote?itemId=ID&guests=N.
type Quote struct {
	TotalCents int    `json:"totalCents"`
	Currency   string `json:"currency"`
}

// Price returns what the stub asks for an item and a party: in SQL, (id * 37 % 9000 + 1000) * guests.
func Price(itemID, guests int) Quote {
	return Quote{TotalCents: (itemID*37%9000 + 1000) * guests, Currency: "EUR"}
}

// Handler serves /quote for the items 1 to items, each answer after latency, and /livez and /readyz at once.
func Handler(items int, latency time.Duration) http.Handler {
	mux := http.NewServeMux()
	alive := func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	}
	mux.HandleFunc("GET /livez", alive)
	mux.HandleFunc("GET /readyz", alive)
	mux.HandleFunc("GET /quote", func(w http.ResponseWriter, r *http.Request) {
		if latency > 0 {
			timer := time.NewTimer(latency)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
				return
			}
		}
		query := r.URL.Query()
		itemID, err := strconv.Atoi(query.Get("itemId"))
		if err != nil || itemID < 1 || itemID > items {
			answer(w, http.StatusNotFound, map[string]string{"error": "no such item"})
			return
		}
		guests, err := strconv.Atoi(query.Get("guests"))
		if err != nil || guests < 1 || guests > MostGuests {
			answer(w, http.StatusBadRequest, map[string]string{"error": fmt.Sprintf("guests must be from 1 to %d", MostGuests)})
			return
		}
		answer(w, http.StatusOK, Price(itemID, guests))
	})
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	// An error here means that the client has gone.
	_, _ = w.Write(text)
}

// Main is the hidden command: it serves on loopback until SIGINT or SIGTERM and returns the exit status. The first line on
// stdout is JSON and says where it listens.
func Main(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("upstream", flag.ContinueOnError)
	flags.SetOutput(stderr)
	items := flags.Int("items", 0, "`number` of items that have a price: 1 to this")
	latency := flags.Duration("latency", 0, "`time` to wait before each answer")
	port := flags.Int("port", 0, "`port` on 127.0.0.1; 0 takes any free one")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 || *items < 1 || *latency < 0 || *port < 0 || *port > 65535 {
		fmt.Fprintln(stderr, "upstream: expected --items of at least 1, --latency and --port not negative, and nothing else")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *items, *latency, *port, stdout); err != nil {
		fmt.Fprintln(stderr, "upstream:", err)
		return 2
	}
	return 0
}

func serve(ctx context.Context, items int, latency time.Duration, port int, stdout io.Writer) error {
	listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer listener.Close()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("listen: got %v", listener.Addr())
	}
	line := struct {
		Time  string `json:"time"`
		Level string `json:"level"`
		Msg   string `json:"msg"`
		URL   string `json:"url"`
		Port  int    `json:"port"`
		Pid   int    `json:"pid"`
	}{time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), "info", "listening", "http://" + address.String(), address.Port, os.Getpid()}
	if err := json.NewEncoder(stdout).Encode(line); err != nil {
		return fmt.Errorf("say where it listens: %w", err)
	}
	server := &http.Server{Handler: Handler(items, latency), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), latency+time.Second)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}
