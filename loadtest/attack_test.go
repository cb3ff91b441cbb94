package main

import (
	"encoding/json"
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
)

func attackWith(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	return runCommandWith(t, `{"query":"{a}"}`, append([]string{"attack"}, args...)...)
}

func TestAttackWritesARunThatCanBeRead(t *testing.T) {
	var n atomic.Int64
	var body, header, accept atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body.Store(string(b))
		header.Store(r.Header.Get("X-Own"))
		accept.Store(r.Header.Get("Accept"))
		if n.Add(1)%10 == 0 {
			_, _ = io.WriteString(w, `{"data":{"a":2}}`)
			return
		}
		_, _ = io.WriteString(w, `{"data":{"a":1}}`)
	}))
	defer s.Close()
	dir := t.TempDir()
	expected := filepath.Join(dir, "expected.json")
	require.NoError(t, os.WriteFile(expected, []byte(`{ "data": {"a": 1} }`), 0o600))
	out := filepath.Join(dir, "run")
	code, printed, said := attackWith(t, "--url", s.URL, "--rate", "400", "--duration", "1s", "--body", "-", "--expected", expected,
		"--header", "X-Own: yes", "--out", out, "--seed", "3", "--json")
	require.Contains(t, []int{exitOK, exitNo}, code, said)
	assert.Equal(t, `{"query":"{a}"}`, body.Load())
	assert.Equal(t, "yes", header.Load())
	assert.Equal(t, "application/graphql-response+json", accept.Load())

	var printedTrial record.Trial
	require.NoError(t, json.Unmarshal([]byte(printed), &printedTrial))
	saved, err := record.Open(out)
	require.NoError(t, err)
	require.Len(t, saved.Run.Trials, 1)
	x := saved.Run.Trials[0]
	assert.Equal(t, x.ID, printedTrial.ID)
	assert.EqualValues(t, n.Load(), x.Sent)
	assert.EqualValues(t, n.Load()/10, x.FailedBy.WrongAnswer)
	assert.Equal(t, x.Failed, x.FailedBy.WrongAnswer)
	if code == exitOK {
		assert.Nil(t, x.Void, "failures are what an attack may be there to find")
	} else { // on a busy machine
		require.NotNil(t, x.Void)
		assert.Regexp(t, "the generator sent late|could not be sent", *x.Void)
	}
	assert.Nil(t, x.CPUUsPerRequest)
	assert.Equal(t, []string{"loadtest", "attack"}, saved.Run.Command[:2])
	hits, err := os.Stat(filepath.Join(out, "attack.vegeta"))
	require.NoError(t, err)
	assert.Positive(t, hits.Size())
	assert.Contains(t, said, "records: "+out)
}

func TestAttackClosed(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":{"a":1}}`) }))
	defer s.Close()
	code, printed, said := attackWith(t, "--url", s.URL, "--closed", "3", "--duration", "300ms", "--body", "-", "--out", filepath.Join(t.TempDir(), "run"))
	require.Zero(t, code, said)
	assert.Contains(t, printed, "closed loop")
	assert.NotContains(t, printed, "intended send")
}

func TestAttackThatGotNoAnswerIsVoid(t *testing.T) {
	s := httptest.NewServer(nil)
	url := s.URL
	s.Close()
	code, printed, _ := attackWith(t, "--url", url, "--rate", "50", "--duration", "200ms", "--body", "-", "--out", filepath.Join(t.TempDir(), "run"))
	assert.Equal(t, exitNo, code)
	assert.Contains(t, printed, "VOID")
	assert.Contains(t, printed, "refused")
}

func TestAttackNamesBadInputAndSendsNothing(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer s.Close()
	dir := t.TempDir()
	damaged := filepath.Join(dir, "damaged.json")
	require.NoError(t, os.WriteFile(damaged, []byte(`{`), 0o600))
	full := filepath.Join(dir, "full")
	require.NoError(t, os.MkdirAll(filepath.Join(full, "something"), 0o700))
	ok := []string{"--url", s.URL, "--rate", "10", "--duration", "100ms", "--body", "-"}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no url":           {ok[2:], "--url"},
		"no rate":          {append([]string{"--url", s.URL}, ok[4:]...), "--rate"},
		"both loops":       {append(ok[:8:8], "--closed", "2"), "--closed"},
		"negative rate":    {append(ok[:8:8], "--rate", "-3"), "-3"},
		"no duration":      {append([]string{"--body", "-"}, ok[:4]...), "--duration"},
		"bare duration":    {append(ok[:8:8], "--duration", "30"), "30"},
		"no body":          {ok[:6], "--body"},
		"no such body":     {append(ok[:6:6], "--body", filepath.Join(dir, "none")), "none"},
		"damaged expected": {append(ok[:8:8], "--expected", damaged), "damaged.json"},
		"bad header":       {append(ok[:8:8], "--header", "nonsense"), "nonsense"},
		"bad arrival":      {append(ok[:8:8], "--arrival", "weibull"), "weibull"},
		"other machine":    {append(ok[:8:8], "--url", "http://192.0.2.1/"), "--i-own-this-target"},
		"https":            {append(ok[:8:8], "--url", "https://127.0.0.1/"), "https"},
		"mix and body":     {append(ok[:8:8], "--mix", damaged), "--mix"},
		"bodies, expected": {append(ok[:6:6], "--body", damaged+"=1", "--expected", damaged), "--expected"},
		"two of stdin":     {append(ok[:8:8], "--body", "-"), "standard input"},
		"bad weight":       {append(ok[:6:6], "--body", damaged+"=-1"), "weight -1"},
		"bad share":        {append(ok[:8:8], "--check-share", "0"), "--check-share"},
		"bad processors":   {append(ok[:8:8], "--processors", "-1"), "processors -1"},
		"folder in use":    {append(ok[:8:8], "--out", full), "not empty"},
		"unknown flag":     {append(ok[:8:8], "--speed", "1"), "speed"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, said := attackWith(t, c.args...)
			assert.Equal(t, exitCannot, code)
			assert.Contains(t, said, c.says)
			assert.Empty(t, out)
		})
	}
	assert.Zero(t, asked.Load())
}
