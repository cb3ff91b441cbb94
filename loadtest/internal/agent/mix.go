package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
)

// Operation is one of those that a job mixes. Which of them a request is, and with which variables, follows from the
// job's seed and the request's number alone.
type Operation struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"` // its share of the requests is this over the sum of all weights
	// Connections, where not 0, is how many connections of its own the operation's requests go over; one that finds all of
	// them busy waits, and the wait counts. 0: over those that the other operations share.
	Connections int `json:"connections,omitempty"`
	// Body is sent as it is, but for the values of drawn variables, which take the place of those in its "variables".
	Body      string     `json:"body"`
	Variables []Variable `json:"variables,omitempty"`
	// Expected is the answer that must come whatever is drawn; empty: only `errors` in the body are a failure.
	Expected string `json:"expected,omitempty"`
	// ExpectedBy has the answer for each combination of drawn values, by their JSON array in the order of Variables,
	// without spaces, such as ["17"]; it is instead of Expected.
	ExpectedBy map[string]string `json:"expected_by,omitempty"`
}

// Variable is drawn anew for each request.
type Variable struct {
	Name string `json:"name"`
	// The keys, by rank: Values, or else the integers from From to To.
	Values []json.RawMessage `json:"values,omitempty"`
	From   int64             `json:"from,omitempty"`
	To     int64             `json:"to,omitempty"`
	String bool              `json:"string,omitempty"` // the integers are sent as strings, as IDs are in GraphQL
	// Zipf is the exponent s of a Zipf distribution: the key of rank k comes with a probability in proportion to k⁻ˢ
	// (Gray et al., Quickly Generating Billion-Record Synthetic Databases, SIGMOD 1994; YCSB, SoCC 2010, has s = 0.99).
	// 0: all keys alike.
	Zipf float64 `json:"zipf,omitempty"`
}

const (
	maxVariables = 4         // drawn ones of an operation
	maxKeys      = 1_000_000 // of a variable
	maxAnswers   = 1_000_000 // of an operation
)

// mix draws requests. It is safe for concurrent use.
type mix struct {
	seed       uint64
	share      float64 // of answers, that are compared
	cumulative []float64
	operations []mixed
}

type mixed struct {
	Operation
	fixed  []byte   // the whole body where nothing is drawn
	pieces [][]byte // around the drawn values
	drawn  []drawn
}

type drawn struct {
	keys       int
	values     [][]byte  // JSON, by rank; nil: integers
	from       int64     // the first integer
	quoted     bool      // integers as strings
	cumulative []float64 // nil: all alike
	order      int       // in Operation.Variables
}

// draw says what one request is.
type draw struct {
	operation int
	keys      [maxVariables]int32 // ranks from 0, in the order in which the values stand in the body
}

// newMix checks the operations of a job, naming what is wrong.
func newMix(j *Job) (*mix, error) {
	m := &mix{seed: j.Seed, share: j.CheckShare}
	if m.share == 0 {
		m.share = 1
	}
	if !(m.share > 0 && m.share <= 1) {
		return nil, fmt.Errorf("check_share %g: expected a share above 0, up to 1", j.CheckShare)
	}
	if len(j.Operations) == 0 {
		body := []byte(j.Body)
		m.operations = []mixed{{Operation: Operation{Body: j.Body, Expected: j.Expected}, fixed: body}}
		m.cumulative = []float64{1}
		return m, nil
	}
	if j.Body != "" || j.Expected != "" {
		return nil, errors.New("body, expected: a job with operations has its bodies and answers there")
	}
	total := 0.0
	names := map[string]bool{}
	for i, o := range j.Operations {
		where := fmt.Sprintf("operations[%d] %q", i, o.Name)
		switch {
		case !plainOperationName(o.Name):
			return nil, fmt.Errorf("%s: name: expected letters, digits, dashes, dots and underscores", where)
		case names[o.Name]:
			return nil, fmt.Errorf("%s: name: there twice", where)
		case !(o.Weight > 0) || math.IsInf(o.Weight, 0):
			return nil, fmt.Errorf("%s: weight %g: must be positive", where, o.Weight)
		case o.Connections < 0:
			return nil, fmt.Errorf("%s: connections %d: must not be negative", where, o.Connections)
		}
		names[o.Name] = true
		x, err := newMixed(o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		m.operations = append(m.operations, x)
		total += o.Weight
		m.cumulative = append(m.cumulative, total)
	}
	return m, nil
}

// plainOperationName allows what a tag of an HDR log and a file name may be.
func plainOperationName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return name != "" && len(name) <= 100
}

