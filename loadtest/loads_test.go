package main

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

// Closed loops have a trial for each number of connections, and what decides is of the most in the fewest.
func TestClosedLoopsOfSeveralConnections(t *testing.T) {
	inNoTime(t)
	needsAssets(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "connections", contenders: "go+CPUS=2,node+CPUS=2"})
	require.NoError(t, s.anew())
	s.studies[0].Connections = []int{1, 8}
	closed := map[uint64]int{}
	s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
		if job.Closed {
			closed[job.MaxInFlight]++
		}
		return nil
	}
	r, page := s.beginWithPage(t)
	require.Len(t, r.Scenarios, 1)
	assert.Equal(t, []int{1, 8}, r.Scenarios[0].Connections)
	assert.Contains(t, page, "connections: throughput and tail by connections")
	assert.Contains(t, page, "answers a second: higher is better")
	assert.Regexp(t, `(go|node)\+CPUS=2 [0-9.,]+ answers a second( \([^)]*\))? with 1 connection, [0-9.,]+ answers a second( \([^)]*\))? with 8 connections( \([^)]*\))?, which is [0-9.]+ times as many( \([^)]*\))?, held back by [a-z ]+`, page)
	processes := 0
	for _, block := range r.Scenarios[0].Plan.Order {
		processes += len(block)
	}
	assert.Equal(t, processes, closed[1], "one trial of each process")
	assert.Equal(t, processes, closed[8])
	seen := map[record.Load]map[int]int{record.LoadRate: {}, record.LoadClosed: {}}
	for _, x := range r.Trials {
		seen[x.Load][x.Connections]++
		if x.Load == record.LoadClosed {
			assert.Equal(t, "closed", x.Arrival)
			assert.Zero(t, x.RateRPS)
			assert.Contains(t, x.ID, "-closed-c000")
		}
	}
	assert.Equal(t, map[record.Load]map[int]int{record.LoadRate: {0: processes}, record.LoadClosed: {1: processes, 8: processes}}, seen)
	rule := claims.RuleOf(r.Scenarios[0])
	for i := range r.Trials {
		_, decides := rule.Value(&r.Trials[i])
		assert.Equal(t, r.Trials[i].Connections == 8, decides, r.Trials[i].ID)
		_, divides := rule.Per(&r.Trials[i])
		assert.Equal(t, r.Trials[i].Connections == 1, divides, r.Trials[i].ID)
	}
	assert.Contains(t, s.out.String(), "Scenario connections: Q1, open loop")
	assert.Regexp(t, `(?s)In closed loops of 1 and 8 connections:\n\narm +connections +answers /s +p50 ms +p99 ms +CPU µs/request\n(go|node)\+CPUS=2 +1 +[1-9]`, s.out.String())
}

// Each arm is offered its share of what it bore itself, those that are compared with each other the same.
func TestArmsThatAreNotComparedHaveRatesOfTheirOwn(t *testing.T) {
	inNoTime(t)
	const steals, perCore, alone = "rust-steal-counts+CPUS=2", "rust-per-core+CPUS=2", "go+CPUS=2"
	s := newStage(t, compareOptions{seed: 7, scenario: "work-stealing", contenders: strings.Join([]string{steals, perCore, alone}, ",")})
	s.engine.Bears = map[string]float64{steals: 3000, perCore: 2000, alone: 1000}
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	require.Len(t, r.Scenarios, 1)
	is := r.Scenarios[0]
	assert.InDelta(t, 0.5, is.OwnShare, 0)
	bore := map[string]float64{}
	for _, pilot := range is.Plan.Pilot {
		bore[pilot.Arm] = pilot.CapacityRPS
	}
	require.Greater(t, bore[steals], bore[perCore])
	require.Greater(t, bore[perCore], bore[alone])
	for _, x := range r.Trials {
		of := bore[x.Arm]
		if x.Arm == steals {
			of = bore[perCore]
		}
		assert.InDelta(t, roundDown(0.5*of), x.RateRPS, 0, x.ID)
	}
	assert.InDelta(t, roundDown(0.5*bore[alone]), is.Plan.RateRPS, 0, "percentiles are planned by the least rate")
	assert.Contains(t, s.out.String(), "at 50 % of what arms bore in their pilots (the least ")
}

// Of one server the arms that are compared are asked alike, and all that are joined by such pairs; no others are.
func TestWhoIsAskedAlike(t *testing.T) {
	var st study
	st.Pairs = [][]string{{"rust-a", "rust-b"}, {"rust-b", "rust-c"}, {"rust-a", "go"}, {"go", "node"}}
	bore := map[string]float64{"go": 300, "node": 100, "rust-a": 600, "rust-b": 500, "rust-c": 400, "rust-d": 200}
	for name := range bore {
		server, _, _ := strings.Cut(name, "-")
		st.arms = append(st.arms, contender.Arm{Name: name, Contender: server})
	}
	assert.Equal(t, map[string]float64{"go": 300, "node": 100, "rust-a": 400, "rust-b": 400, "rust-c": 400, "rust-d": 200}, st.weakest(bore))
}

