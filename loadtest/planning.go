package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// Recorded noise that a plan reckons with.
const (
	// leastNoise is how many A/A pairs of an engine stand for it by themselves.
	leastNoise = 8
	// defaultPower is the share of comparisons in which a true difference is to be found.
	defaultPower = 0.8
)

// pastNoise is what identical arms were seen to differ by in published runs.
type pastNoise struct {
	logRatios []float64
	runs      []string // their folders in results/
	engine    string   // theirs
	asked     string   // the engine of the run that is planned
}

var errNoNoise = errors.New("no published run in results/ has A/A pairs of this scenario, so nothing is known of the noise")

// publishedNoise has the A/A log-ratios of a scenario in the runs in results/: those of this engine, or, where they are too
// few, those of all engines. What cannot be read is told and left out.
func publishedNoise(root, engineName, scenario string, tell func(string)) pastNoise {
	of := map[string]*pastNoise{}
	files, _ := filepath.Glob(filepath.Join(root, "results", "*", "run.json")) // the pattern is good
	var engines []string
	for _, file := range files {
		dir := filepath.Dir(file)
		if filepath.Base(dir) == "local" {
			continue
		}
		r, err := record.ReadRun(dir)
		if err != nil {
			tell(fmt.Sprintf("not taken for the noise: %v", err))
			continue
		}
		d := claims.SameArm(slices.DeleteFunc(slices.Clone(r.Trials), func(t record.Trial) bool { return t.Scenario != scenario }))
		if len(d) == 0 || !r.Evidence || !r.Complete {
			continue
		}
		name := r.Environment.Engine
		if of[name] == nil {
			of[name] = &pastNoise{engine: name}
			engines = append(engines, name)
		}
		of[name].logRatios, of[name].runs = append(of[name].logRatios, d...), append(of[name].runs, filepath.Base(dir))
	}
	if n := of[engineName]; n != nil && len(n.logRatios) >= leastNoise {
		n.asked = engineName
		return *n
	}
	all := pastNoise{asked: engineName}
	slices.Sort(engines)
	for _, name := range engines {
		all.logRatios, all.runs = append(all.logRatios, of[name].logRatios...), append(all.runs, of[name].runs...)
	}
	all.engine = strings.Join(engines, ", ")
	return all
}

func (n pastNoise) known() bool { return len(n.logRatios) >= 2 }

func (n pastNoise) String() string {
	words := fmt.Sprintf("the noise of %s of %s (engine %s)", summary.Plural(len(n.logRatios), "A/A pair"), strings.Join(n.runs, ", "), n.engine)
	if n.engine != n.asked {
		words += fmt.Sprintf(", since of engine %s fewer than %d are published", n.asked, leastNoise)
	} else if len(n.logRatios) < leastNoise {
		words += ", which are few"
	}
	return words
}

// foresee says what a design finds by that noise; the margin is a ratio, the power a share.
func foresee(n pastNoise, d stats.Design, power, margin float64) (*record.Power, error) {
	if !n.known() {
		return nil, errNoNoise
	}
	out := &record.Power{
		Metric: claims.LibraryMetric, Family: d.Family, Alpha: d.Alpha, Power: power, Margin: margin,
		NoiseLogRatios: n.logRatios, NoiseRuns: n.runs, NoiseEngine: n.engine,
	}
	effect, err := stats.Detectable(n.logRatios, power, d)
	if err != nil {
		return nil, err
	}
	if !math.IsInf(effect, 0) {
		ratio := math.Exp(effect)
		out.DetectableRatio = &ratio
	}
	blocks, _, err := stats.BlocksFor(n.logRatios, math.Log(margin), power, d)
	switch {
	case err == nil:
		out.BlocksForMargin = &blocks
	case !errors.Is(err, stats.ErrTooNoisy):
		return nil, err
	}
	return out, nil
}

