package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/reference"
)

// hostileCase is one row of the table: what is sent and what must come back, the same from every server.
type hostileCase struct {
	name string
	// request is a GraphQL request that is sent as it should be, with both media types accepted in turn; the status
	// follows from code. A floor answers NOT_IN_THIS_TIER to it.
	request *reference.Request
	// parts are what is written on a connection of its own, for requests that are not as they should be.
	parts [][]byte
	// method tells how to read the answer (HEAD has no body).
	method string
	// halfClose ends our side of the connection after the parts.
	halfClose bool
	// atField: the error stands beside data, with status 200.
	atField bool

	want want
}

// want is what must come back.
type want struct {
	// statuses that are right; none of them, with mayClose, where only closing the connection will do.
	statuses []int
	// code is extensions.code of the first error. Without one, an answer of status 200 must have data and no errors.
	code string
	// path is that of the first error, joined by dots; empty: not looked at.
	path string
	// golden: each answer is the first headline operation's.
	golden bool
	// answers is how many must come; 0 means one.
	answers int
	// accept is the media type of the answer where it is looked at.
	accept string
	// headers must be there.
	headers []string
	// mayClose: closing the connection without an answer is right too.
	mayClose bool
	// document: the rule is about the document, which a floor does not read.
	document bool
	// open: what was asked for has no answer in the contract, other than that the server survives it.
	open bool
}

// hostileTable makes the table for the limits of a contract.
func hostileTable(c *contract.Contract) []hostileCase {
	var table []hostileCase
	for _, part := range [][]hostileCase{limitCases(c), documentCases(c), orderCases(c), shapeCases(c), acceptedCases(c), httpCases(c)} {
		table = append(table, part...)
	}
	return table
}

// refused is a request error, data an answer without errors, failed an error at a path beside status 200.
func refused(name, code, query string, variables ...string) hostileCase {
	return hostileCase{name: name, request: graphqlRequest(query, variables), want: want{code: code}}
}

func data(name, query string, variables ...string) hostileCase {
	return hostileCase{name: name, request: graphqlRequest(query, variables)}
}

func failed(name, code, path, query string, variables ...string) hostileCase {
	return hostileCase{name: name, request: graphqlRequest(query, variables), atField: true, want: want{code: code, path: path}}
}

func graphqlRequest(query string, variables []string) *reference.Request {
	r := &reference.Request{Query: query}
	if len(variables) > 0 {
		r.Variables = json.RawMessage(variables[0])
	}
	return r
}

// tokensQuery has n lexical tokens, and besides commas, comments and white space, which are none.
func tokensQuery(n int) string {
	const around = 12
	return "# no token\n{ ranking(weights: [" + strings.Repeat("1, ", n-around) + "] # nor this\n) { score } }"
}

// depthQuery has n levels of nested fields, the leaf counted.
func depthQuery(n int) string {
	var b strings.Builder
	for level := 1; level < n; level++ {
		switch {
		case level == 1:
			b.WriteString("{ items(first: 1) ")
		case level%2 == 0:
			b.WriteString("{ reviews(first: 1) ")
		default:
			b.WriteString("{ item ")
		}
	}
	return b.String() + "{ id " + strings.Repeat("}", n)
}

func aliasesQuery(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " a%d: __typename", i)
	}
	return "{" + b.String() + " }"
}

// costQuery costs n where n is at least 501 and a multiple of 500 or one above.
func costQuery(n int) string {
	more := ""
	if n%500 == 1 {
		more = " item(id: 1) { id }"
	}
	return fmt.Sprintf("{ items(first: 500) { id reviews(first: %d) { id } }%s }", n/500-1, more)
}

func weights(n int, value string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(value+",", n), ",") + "]"
}

