// Package reference answers GraphQL requests from SQL alone, so that no server is the reference for itself: it shares
// neither code nor statements with any of them. It parses and validates with gqlparser; coercion, execution, the
// propagation of nulls, error paths, limits and the count of statements are its own.
package reference

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Data is every row of the database, read once.
type Data struct {
	areas      []*named
	genres     []*named
	categories []*named
	items      []*item
	holidays   map[string]bool // by YYYY-MM-DD

	areaByID     map[int32]*named
	genreByID    map[int32]*named
	categoryByID map[int32]*named
	itemByID     map[int32]*item
	userByID     map[int32]*user

	itemsByCategory map[int32][]*item   // by id
	reviewsByItem   map[int32][]*review // newest first, then by descending id
	reviewsByUser   map[int32][]*review
	statsByItem     map[int32]reviewStats
	lastReviewID    int32
}

// named is a row of area, genre or category; typeName tells which.
type named struct {
	typeName string
	id       int32
	name     string
}

type user struct {
	id   int32
	name string
}

type item struct {
	id          int32
	name        string
	description *string
	priceCents  int32
	openedOn    string
	updatedAt   string
	categoryID  *int32
	areaID      int32
	genreID     int32
	ownerID     *int32
	editorID    *int32
	features    []int8
}

type review struct {
	id        int32
	itemID    int32
	authorID  int32
	rating    int32
	body      string
	createdAt string // empty for one that was just added: nobody can foretell it
}

type reviewStats struct {
	count   int32
	average *float64
}

const dateTimeLayout = "2006-01-02T15:04:05.000Z"

// Open reads all rows of the database at that URL, from one snapshot.
func Open(ctx context.Context, url string) (*Data, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("begin reading: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	data, err := read(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("read the database: %w", err)
	}
	return data, nil
}

func read(ctx context.Context, tx pgx.Tx) (*Data, error) {
	d := &Data{holidays: map[string]bool{}, userByID: map[int32]*user{}, itemByID: map[int32]*item{},
		itemsByCategory: map[int32][]*item{}, reviewsByItem: map[int32][]*review{}, reviewsByUser: map[int32][]*review{},
		statsByItem: map[int32]reviewStats{}}
	var err error
	if d.areas, d.areaByID, err = readNamed(ctx, tx, "area", "Area"); err != nil {
		return nil, err
	}
	if d.genres, d.genreByID, err = readNamed(ctx, tx, "genre", "Genre"); err != nil {
		return nil, err
	}
	if d.categories, d.categoryByID, err = readNamed(ctx, tx, "category", "Category"); err != nil {
		return nil, err
	}

	var day time.Time
	if err := forEach(ctx, tx, `table holiday`, []any{&day}, func() error {
		d.holidays[day.Format(time.DateOnly)] = true
		return nil
	}); err != nil {
		return nil, err
	}

	var u user
	if err := forEach(ctx, tx, `select u.id, u.name from app_user u`, []any{&u.id, &u.name}, func() error {
		row := u
		d.userByID[u.id] = &row
		return nil
	}); err != nil {
		return nil, err
	}

	var it item
	var opened, updated time.Time
	var features []byte
	if err := forEach(ctx, tx, `
		select i.id, i.name, i.description, i.price_cents, i.opened_on, i.updated_at, i.category_id, i.area_id, i.genre_id,
			i.owner_id, i.editor_id, v.features
		from item i left join item_vector v on v.item_id = i.id`,
		[]any{&it.id, &it.name, &it.description, &it.priceCents, &opened, &updated, &it.categoryID, &it.areaID, &it.genreID,
			&it.ownerID, &it.editorID, &features},
		func() error {
			row := it
			row.openedOn = opened.Format(time.DateOnly)
			row.updatedAt = updated.UTC().Format(dateTimeLayout)
			row.features = nil
			for _, b := range features {
				row.features = append(row.features, int8(b)) //nolint:gosec // a signed byte is what it is
			}
			d.items = append(d.items, &row)
			d.itemByID[row.id] = &row
			return nil
		}); err != nil {
		return nil, err
	}
	slices.SortFunc(d.items, func(a, b *item) int { return int(a.id) - int(b.id) })
	for _, row := range d.items {
		if row.categoryID != nil {
			d.itemsByCategory[*row.categoryID] = append(d.itemsByCategory[*row.categoryID], row)
		}
	}

	var r review
	var created time.Time
	var reviews []*review
	if err := forEach(ctx, tx, `select r.id, r.item_id, r.author_id, r.rating, r.body, r.created_at from review r`,
		[]any{&r.id, &r.itemID, &r.authorID, &r.rating, &r.body, &created}, func() error {
			row := r
			row.createdAt = created.UTC().Format(dateTimeLayout)
			reviews = append(reviews, &row)
			d.lastReviewID = max(d.lastReviewID, row.id)
			return nil
		}); err != nil {
		return nil, err
	}
	slices.SortFunc(reviews, func(a, b *review) int {
		if a.createdAt != b.createdAt { // of one length: text sorts as time does
			if a.createdAt > b.createdAt {
				return -1
			}
			return 1
		}
		return int(b.id) - int(a.id)
	})
	for _, row := range reviews {
		d.reviewsByItem[row.itemID] = append(d.reviewsByItem[row.itemID], row)
		d.reviewsByUser[row.authorID] = append(d.reviewsByUser[row.authorID], row)
	}

	var itemID, count int32
	var average float64
	if err := forEach(ctx, tx, `
		select i.id, s.n, s.average
		from item i cross join lateral (
			select count(*)::int4 as n, avg(r.rating)::float8 as average from review r where r.item_id = i.id
		) s where s.n > 0`,
		[]any{&itemID, &count, &average}, func() error {
			d.statsByItem[itemID] = reviewStats{count: count, average: new(average)}
			return nil
		}); err != nil {
		return nil, err
	}
	return d, nil
}

