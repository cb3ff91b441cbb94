// Package scrape reads what a contender tells of itself: /metrics in Prometheus' text format, Server-Timing, and other pages.
package scrape

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Samples are the values of a page of metrics by name and labels as written.
type Samples map[string]float64

const (
	patience     = 5 * time.Second
	largestBytes = 8 << 20
)

// Get asks a contender for its metrics.
func Get(ctx context.Context, url string) (Samples, error) {
	text, err := Page(ctx, url, patience, largestBytes)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	samples, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return samples, nil
}

// Page is the text at an address, of at most so many bytes, on a connection that does not stay. Another status than 200 is an
// error, and so is a longer text.
func Page(ctx context.Context, url string, patience time.Duration, most int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("status %d: %.200q", response.StatusCode, text)
	case int64(len(text)) > most:
		return nil, fmt.Errorf("more than %d bytes", most)
	}
	return text, nil
}

// Parse reads Prometheus' text format: name{label="value",…} value [time].
func Parse(text string) (Samples, error) {
	read := Samples{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		end := strings.LastIndexByte(line, '}') + 1
		if end == 0 {
			end = strings.IndexByte(line, ' ')
		}
		if end <= 0 {
			return nil, fmt.Errorf("%q is no sample", line)
		}
		fields := strings.Fields(line[end:])
		if len(fields) < 1 || len(fields) > 2 {
			return nil, fmt.Errorf("%q is no sample", line)
		}
		value, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no sample: %w", line, err)
		}
		read[line[:end]] = value
	}
	return read, nil
}

// Matching gives the keys of a name that carry all those labels (name, value, name, value …).
func (m Samples) Matching(name string, labels ...string) []string {
	var keys []string
	for key := range m {
		base, rest, _ := strings.Cut(key, "{")
		if base != name {
			continue
		}
		carries := true
		for i := 0; i+1 < len(labels); i += 2 {
			pair := labels[i] + `="` + labels[i+1] + `"`
			carries = carries && (strings.HasPrefix(rest, pair) || strings.Contains(rest, ","+pair) || strings.Contains(rest, ", "+pair))
		}
		if carries {
			keys = append(keys, key)
		}
	}
	return keys
}

// Carrying are the samples that have a label with that value.
func (m Samples) Carrying(label, value string) Samples {
	out := Samples{}
	for key, v := range m {
		if text, ok := Label(key, label); ok && text == value {
			out[key] = v
		}
	}
	return out
}

// Values are those that a label has in the samples of a name, in the order of Counting.
func (m Samples) Values(name, label string) []string {
	var out []string
	for _, key := range m.Matching(name) {
		if value, ok := Label(key, label); ok && !slices.Contains(out, value) {
			out = append(out, value)
		}
	}
	slices.SortFunc(out, Counting)
	return out
}

// Counting orders short texts first, so that numbers count up.
func Counting(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

// Label is a label's value in a key.
func Label(key, label string) (value string, ok bool) {
	for _, before := range []string{"{", ",", ", "} {
		if _, rest, found := strings.Cut(key, before+label+`="`); found {
			value, _, ok = strings.Cut(rest, `"`)
			return value, ok
		}
	}
	return "", false
}

// Sum adds up the samples of a name that carry all those labels.
func (m Samples) Sum(name string, labels ...string) float64 {
	sum := 0.0
	for _, key := range m.Matching(name, labels...) {
		sum += m[key]
	}
	return sum
}

// Has says whether there is a sample of that name with all those labels.
func (m Samples) Has(name string, labels ...string) bool { return len(m.Matching(name, labels...)) > 0 }
