package reference

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"lab/loadtest/internal/contract"
)

// Executor answers requests over one reading of the database. It may be used by several goroutines.
type Executor struct {
	contract *contract.Contract
	data     *Data
}

// NewExecutor gives an executor over that data.
func NewExecutor(c *contract.Contract, data *Data) *Executor {
	return &Executor{contract: c, data: data}
}

// Error is an error of an answer, reduced to what all servers share.
type Error struct {
	// Path is empty for a request error; its elements are strings and ints.
	Path []any
	Code string
}

// Response is an answer.
type Response struct {
	// RequestError: the request was refused as a whole, and the answer has no data.
	RequestError bool
	// Data is nil where null has propagated to the top.
	Data *Object
	// Errors holds every error that execution can meet. Where several lead to the same null, a server may report any
	// of them, but at least one.
	Errors []Error
	// Statements says how often each statement may run, by setting.
	Statements contract.Counts
	// Unforeseeable says what of the answer depends on the clock, nil if nothing does.
	Unforeseeable error
}

// JSON is the answer on one line: errors, reduced to path and extensions.code, then data.
func (r *Response) JSON() []byte { return appendJSON(nil, r.object()) }

func (r *Response) object() *Object {
	answer := &Object{}
	if len(r.Errors) > 0 {
		var list []any
		for _, e := range r.Errors {
			entry := &Object{}
			if len(e.Path) > 0 {
				entry.add("path", e.Path)
			}
			extensions := &Object{}
			extensions.add("code", e.Code)
			entry.add("extensions", extensions)
			list = append(list, entry)
		}
		answer.add("errors", list)
	}
	if !r.RequestError {
		if r.Data == nil {
			answer.add("data", nil)
		} else {
			answer.add("data", r.Data)
		}
	}
	return answer
}

// Execute answers one request. A mutation changes a copy of the data: the next request does not see it.
func (e *Executor) Execute(request Request) *Response {
	prepared, failure := prepare(e.contract, request)
	code := ""
	if failure != nil {
		code = failure.code
	} else {
		code = prepared.figures.exceeded(e.contract.Limits)
	}
	if code != "" {
		none := newRecorder().counts(newNullings(nil, nil), false)
		return &Response{RequestError: true, Errors: []Error{{Code: code}}, Statements: none}
	}
	x := &execution{schema: e.contract.Schema, limits: e.contract.Limits, data: e.data, variables: prepared.variables, recorder: newRecorder()}
	rootType, serial := e.contract.Schema.Query, false
	if prepared.operation.Operation == ast.Mutation {
		rootType, serial = e.contract.Schema.Mutation, true
		x.data = e.data.clone()
	}
	response := &Response{}
	root := newRoot()
	data, ok := x.selectionSet(rootType, nil, []ast.SelectionSet{prepared.operation.SelectionSet}, root)
	if ok {
		response.Data = data
	} else {
		x.nulled = append(x.nulled, root)
	}
	var failedAt []*position
	for _, failed := range x.failures {
		response.Errors = append(response.Errors, Error{Path: failed.at.path(), Code: failed.code})
		failedAt = append(failedAt, failed.at)
	}
	response.Statements = x.recorder.counts(newNullings(x.nulled, failedAt), serial)
	response.Unforeseeable = x.unforeseeable
	return response
}

// execution is one request under way.
type execution struct {
	schema    *ast.Schema
	limits    contract.Limits
	data      *Data
	variables map[string]any
	recorder  *recorder
	failures  []failure
	nulled    []*position
	// unforeseeable is set when the answer depends on the clock.
	unforeseeable error
}

type failure struct {
	at   *position
	code string
}

// fieldError fails one field.
type fieldError struct{ code string }

func (e fieldError) Error() string { return e.code }

var badUserInput = fieldError{"BAD_USER_INPUT"}

// fieldGroup is the fields of one response key.
type fieldGroup struct {
	key    string
	fields []*ast.Field
}

// collect is CollectFields of the specification (section 6.3.2), over several selection sets merged.
func (x *execution) collect(objectType *ast.Definition, sets []ast.SelectionSet) []*fieldGroup {
	var groups []*fieldGroup
	byKey := map[string]*fieldGroup{}
	visited := map[string]bool{}
	var visit func(set ast.SelectionSet)
	visit = func(set ast.SelectionSet) {
		for _, selection := range set {
			switch s := selection.(type) {
			case *ast.Field:
				if !x.included(s.Directives) {
					continue
				}
				group := byKey[s.Alias]
				if group == nil {
					group = &fieldGroup{key: s.Alias}
					byKey[s.Alias] = group
					groups = append(groups, group)
				}
				group.fields = append(group.fields, s)
			case *ast.InlineFragment:
				if x.included(s.Directives) && x.applies(s.TypeCondition, objectType) {
					visit(s.SelectionSet)
				}
			case *ast.FragmentSpread:
				if !x.included(s.Directives) || visited[s.Name] {
					continue
				}
				visited[s.Name] = true
				if x.applies(s.Definition.TypeCondition, objectType) {
					visit(s.Definition.SelectionSet)
				}
			}
		}
	}
	for _, set := range sets {
		visit(set)
	}
	return groups
}

