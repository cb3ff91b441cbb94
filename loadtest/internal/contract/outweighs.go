package contract

import (
	"fmt"
	"slices"
)

// Outweighs is the claim of the scenario library: two libraries of one language differ by more than two languages do.
type Outweighs struct {
	// Library are two arms of one language: its usual library, and another.
	Library []string `yaml:"library"`
	// Pairs are arms of two languages each, all with their usual libraries.
	Pairs [][]string `yaml:"pairs"`
}

// checkOutweighs gives the key that is wrong and what is expected there; nil where nothing is.
func (s Scenario) checkOutweighs() (path []string, expected string) {
	if s.Outweighs == nil {
		return nil, ""
	}
	two := func(arms []string) bool {
		return len(arms) == 2 && arms[0] != arms[1] && slices.Contains(s.Arms, arms[0]) && slices.Contains(s.Arms, arms[1])
	}
	switch o := s.Outweighs; {
	case s.Rule != RuleDiffer || s.Metric != "cpu_us_per_request":
		return []string{"outweighs"}, fmt.Sprintf("rule %s and metric cpu_us_per_request beside it", RuleDiffer)
	case !two(o.Library):
		return []string{"outweighs", "library"}, "two of the arms, of one language"
	case len(o.Pairs) == 0:
		return []string{"outweighs", "pairs"}, "pairs of two of the arms, of two languages each"
	default:
		for i, pair := range o.Pairs {
			if !two(pair) {
				return []string{"outweighs", "pairs", fmt.Sprint(i)}, "two of the arms"
			}
		}
	}
	return nil, ""
}
