package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trial"
)

func TestCapacityFlags(t *testing.T) {
	on := func(slo string) []string { return []string{"--capacity=true", "--slo", slo} }
	off := []string{"--capacity=false"}
	for name, c := range map[string]struct {
		args []string
		slo  string // empty: none is searched for
		said []string
		says string
	}{
		"quick does not by itself":          {[]string{"--profile", "quick"}, "", nil, ""},
		"quick when asked":                  {[]string{"--profile", "quick", "--capacity"}, "p99=100ms", on("p99=100ms"), ""},
		"smoke does not by itself":          {[]string{"--profile", "smoke"}, "", nil, ""},
		"standard does":                     {[]string{"--profile", "standard"}, "p99=100ms", on("p99=100ms"), ""},
		"standard, by another objective":    {[]string{"--profile", "standard", "--slo", "p50=5ms"}, "p50=5ms", on("p50=5ms"), ""},
		"nightly does not by itself":        {[]string{"--profile", "nightly"}, "", nil, ""},
		"standard when told not to":         {[]string{"--profile", "standard", "--capacity=false"}, "", off, ""},
		"an objective that is none":         {[]string{"--profile", "standard", "--slo", "p95=1s"}, "", nil, `--slo: percentile "p95": expected one of p50, p90, p99, p99.9`},
		"an objective without a search":     {[]string{"--slo", "p99=1s"}, "", nil, `--slo "p99=1s": there is no search to use it: add --capacity (profile quick has none by itself)`},
		"a limit without its unit":          {[]string{"--capacity", "--slo", "p99=100"}, "", nil, "a number with its unit"},
		"no limit":                          {[]string{"--capacity", "--slo", "p99"}, "", nil, "expected PERCENTILE=DURATION"},
		"a limit below zero":                {[]string{"--capacity", "--slo", "p99=-1ms"}, "", nil, "the limit must be positive"},
		"a limit that ends a request":       {[]string{"--capacity", "--slo", "p99=10s"}, "", nil, "less than 10s is expected"},
		"an objective, and told not to":     {[]string{"--profile", "standard", "--capacity=false", "--slo", "p99=1s"}, "", nil, "because of --capacity=false"},
		"an objective of a run that was be": {[]string{"--resume", "x", "--slo", "p99=1s"}, "", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, o := compareFlags()
			require.NoError(t, f.Parse(c.args))
			err := o.check()
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			p, err := profileNamed(o.profile)
			require.NoError(t, err)
			assert.Equal(t, c.slo != "", o.searches(p))
			if c.slo != "" {
				slo, err := o.objective()
				require.NoError(t, err)
				assert.Equal(t, c.slo, slo.String())
			}
			assert.Equal(t, c.said, o.capacityWords(p))
			// What is said again means the same.
			f, again := compareFlags()
			require.NoError(t, f.Parse(append([]string{"--profile", p.name}, c.said...)))
			assert.Equal(t, o.searches(p), again.searches(p))
		})
	}
	code, _, errs := runCommand(t, "compare", "--capacity=perhaps")
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, errs, `"perhaps": true or false is expected`)
	code, _, errs = runCommand(t, "compare", "--capacity", "--slo", "fast")
	assert.Equal(t, exitCannot, code)
	assert.Contains(t, errs, `--slo: "fast": expected PERCENTILE=DURATION, as in p99=100ms`)
	for _, p := range profiles {
		assert.Positive(t, p.capacity.ceiling, p.name)
		assert.Positive(t, p.capacity.step, p.name)
		assert.Positive(t, p.capacity.budget, p.name)
		assert.Positive(t, p.capacity.curves, p.name)
	}
}

func TestCurveRates(t *testing.T) {
	arms := []contender.Arm{{Name: "go"}, {Name: "node"}}
	rates := func(arm string, points []curveRate) []float64 {
		var out []float64
		for _, p := range points {
			if p.arm.Name == arm {
				out = append(out, p.rps)
			}
		}
		return out
	}
	points := curveRates(arms, map[string]float64{"go": 1000, "node": 400}, 19)
	assert.Equal(t, []float64{100, 200, 250, 300, 500, 750, 900}, rates("go", points), "shares of its own, and of the weakest")
	assert.Equal(t, []float64{100, 200, 300, 360}, rates("node", points), "none twice")
	points = curveRates(arms, map[string]float64{"go": 1000, "node": 400}, 240)
	assert.Equal(t, []float64{300, 360}, rates("node", points), "none that its requests could not carry")
}

