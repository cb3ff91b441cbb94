package trial

import "time"

// poolWaitMetric is the contract's name (contract/README.md, 29).
const poolWaitMetric = "lab_pool_wait_seconds_sum"

// waited is what was added between two readings; nil where either is not there, or where the contender has begun anew.
func waited(before, after *time.Duration) *time.Duration {
	if before == nil || after == nil || *after < *before {
		return nil
	}
	d := *after - *before
	return &d
}
