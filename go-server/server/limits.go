package server

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/lexer"
)

// checkTokens counts lexical tokens, without comments, until the limit. What no token begins with is a parse failure,
// and so is a name right behind a number, which gqlparser reads as two tokens.
// It also counts aliases as they are written: a colon outside of parentheses belongs to an alias, also to one that
// repeats the field's name, which the syntax tree no longer shows.
func checkTokens(text string, limit int) (aliases int, refused *requestError) {
	source := &ast.Source{Input: text}
	tokens := lexer.New(source)
	parentheses, numberEnd := 0, -1
	for count := 0; ; {
		token, err := tokens.ReadToken()
		if err != nil {
			return 0, parseFailed(err)
		}
		switch token.Kind {
		case lexer.EOF:
			return aliases, nil
		case lexer.Comment:
			continue
		case lexer.Int, lexer.Float:
			numberEnd = token.Pos.End
		case lexer.Name:
			if token.Pos.Start == numberEnd {
				return 0, graphqlError(codeParseFailed, "Syntax Error: Invalid number, expected digit but got: %q.", token.Value)
			}
		case lexer.ParenL:
			parentheses++
		case lexer.ParenR:
			parentheses--
		case lexer.Colon:
			if parentheses == 0 {
				aliases++
			}
		case lexer.String:
			// gqlparser reads half a surrogate pair as U+FFFD.
			if strings.ContainsRune(token.Value, '\uFFFD') && hasLoneSurrogate([]byte(text)) {
				return 0, graphqlError(codeParseFailed, "Syntax Error: Invalid Unicode escape sequence.")
			}
		}
		if count++; count > limit {
			return 0, graphqlError(codeQueryTooLong, "Query has more than %d tokens; the limit is %d.", limit, limit)
		}
	}
}

// operationLimits are what the limits of one operation are compared with. cost is that of every request where fixed is
// set; otherwise it depends on variables.
type operationLimits struct {
	depth int
	cost  int64
	fixed bool
}

// newDocument works out once what the limits need of a valid document.
func newDocument(query *ast.QueryDocument, aliases int) *document {
	d := &document{QueryDocument: query, aliases: aliases, operations: make(map[*ast.OperationDefinition]operationLimits, len(query.Operations))}
	depths := map[*ast.FragmentDefinition]int{}
	for _, operation := range query.Operations {
		costs := costing{fixed: true}
		cost := costs.of(operation.SelectionSet)
		d.operations[operation] = operationLimits{depthOf(operation.SelectionSet, depths), cost, costs.fixed}
	}
	return d
}

// checkLimits compares an operation with the limits of depth, aliases and cost.
func (d *document) checkLimits(limits *Limits, operation *ast.OperationDefinition, variables map[string]any) *requestError {
	has := d.operations[operation]
	if has.depth > limits.Depth {
		return graphqlError(codeQueryTooDeep, "Query has depth %d; the limit is %d.", has.depth, limits.Depth)
	}
	if d.aliases > limits.Aliases {
		return graphqlError(codeQueryTooManyAliases, "Query has %d aliases; the limit is %d.", d.aliases, limits.Aliases)
	}
	if !has.fixed {
		costs := costing{variables: variables}
		has.cost = costs.of(operation.SelectionSet)
	}
	if has.cost > limits.Cost {
		return graphqlError(codeQueryTooCostly, "Query costs %d; the limit is %d.", has.cost, limits.Cost)
	}
	return nil
}

// isIntrospection is a field of GraphQL's own.
func isIntrospection(f *ast.Field) bool { return strings.HasPrefix(f.Name, "__") }

// depthOf counts levels of nested fields, the leaf too, fragments expanded, introspection left out.
func depthOf(selections ast.SelectionSet, fragments map[*ast.FragmentDefinition]int) int {
	deepest := 0
	for _, selection := range selections {
		depth := 0
		switch s := selection.(type) {
		case *ast.Field:
			if !isIntrospection(s) {
				depth = 1 + depthOf(s.SelectionSet, fragments)
			}
		case *ast.InlineFragment:
			depth = depthOf(s.SelectionSet, fragments)
		case *ast.FragmentSpread:
			known, ok := fragments[s.Definition]
			if !ok {
				known = depthOf(s.Definition.SelectionSet, fragments)
				fragments[s.Definition] = known
			}
			depth = known
		}
		deepest = max(deepest, depth)
	}
	return deepest
}

