package report

import (
	"fmt"
	"time"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// An attack is a run of one trial on a target that is not the lab's: it has response times and nothing of the server.

func (b *build) isAttack() bool { return b.run.Profile == record.ProfileAttack }

func (b *build) attackSections() []section {
	g := b.groups[0]
	if g.Closed {
		return []section{b.throughput(g)}
	}
	var out []section
	if l := b.latencyPercentiles(g); l != nil {
		out = append(out, *l)
	}
	if l := b.latencyTime(g); l != nil {
		out = append(out, *l)
	}
	return out
}

func (b *build) attackHeadline() string {
	t := b.run.Trials[0]
	if t.Arrival == "closed" {
		return fmt.Sprintf("How %s answers clients that wait for it", t.Arm)
	}
	return fmt.Sprintf("How %s answers %s requests a second", t.Arm, whole(b.run.Plan.RateRPS))
}

func (b *build) attackAnswer() []string {
	t := b.run.Trials[0]
	var out []string
	if t.Void != nil {
		out = append(out, "This attack is void: "+*t.Void+".")
	}
	failed := "none failed"
	if t.Failed > 0 {
		failed = count(t.Failed) + " failed: " + summary.Failures(t.FailedBy)
	}
	out = append(out, fmt.Sprintf("%s requests sent in %v, %s answered right (%s a second), %s.", count(t.Sent), time.Duration(t.DurationNS), count(t.OK), whole(t.AchievedRPS), failed))
	words := ""
	for _, p := range summary.Percentiles() {
		if stats.Carries(p.Quantile, t.Sent) {
			words += fmt.Sprintf("%s %s ms, ", p.Name, milli(ms(p.Of(t))))
		}
	}
	from := "from the intended send"
	if t.Arrival == "closed" {
		from = "from the send, which in a closed loop hides queueing"
	}
	return append(out, fmt.Sprintf("Response time %slargest %s ms, %s.", words, milli(ms(t.LatencyMaxNS)), from))
}

func (b *build) attackLimits() []string {
	return []string{
		"Anything of the target's CPU, memory or bottleneck: it is not the lab's, and only its answers were looked at.",
		"Other rates, requests and machines; and whatever shared this machine meanwhile is in the figures.",
		"How sure the figures are: one attack has no interval. Attack again, and see how much they move.",
	}
}
