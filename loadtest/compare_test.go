package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/conformance"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/enginetest/played"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/reference"
	"lab/loadtest/internal/trial"
)

const playedAnswer = `{"data":{"x":1}}`

// inNoTime is a profile of a few milliseconds a trial. It has the name of smoke, so that its reports have no pictures.
func inNoTime(t *testing.T) {
	t.Helper()
	all := profiles
	t.Cleanup(func() { profiles = all })
	const ms = time.Millisecond
	profiles = []profile{{
		name: "smoke", size: "small", form: conformance.Short, blocks: 2, floorBlocks: 1,
		pilotWarm: 10 * ms, pilot: 100 * ms, warm: trial.Warmth{Window: 20 * ms, Most: 60 * ms}, rate: 40 * ms, throughput: 30 * ms,
		capacity: capacityTimes{ceiling: 10 * ms, step: time.Second, budget: time.Hour, curves: time.Hour},
	}}
}

// stage is a comparison on a played engine.
type stage struct {
	*comparison
	engine *played.Engine
	errs   *lockedBuffer
	out    bytes.Buffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newStage(t *testing.T, o compareOptions) *stage {
	t.Helper()
	l, err := openLab()
	require.NoError(t, err)
	o.profile, o.engine = "smoke", "native"
	if o.power == 0 {
		o.power = 100 * defaultPower
	}
	if o.contenders == "" {
		o.contenders = "go,node,go-floor"
	}
	c, err := newComparison(l, o)
	require.NoError(t, err)
	s := &stage{comparison: c, engine: played.New(t, playedAnswer), errs: &lockedBuffer{}}
	c.openEngine = func(context.Context, string, func(string)) (engine.Engine, error) { return s.engine, nil }
	c.proofs = allConformant
	c.staleness = func(_ context.Context, subject trial.Subject, spec trial.Spec) ([]record.Staleness, error) {
		row := record.Staleness{Write: record.WriteRow, Writes: 10, ReadableNSP50: 2e6, ReadableNSMax: 4e6, LoadRPS: spec.RPS, LoadedWrites: 9}
		if subject.Arm.ReadsReplica() {
			row.StaleReads, row.ReadableNSP50, row.ReadableNSMax = 5, 3e6, 9e6
		}
		return []record.Staleness{{Write: record.WriteMaster, Writes: 10, ReadableNSP50: 1e6, ReadableNSMax: 1e6, LoadRPS: spec.RPS, LoadedWrites: 10}, row}, nil
	}
	c.questions = func(_ context.Context, _ engine.Database, names ...string) (out []question, _ error) {
		for _, name := range names {
			out = append(out, question{name: name, request: reference.Request{Query: "{ x }"}, expected: playedAnswer})
		}
		return out, nil
	}
	// A page takes longer than all trials here; what is tested of it asks for it.
	c.report = func(_ context.Context, dir string, _ streams) error {
		_, err := record.Open(dir)
		return err
	}
	return s
}

// allConformant is a proof of nothing, for contenders that are no servers.
func allConformant(_ context.Context, _ conformance.Options, arms []contender.Arm) (out []conformance.Report, _ error) {
	for _, arm := range arms {
		out = append(out, conformance.Report{Arm: arm.Name, Conformant: true, Form: conformance.Short, Digest: "proof of " + arm.Name, ServerDigest: "server of " + arm.Name})
	}
	return out, nil
}

// begin runs a new comparison into a folder.
func (s *stage) begin(ctx context.Context, t *testing.T, dir string) int {
	t.Helper()
	require.NoError(t, s.anew())
	folder, err := record.Create(dir)
	require.NoError(t, err)
	defer folder.RemoveUnused()
	return s.run(ctx, folder, time.Now().UTC(), streams{Out: &s.out, Err: s.errs})
}

// resume is what compareMain does with --resume and further flags.
func (s *stage) resume(ctx context.Context, t *testing.T, dir string, flags ...string) (int, error) {
	t.Helper()
	f, o := compareFlags()
	require.NoError(t, f.Parse(append([]string{"--resume", dir}, flags...)))
	s.options = *o
	folder, err := s.recall(f)
	if err != nil {
		return exitCannot, err
	}
	defer folder.RemoveUnused()
	return s.run(ctx, folder, time.Now().UTC(), streams{Out: &s.out, Err: s.errs}), nil
}

func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "run")
	require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

// trialsOf are the files of trials/, by name.
func trialsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	return snapshot(t, filepath.Join(dir, "trials"))
}

