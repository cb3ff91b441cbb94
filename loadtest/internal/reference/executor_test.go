package reference_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/reference"
)

// Each query's answer, written as SQL that makes the JSON by itself.
func TestAnswersAreWhatSQLGives(t *testing.T) {
	conn := connect(t)
	executor := newExecutor(t)
	const dateTime = `to_char(%s at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
	updatedAt := fmt.Sprintf(dateTime, "i.updated_at")
	category := `(select json_build_object('name', c.name) from category c where c.id = i.category_id)`
	weights := make([]string, 32)
	var score []string
	for f := range weights {
		weight := (f*37)%201 - 100
		weights[f] = fmt.Sprint(weight)
		score = append(score, fmt.Sprintf("%d * (get_byte(v.features, %d) - case when get_byte(v.features, %d) > 127 then 256 else 0 end)", weight, f, f))
	}
	for _, row := range []struct {
		name  string
		query string
		sql   string // gives data
	}{
		{"headline Q1", `{ items(first: 20) { id name priceCents category { name } } }`, `
			select json_build_object('items', json_agg(json_build_object('id', i.id::text, 'name', i.name, 'priceCents', i.price_cents,
				'category', ` + category + `) order by i.id)) from item i where i.id <= 20`},
		{"headline Q2", `{ items(first: 20) { id name priceCents category { name } area { name } reviews(first: 3) { rating body author { name } } } }`, `
			select json_build_object('items', json_agg(json_build_object('id', i.id::text, 'name', i.name, 'priceCents', i.price_cents,
				'category', ` + category + `,
				'area', (select json_build_object('name', a.name) from area a where a.id = i.area_id),
				'reviews', coalesce((select json_agg(json_build_object('rating', r.rating, 'body', r.body,
					'author', (select json_build_object('name', u.name) from app_user u where u.id = r.author_id)) order by r.created_at desc, r.id desc)
					from (select * from review where item_id = i.id order by created_at desc, id desc limit 3) r), '[]'::json)) order by i.id))
			from item i where i.id <= 20`},
		{"headline Q3", `{ items(first: 500) { id name description priceCents openedOn updatedAt category { name } } }`, `
			select json_build_object('items', json_agg(json_build_object('id', i.id::text, 'name', i.name, 'description', i.description,
				'priceCents', i.price_cents, 'openedOn', i.opened_on, 'updatedAt', ` + updatedAt + `, 'category', ` + category + `) order by i.id))
			from item i where i.id <= 500`},
		{"statistics of all items", `{ a: items(first: 500) { id reviewStats { count average } } b: items(first: 500, after: 500) { id reviewStats { count average } } }`, `
			with s as (select i.id, json_build_object('id', i.id::text, 'reviewStats', (select json_build_object('count', count(*), 'average', avg(rating)::float8)
				from review r where r.item_id = i.id)) as j from item i)
			select json_build_object('a', (select json_agg(j order by id) from s where id <= 500), 'b', (select json_agg(j order by id) from s where id > 500))`},
		{"items by area and genre after an id", `{ items(areaId: 10, genreId: "10", after: 200) { id } none: items(areaId: 10, genreId: 11) { id } area: items(areaId: 3, first: 5) { id } genre: items(genreId: 3, first: 5, after: 100) { id } }`, `
			select json_build_object(
				'items', (select json_agg(json_build_object('id', id::text) order by id) from (select id from item where area_id = 10 and genre_id = 10 and id > 200 order by id limit 20) x),
				'none', (select coalesce(json_agg(id), '[]') from item where area_id = 10 and genre_id = 11),
				'area', (select json_agg(json_build_object('id', id::text) order by id) from (select id from item where area_id = 3 order by id limit 5) x),
				'genre', (select json_agg(json_build_object('id', id::text) order by id) from (select id from item where genre_id = 3 and id > 100 order by id limit 5) x))`},
		{"categories with items", `{ categories { id name items(first: 3) { id } } }`, `
			select json_build_object('categories', json_agg(json_build_object('id', c.id::text, 'name', c.name, 'items',
				(select coalesce(json_agg(json_build_object('id', i.id::text) order by i.id), '[]') from (select id from item where category_id = c.id order by id limit 3) i)) order by c.id))
			from category c`},
		{"reviews of a user", `{ item(id: 2) { owner { id reviews(first: 500) { id createdAt item { id } } } } }`, `
			select json_build_object('item', json_build_object('owner', json_build_object('id', i.owner_id::text, 'reviews',
				(select json_agg(json_build_object('id', r.id::text, 'createdAt', ` + fmt.Sprintf(dateTime, "r.created_at") + `, 'item', json_build_object('id', r.item_id::text))
					order by r.created_at desc, r.id desc) from review r where r.author_id = i.owner_id)))) from item i where i.id = 2`},
		{"search by type, then id", `{ search(text: "Area 1", first: 500) { __typename id name } items: search(text: "Item 10", first: 7) { id } all: search(text: "", first: 500) { __typename } }`, `
			select json_build_object(
				'search', (select json_agg(json_build_object('__typename', 'Area', 'id', id::text, 'name', name) order by id) from area where starts_with(name, 'Area 1')),
				'items', (select json_agg(json_build_object('id', id::text) order by id) from (select id from item where starts_with(name, 'Item 10') order by id limit 7) x),
				'all', (select json_agg(json_build_object('__typename', k)) from (
					select k from (select 1 n, 'Area' k, id from area union all select 2, 'Genre', id from genre union all select 3, 'Category', id from category union all select 4, 'Item', id from item) x
					order by n, id limit 500) y))`},
		{"ranking", `{ ranking(weights: [` + strings.Join(weights, ",") + `], first: 25) { score item { id } } }`, `
			select json_build_object('ranking', json_agg(json_build_object('score', score, 'item', json_build_object('id', item_id::text)) order by score desc, item_id))
			from (select v.item_id, ` + strings.Join(score, " + ") + ` as score from item_vector v order by score desc, v.item_id limit 25) x`},
		{"ranking of ties in an area", `{ ranking(weights: [` + strings.TrimSuffix(strings.Repeat("0,", 32), ",") + `], first: 5, areaId: 10) { score item { id } } }`, `
			select json_build_object('ranking', json_agg(json_build_object('score', 0, 'item', json_build_object('id', id::text)) order by id))
			from (select id from item where area_id = 10 order by id limit 5) x`},
		{"business days", `{ a: businessDay(from: "2023-12-28", days: 400) b: businessDay(from: "2030-12-01", days: 40) }`, `
			select json_build_object('a', (select d::date from generate_series(date '2023-12-29', date '2030-01-01', '1 day') d
					where extract(isodow from d) < 6 and d::date not in (select day from holiday) order by d offset 399 limit 1),
				'b', (select d::date from generate_series(date '2030-12-02', date '2032-01-01', '1 day') d
					where extract(isodow from d) < 6 and d::date not in (select day from holiday) order by d offset 39 limit 1))`},
		{"rows that are missing", `{ gone: item(id: 97) { owner { id } } none: item(id: 1001) { id } zero: item(id: 0) { id } beyond: item(id: "4294967297") { id } bare: item(id: 19) { reviews { id } } free: item(id: 11) { category { id } } }`, `
			select json_build_object('gone', json_build_object('owner', (select u.id from app_user u join item i on i.owner_id = u.id where i.id = 97)),
				'none', null, 'zero', null, 'beyond', null, 'bare', json_build_object('reviews', (select coalesce(json_agg(id), '[]') from review where item_id = 19)),
				'free', json_build_object('category', (select category_id from item where id = 11)))`},
	} {
		t.Run(row.name, func(t *testing.T) {
			var data []byte
			require.NoError(t, conn.QueryRow(t.Context(), row.sql).Scan(&data))
			require.NotEmpty(t, data)
			response := executor.Execute(reference.Request{Query: row.query})
			assert.Nil(t, reference.Compare([]byte(`{"data":`+string(data)+`}`), response.JSON()))
		})
	}
}

func TestMutationsAreWhatSQLGives(t *testing.T) {
	conn := connect(t)
	executor := newExecutor(t)
	var before int
	require.NoError(t, conn.QueryRow(t.Context(), `select max(id) from review`).Scan(&before))
	for _, ratings := range [][]int{{1}, {5, 4}, {2, 2, 3}, {1, 5, 1, 5, 2}} {
		for _, item := range []int{1, 8, 19, 500} {
			tx, err := conn.Begin(t.Context())
			require.NoError(t, err)
			query := "mutation {"
			want := `{"data":{`
			for i, rating := range ratings {
				_, err := tx.Exec(t.Context(), `insert into review (id, item_id, author_id, rating, body, created_at) values ($1, $2, 3, $3, 'x', now() + $4 * interval '1 second')`,
					before+1+i, item, rating, i)
				require.NoError(t, err)
				query += fmt.Sprintf(` m%d: addReview(input: {itemId: %d, authorId: 3, rating: %d, body: "x"}) { ... on ReviewAdded { review { id item { reviews(first: 2) { id } reviewStats { count average } } } } }`, i, item, rating)
				var data []byte
				require.NoError(t, tx.QueryRow(t.Context(), `
					select json_build_object('review', json_build_object('id', max(id)::text, 'item', json_build_object(
						'reviews', (select json_agg(json_build_object('id', id::text) order by created_at desc, id desc) from (select id, created_at from review where item_id = $1 order by created_at desc, id desc limit 2) x),
						'reviewStats', (select json_build_object('count', count(*), 'average', avg(rating)::float8) from review where item_id = $1)))) from review`, item).Scan(&data))
				want += fmt.Sprintf(`"m%d":%s,`, i, data)
			}
			require.NoError(t, tx.Rollback(t.Context()))
			want = strings.TrimSuffix(want, ",") + "}}"
			response := executor.Execute(reference.Request{Query: query + "}"})
			assert.Nil(t, reference.Compare([]byte(want), response.JSON()), "item %d, ratings %v", item, ratings)
		}
	}
}

func TestAMutationLeavesNothingBehind(t *testing.T) {
	executor := newExecutor(t)
	read := reference.Request{Query: `{ areas { id name } item(id: 1) { area { name } reviews(first: 500) { id } reviewStats { count average } } item2: item(id: 2) { owner { reviews { id } } } }`}
	before := string(executor.Execute(read).JSON())
	write := reference.Request{Query: `mutation {
		renameArea(id: 10, name: "Other") { name }
		addReview(input: {itemId: 1, authorId: 1, rating: 1, body: "x"}) { ... on ReviewAdded { review { id item { area { name } } } } } }`}
	first := executor.Execute(write)
	assert.Contains(t, string(first.JSON()), `"area":{"name":"Other"}`, "later fields see what earlier ones wrote")
	assert.Equal(t, string(first.JSON()), string(executor.Execute(write).JSON()))
	assert.Equal(t, before, string(executor.Execute(read).JSON()))
}

func TestWhatNobodyCanForetell(t *testing.T) {
	executor := newExecutor(t)
	add := func(selection string) *reference.Response {
		return executor.Execute(reference.Request{Query: `mutation { addReview(input: {itemId: 1, authorId: 1, rating: 1, body: "x"}) { ... on ReviewAdded { review { ` + selection + ` } } } }`})
	}
	assert.NoError(t, add(`id author { reviews { id } }`).Unforeseeable)
	assert.ErrorContains(t, add(`createdAt`).Unforeseeable, "createdAt")
	assert.ErrorContains(t, add(`item { reviews(first: 1) { createdAt } }`).Unforeseeable, "createdAt")
}

// Section 6.4.4 of the specification, on our schema.
func TestNullsPropagateToTheNextNullableField(t *testing.T) {
	executor := newExecutor(t)
	for _, row := range []struct {
		name  string
		query string
		want  string
	}{
		{"a nullable field that fails is null itself", `{ item(id: "x") { id } areas @skip(if: true) { id } }`,
			`{"errors":[{"path":["item"],"extensions":{"code":"BAD_USER_INPUT"}}],"data":{"item":null}}`},
		{"a non-null field nulls the object that holds it", `{ item(id: 1) { id reviews(first: -1) { id } } other: item(id: 2) { id } }`,
			`{"errors":[{"path":["item","reviews"],"extensions":{"code":"BAD_USER_INPUT"}}],"data":{"item":null,"other":{"id":"2"}}}`},
		{"the nearest nullable field, however deep", `{ item(id: 1) { id owner { id reviews(first: 501) { id } } } }`,
			`{"errors":[{"path":["item","owner","reviews"],"extensions":{"code":"BAD_USER_INPUT"}}],"data":{"item":{"id":"1","owner":null}}}`},
		{"through a list of non-null elements", `{ item(id: 1) { id reviews(first: 2) { item { reviews(first: 501) { id } } } } }`,
			`{"errors":[{"path":["item","reviews",0,"item","reviews"],"extensions":{"code":"BAD_USER_INPUT"}},{"path":["item","reviews",1,"item","reviews"],"extensions":{"code":"BAD_USER_INPUT"}}],"data":{"item":null}}`},
		{"one element's nullable field leaves the others alone", `{ items(first: 2, after: 6) { id owner { reviews(first: -1) { id } } } }`,
			`{"errors":[{"path":["items",1,"owner","reviews"],"extensions":{"code":"BAD_USER_INPUT"}}],"data":{"items":[{"id":"7","owner":null},{"id":"8","owner":null}]}}`},
		{"to the top", `{ areas { id } items(first: 1) { reviews(first: -1) { id } } }`,
			`{"errors":[{"path":["items",0,"reviews"],"extensions":{"code":"BAD_USER_INPUT"}}],"data":null}`},
		{"aliases stand in the path", `{ a: item(id: 1) { b: reviews(first: -1) { id } } }`,
			`{"errors":[{"path":["a","b"],"extensions":{"code":"BAD_USER_INPUT"}}],"data":{"a":null}}`},
		{"nothing to fail on", `{ items(first: 0) { reviews(first: -1) { id } } item(id: 7) { owner { reviews(first: -1) { id } } } }`,
			`{"data":{"items":[],"item":{"owner":null}}}`},
		{"an upstream failure", `{ quote(itemId: 1001, guests: 1) { totalCents } }`,
			`{"errors":[{"path":["quote"],"extensions":{"code":"UPSTREAM_FAILED"}}],"data":null}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.JSONEq(t, row.want, string(executor.Execute(reference.Request{Query: row.query}).JSON()))
		})
	}
}

