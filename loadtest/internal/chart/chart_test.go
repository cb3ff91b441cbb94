package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dop251/goja"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func needsAssets(t *testing.T) {
	t.Helper()
	if err := Ready(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func rowsFigure(labels ...string) Figure {
	var names []string
	for i := range labels {
		names = append(names, fmt.Sprint(i))
	}
	styles := Styles(names)
	r := Rows{ID: "x", Title: "Title " + labels[0], Subtitle: "Subtitle " + labels[0], Finding: "Finding " + labels[0], Panels: []Panel{{Title: labels[0], Axis: "µs", Format: "number"}, {Axis: "ratio", Format: "ratio", Log: true, Line: 1, Band: [2]float64{0.9, 1.1}, BandLabel: "band"}}}
	for i, l := range labels {
		c := Cell{Mid: 100 + float64(i), Low: 90, High: 120, Text: "100", Small: "90–120", Tip: []string{l, "median 100 µs"}, Dots: []Dot{{90, []string{l, "90"}}, {120, []string{l, "120"}}}}
		r.Rows = append(r.Rows, Row{Label: l, Note: l, Style: styles[fmt.Sprint(i)], Tier: "mainstream", Cells: []Cell{c, c}})
	}
	return r.Figure()
}

func curvesFigure(name string) Figure {
	c := Curves{ID: "y", Title: name, Percentile: true, Axis: "percentile", Height: 300, Panels: []CurvePanel{{Title: name, Axis: "latency"}}}
	l := Line{Name: name, Style: Style{"c.go", "circle"}, Tier: "mainstream"}
	for x := 2.0; x < 1000; x *= 2 {
		l.Points = append(l.Points, Point{X: x, Y: math.Log(x), Marked: true, Tip: []string{"p50", name}})
	}
	c.Panels[0].Lines = []Line{l}
	return c.Figure()
}

// elements parses an SVG and gives its elements' names and all text.
func elements(t *testing.T, svg string) (names map[string]int, text string) {
	t.Helper()
	names = map[string]int{}
	var all strings.Builder
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return names, all.String()
		}
		require.NoError(t, err, "an SVG is XML")
		switch x := token.(type) {
		case xml.StartElement:
			names[x.Name.Local]++
			for _, a := range x.Attr {
				assert.False(t, strings.HasPrefix(strings.ToLower(a.Name.Local), "on"), "attribute %s", a.Name.Local)
				assert.NotEqual(t, "href", a.Name.Local)
			}
		case xml.CharData:
			all.Write(x)
			all.WriteByte('\n')
		}
	}
}

// The same figure gives the same bytes: in the next machine too, and whatever was drawn before.
func TestPicturesAreTheSameEachTime(t *testing.T) {
	needsAssets(t)
	r, err := NewRasteriser(t.Context(), t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close(t.Context())) }()
	for name, f := range map[string]Figure{"rows": rowsFigure("go", "node", "rust"), "curves": curvesFigure("go")} {
		first, err := f.Picture("footer").SVG("light", f.Title, f.Finding)
		require.NoError(t, err, name)
		_, err = rowsFigure("other").Wide().SVG("dark", "", "")
		require.NoError(t, err, name)
		again, err := f.Picture("footer").SVG("light", f.Title, f.Finding)
		require.NoError(t, err, name)
		assert.Equal(t, first, again, name)
		one, err := r.PNG(t.Context(), first, 2)
		require.NoError(t, err, name)
		two, err := r.PNG(t.Context(), again, 2)
		require.NoError(t, err, name)
		assert.True(t, bytes.Equal(one, two), name)
		picture, err := png.Decode(bytes.NewReader(one))
		require.NoError(t, err, name)
		assert.Equal(t, image.Pt(2*WideWidth, 2*f.Picture("footer").Height), picture.Bounds().Size(), name)
		assert.Greater(t, colours(picture), 20, "%s: something is drawn", name)
	}
}

func colours(p image.Image) int {
	seen := map[[4]uint32]bool{}
	for y := p.Bounds().Min.Y; y < p.Bounds().Max.Y; y++ {
		for x := p.Bounds().Min.X; x < p.Bounds().Max.X; x++ {
			r, g, b, a := p.At(x, y).RGBA()
			seen[[4]uint32{r, g, b, a}] = true
		}
	}
	return len(seen)
}

