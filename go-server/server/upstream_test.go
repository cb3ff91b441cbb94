package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestQuote(t *testing.T) {
	release := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/quote" || r.URL.Query().Get("guests") != "2" {
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		switch r.URL.Query().Get("itemId") {
		case "1":
			_, _ = io.WriteString(w, `{"totalCents":12345,"currency":"EUR"}`)
		case "2":
			http.NotFound(w, r)
		case "3":
			_, _ = io.WriteString(w, `<html>`)
		case "4":
			_, _ = io.WriteString(w, `{"totalCents":2147483648,"currency":"EUR"}`)
		case "5":
			_, _ = io.WriteString(w, `{"totalCents":1}`)
		default:
			<-release
		}
	}))
	t.Cleanup(service.Close)
	t.Cleanup(func() { close(release) })

	ask := func(handler http.Handler, item string) answer {
		return post(handler, `query($i:ID!){quote(itemId:$i,guests:2){itemId guests totalCents currency}}`, `{"i":`+item+`}`)
	}
	handler := startApp(t, map[string]string{"UPSTREAM_URL": service.URL + "/"}).Handler()
	assert.Equal(t, `{"data":{"quote":{"itemId":"1","guests":2,"totalCents":12345,"currency":"EUR"}}}`, ask(handler, "1").body)
	for _, item := range []string{"2", "3", "4", "5", "6"} {
		got := ask(handler, item)
		assert.Equal(t, http.StatusOK, got.status)
		assert.JSONEq(t, `{"data":null,"errors":[{"message":"Upstream failed.","locations":[{"line":1,"column":15}],"path":["quote"],"extensions":{"code":"UPSTREAM_FAILED"}}]}`, got.body, item)
	}
	assert.Equal(t, codeUpstreamFailed, ask(startApp(t, nil).Handler(), "1").code(t), "no UPSTREAM_URL")

	got := ask(startApp(t, map[string]string{"UPSTREAM_URL": service.URL, "REQUEST_TIMEOUT": "100ms"}).Handler(), "6")
	assert.Equal(t, http.StatusGatewayTimeout, got.status)
	assert.Equal(t, codeRequestTimeout, got.code(t))
}
