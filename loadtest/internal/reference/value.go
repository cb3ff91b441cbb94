package reference

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Object is a JSON object with its fields in order. Values are nil, bool, int32, float64, string, []any and *Object.
type Object struct {
	Keys   []string
	Values []any
}

// Get gives the value of a key and whether it is there.
func (o *Object) Get(key string) (any, bool) {
	for i, k := range o.Keys {
		if k == key {
			return o.Values[i], true
		}
	}
	return nil, false
}

func (o *Object) add(key string, value any) {
	o.Keys = append(o.Keys, key)
	o.Values = append(o.Values, value)
}

// MarshalJSON writes the fields in order.
func (o *Object) MarshalJSON() ([]byte, error) { return appendJSON(nil, o), nil }

func appendJSON(to []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(to, "null"...)
	case bool:
		return strconv.AppendBool(to, v)
	case int32:
		return strconv.AppendInt(to, int64(v), 10)
	case int:
		return strconv.AppendInt(to, int64(v), 10)
	case float64:
		return strconv.AppendFloat(to, v, 'f', -1, 64)
	case string:
		return appendString(to, v)
	case []any:
		to = append(to, '[')
		for i, element := range v {
			if i > 0 {
				to = append(to, ',')
			}
			to = appendJSON(to, element)
		}
		return append(to, ']')
	case *Object:
		to = append(to, '{')
		for i, key := range v.Keys {
			if i > 0 {
				to = append(to, ',')
			}
			to = append(appendString(to, key), ':')
			to = appendJSON(to, v.Values[i])
		}
		return append(to, '}')
	}
	panic(fmt.Sprintf("%T is no JSON value", value))
}

// appendString writes a JSON string with no escape that is not needed, but for U+2028 and U+2029, which break lines in
// editors.
func appendString(to []byte, s string) []byte {
	to = append(to, '"')
	start := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		escape := ""
		switch {
		case r == '"':
			escape = `\"`
		case r == '\\':
			escape = `\\`
		case r == '\n':
			escape = `\n`
		case r == '\t':
			escape = `\t`
		case r == '\r':
			escape = `\r`
		case r < 0x20, r == '\u2028', r == '\u2029':
			escape = fmt.Sprintf(`\u%04x`, r)
		}
		if escape != "" {
			to = append(append(to, s[start:i]...), escape...)
			start = i + size
		}
		i += size
	}
	return append(append(to, s[start:]...), '"')
}

// Indent makes an answer readable, as in expected.json, with an ending newline.
func Indent(answer []byte) []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, answer, "", "  "); err != nil {
		panic(fmt.Sprintf("%v in %q", err, answer)) // only ever called with what this package wrote
	}
	out.WriteByte('\n')
	return out.Bytes()
}
