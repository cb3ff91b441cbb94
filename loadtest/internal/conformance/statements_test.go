package conformance

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/reference"
)

// Each process that is told of a change may read areas again, and no more than that.
func TestReadingsOfChangedAreas(t *testing.T) {
	c := loadContract(t)
	operation, err := c.Operation("rename_area_checks")
	require.NoError(t, err)
	q, err := newQuestion(operation.Name, reference.RequestOf(operation), operation.Expected)
	require.NoError(t, err)
	q.operation, q.mutates = operation, true
	s := &subject{prover: &prover{Options: Options{Contract: c}}, setting: contract.Default}
	for _, test := range []struct {
		name                                  string
		readings, changes, listeners, expects int
	}{
		{"one process", 6, 2, 1, 0},
		{"one process that reads once more", 7, 2, 1, 1},
		{"nobody seen listening is one process", 6, 2, 0, 0},
		{"three processes", 18, 2, 3, 0},
		{"three processes that read once more", 19, 2, 3, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := counted{primary: map[string]int{"rename_area": 2, "areas": test.readings}, changes: test.changes, listeners: test.listeners}
			var found tally
			s.checkCounts(&found, q, got, 1, "")
			assert.Equal(t, test.expects, found.distinct())
		})
	}
}

// Requests at once run as many statements as they would one by one: neither do they share any, nor are there more.
func TestCountsOfRequestsAtOnce(t *testing.T) {
	c := loadContract(t)
	operation, err := c.Operation("q1")
	require.NoError(t, err)
	q, err := newQuestion(operation.Name, reference.RequestOf(operation), operation.Expected)
	require.NoError(t, err)
	q.operation = operation
	s := &subject{prover: &prover{Options: Options{Contract: c}}, setting: contract.Default}
	for _, test := range []struct {
		name       string
		categories int
		found      string
	}{
		{"one each", 16, ""},
		{"two shared one", 15, ": q1: statement categories_by_ids: expected 16 for 16 requests, got 15, too few"},
		{"all shared one", 1, ": q1: statement categories_by_ids: expected 16 for 16 requests, got 1, too few"},
		{"none at all", 0, ": q1: statement categories_by_ids: expected 16 for 16 requests, got 0, too few"},
		{"one has two", 17, ": q1: statement categories_by_ids: expected 16 for 16 requests, got 17, too many"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := counted{replica: map[string]int{"items": 16, "categories_by_ids": test.categories}}
			var found tally
			s.checkCounts(&found, q, got, 16, "")
			if test.found == "" {
				assert.Empty(t, found.list)
				return
			}
			require.Len(t, found.list, 1)
			assert.Equal(t, test.found, found.list[0].String())
		})
	}
}
