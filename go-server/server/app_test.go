package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const contractDir = "../../contract"

// databaseURL is a database seeded for tests, which whoever runs them provides.
func databaseURL(tb testing.TB) string {
	tb.Helper()
	url := os.Getenv("TEST_DATABASE_URL")
	require.NotEmpty(tb, url, "TEST_DATABASE_URL must name a freshly seeded small database")
	return url
}

// startApp starts the application over the test database and waits until it is ready.
func startApp(tb testing.TB, environment map[string]string) *App {
	tb.Helper()
	all := map[string]string{"CONTRACT_DIR": contractDir, "DATABASE_URL": databaseURL(tb), "POOL_SIZE": "6", "LOG_LEVEL": "error"}
	for name, value := range environment {
		all[name] = value
	}
	settings, err := LoadSettings(func(name string) string { return all[name] })
	require.NoError(tb, err)
	app, err := NewApp(settings, slog.New(slog.DiscardHandler))
	require.NoError(tb, err)
	app.Start()
	tb.Cleanup(app.Close)
	require.Eventually(tb, app.ready.Load, 20*time.Second, 5*time.Millisecond)
	return app
}

func readOperation(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(contractDir, "operations", name, "query.graphql"))
	require.NoError(tb, err)
	return string(text)
}

// connect opens a connection of the test's own.
func connect(tb testing.TB) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(context.Background(), databaseURL(tb))
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// sqlText is the one text that a statement of the test's own gives.
func sqlText(tb testing.TB, sql string, arguments ...any) string {
	tb.Helper()
	var out string
	require.NoError(tb, connect(tb).QueryRow(context.Background(), sql, arguments...).Scan(&out))
	return out
}

// answer is what came back from the handler.
type answer struct {
	status int
	header http.Header
	body   string
}

// code is the first error's.
func (a answer) code(tb testing.TB) string {
	tb.Helper()
	var body struct {
		Errors []struct {
			Extensions struct{ Code string }
		}
	}
	require.NoError(tb, json.Unmarshal([]byte(a.body), &body), a.body)
	if len(body.Errors) == 0 {
		return codeOK
	}
	return body.Errors[0].Extensions.Code
}

