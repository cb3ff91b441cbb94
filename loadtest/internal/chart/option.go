package chart

// length is a part of the chart's width and pixels; the kit, which knows the width, makes a number of it.
type length struct{ share, pixels float64 }

func (l length) option() any { return M{"$length": A{l.share, l.pixels}} }

// call is a function of the kit, made with arguments.
func call(name string, args M) M { return M{"$call": name, "args": args} }

// text goes to the chart as it is: a name may begin like a colour or a function.
func text(s any) M { return M{"$text": s} }

func (f Frame) titles() A {
	if f.Title == "" {
		return nil
	}
	out := A{M{"text": text(f.Title), "subtext": text(f.Subtitle), "left": 20, "top": 14, "itemGap": 2, "padding": 0,
		"textStyle":    M{"fontSize": 18, "lineHeight": 25, "fontWeight": 600, "color": "$fg"},
		"subtextStyle": M{"fontSize": 12.5, "lineHeight": 18, "color": "$muted"}}}
	if f.Footer != "" {
		out = append(out, M{"text": text(f.Footer), "left": 20, "bottom": 9, "padding": 0, "textStyle": M{"fontSize": 11, "lineHeight": 15, "fontWeight": 400, "color": "$muted"}})
	}
	return out
}

// tooltip shows what each item's tip says; its function makes elements, so no text of a record becomes markup.
func tooltip(trigger string) M {
	m := M{"trigger": trigger, "formatter": "fn:tip", "confine": true, "backgroundColor": "$panel", "borderColor": "$grid", "borderWidth": 1, "padding": A{8, 12},
		"textStyle": M{"color": "$fg", "fontSize": 12.5}, "transitionDuration": 0}
	if trigger == "axis" {
		m["axisPointer"] = M{"type": "line", "lineStyle": M{"color": "$axis"}}
	}
	return m
}

// Watermark has a view say across itself what must not be cut off: that a run is no evidence.
func (v View) Watermark(words string) View {
	v.Option["graphic"] = A{M{"type": "text", "left": "center", "top": "middle", "rotation": 0.3, "silent": true, "z": 0,
		"style": M{"text": words, "fontSize": max(24, v.Width/22), "fontWeight": 600, "fontFamily": "Inter, sans-serif", "fill": "$alarm/0.13"}}}
	return v
}
