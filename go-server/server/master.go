package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Master is the data that every request needs and that rarely changes, in memory. Each table is swapped as a whole, so
// that a reader sees one state of it.
type Master struct {
	store       *Store
	log         *slog.Logger
	databaseURL string
	tables      []string // those that are kept

	areas    atomic.Pointer[masterTable[Area]]
	genres   atomic.Pointer[masterTable[Genre]]
	holidays atomic.Pointer[map[Date]struct{}]
	vectors  atomic.Pointer[[]vectorRow]

	// areaChanges counts what renameArea did, so that a reading begun before is not put over it.
	areaMutex   sync.Mutex
	areaChanges int
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
var masterTables = []string{"area", "genre", "holiday", "item_vector"}

func newMaster(c Settings, store *Store, log *slog.Logger) *Master {
	m := &Master{store: store, log: log, databaseURL: c.DatabaseURL, tables: masterTables}
	if c.Master == MasterNone {
		m.tables = []string{"item_vector"} // which no statement of a request reads
	}
	m.areas.Store(newMasterTable(nil, (*Area).ID))
	m.genres.Store(newMasterTable(nil, (*Genre).ID))
	m.holidays.Store(&map[Date]struct{}{})
	m.vectors.Store(&[]vectorRow{})
	return m
}

func (m *Master) area(id int32) *Area   { return m.areas.Load().byID[id] }
func (m *Master) genre(id int32) *Genre { return m.genres.Load().byID[id] }

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
	switch table {
	case "area":
		return m.loadAreas(ctx)
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
	}
	return nil
}

func (m *Master) loadAreas(ctx context.Context) error {
	for {
		m.areaMutex.Lock()
		before := m.areaChanges
		m.areaMutex.Unlock()
		rows, err := m.store.named(ctx, m.store.primary, m.store.areasStatement)
		if err != nil {
			return err
		}
		list := make([]*Area, len(rows))
		for i := range rows {
			list[i] = (*Area)(&rows[i])
		}
		m.areaMutex.Lock()
		same := before == m.areaChanges
		if same {
			m.areas.Store(newMasterTable(list, (*Area).ID))
		}
		m.areaMutex.Unlock()
		if same {
			return nil
		}
	}
}

// renameArea puts what a mutation of this process wrote into memory.
func (m *Master) renameArea(row *namedRow) {
	m.areaMutex.Lock()
	defer m.areaMutex.Unlock()
	m.areaChanges++
	list := slices.Clone(m.areas.Load().list)
	for i, a := range list {
		if a.id == row.id {
			list[i] = (*Area)(row)
		}
	}
	m.areas.Store(newMasterTable(list, (*Area).ID))
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
