package main

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// quiet are log-ratios of identical arms on a machine that is, noisy on one that is not.
var (
	quiet = []float64{0.01, -0.012, 0.008, -0.004, 0.011, 0.006, -0.009, 0.003}
	noisy = []float64{0.3, -0.4, 0.5, -0.2, 0.35, 0.6, -0.5, 0.1}
)

func TestBlocksFollowFromTheMargin(t *testing.T) {
	inNoTime(t)
	profiles[0].budget, profiles[0].blocks, profiles[0].floorBlocks = time.Hour, 8, 4
	stage := func(margin, power float64) *comparison {
		s := newStage(t, compareOptions{margin: margin, power: power, contenders: "go,node,rust,go-floor"})
		require.NoError(t, s.anew())
		return s.comparison
	}
	n := func(d []float64) pastNoise {
		return pastNoise{logRatios: d, runs: []string{"r"}, engine: "native", asked: "native"}
	}

	c := stage(5, 80)
	require.NoError(t, c.blocksForMargin(n(quiet)))
	d := claims.LibraryDesign(3, c.studies[0].profile.blocks)
	assert.Equal(t, 3, d.Family)
	power, err := stats.Power(quiet, math.Log(1.05), d)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, power, 0.8)
	d.Blocks--
	if d.Blocks >= stats.MinPairs(d.Alpha, d.Family) {
		power, err = stats.Power(quiet, math.Log(1.05), d)
		require.NoError(t, err)
		assert.Less(t, power, 0.8, "a block less is too few")
	}
	finer := stage(1, 95)
	require.NoError(t, finer.blocksForMargin(n(quiet)))
	assert.Greater(t, finer.studies[0].profile.blocks, c.studies[0].profile.blocks)
	assert.LessOrEqual(t, finer.studies[0].profile.blocks, stats.MaxPairs)

	c = stage(5, 80)
	err = c.blocksForMargin(n(noisy))
	require.ErrorIs(t, err, stats.ErrTooNoisy)
	require.ErrorContains(t, err, "--margin 5")
	require.ErrorContains(t, err, "20 blocks")
	require.ErrorIs(t, stage(5, 80).blocksForMargin(pastNoise{}), errNoNoise)

	c = stage(1, 95)
	c.studies[0].profile.budget = time.Millisecond
	err = c.blocksForMargin(n(quiet))
	require.ErrorContains(t, err, "may take 1ms")
	require.ErrorContains(t, err, "blocks")

	s := newStage(t, compareOptions{margin: 5, contenders: "go,go-floor"})
	require.NoError(t, s.anew())
	require.ErrorContains(t, s.blocksForMargin(n(quiet)), "fewer than two are mainstream")
}

// A plan that its profile cannot hold is refused when the pilot has shown what a process takes, before the first trial.
func TestABudgetThatThePilotShowsTooSmallIsRefused(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, margin: 50})
	s.comparison.profile.budget = time.Hour
	dir := filepath.Join(t.TempDir(), "run")
	s.engine.BeforeAttack = func(context.Context, int, agent.Job) error {
		s.studies[0].profile.budget = time.Nanosecond
		return nil
	}
	assert.Equal(t, exitCannot, s.begin(t.Context(), t, dir))
	assert.Contains(t, s.errs.String(), "may take 1ns")
	assert.NoDirExists(t, dir)
}

func TestWhatAPlanFindsIsRecordedAndSaid(t *testing.T) {
	inNoTime(t)
	profiles[0].blocks = 6 // the least that decide a single pair
	s := newStage(t, compareOptions{seed: 7})
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	w := r.Plan.Power
	require.NotNil(t, w)
	assert.Equal(t, 1, w.Family)
	assert.InDelta(t, 0.05, w.Alpha, 0)
	assert.InDelta(t, 0.8, w.Power, 0)
	assert.InDelta(t, claims.LibraryMargin, w.Margin, 0)
	require.NotNil(t, w.DetectableRatio)
	effect, err := stats.Detectable(w.NoiseLogRatios, 0.8, claims.LibraryDesign(2, 6))
	require.NoError(t, err)
	assert.InDelta(t, math.Exp(effect), *w.DetectableRatio, 1e-12)
	said := s.errs.String()
	for _, words := range []string{"a family of 1 pair", "alpha 0.05", strings.Join(w.NoiseRuns, ", "), "engine " + w.NoiseEngine, "in 80 % of comparisons", "percentiles: the "} {
		assert.Contains(t, said, words)
	}
	require.Len(t, r.Plan.Percentiles, 4)
	for i, q := range summary.Percentiles() {
		got := r.Plan.Percentiles[i]
		assert.Equal(t, q.Name, got.Name)
		assert.Equal(t, stats.RequestsToCarry(q.Quantile), got.RequestsRequired)
		assert.Equal(t, stats.Carries(q.Quantile, got.RequestsPlanned), got.Carried)
	}
	assert.Less(t, strings.Index(said, "power: "), strings.Index(said, "block 1 of 6"), "before the first trial")
}

