// Package profile reads what a profiler of a server's own language sampled, and says whose CPU time it was.
package profile

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/record"
)

// mostFunctions is how many functions a record names.
const mostFunctions = 20

// mostLine bounds one stack's text.
const mostLine = 1 << 20

// Of reads folded stacks: one on each line, functions from the outermost to the innermost with semicolons between them, then
// a space and the number of samples. A stack's CPU time is that of its innermost function that is none of the runtime's by the
// contender's patterns; where there is none it is the runtime's own. An error names the line.
func Of(patterns contender.Profile, folded []byte) (record.Profile, error) {
	p := record.Profile{Functions: []record.ProfiledFunction{}}
	by := map[string]int64{}
	number := 0
	for line := range bytes.Lines(folded) {
		number++
		stack, samples, err := readLine(strings.TrimSuffix(string(line), "\n"))
		if err != nil {
			return record.Profile{}, fmt.Errorf("line %d of a profile: %w", number, err)
		}
		p.Samples += samples
		owner, ok := ownerOf(stack, patterns.Runtime)
		switch {
		case !ok:
			p.RuntimeSamples += samples
		case matches(patterns.Loader, owner):
			p.LoaderSamples += samples
			fallthrough
		default:
			by[owner] += samples
		}
	}
	if p.Samples == 0 {
		return record.Profile{}, fmt.Errorf("a profile of %d bytes without a sample", len(folded))
	}
	for _, name := range slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Or(cmp.Compare(by[b], by[a]), strings.Compare(a, b)) }) {
		if len(p.Functions) == mostFunctions {
			break
		}
		p.Functions = append(p.Functions, record.ProfiledFunction{Function: name, Samples: by[name]})
	}
	return p, nil
}

func readLine(line string) (stack []string, samples int64, err error) {
	if len(line) > mostLine {
		return nil, 0, fmt.Errorf("%d bytes; expected %d at most", len(line), mostLine)
	}
	at := strings.LastIndexByte(line, ' ')
	if at <= 0 {
		return nil, 0, fmt.Errorf("%.100q: expected a stack, a space and a number of samples", line)
	}
	samples, err = strconv.ParseInt(line[at+1:], 10, 32)
	if err != nil || samples < 1 {
		return nil, 0, fmt.Errorf("%.100q: expected a number of samples, 1 or more", line[at+1:])
	}
	return strings.Split(line[:at], ";"), samples, nil
}

func ownerOf(stack []string, runtime []*regexp.Regexp) (function string, ok bool) {
	for _, function := range slices.Backward(stack) {
		if !matches(runtime, function) {
			return function, true
		}
	}
	return "", false
}

func matches(patterns []*regexp.Regexp, name string) bool {
	return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(name) })
}
