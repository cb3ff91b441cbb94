package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// presentError turns what a resolver returned into what the client reads. A cause that is not meant for the client
// goes to the log, once per request.
func (a *App) presentError(ctx context.Context, err error) *gqlerror.Error {
	out := &gqlerror.Error{}
	if field := graphql.GetFieldContext(ctx); field != nil {
		out.Path = field.Path()
		if at := fieldPosition(field); at != nil {
			out.Locations = []gqlerror.Location{{Line: at.Line, Column: at.Column}}
		}
	}
	var known *fieldError
	switch {
	case errors.As(err, &known):
		out.Message = known.message
		out.Extensions = map[string]any{"code": known.code}
	case errors.Is(err, errNullArgument):
		out.Message = "Argument " + strconv.Quote(argumentName(err, len(out.Path))) + " must not be null."
		out.Extensions = map[string]any{"code": codeBadUserInput}
	default:
		out.Message = "Internal server error."
		out.Extensions = map[string]any{"code": codeInternal}
		if r := requestOf(ctx); r != nil {
			r.fail(err, out.Path)
		}
	}
	return out
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
