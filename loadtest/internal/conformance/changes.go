package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/reference"
)

// rowChanges are made by SQL on the primary, one after the other. Each touches rows that the headline operations show.
var rowChanges = []struct{ name, sql string }{
	{"an item's name", `update item set name = name || ' (changed)' where id in (1, 2, 20)`},
	{"an item's price and description", `update item set price_cents = price_cents + 1, description = 'changed "by" SQL' where id <= 20`},
	{"a category's name", `update category set name = name || ' (changed)' where id in (select category_id from item where id <= 20)`},
	{"a review's body", `update review set body = 'changed 👩‍👩‍👧 ' || id where item_id <= 20`},
	{"a user's name", `update app_user set name = name || ' (changed)' where id in (select author_id from review where item_id <= 20)`},
	{"an item's category is taken away", `update item set category_id = null where id = 1`},
	{"an author goes", `delete from app_user where id in (select author_id from review where item_id = 2 order by created_at desc, id desc limit 1)`},
	{"a new review", `insert into review (item_id, author_id, rating, body, created_at) select 3, 1, 5, 'brand new', max(created_at) + interval '1 day' from review`},
	{"reviews are deleted", `delete from review where item_id = 4`},
	{"an item gets another owner", `update item set owner_id = 1 + owner_id % 7, editor_id = 3 where id <= 5`},
}

// freshQuery shows every kind of row that rowChanges touch.
const freshQuery = `{
  items(first: 20) { id name description priceCents category { id name items(first: 3) { name } } owner { name } editor { name }
    reviews(first: 3) { rating body author { name reviews(first: 2) { body } } } reviewStats { count average } }
  item(id: 1) { name category { name } }
  search(text: "Item 1", first: 5) { name }
}`

// freshRows changes rows by SQL and looks for the change in the very next answer.
func freshRows(ctx context.Context, s *subject, t *tally) error {
	return s.withFork(ctx, nil, func(db engine.Database, c engine.Contender) error {
		admin, err := pgx.Connect(ctx, db.AdminPrimaryURL())
		if err != nil {
			return fmt.Errorf("connect to the primary: %w", err)
		}
		defer admin.Close(context.WithoutCancel(ctx))
		// Twice beforehand: whatever a server keeps of an answer, it has it now.
		before, err := s.freshQuestions(ctx, db)
		if err != nil {
			return err
		}
		for range 2 {
			for _, q := range before {
				s.pose(ctx, t, c.GraphQLURL(), q, graphqlResponse, "before any change")
			}
		}
		for _, change := range rowChanges {
			if _, err := admin.Exec(ctx, change.sql); err != nil {
				return fmt.Errorf("change %s: %w", change.name, err)
			}
			if err := waitReplica(ctx, db); err != nil {
				return err
			}
			after, err := s.freshQuestions(ctx, db)
			if err != nil {
				return err
			}
			for _, q := range after {
				s.pose(ctx, t, c.GraphQLURL(), q, graphqlResponse, "the first answer after this change by SQL: "+change.name)
			}
		}
		return nil
	})
}

// waitReplica returns when the replica has all that was written until now. A write that nobody committed (a page that was
// cleaned while it was read, say) reaches the disk, and so the replica, seconds later, unless a commit takes it along.
func waitReplica(ctx context.Context, db engine.Database) error {
	conn, err := pgx.Connect(ctx, db.AdminPrimaryURL())
	if err != nil {
		return fmt.Errorf("connect to the primary: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := flush(ctx, conn); err != nil {
		return err
	}
	return db.WaitReplica(ctx)
}

// flush commits something that changes nothing.
func flush(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "select pg_logical_emit_message(true, 'lab', 'flush')"); err != nil {
		return fmt.Errorf("flush the log: %w", err)
	}
	return nil
}

