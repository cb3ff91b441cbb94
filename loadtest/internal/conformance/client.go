package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The media types of GraphQL over HTTP.
const (
	graphqlResponse = "application/graphql-response+json"
	plainJSON       = "application/json"
)

// client sends well-formed requests over kept connections. What is malformed is written byte by byte in hostile.go.
type client struct {
	http *http.Client
}

// patience is how long an answer may take before a check gives up waiting for it.
const patience = 90 * time.Second

func newClient() *client {
	return &client{http: &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			// Loopback only: no proxy of the environment.
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 256,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// post sends a GraphQL request. An error means that no whole answer came.
func (c *client) post(ctx context.Context, url string, body []byte, accept string, headers ...string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", plainJSON)
	request.Header.Set("Accept", accept)
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return c.do(request)
}

// get fetches a page.
func (c *client) get(ctx context.Context, url string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	return c.do(request)
}

func (c *client) do(request *http.Request) (answer, error) {
	response, err := c.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, fmt.Errorf("the answer ends early: %w", err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// code gives extensions.code of the first error, empty where there is none.
func (a answer) code() string {
	var said struct {
		Errors []struct {
			Extensions struct {
				Code string `json:"code"`
			} `json:"extensions"`
		} `json:"errors"`
	}
	if json.Unmarshal(a.body, &said) != nil || len(said.Errors) == 0 {
		return ""
	}
	return said.Errors[0].Extensions.Code
}

// describe says an answer in short.
func (a answer) describe() string {
	text := strconv.Itoa(a.status)
	if code := a.code(); code != "" {
		return text + " " + code
	}
	const longest = 120
	body := a.body
	if len(body) > longest {
		body = append(body[:longest:longest], "…"...)
	}
	return text + " " + strings.ToValidUTF8(string(body), "?")
}

// checkEnvelope tells what is wrong with the headers of an answer in that media type, or nothing.
func (a answer) checkEnvelope(mediaType string) (path, expected, got string) {
	given := a.header.Get("Content-Type")
	base, parameters, err := mime.ParseMediaType(given)
	if err != nil || base != mediaType || !strings.EqualFold(parameters["charset"], "utf-8") {
		return "Content-Type", mediaType + "; charset=utf-8", given
	}
	if length := a.header.Get("Content-Length"); length != strconv.Itoa(len(a.body)) {
		return "Content-Length", strconv.Itoa(len(a.body)), fmt.Sprintf("%q", length)
	}
	if encoding := a.header.Get("Content-Encoding"); encoding != "" {
		return "Content-Encoding", "none", encoding
	}
	return "", "", ""
}