func newMixed(o Operation) (mixed, error) {
	x := mixed{Operation: o}
	if o.Body == "" {
		return x, errors.New("body: is empty")
	}
	if o.Expected != "" && len(o.ExpectedBy) > 0 {
		return x, errors.New("expected, expected_by: only one of the two is expected")
	}
	if len(o.Variables) == 0 {
		if len(o.ExpectedBy) > 0 {
			return x, errors.New("expected_by: no variable is drawn")
		}
		x.fixed = []byte(o.Body)
		return x, nil
	}
	if len(o.Variables) > maxVariables {
		return x, fmt.Errorf("variables: %d are drawn; at most %d can be", len(o.Variables), maxVariables)
	}
	places, err := variablePlaces([]byte(o.Body))
	if err != nil {
		return x, fmt.Errorf("body: %w", err)
	}
	type placed struct {
		at [2]int
		drawn
	}
	var all []placed
	seen := map[string]bool{}
	for i, v := range o.Variables {
		at, ok := places[v.Name]
		switch {
		case !ok:
			return x, fmt.Errorf("variables: %q is not among the \"variables\" of the body", v.Name)
		case seen[v.Name]:
			return x, fmt.Errorf("variables: %q is there twice", v.Name)
		}
		seen[v.Name] = true
		d, err := newDrawn(v)
		if err != nil {
			return x, fmt.Errorf("variable %q: %w", v.Name, err)
		}
		d.order = i
		all = append(all, placed{at, d})
	}
	slices.SortFunc(all, func(a, b placed) int { return a.at[0] - b.at[0] })
	last := 0
	for _, p := range all {
		x.pieces = append(x.pieces, []byte(o.Body[last:p.at[0]]))
		x.drawn = append(x.drawn, p.drawn)
		last = p.at[1]
	}
	x.pieces = append(x.pieces, []byte(o.Body[last:]))
	return x, x.checkAnswers()
}

// checkAnswers says which combination has no answer, so that a mistake of the job is not blamed on the server.
func (x *mixed) checkAnswers() error {
	if len(x.ExpectedBy) == 0 {
		return nil
	}
	n := 0
	err := x.each(func(p draw) error {
		n++
		key := x.key(p)
		if _, ok := x.ExpectedBy[key]; !ok {
			return fmt.Errorf("no answer for %s", key)
		}
		return nil
	})
	if err == nil && len(x.ExpectedBy) != n {
		err = fmt.Errorf("has %d answers, but %d combinations can be drawn", len(x.ExpectedBy), n)
	}
	if err != nil {
		return fmt.Errorf("expected_by: %w", err)
	}
	return nil
}

// each calls f for every combination of keys until it fails.
func (x *mixed) each(f func(draw) error) error {
	combinations := 1
	for _, d := range x.drawn {
		if combinations *= d.keys; combinations > maxAnswers {
			return fmt.Errorf("the variables have more than %d combinations", maxAnswers)
		}
	}
	var p draw
	for range combinations {
		if err := f(p); err != nil {
			return err
		}
		for i := range x.drawn { // count up
			if p.keys[i]++; int(p.keys[i]) < x.drawn[i].keys {
				break
			}
			p.keys[i] = 0
		}
	}
	return nil
}

// EachRequest calls f with the body of every request that can be drawn, until it fails; key is what ExpectedBy has its
// answer by, empty where nothing is drawn.
func (o Operation) EachRequest(f func(key string, body []byte) error) error {
	x, err := newMixed(o)
	if err != nil {
		return err
	}
	if x.fixed != nil {
		return f("", x.fixed)
	}
	return x.each(func(p draw) error { return f(x.key(p), x.body(p)) })
}

func newDrawn(v Variable) (drawn, error) {
	var d drawn
	switch {
	case len(v.Values) > 0 && (v.From != 0 || v.To != 0 || v.String):
		return d, errors.New("values, from, to, string: either a list of values or integers are expected")
	case len(v.Values) > maxKeys || v.To-v.From >= maxKeys:
		return d, fmt.Errorf("has more than %d keys", maxKeys)
	case len(v.Values) == 0 && v.From >= v.To:
		return d, fmt.Errorf("from %d, to %d: expected at least two integers, or values", v.From, v.To)
	case !(v.Zipf >= 0) || v.Zipf > 10:
		return d, fmt.Errorf("zipf %g: expected an exponent from 0 to 10", v.Zipf)
	}
	d.keys, d.from, d.quoted = int(v.To-v.From+1), v.From, v.String
	if len(v.Values) > 0 {
		d.keys = len(v.Values)
	}
	for _, value := range v.Values {
		var b bytes.Buffer
		if err := json.Compact(&b, value); err != nil {
			return d, fmt.Errorf("values: %s: %w", value, err)
		}
		d.values = append(d.values, b.Bytes())
	}
	if v.Zipf > 0 {
		sum := 0.0
		for rank := range d.keys {
			sum += math.Pow(float64(rank+1), -v.Zipf)
			d.cumulative = append(d.cumulative, sum)
		}
	}
	return d, nil
}

