package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/reference"
)

const madeAnswer = `{"data":{"x":1}}`

// madeEngine has contenders that answer, and a load generator that says what it would see of a server of known capacity:
// no time passes, so a whole search is exact.
type madeEngine struct {
	engine.Engine
	capacity map[string]float64 // by arm
	// lateFrom is the rate from which the generator is late against anybody.
	lateFrom float64
	// gone ends the engine after so many attacks; 0 is never.
	gone    int
	attacks int
	started []string
}

type madePart struct{ engine.Contender }

func (madePart) Usage(context.Context) (engine.Usage, error)   { return engine.Usage{}, nil }
func (madePart) Memory(context.Context) (engine.Memory, error) { return engine.Memory{}, nil }

type madeContender struct {
	madePart
	arm    contender.Arm
	server *httptest.Server
}

func (c madeContender) Arm() contender.Arm         { return c.arm }
func (c madeContender) GraphQLURL() string         { return c.server.URL + "/graphql" }
func (c madeContender) LoadURL() string            { return c.GraphQLURL() }
func (c madeContender) MetricsURL() string         { return c.server.URL + "/metrics" }
func (c madeContender) Started() time.Time         { return time.Now() }
func (c madeContender) Stop(context.Context) error { c.server.Close(); return nil }

type madeDatabase struct{ engine.Database }

func (madeDatabase) PrimaryURL() string      { return "" }
func (madeDatabase) ReplicaURL() string      { return "" }
func (madeDatabase) AdminPrimaryURL() string { return "" }
func (madeDatabase) AdminReplicaURL() string { return "" }
func (madeDatabase) Primary() engine.Meter   { return madePart{} }
func (madeDatabase) Replica() engine.Meter   { return madePart{} }

type madeUpstream struct{ madePart }

func (madeUpstream) URL() string { return "" }

func (e *madeEngine) answering(arm contender.Arm) madeContender {
	return madeContender{arm: arm, server: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, madeAnswer)
	}))}
}

func (e *madeEngine) Contender(_ context.Context, spec engine.ContenderSpec) (engine.Contender, error) {
	e.started = append(e.started, spec.Arm.Name)
	return e.answering(spec.Arm), nil
}

func (e *madeEngine) Null(context.Context, engine.NullSpec) (engine.Contender, error) {
	return e.answering(contender.Arm{Name: engine.NullName}), nil
}

func (e *madeEngine) Agent(_ context.Context, against engine.Contender, stdin []byte) (engine.AgentResult, error) {
	if e.attacks++; e.gone > 0 && e.attacks > e.gone {
		return engine.AgentResult{}, errors.New("the engine is gone")
	}
	var job agent.Job
	if err := json.Unmarshal(stdin, &job); err != nil {
		return engine.AgentResult{}, err
	}
	n := uint64(10) // of a warm-up
	if !job.Closed {
		var err error
		if n, err = agent.CountWithin(job.Arrival, job.RPS, job.Seed, job.Duration); err != nil {
			return engine.AgentResult{}, err
		}
	}
	latency, lag := 5*time.Millisecond, 100*time.Microsecond
	if most, known := e.capacity[against.Arm().Name]; known && job.RPS > most {
		latency = 500 * time.Millisecond
	}
	if job.RPS > e.lateFrom {
		lag = 50 * time.Millisecond
	}
	histogram := func(d time.Duration) *agent.Histogram {
		h := hdr.New(int64(time.Microsecond), int64(100*time.Second), 3)
		_ = h.RecordValues(int64(d), int64(n))
		return &agent.Histogram{Histogram: h}
	}
	out, err := json.Marshal(agent.Result{
		Offered: n, Sent: n, OK: n, Began: time.Now(), Elapsed: job.Duration, Seconds: []*agent.Histogram{histogram(latency)}, Service: histogram(latency), SendLag: histogram(lag),
	})
	return engine.AgentResult{Stdout: out}, err
}

func madeSession(t *testing.T, e *madeEngine) *session {
	t.Helper()
	folder, err := record.Create(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, err)
	s := &session{
		engine: e, database: madeDatabase{}, upstream: madeUpstream{}, folder: folder, progress: newProgress(io.Discard), nonconformant: map[string]bool{},
		run: record.Run{Format: record.Format, ID: "made", Profile: "standard", Evidence: true, Seed: 7, Complete: true},
	}
	s.capacity = capacitySettings{on: true, slo: capacity.Default, times: capacityTimesOf["standard"]}
	return s
}

