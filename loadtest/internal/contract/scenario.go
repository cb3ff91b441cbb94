package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"lab/loadtest/internal/locate"
)

// Scenario is one file of scenarios/: the claim that it tests and the rule that decides.
type Scenario struct {
	// ID is the file's stem.
	ID string `yaml:"id"`
	// Claim is the sentence that is put to the test.
	Claim string `yaml:"claim"`
	// Arms are compared; which exist is for the contenders to say.
	Arms []string `yaml:"arms"`
	// Operation is a name in operations/.
	Operation string `yaml:"operation"`
	// Load are the kinds of trial for each process: "rate", "throughput".
	Load []string `yaml:"load"`
	// Metric decides. It has its unit in its name.
	Metric string `yaml:"metric"`
	// Alpha is the chance of a false verdict; Margin, a ratio above 1, is the effect below which nobody would care.
	Alpha  float64 `yaml:"alpha"`
	Margin float64 `yaml:"margin"`
}

// scenarioMetrics are those of a trial's record that a scenario may be decided by.
var scenarioMetrics = []string{"cpu_us_per_request", "latency_p50_ns", "latency_p90_ns", "latency_p99_ns", "achieved_rps", "statements_per_request", "memory_pss_peak_bytes"}

var scenarioLoads = []string{"rate", "throughput"}

// LoadScenarios reads every scenario of a contract's folder, in order of their names.
func LoadScenarios(c *Contract) ([]Scenario, error) {
	files, err := filepath.Glob(filepath.Join(c.Dir, "scenarios", "*"))
	if err != nil {
		return nil, err
	}
	var out []Scenario
	for _, file := range files {
		stem, isYAML := strings.CutSuffix(filepath.Base(file), ".yaml")
		if !isYAML || !operationName.MatchString(strings.ReplaceAll(stem, "-", "_")) {
			if filepath.Base(file) == "README.md" {
				continue
			}
			return nil, fmt.Errorf("%s: only files named ID.yaml and README.md belong here", file)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s, err := parseScenario(text)
		if err == nil && s.ID != stem {
			err = atKey(text, []string{"id"}, fmt.Sprintf("expected %q, as the file is named", stem))
		}
		if err == nil {
			if _, unknown := c.Operation(s.Operation); unknown != nil {
				err = atKey(text, []string{"operation"}, "expected the name of a folder in operations/")
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// parseScenario reads one file; an error names line, key, value and what is expected.
func parseScenario(text []byte) (Scenario, error) {
	var s Scenario
	if err := locate.DecodeYAML(text, &s, yaml.Strict()); err != nil {
		return s, err
	}
	for _, check := range []struct {
		key, expected string
		ok            bool
	}{
		{"id", "a name", s.ID != ""},
		{"claim", "a sentence", s.Claim != ""},
		{"arms", "at least two arms", len(s.Arms) >= 2},
		{"operation", "the name of an operation", s.Operation != ""},
		{"load", fmt.Sprintf("some of %q", scenarioLoads), len(s.Load) > 0},
		{"metric", fmt.Sprintf("one of %q", scenarioMetrics), slices.Contains(scenarioMetrics, s.Metric)},
		{"alpha", "a chance between 0 and 1", s.Alpha > 0 && s.Alpha < 1},
		{"margin", "a ratio above 1, as in 1.05", s.Margin > 1 && s.Margin < 100},
	} {
		if !check.ok {
			return s, atKey(text, []string{check.key}, "expected "+check.expected)
		}
	}
	for i, arm := range s.Arms {
		if arm == "" || slices.Index(s.Arms, arm) != i {
			return s, atKey(text, []string{"arms", fmt.Sprint(i)}, "expected an arm that is not there already")
		}
	}
	for i, load := range s.Load {
		if !slices.Contains(scenarioLoads, load) {
			return s, atKey(text, []string{"load", fmt.Sprint(i)}, fmt.Sprintf("expected some of %q", scenarioLoads))
		}
	}
	return s, nil
}

// atKey is an error about what stands under a key, or about its absence.
func atKey(text []byte, path []string, expected string) error {
	if place, ok := locate.YAML(text, path...); ok {
		return fmt.Errorf("%s: %s", place, expected)
	}
	return fmt.Errorf("key %q is missing: %s", strings.Join(path, "."), expected)
}
