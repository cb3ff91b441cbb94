// Package audit measures what is known beforehand, and says whether the lab finds it: servers of a known latency, a
// server that stalls by the clock, and one contender against itself. What is true follows by arithmetic, with no program
// that could share a mistake with the lab.
package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
)

// Stall is a server that stands still for a part of each period, and otherwise answers after its latency.
type Stall struct {
	Latency time.Duration
	// Stall is how long it stands still at the start of each Period; both 0: never.
	Stall, Period time.Duration
}

// Wait is how long a request waits for its answer that arrives so long after the server began: to the end of the stall
// that it falls into, and the latency.
func (s Stall) Wait(arrives time.Duration) time.Duration {
	if s.Period > 0 {
		if into := arrives % s.Period; into < s.Stall {
			return s.Stall - into + s.Latency
		}
	}
	return s.Latency
}

// Quantile is the response time that a share q of requests stays within, which arrive evenly over whole periods: of all,
// Stall/Period fall into a stall and wait for anything up to its length, each as likely as the others; the rest are
// answered after the latency alone.
func (s Stall) Quantile(q float64) time.Duration {
	beyond := 1 - q // the share that waits longer
	if s.Period <= 0 || beyond >= float64(s.Stall)/float64(s.Period) {
		return s.Latency
	}
	return s.Latency + s.Stall - time.Duration(beyond*float64(s.Period))
}

// Answer is what the server answers to everything.
const Answer = `{"data":{"ok":true}}`

// ServeHTTP implements http.Handler. The stalls are counted from began.
func (s Stall) Handler(began time.Time) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived := time.Since(began)
		_, _ = io.Copy(io.Discard, r.Body)
		sleepUntil(began.Add(arrived + s.Wait(arrived)))
		w.Header().Set("Content-Type", "application/graphql-response+json")
		_, _ = io.WriteString(w, Answer)
	})
}

// sleepUntil sleeps most of the time and looks at the clock for the last of it: Go's timers wake in steps of a
// millisecond, which is a twentieth of what is to be told apart.
func sleepUntil(at time.Time) {
	if rest := time.Until(at) - 1500*time.Microsecond; rest > 0 {
		time.Sleep(rest)
	}
	for time.Now().Before(at) {
		time.Sleep(20 * time.Microsecond)
	}
}

// Row is one thing that is known, what the lab says of it, and whether that is within the bound.
type Row struct {
	What     string `json:"what"`
	True     string `json:"true"`
	Reported string `json:"reported"`
	Bound    string `json:"bound"`
	Within   bool   `json:"within"`
	Part     string `json:"part"` // of the audit: stall, slower, same
}

// Report is an audit's outcome.
type Report struct {
	Method      int             `json:"method"` // of measuring: record.Method
	Began       time.Time       `json:"began"`
	Seed        uint64          `json:"seed"`
	Environment json.RawMessage `json:"environment"`
	Command     []string        `json:"command"`
	Rows        []Row           `json:"rows"`
}

// Has tells whether a part was measured.
func (r Report) Has(part string) bool {
	return slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Part == part })
}

// Passed tells whether every row is within its bound.
func (r Report) Passed() bool {
	for _, row := range r.Rows {
		if !row.Within {
			return false
		}
	}
	return len(r.Rows) > 0
}

var heads = []string{"what", "true", "reported", "bound", "within"}

func (r Row) cells() []string {
	within := "yes"
	if !r.Within {
		within = "NO"
	}
	return []string{r.What, r.True, r.Reported, r.Bound, within}
}

// Markdown is the table of docs/METHODOLOGY.md.
func (r Report) Markdown(machine string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat(" --- |", len(heads)))
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row.cells(), " | "))
	}
	fmt.Fprintf(&b, "\n%s; %s, method %d. Made by `%s`.\n", machine, r.Began.UTC().Format("2006-01-02"), r.Method, strings.Join(r.Command, " "))
	return b.String()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

// StallBound is how far a reported p99 may be from the true one.
const StallBound = 0.02

// JudgeStall holds a trial's p99 against the stalls that its server had.
func JudgeStall(s Stall, t record.Trial) []Row {
	if t.Void != nil {
		return []Row{{What: "stalls", True: ms(s.Quantile(0.99)), Reported: "void: " + *t.Void, Bound: "not void"}}
	}
	what := fmt.Sprintf("stalls of %v every %v, %s requests at %.0f/s", s.Stall, s.Period, fmt.Sprint(t.Sent), t.OfferedRPS)
	truth := s.Quantile(0.99)
	off := float64(t.LatencyP99NS)/float64(truth) - 1
	return []Row{{
		What: what + ": response time p99", True: ms(truth), Reported: fmt.Sprintf("%s (%+.1f %%)", ms(time.Duration(t.LatencyP99NS)), 100*off),
		Bound: fmt.Sprintf("%.0f %%", 100*StallBound), Within: math.Abs(off) <= StallBound,
	}}
}