// A name may look like markup, like a colour of the kit, like one of its functions, or like rich text of ECharts.
func TestNamesStayText(t *testing.T) {
	needsAssets(t)
	for _, name := range []string{`<script>alert(1)</script>`, `"><image href="x:y"/>`, `$fg`, `fn:number`, `]]></style>`, `{a|b}`, `&amp;`, `' onload='x`} {
		for _, f := range []Figure{rowsFigure(name), curvesFigure(name)} {
			svg, err := f.Picture(name).SVG("dark", f.Title, f.Finding)
			require.NoError(t, err, name)
			found, text := elements(t, svg)
			assert.Contains(t, text, name)
			for _, bad := range []string{"script", "image", "foreignObject", "a", "use"} {
				assert.Zero(t, found[bad], "%s: <%s>", name, bad)
			}
			assert.Equal(t, 1, found["title"])
			assert.Equal(t, 1, found["desc"])
		}
	}
}

// A bar of several parts has each one's number where there is room, and a legend names them. Panels side by side begin at
// one height, whichever of them have something above.
func TestABarOfParts(t *testing.T) {
	needsAssets(t)
	none := math.NaN()
	f := Rows{
		ID: "x", Title: "t", Panels: []Panel{{Axis: "ms", Format: "number", Legend: []Key{{"network", "c.7"}, {"own", "c.6"}}}, {Axis: "ms", Format: "number"}},
		Rows: []Row{{Label: "go", Style: Style{"c.go", "circle"}, Cells: []Cell{{Mid: 101, Low: none, High: none, Parts: []Part{{100, "100.0", "c.7"}, {1, "1.00", "c.6"}}}, {Mid: 1, Low: none, High: none}}}},
	}.Figure()
	svg, err := f.Wide().SVG("light", "", "")
	require.NoError(t, err)
	_, text := elements(t, svg)
	for _, want := range []string{"network", "own", "100.0"} {
		assert.Contains(t, text, want)
	}
	assert.NotContains(t, text, "1.00\n", "it has no room")
	tops := func(v View) (tops []any) {
		for _, grid := range v.Option["grid"].(A) {
			tops = append(tops, grid.(M)["top"])
		}
		return tops
	}
	wide := tops(f.Wide())
	assert.Equal(t, wide[0], wide[1])
	below := tops(f.Narrow())
	assert.Less(t, below[0], below[1])
}

// Several stand in one page, whose policy lets in no style but its own.
func TestAnElementOfAPageHasNoStyleAndItsOwnIDs(t *testing.T) {
	needsAssets(t)
	label := `of "two" <arms> & more`
	svg, err := curvesFigure("]]></style>").Wide().Inline("light", "first-one", label)
	require.NoError(t, err)
	assert.NotContains(t, svg, "style=")
	assert.NotRegexp(t, `["#]zr0`, svg)
	found, text := elements(t, svg)
	assert.Zero(t, found["style"])
	assert.Positive(t, found["text"])
	assert.Contains(t, text, "]]></style>")
	assert.Contains(t, svg, ` aria-label="`+escapeXML(label)+`"`)
	ids := regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(svg, -1)
	require.NotEmpty(t, ids, "the curves are clipped")
	for _, id := range ids {
		assert.Regexp(t, "^first-one-", id[1])
		assert.Contains(t, svg, "url(#"+id[1]+")")
	}
	picture, err := curvesFigure("go").Picture("footer").SVG("light", "t", "f")
	require.NoError(t, err)
	found, _ = elements(t, picture)
	assert.Equal(t, 1, found["style"], "its letters, and no rules for a mouse that is not there")
}

func TestNamesAreCleaned(t *testing.T) {
	for in, want := range map[string]string{"go": "go", "a\nb\tc": "a b c", "a\u202eb": "a b", "\u200bx\ufeff": " x ", "äöü": "äöü", "abcdefghijkl": "abcdefg…"} {
		assert.Equal(t, want, Clean(in, 8), "%q", in)
	}
}

