package upstream

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary play the command.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "upstream" {
		os.Exit(Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestHandler(t *testing.T) {
	handler := Handler(1000, 0)
	for _, test := range []struct {
		name, method, target string
		status               int
		body                 string
	}{
		{"the first item for one", "GET", "/quote?itemId=1&guests=1", 200, `{"totalCents":1037,"currency":"EUR"}`},
		{"the last item", "GET", "/quote?itemId=1000&guests=1", 200, `{"totalCents":2000,"currency":"EUR"}`},
		{"a hundred guests", "GET", "/quote?itemId=243&guests=100", 200, `{"totalCents":999100,"currency":"EUR"}`},
		{"the remainder wraps", "GET", "/quote?itemId=244&guests=2", 200, `{"totalCents":2056,"currency":"EUR"}`},
		{"beyond the last item", "GET", "/quote?itemId=1001&guests=1", 404, ""},
		{"item 0", "GET", "/quote?itemId=0&guests=1", 404, ""},
		{"a negative item", "GET", "/quote?itemId=-1&guests=1", 404, ""},
		{"no item", "GET", "/quote?guests=1", 404, ""},
		{"an item that is no integer", "GET", "/quote?itemId=1.0&guests=1", 404, ""},
		{"an item beyond 64 bits", "GET", "/quote?itemId=99999999999999999999&guests=1", 404, ""},
		{"no guests", "GET", "/quote?itemId=1", 400, ""},
		{"0 guests", "GET", "/quote?itemId=1&guests=0", 400, ""},
		{"101 guests", "GET", "/quote?itemId=1&guests=101", 400, ""},
		{"another method", "POST", "/quote?itemId=1&guests=1", 405, ""},
		{"another path", "GET", "/", 404, ""},
		{"ready", "GET", "/readyz", 200, `{"status":"ok"}`},
		{"alive", "GET", "/livez", 200, `{"status":"ok"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, httptest.NewRequest(test.method, test.target, nil))
			assert.Equal(t, test.status, recorder.Code)
			if test.body != "" {
				assert.Equal(t, test.body, recorder.Body.String())
				assert.Equal(t, "application/json; charset=utf-8", recorder.Header().Get("Content-Type"))
			}
		})
	}
}

func TestHandlerWaits(t *testing.T) {
	const latency = 30 * time.Millisecond
	handler := Handler(10, latency)
	begun := time.Now()
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/quote?itemId=1&guests=1", nil))
	// A sleep may be longer than asked for, never shorter.
	assert.GreaterOrEqual(t, time.Since(begun), latency)
}

func TestCommandServesUntilSIGTERM(t *testing.T) {
	cmd := exec.Command(os.Args[0], "upstream", "--items", "5", "--latency", "1ms")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	var said struct {
		Level, Msg, URL string
		Port, Pid       int
	}
	require.NoError(t, json.Unmarshal([]byte(line), &said))
	assert.Equal(t, "info", said.Level)
	assert.Equal(t, "listening", said.Msg)
	assert.Equal(t, cmd.Process.Pid, said.Pid)
	response, err := http.Get(said.URL + "/quote?itemId=5&guests=2")
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.JSONEq(t, `{"totalCents":2370,"currency":"EUR"}`, string(body))
	health := func() (int, string) {
		var out, problem bytes.Buffer
		code := Main([]string{"--health", "--host", "0.0.0.0", "--port", strconv.Itoa(said.Port)}, &out, &problem)
		assert.Empty(t, out.String())
		return code, problem.String()
	}
	code, problem := health()
	assert.Zero(t, code, problem)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "it ends with status 0")
	code, problem = health()
	assert.Equal(t, 1, code)
	assert.Contains(t, problem, "refused")
}

func TestCommandRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, args := range []string{"", "--items 0", "--items 5 --latency -1s", "--items 5 more", "--items five", "--speed 1", "--items 5 --port 70000", "--items 5 --host here", "--health", "--health --port 0"} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, 2, Main(strings.Fields(args), &stdout, &stderr))
			assert.Empty(t, stdout.String())
			assert.NotEmpty(t, stderr.String())
		})
	}
}
