package trial

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"lab/loadtest/internal/engine"
)

func TestBottleneck(t *testing.T) {
	two, four, one := engine.Place([]int{0, 1}), engine.Place([]int{0, 1, 2, 3}), engine.Place([]int{0})
	d := func(seconds float64) *time.Duration { x := time.Duration(seconds * float64(time.Second)); return &x }
	for name, c := range map[string]struct {
		load load
		want string
	}{
		"contender busy":                                               {load{cpus: two, contender: 9.5, database: 2}, BottleneckContender},
		"contender busy beside a busy database":                        {load{cpus: two, contender: 9.5, database: 9}, BottleneckContender},
		"database fills the shared CPU":                                {load{cpus: two, contender: 3, database: 7, agent: 2}, BottleneckDatabase},
		"generator fills the shared CPU":                               {load{cpus: two, contender: 3, database: 2, agent: 7}, BottleneckGenerator},
		"the fault proxy fills the shared CPU":                         {load{cpus: two, contender: 3, database: 2, faults: 4, agent: 3}, BottleneckFaults},
		"the fault proxy on the database's CPU":                        {load{cpus: four, contender: 3, database: 4, faults: 5, agent: 3}, BottleneckFaults},
		"the database beside the fault proxy":                          {load{cpus: four, contender: 3, database: 5, faults: 4, agent: 8}, BottleneckDatabase},
		"one CPU for all, most of it the proxy's":                      {load{cpus: one, contender: 3, database: 2, faults: 4}, BottleneckFaults},
		"two CPUs, one of them used, are not busy":                     {load{cpus: four, contender: 10, database: 3, agent: 3}, BottleneckNone},
		"two CPUs used":                                                {load{cpus: four, contender: 18, database: 3, agent: 3}, BottleneckContender},
		"the generator's own CPU":                                      {load{cpus: four, contender: 3, database: 3, agent: 9}, BottleneckGenerator},
		"the database's own CPU":                                       {load{cpus: four, contender: 3, database: 9, agent: 3}, BottleneckDatabase},
		"one CPU for all, the largest user":                            {load{cpus: one, contender: 3, database: 5, agent: 1.5}, BottleneckDatabase},
		"one CPU for all, mostly the contender":                        {load{cpus: one, contender: 5, database: 3, agent: 1.5}, BottleneckContender},
		"one CPU for all, mostly the generator":                        {load{cpus: one, contender: 2, database: 3, agent: 4.5}, BottleneckGenerator},
		"one CPU for all, not full":                                    {load{cpus: one, contender: 3, database: 3, agent: 2}, BottleneckNone},
		"others at work":                                               {load{cpus: two, contender: 3, database: 3, agent: 1, other: 2}, BottleneckNoise},
		"hypervisor":                                                   {load{cpus: two, contender: 3, database: 3, agent: 1, steal: 0.06}, BottleneckNoise},
		"an engine slow to start the generator makes nobody less busy": {load{cpus: two, contender: 9, counted: 14 * time.Second}, BottleneckContender},
		"and others' work is of all that time":                         {load{cpus: two, contender: 3, other: 2, counted: 14 * time.Second}, BottleneckNone},
		"nobody: it waits":                                             {load{cpus: two, contender: 1, database: 1, agent: 1}, BottleneckNone},

		"one of two CPUs, all of it in one thread": {load{cpus: four, contender: 10, busiestThread: d(9)}, BottleneckEventLoop},
		"the same in many threads":                 {load{cpus: four, contender: 10, busiestThread: d(5)}, BottleneckNone},
		"a thread that is not known":               {load{cpus: four, contender: 10}, BottleneckNone},
		"statements stand waiting for connections": {load{cpus: two, contender: 2, poolWait: d(40), answered: 1000, median: 50 * time.Millisecond}, BottleneckPool},
		"a pool that does not tell":                {load{cpus: two, contender: 2, answered: 1000, median: 50 * time.Millisecond}, BottleneckNone},
		"half a statement waits on average":        {load{cpus: two, contender: 2, poolWait: d(5), answered: 100, median: 50 * time.Millisecond}, BottleneckNone},
		"waits that are little of the response":    {load{cpus: two, contender: 2, poolWait: d(40), answered: 10000, median: 50 * time.Millisecond}, BottleneckNone},
		"nothing was answered":                     {load{cpus: two, contender: 2, poolWait: d(40)}, BottleneckNone},

		// The order: each has what the next has too.
		"contender before its event loop": {load{cpus: two, contender: 9, busiestThread: d(9)}, BottleneckContender},
		"event loop before the database":  {load{cpus: four, contender: 10, busiestThread: d(9), database: 9.5}, BottleneckEventLoop},
		"database before the generator":   {load{cpus: four, contender: 3, database: 9, agent: 9}, BottleneckDatabase},
		"database before the pool":        {load{cpus: two, contender: 2, database: 8, agent: 1, poolWait: d(40), answered: 1000, median: 50 * time.Millisecond}, BottleneckDatabase},
		"generator before the pool":       {load{cpus: four, agent: 9, poolWait: d(40), answered: 1000, median: 50 * time.Millisecond}, BottleneckGenerator},
		"pool before noise":               {load{cpus: two, contender: 2, other: 5, poolWait: d(40), answered: 1000, median: 50 * time.Millisecond}, BottleneckPool},
		"contender before noise":          {load{cpus: two, contender: 9, other: 5, steal: 0.5}, BottleneckContender},
	} {
		t.Run(name, func(t *testing.T) {
			c.load.attacked = 10 * time.Second
			c.load.counted = max(c.load.counted, c.load.attacked)
			assert.Equal(t, c.want, bottleneck(c.load))
		})
	}
}

// Each rule names something else, and each name but "none" has a rule.
func TestRulesAreTheNames(t *testing.T) {
	var names []string
	for _, r := range rules {
		names = append(names, r.bottleneck)
	}
	assert.Equal(t, []string{BottleneckContender, BottleneckEventLoop, BottleneckDatabase, BottleneckFaults, BottleneckGenerator, BottleneckPool, BottleneckNoise}, names)
}

func TestWaited(t *testing.T) {
	d := func(x time.Duration) *time.Duration { return &x }
	assert.Equal(t, d(3*time.Second), waited(d(4*time.Second), d(7*time.Second)))
	assert.Nil(t, waited(nil, d(time.Second)))
	assert.Nil(t, waited(d(time.Second), nil))
	assert.Nil(t, waited(d(2*time.Second), d(time.Second)), "another process counts from the beginning")
}

func TestParsePressure(t *testing.T) {
	got := parsePressure("some avg10=93.49 avg60=90.90 avg300=79.23 total=12575131185\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n")
	if assert.NotNil(t, got) {
		assert.Equal(t, 12575131185*time.Microsecond, *got)
	}
	assert.Nil(t, parsePressure("full avg10=0.00 total=7\n"))
	assert.Nil(t, parsePressure("some total=x\n"))
	assert.Nil(t, parsePressure(""))
}