// What the kit writes on axes: units and percentiles.
func TestAxesNameTheirUnits(t *testing.T) {
	vm := goja.New()
	_, err := vm.RunString(kit)
	require.NoError(t, err)
	for call, want := range map[string]string{
		"number(0)": "0", "number(999)": "999", "number(1000)": "1,000", "number(1234567)": "1,234,567", "number(2.5)": "2.5", "number(0.30000000000000004)": "0.3",
		"ms(1)": "1 ms", "ms(0.25)": "0.25 ms", "ms(0.05)": "50 µs", "ms(1500)": "1.5 s", "ms(999)": "999 ms",
		"percentile(2)": "50 %", "percentile(10)": "90 %", "percentile(20)": "95 %", "percentile(100)": "99 %", "percentile(1000)": "99.9 %", "percentile(100000)": "99.999 %",
		"ratio(1.25)": "1.25×", "second(3)": "3 s",
	} {
		name, argument, _ := strings.Cut(strings.TrimSuffix(call, ")"), "(")
		got, err := vm.RunString(fmt.Sprintf("KIT.build({f:'fn:%s'}, 'light', 100, true).f(%s)", name, argument))
		require.NoError(t, err, call)
		assert.Equal(t, want, got.String(), call)
	}
}

func TestScalesHoldWhatTheyShow(t *testing.T) {
	for _, values := range [][]float64{{1}, {0}, {3, 7, math.NaN()}, {0.001, 0.002}, {1234, 99}, {1e6, 1}, {math.Inf(1), 5}} {
		for _, count := range []int{3, 8} {
			z := zeroScale(values, count)
			l := logScale(values, count)
			for _, v := range values {
				if finite(v) {
					assert.LessOrEqual(t, v, z.high, "%v", values)
				}
				if finite(v) && v > 0 {
					assert.True(t, l.low < v && v < l.high, "%v", values)
				}
			}
			assert.LessOrEqual(t, len(z.ticks), count+2, "%v: %v", values, z.ticks)
			assert.LessOrEqual(t, len(l.ticks), count, "%v: %v", values, l.ticks)
			assert.NotEmpty(t, l.ticks, "%v", values)
		}
	}
	assert.Equal(t, []float64{0, 500, 1000, 1500, 2000, 2500}, zeroScale([]float64{2281}, 5).ticks)
}

func TestAContenderLooksTheSameEverywhere(t *testing.T) {
	some, all := Styles([]string{"go", "zig"}), Styles([]string{"zig", "rust", "go", "go", "node", "bun", "java"})
	assert.Equal(t, some["go"], all["go"])
	assert.Equal(t, some["zig"], all["zig"])
	many := []string{"go", "node", "rust"}
	for i := range 40 {
		many = append(many, fmt.Sprintf("contender-%d", i))
		seen := map[Style]bool{}
		colors := map[string]bool{}
		for _, s := range Styles(many) {
			seen[s], colors[s.Color] = true, true
		}
		assert.Len(t, seen, len(many), "no two look alike")
		assert.Len(t, colors, min(len(many), 12), "colours come again only when all are used")
	}
}

// Of one contender only dashes and the filling of markers tell arms apart, in the line and in the legend's short one.
func TestNoTwoLinesLookTheSame(t *testing.T) {
	var lines []Line
	styles := Styles([]string{"go", "node", "rust", "zig"})
	for name, style := range styles {
		for _, tier := range []string{"mainstream", "compiled", "floor"} {
			for number := range 9 {
				lines = append(lines, Line{Name: fmt.Sprint(name, tier, number), Style: style, Tier: tier, Number: number, Points: []Point{{X: 1, Y: 1, Marked: true}}})
			}
		}
	}
	seen, markers := map[string]string{}, map[string]bool{}
	for _, view := range []View{Curves{Panels: []CurvePanel{{Lines: lines}}}.Figure().Wide(), Curves{Panels: []CurvePanel{{Lines: lines}}}.Figure().Narrow()} {
		clear(seen)
		for _, s := range view.Option["series"].(A) {
			m := s.(M)
			if m["type"] != "line" {
				continue
			}
			look := fmt.Sprint(m["symbol"], m["lineStyle"], m["itemStyle"])
			name := fmt.Sprint(m["name"])
			assert.Empty(t, seen[look], "%s looks like %s", name, seen[look])
			seen[look] = name
		}
		assert.Len(t, seen, len(lines))
	}
	for number := range 3 {
		fill, border := markerOf("$c.go", "mainstream", number)
		markers[fill+" "+border] = true
	}
	assert.Len(t, markers, 3, "three arms are told apart where no dash is seen")
}