// A scenario has all arms asked at a share of its own of what the weakest bore.
func TestAllAreAskedAtAShareOfWhatTheWeakestBore(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "allocator", contenders: "rust+CPUS=2,rust-system-malloc+CPUS=2"})
	s.engine.Bears = map[string]float64{"rust+CPUS=2": 2000, "rust-system-malloc+CPUS=2": 1000}
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	is := whole(t, dir).Scenarios[0]
	assert.InDelta(t, 0.7, is.Share, 0)
	weakest := min(is.Plan.Pilot[0].CapacityRPS, is.Plan.Pilot[1].CapacityRPS)
	assert.InDelta(t, roundDown(0.7*weakest), is.Plan.RateRPS, 0)
	assert.Contains(t, is.Definition(), "0.7 of what the weakest bears")
}

// An arm that this machine cannot run has no trial, and its pairs say why; the others are measured.
func TestArmsThatNeedMoreCPUsThanThereAre(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "parallel-cpu", contenders: "node+CPUS=1,go+CPUS=1,go+CPUS=2,rust+CPUS=2"})
	s.engine.Machine.Placement = engine.Place([]int{0})
	require.NoError(t, s.anew())
	s.studies[0].Pairs = append(s.studies[0].Pairs, []string{"node+CPUS=1", "go+CPUS=1"})
	r := s.beginChosen(t, filepath.Join(t.TempDir(), "run"))
	require.Len(t, r.Scenarios, 1)
	assert.Equal(t, []string{"go+CPUS=2", "rust+CPUS=2"}, slices.Sorted(maps.Keys(r.Scenarios[0].Absent)))
	for _, x := range r.Trials {
		assert.NotContains(t, x.Arm, "CPUS=2")
	}
	reasons := map[string]string{}
	for _, v := range r.Verdicts {
		assert.Equal(t, claims.Untested, v.Verdict)
		reasons[strings.Join(v.Arms[:], " ")] = v.Reason
	}
	assert.Equal(t, "this machine has too few CPUs: 2 are asked for, and it has 1", reasons["go+CPUS=1 go+CPUS=2"])
	assert.NotContains(t, reasons["node+CPUS=1 go+CPUS=1"], "too few CPUs", "those are there")
	assert.Contains(t, s.errs.String(), "go+CPUS=2 cannot be tested here: this machine has too few CPUs")
}

// Contenders on more CPUs than the table gives share them, which the run says.
func TestArmsOnSharedCPUsAreTold(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "parallel-cpu", contenders: "go+CPUS=1,go+CPUS=2"})
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	assert.Contains(t, strings.Join(r.Warnings, "\n"), "Contenders on 2 CPUs share 1 of them with the database or the generator")
	assert.Empty(t, r.Scenarios[0].Absent)
	assert.Contains(t, s.out.String(), "Scenario parallel-cpu: Q3, open loop with Poisson arrivals at more than each arm bears")
}

// A few connections carry the large requests, in the jobs as in the scenario's file.
func TestLargeRequestsHaveConnectionsOfTheirOwn(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "work-stealing", contenders: "rust-steal-counts+CPUS=2,rust-per-core+CPUS=2"})
	jobs := 0
	s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
		jobs++
		require.Len(t, job.Operations, 2)
		assert.Equal(t, []int{0, 1}, []int{job.Operations[0].Connections, job.Operations[1].Connections})
		return nil
	}
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	assert.NotZero(t, jobs)
	r := whole(t, dir)
	assert.Equal(t, map[string]int{"q3": 1}, r.Scenarios[0].OwnConnections)
	assert.Contains(t, s.out.String(), "Q3 (10 %, on 1 connection of its own)")
}

// A delay between client and server is the generator's to make, and what it comes to is measured once.
func TestTheClientsWayIsDelayed(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, scenario: "latency-budget", contenders: "go,node"})
	require.NoError(t, s.anew())
	s.studies[0].Delays["client"] = s.studies[0].Delays["client"] / 10
	want := time.Duration(s.studies[0].Delays["client"])
	probes := 0
	s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
		assert.Equal(t, want, job.ClientDelay)
		if job.ClientProbes > 0 {
			probes++
		}
		return nil
	}
	r := s.beginChosen(t, filepath.Join(t.TempDir(), "run"))
	assert.Equal(t, 1, probes)
	require.Len(t, r.Scenarios, 1)
	var links []string
	for _, o := range r.Scenarios[0].FaultOverhead {
		links = append(links, o.Link)
		if o.Link == record.LinkClient {
			assert.Equal(t, int64(want), o.DelayNS)
			assert.Greater(t, o.AddedP50NS, int64(want)/2)
		}
	}
	assert.Equal(t, []string{"client", "database_primary", "database_replica", "upstream"}, links)
	for _, x := range r.Trials {
		if x.OK > 0 {
			assert.Greater(t, x.LatencyP50NS, int64(want)+int64(3e6), "the delay and the played server's own")
		}
	}
	assert.Contains(t, s.out.String(), "2ms added to each round trip to the server, 50ms added to each round trip to the database, 100ms added to each round trip to the quote service")
}
