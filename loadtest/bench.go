package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/plan"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/trial"
)

// benchRounds is the least with which the exact methods give a 95 % interval. Fewer are for trying out, and say so.
const benchRounds = 6

var benchQuestions = []string{"q1", "q2", "q3"}

// benchFigure is an arm's CPU per request for one operation, over the rounds.
type benchFigure struct {
	Arm       string    `json:"arm"`
	Contender string    `json:"contender"`
	Tier      string    `json:"tier"`
	Operation string    `json:"operation"`
	CPUUs     []float64 `json:"cpu_us_per_request"` // one a round
	// FloorRatio has, for each round, the CPU per request over that of the contender's floor in the same round.
	FloorRatio []float64 `json:"floor_ratio"`
}

// benchMain measures CPU per request in a closed loop. The arms of a round come in random order; each ratio is taken
// within its round, so that the machine's weather cancels.
func benchMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("bench-servers", "[flags]")
	contenders := f.String("contender", "", "`ARM,…` (default: those of the scenario library)")
	engineName := f.String("engine", "auto", "`NAME`: auto, docker or native")
	connections := f.Uint64("connections", 16, "`N` clients in the closed loop")
	rounds := f.Int("rounds", benchRounds, "`N` rounds, each with every arm once")
	duration := f.Duration("duration", 2*time.Second, "`TIME` of each measurement")
	warm := f.Duration("warm", 2*time.Second, "`TIME` of each operation's warm-up")
	size := f.String("size", "standard", "`NAME` of the data's size: small or standard")
	seed := f.Uint64("seed", 0, "`N` for the order (default: a new one, printed)")
	out := f.String("out", "", "`DIR` for the records (default results/local/DATE-bench)")
	update := f.String("update", "", "`FILE,…` whose table between the markers of this command is replaced")
	asJSON := f.Bool("json", false, "print JSON instead of a table")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	l, err := openLab()
	if err != nil {
		return fail(ctx, s, "bench-servers", err)
	}
	pages, err := openPages(*update, benchCommand)
	if err != nil {
		return fail(ctx, s, "bench-servers", err)
	}
	if *rounds < 1 || *connections < 1 || *duration <= 0 || *warm <= 0 {
		return fail(ctx, s, "bench-servers", fmt.Errorf("--rounds, --connections, --duration and --warm must be positive"))
	}
	headline, err := contract.Named(l.scenarios, libraryScenario)
	if err != nil {
		return fail(ctx, s, "bench-servers", err)
	}
	arms, err := l.arms(*contenders, headline[0].Arms)
	if err != nil {
		return fail(ctx, s, "bench-servers", err)
	}
	if *seed == 0 {
		*seed = 1 + rand.Uint64N(1<<32)
	}
	if *out != "" {
		if err := record.CheckFree(*out); err != nil {
			return fail(ctx, s, "bench-servers", fmt.Errorf("--out: %w", err))
		}
	}
	release, err := engine.Lock(os.Args)
	if err != nil {
		return fail(ctx, s, "bench-servers", err)
	}
	defer release()
	began := time.Now().UTC()
	if *out == "" {
		*out = localRun(l.root, began, "bench")
	}
	folder, err := record.Create(*out)
	if err != nil {
		return fail(ctx, s, "bench-servers", fmt.Errorf("--out: %w", err))
	}
	defer folder.RemoveUnused()
	b := &session{lab: l, folder: folder, progress: newProgress(s.Err), nonconformant: map[string]bool{}}
	b.run = record.Run{
		Format: record.Format, Method: record.Method, ID: filepath.Base(*out), Profile: "bench", Evidence: *rounds >= benchRounds, Seed: *seed, Began: began,
	}
	if b.engine, err = l.engine(ctx, *engineName, func(line string) { b.progress.say("%s", line) }); err != nil {
		return fail(ctx, s, "bench-servers", err)
	}
	defer closeEngine(b.engine, s)
	// What auto took is named, as in compare.
	b.run.Command = repeatBench(*contenders, b.engine.Name(), *size, *seed, *rounds, *connections, *warm, *duration)
	err = b.bench(ctx, arms, *size, *rounds, *connections, *warm, *duration)
	b.progress.end()
	if len(b.run.Trials) > 0 {
		err = b.finish(err, s)
		figures := benchFigures(b.run.Trials)
		if *asJSON {
			e := json.NewEncoder(s.Out)
			_ = e.Encode(figures)
		} else {
			fmt.Fprint(s.Out, benchText(figures, *rounds, *connections))
		}
		fmt.Fprintf(s.Err, "records: %s\n", folder.Path())
		if err == nil {
			err = reportAfter(ctx, folder.Path(), s)
		}
		if err == nil {
			err = pages.splice(benchMarkdown(figures, b.run, *rounds, *connections))
		}
	}
	if err != nil {
		return fail(ctx, s, "bench-servers", err)
	}
	return exitOK
}

// repeatBench names whatever changes what is measured.
func repeatBench(contenders, engineName, size string, seed uint64, rounds int, connections uint64, warm, duration time.Duration) []string {
	c := []string{"loadtest", "bench-servers", "--engine", engineName, "--seed", fmt.Sprint(seed), "--rounds", fmt.Sprint(rounds), "--connections", fmt.Sprint(connections),
		"--size", size, "--warm", warm.String(), "--duration", duration.String()}
	if contenders != "" {
		c = append(c, "--contender", contenders)
	}
	return c
}

