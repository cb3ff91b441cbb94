// Package report makes of a run's records what people read: one HTML page, pictures, and the run's README. It needs
// neither an engine nor the network, reads no clock, and gives the same bytes for the same records.
package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"lab/loadtest/internal/capacity"
	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// Options say how a report is made.
type Options struct {
	// CacheDir keeps what was compiled for drawing pictures; empty: nothing is kept.
	CacheDir string
	// NoPage leaves out report.html, for records whose page is made where it is read.
	NoPage bool
	// NoPNG leaves out the pictures that are not SVG.
	NoPNG bool
}

// ErrNoPictures says why a run has no pictures.
var ErrNoPictures = errors.New("a run that is no evidence is not exported as pictures: they would travel without saying so")

// File is one file of a report.
type File struct {
	Name    string // with /
	Content []byte
}

// Report is what was made.
type Report struct {
	Files []File
	// NoPictures is nil, or why there are none.
	NoPictures error
}

// Make makes the report of a run's records. Nothing is written.
func Make(ctx context.Context, s record.Saved, o Options) (Report, error) {
	if err := chart.Ready(); err != nil {
		return Report{}, err
	}
	b, err := open(s)
	if err != nil {
		return Report{}, err
	}
	sections := b.sections()
	var out Report
	if !o.NoPage {
		page, err := b.page(ctx, sections)
		if err != nil {
			return out, err
		}
		out.Files = append(out.Files, File{"report.html", page})
	}
	if s.Run.Evidence {
		pictures, err := b.pictures(ctx, sections, o)
		if err != nil {
			return out, err
		}
		out.Files = append(out.Files, pictures...)
	} else {
		out.NoPictures = fmt.Errorf("%w (profile %s)", ErrNoPictures, s.Run.Profile)
	}
	out.Files = append(out.Files, File{"README.md", []byte(b.markdown(sections))})
	return out, nil
}

// Write puts the files into a run's folder, each whole or not at all.
func (r Report) Write(dir string) error {
	for _, f := range r.Files {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := record.WriteFile(path, f.Content); err != nil {
			return err
		}
	}
	return nil
}

