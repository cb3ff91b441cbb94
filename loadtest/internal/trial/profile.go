package trial

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"lab/loadtest/internal/profile"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/scrape"
)

const (
	// profileAround is for how much longer there is load: the profiler starts after it and ends before it.
	profileAround = 500 * time.Millisecond
	// mostProfile bounds the text of one.
	mostProfile = 64 << 20
)

// ProfileTime is about how long it takes to take a profile of so many seconds.
func ProfileTime(seconds int) time.Duration {
	if seconds == 0 {
		return 0
	}
	return time.Duration(seconds)*time.Second + 2*profileAround
}

// ProfilerSetting switches a contender's profiler on, which costs nothing until it is asked.
const ProfilerSetting = "PROFILER"

// profileConnections ask all the time while a profile is taken: the busier the contender, the more there is to be sampled.
const profileConnections = 16

// Profile sends the trial's requests in a closed loop and has the contender's own profiler look at it meanwhile. Neither is in
// a figure of the trial.
func Profile(ctx context.Context, s Subject, spec Spec) (*record.Profile, error) {
	if s.Arm.Profile == nil {
		return nil, fmt.Errorf("profile of %s: its manifest does not say whose functions are whose", s.Arm.Name)
	}
	job := spec.job(s)
	job.Duration, job.ClientProbes = ProfileTime(spec.ProfileSeconds), 0
	job.Closed, job.RPS, job.MaxInFlight = true, 0, profileConnections
	var folded []byte
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := flawless(ctx, s, job)
		return err
	})
	group.Go(func() (err error) {
		if err := wait(ctx, time.Now().Add(profileAround)); err != nil {
			return err
		}
		folded, err = askProfile(ctx, s.Contender.GraphQLURL(), spec.ProfileSeconds)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("profile of %s: %w", s.Arm.Name, err)
	}
	p, err := profile.Of(*s.Arm.Profile, folded)
	if err != nil {
		return nil, fmt.Errorf("profile of %s: %w", s.Arm.Name, err)
	}
	p.Seconds = spec.ProfileSeconds
	return &p, nil
}

// askProfile asks the contender at that address of /graphql for a profile of so many seconds.
func askProfile(ctx context.Context, graphql string, seconds int) ([]byte, error) {
	at, err := url.Parse(graphql)
	if err != nil {
		return nil, err
	}
	at.Path, at.RawQuery = "/profile", url.Values{"seconds": {strconv.Itoa(seconds)}}.Encode()
	text, err := scrape.Page(ctx, at.String(), ProfileTime(seconds)+phaseTimeout, mostProfile)
	if err != nil {
		return nil, fmt.Errorf("/profile: %w", err)
	}
	return text, nil
}
