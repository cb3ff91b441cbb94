package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Master is the data that every request needs and that rarely changes, in memory. Each table is swapped as a whole, so
// that a reader sees one state of it. With MASTER=redis all but the vectors are in a cache instead.
type Master struct {
	store       *Store
	cache       *Cache // nil but for MASTER=redis
	log         *slog.Logger
	databaseURL string
	tables      []string // those that are kept

	areas    atomic.Pointer[masterTable[Area]]
	genres   atomic.Pointer[masterTable[Genre]]
	holidays atomic.Pointer[map[Date]struct{}]
	vectors  atomic.Pointer[[]vectorRow]
	texts    atomic.Pointer[[]string]
	textRows int32 // of texts

	// areasTurn is held while an area is renamed, from before the statement until memory has the new name, and while the areas
	// are read and put there. So what is put there is never older than what it replaces: no name waits to be put over a later
	// reading, and the reading that an announcement asks for begins after whatever came before it. Turns come in the order in
	// which they were asked for, where a reading that is tried again until no rename came between might never end.
	areasTurn chan struct{}
}

type masterTable[T any] struct {
	list []*T // by id
	byID map[int32]*T
}

func newMasterTable[T any](list []*T, idOf func(*T) int32) *masterTable[T] {
	t := &masterTable[T]{list: list, byID: make(map[int32]*T, len(list))}
	for _, v := range list {
		t.byID[idOf(v)] = v
	}
	return t
}

func newHolidays(days []Date) map[Date]struct{} {
	set := make(map[Date]struct{}, len(days))
	for _, d := range days {
		set[d] = struct{}{}
	}
	return set
}

// masterChannel is where a trigger says which table has changed.
const masterChannel = "master_changed"

// masterTables are the payloads of masterChannel.
var masterTables = []string{"area", "genre", "holiday", "item_vector", "master_text"}

// cachedTables are those of masterTables that a cache has.
var cachedTables = []string{"area", "genre", "holiday"}

func newMaster(c Settings, store *Store, cache *Cache, log *slog.Logger) *Master {
	m := &Master{
		store: store, cache: cache, log: log, databaseURL: c.DatabaseURL, tables: masterTables,
		textRows: int32(c.MasterMB << 20 / textBytes), areasTurn: make(chan struct{}, 1),
	}
	if c.Master == MasterNone {
		m.tables = []string{"item_vector", "master_text"} // which no statement of a request reads
	}
	if m.textRows == 0 {
		m.tables = slices.DeleteFunc(slices.Clone(m.tables), func(table string) bool { return table == "master_text" })
	}
	m.areas.Store(newMasterTable(nil, (*Area).ID))
	m.genres.Store(newMasterTable(nil, (*Genre).ID))
	m.holidays.Store(&map[Date]struct{}{})
	m.vectors.Store(&[]vectorRow{})
	m.texts.Store(&[]string{})
	return m
}

// textBytes is how much master data in bulk is kept.
func (m *Master) textBytes() int { return len(*m.texts.Load()) * textBytes }

func (m *Master) area(id int32) *Area   { return m.areas.Load().byID[id] }
func (m *Master) genre(id int32) *Genre { return m.genres.Load().byID[id] }

// loadTimeout is the most that a reading of areas may take, the same in all servers.
const loadTimeout = 30 * time.Second

