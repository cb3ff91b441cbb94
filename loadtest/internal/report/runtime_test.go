package report

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/chart"
	"lab/loadtest/internal/record"
)

// What stands in the tables and on the axes is in the unit that is named there: seconds become milliseconds, a share per
// cent, bytes megabytes. An arm without a figure has none, and the page says why.
func TestRuntimeFiguresAreInTheirUnits(t *testing.T) {
	m := quick()
	m.runtime = true
	b, err := open(opened(t, m.write(t)))
	require.NoError(t, err)
	row := func(s section, arm string, second int) []string {
		var rows [][]string
		for _, r := range s.Table.Rows {
			if r[0] == arm {
				rows = append(rows, r)
			}
		}
		require.Len(t, rows, m.seconds, "the intervals before and after the load are left out")
		return rows[second]
	}
	requests := func(arm string) string { return count(b.runtimes["library q2"][arm].trial.Sent) }
	pauses := sectionOf(t, b, "runtime-pauses")
	assert.Equal(t, []string{"arm", "block", "seconds", "GC pause ms/s", "longest pause ms", "delay p99 ms", "GC pauses /s", "requests of the trial"}, pauses.Table.Heads)
	assert.Equal(t, []string{"0.1–1.1", "1.500", "0.100", "0.250", "0.0", requests("go")}, row(pauses, "go", 0)[2:])
	assert.Equal(t, []string{"1.1–2.1", "3.000", "0.200", "0.500", "4.0", requests("go")}, row(pauses, "go", 1)[2:])
	assert.Equal(t, []string{"0.1–1.1", "17.500", "2.000", "4.000", "–", requests("node")}, row(pauses, "node", 0)[2:])
	assert.Equal(t, []string{"0.1–1.1", "–", "–", "–", "–", requests("rust")}, row(pauses, "rust", 0)[2:])
	assert.Contains(t, pauses.Lead, "rust has no “GC pause ms/s”, “longest pause ms”: there is no garbage collector.", "what has one reason is told together")
	assert.Contains(t, pauses.Lead, "rust has no “delay p99 ms”: nobody measures it.")
	kinds := sectionOf(t, b, "runtime-collections")
	assert.Equal(t, []string{"arm", "block", "seconds", "minor ms/s", "requests of the trial"}, kinds.Table.Heads)
	assert.Equal(t, []string{"0.1–1.1", "10.000", requests("node")}, row(kinds, "node", 0)[2:])
	assert.Equal(t, 1, strings.Count(kinds.Lead, "go has no"))
	assert.Contains(t, kinds.Lead, "go has no “minor ms/s”: it has one kind.")
	work := sectionOf(t, b, "runtime-work")
	assert.Equal(t, []string{"arm", "block", "seconds", "connections in use", "documents in cache %", "requests of the trial"}, work.Table.Heads, "what no arm tells is no column")
	assert.Equal(t, []string{"2.1–3.1", "6.0", "75.0", requests("go")}, row(work, "go", 2)[2:])
	steals := sectionOf(t, b, "runtime-steals")
	assert.Equal(t, []string{"1.1–2.1", "140", requests("rust")}, row(steals, "rust", 1)[2:])
	load := sectionOf(t, b, "runtime-load")
	assert.Equal(t, []string{"arm", "block", "seconds", "workers busy %", "CPU s/s", "heap MB", "requests of the trial"}, load.Table.Heads)
	assert.Equal(t, []string{"2.1–3.1", "37.5", "0.75", "37.5", requests("node")}, row(load, "node", 2)[2:])
	assert.Equal(t, []string{"0.1–1.1", "–", "0.25", "12.5", requests("go")}, row(load, "go", 0)[2:])
	tasks := sectionOf(t, b, "runtime-tasks")
	assert.Equal(t, []string{"arm", "block", "seconds", "goroutines or tasks", "global queue", "requests of the trial"}, tasks.Table.Heads)
	assert.Equal(t, []string{"0.1–1.1", "30", "–", requests("go")}, row(tasks, "go", 0)[2:])
	assert.Equal(t, []string{"0.1–1.1", "–", "3.0", requests("rust")}, row(tasks, "rust", 0)[2:], "the queue of a tokio that counts no steals too")
	assert.Equal(t, 1, strings.Count(load.Lead, "go has no “workers busy %”: it does not tell."), "once, not for each arm")

	workers, nodeArms := sectionOf(t, b, "runtime-workers"), 0
	for _, a := range madeArms {
		if a.contender == "node" {
			nodeArms++
		}
	}
	assert.Equal(t, []string{"arm", "worker", "block", "busy %", "least–most", "longest pause ms", "least–most", "major ms/s", "least–most", "requests of the trial"}, workers.Table.Heads)
	require.Len(t, workers.Table.Rows, 2*nodeArms, "each worker once, and of no arm that has one alone")
	var ofNode [][]string
	for _, r := range workers.Table.Rows {
		if r[0] == "node" {
			ofNode = append(ofNode, r)
		}
	}
	require.Len(t, ofNode, 2)
	assert.Equal(t, "9", ofNode[0][1], "in the order of their numbers")
	assert.Equal(t, []string{"31.2", "12.5–50.0", "–", "–", "–", "–", requests("node")}, ofNode[0][3:])
	assert.Equal(t, []string{"62.5", "25.0–100.0", "6.250", "2.500–10.000", "18.750", "7.500–30.000", requests("node")}, ofNode[1][3:])

	for id, axes := range map[string][]string{
		"runtime-pauses": {"GC pause, ms in a second", "longest GC pause, ms", "delay before running, p99, ms"},
		"runtime-work":   {"connections in use", "documents found parsed, %"},
		"runtime-tasks":  {"goroutines or tasks", "tasks in the global queue"},
		"runtime-steals": {"stolen tasks a second"},
		"runtime-load":   {"busy share of workers, %", "CPU time, s in a second", "heap of the system, MB"},
	} {
		text := string(sectionOf(t, b, id).Figure.Wide().JSON())
		for _, axis := range axes {
			assert.Contains(t, text, axis, id)
		}
		assert.Contains(t, text, `"fn:number"`, id)
		assert.NotContains(t, text, `"fn:ms"`, "%s: numbers of other units are no milliseconds", id)
	}
	assertRequestsAreNamed(t, b)
	ids := []string{}
	for _, s := range b.sections() {
		ids = append(ids, s.ID)
	}
	at := slices.Index(ids, "latency-time")
	assert.Equal(t, []string{"runtime-pauses", "runtime-collections", "runtime-load", "runtime-tasks", "runtime-work", "runtime-steals", "runtime-workers"}, ids[at+1:at+8], "under the latency that they explain")
}

