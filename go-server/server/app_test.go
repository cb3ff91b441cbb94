package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const contractDir = "../../contract"

// databaseURL is a database seeded for tests, which whoever runs them provides.
func databaseURL(tb testing.TB) string {
	tb.Helper()
	url := os.Getenv("TEST_DATABASE_URL")
	require.NotEmpty(tb, url, "TEST_DATABASE_URL must name a freshly seeded small database")
	return url
}

// startApp starts the application over the test database and waits until it is ready.
func startApp(tb testing.TB, environment map[string]string) *App {
	tb.Helper()
	all := map[string]string{"CONTRACT_DIR": contractDir, "DATABASE_URL": databaseURL(tb), "POOL_SIZE": "6", "LOG_LEVEL": "error"}
	for name, value := range environment {
		all[name] = value
	}
	settings, err := LoadSettings(func(name string) string { return all[name] })
	require.NoError(tb, err)
	app, err := NewApp(settings, slog.New(slog.DiscardHandler))
	require.NoError(tb, err)
	app.Start()
	tb.Cleanup(app.Close)
	require.Eventually(tb, app.ready.Load, 20*time.Second, 5*time.Millisecond)
	return app
}

func readOperation(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(contractDir, "operations", name, "query.graphql"))
	require.NoError(tb, err)
	return string(text)
}

func BenchmarkHeadline(b *testing.B) {
	for _, tier := range []string{TierMainstream, TierFloor} {
		for _, operation := range []string{"q1", "q2", "q3"} {
			b.Run(tier+"/"+operation, func(b *testing.B) {
				app := startApp(b, map[string]string{"TIER": tier})
				handler := app.Handler()
				body := `{"query":` + string(appendJSONString(nil, readOperation(b, operation))) + `}`
				b.ReportAllocs()
				for b.Loop() {
					r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/graphql", strings.NewReader(body))
					r.Header.Set("Content-Type", "application/json")
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, r)
					if w.Code != http.StatusOK {
						b.Fatal(io.ReadAll(w.Body))
					}
				}
			})
		}
	}
}