func madeQuestion() question {
	return question{"q2", reference.Request{Query: "{ x }"}, madeAnswer}
}

func madeArms(names ...string) (arms []contender.Arm) {
	for _, name := range names {
		tier := contender.TierMainstream
		if name == "go-floor" {
			tier = contender.TierFloor
		}
		arms = append(arms, contender.Arm{Name: name, Base: name, Contender: name, Tier: tier})
	}
	return arms
}

func TestSearchCapacities(t *testing.T) {
	e := &madeEngine{capacity: map[string]float64{"go": 730, "node": 305}, lateFrom: 1e9}
	s := madeSession(t, e)
	ceiling := 4000.0
	s.run.GeneratorCeilingRPS = &ceiling
	p, err := profileNamed("standard")
	require.NoError(t, err)
	require.NoError(t, s.searchCapacities(t.Context(), p, madeArms("go", "node", "rust", "go-floor"), madeQuestion(), map[string]float64{"go": 600, "node": 400, "rust": 900, "go-floor": 2000}))

	// On disk, whole, and what its trials give.
	require.NoError(t, s.folder.WriteRun(s.run))
	saved, err := record.Open(s.folder.Path())
	require.NoError(t, err)
	require.NoError(t, capacity.Check(saved.Run))

	require.Len(t, s.run.Capacities, 3, "floors have no part in it")
	got := map[string]record.Capacity{}
	for _, c := range s.run.Capacities {
		got[c.Arm] = c
		assert.True(t, c.Confirmed, c.Note)
		assert.Equal(t, "p99=100ms", c.SLO)
	}
	for arm, limit := range e.capacity {
		require.NotNil(t, got[arm].HighRPS)
		assert.LessOrEqual(t, got[arm].LowRPS, limit)
		assert.Greater(t, *got[arm].HighRPS, limit)
		assert.LessOrEqual(t, *got[arm].HighRPS/got[arm].LowRPS, 1.05)
	}
	assert.Equal(t, ceiling, got["rust"].LowRPS)
	assert.Nil(t, got["rust"].HighRPS)
	assert.Contains(t, got["rust"].Note, "the generator's ceiling, 4000")

	// The arms take turns, and only where one has ended is it left out.
	var order []string
	curves := map[string][]float64{}
	for _, x := range s.run.Trials {
		switch x.Load {
		case record.LoadCapacity:
			order = append(order, x.Arm)
		case record.LoadCurve:
			curves[x.Arm] = append(curves[x.Arm], x.RateRPS)
		}
		assert.Equal(t, x.RateRPS >= 3200, x.NearGeneratorCeiling, "%s at %g", x.Arm, x.RateRPS)
	}
	for round := range 4 {
		assert.ElementsMatch(t, []string{"go", "node", "rust"}, order[3*round:3*round+3])
	}
	assert.NotEqual(t, order[:3], order[3:6], "in another order each round, with this seed")
	for arm, rates := range curves {
		slices.Sort(rates)
		assert.InEpsilon(t, 0.9*got[arm].LowRPS, rates[len(rates)-1], 0.1, arm)
		assert.InEpsilon(t, 0.25*got["node"].LowRPS, rates[0], 0.1, "the lowest common rate")
	}
	assert.Len(t, curves, 3)
	assert.Len(t, e.started, len(s.run.Trials), "a fresh process for each trial")

	// The same seed gives the same order.
	again := madeSession(t, &madeEngine{capacity: e.capacity, lateFrom: 1e9})
	again.run.GeneratorCeilingRPS = &ceiling
	require.NoError(t, again.searchCapacities(t.Context(), p, madeArms("go", "node", "rust", "go-floor"), madeQuestion(), map[string]float64{"go": 600, "node": 400, "rust": 900}))
	for i, x := range again.run.Trials {
		assert.Equal(t, s.run.Trials[i].ID, x.ID)
		assert.Equal(t, s.run.Trials[i].Seed, x.Seed)
	}
}