func readNamed(ctx context.Context, tx pgx.Tx, table, typeName string) ([]*named, map[int32]*named, error) {
	var rows []*named
	byID := map[int32]*named{}
	var n named
	err := forEach(ctx, tx, `select t.id, t.name from `+table+` t`, []any{&n.id, &n.name}, func() error {
		row := &named{typeName: typeName, id: n.id, name: n.name}
		rows = append(rows, row)
		byID[row.id] = row
		return nil
	})
	slices.SortFunc(rows, func(a, b *named) int { return int(a.id) - int(b.id) })
	return rows, byID, err
}

func forEach(ctx context.Context, tx pgx.Tx, sql string, into []any, row func() error) error {
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, into, row)
	return err
}

// clone gives a copy that a mutation may change without being seen by others.
func (d *Data) clone() *Data {
	c := *d
	c.areas = slices.Clone(d.areas)
	c.areaByID = maps.Clone(d.areaByID)
	c.reviewsByItem = maps.Clone(d.reviewsByItem)
	c.reviewsByUser = maps.Clone(d.reviewsByUser)
	c.statsByItem = maps.Clone(d.statsByItem)
	return &c
}

// renameArea changes a cloned Data.
func (d *Data) renameArea(id int32, name string) *named {
	if d.areaByID[id] == nil {
		return nil
	}
	row := &named{typeName: "Area", id: id, name: name}
	d.areaByID[id] = row
	d.areas[slices.IndexFunc(d.areas, func(a *named) bool { return a.id == id })] = row
	return row
}

// addReview changes a cloned Data. Its time is later than any other's.
func (d *Data) addReview(itemID, authorID, rating int32, body string) *review {
	d.lastReviewID++
	row := &review{id: d.lastReviewID, itemID: itemID, authorID: authorID, rating: rating, body: body}
	d.reviewsByItem[itemID] = append([]*review{row}, d.reviewsByItem[itemID]...)
	d.reviewsByUser[authorID] = append([]*review{row}, d.reviewsByUser[authorID]...)
	var sum int64
	for _, r := range d.reviewsByItem[itemID] {
		sum += int64(r.rating)
	}
	count := int64(len(d.reviewsByItem[itemID]))
	d.statsByItem[itemID] = reviewStats{count: int32(count), average: new(averageOf(sum, count))} //nolint:gosec // small
	return row
}

// averageOf is what PostgreSQL's avg(int4)::float8 gives for a sum above 0: the quotient as numeric with at least 16
// significant digits (numeric.c: select_div_scale, which counts in groups of four decimal digits), read as a float.
func averageOf(sum, count int64) float64 {
	sumWeight, sumFirst := leadingGroup(sum)
	countWeight, countFirst := leadingGroup(count)
	weight := sumWeight - countWeight
	if sumFirst <= countFirst {
		weight--
	}
	scale := max(16-weight*4, 0)
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
	// round half up: (2 × sum × 10^scale + count) / (2 × count)
	scaled := new(big.Int).Mul(big.NewInt(2*sum), power)
	scaled.Add(scaled, big.NewInt(count)).Quo(scaled, big.NewInt(2*count))
	average, err := strconv.ParseFloat(scaled.String()+"e-"+strconv.Itoa(scale), 64)
	if err != nil {
		panic(fmt.Sprintf("average of %d over %d: %v", sum, count, err)) // digits alone always parse
	}
	return average
}

// leadingGroup gives the weight and the value of a number's first group of four decimal digits.
func leadingGroup(n int64) (weight int, first int64) {
	for n >= 10000 {
		n /= 10000
		weight++
	}
	return weight, n
}
