package reference_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/reference"
)

func TestCompare(t *testing.T) {
	many := func(n int, double bool) string {
		var keys []string
		for i := range n {
			keys = append(keys, fmt.Sprintf(`"k%d":%d`, i, i))
		}
		if double {
			keys = append(keys, `"k3":3`)
		}
		return `{"data":{` + strings.Join(keys, ",") + `}}`
	}
	const twoErrors = `{"errors":[{"path":["a"],"extensions":{"code":"X"}},{"path":["b"],"extensions":{"code":"Y"}}],"data":{"a":null,"b":null}}`
	const oneNull = `{"errors":[{"path":["l",0,"a"],"extensions":{"code":"X"}},{"path":["l",1,"a"],"extensions":{"code":"X"}}],"data":null}`
	for _, row := range []struct {
		name     string
		expected string
		got      string
		want     string // what the difference says; empty for none
	}{
		{"the same", `{"data":{"a":[1,"x",null,true,{}]}}`, `{"data":{"a":[1,"x",null,true,{}]}}`, ""},
		{"white space", "{\n \"data\": { \"a\": [ 1 , 2 ] }\r\n}\n", `{"data":{"a":[1,2]}}`, ""},
		{"3 and 3.0", `{"data":{"a":3}}`, `{"data":{"a":3.0}}`, ""},
		{"3 and 30e-1", `{"data":{"a":3}}`, `{"data":{"a":30e-1}}`, ""},
		{"0 and -0.0", `{"data":{"a":0}}`, `{"data":{"a":-0.0}}`, ""},
		{"a float with other last digits, the same double", `{"data":{"a":0.1}}`, `{"data":{"a":0.1000000000000000055}}`, ""},
		{"a float of another double", `{"data":{"a":2.7222222222222223}}`, `{"data":{"a":2.722222222222222}}`, "data.a: expected 2.7222222222222223, got 2.722222222222222"},
		{"integers that are one double", `{"data":{"a":9007199254740993}}`, `{"data":{"a":9007199254740992}}`, "data.a"},
		{"a number as text", `{"data":{"a":1}}`, `{"data":{"a":"1"}}`, `data.a: expected 1, got "1"`},
		{"escapes are what they stand for", `{"data":{"a":"é🏝/\n"}}`, `{"data":{"a":"\u00e9\ud83c\udfdd\/\u000a"}}`, ""},
		{"keys with escapes", `{"data":{"a":1}}`, `{"data":{"\u0061":1}}`, ""},
		{"another text", `{"data":{"a":{"b":["x"]}}}`, `{"data":{"a":{"b":["y"]}}}`, `data.a.b[0]: expected "x", got "y"`},
		{"null for text", `{"data":{"author":{"name":"x"}}}`, `{"data":{"author":null}}`, "data.author: expected an object {name}, got null"},
		{"false for null", `{"data":{"a":null}}`, `{"data":{"a":false}}`, "data.a: expected null, got false"},
		{"another order of fields", `{"data":{"a":{"x":1,"y":2}}}`, `{"data":{"a":{"y":2,"x":1}}}`, "data.a: expected an object {x y}, got an object {y x}"},
		{"a field too many", `{"data":{"x":1}}`, `{"data":{"x":1,"y":2}}`, "data: expected an object {x}, got an object {x y}"},
		{"an element too few", `{"data":{"l":[1,2]}}`, `{"data":{"l":[1]}}`, "data.l: expected an array of 2 elements, got an array of 1 element"},
		{"another order of elements", `{"data":{"l":[1,2]}}`, `{"data":{"l":[2,1]}}`, "data.l[0]: expected 1, got 2"},
		{"a key twice", `{"data":{"a":1}}`, `{"data":{"a":1,"a":1}}`, `key "a" stands twice`},
		{"a key twice, once escaped", `{"data":{"a":1}}`, `{"data":{"a":1,"\u0061":1}}`, `key "a" stands twice`},
		{"a key twice at the top", `{"data":{"a":1}}`, `{"data":{"a":2},"data":{"a":1}}`, `key "data" stands twice`},
		{"a key twice among many", many(40, false), many(40, true), `key "k3" stands twice`},
		{"many keys", many(40, false), many(40, false), ""},

		{"errors after data", twoErrors, `{"data":{"a":null,"b":null},"errors":[{"message":"m","path":["b"],"extensions":{"code":"Y"}},{"message":"n","locations":[{"line":1,"column":2}],"path":["a"],"extensions":{"code":"X","more":1}}]}`, ""},
		{"an error missing", twoErrors, `{"errors":[{"path":["a"],"extensions":{"code":"X"}}],"data":{"a":null,"b":null}}`, "errors: expected X at a, Y at b, got only X at a"},
		{"an error of another code", twoErrors, `{"errors":[{"path":["a"],"extensions":{"code":"Y"}},{"path":["b"],"extensions":{"code":"Y"}}],"data":{"a":null,"b":null}}`, "got Y at a"},
		{"an error without path", twoErrors, `{"errors":[{"message":"boom","extensions":{"code":"X"}}],"data":{"a":null,"b":null}}`, `got X (message "boom")`},
		{"an error without code", twoErrors, `{"errors":[{"path":["a"]}],"data":{"a":null,"b":null}}`, "an error without code at a"},
		{"an error nobody expects", `{"data":{"a":null}}`, `{"data":{"a":null},"errors":[{"path":["a"],"extensions":{"code":"X"}}]}`, "errors: expected no error, got X at a"},
		{"no error where some are expected", twoErrors, `{"data":{"a":null,"b":null}}`, "got no error"},
		{"an empty list of errors", `{"data":{"a":1}}`, `{"data":{"a":1},"errors":[]}`, "errors is an array of 0 elements"},
		{"one error of two that lead to one null", oneNull, `{"errors":[{"path":["l",1,"a"],"extensions":{"code":"X"}}],"data":null}`, ""},
		{"both errors that lead to one null", oneNull, `{"errors":[{"path":["l",1,"a"],"extensions":{"code":"X"}},{"path":["l",0,"a"],"extensions":{"code":"X"}}],"data":null}`, ""},
		{"none of two errors that lead to one null", oneNull, `{"errors":[{"path":["l",2,"a"],"extensions":{"code":"X"}}],"data":null}`, "got X at l[2].a"},
		{"an index as text", oneNull, `{"errors":[{"path":["l","1","a"],"extensions":{"code":"X"}}],"data":null}`, "got X at l.1.a"},

		{"a request error", `{"errors":[{"extensions":{"code":"X"}}]}`, `{"errors":[{"message":"a","extensions":{"code":"X"}},{"message":"b","extensions":{"code":"X"}}]}`, ""},
		{"a request error with null data", `{"errors":[{"extensions":{"code":"X"}}]}`, `{"errors":[{"extensions":{"code":"X"}}],"data":null}`, "data: expected nothing, the request being refused, got null"},
		{"no data where there is some", `{"data":{"a":1}}`, `{"errors":[{"extensions":{"code":"X"}}]}`, "errors: expected no error, got X"},
		{"null for all data", `{"data":{"a":1}}`, `{"data":null}`, "data: expected an object {a}, got null"},

		{"an empty body", `{"data":{"a":1}}`, ``, "an empty body"},
		{"a page of HTML", `{"data":{"a":1}}`, `<html>`, "a GraphQL answer, got byte 0"},
		{"half an answer", `{"data":{"a":1}}`, `{"data":{"a":`, "the JSON ends too early"},
		{"two answers", `{"data":{"a":1}}`, `{"data":{"a":1}}{"data":{"a":1}}`, "something follows"},
		{"an array", `{"data":{"a":1}}`, `[{"data":{"a":1}}]`, "is no answer"},
		{"another member", `{"data":{"a":1}}`, `{"data":{"a":1},"extensions":{}}`, `member "extensions"`},
		{"a lone surrogate", `{"data":{"a":"x"}}`, `{"data":{"a":"\ud83c"}}`, "lone surrogate"},
		{"a surrogate pair the wrong way round", `{"data":{"a":"x"}}`, `{"data":{"a":"\udfdd\ud83c"}}`, "lone surrogate"},
		{"invalid UTF-8", `{"data":{"a":"x"}}`, "{\"data\":{\"a\":\"\xff\"}}", "no UTF-8"},
		{"a raw newline in a string", `{"data":{"a":"x"}}`, "{\"data\":{\"a\":\"\n\"}}", "control character"},
		{"a leading zero", `{"data":{"a":1}}`, `{"data":{"a":01}}`, "no JSON value begins like this"},
		{"NaN", `{"data":{"a":1}}`, `{"data":{"a":NaN}}`, "no JSON value"},
		{"a comma too many", `{"data":{"a":1}}`, `{"data":{"a":1,}}`, "a key was expected"},
		{"nesting without end", `{"data":{"a":1}}`, `{"data":` + strings.Repeat("[", 100000), "levels of JSON"},
	} {
		t.Run(row.name, func(t *testing.T) {
			difference := reference.Compare([]byte(row.expected), []byte(row.got))
			if row.want == "" {
				assert.Nil(t, difference)
				return
			}
			require.NotNil(t, difference)
			assert.Contains(t, difference.String(), row.want)
		})
	}
}

