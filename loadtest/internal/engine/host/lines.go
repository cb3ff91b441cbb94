package host

import "sync"

// KeptLines is how many lines of a log are kept.
const KeptLines = 200

// Lines keeps the last lines that were added.
type Lines struct {
	mu    sync.Mutex
	lines []string
}

func (r *Lines) Add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) == 2*KeptLines {
		r.lines = append(r.lines[:0], r.lines[KeptLines:]...)
	}
	r.lines = append(r.lines, line)
}

func (r *Lines) Last(n int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.lines[max(0, len(r.lines)-min(n, KeptLines)):]
	return append([]string(nil), kept...)
}

// QuoteLog says the last lines of a log at the end of an error.
func QuoteLog(lines []string) string {
	if len(lines) == 0 {
		return "; it logged nothing"
	}
	text := "; its last lines:"
	for _, line := range lines {
		text += "\n  " + line
	}
	return text
}
