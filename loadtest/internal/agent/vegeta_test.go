package agent

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// vegeta's own reader and reports see the response time from the intended send, its percentiles under their names, and
// rates per second.
func TestVegetaReadsWhatWasMeasured(t *testing.T) {
	var b bytes.Buffer
	write, flush := VegetaResults(&b, "golden")
	began := time.Unix(1_700_000_000, 0)
	const hits = 10_000
	gap := 200 * time.Microsecond // 5,000 a second
	for i := range hits {
		response := 1020 * time.Millisecond
		switch {
		case i%1000 == 999:
			response = 5210 * time.Millisecond
		case i%100 >= 97:
			response = 2340 * time.Millisecond
		case i%100 >= 94:
			response = 1750 * time.Millisecond
		case i%100 >= 60:
			response = 1310 * time.Millisecond
		}
		h := Hit{Seq: uint64(i), Began: began, Intended: time.Duration(i) * gap, Sent: time.Duration(i)*gap + 7*time.Millisecond, Response: response, Code: 200, BytesOut: 11, BytesIn: 222, Method: "POST", URL: "http://127.0.0.1/"}
		if i%50 == 0 {
			h.Failure, h.Code = "status 500", 500
		}
		write(h)
	}
	require.NoError(t, flush())
	decode := vegeta.NewDecoder(&b)
	var m vegeta.Metrics
	var first vegeta.Result
	for i := range hits {
		var r vegeta.Result
		require.NoError(t, decode(&r))
		if i == 0 {
			first = r
		}
		m.Add(&r)
	}
	m.Close()
	assert.Equal(t, began.UnixNano(), first.Timestamp.UnixNano(), "the intended send, not the true one")
	assert.EqualValues(t, hits, m.Requests)
	assert.InEpsilon(t, 1.02, m.Latencies.P50.Seconds(), 0.01)
	assert.InEpsilon(t, 1.31, m.Latencies.P90.Seconds(), 0.01)
	assert.InEpsilon(t, 1.75, m.Latencies.P95.Seconds(), 0.01)
	assert.InEpsilon(t, 2.34, m.Latencies.P99.Seconds(), 0.02, "a t-digest")
	assert.Equal(t, 5210*time.Millisecond, m.Latencies.Max)
	assert.InEpsilon(t, 5000, m.Rate, 0.001, "requests a second")
	assert.InEpsilon(t, 0.98, m.Success, 1e-9)
	assert.Equal(t, map[string]int{"200": 9800, "500": 200}, m.StatusCodes)
	assert.InEpsilon(t, 11, m.BytesOut.Mean, 1e-9)
	assert.InEpsilon(t, 222, m.BytesIn.Mean, 1e-9)
}
