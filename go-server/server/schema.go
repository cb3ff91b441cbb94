package server

import (
	"container/list"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/core"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

// newSchema gives the schema to validate and introspect with. The code that executes was generated from it: a contract
// with another schema is refused.
func newSchema(contractDir string) (*ast.Schema, error) {
	path := filepath.Join(contractDir, "schema.graphql")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("CONTRACT_DIR=%q: expected the contract's folder: %w", contractDir, err)
	}
	if string(text) != sources[0].Input {
		return nil, fmt.Errorf("CONTRACT_DIR=%q: schema.graphql is not the one that this server was generated from; run go generate", contractDir)
	}
	schema, err := gqlparser.LoadSchema(sources...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// gqlparser declares these on its own. The contract has neither.
	delete(schema.Directives, "defer")
	delete(schema.Directives, "oneOf")
	return schema, nil
}

// A document is a query text that was parsed and found valid.
type document struct {
	*ast.QueryDocument
	aliases    int
	operations map[*ast.OperationDefinition]operationLimits
}

// documentCache keeps the documents used last.
type documentCache struct {
	size int

	mu     sync.Mutex
	byText map[string]*list.Element
	recent *list.List // of cachedDocument, the latest first
	// hits and misses count what was asked for.
	hits, misses uint64
}

type cachedDocument struct {
	text string
	*document
}

// longestCachedText keeps a flood of long texts from holding memory: what is longer is parsed each time.
const longestCachedText = 32 << 10

func newDocumentCache(size int) *documentCache {
	return &documentCache{size: size, byText: make(map[string]*list.Element, size), recent: list.New()}
}

func (c *documentCache) get(text string) *document {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byText[text]
	if !ok {
		c.misses++
		return nil
	}
	c.hits++
	c.recent.MoveToFront(e)
	return e.Value.(cachedDocument).document
}

func (c *documentCache) add(text string, d *document) {
	if len(text) > longestCachedText {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byText[text]; ok {
		return
	}
	c.byText[text] = c.recent.PushFront(cachedDocument{text, d})
	if len(c.byText) > c.size {
		last := c.recent.Back()
		delete(c.byText, c.recent.Remove(last).(cachedDocument).text)
	}
}

func (c *documentCache) lookups() (hits, misses uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits, c.misses
}

func (c *documentCache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byText)
}

// parse gives the syntax tree of a query text within the limit of tokens, and its number of aliases.
func (a *App) parse(text string) (query *ast.QueryDocument, aliases int, refused *requestError) {
	if aliases, refused = checkTokens(text, a.config.Limits.Tokens); refused != nil {
		return nil, 0, refused
	}
	query, err := parser.ParseQuery(&ast.Source{Input: text})
	if err != nil {
		return nil, 0, parseFailed(err)
	}
	if len(query.Operations) == 0 && len(query.Fragments) == 0 {
		return nil, 0, graphqlError(codeParseFailed, "Syntax Error: Unexpected <EOF>.")
	}
	return query, aliases, nil
}

func parseFailed(err error) *requestError {
	var located *gqlerror.Error
	if errors.As(err, &located) {
		return libraryErrors(codeParseFailed, gqlerror.List{located})
	}
	return graphqlError(codeParseFailed, "%s", err.Error())
}

// validate checks a syntax tree against the schema, but for its variables' values.
func (a *App) validate(query *ast.QueryDocument, aliases int) (*document, *requestError) {
	literals := &literalCheck{}
	if errs := validator.ValidateWithRules(a.schema, query, validationRules(literals)); len(errs) > 0 {
		return nil, libraryErrors(codeValidationFailed, errs)
	}
	// This rule compares every two fields of one name, a second of work for 2,000 tokens that say the same. What says
	// the same cannot be in conflict, so the rule sees it once.
	literals.setIDs(ast.IntValue) // 1 and "1" are two values to this rule
	overlapping := rules.NewRules(rules.OverlappingFieldsCanBeMergedRule)
	if errs := validator.ValidateWithRules(a.schema, withoutRepetition(query), overlapping); len(errs) > 0 {
		return nil, libraryErrors(codeValidationFailed, errs)
	}
	literals.setIDs(ast.StringValue)
	return newDocument(query, aliases), nil
}

// validationRules are gqlparser's but one, after one of our own.
func validationRules(literals *literalCheck) *rules.Rules {
	all := rules.NewRules(core.Rule{Name: "Literals", RuleFunc: literals.check})
	// GetInner forgets the order, which does not matter to these.
	for name, rule := range rules.NewDefaultRules().GetInner() {
		all.AddRule(name, rule)
	}
	all.RemoveRule(rules.OverlappingFieldsCanBeMergedRule.Name)
	return all
}

// withoutRepetition copies a document, leaving out leaves and spreads that their selection set already has.
func withoutRepetition(query *ast.QueryDocument) *ast.QueryDocument {
	out := *query
	out.Operations = make(ast.OperationList, len(query.Operations))
	for i, operation := range query.Operations {
		o := *operation
		o.SelectionSet = distinctSelections(operation.SelectionSet)
		out.Operations[i] = &o
	}
	out.Fragments = make(ast.FragmentDefinitionList, len(query.Fragments))
	for i, fragment := range query.Fragments {
		f := *fragment
		f.SelectionSet = distinctSelections(fragment.SelectionSet)
		out.Fragments[i] = &f
	}
	return &out
}

func distinctSelections(selections ast.SelectionSet) ast.SelectionSet {
	out := make(ast.SelectionSet, 0, len(selections))
	seen := make(map[string]struct{}, len(selections))
	for _, selection := range selections {
		key := ""
		switch s := selection.(type) {
		case *ast.Field:
			if len(s.SelectionSet) == 0 && len(s.Arguments) == 0 {
				key = s.Alias + ":" + s.Name
			}
			f := *s
			f.SelectionSet = distinctSelections(s.SelectionSet)
			selection = &f
		case *ast.FragmentSpread:
			key = "..." + s.Name
			f := *s
			selection = &f
		case *ast.InlineFragment:
			f := *s
			f.SelectionSet = distinctSelections(s.SelectionSet)
			selection = &f
		}
		if key != "" {
			if _, ok := seen[key]; ok {
				continue
			}
			seen[key] = struct{}{}
		}
		out = append(out, selection)
	}
	return out
}

// literalCheck adds what gqlparser's own rules let pass: integers beyond 32 bits, dates that are none, and objects in
// a scalar's place. It also makes an ID that is written as an integer a text, which gqlparser would otherwise have to
// fit into 64 bits.
type literalCheck struct {
	ids []*ast.Value // those written as integers
}

func (c *literalCheck) setIDs(kind ast.ValueKind) {
	for _, id := range c.ids {
		id.Kind = kind
	}
}

func (c *literalCheck) check(observers *core.Events, addError core.AddErrFunc) {
	observers.OnValue(func(_ *core.Walker, value *ast.Value) {
		if value.Definition == nil || value.Definition.Kind != ast.Scalar {
			return
		}
		switch value.Kind {
		case ast.Variable, ast.NullValue, ast.ListValue:
			return
		}
		wrong := value.Kind == ast.ObjectValue
		switch value.Definition.Name {
		case "ID":
			if value.Kind == ast.IntValue {
				value.Kind = ast.StringValue
				c.ids = append(c.ids, value)
			}
		case "Int":
			if value.Kind == ast.IntValue {
				_, err := strconv.ParseInt(value.Raw, 10, 32)
				wrong = err != nil
			}
		case "Date":
			_, err := parseDate(value.Raw)
			wrong = err != nil || value.Kind != ast.StringValue && value.Kind != ast.BlockValue
		}
		if wrong {
			addError(core.Message("%s cannot represent %s.", value.Definition.Name, value.String()), core.At(value.Position))
		}
	})
}

// operationNamed picks the operation to execute.
func (d *document) operationNamed(name *string) (*ast.OperationDefinition, *requestError) {
	if name == nil {
		if len(d.Operations) != 1 {
			return nil, graphqlError(codeOperationResolution, "Must provide operation name if query contains multiple operations.")
		}
		return d.Operations[0], nil
	}
	for _, operation := range d.Operations {
		if operation.Name == *name && *name != "" { // one without a name has no name that could be given
			return operation, nil
		}
	}
	return nil, graphqlError(codeOperationResolution, "Unknown operation named %q.", *name)
}

// coerceVariables gives the variables of an operation as its types want them: Int as int64, Float as float64, ID and
// String as text, lists as []any, input objects as map[string]any. Variables nobody declared are left out.
func coerceVariables(schema *ast.Schema, operation *ast.OperationDefinition, given map[string]any) (map[string]any, *requestError) {
	if len(operation.VariableDefinitions) == 0 {
		return nil, nil
	}
	coerced := make(map[string]any, len(operation.VariableDefinitions))
	for _, definition := range operation.VariableDefinitions {
		value, ok := given[definition.Variable]
		var err error
		switch {
		case !ok && definition.DefaultValue != nil:
			if value, err = definition.DefaultValue.Value(nil); err == nil {
				value, err = coerceValue(schema, definition.Type, value)
			}
		case !ok && definition.Type.NonNull:
			err = errors.New("is required")
		case !ok:
			continue
		default:
			value, err = coerceValue(schema, definition.Type, value)
		}
		if err != nil {
			e := graphqlError(codeBadUserInput, "Variable \"$%s\" of type %q %s.", definition.Variable, definition.Type.String(), err.Error())
			if definition.Position != nil {
				e.errors[0].Locations = []gqlerror.Location{{Line: definition.Position.Line, Column: definition.Position.Column}}
			}
			return nil, e
		}
		if value == nil && definition.Type.NamedType == "Boolean" {
			// Only @skip, @include and includeDeprecated take one: to them null is as good as false, which gqlgen does
			// not know.
			value = false
		}
		coerced[definition.Variable] = value
	}
	return coerced, nil
}

// coerceValue coerces what came as JSON, or what a default value gives, to a type.
func coerceValue(schema *ast.Schema, want *ast.Type, value any) (any, error) {
	if value == nil {
		if want.NonNull {
			return nil, errors.New("must not be null")
		}
		return nil, nil
	}
	if want.Elem != nil {
		items, ok := value.([]any)
		if !ok {
			items = []any{value}
		}
		out := make([]any, len(items))
		for i, item := range items {
			var err error
			if out[i], err = coerceValue(schema, want.Elem, item); err != nil {
				return nil, fmt.Errorf("has at index %d a value that %w", i, err)
			}
		}
		return out, nil
	}
	definition := schema.Types[want.NamedType]
	switch definition.Kind {
	case ast.InputObject:
		return coerceObject(schema, definition, value)
	case ast.Enum:
		if name, ok := value.(string); ok && definition.EnumValues.ForName(name) != nil {
			return name, nil
		}
	case ast.Scalar:
		if v, ok := coerceScalar(definition.Name, value); ok {
			return v, nil
		}
	}
	return nil, fmt.Errorf("got an invalid value: %s cannot represent it", want.NamedType)
}

func coerceObject(schema *ast.Schema, definition *ast.Definition, value any) (any, error) {
	given, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("must be an object of type %s", definition.Name)
	}
	for name := range given {
		if definition.Fields.ForName(name) == nil {
			return nil, fmt.Errorf("has a field %q that is not of type %s", name, definition.Name)
		}
	}
	out := make(map[string]any, len(given))
	for _, field := range definition.Fields {
		v, ok := given[field.Name]
		if !ok {
			if field.Type.NonNull && field.DefaultValue == nil {
				return nil, fmt.Errorf("misses field %q", field.Name)
			}
			continue
		}
		var err error
		if out[field.Name], err = coerceValue(schema, field.Type, v); err != nil {
			return nil, fmt.Errorf("has in field %q a value that %w", field.Name, err)
		}
	}
	return out, nil
}

