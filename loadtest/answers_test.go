package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/reference"
)

// What every item must give comes from the database: a server that is right but for one item is found wrong as often as
// it was asked for that one.
func TestAnswersFromADatabase(t *testing.T) {
	url := os.Getenv("TEST_DATABASE_URL")
	require.NotEmpty(t, url, "TEST_DATABASE_URL must name a freshly seeded database of size small")
	l, err := openLab()
	require.NoError(t, err)
	data, err := reference.Open(t.Context(), url)
	require.NoError(t, err)
	executor := reference.NewExecutor(l.contract, data)
	var wrong atomic.Uint64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Query     string
			Variables json.RawMessage
		}
		b, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(b, &q)
		if string(q.Variables) == `{"id":"3"}` {
			wrong.Add(1)
			q.Variables = json.RawMessage(`{"id":"4"}`)
		}
		_, _ = w.Write(executor.Execute(reference.Request{Query: q.Query, Variables: q.Variables}).JSON())
	}))
	defer s.Close()
	dir := writeFiles(t, map[string]string{
		"mix.json": `{"operations": [
			{"body": "item.json", "weight": 4, "variables": [{"name": "id", "from": 1, "to": 20, "string": true}]},
			{"body": "areas.json"}
		]}`,
		"item.json":     `{"query":"query($id: ID!) { item(id: $id) { id name category { name } } }","variables":{"id":"1"}}`,
		"areas.json":    `{"query":"{ areas { id name } }"}`,
		"mutation.json": `{"query":"mutation { renameArea(id: 1, name: \"x\") { id } }"}`,
		"bad.json":      `{"query":"{ nothing }"}`,
	})
	attack := func(more ...string) (int, string, string) {
		return runCommand(t, append([]string{"attack", "--url", s.URL, "--rate", "300", "--duration", "1s", "--seed", "1", "--answers-from", url, "--json"}, more...)...)
	}
	code, printed, said := attack("--mix", filepath.Join(dir, "mix.json"), "--out", filepath.Join(dir, "run"))
	require.Contains(t, []int{exitOK, exitNo}, code, said)
	var x record.Trial
	require.NoError(t, json.Unmarshal([]byte(printed), &x))
	assert.Positive(t, wrong.Load())
	assert.Equal(t, record.Failed{WrongAnswer: wrong.Load()}, x.FailedBy)
	assert.Equal(t, x.Sent, x.Compared)
	require.Len(t, x.Operations, 2)
	assert.Zero(t, x.Operations[1].Failed)

	code, _, said = attack("--body", filepath.Join(dir, "areas.json"), "--out", filepath.Join(dir, "one"))
	require.Contains(t, []int{exitOK, exitNo}, code, said)
	for _, c := range []struct{ file, says string }{{"mutation.json", "mutation"}, {"bad.json", "GRAPHQL_VALIDATION_FAILED"}} {
		code, _, said = attack("--body", filepath.Join(dir, c.file), "--out", filepath.Join(dir, "never"))
		assert.Equal(t, exitCannot, code, c.file)
		assert.Contains(t, said, c.says, fmt.Sprint(c.file))
	}
}
