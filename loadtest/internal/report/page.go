package report

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"regexp"
	"strings"
	"unicode/utf8"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/summary"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"long": long}).Parse(pageText))

// long text of a cell is wrapped: on one line it would run into the next cell.
func long(cell string) bool { return utf8.RuneCountInString(cell) > 48 }

// pageData is what page.html shows.
type pageData struct {
	Title      string
	ID         string
	Measured   string
	Machine    string
	Cautions   []string
	NoEvidence string // empty for a run that is evidence
	What       []string
	Answer     []string
	Limits     []string
	Warnings   []string
	First      *pageSection
	Sections   []pageSection
	Guide      *guideData
	Conforming table
	Environ    []fact
	Trials     table
	Voids      table
	Order      table
	Command    string
	Seed       uint64
	Figures    template.JS
	Policy     string
	Style      template.CSS
	Script     template.JS
}

type pageSection struct {
	section
	Still template.HTML // the chart as it is without scripts, and on paper
}

// figureData is a figure as the page's script has it. Of the narrow view, a series that the wide one has just so is its place
// there, a number: together they are most of a page.
type figureData struct {
	ID     string     `json:"id"`
	Wide   chart.View `json:"wide"`
	Narrow chart.View `json:"narrow"`
}

func newFigureData(id string, wide, narrow chart.View) (figureData, error) {
	places := map[string]int{}
	each := func(v chart.View, do func(place int, series any, text string)) error {
		list, _ := v.Option["series"].(chart.A)
		for i, x := range list {
			b, err := json.Marshal(x)
			if err != nil {
				return fmt.Errorf("chart %s: %w", id, err)
			}
			do(i, x, string(b))
		}
		return nil
	}
	if err := each(wide, func(place int, _ any, text string) { places[text] = place }); err != nil {
		return figureData{}, err
	}
	series := chart.A{}
	if err := each(narrow, func(_ int, x any, text string) {
		if place, ok := places[text]; ok {
			x = place
		}
		series = append(series, x)
	}); err != nil {
		return figureData{}, err
	}
	narrow.Option = maps.Clone(narrow.Option)
	narrow.Option["series"] = series
	return figureData{id, wide, narrow}, nil
}

// stillOf is a section's chart as an element. The renderer escapes what it is given.
func stillOf(v chart.View, s section) (template.HTML, error) {
	svg, err := v.Inline("light", s.ID, "Chart: "+s.Figure.Title+". "+s.Figure.Finding)
	if err != nil {
		return "", fmt.Errorf("chart %s: %w", s.ID, err)
	}
	return template.HTML(svg), nil
}

// page is report.html: everything in one file, and a policy that lets nothing else in.
func (b *build) page(ctx context.Context, sections []section) ([]byte, error) {
	r := b.run
	d := pageData{
		Title: b.headline(), ID: r.ID, Measured: r.Began.UTC().Format("2006-01-02 15:04 UTC"), Answer: b.answer(), Limits: b.limits(), Warnings: r.Warnings,
		Guide: b.guide(), Conforming: b.conformanceTable(), Environ: b.environment(), Trials: b.trialTable(), Voids: b.voids(), Order: b.order(), Command: command(r.Command), Seed: r.Seed,
		Machine: b.machine(", "),
	}
	for line := range strings.Lines(summary.Caution(r)) {
		d.Cautions = append(d.Cautions, strings.TrimSpace(line))
	}
	var marks []string
	if !r.Evidence {
		d.NoEvidence = "No evidence"
		marks = append(marks, "no evidence")
	}
	for _, g := range b.groups {
		d.What = append(d.What, summary.What(r, g))
	}
	if bad := b.notProven(); bad != "" {
		d.Cautions = append(d.Cautions, bad)
		marks = append(marks, "not conformant")
	}
	watermark := strings.Join(marks, " · ")
	var figures []figureData
	for i, s := range sections {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x := pageSection{section: s}
		if s.Figure != nil {
			wide, narrow, still := s.Figure.Wide(), s.Figure.Narrow(), s.Figure.Wide()
			if watermark != "" {
				wide, narrow, still = wide.Watermark(watermark), narrow.Watermark(watermark), still.Watermark(watermark)
			}
			data, err := newFigureData(s.ID, wide, narrow)
			if err != nil {
				return nil, err
			}
			figures = append(figures, data)
			if x.Still, err = stillOf(still, s); err != nil {
				return nil, err
			}
		}
		if i == 0 {
			d.First = &x
			continue
		}
		d.Sections = append(d.Sections, x)
	}
	// The encoder writes < as \u003c, so nothing in it ends the element.
	encoded, err := json.Marshal(figures)
	if err != nil {
		return nil, err
	}
	d.Figures = template.JS(encoded)
	style := chart.FontCSS() + "\n" + strings.TrimSpace(pageCSS)
	if !r.Evidence {
		style += noEvidenceOnPaper
	}
	script := chart.Script() + "\n" + strings.TrimSpace(pageJS)
	if endsElement.MatchString(script) || endsElement.MatchString(style) {
		return nil, errors.New("page: its own script or style would end its element")
	}
	d.Style, d.Script = template.CSS(style), template.JS(script)
	d.Policy = policy(script, style)
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, d); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return bytes.Map(chart.Upright, body.Bytes()), nil
}

// noEvidenceOnPaper says it in the margin of every sheet.
const noEvidenceOnPaper = `
@media print { @page { @bottom-center { content: "NO EVIDENCE: this run only shows that everything works."; color: #8a1812; font: 600 9pt Inter, sans-serif; } } }`

var endsElement = regexp.MustCompile(`(?i)</(script|style)|<!--`)

// policy lets a page have its own script, style, icon and letters, and nothing else.
func policy(script, style string) string {
	return fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; img-src data:; font-src data:; base-uri 'none'; form-action 'none'", digest(script), digest(style))
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
