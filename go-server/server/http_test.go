package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	plainJSON = "application/json"
	response  = "application/graphql-response+json"
)

func TestRequests(t *testing.T) {
	app := startApp(t, nil)
	handler := app.Handler()
	const ok = `{"query":"{__typename}"}`
	padded := func(bytes int) string { return ok + strings.Repeat(" ", bytes-len(ok)) }

	for _, c := range []struct {
		name, method, target, contentType, accept, body string
		status                                          int
		code                                            string
	}{
		{name: "post", body: ok, status: 200, code: codeOK},
		{name: "post, charset", contentType: "application/json; charset=UTF-8", body: ok, status: 200, code: codeOK},
		{name: "get", method: "GET", target: "/graphql?query={__typename}", status: 200, code: codeOK},
		{name: "get with all", method: "GET", target: "/graphql?query=query+A($f:Int!){items(first:$f){id}}query+B{__typename}&operationName=A&variables=%7B%22f%22:1%7D&extensions={}", status: 200, code: codeOK},
		{name: "get, null variables", method: "GET", target: "/graphql?query={__typename}&variables=null", status: 200, code: codeOK},
		{name: "get, bad variables", method: "GET", target: "/graphql?query={__typename}&variables=5", status: 400, code: codeBadRequest},
		{name: "get, all empty but the query", method: "GET", target: "/graphql?query={__typename}&variables=&operationName=&extensions=", status: 200, code: codeOK},
		{name: "get, the last of two queries", method: "GET", target: "/graphql?query={&query={__typename}", status: 200, code: codeOK},
		{name: "get, a semicolon is no separator", method: "GET", target: "/graphql?query={__typename};variables=5", status: 400, code: codeParseFailed},
		{name: "get, nested too deep", method: "GET", target: "/graphql?query={__typename}&variables=" + `{"x":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + "}", status: 400, code: codeBadRequest},
		{name: "get, no query", method: "GET", target: "/graphql", status: 400, code: codeBadRequest},
		{name: "get, bad escape", method: "GET", target: "/graphql?query=%zz", status: 400, code: codeBadRequest},
		{name: "get, invalid UTF-8", method: "GET", target: "/graphql?query=%ff", status: 400, code: codeBadRequest},
		{name: "get, mutation", method: "GET", target: "/graphql?query=mutation{renameArea(id:1,name:%22x%22){id}}", status: 405, code: codeBadRequest},
		{name: "put", method: "PUT", body: ok, status: 405, code: codeBadRequest},
		{name: "delete", method: "DELETE", status: 405, code: codeBadRequest},
		{name: "text/plain", contentType: "text/plain", body: ok, status: 415, code: codeBadRequest},
		{name: "form", contentType: "application/x-www-form-urlencoded", body: ok, status: 415, code: codeBadRequest},
		{name: "multipart", contentType: "multipart/form-data; boundary=x", body: ok, status: 415, code: codeBadRequest},
		{name: "no content type", contentType: "-", body: ok, status: 415, code: codeBadRequest},
		{name: "latin1", contentType: "application/json; charset=iso-8859-1", body: ok, status: 415, code: codeBadRequest},
		{name: "a charset without value, empty parameters", contentType: "application/json; charset;; x=y", body: ok, status: 200, code: codeOK},
		{name: "not acceptable", accept: "text/html", body: ok, status: 406, code: codeBadRequest},
		{name: "refused by quality", accept: "application/json;q=0, application/graphql-response+json;q=0", body: ok, status: 406, code: codeBadRequest},
		{name: "body at the limit", body: padded(100000), status: 200, code: codeOK},
		{name: "body above the limit", body: padded(100001), status: 413, code: codeRequestTooLarge},
		{name: "no JSON", body: `{"query"`, status: 400, code: codeBadRequest},
		{name: "empty", body: ``, status: 400, code: codeBadRequest},
		{name: "trailing data", body: ok + `x`, status: 400, code: codeBadRequest},
		{name: "array", body: `[` + ok + `]`, status: 400, code: codeBadRequest},
		{name: "null", body: `null`, status: 400, code: codeBadRequest},
		{name: "invalid UTF-8", body: "{\"query\":\"{__typename}\",\"x\":\"\xff\"}", status: 400, code: codeBadRequest},
		{name: "half a surrogate pair", body: `{"query":"{__typename}","variables":{"x":"\uD83C"}}`, status: 400, code: codeBadRequest},
		{name: "a surrogate pair", body: `{"query":"{search(text:\"\uD83C\uDFDD\"){id}}"}`, status: 200, code: codeOK},
		{name: "50,000 brackets", body: `{"query":"{__typename}","variables":{"x":` + strings.Repeat("[", 50000) + `}}`, status: 400, code: codeBadRequest},
		{name: "50,000 closed brackets", body: `{"x":` + strings.Repeat("[", 49000) + strings.Repeat("]", 49000) + `}`, status: 400, code: codeBadRequest},
		{name: "128 levels", body: `{"query":"{__typename}","x":` + strings.Repeat("[", 127) + strings.Repeat("]", 127) + `}`, status: 200, code: codeOK},
		{name: "129 levels", body: `{"query":"{__typename}","x":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`, status: 400, code: codeBadRequest},
		{name: "brackets in a text", body: `{"query":"{__typename}","x":"\"` + strings.Repeat("[", 500) + `"}`, status: 200, code: codeOK},
		{name: "duplicate names, the last one good", body: `{"query":"{","query":"{__typename}"}`, status: 200, code: codeOK},
		{name: "duplicate names, the last one bad", body: `{"query":"{__typename}","query":"{"}`, status: 400, code: codeParseFailed},
		{name: "names in another case", body: `{"Query":"{__typename}"}`, status: 400, code: codeBadRequest},
		{name: "unknown members", body: `{"query":"{__typename}","id":5}`, status: 200, code: codeOK},
		{name: "no query", body: `{}`, status: 400, code: codeBadRequest},
		{name: "query null", body: `{"query":null}`, status: 400, code: codeBadRequest},
		{name: "query a number", body: `{"query":5}`, status: 400, code: codeBadRequest},
		{name: "variables an array", body: `{"query":"{__typename}","variables":[]}`, status: 400, code: codeBadRequest},
		{name: "variables null", body: `{"query":"{__typename}","variables":null}`, status: 200, code: codeOK},
		{name: "operationName a number", body: `{"query":"{__typename}","operationName":5}`, status: 400, code: codeBadRequest},
		{name: "operationName null", body: `{"query":"{__typename}","operationName":null}`, status: 200, code: codeOK},
		{name: "extensions a string", body: `{"query":"{__typename}","extensions":"x"}`, status: 400, code: codeBadRequest},
		{name: "extensions an object", body: `{"query":"{__typename}","extensions":{"a":1}}`, status: 200, code: codeOK},
		{name: "empty query", body: `{"query":""}`, status: 400, code: codeParseFailed},
		{name: "only a comment", body: `{"query":"# nothing"}`, status: 400, code: codeParseFailed},
		{name: "half a surrogate pair in a literal", body: `{"query":"{search(text:\"\\uD83C\"){id}}"}`, status: 400, code: codeParseFailed},
		{name: "unknown field", body: `{"query":"{nothing}"}`, status: 400, code: codeValidationFailed},
		{name: "fragment cycle", body: `{"query":"{items{...A}} fragment A on Item{...B} fragment B on Item{...A}"}`, status: 400, code: codeValidationFailed},
		{name: "no name of several", body: `{"query":"query A{__typename} query B{__typename}"}`, status: 400, code: codeOperationResolution},
		{name: "unknown name", body: `{"query":"query A{__typename}","operationName":"B"}`, status: 400, code: codeOperationResolution},
		{name: "an empty name", body: `{"query":"{__typename}","operationName":""}`, status: 400, code: codeOperationResolution},
		{name: "a name right behind a number", body: `{"query":"{items(first:1after:2){id}}"}`, status: 400, code: codeParseFailed},
		{name: "one field with an id as number and as text", body: `{"query":"{item(id:1){id} item(id:\"1\"){id}}"}`, status: 400, code: codeValidationFailed},
		{name: "null for @skip", body: `{"query":"query($s:Boolean=true){__typename @skip(if:$s)}","variables":{"s":null}}`, status: 200, code: codeOK},
		{name: "an id with an exponent", body: `{"query":"query($i:ID!){item(id:$i){id}}","variables":{"i":1e0}}`, status: 200, code: codeOK},
		{name: "an id with an exponent beyond 53 bits", body: `{"query":"query($i:ID!){item(id:$i){id}}","variables":{"i":1e30}}`, status: 400, code: codeBadUserInput},
		{name: "an id that is minus 0", body: `{"query":"query($i:ID!){item(id:$i){id}}","variables":{"i":-0.0}}`, status: 200, code: codeBadUserInput},
		{name: "bad variable", body: `{"query":"query($f:Int!){items(first:$f){id}}","variables":{"f":"x"}}`, status: 400, code: codeBadUserInput},
		{name: "bad argument", body: `{"query":"{items(first:501){id}}"}`, status: 200, code: codeBadUserInput},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := map[string]string{"Content-Type": c.contentType}
			switch c.contentType {
			case "":
				header["Content-Type"] = "application/json"
			case "-":
				delete(header, "Content-Type")
			}
			if c.method == "" {
				c.method = http.MethodPost
			}
			if c.target == "" {
				c.target = "/graphql"
			}
			for _, accept := range []string{response, plainJSON, "*/*", ""} {
				if header["Accept"] = accept; c.accept != "" {
					header["Accept"] = c.accept
				}
				if accept == "" && c.accept == "" {
					delete(header, "Accept")
				}
				got := send(handler, c.method, c.target, c.body, header)
				want := c.status
				if wellFormed := c.code != codeBadRequest; wellFormed && want == http.StatusBadRequest && accept != response {
					want = http.StatusOK
				}
				assert.Equal(t, want, got.status, "%s %s", accept, got.body)
				assert.Equal(t, c.code, got.code(t), got.body)
				assert.Equal(t, strconv.Itoa(len(got.body)), got.header.Get("Content-Length"))
				if c.accept == "" {
					mediaType := contentTypeJSON[0]
					if accept == response {
						mediaType = contentTypeResponse[0]
					}
					assert.Equal(t, mediaType, got.header.Get("Content-Type"))
				}
				if got.status == http.StatusMethodNotAllowed {
					assert.NotEmpty(t, got.header.Get("Allow"))
				}
			}
		})
	}
}

func TestNegotiation(t *testing.T) {
	for accept, want := range map[string]string{
		"*/*":                              plainJSON,
		"application/*":                    plainJSON,
		"application/*, text/html":         plainJSON,
		response:                           response,
		response + ", " + plainJSON:        response,
		plainJSON + ", " + response:        plainJSON,
		plainJSON + ";q=1.5":               "",
		plainJSON + ";q=none":              "",
		plainJSON + ";q=0.0001":            plainJSON,
		plainJSON + ";q=0.5, " + plainJSON: plainJSON,
		plainJSON + ", */*":                plainJSON,
		response + ";q=0.5, " + plainJSON:  plainJSON,
		response + ";q=0.9, */*;q=0.1":     response,
		response + "; charset=utf-8":       response,
		"application/json; charset=UTF-8":  plainJSON,
		"application/json; charset=latin1": plainJSON,
		"text/html":                        "",
		"text/*":                           "",
		"*/*;q=0":                          "",
		"application/xml":                  "",
	} {
		got, ok := negotiate([]string{accept})
		if want == "" {
			assert.False(t, ok, accept)
			continue
		}
		require.True(t, ok, accept)
		assert.Equal(t, want+"; charset=utf-8", got[0], accept)
	}
}

// serveApp listens, as main does.
func serveApp(t *testing.T, app *App) (address string, server *http.Server) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server = NewHTTPServer(app)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String(), server
}

func TestConnections(t *testing.T) {
	app := startApp(t, nil)
	address, server := serveApp(t, app)
	dial := func(t *testing.T) (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		return conn, bufio.NewReader(conn)
	}
	const head = "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

	t.Run("a large body is answered although it goes on", func(t *testing.T) {
		for name, request := range map[string]string{
			"by its length": head + "Content-Length: 400000\r\n\r\n" + strings.Repeat(" ", 400000),
			"in chunks":     head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat(" ", 0x10000)+"\r\n", 6) + "0\r\n\r\n",
		} {
			conn, reader := dial(t)
			_, err := io.WriteString(conn, request)
			require.NoError(t, err, name)
			r, err := http.ReadResponse(reader, nil)
			require.NoError(t, err, name)
			assert.Equal(t, http.StatusRequestEntityTooLarge, r.StatusCode, name)
			require.NoError(t, r.Body.Close())
		}
	})

	t.Run("huge headers are refused", func(t *testing.T) {
		conn, reader := dial(t)
		_, err := io.WriteString(conn, head+"X: "+strings.Repeat("x", 40<<10)+"\r\n\r\n")
		require.NoError(t, err)
		r, err := http.ReadResponse(reader, nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, r.StatusCode)
		require.NoError(t, r.Body.Close())
	})

	t.Run("a connection is kept", func(t *testing.T) {
		conn, reader := dial(t)
		for range 3 {
			body := `{"query":"{__typename}"}`
			_, err := fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
			require.NoError(t, err)
			r, err := http.ReadResponse(reader, nil)
			require.NoError(t, err)
			answer, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			assert.JSONEq(t, `{"data":{"__typename":"Query"}}`, string(answer))
			assert.False(t, r.Close)
		}
	})

	t.Run("shutdown finishes what is under way", func(t *testing.T) {
		lock := lockTable(t, "category")
		finished := make(chan int, 1)
		go func() {
			r, err := http.Post("http://"+address+"/graphql", plainJSON, strings.NewReader(`{"query":"{categories{id}}"}`))
			if err != nil {
				finished <- 0
				return
			}
			_ = r.Body.Close()
			finished <- r.StatusCode
		}()
		require.Eventually(t, func() bool { return app.inFlight.Load() == 1 }, 5*time.Second, time.Millisecond)
		app.Drain()
		t.Cleanup(func() { app.draining.Store(false) })
		assert.Equal(t, http.StatusServiceUnavailable, post(app.Handler(), "{__typename}", "").status)
		stopped := make(chan error, 1)
		go func() { stopped <- server.Shutdown(context.Background()) }()
		lock()
		assert.Equal(t, http.StatusOK, <-finished)
		require.NoError(t, <-stopped)
	})
}

func TestRequestsInFlight(t *testing.T) {
	app := startApp(t, nil)
	app.config.Limits.RequestsInFlight = 2
	handler := app.Handler()
	unlock := lockTable(t, "category")
	var under sync.WaitGroup
	for range 2 {
		under.Go(func() { assert.Equal(t, http.StatusOK, post(handler, "{categories{id}}", "").status) })
	}
	require.Eventually(t, func() bool { return app.inFlight.Load() == 2 }, 5*time.Second, time.Millisecond)
	refused := send(handler, http.MethodPut, "/graphql", "", nil) // first of all checks
	assert.Equal(t, http.StatusServiceUnavailable, refused.status)
	assert.Equal(t, codeServiceUnavailable, refused.code(t))
	assert.NotEmpty(t, refused.header.Get("Retry-After"))
	unlock()
	under.Wait()
	assert.Equal(t, http.StatusOK, post(handler, "{__typename}", "").status)
}

func TestServerTiming(t *testing.T) {
	for _, environment := range []map[string]string{nil, {"TIER": "floor"}} {
		handler := startApp(t, environment).Handler()
		query := readOperation(t, "q3")
		body := `{"query":` + string(appendJSONString(nil, query)) + `}`
		for range 2 { // parsed, then from the cache
			got := send(handler, http.MethodPost, "/graphql", body, map[string]string{"Content-Type": plainJSON, "X-Server-Timing": "1"})
			require.Equal(t, http.StatusOK, got.status)
			phases := map[string]float64{}
			for phase := range strings.SplitSeq(got.header.Get("Server-Timing"), ", ") {
				name, duration, ok := strings.Cut(phase, ";dur=")
				require.True(t, ok, phase)
				ms, err := strconv.ParseFloat(duration, 64)
				require.NoError(t, err)
				phases[name] = ms
			}
			require.Len(t, phases, 6)
			total := phases["total"]
			delete(phases, "total")
			sum := 0.0
			for _, ms := range phases {
				assert.GreaterOrEqual(t, ms, 0.0)
				sum += ms
			}
			assert.InEpsilon(t, total, sum, 0.05)
		}
		assert.Empty(t, post(handler, query, "").header.Get("Server-Timing"))
	}
}