func limitCases(c *contract.Contract) []hostileCase {
	l := c.Limits
	review := func(rating, body string) string {
		return fmt.Sprintf(`mutation { addReview(input: {itemId: 999999, authorId: 1, rating: %s, body: %s}) { __typename } }`, rating, body)
	}
	page, ranking, days := l.PageSize, l.RankingSize, l.BusinessDays
	rank := func(first int) string {
		return fmt.Sprintf(`{ ranking(weights: %s, first: %d) { score item { id } } }`, weights(32, "1"), first)
	}
	long := func(character string, n int) string { return `{"text":"` + strings.Repeat(character, n) + `"}` }
	table := []hostileCase{
		failed("tokens at the limit", "BAD_USER_INPUT", "ranking", tokensQuery(l.Tokens)),
		refused("tokens one above", "QUERY_TOO_LONG", tokensQuery(l.Tokens+1)),
		refused("tokens ten times the limit", "QUERY_TOO_LONG", tokensQuery(10*l.Tokens)),
		data("depth at the limit", depthQuery(l.Depth)),
		refused("depth one above", "QUERY_TOO_DEEP", depthQuery(l.Depth+1)),
		refused("depth three hundred", "QUERY_TOO_DEEP", depthQuery(300)),
		data("aliases at the limit", aliasesQuery(l.Aliases)),
		refused("aliases one above", "QUERY_TOO_MANY_ALIASES", aliasesQuery(l.Aliases+1)),
		refused("aliases six hundred", "QUERY_TOO_MANY_ALIASES", aliasesQuery(600)),
		data("cost at the limit", costQuery(l.Cost)),
		refused("cost one above", "QUERY_TOO_COSTLY", costQuery(l.Cost+1)),
		refused("cost beyond 64 bits", "QUERY_TOO_COSTLY", `{ items(first: 2147483647) { reviews(first: 2147483647) { item { reviews(first: 2147483647) { item { reviews(first: 2147483647) { id } } } } } } }`),
		refused("cost by a variable", "QUERY_TOO_COSTLY", `query ($n: Int!) { items(first: $n) { id } }`, `{"n":2147483647}`),
		data("page at the limit", fmt.Sprintf(`{ items(first: %d) { id } }`, page)),
		failed("page one above", "BAD_USER_INPUT", "items", fmt.Sprintf(`{ items(first: %d) { id } }`, page+1)),
		failed("page below 0", "BAD_USER_INPUT", "items", `{ items(first: -1) { id } }`),
		failed("page lowest integer", "BAD_USER_INPUT", "items", `query ($n: Int!) { items(first: $n) { id } }`, `{"n":-2147483648}`),
		data("reviews at the limit", fmt.Sprintf(`{ item(id: 1) { reviews(first: %d) { id } } }`, page)),
		failed("reviews one above", "BAD_USER_INPUT", "item.reviews", fmt.Sprintf(`{ item(id: 1) { reviews(first: %d) { id } } }`, page+1)),
		failed("a user's reviews one above", "BAD_USER_INPUT", "", fmt.Sprintf(`{ items(first: 5) { reviews(first: 1) { author { reviews(first: %d) { id } } } } }`, page+1)),
		failed("a category's items one above", "BAD_USER_INPUT", "", fmt.Sprintf(`{ items(first: 1) { category { items(first: %d) { id } } } }`, page+1)),
		failed("search one above", "BAD_USER_INPUT", "search", fmt.Sprintf(`{ search(text: "A", first: %d) { name } }`, page+1)),
		data("ranking at the limit", rank(ranking)),
		failed("ranking one above", "BAD_USER_INPUT", "ranking", rank(ranking+1)),
		failed("ranking 31 weights", "BAD_USER_INPUT", "ranking", fmt.Sprintf(`{ ranking(weights: %s) { score } }`, weights(31, "1"))),
		failed("ranking 33 weights", "BAD_USER_INPUT", "ranking", fmt.Sprintf(`{ ranking(weights: %s) { score } }`, weights(33, "1"))),
		failed("ranking no weights", "BAD_USER_INPUT", "ranking", `{ ranking(weights: []) { score } }`),
		data("ranking greatest weights", fmt.Sprintf(`{ ranking(weights: %s) { score } }`, weights(32, "1000"))),
		failed("ranking weights one above", "BAD_USER_INPUT", "ranking", fmt.Sprintf(`{ ranking(weights: %s) { score } }`, weights(32, "1001"))),
		failed("ranking weights one below", "BAD_USER_INPUT", "ranking", fmt.Sprintf(`{ ranking(weights: %s) { score } }`, weights(32, "-1001"))),
		data("business days at the limit", fmt.Sprintf(`{ businessDay(from: "2026-01-01", days: %d) }`, days)),
		failed("business days one above", "BAD_USER_INPUT", "businessDay", fmt.Sprintf(`{ businessDay(from: "2026-01-01", days: %d) }`, days+1)),
		failed("business days below 0", "BAD_USER_INPUT", "businessDay", `{ businessDay(from: "2026-01-01", days: -1) }`),
		failed("business days beyond the last Date", "BAD_USER_INPUT", "businessDay", `{ businessDay(from: "9999-12-31", days: 1) }`),
		data("guests at the limit", `{ quote(itemId: 1, guests: 100) { totalCents } }`),
		failed("guests one above", "BAD_USER_INPUT", "quote", `{ quote(itemId: 1, guests: 101) { totalCents } }`),
		failed("guests 0", "BAD_USER_INPUT", "quote", `{ quote(itemId: 1, guests: 0) { totalCents } }`),
		data("rating at the limit", review("5", `"x"`)),
		failed("rating one above", "BAD_USER_INPUT", "addReview", review("6", `"x"`)),
		failed("rating 0", "BAD_USER_INPUT", "addReview", review("0", `"x"`)),
		failed("body empty", "BAD_USER_INPUT", "addReview", review("5", `""`)),
	}
	addReview := `mutation ($text: String!) { addReview(input: {itemId: 999999, authorId: 1, rating: 5, body: $text}) { __typename } }`
	rename := `mutation ($text: String!) { renameArea(id: 999999, name: $text) { id } }`
	for _, character := range []struct{ name, text string }{{"of one byte", "x"}, {"of four bytes", "𝔘"}} {
		table = append(table,
			data("body at the limit, characters "+character.name, addReview, long(character.text, 2000)),
			failed("body one above, characters "+character.name, "BAD_USER_INPUT", "addReview", addReview, long(character.text, 2001)),
			data("area's name at the limit, characters "+character.name, rename, long(character.text, 200)),
			failed("area's name one above, characters "+character.name, "BAD_USER_INPUT", "renameArea", rename, long(character.text, 201)),
		)
	}
	return append(table,
		failed("area's name of white space", "BAD_USER_INPUT", "renameArea", rename, `{"text":" \t\r\n "}`),
	)
}