func TestLeastRate(t *testing.T) {
	need, err := capacity.Default.Requests()
	require.NoError(t, err)
	assert.InDelta(t, 19, leastRate(need), 1e-9)
}

// With as many requests under way as there are where the service time is at the limit, a server that is too slow is seen
// to be, and a generator without room is not taken for late.
func TestRoomForRequestsUnderWay(t *testing.T) {
	todo := &schedule{study: &study{}, search: capacitySettings{slo: capacity.Default, times: capacityTimes{step: time.Second}}}
	assert.EqualValues(t, 512, todo.beside(record.LoadCapacity, contender.Arm{Name: "go"}, 1000, 459, 1, 1).MaxInFlight)
	assert.EqualValues(t, 4000, todo.beside(record.LoadCapacity, contender.Arm{Name: "go"}, 20_000, 459, 1, 1).MaxInFlight)
	slow := todo.beside(record.LoadCapacity, contender.Arm{Name: "go"}, 100, 459, 1, 1)
	assert.Equal(t, 5508*time.Millisecond, slow.Duration, "459 requests and a fifth, at 100 a second")
	assert.GreaterOrEqual(t, slow.RPS*slow.Duration.Seconds(), 459.0)
}

func TestNearTheGeneratorsCeiling(t *testing.T) {
	ceiling := 5000.0
	s := &session{run: record.Run{GeneratorCeilingRPS: &ceiling}}
	of := func(sent uint64) record.Trial {
		return record.Trial{Sent: sent, DurationNS: int64(2 * time.Second), ElapsedNS: int64(time.Second)}
	}
	assert.True(t, s.nearCeiling(of(8000)), "4000 a second are within 20 % of 5000")
	assert.False(t, s.nearCeiling(of(7990)))
	assert.False(t, (&session{}).nearCeiling(of(8000)), "nothing is near what is not known")
}

// exactly is a comparison of arms of known capacity, whose attacks take no time.
func exactly(t *testing.T, bears map[string]float64, o compareOptions) *stage {
	t.Helper()
	inNoTime(t)
	o.capacity = choice{made: true, yes: true}
	if o.contenders == "" {
		o.contenders = "go,node,rust,go-floor"
	}
	return exact(newStage(t, o), bears)
}

func exact(s *stage, bears map[string]float64) *stage {
	s.engine.Bears, s.try = bears, unstolen
	return s
}

// unstolen is a trial from which the hypervisor took nothing: of one that takes no time it easily takes half.
func unstolen(ctx context.Context, subject trial.Subject, spec trial.Spec) (record.Trial, []byte, error) {
	x, log, err := trial.Run(ctx, subject, spec)
	if x.MachineStealShare > trial.MaxSteal {
		x.MachineStealShare = 0
		if time.Duration(x.SendLagP99NS) <= trial.MaxSendLagP99 {
			x.Void = nil
		}
	}
	return x, log, err
}

// searched is a run with searches of threeArms, which tests share.
type searched struct {
	head string // its run.json when the first trial began
	end  map[string]string
	run  record.Run
	out  string
}

var sharedSearch searched

func searchedRun(t *testing.T) searched {
	t.Helper()
	inNoTime(t)
	if sharedSearch.end != nil {
		return sharedSearch
	}
	var of searched
	s := exactly(t, threeArms, compareOptions{seed: 7})
	dir := filepath.Join(t.TempDir(), "run")
	s.engine.BeforeAttack = beforeTrials(func() {
		if of.head == "" {
			b, err := os.ReadFile(filepath.Join(dir, "run.json"))
			assert.NoError(t, err)
			of.head = string(b)
		}
	})
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	of.end, of.run, of.out = snapshot(t, dir), whole(t, dir), s.out.String()
	sharedSearch = of
	return of
}

// killedBefore is what a kill before a trial leaves.
func (s searched) killedBefore(trial int) map[string]string {
	files := map[string]string{"/run.json": s.head}
	for _, x := range s.run.Trials[:trial] {
		for _, name := range []string{"/trials/" + x.ID + ".json", "/trials/" + x.HDRLog} {
			files[name] = s.end[name]
		}
	}
	return files
}

// threeArms are within, within and beyond what the generator bears, and a floor.
var threeArms = map[string]float64{"go": 730, "node": 305, "rust": 1e6, "go-floor": 900}