// freshQuestions gives the questions with the answers that the database has now.
func (s *subject) freshQuestions(ctx context.Context, db engine.Database) ([]*question, error) {
	data, err := reference.Open(ctx, db.PrimaryURL())
	if err != nil {
		return nil, err
	}
	executor := reference.NewExecutor(s.Contract, data)
	var questions []*question
	for _, o := range s.operations {
		if !o.headline {
			continue
		}
		q, err := ask(o.name, reference.RequestOf(o.operation), executor)
		if err != nil {
			return nil, err
		}
		q.headline = true
		questions = append(questions, q)
	}
	if s.arm.Tier != contender.TierFloor {
		q, err := ask(oneLine(freshQuery), reference.Request{Query: freshQuery}, executor)
		if err != nil {
			return nil, err
		}
		questions = append(questions, q)
	}
	return questions, nil
}

// writes makes mutations and looks in the database at what they did.
func writes(ctx context.Context, s *subject, t *tally) error {
	return s.withFork(ctx, nil, func(db engine.Database, c engine.Contender) error {
		admin, err := pgx.Connect(ctx, db.AdminPrimaryURL())
		if err != nil {
			return fmt.Errorf("connect to the primary: %w", err)
		}
		defer admin.Close(context.WithoutCancel(ctx))
		const addReview = `mutation ($input: AddReviewInput!) { addReview(input: $input) { __typename } }`
		const renameArea = `mutation ($id: ID!, $name: String!) { renameArea(id: $id, name: $name) { id name } }`
		body := "quotes ' \" \\ ; drop table review; --\n\t👩‍👩‍👧‍👦 مرحبا %s $1 \u2028"
		type variables = map[string]any
		type input = map[string]any
		for _, w := range []struct {
			name      string
			query     string
			variables variables
			expected  string
			// left is what the select gives in the end: one text.
			sql, left string
		}{
			{
				"a review is written as it was sent", addReview, variables{"input": input{"itemId": "7", "authorId": 3, "rating": 4, "body": body}},
				`{"data":{"addReview":{"__typename":"ReviewAdded"}}}`,
				`select count(*) || ' ' || min(r.item_id) || ' ' || min(r.author_id) || ' ' || min(r.rating) || ' ' || min(r.body) || ' ' ||
				 bool_and(abs(extract(epoch from now() - r.created_at)) < 3600) from review r where r.id > 10000`,
				"1 7 3 4 " + body + " true",
			},
			{
				"nothing is written without an author", addReview, variables{"input": input{"itemId": 7, "authorId": 999999, "rating": 4, "body": "none"}},
				`{"data":{"addReview":{"__typename":"AuthorNotFound"}}}`, `select count(*)::text from review where body = 'none'`, "0",
			},
			{
				"nothing is written without an item", addReview, variables{"input": input{"itemId": 999999, "authorId": 999999, "rating": 4, "body": "none"}},
				`{"data":{"addReview":{"__typename":"ItemNotFound"}}}`, `select count(*)::text from review where body = 'none'`, "0",
			},
			{
				"an area's name is trimmed", renameArea, variables{"id": 3, "name": " \t\r\nNew  name\u00a0é \n"},
				"{\"data\":{\"renameArea\":{\"id\":\"3\",\"name\":\"New  name\u00a0é\"}}}", `select name from area where id = 3`, "New  name\u00a0é",
			},
			{
				"an area that is not there stays so", renameArea, variables{"id": 999999, "name": "x"},
				`{"data":{"renameArea":null}}`, `select count(*)::text from area where name = 'x'`, "0",
			},
			{
				"an argument that is refused changes nothing", renameArea, variables{"id": 4, "name": " \n"},
				`{"errors":[{"path":["renameArea"],"extensions":{"code":"BAD_USER_INPUT"}}],"data":{"renameArea":null}}`,
				`select count(*)::text from area where trim(name) = ''`, "0",
			},
		} {
			values, err := json.Marshal(w.variables)
			if err != nil {
				return err
			}
			q, err := newQuestion(w.name, reference.Request{Query: w.query, Variables: values}, []byte(w.expected))
			if err != nil {
				return err
			}
			s.pose(ctx, t, c.GraphQLURL(), q, graphqlResponse, "")
			var left *string
			if err := admin.QueryRow(ctx, w.sql).Scan(&left); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			if left == nil {
				left = new(string)
				*left = "nothing"
			}
			if *left != w.left {
				t.find(Finding{Operation: w.name, Path: "the database", Expected: fmt.Sprintf("%q", w.left), Got: fmt.Sprintf("%q", *left)})
			}
		}
		// What was written is in the next answer.
		if err := waitReplica(ctx, db); err != nil {
			return err
		}
		data, err := reference.Open(ctx, db.PrimaryURL())
		if err != nil {
			return err
		}
		after := `{ items(first: 10) { id area { name } reviews(first: 2) { rating body author { name } } reviewStats { count average } } areas { id name } }`
		q, err := ask(oneLine(after), reference.Request{Query: after}, reference.NewExecutor(s.Contract, data))
		if err != nil {
			return err
		}
		s.pose(ctx, t, c.GraphQLURL(), q, graphqlResponse, "the first query after the mutations")
		return nil
	})
}