// benchMarkdown is the table of benchText for a page, with the command that made it.
func benchMarkdown(figures []benchFigure, r record.Run, rounds int, connections uint64) string {
	var b strings.Builder
	e := r.Environment
	fmt.Fprintf(&b, "CPU per request in µs (user + system of the server), closed loop of %d clients, median of %d interleaved rounds (least–most); ÷ floor within the same round. %s; contender on CPU %v, PostgreSQL %s; %s.\n\n",
		connections, rounds, e.CPUModel, e.Placement["contender"], e.PostgreSQL, r.Began.Format("2006-01-02"))
	b.WriteString("| arm | tier | Q1 | Q2 | Q3 | ÷ floor Q1 | Q2 | Q3 |\n|---|---|---|---|---|---|---|---|\n")
	for i := 0; i < len(figures); {
		arm, tier := figures[i].Arm, figures[i].Tier
		cells, ratios := benchCells(figures, &i, 2)
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", arm, tier, strings.Join(cells, " | "), strings.Join(ratios, " | "))
	}
	fmt.Fprintf(&b, "\nMade by `%s`.\n", strings.Join(r.Command, " "))
	return b.String()
}

// benchCells are the figures of the arm at i, one for each operation in the order of the heads, and moves i behind the
// arm. An operation whose trials are all void has a dash, so that no figure slips under another's head.
func benchCells(figures []benchFigure, i *int, ratioDigits int) (cells, ratios []string) {
	of := map[string]benchFigure{}
	for arm := figures[*i].Arm; *i < len(figures) && figures[*i].Arm == arm; *i++ {
		of[figures[*i].Operation] = figures[*i]
	}
	for _, operation := range benchQuestions {
		cells = append(cells, spreadText(of[operation].CPUUs, 0))
		ratios = append(ratios, spreadText(of[operation].FloorRatio, ratioDigits))
	}
	return cells, ratios
}

func spreadText(x []float64, digits int) string {
	if len(x) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, stats.Median(x), digits, slices.Min(x), digits, slices.Max(x))
}

func (s *session) bench(ctx context.Context, arms []contender.Arm, size string, rounds int, connections uint64, warm, d time.Duration) error {
	if err := s.open(ctx, size, arms); err != nil {
		return err
	}
	questions, err := s.lab.questions(ctx, s.database, benchQuestions...)
	if err != nil {
		return err
	}
	var planned []plan.Arm
	byName := map[string]contender.Arm{}
	for _, a := range arms {
		planned = append(planned, plan.Arm{Name: a.Name, Blocks: rounds})
		byName[a.Name] = a
	}
	blocks, err := plan.Blocks(planned, rounds, s.run.Seed)
	if err != nil {
		return err
	}
	s.run.Plan = record.Plan{Blocks: rounds, Order: plan.Names(blocks)}
	s.progress.start(rounds * len(arms))
	for b, block := range blocks {
		for i, slot := range block {
			s.progress.step("round %d of %d: %s", b+1, rounds, slot.Arm)
			arm := byName[slot.Arm]
			err := s.with(ctx, arm, questions[0], nil, func(subject trial.Subject) error {
				for _, q := range questions {
					spec := trial.Spec{
						ID:       trialID("bench", q.name, ask{load: record.LoadThroughput}, b, i, arm.Name, false),
						Scenario: "bench", Operation: q.name, Body: q.body(arm.Tier, s.run.Seed), Expected: q.expected, Load: record.LoadThroughput,
						Block: b + 1, Position: i + 1, Seed: s.seedOf(b, i), Timeout: requestTimeout,
						MaxInFlight: connections, Closed: true, Duration: d, Statements: allowed(arm, q),
					}
					if _, err := trial.WarmUp(ctx, subject, spec, warm); err != nil {
						return err
					}
					if _, err := s.measure(ctx, subject, spec); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func benchFigures(trials []record.Trial) []benchFigure {
	type key struct {
		contender, operation string
		block                int
	}
	floors := map[key]float64{}
	for _, t := range trials {
		if t.Tier == string(contender.TierFloor) && t.Void == nil && t.CPUUsPerRequest != nil {
			floors[key{t.Contender, t.Operation, t.Block}] = *t.CPUUsPerRequest
		}
	}
	index := map[[2]string]int{}
	var out []benchFigure
	for _, t := range trials {
		if t.Void != nil || t.CPUUsPerRequest == nil {
			continue
		}
		k := [2]string{t.Arm, t.Operation}
		if _, ok := index[k]; !ok {
			index[k] = len(out)
			out = append(out, benchFigure{Arm: t.Arm, Contender: t.Contender, Tier: t.Tier, Operation: t.Operation})
		}
		f := &out[index[k]]
		f.CPUUs = append(f.CPUUs, *t.CPUUsPerRequest)
		if floor, ok := floors[key{t.Contender, t.Operation, t.Block}]; ok {
			f.FloorRatio = append(f.FloorRatio, *t.CPUUsPerRequest/floor)
		}
	}
	slices.SortFunc(out, func(a, b benchFigure) int {
		return strings.Compare(a.Contender+" "+a.Arm+" "+a.Operation, b.Contender+" "+b.Arm+" "+b.Operation)
	})
	return out
}

func benchText(figures []benchFigure, rounds int, connections uint64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CPU per request, µs (user + system), closed loop of %d clients, median of %d interleaved rounds (least–most);\n÷: against the same language's floor in the same round.\n\n", connections, rounds)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "arm\ttier\t%s\t÷ floor\n", strings.ToUpper(strings.Join(benchQuestions, "\t")))
	for i := 0; i < len(figures); {
		arm := figures[i].Arm
		tier := figures[i].Tier
		cells, ratios := benchCells(figures, &i, 1)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", arm, tier, strings.Join(cells, "\t"), strings.Join(ratios, " / "))
	}
	_ = w.Flush()
	return b.String()
}
