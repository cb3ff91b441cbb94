// Package ready waits for what was started.
package ready

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"lab/loadtest/internal/engine/host"
)

// Program says how to wait for something that was started.
type Program struct {
	// Name is what errors call it.
	Name string
	// URL answers 200 when it is ready.
	URL      string
	Started  time.Time
	Patience time.Duration
	// Exited is closed when it has ended; ExitError then says how.
	Exited    <-chan struct{}
	ExitError func() error
	// Logs returns the last n lines that it printed.
	Logs func(n int) []string
}

// Wait returns how long it took from the start to the first 200.
func Wait(ctx context.Context, r Program) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	// No connection of ours stays behind in the server.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	const shortest, longest, eager = 5 * time.Millisecond, 50 * time.Millisecond, 2 * time.Second
	last := "no answer"
	for {
		status, err := probe(ctx, client, r.URL)
		now := time.Since(r.Started)
		switch {
		case err == nil && status == http.StatusOK:
			return now, nil
		case err == nil:
			last = "status " + strconv.Itoa(status)
		case ctx.Err() == nil:
			last = err.Error()
		}
		// Often at first, since the time to become ready is a figure; then seldom, since each question costs the server.
		wait := shortest
		if now > eager {
			wait = longest
		}
		select {
		case <-r.Exited:
			return 0, r.ExitError()
		case <-ctx.Done():
			return 0, fmt.Errorf("%s was not ready within %s (%s: %s)%s", r.Name, r.Patience, r.URL, last, host.QuoteLog(r.Logs(20)))
		case <-time.After(wait):
		}
	}
}

func probe(ctx context.Context, client *http.Client, url string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	return response.StatusCode, nil
}