func TestDifferenceIsShort(t *testing.T) {
	long := strings.Repeat("é", 10000)
	difference := reference.Compare([]byte(`{"data":{"a":"x"}}`), []byte(`{"data":{"a":"`+long+`"}}`))
	require.NotNil(t, difference)
	assert.Less(t, len(difference.String()), 400)
	difference = reference.Compare([]byte(`{"data":{"a":"x"}}`), []byte(long))
	require.NotNil(t, difference)
	assert.Less(t, len(difference.String()), 1000)
}

func TestIntrospectionIsComparedInItsCanonicalForm(t *testing.T) {
	const ours = `{"data":{"__schema":{"types":[
		{"kind":"OBJECT","name":"B","fields":[{"name":"x"},{"name":"y"}],"possibleTypes":null},
		{"kind":"UNION","name":"A","fields":null,"possibleTypes":[{"name":"B"},{"name":"C"}]},
		{"kind":"SCALAR","name":"Int","description":"one text"}],
		"directives":[{"name":"skip","description":"one text"},{"name":"include"}]}}}`
	theirs := strings.NewReplacer("one text", "another", `[{"name":"B"},{"name":"C"}]`, `[{"name":"C"},{"name":"B"}]`).Replace(ours)
	assert.Nil(t, reference.Compare([]byte(ours), []byte(theirs)), "texts of what is built in, and the order of possible types")

	canonical, err := reference.Canonical([]byte(ours))
	require.NoError(t, err)
	assert.Nil(t, reference.Compare(canonical, []byte(ours)))
	assert.Equal(t, `{"data":{"__schema":{"types":[`+
		`{"kind":"UNION","name":"A","fields":null,"possibleTypes":[{"name":"B"},{"name":"C"}]},`+
		`{"kind":"OBJECT","name":"B","fields":[{"name":"x"},{"name":"y"}],"possibleTypes":null},`+
		`{"kind":"SCALAR","name":"Int"}],"directives":[{"name":"include"},{"name":"skip"}]}}}`, string(canonical))

	for name, change := range map[string][2]string{
		"fields in another order":  {`[{"name":"x"},{"name":"y"}]`, `[{"name":"y"},{"name":"x"}]`},
		"a directive more":         {`[{"name":"skip"`, `[{"name":"defer"},{"name":"skip"`},
		"another possible type":    {`{"name":"C"}`, `{"name":"D"}`},
		"a built-in of other kind": {`"SCALAR"`, `"OBJECT"`},
	} {
		assert.NotNil(t, reference.Compare([]byte(ours), []byte(strings.Replace(ours, change[0], change[1], 1))), name)
	}

	plain := []byte(`{"data": {"types": [{"name": "b"}, {"name": "a"}]}}`)
	canonical, err = reference.Canonical(plain)
	require.NoError(t, err)
	assert.Equal(t, `{"data":{"types":[{"name":"b"},{"name":"a"}]}}`, string(canonical))
	_, err = reference.Canonical([]byte(`{`))
	assert.Error(t, err)
}

