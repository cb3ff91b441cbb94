package main

import (
	"fmt"
	"os"
	"strings"

	"lab/loadtest/internal/record"
)

// pages are files with a text of this program between two markers that name the command which made it. They are opened
// before anything is done, so that a slip shows at once.
type pages struct {
	command string
	texts   map[string]string
}

// The commands that write into pages.
const (
	benchCommand    = "make bench-servers"
	publishCommand  = "make publish"
	diffCommand     = "loadtest diff"
	simulateCommand = "loadtest simulate"
	auditCommand    = "make audit"
)

func markers(command string) (begin, end string) {
	return "<!-- begin: " + command + " -->", "<!-- end: " + command + " -->"
}

// openPages opens a comma-separated list of files; each must have the command's markers once.
func openPages(list, command string) (pages, error) {
	p := pages{command, map[string]string{}}
	if list == "" {
		return p, nil
	}
	for _, file := range strings.Split(list, ",") {
		b, err := os.ReadFile(file)
		if err != nil {
			return p, fmt.Errorf("--update: %w", err)
		}
		if _, err := between(string(b), command); err != nil {
			return p, fmt.Errorf("--update: %s %w", file, err)
		}
		p.texts[file] = string(b)
	}
	return p, nil
}

// between is what stands between a command's markers.
func between(text, command string) (string, error) {
	begin, end := markers(command)
	from, to := strings.Index(text, begin), strings.Index(text, end)
	if from < 0 || to < from || strings.Count(text, begin) != 1 || strings.Count(text, end) != 1 {
		return "", fmt.Errorf("has not exactly one %s followed by one %s", begin, end)
	}
	return text[from+len(begin) : to], nil
}

// splice puts a text between the markers of every page.
func (p pages) splice(text string) error {
	begin, end := markers(p.command)
	for file, old := range p.texts {
		from, to := strings.Index(old, begin)+len(begin), strings.Index(old, end)
		if err := record.WriteFile(file, []byte(old[:from]+"\n"+text+old[to:])); err != nil {
			return fmt.Errorf("--update: %w", err)
		}
	}
	return nil
}
