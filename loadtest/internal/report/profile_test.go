package report

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// Profiles of an arm's trials are added up, so that one with few samples counts as little as it has.
func TestProfilesAreAddedUp(t *testing.T) {
	claim := ofScenario(0, record.Scenario{
		ID: "profiled", Claim: "they are alike", Metric: "cpu_us_per_request", Rule: "equal", Margin: 1.25, Pairs: [][2]string{{"go", "node"}}, Profile: true, ChangedBy: "little",
	})
	n := 0
	b, err := open(opened(t, made{profile: "quick", blocks: 8, seconds: 2, rps: 300, change: func(r *record.Run) {
		claim(r)
		for i := range r.Trials {
			x := &r.Trials[i]
			if x.Load != record.LoadRate || x.Arm != "go" || x.Duplicate {
				continue
			}
			x.Profile = &record.Profile{Seconds: 5, Samples: 100, LoaderSamples: 10, RuntimeSamples: 30, Functions: []record.ProfiledFunction{{Function: "store.read (server/store.go)", Samples: 40}, {Function: "<b>load</b>", Samples: 10}}}
			if n++; n == 1 {
				x.Profile = &record.Profile{Seconds: 5, Samples: 900, LoaderSamples: 9, RuntimeSamples: 0, Functions: []record.ProfiledFunction{{Function: "store.read (server/store.go)", Samples: 100}}}
			}
		}
	}}.write(t)))
	require.NoError(t, err)
	shares := sectionOf(t, b, "profile").Table
	require.Len(t, shares.Rows, 1, "node was not profiled")
	// 9 + 7 × 10 of 900 + 7 × 100, and 7 × 30 of the runtime alone.
	assert.Equal(t, []string{"go", "4.9 %", "1.0 % – 10.0 %", "81.9 %", "13.1 %", "1,600", "8"}, shares.Rows[0])
	functions := sectionOf(t, b, "functions").Table
	require.Len(t, functions.Rows, 2)
	assert.Equal(t, []string{"go", "store.read (server/store.go)", "23.8 %"}, functions.Rows[0]) // 100 + 7 × 40
	assert.Equal(t, "4.4 %", functions.Rows[1][2])
}
