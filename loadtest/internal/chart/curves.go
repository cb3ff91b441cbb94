package chart

import (
	"math"
	"strconv"
)

// Curves is a figure of lines: latency by percentile, or over time, or what grows in steps.
type Curves struct {
	ID, Title, Subtitle, Finding string
	Panels                       []CurvePanel
	// Percentile draws x as 1 ÷ (1 − q) on a logarithmic axis, as HDR plots do; Rate draws it as a number from
	// zero; otherwise, without Steps, x is seconds.
	Percentile, Rate bool
	// Steps, where there are any, are the values of x, ascending and above zero: a logarithmic axis with a tick at each.
	Steps  []float64
	Axis   string // of x
	Height int    // of a panel's inside
}

// CurvePanel is one pair of axes; y is milliseconds, on a logarithmic axis.
type CurvePanel struct {
	Title string
	Axis  string
	// Plain draws y as a number from zero on, whose unit is in Title and Axis.
	Plain bool
	Lines []Line
	// Limit, where not 0, is a value of y that is marked with a line across and with LimitLabel.
	Limit      float64
	LimitLabel string
	// Spans are stretches of x that are shaded, from and to.
	Spans [][2]float64
}

// Line is one arm.
type Line struct {
	Name   string
	Style  Style
	Tier   string
	Number int // counts the arms of the same contender and tier, from 0
	Points []Point
	Dots   []Dot2 // single trials, faint
}

// Point is a place on a line. Marked ones carry the contender's marker.
type Point struct {
	X, Y   float64
	Marked bool
	Tip    []string // the first line is the head, the second what this arm has there
}

// Dot2 is one trial at one place.
type Dot2 struct {
	X, Y float64
	Tip  []string
}

const (
	legendRow   = 24
	curveLeft   = 66
	narrowLeft  = 54
	curveRight  = 24
	averageChar = 7.6
	legendIcon  = 46
	// What lies left of an axis: labels at this distance from it, then its name, upright, then the picture's edge.
	tickGap      = 8 // ECharts' own
	nameToLabels = 6
	nameHeight   = 14
	edge         = 4
)

// Figure makes the chart.
func (c Curves) Figure() Figure {
	return Figure{ID: c.ID, Title: c.Title, Subtitle: c.Subtitle, Finding: c.Finding, draw: c.view}
}

