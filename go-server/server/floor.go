package server

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// floor answers the headline operations by hand: the same statements through the same pool, and no GraphQL library. It
// is what the library's cost is measured against.
type floor struct {
	operations map[string]floorOperation
}

// floorOperation reads what an operation needs, and gives what writes it.
type floorOperation func(*App, context.Context) (write func(b []byte) ([]byte, error), err error)

// headlineOperations are the folders under operations/ whose query the floor knows.
var headlineOperations = map[string]floorOperation{
	"q1": (*App).floorQ1,
	"q2": (*App).floorQ2,
	"q3": (*App).floorQ3,
}

func newFloor(contractDir string) (*floor, error) {
	f := &floor{operations: make(map[string]floorOperation)}
	for name, execute := range headlineOperations {
		text, err := os.ReadFile(filepath.Join(contractDir, "operations", name, "query.graphql"))
		if err != nil {
			return nil, fmt.Errorf("CONTRACT_DIR=%q: expected a headline operation: %w", contractDir, err)
		}
		f.operations[squeeze(string(text))] = execute
	}
	return f, nil
}

// squeeze leaves out what separates tokens, as far as the headline operations need any of it.
func squeeze(query string) string {
	return strings.Join(strings.FieldsFunc(query, func(c rune) bool {
		return c == ' ' || c == ',' || c == '\n' || c == '\t' || c == '\r'
	}), " ")
}

func (f *floor) execute(r *request, p parameters, out *buffer) *requestError {
	execute, ok := f.operations[squeeze(p.query)]
	if !ok || p.operationName != nil {
		return newRequestError(501, codeNotInThisTier, "This tier answers the headline operations only.")
	}
	r.timing.mark(phaseParse)
	write, err := execute(r.app, r.ctx)
	r.timing.mark(phaseExecute)
	if err == nil {
		out.bytes, err = write(out.bytes)
	}
	if err != nil {
		if r.ctx.Err() != nil {
			return r.app.timedOut()
		}
		r.fail(err, nil)
		if r.late.Load() {
			return r.app.timedOut()
		}
		if r.unavailable.Load() {
			return unavailable()
		}
		return newRequestError(500, codeInternal, "Internal server error.")
	}
	r.timing.mark(phaseSerialize)
	return nil
}

// distinct gathers the keys of rows that are not null, each once.
func distinct[R any](rows []R, keyOf func(*R) nullID) []int32 {
	seen := make(map[int32]struct{}, len(rows))
	keys := make([]int32, 0, len(rows))
	for i := range rows {
		k := keyOf(&rows[i])
		if !k.valid {
			continue
		}
		if _, ok := seen[k.id]; !ok {
			seen[k.id] = struct{}{}
			keys = append(keys, k.id)
		}
	}
	return keys
}

// floorNames reads the names of categories or users.
func (a *App) floorNames(ctx context.Context, s *statement, ids []int32) (map[int32]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := a.store.namedByIDs(ctx, a.store.replica, s, ids)
	names := make(map[int32]string, len(rows))
	for _, row := range rows {
		names[row.id] = row.name
	}
	return names, err
}

func categoryOf(r *itemRow) nullID { return r.categoryID }

// appendNamed appends {"name":…}, or null for what is not there.
func appendNamed(b []byte, names map[int32]string, key nullID) []byte {
	name, ok := names[key.id]
	if !ok || !key.valid {
		return append(b, "null"...)
	}
	return append(appendJSONString(append(b, `{"name":`...), name), '}')
}

func appendID(b []byte, id int32) []byte {
	return append(strconv.AppendInt(append(b, '"'), int64(id), 10), '"')
}

// items(first: 20) { id name priceCents category { name } }
func (a *App) floorQ1(ctx context.Context) (func([]byte) ([]byte, error), error) {
	items, err := a.store.items(ctx, a.store.replica, math.MinInt32, 20, nullID{}, nullID{})
	if err != nil {
		return nil, err
	}
	categories, err := a.floorNames(ctx, a.store.categoriesByIDsStatement, distinct(items, categoryOf))
	if err != nil {
		return nil, err
	}
	return func(b []byte) ([]byte, error) {
		b = append(b, `{"data":{"items":[`...)
		for i := range items {
			item := &items[i]
			if i > 0 {
				b = append(b, ',')
			}
			b = appendID(append(b, `{"id":`...), item.id)
			b = appendJSONString(append(b, `,"name":`...), item.name)
			b = strconv.AppendInt(append(b, `,"priceCents":`...), int64(item.priceCents), 10)
			b = appendNamed(append(b, `,"category":`...), categories, item.categoryID)
			b = append(b, '}')
		}
		return append(b, "]}"...), nil
	}, nil
}

