package reference_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/reference"
)

func TestRandomQueriesAreTheSameForTheSameSeed(t *testing.T) {
	c := loadContract(t)
	different := map[string]bool{}
	for seed := range uint64(300) {
		request := reference.RandomQuery(c, seed)
		assert.Equal(t, request, reference.RandomQuery(c, seed))
		different[request.Query] = true
	}
	assert.Greater(t, len(different), 290)
}

// RandomQuery itself panics where gqlparser finds a query invalid.
func TestRandomQueriesAreAnsweredWithoutErrors(t *testing.T) {
	c := loadContract(t)
	executor := newExecutor(t)
	for seed := range uint64(2000) {
		request := reference.RandomQuery(c, seed)
		figures, err := reference.Measure(c, request)
		require.NoError(t, err)
		require.LessOrEqual(t, figures.Depth, c.Limits.Depth)
		require.LessOrEqual(t, figures.Aliases, c.Limits.Aliases)
		require.LessOrEqual(t, figures.Tokens, c.Limits.Tokens)
		require.LessOrEqual(t, figures.Cost, int64(c.Limits.Cost))
		response := executor.Execute(request)
		require.Empty(t, response.Errors, "%s %s", request.Query, request.Variables)
		require.Nil(t, reference.Compare(response.JSON(), response.JSON()))
		for setting, counts := range response.Statements {
			for statement, allowed := range counts {
				require.Contains(t, c.Statements, statement)
				require.LessOrEqual(t, allowed.Min, allowed.Max, "%s %s of %s", setting, statement, request.Query)
			}
		}
	}
}

func TestRandomQueriesUseTheWholeLanguage(t *testing.T) {
	c := loadContract(t)
	uses := map[string]*regexp.Regexp{
		"an alias":                    regexp.MustCompile(`\ba\d+: `),
		"a named fragment":            regexp.MustCompile(`\.\.\.F\d+`),
		"a fragment inside another":   regexp.MustCompile(`fragment [^\n]*\.\.\.F`),
		"an inline fragment":          regexp.MustCompile(`\.\.\. on Category `),
		"one without a type":          regexp.MustCompile(`\.\.\. (@\w+\(if: [^)]+\) )?\{`),
		"a directive with a literal":  regexp.MustCompile(`@skip\(if: true\)`),
		"a directive with a variable": regexp.MustCompile(`@include\(if: \$`),
		"a variable with a default":   regexp.MustCompile(`\$v\d+: \w+!? = `),
		"a variable without":          regexp.MustCompile(`\$v\d+: \w+!?[,)]`),
		"a list as variable":          regexp.MustCompile(`\$v\d+: \[Int!\]!`),
		"an unknown id":               regexp.MustCompile(`99999999999999999999`),
		"an empty page":               regexp.MustCompile(`first: 0\b`),
		"a full page":                 regexp.MustCompile(`first: 500\b`),
		"one field twice":             regexp.MustCompile(`\bname (\S+ )?name\b`),
		"text beyond ASCII":           regexp.MustCompile(`🏝️`),
		"an operation's name":         regexp.MustCompile(`query Random`),
		"a query without anything":    regexp.MustCompile(`^\{`),
	}
	fields := map[string]bool{}
	for _, definition := range c.Schema.Types {
		if definition.BuiltIn || definition == c.Schema.Mutation || definition.Kind != "OBJECT" {
			continue
		}
		switch definition.Name {
		case "ReviewAdded", "ItemNotFound", "AuthorNotFound": // of mutations alone
			continue
		}
		for _, field := range definition.Fields {
			if field.Name[0] != '_' {
				fields[field.Name] = true
				for _, argument := range field.Arguments {
					fields[argument.Name] = true
				}
			}
		}
	}
	require.Greater(t, len(fields), 40)
	for name := range fields {
		uses["field or argument "+name] = regexp.MustCompile(`\b` + name + `\b`)
	}
	for seed := range uint64(300) { // as many as conformance sends
		request := reference.RandomQuery(c, seed)
		for what, pattern := range uses {
			if pattern.MatchString(request.Query) {
				delete(uses, what)
			}
		}
	}
	for what := range uses {
		t.Errorf("no random query uses %s", what)
	}
}