const (
	// unboundedListCost is what a list without an argument first counts as.
	unboundedListCost = 50
	// mostCost is where costs stop growing: the greatest integer that every one of the languages can hold exactly.
	mostCost = 1<<53 - 1
)

// costing counts the objects that an answer may hold.
type costing struct {
	variables map[string]any
	fixed     bool // no variable had a say
	fragments map[*ast.FragmentDefinition]int64
}

func (c *costing) of(selections ast.SelectionSet) int64 {
	sum := int64(0)
	for _, selection := range selections {
		switch s := selection.(type) {
		case *ast.Field:
			sum = saturatingAdd(sum, c.ofField(s))
		case *ast.InlineFragment:
			sum = saturatingAdd(sum, c.of(s.SelectionSet))
		case *ast.FragmentSpread:
			known, ok := c.fragments[s.Definition]
			if !ok {
				known = c.of(s.Definition.SelectionSet)
				if c.fragments == nil {
					c.fragments = make(map[*ast.FragmentDefinition]int64)
				}
				c.fragments[s.Definition] = known
			}
			sum = saturatingAdd(sum, known)
		}
	}
	return sum
}

func (c *costing) ofField(f *ast.Field) int64 {
	if isIntrospection(f) || len(f.SelectionSet) == 0 {
		return 0
	}
	one := saturatingAdd(1, c.of(f.SelectionSet))
	if f.Definition.Type.Elem == nil {
		return one
	}
	return saturatingMultiply(c.lengthOf(f), one)
}

// lengthOf is how many objects a list may have: its argument first, negative ones counting 0.
func (c *costing) lengthOf(f *ast.Field) int64 {
	definition := f.Definition.Arguments.ForName("first")
	if definition == nil {
		return unboundedListCost
	}
	value := definition.DefaultValue
	if argument := f.Arguments.ForName("first"); argument != nil {
		if argument.Value.Kind != ast.Variable {
			value = argument.Value
		} else {
			c.fixed = false
			if given, ok := c.variables[argument.Value.Raw]; ok {
				n, _ := given.(int64) // null counts 0
				return max(0, n)
			}
		}
	}
	n, _ := strconv.ParseInt(value.Raw, 10, 64)
	return max(0, n)
}

func saturatingAdd(a, b int64) int64 { return min(a+b, mostCost) }

func saturatingMultiply(a, b int64) int64 {
	if b != 0 && a > mostCost/b {
		return mostCost
	}
	return a * b
}

// checkRange is the check of an integer argument.
func checkRange(name string, value, low, high int32) error {
	if value < low || value > high {
		return badArgument(name, fmt.Sprintf("must be from %d to %d.", low, high))
	}
	return nil
}

// checkFirst is the check of a page size.
func (a *App) checkFirst(first int32) error {
	return checkRange("first", first, 0, a.config.Limits.PageSize)
}

// firstOf is the argument first of a field that is about to be resolved, if it is one that its resolver will accept.
func (l *Loaders) firstOf(f graphql.CollectedField) (int32, error) {
	first, err := UnmarshalInt(f.ArgumentMap(l.operation().Variables)["first"])
	if err != nil {
		return 0, err
	}
	return first, l.app.checkFirst(first)
}

// decimalID reads an id. One beyond 32 bits is not known, and 0.
func decimalID(name, id string) (n int32, known bool, err error) {
	if id == "" || len(id) > 1 && id[0] == '0' {
		return 0, false, errNotDecimal(name)
	}
	for _, c := range []byte(id) {
		if c < '0' || c > '9' {
			return 0, false, errNotDecimal(name)
		}
	}
	v, err := strconv.ParseInt(id, 10, 64)
	if err != nil || v > math.MaxInt32 {
		return 0, false, nil
	}
	return int32(v), true, nil
}

func errNotDecimal(name string) error { return badArgument(name, "must be a decimal integer.") }

// checkText refuses what PostgreSQL cannot hold.
func checkText(name, text string) error {
	if strings.IndexByte(text, 0) >= 0 {
		return badArgument(name, "must not contain U+0000.")
	}
	return nil
}
