package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Rows, as the statements of contract/sql/statements give them. They are read once and then shared: nothing changes one.
type (
	itemRow struct {
		id                                             int32
		name                                           string
		description                                    nullText
		priceCents                                     int32
		openedOn                                       Date
		updatedAt                                      DateTime
		categoryID, areaID, genreID, ownerID, editorID nullID
	}
	reviewRow struct {
		id, itemID, authorID, rating int32
		body                         string
		createdAt                    DateTime
	}
	namedRow struct {
		id   int32
		name string
	}
	reviewStatsRow struct {
		itemID, count int32
		average       float64
	}
	searchRow struct {
		kind  int32
		named namedRow
		item  *itemRow
	}
	vectorRow struct {
		itemID, areaID int32
		features       [vectorSize]int8
	}
	addReviewRow struct {
		itemFound, authorFound bool
		review                 *reviewRow
	}
)

// nullID is an id that may be null.
type nullID struct {
	id    int32
	valid bool
}

// nullText is a text that may be null.
type nullText struct {
	text  string
	valid bool
}

// A statement is one file of contract/sql/statements, sent word for word and prepared on every connection under its
// file's stem: on the first connections at the start, on those that replace them at its first use there.
type statement struct {
	name, sql string
	writes    bool
	// description is what PostgreSQL said of it when it was first prepared; it is the same on every connection.
	description atomic.Pointer[pgconn.StatementDescription]
	count       counter
}

// Store runs the contract's statements.
type Store struct {
	primary, replica *database

	addReviewStatement, renameAreaStatement                                             *statement
	itemsStatement, itemsByAreaStatement, itemsByGenreStatement                         *statement
	itemsByAreaAndGenreStatement, itemsByIDsStatement, itemsByCategoryIDsStatement      *statement
	reviewsByItemIDsStatement, reviewsByUserIDsStatement, reviewStatsByItemIDsStatement *statement
	categoriesStatement, categoriesByIDsStatement, usersByIDsStatement                  *statement
	areasStatement, areasByIDsStatement, genresStatement, genresByIDsStatement          *statement
	holidaysStatement, itemVectorsStatement, masterTextsStatement, searchStatement      *statement
}

// database is one address: its pool and what is prepared there.
type database struct {
	name       string // primary or replica
	pool       *pgxpool.Pool
	statements []*statement
}

// statementFolder is where a contract keeps its statements.
func statementFolder(contractDir string) string {
	return filepath.Join(contractDir, "sql", "statements")
}

