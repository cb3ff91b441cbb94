package report

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// leaf is one end of the article's decision tree: a question whose yes leads there, what the article advises then, and the
// claims that have to do with it, by their ids in contract/scenarios.
type leaf struct {
	question, advice string
	// decides are the claims without which the advice does not follow; beside are what else one would want to know there.
	decides, beside []string
	// but is what the claims that decide leave open.
	but string
}

// leaves are those of the article, in its order.
var leaves = []leaf{
	{"Is the work CRUD that mostly waits for databases and services?", "take the language that the team writes; batch with DataLoader and read from a replica",
		[]string{"io-bound", "latency-budget", "n-plus-one", "replica"}, []string{"dataloader-equal", "library", "pool-recovery", "parts-away"},
		"Equal in time is not equal in CPU: what a request costs, by language and by library, stands with the claim “library”, and a replica takes work off the primary and can answer with what was true a moment ago."},
	{"Is there high traffic over state that requests share, or much CPU work in each?", "take Go or Rust, whose threads share memory; Node needs processes with copies, or workers",
		[]string{"shared-state", "parallel-cpu", "cluster-memory"}, []string{"head-of-line", "connections", "hand-over", "worker-killed", "memory-or-redis"},
		"How far it carries to more cores than this machine has nobody measured here."},
	{"Is there a latency target so tight that single pauses break it?", "take Rust, which has no garbage collector, with an allocator and a runtime that suit it",
		[]string{"gc-tail"}, []string{"allocator", "work-stealing", "concurrent-start"},
		"Of the claims beside it the allocator's is about CPU, and that of the start about the first moments of a server: neither is a latency."},
}

// theTeam is the question that the article asks first, and beyondMeasuring why no run of the lab answers it.
const theTeam = "Does the team write Rust or Go?"

const beyondMeasuring = "No benchmark can say whether the team writes Rust or Go today, whom it can hire, what it costs to run and to teach two languages, or what one language for front and back end and their shared types save. The article asks that first, and so should whoever decides: the figures below only say what is paid in CPU, memory and time for the answer."

const notMeasured = "not measured in this run"

// borne is what a run says of one claim.
type borne struct {
	ID, Claim, Verdict, Words string
}

// bears is what the run says of a claim of that id.
func (b *build) bears(id string) borne {
	verdicts := summary.VerdictsOf(b.run, id)
	if o := b.run.Outweighs; o != nil && id == libraryID {
		verdicts = summary.Outweighing(b.run)
		if len(verdicts) > 0 {
			return borne{id, o.Claim, claims.Overall(verdicts), sentences([]string{b.outweighsWords(verdicts), b.libraryWords(b.headlineVerdicts())})}
		}
	}
	x := borne{ID: id, Verdict: notMeasured}
	s := b.run.ScenarioNamed(id)
	switch {
	case s != nil:
		x.Claim = s.Claim
		for _, v := range verdicts {
			x.Words = strings.TrimSpace(x.Words + " " + sentences([]string{claimedWords(v, s)}))
		}
		x.Words = strings.TrimSpace(x.Words + " " + b.besideVerdict(s))
	case id == libraryID && len(verdicts) > 0:
		x.Claim, x.Words = libraryClaim, b.libraryWords(verdicts)
	default:
		return x
	}
	if len(verdicts) > 0 {
		x.Verdict = claims.Overall(verdicts)
	}
	return x
}

// besideVerdict is what the figures say of a claim that its verdict leaves open.
func (b *build) besideVerdict(s *record.Scenario) string {
	for _, g := range b.groups {
		switch {
		case b.scenario(g) != s:
		case slices.Contains(aboutPauses, s.Metric):
			return b.pauseWords(g, s)
		case s.Metric == contract.MetricHandOver:
			return b.startWords(g, s)
		}
	}
	return ""
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
		words = append(words, "Between languages, by their usual libraries: "+list(between))
	}
	return sentences(words)
}

