package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
)

// contenderRole is the role that contenders have in every database; ours has another, so what we run is not counted.
const contenderRole = "lab"

// watch counts, by query id, what contenders run in one database on both servers.
type watch struct {
	primary, replica *pgx.Conn
	contract         *contract.Contract
	// stems has the name of the statement file for each query id.
	stems   map[int64]string
	changes int
}

// counted is how often each statement ran; foreign ones are under their text.
type counted struct {
	primary, replica map[string]int
	foreign          map[string]int
	// changes is how many times areas were renamed since the watch began.
	changes int
	// listeners is how many processes are told of a change.
	listeners int
}

// watch connects to a database of the lab and learns the query ids of the statement files there.
func (p *prover) watch(ctx context.Context, db engine.Database) (*watch, error) {
	w := &watch{contract: p.Contract, stems: map[int64]string{}}
	var err error
	if w.primary, err = pgx.Connect(ctx, db.AdminPrimaryURL()); err != nil {
		return nil, fmt.Errorf("watch the primary: %w", err)
	}
	if w.replica, err = pgx.Connect(ctx, db.AdminReplicaURL()); err != nil {
		w.close(ctx)
		return nil, fmt.Errorf("watch the replica: %w", err)
	}
	if err := w.learn(ctx); err != nil {
		w.close(ctx)
		return nil, err
	}
	return w, nil
}

func (w *watch) close(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	_ = w.primary.Close(ctx)
	if w.replica != nil {
		_ = w.replica.Close(ctx)
	}
}

// learn runs each statement file's text once, with nulls, in transactions that are rolled back, and sees which query id
// it has. The replica is a physical copy: there it is the same.
func (w *watch) learn(ctx context.Context) error {
	reset := `select pg_stat_statements_reset((select oid from pg_roles where rolname = current_user),
		(select oid from pg_database where datname = current_database()), 0)`
	if _, err := w.primary.Exec(ctx, reset); err != nil {
		return fmt.Errorf("reset pg_stat_statements: %w", err)
	}
	seen, err := w.read(ctx, w.primary, "current_user")
	if err != nil {
		return err
	}
	for _, stem := range slices.Sorted(maps.Keys(w.contract.Statements)) {
		if err := w.runOnce(ctx, w.contract.Statements[stem]); err != nil {
			return fmt.Errorf("run statement %s: %w", stem, err)
		}
	}
	now, err := w.read(ctx, w.primary, "current_user")
	if err != nil {
		return err
	}
	var ids []int64
	for id := range now {
		if _, old := seen[id]; !old {
			ids = append(ids, id)
		}
	}
	ran, err := texts(ctx, w.primary, ids)
	if err != nil {
		return err
	}
	byText := map[string]string{}
	for stem, text := range w.contract.Statements {
		byText[firstLine(text)] = stem
	}
	for id, text := range ran {
		// Every file begins with a comment of its own, which pg_stat_statements keeps.
		if stem, ok := byText[firstLine(text)]; ok {
			w.stems[id] = stem
		}
	}
	if len(w.stems) != len(w.contract.Statements) {
		return fmt.Errorf("found the query ids of %d statement files of %d: two may be the same statement, or pg_stat_statements.max is too small", len(w.stems), len(w.contract.Statements))
	}
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(line)
}

// runOnce runs a text with the extended protocol, as contenders do.
func (w *watch) runOnce(ctx context.Context, text string) error {
	tx, err := w.primary.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // nothing is to stay
	pg := w.primary.PgConn()
	description, err := pg.Prepare(ctx, "", text, nil)
	if err != nil {
		return err
	}
	return pg.ExecPrepared(ctx, "", make([][]byte, len(description.ParamOIDs)), nil, nil).Read().Err
}

// calls are numbers of runs by query id.
type calls map[int64]int64