// OpenStore reads the statements and makes the pools, which connect in the background.
func OpenStore(c Settings, metrics *Metrics) (*Store, error) {
	s := &Store{}
	var all []*statement
	for stem, at := range map[string]**statement{
		"add_review":               &s.addReviewStatement,
		"rename_area":              &s.renameAreaStatement,
		"items":                    &s.itemsStatement,
		"items_by_area":            &s.itemsByAreaStatement,
		"items_by_genre":           &s.itemsByGenreStatement,
		"items_by_area_and_genre":  &s.itemsByAreaAndGenreStatement,
		"items_by_ids":             &s.itemsByIDsStatement,
		"items_by_category_ids":    &s.itemsByCategoryIDsStatement,
		"reviews_by_item_ids":      &s.reviewsByItemIDsStatement,
		"reviews_by_user_ids":      &s.reviewsByUserIDsStatement,
		"review_stats_by_item_ids": &s.reviewStatsByItemIDsStatement,
		"categories":               &s.categoriesStatement,
		"categories_by_ids":        &s.categoriesByIDsStatement,
		"users_by_ids":             &s.usersByIDsStatement,
		"areas":                    &s.areasStatement,
		"areas_by_ids":             &s.areasByIDsStatement,
		"genres":                   &s.genresStatement,
		"genres_by_ids":            &s.genresByIDsStatement,
		"holidays":                 &s.holidaysStatement,
		"item_vectors":             &s.itemVectorsStatement,
		"master_texts":             &s.masterTextsStatement,
		"search":                   &s.searchStatement,
	} {
		text, err := os.ReadFile(filepath.Join(statementFolder(c.ContractDir), stem+".sql"))
		if err != nil {
			return nil, fmt.Errorf("CONTRACT_DIR=%q: expected statement: %w", c.ContractDir, err)
		}
		*at = &statement{name: stem, sql: string(text), count: metrics.statement(stem)}
		all = append(all, *at)
	}
	s.addReviewStatement.writes = true
	s.renameAreaStatement.writes = true

	var err error
	if s.primary, err = openDatabase(c, "primary", c.DatabaseURL, all); err != nil {
		return nil, err
	}
	s.replica = s.primary
	if c.ReplicaURL != c.DatabaseURL {
		if s.replica, err = openDatabase(c, "replica", c.ReplicaURL, all); err != nil {
			s.primary.pool.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close waits for connections that are in use, then closes all.
func (s *Store) Close() {
	s.primary.pool.Close()
	if s.replica != s.primary {
		s.replica.pool.Close()
	}
}

func (s *Store) databases() []*database {
	if s.replica == s.primary {
		return []*database{s.primary}
	}
	return []*database{s.primary, s.replica}
}

// sessionTimeout is the backstop behind a request's own deadline: PostgreSQL ends what nobody cancelled.
func sessionTimeout(c Settings) string {
	return strconv.FormatInt((c.RequestTimeout + time.Second).Milliseconds(), 10)
}

func openDatabase(c Settings, name, url string, statements []*statement) (*database, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("%s database: %w", name, err)
	}
	d := &database{name: name, statements: statements}
	config.MaxConns = c.PoolSize
	config.MinConns = c.PoolSize
	config.MaxConnLifetime = 365 * 24 * time.Hour
	config.MaxConnIdleTime = 365 * 24 * time.Hour
	config.HealthCheckPeriod = 2 * time.Second
	// A dead connection shows at its first use, and a read is then tried again on another: no ping before each use.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.ConnConfig.RuntimeParams["statement_timeout"] = sessionTimeout(c)
	config.ConnConfig.RuntimeParams["application_name"] = "lab-go"
	d.pool, err = pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("%s database: %w", name, err)
	}
	return d, nil
}

// preparedKey is where a connection keeps the set of what is prepared on it, by name.
const preparedKey = "prepared"

func isPrepared(conn *pgconn.PgConn, s *statement) bool {
	prepared, _ := conn.CustomData()[preparedKey].(map[string]bool)
	return prepared[s.name]
}

func markPrepared(conn *pgconn.PgConn, s *statement) {
	prepared, _ := conn.CustomData()[preparedKey].(map[string]bool)
	if prepared == nil {
		prepared = map[string]bool{}
		conn.CustomData()[preparedKey] = prepared
	}
	prepared[s.name] = true
}

// prepareOne prepares a statement at its first use on a connection that has replaced a dead one. Preparing all of them
// there would wait for any table that is locked, with no request to end it.
func (d *database) prepareOne(ctx context.Context, conn *pgconn.PgConn, s *statement) error {
	description, err := conn.Prepare(ctx, s.name, s.sql, nil)
	if err != nil {
		return err
	}
	s.description.CompareAndSwap(nil, description)
	markPrepared(conn, s)
	return nil
}

// prepareAll prepares every statement that a connection may run, in one round trip.
func (d *database) prepareAll(ctx context.Context, conn *pgx.Conn) error {
	pipeline := conn.PgConn().StartPipeline(ctx)
	var prepared []*statement
	for _, s := range d.statements {
		if s.writes && d.name != "primary" || isPrepared(conn.PgConn(), s) {
			continue
		}
		pipeline.SendPrepare(s.name, s.sql, nil)
		prepared = append(prepared, s)
	}
	if err := pipeline.Sync(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	for _, s := range prepared {
		result, err := pipeline.GetResults()
		if err != nil {
			return errors.Join(fmt.Errorf("prepare %s: %w", s.name, err), pipeline.Close())
		}
		description, ok := result.(*pgconn.StatementDescription)
		if !ok {
			return errors.Join(fmt.Errorf("prepare %s: unexpected %T", s.name, result), pipeline.Close())
		}
		description.Name = s.name // which a pipeline leaves out
		s.description.CompareAndSwap(nil, description)
		markPrepared(conn.PgConn(), s) // it stays, even if one after it cannot be prepared
	}
	if err := pipeline.Close(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	return nil
}

// warm opens every connection of the pool and prepares every statement on it.
func (d *database) warm(ctx context.Context) error {
	size := int(d.pool.Config().MaxConns)
	conns := make([]*pgxpool.Conn, size)
	errs := make([]error, size)
	var wg sync.WaitGroup
	for i := range size {
		wg.Go(func() {
			if conns[i], errs[i] = d.pool.Acquire(ctx); errs[i] == nil {
				errs[i] = d.prepareAll(ctx, conns[i].Conn())
			}
		})
	}
	wg.Wait()
	for _, conn := range conns {
		if conn != nil {
			conn.Release()
		}
	}
	return errors.Join(errs...)
}

// binaryFormat asks for every parameter and column in PostgreSQL's binary format.
var binaryFormat = []int16{pgx.BinaryFormatCode}

// query runs a statement on a pooled connection of its own, given back at once, and hands over its rows. What row gets
// is only valid until it returns.
//
// A read whose connection turns out to be dead is tried again on another one. When ctx ends, the connection is thrown
// away and PostgreSQL is told to cancel what it ran.
func (d *database) query(ctx context.Context, s *statement, parameters [][]byte, row func(columns [][]byte)) error {
	request := requestOf(ctx)
	for attempt := int32(0); ; attempt++ {
		conn, err := d.pool.Acquire(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%s: %w: %w", s.name, errUnavailable, err)
		}
		pg := conn.Conn().PgConn()
		//lint:ignore SA1019 the Ping that it is deprecated for would cost every write a round trip
		if s.writes && pg.CheckConn() != nil {
			// A write is never sent twice, so the connection is looked at first.
			_ = conn.Conn().Close(ctx)
			conn.Release()
			if attempt <= d.pool.Config().MaxConns {
				continue
			}
			return fmt.Errorf("%s: %w", s.name, errUnavailable)
		}
		request.statementBegins()
		if !isPrepared(pg, s) {
			if err := d.prepareOne(ctx, pg, s); err != nil {
				request.statementEnds()
				if !d.retry(ctx, conn, err, attempt) {
					return failure(ctx, s, err)
				}
				continue
			}
		}
		s.count.Inc()
		result := pg.ExecStatement(ctx, s.description.Load(), parameters, binaryFormat, binaryFormat)
		rows := 0
		for result.NextRow() {
			rows++
			row(result.Values())
		}
		_, err = result.Close()
		request.statementEnds()
		if err == nil {
			conn.Release()
			return nil
		}
		again := d.retry(ctx, conn, err, attempt)
		if !again || rows > 0 || s.writes {
			return failure(ctx, s, err)
		}
	}
}

// retry gives a connection back whose statement failed, and tells whether another connection may do better: where this
// one is dead (every one may have died at once) and the request has time left.
func (d *database) retry(ctx context.Context, conn *pgxpool.Conn, err error, attempt int32) bool {
	dead := isConnectionFailure(err)
	if dead {
		_ = conn.Conn().Close(ctx)
	}
	conn.Release()
	return dead && ctx.Err() == nil && attempt <= d.pool.Config().MaxConns
}

// failure is what a statement's error means to a request.
func failure(ctx context.Context, s *statement, err error) error {
	var server *pgconn.PgError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &server) && server.Code == queryCanceled:
		return fmt.Errorf("%s: %w: %w", s.name, errCanceled, err)
	case !isConnectionFailure(err):
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return fmt.Errorf("%s: %w: %w", s.name, errUnavailable, err)
}

// queryCanceled is PostgreSQL's code of a statement that it ended: over the session's statement_timeout, or told to.
const queryCanceled = "57014"

// isConnectionFailure tells a connection that can do nothing more from a statement that failed.
func isConnectionFailure(err error) bool {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return true
	}
	switch server.Code {
	case "57P01", "57P02", "57P03", "53300":
		return true
	}
	return strings.HasPrefix(server.Code, "08")
}

// Parameters in PostgreSQL's binary format.

func int4(v int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

const int4OID = 23

func int4Array(values []int32) []byte {
	b := make([]byte, 0, 20+8*len(values))
	dimensions := uint32(1)
	if len(values) == 0 {
		dimensions = 0
	}
	b = binary.BigEndian.AppendUint32(b, dimensions)
	b = binary.BigEndian.AppendUint32(b, 0) // no nulls
	b = binary.BigEndian.AppendUint32(b, int4OID)
	if len(values) == 0 {
		return b
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(values)))
	b = binary.BigEndian.AppendUint32(b, 1) // the first index
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, 4)
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	return b
}

