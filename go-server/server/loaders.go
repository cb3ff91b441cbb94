package server

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/99designs/gqlgen/graphql"
)

// fetchFunc reads the values of keys, which are distinct, with one statement. It calls found for each key that has a
// value, in any order; a key it does not name has the zero value.
type fetchFunc[V any] func(ctx context.Context, keys []int32, found func(key int32, value V)) error

// Loader batches and caches what one request reads by key. Each LoadMany sends at most one statement, for those of its
// keys that nobody in the request has asked for yet, and sends it at once: there is no timer, since whoever calls it
// already has the keys of a whole level.
type Loader[V any] struct {
	fetch fetchFunc[V]
	sizes observer

	mu    sync.Mutex
	slots map[int32]slot[V]
}

// slot is where the value of one key is or will be.
type slot[V any] struct {
	batch *batch[V]
	index int
}

// batch is one statement's keys and values.
type batch[V any] struct {
	done   chan struct{}
	keys   []int32
	values []V
	err    error
}

// NewLoader makes a loader for one request. sizes sees how many keys each batch has.
func NewLoader[V any](sizes observer, fetch fetchFunc[V]) *Loader[V] {
	return &Loader[V]{fetch: fetch, sizes: sizes}
}

// LoadMany gives one value for each key, in the order of keys, which may repeat. errs is nil, or has an error wherever
// the batch of that key failed.
func (l *Loader[V]) LoadMany(ctx context.Context, keys []int32) (values []V, errs []error) {
	if len(keys) == 0 {
		return nil, nil
	}
	slots := make([]slot[V], len(keys))
	var own *batch[V]
	l.mu.Lock()
	if l.slots == nil {
		l.slots = make(map[int32]slot[V], len(keys))
	}
	for i, key := range keys {
		s, ok := l.slots[key]
		if !ok {
			if own == nil {
				own = &batch[V]{done: make(chan struct{}), keys: make([]int32, 0, len(keys)-i)}
			}
			s = slot[V]{own, len(own.keys)}
			own.keys = append(own.keys, key)
			l.slots[key] = s
		}
		slots[i] = s
	}
	l.mu.Unlock()

	if own != nil {
		l.run(ctx, own)
	}
	values = make([]V, len(keys))
	for i, s := range slots {
		// Whoever runs another batch sees the end of the same request, so this wait is no longer than the request.
		<-s.batch.done
		if s.batch.err != nil {
			if errs == nil {
				errs = make([]error, len(keys))
			}
			errs[i] = s.batch.err
			continue
		}
		values[i] = s.batch.values[s.index]
	}
	return values, errs
}

// run fetches b, and ends it whatever happens, so that nobody waits for it in vain.
func (l *Loader[V]) run(ctx context.Context, b *batch[V]) {
	defer close(b.done)
	defer recoverTo(&b.err)
	l.sizes.Observe(float64(len(b.keys)))
	b.values = make([]V, len(b.keys))
	b.err = l.fetch(ctx, b.keys, func(key int32, value V) {
		l.mu.Lock()
		s, ok := l.slots[key]
		l.mu.Unlock()
		if ok && s.batch == b {
			b.values[s.index] = value
		}
	})
}

// recoverTo, deferred, turns a panic into an error.
func recoverTo(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
	}
}

// Loaders are one request's, or one mutation field's: what is read is read once, and nothing outlives it.
type Loaders struct {
	ctx      context.Context
	app      *App
	request  *request
	database *database

	// The loaders by ids.
	items       *Loader[*itemRow]
	categories  *Loader[*namedRow]
	users       *Loader[*namedRow]
	areas       *Loader[*namedRow]
	genres      *Loader[*namedRow]
	reviewStats *Loader[*ReviewStats]

	// The loaders of lists, one for each page size.
	mu                sync.Mutex
	itemsByCategoryID map[int32]*Loader[[]*itemRow]
	reviewsByItemID   map[int32]*Loader[[]*reviewRow]
	reviewsByUserID   map[int32]*Loader[[]*reviewRow]
}

// newLoaders makes the loaders of a request that reads from d.
func (a *App) newLoaders(ctx context.Context, d *database) *Loaders {
	l := &Loaders{ctx: ctx, app: a, request: requestOf(ctx), database: d}
	s, sizes := a.store, &a.metrics.batchKeys
	l.items = NewLoader(sizes.items, func(ctx context.Context, ids []int32, found func(int32, *itemRow)) error {
		rows, err := s.itemsByIDs(ctx, d, ids)
		for i := range rows {
			found(rows[i].id, &rows[i])
		}
		return err
	})
	byIDs := func(sizes observer, statement *statement) *Loader[*namedRow] {
		return NewLoader(sizes, func(ctx context.Context, ids []int32, found func(int32, *namedRow)) error {
			rows, err := s.namedByIDs(ctx, d, statement, ids)
			for i := range rows {
				found(rows[i].id, &rows[i])
			}
			return err
		})
	}
	l.categories = byIDs(sizes.categories, s.categoriesByIDsStatement)
	l.users = byIDs(sizes.users, s.usersByIDsStatement)
	l.areas = byIDs(sizes.areas, s.areasByIDsStatement)
	l.genres = byIDs(sizes.genres, s.genresByIDsStatement)
	if a.config.Master == MasterRedis {
		cachedByIDs := func(sizes observer, table string, statement *statement) *Loader[*namedRow] {
			return NewLoader(sizes, func(ctx context.Context, ids []int32, found func(int32, *namedRow)) error {
				return a.master.byIDs(ctx, table, statement, ids, found)
			})
		}
		l.areas = cachedByIDs(sizes.areas, "area", s.areasByIDsStatement)
		l.genres = cachedByIDs(sizes.genres, "genre", s.genresByIDsStatement)
	}
	l.reviewStats = NewLoader(sizes.reviewStats, func(ctx context.Context, ids []int32, found func(int32, *ReviewStats)) error {
		rows, err := s.reviewStatsByItemIDs(ctx, d, ids)
		for i := range rows {
			found(rows[i].itemID, &ReviewStats{Count: rows[i].count, Average: &rows[i].average})
		}
		return err
	})
	return l
}