// loadMaster reads every table from the primary, at once or one after another.
func (m *Master) loadMaster(ctx context.Context, concurrently bool) error {
	errs := make([]error, len(m.tables))
	var wg sync.WaitGroup
	for i, table := range m.tables {
		if concurrently {
			wg.Go(func() { errs[i] = m.loadTable(ctx, table) })
		} else {
			errs[i] = m.loadTable(ctx, table)
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (m *Master) loadTable(ctx context.Context, table string) error {
	d := m.store.primary
	if m.cache != nil && slices.Contains(cachedTables, table) {
		return m.loadCached(ctx, table)
	}
	switch table {
	case "area":
		if err := m.takeAreasTurn(ctx); err != nil {
			return err
		}
		defer m.endAreasTurn()
		// Whoever renames waits for the turn: it is not to be had for as long as TCP hopes for a host that is gone.
		ctx, cancel := context.WithTimeout(ctx, loadTimeout)
		defer cancel()
		rows, err := m.store.named(ctx, d, m.store.areasStatement)
		if err != nil {
			return err
		}
		list := make([]*Area, len(rows))
		for i := range rows {
			list[i] = (*Area)(&rows[i])
		}
		m.areas.Store(newMasterTable(list, (*Area).ID))
	case "genre":
		rows, err := m.store.named(ctx, d, m.store.genresStatement)
		if err != nil {
			return err
		}
		list := make([]*Genre, len(rows))
		for i := range rows {
			list[i] = (*Genre)(&rows[i])
		}
		m.genres.Store(newMasterTable(list, (*Genre).ID))
	case "holiday":
		days, err := m.store.holidays(ctx, d)
		if err != nil {
			return err
		}
		set := newHolidays(days)
		m.holidays.Store(&set)
	case "item_vector":
		vectors, err := m.store.itemVectors(ctx, d)
		if err != nil {
			return err
		}
		m.vectors.Store(&vectors)
	case "master_text":
		texts, err := m.store.masterTexts(ctx, d, m.textRows)
		if err != nil {
			return err
		}
		m.texts.Store(&texts)
	}
	return nil
}

// takeAreasTurn waits until it may rename an area or read them, or until ctx ends. Nobody waits with a connection in hand.
func (m *Master) takeAreasTurn(ctx context.Context) error {
	select {
	case m.areasTurn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *Master) endAreasTurn() { <-m.areasTurn }

// loadCached makes Redis forget a table and have it anew. Only a failure of the database is an error: a Redis that does not
// answer is not asked for the table until a later try succeeds.
func (m *Master) loadCached(ctx context.Context, table string) error {
	epoch, err := m.cache.forget(ctx, table)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	names, err := m.readAll(ctx, table)
	if err != nil {
		return err
	}
	m.cache.fill(ctx, table, epoch, withAll(names))
	return nil
}

// withAll marks what a table's hash has as all of it.
func withAll(names map[string]string) map[string]string {
	names = maps.Clone(names)
	names[cacheAll] = "1"
	return names
}

// readAll reads a table from the primary as a hash has it.
func (m *Master) readAll(ctx context.Context, table string) (map[string]string, error) {
	names := map[string]string{}
	if table == "holiday" {
		days, err := m.store.holidays(ctx, m.store.primary)
		for _, day := range days {
			names[string(appendDate(nil, day))] = ""
		}
		return names, err
	}
	statement := m.store.areasStatement
	if table == "genre" {
		statement = m.store.genresStatement
	}
	rows, err := m.store.named(ctx, m.store.primary, statement)
	for i := range rows {
		names[strconv.Itoa(int(rows[i].id))] = rows[i].name
	}
	return names, err
}

// all gives a whole table as a hash has it, from Redis or from the primary.
func (m *Master) all(ctx context.Context, table string) (map[string]string, error) {
	got, asked := m.cache.ask(ctx, table, nil)
	if asked && got.all {
		return got.names, nil
	}
	names, err := m.readAll(ctx, table)
	if err == nil && asked {
		m.cache.fill(ctx, table, got.epoch, withAll(names))
	}
	return names, err
}

// allNamed gives all rows of a table by id.
func (m *Master) allNamed(ctx context.Context, table string) ([]namedRow, error) {
	names, err := m.all(ctx, table)
	if err != nil {
		return nil, err
	}
	rows := make([]namedRow, 0, len(names))
	for field, name := range names {
		id, err := strconv.ParseInt(field, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("redis: %s has a field %q, which is no id", table, field)
		}
		rows = append(rows, namedRow{id: int32(id), name: name})
	}
	slices.SortFunc(rows, func(a, b namedRow) int { return cmp.Compare(a.id, b.id) })
	return rows, nil
}

// holidaySet gives the days of the table holiday.
func (m *Master) holidaySet(ctx context.Context) (map[Date]struct{}, error) {
	names, err := m.all(ctx, "holiday")
	if err != nil {
		return nil, err
	}
	set := make(map[Date]struct{}, len(names))
	for field := range names {
		day, err := parseDate(field)
		if err != nil {
			return nil, fmt.Errorf("redis: holiday has a field %q, which is no day", field)
		}
		set[day] = struct{}{}
	}
	return set, nil
}

// byIDs gives the rows of these ids, from Redis in one round trip, and what that does not have from the primary by one
// statement. So is what a whole hash does not have: ids come from items, whose areas and genres exist, be it since a moment
// ago and not announced yet.
func (m *Master) byIDs(ctx context.Context, table string, statement *statement, ids []int32, found func(int32, *namedRow)) error {
	fields := fieldsOf(ids)
	got, asked := m.cache.ask(ctx, table, fields)
	var missing []int32
	for i, id := range ids {
		if name, ok := got.names[fields[i]]; ok {
			found(id, &namedRow{id: id, name: name})
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	rows, err := m.store.namedByIDs(ctx, m.store.primary, statement, missing)
	names := make(map[string]string, len(rows))
	for i := range rows {
		found(rows[i].id, &rows[i])
		names[strconv.Itoa(int(rows[i].id))] = rows[i].name
	}
	if err == nil && asked && !got.all { // which would prolong the time of a whole hash
		m.cache.fill(ctx, table, got.epoch, names)
	}
	return err
}

// retry makes Redis forget what it could not be made to forget at once, until ctx ends.
func (m *Master) retry(ctx context.Context) {
	tick := time.NewTicker(cacheRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, table := range m.cache.pending(cachedTables) {
			if err := m.loadCached(ctx, table); err != nil && ctx.Err() == nil {
				m.log.Warn("master data could not be read", "table", table, "error", err.Error())
			}
		}
	}
}

// renameArea renames in the database, and puts the name into memory or makes Redis forget the old one; other processes hear of
// it from the database. It gives nil where there is no such area.
func (m *Master) renameArea(ctx context.Context, id int32, name string) (*namedRow, error) {
	inMemory := m.cache == nil && slices.Contains(m.tables, "area")
	if inMemory {
		if err := m.takeAreasTurn(ctx); err != nil {
			return nil, err
		}
		defer m.endAreasTurn()
	}
	row, err := m.store.renameArea(ctx, id, name)
	switch {
	case err != nil || row == nil:
		return nil, err
	case m.cache != nil:
		_, _ = m.cache.forget(ctx, "area") // else it is not asked, and retry goes on
	case inMemory:
		list := slices.Clone(m.areas.Load().list)
		for i, a := range list {
			if a.id == row.id {
				list[i] = (*Area)(row)
			}
		}
		m.areas.Store(newMasterTable(list, (*Area).ID))
	}
	return row, nil
}

// follow keeps memory equal to the primary until ctx ends: it listens on a connection of its own, reads everything
// whenever that connection is made anew, and what is announced after. loaded is called after each full reading.
func (m *Master) follow(ctx context.Context, concurrently bool, loaded func()) {
	const firstPause, longestPause = 100 * time.Millisecond, 2 * time.Second
	pause := firstPause
	for ctx.Err() == nil {
		err := m.listen(ctx, concurrently, func() {
			pause = firstPause
			loaded()
		})
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("master data is not being followed", "error", err.Error(), "retry_ms", milliseconds(pause))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

func (m *Master) listen(ctx context.Context, concurrently bool, loaded func()) error {
	config, err := pgx.ParseConfig(m.databaseURL)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	config.ConnectTimeout = 5 * time.Second
	config.RuntimeParams["application_name"] = "lab-go-listen"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "listen "+masterChannel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if m.cache != nil {
		m.cache.distrustAll() // they may have changed while nobody listened
		m.cache.heard.Store(true)
		defer m.cache.heard.Store(false)
	}
	// Listening comes first, so that no change falls between the reading and the first announcement.
	if err := m.loadMaster(ctx, concurrently); err != nil {
		return err
	}
	loaded()

	// One reader per table takes announcements that come while it reads as one.
	ctx, cancel := context.WithCancelCause(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel(nil)
	if m.cache != nil {
		defer m.cache.heard.Store(false) // from now on, and not only when the readers have ended
		readers.Go(func() { m.retry(ctx) })
	}
	changed := make(map[string]chan struct{}, len(m.tables))
	for _, table := range m.tables {
		signal := make(chan struct{}, 1)
		changed[table] = signal
		readers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-signal:
					if err := m.loadTable(ctx, table); err != nil {
						cancel(err) // connect anew, which reads everything
						return
					}
				}
			}
		})
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("listen: %w", err)
		}
		if signal, ok := changed[n.Payload]; ok {
			if m.cache != nil && slices.Contains(cachedTables, n.Payload) {
				m.cache.distrust(n.Payload) // at once; a reading may be under way, and Redis forgets only after it
			}
			select {
			case signal <- struct{}{}:
			default:
			}
		}
	}
}

// addBusinessDays gives the day that many business days after from: weekends and holidays do not count.
func addBusinessDays(ctx context.Context, from Date, days int32, holidays map[Date]struct{}) (Date, error) {
	day := from
	for steps := 0; days > 0; steps++ {
		if steps%256 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		day++
		if weekday := day.weekday(); weekday == time.Saturday || weekday == time.Sunday {
			continue
		}
		if _, ok := holidays[day]; !ok {
			days--
		}
	}
	if day > lastDate {
		return 0, badArgument("from", "must leave the day within the year 9999.")
	}
	return day, nil
}