// Columns in PostgreSQL's binary format.

func readInt4(b []byte) int32 { return int32(binary.BigEndian.Uint32(b)) }

func readNullID(b []byte) nullID {
	if b == nil {
		return nullID{}
	}
	return nullID{readInt4(b), true}
}

func readNullText(b []byte) nullText {
	return nullText{string(b), b != nil}
}

// postgresEpochDays is 2000-01-01, from which PostgreSQL counts, in days since 1970-01-01.
const postgresEpochDays = 10957

func readDate(b []byte) Date { return Date(readInt4(b) + postgresEpochDays) }

func readDateTime(b []byte) DateTime {
	const millisecondsOfDay = 24 * 60 * 60 * 1000
	return DateTime(floorDivide(int64(binary.BigEndian.Uint64(b)), 1000) + postgresEpochDays*millisecondsOfDay)
}

func readFloat8(b []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b)) }

func readItem(c [][]byte) itemRow {
	return itemRow{
		id:          readInt4(c[0]),
		name:        string(c[1]),
		description: readNullText(c[2]),
		priceCents:  readInt4(c[3]),
		openedOn:    readDate(c[4]),
		updatedAt:   readDateTime(c[5]),
		categoryID:  readNullID(c[6]),
		areaID:      readNullID(c[7]),
		genreID:     readNullID(c[8]),
		ownerID:     readNullID(c[9]),
		editorID:    readNullID(c[10]),
	}
}

