package listen

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestItListensWhereItSays(t *testing.T) {
	var out bytes.Buffer
	l, err := TCP("127.0.0.1:0", &out)
	require.NoError(t, err)
	defer l.Close()
	var said line
	require.NoError(t, json.Unmarshal(out.Bytes(), &said))
	assert.Equal(t, "http://"+l.Addr().String(), said.URL)
	assert.Equal(t, l.Addr().(*net.TCPAddr).Port, said.Port)
	assert.Equal(t, os.Getpid(), said.Pid)
	_, err = TCP(l.Addr().String(), &out)
	require.ErrorContains(t, err, "listen: ")
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestNobodyIsServedWhoWasNotTold(t *testing.T) {
	l, err := TCP("127.0.0.1:0", closed{})
	require.ErrorContains(t, err, "say where it listens: closed")
	assert.Nil(t, l)
}