func (c Curves) view(f Frame) View {
	titles := f.titles()
	left, right := curveLeft, curveRight
	if f.Narrow {
		left, right = narrowLeft, 14
	}
	widest := c.widestLabel()
	nameGap := tickGap + widest + nameToLabels
	if f.Narrow {
		left = max(left, tickGap+widest+edge)
	} else {
		left = max(left, nameGap+nameHeight+edge)
	}
	// The legend's lines are counted for the width laid out for; a wider page has room to spare.
	var names A
	rows, used := 1, 0.0
	seen := map[string]bool{}
	for _, panel := range c.Panels {
		for _, l := range panel.Lines {
			if seen[l.Name] {
				continue
			}
			seen[l.Name] = true
			names = append(names, M{"name": text(l.Name)})
			w := legendIcon + averageChar*float64(len([]rune(l.Name)))
			if used+w > float64(f.Width-20) {
				rows, used = rows+1, 0
			}
			used += w
		}
	}
	top := float64(f.top + rows*legendRow + 8)
	var grids, xs, ys, series A
	for p, panel := range c.Panels {
		n := float64(len(c.Panels))
		head := 0.0
		if panel.Title != "" {
			head = 24
		}
		gridLeft, width := length{0, float64(left)}, length{1, -float64(left + right)}
		panelTop := top + head
		if f.Narrow {
			top += head + float64(c.Height) + axisHeight + 10
		} else if n > 1 {
			gridLeft = length{float64(p) / n, float64(left)}
			width = length{1 / n, -float64(left + right)}
		}
		grids = append(grids, M{"outerBoundsMode": "none", "left": gridLeft.option(), "width": width.option(), "top": panelTop, "height": c.Height})
		if panel.Title != "" {
			titles = append(titles, M{"text": text(panel.Title), "left": gridLeft.option(), "top": panelTop - head + 1, "padding": 0,
				"textStyle": M{"fontSize": 13, "lineHeight": 18, "fontWeight": 600, "color": "$fg"}})
		}
		x := c.axis(f, panel)
		x["gridIndex"] = p
		xs = append(xs, x)
		y := panel.scale()
		axisName := panel.Axis
		if f.Narrow {
			axisName = "" // there is room for the labels only, and they have their unit
		}
		kind, format := y.kind(), "ms"
		if panel.Plain {
			format = "number"
		}
		ys = append(ys, M{"type": kind, "gridIndex": p, "min": y.low, "max": y.high, "name": text(axisName), "nameLocation": "middle", "nameGap": nameGap, "nameMoveOverlap": false,
			"nameTextStyle": M{"color": "$muted", "fontSize": 12},
			"axisLine":      M{"show": true, "lineStyle": M{"color": "$axis"}}, "axisTick": M{"show": true, "customValues": y.ticks, "lineStyle": M{"color": "$axis"}},
			"minorTick": M{"show": false}, "minorSplitLine": M{"show": false}, "splitLine": M{"show": false},
			"axisLabel": M{"color": "$muted", "fontSize": 12, "formatter": "fn:" + format, "customValues": y.ticks}})
		xTicks, _ := x["axisTick"].(M)["customValues"].([]float64)
		series = append(series, M{"type": "custom", "silent": true, "z": 1, "xAxisIndex": p, "yAxisIndex": p, "data": A{A{x["max"], y.high}}, "encode": M{"x": 0, "y": 1},
			"renderItem": call("lattice", panel.lattice(xTicks, y.ticks))})
		for _, l := range panel.Lines {
			var points, dots A
			for _, pt := range l.Points {
				point := M{"value": A{pt.X, pt.Y}, "tip": text(pt.Tip), "symbol": "none"}
				if pt.Marked {
					point["symbol"], point["symbolSize"] = l.Style.Symbol, 9
				}
				points = append(points, point)
			}
			for _, d := range l.Dots {
				dots = append(dots, M{"value": A{d.X, d.Y}})
			}
			color := "$" + l.Style.Color
			fill, border := markerOf(color, l.Tier, l.Number)
			series = append(series, M{"type": "line", "name": text(l.Name), "xAxisIndex": p, "yAxisIndex": p, "z": 3, "data": points, "symbol": l.Style.Symbol, "symbolSize": 9, "showAllSymbol": true,
				"lineStyle": M{"width": 2.25, "color": color, "type": lineOf(l.Tier, l.Number)}, "itemStyle": M{"color": fill, "borderColor": border, "borderWidth": 1.25}, "emphasis": M{"focus": "series"}})
			if len(dots) > 0 {
				series = append(series, M{"type": "scatter", "name": text(l.Name), "xAxisIndex": p, "yAxisIndex": p, "z": 2, "silent": true, "data": dots, "symbol": l.Style.Symbol, "symbolSize": 4.5,
					"itemStyle": M{"color": color + "/0.35"}, "tooltip": M{"show": false}})
			}
		}
	}
	height := top + float64(f.bottom)
	if !f.Narrow {
		head := 0.0
		for _, panel := range c.Panels {
			if panel.Title != "" {
				head = 24
			}
		}
		height = top + head + float64(c.Height) + axisHeight + float64(f.bottom)
	}
	legend := M{"data": names, "left": f.legendLeft(), "right": 10, "top": f.top, "padding": 0, "itemWidth": 28, "itemHeight": 11, "itemGap": 14, "textStyle": M{"color": "$fg", "fontSize": 12.5}, "inactiveColor": "$muted/0.5"}
	return View{f.Width, int(math.Ceil(height)), M{"title": titles, "legend": legend, "grid": grids, "xAxis": xs, "yAxis": ys, "series": series, "tooltip": tooltip("axis"),
		"dataZoom": A{M{"type": "inside", "xAxisIndex": indices(len(c.Panels)), "zoomOnMouseWheel": "ctrl", "moveOnMouseWheel": false, "filterMode": "none"}}}}
}

func (f Frame) legendLeft() int {
	if f.Narrow {
		return 4
	}
	return 20
}

func indices(n int) A {
	var out A
	for i := range n {
		out = append(out, i)
	}
	return out
}

