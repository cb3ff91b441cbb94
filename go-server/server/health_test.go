package server

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckHealth(t *testing.T) {
	status := http.StatusOK
	asked := ""
	running := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		writeStatus(w, status, "the reason")
	}))
	defer running.Close()
	at, err := url.Parse(running.URL)
	require.NoError(t, err)
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	_, closedPort, err := net.SplitHostPort(closed.Addr().String())
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	for _, row := range []struct {
		name, host, port string
		status           int
		problem          string // "" where it is healthy
	}{
		{name: "a ready server", host: "127.0.0.1", port: at.Port(), status: 200},
		{name: "a server that listens everywhere", host: "0.0.0.0", port: at.Port(), status: 200},
		{name: "a server that is not ready", host: "127.0.0.1", port: at.Port(), status: 503, problem: "the reason"},
		{name: "no server", host: "127.0.0.1", port: closedPort, problem: "refused"},
		{name: "a port that is none", port: "http", problem: `PORT="http"`},
		{name: "a port that nobody knows", port: "0", problem: `PORT="0"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, asked = row.status, ""
			t.Setenv("http_proxy", "http://127.0.0.1:"+closedPort)
			environment := map[string]string{"HOST": row.host, "PORT": row.port}
			err := CheckHealth(func(name string) string { return environment[name] })
			if row.problem == "" {
				require.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, row.problem)
			}
			if row.status != 0 {
				assert.Equal(t, "/readyz", asked)
			}
		})
	}
}
