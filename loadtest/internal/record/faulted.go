package record

import (
	"errors"
	"fmt"
	"time"
)

// PlannedFault is a fault as a scenario's file has it; times are from a trial's beginning.
type PlannedFault struct {
	Kind    string `json:"kind"`
	AtNS    int64  `json:"at_ns"`
	LastsNS int64  `json:"lasts_ns,omitempty"` // 0: it is over when it was caused
	DelayNS int64  `json:"delay_ns,omitempty"` // added to each round trip meanwhile
}

// String is such as "packets_stalled at 7s for 500ms".
func (f PlannedFault) String() string {
	out := fmt.Sprintf("%s at %v", f.Kind, time.Duration(f.AtNS))
	if f.LastsNS > 0 {
		out += fmt.Sprintf(" for %v", time.Duration(f.LastsNS))
	}
	if f.DelayNS > 0 {
		out += fmt.Sprintf(" of %v", time.Duration(f.DelayNS))
	}
	return out
}

// FaultOutcome is a fault that was caused in a trial, and what came of it. Moments are counted from the trial's beginning.
// A request belongs to the moment at which it was over, answered or failed: one that was under way when a fault was caused,
// and failed for that, is that fault's, and one that waited for long and was answered right is no failure.
type FaultOutcome struct {
	Kind string `json:"kind"`
	// CausedNS is when causing it began, EndedNS when it had been taken back or, of one that is not, had been caused; both are
	// the same where causing it takes no time.
	CausedNS int64 `json:"caused_ns"`
	EndedNS  int64 `json:"ended_ns"`
	// UntilNS is when the next fault was caused, or the trial's last request was over: what is looked at reaches there.
	UntilNS int64 `json:"until_ns"`
	// OK, Failed and FailedBy are of the requests that were over from CausedNS to UntilNS.
	OK       uint64 `json:"ok"`
	Failed   uint64 `json:"failed"`
	FailedBy Failed `json:"failed_by"`
	// FirstSuccessNS runs from EndedNS (of a kind that servers are to bear, such as redis_gone, from CausedNS) to the first
	// answer after it that was right; null where none was. RecoveryNS runs to that or to the last request that failed, whichever
	// was later; of a kind that is to be borne it is at least the longest time from CausedNS on without a right answer (since
	// Method 6 of the operation that decides, where several are mixed). Both are rounded up to Outcomes.ResolutionNS. Recovered
	// is false where no answer was right after the last failure, or none at all: then RecoveryNS is the least that it can be.
	FirstSuccessNS *int64 `json:"first_success_ns"`
	RecoveryNS     int64  `json:"recovery_ns"`
	Recovered      bool   `json:"recovered"`
}

// Outcomes is what became of a trial's requests over time, by when they were over.
type Outcomes struct {
	// StepNS is the length of each step of OK and Failed, ResolutionNS how exact the times of the trial's faults are.
	StepNS       int64    `json:"step_ns"`
	ResolutionNS int64    `json:"resolution_ns"`
	OK           []uint64 `json:"ok"`
	Failed       []uint64 `json:"failed"`
}

// checkFaults says where what is recorded of faults contradicts itself or the trial.
func (t *Trial) checkFaults() error {
	if len(t.Faults) == 0 && t.RecoveryNS == nil && t.Outcomes == nil {
		return nil
	}
	if len(t.Faults) == 0 || t.RecoveryNS == nil || t.Outcomes == nil {
		return errors.New("of faults, recovery_ns and outcomes some are there and some are not")
	}
	var longest int64
	for i, f := range t.Faults {
		longest = max(longest, f.RecoveryNS)
		switch {
		case f.Failed != f.FailedBy.Total():
			return fmt.Errorf("fault %s: failed %d is not the sum of failed_by, %d", f.Kind, f.Failed, f.FailedBy.Total())
		case f.CausedNS < 0 || f.EndedNS < f.CausedNS || f.UntilNS < f.EndedNS:
			return fmt.Errorf("fault %s: caused_ns %d, ended_ns %d and until_ns %d are not in order", f.Kind, f.CausedNS, f.EndedNS, f.UntilNS)
		case i > 0 && t.Faults[i-1].UntilNS > f.CausedNS:
			return fmt.Errorf("fault %s: caused_ns %d is within the one before", f.Kind, f.CausedNS)
		}
	}
	if longest != *t.RecoveryNS {
		return fmt.Errorf("recovery_ns %d is not the longest of its faults, %d", *t.RecoveryNS, longest)
	}
	if t.Outcomes.StepNS <= 0 || len(t.Outcomes.OK) != len(t.Outcomes.Failed) {
		return fmt.Errorf("outcomes: step_ns is %d, ok has %d steps and failed %d", t.Outcomes.StepNS, len(t.Outcomes.OK), len(t.Outcomes.Failed))
	}
	var ok, failed uint64
	for i := range t.Outcomes.OK {
		ok, failed = ok+t.Outcomes.OK[i], failed+t.Outcomes.Failed[i]
	}
	if ok != t.OK || failed != t.Failed {
		return fmt.Errorf("outcomes have ok %d and failed %d, but the trial %d and %d", ok, failed, t.OK, t.Failed)
	}
	return nil
}