func FuzzCompareTakesWhatItGivesAndNeverPanics(f *testing.F) {
	f.Add(`{"data":{"a":[1,2.5e3,"é\n🏝",null,true,{"b":{}}]}}`)
	f.Add(`{"errors":[{"path":["a",0],"extensions":{"code":"X"}}],"data":null}`)
	f.Add(`{"data":{"__schema":{"types":[{"name":3},{}],"directives":5}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		reference.Compare([]byte(`{"data":{"a":1}}`), []byte(text))
		if _, err := reference.ParseExpected([]byte(text)); err != nil {
			return
		}
		assert.Nil(t, reference.Compare([]byte(text), []byte(text)))
		canonical, err := reference.Canonical([]byte(text))
		require.NoError(t, err)
		assert.Nil(t, reference.Compare([]byte(text), canonical))
	})
}

func BenchmarkCompareQ3(b *testing.B) {
	c := loadContract(b)
	q3, err := c.Operation("q3")
	require.NoError(b, err)
	expected, err := reference.ParseExpected(q3.Expected)
	require.NoError(b, err)
	got, err := reference.Canonical(q3.Expected) // without white space, as a server writes it
	require.NoError(b, err)
	b.SetBytes(int64(len(got)))
	b.ReportAllocs()
	for b.Loop() {
		if difference := expected.Compare(got); difference != nil {
			b.Fatal(difference)
		}
	}
}
