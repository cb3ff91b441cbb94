package faultproxy

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// A link within the process passes answers on, late by no less than its delay, and ends.
func TestALocalLinkDelaysWhatComesBack(t *testing.T) {
	const delay = 30 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	defer server.Close()
	address, stop, err := Local(t.Context(), server.Listener.Addr().String(), delay)
	require.NoError(t, err)
	began := time.Now()
	response, err := http.Get("http://" + address)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, "here", string(body))
	assert.GreaterOrEqual(t, time.Since(began), delay)
	stop()
	_, err = net.Dial("tcp", address)
	assert.Error(t, err)

	_, _, err = Local(t.Context(), "nowhere", delay)
	assert.ErrorContains(t, err, `target "nowhere"`)
	_, _, err = Local(t.Context(), server.Listener.Addr().String(), -delay)
	assert.ErrorContains(t, err, "delay")
}

func TestTheOverheadOfALocalLinkIsMeasured(t *testing.T) {
	overhead, err := LocalOverhead(t.Context(), 20*time.Millisecond, 9)
	require.NoError(t, err)
	assert.Equal(t, record.LinkClient, overhead.Link)
	assert.Equal(t, 9, overhead.RoundTrips)
	assert.Equal(t, int64(20e6), overhead.DelayNS)
	assert.GreaterOrEqual(t, overhead.ProxiedP50NS, overhead.DelayNS)
	assert.GreaterOrEqual(t, overhead.AddedP50NS, int64(10e6), "all of the delay, but for what the direct way took")
	assert.Greater(t, overhead.ProxiedP50NS, overhead.DirectP50NS)
}
