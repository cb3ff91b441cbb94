package conformance

import (
	"context"
	"fmt"

	"lab/loadtest/internal/reference"
)

// How many random queries the forms ask.
const (
	randomQueriesFull  = 300
	randomQueriesShort = 20
)

// random asks queries that were made from the schema and stand in no file; the reference knows the answers.
func random(ctx context.Context, s *subject, t *tally) error {
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	questions, err := s.randomQuestions()
	if err != nil {
		return err
	}
	// Eight at a time, so that different queries meet in the server.
	eachOf(ctx, len(questions), 8, func(i int) {
		s.pose(ctx, t, url, questions[i], graphqlResponse, fmt.Sprintf("seed %d", s.Seed+uint64(i)))
	})
	return nil
}

// randomQuestions makes the queries once for all arms: equal answers of all arms are answers equal to the same.
func (p *prover) randomQuestions() ([]*question, error) {
	n := randomQueriesFull
	if p.Form == Short {
		n = randomQueriesShort
	}
	for i := len(p.randoms); i < n; i++ {
		request := reference.RandomQuery(p.Contract, p.Seed+uint64(i))
		name := oneLine(request.Query)
		if len(request.Variables) > 0 {
			name += " " + string(request.Variables)
		}
		q, err := ask(name, request, p.executor)
		if err != nil {
			return nil, err
		}
		p.randoms = append(p.randoms, q)
	}
	return p.randoms, nil
}
