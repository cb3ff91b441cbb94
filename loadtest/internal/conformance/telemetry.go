package conformance

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/reference"
	"lab/loadtest/internal/scrape"
)

// phases are the parts of Server-Timing; total is their sum.
var phases = []string{"parse", "validate", "execute", "db", "serialize"}

// phaseUpstream is the time with a call of the quote service and no statement in flight, of a request that has such a time.
const phaseUpstream = "upstream"

// quoting is the operation, without a statement, whose wait for the quote service is looked at.
const quoting = "quote"

// serverTiming looks at Server-Timing of several requests.
func serverTiming(ctx context.Context, s *subject, t *tally) error {
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	const share, slackMs = 0.05, 0.05
	for _, q := range s.answerable() {
		quotes := q.name == quoting
		if !q.headline && !quotes {
			continue
		}
		a, err := s.client.post(ctx, url, q.body, graphqlResponse)
		if err == nil && a.header.Get("Server-Timing") != "" {
			t.find(Finding{Operation: q.name, Path: "Server-Timing", Expected: "none, nobody having asked", Got: a.header.Get("Server-Timing")})
		}
		for range 5 {
			began := time.Now()
			a, err := s.client.post(ctx, url, q.body, graphqlResponse, "X-Server-Timing", "1")
			elapsedMs := float64(time.Since(began)) / float64(time.Millisecond)
			t.answers.Add(1)
			f := Finding{Operation: q.name, Path: "Server-Timing"}
			if err != nil {
				f.Expected, f.Got = "an answer", err.Error()
				t.find(f)
				continue
			}
			text := a.header.Get("Server-Timing")
			f.Detail = text
			timing, err := parseServerTiming(text)
			if err != nil {
				f.Expected, f.Got = strings.Join(append(slices.Clone(phases), "total"), ", "), err.Error()
				t.find(f)
				continue
			}
			sum := timing[phaseUpstream]
			for _, phase := range phases {
				sum += timing[phase]
			}
			total := timing["total"]
			switch {
			case math.Abs(sum-total) > max(share*total, slackMs):
				f.Expected, f.Got = fmt.Sprintf("phases that add up to the total of %.3f ms within 5 %%", total), fmt.Sprintf("%.3f ms", sum)
			case timing["db"] <= 0 && !quotes || timing["execute"] <= 0:
				f.Expected, f.Got = "time in db and in execute", fmt.Sprintf("db %.3f ms, execute %.3f ms", timing["db"], timing["execute"])
			case (timing[phaseUpstream] > 0) != quotes:
				f.Expected, f.Got = "time in "+phaseUpstream+" of a request that waits for the quote service, and of no other", fmt.Sprintf("%.3f ms", timing[phaseUpstream])
			case total > elapsedMs:
				f.Expected, f.Got = fmt.Sprintf("a total within the %.3f ms that the client waited", elapsedMs), fmt.Sprintf("%.3f ms", total)
			default:
				continue
			}
			t.find(f)
		}
	}
	return nil
}

// parseServerTiming reads "parse;dur=0.012, …" and wants each phase and the total, once, and nothing else but perhaps the wait
// for the quote service.
func parseServerTiming(text string) (map[string]float64, error) {
	timing, err := scrape.ServerTiming(text)
	if err != nil {
		return nil, err
	}
	wanted := append(slices.Clone(phases), "total")
	if _, waited := timing[phaseUpstream]; waited {
		wanted = append(wanted, phaseUpstream)
	}
	slices.Sort(wanted)
	if got := slices.Sorted(maps.Keys(timing)); !slices.Equal(got, wanted) {
		return nil, fmt.Errorf("the names are %s", strings.Join(got, ", "))
	}
	return timing, nil
}