// powerWords is a plan's power for a person.
func powerWords(w *record.Power, blocks int, n pastNoise) string {
	finds := fmt.Sprintf("%s decide nothing in a family of that size", summary.Plural(blocks, "block"))
	if blocks == 1 {
		finds = "1 block decides nothing"
	}
	if w.DetectableRatio != nil {
		finds = fmt.Sprintf("%s find a ratio of %.3f in %.0f %% of comparisons", summary.Plural(blocks, "block"), *w.DetectableRatio, 100*w.Power)
	}
	needs := fmt.Sprintf("no number of blocks up to %d does that", stats.MaxPairs)
	if w.BlocksForMargin != nil {
		needs = fmt.Sprintf("takes %s", summary.Plural(*w.BlocksForMargin, "block"))
	}
	return fmt.Sprintf("power: %s, alpha %g, %v: %s; to find %.3f as often %s", familyWords(w.Family), w.Alpha, n, finds, w.Margin, needs)
}

func familyWords(n int) string { return fmt.Sprintf("a family of %s", summary.Plural(n, "pair")) }

// blocksForMargin replaces the profile's number of blocks by what finds --margin as often as --power says.
func (c *comparison) blocksForMargin(n pastNoise) error {
	st := c.studies[0]
	d := st.design(0)
	percent := fmt.Sprintf("--margin %g", c.options.margin)
	switch {
	case d.Family == 0:
		return fmt.Errorf("%s: of the arms fewer than two are mainstream, so no pair is judged", percent)
	case !n.known():
		return fmt.Errorf("%s: %w", percent, errNoNoise)
	}
	blocks, _, err := stats.BlocksFor(n.logRatios, math.Log1p(c.options.margin/100), c.options.power/100, d)
	if err != nil {
		return fmt.Errorf("%s: by %v: %w; a larger margin, a lower --power or a quieter machine is needed", percent, n, err)
	}
	p := &st.profile
	p.blocks, p.floorBlocks = blocks, min(p.floorBlocks, blocks)
	// Before anything is known of this machine: the bare times of the trials.
	return c.withinBudget(st, 0, 0)
}

// withinBudget says why the blocks of --margin take longer than the profile may; spent is what the pilot has taken, and
// around what a process takes beside its warm-up and its trials.
func (c *comparison) withinBudget(st *study, spent, around time.Duration) error {
	p := st.profile
	if c.options.margin == 0 || p.budget == 0 || !st.headline() {
		return nil
	}
	// Nobody knows yet how soon an arm is warm: the least is reckoned.
	needed := spent + st.takes(around)
	if needed > p.budget {
		return fmt.Errorf("--margin %g: that takes %s, at least %v, and profile %s may take %v; --profile standard has no bound",
			c.options.margin, summary.Plural(p.blocks, "block"), needed.Round(time.Second), p.name, p.budget)
	}
	return nil
}

// foretell records and says what the plan will be able to tell, before its first trial.
func (s *session) foretell(c *comparison, st *study) error {
	p := st.plan(&s.run)
	switch d := st.design(p.Blocks); {
	case d.Family == 0:
	case st.Metric != claims.LibraryMetric:
		s.progress.say("power: not reckoned, since it is for CPU per request only")
	default:
		noise, margin, power := c.noise, st.Margin, defaultPower
		if !st.headline() {
			noise = publishedNoise(c.lab.root, s.engine.Name(), st.ID, func(string) {})
		} else if c.options.margin > 0 {
			margin, power = 1+c.options.margin/100, c.options.power/100
		}
		if !noise.known() {
			s.progress.say("power: unknown: %v", errNoNoise)
			break
		}
		var err error
		if p.Power, err = foresee(noise, d, power, margin); err != nil {
			return err
		}
		s.progress.say("%s", powerWords(p.Power, p.Blocks, noise))
	}
	if !slices.Contains(st.loads(), record.LoadRate) {
		return nil
	}
	p.Percentiles = plannedPercentiles(st.share()*p.RateRPS, time.Duration(p.RateDurationNS))
	s.progress.say("%s", percentileWords(p.Percentiles))
	return st.refuse(p.Percentiles)
}

// share is that of the requests whose latencies decide.
func (st *study) share() float64 {
	if len(st.Mix) == 0 {
		return 1
	}
	total := 0.0
	for _, name := range slices.Sorted(maps.Keys(st.Mix)) {
		total += st.Mix[name]
	}
	return st.Mix[st.Operation] / total
}

