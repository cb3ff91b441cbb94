package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// health answers /livez and /readyz.
type health struct {
	app *App

	mu      sync.Mutex
	checked time.Time
	status  string // of the check at that time: "ok" or what is missing
}

// checkAge is how long one look at the databases serves.
const checkAge = time.Second

// healthTimeout is how long CheckHealth waits for an answer.
const healthTimeout = 4 * time.Second

func (h *health) livez(w http.ResponseWriter, _ *http.Request) { writeStatus(w, http.StatusOK, "ok") }

func (h *health) readyz(w http.ResponseWriter, _ *http.Request) {
	if status := h.ready(); status != "ok" {
		writeStatus(w, http.StatusServiceUnavailable, status)
		return
	}
	writeStatus(w, http.StatusOK, "ok")
}

func (h *health) ready() string {
	switch {
	case h.app.draining.Load():
		return "shutting down"
	case !h.app.ready.Load():
		return "master data not loaded"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.checked) < checkAge {
		return h.status
	}
	h.status = "ok"
	for _, d := range h.app.store.databases() {
		if err := d.reach(); err != nil {
			h.status = d.name + " database not reachable"
			break
		}
	}
	h.checked = time.Now()
	return h.status
}

// CheckHealth asks the server that runs with these settings whether it is ready: what a container's health check calls.
func CheckHealth(getenv func(string) string) error {
	host, port, err := loadAddress(getenv)
	if err != nil {
		return err
	}
	// A server that listens everywhere is asked where nobody is in between.
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.To4() == nil {
			host = "::1"
		}
	}
	// No proxy of the environment stands between a server and itself.
	client := http.Client{Timeout: healthTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + net.JoinHostPort(host, port) + "/readyz")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
		return fmt.Errorf("%s answered %d %s", answer.Request.URL, answer.StatusCode, strings.TrimSpace(string(body)))
	}
	return nil
}

// reach asks the database for nothing but an answer.
func (d *database) reach() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := d.pool.Exec(ctx, "select 1")
	return err
}

func writeStatus(w http.ResponseWriter, status int, text string) {
	w.Header()["Content-Type"] = contentTypeJSON
	w.WriteHeader(status)
	b := append([]byte(`{"status":`), appendJSONString(nil, text)...)
	_, _ = w.Write(append(b, "}\n"...))
}