// coerceScalar follows the input coercion of each scalar. A JSON number without a fraction is an integer however it is
// written, since JSON has one kind of number.
func coerceScalar(name string, value any) (any, bool) {
	switch name {
	case "Int":
		n, ok := integerText(value)
		if !ok {
			return nil, false
		}
		v, err := strconv.ParseInt(n, 10, 32)
		return v, err == nil
	case "ID":
		if s, ok := value.(string); ok {
			return s, true
		}
		return integerText(value)
	case "Float":
		switch v := value.(type) {
		case json.Number:
			f, err := v.Float64()
			return f, err == nil && !math.IsInf(f, 0)
		case int64:
			return float64(v), true
		case float64:
			return v, true
		}
		return nil, false
	case "Boolean":
		v, ok := value.(bool)
		return v, ok
	case "Date":
		s, ok := value.(string)
		if !ok {
			return nil, false
		}
		_, err := parseDate(s)
		return s, err == nil
	default: // String, DateTime
		s, ok := value.(string)
		return s, ok
	}
}

// integerText gives the digits of a number without a fraction.
func integerText(value any) (string, bool) {
	switch v := value.(type) {
	case int64:
		return strconv.FormatInt(v, 10), true
	case json.Number:
		s := string(v)
		if !strings.ContainsAny(s, ".eE") {
			return s, true
		}
		f, err := v.Float64()
		if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
			return "", false
		}
		return strconv.FormatFloat(f, 'f', 0, 64), true // -0 keeps its sign
	}
	return "", false
}

