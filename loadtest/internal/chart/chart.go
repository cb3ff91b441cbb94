// Package chart draws the lab's charts. A figure is defined once, as options of ECharts with colours and functions by
// name; kit.js turns that definition into a chart in the page's browser and, in goja, into an SVG without one. resvg,
// run by wazero, turns the SVG into a PNG. The package knows nothing of runs and records.
//
// Static charts are the same bytes for the same figure: each is drawn in a fresh virtual machine, without clock, random
// numbers or fonts of the system.
package chart

import (
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

// M and A are the objects and lists of ECharts' options.
type (
	M = map[string]any
	A = []any
)

// View is a figure drawn for one place.
type View struct {
	Width  int `json:"width"` // what it was laid out for; a page may give it another
	Height int `json:"height"`
	Option M   `json:"option"`
}

// Frame says for what place a figure is drawn.
type Frame struct {
	Width  int
	Narrow bool // one column, for a phone
	// Title, Subtitle and Footer stand in a picture; a page has them in its own text.
	Title, Subtitle, Footer string
	top, bottom             int // what they take
}

// Figure is the one definition of a chart.
type Figure struct {
	ID       string // also the name of its files
	Title    string
	Subtitle string // unit, number of requests, which end is better
	Finding  string // what it shows, in words and numbers: the text alternative
	draw     func(Frame) View
}

// The widths that figures are laid out for.
const (
	WideWidth   = 1000
	NarrowWidth = 344
)

// Wide is the figure for a page on a wide screen.
func (f Figure) Wide() View { return f.draw(Frame{Width: WideWidth}) }

// Narrow is the figure for a page on a phone.
func (f Figure) Narrow() View { return f.draw(Frame{Width: NarrowWidth, Narrow: true}) }

// Picture is the figure with its title, to stand alone. The footer says where its numbers come from.
func (f Figure) Picture(footer string) View {
	return f.draw(Frame{Width: WideWidth, Title: f.Title, Subtitle: f.Subtitle, Footer: footer, top: 70, bottom: 30})
}

// Themes are the names of the two themes.
func Themes() []string { return []string{"light", "dark"} }

//go:embed assets
var assets embed.FS

//go:embed kit.js
var kit string

// ErrNoAssets says that the program was built without what charts are drawn with.
var ErrNoAssets = errors.New("this program was built without what the charts are drawn with; make build makes it whole")

var assetNames = []string{
	"echarts.js", "resvg.wasm", "inter-400.ttf", "inter-600.ttf", "inter-400.woff2", "inter-600.woff2",
	"inter-400-picture.woff2", "inter-600-picture.woff2",
}

// Ready says whether charts can be drawn.
func Ready() error {
	for _, name := range assetNames {
		if _, err := fs.Stat(assets, "assets/"+name); err != nil {
			return fmt.Errorf("%w (assets/%s)", ErrNoAssets, name)
		}
	}
	return nil
}

func asset(name string) []byte {
	b, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(fmt.Errorf("%w (assets/%s)", ErrNoAssets, name)) // Ready was not asked
	}
	return b
}

// Script is what a page needs to draw figures: ECharts and the kit.
func Script() string { return string(asset("echarts.js")) + "\n" + kit }

// FontCSS has the page's fonts as data.
func FontCSS() string { return fontCSS("") }

var pictureFontCSS = sync.OnceValue(func() string { return fontCSS("-picture") })

func fontCSS(kind string) string {
	css := ""
	for _, weight := range []int{400, 600} {
		css += fmt.Sprintf("@font-face{font-family:Inter;font-style:normal;font-weight:%d;src:url(data:font/woff2;base64,%s) format('woff2')}",
			weight, base64.StdEncoding.EncodeToString(asset(fmt.Sprintf("inter-%d%s.woff2", weight, kind))))
	}
	return css
}
