package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/diff"
	"lab/loadtest/internal/noise"
)

// simulateMain counts what the rule of a verdict does with comparisons whose truth is known, and makes the tables of it
// in docs/METHODOLOGY.md. The tests hold the same counts against their bounds.
func simulateMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("simulate", "[flags]")
	replicates := f.Int("replicates", 10_000, "`N` made-up comparisons for each row")
	update := f.String("update", "", "`FILE,…` whose text between the markers of loadtest simulate is replaced")
	asJSON := f.Bool("json", false, "print the counts as JSON")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	cannot := func(err error) int { return fail(ctx, s, "simulate", err) }
	if *replicates < 1 {
		return cannot(errors.New("--replicates must be positive"))
	}
	pages, err := openPages(*update, simulateCommand)
	if err != nil {
		return cannot(err)
	}
	r, err := simulate(ctx, *replicates, newProgress(s.Err))
	if err != nil {
		return cannot(err)
	}
	if *asJSON {
		_ = json.NewEncoder(s.Out).Encode(r)
	} else {
		fmt.Fprint(s.Out, r.markdown())
	}
	if err := pages.splice(r.markdown()); err != nil {
		return cannot(err)
	}
	return exitOK
}

// simulation is what was counted.
type simulation struct {
	Replicates int            `json:"replicates"`
	FoundOf    int            `json:"found_of"` // replicates of each count in found
	Noise      string         `json:"noise"`    // the run whose noise it is
	Null       []nullCount    `json:"null"`
	Power      []powerCount   `json:"power"`
	Found      []regressCount `json:"found"`
}

type nullCount struct {
	Case          string `json:"case"`
	FalseVerdicts int    `json:"false_verdicts"`
	FalseTests    int    `json:"false_tests"`
	// LeastCovered is of the pair whose interval had the truth in it least often.
	LeastCovered int `json:"least_covered"`
}

type powerCount struct {
	Case     string  `json:"case"`
	Ratio    float64 `json:"ratio"`
	Promised float64 `json:"promised"` // share
	Kept     float64 `json:"kept"`     // share
}

type regressCount struct {
	Way string `json:"way"`
	// Found are the replicates in which each of diff.Slowdowns was called a regression.
	Found []int `json:"found"`
}

func simulate(ctx context.Context, replicates int, p *progress) (simulation, error) {
	// Two runs are compared by ranks, which takes longer, and their counts are held against wider bounds.
	r := simulation{Replicates: replicates, FoundOf: max(1, replicates/5), Noise: noise.Quick().Run}
	nulls, powers, ways := claims.NullCases(), claims.PowerCases(), diff.Ways()
	p.start(len(nulls) + len(powers) + len(ways))
	defer p.end()
	for _, c := range nulls {
		p.step("%s", c.Name)
		proof := c.Prove(ctx, replicates, 1)
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		r.Null = append(r.Null, nullCount{c.Name, proof.FalseVerdicts, proof.FalseTests, slices.Min(slices.Collect(maps.Values(proof.Covered)))})
	}
	for _, c := range powers {
		p.step("%s", c.Name)
		promised, err := c.Promised()
		if err != nil {
			return r, err
		}
		proof := c.Prove(ctx, replicates, 2)
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		r.Power = append(r.Power, powerCount{c.Name, c.Ratio, promised, c.Kept(proof)})
	}
	for _, w := range ways {
		p.step("%s", w.Name)
		row := regressCount{Way: w.Name}
		for _, slowdown := range diff.Slowdowns {
			found := w.Found(ctx, r.FoundOf, slowdown, 7)
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			row.Found = append(row.Found, found)
		}
		r.Found = append(r.Found, row)
	}
	return r, nil
}

func (r simulation) markdown() string {
	var b strings.Builder
	share := func(n, of int) string { return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of)) }
	percent := func(n int) string { return share(n, r.Replicates) }
	fmt.Fprintf(&b, "Made-up comparisons of the noise of `%s`, %d for each row (%d in the last table); bounds are exact binomial ones, beyond which a count comes with a chance of at most %g.\n\n", r.Noise, r.Replicates, r.FoundOf, claims.Significance)
	fmt.Fprintf(&b, "| nothing differs, or not all | a false verdict (at most %s) | p (Holm) below 0.05 for a pair that is alike (at most %s) | intervals that have the truth, of the worst pair (at least %s) |\n| --- | --- | --- | --- |\n",
		percent(claims.Most(r.Replicates)), percent(claims.Most(r.Replicates)), percent(claims.Least(r.Replicates)))
	for _, c := range r.Null {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Case, percent(c.FalseVerdicts), percent(c.FalseTests), percent(c.LeastCovered))
	}
	b.WriteString("\n| one arm is dearer | true ratio | power promised | decided |\n| --- | --- | --- | --- |\n")
	for _, c := range r.Power {
		fmt.Fprintf(&b, "| %s | %.2f | %.1f %% | %.1f %% |\n", c.Case, c.Ratio, 100*c.Promised, 100*c.Kept)
	}
	b.WriteString("\n| called a regression of CPU per request where it is dearer by |")
	for _, slowdown := range diff.Slowdowns {
		fmt.Fprintf(&b, " %.0f %% |", 100*slowdown)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(diff.Slowdowns)) + "\n")
	for _, c := range r.Found {
		fmt.Fprintf(&b, "| `diff` %s |", c.Way)
		for _, n := range c.Found {
			fmt.Fprintf(&b, " %s |", share(n, r.FoundOf))
		}
		b.WriteString("\n")
	}
	return b.String() + "\n"
}