// read gives what a role has run in this database. It leaves the texts where they are: they stand in one file for all
// databases, which grows long.
func (w *watch) read(ctx context.Context, conn *pgx.Conn, role string) (calls, error) {
	rows, err := conn.Query(ctx, `
		select s.queryid, s.calls from pg_stat_statements(false) s
		where s.dbid = (select oid from pg_database where datname = current_database())
			and s.userid = (select oid from pg_roles where rolname = `+role+`) and s.queryid is not null`)
	if err != nil {
		return nil, fmt.Errorf("read pg_stat_statements: %w", err)
	}
	read := calls{}
	var id, n int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		read[id] += n
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read pg_stat_statements: %w", err)
	}
	return read, nil
}

// texts gives the texts of statements in this database.
func texts(ctx context.Context, conn *pgx.Conn, ids []int64) (map[int64]string, error) {
	rows, err := conn.Query(ctx, `
		select s.queryid, s.query from pg_stat_statements s
		where s.dbid = (select oid from pg_database where datname = current_database()) and s.queryid = any($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("read pg_stat_statements: %w", err)
	}
	byID := map[int64]string{}
	var id int64
	var text *string
	if _, err := pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		if text != nil {
			byID[id] = *text
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read pg_stat_statements: %w", err)
	}
	return byID, nil
}

// idle returns when no statement of a contender runs in this database any more: what has ended is counted.
func (w *watch) idle(ctx context.Context) error {
	for _, conn := range []*pgx.Conn{w.primary, w.replica} {
		var err error
		busy := 0
		ok := eventually(ctx, patience, func() bool {
			busy, err = active(ctx, conn)
			return err != nil || busy == 0
		})
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%d statements still run after %s", busy, patience)
		}
	}
	return ctx.Err()
}

// active counts the contenders' backends that are in a statement or a transaction.
func active(ctx context.Context, conn *pgx.Conn) (int, error) {
	var n int
	err := conn.QueryRow(ctx, `select count(*)::int from pg_stat_activity
		where datname = current_database() and usename = $1 and state <> 'idle'`, contenderRole).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("read pg_stat_activity: %w", err)
	}
	return n, nil
}

// listeners counts the contenders' connections whose last statement was LISTEN: one for each process that keeps master data.
func listeners(ctx context.Context, primary *pgx.Conn) (int, error) {
	var n int
	err := primary.QueryRow(ctx, `select count(*)::int from pg_stat_activity
		where datname = current_database() and usename = $1 and query ~* '^\s*listen\M'`, contenderRole).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("read pg_stat_activity: %w", err)
	}
	return n, nil
}

// settle waits until nothing is counted any more. Where an answer is given up on a first error, statements that waited for
// a connection may still run after it, with moments between them in which the database is idle.
func (w *watch) settle(ctx context.Context) error {
	const still = 20 * time.Millisecond
	var last [2]calls
	var err error
	settled := eventually(ctx, patience, func() bool {
		if err = w.idle(ctx); err != nil {
			return true
		}
		var now [2]calls
		if now, err = w.readBoth(ctx); err != nil {
			return true
		}
		same := last[0] != nil && maps.Equal(now[0], last[0]) && maps.Equal(now[1], last[1])
		last = now
		if !same {
			select {
			case <-ctx.Done():
			case <-time.After(still):
			}
		}
		return same
	})
	if err == nil && !settled {
		err = fmt.Errorf("statements still begin after %s", patience)
	}
	return err
}

// count tells what ran while f did. q is what f asks.
func (w *watch) count(ctx context.Context, q *question, f func()) (counted, error) {
	var result counted
	if err := w.idle(ctx); err != nil {
		return result, err
	}
	before, err := w.readBoth(ctx)
	if err != nil {
		return result, err
	}
	f()
	wait := w.idle
	if q.mayGiveUp() {
		wait = w.settle
	}
	if err := wait(ctx); err != nil {
		return result, err
	}
	after, err := w.readBoth(ctx)
	if err != nil {
		return result, err
	}
	result = counted{primary: map[string]int{}, replica: map[string]int{}, foreign: map[string]int{}}
	conns := []*pgx.Conn{w.primary, w.replica}
	for i, into := range []map[string]int{result.primary, result.replica} {
		unknown := calls{}
		for id, total := range after[i] {
			n := total - before[i][id]
			if n <= 0 {
				continue
			}
			if stem, known := w.stems[id]; known {
				into[stem] += int(n)
			} else {
				unknown[id] = n
			}
		}
		if len(unknown) == 0 {
			continue
		}
		byID, err := texts(ctx, conns[i], slices.Collect(maps.Keys(unknown)))
		if err != nil {
			return result, err
		}
		for id, n := range unknown {
			if text := byID[id]; !allowedForeign(text) {
				result.foreign[oneLine(text)] += int(n)
			}
		}
	}
	w.changes += result.primary["rename_area"]
	result.changes = w.changes
	result.listeners, err = listeners(ctx, w.primary)
	return result, err
}

func (w *watch) readBoth(ctx context.Context) (both [2]calls, err error) {
	role := "'" + contenderRole + "'"
	if both[0], err = w.read(ctx, w.primary, role); err != nil {
		return both, err
	}
	both[1], err = w.read(ctx, w.replica, role)
	return both, err
}

// foreignStatements are those that a server may run without a file in sql/statements: LISTEN, the health check, settings
// of the session, and the pool's own transactions.
var foreignStatements = regexp.MustCompile(`(?is)^\s*(--[^\n]*\n\s*)*(` +
	`(un)?listen\b[^;]*|select (1|\$1)( as \w+)?|(set|reset|show|discard|deallocate)\b[^;]*|` +
	`(begin|start transaction|commit|rollback|end)\b[^;]*)\s*;?\s*$`)

func allowedForeign(query string) bool { return foreignStatements.MatchString(query) }

// readingsPerChange is how often a process may read the areas again for one change: once as it is told to, and again where
// its own mutation overtakes that reading.
const readingsPerChange = 3

// readingsOfCache is how often, while one count lasts, servers may read a whole table for a Redis that did not answer in time
// and is to forget it.
const readingsOfCache = 20

// checkCounts compares what ran for n requests with what may run for each. Where n requests at once ran fewer statements than
// they may alone, they shared some: nothing else shows a loader that batches across requests, since its answers are right.
func (s *subject) checkCounts(t *tally, q *question, got counted, n int, detail string) {
	ranges := map[string]contract.Range{}
	if q.operation != nil {
		maps.Copy(ranges, q.operation.Statements[s.setting])
	}
	right, wrong, rightName, wrongName := got.replica, got.primary, "replica", "primary"
	if q.mutates || !s.arm.ReadsReplica() {
		right, wrong, rightName, wrongName = wrong, right, wrongName, rightName
	}
	find := func(stem, expected, got string) {
		t.find(Finding{Operation: q.name, Path: "statement " + stem, Expected: expected, Got: got, Detail: detail})
	}
	cached := func(stem string) bool { return s.arm.UsesRedis() && slices.Contains(contract.MasterStatements, stem) }
	for _, stem := range slices.Sorted(maps.Keys(wrong)) {
		if cached(stem) {
			continue // what Redis does not have is read from the primary, since a replica may not have what was announced
		}
		find(stem, "that it runs on the "+rightName, fmt.Sprintf("%d on the %s", wrong[stem], wrongName))
	}
	for _, stem := range slices.Sorted(maps.Keys(s.Contract.Statements)) {
		r, allowed := ranges[stem]
		ran := right[stem] + wrong[stem]
		if stem == "areas" && q.mutates && ran <= readingsPerChange*got.changes*max(1, got.listeners) {
			// Whoever keeps areas in memory hears of a change and reads them again, perhaps after the next request has come.
			continue
		}
		if cached(stem) && !strings.HasSuffix(stem, "_by_ids") && ran <= r.Max*n+readingsOfCache {
			continue
		}
		switch {
		case !allowed && ran > 0:
			find(stem, "that it does not run", fmt.Sprintf("%d for %s", ran, requests(n)))
		case ran < r.Min*n:
			find(stem, fmt.Sprintf("%s for %s", span(r, n), requests(n)), fmt.Sprintf("%d, too few", ran))
		case ran > r.Max*n:
			find(stem, fmt.Sprintf("%s for %s", span(r, n), requests(n)), fmt.Sprintf("%d, too many", ran))
		}
	}
	for _, text := range slices.Sorted(maps.Keys(got.foreign)) {
		short := text
		if len(short) > 160 {
			short = short[:160] + "…"
		}
		find("of no file", "only the texts of contract/sql/statements", fmt.Sprintf("%d × %s", got.foreign[text], short))
	}
}

func requests(n int) string {
	if n == 1 {
		return "one request"
	}
	return fmt.Sprintf("%d requests", n)
}

func span(r contract.Range, n int) string {
	if r.Min == r.Max {
		return fmt.Sprint(r.Min * n)
	}
	return fmt.Sprintf("%d to %d", r.Min*n, r.Max*n)
}

// tellingFindings is how many findings end a count of statements.
const tellingFindings = 20

// statementsAlone counts each operation's statements for one request.
func statementsAlone(ctx context.Context, s *subject, t *tally) error {
	return s.countEach(ctx, t, 1)
}

// statementsAt counts each operation's statements for so many requests at once.
func statementsAt(n int) func(context.Context, *subject, *tally) error {
	return func(ctx context.Context, s *subject, t *tally) error { return s.countEach(ctx, t, n) }
}

func (s *subject) countEach(ctx context.Context, t *tally, n int) error {
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	w, err := s.watch(ctx, s.database)
	if err != nil {
		return err
	}
	defer w.close(ctx)
	for _, q := range s.answerable() {
		if s.Form == Short && !q.headline {
			continue
		}
		if n > 16 && q.requestError != "" {
			continue // refused before anything runs, which one at a time and sixteen have shown
		}
		// So many at once as was asked for; of the naive server's heaviest fewer, or the database is busy for minutes.
		sent := s.bounded(q, n)
		got, err := w.count(ctx, q, func() {
			atOnce(sent, func(int) { s.pose(ctx, t, url, q, graphqlResponse, fmt.Sprintf("%d at once", sent)) })
		})
		if err != nil {
			return fmt.Errorf("operation %s: %w", q.name, err)
		}
		s.together[q] = max(s.together[q], sent)
		s.checkCounts(t, q, got, sent, fmt.Sprintf("%d at once", sent))
		// What one operation shows, the next ones would show again, and a server without batches takes its time over it.
		if t.distinct() >= tellingFindings {
			return nil
		}
	}
	if s.Form == Short || notFloor(s) != "" {
		return nil
	}
	if err := s.mutate(ctx); err != nil {
		return err
	}
	for _, q := range s.operations {
		m := s.mutated[q.name]
		if m == nil {
			continue
		}
		if n == 1 {
			s.checkCounts(t, q, m.alone, 1, "on a fresh copy of the data")
		} else if got, made := m.many[n]; made {
			s.checkCounts(t, q, got, n, fmt.Sprintf("%d at once", n))
		}
	}
	return nil
}

// written stands for all that was ever written to a database: the rows of its tables, the transactions that wrote them, and
// where its sequences stand. The log's position would say the same of the whole server, where other copies are made, written
// to and dropped meanwhile.
func written(ctx context.Context, primary *pgx.Conn) (string, error) {
	parts, err := collect(ctx, primary, `select case relkind
		when 'S' then format('select %L || last_value || is_called from %I', relname, relname)
		else format('select %L || count(*) || '' '' || coalesce(sum(xmin::text::bigint), 0) from %I', relname || ' ', relname) end
		from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'S') order by relname`)
	if err == nil {
		parts, err = collect(ctx, primary, strings.Join(parts, " union all "))
	}
	if err != nil {
		return "", fmt.Errorf("read what was written: %w", err)
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n"), nil
}

// collect gives the texts that a statement selects.
func collect(ctx context.Context, conn *pgx.Conn, sql string) ([]string, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

var errStillThere = errors.New("still there")

// gone waits until no statement of a contender runs in the database, at most so long.
func (w *watch) gone(ctx context.Context, within time.Duration) error {
	var err error
	var n [2]int
	if eventually(ctx, within, func() bool {
		for i, conn := range []*pgx.Conn{w.primary, w.replica} {
			if n[i], err = active(ctx, conn); err != nil {
				return true
			}
		}
		return n[0]+n[1] == 0
	}) {
		return err
	}
	return fmt.Errorf("%d on the primary, %d on the replica: %w", n[0], n[1], errStillThere)
}
