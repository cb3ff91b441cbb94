package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// echoing answers with the variable id that it was asked for, but for one of them.
func echoing(t *testing.T) (url string, asked func(id string) uint64) {
	t.Helper()
	var mu sync.Mutex
	counts := map[string]uint64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Variables struct{ ID string } }
		b, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(b, &q)
		mu.Lock()
		counts[q.Variables.ID]++
		mu.Unlock()
		id := q.Variables.ID
		if id == "2" {
			id = "3"
		}
		_, _ = fmt.Fprintf(w, `{"data":{"id":%q}}`, id)
	}))
	t.Cleanup(s.Close)
	return s.URL, func(id string) uint64 {
		mu.Lock()
		defer mu.Unlock()
		return counts[id]
	}
}

// A mix from a file: one operation with drawn variables and an answer for each, one without.
func TestAttackWithAMix(t *testing.T) {
	url, asked := echoing(t)
	dir := writeFiles(t, map[string]string{
		"mix.json": `{"operations": [
			{"body": "item.json", "weight": 3, "variables": [{"name": "id", "from": 1, "to": 4, "string": true, "zipf": 0.9}], "expected_by": "answers.json"},
			{"name": "none", "body": "none.json", "expected": "none.expected.json"}
		]}`,
		"item.json":          `{"query":"query($id: ID!) { item(id: $id) { id } }","variables":{"id":"0"}}`,
		"answers.json":       `{"[\"1\"]": {"data":{"id":"1"}}, "[ \"2\" ]": {"data":{"id":"2"}}, "[\"3\"]": {"data":{"id":"3"}}, "[\"4\"]": {"data": {"id": "4"}}}`,
		"none.json":          `{"query":"{ item { id } }"}`,
		"none.expected.json": `{"data":{"id":""}}`,
	})
	out := filepath.Join(dir, "run")
	code, printed, said := runCommand(t, "attack", "--url", url, "--rate", "500", "--duration", "1s", "--mix", filepath.Join(dir, "mix.json"), "--seed", "5", "--out", out)
	require.Contains(t, []int{exitOK, exitNo}, code, said) // no, where the machine was so busy that the generator was late
	assert.Contains(t, printed, "By operation")

	saved, err := record.Open(out)
	require.NoError(t, err)
	x := saved.Run.Trials[0]
	require.Len(t, x.Operations, 2)
	item, none := x.Operations[0], x.Operations[1]
	assert.Equal(t, "item", item.Operation)
	assert.Equal(t, "none", none.Operation)
	assert.Equal(t, asked(""), none.Sent)
	assert.Equal(t, none.Sent, none.OK)
	assert.Equal(t, record.Failed{WrongAnswer: asked("2")}, item.FailedBy)
	assert.Positive(t, asked("2"))
	assert.Greater(t, asked("1"), asked("4"), "the first key is the most frequent")
	assert.Equal(t, x.Sent, x.Compared)

	log, err := os.Open(filepath.Join(out, "trials", x.HDRLog))
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	counts := map[string]uint64{}
	reader := hdr.NewHistogramLogReader(log)
	for {
		h, err := reader.NextIntervalHistogram()
		require.NoError(t, err)
		if h == nil {
			break
		}
		counts[h.Tag()] += uint64(h.TotalCount())
	}
	assert.Equal(t, map[string]uint64{"": x.Sent, "service": x.Sent, "send_lag": x.Sent, "operation.item": item.Sent, "operation.none": none.Sent}, counts)

	// What the log has beside response times is held to the record too.
	file := filepath.Join(out, "trials", x.HDRLog)
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	for damage, change := range map[string]struct {
		from, to string
		says     []string
	}{
		"service and send lag change places": {"", "", []string{"99 %", "_p99_ns"}},
		"a tag is another's":                 {"Tag=service,", "Tag=send_lag,", []string{"intervals have the tag"}},
		"an operation's counts as all":       {"Tag=operation.item,", "Tag=service,", []string{"intervals have the tag"}},
	} {
		text := strings.Replace(string(whole), change.from, change.to, 1)
		if change.from == "" {
			text = strings.NewReplacer("Tag=service,", "Tag=send_lag,", "Tag=send_lag,", "Tag=service,").Replace(string(whole))
		}
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err = record.Open(out)
		for _, word := range change.says {
			require.ErrorContains(t, err, word, damage)
		}
	}
}

