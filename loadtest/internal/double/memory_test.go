package double

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/engine/host"
)

// The test binary is the double itself where it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(Variable) == "" {
		os.Exit(m.Run())
	}
	if err := Serve(context.Background(), os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A double's processes hold a copy each, or one, and are gone with it.
func TestProcessesHoldACopyEachOrShareOne(t *testing.T) {
	const mib = 64
	for _, c := range []struct {
		says   string
		b      Behaviour
		copies float64
	}{
		{"one process", Behaviour{}, 1},
		{"a copy each", Behaviour{Processes: 3}, 3},
		{"one copy that all share", Behaviour{Processes: 3, Shared: true}, 1},
	} {
		t.Run(c.says, func(t *testing.T) {
			held := func(mib int) int64 {
				b := c.b
				b.MemoryMiB = mib
				m, err := holdMemory(t.Context(), b)
				require.NoError(t, err)
				defer m.free()
				assert.Len(t, host.PidsOf(os.Getpid()), max(1, b.Processes))
				sum, err := host.TreeMemory(os.Getpid())
				require.NoError(t, err)
				if sum.PSSBytes == nil {
					t.Skip("the kernel does not tell the proportional set size")
				}
				return *sum.PSSBytes
			}
			assert.InDelta(t, c.copies, float64(held(mib+1)-held(1))/(mib<<20), 0.2)
			assert.Len(t, host.PidsOf(os.Getpid()), 1)
		})
	}
}
