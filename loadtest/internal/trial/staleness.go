package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

const (
	// staleWrites are made of each kind.
	staleWrites = 10
	// stalePatience is how long a write may take to be readable: the contract says soon, and conformance that it happens.
	stalePatience = 5 * time.Second
	// stalePace is how far apart writes begin at least, so that they are spread over the load beside them.
	stalePace = 25 * time.Millisecond
	// staleLead is how long the load has to begin before the first write, and staleLoad how long it runs.
	staleLead, staleLoad = 200 * time.Millisecond, 1200 * time.Millisecond
	// anotherPatience is how long another server may take to stop.
	anotherPatience = 20 * time.Second
	// StalenessTime is about how long it takes in one trial, the start of another server included.
	StalenessTime = staleLoad + 800*time.Millisecond
	// staleArea is what is renamed, and staleItem what reviews are added to: beyond what the headline operations read, and
	// what a scenario's load writes to.
	staleArea, staleItem = 1, 901
)

// Staleness makes writes and looks how soon each can be read, beside the trial's load at its common rate; without a rate
// beside none. What becomes of master data is also asked of another server, where the subject says how to start one. When it
// returns, all is as it was: the area has its name again, as the server answers it, and the reviews are gone from both
// databases, but for those that the load itself adds meanwhile.
func Staleness(ctx context.Context, s Subject, spec Spec) (out []record.Staleness, err error) {
	if s.Database == nil {
		return nil, errors.New("staleness: there is no database")
	}
	w := &writer{client: &http.Client{Timeout: stalePatience, Transport: &http.Transport{}}, url: s.Contender.GraphQLURL()}
	defer w.client.CloseIdleConnections()
	if s.Another != nil {
		another, startErr := s.Another(ctx)
		if startErr != nil {
			return nil, fmt.Errorf("staleness of %s: another server beside it: %w", s.Arm.Name, startErr)
		}
		defer func() {
			w.client.CloseIdleConnections() // a server waits for its clients
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), anotherPatience)
			defer cancel()
			if stopErr := another.Stop(stop); stopErr != nil && err == nil {
				out, err = nil, fmt.Errorf("staleness of %s: another server beside it did not end as it should: %w", s.Arm.Name, stopErr)
			}
		}()
		w.elsewhere = another.GraphQLURL()
	}
	var beside errgroup.Group
	var load *agent.Result
	if spec.RPS > 0 {
		w.pace = stalePace
		job := spec.job(s)
		job.Duration = staleLoad
		beside.Go(func() (err error) {
			if load, err = flawless(ctx, s, job); err != nil {
				err = fmt.Errorf("of the load beside it: %w", err)
			}
			return err
		})
		_ = wait(ctx, time.Now().Add(staleLead)) // who is interrupted is told so by the first write
	}
	out, err = w.all(ctx, s.Database)
	// Whatever became of the writes: the generator must have ended before anything else is measured.
	if loadErr := beside.Wait(); err == nil {
		err = loadErr
	}
	if err != nil {
		return nil, fmt.Errorf("staleness of %s: %w", s.Arm.Name, err)
	}
	if load != nil {
		for i := range out {
			out[i].LoadRPS = spec.RPS
			for _, at := range w.readable[i] {
				if at.After(load.Began) && at.Before(load.Began.Add(load.Elapsed)) {
					out[i].LoadedWrites++
				}
			}
		}
	}
	return out, nil
}

// writer writes and reads through one contender.
type writer struct {
	client *http.Client
	url    string
	// elsewhere is where another server of the arm is, or nothing.
	elsewhere string
	// pace is how far apart writes begin; 0: each when the last can be read.
	pace time.Duration
	// readable is when what was written could be read, of each kind of writes.
	readable [][]time.Time
}

func (w *writer) all(ctx context.Context, database engine.Database) (out []record.Staleness, err error) {
	primary, err := pgx.Connect(ctx, database.AdminPrimaryURL())
	if err != nil {
		return nil, err
	}
	defer primary.Close(context.WithoutCancel(ctx))
	var name string
	if err := primary.QueryRow(ctx, "select name from area where id = $1", staleArea).Scan(&name); err != nil {
		return nil, fmt.Errorf("area %d: %w", staleArea, err)
	}
	last, err := LastReview(ctx, database)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		// Whoever comes next must not find it. The way by the server, which comes first, tells its caches too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stalePatience)
		defer cancel()
		err = errors.Join(err, takeBackName(ctx, database, name), RemoveReviews(ctx, database, last))
	}()
	for _, kind := range []struct{ write, at string }{{record.WriteMaster, w.url}, {record.WriteMasterElsewhere, w.elsewhere}} {
		if kind.at == "" {
			continue
		}
		renamed, err := w.many(ctx, func(n int) (time.Duration, int, error) {
			return w.rename(ctx, fmt.Sprintf("Area as of write %d of %s", n, kind.write), kind.at)
		})
		if err != nil {
			return nil, err
		}
		renamed.Write = kind.write
		out = append(out, renamed)
	}
	if _, _, err := w.rename(ctx, name, w.url); err != nil {
		return nil, err
	}
	added, err := w.many(ctx, func(n int) (time.Duration, int, error) { return w.review(ctx, n) })
	if err != nil {
		return nil, err
	}
	if err := RemoveReviews(ctx, database, last); err != nil {
		return nil, err
	}
	added.Write = record.WriteRow
	return append(out, added), nil
}

