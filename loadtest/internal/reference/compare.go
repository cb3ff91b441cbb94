package reference

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Difference is the first place where an answer is not what was expected.
type Difference struct {
	// Path is where, as in data.items[3].category.name; empty for the answer as a whole.
	Path string
	// Expected and Got are short: a long value is described.
	Expected string
	Got      string
}

// String says it in words.
func (d *Difference) String() string {
	at := d.Path
	if at == "" {
		at = "the answer"
	}
	return fmt.Sprintf("%s: expected %s, got %s", at, d.Expected, d.Got)
}

// CompareJSON is Compare as an error.
func CompareJSON(expected, got []byte) error {
	if difference := Compare(expected, got); difference != nil {
		return fmt.Errorf("%v", difference)
	}
	return nil
}

// Compare compares an answer with the expected one, as JSON values with the order of fields: 3 and 3.0 are the same.
// Errors are sets of path and extensions.code; messages and locations don't count. Of several errors that lead to the
// same null at least one must be there, and none that is not expected. What answers __schema is compared as Canonical
// gives it. A key that stands twice in an object of the answer is a difference. Nil: no difference.
func Compare(expected, got []byte) *Difference {
	parsed, err := ParseExpected(expected)
	if err != nil {
		return &Difference{Expected: "an answer that can be read (" + err.Error() + ")", Got: describeBytes(got)}
	}
	return parsed.Compare(got)
}

// Expected is an expected answer, read once to be compared often. It may be used by several goroutines.
type Expected struct {
	data          *node             // nil for a request error
	errors        map[string]string // the errors by path and code; what each leads to: the path of the null
	introspection bool
}

// ParseExpected reads an expected answer.
func ParseExpected(expected []byte) (*Expected, error) {
	a, err := parseAnswer(expected)
	if err != nil {
		return nil, err
	}
	e := &Expected{data: a.data, errors: map[string]string{}}
	for _, failure := range a.errors {
		e.errors[failure.String()] = failure.nulledIn(a.data)
	}
	if a.data != nil && a.data.kind == objectNode && a.data.get("__schema") != nil {
		e.introspection = true
		canonicalSchema(a.data.get("__schema"))
	}
	return e, nil
}

// Compare is as the function of that name.
func (e *Expected) Compare(got []byte) *Difference {
	if e.isPlainly(got) {
		return nil
	}
	a, err := parseAnswer(got)
	if err != nil {
		return &Difference{Expected: "a GraphQL answer", Got: err.Error() + ": " + describeBytes(got)}
	}
	if e.introspection && a.data != nil && a.data.kind == objectNode {
		if schema := a.data.get("__schema"); schema != nil {
			canonicalSchema(schema)
		}
	}
	if difference := e.compareErrors(a.errors); difference != nil {
		return difference
	}
	switch {
	case e.data == nil && a.data != nil:
		return &Difference{Path: "data", Expected: "nothing, the request being refused", Got: a.data.String()}
	case e.data != nil && a.data == nil:
		return &Difference{Path: "data", Expected: e.data.String(), Got: "nothing"}
	case e.data == nil:
		return nil
	}
	return compareNodes(e.data, a.data, place{key: "data", index: -1})
}

// isPlainly finds the usual case, an answer that is what was expected and has no errors, without taking it apart. False
// means that it has to be.
func (e *Expected) isPlainly(got []byte) bool {
	if e.data == nil || len(e.errors) > 0 || e.introspection {
		return false
	}
	p := &jsonParser{text: string(got)}
	whole := node{kind: objectNode, keys: []string{"data"}, children: []node{*e.data}}
	p.space()
	if !p.holds(&whole) {
		return false
	}
	p.space()
	return p.at == len(p.text)
}

// holds tells whether the next value is the one given. Keys are expected in their order and are all different there, so
// that none can stand twice here.
func (p *jsonParser) holds(expected *node) bool {
	if p.at >= len(p.text) {
		return false
	}
	takes := func(c byte) bool {
		p.space()
		if p.at < len(p.text) && p.text[p.at] == c {
			p.at++
			return true
		}
		return false
	}
	switch expected.kind {
	case objectNode:
		if !takes('{') {
			return false
		}
		for i, key := range expected.keys {
			if i > 0 && !takes(',') {
				return false
			}
			if p.space(); !p.holdsString(key) || !takes(':') {
				return false
			}
			if p.space(); !p.holds(&expected.children[i]) {
				return false
			}
		}
		return takes('}')
	case arrayNode:
		if !takes('[') {
			return false
		}
		for i := range expected.children {
			if i > 0 && !takes(',') {
				return false
			}
			if p.space(); !p.holds(&expected.children[i]) {
				return false
			}
		}
		return takes(']')
	case stringNode:
		return p.holdsString(expected.text)
	case numberNode:
		var number node
		return p.number(&number) == nil && sameNumber(expected.text, number.text)
	default:
		var found node
		return p.word(&found, nodeKinds[expected.kind], expected.kind) == nil
	}
}