// What grows in steps is drawn with a tick at each, and with room for the markers at both ends.
func TestEachStepHasATick(t *testing.T) {
	needsAssets(t)
	steps := []float64{1, 16, 256, 1024}
	l := Line{Name: "go", Style: Style{"c.go", "circle"}, Tier: "mainstream"}
	for _, x := range steps {
		l.Points = append(l.Points, Point{X: x, Y: 10 * x, Marked: true})
	}
	f := Curves{Steps: steps, Axis: "connections", Height: 300, Panels: []CurvePanel{{Title: "answers", Plain: true, Lines: []Line{l}}}}.Figure()
	for _, view := range []View{f.Wide(), f.Narrow()} {
		x := view.Option["xAxis"].(A)[0].(M)
		assert.Equal(t, "log", x["type"])
		assert.Equal(t, steps, x["axisTick"].(M)["customValues"])
		assert.Less(t, x["min"], steps[0])
		assert.Greater(t, x["max"], steps[3])
		svg, err := view.Inline("light", "x", "label")
		require.NoError(t, err)
		_, words := elements(t, svg)
		for _, tick := range []string{"16", "256", "1,024"} {
			assert.Contains(t, words, tick)
		}
	}
}

// A style that the kit does not know would be drawn as something else in some of the places.
func TestTheKitKnowsEveryStyle(t *testing.T) {
	vm := goja.New()
	_, err := vm.RunString(kit)
	require.NoError(t, err)
	var themes map[string]map[string]string
	require.NoError(t, vm.ExportTo(vm.Get("KIT").ToObject(vm).Get("themes"), &themes))
	var marks map[string]string
	require.NoError(t, vm.ExportTo(vm.Get("KIT").ToObject(vm).Get("marks"), &marks))
	styles := slices.Concat(slices.Collect(maps.Values(known)), further)
	symbols := map[string]bool{}
	for _, s := range styles {
		symbols[s.Symbol] = true
		if name, ok := strings.CutPrefix(s.Symbol, "mark:"); ok {
			assert.NotEmpty(t, marks[name], s.Symbol)
		} else {
			assert.Contains(t, []string{"circle", "triangle", "diamond", "rect"}, s.Symbol)
		}
	}
	assert.Len(t, symbols, len(styles))
	for _, theme := range Themes() {
		colors := map[string]bool{}
		for _, s := range styles {
			assert.Regexp(t, "^#[0-9A-Fa-f]{6}$", themes[theme][s.Color], "%s in %s", s.Color, theme)
			colors[strings.ToLower(themes[theme][s.Color])] = true
		}
		assert.Len(t, colors, len(styles), theme)
	}
}

// The row's label, its dots, the line and the legend have one marker and one colour.
func TestAMarkerIsTheSameInEveryPlace(t *testing.T) {
	needsAssets(t)
	shape := regexp.MustCompile(`<path d="([^"]*)"[^>]*(?:fill|stroke)="#0F9D8A"`)
	style := Style{"c.8", "mark:hexagon"}
	rows := Rows{ID: "x", Panels: []Panel{{Format: "number"}}, Rows: []Row{{Label: "zig", Style: style, Tier: "mainstream", Cells: []Cell{{Mid: 2, Low: math.NaN(), High: math.NaN(), Dots: []Dot{{Value: 1}, {Value: 3}}}}}}}
	curves := Curves{ID: "y", Percentile: true, Height: 300, Panels: []CurvePanel{{Lines: []Line{{Name: "zig", Style: style, Tier: "mainstream", Points: []Point{{X: 2, Y: 1, Marked: true}, {X: 10, Y: 2, Marked: true}}}}}}}
	for name, f := range map[string]Figure{"rows": rows.Figure(), "curves": curves.Figure()} {
		svg, err := f.Picture("footer").SVG("light", "", "")
		require.NoError(t, err)
		hexagons := 0
		for _, m := range shape.FindAllStringSubmatch(svg, -1) {
			if strings.Count(m[1], "L") == 5 {
				hexagons++
			}
		}
		assert.GreaterOrEqual(t, hexagons, 3, "%s: a label or a legend, and two trials or points", name)
	}
}

