package chart

import (
	"math"
)

// Rows is a figure with one row for each arm (or pair of arms), and one or more panels beside each other, each with an
// axis of its own: the median, an interval, and each trial as a dot.
type Rows struct {
	ID, Title, Subtitle, Finding string
	Panels                       []Panel
	Rows                         []Row
}

// Panel is one axis.
type Panel struct {
	Title  string // above it; may be empty where there is one panel only
	Axis   string // below it: what and unit
	Format string // of its numbers: a name in kit.js
	// Log asks for a logarithmic axis. It has no zero, so there are no bars from it.
	Log bool
	// Line, where not 0, is a value that is marked; Band are the ends of a band around it, of what BandLabel says.
	Line      float64
	Band      [2]float64
	BandLabel string
	// Legend names the colours of the parts that bars of the panel have.
	Legend []Key
}

// Key is a colour of a legend, by its token in kit.js.
type Key struct{ Name, Color string }

// Part is a stretch of a bar that several make up, in the panel's unit.
type Part struct {
	Value float64
	Text  string // in it, where it has room
	Color string // a token of kit.js
}

// head is what stands above a panel, in pixels.
func (p Panel) head() float64 {
	if p.Title != "" || p.BandLabel != "" || len(p.Legend) > 0 {
		return panelHead
	}
	return 0
}

// Row is one arm.
type Row struct {
	Label string // hostile names are the caller's to Clean
	Note  string // below the label, small
	Alarm bool   // the note is a warning
	Style Style
	Tier  string
	Group int // rows of a group stand close together
	Cells []Cell
}

// Cell is a row's figures in one panel.
type Cell struct {
	Mid, Low, High float64 // NaN where there is none
	Text, Small    string  // beside it: the value, and below it the interval
	Tip            []string
	Dots           []Dot
	Parts          []Part // what the bar is made of, from zero on
}

// Dot is one trial.
type Dot struct {
	Value float64
	Tip   []string
}

const (
	rowHeight    = 40
	dotLane      = 10 // below the middle of a row
	groupGap     = 12
	axisHeight   = 46
	panelHead    = 26
	rowsPadding  = 6
	valueWidth   = 112
	labelWidth   = 148
	labelMost    = 300
	labelMarker  = 26 // what a marker takes of it
	narrowLabel  = 124
	narrowValue  = 78
	narrowMargin = 4
	panelMargin  = 20
)

// Figure makes the chart.
func (r Rows) Figure() Figure {
	return Figure{ID: r.ID, Title: r.Title, Subtitle: r.Subtitle, Finding: r.Finding, draw: r.view}
}

