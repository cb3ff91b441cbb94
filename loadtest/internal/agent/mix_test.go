package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func mixedJob() Job {
	j := job("http://127.0.0.1:1/")
	j.Body = ""
	j.Operations = []Operation{
		{Name: "list", Weight: 3, Body: `{"query":"{ items }"}`, Expected: `{"data":"list"}`},
		{
			Name: "item", Weight: 1, Body: `{"query":"query($id: ID!, $n: Int) { item }", "variables": {"n": 0, "id" : "0", "same": [1]}, "more": 1}`,
			Variables: []Variable{{Name: "id", From: 1, To: 100, String: true, Zipf: 1}, {Name: "n", Values: []json.RawMessage{[]byte("5"), []byte("null")}}},
		},
	}
	return j
}

// The values of drawn variables take their places in the body, whose text is otherwise as it was.
func TestDrawnVariablesStandInTheBody(t *testing.T) {
	j := mixedJob()
	m, err := newMix(&j)
	require.NoError(t, err)
	assert.Equal(t, `{"query":"{ items }"}`, string(m.body(draw{})))
	p := draw{operation: 1, keys: [maxVariables]int32{1, 16}} // n stands before id
	assert.Equal(t, `{"query":"query($id: ID!, $n: Int) { item }", "variables": {"n": null, "id" : "17", "same": [1]}, "more": 1}`, string(m.body(p)))
	assert.Equal(t, `["17",null]`, m.operations[1].key(p), "in the order of the job's variables")
}

// Which request comes when follows from the seed and its number alone.
func TestDrawsAreTheSameForTheSameSeed(t *testing.T) {
	j := mixedJob()
	a, err := newMix(&j)
	require.NoError(t, err)
	b, err := newMix(&j)
	require.NoError(t, err)
	j.Seed++
	other, err := newMix(&j)
	require.NoError(t, err)
	differ := 0
	for seq := range uint64(1000) {
		last := 999 - seq
		require.Equal(t, a.at(last), b.at(last))
		if a.at(seq) != other.at(seq) {
			differ++
		}
	}
	assert.Greater(t, differ, 300)
}

// chiSquare is how far counts are from what is expected, in standard deviations of its distribution.
func chiSquare(counts []float64, probability func(i int) float64) float64 {
	n, x := 0.0, 0.0
	for _, c := range counts {
		n += c
	}
	for i, c := range counts {
		e := n * probability(i)
		x += (c - e) * (c - e) / e
	}
	degrees := float64(len(counts) - 1)
	return (x - degrees) / math.Sqrt(2*degrees)
}

// Operations come by weight, keys by their distribution, compared answers by their share, and none of them tells
// another: chi-square, beyond six standard deviations for none of them. The draws are fixed, so this is no matter of luck.
func TestDrawsHaveTheirDistributions(t *testing.T) {
	j := mixedJob()
	j.Operations[1].Variables = append(j.Operations[1].Variables, Variable{Name: "same", From: -10, To: 9})
	j.CheckShare = 0.25
	for seed := range uint64(5) {
		j.Seed = seed
		m, err := newMix(&j)
		require.NoError(t, err)
		operations, zipf, two, uniform, compared, both := make([]float64, 2), make([]float64, 100), make([]float64, 2), make([]float64, 20), make([]float64, 2), make([]float64, 40)
		for seq := range uint64(200_000) {
			p := m.at(seq)
			operations[p.operation]++
			is := 0
			if m.compares(seq) {
				is = 1
			}
			compared[is]++
			if p.operation == 1 {
				two[p.keys[0]]++
				zipf[p.keys[1]]++
				uniform[p.keys[2]]++
				both[2*p.keys[2]+p.keys[0]]++
			}
		}
		harmonic := 0.0
		for i := range 100 {
			harmonic += 1 / float64(i+1)
		}
		assert.Less(t, chiSquare(operations, func(i int) float64 { return []float64{0.75, 0.25}[i] }), 6.0)
		assert.Less(t, chiSquare(compared, func(i int) float64 { return []float64{0.75, 0.25}[i] }), 6.0)
		assert.Less(t, chiSquare(two, func(int) float64 { return 0.5 }), 6.0)
		assert.Less(t, chiSquare(uniform, func(int) float64 { return 0.05 }), 6.0)
		assert.Less(t, chiSquare(both, func(int) float64 { return 0.025 }), 6.0)
		assert.Less(t, chiSquare(zipf, func(i int) float64 { return 1 / float64(i+1) / harmonic }), 6.0)
		// The test can tell: these are not what another exponent gives.
		sum := 0.0
		for i := range 100 {
			sum += math.Pow(float64(i+1), -1.1)
		}
		assert.Greater(t, chiSquare(zipf, func(i int) float64 { return math.Pow(float64(i+1), -1.1) / sum }), 6.0)
	}
}

