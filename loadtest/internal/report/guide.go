package report

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// leaf is one end of the article's decision tree: a question whose yes leads there, what the article advises then, and the
// claims that the advice leans on.
type leaf struct {
	question, advice string
	claims           []string // ids of contract/scenarios
}

// leaves are those of the article, in its order.
var leaves = []leaf{
	{"Is the work CRUD that mostly waits for databases and services?", "take the language that the team writes; batch with DataLoader and read from a replica",
		[]string{"io-bound", "latency-budget", "n-plus-one", "dataloader-equal", "library", "replica", "pool-recovery"}},
	{"Is there high traffic over state that requests share, or much CPU work in each?", "take Go or Rust, whose threads share memory; Node needs processes with copies, or workers",
		[]string{"shared-state", "parallel-cpu", "head-of-line", "connections", "hand-over", "cluster-memory", "memory-or-redis"}},
	{"Is there a latency target so tight that single pauses break it?", "take Rust, which has no garbage collector, with an allocator and a runtime that suit it",
		[]string{"gc-tail", "allocator", "work-stealing", "concurrent-start"}},
}

// beyondMeasuring is what no run of the lab can say anything about.
const beyondMeasuring = "No benchmark can say whether the team writes Rust or Go today, whom it can hire, what it costs to run and to teach two languages, or what one language for front and back end and their shared types save. The article asks that first, and so should whoever decides: these figures only say what is paid in CPU, memory and time for the answer."

const notMeasured = "not measured in this run"

// borne is what a run says of one claim.
type borne struct {
	id, claim, verdict, words string
}

// bears is what the run says of a claim of that id.
func (b *build) bears(id string) borne {
	verdicts := summary.VerdictsOf(b.run, id)
	x := borne{id: id, verdict: notMeasured}
	s := b.run.ScenarioNamed(id)
	switch {
	case s != nil:
		x.claim = s.Claim
		for _, v := range verdicts {
			x.words = strings.TrimSpace(x.words + " " + sentences([]string{claimedWords(v, s)}))
		}
	case id == libraryID && len(verdicts) > 0:
		x.claim = libraryClaim
		x.words = b.libraryWords(verdicts)
	default:
		return x
	}
	if len(verdicts) > 0 {
		x.verdict = claims.Overall(verdicts)
	}
	return x
}

const (
	libraryID    = "library"
	libraryClaim = "the choice of library can outweigh the choice of language"
)

// libraryWords hold what a library costs over its language's floor against what languages differ by.
func (b *build) libraryWords(verdicts []record.Verdict) string {
	var over, between []string
	for _, g := range b.groups {
		if g.Scenario != libraryID {
			continue
		}
		for _, a := range g.Arms {
			if q := g.OverFloor(a); a.Tier != "floor" && len(q.Values) > 0 {
				over = append(over, fmt.Sprintf("%s %s", a.Name, two(q.Median)))
			}
		}
	}
	for _, v := range verdicts {
		if v.Ratio != nil {
			between = append(between, fmt.Sprintf("%s to %s %s", v.Arms[0], v.Arms[1], ratioText(v)))
		}
	}
	var words []string
	if len(over) > 0 {
		words = append(words, "CPU per request over that language's floor, times: "+list(over))
	}
	if len(between) > 0 {
		words = append(words, "between languages, by their usual libraries: "+list(between))
	}
	return sentences(words)
}

// tally counts the verdicts of a leaf's claims, in words.
func tally(of []borne) string {
	n := map[string]int{}
	for _, x := range of {
		n[x.verdict]++
	}
	var words []string
	for _, verdict := range []string{claims.Holds, claims.Contradicted, claims.TooClose, claims.Untested, notMeasured} {
		if n[verdict] > 0 {
			words = append(words, fmt.Sprintf("%s: %d", verdict, n[verdict]))
		}
	}
	return fmt.Sprintf("of the %d claims behind it, %s", len(of), strings.Join(words, ", "))
}

func (b *build) borneBy(l leaf) []borne {
	var out []borne
	for _, id := range l.claims {
		out = append(out, b.bears(id))
	}
	return out
}

// guide is the article's decision tree with what this run measured at its leaves; nil where it measured no claim.
func (b *build) guide() *section {
	if len(b.run.Scenarios) == 0 {
		return nil
	}
	t := table{Caption: "The article's decision tree, with this run's verdicts", Heads: []string{"if", "then", "claim behind it", "verdict", "what was measured"}}
	for _, l := range leaves {
		of := b.borneBy(l)
		t.Rows = append(t.Rows, []string{l.question, l.advice, tally(of), "", ""})
		for _, x := range of {
			if x.verdict != notMeasured {
				t.Rows = append(t.Rows, []string{"", "", x.id + ": " + x.claim, x.verdict, x.words})
			}
		}
	}
	return &section{ID: "guide", Title: "Which language, then?", Lead: "The article ends in three questions. Each leads to an advice, which leans on claims; beside each claim stands what this run measured on this machine. " + beyondMeasuring, Table: t}
}

// Guide is that tree as Markdown, for docs/DECIDING.md. The folder is where the run is, seen from that page, with a slash at
// its end.
func Guide(s record.Saved, folder string) (string, error) {
	b, err := open(s)
	if err != nil {
		return "", err
	}
	if len(s.Run.Scenarios) == 0 {
		return "", errors.New("the run has no claims, so there is nothing to decide by: measure them with --scenario all")
	}
	var m strings.Builder
	for _, l := range leaves {
		of := b.borneBy(l)
		fmt.Fprintf(&m, "### %s\n\n", escape(l.question))
		paragraph(&m, fmt.Sprintf("Then, says the article, %s. On this machine, %s.", l.advice, tally(of)))
		t := table{Heads: []string{"claim", "verdict", "what was measured"}}
		for _, x := range of {
			claim := x.id
			if x.claim != "" {
				claim += ": " + x.claim
			}
			t.Rows = append(t.Rows, []string{claim, x.verdict, x.words})
		}
		t.markdown(&m)
	}
	m.WriteString("### What no benchmark can say\n\n")
	paragraph(&m, beyondMeasuring)
	r := b.run
	paragraph(&m, fmt.Sprintf("%s; PostgreSQL %s; %s.", b.machine(", "), r.Environment.PostgreSQL, r.Began.UTC().Format("2006-01-02")))
	fmt.Fprintf(&m, "Made by `%s`; [every trial and all charts](%sREADME.md).\n", strings.ReplaceAll(command(r.Command), "`", "'"), folder)
	return m.String(), nil
}

// Leaves are the ids of the claims that the tree asks for.
func Leaves() []string {
	var out []string
	for _, l := range leaves {
		out = append(out, l.claims...)
	}
	slices.Sort(out)
	return out
}