// buffer collects a response. gqlgen writes to it as an io.Writer; our scalars append to it directly.
type buffer struct{ bytes []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, 0, 16<<10)} }}

// largestKeptBuffer keeps a few huge answers from staying in the pool.
const largestKeptBuffer = 1 << 20

func newBuffer() *buffer { return buffers.Get().(*buffer) }

func (b *buffer) free() {
	if cap(b.bytes) <= largestKeptBuffer {
		b.bytes = b.bytes[:0]
		buffers.Put(b)
	}
}

// readFrom appends what r has, up to limit bytes.
func (b *buffer) readFrom(r io.Reader, limit int64) error {
	for int64(len(b.bytes)) < limit {
		b.bytes = slices.Grow(b.bytes, 512)
		room := b.bytes[len(b.bytes):cap(b.bytes)]
		n, err := r.Read(room[:min(int64(len(room)), limit-int64(len(b.bytes)))])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Write is of io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}

// WriteString is of io.StringWriter.
func (b *buffer) WriteString(s string) (int, error) {
	b.bytes = append(b.bytes, s...)
	return len(s), nil
}

// emit lets a scalar append itself to whatever gqlgen writes to.
func emit(w io.Writer, appendTo func([]byte) []byte) {
	if b, ok := w.(*buffer); ok {
		b.bytes = appendTo(b.bytes)
		return
	}
	_, _ = w.Write(appendTo(nil))
}

// mustEscape marks the bytes that JSON does not take as they are.
var mustEscape = func() (marks [256]bool) {
	for c := range 0x20 {
		marks[c] = true
	}
	marks['"'], marks['\\'] = true, true
	return marks
}()

// appendJSONString appends s, which is valid UTF-8, as JSON.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !mustEscape[c] {
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// How a value of each scalar is written.
type (
	idOutput     int32
	intOutput    int32
	stringOutput string
	floatOutput  float64
)

// MarshalGQL writes an id as text.
func (v idOutput) MarshalGQL(w io.Writer) {
	emit(w, func(b []byte) []byte { return append(strconv.AppendInt(append(b, '"'), int64(v), 10), '"') })
}

// MarshalGQL writes a number.
func (v intOutput) MarshalGQL(w io.Writer) {
	emit(w, func(b []byte) []byte { return strconv.AppendInt(b, int64(v), 10) })
}

// MarshalGQL writes a text.
func (v stringOutput) MarshalGQL(w io.Writer) {
	emit(w, func(b []byte) []byte { return appendJSONString(b, string(v)) })
}

// MarshalGQL writes a number; JSON has none for what is not finite.
func (v floatOutput) MarshalGQL(w io.Writer) {
	emit(w, func(b []byte) []byte { return appendFloat(b, float64(v)) })
}

func appendFloat(b []byte, v float64) []byte {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// MarshalRowID and UnmarshalRowID are ID as it is in a row.
func MarshalRowID(v int32) graphql.Marshaler { return idOutput(v) }

// UnmarshalRowID is never used: ids come in as text.
func UnmarshalRowID(any) (int32, error) { return 0, errors.New("an id comes in as text") }

// MarshalID and UnmarshalID are ID as the client gave it.
func MarshalID(v string) graphql.Marshaler { return stringOutput(v) }

// UnmarshalID takes a literal or what coerceVariables gave.
func UnmarshalID(v any) (string, error) { return UnmarshalString(v) }

// MarshalString writes a String.
func MarshalString(v string) graphql.Marshaler { return stringOutput(v) }

// UnmarshalString takes a literal or what coerceVariables gave.
func UnmarshalString(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case nil:
		return "", errNullArgument
	}
	return "", fmt.Errorf("%T is not a text", v)
}

// MarshalInt writes an Int.
func MarshalInt(v int32) graphql.Marshaler { return intOutput(v) }

// UnmarshalInt takes a literal or what coerceVariables gave.
func UnmarshalInt(v any) (int32, error) {
	switch v := v.(type) {
	case int64:
		if v < math.MinInt32 || v > math.MaxInt32 {
			return 0, fmt.Errorf("%d is beyond 32 bits", v)
		}
		return int32(v), nil
	case nil:
		return 0, errNullArgument
	}
	return 0, fmt.Errorf("%T is not an integer", v)
}

// MarshalFloat writes a Float.
func MarshalFloat(v float64) graphql.Marshaler { return floatOutput(v) }

// UnmarshalFloat takes a literal or what coerceVariables gave.
func UnmarshalFloat(v any) (float64, error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case int64:
		return float64(v), nil
	case nil:
		return 0, errNullArgument
	}
	return 0, fmt.Errorf("%T is not a number", v)
}

