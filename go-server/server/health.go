package server

import (
	"context"
	"net/http"
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