func TestArgumentChecks(t *testing.T) {
	executor := newExecutor(t)
	weights := func(n int, last string) string { return "[" + strings.Repeat("1, ", n-1) + last + "]" }
	review := func(itemID, authorID, rating, body string) string {
		return fmt.Sprintf(`mutation { addReview(input: {itemId: %s, authorId: %s, rating: %s, body: %s}) { __typename ... on ItemNotFound { itemId } ... on AuthorNotFound { authorId } } }`, itemID, authorID, rating, body)
	}
	for _, row := range []struct {
		name  string
		query string
		want  string // data, or what stands at the failing path
	}{
		{"first at its least", `{ items(first: 0) { id } }`, `{"items":[]}`},
		{"first at its most", `{ items(first: 500, after: 999) { id } }`, `{"items":[{"id":"1000"}]}`},
		{"first too small", `{ items(first: -1) { id } }`, "BAD_USER_INPUT"},
		{"first too large", `{ items(first: 501) { id } }`, "BAD_USER_INPUT"},
		{"ranking's first too large", `{ ranking(weights: ` + weights(32, "1") + `, first: 101) { score } }`, "BAD_USER_INPUT"},
		{"31 weights", `{ ranking(weights: ` + weights(31, "1") + `) { score } }`, "BAD_USER_INPUT"},
		{"33 weights", `{ ranking(weights: ` + weights(33, "1") + `) { score } }`, "BAD_USER_INPUT"},
		{"a weight too small", `{ ranking(weights: ` + weights(32, "-1001") + `) { score } }`, "BAD_USER_INPUT"},
		{"a weight at its most", `{ ranking(weights: ` + weights(32, "1000") + `, first: 0) { score } }`, `{"ranking":[]}`},
		{"days too many", `{ businessDay(from: "2026-01-01", days: 3651) }`, "BAD_USER_INPUT"},
		{"days below 0", `{ businessDay(from: "2026-01-01", days: -1) }`, "BAD_USER_INPUT"},
		{"no days", `{ businessDay(from: "2026-01-01", days: 0) }`, `{"businessDay":"2026-01-01"}`},
		{"no guests", `{ quote(itemId: 1, guests: 0) { guests } }`, "BAD_USER_INPUT"},
		{"100 guests", `{ quote(itemId: 3, guests: 100) { itemId guests totalCents currency } }`, `{"quote":{"itemId":"3","guests":100,"totalCents":111100,"currency":"EUR"}}`},
		{"guests are checked before the item", `{ quote(itemId: 5000, guests: 101) { guests } }`, "BAD_USER_INPUT"},
		{"an id with a leading zero", `{ item(id: "01") { id } }`, "BAD_USER_INPUT"},
		{"an id with a sign", `{ item(id: "+1") { id } }`, "BAD_USER_INPUT"},
		{"an id of other digits", `{ item(id: "١") { id } }`, "BAD_USER_INPUT"},
		{"a very long id", `{ item(id: "` + strings.Repeat("9", 1000) + `") { id } }`, `{"item":null}`},
		{"U+0000", `{ search(text: "a\u0000") { id } }`, "BAD_USER_INPUT"},
		{"rating too small", review("1", "1", "0", `"x"`), "BAD_USER_INPUT"},
		{"empty body", review("1", "1", "1", `""`), "BAD_USER_INPUT"},
		{"body of 2,000 code points", review("5000", "1", "1", `"`+strings.Repeat("🏝", 2000)+`"`), `{"addReview":{"__typename":"ItemNotFound","itemId":"5000"}}`},
		{"body of 2,001 code points", review("5000", "1", "1", `"`+strings.Repeat("🏝", 2001)+`"`), "BAD_USER_INPUT"},
		{"item not found comes first", review(`"99999999999"`, "5000", "1", `"x"`), `{"addReview":{"__typename":"ItemNotFound","itemId":"99999999999"}}`},
		{"author not found", review("1", `"4294967297"`, "1", `"x"`), `{"addReview":{"__typename":"AuthorNotFound","authorId":"4294967297"}}`},
		{"a name is trimmed", `mutation { renameArea(id: 1, name: " \t\r\n x y \n") { name } }`, `{"renameArea":{"name":"x y"}}`},
		{"of no other white space", `mutation { renameArea(id: 1, name: "\u00a0") { name } }`, "{\"renameArea\":{\"name\":\"\u00a0\"}}"},
		{"a name of white space", `mutation { renameArea(id: 1, name: " \n") { name } }`, "BAD_USER_INPUT"},
		{"a name of 201 code points", `mutation { renameArea(id: 1, name: "` + strings.Repeat("é", 201) + `") { name } }`, "BAD_USER_INPUT"},
		{"an area that is not there", `mutation { renameArea(id: 41, name: "x") { name } }`, `{"renameArea":null}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			response := executor.Execute(reference.Request{Query: row.query})
			if strings.HasPrefix(row.want, "{") {
				assert.JSONEq(t, `{"data":`+row.want+`}`, string(response.JSON()))
				return
			}
			require.Len(t, response.Errors, 1)
			assert.False(t, response.RequestError)
			assert.Equal(t, row.want, response.Errors[0].Code)
			assert.Len(t, response.Errors[0].Path, 1)
		})
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	executor := newExecutor(t)
	for _, row := range []struct {
		name    string
		request reference.Request
		code    string // empty: not refused
	}{
		{"empty", reference.Request{Query: " # nothing\n"}, "GRAPHQL_PARSE_FAILED"},
		{"unclosed", reference.Request{Query: "{ areas { id }"}, "GRAPHQL_PARSE_FAILED"},
		{"unclosed string", reference.Request{Query: `{ search(text: "x) { id } }`}, "GRAPHQL_PARSE_FAILED"},
		{"too long comes before what cannot be parsed", reference.Request{Query: strings.Repeat("{ ", 2001)}, "QUERY_TOO_LONG"},
		{"unknown field", reference.Request{Query: "{ shops }"}, "GRAPHQL_VALIDATION_FAILED"},
		{"unknown directive of the library", reference.Request{Query: "{ areas { ... @defer { id } } }"}, "GRAPHQL_VALIDATION_FAILED"},
		{"no such day, as a literal", reference.Request{Query: `{ businessDay(from: "2026-02-30", days: 1) }`}, "GRAPHQL_VALIDATION_FAILED"},
		{"no such day, as a default", reference.Request{Query: `query ($d: Date = "2026-13-01") { businessDay(from: $d, days: 1) }`}, "GRAPHQL_VALIDATION_FAILED"},
		{"a day as an integer literal", reference.Request{Query: `{ businessDay(from: 20260101, days: 1) }`}, "GRAPHQL_VALIDATION_FAILED"},
		{"no such day, as a variable", reference.Request{Query: `query ($d: Date!) { businessDay(from: $d, days: 1) }`, Variables: json.RawMessage(`{"d":"2026-02-30"}`)}, "BAD_USER_INPUT"},
		{"leap day", reference.Request{Query: `query ($d: Date!) { businessDay(from: $d, days: 1) }`, Variables: json.RawMessage(`{"d":"2028-02-29"}`)}, ""},
		{"leap day of a year without", reference.Request{Query: `query ($d: Date!) { businessDay(from: $d, days: 1) }`, Variables: json.RawMessage(`{"d":"2027-02-29"}`)}, "BAD_USER_INPUT"},
		{"an int literal beyond 32 bits", reference.Request{Query: `{ items(first: 2147483648) { id } }`}, "GRAPHQL_VALIDATION_FAILED"},
		{"an int literal beyond 32 bits, nested", reference.Request{Query: `mutation { addReview(input: {itemId: 1, authorId: 1, rating: 4294967297, body: "x"}) { __typename } }`}, "GRAPHQL_VALIDATION_FAILED"},
		{"an id literal beyond 32 bits", reference.Request{Query: `{ item(id: 2147483648) { id } }`}, ""},
		{"no name where there are two", reference.Request{Query: `query A { areas { id } } query B { areas { id } }`}, "OPERATION_RESOLUTION_FAILURE"},
		{"unknown name", reference.Request{Query: `query A { areas { id } }`, OperationName: "B"}, "OPERATION_RESOLUTION_FAILURE"},
		{"the named one counts for variables", reference.Request{Query: `query A { areas { id } } query B($x: ID!) { item(id: $x) { id } }`, OperationName: "A"}, ""},
		{"the named one alone counts for depth", reference.Request{Query: `query A { areas { id } } query B { item(id: 1) { category { items { category { items { category { items { category { items { category { id } } } } } } } } } } }`, OperationName: "A"}, ""},
		{"a fraction for an ID", reference.Request{Query: `query ($x: ID!) { item(id: $x) { id } }`, Variables: json.RawMessage(`{"x":1.5}`)}, "BAD_USER_INPUT"},
		{"a null variable of a non-null type", reference.Request{Query: `query ($x: Int! = 3) { items(first: $x) { id } }`, Variables: json.RawMessage(`{"x":null}`)}, "BAD_USER_INPUT"},
		{"a variable comes before the depth", reference.Request{Query: `query ($x: ID!) { item(id: $x) { category { items { category { items { category { items { category { items { category { id } } } } } } } } } } }`}, "BAD_USER_INPUT"},
		{"depth comes before aliases and cost", reference.Request{Query: `{ item(id: 1) { category { items(first: 500) { category { items(first: 500) { category { items { category { items { category { id } } } } } } } } } } }`}, "QUERY_TOO_DEEP"},
		{"variables that are null", reference.Request{Query: `{ areas { id } }`, Variables: json.RawMessage(`null`)}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			response := executor.Execute(row.request)
			assert.Equal(t, row.code != "", response.RequestError)
			if row.code == "" {
				assert.Empty(t, response.Errors)
				return
			}
			assert.Equal(t, []reference.Error{{Code: row.code}}, response.Errors)
			assert.JSONEq(t, `{"errors":[{"extensions":{"code":"`+row.code+`"}}]}`, string(response.JSON()))
			for setting, counts := range response.Statements {
				assert.Empty(t, counts, setting)
			}
		})
	}
}

func TestFieldsStandInTheOrderOfTheSpecification(t *testing.T) {
	executor := newExecutor(t)
	for _, row := range []struct {
		name  string
		query string
		want  string
	}{
		{"as selected", `{ areas @skip(if: true) { id } item(id: 1) { name id } }`, `{"data":{"item":{"name":"Item 1 e1576def4e","id":"1"}}}`},
		{"a fragment's fields stand where it is spread", `{ item(id: 1) { ...F area { id } } } fragment F on Item { genre { id } id }`, `{"data":{"item":{"genre":{"id":"10"},"id":"1","area":{"id":"10"}}}}`},
		{"merged fields stand where the first one does", `{ item(id: 1) { area { id } id area { __typename } ... on Named { id } } }`, `{"data":{"item":{"area":{"id":"10","__typename":"Area"},"id":"1"}}}`},
		{"a skipped field holds no place", `{ item(id: 1) { id @skip(if: true) genre { id } id } }`, `{"data":{"item":{"genre":{"id":"10"},"id":"1"}}}`},
		{"an unfitting fragment adds nothing", `{ search(text: "Area 10", first: 1) { ... on Item { priceCents } id ... on Area { __typename } } }`, `{"data":{"search":[{"id":"10","__typename":"Area"}]}}`},
		{"nothing left", `{ item(id: 1) { id @skip(if: true) } }`, `{"data":{"item":{}}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, string(executor.Execute(reference.Request{Query: row.query}).JSON()))
		})
	}
}

func TestVariables(t *testing.T) {
	executor := newExecutor(t)
	const query = `query ($first: Int, $after: ID = "10", $list: [Int!]! = [1]) { items(first: $first, after: $after) { id } none: ranking(weights: $list, first: 0) @skip(if: true) { score } }`
	for _, row := range []struct {
		name      string
		variables string
		count     int
		firstID   string
	}{
		{"absent ones take the default of argument and variable", `{}`, 20, "11"},
		{"given ones count", `{"first":2,"after":3}`, 2, "4"},
		{"null overrides the variable's default", `{"first":1,"after":null}`, 1, "1"},
		{"an integral number in another form", `{"first":2e0}`, 2, "11"},
		{"others are ignored", `{"first":1,"third":{}}`, 1, "11"},
		{"one value for a list", `{"first":1,"list":7}`, 1, "11"},
	} {
		t.Run(row.name, func(t *testing.T) {
			response := executor.Execute(reference.Request{Query: query, Variables: json.RawMessage(row.variables)})
			require.Empty(t, response.Errors)
			list, _ := response.Data.Get("items")
			assert.Len(t, list, row.count)
			id, _ := list.([]any)[0].(*reference.Object).Get("id")
			assert.Equal(t, row.firstID, id)
		})
	}
	response := executor.Execute(reference.Request{Query: query, Variables: json.RawMessage(`{"first":null}`)})
	assert.Equal(t, []reference.Error{{Path: []any{"items"}, Code: "BAD_USER_INPUT"}}, response.Errors, "null where the argument is non-null")
}

func TestIntrospectionIsTheSchema(t *testing.T) {
	executor := newExecutor(t)
	answer := func(query string) string { return string(executor.Execute(reference.Request{Query: query}).JSON()) }
	assert.Equal(t, `{"data":{"__type":{"kind":"INTERFACE","name":"Named","description":"What can be found by its name.","fields":[{"name":"id"},{"name":"name"}],"interfaces":[],"possibleTypes":[{"name":"Area"},{"name":"Genre"},{"name":"Category"},{"name":"Item"}],"inputFields":null,"enumValues":null}}}`,
		answer(`{ __type(name: "Named") { kind name description fields { name } interfaces { name } possibleTypes { name } inputFields { name } enumValues { name } } }`))
	assert.Equal(t, `{"data":{"__type":{"fields":[{"name":"id","args":[],"type":{"kind":"NON_NULL","name":null,"ofType":{"kind":"SCALAR","name":"ID"}}},{"name":"name","args":[],"type":{"kind":"NON_NULL","name":null,"ofType":{"kind":"SCALAR","name":"String"}}},{"name":"reviews","args":[{"name":"first","defaultValue":"3"}],"type":{"kind":"NON_NULL","name":null,"ofType":{"kind":"LIST","name":null}}}]}}}`,
		answer(`{ __type(name: "User") { fields { name args { name defaultValue } type { kind name ofType { kind name } } } } }`))
	assert.Equal(t, `{"data":{"__type":null}}`, answer(`{ __type(name: "Shop") { name } }`))
	assert.Contains(t, answer(`{ __schema { directives { name } } }`), `[{"name":"deprecated"},{"name":"include"},{"name":"skip"},{"name":"specifiedBy"}]`)
	assert.Contains(t, answer(`{ __schema { types { name } } }`), `"types":[{"name":"Date"},{"name":"DateTime"},{"name":"Named"},{"name":"Query"}`)
}
