package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/reference"
)

func TestQuestionBody(t *testing.T) {
	q := question{name: "q1", request: reference.Request{Query: "{ areas { id } }"}}
	assert.JSONEq(t, `{"query":"{ areas { id } }"}`, q.body(contender.TierFloor, 26), "a floor knows it by its text")
	for _, tier := range []contender.Tier{contender.TierMainstream, contender.TierCompiled} {
		assert.JSONEq(t, `{"query":"query Q1_1a { areas { id } }"}`, q.body(tier, 26), "%s meets a text that is this run's own", tier)
	}
	named := question{name: "q1", request: reference.Request{Query: "query Named { areas { id } }"}}
	assert.JSONEq(t, `{"query":"query Named { areas { id } }"}`, named.body(contender.TierMainstream, 26), "what has a name keeps it")
}