// lattice is what lies behind a panel's lines.
func (p CurvePanel) lattice(xs, ys []float64) M {
	m := M{"xs": xs, "ys": ys}
	if p.Limit > 0 {
		m["limit"], m["limitLabel"] = p.Limit, text(p.LimitLabel)
	}
	if len(p.Spans) > 0 {
		var spans A
		for _, x := range p.Spans {
			spans = append(spans, A{x[0], x[1]})
		}
		m["spans"] = spans
	}
	return m
}

// scale is that of y.
func (p CurvePanel) scale() scale {
	var values []float64
	if p.Limit > 0 {
		values = append(values, p.Limit)
	}
	for _, l := range p.Lines {
		for _, pt := range l.Points {
			values = append(values, pt.Y)
		}
		for _, d := range l.Dots {
			values = append(values, d.Y)
		}
	}
	if p.Plain {
		return zeroScale(values, 5)
	}
	return logScale(values, 9)
}

// label is what the kit makes of a value of y.
func (p CurvePanel) label(v float64) string {
	if p.Plain {
		return numberLabel(v)
	}
	return msLabel(v)
}

// widestLabel is how wide the labels of the axes of y are, in pixels.
func (c Curves) widestLabel() int {
	m := newMeter()
	widest := 0.0
	for _, panel := range c.Panels {
		for _, v := range panel.scale().ticks {
			widest = math.Max(widest, m.width(panel.label(v), "12px"))
		}
	}
	return int(math.Ceil(widest))
}

// msLabel is what the kit's format ms makes of milliseconds.
func msLabel(v float64) string {
	switch {
	case v >= 1000:
		return numberLabel(v/1000) + " s"
	case v < 0.1:
		return numberLabel(v*1000) + " µs"
	}
	return numberLabel(v) + " ms"
}

func numberLabel(v float64) string {
	if v >= 1000 {
		return Thousands(strconv.FormatFloat(math.Round(v), 'f', 0, 64))
	}
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	if err != nil {
		rounded = v
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// Thousands sets the digits of a whole number apart by threes.
func Thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func (c Curves) axis(f Frame, panel CurvePanel) M {
	most := 1.0
	for _, l := range panel.Lines {
		for _, pt := range l.Points {
			most = math.Max(most, pt.X)
		}
		for _, d := range l.Dots {
			most = math.Max(most, d.X)
		}
	}
	m := M{"name": text(c.Axis), "nameLocation": "middle", "nameGap": 28, "nameTextStyle": M{"color": "$muted", "fontSize": 12},
		"axisLine":  M{"show": true, "onZero": false, "lineStyle": M{"color": "$axis"}},
		"minorTick": M{"show": false}, "minorSplitLine": M{"show": false}, "splitLine": M{"show": false}}
	var ticks []float64
	format := "second"
	if c.Percentile {
		format = "percentile"
		least := most
		for _, l := range panel.Lines {
			for _, pt := range l.Points {
				least = math.Min(least, pt.X)
			}
		}
		m["type"], m["min"], m["max"] = "log", least, most*1.05
		for _, x := range []float64{2, 4, 10, 20, 100, 1000, 10000, 100000, 1000000} {
			if x <= most*1.05 && !(f.Narrow && (x == 4 || x == 20)) {
				ticks = append(ticks, x)
			}
		}
	} else if len(c.Steps) > 0 {
		format = "number"
		// Room for the first and the last marker.
		m["type"], m["min"], m["max"], ticks = "log", c.Steps[0]*0.8, c.Steps[len(c.Steps)-1]*1.25, c.Steps
	} else if c.Rate {
		format = "number"
		s := zeroScale([]float64{most}, ticksFor(f, len(c.Panels)))
		m["type"], m["min"], m["max"], ticks = "value", s.low, s.high, s.ticks
	} else {
		most = math.Ceil(most)
		m["type"], m["min"], m["max"] = "value", 0, most
		step := math.Max(1, niceStep(most/8))
		for x := 0.0; x <= most; x += step {
			ticks = append(ticks, x)
		}
	}
	m["axisTick"] = M{"show": true, "customValues": ticks, "lineStyle": M{"color": "$axis"}}
	m["axisLabel"] = M{"color": "$muted", "fontSize": 12, "formatter": "fn:" + format, "customValues": ticks, "hideOverlap": true}
	return m
}