// Date is a calendar date in days since 1970-01-01.
type Date int32

// lastDate is 9999-12-31, the last one that YYYY-MM-DD can say.
const lastDate Date = 2932896

func parseDate(s string) (Date, error) {
	if len(s) != len(time.DateOnly) {
		return 0, fmt.Errorf("%q is not a date", s)
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a date", s)
	}
	return Date(t.Unix() / (24 * 60 * 60)), nil
}

// weekday counts from 1970-01-01, a Thursday.
func (d Date) weekday() time.Weekday {
	return time.Weekday(((int64(d)+int64(time.Thursday))%7 + 7) % 7)
}

// appendDate appends YYYY-MM-DD. The calendar is Howard Hinnant's civil_from_days
// (howardhinnant.github.io/date_algorithms.html).
func appendDate(b []byte, d Date) []byte {
	z := int64(d) + 719468
	era := floorDivide(z, 146097)
	dayOfEra := z - era*146097
	yearOfEra := (dayOfEra - dayOfEra/1460 + dayOfEra/36524 - dayOfEra/146096) / 365
	dayOfYear := dayOfEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	monthFromMarch := (5*dayOfYear + 2) / 153
	day := dayOfYear - (153*monthFromMarch+2)/5 + 1
	month := monthFromMarch + 3
	year := yearOfEra + era*400
	if month > 12 {
		month -= 12
		year++
	}
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), month, 2)
	return appendDigits(append(b, '-'), day, 2)
}

