package reference

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// node is one JSON value. encoding/json keeps neither the order of fields nor doubled keys, so this parser is our own.
type node struct {
	kind     nodeKind
	text     string // of a string: decoded; of a number: as written
	keys     []string
	children []node // of an object in the order of keys, or of an array
}

type nodeKind byte

const (
	nullNode nodeKind = iota
	falseNode
	trueNode
	numberNode
	stringNode
	arrayNode
	objectNode
)

var nodeKinds = [...]string{"null", "false", "true", "a number", "a string", "an array", "an object"}

// get gives the value of a key, nil where there is none.
func (n *node) get(key string) *node {
	for i, k := range n.keys {
		if k == key {
			return &n.children[i]
		}
	}
	return nil
}

// String is the value in short, for messages.
func (n *node) String() string {
	if n == nil {
		return "nothing"
	}
	const longest = 80
	switch n.kind {
	case numberNode:
		return n.text
	case stringNode:
		text := string(appendString(nil, n.text))
		if utf8.RuneCountInString(text) > longest {
			return string([]rune(text)[:longest-1]) + "…"
		}
		return text
	case arrayNode:
		if len(n.children) == 1 {
			return "an array of 1 element"
		}
		return fmt.Sprintf("an array of %d elements", len(n.children))
	case objectNode:
		keys := strings.Join(n.keys, " ")
		if utf8.RuneCountInString(keys) > longest {
			keys = string([]rune(keys)[:longest-1]) + "…"
		}
		return "an object {" + keys + "}"
	}
	return nodeKinds[n.kind]
}

const deepestJSON = 500

type jsonParser struct {
	text string
	at   int
}

// parseJSON reads one JSON value; a key that stands twice in an object is an error.
func parseJSON(text []byte) (*node, error) {
	p := &jsonParser{text: string(text)}
	var root node
	p.space()
	err := p.value(&root, 0)
	if err == nil {
		p.space()
		if p.at < len(p.text) {
			err = errors.New("something follows the JSON value")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("byte %d: %w", p.at, err)
	}
	return &root, nil
}

func (p *jsonParser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\n', '\r', '\t':
			p.at++
		default:
			return
		}
	}
}

var errJSONEnd = errors.New("the JSON ends too early")

func (p *jsonParser) value(into *node, depth int) error {
	if p.at >= len(p.text) {
		return errJSONEnd
	}
	if depth > deepestJSON {
		return fmt.Errorf("more than %d levels of JSON", deepestJSON)
	}
	switch c := p.text[p.at]; c {
	case '{':
		return p.object(into, depth)
	case '[':
		return p.array(into, depth)
	case '"':
		into.kind = stringNode
		var err error
		into.text, err = p.string()
		return err
	case 'n':
		return p.word(into, "null", nullNode)
	case 't':
		return p.word(into, "true", trueNode)
	case 'f':
		return p.word(into, "false", falseNode)
	default:
		return p.number(into)
	}
}

func (p *jsonParser) word(into *node, word string, kind nodeKind) error {
	if !strings.HasPrefix(p.text[p.at:], word) {
		return fmt.Errorf("%q is no JSON", p.text[p.at:min(p.at+len(word), len(p.text))])
	}
	p.at += len(word)
	into.kind = kind
	return nil
}

func (p *jsonParser) object(into *node, depth int) error {
	into.kind = objectNode
	p.at++
	p.space()
	if p.at < len(p.text) && p.text[p.at] == '}' {
		p.at++
		return nil
	}
	var seen map[string]struct{} // only where there are many keys
	for {
		p.space()
		if p.at >= len(p.text) {
			return errJSONEnd
		}
		if p.text[p.at] != '"' {
			return errors.New("a key was expected")
		}
		key, err := p.string()
		if err != nil {
			return err
		}
		if len(into.keys) < 16 {
			for _, k := range into.keys {
				if k == key {
					return fmt.Errorf("key %q stands twice in one object", key)
				}
			}
		} else {
			if seen == nil {
				seen = make(map[string]struct{}, 64)
				for _, k := range into.keys {
					seen[k] = struct{}{}
				}
			}
			if _, twice := seen[key]; twice {
				return fmt.Errorf("key %q stands twice in one object", key)
			}
			seen[key] = struct{}{}
		}
		p.space()
		if p.at >= len(p.text) {
			return errJSONEnd
		}
		if p.text[p.at] != ':' {
			return errors.New("a colon was expected")
		}
		p.at++
		p.space()
		into.keys = append(into.keys, key)
		into.children = append(into.children, node{})
		if err := p.value(&into.children[len(into.children)-1], depth+1); err != nil {
			return err
		}
		more, err := p.more('}')
		if err != nil || !more {
			return err
		}
	}
}

