package conformance

import (
	"context"
	"encoding/json"
	"fmt"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/reference"
)

// isolationAnswers is how many answers the check isolation compares. With fewer than a few thousand, an answer in a
// thousand that is wrong would pass unseen.
const isolationAnswers = 6000

// isolationAnswersOtherSetting is how many for an arm in another setting than the usual, whose requests go the same way.
const isolationAnswersOtherSetting = 2000

// oneDocument is asked with many users' variables: one text, so that whatever a server keeps by text is shared.
const oneDocument = `query ($id: ID!, $first: Int!, $text: String!) {
  item(id: $id) {
    id name description owner { id name } editor { id name } category { id name } area { id name }
    reviews(first: $first) { id body author { id name } }
  }
  search(text: $text, first: 2) { __typename id name }
}`

// isolation sends the requests of many users at once and checks that each got its own answer. Some are refused or fail,
// so that errors would be seen where they don't belong.
func isolation(ctx context.Context, s *subject, t *tally) error {
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	var questions []*question
	if s.arm.Tier == contender.TierFloor {
		const large = 64 << 10
		for _, q := range s.answerable() {
			questions = append(questions, q)
			if len(q.operation.Expected) < large { // the lighter ones more often
				questions = append(questions, q, q)
			}
		}
	} else if questions, err = s.users(); err != nil {
		return err
	}
	n := isolationAnswers
	if otherSetting(s) != "" {
		n = isolationAnswersOtherSetting
	}
	// A stride that has no factor in common with the number of users mixes them.
	eachOf(ctx, n, atOnceCount, func(i int) {
		s.pose(ctx, t, url, questions[i*89%len(questions)], graphqlResponse, fmt.Sprintf("%d users at once", atOnceCount))
	})
	return nil
}

// users makes the questions of 200 users.
func (p *prover) users() ([]*question, error) {
	const users = 200
	questions := make([]*question, users)
	items := p.Contract.Sizes[size].Items
	for i := range questions {
		first, id := 1+i%5, fmt.Sprint(1+i*items/users)
		switch {
		case i%40 == 13:
			first = p.Contract.Limits.PageSize + 1 // fails at its field
		case i%40 == 26:
			id = fmt.Sprint(items + 1 + i) // there is no such item
		}
		values := map[string]any{"id": id, "first": first, "text": fmt.Sprintf("Item %d", 1+i)}
		if i%40 == 39 {
			values["first"] = "three" // refused
		}
		variables, err := json.Marshal(values)
		if err != nil {
			return nil, err
		}
		if questions[i], err = ask(fmt.Sprintf("user %d, variables %s", i, variables), reference.Request{Query: oneDocument, Variables: variables}, p.executor); err != nil {
			return nil, err
		}
	}
	return questions, nil
}
