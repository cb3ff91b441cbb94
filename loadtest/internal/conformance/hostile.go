package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/reference"
)

// hostile sends the whole table. After each row the server still answers; in the end its memory is back.
func hostile(ctx context.Context, s *subject, t *tally) error {
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	golden := s.golden()
	// Warm, so that the memory compared in the end is that of a server at work.
	eachOf(ctx, warmRuns, 16, func(int) { s.pose(ctx, t, url, golden, graphqlResponse, "before the table") })
	before, err := s.shared.Memory(ctx)
	if err != nil {
		return err
	}
	if s.slow, err = openSlowClients(ctx, url); err != nil {
		return err
	}
	for _, hc := range hostileTable(s.Contract) {
		for _, f := range s.face(ctx, url, hc) {
			t.find(f)
		}
		t.answers.Add(1)
		s.pose(ctx, t, url, golden, graphqlResponse, "after: "+hc.name)
		select {
		case <-s.shared.Exited():
			t.find(Finding{Operation: hc.name, Expected: "that the server goes on", Got: "it ended"})
			return nil // checkAlive tells more
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
	}
	return s.memoryIsBack(ctx, t, before.PSSBytes)
}

// memoryIsBack waits until memory is within a generous bound of what it was.
func (s *subject) memoryIsBack(ctx context.Context, t *tally, before *int64) error {
	if before == nil {
		t.note("memory was not compared: this engine cannot tell it")
		return nil
	}
	const slack, wait = 64 << 20, 20 * time.Second
	bound := 2**before + slack
	now := int64(-1)
	var err error
	back := eventually(ctx, wait, func() bool {
		memory, memoryErr := s.shared.Memory(ctx)
		if memoryErr != nil || memory.PSSBytes == nil {
			err = memoryErr
			return true
		}
		now = *memory.PSSBytes
		return now <= bound
	})
	if err != nil {
		return err
	}
	if !back {
		t.find(Finding{
			Operation: "memory after hostile input", Path: "PSS", Expected: fmt.Sprintf("at most %d bytes, twice what it was and %d more", bound, slack),
			Got: fmt.Sprintf("%d bytes, %s after the last request", now, wait),
		})
	}
	t.note("memory: PSS %d MiB before, %d MiB after", *before>>20, now>>20)
	return nil
}

// face sends one row and gives what was wrong with the answers.
func (s *subject) face(ctx context.Context, url string, hc hostileCase) []Finding {
	if hc.request == nil {
		return s.faceWire(ctx, url, hc)
	}
	var findings []Finding
	for _, accept := range []string{graphqlResponse, plainJSON} {
		f := Finding{Operation: hc.name, Detail: "Accept: " + accept + ", " + shortQuery(*hc.request)}
		a, err := s.client.post(ctx, url, hc.request.Body(), accept)
		if err != nil {
			f.Expected, f.Got = "an answer", err.Error()
			findings = append(findings, f)
			continue
		}
		w := hc.want
		if s.arm.Tier == contender.TierFloor {
			w = want{code: "NOT_IN_THIS_TIER"}
		}
		requestError := w.code
		if hc.atField && s.arm.Tier != contender.TierFloor {
			requestError = ""
		}
		status, err := s.Contract.Errors.StatusOf(requestError, accept == graphqlResponse)
		if err != nil {
			f.Path, f.Expected, f.Got = "errors.json", "the code", err.Error()
			findings = append(findings, f)
			continue
		}
		w.statuses = []int{status}
		w.accept = accept
		if !s.fits(a, w, &f) {
			findings = append(findings, f)
		}
	}
	return findings
}

// faceWire sends bytes.
func (s *subject) faceWire(ctx context.Context, url string, hc hostileCase) []Finding {
	wanted := max(1, hc.want.answers)
	if hc.want.document && s.arm.Tier == contender.TierFloor {
		hc.want = want{statuses: []int{http.StatusNotImplemented}, code: "NOT_IN_THIS_TIER"}
	}
	f := Finding{Operation: hc.name}
	answers, closed, err := exchange(ctx, url, wanted, or(hc.method, http.MethodPost), hc.halfClose, hc.parts...)
	if err != nil {
		f.Expected, f.Got = "an answer", err.Error()
		return []Finding{f}
	}
	if closed && !hc.want.mayClose && !hc.want.open {
		f.Expected, f.Got = requestsAnswered(wanted), fmt.Sprintf("the connection closed after %d", len(answers))
		return []Finding{f}
	}
	var findings []Finding
	for i, a := range answers {
		f := Finding{Operation: hc.name}
		if wanted > 1 {
			f.Detail = fmt.Sprintf("answer %d of %d", i+1, wanted)
		}
		if !hc.want.open && !s.fits(a, hc.want, &f) {
			findings = append(findings, f)
		}
	}
	return findings
}

func requestsAnswered(n int) string {
	if n == 1 {
		return "an answer"
	}
	return fmt.Sprintf("%d answers", n)
}

// fits tells whether an answer is what is wanted and fills in the finding if it is not.
func (s *subject) fits(a answer, w want, f *Finding) bool {
	if !slices.Contains(w.statuses, a.status) {
		f.Path, f.Expected, f.Got = "status", w.describe(), a.describe()
		return false
	}
	if w.golden {
		return s.compare(s.golden(), a, w.accept, f)
	}
	for _, name := range w.headers {
		if a.header.Get(name) == "" {
			f.Path, f.Expected, f.Got = "header "+name, "that it is there", "none"
			return false
		}
	}
	if w.accept != "" {
		if path, expected, got := a.checkEnvelope(w.accept); path != "" {
			f.Path, f.Expected, f.Got = path, expected, got
			return false
		}
	}
	if w.code == "" && len(w.statuses) > 1 {
		return true // what HTTP itself refuses has no body of ours
	}
	var body struct {
		Data   json.RawMessage `json:"data"`
		Errors []struct {
			Message    string          `json:"message"`
			Path       []any           `json:"path"`
			Extensions json.RawMessage `json:"extensions"`
		} `json:"errors"`
	}
	if err := json.Unmarshal(a.body, &body); err != nil {
		f.Path, f.Expected, f.Got = "body", "JSON", a.describe()
		return false
	}
	if a.code() != w.code {
		f.Path, f.Expected, f.Got = "errors[0].extensions.code", or(w.code, "no error"), a.describe()
		return false
	}
	if w.code == "" {
		if len(body.Errors) > 0 || len(body.Data) == 0 || string(body.Data) == "null" {
			f.Path, f.Expected, f.Got = "data", "data and no errors", a.describe()
			return false
		}
		return true
	}
	if body.Errors[0].Message == "" {
		f.Path, f.Expected, f.Got = "errors[0].message", "a message", "none"
		return false
	}
	if a.status != http.StatusOK && body.Data != nil {
		f.Path, f.Expected, f.Got = "data", "none, the request being refused", string(body.Data)
		return false
	}
	if path := joined(body.Errors[0].Path); w.path != "" && path != w.path {
		f.Path, f.Expected, f.Got = "errors[0].path", w.path, or(path, "none")
		return false
	}
	return true
}

func joined(path []any) string {
	words := make([]string, len(path))
	for i, element := range path {
		words[i] = fmt.Sprint(element)
	}
	return strings.Join(words, ".")
}

func (w want) describe() string {
	words := make([]string, len(w.statuses))
	for i, status := range w.statuses {
		words[i] = fmt.Sprint(status)
	}
	text := strings.Join(words, " or ")
	if w.code != "" {
		text += " " + w.code
	}
	if w.mayClose {
		text += " or a closed connection"
	}
	return text
}

func shortQuery(r reference.Request) string {
	const longest = 160
	text := oneLine(r.Query)
	if len(r.Variables) > 0 {
		text += " " + string(r.Variables)
	}
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return fmt.Sprintf("%q", text)
}