func (p *jsonParser) array(into *node, depth int) error {
	into.kind = arrayNode
	p.at++
	p.space()
	if p.at < len(p.text) && p.text[p.at] == ']' {
		p.at++
		return nil
	}
	for {
		p.space()
		into.children = append(into.children, node{})
		if err := p.value(&into.children[len(into.children)-1], depth+1); err != nil {
			return err
		}
		more, err := p.more(']')
		if err != nil || !more {
			return err
		}
	}
}

// more reads a comma or the closing bracket.
func (p *jsonParser) more(closing byte) (bool, error) {
	p.space()
	if p.at >= len(p.text) {
		return false, errJSONEnd
	}
	switch p.text[p.at] {
	case ',':
		p.at++
		return true, nil
	case closing:
		p.at++
		return false, nil
	}
	return false, fmt.Errorf("a comma or %q was expected", closing)
}

func (p *jsonParser) number(into *node) error {
	start := p.at
	digits := func() int {
		from := p.at
		for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
			p.at++
		}
		return p.at - from
	}
	next := func(bytes string) bool {
		if p.at < len(p.text) && strings.IndexByte(bytes, p.text[p.at]) >= 0 {
			p.at++
			return true
		}
		return false
	}
	next("-")
	leadingZero := p.at < len(p.text) && p.text[p.at] == '0'
	whole := digits()
	ok := whole == 1 || (whole > 1 && !leadingZero)
	if ok && next(".") {
		ok = digits() > 0
	}
	if ok && next("eE") {
		next("+-")
		ok = digits() > 0
	}
	if !ok {
		return errors.New("no JSON value begins like this")
	}
	into.kind, into.text = numberNode, p.text[start:p.at]
	return nil
}

// string reads a string; without escapes it is a part of the text and not a copy.
func (p *jsonParser) string() (string, error) {
	p.at++
	start := p.at
	ascii := true
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			s := p.text[start:p.at]
			if !ascii && !utf8.ValidString(s) {
				return "", errors.New("a string is no UTF-8")
			}
			p.at++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", errors.New("a control character in a string is not escaped")
		case c >= utf8.RuneSelf:
			ascii = false
		}
		p.at++
	}
	return "", errJSONEnd
}

func (p *jsonParser) escaped(start int) (string, error) {
	decoded := []byte(p.text[start:p.at])
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch {
		case c == '"':
			p.at++
			if !utf8.Valid(decoded) {
				return "", errors.New("a string is no UTF-8")
			}
			return string(decoded), nil
		case c < 0x20:
			return "", errors.New("a control character in a string is not escaped")
		case c != '\\':
			decoded = append(decoded, c)
			p.at++
		default:
			if p.at+1 >= len(p.text) {
				return "", errJSONEnd
			}
			p.at += 2
			switch e := p.text[p.at-1]; e {
			case '"', '\\', '/':
				decoded = append(decoded, e)
			case 'b':
				decoded = append(decoded, '\b')
			case 'f':
				decoded = append(decoded, '\f')
			case 'n':
				decoded = append(decoded, '\n')
			case 'r':
				decoded = append(decoded, '\r')
			case 't':
				decoded = append(decoded, '\t')
			case 'u':
				r, err := p.hex()
				if err != nil {
					return "", err
				}
				if utf16.IsSurrogate(r) {
					if !strings.HasPrefix(p.text[p.at:], `\u`) {
						return "", errors.New("a lone surrogate in a string")
					}
					p.at += 2
					low, err := p.hex()
					if err != nil {
						return "", err
					}
					if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
						return "", errors.New("a lone surrogate in a string")
					}
				}
				decoded = utf8.AppendRune(decoded, r)
			default:
				return "", fmt.Errorf(`\%c is no escape`, e)
			}
		}
	}
	return "", errJSONEnd
}

func (p *jsonParser) hex() (rune, error) {
	if p.at+4 > len(p.text) {
		return 0, errJSONEnd
	}
	n, err := strconv.ParseUint(p.text[p.at:p.at+4], 16, 16)
	if err != nil {
		return 0, fmt.Errorf(`\u%s is no escape`, p.text[p.at:p.at+4])
	}
	p.at += 4
	return rune(n), nil
}

// sameNumber compares by value: 3 and 3.0 and 30e-1 are the same.
func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX != nil || errY != nil || x != y {
		return false
	}
	// Beyond 2^53 floats are too coarse for integers.
	const exact = 1 << 53
	if x > -exact && x < exact {
		return true
	}
	p, okP := new(big.Rat).SetString(a)
	q, okQ := new(big.Rat).SetString(b)
	return okP && okQ && p.Cmp(q) == 0
}