func TestPercentilesThatTrialsCannotCarryAreNamed(t *testing.T) {
	planned := plannedPercentiles(190, 3500*time.Millisecond)
	assert.Equal(t, "percentiles: the 665 requests of a trial carry p50, p90, p99 and not p99.9 (it needs 4603)", percentileWords(planned))
	assert.Contains(t, percentileWords(plannedPercentiles(1, time.Second)), "carry none and not p50 (it needs 7)")
	assert.NotContains(t, percentileWords(plannedPercentiles(1e6, time.Second)), "not")
}

// The noise is that of the same engine where enough is published, and else of all, which is said.
func TestNoiseIsTakenFromPublishedRuns(t *testing.T) {
	root := t.TempDir()
	cpu := func(x float64) *float64 { return &x }
	publish := func(id, engine string, pairs int, change func(r *record.Run)) {
		dir := filepath.Join(root, "results", id)
		require.NoError(t, os.MkdirAll(dir, 0o755))
		r := record.Run{Format: record.Format, ID: id, Profile: "quick", Evidence: true, Complete: true, Began: time.Unix(1, 0), Ended: time.Unix(2, 0), Environment: record.Environment{Engine: engine}}
		for b := range pairs {
			r.Plan.Order = append(r.Plan.Order, []string{"go", "go"})
			r.Plan.Blocks++
			for place := range 2 {
				us := 100 + float64(10*b*place)
				r.Trials = append(r.Trials, record.Trial{
					ID: id, Scenario: "library", Load: record.LoadRate, Arm: "go", Tier: "mainstream", Block: b + 1, Position: place + 1, Duplicate: place == 1,
					Offered: 10, Sent: 10, OK: 10, CPUUsPerRequest: cpu(us), CPUSeconds: us * 10 / 1e6, Bottleneck: "none",
				})
			}
		}
		if change != nil {
			change(&r)
		}
		b, err := json.Marshal(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), b, 0o600))
	}
	told := []string{}
	tell := func(line string) { told = append(told, line) }
	assert.False(t, publishedNoise(root, "native", libraryScenario, tell).known())

	publish("a", "native", 5, nil)
	publish("smoke", "native", 9, func(r *record.Run) { r.Evidence = false })
	publish("half", "native", 9, func(r *record.Run) { r.Complete = false })
	publish("local", "native", 9, nil)
	n := publishedNoise(root, "native", libraryScenario, tell)
	assert.Equal(t, []string{"a"}, n.runs)
	assert.Len(t, n.logRatios, 5)
	assert.InDelta(t, math.Log(1.1), n.logRatios[1], 1e-12)

	publish("b", "docker", 4, nil)
	n = publishedNoise(root, "docker", libraryScenario, tell)
	assert.Len(t, n.logRatios, 9, "too few of its own: all")
	assert.Equal(t, "the noise of 9 A/A pairs of b, a (engine docker, native), since of engine docker fewer than 8 are published", n.String())

	publish("c", "native", 4, nil)
	n = publishedNoise(root, "native", libraryScenario, tell)
	assert.Equal(t, "the noise of 9 A/A pairs of a, c (engine native)", n.String())
	assert.Empty(t, told)
	require.NoError(t, os.WriteFile(filepath.Join(root, "results", "a", "run.json"), []byte("{"), 0o600))
	assert.Len(t, publishedNoise(root, "native", libraryScenario, tell).logRatios, 8, "of both engines")
	require.Len(t, told, 1)
	assert.Contains(t, told[0], "run.json")
}

func TestOddMarginsAreNamed(t *testing.T) {
	for flags, says := range map[string]string{
		"--margin -1":              "--margin -1",
		"--margin NaN":             "--margin NaN",
		"--margin 5 --power 0":     "--power 0",
		"--margin 5 --power 100":   "--power 100",
		"--margin 5 --power 1e999": "1e999",
		"--power 90":               "there is no --margin",
		"--margin five":            "five",
	} {
		code, out, errs := runCommand(t, append([]string{"compare"}, strings.Fields(flags)...)...)
		assert.Equal(t, exitCannot, code, flags)
		assert.Empty(t, out)
		assert.Contains(t, errs, says)
	}
}
