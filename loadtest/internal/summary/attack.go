package summary

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// attackWords says in one sentence what was asked of a target.
func attackWords(r record.Run, g Group) string {
	if len(r.Trials) == 0 {
		return "Nothing was sent."
	}
	t := r.Trials[0]
	d := time.Duration(t.DurationNS)
	if g.Closed {
		return fmt.Sprintf("%s, closed loop for %v: each client waits for an answer before it asks again, which hides queueing; %d requests.", g.Operation, d, t.Sent)
	}
	return fmt.Sprintf("%s, open loop with %s arrivals at %.0f requests a second for %v, seed %d.", g.Operation, arrivalWords(t.Arrival), r.Plan.RateRPS, d, t.Seed)
}

func arrivalWords(arrival string) string {
	if arrival == "poisson" {
		return "Poisson"
	}
	return arrival
}

// Failures lists kinds of failure that occurred, with their numbers; "none" where there are none.
func Failures(f record.Failed) string {
	var out []string
	for _, k := range []struct {
		n    uint64
		name string
	}{
		{f.Refused, "refused"}, {f.Reset, "reset or cut short"}, {f.Timeout, "out of time"}, {f.Status, "other status than 200"},
		{f.GraphQLErrors, "errors in the body"}, {f.WrongAnswer, "wrong answer"},
	} {
		if k.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", k.n, k.name))
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// attackText is the table of an attack on a terminal.
func attackText(b *strings.Builder, r record.Run) {
	for _, t := range r.Trials {
		closed := t.Arrival == "closed"
		g := Group{Operation: t.Operation, Closed: closed}
		fmt.Fprintf(b, "%s\n\n", attackWords(r, g))
		w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
		line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
		if closed {
			line("requests", "%d", t.Sent)
			line("rate", "%.1f/s answered right", t.AchievedRPS)
		} else {
			line("requests", "%d offered, %d sent, %d unsent", t.Offered, t.Sent, t.Unsent)
			line("rate", "%.1f/s offered, %.1f/s answered right", t.OfferedRPS, t.AchievedRPS)
		}
		line("answers", "%d right, %d failed (%s)", t.OK, t.Failed, Failures(t.FailedBy))
		if t.FirstFailure != "" {
			line("first failure", "%s", t.FirstFailure)
		}
		from := "from the intended send"
		if closed {
			from = "from the send; a closed loop hides queueing"
		}
		var cells []string
		for _, p := range Percentiles() {
			text := "–"
			if stats.Carries(p.Quantile, t.Sent) {
				text = fmt.Sprintf("%.3f ms", float64(p.Of(t))/1e6)
			}
			cells = append(cells, p.Name+" "+text)
		}
		line("response time", "%s, largest %.3f ms (%s)", strings.Join(cells, ", "), float64(t.LatencyMaxNS)/1e6, from)
		if !closed {
			line("service time", "p50 %.3f ms, p99 %.3f ms (from the true send)", float64(t.ServiceP50NS)/1e6, float64(t.ServiceP99NS)/1e6)
			line("send lag", "p99 %.3f ms", float64(t.SendLagP99NS)/1e6)
		}
		if t.Sent > 0 {
			line("generator", "%.1f CPU seconds, %.0f µs a request", t.AgentCPUSeconds, 1e6*t.AgentCPUSeconds/float64(t.Sent))
		}
		_ = w.Flush()
		operationsText(b, t)
		if t.Void != nil {
			fmt.Fprintf(b, "\nVOID: %s\n", *t.Void)
		}
	}
}

// operationsText is the table of a mix, an operation a line.
func operationsText(b *strings.Builder, t record.Trial) {
	if len(t.Operations) == 0 {
		return
	}
	fmt.Fprintf(b, "\nBy operation, response times in ms; bodies of %d of %d answers were compared:\n", t.Compared, t.Sent)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "operation\trequests\tright\tfailed")
	for _, p := range Percentiles() {
		fmt.Fprintf(w, "\t%s", p.Name)
	}
	fmt.Fprint(w, "\tlargest\n")
	for _, o := range t.Operations {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d (%s)", o.Operation, o.Sent, o.OK, o.Failed, Failures(o.FailedBy))
		for _, p := range Percentiles() {
			if stats.Carries(p.Quantile, o.Sent) {
				fmt.Fprintf(w, "\t%.3f", float64(p.OfOperation(o))/1e6)
			} else {
				fmt.Fprint(w, "\t–")
			}
		}
		fmt.Fprintf(w, "\t%.3f\n", float64(o.LatencyMaxNS)/1e6)
	}
	_ = w.Flush()
}
