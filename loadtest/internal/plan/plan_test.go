package plan

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBlocks(t *testing.T) {
	arms := []Arm{{"go", 8, true}, {"node", 8, true}, {"rust", 8, true}, {"go-floor", 3, false}}
	blocks, err := Blocks(arms, 8, 42)
	require.NoError(t, err)
	again, err := Blocks(arms, 8, 42)
	require.NoError(t, err)
	assert.Equal(t, blocks, again, "the same seed gives the same plan")
	other, err := Blocks(arms, 8, 43)
	require.NoError(t, err)
	assert.NotEqual(t, blocks, other)

	doubled := map[string]int{}
	firsts := map[string]int{}
	for b, block := range blocks {
		count := map[string]int{}
		for i, s := range block {
			assert.Equal(t, count[s.Arm] == 1, s.Duplicate, "the second of an arm is the duplicate")
			count[s.Arm]++
			if s.Duplicate {
				doubled[s.Arm]++
			}
			if i == 0 {
				firsts[s.Arm]++
			}
		}
		want := 4
		if b < 3 {
			want = 5
		}
		assert.Len(t, block, want)
		for _, a := range arms {
			if b < a.Blocks {
				assert.GreaterOrEqual(t, count[a.Name], 1)
			} else {
				assert.Zero(t, count[a.Name])
			}
		}
	}
	assert.Zero(t, doubled["go-floor"])
	assert.Equal(t, 8, doubled["go"]+doubled["node"]+doubled["rust"])
	for _, a := range []string{"go", "node", "rust"} {
		assert.GreaterOrEqual(t, doubled[a], 2, a)
	}
	assert.Greater(t, len(firsts), 1, "the order changes from block to block")
}

// Over many seeds every arm must come first about as often as any other, or position would favour one.
func TestPositionsAreFair(t *testing.T) {
	arms := []Arm{{"a", 1, false}, {"b", 1, false}, {"c", 1, false}, {"d", 1, false}}
	first := map[string]int{}
	for seed := range uint64(4000) {
		blocks, err := Blocks(arms, 1, seed)
		require.NoError(t, err)
		first[blocks[0][0].Arm]++
	}
	for _, a := range arms {
		assert.InDelta(t, 1000, first[a.Name], 110, a.Name) // four standard deviations of a binomial
	}
}

func TestBadPlansAreNamed(t *testing.T) {
	_, err := Blocks([]Arm{{"a", 1, true}, {"a", 1, true}}, 1, 1)
	require.ErrorContains(t, err, `"a"`)
	_, err = Blocks(nil, 1, 1)
	require.Error(t, err)
	_, err = Blocks([]Arm{{"a", 1, true}}, 0, 1)
	require.Error(t, err)
}

func TestSeedsDiffer(t *testing.T) {
	var all []uint64
	for b := range 20 {
		for p := range 20 {
			all = append(all, Seeds(1, b, p))
		}
	}
	slices.Sort(all)
	assert.Len(t, slices.Compact(all), 400)
	assert.Equal(t, Seeds(5, 1, 2), Seeds(5, 1, 2))
}
