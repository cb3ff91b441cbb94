package host

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFreePortCanBeTaken(t *testing.T) {
	port, err := FreePort()
	require.NoError(t, err)
	listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	require.NoError(t, err)
	listener.Close()
}
