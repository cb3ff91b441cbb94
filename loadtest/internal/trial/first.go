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
	// No connection of ours stays behind in the server.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, text, err := ask(ctx, client, c.GraphQLURL(), body)
	after := time.Since(c.Started())
	if err == nil {
		err = right(response, text, expected)
	}
	if err != nil {
		return fail(err)
	}
	return after, nil
}

// ask posts a request, with more headers by name and value, and reads its answer.
func ask(ctx context.Context, client *http.Client, url, body string, headers ...string) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/graphql-response+json")
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response, text, err
}

// right says what is wrong with an answer.
func right(response *http.Response, text []byte, expected string) error {
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %.300s", response.StatusCode, text)
	}
	if difference := reference.Compare([]byte(expected), text); difference != nil {
		return fmt.Errorf("%v", difference)
	}
	return nil
}
