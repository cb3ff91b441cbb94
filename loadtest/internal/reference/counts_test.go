package reference_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/reference"
)

func TestStatements(t *testing.T) {
	executor := newExecutor(t)
	type counts = map[string]contract.Range
	one, two := contract.Range{Min: 1, Max: 1}, contract.Range{Min: 2, Max: 2}
	between := func(least, most int) contract.Range { return contract.Range{Min: least, Max: most} }
	exactly := func(n int) contract.Range { return contract.Range{Min: n, Max: n} }
	weights := strings.TrimSuffix(strings.Repeat("0,", 32), ",")
	for _, row := range []struct {
		name    string
		query   string
		setting contract.Setting
		want    counts
	}{
		{"one statement per loader and level", `{ items { category { name } area { name } reviews { author { name } } } }`, contract.Default,
			counts{"items": one, "categories_by_ids": one, "reviews_by_item_ids": one, "users_by_ids": one}},
		{"master data by statement", `{ items { area { name } genre { name } } areas { id } genres { id } b: businessDay(from: "2026-01-01", days: 1) c: businessDay(from: "2026-01-01", days: 0) }`, contract.MasterNone,
			counts{"items": one, "areas_by_ids": one, "genres_by_ids": one, "areas": one, "genres": one, "holidays": between(1, 2)}},
		{"master data from memory", `{ items { area { name } genre { name } } areas { id } genres { id } businessDay(from: "2026-01-01", days: 1) ranking(weights: [` + weights + `]) { score } }`, contract.Default,
			counts{"items": one}},
		{"without loaders one statement per resolver", `{ items(first: 11) { category { name } area { name } } }`, contract.LoaderOff,
			counts{"items": one, "categories_by_ids": exactly(10)}}, // item 11 has none
		{"without loaders and master data", `{ items(first: 11) { category { name } area { name } } }`, contract.LoaderOffMasterNone,
			counts{"items": one, "categories_by_ids": exactly(10), "areas_by_ids": exactly(11)}},
		{"without loaders nothing is remembered", `{ a: item(id: 1) { id } b: item(id: 1) { reviews(first: 1) { item { id } } } }`, contract.LoaderOff,
			counts{"items_by_ids": exactly(3), "reviews_by_item_ids": one}},
		{"an item by id goes through its loader", `{ item(id: 1) { id } }`, contract.Default, counts{"items_by_ids": one}},
		{"two root fields may share a statement", `{ a: item(id: 1) { id } b: item(id: 2) { id } }`, contract.Default, counts{"items_by_ids": between(1, 2)}},
		{"two fields of one level may share a statement", `{ items(first: 5) { owner { name } editor { name } } }`, contract.Default,
			counts{"items": one, "users_by_ids": between(1, 2)}},
		{"another first is another loader", `{ items(first: 5) { a: reviews(first: 1) { id } b: reviews(first: 2) { id } c: reviews(first: 1) { rating } } }`, contract.Default,
			counts{"items": one, "reviews_by_item_ids": between(2, 3)}},
		{"a first of 0 is a first", `{ items(first: 5) { reviews(first: 0) { id } } }`, contract.Default, counts{"items": one, "reviews_by_item_ids": one}},
		{"fields of one response key are one", `{ items(first: 5) { category { id } category { name } } }`, contract.Default, counts{"items": one, "categories_by_ids": one}},
		{"a key that the path above has loaded is not loaded again", `{ item(id: 1) { reviews(first: 2) { item { id reviews(first: 2) { item { id } } } } } }`, contract.Default,
			counts{"items_by_ids": one, "reviews_by_item_ids": one}},
		{"paths one below the other cannot share", `{ item(id: 1) { category { items(first: 3) { category { items(first: 3) { id } } reviews(first: 2) { author { reviews(first: 2) { item { id } } } } } } } }`, contract.Default,
			counts{"items_by_ids": two, "categories_by_ids": one, "items_by_category_ids": one, "reviews_by_item_ids": one, "users_by_ids": one, "reviews_by_user_ids": one}},
		{"null keys need nothing", `{ item(id: 11) { category { items { id } } } none: item(id: 7) { owner { id } } }`, contract.Default, counts{"items_by_ids": between(1, 2)}},
		{"ids beyond 32 bits need nothing", `{ item(id: "2147483648") { id } items(after: "9999999999") { id } a: items(areaId: "9999999999") { id } ranking(weights: [` + weights + `], areaId: "9999999999") { item { id } } }`, contract.Default, counts{}},
		{"unknown ids are looked up", `{ item(id: 5000) { id } }`, contract.Default, counts{"items_by_ids": one}},
		{"empty lists need nothing below", `{ items(after: 1000) { category { id } } }`, contract.Default, counts{"items": one}},
		{"which items statement", `{ a: items(areaId: 1) { id } b: items(genreId: 1) { id } c: items(genreId: 1, areaId: 1) { id } d: items(areaId: null) { id } }`, contract.Default,
			counts{"items_by_area": one, "items_by_genre": one, "items_by_area_and_genre": one, "items": one}},
		{"ranked items go through their loader", `{ ranking(weights: [` + weights + `], first: 5) { item { id } } }`, contract.Default, counts{"items_by_ids": one}},
		{"scores alone need no item", `{ ranking(weights: [` + weights + `], first: 5) { score } }`, contract.Default, counts{}},
		{"search and categories", `{ search(text: "Item", first: 3) { ... on Item { category { id } } } categories { items(first: 1) { id } } }`, contract.Default,
			counts{"search": one, "categories_by_ids": one, "categories": one, "items_by_category_ids": one}},
		{"an argument that is refused needs nothing", `{ item(id: 1) { id reviews(first: 501) { id } } }`, contract.Default, counts{"items_by_ids": one}},
		{"what stands beside an error may be left out", `{ item(id: 1) { owner { id reviews(first: 501) { id } } category { id } reviews(first: -1) { id } } }`, contract.Default,
			counts{"items_by_ids": one, "users_by_ids": between(0, 1), "categories_by_ids": between(0, 1)}},
		{"what does not, may not", `{ item(id: 1) { owner { id reviews(first: 501) { id } } category { id } } }`, contract.Default,
			counts{"items_by_ids": one, "users_by_ids": one, "categories_by_ids": one}},
		{"left out or not, without loaders", `{ items(first: 3) { category { id } reviews(first: -1) { id } } }`, contract.LoaderOff,
			counts{"items": one, "categories_by_ids": between(0, 3)}},
		{"a review is added by one statement", `mutation { addReview(input: {itemId: 1, authorId: 1, rating: 1, body: "x"}) { ... on ReviewAdded { review { author { id } item { id } } } } }`, contract.Default,
			counts{"add_review": one, "users_by_ids": one, "items_by_ids": one}},
		{"also where nothing is found", `mutation { addReview(input: {itemId: "9999999999", authorId: 1, rating: 1, body: "x"}) { __typename } }`, contract.Default, counts{"add_review": one}},
		{"a mutation's fields share nothing, or all they know", `mutation {
			a: addReview(input: {itemId: 1, authorId: 1, rating: 1, body: "x"}) { ... on ReviewAdded { review { author { id } } } }
			b: addReview(input: {itemId: 1, authorId: 1, rating: 1, body: "x"}) { ... on ReviewAdded { review { author { id } } } } }`, contract.Default,
			counts{"add_review": two, "users_by_ids": between(1, 2)}},
		{"a mutation's fields cannot be sent together", `mutation {
			a: addReview(input: {itemId: 1, authorId: 1, rating: 1, body: "x"}) { ... on ReviewAdded { review { author { id } } } }
			b: addReview(input: {itemId: 1, authorId: 2, rating: 1, body: "x"}) { ... on ReviewAdded { review { author { id } } } } }`, contract.Default,
			counts{"add_review": two, "users_by_ids": two}},
		{"an area is renamed by one statement", `mutation { a: renameArea(id: 1, name: "x") { id } b: renameArea(id: 99, name: "x") { id } c: renameArea(id: "9999999999", name: "x") { id } d: renameArea(id: 1, name: "") { id } }`, contract.Default,
			counts{"rename_area": two, "areas": between(0, 2)}},
		{"a quote needs none", `{ quote(itemId: 1, guests: 1) { totalCents } }`, contract.Default, counts{}},
		{"introspection needs none", `{ __schema { types { name } } __type(name: "Item") { name } }`, contract.Default, counts{}},
		// The reviews' authors come in two waves: those whom the owners' statement brings, and the others.
		{"rows that another branch loads may come apart", `{ items(first: 20) { owner { name } reviews { author { reviews(first: 1) { id } } } } }`, contract.Default,
			counts{"items": one, "reviews_by_item_ids": one, "users_by_ids": between(1, 2), "reviews_by_user_ids": between(1, 2)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			response := executor.Execute(reference.Request{Query: row.query})
			require.False(t, response.RequestError)
			assert.Equal(t, row.want, response.Statements[row.setting])
		})
	}
}
