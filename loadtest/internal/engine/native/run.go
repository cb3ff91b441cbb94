package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"lab/loadtest/internal/engine/host"
)

const (
	// runPrefix begins the names of run folders.
	runPrefix = "polyglot-lab-run-"
	// markerName is the file that makes a folder one of ours to delete.
	markerName = "polyglot-lab-run.json"
	markerKind = "polyglot-lab run"
	// runVariable is set in the environment of everything a run starts, with the run's id.
	runVariable = "LAB_RUN"
)

// run is one run's folder for what lives only as long as the run: databases, logs, a home folder.
type run struct {
	id  string
	dir string

	mu        sync.Mutex
	processes []host.ProcessID
}

// marker is the file in a run's folder that says whose it is.
type marker struct {
	Kind         string           `json:"kind"`
	ID           string           `json:"id"`
	BootID       string           `json:"boot_id"`
	Orchestrator host.ProcessID   `json:"orchestrator"`
	Processes    []host.ProcessID `json:"processes"`
}

// newRun makes the folder. Other users may pass through it (PostgreSQL's does) and read nothing in it.
func newRun(tempDir string) (*run, error) {
	dir, err := os.MkdirTemp(tempDir, runPrefix)
	if err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	r := &run{id: host.RandomHex(8), dir: dir}
	if err := r.writeMarker(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	return r, nil
}

// add enters a process that was just started.
func (r *run) add(name string, pid int) {
	stat, err := host.ReadProcStat("/proc", pid)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.processes = append(r.processes, host.ProcessID{Name: name, Pid: pid, StartTicks: stat.StartTicks})
	// Without the entry the sweep still knows the process by its environment or its folder.
	_ = r.writeMarker()
}

// remove strikes out a process that has ended.
func (r *run) remove(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, p := range r.processes {
		if p.Pid == pid {
			r.processes = append(r.processes[:i], r.processes[i+1:]...)
			_ = r.writeMarker()
			return
		}
	}
}

// writeMarker replaces the marker in one step, so that a sweep never reads half of one.
func (r *run) writeMarker() error {
	self, err := host.ReadProcStat("/proc", os.Getpid())
	if err != nil {
		return fmt.Errorf("write the run's marker: %w", err)
	}
	text, err := json.Marshal(marker{
		Kind: markerKind, ID: r.id, BootID: host.BootID(),
		Orchestrator: host.ProcessID{Pid: self.PID, StartTicks: self.StartTicks}, Processes: r.processes,
	})
	if err != nil {
		return fmt.Errorf("write the run's marker: %w", err)
	}
	path := filepath.Join(r.dir, markerName)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("write the run's marker: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the run's marker: %w", err)
	}
	return nil
}

// delete removes the folder, the marker last: what a crash leaves half deleted is still ours to sweep.
func (r *run) delete() error { return deleteRun(r.dir) }

func deleteRun(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("delete the run's folder: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == markerName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("delete the run's folder: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("delete the run's folder: %w", err)
	}
	return nil
}

// Swept is what a sweep removed of one run.
type Swept struct {
	// Dir is the folder that was deleted.
	Dir string
	// Pids are the processes that were killed.
	Pids []int
}

// Sweep removes what killed runs left in tempDir: it touches only folders of this user that carry a marker whose
// orchestrator (process id and start time, on this start of the machine) is gone, kills the processes that belong to them,
// and then deletes them.
func Sweep(tempDir string) ([]Swept, error) {
	dirs, err := filepath.Glob(filepath.Join(tempDir, runPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("look for what earlier runs left: %w", err)
	}
	var all []Swept
	var failures []error
	for _, dir := range dirs {
		m, ours := readMarker(dir)
		if !ours || m.orchestratorLives() {
			continue
		}
		swept := Swept{Dir: dir}
		if m.BootID == host.BootID() {
			swept.Pids = m.killProcesses(dir)
		}
		if err := deleteRun(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, err)
			continue
		}
		all = append(all, swept)
	}
	return all, errors.Join(failures...)
}

// readMarker reads a run's marker. A folder or marker that is another user's, or a symbolic link, is not ours whatever it
// says: a sweep by root must not delete or kill what somebody else wrote down.
func readMarker(dir string) (marker, bool) {
	path := filepath.Join(dir, markerName)
	for _, name := range []string{dir, path} {
		info, err := os.Lstat(name)
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			return marker{}, false
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
			return marker{}, false
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return marker{}, false
	}
	var m marker
	if json.Unmarshal(text, &m) != nil || m.Kind != markerKind || m.ID == "" || m.Orchestrator.Pid <= 0 {
		return marker{}, false
	}
	return m, true
}

func (m marker) orchestratorLives() bool {
	return m.BootID == host.BootID() && m.Orchestrator.Lives()
}

// killProcesses kills what still lives of the run, until nothing does: a process may start another while we look.
func (m marker) killProcesses(dir string) []int {
	var killed []int
	for range 20 {
		pids := m.survivors(dir)
		if len(pids) == 0 {
			return killed
		}
		for _, pid := range pids {
			if host.Kill(pid, func() bool { return m.owns(dir, pid) }) {
				killed = append(killed, pid)
			}
		}
	}
	return killed
}

// survivors returns the processes that belong to the run.
func (m marker) survivors(dir string) []int {
	all, err := host.Processes("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for pid, stat := range all {
		if stat.State != 'Z' && stat.State != 'X' && m.owns(dir, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// owns says whether a process belongs to the run: it is entered in the marker, or has the run's id in its environment, or
// is a PostgreSQL process that works in the run's folder (those overwrite their environment with their title). Any other
// that works there may be the shell of somebody who looks at what was left.
func (m marker) owns(dir string, pid int) bool {
	if pid == os.Getpid() {
		return false
	}
	for _, id := range m.Processes {
		if id.Pid == pid && id.Lives() {
			return true
		}
	}
	proc := "/proc/" + strconv.Itoa(pid)
	if environment, err := os.ReadFile(proc + "/environ"); err == nil {
		for _, variable := range bytes.Split(environment, []byte{0}) {
			if string(variable) == runVariable+"="+m.ID {
				return true
			}
		}
	}
	comm, err := os.ReadFile(proc + "/comm")
	if err != nil || strings.TrimSpace(string(comm)) != "postgres" {
		return false
	}
	cwd, err := os.Readlink(proc + "/cwd")
	return err == nil && (cwd == dir || strings.HasPrefix(cwd, dir+string(filepath.Separator)))
}