// whole holds a run to be one that went through: each trial of the plan once, and all of it readable.
func whole(t *testing.T, dir string) record.Run {
	t.Helper()
	saved, err := record.Open(dir)
	require.NoError(t, err)
	r := saved.Run
	assert.True(t, r.Complete)
	var planned, measured []string
	plans := func(scenario string, seed uint64, order [][]string, asks []ask) {
		for b, block := range order {
			for place, arm := range block {
				for _, ask := range asks {
					planned = append(planned, fmt.Sprintf("%s %d %d %s %v %d", scenario, b+1, place+1, arm, ask, plan.Seeds(seed, b, place)))
				}
			}
		}
	}
	plans(libraryScenario, r.Seed, r.Plan.Order, []ask{{load: record.LoadRate}, {load: record.LoadThroughput}})
	for _, s := range r.Scenarios {
		st := study{Scenario: contract.Scenario{ID: s.ID}}
		plans(s.ID, st.seed(r.Seed), s.Plan.Order, asksOf(s))
	}
	ids := map[string]bool{}
	for _, x := range r.Trials {
		assert.False(t, ids[x.ID], "%s twice", x.ID)
		ids[x.ID] = true
		if x.Load.Blocked() {
			measured = append(measured, fmt.Sprintf("%s %d %d %s %v %d", x.Scenario, x.Block, x.Position, x.Arm, askOf(&x), x.Seed))
		}
	}
	slices.Sort(planned)
	slices.Sort(measured)
	assert.Equal(t, planned, measured)
	return r
}

// kills are the trials, counted from 0, before which the run that the tests share is killed: 0 is before the first, 3
// between the two of a process, 8 in the second block.
var kills = []int{0, 1, 3, 4, 8, 10}

// killed is that run: its folder's files as each kill leaves them, and at its end.
type killed struct {
	at  map[int]map[string]string
	end map[string]string
}

var sharedRun killed

// killedRun measures the run once.
func killedRun(t *testing.T) killed {
	t.Helper()
	inNoTime(t)
	if sharedRun.end != nil {
		return sharedRun
	}
	k := killed{at: map[int]map[string]string{}}
	s := newStage(t, compareOptions{seed: 7})
	dir := filepath.Join(t.TempDir(), "run")
	n := 0
	s.engine.BeforeAttack = beforeTrials(func() {
		if slices.Contains(kills, n) {
			k.at[n] = snapshot(t, dir)
		}
		n++
	})
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	require.Len(t, k.at, len(kills))
	k.end = snapshot(t, dir)
	sharedRun = k
	return k
}

// beforeTrials is called before trials, and not before pilots and warm-ups.
func beforeTrials(f func()) func(context.Context, int, agent.Job) error {
	return func(_ context.Context, _ int, job agent.Job) error {
		if !job.Closed {
			f()
		}
		return nil
	}
}

// laidOut puts files into a folder.
func laidOut(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "trials"), 0o755))
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func TestARunThatWasKilledGoesOn(t *testing.T) {
	k := killedRun(t)
	first := whole(t, laidOut(t, k.end))
	assert.Empty(t, first.Resumed)
	assert.NotContains(t, strings.Join(first.Warnings, "\n"), resumptionNote)
	require.GreaterOrEqual(t, len(first.Trials), 14)
	for n, files := range k.at {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := laidOut(t, files)
			before := trialsOf(t, dir)
			require.Len(t, before, 2*n)
			code, _, errs := runCommand(t, "report", dir)
			assert.Equal(t, exitCannot, code)
			assert.Contains(t, errs, "did not end")
			assert.Contains(t, errs, "loadtest compare --resume "+dir)

			s := newStage(t, compareOptions{})
			attacked := 0
			s.engine.BeforeAttack = beforeTrials(func() { attacked++ })
			code, err := s.resume(t.Context(), t, dir)
			require.NoError(t, err)
			require.Equal(t, exitOK, code, s.errs)
			r := whole(t, dir)
			assert.Equal(t, len(r.Trials)-n, attacked, "no trial twice")
			assert.Equal(t, first.Plan.Order[:2], r.Plan.Order[:2], "the same plan")
			assert.Equal(t, first.Plan.Pilot, r.Plan.Pilot)
			assert.InDelta(t, first.Plan.RateRPS, r.Plan.RateRPS, 0)
			assert.Equal(t, first.Began, r.Began)
			assert.Equal(t, first.Command, r.Command)
			require.Len(t, r.Resumed, 1)
			assert.Contains(t, strings.Join(r.Warnings, "\n"), "2 parts, by one plan")
			assert.Equal(t, first.Trials[:n], r.Trials[:n])
			after := trialsOf(t, dir)
			for name, text := range before {
				assert.Equal(t, text, after[name], name)
			}
			assert.NoDirExists(t, filepath.Join(dir, "damaged"))
			assert.Equal(t, claims.Library(r.Trials), r.Verdicts)

			_, err = newStage(t, compareOptions{}).resume(t.Context(), t, dir)
			require.ErrorIs(t, err, record.ErrComplete)
		})
	}
}

