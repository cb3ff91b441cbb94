package report

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/chart"
)

// needs ends a test for want of something: in CI it fails, elsewhere it is skipped.
func needs(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func needsAssets(t *testing.T) {
	t.Helper()
	if err := chart.Ready(); err != nil {
		needs(t, "%v", err)
	}
}

// profileFolder is a folder that is removed once Chromium's processes have ended, some of which write after the first is gone.
func profileFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "chromium-profile-")
	require.NoError(t, err)
	t.Cleanup(func() {
		var err error
		for range 100 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		assert.NoError(t, err)
	})
	return dir
}

// browser starts Chromium, with a profile of its own that is gone afterwards.
func browser(t *testing.T) context.Context {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		needs(t, "no Chromium here: apt-get install chromium")
	}
	// Not chromedp's own flags: only what keeps it to itself.
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program), chromedp.UserDataDir(profileFolder(t)), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WSURLReadTimeout(2 * time.Minute),
	}
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	// Whatever is waited for and never comes ends the test and not the whole package.
	ctx, stop = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(stop)
	return ctx
}

// watch collects what a page must not do: speak on the console, break its policy, ask anybody for anything.
type watch struct {
	mu   sync.Mutex
	said []string
}

func (w *watch) on(ctx context.Context, own string) {
	add := func(format string, args ...any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.said = append(w.said, fmt.Sprintf(format, args...))
	}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			var args []string
			for _, a := range e.Args {
				args = append(args, string(a.Value))
			}
			add("console %s: %s", e.Type, strings.Join(args, " "))
		case *runtime.EventExceptionThrown:
			add("exception: %s", e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			add("log %s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		case *page.EventJavascriptDialogOpening:
			add("dialog: %s", e.Message)
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; u != own && !strings.HasPrefix(u, "data:") {
				add("request: %.120s", u)
			}
		}
	})
}

func (w *watch) findings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said
}

func fileURL(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

// reported makes the page of a run that was made up.
func reported(t *testing.T, m made) (file string) {
	t.Helper()
	dir := m.write(t)
	r, err := Make(t.Context(), opened(t, dir), Options{NoPNG: true})
	require.NoError(t, err)
	require.NoError(t, r.Write(dir))
	return filepath.Join(dir, "report.html")
}

// hostile is a run whose every text tries to be something else.
func hostile() made {
	m := quick()
	m.blocks, m.floors = 2, 2
	m.rename = map[string]string{
		"go": `<img src="x:y" onerror="document.pwned=1">`, "node": `"><script>document.pwned=1</script>`, "rust": `$fg`, "go-floor": `fn:number`,
		"node-floor": "{a|b} \u202e evil\n# heading", "rust-floor": `</script></style></svg>]]><script>document.pwned=1</script>`, "node-compiled": "| cell | `code` [link](http://127.0.0.1:9/) ![x](y) <!-- x --> &amp; **b**",
	}
	m.change = hostileChange
	return m
}

func TestPageInChromium(t *testing.T) {
	needsAssets(t)
	axe, err := os.ReadFile(filepath.Join("..", "..", "..", "scripts", "charts", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		needs(t, "no axe-core: make build-charts (%v)", err)
	}
	evidence := quick()
	evidence.blocks, evidence.floors = 3, 2 // fewer rows for axe-core to go through
	pages := map[string]string{"quick": reported(t, evidence), "smoke": reported(t, smoke()), "hostile": reported(t, hostile())}
	ctx := browser(t)
	require.NoError(t, chromedp.Run(ctx), "start Chromium")
	for name, file := range pages {
		for _, theme := range []string{"light", "dark"} {
			for _, width := range []int64{360, 1440} {
				t.Run(fmt.Sprintf("%s, %s, %d px", name, theme, width), func(t *testing.T) {
					tab, stop := chromedp.NewContext(ctx)
					defer stop()
					var w watch
					w.on(tab, fileURL(file))
					var drawn, figures int
					var overflow, pwned bool
					var spilt string
					var findings string
					require.NoError(t, chromedp.Run(tab,
						log.Enable(), network.Enable(),
						emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}),
						chromedp.EmulateViewport(width, 900),
						chromedp.Navigate(fileURL(file)),
						chromedp.WaitVisible(`.live svg`),
						chromedp.Evaluate(`document.querySelectorAll('.live svg').length`, &drawn),
						chromedp.Evaluate(`document.querySelectorAll('figure').length`, &figures),
						chromedp.Evaluate(`document.documentElement.scrollWidth > window.innerWidth`, &overflow),
						chromedp.Evaluate(`([...document.querySelectorAll('th, td')].find(c => c.scrollWidth > c.clientWidth + 1) || {textContent: ''}).textContent`, &spilt),
						chromedp.Evaluate(`document.pwned !== undefined || document.querySelector('[onerror]') !== null`, &pwned),
						chromedp.Evaluate(string(axe)+";0", nil),
						chromedp.Evaluate(`axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ') + ' ' + n.failureSummary).join(' | '))))`, &findings,
							func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }),
					))
					assert.Positive(t, figures)
					assert.Equal(t, figures, drawn, "every figure is drawn")
					assert.False(t, overflow, "the page is wider than the screen")
					assert.Empty(t, spilt, "this text runs out of its cell into the next")
					assert.False(t, pwned, "a name became markup")
					assert.Equal(t, "[]", findings, "axe-core")
					assert.Empty(t, w.findings(), "console, policy and network")
				})
			}
		}
	}
}

