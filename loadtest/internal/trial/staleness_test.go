package trial

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// lateReader is a server whose reads give a write only after so many others.
func lateReader(t *testing.T, reads int) *writer {
	written, shown, left := "", "", 0
	id := 100
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Query     string
			Variables map[string]string
		}
		require.NoError(t, json.NewDecoder(r.Body).Decode(&q))
		if q.Variables["name"] == "" && q.Variables["body"] == "" {
			if left--; left < 0 {
				shown = written
			}
		}
		switch {
		case q.Variables["name"] != "":
			written, left = q.Variables["name"], reads
			fmt.Fprintf(w, `{"data": {"renameArea": {"name": %q}}}`, written)
		case q.Variables["body"] != "":
			id++
			written, left = fmt.Sprint(id), reads
			fmt.Fprintf(w, `{"data": {"addReview": {"review": {"id": %q}}}}`, written)
		case q.Query[2] == 'a':
			fmt.Fprintf(w, `{"data": {"areas": [{"id": "2", "name": "other"}, {"id": "1", "name": %q}]}}`, shown)
		default:
			fmt.Fprintf(w, `{"data": {"item": {"reviews": [{"id": %q}]}}}`, shown)
		}
	}))
	t.Cleanup(server.Close)
	return &writer{client: server.Client(), url: server.URL}
}

// Every answer that does not have what was written is counted, up to the first that has it.
func TestStaleReadsAreCounted(t *testing.T) {
	for _, reads := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(reads), func(t *testing.T) {
			w := lateReader(t, reads)
			renamed, err := w.many(t.Context(), func(n int) (time.Duration, int, error) {
				return w.rename(t.Context(), fmt.Sprintf("name %d", n), w.url)
			})
			require.NoError(t, err)
			added, err := w.many(t.Context(), func(n int) (time.Duration, int, error) { return w.review(t.Context(), n) })
			require.NoError(t, err)
			for _, got := range []record.Staleness{renamed, added} {
				assert.Equal(t, staleWrites, got.Writes)
				assert.Equal(t, reads*staleWrites, got.StaleReads)
				assert.Positive(t, got.ReadableNSP50)
				assert.GreaterOrEqual(t, got.ReadableNSMax, got.ReadableNSP50)
			}
		})
	}
}

// What a server refuses, or answers of another write, is no figure.
func TestAWriteThatIsRefusedIsAnError(t *testing.T) {
	for name, c := range map[string]struct{ answer, says string }{
		"an error":         {`{"data": null, "errors": [{"message": "away"}]}`, "away"},
		"no such area":     {`{"data": {"renameArea": null}}`, "renameArea to"},
		"another name":     {`{"data": {"renameArea": {"name": "other"}}}`, "renameArea to"},
		"something else":   {`busy`, "status 200: busy"},
		"nothing it knows": {`{"data": 7}`, "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, c.answer) }))
			defer server.Close()
			w := &writer{client: server.Client(), url: server.URL}
			_, _, err := w.rename(t.Context(), "name", w.url)
			require.ErrorContains(t, err, c.says)
		})
	}
}
