package server

import (
	"context"
	"fmt"
	"slices"
)

const (
	// vectorSize is how many features an item has, and how many weights a ranking takes.
	vectorSize = 32
	maxWeight  = 1000
)

var errWeights = badArgument("weights", fmt.Sprintf("must have exactly %d integers from -%d to %d.", vectorSize, maxWeight, maxWeight))

// rankedItem is an item's score: the sum of weight × feature, which stays within 32 bits.
type rankedItem struct {
	itemID, score int32
}

// rankItems scores every item (of area, where one is given) and gives the first of the highest score; ties go to the
// lower id. vectors are in the order of ids. It stops when ctx ends.
func rankItems(ctx context.Context, vectors []vectorRow, weights [vectorSize]int32, first int, area nullID) ([]rankedItem, error) {
	best := make([]rankedItem, 0, first+1)
	if first == 0 {
		return best, nil
	}
	for i := range vectors {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		v := &vectors[i]
		if area.valid && v.areaID != area.id {
			continue
		}
		score := int32(0)
		for f, weight := range weights {
			score += weight * int32(v.features[f])
		}
		if len(best) == first && score <= best[first-1].score {
			continue
		}
		// Behind its equals, whose ids are lower.
		at, _ := slices.BinarySearchFunc(best, score, func(r rankedItem, score int32) int {
			if r.score >= score {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, rankedItem{v.itemID, score})
		best = best[:min(len(best), first)]
	}
	return best, nil
}