func send(handler http.Handler, method, target, body string, header map[string]string) answer {
	r := httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	for name, value := range header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// post asks as a GraphQL client does. variables is JSON.
func post(handler http.Handler, query, variables string) answer {
	if variables == "" {
		variables = "null"
	}
	return send(handler, http.MethodPost, "/graphql",
		`{"query":`+string(appendJSONString(nil, query))+`,"variables":`+variables+`}`,
		map[string]string{"Content-Type": "application/json", "Accept": "application/graphql-response+json"})
}

// statementCounts are what lab_statements_total has for each statement that was sent.
func statementCounts(tb testing.TB, app *App) map[string]int {
	tb.Helper()
	families, err := app.metrics.registry.Gather()
	require.NoError(tb, err)
	counts := map[string]int{}
	for _, family := range families {
		if family.GetName() == "lab_statements_total" {
			for _, m := range family.GetMetric() {
				if n := int(m.GetCounter().GetValue()); n > 0 {
					counts[m.GetLabel()[0].GetValue()] = n
				}
			}
		}
	}
	return counts
}

// statementsOf counts the statements that f causes.
func statementsOf(tb testing.TB, app *App, f func()) map[string]int {
	tb.Helper()
	before := statementCounts(tb, app)
	f()
	after := statementCounts(tb, app)
	for name, n := range before {
		if after[name] -= n; after[name] == 0 {
			delete(after, name)
		}
	}
	return after
}

// goldenSQL gives the headline operations' answers out of the database alone.
var goldenSQL = map[string]string{
	"q1": `select json_build_object('data', json_build_object('items', json_agg(json_build_object(
		'id', i.id::text, 'name', i.name, 'priceCents', i.price_cents,
		'category', (select json_build_object('name', name) from category where id = i.category_id)) order by i.id)))::text
		from (select * from item order by id limit 20) i`,
	"q2": `select json_build_object('data', json_build_object('items', json_agg(json_build_object(
		'id', i.id::text, 'name', i.name, 'priceCents', i.price_cents,
		'category', (select json_build_object('name', name) from category where id = i.category_id),
		'area', (select json_build_object('name', name) from area where id = i.area_id),
		'reviews', (select coalesce(json_agg(json_build_object('rating', r.rating, 'body', r.body,
			'author', (select json_build_object('name', name) from app_user where id = r.author_id))
			order by r.created_at desc, r.id desc), '[]')
			from (select * from review where item_id = i.id order by created_at desc, id desc limit 3) r)) order by i.id)))::text
		from (select * from item order by id limit 20) i`,
	"q3": `select json_build_object('data', json_build_object('items', json_agg(json_build_object(
		'id', i.id::text, 'name', i.name, 'description', i.description, 'priceCents', i.price_cents,
		'openedOn', to_char(i.opened_on, 'YYYY-MM-DD'),
		'updatedAt', to_char(i.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
		'category', (select json_build_object('name', name) from category where id = i.category_id)) order by i.id)))::text
		from (select * from item order by id limit 500) i`,
}

func TestApp(t *testing.T) {
	t.Run("app serves the golden operation", func(t *testing.T) {
		for _, environment := range []map[string]string{
			{}, {"LOADER": "off"}, {"MASTER": "none"}, {"START": "sequential"}, {"TIER": "floor"}, {"TIER": "floor", "MASTER": "none"},
		} {
			handler := startApp(t, environment).Handler()
			for operation, sql := range goldenSQL {
				got := post(handler, readOperation(t, operation), "")
				assert.Equal(t, http.StatusOK, got.status)
				assert.JSONEq(t, sqlText(t, sql), got.body, "%s %v", operation, environment)
			}
		}
	})

	t.Run("the floor writes what the mainstream tier writes", func(t *testing.T) {
		mainstream, floor := startApp(t, nil).Handler(), startApp(t, map[string]string{"TIER": "floor"}).Handler()
		for operation := range goldenSQL {
			query := readOperation(t, operation)
			one, other := post(mainstream, query, ""), post(floor, query, "")
			assert.Equal(t, one.body, other.body)
			assert.Equal(t, one.header, other.header)
		}
		refused := post(floor, "{items{id}}", "")
		assert.Equal(t, http.StatusNotImplemented, refused.status)
		assert.Equal(t, codeNotInThisTier, refused.code(t))
	})
}

// TestOperations asks every operation of the contract that changes nothing, in every setting, and compares the answer
// and the statements with what was derived from SQL.
func TestOperations(t *testing.T) {
	folders, err := os.ReadDir(filepath.Join(contractDir, "operations"))
	require.NoError(t, err)
	// The price service whose prices are in the expected answers.
	prices := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		item, _ := strconv.Atoi(r.URL.Query().Get("itemId"))
		guests, _ := strconv.Atoi(r.URL.Query().Get("guests"))
		if item < 1 || item > 1000 {
			http.NotFound(w, r)
			return
		}
		_, _ = fmt.Fprintf(w, `{"totalCents":%d,"currency":"EUR"}`, (item*37%9000+1000)*guests)
	}))
	t.Cleanup(prices.Close)
	for setting, environment := range map[string]map[string]string{
		"default": {}, "LOADER=off": {"LOADER": "off"}, "MASTER=none": {"MASTER": "none"}, "LOADER=off+MASTER=none": {"LOADER": "off", "MASTER": "none"},
	} {
		environment["UPSTREAM_URL"] = prices.URL
		app := startApp(t, environment)
		handler := app.Handler()
		asked := 0
		for _, folder := range folders {
			path := filepath.Join(contractDir, "operations", folder.Name())
			query, err := os.ReadFile(filepath.Join(path, "query.graphql"))
			if err != nil || strings.HasPrefix(folder.Name(), "introspection") || strings.Contains(string(query), "mutation") {
				continue // of those, other tests take care
			}
			asked++
			t.Run(setting+"/"+folder.Name(), func(t *testing.T) {
				read := func(file string, into any) []byte {
					text, err := os.ReadFile(filepath.Join(path, file))
					require.NoError(t, err)
					require.NoError(t, json.Unmarshal(text, into))
					return text
				}
				var variables map[string]any
				given := read("variables.json", &variables)
				var name struct{ OperationName *string }
				if _, err := os.Stat(filepath.Join(path, "operation.json")); err == nil {
					read("operation.json", &name)
				}
				body := `{"query":` + string(appendJSONString(nil, string(query))) + `,"variables":` + string(given)
				if name.OperationName != nil {
					body += `,"operationName":` + string(appendJSONString(nil, *name.OperationName))
				}
				type errorEntry struct {
					Path       []any
					Extensions struct{ Code string }
				}
				type outcome struct {
					Data   json.RawMessage
					Errors []errorEntry
				}
				var want, got outcome
				read("expected.json", &want)
				var statements map[string]map[string][2]int
				read("statements.json", &statements)

				counts := statementsOf(t, app, func() {
					answer := send(handler, http.MethodPost, "/graphql", body+"}", map[string]string{"Content-Type": plainJSON})
					require.NoError(t, json.Unmarshal([]byte(answer.body), &got))
				})
				for statement, n := range counts {
					assert.Contains(t, statements[setting], statement)
					assert.LessOrEqual(t, n, statements[setting][statement][1], statement)
				}
				for statement, bounds := range statements[setting] {
					assert.GreaterOrEqual(t, counts[statement], bounds[0], statement)
				}
				if want.Data == nil {
					require.NotEmpty(t, got.Errors)
					assert.Equal(t, want.Errors[0].Extensions.Code, got.Errors[0].Extensions.Code)
					assert.Nil(t, got.Data)
					return
				}
				assert.JSONEq(t, string(want.Data), string(got.Data))
				assert.Equal(t, len(want.Errors) > 0, len(got.Errors) > 0)
				for _, e := range got.Errors {
					assert.Contains(t, want.Errors, e)
				}
			})
		}
		require.Greater(t, asked, 30)
	}
}

