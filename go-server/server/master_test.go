package server

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAddBusinessDays(t *testing.T) {
	date := func(s string) Date {
		d, err := parseDate(s)
		require.NoError(t, err)
		return d
	}
	holidays := newHolidays([]Date{date("2026-05-01"), date("2026-05-04"), date("2026-05-09")}) // Friday, Monday, Saturday
	for _, c := range []struct {
		name, from string
		days       int32
		want       string
	}{
		{"none", "2026-05-02", 0, "2026-05-02"},
		{"over a weekend with holidays on both sides", "2026-04-30", 1, "2026-05-05"},
		{"from a holiday", "2026-05-01", 1, "2026-05-05"},
		{"a holiday on a weekend counts once", "2026-05-08", 1, "2026-05-11"},
		{"a week", "2026-05-05", 5, "2026-05-12"},
		{"over a leap day", "2024-02-28", 2, "2024-03-01"},
		{"before the table", "1899-12-29", 1, "1900-01-01"},
		{"the last one", "9999-12-30", 1, "9999-12-31"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := addBusinessDays(context.Background(), date(c.from), c.days, holidays)
			require.NoError(t, err)
			assert.Equal(t, c.want, string(appendDate(nil, got)))
		})
	}
	_, err := addBusinessDays(context.Background(), date("9999-12-31"), 1, holidays)
	assert.Error(t, err)

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = addBusinessDays(ended, date("2026-05-05"), 1, holidays)
	assert.ErrorIs(t, err, context.Canceled)
}

// Renaming an area and reading them take turns: otherwise an older name might be put over a newer one, for good.
func TestAreasAreRenamedAndReadInTurn(t *testing.T) {
	app := startApp(t, map[string]string{"REQUEST_TIMEOUT": "30s"})
	ctx, handler := context.Background(), app.Handler()
	blocker, conn := connect(t), connect(t)
	for _, table := range []string{"area", "genre"} {
		for _, id := range []int32{8, 9} {
			before := sqlText(t, "select name from "+table+" where id = $1", id)
			t.Cleanup(func() {
				_, err := connect(t).Exec(ctx, "update "+table+" set name = $1 where id = $2", before, id)
				assert.NoError(t, err)
			})
		}
	}
	transaction, err := blocker.Begin(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = transaction.Rollback(ctx) }) // before the names are put back, which would wait for it
	_, err = transaction.Exec(ctx, "update area set name = 'theirs' where id = 8")
	require.NoError(t, err)
	readings := statementCounts(t, app)["areas"]

	renamed := make(chan answer, 1)
	go func() { renamed <- post(handler, `mutation{renameArea(id:8,name:"ours"){name}}`, "") }()
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, conn.QueryRow(ctx, `select count(*) from pg_stat_activity
			where datname = current_database() and application_name = 'lab-go' and wait_event_type = 'Lock'`).Scan(&n))
		return n == 1
	}, 3*time.Second, time.Millisecond, "the statement waits for the row")
	_, err = conn.Exec(ctx, "update area set name = 'meanwhile' where id = 9")
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "update genre set name = 'meanwhile' where id = 9")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return app.master.genre(9).name == "meanwhile" }, 3*time.Second, time.Millisecond,
		"other tables are read")
	assert.Equal(t, readings, statementCounts(t, app)["areas"])
	late, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, err = app.master.renameArea(late, 8, "late")
	require.ErrorIs(t, err, context.DeadlineExceeded, "a request waits no longer than it may")

	require.NoError(t, transaction.Commit(ctx))
	assert.Equal(t, `{"data":{"renameArea":{"name":"ours"}}}`, (<-renamed).body)
	assert.Equal(t, "ours", app.master.area(8).name)
	require.Eventually(t, func() bool { return app.master.area(9).name == "meanwhile" }, 10*time.Second, time.Millisecond)
	assert.Equal(t, "ours", app.master.area(8).name)
}

func TestMasterDataInBulkIsInMemory(t *testing.T) {
	app := startApp(t, map[string]string{"MASTER_MB": "1"})
	page := send(app.Handler(), http.MethodGet, "/metrics", "", nil).body
	assert.Contains(t, page, "\nlab_master_text_bytes 1.048576e+06\n")
	texts := *app.master.texts.Load()
	assert.Len(t, texts, 1024)
	for _, row := range []int{1, 1024} {
		assert.Equal(t, sqlText(t, "select body from master_text where id = $1", row), texts[row-1])
	}

	// More than the database has: nobody would know what is measured.
	settings := app.config
	settings.MasterMB = 2
	short := newMaster(settings, app.store, nil, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, short.loadMaster(context.Background(), true), "master_texts: the database has 1024 of 2048 rows")
}
