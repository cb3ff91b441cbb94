package agent

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An operation with connections of its own uses no more of them and no others, and no other operation uses those.
func TestAnOperationHasConnectionsOfItsOwn(t *testing.T) {
	var mu sync.Mutex
	over := map[string]map[string]int{"light": {}, "heavy": {}} // operation → the client's end → requests
	busy, most := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		name := "light"
		if strings.Contains(string(body), "heavy") {
			name = "heavy"
		}
		mu.Lock()
		over[name][r.RemoteAddr]++
		if name == "heavy" {
			busy++
			most = max(most, busy)
		}
		mu.Unlock()
		time.Sleep(2 * time.Millisecond)
		if name == "heavy" {
			mu.Lock()
			busy--
			mu.Unlock()
		}
		_, _ = io.WriteString(w, `{"data":{}}`)
	}))
	defer server.Close()
	job := Job{
		URL: server.URL, RPS: 1000, Duration: 400 * time.Millisecond, Arrival: Poisson, Seed: 1, MaxInFlight: 200, Timeout: 10 * time.Second,
		Operations: []Operation{{Name: "light", Weight: 1, Body: `{"query":"{light}"}`}, {Name: "heavy", Weight: 1, Body: `{"query":"{heavy}"}`, Connections: 2}},
	}
	result, err := Attack(t.Context(), job, nil)
	require.NoError(t, err)
	assert.Zero(t, result.FailedBy.Total(), result.FirstFailure)
	mu.Lock()
	defer mu.Unlock()
	assert.LessOrEqual(t, len(over["heavy"]), 2, fmt.Sprint(over["heavy"]))
	assert.LessOrEqual(t, most, 2)
	require.NotEmpty(t, over["heavy"])
	require.NotEmpty(t, over["light"])
	for end := range over["heavy"] {
		assert.NotContains(t, over["light"], end)
	}

	job.Operations[1].Connections = -1
	assert.ErrorContains(t, job.Check(), `operations[1] "heavy": connections -1`)
}
