package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/reference"
)

// answersFrom derives what every request of a job must give, for each combination of drawn variables, from the rows of
// one of the lab's databases. Operations that say themselves what is expected are left alone.
func answersFrom(ctx context.Context, url string, job *agent.Job) error {
	l, err := openLab()
	if err != nil {
		return err
	}
	data, err := reference.Open(ctx, url)
	if err != nil {
		return err
	}
	executor := reference.NewExecutor(l.contract, data)
	if len(job.Operations) == 0 {
		job.Expected, err = answerTo(executor, []byte(job.Body))
		return err
	}
	for i := range job.Operations {
		o := &job.Operations[i]
		if o.Expected != "" || len(o.ExpectedBy) > 0 {
			continue
		}
		answers := map[string]string{}
		err := o.EachRequest(func(key string, body []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			answer, err := answerTo(executor, body)
			answers[key] = answer
			return err
		})
		if err != nil {
			return fmt.Errorf("operations[%d] %q: %w", i, o.Name, err)
		}
		if len(o.Variables) == 0 {
			o.Expected = answers[""]
		} else {
			o.ExpectedBy = answers
		}
	}
	return nil
}

func answerTo(executor *reference.Executor, body []byte) (string, error) {
	var q struct {
		Query         string          `json:"query"`
		Variables     json.RawMessage `json:"variables"`
		OperationName string          `json:"operationName"`
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return "", fmt.Errorf("body: %w", err)
	}
	if document, err := parser.ParseQuery(&ast.Source{Input: q.Query}); err == nil {
		for _, o := range document.Operations {
			if o.Operation != ast.Query {
				return "", errors.New("body: a mutation changes what it answers, so its answers cannot be foretold; say what is expected, or leave it out")
			}
		}
	}
	answer := executor.Execute(reference.Request{Query: q.Query, Variables: q.Variables, OperationName: q.OperationName})
	if answer.RequestError {
		return "", fmt.Errorf("body: the contract refuses this request (%s): %s", answer.Errors[0].Code, body)
	}
	return string(answer.JSON()), nil
}
