// Package plan decides before the first trial what will be measured in which order: blocks, each a random permutation
// of the arms with one of them twice (A/A), from a published seed.
package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Arm is one arm of a plan.
type Arm struct {
	Name string
	// Blocks is in how many blocks the arm takes part: in the first that many.
	Blocks int
	// Double says that the arm may be a block's A/A arm.
	Double bool
}

// Slot is one place of a block.
type Slot struct {
	Arm       string
	Duplicate bool // the second of the A/A arm
}

// Blocks makes the order. The A/A arm of a block goes round the arms that may be doubled, from a random start, so that
// each is doubled about as often. The same arms, number and seed give the same order.
func Blocks(arms []Arm, blocks int, seed uint64) ([][]Slot, error) {
	if blocks < 1 {
		return nil, fmt.Errorf("%d blocks: at least 1 is needed", blocks)
	}
	if len(arms) == 0 {
		return nil, errors.New("no arms to compare")
	}
	r := rand.New(rand.NewPCG(seed, 0xb10c))
	var doubles []string
	seen := map[string]bool{}
	for _, a := range arms {
		if seen[a.Name] {
			return nil, fmt.Errorf("arm %q is named twice", a.Name)
		}
		seen[a.Name] = true
		if a.Double {
			doubles = append(doubles, a.Name)
		}
	}
	r.Shuffle(len(doubles), func(i, j int) { doubles[i], doubles[j] = doubles[j], doubles[i] })
	out := make([][]Slot, blocks)
	for b := range out {
		for _, a := range arms {
			if b < a.Blocks {
				out[b] = append(out[b], Slot{Arm: a.Name})
			}
		}
		if len(doubles) > 0 {
			out[b] = append(out[b], Slot{Arm: doubles[b%len(doubles)]})
		}
		block := out[b]
		r.Shuffle(len(block), func(i, j int) { block[i], block[j] = block[j], block[i] })
		met := map[string]bool{}
		for i := range block {
			block[i].Duplicate = met[block[i].Arm]
			met[block[i].Arm] = true
		}
	}
	return out, nil
}

// Seeds derives a trial's own seed from the run's, so that trials are independent and each can be repeated alone.
func Seeds(seed uint64, block, position int) uint64 {
	return rand.New(rand.NewPCG(seed, uint64(block)<<32|uint64(position))).Uint64()
}

// Names lists the arms of each block, in order.
func Names(blocks [][]Slot) [][]string {
	out := make([][]string, len(blocks))
	for i, b := range blocks {
		out[i] = slices.Collect(func(yield func(string) bool) {
			for _, s := range b {
				if !yield(s.Arm) {
					return
				}
			}
		})
	}
	return out
}
