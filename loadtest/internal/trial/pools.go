package trial

import (
	"context"
	"time"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/scrape"
)

// poolWaitMetric is the contract's name (contract/README.md, 29).
const poolWaitMetric = "lab_pool_wait_seconds_sum"

// poolWait is how long statements have waited for a connection since the contender began, all pools together; nil where
// it does not tell. It is read before a trial's first and after its last counter, so that reading it costs no request and
// is on nobody's account.
func poolWait(ctx context.Context, c engine.Contender) *time.Duration {
	samples, err := scrape.Get(ctx, c.MetricsURL())
	if err != nil || !samples.Has(poolWaitMetric) {
		return nil
	}
	d := time.Duration(samples.Sum(poolWaitMetric) * float64(time.Second))
	return &d
}

// waited is what was added between two readings; nil where either is not there, or where the contender has begun anew.
func waited(before, after *time.Duration) *time.Duration {
	if before == nil || after == nil || *after < *before {
		return nil
	}
	d := *after - *before
	return &d
}
