package server

import (
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// NewLogger writes JSON lines with the fields that all three servers share: time (RFC 3339 in UTC with milliseconds),
// level in lower case, msg, then the rest.
func NewLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.TimeKey:
				return slog.String(slog.TimeKey, a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z07:00"))
			case slog.LevelKey:
				return slog.String(slog.LevelKey, strings.ToLower(a.Value.String()))
			}
			return a
		},
	}))
}

// milliseconds is how durations stand in log fields, whose names end in _ms.
func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// rateLimited keeps a flood of one kind of error from flooding the log: at most one line a second, with the number of
// those left out since.
type rateLimited struct {
	mu      sync.Mutex
	last    time.Time
	leftOut int
}

func (r *rateLimited) log(log *slog.Logger, message string, attributes ...any) {
	r.mu.Lock()
	now := time.Now()
	if now.Sub(r.last) < time.Second {
		r.leftOut++
		r.mu.Unlock()
		return
	}
	attributes = append(attributes, "left_out", r.leftOut)
	r.last, r.leftOut = now, 0
	r.mu.Unlock()
	log.Error(message, attributes...)
}

// LogListening is the first line of the log, whatever the level: whoever started the server waits for it.
func LogListening(w io.Writer, host string, port, pid int, model string, workers int) {
	url := "http://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/graphql"
	NewLogger(w, slog.LevelInfo).Info("listening", "url", url, "port", port, "pid", pid,
		"concurrency_model", model, "workers", workers)
}
