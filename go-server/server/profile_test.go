package server

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFold(t *testing.T) {
	outer := &profile.Function{ID: 1, Name: "lab/go-server/server.together", Filename: "/src/go-server/server/loaders.go"}
	inlined := &profile.Function{ID: 2, Name: "strange;name", Filename: ""}
	at := &profile.Location{ID: 1, Line: []profile.Line{{Function: inlined}, {Function: outer}}}
	above := &profile.Location{ID: 2, Line: []profile.Line{{Function: &profile.Function{ID: 3, Name: "main.main", Filename: "main.go"}}}}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		Location:   []*profile.Location{at, above},
		Function:   []*profile.Function{outer, inlined, above.Line[0].Function},
		Sample: []*profile.Sample{
			{Location: []*profile.Location{at, above}, Value: []int64{2, 20}},
			{Location: []*profile.Location{above}, Value: []int64{1, 10}},
			{Location: []*profile.Location{at, above}, Value: []int64{3, 30}, Label: map[string][]string{"a": {"b"}}},
		},
	}
	var text bytes.Buffer
	require.NoError(t, p.Write(&text))
	folded, err := fold(text.Bytes())
	require.NoError(t, err)
	assert.Equal(t, "main.main (main.go) 1\nmain.main (main.go);lab/go-server/server.together (server/loaders.go);strange,name 5\n", string(folded))

	_, err = fold([]byte("no profile"))
	require.Error(t, err)
}

// spin keeps a CPU busy until it is told to end.
//
//go:noinline
func spin(end *atomic.Bool) {
	for !end.Load() {
		for range 1000 {
		}
	}
}

func TestProfile(t *testing.T) {
	asked := func(a *App, query string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		a.profile(w, httptest.NewRequest(http.MethodGet, "/profile"+query, nil))
		return w
	}
	assert.Equal(t, http.StatusNotFound, asked(&App{}, "?seconds=1").Code)
	on := &App{config: Settings{Profiler: true}}
	for _, query := range []string{"", "?seconds=", "?seconds=0", "?seconds=31", "?seconds=1.5", "?seconds=x"} {
		assert.Equal(t, http.StatusBadRequest, asked(on, query).Code, query)
	}

	var other bytes.Buffer
	require.NoError(t, pprof.StartCPUProfile(&other))
	assert.Equal(t, http.StatusConflict, asked(on, "?seconds=1").Code)
	pprof.StopCPUProfile()

	var end atomic.Bool
	defer end.Store(true)
	go spin(&end)
	// A machine that pauses may give a second without a sample.
	assert.Eventually(t, func() bool {
		w := asked(on, "?seconds=1")
		return w.Code == http.StatusOK && strings.Contains(w.Body.String(), "lab/go-server/server.spin (server/profile_test.go)")
	}, 20*time.Second, time.Millisecond)
}
