package trial

import (
	"context"
	"time"

	"lab/loadtest/internal/agent"
)

// Probe attacks once in an open loop, without accounts and without a record: for what is asked of the generator itself.
func Probe(ctx context.Context, s Subject, spec Spec) (*agent.Result, error) {
	result, _, err := attack(ctx, s, spec.job(s))
	return result, err
}

// KeptSchedule says whether the generator held its schedule, by the limits that make a trial void.
func KeptSchedule(r *agent.Result) bool {
	return r.OK > 0 && r.FailedBy.Total() == 0 && float64(r.Unsent) <= MaxUnsentShare*float64(r.Offered) &&
		time.Duration(r.SendLag().ValueAtQuantile(99)) <= MaxSendLagP99
}