func capacitiesOf(r record.Run) map[string]record.Capacity {
	out := map[string]record.Capacity{}
	for _, c := range r.Capacities {
		out[c.Arm] = c
	}
	return out
}

// beside are the trials outside the blocks, without what two runs of them differ in.
func beside(r record.Run) []string {
	var out []string
	for _, x := range r.Trials {
		if !x.Load.Blocked() {
			out = append(out, fmt.Sprintf("%s at %g, seed %d, %v", x.ID, x.RateRPS, x.Seed, time.Duration(x.DurationNS)))
		}
	}
	return out
}

func TestCapacitiesAreSearched(t *testing.T) {
	shared := searchedRun(t)
	r := shared.run
	require.NoError(t, capacity.Check(r), "what its trials give")
	require.NotNil(t, r.GeneratorCeilingRPS)
	ceiling := *r.GeneratorCeilingRPS
	assert.LessOrEqual(t, ceiling, 5000.0)
	assert.Greater(t, ceiling, 5000/1.1)

	got := capacitiesOf(r)
	require.Len(t, got, 3, "floors have no part in it")
	for arm, c := range got {
		assert.True(t, c.Confirmed, c.Note)
		assert.Equal(t, "p99=100ms", c.SLO)
		if arm != "rust" {
			require.NotNil(t, c.HighRPS)
			assert.LessOrEqual(t, c.LowRPS, threeArms[arm])
			assert.Greater(t, *c.HighRPS, threeArms[arm])
			assert.LessOrEqual(t, *c.HighRPS/c.LowRPS, 1.05)
		}
	}
	assert.InDelta(t, ceiling, got["rust"].LowRPS, 0)
	assert.Nil(t, got["rust"].HighRPS)
	assert.Contains(t, got["rust"].Note, "the generator's ceiling")

	// The arms take turns, and only where one has ended is it left out.
	var order []string
	curves := map[string][]float64{}
	for _, x := range r.Trials {
		switch x.Load {
		case record.LoadCapacity:
			order = append(order, x.Arm)
		case record.LoadCurve:
			curves[x.Arm] = append(curves[x.Arm], x.RateRPS)
		default:
			continue
		}
		sent := float64(x.Sent) / time.Duration(x.DurationNS).Seconds()
		assert.Equal(t, sent >= 0.8*ceiling, x.NearGeneratorCeiling, "%s at %g", x.Arm, x.RateRPS)
		assert.NotNil(t, x.Warm, "each on a process of its own, warmed up")
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

	// They move no verdict, and are on the screen.
	assert.Equal(t, claims.Library(slices.DeleteFunc(slices.Clone(r.Trials), func(x record.Trial) bool { return !x.Load.Blocked() })), r.Verdicts)
	for _, words := range []string{"The load generator keeps its schedule up to", "Capacity: the highest rate with p99 under 100ms and no failure", "at least"} {
		assert.Contains(t, shared.out, words)
	}
}

// A run that is killed within a search or a curve goes on with the same steps, none twice.
func TestASearchThatWasKilledGoesOn(t *testing.T) {
	shared := searchedRun(t)
	want := shared.run
	blocks := len(want.Trials) - len(beside(want))
	curve := slices.IndexFunc(want.Trials, func(x record.Trial) bool { return x.Load == record.LoadCurve })
	require.Positive(t, curve)
	for name, kill := range map[string]int{"before the first step": blocks, "in a search": blocks + 17, "in the curves": curve + 5} {
		t.Run(name, func(t *testing.T) {
			dir := laidOut(t, shared.killedBefore(kill))
			before := trialsOf(t, dir)
			require.Len(t, before, 2*kill)
			s := exact(newStage(t, compareOptions{}), threeArms)
			attacked := 0
			s.engine.BeforeAttack = beforeTrials(func() { attacked++ })
			code, err := s.resume(t.Context(), t, dir)
			require.NoError(t, err)
			require.Equal(t, exitOK, code, s.errs)
			r := whole(t, dir)
			assert.Equal(t, beside(want), beside(r), "the same steps and points")
			assert.Equal(t, want.Capacities, r.Capacities)
			assert.Equal(t, want.GeneratorCeilingRPS, r.GeneratorCeilingRPS)
			assert.Equal(t, len(r.Trials)-kill, attacked, "none twice")
			after := trialsOf(t, dir)
			for file, text := range before {
				assert.Equal(t, text, after[file], file)
			}
			assert.NoDirExists(t, filepath.Join(dir, "damaged"))
		})
	}
}

// What follows from a step that is damaged is set aside with it, and nothing else is.
func TestADamagedStepIsMeasuredAgain(t *testing.T) {
	shared := searchedRun(t)
	want := shared.run
	for name, c := range map[string]struct {
		id, from, to string
		others       []string // what stays of this sort
	}{
		"a step":               {"library-q2-capacity-n003-go", `"sent"`, `"snt"`, []string{"library-q2-capacity-n002-go", "library-q2-capacity-n004-node"}},
		"a step of other rate": {"library-q2-capacity-n003-go", `"rate_rps": `, `"rate_rps": 1`, []string{"library-q2-capacity-n002-go"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := shared.killedBefore(len(want.Trials) - 1)
			file := "/trials/" + c.id + ".json"
			require.Contains(t, files[file], c.from)
			files[file] = strings.Replace(files[file], c.from, c.to, 1)
			dir := laidOut(t, files)
			before := trialsOf(t, dir)
			s := exact(newStage(t, compareOptions{}), threeArms)
			code, err := s.resume(t.Context(), t, dir)
			require.NoError(t, err)
			require.Equal(t, exitOK, code, s.errs)
			r := whole(t, dir)
			assert.ElementsMatch(t, beside(want), beside(r))
			assert.Equal(t, want.Capacities, r.Capacities)
			assert.Contains(t, s.errs.String(), "it follows from a trial that is damaged or missing")
			for _, id := range c.others {
				require.NotEmpty(t, before["/"+id+".json"])
				assert.Equal(t, before["/"+id+".json"], trialsOf(t, dir)["/"+id+".json"])
			}
			assert.FileExists(t, filepath.Join(dir, "damaged", c.id+".json"))
			assert.FileExists(t, filepath.Join(dir, "damaged", "library-q2-capacity-n004-go.json"))
			assert.NoFileExists(t, filepath.Join(dir, "damaged", "library-q2-capacity-n004-node.json"))
		})
	}
}

// One interrupt ends after the step under way; what was found is an interval that is not confirmed.
func TestAnInterruptedSearch(t *testing.T) {
	s := exactly(t, threeArms, compareOptions{seed: 7, contenders: "go,node"})
	dir := filepath.Join(t.TempDir(), "run")
	// Of two arms, blocks are three processes of two trials each; then the fifth step.
	const blocks = 2 * 3 * 2
	ctx, _ := interruptAt(t, s, blocks+4, false, os.Interrupt)
	assert.Equal(t, exitInterrupted, s.begin(ctx, t, dir), s.errs)
	saved, err := record.Open(dir)
	require.NoError(t, err)
	require.NoError(t, capacity.Check(saved.Run))
	assert.False(t, saved.Run.Complete)
	assert.Len(t, saved.Run.Trials, blocks+5, "the step under way is kept")
	require.Len(t, saved.Run.Capacities, 2)
	steps := 0
	for _, c := range saved.Run.Capacities {
		steps += len(c.Steps)
		assert.False(t, c.Confirmed)
		assert.Contains(t, c.Note, "ended early: the run was cut short")
	}
	assert.Equal(t, 5, steps)
	assert.Contains(t, s.out.String(), "not confirmed")

	s = exact(newStage(t, compareOptions{}), threeArms)
	code, err := s.resume(t.Context(), t, dir, "--capacity")
	require.NoError(t, err)
	require.Equal(t, exitOK, code, s.errs)
	r := whole(t, dir)
	assert.Equal(t, saved.Run.Trials, r.Trials[:blocks+5])
	for _, c := range r.Capacities {
		assert.True(t, c.Confirmed, c.Note)
	}
	_, err = newStage(t, compareOptions{}).resume(t.Context(), t, dir)
	require.ErrorIs(t, err, record.ErrComplete)
}

// A search goes on by what it was begun with.
func TestAnotherObjectiveIsNoResumption(t *testing.T) {
	s := exactly(t, threeArms, compareOptions{seed: 7, contenders: "go,node", slo: "p99=50ms"})
	dir := filepath.Join(t.TempDir(), "run")
	ctx, _ := interruptAt(t, s, 14, false, os.Interrupt)
	assert.Equal(t, exitInterrupted, s.begin(ctx, t, dir), s.errs)
	for _, c := range [][2]string{{"--slo=p99=70ms", `--slo "p99=70ms": the run in ` + dir + ` was begun with "p99=50ms"`}, {"--capacity=false", `--capacity "false": the run in ` + dir + ` was begun with "true"`}} {
		_, err := newStage(t, compareOptions{}).resume(t.Context(), t, dir, c[0])
		require.ErrorContains(t, err, c[1])
	}
	s = exact(newStage(t, compareOptions{}), threeArms)
	code, err := s.resume(t.Context(), t, dir, "--slo=p99=50ms")
	require.NoError(t, err)
	require.Equal(t, exitOK, code, s.errs)
	assert.Equal(t, "p99=50ms", whole(t, dir).Capacities[0].SLO)
}

func TestASearchWithoutItsEngine(t *testing.T) {
	s := exactly(t, threeArms, compareOptions{seed: 7, contenders: "go,node"})
	dir := filepath.Join(t.TempDir(), "run")
	n := 0
	s.engine.BeforeAttack = beforeTrials(func() {
		if n++; n == 12+5 {
			s.engine.End()
		}
	})
	assert.Equal(t, exitCannot, s.begin(t.Context(), t, dir))
	saved, err := record.Open(dir)
	require.NoError(t, err)
	require.NoError(t, capacity.Check(saved.Run))
	require.Len(t, saved.Run.Capacities, 2)
	for _, c := range saved.Run.Capacities {
		assert.Len(t, c.Steps, 2)
		assert.Contains(t, c.Note, "ended early")
	}
	assert.Contains(t, s.errs.String(), "--resume")
}

func TestASearchThatRunsOutOfTime(t *testing.T) {
	s := exactly(t, threeArms, compareOptions{seed: 7, contenders: "go,node"})
	s.profile.capacity.budget, s.profile.capacity.curves = 8*time.Second, 3*time.Second
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	for _, c := range r.Capacities {
		assert.Contains(t, c.Note, "the 8s that profile smoke gives all searches were over")
		assert.False(t, c.Confirmed)
		assert.NotEmpty(t, c.Steps)
	}
	assert.Contains(t, strings.Join(r.Warnings, "\n"), "The curves of latency against rate have")
}

// A generator that is late while the server is quick says nothing of the server: such trials are void, and bounded.
func TestALateGeneratorFailsNoArm(t *testing.T) {
	s := exactly(t, map[string]float64{"go": 1e6, "node": 1e6}, compareOptions{seed: 7, contenders: "go,node"})
	ceilingFound := false
	s.engine.BeforeAttack = beforeTrials(func() {
		if !ceilingFound { // busy from here on
			ceilingFound, s.engine.GeneratorBears = true, 500
		}
	})
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	for _, c := range whole(t, dir).Capacities {
		assert.Nil(t, c.HighRPS)
		assert.False(t, c.Confirmed)
		assert.Contains(t, c.Note, "3 trials in a row at")
		assert.Contains(t, c.Note, "were void")
	}
}

func TestNoSearchWithoutACeiling(t *testing.T) {
	s := exactly(t, threeArms, compareOptions{seed: 7, contenders: "go,node"})
	s.engine.GeneratorBears = 1
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	assert.Empty(t, r.Capacities)
	assert.Nil(t, r.GeneratorCeilingRPS)
	assert.Contains(t, strings.Join(r.Warnings, "\n"), "too busy to measure on")
	assert.Contains(t, strings.Join(r.Warnings, "\n"), "No capacity was searched: the load generator's ceiling is not known.")

	s = exactly(t, threeArms, compareOptions{seed: 7, contenders: "go-floor,node-compiled"})
	s.engine.Bears = map[string]float64{"go-floor": 900, "node-compiled": 500}
	dir = filepath.Join(t.TempDir(), "floors")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	assert.Contains(t, strings.Join(whole(t, dir).Warnings, "\n"), "No capacity was searched: none of the arms is of the tier mainstream.")
}

// Where nobody asks for it, a run has its ceiling and no search.
func TestNoSearchUnasked(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, contenders: "go,node"})
	dir := filepath.Join(t.TempDir(), "run")
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	assert.NotNil(t, r.GeneratorCeilingRPS)
	assert.Empty(t, beside(r))
	assert.Empty(t, r.Capacities)
	assert.NotContains(t, strings.Join(r.Command, " "), "capacity")
}
