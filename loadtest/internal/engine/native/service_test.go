package native

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAddressOf(t *testing.T) {
	got, err := addressOf(`{"time":"2026-01-01T00:00:00.000Z","level":"info","msg":"listening","url":"http://127.0.0.1:40123/graphql","port":40123,"pid":1}`)
	require.NoError(t, err)
	assert.Equal(t, "http://127.0.0.1:40123", got)
	for name, line := range map[string]string{
		"no JSON": "listening on 40123", "another message": `{"msg":"starting","port":1}`,
		"no port": `{"msg":"listening"}`, "a port beyond": `{"msg":"listening","port":65536}`, "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := addressOf(line)
			require.Error(t, err)
		})
	}
}
