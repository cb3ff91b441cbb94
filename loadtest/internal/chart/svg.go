package chart

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/dop251/goja"
	"golang.org/x/image/font"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// JSON is the definition as the page has it. Objects come with their keys in order, so the same figure gives the same
// text.
func (v View) JSON() []byte {
	b, err := json.Marshal(v.Option)
	if err != nil {
		panic(fmt.Errorf("chart: %w", err)) // an infinity or NaN in a definition is a mistake of this program
	}
	return b
}

var programs = sync.OnceValues(func() ([]*goja.Program, error) {
	bundle, err := goja.Compile("echarts.js", string(asset("echarts.js")), false)
	if err != nil {
		return nil, err
	}
	k, err := goja.Compile("kit.js", kit, false)
	return []*goja.Program{bundle, k}, err
})

// drawSVG runs ECharts' renderer for servers. Each call has a machine of its own: ids count from its start, so a used
// one would give other bytes.
func drawSVG(v View, theme string) (string, error) {
	compiled, err := programs()
	if err != nil {
		return "", fmt.Errorf("chart: %w", err)
	}
	vm := goja.New()
	run := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	run(func() error {
		_, err := vm.RunString("var self=this;function setTimeout(){return 0}function clearTimeout(){}")
		return err
	})
	run(func() error { _, err := vm.RunProgram(compiled[0]); return err })
	run(func() error { return vm.Set("measureWidth", newMeter().width) })
	run(func() error {
		_, err := vm.RunString("echarts.setPlatformAPI({measureText:function(t,f){return {width:measureWidth(t,f||'12px sans-serif')}}})")
		return err
	})
	run(func() error { _, err := vm.RunProgram(compiled[1]); return err })
	if err != nil {
		return "", fmt.Errorf("chart: %w", err)
	}
	svg, ok := goja.AssertFunction(vm.Get("KIT").ToObject(vm).Get("svg"))
	if !ok {
		return "", fmt.Errorf("chart: kit.js has no svg")
	}
	out, err := svg(goja.Undefined(), vm.ToValue(string(v.JSON())), vm.ToValue(theme), vm.ToValue(v.Width), vm.ToValue(v.Height))
	if err != nil {
		return "", fmt.Errorf("chart: %w", err)
	}
	return slim(out.String()), nil
}

// What the renderer leaves in an SVG for scripts that would bring it to life, and says again for each text. Text itself
// has its quotes as entities, so none of it can look like an attribute.
var (
	lifeless    = regexp.MustCompile(` (?:ecmeta_[a-z_]+|pointer-events|class)="[^"]*"`)
	hoverRules  = regexp.MustCompile(`(?s)<style[^>]*>\s*<!\[CDATA\[.*?\]\]>\s*</style>\n?`)
	fontFamily  = regexp.MustCompile(`font-family:Inter,[^;"]*;?`)
	emptyStyle  = regexp.MustCompile(` style="\s*"`)
	emptyGroups = regexp.MustCompile(`></(?:path|circle|polygon|polyline|rect|line)>`)
)

// family is the font of all text, said once at the root.
const family = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

func slim(svg string) string {
	svg = hoverRules.ReplaceAllString(svg, "")
	svg = lifeless.ReplaceAllString(svg, "")
	svg = fontFamily.ReplaceAllString(svg, "")
	svg = emptyStyle.ReplaceAllString(svg, "")
	return emptyGroups.ReplaceAllString(svg, "/>")
}

// parts is what the renderer gives: its element's start up to where another attribute may stand, and what follows ">".
func (v View) parts(theme string) (head, rest string, err error) {
	svg, err := drawSVG(v, theme)
	if err != nil {
		return "", "", err
	}
	head, rest, ok := strings.Cut(svg, ">")
	if !ok || !strings.HasPrefix(head, "<svg ") {
		return "", "", fmt.Errorf("chart: the renderer gave no SVG")
	}
	return head, rest, nil
}

// SVG is the view as a picture that stands alone: its font inside, and a title and description for those who hear it.
func (v View) SVG(theme, title, description string) (string, error) {
	head, rest, err := v.parts(theme)
	if err != nil {
		return "", err
	}
	return head + ` role="img" font-family="` + family + `">` + "<title>" + escapeXML(title) + "</title><desc>" + escapeXML(description) + "</desc><style>" + pictureFontCSS() + "</style>" + rest + "\n", nil
}

// Inline is the view as an element of a page that has the pictures' font (FontCSS): id is the page's word for it, which the
// element's own ids begin with, and label is what it says to those who do not see it. It has no style of its own, so a
// policy that lets none in lets it in.
func (v View) Inline(theme, id, label string) (string, error) {
	head, rest, err := v.parts(theme)
	if err != nil {
		return "", err
	}
	rest = styled.ReplaceAllStringFunc(rest, func(style string) string {
		var b strings.Builder
		for _, part := range strings.Split(styled.FindStringSubmatch(style)[1], ";") {
			if name, value, ok := strings.Cut(part, ":"); ok {
				fmt.Fprintf(&b, ` %s="%s"`, strings.TrimSpace(name), strings.TrimSpace(value))
			}
		}
		return b.String()
	})
	rest = ownID.ReplaceAllString(rest, "${1}"+escapeXML(id)+"-${2}")
	return head + ` class="still" role="img" aria-label="` + escapeXML(label) + `" font-family="` + family + `">` + rest, nil
}

var (
	styled = regexp.MustCompile(` style="([^"]*)"`)
	ownID  = regexp.MustCompile(`( id="|url\(#)(zr0-)`)
)

func escapeXML(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}

// meter measures text as the pictures' font sets it.
type meter struct {
	buffer  sfnt.Buffer
	regular *sfnt.Font
	bold    *sfnt.Font
}

func newMeter() *meter {
	regular, err := sfnt.Parse(asset("inter-400.ttf"))
	if err != nil {
		panic(fmt.Errorf("chart: inter-400.ttf: %w", err))
	}
	bold, err := sfnt.Parse(asset("inter-600.ttf"))
	if err != nil {
		panic(fmt.Errorf("chart: inter-600.ttf: %w", err))
	}
	return &meter{regular: regular, bold: bold}
}

// width is the advance of text in pixels; css is a font as CSS writes it.
func (m *meter) width(text, css string) float64 {
	size, f := 12.0, m.regular
	for _, part := range strings.Fields(css) {
		if n, ok := strings.CutSuffix(part, "px"); ok {
			if parsed, err := strconv.ParseFloat(n, 64); err == nil {
				size = parsed
			}
			break
		}
		if part == "600" || part == "bold" || part == "700" {
			f = m.bold
		}
	}
	if text == "国" { // zrender takes the width of this for the height of a line
		return size
	}
	total := 0.0
	for _, r := range text {
		total += m.advance(f, r)
	}
	return total * size
}

// advance is a glyph's, as a part of the font's size.
func (m *meter) advance(f *sfnt.Font, r rune) float64 {
	index, err := f.GlyphIndex(&m.buffer, r)
	if err != nil || index == 0 {
		return 0.6 // of a font we do not have
	}
	const unit = 1000
	a, err := f.GlyphAdvance(&m.buffer, index, fixed.I(unit), font.HintingNone)
	if err != nil {
		return 0.6
	}
	return float64(a) / 64 / unit
}