func (r Rows) view(f Frame) View {
	margin, label, value := panelMargin, r.labelWidth(), valueWidth
	if f.Narrow {
		margin, label, value = narrowMargin, narrowLabel, narrowValue
	}
	// Where each row is, in pixels from the top of a panel.
	at := make([]float64, len(r.Rows))
	y := float64(rowsPadding)
	for i, row := range r.Rows {
		if i > 0 && row.Group != r.Rows[i-1].Group {
			y += groupGap
		}
		at[i] = y + rowHeight/2.0
		y += rowHeight
	}
	inner := y + rowsPadding

	var grids, xs, ys, series, titles A
	titles = append(titles, f.titles()...)
	top := float64(f.top)
	tallest := 0.0 // side by side they begin at one height
	for _, panel := range r.Panels {
		tallest = math.Max(tallest, panel.head())
	}
	for p, panel := range r.Panels {
		head := tallest
		if f.Narrow {
			head = panel.head()
		}
		// Wide: panels side by side, with the labels before the first. Narrow: one below the other, each with labels.
		withLabels := p == 0 || f.Narrow
		left, width := length{0, float64(margin + label)}, length{1, -float64(margin*2 + label + value)}
		panelTop := top + head
		if f.Narrow {
			top += head + inner + axisHeight
			if p < len(r.Panels)-1 {
				top += 12
			}
		} else if n := float64(len(r.Panels)); n > 1 {
			// Each panel takes the same share of what the labels leave.
			left = length{float64(p) / n, float64(margin+label) - float64(p)/n*float64(margin*2+label)}
			width = length{1 / n, -float64(margin*2+label)/n - float64(value)}
		}
		grids = append(grids, M{"outerBoundsMode": "none", "left": left.option(), "width": width.option(), "top": panelTop, "height": inner})
		if panel.Title != "" {
			titles = append(titles, M{"text": text(panel.Title), "left": left.option(), "top": panelTop - head + 2, "padding": 0,
				"textStyle": M{"fontSize": 13, "lineHeight": 18, "fontWeight": 600, "color": "$fg"}})
		}
		scale := panel.scale(r.Rows, p, ticksFor(f, len(r.Panels)))
		xs = append(xs, M{"type": scale.kind(), "gridIndex": p, "min": scale.low, "max": scale.high, "name": text(panel.Axis), "nameLocation": "middle", "nameGap": 28,
			"nameTextStyle": M{"color": "$muted", "fontSize": 12, "overflow": "truncate"},
			"axisLine":      M{"show": true, "onZero": false, "lineStyle": M{"color": "$axis"}}, "axisTick": M{"show": true, "customValues": scale.ticks, "lineStyle": M{"color": "$axis"}},
			"minorTick": M{"show": false}, "minorSplitLine": M{"show": false}, "splitLine": M{"show": false},
			"axisLabel": M{"color": "$muted", "fontSize": 12, "formatter": "fn:" + panel.Format, "customValues": scale.ticks, "hideOverlap": true}})
		ys = append(ys, M{"type": "value", "gridIndex": p, "min": 0, "max": inner, "inverse": true, "show": false})
		axes := func(m M) M {
			m["xAxisIndex"], m["yAxisIndex"] = p, p
			return m
		}
		background := M{"ticks": scale.ticks, "inner": inner}
		if panel.Line != 0 {
			background["line"] = panel.Line
		}
		if panel.Band[1] > panel.Band[0] {
			background["band"] = A{math.Max(panel.Band[0], scale.low), math.Min(panel.Band[1], scale.high)}
			background["bandLabel"] = text(panel.BandLabel)
		}
		if len(panel.Legend) > 0 {
			var keys A
			for _, k := range panel.Legend {
				keys = append(keys, M{"text": text(k.Name), "color": "$" + k.Color})
			}
			background["keys"] = keys
		}
		series = append(series, axes(M{"type": "custom", "silent": true, "z": 1, "data": A{A{scale.high, 0}}, "encode": M{"x": 0, "y": 1}, "renderItem": call("backdrop", background)}))
		var bars, items, dots, labels A
		for i, row := range r.Rows {
			labels = append(labels, M{"y": at[i], "label": text(row.Label), "note": text(row.Note), "alarm": row.Alarm, "color": "$" + row.Style.Color, "symbol": row.Style.Symbol, "fill": fillOf(row.Tier)})
			if p >= len(row.Cells) {
				continue
			}
			c := row.Cells[p]
			for k, d := range c.Dots {
				if !finite(d.Value) || (panel.Log && d.Value <= 0) {
					continue
				}
				// Below the bar, three deep so that equal ones do not hide each other.
				lane := float64(dotLane + 3*(k%3-1))
				dots = append(dots, M{"value": A{d.Value, at[i] + lane}, "tip": text(d.Tip), "symbol": row.Style.Symbol,
					"itemStyle": M{"color": "$" + row.Style.Color + "/" + dotFill(row.Tier), "borderColor": "$" + row.Style.Color, "borderWidth": 1}})
			}
			item := M{"y": at[i], "text": text(c.Text), "small": text(c.Small), "color": "$" + row.Style.Color, "fill": fillOf(row.Tier), "bar": !panel.Log, "value": value - 10}
			x := scale.high
			if finite(c.Mid) {
				item["mid"], x = c.Mid, c.Mid
			}
			if finite(c.Low) && finite(c.High) {
				item["low"], item["high"] = c.Low, c.High
			}
			if len(c.Parts) > 0 {
				var parts A
				for _, part := range c.Parts {
					parts = append(parts, M{"value": part.Value, "text": text(part.Text), "color": "$" + part.Color})
				}
				item["parts"] = parts
			}
			items = append(items, item)
			bars = append(bars, M{"value": A{x, at[i]}, "tip": text(c.Tip)})
		}
		series = append(series,
			axes(M{"type": "custom", "z": 2, "data": bars, "encode": M{"x": 0, "y": 1}, "renderItem": call("row", M{"items": items})}),
			axes(M{"type": "scatter", "z": 4, "data": dots, "symbolSize": 6.5, "encode": M{"x": 0, "y": 1}}),
			axes(M{"type": "custom", "silent": true, "z": 5, "data": bars, "encode": M{"x": 0, "y": 1}, "renderItem": call("interval", M{"items": items})}))
		if withLabels {
			series = append(series, axes(M{"type": "custom", "silent": true, "z": 2, "clip": false, "data": places(scale.low, at), "encode": M{"x": 0, "y": 1}, "renderItem": call("label", M{"items": labels, "low": scale.low, "width": label - labelMarker})}))
		}
	}
	height := top + float64(f.bottom)
	if !f.Narrow {
		height = float64(f.top) + tallest + inner + axisHeight + float64(f.bottom)
	}
	return View{f.Width, int(math.Ceil(height)), M{"title": titles, "grid": grids, "xAxis": xs, "yAxis": ys, "series": series, "tooltip": tooltip("item")}}
}

// ticksFor is how many values an axis may name without crowding.
func ticksFor(f Frame, panels int) int {
	switch {
	case f.Narrow:
		return 3
	case panels > 1:
		return 4
	}
	return 8
}

func dotFill(tier string) string {
	if tier == "floor" {
		return "0"
	}
	return "0.55"
}

func places(x float64, at []float64) A {
	var out A
	for _, y := range at {
		out = append(out, A{x, y})
	}
	return out
}

// labelWidth is what the widest label asks for, in pixels, within bounds.
func (r Rows) labelWidth() int {
	m, widest := newMeter(), 0.0
	for _, row := range r.Rows {
		widest = math.Max(widest, m.width(row.Label, "600 13px"))
	}
	return min(labelMost, max(labelWidth, int(math.Ceil(widest))+labelMarker+4))
}

func (p Panel) scale(rows []Row, index, count int) scale {
	var values []float64
	for _, row := range rows {
		if index >= len(row.Cells) {
			continue
		}
		c := row.Cells[index]
		values = append(values, c.Mid, c.Low, c.High)
		sum := math.NaN()
		for i, part := range c.Parts {
			if i == 0 {
				sum = 0
			}
			sum += part.Value
		}
		values = append(values, sum)
		for _, d := range c.Dots {
			values = append(values, d.Value)
		}
	}
	if p.Line != 0 {
		values = append(values, p.Line)
	}
	if p.Log {
		return logScale(values, count)
	}
	return zeroScale(values, count)
}
