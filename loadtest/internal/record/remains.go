package record

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrUnderWay says that a run has not ended: it was killed, or still runs.
var ErrUnderWay = errors.New("this run did not end (it was killed, or still runs)")

// ErrComplete says that a run lacks nothing.
var ErrComplete = errors.New("this run is complete")

// Remains is what a run has left that was killed or interrupted.
type Remains struct {
	// Run is its run.json.
	Run Run
	// Trials are those of trials/ that are whole, each with an HDR log that holds what the record says; in the order in
	// which they were measured. What run.json says of trials is not looked at.
	Trials []Trial
	// Damaged is the rest of trials/.
	Damaged []Damaged
}

// Damaged are files of trials/ that are no whole record.
type Damaged struct {
	Files []string // names in trials/
	Why   string
}

// OpenRemains reads what there is of a run that is to be gone on with, and changes nothing.
func OpenRemains(path string) (Remains, error) {
	var r Remains
	if err := isFolder(path); err != nil {
		return r, err
	}
	var err error
	if r.Run, err = ReadRun(path); errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("%s: no run.json, so nothing says what was planned: this is no run, or one that was killed before its first trial", path)
	} else if err != nil {
		return r, err
	}
	if r.Run.Complete {
		return r, fmt.Errorf("%s: %w", path, ErrComplete)
	}
	entries, err := os.ReadDir(filepath.Join(path, "trials"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	left := map[string]bool{}
	for _, e := range entries {
		left[e.Name()] = true
	}
	for _, e := range entries {
		id, isRecord := trialOfRecord(e.Name())
		if !isRecord || strings.HasPrefix(id, ".") {
			continue
		}
		files := []string{e.Name()}
		delete(left, e.Name())
		for _, beside := range []string{id + ".hlog", RuntimeFile(id)} {
			if left[beside] {
				files = append(files, beside)
				delete(left, beside)
			}
		}
		t, err := readTrial(path, id)
		if err != nil {
			r.Damaged = append(r.Damaged, Damaged{files, err.Error()})
			continue
		}
		r.Trials = append(r.Trials, t)
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case !left[name]:
		case halfWritten.MatchString(name):
			r.Damaged = append(r.Damaged, Damaged{[]string{name}, "half written"})
		case strings.HasSuffix(name, ".hlog"):
			r.Damaged = append(r.Damaged, Damaged{[]string{name}, "an HDR log without its record"})
		case strings.HasSuffix(name, runtimeSuffix):
			r.Damaged = append(r.Damaged, Damaged{[]string{name}, "runtime series without their record"})
		default:
			r.Damaged = append(r.Damaged, Damaged{[]string{name}, "no record of a trial"})
		}
	}
	slices.SortStableFunc(r.Trials, func(a, b Trial) int { return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.ID, b.ID)) })
	return r, nil
}

// readTrial reads one trial of a folder and holds it to its schema, to itself, and to its HDR log.
func readTrial(path, id string) (Trial, error) {
	file := filepath.Join(path, "trials", id+".json")
	b, err := os.ReadFile(file)
	if err != nil {
		return Trial{}, err
	}
	if err := validate(b, trialSchema); err != nil {
		return Trial{}, fmt.Errorf("not a trial: %w", err)
	}
	var t Trial
	if err := json.Unmarshal(b, &t); err != nil {
		return Trial{}, err
	}
	switch {
	case t.ID != id:
		return Trial{}, fmt.Errorf("its id is %q", t.ID)
	case t.HDRLog != id+".hlog":
		return Trial{}, fmt.Errorf("its hdr_log is %q", t.HDRLog)
	case t.RuntimeSeries != "" && t.RuntimeSeries != RuntimeFile(id):
		return Trial{}, fmt.Errorf("its runtime_series is %q", t.RuntimeSeries)
	}
	if err := t.Check(); err != nil {
		return Trial{}, err
	}
	if _, err := (Saved{path: path}).Seconds(t); err != nil {
		return Trial{}, err
	}
	if _, err := (Saved{path: path}).Runtime(t); err != nil {
		return Trial{}, err
	}
	return t, nil
}

// Reopen takes the folder of a run that is there.
func Reopen(path string) (Folder, error) {
	if err := os.MkdirAll(filepath.Join(path, "trials"), 0o755); err != nil {
		return Folder{}, fmt.Errorf("the run's folder: %w", err)
	}
	return Folder{path: path}, nil
}

// SetAside moves files of trials/ to the folder damaged/ beside it and says where each is then. Nothing is deleted and
// nothing overwritten.
func (f Folder) SetAside(names []string) (to []string, err error) {
	dir := filepath.Join(f.path, "damaged")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, name := range names {
		target := filepath.Join(dir, name)
		for n := 2; ; n++ {
			if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
				break
			} else if err != nil {
				return to, err
			}
			target = filepath.Join(dir, fmt.Sprintf("%s.%d", name, n))
		}
		if err := os.Rename(filepath.Join(f.path, "trials", name), target); err != nil {
			return to, err
		}
		to = append(to, target)
	}
	return to, nil
}