// follows says whether the advice follows from the claims that decide it.
func follows(of []borne) string {
	by := map[string][]string{}
	for _, x := range of {
		by[x.Verdict] = append(by[x.Verdict], x.ID)
	}
	var words []string
	for _, verdict := range []string{claims.Contradicted, claims.TooClose, claims.Untested, notMeasured, claims.Holds} {
		if ids := by[verdict]; len(ids) > 0 {
			words = append(words, list(ids)+": "+verdict)
		}
	}
	said := strings.Join(words, "; ")
	switch {
	case len(by[claims.Holds]) == len(of):
		return "This run bears it out: of what decides it, " + said + "."
	case len(by[claims.Contradicted]) > 0:
		return "This run speaks against it: of what decides it, " + said + "."
	case len(by[notMeasured]) == len(of):
		return "This run says nothing of it: " + said + "."
	case len(by[claims.Holds])+len(by[notMeasured]) == len(of):
		return "This run alone does not settle it: of what decides it, " + said + "."
	}
	return "This run leaves it open: of what decides it, " + said + "."
}

// guideLeaf is a leaf with what a run measured of the claims behind it.
type guideLeaf struct {
	Question, Advice string
	Claims           []borne // those that were measured
}

// guideData is the article's decision tree with what a run measured at its leaves.
type guideData struct {
	Lead   string
	Leaves []guideLeaf
}

// guide is that tree; nil where the run measured no claim.
func (b *build) guide() *guideData {
	if len(b.run.Scenarios) == 0 {
		return nil
	}
	g := &guideData{
		Lead:   "The article ends in four questions. The first is the team's; each of the others leads to an advice. Some claims decide whether it follows, and come first; the others are beside it. With each stands what this run measured on this machine.",
		Leaves: []guideLeaf{{Question: theTeam, Advice: beyondMeasuring}},
	}
	for _, l := range leaves {
		bears := func(ids []string) (of []borne) {
			for _, id := range ids {
				of = append(of, b.bears(id))
			}
			return of
		}
		deciding := bears(l.decides)
		g.Leaves = append(g.Leaves, guideLeaf{
			l.question, fmt.Sprintf("Then, says the article, %s. %s %s", l.advice, follows(deciding), l.but),
			slices.DeleteFunc(slices.Concat(deciding, bears(l.beside)), func(x borne) bool { return x.Verdict == notMeasured }),
		})
	}
	return g
}

// markdown writes the tree under headings of that level.
func (g *guideData) markdown(m *strings.Builder, level string) {
	paragraph(m, g.Lead)
	for _, l := range g.Leaves {
		fmt.Fprintf(m, "%s %s\n\n", level, escape(l.Question))
		paragraph(m, l.Advice)
		for _, x := range l.Claims {
			fmt.Fprintf(m, "- **%s**: %s. **%s** %s\n", escape(x.ID), escape(strings.TrimSuffix(x.Claim, ".")), escape(capital(x.Verdict)+"."), escape(x.Words))
		}
		if len(l.Claims) > 0 {
			m.WriteString("\n")
		}
	}
}

// Guide is that tree as Markdown, for docs/DECIDING.md. The folder is where the run is, seen from that page, with a slash at
// its end.
func Guide(s record.Saved, folder string) (string, error) {
	b, err := open(s)
	if err != nil {
		return "", err
	}
	g := b.guide()
	if g == nil {
		return "", errors.New("the run has no claims, so there is nothing to decide by: measure them with --scenario all")
	}
	var m strings.Builder
	g.markdown(&m, "###")
	r := b.run
	paragraph(&m, measuredOn(r, b.machine(", ")))
	fmt.Fprintf(&m, "Made by `%s`; [every trial and all charts](%sREADME.md).\n", strings.ReplaceAll(command(r.Command), "`", "'"), folder)
	return m.String(), nil
}
