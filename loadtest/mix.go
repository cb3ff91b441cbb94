package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/reference"
)

// bodyFlags collects --body FILE and --body FILE=WEIGHT.
type bodyFlags []weightedFile

type weightedFile struct {
	path   string
	weight float64 // 0: none was given
}

func (f *bodyFlags) String() string { return "" }

func (f *bodyFlags) Set(text string) error {
	w := weightedFile{path: text}
	if at := strings.LastIndexByte(text, '='); at >= 0 {
		if weight, err := strconv.ParseFloat(text[at+1:], 64); err == nil {
			if !(weight > 0) || weight > 1e9 {
				return fmt.Errorf("%q: weight %s: must be positive", text, text[at+1:])
			}
			w = weightedFile{text[:at], weight}
		}
	}
	if w.path == "" {
		return fmt.Errorf("%q: expected FILE or FILE=WEIGHT", text)
	}
	*f = append(*f, w)
	return nil
}

// mixed tells whether the bodies are a mix: several, or one with a weight.
func (f bodyFlags) mixed() bool { return len(f) > 1 || len(f) == 1 && f[0].weight > 0 }

// operations reads the bodies of a mix. An operation is called as its file.
func (f bodyFlags) operations(s streams) ([]agent.Operation, error) {
	var out []agent.Operation
	for _, w := range f {
		if w.path == "-" {
			return nil, errors.New("--body -: standard input cannot be one of several bodies")
		}
		body, err := readInput(w.path, s)
		if err != nil {
			return nil, fmt.Errorf("--body: %w", err)
		}
		weight := w.weight
		if weight == 0 {
			weight = 1
		}
		out = append(out, agent.Operation{Name: operationName(w.path), Weight: weight, Body: body})
	}
	return out, nil
}

func operationName(file string) string {
	return strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
}

// mixFile is what --mix reads: operations whose bodies and answers are in files beside it.
type mixFile struct {
	Operations []struct {
		Name      string           `json:"name"`        // default: the body's file
		Weight    float64          `json:"weight"`      // default 1
		Body      string           `json:"body"`        // a file
		Expected  string           `json:"expected"`    // a file with the answer to every request
		Answers   string           `json:"expected_by"` // a file with one JSON object: answers by the JSON array of drawn values
		Variables []agent.Variable `json:"variables"`
	} `json:"operations"`
}

// readMix reads a mix; errors name the file and the operation.
func readMix(file string) ([]agent.Operation, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var m mixFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if d.More() {
		return nil, fmt.Errorf("%s: expected one JSON object and nothing after it", file)
	}
	if len(m.Operations) == 0 {
		return nil, fmt.Errorf("%s: operations: expected at least one", file)
	}
	beside := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(filepath.Dir(file), name)
	}
	var out []agent.Operation
	for i, x := range m.Operations {
		wrap := func(key string, err error) error { return fmt.Errorf("%s: operations[%d]: %s: %w", file, i, key, err) }
		if x.Body == "" {
			return nil, wrap("body", errors.New("a file is needed"))
		}
		o := agent.Operation{Name: x.Name, Weight: x.Weight, Variables: x.Variables}
		if o.Name == "" {
			o.Name = operationName(x.Body)
		}
		if o.Weight == 0 {
			o.Weight = 1
		}
		text, err := os.ReadFile(beside(x.Body))
		if err != nil {
			return nil, wrap("body", err)
		}
		o.Body = string(text)
		if x.Expected != "" {
			if o.Expected, err = readExpected(beside(x.Expected)); err != nil {
				return nil, wrap("expected", err)
			}
		}
		if x.Answers != "" {
			if o.ExpectedBy, err = readAnswers(beside(x.Answers)); err != nil {
				return nil, wrap("expected_by", err)
			}
		}
		out = append(out, o)
	}
	return out, nil
}

func readExpected(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if _, err := reference.ParseExpected(b); err != nil {
		return "", fmt.Errorf("%s: no GraphQL answer: %w", file, err)
	}
	return string(b), nil
}

// readAnswers reads an object whose names are JSON arrays of drawn values and whose values are GraphQL answers.
func readAnswers(file string) (map[string]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	out := make(map[string]string, len(raw))
	for name, answer := range raw {
		var values []json.RawMessage
		var key bytes.Buffer
		if err := json.Unmarshal([]byte(name), &values); err != nil {
			return nil, fmt.Errorf("%s: %q: expected a JSON array of drawn values, such as [\"17\"]: %w", file, name, err)
		}
		if err := json.Compact(&key, []byte(name)); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", file, name, err)
		}
		if _, err := reference.ParseExpected(answer); err != nil {
			return nil, fmt.Errorf("%s: %q: no GraphQL answer: %w", file, name, err)
		}
		if _, twice := out[key.String()]; twice {
			return nil, fmt.Errorf("%s: %q is there twice", file, name)
		}
		out[key.String()] = string(answer)
	}
	return out, nil
}
