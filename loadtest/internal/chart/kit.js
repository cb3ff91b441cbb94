// Turns the definitions of package chart into ECharts options: in the report's page and, without a browser, in goja.
// Written for both, so: no DOM but in tip, no clock, no random numbers.
(function (root) {
  'use strict';
  var THEMES = {
    light: {
      bg: '#ffffff', panel: '#ffffff', fg: '#1b2430', muted: '#556070', grid: '#e4e8ed', axis: '#8d99a6', band: '#8A3FA0', alarm: '#b3261e',
      'c.go': '#0A8FC0', 'c.node': '#2D593E', 'c.rust': '#E0601B', 'c.4': '#7A4FBF', 'c.5': '#9A7B00', 'c.6': '#C2377E', 'c.7': '#56606b',
      'c.8': '#0F9D8A', 'c.9': '#7A3E1D', 'c.10': '#23358F', 'c.11': '#4E9A06', 'c.12': '#8B0A2E'
    },
    dark: {
      bg: '#0f151c', panel: '#1b2530', fg: '#e6ebf1', muted: '#a3b0be', grid: '#26303b', axis: '#5d6a78', band: '#C792EA', alarm: '#ff8a80',
      'c.go': '#1DA5E0', 'c.node': '#BFE695', 'c.rust': '#E8552F', 'c.4': '#B99BF0', 'c.5': '#E3C04A', 'c.6': '#F08FBE', 'c.7': '#b3bdc8',
      'c.8': '#2FD0BC', 'c.9': '#B5835A', 'c.10': '#6F86FF', 'c.11': '#52B63C', 'c.12': '#CF3B63'
    }
  };
  // Markers beside those of ECharts, between -1 and 1.
  var MARKS = {
    down: 'M-1,-1L1,-1L0,1Z',
    right: 'M-1,-1L1,0L-1,1Z',
    left: 'M1,-1L1,1L-1,0Z',
    plus: 'M-.38,-1L.38,-1L.38,-.38L1,-.38L1,.38L.38,.38L.38,1L-.38,1L-.38,.38L-1,.38L-1,-.38L-.38,-.38Z',
    cross: 'M-1,-.55L-.55,-1L0,-.45L.55,-1L1,-.55L.45,0L1,.55L.55,1L0,.45L-.55,1L-1,.55L-.45,0Z',
    star: 'M0,-1L0.25,-0.34L0.95,-0.31L0.40,0.13L0.59,0.81L0,0.42L-0.59,0.81L-0.40,0.13L-0.95,-0.31L-0.25,-0.34Z',
    hourglass: 'M-1,-1L1,-1L-1,1L1,1Z',
    hexagon: 'M-.5,-1L.5,-1L1,0L.5,1L-.5,1L-1,0Z'
  };
  // Single quotes only: zrender does not escape them.
  var FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";

  function alpha(hex, a) {
    return 'rgba(' + parseInt(hex.slice(1, 3), 16) + ',' + parseInt(hex.slice(3, 5), 16) + ',' + parseInt(hex.slice(5, 7), 16) + ',' + a + ')';
  }
  // Three significant digits below 1,000, whole numbers with separators above.
  function number(v) {
    if (!isFinite(v)) return '–';
    var a = Math.abs(v);
    if (a >= 1000) return String(Math.round(v)).replace(/\B(?=(\d{3})+$)/g, ',');
    return String(+v.toPrecision(3));
  }
  var FORMATS = {
    number: number,
    ms: function (v) { return v >= 1000 ? number(v / 1000) + ' s' : v < 0.1 ? number(v * 1000) + ' µs' : number(v) + ' ms'; },
    ratio: function (v) { return String(+v.toPrecision(4)) + '×'; },
    second: function (v) { return number(v) + ' s'; },
    // x = 1 ÷ (1 − q)
    percentile: function (x) {
      if (x <= 1) return '0 %';
      return String(+(100 * (1 - 1 / x)).toFixed(Math.max(0, Math.ceil(Math.log(x) / Math.LN10 - 2 - 1e-9)))) + ' %';
    }
  };

  // What a hovered thing says: lines made in Go, set as text.
  function tip(items) {
    var lines = [];
    (Array.isArray(items) ? items : [items]).forEach(function (p, i) {
      var own = p && p.data && p.data.tip;
      if (!own) return;
      if (p.axisValue !== undefined) { // one line a series, under the first's head
        if (!lines.length) lines.push(own[0]);
        lines.push(own[1]);
      } else if (i === 0) lines = own;
    });
    if (!lines.length) return '';
    var box = document.createElement('div');
    lines.forEach(function (line, i) {
      var row = document.createElement('div');
      row.textContent = line;
      if (i === 0) row.className = 'tip-head';
      box.appendChild(row);
    });
    return box;
  }

  function text(s, x, y, size, color, weight, align, width) {
    return {
      type: 'text', silent: true, x: x, y: y,
      style: {
        text: s, fontSize: size, fontWeight: weight, fontFamily: FONT, fill: color, align: align || 'left', verticalAlign: 'middle', lineHeight: size + 3,
        width: width, overflow: width ? 'truncate' : undefined, ellipsis: '…'
      }
    };
  }
  function line(x1, y1, x2, y2, color, width, dash) {
    return { type: 'line', silent: true, shape: { x1: x1, y1: y1, x2: x2, y2: y2 }, style: { stroke: color, lineWidth: width, lineDash: dash || null } };
  }
  function marker(symbol, x, y, r, fill, stroke) {
    var style = { fill: fill, stroke: stroke, lineWidth: 1.5 };
    if (symbol.slice(0, 7) === 'path://') return { type: 'path', silent: true, shape: { pathData: symbol.slice(7), x: x - r, y: y - r, width: 2 * r, height: 2 * r, layout: 'cover' }, style: style };
    if (symbol === 'circle') return { type: 'circle', silent: true, shape: { cx: x, cy: y, r: r }, style: style };
    var points = symbol === 'triangle' ? [[x, y - r], [x + r, y + r], [x - r, y + r]]
      : symbol === 'diamond' ? [[x, y - r * 1.2], [x + r * 1.2, y], [x, y + r * 1.2], [x - r * 1.2, y]]
        : [[x - r, y - r], [x + r, y - r], [x + r, y + r], [x - r, y + r]];
    return { type: 'polygon', silent: true, shape: { points: points }, style: style };
  }

  // Makers of functions for ECharts' custom series.
  var MAKERS = {
    // Grid lines, a band and a line, behind everything.
    backdrop: function (a, T) {
      return function (params, api) {
        var c = params.coordSys, kids = [];
        if (a.band) {
          var from = api.coord([a.band[0], 0])[0], to = api.coord([a.band[1], 0])[0];
          kids.push({ type: 'rect', silent: true, shape: { x: from, y: c.y, width: Math.max(1, to - from), height: c.height }, style: { fill: alpha(T.band, 0.16) } });
        }
        a.ticks.forEach(function (v) {
          var x = Math.round(api.coord([v, 0])[0]) + 0.5;
          kids.push(line(x, c.y, x, c.y + c.height, T.grid, 1));
        });
        if (a.line !== undefined) {
          var at = api.coord([a.line, 0])[0];
          kids.push(line(at, c.y, at, c.y + c.height, T.fg, 1, [4, 3]));
        }
        if (a.bandLabel) kids.push(text(a.bandLabel, c.x, c.y - 12, 11.5, T.muted, 400, 'left'));
        var left = c.x;
        (a.keys || []).forEach(function (k) {
          kids.push({ type: 'rect', silent: true, shape: { x: left, y: c.y - 17, width: 10, height: 10 }, style: { fill: k.color } });
          kids.push(text(k.text, left + 15, c.y - 12, 11.5, T.muted, 400, 'left'));
          left += 33 + 6.4 * k.text.length;
        });
        return { type: 'group', children: kids };
      };
    },
    // Stretches that are shaded, grid lines both ways, and a line at a limit.
    lattice: function (a, T) {
      return function (params, api) {
        var c = params.coordSys, kids = [];
        (a.spans || []).forEach(function (span) {
          var from = api.coord([span[0], a.ys[0]])[0], to = api.coord([span[1], a.ys[0]])[0];
          kids.push({ type: 'rect', silent: true, shape: { x: from, y: c.y, width: Math.max(2, to - from), height: c.height }, style: { fill: alpha(T.band, 0.16) } });
        });
        a.xs.forEach(function (v) {
          var x = Math.round(api.coord([v, a.ys[0]])[0]) + 0.5;
          if (x >= c.x && x <= c.x + c.width + 1) kids.push(line(x, c.y, x, c.y + c.height, T.grid, 1));
        });
        a.ys.forEach(function (v) {
          var y = Math.round(api.coord([a.xs[0], v])[1]) + 0.5;
          kids.push(line(c.x, y, c.x + c.width, y, T.grid, 1));
        });
        if (a.limit !== undefined) {
          var at = api.coord([a.xs[0], a.limit])[1];
          kids.push(line(c.x, at, c.x + c.width, at, T.fg, 1, [4, 3]));
          if (a.limitLabel) kids.push(text(a.limitLabel, c.x + 6, at - 9, 11.5, T.fg, 600, 'left', c.width - 12));
        }
        return { type: 'group', children: kids };
      };
    },
    // A bar from zero to the median, and the numbers beside it.
    row: function (a, T) {
      return function (params, api) {
        var it = a.items[params.dataIndex], c = params.coordSys, kids = [];
        var y = api.coord([api.value(0), it.y])[1];
        if (it.parts) {
          var sum = 0;
          it.parts.forEach(function (p) {
            var from = api.coord([sum, it.y])[0], to = api.coord([sum + p.value, it.y])[0];
            sum += p.value;
            kids.push({ type: 'rect', shape: { x: from, y: y - 14, width: Math.max(1, to - from), height: 16 }, style: { fill: p.color } });
            if (to - from > 8 + 7 * p.text.length) kids.push(text(p.text, (from + to) / 2, y - 6, 11.5, T.bg, 600, 'center'));
          });
        } else if (it.mid !== undefined) {
          var x = api.coord([it.mid, it.y])[0];
          if (it.bar) {
            kids.push({
              type: 'rect', shape: { x: c.x, y: y - 14, width: Math.max(1, x - c.x), height: 16, r: [0, 2, 2, 0] },
              style: { fill: alpha(it.color, 0.1 + 0.32 * it.fill), stroke: it.color, lineWidth: 1.25, lineDash: it.fill === 0 ? [3, 2] : null }
            });
          }
        }
        var right = c.x + c.width + 10;
        if (it.text) kids.push(text(it.text, right, it.small ? y - 7 : y, 13, T.fg, 600, 'left', it.value));
        if (it.small) kids.push(text(it.small, right, y + 9, 11, T.muted, 400, 'left', it.value));
        return { type: 'group', children: kids };
      };
    },
    // Median and interval, before the dots.
    interval: function (a, T) {
      return function (params, api) {
        var it = a.items[params.dataIndex];
        if (it.mid === undefined) return null;
        var m = api.coord([it.mid, it.y]), y = m[1] - 6, kids = [];
        if (it.low !== undefined) {
          var low = api.coord([it.low, it.y])[0], high = api.coord([it.high, it.y])[0];
          kids.push(line(low, y, high, y, T.fg, 1.75), line(low, y - 4, low, y + 4, T.fg, 1.75), line(high, y - 4, high, y + 4, T.fg, 1.75));
        }
        kids.push(line(m[0], y - 8, m[0], y + 8, T.fg, 2.5));
        return { type: 'group', children: kids };
      };
    },
    // A row's name and note, before its axis.
    label: function (a, T) {
      return function (params, api) {
        var it = a.items[params.dataIndex], p = api.coord([a.low, it.y]), kids = [], y = p[1];
        kids.push(marker(it.symbol, p[0] - 14, it.note ? y - 7 : y, 4.5, alpha(it.color, it.fill), it.color));
        kids.push(text(it.label, p[0] - 26, it.note ? y - 7 : y, 13, T.fg, 600, 'right', a.width));
        if (it.note) kids.push(text(it.note, p[0] - 10, y + 9, 11, it.alarm ? T.alarm : T.muted, it.alarm ? 600 : 400, 'right', a.width + 16));
        return { type: 'group', children: kids };
      };
    }
  };

  // build makes an option of a definition, for a theme and a width.
  function build(spec, theme, width, still) {
    var T = THEMES[theme];
    function resolve(v) {
      if (typeof v === 'string') {
        if (v.slice(0, 3) === 'fn:') return v === 'fn:tip' ? tip : FORMATS[v.slice(3)];
        if (v.slice(0, 5) === 'mark:') return 'path://' + MARKS[v.slice(5)];
        if (v.charAt(0) === '$') {
          var m = v.slice(1).split('/'), c = T[m[0]];
          return c === undefined ? v : m[1] ? alpha(c, m[1]) : c;
        }
        return v;
      }
      if (Array.isArray(v)) return v.map(resolve);
      if (v && typeof v === 'object') {
        if (v.$length) return Math.round(v.$length[0] * width + v.$length[1]);
        if (v.$call) return MAKERS[v.$call](resolve(v.args), T);
        if (v.$text !== undefined) return v.$text; // from a record: as it is, whatever it begins with
        var o = {};
        for (var k in v) o[k] = resolve(v[k]);
        return o;
      }
      return v;
    }
    var option = resolve(spec);
    option.textStyle = { fontFamily: FONT, color: T.fg };
    option.backgroundColor = still ? T.bg : 'transparent';
    option.animation = false;
    if (still) {
      delete option.tooltip;
      delete option.dataZoom;
    }
    return option;
  }

  root.KIT = {
    build: build,
    themes: THEMES,
    marks: MARKS,
    svg: function (json, theme, width, height) {
      var chart = root.echarts.init(null, null, { renderer: 'svg', ssr: true, width: width, height: height });
      chart.setOption(build(JSON.parse(json), theme, width, true));
      var svg = chart.renderToSVGString({ useViewBox: true });
      chart.dispose();
      return svg;
    }
  };
})(typeof globalThis !== 'undefined' ? globalThis : this);