// SlowerRule decides the claim that a server of 20 ms and one of 22 ms differ in the median of their response times.
func SlowerRule(arms ...string) claims.Rule {
	return claims.Rule{
		Scenario: "audit", Metric: "latency_p50_ns", Claim: claims.Differ, Margin: 1.01, Arms: arms,
		Value: func(t *record.Trial) (float64, bool) {
			return float64(t.LatencyP50NS), stats.Carries(0.5, t.Sent)
		},
		Says: func(more, less string, ratio float64) string {
			return fmt.Sprintf("%s takes %.3f times as long as %s", more, ratio, less)
		},
	}
}

// JudgeSlower holds the verdict on two servers against by how much they differ. What both take beyond their latency, of
// which the fast one's trials tell, is no part of the difference.
func JudgeSlower(trials []record.Trial, fast, slow string, difference time.Duration) []Row {
	verdicts := SlowerRule(slow, fast).Decide(trials)
	var medians []float64
	for _, t := range trials {
		if t.Arm == fast && t.Void == nil && !t.Duplicate {
			medians = append(medians, float64(t.LatencyP50NS))
		}
	}
	if len(verdicts) != 1 || len(medians) == 0 {
		return []Row{{What: fmt.Sprintf("%s against %s", slow, fast), True: "they differ", Reported: "no trial that is not void", Bound: "holds"}}
	}
	v := verdicts[0]
	truth := 1 + float64(difference)/stats.Median(medians)
	row := Row{What: fmt.Sprintf("%s against %s, %d blocks: the verdict that they differ", slow, fast, v.Blocks), True: claims.Holds, Reported: v.Verdict + ": " + v.Reason, Bound: claims.Holds, Within: v.Verdict == claims.Holds}
	if v.RatioLow == nil || v.RatioHigh == nil {
		return []Row{row}
	}
	return []Row{row, {
		What: fmt.Sprintf("%s against %s: their ratio", slow, fast), True: fmt.Sprintf("%.3f", truth), Reported: fmt.Sprintf("%.3f (95 %%: %.3f–%.3f)", *v.Ratio, *v.RatioLow, *v.RatioHigh),
		Bound: "1 %", Within: math.Abs(*v.Ratio/truth-1) <= 0.01,
	}}
}

// JudgeSame holds the verdicts of comparisons of one contender with itself against the truth, that nothing differs.
func JudgeSame(contender string, verdicts []record.Verdict) []Row {
	wrong, significant, covered, tested := 0, 0, 0, 0
	for _, v := range verdicts {
		if v.Verdict == claims.Untested {
			continue
		}
		tested++
		if v.Verdict != claims.TooClose {
			wrong++
		}
		if v.PHolm != nil && *v.PHolm < claims.Alpha {
			significant++
		}
		if v.RatioLow != nil && *v.RatioLow <= 1 && *v.RatioHigh >= 1 {
			covered++
		}
	}
	what := fmt.Sprintf("%s against itself, %d comparisons", contender, tested)
	if untested := len(verdicts) - tested; untested > 0 {
		what += fmt.Sprintf(" (%d more could not be tested)", untested)
	}
	if tested == 0 {
		return []Row{{What: what, True: "no difference", Reported: "nothing could be tested", Bound: "a comparison"}}
	}
	_, most := stats.BinomialBounds(tested, claims.Alpha, claims.Significance)
	least, _ := stats.BinomialBounds(tested, 1-claims.Alpha, claims.Significance)
	of := func(n int) string { return fmt.Sprintf("%d of %d", n, tested) }
	return []Row{
		{What: what + ": verdicts that they differ", True: "none", Reported: of(wrong), Bound: fmt.Sprintf("at most %d", most), Within: wrong <= most},
		{What: what + ": p below 0.05", True: "1 in 20", Reported: of(significant), Bound: fmt.Sprintf("at most %d", most), Within: significant <= most},
		{What: what + ": intervals with 1 in them", True: "19 in 20", Reported: of(covered), Bound: fmt.Sprintf("at least %d", least), Within: covered >= least},
	}
}