// A run that is killed again and again ends too.
func TestARunThatWasKilledTwiceGoesOn(t *testing.T) {
	dir, again := laidOut(t, killedRun(t).at[3]), ""
	s := newStage(t, compareOptions{})
	n := 0
	s.engine.BeforeAttack = beforeTrials(func() {
		if n == 3 {
			again = copied(t, dir)
		}
		n++
	})
	code, err := s.resume(t.Context(), t, dir)
	require.NoError(t, err)
	require.Equal(t, exitOK, code, s.errs)
	require.NotEmpty(t, again)
	require.Len(t, trialsOf(t, again), 2*(3+3))
	s = newStage(t, compareOptions{})
	code, err = s.resume(t.Context(), t, again)
	require.NoError(t, err)
	require.Equal(t, exitOK, code, s.errs)
	r := whole(t, again)
	assert.Len(t, r.Resumed, 2)
	notes := strings.Join(r.Warnings, "\n")
	assert.Contains(t, notes, "3 parts, by one plan")
	assert.Equal(t, 1, strings.Count(notes, resumptionNote))
}

// What is no whole record is named, set aside and measured again; nothing is deleted.
func TestDamagedRecordsAreMeasuredAgain(t *testing.T) {
	const n = 10
	left := killedRun(t).at[n]
	names := slices.Sorted(maps.Keys(trialsOf(t, laidOut(t, left))))
	var records []string
	for _, name := range names {
		if strings.HasSuffix(name, ".json") {
			records = append(records, strings.TrimPrefix(name, "/"))
		}
	}
	require.Len(t, records, n)
	victim := records[2]
	log := strings.TrimSuffix(victim, ".json") + ".hlog"
	edit := func(name string, change func(string) string) func(t *testing.T, trials string) {
		return func(t *testing.T, trials string) {
			b, err := os.ReadFile(filepath.Join(trials, name))
			require.NoError(t, err)
			changed := change(string(b))
			require.NotEqual(t, string(b), changed)
			require.NoError(t, os.WriteFile(filepath.Join(trials, name), []byte(changed), 0o600))
		}
	}
	half := func(s string) string { return s[:len(s)/2] }
	field := func(name string, value any) func(string) string {
		return func(s string) string {
			var v map[string]any
			require.NoError(t, json.Unmarshal([]byte(s), &v))
			v[name] = value
			b, err := json.Marshal(v)
			require.NoError(t, err)
			return string(b)
		}
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, trials string)
		says   []string
		aside  []string
		lost   int // trials to be measured again
	}{
		"a record cut short":       {edit(victim, half), []string{victim, "not JSON"}, []string{victim, log}, 1},
		"an empty record":          {edit(victim, func(string) string { return "" }), []string{victim}, []string{victim, log}, 1},
		"counts that do not add":   {edit(victim, field("unsent", 99999)), []string{victim, "offered"}, []string{victim, log}, 1},
		"a text for a number":      {edit(victim, field("offered", "many")), []string{victim, "offered"}, []string{victim, log}, 1},
		"another seed":             {edit(victim, field("seed", 1)), []string{victim, "not of this run's plan: seed is 1"}, []string{victim, log}, 1},
		"a log cut short":          {edit(log, half), []string{victim, "damaged"}, []string{victim, log}, 1},
		"another trial's log":      {edit(log, func(string) string { return left["/trials/"+strings.TrimSuffix(records[3], ".json")+".hlog"] }), []string{victim}, []string{victim, log}, 1},
		"a record without a log":   {func(t *testing.T, trials string) { require.NoError(t, os.Remove(filepath.Join(trials, log))) }, []string{victim, log}, []string{victim}, 1},
		"a log without its record": {func(t *testing.T, trials string) { require.NoError(t, os.Remove(filepath.Join(trials, victim))) }, []string{log, "without its record"}, []string{log}, 1},
		"a file half written": {func(t *testing.T, trials string) {
			require.NoError(t, os.WriteFile(filepath.Join(trials, "."+victim+".123"), []byte("{"), 0o600))
		}, []string{"half written"}, []string{"." + victim + ".123"}, 0},
		"a file of somebody": {func(t *testing.T, trials string) {
			require.NoError(t, os.WriteFile(filepath.Join(trials, "notes.txt"), []byte("mine"), 0o600))
		}, []string{"notes.txt"}, []string{"notes.txt"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := laidOut(t, left)
			c.damage(t, filepath.Join(dir, "trials"))
			before := trialsOf(t, dir)
			s := newStage(t, compareOptions{})
			attacked := 0
			s.engine.BeforeAttack = beforeTrials(func() { attacked++ })
			code, err := s.resume(t.Context(), t, dir)
			require.NoError(t, err)
			require.Equal(t, exitOK, code, s.errs)
			r := whole(t, dir)
			assert.Equal(t, len(r.Trials)-n+c.lost, attacked)
			for _, words := range c.says {
				assert.Contains(t, s.errs.String(), words)
			}
			aside := snapshot(t, filepath.Join(dir, "damaged"))
			var got []string
			for name, text := range aside {
				got = append(got, strings.TrimPrefix(name, "/"))
				assert.Equal(t, before[name], text, "what is set aside stays as it is")
			}
			assert.ElementsMatch(t, c.aside, got)
			assert.Contains(t, strings.Join(r.Warnings, "\n"), "damaged records were set aside")
		})
	}
}