// heard is how long a change of master data may take to become visible everywhere: a bound for waiting, not a demand.
var heard = 20 * time.Second // a variable for the test with a server that never hears

// withTwo runs f on a fresh copy of the data with two servers of the arm and a connection of the superuser to the primary.
func (s *subject) withTwo(ctx context.Context, environment map[string]string, f func(db engine.Database, admin *pgx.Conn, both []engine.Contender) error) error {
	return s.withFork(ctx, environment, func(db engine.Database, one engine.Contender) error {
		two, err := s.start(ctx, db, environment)
		if err != nil {
			return err
		}
		defer s.stop(ctx, two.Stop)
		admin, err := pgx.Connect(ctx, db.AdminPrimaryURL())
		if err != nil {
			return fmt.Errorf("connect to the primary: %w", err)
		}
		defer admin.Close(context.WithoutCancel(ctx))
		return f(db, admin, []engine.Contender{one, two})
	})
}

// masterData changes areas by the API and by SQL and waits until two processes of the arm show it.
func masterData(ctx context.Context, s *subject, t *tally) error {
	return s.withTwo(ctx, nil, func(db engine.Database, admin *pgx.Conn, everywhere []engine.Contender) error {
		one := everywhere[0]
		show := func(what string, within time.Duration, contenders ...engine.Contender) error {
			return s.waitMaster(ctx, t, db, what, within, contenders)
		}

		if s.arm.Tier != contender.TierFloor {
			// The process that was asked shows its own change at once (from the replica, where it keeps none in memory).
			rename := `mutation { renameArea(id: 19, name: "By the API") { id name } }`
			q, err := newQuestion(rename, reference.Request{Query: rename}, []byte(`{"data":{"renameArea":{"id":"19","name":"By the API"}}}`))
			if err != nil {
				return err
			}
			s.pose(ctx, t, one.GraphQLURL(), q, graphqlResponse, "")
			if err := show("renameArea in the process that was asked", 0, one); err != nil {
				return err
			}
			if err := show("renameArea in another process", heard, everywhere...); err != nil {
				return err
			}
		}
		// All areas, as the headline operations show some of them only; and three vectors, which then are the best.
		changes := 0
		change := func(name string) error {
			changes++
			_, err := admin.Exec(ctx, `update area set name = id || $1`, name)
			if err == nil {
				_, err = admin.Exec(ctx, `update item_vector set features = decode(repeat('7f', 32), 'hex') where item_id between $1 and $1 + 2`, 3*changes)
			}
			return err
		}
		if err := change(" by SQL"); err != nil {
			return err
		}
		if err := show("master data changed by SQL", heard, everywhere...); err != nil {
			return err
		}
		// Cut off whoever listens, and everything else; change an area before anyone can listen again.
		cut, err := s.terminate(ctx, admin)
		if err != nil {
			return err
		}
		if cut < len(everywhere) && s.setting != contract.MasterNone && s.setting != contract.LoaderOffMasterNone {
			t.find(Finding{
				Operation: "master data", Path: "LISTEN", Expected: "a connection to the primary in each of 2 processes",
				Got: fmt.Sprintf("%d connections", cut),
			})
		}
		if err := change(" while nobody listened"); err != nil {
			return err
		}
		if err := show("master data changed after the server's connections to the primary were terminated", heard, everywhere...); err != nil {
			return err
		}
		// And it listens again.
		if err := change(" in the end"); err != nil {
			return err
		}
		return show("master data changed after LISTEN was taken up again", heard, everywhere...)
	})
}

