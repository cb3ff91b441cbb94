package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/scrape"
	"lab/loadtest/internal/stats"
	"lab/loadtest/internal/summary"
)

// runtimeOf is what an arm's runtime told in the trial that is drawn for it.
type runtimeOf struct {
	trial  record.Trial
	series *record.RuntimeSeries
}

// toldBy is what the arms of a group told in one kind of trial.
type toldBy struct {
	at    string // the load, for titles
	trial string // which of an arm's trials is drawn
	of    map[string]runtimeOf
}

// told is what arms told at the common rate, or where none has trials at one, under the load that decides.
func (b *build) told(g summary.Group) toldBy {
	if of := b.runtimes[groupKey(g)]; len(of) > 0 {
		return toldBy{b.atRate(g), "the one with the median p99", of}
	}
	return b.toldAtMost(g)
}

// toldAtMost is what arms told where they were asked for all that they can: of scenarios that throughput decides.
func (b *build) toldAtMost(g summary.Group) toldBy {
	at := "with more than the arm bears"
	if s := b.scenario(g); s != nil && s.MostConnections() > 0 {
		at = "with " + summary.Plural(s.MostConnections(), "connection")
	}
	return toldBy{at, "the one with the median throughput", b.atMost[groupKey(g)]}
}

// readRuntime reads the series of one trial of an arm at the common rate, the one with the median p99, and where throughput
// decides of one of the trials that do, the one with the median throughput; the lower of two.
// All trials would be drawn over each other, and an average would flatten what a line is looked at for.
func (b *build) readRuntime(s record.Saved, g summary.Group, a summary.Arm) error {
	key := groupKey(g)
	if err := readMiddle(s, b.runtimes, key, a.Name, a.Rate, func(t record.Trial) float64 { return float64(t.LatencyP99NS) }); err != nil {
		return err
	}
	claim := b.scenario(g)
	if claim == nil || claim.Metric != "achieved_rps" && claim.Metric != contract.MetricGrowth {
		return nil
	}
	trials := a.Throughput
	if most := claim.MostConnections(); most > 0 {
		trials = a.ClosedAt(most)
	}
	return readMiddle(s, b.atMost, key, a.Name, trials, func(t record.Trial) float64 { return t.AchievedRPS })
}

// readMiddle reads the series of the trial that is in the middle by a figure, of those that have one.
func readMiddle(s record.Saved, into map[string]map[string]runtimeOf, key, arm string, of []record.Trial, figure func(record.Trial) float64) error {
	trials := slices.DeleteFunc(slices.Clone(of), func(t record.Trial) bool { return t.RuntimeSeries == "" })
	if len(trials) == 0 {
		return nil
	}
	slices.SortStableFunc(trials, func(x, y record.Trial) int { return cmp.Compare(figure(x), figure(y)) })
	t := trials[(len(trials)-1)/2]
	series, err := s.Runtime(t)
	if err != nil {
		return err
	}
	if into[key] == nil {
		into[key] = map[string]runtimeOf{}
	}
	into[key][arm] = runtimeOf{t, series}
	return nil
}

// seconds are the intervals of the trial, by the seconds at which they begin and end, that lie in its load by more than
// half.
func (r runtimeOf) seconds() (places []int, begin, end []float64) {
	before := r.series.BeganNS
	for i, at := range r.series.EndsNS {
		if middle := (before + at) / 2; middle >= 0 && middle <= r.trial.DurationNS {
			places = append(places, i)
			begin, end = append(begin, time.Duration(before).Seconds()), append(end, time.Duration(at).Seconds())
		}
		before = at
	}
	return places, begin, end
}

// workers is how many told of their time at once; 0 where none did. Of several each is told of, of one the whole. One that
// took the place of another counts once with it.
func (r runtimeOf) workers() (most int) {
	if _, told := r.series.Series[busyShare]; !told {
		return 0
	}
	for interval := range r.series.EndsNS {
		n := 0
		for _, series := range r.series.Workers {
			if values := series[busyShare]; interval < len(values) && values[interval] != nil {
				n++
			}
		}
		most = max(most, n)
	}
	return max(1, most)
}

