package conformance

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/reference"
)

// answersCold asks each operation once of a server that was just started.
func answersCold(ctx context.Context, s *subject, t *tally) error {
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	for _, q := range s.operations {
		if q.mutates && notFloor(s) == "" {
			continue // see the check mutations
		}
		if s.pose(ctx, t, url, q, graphqlResponse, "cold") && s.Form == Full {
			s.pose(ctx, t, url, q, plainJSON, "Accept: "+plainJSON)
		}
	}
	return nil
}

// atOnceCount is how many requests the check answers-64 sends together.
const atOnceCount = 64

// answersAtOnce asks each operation 64 times at once, where no check before has asked as many, and then all operations mixed.
func answersAtOnce(ctx context.Context, s *subject, t *tally) error {
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	questions := s.answerable()
	for _, q := range questions {
		if n := s.bounded(q, atOnceCount); s.together[q] < n {
			atOnce(n, func(int) { s.pose(ctx, t, url, q, graphqlResponse, fmt.Sprintf("%d at once", atOnceCount)) })
		}
	}
	const rounds = 4
	eachOf(ctx, rounds*len(questions), atOnceCount, func(i int) {
		q := questions[i%len(questions)]
		if round := i / len(questions); s.heavy(q) && round > 1 {
			return
		}
		s.pose(ctx, t, url, q, graphqlResponse, fmt.Sprintf("%d different ones at once", atOnceCount))
	})
	return nil
}

// warmRuns is after how many runs an operation counts as warm: enough for a document to be cached and compiled.
const warmRuns = 100

// answersWarm asks each operation, alone, after it was asked a hundred times. The checks before have done most of that,
// with every answer compared.
func answersWarm(ctx context.Context, s *subject, t *tally) error {
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	for _, q := range s.answerable() {
		wanted := s.bounded(q, warmRuns)
		if asked := s.asked(q); asked < wanted {
			eachOf(ctx, wanted-asked, 8, func(int) { s.pose(ctx, t, url, q, graphqlResponse, "on the way to a hundred runs") })
		}
		for range 3 {
			s.pose(ctx, t, url, q, graphqlResponse, fmt.Sprintf("alone, after %d runs", wanted))
		}
	}
	return nil
}

// heavyStatements is from how many statements a request on it takes so long that fewer of them must do. Only LOADER=off
// and MASTER=none without loaders get there.
const heavyStatements = 100

func (s *subject) heavy(q *question) bool { return s.statementsOf(q) > heavyStatements }

// statementsOf is the most statements that one request may run.
func (s *subject) statementsOf(q *question) int {
	sum := 0
	if q.operation != nil {
		for _, r := range q.operation.Statements[s.setting] {
			sum += r.Max
		}
	}
	return sum
}

// bounded is how often to ask: n times, or where one request runs very many statements (the naive server, on purpose)
// as often as makes n × heavyStatements of them.
func (s *subject) bounded(q *question, n int) int {
	if statements := s.statementsOf(q); statements > heavyStatements {
		return max(2, n*heavyStatements/statements)
	}
	return n
}

// mutation is what came of one mutating operation on a fresh copy of the data.
type mutation struct {
	findings []Finding
	answers  int64
	alone    counted
	many     map[int]counted // by how many at once; empty with LOADER=off, whose counts depend on the rows there are
}

// mutate runs each mutating operation on a fresh copy of the data with a fresh server, once for all checks: the answer is
// compared, and the statements are counted for it and, where the form asks for them, for many at once. A copy in which
// nothing was written is still fresh and serves the next operation too.
func (s *subject) mutate(ctx context.Context) error {
	s.mutating.Lock()
	defer s.mutating.Unlock()
	if s.mutated != nil {
		return nil
	}
	made := map[string]*mutation{}
	var questions []*question
	for _, q := range s.operations {
		if q.mutates {
			questions = append(questions, q)
		}
	}
	if s.Form == Short {
		made, err := s.mutateInARow(ctx, questions)
		if err == nil {
			s.mutated = made
		}
		return err
	}
	for len(questions) > 0 {
		err := s.withFork(ctx, nil, func(db engine.Database, c engine.Contender) error {
			w, err := s.watch(ctx, db)
			if err != nil {
				return err
			}
			defer w.close(ctx)
			unwritten, err := written(ctx, w.primary)
			if err != nil {
				return err
			}
			for len(questions) > 0 {
				q := questions[0]
				questions = questions[1:]
				if made[q.name], err = s.mutateOnce(ctx, w, c, q); err != nil {
					return err
				}
				now, err := written(ctx, w.primary)
				if err != nil || now != unwritten {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.mutated = made
	return nil
}

// mutateInARow runs all mutating operations on one copy of the data. Once something was written there, the reference
// reads it again and says what is to be expected of the next one.
func (s *subject) mutateInARow(ctx context.Context, questions []*question) (map[string]*mutation, error) {
	made := map[string]*mutation{}
	return made, s.withFork(ctx, nil, func(db engine.Database, c engine.Contender) error {
		primary, err := pgx.Connect(ctx, db.AdminPrimaryURL())
		if err != nil {
			return fmt.Errorf("connect to the primary: %w", err)
		}
		defer primary.Close(context.WithoutCancel(ctx))
		unwritten, err := written(ctx, primary)
		if err != nil {
			return err
		}
		known, executor := unwritten, s.executor
		for _, q := range questions {
			now, err := written(ctx, primary)
			if err != nil {
				return err
			}
			detail := "on a fresh copy of the data"
			if now != unwritten {
				detail = "after other mutations"
				if now != known {
					data, err := reference.Open(ctx, db.PrimaryURL())
					if err != nil {
						return err
					}
					known, executor = now, reference.NewExecutor(s.Contract, data)
				}
				if q, err = ask(q.name, reference.RequestOf(q.operation), executor); err != nil {
					return err
				}
			}
			t := &tally{}
			s.pose(ctx, t, c.GraphQLURL(), q, graphqlResponse, detail)
			made[q.name] = &mutation{findings: t.list, answers: t.answers.Load()}
		}
		return nil
	})
}

func (s *subject) mutateOnce(ctx context.Context, w *watch, c engine.Contender, q *question) (*mutation, error) {
	m := &mutation{many: map[int]counted{}}
	t := &tally{}
	var err error
	if m.alone, err = w.count(ctx, q, func() { s.pose(ctx, t, c.GraphQLURL(), q, graphqlResponse, "on a fresh copy of the data") }); err != nil {
		return nil, err
	}
	m.findings, m.answers = t.list, t.answers.Load()
	if s.Form != Full || (s.setting != contract.Default && s.setting != contract.MasterNone) {
		return m, nil
	}
	for _, n := range []int{16, 128} {
		if m.many[n], err = w.count(ctx, q, func() {
			atOnce(n, func(int) { _, _ = s.client.post(ctx, c.GraphQLURL(), q.body, graphqlResponse) })
		}); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// mutations compares the answers of all mutating operations.
func mutations(ctx context.Context, s *subject, t *tally) error {
	if err := s.mutate(ctx); err != nil {
		return err
	}
	for _, q := range s.operations {
		if m := s.mutated[q.name]; m != nil {
			t.answers.Add(m.answers)
			for _, f := range m.findings {
				t.find(f)
			}
		}
	}
	return nil
}