func documentCases(c *contract.Contract) []hostileCase {
	l := c.Limits
	var doubling strings.Builder
	const doublings = 40
	doubling.WriteString("{ ...f0 }")
	for i := range doublings {
		fmt.Fprintf(&doubling, " fragment f%d on Query { ...f%d ... on Query { ...f%d } }", i, i+1, i+1)
	}
	fmt.Fprintf(&doubling, " fragment f%d on Query { items(first: 500) { id } }", doublings)
	var unused strings.Builder
	for i := range 200 {
		fmt.Fprintf(&unused, " fragment f%d on Query { __typename }", i)
	}
	digits := strings.Repeat("9", 1000)
	item := `query ($id: ID!) { item(id: $id) { id } }`
	first := `query ($n: Int!) { items(first: $n) { id } }`
	search := `query ($t: String!) { search(text: $t) { name } }`
	return []hostileCase{
		data("wide: one field again and again", "{"+strings.Repeat(" __typename", l.Tokens-2)+" }"),
		refused("wide: many unknown fields", "GRAPHQL_VALIDATION_FAILED", "{"+strings.Repeat(" nope", l.Tokens-2)+" }"),
		refused("wide: one field with other arguments", "GRAPHQL_VALIDATION_FAILED", "{ a: items(first: 1) { id } a: items(first: 2) { id } }"),
		refused("directives again and again", "GRAPHQL_VALIDATION_FAILED", "{ __typename"+strings.Repeat(" @skip(if: false)", 200)+" }"),
		refused("a fragment that spreads itself", "GRAPHQL_VALIDATION_FAILED", "{ ...a } fragment a on Query { ...a }"),
		refused("three fragments in a circle", "GRAPHQL_VALIDATION_FAILED", "{ ...a } fragment a on Query { ...b } fragment b on Query { ...c } fragment c on Query { ...a }"),
		refused("a circle through fields", "GRAPHQL_VALIDATION_FAILED", "{ items { ...a } } fragment a on Item { reviews { item { ...a } } }"),
		refused("a circle that nobody uses", "GRAPHQL_VALIDATION_FAILED", "{ __typename } fragment a on Query { ...b } fragment b on Query { ...a }"),
		refused("fragments that double forty times", "QUERY_TOO_COSTLY", doubling.String()),
		refused("hundreds of fragments that nobody uses", "GRAPHQL_VALIDATION_FAILED", "{ __typename }"+unused.String()),
		refused("brackets 900 deep in a literal", "GRAPHQL_VALIDATION_FAILED", "{ ranking(weights: "+strings.Repeat("[", 900)+strings.Repeat("]", 900)+") { score } }"),
		refused("braces 900 deep in a literal", "GRAPHQL_VALIDATION_FAILED", "{ items(first: "+strings.Repeat("{a:", 450)+"1"+strings.Repeat("}", 450)+") { id } }"),
		refused("braces that are never closed", "GRAPHQL_PARSE_FAILED", strings.Repeat("{ items ", 600)),
		refused("braces beyond the limit of tokens", "QUERY_TOO_LONG", strings.Repeat("{", 90000)),
		refused("brackets in a variable's type", "GRAPHQL_PARSE_FAILED", "query ($a: "+strings.Repeat("[", 1500)+"Int) { __typename }"),
		refused("integer literal beyond 32 bits", "GRAPHQL_VALIDATION_FAILED", "{ items(first: 2147483648) { id } }"),
		refused("integer literal beyond 64 bits", "GRAPHQL_VALIDATION_FAILED", "{ items(first: 9223372036854775808) { id } }"),
		refused("integer literal of a thousand digits", "GRAPHQL_VALIDATION_FAILED", "{ items(first: "+digits+") { id } }"),
		refused("integer literal with a leading zero", "GRAPHQL_PARSE_FAILED", "{ items(first: 01) { id } }"),
		refused("float literal for an integer", "GRAPHQL_VALIDATION_FAILED", "{ items(first: 1.0) { id } }"),
		refused("integer variable beyond 32 bits", "BAD_USER_INPUT", first, `{"n":2147483648}`),
		refused("integer variable beyond 64 bits", "BAD_USER_INPUT", first, `{"n":92233720368547758080}`),
		refused("integer variable of a thousand digits", "BAD_USER_INPUT", first, `{"n":`+digits+`}`),
		data("id beyond 32 bits", item, `{"id":"2147483648"}`),
		data("id beyond 64 bits", item, `{"id":"92233720368547758080"}`),
		data("id of a thousand digits", item, `{"id":"`+digits+`"}`),
		data("id literal of a thousand digits", `{ item(id: `+digits+`) { id } }`),
		data("id 0", item, `{"id":"0"}`),
		failed("id below 0", "BAD_USER_INPUT", "item", item, `{"id":"-1"}`),
		failed("id literal below 0", "BAD_USER_INPUT", "item", `{ item(id: -1) { id } }`),
		failed("id with a leading zero", "BAD_USER_INPUT", "item", item, `{"id":"01"}`),
		failed("id with white space", "BAD_USER_INPUT", "item", item, `{"id":" 1"}`),
		failed("id of other digits", "BAD_USER_INPUT", "item", item, `{"id":"１"}`),
		data("id with an exponent", item, `{"id":1e0}`),
		data("id with a point and no fraction", item, `{"id":2.0}`),
		refused("id with a fraction", "BAD_USER_INPUT", item, `{"id":1.5}`),
		refused("id with an exponent, beyond 53 bits", "BAD_USER_INPUT", item, `{"id":1e30}`),
		failed("id minus 0", "BAD_USER_INPUT", "item", item, `{"id":-0.0}`),
		failed("id empty", "BAD_USER_INPUT", "item", item, `{"id":""}`),
		failed("id that would be SQL", "BAD_USER_INPUT", "item", item, `{"id":"1 or 1=1"}`),
		data("text that would be SQL", search, `{"t":"' or 1=1; drop table item; --"}`),
		data("text with signs of patterns", search, `{"t":"%_\\"}`),
		failed("U+0000 in a variable", "BAD_USER_INPUT", "search", search, `{"t":"Item\u0000"}`),
		failed("U+0000 in a literal", "BAD_USER_INPUT", "search", `{ search(text: "Item\u0000") { name } }`),
		refused("U+0000 in the document", "GRAPHQL_PARSE_FAILED", "{ __typename \x00 }"),
		refused("a control character in the document", "GRAPHQL_PARSE_FAILED", "{ __typename \x07 }"),
		data("a text of 90,000 characters", search, `{"t":"`+strings.Repeat("x", 90000)+`"}`),
		refused("a name of 90,000 characters", "GRAPHQL_VALIDATION_FAILED", "{ "+strings.Repeat("x", 90000)+" }"),
		data("a comment of 90,000 characters", "{ __typename #"+strings.Repeat("x", 90000)+"\n }"),
		refused("a text that is never closed", "GRAPHQL_PARSE_FAILED", `{ search(text: "x) { name } }`),
		refused("a Date that is none, as a literal", "GRAPHQL_VALIDATION_FAILED", `{ businessDay(from: "2026-02-30", days: 1) }`),
		refused("a Date that is none, as a variable", "BAD_USER_INPUT", `query ($d: Date!) { businessDay(from: $d, days: 1) }`, `{"d":"2026-02-30"}`),
		data("a Date at the end of time", `{ businessDay(from: "9999-01-01", days: 3) }`),
		refused("a name right behind a number", "GRAPHQL_PARSE_FAILED", `{ items(first: 1after: 2) { id } }`),
		data("two ids of a thousand digits", `{ a: item(id: `+digits+`) { id } b: item(id: 1`+digits+`) { id } }`),
		refused("one field with an id as number and as text", "GRAPHQL_VALIDATION_FAILED", `{ item(id: 1) { id } item(id: "1") { name } }`),
		data("descriptions", `"an operation" query A("""a variable""" $n: Int = 1) { ...F } "a fragment" fragment F on Query { items(first: $n) { id } }`),
		refused("a description of the short form", "GRAPHQL_PARSE_FAILED", `"none" { __typename }`),
		refused("a type's definition", "GRAPHQL_PARSE_FAILED", `type X { a: Int }`),
		refused("a type's definition beside an operation", "GRAPHQL_PARSE_FAILED", `{ __typename } extend type Query { a: Int }`),
		failed("null in a list, through a default", "BAD_USER_INPUT", "ranking", `query ($n: Int = 1) { ranking(weights: [$n, `+strings.TrimPrefix(weights(31, "1"), "[")+`) { score } }`, `{"n":null}`),
		failed("null in an input object, through a default", "BAD_USER_INPUT", "addReview", `mutation ($n: Int = 1) { addReview(input: {itemId: 999999, authorId: 1, rating: $n, body: "x"}) { __typename } }`, `{"n":null}`),
		data("null for @skip and @include, through a default", `query ($b: Boolean = true) { item(id: 1) { id @skip(if: $b) name @include(if: $b) } }`, `{"b":null}`),
		refused("a subscription", "GRAPHQL_VALIDATION_FAILED", `subscription { x }`),
	}
}

