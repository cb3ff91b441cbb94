package engine

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPlace(t *testing.T) {
	for _, test := range []struct {
		cpus                       []int
		database, agent, contender []int
		shared                     bool
	}{
		{[]int{0}, []int{0}, []int{0}, []int{0}, true},
		{[]int{0, 1}, []int{0}, []int{0}, []int{1}, false},
		{[]int{0, 1, 2}, []int{0}, []int{1}, []int{2}, false},
		{[]int{0, 1, 2, 3}, []int{0}, []int{1}, []int{2, 3}, false},
		{[]int{0, 1, 2, 3, 4}, []int{0, 1}, []int{2}, []int{3, 4}, false},
		{[]int{0, 1, 2, 3, 4, 5}, []int{0, 1}, []int{2}, []int{3, 4, 5}, false},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, []int{0, 1, 2}, []int{3}, []int{4, 5, 6, 7}, false},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, []int{0, 1, 2, 3, 4, 5}, []int{6, 7}, []int{8, 9, 10, 11, 12, 13, 14, 15}, false},
		{[]int{3, 9}, []int{3}, []int{3}, []int{9}, false},
		{[]int{0, 4, 1, 5}, []int{0}, []int{4}, []int{1, 5}, false},
	} {
		t.Run(fmt.Sprint(test.cpus), func(t *testing.T) {
			got := Place(test.cpus)
			assert.Equal(t, test.database, got.Database, "database")
			assert.Equal(t, test.agent, got.Agent, "agent")
			assert.Equal(t, test.contender, got.Contender, "contender")
			assert.Equal(t, test.shared, got.Shared, "shared")
			assert.NotEmpty(t, got.Note)
		})
	}
}

func TestPlaceKeepsTheContenderApartAndUsesEveryCPU(t *testing.T) {
	for n := 2; n <= 130; n++ {
		cpus := make([]int, n)
		for i := range cpus {
			cpus[i] = i
		}
		got := Place(cpus)
		used := map[int]bool{}
		for _, cpu := range got.Contender {
			assert.NotContains(t, got.Database, cpu, "%d CPUs", n)
			assert.NotContains(t, got.Agent, cpu, "%d CPUs", n)
		}
		for _, part := range [][]int{got.Contender, got.Database, got.Agent} {
			assert.NotEmpty(t, part, "%d CPUs", n)
			for _, cpu := range part {
				used[cpu] = true
			}
		}
		assert.Len(t, used, n, "%d CPUs", n)
		if n > 3 {
			assert.Len(t, got.Contender, n/2, "%d CPUs", n)
		}
	}
}

func TestPlaceWithoutCPUsSaysSo(t *testing.T) {
	got := Place(nil)
	assert.True(t, got.Shared)
	assert.Contains(t, got.Note, "not known")
}

func TestContendersMayAskForCPUs(t *testing.T) {
	eight := Place([]int{0, 1, 2, 3, 4, 5, 6, 7}) // database 0, 1, 2; agent 3; contender 4, 5, 6, 7
	for _, test := range []struct {
		of        Placement
		n         int
		contender []int
		shared    bool
		note      string
	}{
		{eight, 0, []int{4, 5, 6, 7}, false, eight.Note},
		{eight, 4, []int{4, 5, 6, 7}, false, eight.Note},
		{eight, 2, []int{6, 7}, false, ""},
		{eight, 6, []int{4, 5, 6, 7, 3, 2}, true, "Contenders on 6 CPUs share 2 of them with the database or the generator: their figures contain that competition."},
		{eight, 8, []int{4, 5, 6, 7, 3, 2, 1, 0}, true, "Contenders on 8 CPUs share 4 of them with the database or the generator: their figures contain that competition."},
		{Place([]int{0, 1}), 1, []int{1}, false, Place([]int{0, 1}).Note},
		{Place([]int{0, 1}), 2, []int{1, 0}, true, "Contenders on 2 CPUs share 1 of them with the database or the generator: their figures contain that competition."},
		{Place([]int{5}), 1, []int{5}, true, Place([]int{5}).Note},
	} {
		got, err := test.of.With(test.n)
		require.NoError(t, err)
		assert.Equal(t, test.contender, got.Contender)
		assert.Equal(t, test.shared, got.Shared)
		assert.Equal(t, test.note, got.Note)
		assert.Equal(t, test.of.Database, got.Database)
		assert.Equal(t, test.of.Agent, got.Agent)
	}
	_, err := eight.With(9)
	assert.ErrorIs(t, err, ErrTooFewCPUs)
	assert.ErrorContains(t, err, "9 are asked for, and it has 8")
	_, err = Place(nil).With(1)
	assert.ErrorIs(t, err, ErrTooFewCPUs)
	assert.Equal(t, []int{4, 5, 6, 7}, eight.Contender, "the table's stays as it is")
}