// Where one of a process's two trials is on disk, only the other is measured.
func TestOneTrialOfTwoIsMeasuredAlone(t *testing.T) {
	dir := laidOut(t, killedRun(t).end)
	r := whole(t, dir)
	var lost []string
	for position, load := range []record.Load{record.LoadRate, record.LoadThroughput} { // of one process the one, of the next the other
		i := slices.IndexFunc(r.Trials, func(x record.Trial) bool { return x.Load == load && x.Block == 2 && x.Position == position+1 })
		lost = append(lost, r.Trials[i].ID)
		for _, suffix := range []string{".json", ".hlog"} {
			require.NoError(t, os.Remove(filepath.Join(dir, "trials", r.Trials[i].ID+suffix)))
		}
	}
	r.Complete, r.Ended, r.Trials, r.Verdicts = false, time.Time{}, nil, nil
	folder, err := record.Reopen(dir)
	require.NoError(t, err)
	require.NoError(t, folder.WriteRun(r))
	s := newStage(t, compareOptions{})
	var jobs []time.Duration
	s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
		if !job.Closed {
			jobs = append(jobs, job.Duration)
		}
		return nil
	}
	code, err := s.resume(t.Context(), t, dir)
	require.NoError(t, err)
	require.Equal(t, exitOK, code, s.errs)
	after := whole(t, dir)
	assert.ElementsMatch(t, []time.Duration{profiles[0].rate, profiles[0].throughput}, jobs)
	var measured []string
	for _, x := range after.Trials[len(after.Trials)-2:] {
		measured = append(measured, x.ID)
	}
	assert.ElementsMatch(t, lost, measured)
}

// What would make the parts of a run two runs is refused, named, and changes nothing.
func TestAnotherMachineOrServerIsRefused(t *testing.T) {
	left := killedRun(t).at[4]
	for name, c := range map[string]struct {
		change func(s *stage)
		says   string
	}{
		"another processor":   {func(s *stage) { s.engine.Machine.CPUModel = "another" }, "the processor was played and is another"},
		"another number":      {func(s *stage) { s.engine.Machine.CPUs = []int{0, 1, 2} }, "the machine's CPUs was [0 1] and is [0 1 2]"},
		"another placement":   {func(s *stage) { s.engine.Machine.Placement.Contender = []int{0, 1} }, "the placement of the contender"},
		"another engine":      {func(s *stage) { s.engine.Machine.Engine = "docker" }, "the engine was native and is docker"},
		"another PostgreSQL":  {func(s *stage) { s.engine.Machine.PostgreSQL = "99" }, "PostgreSQL was 0 (played) and is 99 (played)"},
		"other data":          {func(s *stage) { s.lab.contract.Digests["small"] = "other" }, "the data's digest"},
		"another contract":    {func(s *stage) { s.lab.contract.Digest = "other" }, "the contract's digest"},
		"another server":      {func(s *stage) { s.proofs = provenWith(s.proofs, "another server of ") }, "the digest of node (sources, program, settings) was server of node and is another server of node"},
		"another kernel":      {func(s *stage) { s.engine.Machine.Kernel = "2" }, "the kernel was 1 and is 2"},
		"another library":     {func(s *stage) { s.openEngine = versioned(s.openEngine, "99") }, "what node says of its versions"},
		"one of many changes": {func(s *stage) { s.engine.Machine.CPUModel = "another"; s.engine.Machine.Kernel = "2" }, "the processor was played and is another; the kernel was 1 and is 2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := laidOut(t, left)
			before := snapshot(t, dir)
			s := newStage(t, compareOptions{})
			c.change(s)
			code, err := s.resume(t.Context(), t, dir)
			require.NoError(t, err)
			assert.Equal(t, exitCannot, code)
			assert.Contains(t, s.errs.String(), c.says)
			assert.Zero(t, s.engine.Attacks(), "nothing is measured")
			assert.Equal(t, before, snapshot(t, dir))
		})
	}
}

type proofs = func(context.Context, conformance.Options, []contender.Arm) ([]conformance.Report, error)

func provenWith(prove proofs, prefix string) proofs {
	return func(ctx context.Context, o conformance.Options, arms []contender.Arm) ([]conformance.Report, error) {
		reports, err := prove(ctx, o, arms)
		for i := range reports {
			reports[i].ServerDigest = prefix + reports[i].Arm
		}
		return reports, err
	}
}

// versionedEngine has contenders of another version.
type versionedEngine struct {
	engine.Engine
	version string
}

func (e versionedEngine) Version(ctx context.Context, arm contender.Arm) (contender.Version, error) {
	v, err := e.Engine.Version(ctx, arm)
	v.LanguageVersion = e.version
	return v, err
}

type opener = func(context.Context, string, func(string)) (engine.Engine, error)

func versioned(open opener, version string) opener {
	return func(ctx context.Context, name string, log func(string)) (engine.Engine, error) {
		e, err := open(ctx, name, log)
		return versionedEngine{e, version}, err
	}
}