// orderCases break several rules at once: the first in the contract's order answers.
func orderCases(c *contract.Contract) []hostileCase {
	l := c.Limits
	deep := strings.TrimSuffix(strings.TrimPrefix(depthQuery(l.Depth+1), "{"), "}")
	manyAliases := strings.TrimSuffix(strings.TrimPrefix(aliasesQuery(l.Aliases+1), "{"), "}")
	costly := " items(first: 100000) { id } "
	named := func(name, operation, code, query, variables string) hostileCase {
		hc := refused(name, code, query, variables)
		hc.request.OperationName = operation
		return hc
	}
	return []hostileCase{
		refused("order: tokens before parsing", "QUERY_TOO_LONG", tokensQuery(l.Tokens+1)+" } ) ]"),
		refused("order: tokens before what is wrong after the limit", "QUERY_TOO_LONG", tokensQuery(l.Tokens+1)+" \" ?"),
		refused("order: a lexical error before the limit of tokens", "GRAPHQL_PARSE_FAILED", "{ ? "+strings.Repeat(" x", 2*l.Tokens)+" }"),
		refused("order: parsing before validation", "GRAPHQL_PARSE_FAILED", "{ nope("),
		named("order: validation before the operation's name", "B", "GRAPHQL_VALIDATION_FAILED", "query A { nope }", `{}`),
		named("order: the operation's name before variables", "B", "OPERATION_RESOLUTION_FAILURE", "query A($n: Int!) { items(first: $n) { id } }", `{"n":"x"}`),
		named("order: validation before a missing name", "", "GRAPHQL_VALIDATION_FAILED", "query A { nope } query B { nope }", `{}`),
		refused("order: variables before depth", "BAD_USER_INPUT", "query ($n: Int!) {"+deep+" b: items(first: $n) { id } }", `{"n":"x"}`),
		refused("order: depth before aliases", "QUERY_TOO_DEEP", "{"+deep+manyAliases+"}"),
		refused("order: depth before cost", "QUERY_TOO_DEEP", "{ a:"+deep+" b:"+costly+"}"),
		refused("order: aliases before cost", "QUERY_TOO_MANY_ALIASES", "{"+manyAliases+costly+"}"),
		refused("order: cost before arguments", "QUERY_TOO_COSTLY", "{"+costly+"}"),
		refused("order: cost before anything is written", "QUERY_TOO_COSTLY", `mutation { renameArea(id: 1, name: "x") { id } addReview(input: {itemId: 1, authorId: 1, rating: 1, body: "x"}) { ... on ReviewAdded { review { item { reviews(first: 100000) { id } } } } } }`),
	}
}

