// Package locate says where in a text something is wrong: the line, the key and what stands there, for errors that a
// person can act on.
package locate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Line is the number, from 1, of the line in which the byte at an offset is.
func Line(text []byte, offset int64) int {
	offset = max(0, min(offset, int64(len(text))))
	return 1 + bytes.Count(text[:offset], []byte("\n"))
}

// Place is where a key of a file stands.
type Place struct {
	Line  int
	Key   string // with dots and [n]
	Value string // as written, shortened
}

// String says it in words.
func (p Place) String() string { return fmt.Sprintf("line %d: key %q is %s", p.Line, p.Key, p.Value) }

// shown keeps an error to one line.
func shown(value string) string {
	value = strings.Join(strings.Fields(value), " ")
	if runes := []rune(value); len(runes) > 60 {
		return string(runes[:60]) + "…"
	}
	return value
}

func keyOf(path []string) string {
	var b strings.Builder
	for _, part := range path {
		if _, err := strconv.Atoi(part); err == nil {
			fmt.Fprintf(&b, "[%s]", part)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(part)
	}
	return b.String()
}

// JSON finds a value by its path of keys and places in lists; false where the text has none.
func JSON(text []byte, path ...string) (Place, bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	raw, end, ok := inJSON(d, path)
	if !ok {
		return Place{}, false
	}
	return Place{Line(text, end-int64(len(raw))), keyOf(path), shown(string(raw))}, true
}

func inJSON(d *json.Decoder, path []string) (raw json.RawMessage, end int64, ok bool) {
	if len(path) == 0 {
		if d.Decode(&raw) != nil {
			return nil, 0, false
		}
		return raw, d.InputOffset(), true
	}
	opening, err := d.Token()
	if err != nil {
		return nil, 0, false
	}
	for i := 0; d.More(); i++ {
		name := strconv.Itoa(i)
		if opening == json.Delim('{') {
			token, err := d.Token()
			if err != nil {
				return nil, 0, false
			}
			name, _ = token.(string)
		}
		if name == path[0] {
			return inJSON(d, path[1:])
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return nil, 0, false
		}
	}
	return nil, 0, false
}

// JSONError adds line, key, value and what was expected to an error of encoding/json about the text.
func JSONError(text []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d: %w", Line(text, syntax.Offset), err)
	case errors.As(err, &kind):
		value := kind.Value
		if place, ok := JSON(text, strings.Split(kind.Field, ".")...); ok {
			value = place.Value
		}
		return fmt.Errorf("line %d: key %q is %s, where %s was expected", Line(text, kind.Offset), kind.Field, value, kind.Type)
	}
	return err
}

// DecodeYAML reads a text by the options given. An error is of one line and begins with [line:column]. A text that the
// library panics at is an error too: its decoder does so at an alias within the very value that the alias names, as in
// `arms: &a *a`.
func DecodeYAML(text []byte, into any, options ...yaml.DecodeOption) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("this YAML cannot be read, an alias in it may name itself: %v", r)
		}
	}()
	if err := yaml.NewDecoder(bytes.NewReader(text), options...).Decode(into); err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return errors.New(line)
	}
	return nil
}

// YAML finds a value by its path of keys and places in lists; false where the text has none.
func YAML(text []byte, path ...string) (place Place, found bool) {
	// The library panics on some texts, and who asks has an error to tell already.
	defer func() {
		if recover() != nil {
			place, found = Place{}, false
		}
	}()
	file, err := parser.ParseBytes(text, 0)
	if err != nil || len(file.Docs) == 0 {
		return Place{}, false
	}
	node := ast.Node(file.Docs[0].Body)
	for i, part := range path {
		node = child(node, part)
		if node == nil {
			return Place{}, false
		}
		if i == len(path)-1 {
			break
		}
	}
	if node == nil || node.GetToken() == nil {
		return Place{}, false
	}
	return Place{node.GetToken().Position.Line, keyOf(path), shown(node.String())}, true
}

func child(node ast.Node, name string) ast.Node {
	switch node := node.(type) {
	case *ast.MappingNode:
		for _, pair := range node.Values {
			if v := child(pair, name); v != nil {
				return v
			}
		}
	case *ast.MappingValueNode:
		if node.Key.GetToken() != nil && node.Key.GetToken().Value == name {
			return node.Value
		}
	case *ast.SequenceNode:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(node.Values) {
			return node.Values[i]
		}
	}
	return nil
}