func (p *jsonParser) holdsString(expected string) bool {
	if p.at >= len(p.text) || p.text[p.at] != '"' {
		return false
	}
	found, err := p.string()
	return err == nil && found == expected
}

func (e *Expected) compareErrors(got []answerError) *Difference {
	if len(e.errors) == 0 && len(got) == 0 {
		return nil
	}
	met := map[string]bool{} // the nulls that an error accounts for
	for _, failure := range got {
		nulled, ok := e.errors[failure.String()]
		if !ok {
			return &Difference{Path: "errors", Expected: e.describeErrors(), Got: failure.String() + failure.message}
		}
		met[nulled] = true
	}
	for _, nulled := range e.errors {
		if !met[nulled] {
			found := "no error"
			if len(got) > 0 {
				var list []string
				for _, failure := range got {
					list = append(list, failure.String())
				}
				found = "only " + shorten(strings.Join(list, ", "))
			}
			return &Difference{Path: "errors", Expected: e.describeErrors(), Got: found}
		}
	}
	return nil
}

func (e *Expected) describeErrors() string {
	if len(e.errors) == 0 {
		return "no error"
	}
	list := make([]string, 0, len(e.errors))
	for failure := range e.errors {
		list = append(list, failure)
	}
	slices.Sort(list)
	return shorten(strings.Join(list, ", "))
}

func shorten(text string) string {
	const longest = 200
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest-1]) + "…"
	}
	return text
}

func describeBytes(text []byte) string {
	if len(text) == 0 {
		return "an empty body"
	}
	return strconv.QuoteToGraphic(shorten(string(text[:min(len(text), 400)])))
}

// answer is a GraphQL answer taken apart.
type answer struct {
	data   *node
	errors []answerError
}

type answerError struct {
	path    []any // strings and ints
	code    string
	message string // for a person, with a separator before it
}

func (f answerError) String() string {
	code := f.code
	if code == "" {
		code = "an error without code"
	}
	if len(f.path) == 0 {
		return code
	}
	return code + " at " + joinPath(f.path)
}

func joinPath(path []any) string {
	var b strings.Builder
	for i, element := range path {
		switch e := element.(type) {
		case string:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(e)
		case int:
			b.WriteString("[" + strconv.Itoa(e) + "]")
		}
	}
	return b.String()
}

// nulledIn gives the path of the null that the error led to.
func (f answerError) nulledIn(data *node) string {
	at := data
	for i, element := range f.path {
		if at == nil || at.kind == nullNode {
			return joinPath(f.path[:i])
		}
		switch e := element.(type) {
		case string:
			at = at.get(e)
		case int:
			if e >= len(at.children) {
				return joinPath(f.path)
			}
			at = &at.children[e]
		}
	}
	return joinPath(f.path)
}

func parseAnswer(text []byte) (*answer, error) {
	root, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	if root.kind != objectNode {
		return nil, fmt.Errorf("%s is no answer", root)
	}
	a := &answer{}
	for i, key := range root.keys {
		value := &root.children[i]
		switch key {
		case "data":
			if value.kind != objectNode && value.kind != nullNode {
				return nil, fmt.Errorf("data is %s", value)
			}
			a.data = value
		case "errors":
			if value.kind != arrayNode || len(value.children) == 0 {
				return nil, fmt.Errorf("errors is %s, not a list that has some", value)
			}
			for i := range value.children {
				failure, err := parseError(&value.children[i])
				if err != nil {
					return nil, fmt.Errorf("errors[%d]: %w", i, err)
				}
				a.errors = append(a.errors, failure)
			}
		default:
			return nil, fmt.Errorf("member %q is none of data and errors", key)
		}
	}
	if a.data == nil && a.errors == nil {
		return nil, fmt.Errorf("%s has neither data nor errors", root)
	}
	return a, nil
}

func parseError(entry *node) (answerError, error) {
	failure := answerError{}
	if entry.kind != objectNode {
		return failure, fmt.Errorf("%s is no error", entry)
	}
	if extensions := entry.get("extensions"); extensions != nil && extensions.kind == objectNode {
		if code := extensions.get("code"); code != nil && code.kind == stringNode {
			failure.code = code.text
		}
	}
	if message := entry.get("message"); message != nil {
		failure.message = " (message " + message.String() + ")"
	}
	path := entry.get("path")
	if path == nil {
		return failure, nil
	}
	if path.kind != arrayNode || len(path.children) == 0 {
		return failure, fmt.Errorf("path is %s", path)
	}
	for i := range path.children {
		element := &path.children[i]
		switch element.kind {
		case stringNode:
			failure.path = append(failure.path, element.text)
		case numberNode:
			index, err := strconv.Atoi(element.text)
			if err != nil || index < 0 {
				return failure, fmt.Errorf("path has %s", element)
			}
			failure.path = append(failure.path, index)
		default:
			return failure, fmt.Errorf("path has %s", element)
		}
	}
	return failure, nil
}