func bodyCase(name string, body string, w want) hostileCase {
	return hostileCase{name: name, parts: [][]byte{wireRequest{body: []byte(body)}.bytes()}, want: w}
}

// shapeCases are bodies that are no request; all tiers refuse them alike, whatever is accepted.
func shapeCases(c *contract.Contract) []hostileCase {
	bad := want{statuses: []int{http.StatusBadRequest}, code: "BAD_REQUEST"}
	const query = `"query":"{ __typename }"`
	var table []hostileCase
	for _, row := range []struct{ name, body string }{
		{"empty body", ""},
		{"white space", " \n "},
		{"an open brace", "{"},
		{"something after the object", `{` + query + `} x`},
		{"two objects", `{` + query + `}{` + query + `}`},
		{"null", "null"}, {"a string", `"{ __typename }"`}, {"a number", "1"}, {"true", "true"},
		{"an empty array", "[]"},
		{"an array of requests", `[{` + query + `},{` + query + `}]`},
		{"no query", `{}`},
		{"no query but variables", `{"variables":{}}`},
		{"query null", `{"query":null}`}, {"query a number", `{"query":1}`}, {"query an object", `{"query":{}}`},
		{"query an array", `{"query":["{ __typename }"]}`}, {"query false", `{"query":false}`},
		{"variables a string", `{` + query + `,"variables":"{}"}`}, {"variables an array", `{` + query + `,"variables":[]}`},
		{"variables a number", `{` + query + `,"variables":0}`}, {"variables false", `{` + query + `,"variables":false}`},
		{"extensions a string", `{` + query + `,"extensions":"x"}`}, {"extensions an array", `{` + query + `,"extensions":[]}`},
		{"extensions a number", `{` + query + `,"extensions":1}`},
		{"operationName a number", `{` + query + `,"operationName":1}`}, {"operationName an object", `{` + query + `,"operationName":{}}`},
		{"operationName an array", `{` + query + `,"operationName":[]}`}, {"operationName false", `{` + query + `,"operationName":false}`},
		{"invalid UTF-8 in the query", "{\"query\":\"{ search(text: \\\"\xff\\\") { name } }\"}"},
		{"invalid UTF-8 in a variable", `{` + query + ",\"variables\":{\"a\":\"\xc3\x28\"}}"},
		{"invalid UTF-8 in a key", `{` + query + ",\"\xe2\x82\":1}"},
		{"invalid UTF-8 outside of strings", "\xfe{" + query + "}"},
		{"an overlong encoding", `{` + query + ",\"variables\":{\"a\":\"\xc0\xaf\"}}"},
		{"a surrogate in UTF-8", `{` + query + ",\"variables\":{\"a\":\"\xed\xa0\x80\"}}"},
		{"a lone high surrogate", `{` + query + `,"variables":{"a":"\ud83d"}}`},
		{"a lone low surrogate", `{` + query + `,"variables":{"a":"\ude00"}}`},
		{"surrogates in the wrong order", `{` + query + `,"variables":{"a":"\ude00\ud83d"}}`},
		{"a lone surrogate in the query", `{"query":"{ search(text: \"\ud800\") { name } }"}`},
		{"a control character in a string", "{\"query\":\"{ __typename\x01 }\"}"},
		{"a line break in a string", "{\"query\":\"{\n__typename }\"}"},
		{"a zero byte", "{" + query + "\x00}"},
		{"UTF-16", "\xff\xfe{\x00}\x00"},
		{"single quotes", `{'query':'{ __typename }'}`}, {"a comma too many", `{` + query + `,}`}, {"a key without quotes", `{query:"{ __typename }"}`},
		{"NaN", `{` + query + `,"variables":{"a":NaN}}`}, {"a leading zero", `{` + query + `,"variables":{"a":01}}`},
		{"a leading plus", `{` + query + `,"variables":{"a":+1}}`}, {"an unknown escape", `{` + query + `,"variables":{"a":"\x41"}}`},
		{"a comment", `{` + query + `/* */}`},
		{"129 levels", `{` + query + `,"x":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`},
		{"50,000 brackets that are never closed", strings.Repeat("[", 50000)},
		{"50,000 brackets", strings.Repeat("[", 50000) + strings.Repeat("]", 50000)},
		{"49,000 brackets in the variables", `{` + query + `,"variables":{"a":` + strings.Repeat("[", 49000) + strings.Repeat("]", 49000) + `}}`},
		{"16,000 braces in the variables", `{` + query + `,"variables":` + strings.Repeat(`{"a":`, 16000) + "1" + strings.Repeat("}", 16000) + `}`},
		{"50,000 brackets in a member that nobody knows", `{` + query + `,"x":` + strings.Repeat("[", 49900) + strings.Repeat("]", 49900) + `}`},
		{"order: shape before tokens", `{"query":` + quote(tokensQuery(c.Limits.Tokens+1)) + `,"variables":1}`},
		{"order: shape before parsing", `{"query":"{","operationName":1}`},
	} {
		table = append(table, bodyCase("JSON: "+row.name, row.body, bad))
	}
	table = append(table, bodyCase("an empty operation name", `{`+query+`,"operationName":""}`,
		want{statuses: []int{http.StatusBadRequest}, code: "OPERATION_RESOLUTION_FAILURE", document: true}))
	// Whatever is accepted, the status is the same.
	return append(table, hostileCase{
		name: "JSON: an open brace, accepting " + plainJSON, want: bad,
		parts: [][]byte{wireRequest{body: []byte("{"), headers: []string{"Accept", plainJSON}}.bytes()},
	})
}

