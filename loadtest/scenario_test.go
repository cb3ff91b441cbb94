package main

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
)

// What a scenario's file says is what is done.
func TestTheScenarioFileIsWhatIsMeasured(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	i := slices.IndexFunc(l.scenarios, func(s contract.Scenario) bool { return s.ID == libraryScenario })
	require.GreaterOrEqual(t, i, 0)
	s, rule := l.scenarios[i], claims.LibraryRule(nil)
	assert.Equal(t, libraryArms, s.Arms)
	assert.Equal(t, libraryQuestion, s.Operation)
	assert.Equal(t, []string{string(record.LoadRate), string(record.LoadThroughput)}, s.Load)
	assert.Equal(t, rule.Metric, s.Metric)
	assert.Equal(t, rule.Margin, s.Margin)
	assert.Equal(t, claims.Alpha, s.Alpha)
	for _, s := range l.scenarios {
		for _, name := range s.Arms {
			_, err := contender.Resolve(l.contenders, name)
			assert.NoError(t, err, s.ID)
		}
	}
}
