package summary

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
)

// Fault is what an arm made of one of its scenario's faults, over its trials that are not void.
type Fault struct {
	Arm  string
	Kind string
	// Number is its place among the scenario's faults, from 0.
	Number int
	Trials int
	// NotRecovered are trials in which no request succeeded after the last one that failed.
	NotRecovered int
	// Sent and FailedBy are of the requests that were over from its cause until the next fault's, all trials together.
	Sent     uint64
	FailedBy record.Failed
	// In milliseconds. Lasted is from cause to end; Recovery from then until all requests succeeded again, where it is a
	// trial that has not recovered the least that it can have been.
	Lasted, FirstSuccess, Recovery Quantity
}

// Faults has the faults of a group's trials, by number and then by arm; none where there were no faults.
func Faults(g Group) []Fault {
	var out []Fault
	for number := 0; ; number++ {
		found := false
		for _, a := range g.Arms {
			x := Fault{Arm: a.Name, Number: number}
			of := func(value func(f record.FaultOutcome) (float64, bool)) Quantity {
				return Of(a.Rate, func(t record.Trial) (float64, bool) {
					if number >= len(t.Faults) {
						return 0, false
					}
					return value(t.Faults[number])
				})
			}
			x.Lasted = of(func(f record.FaultOutcome) (float64, bool) { return float64(f.EndedNS-f.CausedNS) / 1e6, true })
			x.Recovery = of(func(f record.FaultOutcome) (float64, bool) { return float64(f.RecoveryNS) / 1e6, true })
			x.FirstSuccess = of(func(f record.FaultOutcome) (float64, bool) {
				if f.FirstSuccessNS == nil {
					return 0, false
				}
				return float64(*f.FirstSuccessNS) / 1e6, true
			})
			for _, t := range a.Rate {
				if number >= len(t.Faults) {
					continue
				}
				f := t.Faults[number]
				x.Kind, x.Trials = f.Kind, x.Trials+1
				x.Sent, x.FailedBy = x.Sent+f.OK+f.Failed, x.FailedBy.Add(f.FailedBy)
				if !f.Recovered {
					x.NotRecovered++
				}
			}
			if x.Trials > 0 {
				out, found = append(out, x), true
			}
		}
		if !found {
			return out
		}
	}
}

// FaultKindWords say a kind of fault.
func FaultKindWords(kind string) string {
	return cmp.Or(contract.FaultTraitsOf[contract.FaultKind(kind)].Words, kind)
}

// FaultWords say what went wrong in a scenario's trials, or nothing.
func FaultWords(r record.Run, scenario string) string {
	s := r.ScenarioNamed(scenario)
	if s == nil || len(s.Faults) == 0 {
		return ""
	}
	var words []string
	for _, f := range s.Faults {
		w := fmt.Sprintf("%s at %v", FaultKindWords(f.Kind), time.Duration(f.AtNS))
		if f.LastsNS > 0 {
			w += fmt.Sprintf(" for %v", time.Duration(f.LastsNS))
		}
		if f.DelayNS > 0 {
			w += fmt.Sprintf(" by %v", time.Duration(f.DelayNS))
		}
		words = append(words, w)
	}
	return ", with " + strings.Join(words, ", ")
}

// FailedByWords are the kinds of failures that there were.
func FailedByWords(f record.Failed) string {
	var words []string
	for _, kind := range []struct {
		name string
		n    uint64
	}{
		{"refused", f.Refused}, {"reset", f.Reset}, {"timeout", f.Timeout}, {"status", f.Status}, {"graphql_errors", f.GraphQLErrors}, {"wrong_answer", f.WrongAnswer},
	} {
		if kind.n > 0 {
			words = append(words, fmt.Sprintf("%s %d", kind.name, kind.n))
		}
	}
	if len(words) == 0 {
		return "–"
	}
	return strings.Join(words, ", ")
}

// FaultHeads and the cells of Fault are a table's.
var FaultHeads = []string{"fault", "arm", "trials", "lasted ms", "failed", "of requests", "failed by", "wrong answers", "first success ms", "recovered ms", "not recovered"}

// Cells are those of FaultHeads; what has a range is the median of the trials and in brackets the least and the most.
func (f Fault) Cells() []string {
	return []string{
		FaultKindWords(f.Kind), f.Arm, fmt.Sprint(f.Trials), spread(f.Lasted), fmt.Sprint(f.FailedBy.Total()), fmt.Sprint(f.Sent), FailedByWords(f.FailedBy),
		fmt.Sprint(f.FailedBy.WrongAnswer), spread(f.FirstSuccess), spread(f.Recovery), fmt.Sprint(f.NotRecovered),
	}
}

// faultText tells the faults of a group's trials.
func faultText(b *strings.Builder, g Group) {
	faults := Faults(g)
	if len(faults) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(FaultHeads, "\t"))
	for _, f := range faults {
		fmt.Fprintln(w, strings.Join(f.Cells(), "\t"))
	}
	_ = w.Flush()
	fmt.Fprintf(b, "%s\n\n", FaultLegend)
}

// FaultLegend says how the table of faults is read.
const FaultLegend = "Failed, of requests: those that were over, answered or failed, from the fault's cause until the next one's. First success, recovered: from the fault's end (its cause, where it takes no time or a server is to bear it) to the first right answer after it, and to that or the last request that failed, whichever was later (of what a server is to bear, at least the longest time without a right answer, which at a low rate is mostly the time between two requests); median of the trials (least–most)."