// metrics asks known requests and looks at what /metrics counted.
func metrics(ctx context.Context, s *subject, t *tally) error {
	return s.withProcess(ctx, map[string]string{contender.MasterMB: provenMasterMiB}, func(c engine.Contender) error {
		q2, err := s.Contract.Operation("q2")
		if err != nil {
			return err
		}
		q, err := newQuestion(q2.Name, reference.RequestOf(q2), q2.Expected)
		if err != nil {
			return err
		}
		q.operation, q.headline = q2, true
		// Once beforehand: a counter without a count may be left out.
		s.pose(ctx, t, c.GraphQLURL(), q, graphqlResponse, "")
		before, err := s.scrape(ctx, t, c)
		if before == nil || err != nil {
			return err
		}
		const right, wrong = 7, 3
		for range right {
			s.pose(ctx, t, c.GraphQLURL(), q, graphqlResponse, "")
		}
		wrongCode := "GRAPHQL_VALIDATION_FAILED"
		if s.arm.Tier == contender.TierFloor {
			wrongCode = "NOT_IN_THIS_TIER"
		}
		for range wrong {
			if _, err := s.client.post(ctx, c.GraphQLURL(), reference.Request{Query: "{ nope }"}.Body(), graphqlResponse); err != nil {
				t.find(Finding{Operation: "{ nope }", Expected: "an answer", Got: err.Error()})
			}
		}
		after, err := s.scrape(ctx, t, c)
		if after == nil || err != nil {
			return err
		}
		grew := func(by float64, name string, labels ...string) {
			if got := after.Sum(name, labels...) - before.Sum(name, labels...); got != by {
				t.find(Finding{
					Operation: fmt.Sprintf("%d × q2, %d × { nope }", right, wrong), Path: sampleName(name, labels), Expected: fmt.Sprintf("%v more", by), Got: fmt.Sprintf("%v more", got),
				})
			}
		}
		atLeast := func(least float64, name string, labels ...string) {
			if got := after.Sum(name, labels...); got < least {
				t.find(Finding{Operation: "/metrics", Path: sampleName(name, labels), Expected: fmt.Sprintf("at least %v", least), Got: describeSample(after, name, labels...)})
			}
		}
		grew(right, "lab_requests_total", "code", "OK")
		grew(wrong, "lab_requests_total", "code", wrongCode)
		grew(right+wrong, "lab_requests_total")
		grew(right+wrong, "lab_request_seconds_count")
		loaded := 0
		for stem, r := range q2.Statements[s.setting] {
			if r.Min == r.Max {
				grew(float64(right*r.Min), "lab_statements_total", "statement", stem)
			}
			loaded += r.Min
		}
		atLeast(1, "lab_request_seconds_bucket", "le", "+Inf")
		atLeast(1, "lab_pool_wait_seconds_count")
		addresses := []string{"primary"}
		if s.arm.ReadsReplica() {
			addresses = append(addresses, "replica")
		}
		for _, address := range addresses {
			for _, state := range []string{"in_use", "idle"} {
				if !after.Has("lab_pool_connections", "address", address, "state", state) {
					t.find(Finding{Operation: "/metrics", Path: sampleName("lab_pool_connections", []string{"address", address, "state", state}), Expected: "that it is there", Got: "nothing"})
				}
			}
		}
		atLeast(1, "lab_pool_connections", "address", addresses[len(addresses)-1])
		if s.arm.Tier != contender.TierFloor {
			atLeast(1, "lab_documents_cached")
			grew(right+wrong, "lab_document_lookups_total")
			if s.arm.Environment["LOADER"] != "off" {
				// The first statement is the root field's own; the others are loaders', each a batch.
				batches := float64(right * (loaded - 1))
				if got := after.Sum("lab_loader_batch_keys_count") - before.Sum("lab_loader_batch_keys_count"); got < batches {
					t.find(Finding{Operation: fmt.Sprintf("%d × q2", right), Path: "lab_loader_batch_keys_count", Expected: fmt.Sprintf("at least %v more", batches), Got: fmt.Sprintf("%v more", got)})
				}
			}
		}
		for _, key := range after.Matching("lab_worker_busy_seconds_total") {
			clock := "lab_worker_elapsed_seconds_total" + strings.TrimPrefix(key, "lab_worker_busy_seconds_total")
			if _, told := after[clock]; !told {
				t.find(Finding{Operation: "/metrics", Path: clock, Expected: "that it is there, as " + key + " is", Got: "nothing"})
			}
		}
		// Who tells of collections worker by worker tells of all of them.
		if collecting := after.Values("lab_gc_pause_seconds_sum", "worker"); len(collecting) > 0 {
			if workers := after.Values("lab_worker_busy_seconds_total", "worker"); !slices.Equal(collecting, workers) {
				t.find(Finding{Operation: "/metrics", Path: "lab_gc_pause_seconds_sum", Expected: fmt.Sprintf("of the workers %q", workers), Got: fmt.Sprintf("of %q", collecting)})
			}
		}
		// A MiB in each process that has a copy of its own, as it was asked to.
		if got := after.Sum("lab_master_text_bytes"); got < 1<<20 || math.Mod(got, 1<<20) != 0 {
			t.find(Finding{Operation: "/metrics with " + contender.MasterMB + "=" + provenMasterMiB, Path: "lab_master_text_bytes", Expected: "1048576 for each copy", Got: describeSample(after, "lab_master_text_bytes")})
		}
		if got := after.Sum("process_cpu_seconds_total"); got <= 0 {
			t.find(Finding{Operation: "/metrics", Path: "process_cpu_seconds_total", Expected: "more than 0", Got: describeSample(after, "process_cpu_seconds_total")})
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(after)), func(key string) bool { return !strings.HasPrefix(key, "lab_") }) {
			t.find(Finding{Operation: "/metrics", Path: "the runtime's own metrics", Expected: "some", Got: "none"})
		}
		return nil
	})
}

// withProcess runs f on a fresh contender on the shared database.
func (s *subject) withProcess(ctx context.Context, environment map[string]string, f func(c engine.Contender) error) error {
	c, err := s.start(ctx, s.database, environment)
	if err != nil {
		return err
	}
	defer s.stop(ctx, c.Stop)
	return f(c)
}

// scrape reads /metrics; nil where it could not be had, which is a finding.
func (s *subject) scrape(ctx context.Context, t *tally, c engine.Contender) (scrape.Samples, error) {
	a, err := s.client.get(ctx, c.MetricsURL())
	if err != nil || a.status != 200 {
		t.find(Finding{Operation: "GET /metrics", Path: "status", Expected: "200", Got: describeEither(a, err)})
		return nil, ctx.Err()
	}
	read, err := scrape.Parse(string(a.body))
	if err != nil {
		t.find(Finding{Operation: "GET /metrics", Path: "body", Expected: "Prometheus' text format", Got: err.Error()})
		return nil, nil
	}
	return read, nil
}

func describeSample(m scrape.Samples, name string, labels ...string) string {
	if !m.Has(name, labels...) {
		return "nothing"
	}
	return fmt.Sprint(m.Sum(name, labels...))
}

func sampleName(name string, labels []string) string {
	var pairs []string
	for i := 0; i+1 < len(labels); i += 2 {
		pairs = append(pairs, fmt.Sprintf("%s=%q", labels[i], labels[i+1]))
	}
	if len(pairs) == 0 {
		return name
	}
	return name + "{" + strings.Join(pairs, ",") + "}"
}
