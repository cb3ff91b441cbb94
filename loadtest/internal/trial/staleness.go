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

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

const (
	// staleWrites are made of each kind.
	staleWrites = 10
	// stalePatience is how long a write may take to be readable: the contract says soon, and conformance that it happens.
	stalePatience = 5 * time.Second
	// StalenessTime is about how long it takes in one trial.
	StalenessTime = 500 * time.Millisecond
	// staleArea is what is renamed, and staleItem what reviews are added to: beyond what the headline operations read.
	staleArea, staleItem = 1, 900
)

// Staleness makes writes and looks how soon each can be read. What they changed is as it was when it returns: the area has
// its name again, as the server answers it, and the reviews are gone from both databases.
func Staleness(ctx context.Context, s Subject) ([]record.Staleness, error) {
	if s.Database == nil {
		return nil, errors.New("staleness: there is no database")
	}
	w := &writer{client: &http.Client{Timeout: stalePatience, Transport: &http.Transport{}}, url: s.Contender.GraphQLURL()}
	defer w.client.CloseIdleConnections()
	out, err := w.all(ctx, s.Database)
	if err != nil {
		return nil, fmt.Errorf("staleness of %s: %w", s.Arm.Name, err)
	}
	return out, nil
}

// writer writes and reads through one contender.
type writer struct {
	client *http.Client
	url    string
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
		if _, renameErr := primary.Exec(ctx, "update area set name = $2 where id = $1", staleArea, name); renameErr != nil {
			err = errors.Join(err, renameErr)
		}
		err = errors.Join(err, RemoveReviews(ctx, database, last))
	}()
	renamed, err := w.many(func(n int) (time.Duration, int, error) { return w.rename(ctx, fmt.Sprintf("Area as of write %d", n)) })
	if err != nil {
		return nil, err
	}
	if _, _, err := w.rename(ctx, name); err != nil {
		return nil, err
	}
	added, err := w.many(func(n int) (time.Duration, int, error) { return w.review(ctx, n) })
	if err != nil {
		return nil, err
	}
	if err := RemoveReviews(ctx, database, last); err != nil {
		return nil, err
	}
	renamed.Write, added.Write = record.WriteMaster, record.WriteRow
	return []record.Staleness{renamed, added}, nil
}

// LastReview is the highest id of a review.
func LastReview(ctx context.Context, database engine.Database) (id int32, err error) {
	primary, err := pgx.Connect(ctx, database.AdminPrimaryURL())
	if err != nil {
		return 0, err
	}
	defer primary.Close(context.WithoutCancel(ctx))
	err = primary.QueryRow(ctx, "select coalesce(max(id), 0)::int4 from review").Scan(&id)
	return id, err
}

// RemoveReviews removes the reviews after that one, and returns when the replica has none of them any more.
func RemoveReviews(ctx context.Context, database engine.Database, after int32) error {
	ctx, cancel := context.WithTimeout(ctx, stalePatience)
	defer cancel()
	primary, err := pgx.Connect(ctx, database.AdminPrimaryURL())
	if err != nil {
		return err
	}
	defer primary.Close(context.WithoutCancel(ctx))
	if _, err := primary.Exec(ctx, "delete from review where id > $1", after); err != nil {
		return fmt.Errorf("remove what was written: %w", err)
	}
	return database.WaitReplica(ctx)
}

// many makes the writes of one kind.
func (w *writer) many(one func(n int) (took time.Duration, stale int, err error)) (record.Staleness, error) {
	out := record.Staleness{Writes: staleWrites}
	var all []int64
	for n := range staleWrites {
		took, stale, err := one(n)
		if err != nil {
			return out, err
		}
		all, out.StaleReads = append(all, int64(took)), out.StaleReads+stale
	}
	out.ReadableNSP50, out.ReadableNSMax = median(all), slices.Max(all)
	return out, nil
}

func (w *writer) rename(ctx context.Context, name string) (time.Duration, int, error) {
	var answer struct {
		RenameArea *struct{ Name string }
		Areas      []struct{ ID, Name string }
	}
	const write = `mutation ($id: ID!, $name: String!) { renameArea(id: $id, name: $name) { name } }`
	if err := w.post(ctx, write, map[string]any{"id": strconv.Itoa(staleArea), "name": name}, &answer); err != nil {
		return 0, 0, err
	}
	if answer.RenameArea == nil || answer.RenameArea.Name != name {
		return 0, 0, fmt.Errorf("renameArea to %q answered %v", name, answer.RenameArea)
	}
	return w.until(ctx, `{ areas { id name } }`, nil, &answer, func() bool {
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
	if err := w.post(ctx, write, map[string]any{"item": strconv.Itoa(staleItem), "body": fmt.Sprintf("write %d", n)}, &answer); err != nil {
		return 0, 0, err
	}
	if answer.AddReview.Review.ID == "" {
		return 0, 0, errors.New("addReview answered without a review")
	}
	return w.until(ctx, `query ($item: ID!) { item(id: $item) { reviews(first: 1) { id } } }`, map[string]any{"item": strconv.Itoa(staleItem)}, &answer, func() bool {
		return answer.Item != nil && len(answer.Item.Reviews) > 0 && answer.Item.Reviews[0].ID == answer.AddReview.Review.ID
	})
}

// until asks until there is what was written, and gives how long that took and how many answers did not have it.
func (w *writer) until(ctx context.Context, query string, variables map[string]any, into any, there func() bool) (took time.Duration, stale int, err error) {
	for began := time.Now(); ; stale++ {
		if err := w.post(ctx, query, variables, into); err != nil {
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
func (w *writer) post(ctx context.Context, query string, variables map[string]any, into any) error {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		return err
	}
	response, text, err := ask(ctx, w.client, w.url, string(body))
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