func quote(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string can be written
	}
	return string(quoted)
}

// padded makes a body exactly n bytes long.
func padded(body string, n int) []byte { return []byte(body + strings.Repeat(" ", n-len(body))) }

// acceptedCases look odd and are right: all tiers answer with the first headline operation.
func acceptedCases(c *contract.Contract) []hostileCase {
	text := goldenQuery(c)
	query := `"query":` + quote(text)
	right := want{statuses: []int{http.StatusOK}, golden: true, accept: graphqlResponse}
	var table []hostileCase
	for _, row := range []struct{ name, body string }{
		{"members that nobody knows", `{"id":1,` + query + `,"x":{"y":[1,2,{}]}}`},
		{"query twice, the last wins", `{"query":"{",` + query + `}`},
		{"variables twice, the last wins", `{` + query + `,"variables":1,"variables":{}}`},
		{"everything null that may be", `{` + query + `,"variables":null,"operationName":null,"extensions":null}`},
		{"extensions", `{` + query + `,"extensions":{"a":[1]}}`},
		{"variables that nobody declared", `{` + query + `,"variables":{"a":1,"b":{"c":"𝔘"}}}`},
		{"keys with escapes", `{"\u0071uery":` + quote(text) + `}`},
		{"white space around", " \r\n\t{" + query + "}\n "},
		{"128 levels", `{` + query + `,"x":` + strings.Repeat("[", 127) + strings.Repeat("]", 127) + `}`},
		{"brackets in a text", `{` + query + `,"x":"\"` + strings.Repeat("[", 500) + `"}`},
	} {
		table = append(table, bodyCase("accepted: "+row.name, row.body, right))
	}
	body := `{` + query + `}`
	wire := func(name string, w want, r wireRequest) {
		if r.body == nil && r.method == "" {
			r.body = []byte(body)
		}
		table = append(table, hostileCase{name: "accepted: " + name, parts: [][]byte{r.bytes()}, want: w})
	}
	wire("a body at the limit", right, wireRequest{body: padded(body, c.Limits.BodyBytes)})
	wire("a body at the limit, in chunks", right, wireRequest{body: padded(body, c.Limits.BodyBytes), chunked: true})
	wire("in chunks", right, wireRequest{chunked: true})
	wire("media type with a charset", right, wireRequest{headers: []string{"Content-Type", "application/json; charset=utf-8"}})
	wire("media type with other parameters", right, wireRequest{headers: []string{"Content-Type", "application/json; charset;; x=y"}})
	wire("media type in capitals", right, wireRequest{headers: []string{"Content-Type", "Application/JSON;Charset=UTF-8"}})
	wire("fifty headers more", right, wireRequest{headers: manyHeaders(50, 20)})
	wire("headers in lower case", right, wireRequest{headers: []string{"content-type", plainJSON, "accept", graphqlResponse}})
	wire("100-continue", right, wireRequest{headers: []string{"Expect", "100-continue"}})
	getHeaders := []string{"Content-Type", "-"}
	wire("GET", right, wireRequest{method: http.MethodGet, target: "/graphql?query=" + url.QueryEscape(text), headers: getHeaders})
	wire("GET with all parameters", right, wireRequest{
		method: http.MethodGet, headers: getHeaders,
		target: "/graphql?variables=%7B%7D&extensions=%7B%22a%22%3A1%7D&x=y&query=" + url.QueryEscape(text),
	})
	wire("GET with all but the query empty", right, wireRequest{
		method: http.MethodGet, headers: getHeaders, target: "/graphql?variables=&extensions=&operationName=&query=" + url.QueryEscape(text),
	})
	wire("GET with two queries, the last wins", right, wireRequest{
		method: http.MethodGet, headers: getHeaders, target: "/graphql?query=%7B&query=" + url.QueryEscape(text),
	})
	wire("Content-Encoding: Identity", right, wireRequest{headers: []string{"Content-Encoding", "Identity"}})
	for _, row := range []struct{ accept, answer string }{
		{"-", plainJSON}, {"*/*", plainJSON}, {"application/*", plainJSON}, {plainJSON, plainJSON}, {graphqlResponse, graphqlResponse},
		{"text/html, */*;q=0.1", plainJSON}, {"APPLICATION/JSON", plainJSON}, {"application/json; charset=utf-8", plainJSON},
		{graphqlResponse + ";q=0.1, application/json;q=0.9", plainJSON}, {graphqlResponse + ";q=0.9, application/json;q=0.1", graphqlResponse},
		{"application/json;q=0, */*", graphqlResponse}, {graphqlResponse + ";q=0, application/json", plainJSON},
		{graphqlResponse + "; charset=utf-8, application/json; charset=utf-8;q=0.9", graphqlResponse},
		{graphqlResponse + ", " + plainJSON, graphqlResponse}, {plainJSON + ", " + graphqlResponse, plainJSON}, {"", plainJSON},
		{graphqlResponse + ", */*", graphqlResponse}, {plainJSON + ";q=0.0001", plainJSON}, {plainJSON + ";q=0.5, " + plainJSON + ", */*;q=0.7", graphqlResponse},
		{"application/json; charset=latin1", plainJSON},
	} {
		w := right
		w.accept = row.answer
		name := "Accept: " + row.accept
		if row.accept == "-" {
			name = "no Accept"
		}
		wire(name, w, wireRequest{headers: []string{"Accept", row.accept}})
	}
	keep := wireRequest{body: []byte(body), keep: true}.bytes()
	last := wireRequest{body: []byte(body)}.bytes()
	several := right
	several.answers = 4
	whole := append(append(append(append([]byte{}, keep...), keep...), keep...), last...)
	table = append(table,
		hostileCase{name: "accepted: four requests in one write", parts: [][]byte{whole}, want: several},
		hostileCase{name: "accepted: a request in forty pieces", parts: pieces(last, 40), want: right},
		hostileCase{name: "accepted: in chunks, in forty pieces", parts: pieces(wireRequest{body: []byte(body), chunked: true}.bytes(), 40), want: right},
		hostileCase{name: "accepted: a refused request, then a right one, on one connection", want: want{open: true, answers: 2}, parts: [][]byte{
			append(wireRequest{body: []byte("["), keep: true}.bytes(), last...),
		}},
	)
	return table
}