// place is where a comparison is; its text is only made for a difference.
type place struct {
	parent *place
	key    string
	index  int // -1 for a key
}

func (p *place) String() string {
	if p.index >= 0 {
		return p.parent.String() + "[" + strconv.Itoa(p.index) + "]"
	}
	if p.parent == nil {
		return p.key
	}
	return p.parent.String() + "." + p.key
}

func compareNodes(expected, got *node, at place) *Difference {
	differ := func() *Difference {
		return &Difference{Path: at.String(), Expected: expected.String(), Got: got.String()}
	}
	if expected.kind != got.kind {
		return differ()
	}
	switch expected.kind {
	case numberNode:
		if !sameNumber(expected.text, got.text) {
			return differ()
		}
	case stringNode:
		if expected.text != got.text {
			return differ()
		}
	case arrayNode:
		if len(expected.children) != len(got.children) {
			return differ()
		}
		for i := range expected.children {
			if d := compareNodes(&expected.children[i], &got.children[i], place{parent: &at, index: i}); d != nil {
				return d
			}
		}
	case objectNode:
		if !slices.Equal(expected.keys, got.keys) {
			return differ()
		}
		for i, key := range expected.keys {
			if d := compareNodes(&expected.children[i], &got.children[i], place{parent: &at, key: key, index: -1}); d != nil {
				return d
			}
		}
	}
	return nil
}

// Canonical gives an answer to introspection (__schema at the top of data, under its own name) as it is compared: types
// and directives, and each type's interfaces and possible types, by name; of what every server has built in (the five
// scalars, introspection's own types, the directives) only what the contract fixes: kind and name. Fields of the
// schema's own types stay in their order. Any other answer comes back as it is, without white space.
func Canonical(body []byte) ([]byte, error) {
	root, err := parseJSON(body)
	if err != nil {
		return nil, err
	}
	if data := root.get("data"); data != nil {
		if schema := data.get("__schema"); schema != nil {
			canonicalSchema(schema)
		}
	}
	return appendNode(nil, root), nil
}

func canonicalSchema(schema *node) {
	if types := schema.get("types"); types != nil {
		for i := range types.children {
			canonicalType(&types.children[i])
		}
		sortByName(types)
	}
	if directives := schema.get("directives"); directives != nil {
		for i := range directives.children {
			directives.children[i].keep("name")
		}
		sortByName(directives)
	}
}

func canonicalType(t *node) {
	if name := t.get("name"); name != nil {
		builtIn := strings.HasPrefix(name.text, "__")
		switch name.text {
		case "Int", "Float", "String", "Boolean", "ID":
			builtIn = true
		}
		if builtIn {
			t.keep("kind", "name")
		}
	}
	sortByName(t.get("interfaces"))
	sortByName(t.get("possibleTypes"))
}

// keep drops all other keys.
func (n *node) keep(keys ...string) {
	kept := node{kind: n.kind}
	for i, key := range n.keys {
		if slices.Contains(keys, key) {
			kept.keys = append(kept.keys, key)
			kept.children = append(kept.children, n.children[i])
		}
	}
	*n = kept
}

func sortByName(list *node) {
	if list == nil || list.kind != arrayNode {
		return
	}
	slices.SortStableFunc(list.children, func(a, b node) int {
		nameA, nameB := a.get("name"), b.get("name")
		if nameA == nil || nameB == nil {
			return 0
		}
		return strings.Compare(nameA.text, nameB.text)
	})
}

func appendNode(to []byte, n *node) []byte {
	switch n.kind {
	case numberNode:
		return append(to, n.text...)
	case stringNode:
		return appendString(to, n.text)
	case arrayNode:
		to = append(to, '[')
		for i := range n.children {
			if i > 0 {
				to = append(to, ',')
			}
			to = appendNode(to, &n.children[i])
		}
		return append(to, ']')
	case objectNode:
		to = append(to, '{')
		for i, key := range n.keys {
			if i > 0 {
				to = append(to, ',')
			}
			to = append(appendString(to, key), ':')
			to = appendNode(to, &n.children[i])
		}
		return append(to, '}')
	}
	return append(to, nodeKinds[n.kind]...)
}