// append appends the value of a rank as JSON.
func (d *drawn) append(b []byte, rank int32) []byte {
	if d.values != nil {
		return append(b, d.values[rank]...)
	}
	if d.quoted {
		return append(strconv.AppendInt(append(b, '"'), d.from+int64(rank), 10), '"')
	}
	return strconv.AppendInt(b, d.from+int64(rank), 10)
}

// variablePlaces finds where in the text of a GraphQL request the value of each variable stands.
func variablePlaces(body []byte) (map[string][2]int, error) {
	top, err := fieldPlaces(body)
	if err != nil {
		return nil, err
	}
	at, ok := top["variables"]
	if !ok {
		return nil, errors.New(`has no "variables"`)
	}
	inner, err := fieldPlaces(body[at[0]:at[1]])
	if err != nil {
		return nil, fmt.Errorf("variables: %w", err)
	}
	for name, p := range inner {
		inner[name] = [2]int{p[0] + at[0], p[1] + at[0]}
	}
	return inner, nil
}

func fieldPlaces(object []byte) (map[string][2]int, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("expected a JSON object")
	}
	out := map[string][2]int{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		end := int(d.InputOffset())
		if _, twice := out[name.(string)]; twice {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		out[name.(string)] = [2]int{end - len(value), end}
	}
	_, err := d.Token()
	return out, err
}

// constant tells whether all requests are the same.
func (m *mix) constant() bool { return len(m.operations) == 1 && m.operations[0].fixed != nil }

// at draws the request of this number: always the same for the same seed, in whatever order it is asked.
func (m *mix) at(seq uint64) draw {
	var p draw
	if len(m.operations) > 1 {
		p.operation = rank(m.cumulative, m.uniform(seq, 0))
	}
	for i, d := range m.operations[p.operation].drawn {
		u := m.uniform(seq, 2+uint64(d.order))
		if d.cumulative != nil {
			p.keys[i] = int32(rank(d.cumulative, u))
		} else {
			p.keys[i] = int32(u * float64(d.keys))
		}
	}
	return p
}

// compares tells whether the answer of this request is among the share that is compared.
func (m *mix) compares(seq uint64) bool { return m.share == 1 || m.uniform(seq, 1) < m.share }

// uniform is a number from 0 to below 1: the n-th of the request of this number. It is SplitMix64 (Steele, Lea, Flood,
// Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), whose state is a counter, so any request's can be had.
func (m *mix) uniform(seq, n uint64) float64 {
	const golden = 0x9e3779b97f4a7c15
	request := splitMix(splitMix(m.seed+golden) + golden*(seq+1))
	return float64(splitMix(request+golden*(n+1))>>11) / (1 << 53)
}

func splitMix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// rank inverts a cumulative distribution that ends at its last value.
func rank(cumulative []float64, u float64) int {
	x := u * cumulative[len(cumulative)-1]
	return min(sort.Search(len(cumulative), func(i int) bool { return cumulative[i] > x }), len(cumulative)-1)
}

// body is what is sent. Nobody may change it.
func (m *mix) body(p draw) []byte { return m.operations[p.operation].body(p) }

func (x *mixed) body(p draw) []byte {
	if x.fixed != nil {
		return x.fixed
	}
	b := make([]byte, 0, len(x.Body)+64)
	for i, piece := range x.pieces {
		b = append(b, piece...)
		if i < len(x.drawn) {
			b = x.drawn[i].append(b, p.keys[i])
		}
	}
	return b
}

// expected is the answer that must come; empty where there is none to compare with.
func (m *mix) expected(p draw) []byte {
	o := &m.operations[p.operation]
	if len(o.ExpectedBy) == 0 {
		return []byte(o.Expected)
	}
	return []byte(o.ExpectedBy[o.key(p)])
}

// key is the drawn values as ExpectedBy has them.
func (x *mixed) key(p draw) string {
	ordered := make([][]byte, len(x.drawn))
	for i := range x.drawn {
		ordered[x.drawn[i].order] = x.drawn[i].append(nil, p.keys[i])
	}
	return "[" + string(bytes.Join(ordered, []byte(","))) + "]"
}