// included evaluates @skip and @include: what is not true counts as false, also a null that a variable with a default
// brought (CollectFields, section 6.3.2).
func (x *execution) included(directives ast.DirectiveList) bool {
	for _, directive := range directives {
		if directive.Name != "skip" && directive.Name != "include" {
			continue
		}
		condition := directive.Arguments.ForName("if").Value
		holds := condition.Raw == "true"
		if condition.Kind == ast.Variable {
			holds = x.variables[condition.Raw] == true
		}
		if holds == (directive.Name == "skip") {
			return false
		}
	}
	return true
}

// applies is DoesFragmentTypeApply.
func (x *execution) applies(condition string, objectType *ast.Definition) bool {
	if condition == "" || condition == objectType.Name {
		return true
	}
	return slices.ContainsFunc(x.schema.PossibleTypes[condition], func(possible *ast.Definition) bool {
		return possible.Name == objectType.Name
	})
}

// selectionSet executes the fields of an object. Not ok: a null propagates to whatever holds the object.
func (x *execution) selectionSet(objectType *ast.Definition, source any, sets []ast.SelectionSet, at *position) (*Object, bool) {
	groups := x.collect(objectType, sets)
	object := &Object{Keys: make([]string, 0, len(groups)), Values: make([]any, 0, len(groups))}
	all := true
	for _, group := range groups {
		// All fields are executed, also after one has failed, so that every error a server may report is known.
		value, ok := x.field(objectType, source, group, at.field(group.key))
		object.add(group.key, value)
		all = all && ok
	}
	if !all {
		return nil, false
	}
	return object, true
}

func (x *execution) field(objectType *ast.Definition, source any, group *fieldGroup, at *position) (any, bool) {
	field := group.fields[0]
	if field.Name == "__typename" {
		return objectType.Name, true
	}
	definition := objectType.Fields.ForName(field.Name)
	arguments, err := coerceArguments(x.schema, definition.Arguments, field.Arguments, x.variables)
	if err != nil {
		err = badUserInput
	}
	var value any
	if err == nil {
		value, err = x.resolve(objectType.Name, field.Name, source, arguments, at)
	}
	if err != nil {
		x.fail(at, err)
		if definition.Type.NonNull {
			return nil, false
		}
		x.nulled = append(x.nulled, at)
		return nil, true
	}
	sets := make([]ast.SelectionSet, len(group.fields))
	for i, f := range group.fields {
		sets[i] = f.SelectionSet
	}
	return x.complete(definition.Type, value, sets, at)
}

func (x *execution) fail(at *position, err error) {
	var failed fieldError
	if !errors.As(err, &failed) {
		failed = fieldError{"INTERNAL_SERVER_ERROR"}
	}
	x.failures = append(x.failures, failure{at, failed.code})
}

// complete is CompleteValue of the specification (section 6.4.3).
func (x *execution) complete(t *ast.Type, value any, sets []ast.SelectionSet, at *position) (any, bool) {
	if t.NonNull {
		nullable := *t
		nullable.NonNull = false
		completed, ok := x.completeNullable(&nullable, value, sets, at)
		if ok && completed == nil {
			x.fail(at, fieldError{"INTERNAL_SERVER_ERROR"})
			return nil, false
		}
		return completed, ok
	}
	completed, ok := x.completeNullable(t, value, sets, at)
	if !ok {
		x.nulled = append(x.nulled, at)
		return nil, true
	}
	return completed, true
}

func (x *execution) completeNullable(t *ast.Type, value any, sets []ast.SelectionSet, at *position) (any, bool) {
	if value == nil {
		return nil, true
	}
	if t.Elem != nil {
		list := value.([]any)
		completed := make([]any, len(list))
		all := true
		for i, element := range list {
			var ok bool
			completed[i], ok = x.complete(t.Elem, element, sets, at.element(i))
			all = all && ok
		}
		if !all {
			return nil, false
		}
		return completed, true
	}
	definition := x.schema.Types[t.NamedType]
	switch definition.Kind {
	case ast.Scalar, ast.Enum:
		return value, true
	case ast.Interface, ast.Union:
		definition = x.schema.Types[typeNameOf(value)]
	}
	object, ok := x.selectionSet(definition, value, sets, at)
	if !ok {
		return nil, false
	}
	return object, true
}

// typeNameOf tells the object type of a value whose type is abstract.
func typeNameOf(value any) string {
	switch v := value.(type) {
	case *named:
		return v.typeName
	case *item:
		return "Item"
	case *review:
		return "ReviewAdded"
	case itemNotFound:
		return "ItemNotFound"
	case authorNotFound:
		return "AuthorNotFound"
	}
	panic(fmt.Sprintf("%T stands where an abstract type does", value))
}
