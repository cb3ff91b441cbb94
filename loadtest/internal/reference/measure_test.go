package reference_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/reference"
)

func TestMeasure(t *testing.T) {
	c := loadContract(t)
	q2, err := c.Operation("q2")
	require.NoError(t, err)
	for _, row := range []struct {
		name      string
		query     string
		variables string
		want      reference.Figures
	}{
		{"the contract's own example", q2.Query, "", reference.Figures{Depth: 4, Cost: 180}},
		{"a leaf", `{ __typename }`, "", reference.Figures{}},
		{"a single object", `{ item(id: 1) { id } }`, "", reference.Figures{Depth: 2, Cost: 1}},
		{"lists without first count 50", `{ categories { items(first: 2) { id } } areas { id } genres { id } }`, "", reference.Figures{Depth: 3, Cost: 50*3 + 50 + 50}},
		{"the argument's default", `{ items { reviews { author { id } } } }`, "", reference.Figures{Depth: 4, Cost: 20 * (1 + 3*2)}},
		{"a variable's value", `query ($n: Int = 7) { items(first: $n) { id } }`, `{"n":4}`, reference.Figures{Depth: 2, Cost: 4}},
		{"a variable's default", `query ($n: Int = 7) { items(first: $n) { id } }`, `{}`, reference.Figures{Depth: 2, Cost: 7}},
		{"a variable that nobody gives", `query ($n: Int) { items(first: $n) { id } }`, `{}`, reference.Figures{Depth: 2, Cost: 20}},
		{"a variable that is null", `query ($n: Int) { items(first: $n) { id } }`, `{"n":null}`, reference.Figures{Depth: 2}},
		{"a negative first counts 0", `{ items(first: -5) { category { id } } }`, "", reference.Figures{Depth: 3}},
		{"beyond what is allowed", `{ items(first: 5000) { category { id } } }`, "", reference.Figures{Depth: 3, Cost: 10000}},
		{"skipped fields count", `{ items(first: 5) { category @skip(if: true) { id } } }`, "", reference.Figures{Depth: 3, Cost: 10}},
		{"fragments are expanded", `{ a: item(id: 1) { ...F } b: item(id: 2) { ...F ... on Item { area { id } } } } fragment F on Item { reviews { id } }`, "",
			reference.Figures{Depth: 3, Aliases: 2, Cost: (1 + 3) + (1 + 3 + 1)}},
		{"aliases as written", `{ item(id: 1) { id: id x: name ...F ...F } } fragment F on Item { y: name }`, "", reference.Figures{Depth: 2, Aliases: 3, Cost: 1}},
		{"arguments and variables are no aliases", `query ($a: Int = 1) { items(first: $a) { id @skip(if: false) } }`, "", reference.Figures{Depth: 2, Cost: 1}},
		{"introspection is left out", `{ __schema { types { fields { type { ofType { name } } } } } item(id: 1) { __typename } }`, "", reference.Figures{Depth: 1, Cost: 1}},
		{"a saturated cost", `query ($n: Int!) { items(first: $n) { reviews(first: $n) { author { reviews(first: $n) { id } } } } }`, `{"n":2147483647}`, reference.Figures{Depth: 5, Cost: math.MaxInt64}},
	} {
		t.Run(row.name, func(t *testing.T) {
			figures, err := reference.Measure(c, reference.Request{Query: row.query, Variables: json.RawMessage(row.variables)})
			require.NoError(t, err)
			figures.Tokens = 0 // TestMeasureTokens
			assert.Equal(t, row.want, figures)
		})
	}
	_, err = reference.Measure(c, reference.Request{Query: "{ nothing }"})
	assert.ErrorContains(t, err, "GRAPHQL_VALIDATION_FAILED")
}

func TestMeasureTokens(t *testing.T) {
	c := loadContract(t)
	for _, row := range []struct {
		name  string
		query string
		want  int
	}{
		{"names and braces", `{ areas { id } }`, 6},
		{"arguments", `{ item(id: 1) { id } }`, 11},
		{"white space or not", `{item(id:1){id}}`, 11},
		{"comments, commas and the byte order mark are none", "\ufeff# one\n{,, item(id: 1), { id # two\n } }", 11},
		{"a string is one", `{ search(text: "a \" { b") { id } }`, 11},
		{"a block string is one", `{ search(text: """a "b" { c }""") { id } }`, 11},
		{"a dollar and its name are two", `query ($n: Int!) { items(first: $n) { id } }`, 20},
		{"an at and its name are two, three dots are one", `{ ... @skip(if: false) { areas { id } } }`, 16},
		{"a negative number is one", `{ items(first: -5) { id } }`, 11},
	} {
		t.Run(row.name, func(t *testing.T) {
			figures, err := reference.Measure(c, reference.Request{Query: row.query, Variables: json.RawMessage(`{"n":1}`)})
			require.NoError(t, err)
			assert.Equal(t, row.want, figures.Tokens)
		})
	}
}

// Fragments that double each other must not take exponential time.
func TestMeasureOfFragmentsThatDouble(t *testing.T) {
	query := "{ item(id: 1) { ...F0 } }"
	for i := range 60 {
		query += fmt.Sprintf(" fragment F%d on Item { ...F%d ...F%d }", i, i+1, i+1)
	}
	query += " fragment F60 on Item { category { id } }"
	figures, err := reference.Measure(loadContract(t), reference.Request{Query: query})
	require.NoError(t, err)
	assert.Equal(t, int64(1+1<<60), figures.Cost)
	assert.Equal(t, 3, figures.Depth)
}

func TestLimitsAtTheirValueAndOneAbove(t *testing.T) {
	executor := newExecutor(t)
	repeat := func(text string, n int) string { return strings.Repeat(text, n) }
	deep := func(levels int) string { // item, category, items, category, items … id
		query, last := "item(id: 1) {", levels-2
		for i := range last {
			if i%2 == 0 {
				query += " category {"
			} else {
				query += " items(first: 1) {"
			}
		}
		return "{ " + query + " id" + repeat(" }", levels)
	}
	aliased := func(n int) string { return "{ item(id: 1) { " + repeat("x: id ", n) + "} }" }
	for _, row := range []struct{ name, query, code string }{
		{"tokens", "{ item(id: 1) { " + repeat("__typename ", 1990) + "} }", ""},
		{"tokens, one above", "{ item(id: 1) { " + repeat("__typename ", 1991) + "} }", "QUERY_TOO_LONG"},
		{"depth", deep(10), ""},
		{"depth, one above", deep(11), "QUERY_TOO_DEEP"},
		{"aliases", aliased(30), ""},
		{"aliases, one above", aliased(31), "QUERY_TOO_MANY_ALIASES"},
		{"cost", "{ items(first: 500, after: 1000) { reviews(first: 19) { id } } }", ""},
		{"cost, one above", "{ items(first: 500, after: 1000) { reviews(first: 19) { id } } item(id: 0) { id } }", "QUERY_TOO_COSTLY"},
	} {
		t.Run(row.name, func(t *testing.T) {
			response := executor.Execute(reference.Request{Query: row.query})
			if row.code == "" {
				assert.Empty(t, response.Errors)
				return
			}
			assert.Equal(t, []reference.Error{{Code: row.code}}, response.Errors)
			assert.True(t, response.RequestError)
		})
	}
}
