package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/locate"
	"lab/loadtest/internal/stats"
)

// Saved is a run on disk, read and checked.
type Saved struct {
	Run  Run
	path string
	// Notes are oddities that do no harm, such as fields of a later version.
	Notes []string
}

// Open reads a run's records, changes nothing, and names the first thing that is damaged, unknown or newer than this
// program: run.json against its JSON Schema, trials/ against run.json, and each HDR log against its trial.
func Open(path string) (Saved, error) {
	s := Saved{path: path}
	if err := isFolder(path); err != nil {
		return s, err
	}
	var err error
	if s.Run, err = ReadRun(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return s, fmt.Errorf("%s: no run.json, so this is not the folder of a run that ended", path)
		}
		return s, err
	}
	if s.Run.UnderWay() {
		return s, fmt.Errorf("%s: %w; loadtest compare --resume %s measures what it lacks", path, ErrUnderWay, path)
	}
	if err := s.unknownFields(filepath.Join(path, "run.json"), &Run{}); err != nil {
		return s, err
	}
	known := map[string]bool{}
	for _, t := range s.Run.Trials {
		for _, name := range t.Files() {
			if !plainName(name) {
				return s, fmt.Errorf("%s: trial %q: %q is no file name", filepath.Join(path, "run.json"), t.ID, name)
			}
			if known[name] {
				return s, fmt.Errorf("%s: trial %q: %s belongs to another trial too", filepath.Join(path, "run.json"), t.ID, name)
			}
			known[name] = true
		}
		file := filepath.Join(path, "trials", t.ID+".json")
		b, err := os.ReadFile(file)
		if err != nil {
			return s, fmt.Errorf("trial of run.json: %w", err)
		}
		var own Trial
		if err := json.Unmarshal(b, &own); err != nil {
			return s, fmt.Errorf("%s: %w", file, locate.JSONError(b, err))
		}
		if !reflect.DeepEqual(own, t) {
			return s, fmt.Errorf("%s: differs from the same trial in run.json", file)
		}
		if _, err := s.Seconds(t); err != nil {
			return s, err
		}
		if _, err := s.Runtime(t); err != nil {
			return s, err
		}
	}
	entries, err := os.ReadDir(filepath.Join(path, "trials"))
	if err != nil && (len(s.Run.Trials) > 0 || !errors.Is(err, fs.ErrNotExist)) {
		return s, err
	}
	for _, e := range entries {
		if !known[e.Name()] && !strings.HasPrefix(e.Name(), ".") {
			return s, fmt.Errorf("%s: no trial of run.json has this file", filepath.Join(path, "trials", e.Name()))
		}
	}
	return s, nil
}

func isFolder(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: no such folder", path)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s: not a folder; a run's folder is expected", path)
	}
	return nil
}

func plainName(name string) bool {
	return name != "" && name == filepath.Base(name) && !strings.ContainsAny(name, "/\\\x00") && !strings.HasPrefix(name, ".")
}

// unknownFields notes what a later version of the program wrote and this one leaves out.
func (s *Saved) unknownFields(file string, v any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: line %d: %s: written by another version of this program; the report leaves it out", file, locate.Line(b, d.InputOffset()), strings.TrimPrefix(err.Error(), "json: ")))
	}
	return nil
}

// Tags of the histograms in a trial's HDR log that are not its response times, which have none.
const (
	TagService   = "service"    // from the true send
	TagSendLag   = "send_lag"   // from the intended to the true send
	TagOperation = "operation." // response times of the operation whose name follows
)

// Seconds reads a trial's HDR log: response times in nanoseconds, one histogram for each second of intended time. The
// histograms hold what the trial's record says, or it is an error.
func (s Saved) Seconds(t Trial) ([]*hdr.Histogram, error) {
	byTag, err := s.log(t)
	return byTag[""], err
}

// SecondsOf is Seconds of one operation of a mix; nil where the log does not tell operations apart.
func (s Saved) SecondsOf(t Trial, operation string) ([]*hdr.Histogram, error) {
	byTag, err := s.log(t)
	if err != nil {
		return nil, err
	}
	seconds, o := byTag[TagOperation+operation], t.OperationNamed(operation)
	if len(seconds) == 0 || o == nil {
		return nil, nil
	}
	all := Merge(seconds)
	if n, p99 := all.TotalCount(), all.ValueAtQuantile(99); n != int64(o.Sent) || p99 != o.LatencyP99NS {
		return nil, fmt.Errorf("HDR log of trial %s: %d response times of %s with a p99 of %d ns, but the trial's record has %d and %d ns", t.ID, n, operation, p99, o.Sent, o.LatencyP99NS)
	}
	return seconds, nil
}

