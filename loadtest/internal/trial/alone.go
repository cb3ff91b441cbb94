package trial

import (
	"fmt"
	"time"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/record"
)

// BottleneckUnknown stands where only the load generator could be looked at.
const BottleneckUnknown = "unknown"

// Alone turns an attack on a target that is not ours into a record and its HDR log: there is no account of the target's
// CPU time or memory. Failures are what such an attack may be there to find, so only a generator that was late or could
// not send makes it void.
func Alone(t *record.Trial, r *agent.Result) ([]byte, error) {
	fill(t, r)
	t.AgentCPUSeconds = r.CPUSeconds
	t.Parts = map[string]record.Part{"agent": {CPUSeconds: r.CPUSeconds}}
	t.Bottleneck = BottleneckUnknown
	if t.OK == 0 {
		t.Void = reason("no request was answered right: %s", t.FirstFailure)
	} else if t.Load == record.LoadRate {
		t.Void = late(t)
	}
	log, err := hdrLog(r)
	if err != nil {
		return nil, err
	}
	return log, t.Check()
}

func reason(format string, args ...any) *string {
	s := fmt.Sprintf(format, args...)
	return &s
}

// late is why an open loop did not hold its schedule, or nil.
func late(t *record.Trial) *string {
	switch {
	case float64(t.Unsent) > MaxUnsentShare*float64(t.Offered):
		return reason("%d of %d requests could not be sent; the limit is %.0f %%", t.Unsent, t.Offered, 100*MaxUnsentShare)
	case time.Duration(t.SendLagP99NS) > maxSendLag(t):
		return reason("the generator sent late: lag p99 %.1f ms; the limit is %.0f ms", float64(t.SendLagP99NS)/1e6, maxSendLag(t).Seconds()*1e3)
	}
	return nil
}