func readReview(c [][]byte) reviewRow {
	return reviewRow{
		id:        readInt4(c[0]),
		itemID:    readInt4(c[1]),
		authorID:  readInt4(c[2]),
		rating:    readInt4(c[3]),
		body:      string(c[4]),
		createdAt: readDateTime(c[5]),
	}
}

func readNamed(c [][]byte) namedRow { return namedRow{readInt4(c[0]), string(c[1])} }

// collect runs a statement and keeps its rows.
func collect[R any](ctx context.Context, d *database, s *statement, sizeHint int, read func([][]byte) R, parameters ...[]byte) ([]R, error) {
	rows := make([]R, 0, sizeHint)
	err := d.query(ctx, s, parameters, func(c [][]byte) { rows = append(rows, read(c)) })
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// items reads a page of items by id; area and genre narrow it where they are given.
func (s *Store) items(ctx context.Context, d *database, after, first int32, area, genre nullID) ([]itemRow, error) {
	size := int(first)
	switch {
	case area.valid && genre.valid:
		return collect(ctx, d, s.itemsByAreaAndGenreStatement, size, readItem, int4(after), int4(first), int4(area.id), int4(genre.id))
	case area.valid:
		return collect(ctx, d, s.itemsByAreaStatement, size, readItem, int4(after), int4(first), int4(area.id))
	case genre.valid:
		return collect(ctx, d, s.itemsByGenreStatement, size, readItem, int4(after), int4(first), int4(genre.id))
	default:
		return collect(ctx, d, s.itemsStatement, size, readItem, int4(after), int4(first))
	}
}

func (s *Store) itemsByIDs(ctx context.Context, d *database, ids []int32) ([]itemRow, error) {
	return collect(ctx, d, s.itemsByIDsStatement, len(ids), readItem, int4Array(ids))
}

// itemsByCategoryIDs gives items in the order of ids, then by id; their category is the key.
func (s *Store) itemsByCategoryIDs(ctx context.Context, d *database, ids []int32, first int32) ([]itemRow, error) {
	return collect(ctx, d, s.itemsByCategoryIDsStatement, sizeHint(len(ids), first), readItem, int4Array(ids), int4(first))
}

func (s *Store) reviewsByItemIDs(ctx context.Context, d *database, ids []int32, first int32) ([]reviewRow, error) {
	return collect(ctx, d, s.reviewsByItemIDsStatement, sizeHint(len(ids), first), readReview, int4Array(ids), int4(first))
}

func (s *Store) reviewsByUserIDs(ctx context.Context, d *database, ids []int32, first int32) ([]reviewRow, error) {
	return collect(ctx, d, s.reviewsByUserIDsStatement, sizeHint(len(ids), first), readReview, int4Array(ids), int4(first))
}

// sizeHint guesses how many rows come for n keys, and stays small where first is large.
func sizeHint(n int, first int32) int { return n * int(min(first, 8)) }

func (s *Store) reviewStatsByItemIDs(ctx context.Context, d *database, ids []int32) ([]reviewStatsRow, error) {
	return collect(ctx, d, s.reviewStatsByItemIDsStatement, len(ids), func(c [][]byte) reviewStatsRow {
		return reviewStatsRow{readInt4(c[0]), readInt4(c[1]), readFloat8(c[2])}
	}, int4Array(ids))
}

func (s *Store) named(ctx context.Context, d *database, statement *statement) ([]namedRow, error) {
	return collect(ctx, d, statement, 64, readNamed)
}

func (s *Store) namedByIDs(ctx context.Context, d *database, statement *statement, ids []int32) ([]namedRow, error) {
	return collect(ctx, d, statement, len(ids), readNamed, int4Array(ids))
}

func (s *Store) holidays(ctx context.Context, d *database) ([]Date, error) {
	return collect(ctx, d, s.holidaysStatement, 128, func(c [][]byte) Date { return readDate(c[0]) })
}

func (s *Store) itemVectors(ctx context.Context, d *database) ([]vectorRow, error) {
	var broken error
	rows, err := collect(ctx, d, s.itemVectorsStatement, 1024, func(c [][]byte) vectorRow {
		v := vectorRow{itemID: readInt4(c[0]), areaID: readInt4(c[1])}
		if len(c[2]) != vectorSize {
			broken = fmt.Errorf("item_vectors: item %d has %d features, expected %d", v.itemID, len(c[2]), vectorSize)
			return v
		}
		for i, b := range c[2] {
			v.features[i] = int8(b)
		}
		return v
	})
	return rows, errors.Join(err, broken)
}

// A row of master data in bulk has textBytes; so many of them are read at once that a reading ends long before a statement's
// time.
const (
	textBytes    = 1024
	textsPerPage = 4096
)

// masterTexts reads the first so many rows of master data in bulk. It is an error if there are fewer.
func (s *Store) masterTexts(ctx context.Context, d *database, rows int32) ([]string, error) {
	texts := make([]string, 0, rows)
	for after := int32(0); after < rows; after += textsPerPage {
		err := d.query(ctx, s.masterTextsStatement, [][]byte{int4(after), int4(min(after+textsPerPage, rows))}, func(c [][]byte) {
			texts = append(texts, string(c[0]))
		})
		if err != nil {
			return nil, err
		}
	}
	if len(texts) != int(rows) {
		return nil, fmt.Errorf("master_texts: the database has %d of %d rows", len(texts), rows)
	}
	return texts, nil
}

// The kinds of a row of search.
const (
	searchArea = 1 + iota
	searchGenre
	searchCategory
	searchItem
)

func (s *Store) search(ctx context.Context, d *database, text string, first int32) ([]searchRow, error) {
	return collect(ctx, d, s.searchStatement, int(min(first, 64)), func(c [][]byte) searchRow {
		r := searchRow{kind: readInt4(c[0])}
		if r.kind == searchItem {
			item := readItem(c[1:])
			r.item = &item
		} else {
			r.named = readNamed(c[1:])
		}
		return r
	}, []byte(text), int4(first))
}

func (s *Store) addReview(ctx context.Context, itemID, authorID, rating int32, body string) (addReviewRow, error) {
	rows, err := collect(ctx, s.primary, s.addReviewStatement, 1, func(c [][]byte) addReviewRow {
		r := addReviewRow{itemFound: c[0][0] != 0, authorFound: c[1][0] != 0}
		if c[2] != nil {
			review := readReview(c[2:])
			r.review = &review
		}
		return r
	}, int4(itemID), int4(authorID), int4(rating), []byte(body))
	if err != nil {
		return addReviewRow{}, err
	}
	if len(rows) != 1 {
		return addReviewRow{}, fmt.Errorf("add_review: %d rows, expected 1", len(rows))
	}
	return rows[0], nil
}

// renameArea gives nil where there is no such area.
func (s *Store) renameArea(ctx context.Context, id int32, name string) (*namedRow, error) {
	rows, err := collect(ctx, s.primary, s.renameAreaStatement, 1, readNamed, int4(id), []byte(name))
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}
