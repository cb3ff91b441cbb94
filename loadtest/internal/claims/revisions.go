package claims

import (
	"slices"
	"strings"

	"lab/loadtest/internal/record"
)

// What the names of arms end in that are one contender at two revisions.
const (
	AtBase = "@base"
	AtHead = "@head"
)

// Revisions decides "these two differ in CPU per request" of one contender's two revisions, measured interleaved: the
// head's figure over the base's. There is one pair, so no correction is needed; all else is as in Library.
func Revisions(trials []record.Trial) []record.Verdict {
	rule := LibraryRule(nil)
	rule.Arms = slices.Concat(ending(trials, AtHead), ending(trials, AtBase))
	return rule.Decide(trials)
}

func ending(trials []record.Trial, suffix string) []string {
	var arms []string
	for i := range trials {
		if t := &trials[i]; strings.HasSuffix(t.Arm, suffix) && !slices.Contains(arms, t.Arm) {
			arms = append(arms, t.Arm)
		}
	}
	return arms
}

// Of gives the verdicts of a run's trials by the rule that its profile has.
func Of(r record.Run) []record.Verdict {
	if r.Profile == record.ProfileRevisions {
		return Revisions(r.Trials)
	}
	return Library(r.Trials)
}
