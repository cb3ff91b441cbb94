package plan

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whatever is asked for: each arm is in each of its blocks once, one arm that may be is there twice, its second is marked,
// and the same seed gives the same again.
func FuzzBlocks(f *testing.F) {
	f.Add(3, 2, 8, uint64(1))
	f.Add(1, 0, 1, uint64(0))
	f.Add(0, 1, 1, uint64(0))
	f.Add(4, 4, 0, uint64(9))
	f.Fuzz(func(t *testing.T, doubles, others, blocks int, seed uint64) {
		if doubles < 0 || others < 0 || doubles > 20 || others > 20 || blocks > 50 {
			return
		}
		var arms []Arm
		for i := range doubles {
			arms = append(arms, Arm{Name: fmt.Sprint("a", i), Blocks: blocks, Double: true})
		}
		for i := range others {
			arms = append(arms, Arm{Name: fmt.Sprint("b", i), Blocks: blocks / 2})
		}
		made, err := Blocks(arms, blocks, seed)
		if blocks < 1 || len(arms) == 0 {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Len(t, made, blocks)
		for b, block := range made {
			seen, second := map[string]int{}, 0
			for _, slot := range block {
				assert.Equal(t, seen[slot.Arm] > 0, slot.Duplicate)
				seen[slot.Arm]++
				if slot.Duplicate {
					second++
					assert.Equal(t, byte('a'), slot.Arm[0])
				}
			}
			for _, arm := range arms {
				assert.Equal(t, b < arm.Blocks, seen[arm.Name] > 0, "%s in block %d", arm.Name, b+1)
			}
			assert.Equal(t, min(1, doubles), second)
		}
		again, err := Blocks(arms, blocks, seed)
		require.NoError(t, err)
		assert.Equal(t, made, again)
	})
}
