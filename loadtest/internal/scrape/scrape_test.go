package scrape

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const page = `# HELP lab_pool_wait_seconds Time waited.
# TYPE lab_pool_wait_seconds summary
lab_pool_wait_seconds_sum{address="primary"} 1.5
lab_pool_wait_seconds_sum{address="replica"} 2.25 1700000000
lab_pool_wait_seconds_count{address="primary"} 7
lab_pool_connections{address="replica", state="in_use"} 16
lab_documents_cached 3
`

func TestParse(t *testing.T) {
	m, err := Parse(page)
	require.NoError(t, err)
	assert.InDelta(t, 3.75, m.Sum("lab_pool_wait_seconds_sum"), 1e-12)
	assert.InDelta(t, 2.25, m.Sum("lab_pool_wait_seconds_sum", "address", "replica"), 1e-12)
	assert.InDelta(t, 16, m.Sum("lab_pool_connections", "state", "in_use", "address", "replica"), 1e-12)
	assert.InDelta(t, 3, m.Sum("lab_documents_cached"), 1e-12)
	assert.False(t, m.Has("lab_pool_wait_seconds"), "a name is whole")
	for _, bad := range []string{"lab_x", "lab_x{a=\"b\"}", "lab_x one", "lab_x 1 2 3"} {
		_, err := Parse(bad)
		require.Error(t, err, bad)
	}
}

func TestSamplesOfALabel(t *testing.T) {
	m, err := Parse(`busy{worker="0"} 1
busy{worker="10"} 2
busy{worker="2"} 3
pauses{kind="minor",worker="2"} 4
pauses{kind="minor", worker="10"} 5
pauses{coworker="2"} 6
plain 7
`)
	require.NoError(t, err)
	assert.Equal(t, []string{"0", "2", "10"}, m.Values("busy", "worker"))
	assert.Empty(t, m.Values("plain", "worker"))
	assert.Empty(t, m.Values("busy", "kind"))
	assert.Equal(t, Samples{`busy{worker="2"}`: 3, `pauses{kind="minor",worker="2"}`: 4}, m.Carrying("worker", "2"))
	assert.InDelta(t, 5, m.Carrying("worker", "10").Sum("pauses"), 0)
	assert.Empty(t, m.Carrying("worker", "1"))
}

func FuzzParse(f *testing.F) {
	f.Add(page)
	f.Fuzz(func(_ *testing.T, text string) { _, _ = Parse(text) })
}

func TestGet(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			_, _ = io.WriteString(w, page)
		case "/bad":
			_, _ = io.WriteString(w, "<html>")
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	m, err := Get(t.Context(), s.URL+"/metrics")
	require.NoError(t, err)
	assert.Len(t, m, 5)
	_, err = Get(t.Context(), s.URL+"/other")
	require.ErrorContains(t, err, "status 404")
	_, err = Get(t.Context(), s.URL+"/bad")
	require.ErrorContains(t, err, "no sample")

	text, err := Page(t.Context(), s.URL+"/metrics", time.Second, int64(len(page)))
	require.NoError(t, err)
	assert.Equal(t, page, string(text))
	_, err = Page(t.Context(), s.URL+"/metrics", time.Second, int64(len(page))-1)
	require.ErrorContains(t, err, "more than", "a text cut short would be read as if it were whole")
	_, err = Page(t.Context(), s.URL+"/metrics", 0, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
