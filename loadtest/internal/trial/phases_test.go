package trial

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// What a server tells of a request's phases is taken apart: the waits, and what is left as its own.
func TestPhases(t *testing.T) {
	const expected = `{"data":{"a":1}}`
	for _, c := range []struct{ name, header, body, says string }{
		{name: "own time is what is left", header: "parse;dur=0.5, validate;dur=0.5, execute;dur=1, db;dur=50, upstream;dur=40, serialize;dur=1, total;dur=93", body: expected},
		{name: "no header", body: expected, says: "without Server-Timing"},
		{name: "no total", header: "parse;dur=1", body: expected, says: "no total"},
		{name: "another answer", header: "total;dur=1", body: `{"data":{"a":2}}`, says: "data.a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				assert.Equal(t, "1", r.Header.Get("X-Server-Timing"))
				if c.header != "" {
					w.Header().Set("Server-Timing", c.header)
				}
				_, _ = io.WriteString(w, c.body)
			}))
			t.Cleanup(server.Close)
			got, err := Phases(t.Context(), Subject{Contender: answering{url: server.URL}}, Spec{Body: "{}", Expected: expected})
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, phaseRequests, asked)
			assert.Equal(t, &record.Phases{Requests: phaseRequests, MedianNS: map[string]int64{
				"parse": 5e5, "validate": 5e5, "execute": 1e6, "db": 50e6, "upstream": 40e6, "serialize": 1e6, "total": 93e6, "own": 3e6,
			}}, got)
		})
	}
}