// appendDigits appends n with leading zeros.
func appendDigits(b []byte, n int64, width int) []byte {
	var digits [4]byte
	for i := width - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, digits[:width]...)
}

// floorDivide rounds towards minus infinity.
func floorDivide(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// MarshalGQL writes YYYY-MM-DD.
func (d Date) MarshalGQL(w io.Writer) {
	emit(w, func(b []byte) []byte { return append(appendDate(append(b, '"'), d), '"') })
}

// UnmarshalGQL takes a literal or what coerceVariables gave.
func (d *Date) UnmarshalGQL(v any) error {
	s, err := UnmarshalString(v)
	if err != nil {
		return err
	}
	*d, err = parseDate(s)
	return err
}

// DateTime is an instant in milliseconds since 1970-01-01T00:00:00Z.
type DateTime int64

func appendDateTime(b []byte, t DateTime) []byte {
	const day = 24 * 60 * 60 * 1000
	days := floorDivide(int64(t), day)
	rest := int64(t) - days*day
	b = appendDate(b, Date(days))
	b = appendDigits(append(b, 'T'), rest/3600000, 2)
	b = appendDigits(append(b, ':'), rest/60000%60, 2)
	b = appendDigits(append(b, ':'), rest/1000%60, 2)
	b = appendDigits(append(b, '.'), rest%1000, 3)
	return append(b, 'Z')
}

// MarshalGQL writes RFC 3339 in UTC with milliseconds.
func (t DateTime) MarshalGQL(w io.Writer) {
	emit(w, func(b []byte) []byte { return append(appendDateTime(append(b, '"'), t), '"') })
}

// UnmarshalGQL is never used: no argument is a DateTime.
func (t *DateTime) UnmarshalGQL(any) error { return errors.New("no argument is a DateTime") }
