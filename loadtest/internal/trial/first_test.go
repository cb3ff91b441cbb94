package trial

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
)

// answering is a contender of which only the answer matters.
type answering struct {
	engine.Contender
	url     string
	started time.Time
}

func (a answering) Arm() contender.Arm { return contender.Arm{Name: "played"} }
func (a answering) GraphQLURL() string { return a.url }
func (a answering) Started() time.Time { return a.started }

func TestFirstAnswer(t *testing.T) {
	const expected = `{"data":{"a":1,"b":2}}`
	for _, c := range []struct {
		name, body, says string
		status           int
	}{
		{name: "the right one counts from the start", body: expected, status: http.StatusOK},
		{name: "the same as JSON is right", body: `{ "data": {"a": 1.0, "b": 2} }`, status: http.StatusOK},
		{name: "fields in another order are not", body: `{"data":{"b":2,"a":1}}`, status: http.StatusOK, says: "played"},
		{name: "another status is not", body: "later", status: http.StatusServiceUnavailable, says: "503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			t.Cleanup(server.Close)
			after, err := FirstAnswer(t.Context(), answering{url: server.URL, started: time.Now().Add(-time.Hour)}, "{}", expected)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			assert.GreaterOrEqual(t, after, time.Hour)
		})
	}
}