func open(s record.Saved) (*build, error) {
	if err := claims.Check(s.Run); err != nil {
		return nil, fmt.Errorf("run.json of %s: %w", s.Run.ID, err)
	}
	if err := capacity.Check(s.Run); err != nil {
		return nil, fmt.Errorf("run.json of %s: %w", s.Run.ID, err)
	}
	s.Run.Verdicts = claims.Worded(s.Run)
	b := &build{run: s.Run, groups: summary.Groups(s.Run), logs: map[string]map[string]*latencies{}, runtimes: map[string]map[string]runtimeOf{}, atMost: map[string]map[string]runtimeOf{}, pauses: map[string]map[string][]pauseBeside{}}
	var contenders []string
	for _, t := range s.Run.Trials {
		contenders = append(contenders, t.Contender)
	}
	b.styles = chart.Styles(contenders)
	b.prefixes = map[string]string{}
	for i, g := range b.groups {
		prefix := fileName(g.Operation)
		if b.scenario(g) != nil {
			prefix = fileName(g.Scenario)
		}
		if slices.ContainsFunc(b.groups[:i], func(other summary.Group) bool { return fileName(other.Operation) == prefix }) {
			prefix = fmt.Sprintf("%s-%d", prefix, i+1) // another scenario, or names that differ in what files cannot carry
		}
		b.prefixes[groupKey(g)] = prefix
	}
	for _, g := range b.groups {
		of := map[string]*latencies{}
		b.logs[groupKey(g)] = of
		if g.Closed {
			continue // no request was intended, so there is no latency from an intended send
		}
		for _, a := range g.Arms {
			for _, t := range a.Rate {
				seconds, err := b.seconds(s, g, t)
				if err != nil {
					return nil, err
				}
				if len(seconds) == 0 {
					continue
				}
				if of[a.Name] == nil {
					of[a.Name] = &latencies{all: empty(seconds[0])}
				}
				of[a.Name].add(t, seconds)
				if err := b.addPauses(s, g, t, seconds); err != nil {
					return nil, err
				}
			}
			if err := b.readRuntime(s, g, a); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// seconds are a trial's response times in each second; of a mix, those of the operation whose latencies decide.
func (b *build) seconds(s record.Saved, g summary.Group, t record.Trial) ([]*hdr.Histogram, error) {
	if x := b.scenario(g); x != nil && len(x.Mix) > 0 {
		return s.SecondsOf(t, g.Operation)
	}
	return s.Seconds(t)
}

func empty(like *hdr.Histogram) *hdr.Histogram {
	return hdr.New(like.LowestTrackableValue(), like.HighestTrackableValue(), int(like.SignificantFigures()))
}

func (l *latencies) add(t record.Trial, seconds []*hdr.Histogram) {
	x := trialSeconds{trial: t}
	for k, h := range seconds {
		if k == len(l.seconds) {
			l.seconds = append(l.seconds, empty(h))
		}
		l.seconds[k].Merge(h)
		l.all.Merge(h)
		n := uint64(h.TotalCount())
		f := secondFigures{n, math.NaN(), math.NaN()}
		if stats.Carries(0.5, n) {
			f.p50 = float64(h.ValueAtQuantile(50)) / 1e6
		}
		if stats.Carries(0.99, n) {
			f.p99 = float64(h.ValueAtQuantile(99)) / 1e6
		}
		x.seconds = append(x.seconds, f)
	}
	l.trials = append(l.trials, x)
}

// sections are the charts in the order of the page; the first carries the answer.
func (b *build) sections() []section {
	if len(b.groups) == 0 {
		return nil
	}
	if b.isAttack() {
		return b.attackSections()
	}
	var out []section
	if b.groups[0].Closed {
		out = b.bench()
		for _, g := range b.groups {
			out = append(out, b.throughput(g))
		}
		for _, g := range b.groups {
			if m := b.memory(g); m != nil {
				out = append(out, *m)
			}
			if p := b.parts(g); p != nil {
				out = append(out, *p)
			}
		}
		return b.named(out)
	}
	headlines, claimed := b.headlines()
	for _, g := range claimed {
		if len(b.groups) == 1 {
			headlines = claimed // a scenario alone has the usual charts too
		}
		out = append(out, b.claim(g, b.scenario(g))...)
		if len(b.groups) > 1 {
			out = append(out, b.explained(g, b.scenario(g))...)
		}
	}
	claim := out
	out = nil
	for i, g := range headlines {
		out = append(out, b.cpu(g))
		if i == 0 {
			if p := b.pairs(); p != nil {
				out = append(out, *p)
			}
			if o := b.outweighs(g); o != nil {
				out = append(out, *o)
			}
		}
		if slices.ContainsFunc(g.Arms, func(a summary.Arm) bool { return len(a.Throughput) > 0 }) {
			out = append(out, b.throughput(g))
		}
		if l := b.latencyPercentiles(g); l != nil {
			out = append(out, *l, b.latencyTrials(g))
		}
		if l := b.latencyTime(g); l != nil {
			out = append(out, *l)
		}
		out = append(out, b.runtime(g)...)
		if m := b.memory(g); m != nil {
			out = append(out, *m)
		}
		if p := b.parts(g); p != nil {
			out = append(out, *p)
		}
	}
	out = append(b.named(out), b.capacitySections()...)
	if len(headlines) == 0 || len(claimed) == len(b.groups) {
		out = append(claim, out...)
	} else {
		out = append(out, claim...)
	}
	return out
}

// named tells sections of several operations apart.
func (b *build) named(sections []section) []section {
	headlines, _ := b.headlines()
	if len(headlines) < 2 {
		return sections
	}
	for i, s := range sections {
		for _, g := range headlines {
			if strings.HasPrefix(s.ID, b.id(g, "")) {
				sections[i].Title += ", " + operation(g)
			}
		}
	}
	return sections
}

// source is the line under a picture: where its numbers come from.
func (b *build) source() string {
	r := b.run
	interrupted := ""
	if !r.Complete { // pictures travel without the page that says so
		interrupted = "INTERRUPTED · "
	}
	return chart.Clean(interrupted+fmt.Sprintf("Run %s · %s · %s · seed %d", r.ID, r.Began.UTC().Format("2006-01-02"), b.machine(" · "), r.Seed), 170)
}

// machine is the processor, and where the server ran on it as far as that is known.
func (b *build) machine(separator string) string {
	e := b.run.Environment
	if b.isAttack() {
		return e.CPUModel + separator + summary.Plural(len(e.CPUs), "CPU")
	}
	return fmt.Sprintf("%s, server on %s of %d%s%s", e.CPUModel, summary.Plural(len(e.Placement["contender"]), "CPU"), len(e.CPUs), separator, engineWords(e.Engine))
}

func engineWords(name string) string {
	if name == "" {
		return "engine unknown"
	}
	return "engine " + chart.Clean(name, labelRunes)
}

// pictureZoom gives PNGs twice as wide as laid out, for screens of high density.
const pictureZoom = 2

func (b *build) pictures(ctx context.Context, sections []section, o Options) (files []File, err error) {
	var rasteriser *chart.Rasteriser
	if !o.NoPNG {
		if rasteriser, err = chart.NewRasteriser(ctx, o.CacheDir); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, rasteriser.Close(context.WithoutCancel(ctx))) }()
	}
	for _, s := range sections {
		if s.Figure == nil {
			continue
		}
		for _, theme := range chart.Themes() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			svg, err := s.Figure.Picture(b.source()).SVG(theme, s.Figure.Title, s.Figure.Finding)
			if err != nil {
				return nil, fmt.Errorf("chart %s: %w", s.ID, err)
			}
			name := "charts/" + s.ID + "-" + theme
			files = append(files, File{name + ".svg", []byte(svg)})
			if rasteriser == nil {
				continue
			}
			png, err := rasteriser.PNG(ctx, svg, pictureZoom)
			if err != nil {
				return nil, fmt.Errorf("chart %s: %w", s.ID, err)
			}
			files = append(files, File{name + ".png", png})
		}
	}
	return files, nil
}

// Equal tells whether a folder has the files of a report, byte for byte, and names the first that differs.
func (r Report) Equal(dir string) error {
	for _, f := range r.Files {
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Name)))
		if err != nil {
			return err
		}
		if !bytes.Equal(b, f.Content) {
			return fmt.Errorf("%s: differs from what its records give", filepath.Join(dir, f.Name))
		}
	}
	return nil
}
