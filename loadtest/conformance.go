package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"

	"lab/loadtest/internal/conformance"
	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/engine"
)

// mostAtOnce bounds how many arms are proven at once: each has a database and servers of its own, whose processes wait for
// each other's CPUs.
const mostAtOnce = 16

// provenAtOnce is how many arms are proven at once where nobody says: on two CPUs two take about two thirds of the time.
func provenAtOnce() int { return min(2, runtime.NumCPU()) }

// conformanceMain proves arms equal: by default every arm of every manifest (two workers where it has any), and each contender
// without its loader, without a replica, started in sequence, without master data in memory, and with it in Redis where there
// is one.
func conformanceMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("conformance", "[flags]")
	contenders := f.String("contender", "", "`ARM,…` (default: every arm of every manifest, those with processes or threads of their own with WORKERS=2, and each contender with LOADER=off, REPLICA=off, START=sequential, MASTER=none and, where there is a Redis, MASTER=redis)")
	engineName := f.String("engine", "auto", "`NAME`: auto, docker or native")
	form := f.String("form", "full", "`NAME`: full or short")
	seed := f.Uint64("seed", 0, "`N` for the random queries (default: a new one, printed)")
	atOnce := f.Int("at-once", provenAtOnce(), "`N` arms at once, each with a database of its own")
	fresh := f.Bool("fresh", false, "prove again what is proven already")
	asJSON := f.Bool("json", false, "print JSON instead of a table")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	l, err := openLab()
	if err != nil {
		return fail(ctx, s, "conformance", err)
	}
	var all []string
	for _, a := range contender.Arms(l.contenders) {
		name := a.Name
		if a.HasWorkers() {
			name += "+WORKERS=2" // however few CPUs there are, one could not disagree with another
		}
		all = append(all, name)
	}
	for _, c := range l.contenders {
		for _, setting := range []string{"LOADER=off", "REPLICA=off", "START=sequential", "MASTER=none", "MASTER=redis"} {
			all = append(all, c.Name+"+"+setting)
		}
	}
	arms, err := l.arms(*contenders, all)
	if err != nil {
		return fail(ctx, s, "conformance", err)
	}
	options := conformance.Options{Contract: l.contract, Root: l.root, Seed: *seed, Log: logTo(s.Err)}
	switch *form {
	case "full":
		options.Form = conformance.Full
	case "short":
		options.Form = conformance.Short
	default:
		return fail(ctx, s, "conformance", fmt.Errorf("--form %q: expected full or short", *form))
	}
	if options.Seed == 0 {
		options.Seed = 1 + rand.Uint64N(1<<32)
	}
	if options.AtOnce = *atOnce; *atOnce < 1 || *atOnce > mostAtOnce {
		return fail(ctx, s, "conformance", fmt.Errorf("--at-once %d: expected 1 to %d", *atOnce, mostAtOnce))
	}
	fmt.Fprintf(s.Err, "seed %d\n", options.Seed)
	options.CacheDir, options.Fresh = cacheDir(), *fresh
	release, err := engine.Lock(os.Args)
	if err != nil {
		return fail(ctx, s, "conformance", err)
	}
	defer release()
	if options.Engine, err = l.engine(ctx, *engineName, options.Log); err != nil {
		return fail(ctx, s, "conformance", err)
	}
	defer closeEngine(options.Engine, s)
	if *contenders == "" {
		if err := tryRedis(ctx, options.Engine); err != nil && ctx.Err() == nil {
			fmt.Fprintf(s.Err, "arms with MASTER=redis cannot be proven here: %v\n", err)
			arms = slices.DeleteFunc(arms, contender.Arm.UsesRedis)
		}
	}
	reports, err := conformance.Prove(ctx, options, arms)
	if err != nil && !errors.Is(err, context.Canceled) {
		return fail(ctx, s, "conformance", err)
	}
	if ctx.Err() != nil {
		return fail(ctx, s, "conformance", ctx.Err())
	}
	if *asJSON {
		e := json.NewEncoder(s.Out)
		e.SetEscapeHTML(false)
		_ = e.Encode(reports)
	} else {
		fmt.Fprint(s.Out, conformance.Text(reports))
	}
	for _, r := range reports {
		if !r.Conformant {
			return exitNo
		}
	}
	return exitOK
}