// runtimePanel is one panel and one column: the first of the series that an arm has, in another unit.
type runtimePanel struct {
	title, head, unit string
	series            []string
	factor            float64
	format            func(float64) string
}

// value is what an arm has in an interval, or false.
func (p runtimePanel) value(r runtimeOf, interval int) (float64, bool) {
	return p.valueIn(r.series.Series, interval)
}

// valueIn is value of the whole or of one worker.
func (p runtimePanel) valueIn(series map[string][]*float64, interval int) (float64, bool) {
	for _, name := range p.series {
		if values, ok := series[name]; ok {
			if values[interval] == nil {
				return 0, false
			}
			return *values[interval] * p.factor, true
		}
	}
	return 0, false
}

// points are the figure over the seconds of a trial's load, of the whole or of one worker; who stands in the tips.
func (p runtimePanel) points(r runtimeOf, series map[string][]*float64, who string) (out []chart.Point) {
	places, begin, end := r.seconds()
	for k, place := range places {
		if v, ok := p.valueIn(series, place); ok {
			out = append(out, chart.Point{X: (begin[k] + end[k]) / 2, Y: v, Marked: true, Tip: []string{
				fmt.Sprintf("second %s–%s", one(begin[k]), one(end[k])), who + "  " + p.format(v) + " " + p.unit,
			}})
		}
	}
	return out
}

// absent is why an arm has none of the panel's series; empty where it has one.
func (p runtimePanel) absent(r runtimeOf) string {
	why := ""
	for _, name := range p.series {
		if _, ok := r.series.Series[name]; ok {
			return ""
		}
		if why == "" {
			why = r.series.Absent[name]
		}
	}
	return why
}

