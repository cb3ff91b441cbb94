package report

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
)

// withFaults has every trial of the claim restart the database from 0.5 to 1 s, and recover so long after it.
func withFaults(recoveryNS map[string]int64) func(*record.Run) {
	claim := record.Scenario{
		ID: "pool-recovery", Claim: "broken connections are thrown away", Metric: contract.MetricRecovery, Rule: contract.RuleWithin, Margin: 1.05, BoundNS: 1e9, ChangedBy: "a pool that waits",
		Faults: []record.PlannedFault{{Kind: string(contract.FaultDatabaseRestarted), AtNS: 5e8}},
	}
	for _, a := range madeArms {
		if a.tier == "mainstream" {
			claim.Pairs = append(claim.Pairs, [2]string{a.name, contract.Bound})
		}
	}
	return func(r *record.Run) {
		ofScenario(0, claim)(r)
		for i := range r.Trials {
			x := &r.Trials[i]
			if x.Load != record.LoadRate {
				continue
			}
			first, recovery := int64(3e7), recoveryNS[x.Contender]
			x.Outcomes = &record.Outcomes{StepNS: 1e8, ResolutionNS: 1e7, OK: make([]uint64, 20), Failed: make([]uint64, 20)}
			x.Outcomes.OK[0], x.Outcomes.Failed[6] = x.OK, x.Failed
			x.Faults = []record.FaultOutcome{{
				Kind: string(contract.FaultDatabaseRestarted), CausedNS: 5e8, EndedNS: 1e9, UntilNS: 2e9, OK: 7, Failed: 3, FailedBy: record.Failed{Status: 2, Reset: 1},
				FirstSuccessNS: &first, RecoveryNS: recovery, Recovered: recovery < 1e9,
			}}
			x.RecoveryNS = &recovery
		}
	}
}

// A claim of a bound is told with its bound, and each arm's faults with what failed and how long it took to recover.
func TestFaultsAreTold(t *testing.T) {
	r := reportOf(t, made{profile: "quick", blocks: 8, seconds: 2, rps: 300, change: withFaults(map[string]int64{"go": 5e7, "node": 25e8, "rust": 0})}.write(t))
	for _, text := range []string{r["report.html"], r["README.md"]} {
		for _, words := range []string{
			"“broken connections are thrown away”: contradicted.",
			"go stays within 1s: its longest time to recover from a fault is 0.05",
			"Against the claim: the longest time to recover from a fault of node is 2.50 times the bound",
			"with the database restarted at 500ms",
			"blocks is below the bound of 1s, and no answer is wrong.",
			"pool-recovery: faults and recovery",
			"Longest time to recover from a fault: ",
			"reset 8, status 16", "not recovered",
		} {
			says(t, text, words)
		}
	}
	svg := r["charts/faults-light.svg"]
	require.NotEmpty(t, svg)
	says(t, svg, "failures a second")
	says(t, r["charts/claim-light.svg"], "Ratio to the bound of 1s")
	assert.True(t, has(r, "charts/faults-dark.png"))
}
