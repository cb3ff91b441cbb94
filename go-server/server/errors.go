package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// The codes of extensions.code.
const (
	codeParseFailed         = "GRAPHQL_PARSE_FAILED"
	codeValidationFailed    = "GRAPHQL_VALIDATION_FAILED"
	codeBadRequest          = "BAD_REQUEST"
	codeOperationResolution = "OPERATION_RESOLUTION_FAILURE"
	codeBadUserInput        = "BAD_USER_INPUT"
	codeQueryTooLong        = "QUERY_TOO_LONG"
	codeQueryTooDeep        = "QUERY_TOO_DEEP"
	codeQueryTooManyAliases = "QUERY_TOO_MANY_ALIASES"
	codeQueryTooCostly      = "QUERY_TOO_COSTLY"
	codeRequestTooLarge     = "REQUEST_TOO_LARGE"
	codeRequestTimeout      = "REQUEST_TIMEOUT"
	codeServiceUnavailable  = "SERVICE_UNAVAILABLE"
	codeUpstreamFailed      = "UPSTREAM_FAILED"
	codeNotInThisTier       = "NOT_IN_THIS_TIER"
	codeInternal            = "INTERNAL_SERVER_ERROR"

	// codeOK is no error: what lab_requests_total counts a good answer under.
	codeOK = "OK"
)

// requestError ends a whole request: there is no data.
type requestError struct {
	status int
	code   string
	// wellFormed is set where the request was one that GraphQL could look at: its status 400 is 200 for a client that
	// accepts application/json.
	wellFormed bool
	errors     []responseError
	header     http.Header
}

// responseError is one entry of a response's errors.
type responseError struct {
	Message    string              `json:"message"`
	Locations  []gqlerror.Location `json:"locations,omitempty"`
	Path       ast.Path            `json:"path,omitempty"`
	Extensions errorExtensions     `json:"extensions"`
}

type errorExtensions struct {
	Code string `json:"code"`
}

func (e *requestError) Error() string { return e.code + ": " + e.errors[0].Message }

func newRequestError(status int, code, format string, args ...any) *requestError {
	return &requestError{status: status, code: code, errors: []responseError{{
		Message: fmt.Sprintf(format, args...), Extensions: errorExtensions{code},
	}}}
}

// badRequest is what is no GraphQL request at all.
func badRequest(format string, args ...any) *requestError {
	return newRequestError(http.StatusBadRequest, codeBadRequest, format, args...)
}

// graphqlError is a well-formed request that GraphQL refuses before execution.
func graphqlError(code, format string, args ...any) *requestError {
	e := newRequestError(http.StatusBadRequest, code, format, args...)
	e.wellFormed = true
	return e
}

// libraryErrors keeps the parser's or validator's own texts and places.
func libraryErrors(code string, list gqlerror.List) *requestError {
	e := &requestError{status: http.StatusBadRequest, code: code, wellFormed: true}
	for _, err := range list {
		e.errors = append(e.errors, responseError{Message: err.Message, Locations: err.Locations, Extensions: errorExtensions{code}})
	}
	return e
}

func unavailable() *requestError {
	e := newRequestError(http.StatusServiceUnavailable, codeServiceUnavailable, "Service unavailable.")
	e.header = http.Header{"Retry-After": {"1"}}
	return e
}

func (a *App) timedOut() *requestError {
	return newRequestError(http.StatusGatewayTimeout, codeRequestTimeout,
		"Request took longer than %d ms.", a.config.RequestTimeout.Milliseconds())
}

// fieldError is an error of one field that the client may read.
type fieldError struct {
	code, message string
}

func (e *fieldError) Error() string { return e.message }

func badArgument(name, rule string) error {
	return &fieldError{codeBadUserInput, "Argument " + strconv.Quote(name) + " " + rule}
}

var errUpstream = &fieldError{codeUpstreamFailed, "Upstream failed."}

// errNullArgument is a null that came to a non-null argument through a nullable variable. Its name is in the path that
// gqlgen wraps around it.
var errNullArgument = errors.New("null argument")

// errUnavailable is the cause of every error that comes from a database that is not to be had.
var errUnavailable = errors.New("database unavailable")

func isUnavailable(err error) bool { return errors.Is(err, errUnavailable) }

// errCanceled is the cause of every error that comes from a statement which the database ended: its request counts as late.
var errCanceled = errors.New("statement canceled")

