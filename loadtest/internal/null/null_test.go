package null

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error)
	const answer = `{"data":{"items":[{"name":"ä"}]}}`
	go func() { ended <- Serve(ctx, "127.0.0.1:0", answer, write) }()
	line, err := bufio.NewReader(read).ReadString('\n')
	require.NoError(t, err)
	var said struct {
		Msg string `json:"msg"`
		URL string `json:"url"`
	}
	require.NoError(t, json.Unmarshal([]byte(line), &said))
	assert.Equal(t, "listening", said.Msg)
	for _, request := range []struct{ method, path, body string }{
		{"GET", "/readyz", ""}, {"POST", "/graphql", `{"query":"{ items }"}`}, {"POST", "/graphql", strings.Repeat("x", 100_000)}, {"POST", "/graphql", "{}"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), request.method, said.URL+request.path, strings.NewReader(request.body))
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		got, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, 200, response.StatusCode)
		assert.Equal(t, answer, string(got))
	}
	cancel()
	require.NoError(t, <-ended)
}

func TestServeSaysWhyItCannot(t *testing.T) {
	require.ErrorContains(t, Serve(t.Context(), "127.0.0.1:99999999", "{}", io.Discard), "null server")
}
