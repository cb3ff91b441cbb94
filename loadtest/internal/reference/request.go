package reference

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"

	"lab/loadtest/internal/contract"
)

// Request is a GraphQL request as a client sends it.
type Request struct {
	Query string
	// Variables is a JSON object, null or empty.
	Variables     json.RawMessage
	OperationName string
}

// Body gives the request as the JSON of a POST.
func (r Request) Body() []byte {
	body := struct {
		Query         string          `json:"query"`
		Variables     json.RawMessage `json:"variables,omitempty"`
		OperationName string          `json:"operationName,omitempty"`
	}{r.Query, r.Variables, r.OperationName}
	text, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("variables %s: %v", r.Variables, err)) // the one part that may fail is JSON by definition
	}
	return text
}

// RequestOf gives the request of an operation.
func RequestOf(o *contract.Operation) Request {
	return Request{Query: o.Query, Variables: o.Variables, OperationName: o.OperationName}
}

// requestError refuses the whole request.
type requestError struct {
	code  string
	cause error
}

// prepared is a request that may be executed.
type prepared struct {
	document  *ast.QueryDocument
	operation *ast.OperationDefinition
	variables map[string]any
	figures   Figures
}

// prepare parses, validates and coerces; a nil requestError means that only depth, aliases and cost may still be wrong.
func prepare(c *contract.Contract, request Request) (*prepared, *requestError) {
	tokens, aliases, err := countTokens(request.Query, c.Limits.Tokens)
	if err != nil {
		return nil, &requestError{"GRAPHQL_PARSE_FAILED", err}
	}
	if tokens > c.Limits.Tokens {
		return nil, &requestError{"QUERY_TOO_LONG", fmt.Errorf("more than %d tokens", c.Limits.Tokens)}
	}
	if tokens == 0 {
		return nil, &requestError{"GRAPHQL_PARSE_FAILED", errors.New("the document is empty")}
	}
	document, err := parser.ParseQuery(&ast.Source{Input: request.Query})
	if err != nil {
		return nil, &requestError{"GRAPHQL_PARSE_FAILED", err}
	}
	if errs := validator.ValidateWithRules(c.Schema, document, nil); len(errs) > 0 {
		return nil, &requestError{"GRAPHQL_VALIDATION_FAILED", errs}
	}
	if err := checkLiterals(document); err != nil {
		return nil, &requestError{"GRAPHQL_VALIDATION_FAILED", err}
	}
	var operation *ast.OperationDefinition
	switch {
	case request.OperationName != "":
		operation = document.Operations.ForName(request.OperationName)
	case len(document.Operations) == 1:
		operation = document.Operations[0]
	}
	if operation == nil {
		return nil, &requestError{"OPERATION_RESOLUTION_FAILURE", fmt.Errorf("no operation %q among %d", request.OperationName, len(document.Operations))}
	}
	variables, err := coerceVariables(c.Schema, operation, request.Variables)
	if err != nil {
		return nil, &requestError{"BAD_USER_INPUT", err}
	}
	m := newMeasurer(variables)
	return &prepared{document: document, operation: operation, variables: variables, figures: Figures{
		Tokens: tokens, Aliases: aliases, Depth: m.depth(operation.SelectionSet), Cost: m.cost(operation.SelectionSet)}}, nil
}

// checkLiterals finds what gqlparser lets pass: a Date that is none, an Int beyond 32 bits.
func checkLiterals(document *ast.QueryDocument) error {
	var found error
	var checkValue func(value *ast.Value)
	checkValue = func(value *ast.Value) {
		if value == nil || found != nil {
			return
		}
		for _, child := range value.Children {
			checkValue(child.Value)
		}
		if value.Definition == nil || value.Kind == ast.Variable || value.Kind == ast.NullValue || value.Kind == ast.ListValue {
			return
		}
		switch value.Definition.Name {
		case "Int":
			if _, err := literalInt(value); err != nil {
				found = err
			}
		case "Date":
			if (value.Kind != ast.StringValue && value.Kind != ast.BlockValue) || !isDate(value.Raw) {
				found = fmt.Errorf("%s is no Date", value)
			}
		}
	}
	var checkSet func(set ast.SelectionSet)
	checkDirectives := func(directives ast.DirectiveList) {
		for _, directive := range directives {
			for _, argument := range directive.Arguments {
				checkValue(argument.Value)
			}
		}
	}
	checkSet = func(set ast.SelectionSet) {
		for _, selection := range set {
			switch s := selection.(type) {
			case *ast.Field:
				for _, argument := range s.Arguments {
					checkValue(argument.Value)
				}
				checkDirectives(s.Directives)
				checkSet(s.SelectionSet)
			case *ast.InlineFragment:
				checkDirectives(s.Directives)
				checkSet(s.SelectionSet)
			case *ast.FragmentSpread:
				checkDirectives(s.Directives)
			}
		}
	}
	for _, operation := range document.Operations {
		for _, variable := range operation.VariableDefinitions {
			checkValue(variable.DefaultValue)
		}
		checkSet(operation.SelectionSet)
	}
	for _, fragment := range document.Fragments {
		checkSet(fragment.SelectionSet)
	}
	return found
}

func literalInt(value *ast.Value) (int32, error) {
	if value == nil || value.Kind != ast.IntValue {
		return 0, fmt.Errorf("%s is no Int", value)
	}
	n, err := strconv.ParseInt(value.Raw, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is no Int of 32 bits", value)
	}
	return int32(n), nil
}