// An axis names itself inside the picture, and not across its labels, however wide these are.
func TestAxisNamesAreWhole(t *testing.T) {
	needsAssets(t)
	m := newMeter()
	name := regexp.MustCompile(`<text[^>]* y="-6" transform="matrix\(0,-1,1,0,([0-9.]+),[0-9.]+\)"[^>]*>latency</text>`)
	label := regexp.MustCompile(`text-anchor="end"[^>]* transform="translate\(([0-9.]+) [0-9.]+\)"[^>]*>([^<]* (?:µs|ms|s))</text>`)
	for what, ys := range map[string][]float64{"narrow labels": {3, 50}, "hundreds": {90, 130}, "fractions": {0.11, 0.13}, "microseconds": {0.0101, 0.0125}, "many decades": {0.02, 9000}} {
		c := Curves{ID: "y", Percentile: true, Axis: "percentile", Height: 300}
		for range 2 {
			c.Panels = append(c.Panels, CurvePanel{Axis: "latency", Lines: []Line{{Name: "go", Style: known["go"], Points: []Point{{X: 2, Y: ys[0]}, {X: 10, Y: ys[1]}}}}})
		}
		svg, err := c.Figure().Picture("footer").SVG("light", "", "")
		require.NoError(t, err, what)
		names, labels := name.FindAllStringSubmatch(svg, -1), label.FindAllStringSubmatch(svg, -1)
		require.Len(t, names, 2, what)
		require.NotEmpty(t, labels, what)
		number := func(s string) float64 {
			x, err := strconv.ParseFloat(s, 64)
			require.NoError(t, err)
			return x
		}
		right := number(names[0][1]) // of the name, which is upright
		assert.GreaterOrEqual(t, right-12, 2.0, "%s: the name is in the picture", what)
		for _, l := range labels {
			if at := number(l[1]); at < WideWidth/2 {
				assert.Greater(t, at-m.width(l[2], "12px"), right+2, "%s: %s lies across the name", what, l[2])
			}
		}
	}
}

// Labels are measured as the kit writes them.
func TestLabelsAreMeasuredAsWritten(t *testing.T) {
	vm := goja.New()
	_, err := vm.RunString(kit)
	require.NoError(t, err)
	for _, v := range []float64{0.00015, 0.012, 0.0999, 0.1, 0.15, 0.125, 1, 2.25, 12.5, 99.9, 999, 1000, 1500, 12500, 1.5e6, 2.345e7} {
		got, err := vm.RunString(fmt.Sprintf("KIT.build({f:'fn:ms'}, 'light', 100, true).f(%g)", v))
		require.NoError(t, err)
		assert.Equal(t, got.String(), msLabel(v))
	}
}

// A curve against rate begins at zero, holds every point and the limit, and says what the limit is.
func TestACurveAgainstRateShowsItsLimit(t *testing.T) {
	needsAssets(t)
	c := Curves{ID: "y", Title: "t", Rate: true, Axis: "requests a second", Height: 300, Panels: []CurvePanel{{Axis: "p99", Limit: 100, LimitLabel: "the objective", Lines: []Line{
		{Name: "go", Style: Style{"c.go", "circle"}, Tier: "mainstream", Points: []Point{{X: 120, Y: 3}, {X: 870, Y: 20}}},
	}}}}
	assert.GreaterOrEqual(t, c.Panels[0].scale().high, 100.0, "though no point is that high")
	axis := c.axis(Frame{Width: WideWidth}, c.Panels[0])
	assert.Equal(t, "value", axis["type"])
	assert.InDelta(t, 0, axis["min"], 0)
	assert.GreaterOrEqual(t, axis["max"], 870.0)
	svg, err := c.Figure().Picture("source").SVG("light", "t", "f")
	require.NoError(t, err)
	_, text := elements(t, svg)
	assert.Contains(t, text, "the objective")
	without := c
	without.Panels = []CurvePanel{{Axis: "p99", Lines: c.Panels[0].Lines}}
	plain, err := without.Figure().Picture("source").SVG("light", "t", "f")
	require.NoError(t, err)
	_, text = elements(t, plain)
	assert.NotContains(t, text, "the objective")
}
