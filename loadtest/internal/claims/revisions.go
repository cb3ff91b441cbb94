package claims

import (
	"slices"
	"strings"

	"lab/loadtest/internal/contract"
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

// Of gives the verdicts of a run's trials: of its two revisions, or of its scenarios in their order, the library first.
func Of(r record.Run) []record.Verdict {
	if r.Profile == record.ProfileRevisions {
		return Revisions(r.Trials)
	}
	headline := ofScenario(r.Trials, scenarioLibrary)
	verdicts := append(Library(headline), Outweigh(r.Outweighs, headline)...)
	for _, s := range r.Scenarios {
		own := ofScenario(r.Trials, s.ID)
		rule := RuleOf(s)
		// Of a run that was cut short some arms may have no trial yet; there is nothing to say of them. Of one that cannot be
		// tested here there is.
		known := func(arm string) bool {
			return rule.Claim == Within && arm == contract.Bound || s.Absent[arm] != "" || has(own, arm)
		}
		rule.Pairs = slices.DeleteFunc(rule.pairs(), func(pair [2]string) bool { return !known(pair[0]) || !known(pair[1]) })
		verdicts = append(verdicts, rule.Decide(own)...)
	}
	return verdicts
}

// has tells whether an arm has a trial in a block.
func has(trials []record.Trial, arm string) bool {
	return slices.ContainsFunc(trials, func(t record.Trial) bool { return t.Arm == arm && t.Load.Blocked() })
}

func ofScenario(trials []record.Trial, id string) []record.Trial {
	var own []record.Trial
	for i := range trials {
		if trials[i].Scenario == id {
			own = append(own, trials[i])
		}
	}
	return own
}