// Arms that are one contender with other settings are told apart in each chart, and look the same in all of them.
func TestVariantsOfAContenderAreToldApart(t *testing.T) {
	m := quick()
	m.runtime = true
	m.change = func(r *record.Run) {
		for i := range r.Trials {
			if x := &r.Trials[i]; x.Tier == "mainstream" {
				x.Contender = "go"
			}
		}
	}
	b, err := open(opened(t, m.write(t)))
	require.NoError(t, err)
	looks, charts := map[string]string{}, 0
	for _, s := range b.sections() {
		if s.Figure == nil {
			continue
		}
		names := map[string]string{}
		series, _ := s.Figure.Wide().Option["series"].(chart.A)
		for _, one := range series {
			line, _ := one.(chart.M)
			if line["type"] != "line" {
				continue
			}
			name, look := fmt.Sprint(line["name"]), fmt.Sprint(line["symbol"], line["lineStyle"], line["itemStyle"])
			if other, taken := names[look]; taken {
				assert.Equal(t, other, name, "%s: two lines look the same", s.ID)
			}
			if before, drawn := looks[name]; drawn {
				assert.Equal(t, before, look, "%s: %s looks otherwise than in another chart", s.ID, name)
			}
			names[look], looks[name] = name, look
		}
		if len(names) > 0 {
			charts++
		}
	}
	assert.GreaterOrEqual(t, charts, 6)
	assert.Len(t, looks, len(madeArms))
}

func TestTheTrialThatIsDrawnHasTheMedianP99(t *testing.T) {
	m := quick()
	m.runtime = true
	b, err := open(opened(t, m.write(t)))
	require.NoError(t, err)
	for arm, drawn := range b.runtimes["library q2"] {
		var p99 []int64
		for _, x := range b.run.Trials {
			if x.Arm == arm && x.Load == record.LoadRate && !x.Duplicate {
				p99 = append(p99, x.LatencyP99NS)
			}
		}
		slices.Sort(p99)
		assert.Equal(t, p99[(len(p99)-1)/2], drawn.trial.LatencyP99NS, arm)
		assert.Equal(t, drawn.trial.ID, drawn.series.Trial)
	}
	assert.Len(t, b.runtimes["library q2"], len(madeArms))
}

func TestARunWithoutRuntimeSeriesHasNoSuchSections(t *testing.T) {
	b, err := open(opened(t, smoke().write(t)))
	require.NoError(t, err)
	for _, s := range b.sections() {
		assert.NotContains(t, s.ID, "runtime")
	}
}

// What is damaged is named.
func TestDamagedRuntimeSeriesAreNamed(t *testing.T) {
	m := smoke()
	m.runtime = true
	for name, c := range map[string]struct {
		damage func(t *testing.T, file string)
		says   string
	}{
		"lost":             {func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) }, "runtime series of trial"},
		"cut short":        {func(t *testing.T, file string) { truncate(t, file, 2) }, "not JSON"},
		"of another trial": {func(t *testing.T, file string) { replace(t, file, `"trial":"library`, `"trial":"other`) }, "is of the trial"},
		"a value too few": {func(t *testing.T, file string) {
			replace(t, file, `"cpu_seconds_per_second":[null,`, `"cpu_seconds_per_second":[`)
		}, "cpu_seconds_per_second has 3 values for 4 intervals"},
		"a text for a number": {func(t *testing.T, file string) {
			replace(t, file, `"cpu_seconds_per_second":[null,`, `"cpu_seconds_per_second":["1",`)
		}, "cpu_seconds_per_second"},
		"intervals out of order": {func(t *testing.T, file string) { replace(t, file, `"ends_ns":[100000000,`, `"ends_ns":[9100000000,`) }, "is not after"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := m.write(t)
			r, err := record.ReadRun(dir)
			require.NoError(t, err)
			c.damage(t, filepath.Join(dir, "trials", r.Trials[0].RuntimeSeries))
			_, err = record.Open(dir)
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, r.Trials[0].ID)
		})
	}
}

// A queue that was empty in all of an arm's load is a column and no picture; what was in it before the load does not count.
func TestAnEmptyQueueIsNoPicture(t *testing.T) {
	told := func(before, during float64) toldBy {
		return toldBy{of: map[string]runtimeOf{"rust": {record.Trial{DurationNS: 1e9}, &record.RuntimeSeries{
			BeganNS: -900e6, EndsNS: []int64{-1e6, 1000e6}, Series: map[string][]*float64{"global_queue_tasks": {&before, &during}},
		}}}}
	}
	assert.False(t, told(0, 0).ever(globalQueue))
	assert.False(t, told(7, 0).ever(globalQueue))
	assert.True(t, told(0, 7).ever(globalQueue))
	assert.True(t, told(0, 0).tells(globalQueue))
}
