package native

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lab/loadtest/internal/engine/host"
)

// Whatever spawners were pinned to, the program itself may use the CPUs that it was given.
func TestSpawnersLeaveTheProgramItsCPUs(t *testing.T) {
	before, err := host.AllowedCPUs()
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 200 {
		all.Add(1)
		onOwnThread(func() {
			defer all.Done()
			assert.NotEqual(t, unix.Getpid(), unix.Gettid())
			assert.NoError(t, setAffinity(before[:1]))
		})
	}
	all.Wait()
	after, err := host.AllowedCPUs()
	require.NoError(t, err)
	assert.Equal(t, before, after)
}