func pieces(text []byte, n int) [][]byte {
	var parts [][]byte
	for i := range n {
		parts = append(parts, text[i*len(text)/n:(i+1)*len(text)/n])
	}
	return parts
}

func manyHeaders(n, length int) []string {
	var headers []string
	for i := range n {
		headers = append(headers, fmt.Sprintf("X-Header-%d", i), strings.Repeat("x", length))
	}
	return headers
}

func goldenQuery(c *contract.Contract) string {
	for _, o := range c.Operations {
		if o.Name == headlines[0] {
			return o.Query
		}
	}
	return ""
}

// httpCases are requests that HTTP or GraphQL over HTTP refuses.
func httpCases(c *contract.Contract) []hostileCase {
	body := []byte(`{"query":` + quote(goldenQuery(c)) + `}`)
	query := url.QueryEscape(goldenQuery(c))
	limit := c.Limits.BodyBytes
	tooLarge := want{statuses: []int{http.StatusRequestEntityTooLarge}, code: "REQUEST_TOO_LARGE", accept: graphqlResponse}
	tooLargePlain := tooLarge
	tooLargePlain.accept = plainJSON
	badRequest := want{statuses: []int{http.StatusBadRequest}, code: "BAD_REQUEST"}
	notAllowed := want{statuses: []int{http.StatusMethodNotAllowed}, code: "BAD_REQUEST", headers: []string{"Allow"}}
	notAcceptable := want{statuses: []int{http.StatusNotAcceptable}, code: "BAD_REQUEST"}
	unsupported := want{statuses: []int{http.StatusUnsupportedMediaType}, code: "BAD_REQUEST", accept: graphqlResponse}
	malformed := want{statuses: []int{400, 408, 411, 413, 414, 417, 431, 501, 505}, mayClose: true}
	var table []hostileCase
	wire := func(name string, w want, r wireRequest) {
		if r.body == nil && r.method == "" {
			r.body = body
		}
		table = append(table, hostileCase{name: "HTTP: " + name, parts: [][]byte{r.bytes()}, method: r.method, want: w})
	}
	raw := func(name string, w want, text string) {
		table = append(table, hostileCase{name: "HTTP: " + name, parts: [][]byte{[]byte(text)}, want: w, halfClose: true})
	}
	get := func(name string, w want, parameters string, headers ...string) {
		wire(name, w, wireRequest{method: http.MethodGet, target: "/graphql" + parameters, headers: append([]string{"Content-Type", "-"}, headers...)})
	}

	wire("a body one byte above", tooLarge, wireRequest{body: padded(string(body), limit+1)})
	wire("a body one byte above, in chunks", tooLarge, wireRequest{body: padded(string(body), limit+1), chunked: true})
	wire("a body one byte above, accepting "+plainJSON, tooLargePlain, wireRequest{body: padded(string(body), limit+1), headers: []string{"Accept", plainJSON}})
	wire("a body of a megabyte", tooLarge, wireRequest{body: padded(string(body), 1<<20)})
	wire("a body of a megabyte, in chunks", tooLarge, wireRequest{body: padded(string(body), 1<<20), chunked: true})
	wire("order: size before JSON", tooLarge, wireRequest{body: []byte(strings.Repeat("x", limit+1))})
	wire("order: media type before size", unsupported, wireRequest{body: padded(string(body), limit+1), headers: []string{"Content-Type", "text/plain"}})
	wire("order: method before media type", notAllowed, wireRequest{method: http.MethodPut, body: body, headers: []string{"Content-Type", "text/plain", "Accept", "text/html"}})
	wire("order: Accept before JSON", notAcceptable, wireRequest{body: []byte("{"), headers: []string{"Accept", "text/html"}})
	raw("a terabyte is announced", want{statuses: tooLarge.statuses, code: tooLarge.code}, "POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000000000000\r\n\r\n{")

	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch} {
		wire(method, notAllowed, wireRequest{method: method, body: body})
	}
	wire("HEAD", want{statuses: []int{200, 204, 400, 405}}, wireRequest{method: http.MethodHead, target: "/graphql?query=" + query, headers: []string{"Content-Type", "-"}})
	wire("OPTIONS", want{statuses: []int{200, 204, 405}}, wireRequest{method: http.MethodOptions})
	wire("a method that nobody knows", want{statuses: []int{400, 405, 501}, mayClose: true}, wireRequest{method: "BREW", body: body})

	for _, mediaType := range []string{
		"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/graphql", "application/xml",
		"application/json; charset=utf-16", "application/json; charset=utf8", "text/json", "application/jsonp", "application/json-patch+json", "application/vnd.api+json", "json", "*/*",
	} {
		wire("Content-Type: "+mediaType, unsupported, wireRequest{headers: []string{"Content-Type", mediaType}})
	}
	wire("a form", unsupported, wireRequest{body: []byte("query=" + query), headers: []string{"Content-Type", "application/x-www-form-urlencoded"}})
	wire("no Content-Type", want{statuses: []int{400, 415}, code: "BAD_REQUEST"}, wireRequest{headers: []string{"Content-Type", "-"}})
	wire("said to be compressed", unsupported, wireRequest{headers: []string{"Content-Encoding", "br"}})
	wire("compressed, as nobody accepts it", unsupported, wireRequest{
		body: []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"), headers: []string{"Content-Encoding", "gzip"},
	})
	for _, accept := range []string{"text/html", "application/json;q=0", "application/json;q=1.5", "application/json;q=none", "text/*", "image/png, application/xml", "application/jsonp"} {
		wire("Accept: "+accept, notAcceptable, wireRequest{headers: []string{"Accept", accept}})
	}

	get("GET without a query", badRequest, "")
	get("GET with variables that are no JSON", badRequest, "?query="+query+"&variables=%7B")
	get("GET with an array of variables", badRequest, "?query="+query+"&variables=%5B%5D")
	get("GET with extensions that are no object", badRequest, "?query="+query+"&extensions=1")
	get("GET with invalid UTF-8", badRequest, "?query=%7B%20search(text%3A%22%ff%22)%20%7B%20name%20%7D%20%7D")
	get("GET with a broken escape", badRequest, "?query=%zz")
	get("GET accepting text/html", notAcceptable, "?query="+query, "Accept", "text/html")
	mutation := url.QueryEscape(`mutation M { renameArea(id: 1, name: "by GET") { id } } query Q { __typename }`)
	mutationByGet := notAllowed
	mutationByGet.document = true
	get("GET of a mutation", mutationByGet, "?query="+url.QueryEscape(`mutation { renameArea(id: 1, name: "by GET") { id } }`))
	get("GET of a mutation among others", mutationByGet, "?operationName=M&query="+mutation)
	get("GET of a mutation, accepting "+plainJSON, mutationByGet, "?operationName=M&query="+mutation, "Accept", plainJSON)

	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		looked := want{statuses: []int{http.StatusOK, http.StatusNoContent}, headers: []string{"Content-Type"}}
		wire("HEAD "+path, looked, wireRequest{method: http.MethodHead, target: path, headers: []string{"Content-Type", "-"}})
		wire("POST "+path, notAllowed, wireRequest{target: path, body: body})
	}
	wire("POST /profile", notAllowed, wireRequest{target: "/profile", body: body})
	for _, path := range []string{"/nothing", "/graphql/x", "/graphiql/..%2f..%2flimits.json", "/../contract/limits.json", "/livez/../../etc/passwd"} {
		wire("GET "+path, want{statuses: []int{301, 307, 308, 400, 404}, mayClose: true}, wireRequest{method: http.MethodGet, target: path, headers: []string{"Content-Type", "-"}})
	}

	wire("a header of a megabyte", malformed, wireRequest{headers: []string{"X-Huge", strings.Repeat("x", 1<<20)}})
	wire("ten thousand headers", malformed, wireRequest{headers: manyHeaders(10000, 20)})
	get("a target of 200,000 bytes", malformed, "?query="+query+"&x="+strings.Repeat("x", 200000))
	raw("no Host", want{statuses: []int{400, 421}}, "GET /graphql?query="+query+" HTTP/1.1\r\n\r\n")
	const head = "POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
	raw("Content-Length that is no number", malformed, head+"Content-Length: many\r\n\r\n"+string(body))
	raw("Content-Length below 0", malformed, head+"Content-Length: -1\r\n\r\n"+string(body))
	raw("Content-Length beyond 64 bits", malformed, head+"Content-Length: 99999999999999999999999\r\n\r\n"+string(body))
	raw("two Content-Lengths", malformed, head+fmt.Sprintf("Content-Length: %d\r\nContent-Length: %d\r\n\r\n%s", len(body), len(body)-1, body))
	raw("chunks that are none", malformed, head+"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"+string(body))
	raw("a transfer encoding that nobody knows", malformed, head+"Transfer-Encoding: wonders\r\n\r\n"+string(body))
	raw("chunks that end early", malformed, head+"Transfer-Encoding: chunked\r\n\r\n40\r\n{")
	raw("half a body, then the end", malformed, head+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body)+10, body))
	raw("half the headers, then the end", malformed, head)
	raw("half a line, then the end", malformed, "POST /gra")
	raw("no HTTP", malformed, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("\x00\xff", 4000)+"\r\n\r\n")
	raw("lines without end", malformed, strings.Repeat("x", 200000))
	raw("a header without a name", malformed, head+": x\r\nContent-Length: 0\r\n\r\n")
	raw("a zero byte in a header", malformed, head+"X-Zero: a\x00b\r\nContent-Length: 0\r\n\r\n")
	return table
}
