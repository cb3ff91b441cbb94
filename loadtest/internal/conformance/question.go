package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/reference"
)

// question is a request whose answer is known.
type question struct {
	// name is what a finding calls it.
	name      string
	operation *contract.Operation // nil for one that was made here
	body      []byte
	expected  *reference.Expected
	// requestError is the code where the request is refused as a whole.
	requestError string
	mutates      bool
	headline     bool

	// right is the body of an answer that was compared and found right: the same bytes need no second comparison.
	right atomic.Pointer[[]byte]
}

var headlines = []string{"q1", "q2", "q3"}

func questionsOf(c *contract.Contract) ([]*question, error) {
	questions := make([]*question, 0, len(c.Operations))
	for _, operation := range c.Operations {
		q, err := newQuestion(operation.Name, reference.RequestOf(operation), operation.Expected)
		if err != nil {
			return nil, fmt.Errorf("operation %s: %w", operation.Name, err)
		}
		q.operation = operation
		q.headline = slices.Contains(headlines, operation.Name)
		questions = append(questions, q)
	}
	// The headline operations first: what is wrong everywhere is best seen there.
	slices.SortStableFunc(questions, func(a, b *question) int {
		switch {
		case a.headline == b.headline:
			return 0
		case a.headline:
			return -1
		}
		return 1
	})
	return questions, nil
}

func newQuestion(name string, request reference.Request, expected []byte) (*question, error) {
	q := &question{name: name, body: request.Body(), mutates: isMutation(request)}
	var err error
	if q.expected, err = reference.ParseExpected(expected); err != nil {
		return nil, err
	}
	var shape struct {
		Data   json.RawMessage `json:"data"`
		Errors []struct {
			Extensions struct {
				Code string `json:"code"`
			} `json:"extensions"`
		} `json:"errors"`
	}
	if err := json.Unmarshal(expected, &shape); err != nil {
		return nil, err
	}
	if shape.Data == nil {
		if len(shape.Errors) != 1 || shape.Errors[0].Extensions.Code == "" {
			return nil, fmt.Errorf("the expected answer %.80s has neither data nor one error with a code", expected)
		}
		q.requestError = shape.Errors[0].Extensions.Code
	}
	return q, nil
}

// ask makes a question out of a request and the reference's answer to it.
func ask(name string, request reference.Request, executor *reference.Executor) (*question, error) {
	response := executor.Execute(request)
	if response.Unforeseeable != nil {
		return nil, fmt.Errorf("%s: the answer cannot be foretold: %w", name, response.Unforeseeable)
	}
	return newQuestion(name, request, response.JSON())
}

// isMutation tells whether the operation that the request names, or its only one, is a mutation.
func isMutation(request reference.Request) bool {
	document, err := parser.ParseQuery(&ast.Source{Input: request.Query})
	if err != nil {
		return false
	}
	for _, o := range document.Operations {
		if o.Name == request.OperationName || request.OperationName == "" && len(document.Operations) == 1 {
			return o.Operation == ast.Mutation
		}
	}
	return false
}

// mayGiveUp tells whether some statement may be left out: where an error takes everything along, a server may stop.
func (q *question) mayGiveUp() bool {
	if q.operation == nil {
		return false
	}
	for _, setting := range contract.Settings { // those with Redis follow from these, and may leave out what it spares
		for _, r := range q.operation.Statements[setting] {
			if r.Min != r.Max {
				return true
			}
		}
	}
	return false
}

// status is what the answer must have.
func (s *subject) status(q *question, accept string) (int, error) {
	return s.Contract.Errors.StatusOf(q.requestError, accept == graphqlResponse)
}

// pose sends a question and compares the answer; it tells whether it was right.
func (s *subject) pose(ctx context.Context, t *tally, url string, q *question, accept, detail string) bool {
	if ctx.Err() != nil || t.enough() {
		return false
	}
	a, err := s.client.post(ctx, url, q.body, accept)
	t.answers.Add(1)
	s.countRun(url, q)
	f := Finding{Operation: q.name, Detail: detail}
	if err != nil {
		if ctx.Err() != nil {
			return false
		}
		f.Expected, f.Got = "an answer", err.Error()
		t.find(f)
		return false
	}
	if s.compare(q, a, accept, &f) {
		return true
	}
	t.find(f)
	return false
}

// compare tells whether an answer is the expected one and fills in what the finding says if it is not.
func (s *subject) compare(q *question, a answer, accept string, f *Finding) bool {
	if s.arm.Tier == contender.TierFloor && !q.headline {
		row := s.Contract.Errors.Code("NOT_IN_THIS_TIER")
		if a.status != row.Status || a.code() != row.Code {
			f.Path, f.Expected, f.Got = "status", fmt.Sprintf("%d %s", row.Status, row.Code), a.describe()
			return false
		}
		return true
	}
	// What the body says comes first: it tells more than the status.
	right := q.right.Load()
	if right == nil || !bytes.Equal(*right, a.body) {
		if difference := q.expected.Compare(s.excuse(a.body)); difference != nil {
			f.Path, f.Expected, f.Got = difference.Path, difference.Expected, difference.Got
			if a.status != 200 {
				f.Got += " (status " + strconv.Itoa(a.status) + ")"
			}
			return false
		}
	}
	status, err := s.status(q, accept)
	if err != nil {
		f.Path, f.Expected, f.Got = "expected.json", "a code that errors.json has", err.Error()
		return false
	}
	if a.status != status {
		f.Path, f.Expected, f.Got = "status", strconv.Itoa(status), a.describe()
		return false
	}
	if path, expected, got := a.checkEnvelope(accept); path != "" {
		f.Path, f.Expected, f.Got = path, expected, got
		return false
	}
	if right == nil {
		q.right.Store(&a.body)
	}
	return true
}

// readable are the questions that change nothing.
func (s *subject) readable() []*question {
	var list []*question
	for _, q := range s.operations {
		if !q.mutates {
			list = append(list, q)
		}
	}
	return list
}

// answerable are those that this arm's tier answers.
func (s *subject) answerable() []*question {
	var list []*question
	for _, q := range s.readable() {
		if q.headline || s.arm.Tier != contender.TierFloor {
			list = append(list, q)
		}
	}
	return list
}

// golden is the question asked after something bad was done: the first headline operation.
func (s *subject) golden() *question {
	for _, q := range s.operations {
		if q.headline {
			return q
		}
	}
	return nil // contract.Load has seen to it that there is one
}

// oneLine makes a query fit for a message.
func oneLine(query string) string { return strings.Join(strings.Fields(query), " ") }
