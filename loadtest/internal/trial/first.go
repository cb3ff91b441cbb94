package trial

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/reference"
)

// FirstAnswer asks a contender that has just become ready and returns how long it took from its start to its first right
// answer: in the native engine from the start of the process, in an engine of containers from when the engine was asked
// to start one that had been made. An answer that is not right is an error: a contender that is ready and answers wrongly
// is none to be measured.
func FirstAnswer(ctx context.Context, c engine.Contender, body, expected string) (time.Duration, error) {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	fail := func(err error) (time.Duration, error) {
		return 0, fmt.Errorf("the first answer of %s: %w", c.Arm().Name, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.GraphQLURL(), bytes.NewReader([]byte(body)))
	if err != nil {
		return fail(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/graphql-response+json")
	// No connection of ours stays behind in the server.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fail(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	after := time.Since(c.Started())
	if err != nil {
		return fail(err)
	}
	if response.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("status %d: %.300s", response.StatusCode, text))
	}
	if difference := reference.Compare([]byte(expected), text); difference != nil {
		return fail(fmt.Errorf("%v", difference))
	}
	return after, nil
}