// items(first: 20) { id name priceCents category { name } area { name } reviews(first: 3) { rating body author { name } } }
func (a *App) floorQ2(ctx context.Context) (func([]byte) ([]byte, error), error) {
	items, err := a.store.items(ctx, a.store.replica, math.MinInt32, 20, nullID{}, nullID{})
	if err != nil {
		return nil, err
	}
	var categories, authors, areas map[int32]string
	var categoryErr, areaErr error
	var reviews []reviewRow
	var others sync.WaitGroup
	if len(items) > 0 {
		others.Go(func() {
			categories, categoryErr = a.floorNames(ctx, a.store.categoriesByIDsStatement, distinct(items, categoryOf))
		})
		// One that was made a moment ago, and not yet announced, is looked up, and the others with it.
		unknown := func(item itemRow) bool { return a.master.area(item.areaID.id) == nil }
		if a.config.Master == MasterNone || slices.ContainsFunc(items, unknown) {
			others.Go(func() {
				areas, areaErr = a.floorNames(ctx, a.store.areasByIDsStatement, distinct(items, func(r *itemRow) nullID { return r.areaID }))
			})
		}
		ids := make([]int32, len(items))
		for i := range items {
			ids[i] = items[i].id
		}
		reviews, err = a.store.reviewsByItemIDs(ctx, a.store.replica, ids, 3)
		if err == nil {
			authors, err = a.floorNames(ctx, a.store.usersByIDsStatement, distinct(reviews, func(r *reviewRow) nullID { return nullID{r.authorID, true} }))
		}
		others.Wait()
	}
	for _, e := range []error{err, categoryErr, areaErr} {
		if e != nil {
			return nil, e
		}
	}

	return func(b []byte) ([]byte, error) {
		b = append(b, `{"data":{"items":[`...)
		for i := range items {
			item := &items[i]
			if i > 0 {
				b = append(b, ',')
			}
			b = appendID(append(b, `{"id":`...), item.id)
			b = appendJSONString(append(b, `,"name":`...), item.name)
			b = strconv.AppendInt(append(b, `,"priceCents":`...), int64(item.priceCents), 10)
			b = appendNamed(append(b, `,"category":`...), categories, item.categoryID)
			b = append(b, `,"area":`...)
			if areas != nil {
				if _, ok := areas[item.areaID.id]; !ok {
					return nil, fmt.Errorf("item %d has no area", item.id)
				}
				b = appendNamed(b, areas, item.areaID)
			} else {
				area := a.master.area(item.areaID.id)
				if area == nil {
					return nil, fmt.Errorf("item %d has no area", item.id)
				}
				b = append(appendJSONString(append(b, `{"name":`...), area.name), '}')
			}
			b = append(b, `,"reviews":[`...)
			for n := 0; len(reviews) > 0 && reviews[0].itemID == item.id; n++ {
				review := &reviews[0]
				reviews = reviews[1:]
				if n > 0 {
					b = append(b, ',')
				}
				b = strconv.AppendInt(append(b, `{"rating":`...), int64(review.rating), 10)
				b = appendJSONString(append(b, `,"body":`...), review.body)
				b = appendNamed(append(b, `,"author":`...), authors, nullID{review.authorID, true})
				b = append(b, '}')
			}
			b = append(b, "]}"...)
		}
		return append(b, "]}"...), nil
	}, nil
}

// items(first: 500) { id name description priceCents openedOn updatedAt category { name } }
func (a *App) floorQ3(ctx context.Context) (func([]byte) ([]byte, error), error) {
	items, err := a.store.items(ctx, a.store.replica, math.MinInt32, 500, nullID{}, nullID{})
	if err != nil {
		return nil, err
	}
	categories, err := a.floorNames(ctx, a.store.categoriesByIDsStatement, distinct(items, categoryOf))
	if err != nil {
		return nil, err
	}
	return func(b []byte) ([]byte, error) {
		b = append(b, `{"data":{"items":[`...)
		for i := range items {
			item := &items[i]
			if i > 0 {
				b = append(b, ',')
			}
			b = appendID(append(b, `{"id":`...), item.id)
			b = appendJSONString(append(b, `,"name":`...), item.name)
			b = append(b, `,"description":`...)
			if !item.description.valid {
				b = append(b, "null"...)
			} else {
				b = appendJSONString(b, item.description.text)
			}
			b = strconv.AppendInt(append(b, `,"priceCents":`...), int64(item.priceCents), 10)
			b = append(appendDate(append(b, `,"openedOn":"`...), item.openedOn), '"')
			b = append(appendDateTime(append(b, `,"updatedAt":"`...), item.updatedAt), '"')
			b = appendNamed(append(b, `,"category":`...), categories, item.categoryID)
			b = append(b, '}')
		}
		return append(b, "]}"...), nil
	}, nil
}
