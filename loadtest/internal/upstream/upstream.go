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

	"lab/loadtest/internal/listen"
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

// Main is the hidden command: it serves until SIGINT or SIGTERM and returns the exit status. The first line on stdout is
// JSON and says where it listens. With --health it asks one that runs, and returns 0 or 1.
func Main(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("upstream", flag.ContinueOnError)
	flags.SetOutput(stderr)
	items := flags.Int("items", 0, "`number` of items that have a price: 1 to this")
	latency := flags.Duration("latency", 0, "`time` to wait before each answer")
	host := flags.String("host", "127.0.0.1", "`address` to listen on; a container has to listen on 0.0.0.0")
	port := flags.Int("port", 0, "`port` to listen on; 0 takes any free one")
	health := flags.Bool("health", false, "ask the one at --port whether it is ready: exit status 0 or 1")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if net.ParseIP(*host) == nil {
		fmt.Fprintf(stderr, "upstream: --host %q: expected an IP address\n", *host)
		return 2
	}
	if *health {
		if flags.NArg() > 0 || *port < 1 || *port > 65535 {
			fmt.Fprintln(stderr, "upstream: --health expects --port from 1 to 65535, and nothing else")
			return 2
		}
		if err := checkHealth(*host, *port); err != nil {
			fmt.Fprintln(stderr, "upstream: not healthy:", err)
			return 1
		}
		return 0
	}
	if flags.NArg() > 0 || *items < 1 || *latency < 0 || *port < 0 || *port > 65535 {
		fmt.Fprintln(stderr, "upstream: expected --items of at least 1, --latency and --port not negative, and nothing else")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *items, *latency, *host, *port, stdout); err != nil {
		fmt.Fprintln(stderr, "upstream:", err)
		return 2
	}
	return 0
}

// checkHealth asks a running stub whether it is ready.
func checkHealth(host string, port int) error {
	if ip := net.ParseIP(host); ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	// No proxy of the environment stands between a service and itself.
	client := http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/readyz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", response.Request.URL, response.Status)
	}
	return nil
}

func serve(ctx context.Context, items int, latency time.Duration, host string, port int, stdout io.Writer) error {
	listener, err := listen.TCP(net.JoinHostPort(host, strconv.Itoa(port)), stdout)
	if err != nil {
		return err
	}
	defer listener.Close()
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
