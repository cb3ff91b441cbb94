package server

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRankItems(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	vectors := make([]vectorRow, 3000)
	for i := range vectors {
		vectors[i] = vectorRow{itemID: int32(i + 1), areaID: int32(i % 7)}
		for f := range 3 { // few features, so that there are ties
			vectors[i].features[f] = int8(random.IntN(5) - 2)
		}
	}
	var weights [vectorSize]int32
	for f := range weights {
		weights[f] = int32(random.IntN(5) - 2)
	}
	naive := func(area nullID) []rankedItem {
		var all []rankedItem
		for _, v := range vectors {
			if area.valid && v.areaID != area.id {
				continue
			}
			score := int32(0)
			for f := range weights {
				score += weights[f] * int32(v.features[f])
			}
			all = append(all, rankedItem{v.itemID, score})
		}
		slices.SortFunc(all, func(a, b rankedItem) int {
			if a.score != b.score {
				return int(b.score - a.score)
			}
			return int(a.itemID - b.itemID)
		})
		return all
	}
	for _, area := range []nullID{{}, {3, true}, {99, true}} {
		want := naive(area)
		for _, first := range []int{0, 1, 2, 10, 100, 5000} {
			got, err := rankItems(context.Background(), vectors, weights, first, area)
			require.NoError(t, err)
			assert.Equal(t, append([]rankedItem{}, want[:min(first, len(want))]...), got)
		}
	}

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := rankItems(ended, vectors, weights, 10, nullID{})
	assert.ErrorIs(t, err, context.Canceled)
}