func TestWhatCannotBeResumedIsNamed(t *testing.T) {
	left := killedRun(t).at[4]
	change := func(f func(r *record.Run)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			r, err := record.ReadRun(dir)
			require.NoError(t, err)
			f(&r)
			b, err := json.Marshal(r)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), b, 0o600))
		}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		flags  []string
		says   string
	}{
		"no folder":   {func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(dir)) }, nil, "no such folder"},
		"no run.json": {func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "run.json"))) }, nil, "no run.json"},
		"a damaged plan": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), []byte("{"), 0o600))
		}, nil, "run.json: "},
		"another method": {change(func(r *record.Run) { r.Method++ }), nil, "method was"},
		"a bench":        {change(func(r *record.Run) { r.Command[1] = "bench-servers" }), nil, "no run of loadtest compare"},
		"no plan yet":    {change(func(r *record.Run) { r.Plan = record.Plan{} }), nil, "ended before its plan was made"},
		"longer trials":  {change(func(r *record.Run) { r.Plan.RateDurationNS *= 2 }), nil, "a trial at the common rate took 80ms and takes 40ms"},
		"shorter trials": {change(func(r *record.Run) { r.Plan.RateDurationNS /= 2 }), nil, "a trial at the common rate took 20ms and takes 40ms"},
		"an unknown arm": {change(func(r *record.Run) {
			r.Plan.Pilot = nil
			r.Plan.Pilot = append(r.Plan.Pilot, record.PilotOutcome{Arm: "go+SPEED=max"})
			r.Plan.Order = [][]string{{"go+SPEED=max"}, {"go+SPEED=max"}}
		}), nil, "SPEED"},
		"another seed":      {func(*testing.T, string) {}, []string{"--seed", "8"}, `--seed "8"`},
		"other contenders":  {func(*testing.T, string) {}, []string{"--contender", "go"}, `begun with "go,node,go-floor"`},
		"another engine":    {func(*testing.T, string) {}, []string{"--engine", "docker"}, `--engine "docker"`},
		"another folder":    {func(*testing.T, string) {}, []string{"--out", "elsewhere"}, `--out "elsewhere"`},
		"a margin now":      {func(*testing.T, string) {}, []string{"--margin", "5"}, `--margin "5"`},
		"a command of rags": {change(func(r *record.Run) { r.Command = append(r.Command, "--fast") }), nil, "fast"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := laidOut(t, left)
			c.change(t, dir)
			_, err := newStage(t, compareOptions{}).resume(t.Context(), t, dir, c.flags...)
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "--resume")
		})
	}
	t.Run("an order that is not the seed's", func(t *testing.T) {
		dir := laidOut(t, left)
		change(func(r *record.Run) { slices.Reverse(r.Plan.Order[1]) })(t, dir)
		s := newStage(t, compareOptions{})
		code, err := s.resume(t.Context(), t, dir)
		require.NoError(t, err)
		assert.Equal(t, exitCannot, code)
		assert.Contains(t, s.errs.String(), "plan.order")
	})
	t.Run("flags that say the same", func(t *testing.T) {
		dir := laidOut(t, left)
		s := newStage(t, compareOptions{})
		code, err := s.resume(t.Context(), t, dir, "--profile", "smoke", "--engine", "auto", "--seed", "7", "--contender", "go,node,go-floor", "--out", dir+"/", "--json")
		require.NoError(t, err)
		assert.Equal(t, exitOK, code, s.errs)
		var r record.Run
		require.NoError(t, json.Unmarshal(s.out.Bytes(), &r))
		assert.True(t, r.Complete)
	})
}

