package agent

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A job is refused, or is whole and comes back the same.
func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"url":"http://127.0.0.1:1/graphql","body":"{}","rps":100,"duration_ns":1000000000,"arrival":"poisson","seed":1,"max_in_flight":10,"timeout_ns":1000000000}`))
	f.Add([]byte(`{"url":"http://127.0.0.1:1/","closed":true,"duration_ns":1,"max_in_flight":1,"timeout_ns":1}`))
	f.Add([]byte(`{"url":"http://127.0.0.1:1/","rps":-1,"duration_ns":1,"max_in_flight":1,"timeout_ns":1}`))
	f.Add([]byte(`{"url":"http://127.0.0.1:1/","rps":1e308,"duration_ns":1,"max_in_flight":1,"timeout_ns":1,"arrival":"constant"}`))
	f.Add([]byte(`{"duration_ns":"1s"}`))
	f.Add([]byte(`{"speed":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		j, err := ReadJob(bytes.NewReader(text))
		if err != nil {
			assert.Contains(t, err.Error(), "job")
			return
		}
		assert.Positive(t, j.Duration)
		assert.Positive(t, j.MaxInFlight)
		if !j.Closed {
			assert.Positive(t, j.RPS)
		}
		b, err := json.Marshal(j)
		require.NoError(t, err)
		again, err := ReadJob(bytes.NewReader(b))
		require.NoError(t, err)
		assert.Equal(t, j, again)
	})
}
