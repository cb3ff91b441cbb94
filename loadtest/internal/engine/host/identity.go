package host

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"strings"
)

// ProcessID names a process for good: process ids are used again, with a start time they are not.
type ProcessID struct {
	Name       string `json:"name,omitempty"`
	Pid        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"`
}

// Lives says whether this very process still runs.
func (id ProcessID) Lives() bool {
	stat, err := ReadProcStat("/proc", id.Pid)
	return err == nil && stat.StartTicks == id.StartTicks && stat.State != 'Z' && stat.State != 'X'
}

// BootID tells one start of the machine from another: process ids and start times begin anew.
func BootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// RandomHex returns so many random bytes as hexadecimal digits.
func RandomHex(bytes int) string {
	random := make([]byte, bytes)
	// It never fails: crypto/rand.Read ends the program rather than return an error.
	_, _ = rand.Read(random)
	return hex.EncodeToString(random)
}

// ThisProcess names this program.
func ThisProcess() (ProcessID, error) {
	stat, err := ReadProcStat("/proc", os.Getpid())
	if err != nil {
		return ProcessID{}, err
	}
	return ProcessID{Pid: stat.PID, StartTicks: stat.StartTicks}, nil
}