func TestStatements(t *testing.T) {
	const deep = `{ items(first: 20, after: 10) {
		category { items(first: 2) { id owner { name } } } owner { reviews(first: 2) { item { id } } } editor { reviews(first: 2) { id } }
		a: reviews(first: 1) { id } b: reviews(first: 2) { author { id } } c: reviews(first: 2) { body } } }`
	cases := []struct {
		name, query string
		environment map[string]string
		// low and high bound the statements; where two fields of a level share a loader they differ.
		low, high map[string]int
	}{
		{name: "q1", query: readOperation(t, "q1"), low: map[string]int{"items": 1, "categories_by_ids": 1}},
		{name: "q2", query: readOperation(t, "q2"), low: map[string]int{"items": 1, "categories_by_ids": 1, "reviews_by_item_ids": 1, "users_by_ids": 1}},
		{name: "q3", query: readOperation(t, "q3"), low: map[string]int{"items": 1, "categories_by_ids": 1}},
		{name: "q2 without master data in memory", query: readOperation(t, "q2"), environment: map[string]string{"MASTER": "none"},
			low: map[string]int{"items": 1, "categories_by_ids": 1, "reviews_by_item_ids": 1, "users_by_ids": 1, "areas_by_ids": 1}},
		{name: "q1 without loaders", query: readOperation(t, "q1"), environment: map[string]string{"LOADER": "off"}, low: map[string]int{"items": 1, "categories_by_ids": 19}},
		{name: "two aliases without loaders", query: "{items(first:5){a:category{id} b:category{id}}}", environment: map[string]string{"LOADER": "off"}, low: map[string]int{"items": 1, "categories_by_ids": 10}},
		{name: "deep", query: deep,
			low:  map[string]int{"items": 1, "categories_by_ids": 1, "items_by_category_ids": 1, "reviews_by_item_ids": 2, "users_by_ids": 2, "reviews_by_user_ids": 1, "items_by_ids": 1},
			high: map[string]int{"items": 1, "categories_by_ids": 1, "items_by_category_ids": 1, "reviews_by_item_ids": 2, "users_by_ids": 4, "reviews_by_user_ids": 2, "items_by_ids": 1}},
		{name: "search over types", query: `{search(text:"",first:500){...on Item{category{name}} ...on Category{items(first:1){id}}}}`,
			low: map[string]int{"search": 1, "categories_by_ids": 1, "items_by_category_ids": 1}},
		{name: "no keys", query: `{items(first:1,after:10){category{items{id}}}}`, low: map[string]int{"items": 1}},
		{name: "skipped", query: `query($no:Boolean=false){items(first:2){id category @include(if:$no){name} reviews @skip(if:true){id}}}`, low: map[string]int{"items": 1}},
		{name: "bad page sizes", query: `{items(first:2){reviews(first:501){id}}}`, low: map[string]int{"items": 1}},
		{name: "ids beyond 32 bits", query: `{item(id:"99999999999"){id} items(after:99999999999){id}}`, low: map[string]int{}},
		{name: "the same user twice on one level", query: `{items(first:5){a:owner{name} b:owner{id}}}`, low: map[string]int{"items": 1, "users_by_ids": 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			app := startApp(t, c.environment)
			handler := app.Handler()
			if c.high == nil {
				c.high = c.low
			}
			want := post(handler, c.query, "").body
			for _, concurrency := range []int{1, 16} {
				counts := statementsOf(t, app, func() {
					var wg sync.WaitGroup
					for range concurrency {
						wg.Go(func() { assert.Equal(t, want, post(handler, c.query, "").body) })
					}
					wg.Wait()
				})
				for name := range counts {
					assert.Contains(t, c.low, name)
				}
				for name, low := range c.low {
					assert.GreaterOrEqual(t, counts[name], concurrency*low, name)
					assert.LessOrEqual(t, counts[name], concurrency*c.high[name], name)
				}
			}
		})
	}
}

