package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLimits(t *testing.T) {
	handler := startApp(t, nil).Handler()
	nested := func(levels int) string { // items, category, items, …, id
		q := "id"
		for i := levels - 1; i > 0; i-- {
			if i%2 == 1 {
				q = "items(first:1){" + q + "}"
			} else {
				q = "category{" + q + "}"
			}
		}
		return "{" + q + "}"
	}
	aliased := func(n int) string {
		var q strings.Builder
		for i := range n {
			fmt.Fprintf(&q, "a%d:__typename ", i)
		}
		return "{" + q.String() + "}"
	}
	doubling := func(n int) string { // each fragment holds the next one twice
		q := "{items(first:1){...F0}}"
		for i := range n {
			q += fmt.Sprintf(" fragment F%d on Item{category{items(first:2){...F%d}} owner{reviews(first:2){item{...F%d}}}}", i, i+1, i+1)
		}
		return q + fmt.Sprintf(" fragment F%d on Item{id}", n)
	}
	for _, c := range []struct{ name, query, variables, code, message string }{
		{"tokens at the limit", "{" + strings.Repeat("id ", 1998) + "}", "", codeValidationFailed, ""},
		{"tokens above", "{" + strings.Repeat("id ", 1999) + "}", "", codeQueryTooLong, "Query has more than 2000 tokens; the limit is 2000."},
		{"comments are no tokens", "{__typename}" + strings.Repeat("#x\n", 5000), "", codeOK, ""},
		{"too long before bad syntax", "{" + strings.Repeat("id ", 5000), "", codeQueryTooLong, ""},
		{"depth at the limit", nested(10), "", codeOK, ""},
		{"depth above", nested(11), "", codeQueryTooDeep, "Query has depth 11; the limit is 10."},
		{"depth through fragments", "{items(first:1){...A}} fragment A on Item{category{...B}} fragment B on Category{" + nested(9)[1:], "", codeQueryTooDeep, "Query has depth 11; the limit is 10."},
		{"introspection has no depth", "{__schema{types{fields{type{ofType{ofType{ofType{ofType{ofType{ofType{ofType{name}}}}}}}}}}}}", "", codeOK, ""},
		{"aliases at the limit", aliased(30), "", codeOK, ""},
		{"aliases above", aliased(31), "", codeQueryTooManyAliases, "Query has 31 aliases; the limit is 30."},
		{"aliases that repeat the name", "{" + strings.Repeat("__typename:__typename ", 31) + "}", "", codeQueryTooManyAliases, "Query has 31 aliases; the limit is 30."},
		{"colons that are no aliases", "query($a:Int=1,$b:[Int!]){" + strings.Repeat("items(first:1,after:2){id} ", 20) + "ranking(weights:$b){score}}", "", codeValidationFailed, ""},
		{"cost at the limit", "{items(first:500){reviews(first:19){id}}}", "", codeOK, ""},
		{"cost above", "{items(first:500){reviews(first:19){id} category{id}} item(id:1){id}}", "", codeQueryTooCostly, "Query costs 10501; the limit is 10000."},
		{"cost one above", "{a:items(first:500){reviews(first:19){id}} item(id:1){id}}", "", codeQueryTooCostly, "Query costs 10001; the limit is 10000."},
		{"cost by variables", "query($n:Int!){items(first:$n){reviews(first:$n){id}}}", `{"n":100}`, codeQueryTooCostly, "Query costs 10100; the limit is 10000."},
		{"cost by a default", "query($n:Int=100){items(first:$n){reviews(first:$n){id}}}", "", codeQueryTooCostly, "Query costs 10100; the limit is 10000."},
		{"cost by the argument's default", "query($n:Int){items(first:500){reviews(first:20){id} x:reviews(first:$n){id}}}", "", codeQueryTooCostly, "Query costs 12000; the limit is 10000."},
		{"cost whatever is skipped", "{items(first:500){reviews(first:20) @skip(if:true){id}}}", "", codeQueryTooCostly, "Query costs 10500; the limit is 10000."},
		{"cost of lists without a size", "{categories{items(first:200){id}}}", "", codeQueryTooCostly, "Query costs 10050; the limit is 10000."},
		{"negative sizes cost nothing", "{items(first:-5){reviews(first:500){id}}}", "", codeBadUserInput, ""},
		{"cost saturates", doubling(4), "", codeQueryTooDeep, ""},
		{"costs beyond counting", "{items(first:2147483647){reviews(first:2147483647){item{reviews(first:2147483647){id}}}}}", "", codeQueryTooCostly, "Query costs 9007199254740991; the limit is 10000."},
		{"fragments that double", doubling(45), "", codeQueryTooDeep, ""},
		{"wide", "{" + strings.Repeat("__typename ", 1990) + "}", "", codeOK, ""},
		{"wide with a conflict", "{items(first:1){" + strings.Repeat("id ", 1800) + "id:name}}", "", codeValidationFailed, ""},
		{"conflict through a fragment", "{items(first:1){x:id ...F ...F}} fragment F on Item{x:name}", "", codeValidationFailed, ""},
		{"conflict of arguments", "{items(first:1){reviews(first:1){id} reviews(first:2){id}}}", "", codeValidationFailed, ""},
		{"wide below", "{items(first:1){" + strings.Repeat("id ", 1900) + "}}", "", codeOK, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := post(handler, c.query, c.variables)
			assert.Equal(t, c.code, got.code(t), "%.300s", got.body)
			if c.message != "" {
				assert.Contains(t, got.body, `"`+c.message+`"`)
				assert.Equal(t, http.StatusBadRequest, got.status)
			}
		})
	}
}

func TestDecimalID(t *testing.T) {
	for id, want := range map[string]struct {
		n     int32
		known bool
	}{"0": {0, true}, "7": {7, true}, "2147483647": {2147483647, true}, "2147483648": {}, "99999999999999999999999": {}} {
		n, known, err := decimalID("id", id)
		assert.NoError(t, err, id)
		assert.Equal(t, want.n, n, id)
		assert.Equal(t, want.known, known, id)
	}
	for _, id := range []string{"", "01", "-1", "+1", " 1", "1.0", "x", "１"} {
		_, _, err := decimalID("input.itemId", id)
		assert.EqualError(t, err, `Argument "input.itemId" must be a decimal integer.`, id)
	}
}
