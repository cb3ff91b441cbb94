package record

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lab/loadtest/internal/locate"
)

// runtimeSuffix ends the name of the file, beside a trial's record, that holds its RuntimeSeries.
const runtimeSuffix = ".runtime.json"

// RuntimeFile is the name of that file for a trial.
func RuntimeFile(id string) string { return id + runtimeSuffix }

// RuntimeSeries are figures that a contender told of its own runtime during a trial, one value for each interval between
// two readings of its /metrics, about a second. It is in a file of its own: run.json would grow several times over.
type RuntimeSeries struct {
	Trial string `json:"trial"`
	// EndsNS says when each interval ended, in nanoseconds from the first intended send; the first one begins at BeganNS,
	// before the load, and the last one ends after it.
	BeganNS int64   `json:"began_ns"`
	EndsNS  []int64 `json:"ends_ns"`
	// Series have a value for each interval by a name that carries its unit; null where the interval does not tell.
	Series map[string][]*float64 `json:"series"`
	// Workers are the figures of each worker, by its name in the arm's /metrics, where there are several that it tells of.
	Workers map[string]map[string][]*float64 `json:"workers,omitempty"`
	// Absent says why a figure is not there.
	Absent map[string]string `json:"absent"`
}

// Check says where the series contradict each other.
func (r *RuntimeSeries) Check() error {
	last := r.BeganNS
	for _, at := range r.EndsNS {
		if at <= last {
			return fmt.Errorf("trial %s: runtime series: an interval ends at %d ns, which is not after %d ns", r.Trial, at, last)
		}
		last = at
	}
	long := func(of string, series map[string][]*float64) error {
		for _, name := range slices.Sorted(maps.Keys(series)) {
			if values := series[name]; len(values) != len(r.EndsNS) {
				return fmt.Errorf("trial %s: runtime series: %s%s has %d values for %d intervals", r.Trial, of, name, len(values), len(r.EndsNS))
			}
		}
		return nil
	}
	if err := long("", r.Series); err != nil {
		return err
	}
	for _, worker := range slices.Sorted(maps.Keys(r.Workers)) {
		if err := long("worker "+worker+": ", r.Workers[worker]); err != nil {
			return err
		}
	}
	for name := range r.Series {
		if _, absent := r.Absent[name]; absent {
			return fmt.Errorf("trial %s: runtime series: %s is there and absent", r.Trial, name)
		}
	}
	return nil
}

// Runtime reads a trial's runtime series; nil where it has none. They are of this trial and whole, or it is an error.
func (s Saved) Runtime(t Trial) (*RuntimeSeries, error) {
	if t.RuntimeSeries == "" {
		return nil, nil //nolint:nilnil // records of before have none
	}
	file := filepath.Join(s.path, "trials", t.RuntimeSeries)
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("runtime series of trial %s: %w", t.ID, err)
	}
	if err := validate(b, runtimeSchema); err != nil {
		return nil, fmt.Errorf("%s: not runtime series: %w", file, err)
	}
	var r RuntimeSeries
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, locate.JSONError(b, err))
	}
	if r.Trial != t.ID {
		return nil, fmt.Errorf("%s: is of the trial %q", file, r.Trial)
	}
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &r, nil
}

// writeRuntime writes a trial's runtime series, where it has some: one line, for they are many numbers.
func (f Folder) writeRuntime(t Trial) error {
	if t.Runtime == nil {
		return nil
	}
	if t.RuntimeSeries != RuntimeFile(t.ID) || t.Runtime.Trial != t.ID {
		return fmt.Errorf("trial %s: its runtime series are of %q, in %q", t.ID, t.Runtime.Trial, t.RuntimeSeries)
	}
	if err := t.Runtime.Check(); err != nil {
		return err
	}
	b, err := json.Marshal(t.Runtime)
	if err != nil {
		return fmt.Errorf("trial %s: runtime series: %w", t.ID, err)
	}
	return WriteFile(filepath.Join(f.path, "trials", t.RuntimeSeries), append(b, '\n'))
}

// Files are the names in trials/ of what belongs to a trial.
func (t *Trial) Files() []string {
	return slices.DeleteFunc([]string{t.ID + ".json", t.HDRLog, t.RuntimeSeries}, func(name string) bool { return name == "" })
}

// trialOfRecord is the id of the trial whose record has that name.
func trialOfRecord(name string) (id string, ok bool) {
	if strings.HasSuffix(name, runtimeSuffix) {
		return "", false
	}
	return strings.CutSuffix(name, ".json")
}
