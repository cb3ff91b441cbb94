package server

import (
	"context"
	"math"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// How values reach a field.
//
// The objects that one field of the query gives, over all of its parents, are a level. A level knows its rows, so it
// knows every key its fields will ask for, and the selection below it says which of them will ask. Each such field is
// loaded for the whole level at once, by one call of a loader, as soon as the level is there; independent fields go out
// at the same time, and each goes on to the levels below it. gqlgen then walks finished values: its resolvers neither
// wait nor need a goroutine each. A resolver whose field was not loaded ahead loads it for its level then.

// level is a list of objects of one type that one field gives.
type level interface {
	// prefetch loads whatever selections lead to, below this level too, and returns when all is there.
	prefetch(selections ast.SelectionSet)
}

// field is what one field gives for each object of its level.
type field[V any] struct {
	once   sync.Once
	values []V
	errs   []error // nil, or one for each object that has no value
	err    error   // all failed
	next   level   // what values is made of, where that has loaders of its own
}

// loadFunc computes a field for its whole level.
type loadFunc[V any] func() (values []V, errs []error, next level)

func (f *field[V]) load(compute loadFunc[V]) *field[V] {
	f.once.Do(func() {
		defer recoverTo(&f.err)
		f.values, f.errs, f.next = compute()
	})
	return f
}

func (f *field[V]) at(i int) (V, error) {
	var none V
	switch {
	case f.err != nil:
		return none, f.err
	case f.errs != nil && f.errs[i] != nil:
		return none, f.errs[i]
	}
	return f.values[i], nil
}

// memo keeps a field of a level. With LOADER=off the field is computed once for each time it is selected, and each
// object hands its values out in that order, which is the order in which gqlgen asks.
type memo[V any] struct {
	shared field[V]

	mu     sync.Mutex
	each   []*field[V]
	handed map[int]int
}

// ahead gives the field to compute for one more place where it is selected.
func (m *memo[V]) ahead(l *Loaders) *field[V] {
	if l.app.config.Loader {
		return &m.shared
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.each = append(m.each, &field[V]{})
	return m.each[len(m.each)-1]
}

// resolve gives object i's value, computing the field where that was not done ahead.
func (m *memo[V]) resolve(l *Loaders, i int, compute loadFunc[V]) (V, error) {
	if l.app.config.Loader {
		return m.shared.load(compute).at(i)
	}
	m.mu.Lock()
	if m.handed == nil {
		m.handed = make(map[int]int)
	}
	n := m.handed[i]
	m.handed[i]++
	if n == len(m.each) {
		m.each = append(m.each, &field[V]{})
	}
	f := m.each[n]
	m.mu.Unlock()
	return f.load(compute).at(i)
}

// task loads a field ahead, and then what is selected below it.
func task[V any](l *Loaders, m *memo[V], selections ast.SelectionSet, compute loadFunc[V]) func() {
	f := m.ahead(l)
	return func() {
		if f.load(compute); f.next != nil {
			f.next.prefetch(selections)
		}
	}
}

// keysOf gathers the keys of n objects that are not null, and where they came from.
func keysOf(n int, keyOf func(int) nullID) (keys []int32, from []int) {
	keys, from = make([]int32, 0, n), make([]int, 0, n)
	for i := range n {
		if k := keyOf(i); k.valid {
			keys, from = append(keys, k.id), append(from, i)
		}
	}
	return keys, from
}

// loadRows loads the row that each of n objects names, or nil.
func loadRows[R any](l *Loaders, loader *Loader[*R], n int, keyOf func(int) nullID) ([]*R, []error) {
	keys, from := keysOf(n, keyOf)
	loaded, loadErrs := loadEach(l, loader, keys)
	if len(keys) == n {
		return loaded, loadErrs
	}
	return spread(loaded, from, n), spread(loadErrs, from, n)
}

// spread puts values back to where their keys came from.
func spread[V any](values []V, from []int, n int) []V {
	if values == nil && n > 0 && len(from) > 0 {
		return nil
	}
	out := make([]V, n)
	for i, at := range from {
		out[at] = values[i]
	}
	return out
}

// Named is what can be found by its name.
type Named interface{ isNamed() }

func (*Area) isNamed()     {}
func (*Genre) isNamed()    {}
func (*Category) isNamed() {}
func (*Item) isNamed()     {}

// Area is master data.
type Area namedRow

// ID is Area.id.
func (a *Area) ID() int32 { return a.id }

// Name is Area.name.
func (a *Area) Name() string { return a.name }

// Genre is master data.
type Genre namedRow

// ID is Genre.id.
func (g *Genre) ID() int32 { return g.id }

// Name is Genre.name.
func (g *Genre) Name() string { return g.name }

// Category is a category at its place in the answer.
type Category struct {
	row   *namedRow
	level *categoryLevel
	index int
}

type categoryLevel struct {
	loaders    *Loaders
	categories []*Category

	mu    sync.Mutex
	items map[int32]*memo[[]*Item]
}

// newCategoryLevel makes a category of each row; nil rows stay nil.
func newCategoryLevel(l *Loaders, rows []*namedRow) *categoryLevel {
	v := &categoryLevel{loaders: l, categories: make([]*Category, len(rows))}
	nodes := make([]Category, len(rows))
	for i, row := range rows {
		if row != nil {
			nodes[i] = Category{row, v, i}
			v.categories[i] = &nodes[i]
		}
	}
	return v
}

func (v *categoryLevel) prefetch(selections ast.SelectionSet) {
	var tasks []func()
	for _, f := range graphql.CollectFields(v.loaders.operation(), selections, categoryImplementors) {
		if f.Name != "items" {
			continue
		}
		if first, err := v.loaders.firstOf(f); err == nil {
			tasks = append(tasks, task(v.loaders, v.itemsMemo(first), f.Selections, v.loadItems(first)))
		}
	}
	together(tasks)
}

func (v *categoryLevel) itemsMemo(first int32) *memo[[]*Item] {
	return memoOf(&v.mu, &v.items, first)
}

func (v *categoryLevel) loadItems(first int32) loadFunc[[]*Item] {
	return func() ([][]*Item, []error, level) {
		rows, errs := loadLists(v.loaders, v.loaders.itemsByCategoryIDs(first), len(v.categories), func(i int) nullID {
			if v.categories[i] == nil {
				return nullID{}
			}
			return nullID{v.categories[i].row.id, true}
		})
		next := newItemLevel(v.loaders, flatten(rows))
		return regroup(rows, next.items), errs, next
	}
}

// ID is Category.id.
func (c *Category) ID() int32 { return c.row.id }

// Name is Category.name.
func (c *Category) Name() string { return c.row.name }

// Items is Category.items.
func (c *Category) Items(first int32) ([]*Item, error) {
	l := c.level.loaders
	if err := l.app.checkFirst(first); err != nil {
		return nil, err
	}
	return c.level.itemsMemo(first).resolve(l, c.index, c.level.loadItems(first))
}

// memoOf finds or makes the memo of a list for one page size.
func memoOf[V any](mu *sync.Mutex, memos *map[int32]*memo[V], first int32) *memo[V] {
	mu.Lock()
	defer mu.Unlock()
	m := (*memos)[first]
	if m == nil {
		if *memos == nil {
			*memos = make(map[int32]*memo[V], 1)
		}
		m = &memo[V]{}
		(*memos)[first] = m
	}
	return m
}

// loadLists loads the list that each of n objects names.
func loadLists[R any](l *Loaders, loader *Loader[[]*R], n int, keyOf func(int) nullID) ([][]*R, []error) {
	keys, from := keysOf(n, keyOf)
	loaded, loadErrs := loadEach(l, loader, keys)
	if len(keys) == n {
		return loaded, loadErrs
	}
	return spread(loaded, from, n), spread(loadErrs, from, n)
}

// flatten puts lists one after another.
func flatten[R any](lists [][]*R) []*R {
	n := 0
	for _, list := range lists {
		n += len(list)
	}
	all := make([]*R, 0, n)
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// regroup undoes flatten for what was made of its result, one for one.
func regroup[R, N any](lists [][]*R, nodes []*N) [][]*N {
	out := make([][]*N, len(lists))
	for i, list := range lists {
		out[i], nodes = nodes[:len(list):len(list)], nodes[len(list):]
	}
	return out
}

// Item is an item at its place in the answer.
type Item struct {
	row   *itemRow
	level *itemLevel
	index int
}

type itemLevel struct {
	loaders *Loaders
	items   []*Item

	category      memo[*Category]
	area          memo[*Area]
	genre         memo[*Genre]
	owner, editor memo[*User]
	reviewStats   memo[*ReviewStats]

	mu      sync.Mutex
	reviews map[int32]*memo[[]*Review]
}

// newItemLevel makes an item of each row; nil rows stay nil.
func newItemLevel(l *Loaders, rows []*itemRow) *itemLevel {
	v := &itemLevel{loaders: l, items: make([]*Item, len(rows))}
	nodes := make([]Item, len(rows))
	for i, row := range rows {
		if row != nil {
			nodes[i] = Item{row, v, i}
			v.items[i] = &nodes[i]
		}
	}
	return v
}

func (v *itemLevel) prefetch(selections ast.SelectionSet) {
	l := v.loaders
	inMemory := l.app.config.Master == MasterMemory
	var tasks []func()
	for _, f := range graphql.CollectFields(l.operation(), selections, itemImplementors) {
		switch f.Name {
		case "category":
			tasks = append(tasks, task(l, &v.category, f.Selections, v.loadCategory))
		case "area":
			if !inMemory {
				tasks = append(tasks, task(l, &v.area, nil, v.loadArea))
			}
		case "genre":
			if !inMemory {
				tasks = append(tasks, task(l, &v.genre, nil, v.loadGenre))
			}
		case "owner":
			tasks = append(tasks, task(l, &v.owner, f.Selections, v.loadOwner))
		case "editor":
			tasks = append(tasks, task(l, &v.editor, f.Selections, v.loadEditor))
		case "reviewStats":
			tasks = append(tasks, task(l, &v.reviewStats, nil, v.loadReviewStats))
		case "reviews":
			if first, err := l.firstOf(f); err == nil {
				tasks = append(tasks, task(l, v.reviewsMemo(first), f.Selections, v.loadReviews(first)))
			}
		}
	}
	together(tasks)
}

// key reads one key of each item; an item that is not there has none.
func (v *itemLevel) key(of func(*itemRow) nullID) func(int) nullID {
	return func(i int) nullID {
		if v.items[i] == nil {
			return nullID{}
		}
		return of(v.items[i].row)
	}
}

func itemID(r *itemRow) nullID { return nullID{r.id, true} }

func (v *itemLevel) loadCategory() ([]*Category, []error, level) {
	rows, errs := loadRows(v.loaders, v.loaders.categories, len(v.items), v.key(func(r *itemRow) nullID { return r.categoryID }))
	next := newCategoryLevel(v.loaders, rows)
	return next.categories, errs, next
}

func (v *itemLevel) loadArea() ([]*Area, []error, level) {
	rows, errs := loadRows(v.loaders, v.loaders.areas, len(v.items), v.key(func(r *itemRow) nullID { return r.areaID }))
	out := make([]*Area, len(rows))
	for i, row := range rows {
		out[i] = (*Area)(row)
	}
	return out, errs, nil
}

func (v *itemLevel) loadGenre() ([]*Genre, []error, level) {
	rows, errs := loadRows(v.loaders, v.loaders.genres, len(v.items), v.key(func(r *itemRow) nullID { return r.genreID }))
	out := make([]*Genre, len(rows))
	for i, row := range rows {
		out[i] = (*Genre)(row)
	}
	return out, errs, nil
}

func (v *itemLevel) loadOwner() ([]*User, []error, level) {
	return v.loadUser(func(r *itemRow) nullID { return r.ownerID })
}

func (v *itemLevel) loadEditor() ([]*User, []error, level) {
	return v.loadUser(func(r *itemRow) nullID { return r.editorID })
}

func (v *itemLevel) loadUser(of func(*itemRow) nullID) ([]*User, []error, level) {
	rows, errs := loadRows(v.loaders, v.loaders.users, len(v.items), v.key(of))
	next := newUserLevel(v.loaders, rows)
	return next.users, errs, next
}

func (v *itemLevel) loadReviewStats() ([]*ReviewStats, []error, level) {
	stats, errs := loadRows(v.loaders, v.loaders.reviewStats, len(v.items), v.key(itemID))
	for i := range stats {
		if stats[i] == nil {
			stats[i] = &ReviewStats{}
		}
	}
	return stats, errs, nil
}

func (v *itemLevel) reviewsMemo(first int32) *memo[[]*Review] {
	return memoOf(&v.mu, &v.reviews, first)
}

func (v *itemLevel) loadReviews(first int32) loadFunc[[]*Review] {
	return func() ([][]*Review, []error, level) {
		rows, errs := loadLists(v.loaders, v.loaders.reviewsByItemIDs(first), len(v.items), v.key(itemID))
		next := newReviewLevel(v.loaders, flatten(rows))
		return regroup(rows, next.reviews), errs, next
	}
}

// ID is Item.id.
func (i *Item) ID() int32 { return i.row.id }

// Name is Item.name.
func (i *Item) Name() string { return i.row.name }

// Description is Item.description.
func (i *Item) Description() *string {
	if !i.row.description.valid {
		return nil
	}
	return &i.row.description.text
}

// PriceCents is Item.priceCents.
func (i *Item) PriceCents() int32 { return i.row.priceCents }

// OpenedOn is Item.openedOn.
func (i *Item) OpenedOn() Date { return i.row.openedOn }

// UpdatedAt is Item.updatedAt.
func (i *Item) UpdatedAt() DateTime { return i.row.updatedAt }

// Category is Item.category.
func (i *Item) Category() (*Category, error) {
	return i.level.category.resolve(i.level.loaders, i.index, i.level.loadCategory)
}

// Area is Item.area. One that was made a moment ago, and not yet announced, is looked up.
func (i *Item) Area() (*Area, error) {
	if l := i.level.loaders; l.app.config.Master == MasterMemory {
		if area := l.app.master.area(i.row.areaID.id); area != nil {
			return area, nil
		}
	}
	return i.level.area.resolve(i.level.loaders, i.index, i.level.loadArea)
}

// Genre is Item.genre.
func (i *Item) Genre() (*Genre, error) {
	if l := i.level.loaders; l.app.config.Master == MasterMemory {
		if genre := l.app.master.genre(i.row.genreID.id); genre != nil {
			return genre, nil
		}
	}
	return i.level.genre.resolve(i.level.loaders, i.index, i.level.loadGenre)
}

// Owner is Item.owner.
func (i *Item) Owner() (*User, error) {
	return i.level.owner.resolve(i.level.loaders, i.index, i.level.loadOwner)
}

// Editor is Item.editor.
func (i *Item) Editor() (*User, error) {
	return i.level.editor.resolve(i.level.loaders, i.index, i.level.loadEditor)
}

// Reviews is Item.reviews.
func (i *Item) Reviews(first int32) ([]*Review, error) {
	l := i.level.loaders
	if err := l.app.checkFirst(first); err != nil {
		return nil, err
	}
	return i.level.reviewsMemo(first).resolve(l, i.index, i.level.loadReviews(first))
}

// ReviewStats is Item.reviewStats.
func (i *Item) ReviewStats() (*ReviewStats, error) {
	return i.level.reviewStats.resolve(i.level.loaders, i.index, i.level.loadReviewStats)
}

// ReviewStats are the number of an item's reviews and their mean rating, null where there is none.
type ReviewStats struct {
	Count   int32
	Average *float64
}

// Review is a review at its place in the answer.
type Review struct {
	row   *reviewRow
	level *reviewLevel
	index int
}

type reviewLevel struct {
	loaders *Loaders
	reviews []*Review

	author memo[*User]
	item   memo[*Item]
}

func newReviewLevel(l *Loaders, rows []*reviewRow) *reviewLevel {
	v := &reviewLevel{loaders: l, reviews: make([]*Review, len(rows))}
	nodes := make([]Review, len(rows))
	for i, row := range rows {
		nodes[i] = Review{row, v, i}
		v.reviews[i] = &nodes[i]
	}
	return v
}

func (v *reviewLevel) prefetch(selections ast.SelectionSet) {
	var tasks []func()
	for _, f := range graphql.CollectFields(v.loaders.operation(), selections, reviewImplementors) {
		switch f.Name {
		case "author":
			tasks = append(tasks, task(v.loaders, &v.author, f.Selections, v.loadAuthor))
		case "item":
			tasks = append(tasks, task(v.loaders, &v.item, f.Selections, v.loadItem))
		}
	}
	together(tasks)
}

func (v *reviewLevel) loadAuthor() ([]*User, []error, level) {
	rows, errs := loadRows(v.loaders, v.loaders.users, len(v.reviews), func(i int) nullID { return nullID{v.reviews[i].row.authorID, true} })
	next := newUserLevel(v.loaders, rows)
	return next.users, errs, next
}

func (v *reviewLevel) loadItem() ([]*Item, []error, level) {
	rows, errs := loadRows(v.loaders, v.loaders.items, len(v.reviews), func(i int) nullID { return nullID{v.reviews[i].row.itemID, true} })
	next := newItemLevel(v.loaders, rows)
	return next.items, errs, next
}

// ID is Review.id.
func (r *Review) ID() int32 { return r.row.id }

// Rating is Review.rating.
func (r *Review) Rating() int32 { return r.row.rating }

// Body is Review.body.
func (r *Review) Body() string { return r.row.body }

// CreatedAt is Review.createdAt.
func (r *Review) CreatedAt() DateTime { return r.row.createdAt }

// Author is Review.author.
func (r *Review) Author() (*User, error) {
	return r.level.author.resolve(r.level.loaders, r.index, r.level.loadAuthor)
}

// Item is Review.item.
func (r *Review) Item() (*Item, error) {
	return r.level.item.resolve(r.level.loaders, r.index, r.level.loadItem)
}

// User is a user at their place in the answer.
type User struct {
	row   *namedRow
	level *userLevel
	index int
}

type userLevel struct {
	loaders *Loaders
	users   []*User

	mu      sync.Mutex
	reviews map[int32]*memo[[]*Review]
}

// newUserLevel makes a user of each row; nil rows stay nil.
func newUserLevel(l *Loaders, rows []*namedRow) *userLevel {
	v := &userLevel{loaders: l, users: make([]*User, len(rows))}
	nodes := make([]User, len(rows))
	for i, row := range rows {
		if row != nil {
			nodes[i] = User{row, v, i}
			v.users[i] = &nodes[i]
		}
	}
	return v
}

func (v *userLevel) prefetch(selections ast.SelectionSet) {
	var tasks []func()
	for _, f := range graphql.CollectFields(v.loaders.operation(), selections, userImplementors) {
		if f.Name != "reviews" {
			continue
		}
		if first, err := v.loaders.firstOf(f); err == nil {
			tasks = append(tasks, task(v.loaders, v.reviewsMemo(first), f.Selections, v.loadReviews(first)))
		}
	}
	together(tasks)
}

func (v *userLevel) reviewsMemo(first int32) *memo[[]*Review] {
	return memoOf(&v.mu, &v.reviews, first)
}

func (v *userLevel) loadReviews(first int32) loadFunc[[]*Review] {
	return func() ([][]*Review, []error, level) {
		rows, errs := loadLists(v.loaders, v.loaders.reviewsByUserIDs(first), len(v.users), func(i int) nullID {
			if v.users[i] == nil {
				return nullID{}
			}
			return nullID{v.users[i].row.id, true}
		})
		next := newReviewLevel(v.loaders, flatten(rows))
		return regroup(rows, next.reviews), errs, next
	}
}

// ID is User.id.
func (u *User) ID() int32 { return u.row.id }

// Name is User.name.
func (u *User) Name() string { return u.row.name }

// Reviews is User.reviews.
func (u *User) Reviews(first int32) ([]*Review, error) {
	l := u.level.loaders
	if err := l.app.checkFirst(first); err != nil {
		return nil, err
	}
	return u.level.reviewsMemo(first).resolve(l, u.index, u.level.loadReviews(first))
}

// RankedItem is an item's place in a ranking.
type RankedItem struct {
	ranked rankedItem
	level  *rankedLevel
	index  int
}

type rankedLevel struct {
	loaders *Loaders
	ranked  []*RankedItem
	item    memo[*Item]
}

func newRankedLevel(l *Loaders, ranked []rankedItem) *rankedLevel {
	v := &rankedLevel{loaders: l, ranked: make([]*RankedItem, len(ranked))}
	for i := range ranked {
		v.ranked[i] = &RankedItem{ranked[i], v, i}
	}
	return v
}

func (v *rankedLevel) prefetch(selections ast.SelectionSet) {
	var tasks []func()
	for _, f := range graphql.CollectFields(v.loaders.operation(), selections, rankedItemImplementors) {
		if f.Name == "item" {
			tasks = append(tasks, task(v.loaders, &v.item, f.Selections, v.loadItem))
		}
	}
	together(tasks)
}

func (v *rankedLevel) loadItem() ([]*Item, []error, level) {
	rows, errs := loadRows(v.loaders, v.loaders.items, len(v.ranked), func(i int) nullID { return nullID{v.ranked[i].ranked.itemID, true} })
	next := newItemLevel(v.loaders, rows)
	return next.items, errs, next
}

// Score is RankedItem.score.
func (r *RankedItem) Score() int32 { return r.ranked.score }

// Item is RankedItem.item.
func (r *RankedItem) Item() (*Item, error) {
	return r.level.item.resolve(r.level.loaders, r.index, r.level.loadItem)
}

// Resolver is the root of the schema's resolvers.
type Resolver struct{ app *App }

// Query gives the resolvers of Query.
func (r *Resolver) Query() QueryResolver { return queryResolver{r.app} }

// Mutation gives the resolvers of Mutation.
func (r *Resolver) Mutation() MutationResolver { return mutationResolver{r.app} }

type queryResolver struct{ app *App }

// selectionsOf are the selections below the field that ctx is about.
func selectionsOf(ctx context.Context) ast.SelectionSet {
	return graphql.GetFieldContext(ctx).Field.Selections
}

func pointers[R any](rows []R) []*R {
	out := make([]*R, len(rows))
	for i := range rows {
		out[i] = &rows[i]
	}
	return out
}

func (q queryResolver) Items(ctx context.Context, first int32, after, areaID, genreID *string) ([]*Item, error) {
	if err := q.app.checkFirst(first); err != nil {
		return nil, err
	}
	unknown := false
	id := func(name string, text *string) (nullID, error) {
		if text == nil {
			return nullID{}, nil
		}
		n, known, err := decimalID(name, *text)
		unknown = unknown || !known
		return nullID{n, true}, err
	}
	afterID, err := id("after", after)
	if err != nil {
		return nil, err
	}
	area, err := id("areaId", areaID)
	if err != nil {
		return nil, err
	}
	genre, err := id("genreId", genreID)
	if err != nil {
		return nil, err
	}
	if unknown {
		return nil, nil
	}
	if !afterID.valid {
		afterID.id = math.MinInt32
	}
	l := requestOf(ctx).loaders
	rows, err := q.app.store.items(l.ctx, l.database, afterID.id, first, area, genre)
	if err != nil {
		return nil, err
	}
	v := newItemLevel(l, pointers(rows))
	v.prefetch(selectionsOf(ctx))
	return v.items, nil
}

func (q queryResolver) Item(ctx context.Context, id string) (*Item, error) {
	itemID, known, err := decimalID("id", id)
	if err != nil || !known {
		return nil, err
	}
	l := requestOf(ctx).loaders
	rows, errs := loadEach(l, l.items, []int32{itemID})
	if errs != nil && errs[0] != nil {
		return nil, errs[0]
	}
	v := newItemLevel(l, rows)
	if v.items[0] != nil {
		v.prefetch(selectionsOf(ctx))
	}
	return v.items[0], nil
}

func (q queryResolver) Categories(ctx context.Context) ([]*Category, error) {
	l := requestOf(ctx).loaders
	rows, err := q.app.store.named(l.ctx, l.database, q.app.store.categoriesStatement)
	if err != nil {
		return nil, err
	}
	v := newCategoryLevel(l, pointers(rows))
	v.prefetch(selectionsOf(ctx))
	return v.categories, nil
}

func (q queryResolver) Areas(ctx context.Context) ([]*Area, error) {
	if q.app.config.Master == MasterMemory {
		return q.app.master.areas.Load().list, nil
	}
	l := requestOf(ctx).loaders
	rows, err := l.named("area", q.app.store.areasStatement)
	out := make([]*Area, len(rows))
	for i := range rows {
		out[i] = (*Area)(&rows[i])
	}
	return out, err
}

func (q queryResolver) Genres(ctx context.Context) ([]*Genre, error) {
	if q.app.config.Master == MasterMemory {
		return q.app.master.genres.Load().list, nil
	}
	l := requestOf(ctx).loaders
	rows, err := l.named("genre", q.app.store.genresStatement)
	out := make([]*Genre, len(rows))
	for i := range rows {
		out[i] = (*Genre)(&rows[i])
	}
	return out, err
}

func (q queryResolver) Search(ctx context.Context, text string, first int32) ([]Named, error) {
	if err := checkText("text", text); err != nil {
		return nil, err
	}
	if err := q.app.checkFirst(first); err != nil {
		return nil, err
	}
	l := requestOf(ctx).loaders
	found, err := q.app.store.search(l.ctx, l.database, text, first)
	if err != nil {
		return nil, err
	}
	var categoryRows []*namedRow
	var itemRows []*itemRow
	for i := range found {
		switch found[i].kind {
		case searchCategory:
			categoryRows = append(categoryRows, &found[i].named)
		case searchItem:
			itemRows = append(itemRows, found[i].item)
		}
	}
	categories, items := newCategoryLevel(l, categoryRows), newItemLevel(l, itemRows)
	var tasks []func()
	if len(categoryRows) > 0 {
		tasks = append(tasks, func() { categories.prefetch(selectionsOf(ctx)) })
	}
	if len(itemRows) > 0 {
		tasks = append(tasks, func() { items.prefetch(selectionsOf(ctx)) })
	}
	together(tasks)

	out := make([]Named, len(found))
	category, item := 0, 0
	for i := range found {
		switch found[i].kind {
		case searchArea:
			out[i] = (*Area)(&found[i].named)
		case searchGenre:
			out[i] = (*Genre)(&found[i].named)
		case searchCategory:
			out[i] = categories.categories[category]
			category++
		default:
			out[i] = items.items[item]
			item++
		}
	}
	return out, nil
}

func (q queryResolver) Ranking(ctx context.Context, weights []int32, first int32, areaID *string) ([]*RankedItem, error) {
	if len(weights) != vectorSize {
		return nil, errWeights
	}
	for _, w := range weights {
		if w < -maxWeight || w > maxWeight {
			return nil, errWeights
		}
	}
	if err := checkRange("first", first, 0, q.app.config.Limits.RankingSize); err != nil {
		return nil, err
	}
	var area nullID
	if areaID != nil {
		id, known, err := decimalID("areaId", *areaID)
		if err != nil || !known {
			return nil, err
		}
		area = nullID{id, true}
	}
	ranked, err := rankItems(ctx, *q.app.master.vectors.Load(), [vectorSize]int32(weights), int(first), area)
	if err != nil {
		return nil, err
	}
	v := newRankedLevel(requestOf(ctx).loaders, ranked)
	v.prefetch(selectionsOf(ctx))
	return v.ranked, nil
}

func (q queryResolver) BusinessDay(ctx context.Context, from Date, days int32) (Date, error) {
	if err := checkRange("days", days, 0, q.app.config.Limits.BusinessDays); err != nil {
		return 0, err
	}
	if q.app.config.Master == MasterMemory {
		return addBusinessDays(ctx, from, days, *q.app.master.holidays.Load())
	}
	l := requestOf(ctx).loaders
	if q.app.config.Master == MasterRedis {
		holidays, err := q.app.master.holidaySet(l.ctx)
		if err != nil {
			return 0, err
		}
		return addBusinessDays(ctx, from, days, holidays)
	}
	days0, err := q.app.store.holidays(l.ctx, l.database)
	if err != nil {
		return 0, err
	}
	return addBusinessDays(ctx, from, days, newHolidays(days0))
}

func (q queryResolver) Quote(ctx context.Context, itemID string, guests int32) (*Quote, error) {
	if _, _, err := decimalID("itemId", itemID); err != nil {
		return nil, err
	}
	if err := checkRange("guests", guests, 1, 100); err != nil {
		return nil, err
	}
	totalCents, currency, err := q.app.upstream.quote(ctx, itemID, guests)
	if err != nil {
		return nil, err
	}
	return &Quote{ItemID: itemID, Guests: guests, TotalCents: totalCents, Currency: currency}, nil
}

type mutationResolver struct{ app *App }

func (m mutationResolver) AddReview(ctx context.Context, input AddReviewInput) (AddReviewResult, error) {
	itemID, _, err := decimalID("input.itemId", input.ItemID)
	if err != nil {
		return nil, err
	}
	authorID, _, err := decimalID("input.authorId", input.AuthorID)
	if err != nil {
		return nil, err
	}
	if err := checkRange("input.rating", input.Rating, 1, 5); err != nil {
		return nil, err
	}
	if err := checkText("input.body", input.Body); err != nil {
		return nil, err
	}
	if n := utf8.RuneCountInString(input.Body); n < 1 || n > 2000 {
		return nil, badArgument("input.body", "must have from 1 to 2000 characters.")
	}
	// Every mutation field reads from the primary and anew: what an earlier one read may have changed since.
	l := m.app.newLoaders(requestOf(ctx).ctx, m.app.store.primary)
	// decimalID gives 0 for an id beyond 32 bits, which no row has.
	added, err := m.app.store.addReview(l.ctx, itemID, authorID, input.Rating, input.Body)
	switch {
	case err != nil:
		return nil, err
	case !added.itemFound:
		return ItemNotFound{ItemID: input.ItemID}, nil
	case !added.authorFound:
		return AuthorNotFound{AuthorID: input.AuthorID}, nil
	}
	v := newReviewLevel(l, []*reviewRow{added.review})
	for _, f := range graphql.CollectFields(l.operation(), selectionsOf(ctx), reviewAddedImplementors) {
		if f.Name == "review" {
			v.prefetch(f.Selections)
		}
	}
	return ReviewAdded{Review: v.reviews[0]}, nil
}

func (m mutationResolver) RenameArea(ctx context.Context, id, name string) (*Area, error) {
	areaID, known, err := decimalID("id", id)
	if err != nil {
		return nil, err
	}
	if err := checkText("name", name); err != nil {
		return nil, err
	}
	name = strings.Trim(name, " \t\r\n")
	if n := utf8.RuneCountInString(name); n < 1 || n > 200 {
		return nil, badArgument("name", "must have from 1 to 200 characters.")
	}
	if !known {
		return nil, nil
	}
	row, err := m.app.master.renameArea(requestOf(ctx).ctx, areaID, name)
	return (*Area)(row), err
}
