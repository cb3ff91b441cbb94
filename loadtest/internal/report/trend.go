package report

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"math"
	"strings"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/summary"
	"lab/loadtest/internal/trend"
)

//go:embed trend.html
var trendText string

// The parts for figures and tables are those of a run's page.
var trendTemplate = template.Must(template.Must(pageTemplate.Clone()).New("trend").Parse(trendText))

// trendData is what trend.html shows.
type trendData struct {
	Title, Meta            string
	Answer, Method, Limits []string
	Changes                table
	Sections               []pageSection
	Figures                template.JS
	Policy                 string
	Style                  template.CSS
	Script                 template.JS
}

// Trend is the page of many runs: one file, with a policy that lets nothing else in.
func Trend(ctx context.Context, r trend.Result) ([]byte, error) {
	if err := chart.Ready(); err != nil {
		return nil, err
	}
	if len(r.Series) == 0 {
		return nil, errors.New("no series")
	}
	d := trendData{Title: trendTitle(r), Meta: trendMeta(r), Answer: trendAnswer(r), Method: trendMethod(r), Limits: trendLimits(r), Changes: trendChanges(r)}
	var contenders []string
	for _, s := range r.Series {
		contenders = append(contenders, s.Contender)
	}
	styles := chart.Styles(contenders)
	var figures []figureData
	for i, s := range r.Series {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x := pageSection{section: seriesSection(fmt.Sprintf("series-%d", i+1), s, styles[s.Contender], severalConditions(r))}
		data, err := newFigureData(x.ID, x.Figure.Wide(), x.Figure.Narrow())
		if err != nil {
			return nil, err
		}
		figures = append(figures, data)
		if x.Still, err = stillOf(x.Figure.Wide(), x.section); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Arm, err)
		}
		d.Sections = append(d.Sections, x)
	}
	encoded, err := json.Marshal(figures) // it writes < as \u003c, so nothing in it ends the element
	if err != nil {
		return nil, err
	}
	d.Figures = template.JS(encoded)
	style, script := chart.FontCSS()+"\n"+strings.TrimSpace(pageCSS), chart.Script()+"\n"+strings.TrimSpace(pageJS)
	if endsElement.MatchString(script) || endsElement.MatchString(style) {
		return nil, errors.New("page: its own script or style would end its element")
	}
	d.Style, d.Script = template.CSS(style), template.JS(script)
	d.Policy = policy(script, style)
	var body bytes.Buffer
	if err := trendTemplate.Execute(&body, d); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return bytes.Map(chart.Upright, body.Bytes()), nil
}

func severalConditions(r trend.Result) bool {
	for _, s := range r.Series {
		if s.Conditions != r.Series[0].Conditions {
			return true
		}
	}
	return false
}

// span is from the first to the last night of all.
func span(r trend.Result) (first, last trend.Night) {
	first, last = r.Series[0].Nights[0], r.Series[0].Nights[0]
	for _, s := range r.Series {
		for _, n := range s.Nights {
			if n.Began.Before(first.Began) {
				first = n
			}
			if n.Began.After(last.Began) {
				last = n
			}
		}
	}
	return first, last
}

const dayFormat = "2006-01-02"

func trendTitle(r trend.Result) string {
	first, last := span(r)
	return fmt.Sprintf("CPU per request from %s to %s", first.Began.UTC().Format(dayFormat), last.Began.UTC().Format(dayFormat))
}

func trendMeta(r trend.Result) string {
	var kinds []string
	seen := map[string]bool{}
	for _, s := range r.Series {
		if !seen[s.Conditions] {
			seen[s.Conditions] = true
			kinds = append(kinds, chart.Clean(s.Conditions, 400))
		}
	}
	return strings.Join(kinds, " · and · ")
}

func seriesName(s trend.Series) string {
	return chart.Clean(s.Arm, labelRunes) + ", " + chart.Clean(strings.ToUpper(s.Operation)+summary.OfScenario(s.Scenario), 48)
}

func changeWords(s trend.Series, c trend.Change) string {
	words := fmt.Sprintf("%s: %s from %s on, ratio %s", seriesName(s), percentChange(c.Ratio), s.Nights[c.Night].Began.UTC().Format(dayFormat), two(c.Ratio))
	if c.RatioLow != nil && c.RatioHigh != nil {
		words += fmt.Sprintf(" (95 %%: %s–%s)", two(*c.RatioLow), two(*c.RatioHigh))
	}
	if c.Floor != nil {
		words += fmt.Sprintf("; its floor meanwhile: %s", percentChange(*c.Floor))
	}
	return words + "."
}

func percentChange(ratio float64) string {
	if ratio >= 1 {
		return one(100*(ratio-1)) + " % dearer"
	}
	return one(100*(1-ratio)) + " % cheaper"
}

func trendAnswer(r trend.Result) []string {
	var out []string
	for _, s := range r.Series {
		for _, c := range s.Changes {
			out = append(out, changeWords(s, c))
		}
	}
	if len(out) == 0 {
		out = append(out, "No change of CPU per request was found.")
	}
	if len(r.Short) > 0 {
		out = append(out, "Too few nights for a change to be found: "+chart.Clean(strings.Join(r.Short, "; "), 2000)+".")
	}
	return out
}