// onPrimary has a connection of its own to the primary for a while.
func onPrimary(ctx context.Context, database engine.Database, do func(primary *pgx.Conn) error) error {
	primary, err := pgx.Connect(ctx, database.AdminPrimaryURL())
	if err != nil {
		return err
	}
	defer primary.Close(context.WithoutCancel(ctx))
	return do(primary)
}

// takeBackName gives the area its name again. It connects anew: that the connection from before has ended may be what is wrong.
func takeBackName(ctx context.Context, database engine.Database, name string) error {
	err := onPrimary(ctx, database, func(primary *pgx.Conn) error {
		_, err := primary.Exec(ctx, "update area set name = $2 where id = $1", staleArea, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("take back the name of area %d: %w", staleArea, err)
	}
	return nil
}

// LastReview is the highest id of a review.
func LastReview(ctx context.Context, database engine.Database) (id int32, err error) {
	err = onPrimary(ctx, database, func(primary *pgx.Conn) error {
		return primary.QueryRow(ctx, "select coalesce(max(id), 0)::int4 from review").Scan(&id)
	})
	return id, err
}

// RemoveReviews removes the reviews after that one, and returns when the replica has none of them any more.
func RemoveReviews(ctx context.Context, database engine.Database, after int32) error {
	ctx, cancel := context.WithTimeout(ctx, stalePatience)
	defer cancel()
	err := onPrimary(ctx, database, func(primary *pgx.Conn) error {
		if _, err := primary.Exec(ctx, "delete from review where id > $1", after); err != nil {
			return fmt.Errorf("remove what was written: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return database.WaitReplica(ctx)
}

// many makes the writes of one kind.
func (w *writer) many(ctx context.Context, one func(n int) (took time.Duration, stale int, err error)) (record.Staleness, error) {
	out := record.Staleness{Writes: staleWrites}
	var all []int64
	var at []time.Time
	for n := range staleWrites {
		next := time.Now().Add(w.pace)
		took, stale, err := one(n)
		if err != nil {
			return out, err
		}
		all, at, out.StaleReads = append(all, int64(took)), append(at, time.Now()), out.StaleReads+stale
		if err := wait(ctx, next); err != nil {
			return out, err
		}
	}
	w.readable = append(w.readable, at)
	out.ReadableNSP50, out.ReadableNSMax = median(all), slices.Max(all)
	return out, nil
}

// rename renames the area and asks for it at an address until it has the name.
func (w *writer) rename(ctx context.Context, name, at string) (time.Duration, int, error) {
	var answer struct {
		RenameArea *struct{ Name string }
		Areas      []struct{ ID, Name string }
	}
	const write = `mutation ($id: ID!, $name: String!) { renameArea(id: $id, name: $name) { name } }`
	if err := w.post(ctx, w.url, write, map[string]any{"id": strconv.Itoa(staleArea), "name": name}, &answer); err != nil {
		return 0, 0, err
	}
	if answer.RenameArea == nil || answer.RenameArea.Name != name {
		return 0, 0, fmt.Errorf("renameArea to %q answered %v", name, answer.RenameArea)
	}
	return w.until(ctx, at, `{ areas { id name } }`, nil, &answer, func() bool {
		for _, area := range answer.Areas {
			if area.ID == strconv.Itoa(staleArea) {
				return area.Name == name
			}
		}
		return false
	})
}

func (w *writer) review(ctx context.Context, n int) (time.Duration, int, error) {
	var answer struct {
		AddReview struct{ Review struct{ ID string } }
		Item      *struct{ Reviews []struct{ ID string } }
	}
	const write = `mutation ($item: ID!, $body: String!) { addReview(input: {itemId: $item, authorId: 7, rating: 4, body: $body}) { ... on ReviewAdded { review { id } } } }`
	if err := w.post(ctx, w.url, write, map[string]any{"item": strconv.Itoa(staleItem), "body": fmt.Sprintf("write %d", n)}, &answer); err != nil {
		return 0, 0, err
	}
	if answer.AddReview.Review.ID == "" {
		return 0, 0, errors.New("addReview answered without a review")
	}
	return w.until(ctx, w.url, `query ($item: ID!) { item(id: $item) { reviews(first: 1) { id } } }`, map[string]any{"item": strconv.Itoa(staleItem)}, &answer, func() bool {
		return answer.Item != nil && len(answer.Item.Reviews) > 0 && answer.Item.Reviews[0].ID == answer.AddReview.Review.ID
	})
}

// until asks at an address until there is what was written, and gives how long that took and how many answers did not have it.
func (w *writer) until(ctx context.Context, at, query string, variables map[string]any, into any, there func() bool) (took time.Duration, stale int, err error) {
	for began := time.Now(); ; stale++ {
		if err := w.post(ctx, at, query, variables, into); err != nil {
			return 0, stale, err
		}
		took := time.Since(began)
		if there() {
			return took, stale, nil
		}
		if took > stalePatience {
			return took, stale, fmt.Errorf("%s: what was written cannot be read %v later, after %d answers without it", query, took.Round(time.Millisecond), stale+1)
		}
	}
}

// post sends one request and reads what it answers without an error.
func (w *writer) post(ctx context.Context, at, query string, variables map[string]any, into any) error {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		return err
	}
	response, text, err := ask(ctx, w.client, at, string(body))
	if err != nil {
		return err
	}
	var answer struct {
		Data   json.RawMessage
		Errors []struct{ Message string }
	}
	if err := json.Unmarshal(text, &answer); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d: %.200s", query, response.StatusCode, text)
	}
	if len(answer.Errors) > 0 {
		return fmt.Errorf("%s: %s", query, answer.Errors[0].Message)
	}
	return json.Unmarshal(answer.Data, into)
}
