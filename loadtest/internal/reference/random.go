package reference

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	"lab/loadtest/internal/contract"
)

// RandomQuery makes a valid query from the schema: the same seed gives the same query. It is within all limits and asks
// for nothing that fails; ids may be unknown, lists empty. It uses aliases, fragments, inline fragments, directives and
// variables with and without defaults.
func RandomQuery(c *contract.Contract, seed uint64) Request {
	for attempt := uint64(0); ; attempt++ {
		request := newGenerator(c, rand.New(rand.NewPCG(seed, attempt))).request() //nolint:gosec // repeatable on purpose
		prepared, failure := prepare(c, request)
		if failure == nil {
			if prepared.figures.exceeded(c.Limits) == "" {
				return request
			}
			continue
		}
		if failure.code != "QUERY_TOO_LONG" {
			panic(fmt.Sprintf("seed %d made a query that is %s: %v\n%s\n%s", seed, failure.code, failure.cause, request.Query, request.Variables))
		}
	}
}

// generator writes one random query.
type generator struct {
	*rand.Rand
	contract *contract.Contract
	size     contract.Size

	aliases      int
	declarations []string
	values       *Object
	fragments    []string
	leaves       map[string][]string // names of fragments with leaves alone, by type, to be spread again
}

func newGenerator(c *contract.Contract, random *rand.Rand) *generator {
	return &generator{Rand: random, contract: c, size: c.Sizes["small"], values: &Object{}, leaves: map[string][]string{}}
}

// scope is what is selected at one place of the answer: fields of one response key must be the same field with the same
// arguments, however many fragments they stand in.
type scope struct {
	heads  map[string]string // by response key: field, arguments and type
	nested map[string]*scope
}

func newScope() *scope { return &scope{heads: map[string]string{}, nested: map[string]*scope{}} }

func (g *generator) request() Request {
	limits := g.contract.Limits
	budget := int64(g.IntN(20) + 5)
	for range g.IntN(4) {
		budget *= 5
	}
	if g.chance(20) { // a few with full pages; none near the cost's limit, since all have to end in time without loaders
		budget = int64(limits.PageSize) * 5 / 2
	}
	selection := g.selectionSet(g.contract.Schema.Query, limits.Depth, budget, newScope())
	var query strings.Builder
	name := ""
	if g.chance(3) {
		name = " Random" + strconv.Itoa(g.IntN(100))
	}
	switch {
	case len(g.declarations) > 0:
		query.WriteString("query" + name + " (" + strings.Join(g.declarations, ", ") + ") ")
	case name != "":
		query.WriteString("query" + name + " ")
	}
	query.WriteString(selection)
	for _, fragment := range g.fragments {
		query.WriteString("\n" + fragment)
	}
	query.WriteString("\n")
	return Request{Query: query.String(), Variables: appendJSON(nil, g.values)}
}

