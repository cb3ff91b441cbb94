package reference

import (
	"fmt"
	"math"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/lexer"

	"lab/loadtest/internal/contract"
)

// Figures are what limits.json limits.
type Figures struct {
	// Tokens: lexical tokens of the document, without comments.
	Tokens int
	// Depth: levels of nested fields of the operation, the leaf counted; introspection (every field that begins with
	// two underscores) is left out.
	Depth int
	// Aliases: aliased fields of the whole document as written.
	Aliases int
	// Cost: the objects that an answer may hold. math.MaxInt64 stands for anything beyond.
	Cost int64
}

// Measure tells what a valid request amounts to.
func Measure(c *contract.Contract, request Request) (Figures, error) {
	prepared, failure := prepare(c, request)
	if failure != nil {
		return Figures{}, fmt.Errorf("the request cannot be measured: %s: %w", failure.code, failure.cause)
	}
	return prepared.figures, nil
}

// exceeded gives the code of the first limit that is broken, in the contract's order; tokens come before parsing.
func (f Figures) exceeded(limits contract.Limits) string {
	switch {
	case f.Depth > limits.Depth:
		return "QUERY_TOO_DEEP"
	case f.Aliases > limits.Aliases:
		return "QUERY_TOO_MANY_ALIASES"
	case f.Cost > int64(limits.Cost):
		return "QUERY_TOO_COSTLY"
	}
	return ""
}

// countTokens counts until the end, an error, or one beyond the limit; aliases are names before a colon outside
// parentheses (the parser cannot tell `name: name` from `name`).
func countTokens(query string, limit int) (tokens, aliases int, err error) {
	lex := lexer.New(&ast.Source{Input: query})
	parentheses, numberEnd := 0, -1
	var previous lexer.Type
	for {
		token, err := lex.ReadToken()
		if err != nil {
			return tokens, aliases, err
		}
		switch token.Kind {
		case lexer.EOF:
			return tokens, aliases, nil
		case lexer.Comment:
			continue
		case lexer.Int, lexer.Float:
			numberEnd = token.Pos.End
		case lexer.Name:
			if token.Pos.Start == numberEnd { // gqlparser reads two tokens
				return tokens, aliases, fmt.Errorf("%q right behind a number", token.Value)
			}
		case lexer.ParenL:
			parentheses++
		case lexer.ParenR:
			parentheses--
		case lexer.Colon:
			if parentheses == 0 && previous == lexer.Name {
				aliases++
			}
		}
		previous = token.Kind
		if tokens++; tokens > limit {
			return tokens, aliases, nil
		}
	}
}

// unlimitedListCost is what the contract counts for a list without an argument first.
const unlimitedListCost = 50

// measurer computes depth and cost of one operation.
type measurer struct {
	variables map[string]any
	// What each fragment amounts to, so that fragments that spread each other twice take no exponential time.
	depths map[*ast.FragmentDefinition]int
	costs  map[*ast.FragmentDefinition]int64
}

func newMeasurer(variables map[string]any) *measurer {
	return &measurer{variables: variables, depths: map[*ast.FragmentDefinition]int{}, costs: map[*ast.FragmentDefinition]int64{}}
}

func (m *measurer) depth(set ast.SelectionSet) int {
	deepest := 0
	for _, selection := range set {
		switch s := selection.(type) {
		case *ast.Field:
			if !strings.HasPrefix(s.Name, "__") {
				deepest = max(deepest, 1+m.depth(s.SelectionSet))
			}
		case *ast.InlineFragment:
			deepest = max(deepest, m.depth(s.SelectionSet))
		case *ast.FragmentSpread:
			depth, known := m.depths[s.Definition]
			if !known {
				depth = m.depth(s.Definition.SelectionSet)
				m.depths[s.Definition] = depth
			}
			deepest = max(deepest, depth)
		}
	}
	return deepest
}

func (m *measurer) cost(set ast.SelectionSet) int64 {
	var sum int64
	for _, selection := range set {
		switch s := selection.(type) {
		case *ast.Field:
			if !strings.HasPrefix(s.Name, "__") && len(s.SelectionSet) > 0 {
				sum = saturatingAdd(sum, saturatingMultiply(m.multiplier(s), saturatingAdd(1, m.cost(s.SelectionSet))))
			}
		case *ast.InlineFragment:
			sum = saturatingAdd(sum, m.cost(s.SelectionSet))
		case *ast.FragmentSpread:
			cost, known := m.costs[s.Definition]
			if !known {
				cost = m.cost(s.Definition.SelectionSet)
				m.costs[s.Definition] = cost
			}
			sum = saturatingAdd(sum, cost)
		}
	}
	return sum
}

// multiplier is how many objects a field may hold.
func (m *measurer) multiplier(field *ast.Field) int64 {
	definition := field.Definition
	if !isList(definition.Type) {
		return 1
	}
	first := definition.Arguments.ForName("first")
	if first == nil {
		return unlimitedListCost
	}
	value := first.DefaultValue
	if argument := field.Arguments.ForName("first"); argument != nil {
		if argument.Value.Kind != ast.Variable {
			value = argument.Value
		} else if given, ok := m.variables[argument.Value.Raw]; ok {
			n, _ := given.(int32) // null counts 0
			return max(int64(n), 0)
		}
	}
	n, _ := literalInt(value)
	return max(int64(n), 0)
}

func isList(t *ast.Type) bool { return t.Elem != nil }

func saturatingAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func saturatingMultiply(a, b int64) int64 {
	if a != 0 && b > math.MaxInt64/a {
		return math.MaxInt64
	}
	return a * b
}
