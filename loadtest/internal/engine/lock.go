package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Holder is who measures on this machine.
type Holder struct {
	Pid     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// BusyError says that another run measures on this machine: two at once would spoil each other.
type BusyError struct{ Holder Holder }

func (e *BusyError) Error() string {
	if e.Holder.Pid == 0 {
		return "another run measures on this machine"
	}
	return fmt.Sprintf("another run measures on this machine: process %d (%s), since %s",
		e.Holder.Pid, e.Holder.Command, e.Holder.Since.Format(time.RFC3339))
}

// Lock takes the machine's one lock for runs that measure and returns what gives it back. Where another run has it, the
// error is a [*BusyError]. The kernel gives the lock back when the program ends, however it ends.
func Lock(command []string) (release func(), err error) {
	return lockFile(lockPath(), command)
}

// lockPath does not follow TMPDIR: two runs of one machine must meet at one file.
func lockPath() string {
	const shared = "/tmp"
	if info, err := os.Stat(shared); err == nil && info.IsDir() {
		return filepath.Join(shared, "polyglot-lab.lock")
	}
	return filepath.Join(os.TempDir(), "polyglot-lab.lock")
}

func lockFile(path string, command []string) (func(), error) {
	file, err := openLock(path)
	if err != nil {
		return nil, fmt.Errorf("open the machine's lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("take the machine's lock %s: %w", path, err)
		}
		busy := &BusyError{}
		// The other run may be about to write who it is: without that, the error only says less.
		_ = json.NewDecoder(file).Decode(&busy.Holder)
		return nil, busy
	}
	text, err := json.Marshal(Holder{Pid: os.Getpid(), Command: strings.Join(command, " "), Since: time.Now().UTC().Truncate(time.Second)})
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt(append(text, '\n'), 0)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("write who has the machine's lock: %w", err)
	}
	return func() {
		// The file stays: a lock on a file that another run is just deleting would be no lock.
		_ = file.Truncate(0)
		file.Close()
	}, nil
}

// openLock opens the lock's file, which any user of the machine may have made. It follows no symbolic link and, for the
// kernel's protection of files in sticky folders, opens without O_CREAT first.
func openLock(path string) (*os.File, error) {
	const noFollow = syscall.O_NOFOLLOW
	for range 3 {
		file, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return file, err
		}
		file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, 0o666)
		if err == nil {
			// Other users' runs must be able to take it too, whatever the umask.
			return file, file.Chmod(0o666)
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s comes and goes", path)
}