var (
	runtimePauses = []runtimePanel{
		{"GC pause, ms in a second", "GC pause ms/s", "ms/s", []string{"gc_pause_seconds_per_second"}, 1e3, three},
		{"longest GC pause, ms", "longest pause ms", "ms", []string{"gc_longest_pause_seconds"}, 1e3, three},
		{"delay before running, p99, ms", "delay p99 ms", "ms", []string{"scheduling_delay_p99_seconds", "event_loop_delay_p99_seconds"}, 1e3, three},
	}
	pausesBeside = []runtimePanel{
		{"", "GC pauses /s", "/s", []string{"gc_pauses_per_second"}, 1, one},
	}
	runtimeCollections = []runtimePanel{
		{"minor, ms in a second", "minor ms/s", "ms/s", []string{"gc_minor_pause_seconds_per_second"}, 1e3, three},
		{"major, ms in a second", "major ms/s", "ms/s", []string{"gc_major_pause_seconds_per_second"}, 1e3, three},
		{"incremental, ms in a second", "incremental ms/s", "ms/s", []string{"gc_incremental_pause_seconds_per_second"}, 1e3, three},
		{"collector's CPU, s in a second", "GC CPU s/s", "s/s", []string{"gc_cpu_seconds_per_second"}, 1, three},
	}
	runtimeLoad = []runtimePanel{
		{"busy share of workers, %", "workers busy %", "%", []string{busyShare}, 100, one},
		{"CPU time, s in a second", "CPU s/s", "s/s", []string{"cpu_seconds_per_second"}, 1, two},
		{"heap of the system, MB", "heap MB", "MB", []string{"heap_committed_bytes"}, 1e-6, one},
	}
	globalQueue = runtimePanel{"tasks in the global queue", "global queue", "tasks", []string{"global_queue_tasks"}, 1, whole}
	loadBeside  = []runtimePanel{
		{"", "busiest worker %", "%", []string{"busiest_worker_busy_share"}, 100, one},
		{"", "heap used MB", "MB", []string{"heap_used_bytes"}, 1e-6, one},
	}
	tasksPanel  = runtimePanel{"goroutines or tasks", "goroutines or tasks", "", []string{"goroutines", "tasks"}, 1, whole}
	runtimeWork = []runtimePanel{
		{"connections in use", "connections in use", "in use", []string{"pool_in_use_connections"}, 1, one},
		{"wait for one, ms in a second", "pool wait ms/s", "ms/s", []string{"pool_wait_seconds_per_second"}, 1e3, two},
		{"keys in a batch of the loader", "keys per batch", "keys", []string{"loader_batch_keys_mean"}, 1, one},
	}
	workBeside = []runtimePanel{
		{"", "SQL statements /s", "/s", []string{"statements_per_second"}, 1, whole},
	}
	documentsKept = runtimePanel{"documents found parsed, %", "documents in cache %", "%", []string{"document_cache_hit_share"}, 100, one}
	inRedis       = runtimePanel{"found in Redis, %", "found in Redis %", "%", []string{"cache_hit_share"}, 100, one}
	runtimeSteals = []runtimePanel{
		{"stolen tasks a second", "steals /s", "/s", []string{stealsSeries}, 1, whole},
		{"polls of tasks a second", "polls /s", "/s", []string{"worker_polls_per_second"}, 1, whole},
		{"tasks in the workers' own queues", "local queues", "tasks", []string{"local_queue_tasks"}, 1, whole},
	}
	runtimeWorkers = []runtimePanel{
		{"busy, %", "busy %", "%", []string{busyShare}, 100, one},
		{"delay p99, ms", "delay p99 ms", "ms", []string{"event_loop_delay_p99_seconds"}, 1e3, three},
		{"GC pause, ms/s", "GC pause ms/s", "ms/s", []string{"gc_pause_seconds_per_second"}, 1e3, three},
		{"longest pause, ms", "longest pause ms", "ms", []string{"gc_longest_pause_seconds"}, 1e3, three},
		{"steals a second", "steals /s", "/s", []string{stealsSeries}, 1, whole},
	}
	workersBeside = slices.Concat(runtimeCollections[:3], []runtimePanel{
		{"", "own queue", "tasks", []string{"local_queue_tasks"}, 1, whole},
		{"", "polls /s", "/s", []string{"worker_polls_per_second"}, 1, whole},
	})
	stealsBeside = []runtimePanel{
		{"", "worker parks /s", "/s", []string{"worker_parks_per_second"}, 1, whole},
	}
)

const ofEach = "What each server says of its runtime, of each second of one trial. "

// one says which trial is drawn.
func (r toldBy) one() string {
	return "One trial of each arm is shown, " + r.trial + ": it has the block in the table. "
}

// busyShare is told of workers that have a clock of their own: event loops and threads of tokio.
const busyShare = "worker_busy_share"

// stealsSeries is told by a tokio that was built to count it; without it the others of its chart say little.
const stealsSeries = "worker_steals_per_second"

// runtime is what explains a latency: what the arms' runtimes told meanwhile.
func (b *build) runtime(g summary.Group) []section {
	told := b.told(g)
	return drawn(b.runtimePauses(g, told), b.runtimeCollections(g, told), b.runtimeLoad(g, told), b.runtimeTasks(g, told), b.runtimeWork(g, told), b.runtimeSteals(g, told), b.eachWorker(g, told))
}