// A mixed attack sends what was drawn, counts each operation for itself, and compares each answer with what its variable
// must give: a server that is wrong about one key is found, and that key's requests are as many as were drawn.
func TestMixedAttack(t *testing.T) {
	for sender, client := range senders {
		t.Run(sender, func(t *testing.T) {
			var mu sync.Mutex
			asked := map[string]uint64{}
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Empty(t, r.Header.Get(seqHeader), "the number is the generator's own")
				var q struct {
					Query     string
					Variables struct{ ID string }
				}
				body, _ := io.ReadAll(r.Body)
				if !assert.NoError(t, json.Unmarshal(body, &q), "%s", body) {
					return
				}
				mu.Lock()
				asked[q.Variables.ID]++
				mu.Unlock()
				switch q.Variables.ID {
				case "":
					_, _ = io.WriteString(w, `{"data":"list"}`)
				case "7":
					_, _ = io.WriteString(w, `{"data":"item 8"}`)
				default:
					_, _ = fmt.Fprintf(w, `{"data":"item %s"}`, q.Variables.ID)
				}
			}))
			defer s.Close()
			j := mixedJob()
			j.URL, j.RPS, j.Duration = s.URL, 1000, 2*time.Second
			j.Operations[1].Variables = []Variable{{Name: "id", From: 1, To: 9, String: true}}
			j.Operations[1].ExpectedBy = map[string]string{}
			for i := 1; i <= 9; i++ {
				j.Operations[1].ExpectedBy[`["`+strconv.Itoa(i)+`"]`] = fmt.Sprintf(`{"data":"item %d"}`, i)
			}
			var out, in uint64
			r, err := attack(t.Context(), j, sameBytes, func(h Hit) {
				out += h.BytesOut
				in += h.BytesIn
				if h.Operation == "list" {
					assert.EqualValues(t, len(j.Operations[0].Body), h.BytesOut)
				}
			}, client)
			require.NoError(t, err)
			check(t, r)
			mu.Lock()
			defer mu.Unlock()
			require.Len(t, r.Operations, 2)
			list, item := r.Operations[0], r.Operations[1]
			assert.Equal(t, asked[""], list.Sent)
			assert.Equal(t, r.Sent, list.Sent+item.Sent)
			assert.Positive(t, asked["7"])
			assert.Equal(t, Failed{WrongAnswer: asked["7"]}, r.FailedBy)
			assert.Equal(t, r.FailedBy, item.FailedBy)
			assert.Equal(t, item.Sent, item.OK+item.FailedBy.Total())
			assert.EqualValues(t, item.Sent, item.ResponseSeconds.Merge().TotalCount())
			assert.Equal(t, r.Sent, r.Compared)
			assert.Positive(t, out)
			assert.Positive(t, in)
			for i := 1; i <= 9; i++ {
				assert.Positive(t, asked[strconv.Itoa(i)], i)
			}
		})
	}
}

// The answer to one operation is wrong as the answer to another, however often it was right for the first.
func TestOneOperationsAnswerIsNotAnothers(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":"b"}`) }))
	defer s.Close()
	j := job(s.URL)
	j.Body = ""
	for _, name := range []string{"a", "b", "c"} {
		j.Operations = append(j.Operations, Operation{Name: name, Weight: 1, Body: "{}", Expected: `{"data":"` + name + `"}`})
	}
	r, err := Attack(t.Context(), j, sameBytes)
	require.NoError(t, err)
	check(t, r)
	for _, o := range r.Operations {
		require.Positive(t, o.Sent)
		if o.Name == "b" {
			assert.Equal(t, o.Sent, o.OK)
		} else {
			assert.Equal(t, Failed{WrongAnswer: o.Sent}, o.FailedBy)
		}
	}
}

// Of the answers that are not compared, status and `errors` count all the same.
func TestAShareOfAnswersIsCompared(t *testing.T) {
	n := 0
	var mu sync.Mutex
	var withErrors uint64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n%10 == 0 {
			withErrors++
			_, _ = io.WriteString(w, `{"errors":[{"message":"no"}]}`)
			return
		}
		_, _ = io.WriteString(w, `{"data":"wrong"}`)
	}))
	defer s.Close()
	j := job(s.URL)
	j.RPS, j.Expected, j.CheckShare = 2000, right, 0.2
	r, err := Attack(t.Context(), j, sameBytes)
	require.NoError(t, err)
	check(t, r)
	m, err := newMix(&j)
	require.NoError(t, err)
	var share uint64
	for seq := range r.Sent {
		if m.compares(seq) {
			share++
		}
	}
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, withErrors, r.FailedBy.GraphQLErrors)
	assert.Equal(t, share, r.Compared)
	assert.InDelta(t, 0.9*float64(share), float64(r.FailedBy.WrongAnswer), 0.1*float64(share))
	assert.Positive(t, r.OK)
}

func TestBadMixesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(j *Job)
		says  []string
	}{
		"a body beside":             {func(j *Job) { j.Body = "{}" }, []string{"body"}},
		"no name":                   {func(j *Job) { j.Operations[0].Name = "" }, []string{"operations[0]", "name"}},
		"a name with a comma":       {func(j *Job) { j.Operations[0].Name = "a,b" }, []string{`"a,b"`, "name"}},
		"a name twice":              {func(j *Job) { j.Operations[1].Name = "list" }, []string{"operations[1]", "list", "twice"}},
		"no weight":                 {func(j *Job) { j.Operations[1].Weight = 0 }, []string{`"item"`, "weight 0"}},
		"a weight that is none":     {func(j *Job) { j.Operations[1].Weight = math.NaN() }, []string{`"item"`, "weight NaN"}},
		"no body":                   {func(j *Job) { j.Operations[0].Body = "" }, []string{`"list"`, "body"}},
		"a share above one":         {func(j *Job) { j.CheckShare = 1.5 }, []string{"check_share 1.5"}},
		"a body that is no JSON":    {func(j *Job) { j.Operations[1].Body = "{" }, []string{`"item"`, "body"}},
		"a body that is no object":  {func(j *Job) { j.Operations[1].Body = "[]" }, []string{`"item"`, "object"}},
		"a body without variables":  {func(j *Job) { j.Operations[1].Body = `{"query":"x"}` }, []string{`"item"`, "variables"}},
		"a variable the body lacks": {func(j *Job) { j.Operations[1].Variables[0].Name = "x" }, []string{`"item"`, `"x"`}},
		"a variable twice":          {func(j *Job) { j.Operations[1].Variables[1].Name = "id" }, []string{`"id"`, "twice"}},
		"a range of one":            {func(j *Job) { j.Operations[1].Variables[0].To = 1 }, []string{`"id"`, "from 1, to 1"}},
		"a range too wide":          {func(j *Job) { j.Operations[1].Variables[0].To = 1e7 }, []string{`"id"`, "keys"}},
		"a range beside values":     {func(j *Job) { j.Operations[1].Variables[1].To = 3 }, []string{`"n"`, "values"}},
		"values that are no JSON":   {func(j *Job) { j.Operations[1].Variables[1].Values[0] = []byte("x") }, []string{`"n"`, "x"}},
		"a negative exponent":       {func(j *Job) { j.Operations[1].Variables[0].Zipf = -1 }, []string{`"id"`, "zipf -1"}},
		"answers of nothing drawn":  {func(j *Job) { j.Operations[0].ExpectedBy, j.Operations[0].Expected = map[string]string{"[]": "{}"}, "" }, []string{`"list"`, "expected_by"}},
		"two kinds of answers": {func(j *Job) {
			j.Operations[1].ExpectedBy, j.Operations[1].Expected = map[string]string{"[]": "{}"}, "{}"
		}, []string{`"item"`, "only one"}},
		"an answer missing": {func(j *Job) { j.Operations[1].ExpectedBy = map[string]string{`["1",5]`: "{}"} }, []string{`"item"`, "no answer for", `["1",null]`}},
		"an answer of what is not drawn": {func(j *Job) {
			j.Operations[1].Variables = []Variable{{Name: "n", Values: []json.RawMessage{[]byte("1")}}}
			j.Operations[1].ExpectedBy = map[string]string{"[1]": "{}", "[2]": "{}"}
		}, []string{"2 answers", "1 combinations"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := mixedJob()
			require.NoError(t, j.Check())
			c.spoil(&j)
			err := j.Check()
			require.Error(t, err)
			for _, word := range c.says {
				assert.ErrorContains(t, err, word)
			}
		})
	}
}

// Wherever a value stands in a body, what is put in its place can be read back, and the rest stays.
func FuzzVariablePlaces(f *testing.F) {
	f.Add([]byte(`{"query":"q","variables":{"a":1,"b":{"a":[2]}}}`))
	f.Add([]byte(` { "variables" : { "a" : "\u00e9\"}" , "b" : null } } `))
	f.Fuzz(func(t *testing.T, body []byte) {
		places, err := variablePlaces(body)
		if err != nil {
			return
		}
		for name, at := range places {
			text := string(body[:at[0]]) + `"drawn"` + string(body[at[1]:])
			var q struct {
				Variables map[string]json.RawMessage `json:"variables"`
			}
			var top map[string]json.RawMessage
			if json.Unmarshal([]byte(text), &top) != nil {
				// What follows the object is not looked at, so it may be anything.
				if errors.Is(json.Unmarshal(body, &top), nil) {
					t.Fatalf("%s became %s", body, text)
				}
				continue
			}
			require.NoError(t, json.Unmarshal(top["variables"], &q.Variables))
			assert.JSONEq(t, `"drawn"`, string(q.Variables[name]))
		}
	})
}