func TestASearchThatIsCutShortKeepsWhatItFound(t *testing.T) {
	e := &madeEngine{capacity: map[string]float64{"go": 730}, lateFrom: 1e9, gone: 2 * 4} // each trial has a warm-up
	s := madeSession(t, e)
	ceiling := 4000.0
	s.run.GeneratorCeilingRPS = &ceiling
	err := s.searchCapacities(t.Context(), profiles[2], madeArms("go", "node"), madeQuestion(), map[string]float64{"go": 200, "node": 200})
	require.ErrorContains(t, err, "the engine is gone")
	require.Len(t, s.run.Capacities, 2)
	for _, c := range s.run.Capacities {
		assert.Len(t, c.Steps, 2)
		assert.False(t, c.Confirmed)
		assert.Contains(t, c.Note, "ended early")
		assert.Equal(t, 200.0, c.LowRPS)
	}
	require.NoError(t, s.folder.WriteRun(s.run))
	saved, err := record.Open(s.folder.Path())
	require.NoError(t, err)
	require.NoError(t, capacity.Check(saved.Run))
}

func TestASearchThatRunsOutOfTime(t *testing.T) {
	e := &madeEngine{capacity: map[string]float64{"go": 730}, lateFrom: 1e9}
	s := madeSession(t, e)
	ceiling := 4000.0
	s.run.GeneratorCeilingRPS, s.capacity.times.budget = &ceiling, 0
	require.NoError(t, s.searchCapacities(t.Context(), profiles[2], madeArms("go"), madeQuestion(), map[string]float64{"go": 200}))
	require.Len(t, s.run.Capacities, 1)
	assert.Contains(t, s.run.Capacities[0].Note, "that profile standard gives the searches were over")
	assert.False(t, s.run.Capacities[0].Confirmed)
	assert.NotEmpty(t, s.run.Warnings, "and there is no curve")
}

// A generator that is late while the server is quick says nothing of the server: such trials are void, and bounded.
func TestALateGeneratorFailsNoArm(t *testing.T) {
	e := &madeEngine{lateFrom: 500}
	s := madeSession(t, e)
	ceiling := 4000.0
	s.run.GeneratorCeilingRPS = &ceiling
	require.NoError(t, s.searchCapacities(t.Context(), profiles[2], madeArms("go"), madeQuestion(), map[string]float64{"go": 400}))
	c := s.run.Capacities[0]
	assert.Nil(t, c.HighRPS)
	assert.Equal(t, 400.0, c.LowRPS)
	assert.False(t, c.Confirmed)
	assert.Contains(t, c.Note, "3 trials in a row at 800 requests a second were void")
}

func TestNoSearchWithoutACeiling(t *testing.T) {
	s := madeSession(t, &madeEngine{lateFrom: 1e9})
	require.NoError(t, s.searchCapacities(t.Context(), profiles[2], madeArms("go"), madeQuestion(), map[string]float64{"go": 400}))
	assert.Empty(t, s.run.Capacities)
	require.Len(t, s.run.Warnings, 1)
	assert.Contains(t, s.run.Warnings[0], "ceiling is not known")
	s.capacity.on = false
	s.run.Warnings = nil
	require.NoError(t, s.searchCapacities(t.Context(), profiles[2], madeArms("go"), madeQuestion(), nil))
	assert.Empty(t, s.run.Warnings)
}

func TestFindCeiling(t *testing.T) {
	s := madeSession(t, &madeEngine{lateFrom: 3000})
	require.NoError(t, s.findCeiling(t.Context(), madeQuestion(), time.Second))
	require.NotNil(t, s.run.GeneratorCeilingRPS)
	assert.LessOrEqual(t, *s.run.GeneratorCeilingRPS, 3000.0)
	assert.Greater(t, *s.run.GeneratorCeilingRPS, 3000/1.1)
	assert.Empty(t, s.run.Trials, "it is of nobody")

	busy := madeSession(t, &madeEngine{lateFrom: 1})
	require.NoError(t, busy.findCeiling(t.Context(), madeQuestion(), time.Second))
	assert.Nil(t, busy.run.GeneratorCeilingRPS)
	assert.Contains(t, busy.run.Warnings[0], "too busy to measure on")
}