// Every place that a keyboard needs can be reached with Tab, in the order of the page, and the theme can be changed.
func TestKeyboardReachesEverything(t *testing.T) {
	needsAssets(t)
	file := reported(t, smoke())
	ctx := browser(t)
	var wanted int
	require.NoError(t, chromedp.Run(ctx, chromedp.EmulateViewport(1200, 900), chromedp.Navigate(fileURL(file)), chromedp.WaitVisible(`.live svg`),
		chromedp.Evaluate(`window.reached = []; document.querySelectorAll('a[href], button, [tabindex="0"]').length`, &wanted)))
	require.Greater(t, wanted, 10)
	for range wanted {
		require.NoError(t, chromedp.Run(ctx, chromedp.KeyEvent(kb.Tab), chromedp.Evaluate(`window.reached.push(document.activeElement); 0`, nil)))
	}
	var inOrder bool
	require.NoError(t, chromedp.Run(ctx, chromedp.Evaluate(`(() => { const all = [...document.querySelectorAll('a[href], button, [tabindex="0"]')]; return all.every((e, i) => window.reached[i] === e); })()`, &inOrder)))
	assert.True(t, inOrder)
	var before, after string
	require.NoError(t, chromedp.Run(ctx,
		chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &before),
		chromedp.Focus(`[data-theme-choice="dark"]`), chromedp.KeyEvent(kb.Enter),
		chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &after)))
	assert.NotEqual(t, before, after)
	var pressed string
	require.NoError(t, chromedp.Run(ctx, chromedp.Evaluate(`document.querySelector('[aria-pressed="true"]').textContent`, &pressed)))
	assert.Equal(t, "Dark", pressed)
}

// On paper the still pictures stand in for the live charts, and without scripts too.
func TestPageOnPaperAndWithoutScripts(t *testing.T) {
	needsAssets(t)
	file := reported(t, smoke())
	ctx := browser(t)
	const stills = `(() => { const f = [...document.querySelectorAll('figure')]; return JSON.stringify([f.length, f.filter(x => x.querySelector('.still').getBoundingClientRect().height > 50 && x.querySelector('svg.still text').getBoundingClientRect().width > 0).length, f.filter(x => x.querySelector('.live').getBoundingClientRect().height > 0).length]); })()`
	visible := func(text string) (figures, still, live int) {
		var n [3]int
		require.NoError(t, json.Unmarshal([]byte(text), &n))
		return n[0], n[1], n[2]
	}
	var screen, paper, banner, scriptless string
	var pdf []byte
	require.NoError(t, chromedp.Run(ctx, chromedp.EmulateViewport(1200, 900), chromedp.Navigate(fileURL(file)), chromedp.WaitVisible(`.live svg`),
		chromedp.Evaluate(stills, &screen),
		emulation.SetEmulatedMedia().WithMedia("print"), chromedp.Evaluate(stills, &paper),
		chromedp.Evaluate(`JSON.stringify([...document.styleSheets].flatMap(s => [...s.cssRules]).map(r => r.cssText).filter(t => t.includes('@bottom-center')))`, &banner),
		chromedp.ActionFunc(func(ctx context.Context) (err error) {
			pdf, _, err = page.PrintToPDF().WithPrintBackground(true).Do(ctx)
			return err
		}),
		emulation.SetEmulatedMedia().WithMedia(""),
		emulation.SetScriptExecutionDisabled(true), chromedp.Navigate(fileURL(file)),
	))
	figures, still, live := visible(screen)
	assert.Equal(t, []int{0, figures}, []int{still, live}, "on the screen")
	figures, still, live = visible(paper)
	assert.Equal(t, []int{figures, 0}, []int{still, live}, "on paper")
	assert.Contains(t, banner, "NO EVIDENCE", "it is said in the margin of every sheet, and the browser knows the rule")
	assert.True(t, strings.HasPrefix(string(pdf), "%PDF-"))
	assert.Greater(t, len(pdf), 50_000)
	require.NoError(t, chromedp.Run(ctx, chromedp.Evaluate(stills, &scriptless)))
	figures, still, live = visible(scriptless)
	assert.Equal(t, []int{figures, 0}, []int{still, live}, "without scripts")
}

// What is hovered says its numbers.
func TestTipsSayWhatTheRecordHas(t *testing.T) {
	needsAssets(t)
	file := reported(t, hostile())
	ctx := browser(t)
	var w watch
	w.on(ctx, fileURL(file))
	var at []float64
	require.NoError(t, chromedp.Run(ctx, log.Enable(), network.Enable(), chromedp.EmulateViewport(1200, 900), chromedp.Navigate(fileURL(file)), chromedp.WaitVisible(`.live svg`),
		chromedp.Evaluate(`(() => { const bar = [...document.querySelectorAll('figure:first-of-type .live svg path')].find(p => { const r = p.getBoundingClientRect(); return p.getAttribute('stroke-width') === '1.25' && r.height > 10 && r.height < 24 && r.width > 100; }); bar.scrollIntoView({block: 'center'}); const r = bar.getBoundingClientRect(); return [r.x + 20, r.y + r.height / 2]; })()`, &at)))
	require.Len(t, at, 2)
	var text string
	require.NoError(t, chromedp.Run(ctx, chromedp.MouseEvent("mouseMoved", at[0]-3, at[1]), chromedp.MouseEvent("mouseMoved", at[0], at[1]),
		chromedp.Evaluate(`new Promise(done => { let frames = 0; const look = () => { const head = document.querySelector('.tip-head'); if (head) done(head.parentElement.innerText); else if (++frames > 600) done('no tip'); else requestAnimationFrame(look); }; look(); })`, &text,
			func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) })))
	assert.Contains(t, text, "median ")
	assert.Contains(t, text, "2 trials")
	assert.Empty(t, w.findings())
}