// What the machine spoilt is measured again at its block's end, each load by itself, until it is sound; and a run that
// was killed meanwhile goes on with the same repeats.
func TestWhatWasSpoiltIsRepeatedAndResumed(t *testing.T) {
	inNoTime(t)
	profiles[0].repeats = 3
	const seed = 7
	spoils := func(s *stage) {
		s.spoilt = func(x *record.Trial) bool {
			switch {
			case x.Block == 1 && x.Position == 2: // both loads
				return true
			case x.Block == 1 && x.Position == 4: // one load, and its repeat too
				return x.Load == record.LoadThroughput
			case x.Block == 1 && x.Position == 6:
				return true
			case x.Block == 2 && x.Position == 1: // one more than may be repeated
				return x.Load == record.LoadRate
			}
			return false
		}
	}
	s := newStage(t, compareOptions{seed: seed})
	spoils(s)
	dir := filepath.Join(t.TempDir(), "run")
	var left []string // as kills before each repeat's trial would leave it
	s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
		if n := len(trialsOf(t, dir)) / 2; !job.Closed && n >= 8 && n <= 12 {
			left = append(left, copied(t, dir))
		}
		return nil
	}
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	saved, err := record.Open(dir)
	require.NoError(t, err)
	r := saved.Run
	require.Len(t, r.Plan.Order, 2)
	first := r.Plan.Order[0]
	require.Len(t, first, 4+3, "go, node, go-floor and the A/A arm, then three repeats")
	assert.Equal(t, first[1], first[4])
	assert.Equal(t, first[3], first[5])
	assert.Equal(t, first[3], first[6], "spoilt twice, so repeated twice")
	assert.Len(t, r.Plan.Order[1], 3, "no floor, and no repeat is left")
	assert.Equal(t, 3, r.Plan.Repeats)
	var got []string
	for _, x := range r.Trials[8:12] {
		got = append(got, fmt.Sprintf("%d %d %s", x.Block, x.Position, x.Load))
		assert.Equal(t, plan.Seeds(seed, x.Block-1, x.Position-1), x.Seed, "a seed of its own")
	}
	assert.Equal(t, []string{"1 5 rate", "1 5 throughput", "1 6 throughput", "1 7 throughput"}, got, "only what was spoilt")
	assert.Contains(t, r.Warnings, repeatsNote+"3 processes.")
	assert.Contains(t, r.Warnings, unrepeatedNote+"1 trial.")

	require.Len(t, left, 5)
	for _, killed := range left {
		s := newStage(t, compareOptions{})
		spoils(s)
		code, err := s.resume(t.Context(), t, killed)
		require.NoError(t, err)
		require.Equal(t, exitOK, code, s.errs)
		saved, err := record.Open(killed)
		require.NoError(t, err)
		assert.Equal(t, r.Plan.Order, saved.Run.Plan.Order)
		assert.Equal(t, r.Plan.Repeats, saved.Run.Plan.Repeats)
		ids := func(trials []record.Trial) (out []string) {
			for _, x := range trials {
				out = append(out, x.ID)
			}
			slices.Sort(out)
			return out
		}
		assert.Equal(t, ids(r.Trials), ids(saved.Run.Trials), "no trial twice, and none left out")
		assert.NoDirExists(t, filepath.Join(killed, "damaged"))
	}

	// Where a trial whose repeat is there is damaged, the repeat is of another block.
	s = newStage(t, compareOptions{})
	s.spoilt = func(*record.Trial) bool { return false }
	broken := copied(t, dir)
	head, err := record.ReadRun(broken)
	require.NoError(t, err)
	head.Complete, head.Trials, head.Verdicts = false, nil, nil
	folder, err := record.Reopen(broken)
	require.NoError(t, err)
	require.NoError(t, folder.WriteRun(head))
	require.NoError(t, os.Truncate(filepath.Join(broken, "trials", r.Trials[2].ID+".json"), 40))
	code, err := s.resume(t.Context(), t, broken)
	require.NoError(t, err)
	require.Equal(t, exitOK, code, s.errs)
	saved, err = record.Open(broken)
	require.NoError(t, err)
	assert.Zero(t, saved.Run.Plan.Repeats, "this time nothing was spoilt")
	assert.Len(t, saved.Run.Plan.Order[0], 4)
	assert.Contains(t, s.errs.String(), "repeats a trial that is damaged")
}

// interruptAt sends these signals before a trial, counted from 0, and waits until each was taken.
func interruptAt(t *testing.T, s *stage, trialNumber int, closed bool, signals ...os.Signal) (context.Context, *int) {
	t.Helper()
	channel, released := make(chan os.Signal), 0
	ctx := withInterrupts(t.Context(), channel, func() { released++ })
	n := 0
	s.engine.BeforeAttack = func(attack context.Context, _ int, job agent.Job) error {
		if job.Closed != closed {
			return nil
		}
		n++
		if n-1 != trialNumber {
			return nil
		}
		for i, signal := range signals {
			channel <- signal
			if i == 0 && signal == os.Interrupt && !closed {
				assert.Eventually(t, interruptsOf(ctx).wanted, time.Minute, time.Millisecond)
			} else {
				<-attack.Done()
			}
		}
		return attack.Err()
	}
	return ctx, &released
}

func TestOneInterruptEndsAfterTheTrial(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7})
	dir := filepath.Join(t.TempDir(), "run")
	s.report = reportAfter
	ctx, released := interruptAt(t, s, 4, false, os.Interrupt)
	assert.Equal(t, exitInterrupted, s.begin(ctx, t, dir))
	assert.NoError(t, ctx.Err(), "nothing was cut short")
	assert.Zero(t, *released, "a second interrupt still ends in order")
	assert.Contains(t, s.errs.String(), "interrupted: ends after this trial; again: at once")
	assert.Contains(t, s.errs.String(), "loadtest compare --resume "+dir)
	saved, err := record.Open(dir)
	require.NoError(t, err)
	assert.False(t, saved.Run.Complete)
	assert.Len(t, saved.Run.Trials, 5, "the trial under way is kept")
	needsAssets(t)
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	require.NoError(t, err, s.errs)
	assert.Contains(t, string(page), "This run was interrupted")

	s = newStage(t, compareOptions{})
	s.report = reportAfter
	code, err := s.resume(t.Context(), t, dir)
	require.NoError(t, err)
	require.Equal(t, exitOK, code, s.errs)
	assert.Equal(t, saved.Run.Trials, whole(t, dir).Trials[:5])
	page, err = os.ReadFile(filepath.Join(dir, "report.html"))
	require.NoError(t, err)
	assert.NotContains(t, string(page), "This run was interrupted")
}

func TestInterruptsThatEndAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		trial   int
		closed  bool // before a pilot or a warm-up
		signals []os.Signal
		trials  int // on disk; less than 0: no run.json
	}{
		"two":                            {4, false, []os.Signal{os.Interrupt, os.Interrupt}, 4},
		"one and a request to terminate": {4, false, []os.Signal{os.Interrupt, syscall.SIGTERM}, 4},
		"a request to terminate":         {4, false, []os.Signal{syscall.SIGTERM}, 4},
		"two in the first trial":         {0, false, []os.Signal{os.Interrupt, os.Interrupt}, 0},
		"one before the first trial":     {1, true, []os.Signal{os.Interrupt}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			inNoTime(t)
			s := newStage(t, compareOptions{seed: 7})
			s.report = reportAfter
			dir := filepath.Join(t.TempDir(), "run")
			ctx, released := interruptAt(t, s, c.trial, c.closed, c.signals...)
			assert.Equal(t, exitInterrupted, s.begin(ctx, t, dir), s.errs)
			assert.Equal(t, 1, *released, "one more ends the program")
			assert.NotZero(t, s.engine.Closed())
			if c.trials < 0 {
				assert.NoDirExists(t, dir)
				return
			}
			saved, err := record.Open(dir)
			require.NoError(t, err)
			assert.False(t, saved.Run.Complete)
			assert.Len(t, saved.Run.Trials, c.trials)
			if c.signals[0] == os.Interrupt && len(c.signals) > 1 && c.signals[1] == os.Interrupt {
				assert.Contains(t, s.errs.String(), "interrupted again: ends at once")
			}
			needsAssets(t)
			assert.FileExists(t, filepath.Join(dir, "report.html"))
			s = newStage(t, compareOptions{})
			code, err := s.resume(t.Context(), t, dir)
			require.NoError(t, err)
			require.Equal(t, exitOK, code, s.errs)
			whole(t, dir)
		})
	}
}

// Outside of a comparison's trials one signal is enough.
func TestOtherCommandsEndAtOnce(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		channel := make(chan os.Signal, 1)
		released := make(chan struct{})
		ctx := withInterrupts(t.Context(), channel, func() { close(released) })
		channel <- signal
		<-ctx.Done()
		<-released
	}
}

// What goes in the middle is named; what was measured stays, with a report, and can be gone on with.
func TestWhatGoesInTheMiddleIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(s *stage, dir string) error
		says    []string
		report  bool
	}{
		"the database":       {func(s *stage, _ string) error { s.engine.EndDatabase(); return nil }, []string{"the primary database is gone", "the last line of a played database"}, true},
		"a backend":          {func(s *stage, _ string) error { s.engine.CrashBackend(); return nil }, []string{"a process of PostgreSQL crashed or was killed", "(PID 7) was terminated by signal 9: Killed\nseen by: count statements"}, true},
		"a connection":       {func(s *stage, _ string) error { s.engine.CutDatabase(); return nil }, []string{"count statements", "the last line of a played database"}, true},
		"a contender":        {func(s *stage, _ string) error { s.engine.EndContender(); return nil }, []string{": ended with a played crash\nseen by: read the CPU time of contender"}, true},
		"the engine":         {func(s *stage, _ string) error { s.engine.End(); return nil }, []string{engine.ErrGone.Error()}, true},
		"the load generator": {func(*stage, string) error { return errors.New("killed by signal 9") }, []string{"load generator", "killed by signal 9"}, true},
		"the folder":         {func(_ *stage, dir string) error { return os.Rename(dir, dir+"-moved") }, []string{"run.json is that of before the first trial", "no such file"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inNoTime(t)
			s := newStage(t, compareOptions{seed: 7})
			dir := filepath.Join(t.TempDir(), "run")
			n := 0
			s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
				if job.Closed {
					return nil
				}
				n++
				if n == 4 {
					return c.happens(s, dir)
				}
				return nil
			}
			assert.Equal(t, exitCannot, s.begin(t.Context(), t, dir))
			for _, words := range c.says {
				assert.Contains(t, s.errs.String(), words)
			}
			assert.Contains(t, s.errs.String(), "--resume")
			assert.LessOrEqual(t, strings.Count(s.errs.String(), "the last line of a played database"), 1, "told once")
			if !c.report {
				require.NoError(t, os.Rename(dir+"-moved", dir))
				_, err := record.Open(dir)
				require.ErrorIs(t, err, record.ErrUnderWay)
			} else {
				saved, err := record.Open(dir)
				require.NoError(t, err)
				assert.False(t, saved.Run.Complete)
				assert.Len(t, saved.Run.Trials, 3, "a trial without what it needs is none")
			}
			s = newStage(t, compareOptions{})
			code, err := s.resume(t.Context(), t, dir)
			require.NoError(t, err)
			require.Equal(t, exitOK, code, s.errs)
			whole(t, dir)
		})
	}
}