// terminate ends all connections of contenders to this database on the primary and tells how many.
func (s *subject) terminate(ctx context.Context, admin *pgx.Conn) (int, error) {
	var n int
	err := admin.QueryRow(ctx, `select count(*) filter (where pg_terminate_backend(pid))::int from pg_stat_activity
		where datname = current_database() and usename = $1`, contenderRole).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("terminate connections: %w", err)
	}
	return n, nil
}

// newConnections is over how many connections a change must show: those of an arm of several processes are dealt out among
// them.
const newConnections = 8

// waitMaster asks contenders for master data until the answer is what the database has: at once over the connection that
// is there, and where it may take a while, over new ones in a row.
func (s *subject) waitMaster(ctx context.Context, t *tally, db engine.Database, what string, within time.Duration, contenders []engine.Contender) error {
	if err := waitReplica(ctx, db); err != nil {
		return err
	}
	data, err := reference.Open(ctx, db.PrimaryURL())
	if err != nil {
		return err
	}
	executor := reference.NewExecutor(s.Contract, data)
	type named struct {
		name    string
		request reference.Request
	}
	var requests []named
	if s.arm.Tier == contender.TierFloor {
		operation, err := s.Contract.Operation("q2")
		if err != nil {
			return err
		}
		requests = append(requests, named{operation.Name, reference.RequestOf(operation)})
	} else {
		areas := `{ areas { id name } items(first: 3) { id area { name } } }`
		requests = append(requests, named{areas, reference.Request{Query: areas}}, named{"ranking", reference.Request{Query: rankings()}})
	}
	for _, r := range requests {
		q, err := ask(r.name, r.request, executor)
		if err != nil {
			return err
		}
		q.headline = true
		if err := s.waitAnswer(ctx, t, q, what, within, contenders); err != nil {
			return err
		}
	}
	return nil
}

// rankings asks for several rankings at once, so that those who compute them elsewhere take more than one thread for it.
func rankings() string {
	weights := strings.TrimSuffix(strings.Repeat("1,", 32), ",")
	var query strings.Builder
	for i := range newConnections {
		fmt.Fprintf(&query, " r%d: ranking(weights: [%s], first: 12) { score item { id } }", i, weights)
	}
	return "{" + query.String() + " }"
}

// waitAnswer asks contenders until the answer is as expected.
func (s *subject) waitAnswer(ctx context.Context, t *tally, q *question, what string, within time.Duration, contenders []engine.Contender) error {
	for i, c := range contenders {
		f := Finding{}
		ok := eventually(ctx, within, func() bool {
			f = Finding{Operation: q.name, Detail: fmt.Sprintf("%s, process %d, waited %s", what, i+1, within)}
			asks := 1
			if within > 0 {
				asks = newConnections
			}
			for range asks {
				if within > 0 {
					s.client.close()
				}
				t.answers.Add(1)
				a, err := s.client.post(ctx, c.GraphQLURL(), q.body, graphqlResponse)
				if err != nil {
					f.Expected, f.Got = "an answer", err.Error()
					return false
				}
				if !s.compare(q, a, graphqlResponse, &f) {
					return false
				}
			}
			return true
		})
		if !ok && ctx.Err() == nil {
			t.find(f)
		}
	}
	return ctx.Err()
}