// named reads a whole table of master data, where that is not in memory.
func (l *Loaders) named(table string, statement *statement) ([]namedRow, error) {
	if l.app.config.Master == MasterRedis {
		return l.app.master.allNamed(l.ctx, table)
	}
	return l.app.store.named(l.ctx, l.database, statement)
}

// operation is what gqlgen executes for this request.
func (l *Loaders) operation() *graphql.OperationContext { return l.request.operation }

// reviewsByItemIDs is the loader of Item.reviews for one page size.
func (l *Loaders) reviewsByItemIDs(first int32) *Loader[[]*reviewRow] {
	return pageLoader(l, &l.reviewsByItemID, first, l.app.metrics.batchKeys.reviewsByItem, func(ctx context.Context, ids []int32) ([]reviewRow, error) {
		return l.app.store.reviewsByItemIDs(ctx, l.database, ids, first)
	}, func(r *reviewRow) int32 { return r.itemID })
}

// reviewsByUserIDs is the loader of User.reviews for one page size.
func (l *Loaders) reviewsByUserIDs(first int32) *Loader[[]*reviewRow] {
	return pageLoader(l, &l.reviewsByUserID, first, l.app.metrics.batchKeys.reviewsByUser, func(ctx context.Context, ids []int32) ([]reviewRow, error) {
		return l.app.store.reviewsByUserIDs(ctx, l.database, ids, first)
	}, func(r *reviewRow) int32 { return r.authorID })
}

// itemsByCategoryIDs is the loader of Category.items for one page size.
func (l *Loaders) itemsByCategoryIDs(first int32) *Loader[[]*itemRow] {
	return pageLoader(l, &l.itemsByCategoryID, first, l.app.metrics.batchKeys.itemsByCategory, func(ctx context.Context, ids []int32) ([]itemRow, error) {
		return l.app.store.itemsByCategoryIDs(ctx, l.database, ids, first)
	}, func(r *itemRow) int32 { return r.categoryID.id })
}

// pageLoader finds or makes the loader of a list for one page size. The rows of one key come together.
func pageLoader[R any](l *Loaders, loaders *map[int32]*Loader[[]*R], first int32, sizes observer,
	fetch func(context.Context, []int32) ([]R, error), keyOf func(*R) int32,
) *Loader[[]*R] {
	l.mu.Lock()
	defer l.mu.Unlock()
	if loader, ok := (*loaders)[first]; ok {
		return loader
	}
	loader := NewLoader(sizes, func(ctx context.Context, ids []int32, found func(int32, []*R)) error {
		rows, err := fetch(ctx, ids)
		pointers := make([]*R, len(rows))
		for start, i := 0, 0; i < len(rows); i++ {
			pointers[i] = &rows[i]
			if i+1 == len(rows) || keyOf(&rows[i+1]) != keyOf(&rows[start]) {
				found(keyOf(&rows[start]), pointers[start:i+1:i+1])
				start = i + 1
			}
		}
		return err
	})
	if *loaders == nil {
		*loaders = make(map[int32]*Loader[[]*R])
	}
	(*loaders)[first] = loader
	return loader
}

// loadEach gives one value for each of keys: through the loader, or, with LOADER=off, by a statement for each key, as
// many at once as the pool has connections.
func loadEach[V any](l *Loaders, loader *Loader[V], keys []int32) ([]V, []error) {
	if l.app.config.Loader {
		return loader.LoadMany(l.ctx, keys)
	}
	values := make([]V, len(keys))
	errs := make([]error, len(keys))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(len(keys), int(l.app.config.PoolSize)) {
		workers.Go(func() {
			for i := range next {
				one := NewLoader(loader.sizes, loader.fetch)
				value, err := one.LoadMany(l.ctx, keys[i:i+1])
				values[i] = value[0]
				if err != nil {
					errs[i] = err[0]
				}
			}
		})
	}
	for i := range keys {
		next <- i
	}
	close(next)
	workers.Wait()
	return values, errs
}

// together runs tasks at once, the last one here, and returns when all have ended.
func together(tasks []func()) {
	if len(tasks) == 0 {
		return
	}
	var others sync.WaitGroup
	for _, task := range tasks[:len(tasks)-1] {
		others.Go(task)
	}
	tasks[len(tasks)-1]()
	others.Wait()
}