func TestAttackWithSeveralBodies(t *testing.T) {
	url, asked := echoing(t)
	dir := writeFiles(t, map[string]string{"a.json": `{"variables":{"id":"7"}}`, "b.json": `{"variables":{"id":"8"}}`})
	code, printed, said := runCommand(t, "attack", "--url", url, "--rate", "500", "--duration", "1500ms", "--seed", "1", "--out", filepath.Join(dir, "run"), "--json",
		"--body", filepath.Join(dir, "a.json")+"=3", "--body", filepath.Join(dir, "b.json"))
	require.Contains(t, []int{exitOK, exitNo}, code, said)
	var x record.Trial
	require.NoError(t, json.Unmarshal([]byte(printed), &x))
	require.Len(t, x.Operations, 2)
	assert.Equal(t, []uint64{asked("7"), asked("8")}, []uint64{x.Operations[0].Sent, x.Operations[1].Sent})
	assert.Greater(t, asked("7"), asked("8"))
	assert.Positive(t, asked("8"))
}

func TestBadMixFilesAreNamed(t *testing.T) {
	const answers = `{"[1]":{"data":{"a":1}},"[2]":{"data":{"a":2}}}`
	for name, c := range map[string]struct {
		mix, answers string
		says         []string
	}{
		"no JSON":             {mix: `{`, says: []string{"mix.json"}},
		"nothing":             {mix: `{}`, says: []string{"mix.json", "operations"}},
		"an unknown key":      {mix: `{"operations":[{"wait":1}]}`, says: []string{"mix.json", `"wait"`}},
		"more after it":       {mix: `{"operations":[{"body":"body.json"}]} {}`, says: []string{"mix.json", "nothing after"}},
		"no body":             {mix: `{"operations":[{"name":"x"}]}`, says: []string{"mix.json", "operations[0]", "body"}},
		"a body not there":    {mix: `{"operations":[{"body":"gone.json"}]}`, says: []string{"operations[0]", "gone.json"}},
		"no answers there":    {mix: `{"operations":[{"body":"body.json","expected_by":"gone.json"}]}`, says: []string{"expected_by", "gone.json"}},
		"a negative weight":   {mix: `{"operations":[{"body":"body.json","weight":-2}]}`, says: []string{`"body"`, "weight -2"}},
		"an answer missing":   {mix: `{"operations":[{"body":"body.json","expected_by":"answers.json","variables":[{"name":"n","from":1,"to":3}]}]}`, answers: answers, says: []string{`"body"`, "no answer for [3]"}},
		"a key that is none":  {mix: `{"operations":[{"body":"body.json","expected_by":"answers.json"}]}`, answers: `{"1":{"data":{"a":1}}}`, says: []string{"answers.json", `"1"`, "array"}},
		"an answer like none": {mix: `{"operations":[{"body":"body.json","expected_by":"answers.json"}]}`, answers: `{"[1]":3}`, says: []string{"answers.json", `"[1]"`}},
		"an unknown variable": {mix: `{"operations":[{"body":"body.json","variables":[{"name":"m","from":1,"to":3}]}]}`, says: []string{`"body"`, `"m"`}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeFiles(t, map[string]string{"mix.json": c.mix, "answers.json": c.answers, "body.json": `{"variables":{"n":0}}`})
			code, out, said := runCommand(t, "attack", "--url", "http://127.0.0.1:1/", "--rate", "1", "--duration", "1s", "--mix", filepath.Join(dir, "mix.json"), "--out", filepath.Join(dir, "run"))
			assert.Equal(t, exitCannot, code)
			for _, word := range c.says {
				assert.Contains(t, said, word)
			}
			assert.Empty(t, out)
			assert.NoDirExists(t, filepath.Join(dir, "run"))
		})
	}
}

func TestBodyFlags(t *testing.T) {
	for text, want := range map[string]weightedFile{
		"a.json": {"a.json", 0}, "a.json=2": {"a.json", 2}, "a=b.json": {"a=b.json", 0}, "a=b.json=0.5": {"a=b.json", 0.5}, "-": {"-", 0},
	} {
		var f bodyFlags
		require.NoError(t, f.Set(text))
		assert.Equal(t, bodyFlags{want}, f)
	}
	for _, bad := range []string{"", "a=0", "a=-1", "a=NaN", "=3", "a=1e99"} {
		var f bodyFlags
		assert.Error(t, f.Set(bad), bad)
	}
}
