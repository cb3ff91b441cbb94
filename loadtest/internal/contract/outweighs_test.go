package contract

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatOutweighsIsOfTheScenariosArms(t *testing.T) {
	whole := func() Scenario {
		return Scenario{
			Arms: []string{"go", "node", "node-compiled"}, Rule: RuleDiffer, Metric: "cpu_us_per_request",
			Outweighs: &Outweighs{Library: []string{"node", "node-compiled"}, Pairs: [][]string{{"go", "node"}}},
		}
	}
	path, _ := whole().checkOutweighs()
	assert.Nil(t, path)
	for name, c := range map[string]struct {
		change   func(s *Scenario)
		path     []string
		expected string
	}{
		"another rule":     {func(s *Scenario) { s.Rule = RuleLess }, []string{"outweighs"}, "rule differ"},
		"another metric":   {func(s *Scenario) { s.Metric = "latency_p50_ns" }, []string{"outweighs"}, "cpu_us_per_request"},
		"one library":      {func(s *Scenario) { s.Outweighs.Library = s.Outweighs.Library[:1] }, []string{"outweighs", "library"}, "two of the arms"},
		"the same library": {func(s *Scenario) { s.Outweighs.Library[1] = "node" }, []string{"outweighs", "library"}, "two of the arms"},
		"no pair":          {func(s *Scenario) { s.Outweighs.Pairs = nil }, []string{"outweighs", "pairs"}, "two languages"},
		"no such arm":      {func(s *Scenario) { s.Outweighs.Pairs[0][1] = "rust" }, []string{"outweighs", "pairs", "0"}, "two of the arms"},
	} {
		s := whole()
		c.change(&s)
		path, expected := s.checkOutweighs()
		assert.Equal(t, c.path, path, name)
		assert.Contains(t, expected, c.expected, name)
	}
}
