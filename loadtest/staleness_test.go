package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/native"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trial"
)

// writing is a contender that writes to the primary and reads from the replica, and refuses after so many writes.
type writing struct {
	engine.Contender
	url   string
	loads *atomic.Int64 // requests of a load beside the writes
	stops *atomic.Int64
}

func (w writing) GraphQLURL() string { return w.url }
func (w writing) LoadURL() string    { return w.url }

// Stop counts, since a server of a test ends with it.
func (w writing) Stop(context.Context) error {
	w.stops.Add(1)
	return nil
}

func newWriting(t *testing.T, database engine.Database, refusesAfter int) writing {
	t.Helper()
	pool := func(url string) *pgxpool.Pool {
		p, err := pgxpool.New(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(p.Close)
		return p
	}
	primary, replica := pool(database.AdminPrimaryURL()), pool(database.AdminReplicaURL())
	writes, loads := 0, &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Query     string
			Variables map[string]string
		}
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&q))
		name, body, ctx := q.Variables["name"], q.Variables["body"], r.Context()
		if name+body != "" {
			if writes++; writes > refusesAfter {
				fmt.Fprint(w, `{"data": null, "errors": [{"message": "enough"}]}`)
				return
			}
		}
		var err error
		var id int
		switch {
		case q.Query == "{ load }":
			loads.Add(1)
			fmt.Fprint(w, `{"data":{"load":1}}`)
		case name != "":
			_, err = primary.Exec(ctx, "update area set name = $1 where id = $2::text::int", name, q.Variables["id"])
			fmt.Fprintf(w, `{"data": {"renameArea": {"name": %q}}}`, name)
		case body != "":
			const add = `insert into review (item_id, author_id, rating, body, created_at) values ($1::text::int, 7, 4, $2, now()) returning id`
			err = primary.QueryRow(ctx, add, q.Variables["item"], body).Scan(&id)
			fmt.Fprintf(w, `{"data": {"addReview": {"review": {"id": "%d"}}}}`, id)
		case q.Variables["item"] != "":
			err = replica.QueryRow(ctx, "select coalesce(max(id), 0) from review where item_id = $1::text::int", q.Variables["item"]).Scan(&id)
			fmt.Fprintf(w, `{"data": {"item": {"reviews": [{"id": "%d"}]}}}`, id)
		default:
			err = replica.QueryRow(ctx, "select name from area where id = 1").Scan(&name)
			fmt.Fprintf(w, `{"data": {"areas": [{"id": "1", "name": %q}]}}`, name)
		}
		assert.NoError(t, err)
	}))
	t.Cleanup(server.Close)
	return writing{url: server.URL, loads: loads, stops: &atomic.Int64{}}
}

// What is written to see how soon it can be read is gone afterwards, on both databases and whatever went wrong.
func TestWhatIsWrittenIsTakenBack(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	binary := filepath.Join(l.root, "bin", "loadtest")
	require.FileExists(t, binary, "run `make build-loadtest` first")
	e, err := native.New(t.Context(), native.Options{Root: l.root, Contract: l.contract, Log: func(string) {}, Binary: binary})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, e.Close(context.WithoutCancel(t.Context()))) })
	database, err := e.Database(t.Context(), engine.DatabaseSpec{Size: "small"})
	require.NoError(t, err)
	state := func() (all []string) {
		for _, url := range []string{database.AdminPrimaryURL(), database.AdminReplicaURL()} {
			c, err := pgx.Connect(t.Context(), url)
			require.NoError(t, err)
			var found string
			const look = `select (select md5(string_agg(a::text, ',' order by id)) from area a) || ' ' || (select count(*) || ' ' || max(id) from review)`
			require.NoError(t, c.QueryRow(t.Context(), look).Scan(&found))
			all = append(all, found)
			require.NoError(t, c.Close(t.Context()))
		}
		return all
	}
	before := state()
	load := trial.Spec{Body: `{"query":"{ load }"}`, Expected: `{"data":{"load":1}}`, RPS: 40, MaxInFlight: 8, Timeout: time.Second, Seed: 7}
	wrong := load
	wrong.Expected = `{"data":{"load":2}}`
	for name, c := range map[string]struct {
		refusesAfter int
		load         trial.Spec
		says         string
	}{
		"all is well":                   {1000, trial.Spec{}, ""},
		"beside a load":                 {1000, load, ""},
		"a load that is answered wrong": {1000, wrong, "of the load beside it"},
		"no more renaming":              {3, trial.Spec{}, "enough"},
		"no more, beside a load":        {3, load, "enough"},
		"the name stays":                {10, trial.Spec{}, "enough"},
		"the name stays, elsewhere too": {20, load, "enough"},
		"no more reviews":               {14, trial.Spec{}, "enough"},
		"nothing is ever done":          {0, trial.Spec{}, "enough"},
	} {
		t.Run(name, func(t *testing.T) {
			server, another := newWriting(t, database, c.refusesAfter), newWriting(t, database, 0)
			subject := trial.Subject{Arm: contender.Arm{Name: "writing"}, Engine: e, Database: database, Contender: server}
			kinds := []string{record.WriteMaster, record.WriteRow}
			if c.load.RPS > 0 {
				kinds = slices.Insert(kinds, 1, record.WriteMasterElsewhere)
				subject.Another = func(context.Context) (engine.Contender, error) { return another, nil }
			}
			got, err := trial.Staleness(t.Context(), subject, c.load)
			assert.Equal(t, c.load.RPS > 0, another.stops.Load() == 1)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
			} else {
				require.NoError(t, err)
				require.Len(t, got, len(kinds))
				for i, x := range got {
					assert.Equal(t, kinds[i], x.Write)
					assert.InDelta(t, c.load.RPS, x.LoadRPS, 0)
					assert.True(t, c.load.RPS > 0 || x.LoadedWrites == 0)
				}
				assert.Equal(t, c.load.RPS > 0, server.loads.Load() > 0)
			}
			require.EventuallyWithT(t, func(t *assert.CollectT) { assert.Equal(t, before, state()) }, 10*time.Second, 10*time.Millisecond, "the replica follows")
		})
	}
}