func TestMutations(t *testing.T) {
	app := startApp(t, map[string]string{"POOL_SIZE": "2"})
	other := startApp(t, map[string]string{"POOL_SIZE": "2"})
	handler := app.Handler()

	t.Run("renameArea is seen at once here and soon elsewhere", func(t *testing.T) {
		before := sqlText(t, "select name from area where id = 7")
		rename := func(name string) {
			got := post(handler, `mutation($name:String!){renameArea(id:7,name:$name){id name}}`, `{"name":`+string(appendJSONString(nil, " \t"+name+"\r\n"))+`}`)
			assert.JSONEq(t, `{"data":{"renameArea":{"id":"7","name":`+string(appendJSONString(nil, name))+`}}}`, got.body)
			assert.Equal(t, name, app.master.area(7).name)
			require.Eventually(t, func() bool { return other.master.area(7).name == name }, 10*time.Second, time.Millisecond)
		}
		t.Cleanup(func() { rename(before) })
		rename(`Sea of "names" 🏝️`)

		// Also after the connection that listens was lost.
		conn := connect(t)
		var n int
		require.NoError(t, conn.QueryRow(context.Background(),
			"select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'lab-go-listen' and datname = current_database()").Scan(&n))
		require.Positive(t, n)
		rename("Another one")
	})

	t.Run("a row changed by SQL shows in the next answer", func(t *testing.T) {
		conn := connect(t)
		read := func() string { return post(handler, "{item(id:3){name}}", "").body }
		name := sqlText(t, "select name from item where id = 3")
		_, err := conn.Exec(context.Background(), "update item set name = 'changed' where id = 3")
		require.NoError(t, err)
		assert.Equal(t, `{"data":{"item":{"name":"changed"}}}`, read())
		_, err = conn.Exec(context.Background(), "update item set name = $1 where id = 3", name)
		require.NoError(t, err)
		assert.NotEqual(t, `{"data":{"item":{"name":"changed"}}}`, read())
	})

	t.Run("mutations run in order and each reads anew", func(t *testing.T) {
		t.Cleanup(func() {
			_, err := connect(t).Exec(context.Background(), "delete from review where body like 'test of order%'")
			require.NoError(t, err)
		})
		count := sqlText(t, "select count(*)::text from review where item_id = 9")
		n, err := strconv.Atoi(count)
		require.NoError(t, err)
		got := post(handler, `mutation {
			a: addReview(input:{itemId:9,authorId:1,rating:5,body:"test of order 1"}) { ...R }
			x: addReview(input:{itemId:9,authorId:"99999999999",rating:5,body:"no"}) { ... on AuthorNotFound { authorId } }
			y: addReview(input:{itemId:"99999999999",authorId:"99999999999",rating:5,body:"no"}) { ... on ItemNotFound { itemId } }
			b: addReview(input:{itemId:9,authorId:1,rating:5,body:"test of order 2"}) { ...R }
		} fragment R on ReviewAdded { review { body item { reviewStats { count } } author { id } } }`, "")
		assert.Equal(t, fmt.Sprintf(`{"data":{"a":{"review":{"body":"test of order 1","item":{"reviewStats":{"count":%d}},"author":{"id":"1"}}},`+
			`"x":{"authorId":"99999999999"},"y":{"itemId":"99999999999"},`+
			`"b":{"review":{"body":"test of order 2","item":{"reviewStats":{"count":%d}},"author":{"id":"1"}}}}}`, n+1, n+2), got.body)
	})
}

func BenchmarkHeadline(b *testing.B) {
	for _, tier := range []string{TierMainstream, TierFloor} {
		for _, operation := range []string{"q1", "q2", "q3"} {
			b.Run(tier+"/"+operation, func(b *testing.B) {
				app := startApp(b, map[string]string{"TIER": tier})
				handler := app.Handler()
				body := `{"query":` + string(appendJSONString(nil, readOperation(b, operation))) + `}`
				b.ReportAllocs()
				for b.Loop() {
					r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/graphql", strings.NewReader(body))
					r.Header.Set("Content-Type", "application/json")
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, r)
					if w.Code != http.StatusOK {
						b.Fatal(io.ReadAll(w.Body))
					}
				}
			})
		}
	}
}
