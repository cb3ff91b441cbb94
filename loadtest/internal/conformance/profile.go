package conformance

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/profile"
	"lab/loadtest/internal/reference"
	"lab/loadtest/internal/trial"
)

const (
	// profiledClients ask meanwhile, one request after the other each: enough for each process of a cluster to have some.
	profiledClients = 24
	// profiledSeconds is how long the profile takes, and in which a second one must be refused.
	profiledSeconds = 3
	// tellingSamples are so many that some are the loader's, which has a few per cent of the CPU time.
	tellingSamples = 150
	// profileTries is how often two are asked for at once: on a machine that pauses the second may come when the first is done.
	profileTries = 3
)

// profiles asks for profiles under load, and for what is none.
func profiles(ctx context.Context, s *subject, t *tally) error {
	if err := s.withProcess(ctx, map[string]string{trial.ProfilerSetting: "off"}, func(c engine.Contender) error {
		s.wantStatus(ctx, t, http.MethodGet, profileURL(c.GraphQLURL(), "1"), http.StatusNotFound, "PROFILER=off")
		return ctx.Err()
	}); err != nil {
		return err
	}
	q2, err := s.Contract.Operation("q2")
	if err != nil {
		return err
	}
	body := reference.RequestOf(q2).Body()
	return s.withProcess(ctx, map[string]string{trial.ProfilerSetting: "on"}, func(c engine.Contender) error {
		for _, seconds := range []string{"", "0", "31", "-1", "1.5", "x"} {
			s.wantStatus(ctx, t, http.MethodGet, profileURL(c.GraphQLURL(), seconds), http.StatusBadRequest, "")
		}
		s.wantStatus(ctx, t, http.MethodHead, profileURL(c.GraphQLURL(), "0"), http.StatusBadRequest, "")
		s.wantStatus(ctx, t, http.MethodPost, profileURL(c.GraphQLURL(), "1"), http.StatusMethodNotAllowed, "")

		loaded, done := context.WithCancel(ctx)
		var clients sync.WaitGroup
		for range profiledClients {
			clients.Go(func() {
				for loaded.Err() == nil {
					_, _ = s.client.post(loaded, c.GraphQLURL(), body, graphqlResponse)
				}
			})
		}
		defer clients.Wait()
		defer done()

		what := fmt.Sprintf("GET /profile?seconds=%d, twice at once", profiledSeconds)
		// Each process of a cluster has a profiler of its own.
		each := s.arm.Environment["CONCURRENCY_MODEL"] == "cluster"
		var found []Finding
		for range profileTries {
			answers, err := s.twoProfiles(ctx, c)
			t.answers.Add(int64(len(answers)))
			if err != nil {
				found = []Finding{{Operation: what, Expected: "an answer", Got: err.Error()}}
				continue
			}
			if found = s.lookAtProfiles(what, answers, each); len(found) == 0 {
				break
			}
		}
		for _, f := range found {
			t.find(f)
		}
		return ctx.Err()
	})
}

// twoProfiles asks for two at once.
func (s *subject) twoProfiles(ctx context.Context, c engine.Contender) ([]answer, error) {
	answers := make([]answer, 2)
	group, ctx := errgroup.WithContext(ctx)
	for i := range answers {
		group.Go(func() (err error) {
			answers[i], err = s.client.get(ctx, profileURL(c.GraphQLURL(), fmt.Sprint(profiledSeconds)))
			return err
		})
	}
	return answers, group.Wait()
}

// lookAtProfiles wants one profile of two asked for at once, and the other refused; where each process has its own, perhaps
// both.
func (s *subject) lookAtProfiles(what string, answers []answer, each bool) []Finding {
	var statuses []int
	var found []Finding
	for _, a := range answers {
		if statuses = append(statuses, a.status); a.status == http.StatusOK {
			found = append(found, s.lookAtProfile(what, a)...)
		}
	}
	slices.Sort(statuses)
	if !slices.Equal(statuses, []int{200, 409}) && !(each && slices.Equal(statuses, []int{200, 200})) {
		found = append(found, Finding{Operation: what, Path: "status", Expected: "200 and 409", Got: fmt.Sprint(statuses)})
	}
	return found
}

// lookAtProfile reads a profile and wants to find the server in it.
func (s *subject) lookAtProfile(what string, a answer) []Finding {
	if s.arm.Profile == nil {
		return []Finding{{Operation: what, Path: contender.ManifestName, Expected: "patterns of functions under profile", Got: "none"}}
	}
	if got := a.header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		return []Finding{{Operation: what, Path: "Content-Type", Expected: "text/plain; charset=utf-8", Got: got}}
	}
	p, err := profile.Of(*s.arm.Profile, a.body)
	switch {
	case err != nil:
		return []Finding{{Operation: what, Expected: "folded stacks", Got: err.Error()}}
	case p.Samples == p.RuntimeSamples:
		return []Finding{{Operation: what, Expected: "samples of the server's own functions", Got: fmt.Sprintf("%d samples, all of the runtime alone", p.Samples)}}
	case p.Samples >= tellingSamples && p.LoaderSamples == 0 && s.arm.Tier != contender.TierFloor:
		return []Finding{{Operation: what, Expected: "samples of the loader, by the manifest's patterns", Got: fmt.Sprintf("none of %d", p.Samples)}}
	}
	return nil
}

func profileURL(graphql, seconds string) string {
	return strings.TrimSuffix(graphql, "/graphql") + "/profile?seconds=" + seconds
}

// wantStatus asks and wants that status.
func (s *subject) wantStatus(ctx context.Context, t *tally, method, url string, want int, detail string) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return // the address is the engine's
	}
	t.answers.Add(1)
	what := method + " /profile?" + request.URL.RawQuery
	a, err := s.client.do(request)
	if err != nil || a.status != want {
		t.find(Finding{Operation: what, Path: "status", Expected: fmt.Sprint(want), Got: describeEither(a, err), Detail: detail})
	}
}