// chance is true once in n times.
func (g *generator) chance(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// selectionSet writes { … } of a type: depth is how many levels are left, budget how many objects each one may hold.
func (g *generator) selectionSet(t *ast.Definition, depth int, budget int64, s *scope) string {
	return "{ " + strings.Join(g.selections(t, depth, budget, s), " ") + " }"
}

func (g *generator) selections(t *ast.Definition, depth int, budget int64, s *scope) []string {
	isRoot := t == g.contract.Schema.Query
	wanted := 1 + g.IntN(5)
	if isRoot {
		wanted = 1 + g.IntN(3)
	}
	var selections []string
	for i := range wanted {
		share := budget / int64(wanted-i)
		var written string
		spent := share
		switch {
		case t.Kind == ast.Interface && g.chance(2):
			written = g.onType(pick(g, possibleTypes(g.contract.Schema, t)...), depth, share, s)
		case !isRoot && g.chance(8):
			written = g.onType(t, depth, share, s)
		case len(g.leaves[t.Name]) > 0 && g.chance(3):
			written, spent = "..."+pick(g, g.leaves[t.Name]...)+g.directive(), 0
		default:
			written, spent = g.field(t, depth, share, s)
		}
		if written != "" {
			selections = append(selections, written)
			budget -= spent
		}
	}
	if len(selections) == 0 {
		selections = append(selections, "__typename")
	}
	return selections
}

// onType writes a fragment on a type, inline or named.
func (g *generator) onType(t *ast.Definition, depth int, budget int64, s *scope) string {
	if g.chance(3) {
		return g.namedFragment(t, depth, budget, s)
	}
	condition := " on " + t.Name
	if t.Kind == ast.Object && len(s.heads) == 0 && t.Name != "Area" && t.Name != "Genre" && t.Name != "Category" && t.Name != "Item" && g.chance(3) {
		condition = "" // the type is that of the selection set itself: it has no supertype
	}
	directive := g.directive()
	return "..." + condition + directive + " " + g.selectionSet(t, depth, budget, s)
}

// namedFragment writes a spread and its definition; one that has leaves alone may be spread again.
func (g *generator) namedFragment(t *ast.Definition, depth int, budget int64, s *scope) string {
	name := "F" + strconv.Itoa(len(g.fragments)+1)
	place := len(g.fragments)
	g.fragments = append(g.fragments, "") // takes its number before fragments inside it take theirs
	var inside []string
	if g.chance(2) {
		for _, field := range t.Fields {
			if g.isLeaf(field.Type) && len(field.Arguments) == 0 && g.chance(2) && g.claim(s, field.Name, field.Name+": "+field.Type.String()) {
				inside = append(inside, field.Name)
			}
		}
		inside = append(inside, "__typename")
		g.leaves[t.Name] = append(g.leaves[t.Name], name)
	} else {
		inside = g.selections(t, depth, budget, s)
	}
	g.fragments[place] = "fragment " + name + " on " + t.Name + " { " + strings.Join(inside, " ") + " }"
	return "..." + name + g.directive()
}

func (g *generator) isLeaf(t *ast.Type) bool {
	kind := g.contract.Schema.Types[t.Name()].Kind
	return kind == ast.Scalar || kind == ast.Enum
}

// claim takes a response key, unless it stands for something else already.
func (g *generator) claim(s *scope, key, head string) bool {
	if known, taken := s.heads[key]; taken {
		return known == head
	}
	s.heads[key] = head
	return true
}

// field writes a random field; an empty text means that none fits.
func (g *generator) field(t *ast.Definition, depth int, budget int64, s *scope) (string, int64) {
	if t != g.contract.Schema.Query && g.chance(12) {
		return "__typename", 0
	}
	var candidates []*ast.FieldDefinition
	for _, field := range t.Fields {
		if strings.HasPrefix(field.Name, "__") {
			continue
		}
		if g.isLeaf(field.Type) {
			candidates = append(candidates, field)
			continue
		}
		least := int64(2)
		if isList(field.Type) && field.Arguments.ForName("first") == nil {
			least = unlimitedListCost + 1
		}
		if depth > 1 && budget >= least {
			candidates = append(candidates, field, field) // what is deep is worth more than what is flat
		}
	}
	if len(candidates) == 0 {
		return "", 0
	}
	field := pick(g, candidates...)

	declared, given := len(g.declarations), len(g.values.Keys)
	most := budget // of how many objects the list may be
	if !g.isLeaf(field.Type) && depth > 2 && most > 8 {
		most /= int64(1 + g.IntN(8)) // leaves something for what is in it
	}
	multiplier := int64(1)
	var arguments []string
	for _, argument := range field.Arguments {
		if argument.Name == "first" {
			first := g.first(field.Name, most, budget)
			multiplier = first
			if text := g.argument(argument, int32(first)); text != "" { //nolint:gosec // at most pageSize
				arguments = append(arguments, text)
			}
			continue
		}
		if value := g.value(field.Name, argument.Name); value != nil {
			arguments = append(arguments, g.argument(argument, value))
		}
	}
	if isList(field.Type) && field.Arguments.ForName("first") == nil {
		multiplier = unlimitedListCost
	}
	text := field.Name
	if len(arguments) > 0 {
		text += "(" + strings.Join(arguments, ", ") + ")"
	}
	key, head := field.Name, text+": "+field.Type.String()
	if alias := g.chance(4); alias || !g.claim(s, key, head) {
		if g.aliases >= g.contract.Limits.Aliases {
			// The field is dropped, and its variables with it.
			g.declarations = g.declarations[:declared]
			g.values.Keys, g.values.Values = g.values.Keys[:given], g.values.Values[:given]
			return "", 0
		}
		g.aliases++
		key = "a" + strconv.Itoa(g.aliases)
		text = key + ": " + text
		g.claim(s, key, head)
	}
	text += g.directive()
	if g.isLeaf(field.Type) {
		return text, 0
	}
	nested := s.nested[key]
	if nested == nil {
		nested = newScope()
		s.nested[key] = nested
	}
	inner := int64(0)
	if multiplier > 0 {
		inner = max(budget/multiplier-1, 0)
	}
	return text + " " + g.selectionSet(g.contract.Schema.Types[field.Type.Name()], depth-1, inner, nested), budget
}

// directive writes nothing most times.
func (g *generator) directive() string {
	if !g.chance(10) {
		return ""
	}
	name, includes := "include", true
	if g.chance(2) {
		name, includes = "skip", false
	}
	if g.chance(3) {
		includes = !includes // leaves the field out
	}
	if g.chance(2) {
		return fmt.Sprintf(" @%s(if: %t)", name, includes)
	}
	return fmt.Sprintf(" @%s(if: %s)", name, g.variable("Boolean!", includes))
}

// variable declares one and gives its reference. Its value is given with the request, or is the default.
func (g *generator) variable(typeName string, value any) string {
	name := "v" + strconv.Itoa(len(g.declarations)+1)
	declaration := "$" + name + ": " + typeName
	switch g.IntN(4) {
	case 0:
		declaration += " = " + literal(value)
	case 1:
		declaration = "$" + name + ": " + strings.TrimSuffix(typeName, "!") + " = " + literal(value)
	case 2: // a default that is not used; one is as good as another
		declaration += " = " + literal(value)
		g.values.add(name, value)
	default:
		g.values.add(name, value)
	}
	g.declarations = append(g.declarations, declaration)
	return "$" + name
}

// argument writes name: value, the value being a literal, a variable or, where it is the default, perhaps nothing.
func (g *generator) argument(definition *ast.ArgumentDefinition, value any) string {
	text := literal(value)
	if definition.DefaultValue != nil && definition.DefaultValue.Raw == text && g.chance(2) {
		if g.chance(2) {
			return ""
		}
		// A nullable variable that nobody gives leaves the argument's default.
		name := "v" + strconv.Itoa(len(g.declarations)+1)
		g.declarations = append(g.declarations, "$"+name+": "+strings.TrimSuffix(definition.Type.String(), "!"))
		return definition.Name + ": $" + name
	}
	if g.chance(4) {
		return definition.Name + ": " + g.variable(definition.Type.String(), value)
	}
	return definition.Name + ": " + text
}

func literal(value any) string {
	switch v := value.(type) {
	case []any:
		elements := make([]string, len(v))
		for i, element := range v {
			elements[i] = literal(element)
		}
		return "[" + strings.Join(elements, ", ") + "]"
	default:
		return string(appendJSON(nil, value)) // a GraphQL literal and JSON agree on numbers, booleans and strings
	}
}

// first gives a page's size: seldom above most, which leaves something for what is in it, never above budget.
func (g *generator) first(field string, most, budget int64) int64 {
	limit := int64(g.contract.Limits.PageSize)
	if field == "ranking" {
		limit = int64(g.contract.Limits.RankingSize)
	}
	most, budget = max(min(most, limit), 0), max(min(budget, limit), 0)
	switch g.IntN(8) {
	case 0:
		return min(most, pick[int64](g, 0, 1, 1, 2))
	case 1:
		return budget
	case 2:
		return min(most, pick[int64](g, 3, 5, 10, 20)) // the schema's defaults
	}
	return min(most, 1+g.Int64N(12))
}

// value gives a random value of an argument, nil for one that stays away.
func (g *generator) value(field, argument string) any {
	switch argument {
	case "id":
		return g.identifier(g.size.Items)
	case "itemId": // of quote: an unknown one fails
		return strconv.Itoa(1 + g.IntN(g.size.Items))
	case "after":
		if g.chance(2) {
			return nil
		}
		return g.identifier(g.size.Items)
	case "areaId":
		if !g.chance(3) {
			return nil
		}
		return g.identifier(g.size.Areas)
	case "genreId":
		if !g.chance(3) {
			return nil
		}
		return g.identifier(g.size.Genres)
	case "text":
		return pick(g, "Area ", "Genre", "Category 1", "Item ", "Item 1", "Item 10", "", "A", "G", "item", "Area 5 🏝️",
			"Area 1 \"quoted\"", "Area 2 back\\", "Category 4 שלום", "Genre 9\nsecond", "%", "Nobody")
	case "weights":
		weights := make([]any, 32)
		all := g.chance(5) // all alike: many ties
		for i := range weights {
			weights[i] = int32(g.IntN(2001) - 1000) //nolint:gosec // small
			if all && i > 0 {
				weights[i] = int32(0)
			}
		}
		return weights
	case "from":
		return time.Date(2020+g.IntN(14), time.Month(1+g.IntN(12)), 1+g.IntN(31), 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
	case "days":
		return int32(pick(g, 0, 1, g.IntN(30), g.IntN(400), g.IntN(g.contract.Limits.BusinessDays+1))) //nolint:gosec // small
	case "guests":
		return int32(1 + g.IntN(100)) //nolint:gosec // small
	}
	panic("no value for argument " + argument + " of " + field)
}

// identifier is mostly one of a row, and now and then one of none.
func (g *generator) identifier(rows int) any {
	if g.chance(8) {
		return pick[any](g, "0", strconv.Itoa(rows+1), "2147483647", "2147483648", "99999999999999999999", int32(0))
	}
	n := 1 + g.IntN(rows)
	if g.chance(2) {
		return int32(n) //nolint:gosec // small
	}
	return strconv.Itoa(n)
}