// errRefused says that a scenario was not measured, since its trials could not carry what decides it.
var errRefused = errors.New("was not measured")

// refuse says why the requests planned for a trial cannot decide, before the first of them. A run that is no evidence
// decides nothing anyway.
func (st *study) refuse(planned []record.PlannedPercentile) error {
	if !st.profile.evidence || st.headline() {
		return nil
	}
	decides, _ := st.decidingPercentile()
	for _, q := range planned {
		if need := requestsToPlan(q.RequestsRequired); q.Name == decides.Name && q.RequestsPlanned < need {
			return fmt.Errorf("%s %w: it is decided by %s, for which %d requests of %s have to be planned in a trial, and %d are", st.refusal(), errRefused, q.Name, need, strings.ToUpper(st.Operation), q.RequestsPlanned)
		}
	}
	if err := st.refuseSeconds(planned); err != nil {
		return err
	}
	family := st.design(0).Family
	if need := stats.MinPairs(claims.Alpha, family); st.profile.blocks < need {
		return fmt.Errorf("%s %w: a family of %s needs at least %d blocks, and %d are planned", st.refusal(), errRefused, summary.Plural(family, "pair"), need, st.profile.blocks)
	}
	return nil
}

// refuseSeconds is refuse of what is decided by single seconds, each of which has to carry its own percentile.
func (st *study) refuseSeconds(planned []record.PlannedPercentile) error {
	if st.Metric != contract.MetricMedianSecond {
		return nil
	}
	need, got := requestsToPlan(stats.RequestsToCarry(0.99)), uint64(float64(planned[0].RequestsPlanned)/st.profile.rate.Seconds())
	if got < need {
		return fmt.Errorf("%s %w: it is decided by p99 of each second, for which %d requests of %s have to be planned in a second, and %d are", st.refusal(), errRefused, need, strings.ToUpper(st.Operation), got)
	}
	return nil
}

// requestsToPlan are some more than a percentile needs, since random arrivals scatter.
func requestsToPlan(required uint64) uint64 { return uint64(math.Ceil(surplus * float64(required))) }

// lengthen makes the trials at the common rate so long that their requests carry the percentile that decides, where that is not
// longer than a trial may be.
func (st *study) lengthen(rps float64) {
	if !st.profile.evidence || st.headline() {
		return
	}
	q, ok := st.decidingPercentile()
	if !ok {
		return
	}
	need := float64(requestsToPlan(stats.RequestsToCarry(q.Quantile))) / (st.share() * rps)
	if takes := time.Duration(math.Ceil(10*need)) * (time.Second / 10); takes <= longestRate {
		st.leastRate = takes
		st.profile.rate = max(st.profile.rate, takes)
	}
}

// decidingPercentile is the one that decides, if one does.
func (st *study) decidingPercentile() (summary.Percentile, bool) {
	return summary.PercentileOf(st.Metric)
}

// refusal is how a refusal of the scenario begins.
func (st *study) refusal() string { return "scenario " + st.ID }

// plannedPercentiles says which percentiles the requests of a trial at the common rate will carry.
func plannedPercentiles(rps float64, d time.Duration) []record.PlannedPercentile {
	requests := uint64(rps * d.Seconds())
	var out []record.PlannedPercentile
	for _, q := range summary.Percentiles() {
		need := stats.RequestsToCarry(q.Quantile)
		out = append(out, record.PlannedPercentile{Name: q.Name, RequestsPlanned: requests, RequestsRequired: need, Carried: requests >= need})
	}
	return out
}

func percentileWords(percentiles []record.PlannedPercentile) string {
	var carried, not []string
	for _, q := range percentiles {
		if q.Carried {
			carried = append(carried, q.Name)
		} else {
			not = append(not, fmt.Sprintf("%s (it needs %d)", q.Name, q.RequestsRequired))
		}
	}
	words := fmt.Sprintf("percentiles: the %d requests of a trial carry %s", percentiles[0].RequestsPlanned, listWords(carried))
	if len(not) > 0 {
		words += fmt.Sprintf(" and not %s", strings.Join(not, ", "))
	}
	return words
}

func listWords(items []string) string {
	if len(items) == 0 {
		return "none"
	}
	return strings.Join(items, ", ")
}