// drawn are the sections that there are.
func drawn(charts ...*section) (out []section) {
	for _, s := range charts {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// runtimePauses is what kept servers from running.
func (b *build) runtimePauses(g summary.Group, told toldBy) *section {
	return b.runtimeCharts(g, told, "runtime-pauses", "Pauses and delays of the runtime", ofEach+"Lower is better. ", runtimePauses, pausesBeside,
		"Pause: how long the garbage collector kept everything else of its process, or in Node of its thread, from running, all of them added up. Longest: the longest of them in the second, in Go to the end of its bucket, in a cluster of all processes. Delay: in Go how long a goroutine that could run had no thread; in Node how much later than asked a timer of the event loop ran, of the worst process. The worst of a hundred counts (p99), in Go to the end of its bucket, which is at most a quarter wider.")
}

// runtimeCollections is what the collectors did, by kind and beside the program; nil where nothing collects.
func (b *build) runtimeCollections(g summary.Group, told toldBy) *section {
	panels := slices.DeleteFunc(slices.Clone(runtimeCollections), func(p runtimePanel) bool { return !told.ever(p) })
	return b.runtimeCharts(g, told, "runtime-collections", "Collections", ofEach+"Lower is better. ", panels, nil,
		"Minor, major and incremental are V8's kinds of pause, of all threads added up: of the young generation, of the whole heap, and the steps in which that is marked beforehand. The collector's CPU is Go's: most of its work is beside the program, and is no pause, but takes a CPU that requests then wait for.")
}

// runtimeLoad is how busy servers were, and what their heap took.
func (b *build) runtimeLoad(g summary.Group, told toldBy) *section {
	return b.runtimeCharts(g, told, "runtime-load", "Busy workers and heap", ofEach, runtimeLoad, loadBeside,
		"Busy: the share of their time, by their own clock, in which workers (event loops, threads of tokio) were not waiting, mean of the workers; one that had no CPU counts as busy. CPU time is of the whole process, or of all that answer. Heap: what the runtime or the allocator has of the system, used or not.")
}

// runtimeTasks is how much was under way in servers, and what of it waited; nil where no runtime tells of it.
func (b *build) runtimeTasks(g summary.Group, told toldBy) *section {
	panels, beside := []runtimePanel{tasksPanel}, []runtimePanel{globalQueue}
	lead := "Goroutines of Go, tasks of tokio that have not ended, when the second did."
	if told.ever(globalQueue) {
		panels, beside = append(panels, globalQueue), nil
	} // a queue that was always empty is no picture
	if told.tells(globalQueue) {
		lead += " Global queue: tokio's tasks that no worker had yet."
	}
	return b.runtimeCharts(g, told, "runtime-tasks", "Goroutines and tasks", ofEach, panels, beside, lead)
}

// runtimeSteals is what a tokio that counts it tells of its queues; nil where none does.
func (b *build) runtimeSteals(g summary.Group, told toldBy) *section {
	if !told.tells(runtimeSteals[0]) {
		return nil
	}
	return b.runtimeCharts(g, told, "runtime-steals", "Work that threads took from each other", ofEach, runtimeSteals, stealsBeside,
		"Stolen: tasks that a worker of tokio took from another one's queue. A poll is one run of a task until it waits. Own queues: tasks that workers had and did not run yet when the second ended.")
}

// runtimeWork is what the servers told of their ways to the data.
func (b *build) runtimeWork(g summary.Group, told toldBy) *section {
	panels, beside, caches := runtimeWork, workBeside, "Documents: how many requests' documents had been parsed before."
	if told.tells(inRedis) {
		panels, beside = slices.Concat(panels, []runtimePanel{inRedis}), slices.Concat(beside, []runtimePanel{documentsKept})
		caches = "Found in Redis: how many of the questions to it had an answer there; those that failed had none."
	} else {
		panels = slices.Concat(panels, []runtimePanel{documentsKept})
	}
	return b.runtimeCharts(g, told, "runtime-work", "Connections, waits, batches and caches", ofEach, panels, beside,
		"In use: connections to the database that a statement had when the second ended, of all pools. Wait: how long statements waited for a connection, all added up. Keys: how many keys one statement of the loader asked for, mean of the second's batches. "+caches)
}

// eachWorker is what the workers of the arms that have several told; nil where none did.
func (b *build) eachWorker(g summary.Group, told toldBy) *section {
	untold := func(p runtimePanel) bool {
		for _, r := range told.of {
			for _, series := range r.series.Workers {
				if _, ok := series[p.series[0]]; ok {
					return false
				}
			}
		}
		return true
	}
	panels := slices.DeleteFunc(slices.Clone(runtimeWorkers), untold)
	if len(panels) == 0 {
		return nil
	}
	columns := slices.Concat(panels, slices.DeleteFunc(slices.Clone(workersBeside), untold))
	t := table{Caption: "Each worker, in one trial", Heads: []string{"arm", "worker", "block"}}
	curves := make([]chart.CurvePanel, len(panels))
	for i, p := range columns {
		t.Heads = append(t.Heads, p.head, "least–most")
		if i < len(panels) {
			curves[i] = chart.CurvePanel{Title: p.title, Axis: p.title, Plain: true}
		}
	}
	t.Heads = append(t.Heads, "requests of the trial")
	for _, a := range g.Arms {
		r, ok := told.of[a.Name]
		if !ok {
			continue
		}
		for _, worker := range slices.SortedFunc(maps.Keys(r.series.Workers), scrape.Counting) {
			row := []string{marked(a), chart.Clean(worker, labelRunes), fmt.Sprint(r.trial.Block)}
			for i, p := range columns {
				line := b.line(g, a)
				line.Points = p.points(r, r.series.Workers[worker], label(a)+", worker "+chart.Clean(worker, labelRunes))
				if len(line.Points) == 0 {
					row = append(row, "–", "–")
					continue
				}
				if i < len(panels) {
					curves[i].Lines = append(curves[i].Lines, line)
				}
				var values []float64
				for _, at := range line.Points {
					values = append(values, at.Y)
				}
				row = append(row, p.format(stats.Median(values)), p.format(slices.Min(values))+"–"+p.format(slices.Max(values)))
			}
			t.Rows = append(t.Rows, append(row, count(r.trial.Sent)))
		}
	}
	curves = slices.DeleteFunc(curves, func(p chart.CurvePanel) bool { return len(p.Lines) == 0 })
	if len(curves) == 0 {
		return nil
	}
	shown := func(a summary.Arm) summary.Quantity {
		r, ok := told.of[a.Name]
		if !ok || len(r.series.Workers) == 0 {
			return summary.Quantity{}
		}
		return summary.Of([]record.Trial{r.trial}, func(record.Trial) (float64, bool) { return 0, true })
	}
	f := chart.Curves{
		ID: b.id(g, "runtime-workers"), Title: fmt.Sprintf("Each worker %s, %s", told.at, operation(g)), Subtitle: "A line for each worker of an arm that has several. " + b.count(g, shown),
		Finding: "Each worker in each second of one trial; the numbers are in the table.", Axis: "time in the trial", Height: 200, Panels: curves,
	}.Figure()
	return &section{f.ID, "Each worker", told.one() + "A worker is a process of a cluster, a thread of Node's that computes beside the event loop (0), or a thread of tokio. Delay: how much later than asked a timer of its event loop ran. Longest: of the pauses of a second. In the table: the median of its seconds; minor, major and incremental are V8's kinds of collection. Go does not tell of its threads one by one.", &f, t}
}

// tells says whether an arm has a figure.
func (r toldBy) tells(p runtimePanel) bool {
	for _, r := range r.of {
		for _, name := range p.series {
			if _, ok := r.series.Series[name]; ok {
				return true
			}
		}
	}
	return false
}

// ever says whether a figure was above 0 in any second of any arm's load.
func (r toldBy) ever(p runtimePanel) bool {
	for _, arm := range r.of {
		places, _, _ := arm.seconds()
		for _, place := range places {
			if v, ok := p.value(arm, place); ok && v > 0 {
				return true
			}
		}
	}
	return false
}

// runtimeCharts draws the panels that an arm has figures for; beside are further columns of the table.
func (b *build) runtimeCharts(g summary.Group, told toldBy, id, title, subtitle string, panels, beside []runtimePanel, lead string) *section {
	untold := func(p runtimePanel) bool { return !told.tells(p) }
	panels, beside = slices.DeleteFunc(slices.Clone(panels), untold), slices.DeleteFunc(slices.Clone(beside), untold)
	if len(panels) == 0 {
		return nil
	}
	columns := slices.Concat(panels, beside)
	t := table{Caption: title + ", in each second of one trial", Heads: []string{"arm", "block", "seconds"}}
	for _, p := range columns {
		t.Heads = append(t.Heads, p.head)
	}
	t.Heads = append(t.Heads, "requests of the trial")
	curves, spans := make([]chart.CurvePanel, len(panels)), faultSpans(g)
	for i, p := range panels {
		curves[i] = chart.CurvePanel{Title: p.title, Axis: p.title, Plain: true, Spans: spans}
	}
	var absent absences
	for _, a := range g.Arms {
		r, ok := told.of[a.Name]
		if !ok {
			continue
		}
		places, begin, end := r.seconds()
		for i, p := range panels {
			line := b.line(g, a)
			line.Points = p.points(r, r.series.Series, label(a))
			if len(line.Points) > 0 {
				curves[i].Lines = append(curves[i].Lines, line)
			}
		}
		for _, p := range columns {
			absent.add(chart.Clean(label(a), labelRunes), chart.Clean(a.Contender, labelRunes), p.head, p.absent(r))
		}
		for k, place := range places {
			row := []string{marked(a), fmt.Sprint(r.trial.Block), one(begin[k]) + "–" + one(end[k])}
			for _, p := range columns {
				if v, ok := p.value(r, place); ok {
					row = append(row, p.format(v))
				} else {
					row = append(row, "–")
				}
			}
			t.Rows = append(t.Rows, append(row, count(r.trial.Sent)))
		}
	}
	curves = slices.DeleteFunc(curves, func(p chart.CurvePanel) bool { return len(p.Lines) == 0 })
	if len(curves) == 0 {
		return nil
	}
	shown := func(a summary.Arm) summary.Quantity {
		r, ok := told.of[a.Name]
		if !ok {
			return summary.Quantity{}
		}
		return summary.Of([]record.Trial{r.trial}, func(record.Trial) (float64, bool) { return 0, true })
	}
	f := chart.Curves{
		ID: b.id(g, id), Title: fmt.Sprintf("%s %s, %s", title, told.at, operation(g)), Subtitle: subtitle + spanWords(spans) + b.count(g, shown),
		Finding: title + " in each second of one trial, by arm; the numbers are in the table.", Axis: "time in the trial", Height: 200, Panels: curves,
	}.Figure()
	if words := absent.words(); len(words) > 0 {
		lead += " " + sentences(words)
	}
	return &section{b.id(g, id), title, told.one() + lead, &f, t}
}

// absences are the reasons why arms have no figure, and all arms that were asked.
type absences struct {
	all  map[string][]string // contender → its arms
	told []absence
}

type absence struct{ arm, contender, head, why string }

// add keeps a reason; an empty one is none, and the arm has the figure.
func (l *absences) add(arm, contender, head, why string) {
	if l.all == nil {
		l.all = map[string][]string{}
	}
	if !slices.Contains(l.all[contender], arm) {
		l.all[contender] = append(l.all[contender], arm)
	}
	if why != "" {
		l.told = append(l.told, absence{arm, contender, head, why})
	}
}

// words tell the figures that have one reason together, and of a contender where it is that of all its arms.
func (l *absences) words() []string {
	type lack struct{ contender, head, why string }
	arms := map[lack][]string{}
	var lacks []lack
	for _, a := range l.told {
		k := lack{a.contender, a.head, a.why}
		if arms[k] == nil {
			lacks = append(lacks, k)
		}
		arms[k] = append(arms[k], a.arm)
	}
	type group struct{ who, why string }
	heads := map[group][]string{}
	var groups []group
	for _, k := range lacks {
		g := group{k.contender + " has", k.why}
		if len(arms[k]) < len(l.all[k.contender]) {
			g.who = list(arms[k]) + " has"
			if len(arms[k]) > 1 {
				g.who = list(arms[k]) + " have"
			}
		}
		if heads[g] == nil {
			groups = append(groups, g)
		}
		heads[g] = append(heads[g], k.head)
	}
	var out []string
	for _, g := range groups {
		out = append(out, fmt.Sprintf("%s no “%s”: %s", g.who, strings.Join(heads[g], "”, “"), g.why))
	}
	return out
}