// log reads a trial's HDR log by tag, and holds it to the trial's record.
func (s Saved) log(t Trial) (map[string][]*hdr.Histogram, error) {
	file := filepath.Join(s.path, "trials", t.HDRLog)
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("HDR log of trial %s: %w", t.ID, err)
	}
	intervals, err := parseLog(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	byTag := map[string][]*hdr.Histogram{}
	for _, h := range intervals {
		byTag[h.Tag()] = append(byTag[h.Tag()], h)
	}
	seconds := byTag[""]
	if len(seconds) == 0 {
		return nil, fmt.Errorf("%s: no interval in it", file)
	}
	if err := checkTags(t, byTag); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	all := Merge(seconds)
	if n := all.TotalCount(); n != int64(t.Sent) {
		return nil, fmt.Errorf("%s: %d response times, but the trial's record has %d requests sent", file, n, t.Sent)
	}
	for _, q := range []struct {
		name     string
		quantile float64
		value    int64
	}{{"latency_p50_ns", 50, t.LatencyP50NS}, {"latency_p90_ns", 90, t.LatencyP90NS}, {"latency_p99_ns", 99, t.LatencyP99NS}, {"latency_p999_ns", 99.9, t.LatencyP999NS}} {
		if got := all.ValueAtQuantile(q.quantile); got != q.value {
			return nil, fmt.Errorf("%s: its %g %% quantile is %d ns, but the trial's record has %s %d", file, q.quantile, got, q.name, q.value)
		}
	}
	// Records of before this figure have none.
	if has := t.LatencyP99MedianSecondNS; has != nil {
		if got := MedianSecond(seconds, time.Duration(t.DurationNS)); got == nil || *got != *has {
			return nil, fmt.Errorf("%s: the median of its seconds' p99 is %s ns, but the trial's record has latency_p99_median_second_ns %d", file, orNone(got), *has)
		}
	}
	return byTag, nil
}

// MedianSecond is the median of the p99 of each whole second of an attack that took so long, in nanoseconds, from one histogram for
// each second of intended time; nil where there are fewer than three, or one whose requests do not carry a p99. A second in which
// the machine stood still is one of them, where the whole attack's tail would be made of it; so is one in which a server did.
func MedianSecond(seconds []*hdr.Histogram, took time.Duration) *int64 {
	whole := min(int(took/time.Second), len(seconds))
	if whole < contract.FewestSeconds {
		return nil
	}
	var p99 []float64
	for _, h := range seconds[:whole] {
		if !stats.Carries(0.99, uint64(h.TotalCount())) {
			return nil
		}
		p99 = append(p99, float64(h.ValueAtQuantile(99)))
	}
	median := int64(stats.Median(p99))
	return &median
}

func orNone(x *int64) string {
	if x == nil {
		return "none"
	}
	return fmt.Sprint(*x)
}

// checkTags holds what is in an HDR log beside response times to the trial's record. Logs of before these tags have none.
func checkTags(t Trial, byTag map[string][]*hdr.Histogram) error {
	for tag, intervals := range byTag {
		if len(intervals) != len(byTag[""]) {
			return fmt.Errorf("%d intervals have the tag %q, and %d none", len(intervals), tag, len(byTag[""]))
		}
	}
	for tag, want := range map[string]struct {
		name  string
		value int64
	}{TagService: {"service_p99_ns", t.ServiceP99NS}, TagSendLag: {"send_lag_p99_ns", t.SendLagP99NS}} {
		all := Merge(byTag[tag])
		if all == nil {
			continue
		}
		if n := all.TotalCount(); n != int64(t.Sent) {
			return fmt.Errorf("%d values have the tag %s, but the trial's record has %d requests sent", n, tag, t.Sent)
		}
		if got := all.ValueAtQuantile(99); got != want.value {
			return fmt.Errorf("its 99 %% quantile with the tag %s is %d ns, but the trial's record has %s %d", tag, got, want.name, want.value)
		}
	}
	return nil
}

// Merge adds histograms up, without loss.
func Merge(histograms []*hdr.Histogram) *hdr.Histogram {
	if len(histograms) == 0 {
		return nil
	}
	first := histograms[0]
	all := hdr.New(first.LowestTrackableValue(), first.HighestTrackableValue(), int(first.SignificantFigures()))
	for _, h := range histograms {
		all.Merge(h)
	}
	return all
}

func parseLog(b []byte) (out []*hdr.Histogram, err error) {
	// The library panics on some damaged input.
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("damaged: %v", p)
		}
	}()
	reader := hdr.NewHistogramLogReader(bytes.NewReader(b))
	lines := 0
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line[0] != '"' {
			lines++
		}
	}
	for {
		h, err := reader.NextIntervalHistogram()
		if err != nil {
			return nil, fmt.Errorf("damaged: interval %d: %w", len(out)+1, err)
		}
		if h == nil {
			break
		}
		out = append(out, h)
	}
	if len(out) != lines {
		return nil, fmt.Errorf("damaged: %d of %d intervals can be read", len(out), lines)
	}
	return slices.Clip(out), nil
}