// presentError turns what a resolver returned into what the client reads. A cause that is not meant for the client
// goes to the log, once per request.
func (a *App) presentError(ctx context.Context, err error) *gqlerror.Error {
	out := &gqlerror.Error{}
	nulled := 0
	if field := graphql.GetFieldContext(ctx); field != nil {
		out.Path = field.Path()
		nulled = len(out.Path) - propagation(field)
		if at := fieldPosition(field); at != nil {
			out.Locations = []gqlerror.Location{{Line: at.Line, Column: at.Column}}
		}
	}
	var known *fieldError
	code := codeInternal
	switch {
	case errors.As(err, &known):
		out.Message, code = known.message, known.code
	case errors.Is(err, errNullArgument):
		out.Message, code = "Argument "+strconv.Quote(argumentName(err, len(out.Path)))+" must not be null.", codeBadUserInput
	default:
		out.Message = "Internal server error."
		if r := requestOf(ctx); r != nil {
			r.fail(err, out.Path)
		}
	}
	out.Extensions = map[string]any{extensionCode: code, extensionNulled: nulled}
	return out
}

// What presentError keeps in an error's extensions for executionErrors.
const (
	extensionCode   = "code"
	extensionNulled = "nulled" // how much of the path leads to what became null
)

// propagation is how many steps up from an erroneous field null goes: through whatever must not be null.
func propagation(field *graphql.FieldContext) int {
	steps := 0
	for field.Field.Field != nil {
		// From here down, types are those of this field: its own, and of the lists in it.
		want := field.Field.Definition.Type
		if !want.NonNull {
			return steps
		}
		// The parent is an object; it is the element of lists, or a field's value.
		steps++
		parent := field.Parent
		lists := 0
		for parent != nil && parent.Index != nil {
			lists++
			parent = parent.Parent
		}
		if parent == nil || parent.Field.Field == nil {
			return steps // the root: data is null
		}
		element := parent.Field.Definition.Type
		for range lists {
			element = element.Elem
		}
		for ; lists > 0; lists-- {
			if !element.NonNull {
				return steps
			}
			steps++
			element = parent.Field.Definition.Type
			for range lists - 1 {
				element = element.Elem
			}
		}
		field = parent
	}
	return steps
}

// executionErrors gives the errors to send: in the order of the answer, whatever the order in which they came, and one
// for each place that became null, as an executor that stops at the first one gives.
func executionErrors(list gqlerror.List, rootKeys []string) []responseError {
	if len(list) == 0 {
		return nil
	}
	if len(list) > 1 {
		order := newPathOrder(rootKeys)
		for _, e := range list {
			order.note(e.Path)
		}
		slices.SortStableFunc(list, func(a, b *gqlerror.Error) int { return slices.Compare(order.of(a.Path), order.of(b.Path)) })
	}
	var errs []responseError
	var nulled []ast.Path
next:
	for _, e := range list {
		for _, place := range nulled {
			if len(e.Path) >= len(place) && slices.Equal(e.Path[:len(place)], place) {
				continue next
			}
		}
		code, _ := e.Extensions[extensionCode].(string)
		errs = append(errs, responseError{e.Message, e.Locations, e.Path, errorExtensions{code}})
		n, _ := e.Extensions[extensionNulled].(int)
		nulled = append(nulled, e.Path[:max(0, n)])
	}
	return errs
}

// pathOrder ranks the names in paths: at the root by the operation, elsewhere by their first appearance, since the
// fields of one object are resolved in their order.
type pathOrder struct {
	ranks map[string]int
}

func newPathOrder(rootKeys []string) *pathOrder {
	o := &pathOrder{make(map[string]int)}
	for i, key := range rootKeys {
		o.ranks["/"+key] = i
	}
	return o
}

func (o *pathOrder) note(path ast.Path) { o.of(path) }

func (o *pathOrder) of(path ast.Path) []int {
	ranks := make([]int, len(path))
	prefix := ""
	for i, part := range path {
		switch part := part.(type) {
		case ast.PathIndex:
			ranks[i] = int(part)
			prefix += "/" + strconv.Itoa(int(part))
		case ast.PathName:
			prefix += "/" + string(part)
			rank, ok := o.ranks[prefix]
			if !ok {
				rank = len(o.ranks)
				o.ranks[prefix] = rank
			}
			ranks[i] = rank
		}
	}
	return ranks
}

// argumentName is what the path of err has beyond the path of its field: input.itemId, say.
func argumentName(err error, fieldDepth int) string {
	var located *gqlerror.Error
	if !errors.As(err, &located) || len(located.Path) <= fieldDepth {
		return "argument"
	}
	name := ""
	for _, part := range located.Path[fieldDepth:] {
		if s, ok := part.(ast.PathName); ok {
			if name != "" {
				name += "."
			}
			name += string(s)
		}
	}
	return name
}

func fieldPosition(field *graphql.FieldContext) *ast.Position {
	for ; field != nil; field = field.Parent {
		if field.Field.Field != nil {
			return field.Field.Position
		}
	}
	return nil
}
