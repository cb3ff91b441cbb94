package locate

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const jsonText = `{
  "a": 1,
  "list": [
    {"b": "x"},
    {"b": -3.5,
     "long": "0123456789012345678901234567890123456789012345678901234567890123456789"}
  ]
}`

func TestPlacesInJSON(t *testing.T) {
	for _, c := range []struct {
		path []string
		want Place
	}{
		{[]string{"a"}, Place{2, "a", "1"}},
		{[]string{"list", "0", "b"}, Place{4, "list[0].b", `"x"`}},
		{[]string{"list", "1", "b"}, Place{5, "list[1].b", "-3.5"}},
		{[]string{"list", "0"}, Place{4, "list[0]", `{"b": "x"}`}},
		{[]string{"list", "1", "long"}, Place{6, "list[1].long", `"01234567890123456789012345678901234567890123456789012345678…`}},
	} {
		got, ok := JSON([]byte(jsonText), c.path...)
		require.True(t, ok, c.path)
		assert.Equal(t, c.want, got)
	}
	for _, path := range [][]string{{"c"}, {"list", "2"}, {"a", "b"}, {"list", "b"}} {
		_, ok := JSON([]byte(jsonText), path...)
		assert.False(t, ok, path)
	}
	_, ok := JSON([]byte(`{"a": `), "a")
	assert.False(t, ok)
}

func TestErrorsOfJSON(t *testing.T) {
	var v struct {
		A int
		B struct {
			C int `json:"c"`
		} `json:"b"`
	}
	text := []byte("{\n \"A\": 1,\n \"b\": {\n \"c\": \"ten\"}}")
	err := JSONError(text, json.Unmarshal(text, &v))
	require.EqualError(t, err, `line 4: key "b.c" is "ten", where int was expected`)
	text = []byte("{\n\n nonsense")
	require.ErrorContains(t, JSONError(text, json.Unmarshal(text, &v)), "line 3: ")
}

func TestPlacesInYAML(t *testing.T) {
	text := []byte("# prose\nid: x\n\nalpha: -0.05\narms: [go, node]\nnested:\n  deeper:\n    - one\n    - two\n")
	for _, c := range []struct {
		path []string
		want Place
	}{
		{[]string{"id"}, Place{2, "id", "x"}},
		{[]string{"alpha"}, Place{4, "alpha", "-0.05"}},
		{[]string{"arms", "1"}, Place{5, "arms[1]", "node"}},
		{[]string{"nested", "deeper", "1"}, Place{9, "nested.deeper[1]", "two"}},
	} {
		got, ok := YAML(text, c.path...)
		require.True(t, ok, c.path)
		assert.Equal(t, c.want, got)
	}
	for _, path := range [][]string{{"beta"}, {"arms", "2"}, {"id", "x"}} {
		_, ok := YAML(text, path...)
		assert.False(t, ok, path)
	}
	_, ok := YAML([]byte("a: [\n"), "a")
	assert.False(t, ok)
}

// Nothing that is read makes it panic.
func FuzzPlaces(f *testing.F) {
	f.Add([]byte(jsonText), "list")
	f.Add([]byte("a:\n - b: 1\n"), "a")
	f.Add([]byte("a: &x {b: *x}\n? c\n"), "0")
	f.Fuzz(func(t *testing.T, text []byte, key string) {
		for _, path := range [][]string{{key}, {key, "0"}, {key, key}} {
			if p, ok := JSON(text, path...); ok {
				assert.Positive(t, p.Line)
				assert.LessOrEqual(t, p.Line, Line(text, int64(len(text))))
			}
			if p, ok := YAML(text, path...); ok {
				assert.Positive(t, p.Line)
			}
		}
	})
}

// Texts at which the library panics; each was found by fuzzing or made after one that was.
func TestAYAMLAliasThatNamesItselfIsAnError(t *testing.T) {
	var into struct {
		Arms []string
		Name string
		Of   map[string]string
	}
	for _, text := range []string{"arms: &a *a\n", "name: &a *a\n", "of: &a *a\n", "arms: &a [*a]\n", "of: &a {b: *a}\n", "arms: &a\n  *a\n"} {
		require.Error(t, DecodeYAML([]byte(text), &into), text)
		require.NotPanics(t, func() { YAML([]byte(text), "arms") }, text)
	}
}