// What the database recovered from before a process was started is no excuse for what that one fails.
func TestAnEarlierCrashExcusesNoArm(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, contenders: "go,node"})
	dir, n := filepath.Join(t.TempDir(), "run"), 0
	var crash sync.Once
	s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
		if job.Closed {
			crash.Do(s.engine.CrashBackend) // in a pilot, where nobody notices
			return nil
		}
		s.engine.Say(playedAnswer)
		if n++; n == 3 { // the first of the second process's two
			s.engine.Say(`{"data":{"x":2}}`)
		}
		return nil
	}
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	assert.Positive(t, r.Trials[2].Failed)
	assert.NotNil(t, r.Trials[2].Void)
}

// Redis that goes is named, too; where it goes in a pilot there is no plan that was made without it.
func TestRedisThatGoesIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		closed  bool // in a closed loop of a pilot, else in a trial
		planned bool
	}{"in a pilot": {true, false}, "in a trial": {false, true}} {
		t.Run(name, func(t *testing.T) {
			inNoTime(t)
			const arm = "go+MASTER=redis"
			options := compareOptions{seed: 7, scenario: "memory-or-redis", contenders: "go," + arm}
			s := newStage(t, options)
			s.engine.PlaysRedis = true
			dir := filepath.Join(t.TempDir(), "run")
			var once sync.Once
			s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
				started := s.engine.Started()
				if job.Closed == c.closed && started[len(started)-1].Arm.Name == arm {
					once.Do(s.engine.EndRedis)
				}
				return nil
			}
			assert.Equal(t, exitCannot, s.begin(t.Context(), t, dir))
			assert.Contains(t, s.errs.String(), "Redis is gone: ended with a played crash")
			assert.Equal(t, 1, strings.Count(s.errs.String(), "ended with a played crash"), "told once")
			if !c.planned {
				assert.NoDirExists(t, dir, "nothing to go on with")
				return
			}
			saved, err := record.Open(dir)
			require.NoError(t, err)
			for _, x := range saved.Run.Trials {
				assert.NotEqual(t, arm, x.Arm, "not without Redis")
			}
			s = newStage(t, compareOptions{})
			s.engine.PlaysRedis = true
			code, err := s.resume(t.Context(), t, dir)
			require.NoError(t, err)
			require.Equal(t, exitOK, code, s.errs)
			whole(t, dir)
		})
	}
}

// A process of a contender that ends fails no request where another one takes its place. The trial is void all the same, and so is
// the next one of what is left; a fresh one is as good as any.
func TestAWorkerThatEndsVoidsWhatIsLeftOfItsServer(t *testing.T) {
	inNoTime(t)
	s := newStage(t, compareOptions{seed: 7, contenders: "go,node"})
	dir := filepath.Join(t.TempDir(), "run")
	n := 0
	s.engine.BeforeAttack = func(_ context.Context, _ int, job agent.Job) error {
		if !job.Closed {
			if n++; n == 1 {
				s.engine.EndWorker()
			}
		}
		return nil
	}
	require.Equal(t, exitOK, s.begin(t.Context(), t, dir), s.errs)
	r := whole(t, dir)
	require.Greater(t, len(r.Trials), 2)
	for i, x := range r.Trials {
		if i > 1 {
			assert.Zero(t, x.ProcessesEnded, x.ID)
			continue
		}
		assert.Equal(t, 1, x.ProcessesEnded, x.ID)
		require.NotNil(t, x.Void, x.ID)
		assert.Equal(t, "1 of the contender's processes ended", *x.Void)
		assert.Equal(t, r.Trials[0].Position, x.Position, "of one process")
	}
}

// Every arm is proven once, and of arms of the same code one in full.
func TestFormsOfArms(t *testing.T) {
	l, err := openLab()
	require.NoError(t, err)
	arms, err := l.arms("go+CPUS=1,node,go,go-gogc-50,go+LOADER=off,rust,rust-jemalloc,node+REPLICA=off", nil)
	require.NoError(t, err)
	named := func(form conformance.Form) map[conformance.Form][]string {
		out := map[conformance.Form][]string{}
		for form, arms := range formsOf(form, arms) {
			for _, arm := range arms {
				out[form] = append(out[form], arm.Name)
			}
		}
		return out
	}
	assert.Equal(t, map[conformance.Form][]string{
		conformance.Full:  {"go+CPUS=1", "node", "go+LOADER=off", "rust", "rust-jemalloc"},
		conformance.Short: {"go", "go-gogc-50", "node+REPLICA=off"},
	}, named(conformance.Full))
	assert.Len(t, named(conformance.Short)[conformance.Short], len(arms))
}
