package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress says on stderr what runs, which of how many, and about how long it will take yet: one line that is written
// over where there is a terminal, plain lines elsewhere.
type progress struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	total    int
	done     int
	began    time.Time
	width    int // of the line that stands, to be wiped
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// start begins to count steps.
func (p *progress) start(total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.done, p.began = total, 0, time.Now()
}

// more adds steps that nobody could foresee.
func (p *progress) more(steps int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total += steps
}

// step says what comes next; the time left follows from the steps done so far.
func (p *progress) step(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := ""
	if p.done > 0 {
		each := time.Since(p.began) / time.Duration(p.done)
		left = fmt.Sprintf(", about %s left", (each * time.Duration(p.total-p.done)).Round(time.Second))
	}
	p.done++
	p.write(fmt.Sprintf("[%d/%d] %s%s", p.done, p.total, fmt.Sprintf(format, args...), left))
}

// line says how something goes that is not counted in steps, over the line before.
func (p *progress) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write(fmt.Sprintf(format, args...))
}

func (p *progress) write(line string) {
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	pad := max(0, p.width-len(line))
	fmt.Fprint(p.w, "\r"+line+strings.Repeat(" ", pad))
	p.width = len(line)
}

// say prints a line that stays.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	fmt.Fprintf(p.w, format+"\n", args...)
}

// end wipes the line.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
}

func (p *progress) wipe() {
	if p.terminal && p.width > 0 {
		fmt.Fprint(p.w, "\r"+strings.Repeat(" ", p.width)+"\r")
		p.width = 0
	}
}