func trendMethod(r trend.Result) []string {
	e := r.Error
	rate := 100 * float64(e.Found) / float64(max(1, e.Replicates))
	return []string{
		upperFirst(r.Method) + ".",
		fmt.Sprintf("Its error rate: in %s made-up histories of %d series of %s, drawn from recorded noise and without a change, one was found in %s %%.", count(uint64(e.Replicates)), e.Series, summary.Plural(e.Nights, "night"), one(rate)),
	}
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func trendLimits(r trend.Result) []string {
	out := []string{
		"That nothing changed where no change was found: a change of less than 5 %, or of the last three nights, is not looked at.",
		"Whether it was the program or the machine, other than by the floors: nights are apart in time, and nothing pairs them. Interleave the two revisions (loadtest diff --base --head) to know.",
		"Nights that depend on each other, as those of a machine that ages do, change more often than the error rate says.",
	}
	if severalConditions(r) {
		out = append(out, "How series under different conditions compare: they are shown beside each other only.")
	}
	return out
}

func trendChanges(r trend.Result) table {
	t := table{Caption: "Changes of CPU per request", Heads: []string{"arm", "operation", "first night after", "after ÷ before", "95 %", "p", "p, corrected", "its floor, after ÷ before"}}
	for _, s := range r.Series {
		for _, c := range s.Changes {
			interval := "–"
			if c.RatioLow != nil && c.RatioHigh != nil {
				interval = two(*c.RatioLow) + "–" + two(*c.RatioHigh)
			}
			t.Rows = append(t.Rows, []string{s.Arm, strings.ToUpper(s.Operation) + summary.OfScenario(s.Scenario), c.Run, two(c.Ratio), interval, fmt.Sprintf("%.2g", c.P), fmt.Sprintf("%.2g", c.PCorrected), optional(c.Floor, two)})
		}
	}
	return t
}

// seriesSection has a row for each night, in groups between which the figure changed.
func seriesSection(id string, s trend.Series, style chart.Style, withConditions bool) section {
	title := seriesName(s)
	lead := "One row a night. Bar: median of the blocks. Whisker: its 95 % interval (order statistics, exact), where there are at least six. Marks below: single trials. A gap between rows: a change."
	if withConditions {
		lead += " " + chart.Clean(s.Conditions, 400) + "."
	}
	group, change := 0, 0
	var rows []chart.Row
	t := table{Caption: "Each night of " + title, Heads: []string{"night", "run", "CPU per request, µs", "95 %", "p50 ms", "throughput /s", "trials", "requests"}}
	var finding []string
	for i, n := range s.Nights {
		note := s.Tier
		if change < len(s.Changes) && s.Changes[change].Night == i {
			note = percentChange(s.Changes[change].Ratio)
			finding = append(finding, changeWords(s, s.Changes[change]))
			group++
			change++
		}
		_, a := n.Arm()
		p50 := a.Latency(summary.Percentiles()[0])
		var cells []chart.Cell
		for _, q := range []struct {
			of     summary.Quantity
			format func(float64) string
			unit   string
		}{{a.CPU(), whole, "µs"}, {p50, milli, "ms"}, {a.Answers(), whole, "answers a second"}} {
			cells = append(cells, cell(a, q.of, q.format, q.unit))
		}
		day := n.Began.UTC().Format(dayFormat)
		rows = append(rows, chart.Row{Label: day, Note: chart.Clean(note, labelRunes), Alarm: note != s.Tier, Style: style, Tier: s.Tier, Group: group, Cells: cells})
		interval := "too few"
		if n.Low != nil && n.High != nil {
			interval = whole(*n.Low) + "–" + whole(*n.High)
		}
		t.Rows = append(t.Rows, []string{day, n.Run, whole(n.CPU), interval, milli(p50.Median), whole(a.Answers().Median), fmt.Sprint(n.Trials), count(a.CPU().Requests())})
	}
	if len(finding) == 0 {
		low, high := math.Inf(1), math.Inf(-1)
		for _, n := range s.Nights {
			low, high = math.Min(low, n.CPU), math.Max(high, n.CPU)
		}
		finding = []string{fmt.Sprintf("%s: no change was found in %s; medians from %s to %s µs.", title, summary.Plural(len(s.Nights), "night"), whole(low), whole(high))}
	}
	f := chart.Rows{
		ID: id, Title: "CPU per request, p50 and throughput, " + title, Subtitle: fmt.Sprintf("%s, the oldest on top. Changes are looked for in CPU per request.", summary.Plural(len(s.Nights), "night")),
		Finding: strings.Join(finding, " "),
		Panels: []chart.Panel{
			{Title: "CPU per request", Axis: "CPU per request, µs", Format: "number"}, {Title: "p50", Axis: "p50, ms", Format: "number"}, {Title: "throughput", Axis: "right answers a second", Format: "number"},
		},
		Rows: rows,
	}.Figure()
	return section{id, title, lead, &f, t}
}
