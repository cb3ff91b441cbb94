// Draws the page's charts for the width and the colours at hand, and lets both change.
(function () {
  'use strict';
  var root = document.documentElement;
  var dark = window.matchMedia('(prefers-color-scheme: dark)');
  var buttons = Array.prototype.slice.call(document.querySelectorAll('[data-theme-choice]'));
  var figures = JSON.parse(document.getElementById('figures').textContent || 'null') || [];
  var narrowBelow = 620;
  var drawn = [];

  function theme() {
    var chosen = root.getAttribute('data-theme');
    return chosen || (dark.matches ? 'dark' : 'light');
  }

  function draw(d) {
    var width = d.box.clientWidth;
    if (!width) return;
    var view = width < narrowBelow ? d.figure.narrow : d.figure.wide;
    d.box.style.height = view.height + 'px';
    if (!d.chart) d.chart = echarts.init(d.box, null, { renderer: 'svg', width: width, height: view.height });
    d.width = width;
    d.chart.resize({ width: width, height: view.height });
    d.chart.setOption(KIT.build(view.option, theme(), width, false), { notMerge: true });
  }

  function all() { drawn.forEach(draw); }

  function choose(name) {
    if (name === 'auto') root.removeAttribute('data-theme');
    else root.setAttribute('data-theme', name);
    buttons.forEach(function (b) { b.setAttribute('aria-pressed', String(b.getAttribute('data-theme-choice') === name)); });
    all();
  }
  buttons.forEach(function (b) { b.addEventListener('click', function () { choose(b.getAttribute('data-theme-choice')); }); });
  dark.addEventListener('change', all);

  root.classList.add('scripted');
  figures.forEach(function (figure) {
    var element = document.querySelector('[data-figure="' + figure.id + '"] .live');
    if (!element) return;
    element.hidden = false;
    var series = figure.narrow.option.series; // a number stands for one of the wide view's
    figure.narrow.option.series = series.map(function (s) { return typeof s === 'number' ? figure.wide.option.series[s] : s; });
    drawn.push({ figure: figure, box: element, chart: null, width: 0 });
  });
  // On paper the still pictures stand in, and the width is nothing.
  var observer = new ResizeObserver(function () {
    drawn.forEach(function (d) { if (d.box.clientWidth && d.box.clientWidth !== d.width) draw(d); });
  });
  drawn.forEach(function (d) { observer.observe(d.box); });
  all();
})();
