package report

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// ofPhases is a trial whose parts took so long, in milliseconds; service is what passed without a statement in flight.
func ofPhases(database, service, own int64) record.Trial {
	return record.Trial{Phases: &record.Phases{Requests: 10, MedianNS: map[string]int64{
		record.PhaseDatabase: database * 1e6, record.PhaseUpstream: service * 1e6, record.PhaseOwn: own * 1e6, record.PhaseTotal: (database + service + own) * 1e6,
	}}}
}

// The article's sum by hand: a network of 20 ms, and a call that takes 100 ms at least.
func TestPartsAreAddedUpOneAfterTheOther(t *testing.T) {
	for name, c := range map[string]struct {
		trial     record.Trial
		leastMS   float64
		call, sum float64
		known     bool
	}{
		"asked at once: the call began with the statements": {ofPhases(51, 50, 2), 100, 101, 20 + 51 + 101 + 2, true},
		"asked when the database had answered":              {ofPhases(51, 101, 2), 100, 101, 20 + 51 + 101 + 2, true},
		"all of the call beside statements: not known":      {ofPhases(151, 0, 2), 100, 0, 0, false},
		"no delay of the call: not known":                   {ofPhases(51, 50, 2), 0, 0, 0, false},
		"the server told nothing":                           {record.Trial{}, 100, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			call, known := externalCall(c.trial, c.leastMS)
			assert.Equal(t, c.known, known)
			sum, knownSum := addedUp(c.trial, 20, c.leastMS)
			assert.Equal(t, c.known, knownSum)
			if known {
				assert.InDelta(t, c.call, call, 1e-9)
				assert.InDelta(t, c.sum, sum, 1e-9)
			}
		})
	}
}

// The sum stands beside what was measured, in a panel that says that it is one; without phases of a call there is none.
func TestTheBudgetHasTheArticlesSum(t *testing.T) {
	for name, c := range map[string]struct {
		delays map[string]int64
		says   string
	}{
		"with a call":    {map[string]int64{record.LinkClient: 20e6, "upstream": 100e6}, "174.0"},
		"without a call": {map[string]int64{record.LinkClient: 20e6}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := open(opened(t, made{profile: "quick", blocks: 8, seconds: 2, rps: 100, change: func(r *record.Run) {
				ofScenario(0, record.Scenario{
					ID: "latency-budget", Claim: "no difference", Phases: true, DelaysNS: c.delays, Metric: "latency_p50_ns", Rule: "equal", Margin: 1.05, Pairs: [][2]string{{"go", "node"}}, ChangedBy: "little",
				})(r)
				for i := range r.Trials {
					if x := &r.Trials[i]; x.Load == record.LoadRate {
						x.Phases = ofPhases(51, 50, 2).Phases
					}
				}
			}}.write(t)))
			require.NoError(t, err)
			s := sectionOf(t, b, "budget")
			require.NotNil(t, s.Figure)
			page := string(s.Figure.Wide().JSON())
			told := func(head string) string {
				if k := slices.Index(s.Table.Heads, head); k >= 0 {
					return s.Table.Rows[0][k]
				}
				return ""
			}
			assert.Equal(t, "123.00", told("total ms"), "the network and both at once")
			if c.says == "" {
				assert.NotContains(t, page, addedUpTitle)
				assert.Empty(t, told("one after the other (a sum) ms"))
				assert.NotContains(t, s.Lead, "a sum")
				return
			}
			assert.Contains(t, page, addedUpTitle)
			assert.Contains(t, page, c.says)
			assert.Equal(t, "101.00", told("external call ms"))
			assert.Equal(t, "174.00", told("one after the other (a sum) ms"))
			assert.Contains(t, s.Figure.Finding, "go 174.0 ms")
			assert.Contains(t, s.Lead, "It is a sum, and no measured response: in all trials the service was asked while the database was")
		})
	}
}
