package trial

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/record"
)

// proxyMeter and databaseMeter are only told apart here.
type proxyMeter struct{ engine.FaultProxy }
type databaseMeter struct{ engine.Database }

func (databaseMeter) Primary() engine.Meter { return nil }
func (databaseMeter) Replica() engine.Meter { return nil }

func TestTheFaultProxyIsAPartWhereThereIsOne(t *testing.T) {
	s := Subject{Database: databaseMeter{}}
	assert.NotContains(t, s.meters(), "fault_proxy")
	s.Faults = proxyMeter{}
	assert.Equal(t, s.Faults, s.meters()["fault_proxy"])
	used := func(d time.Duration) counters {
		return counters{used: map[string]engine.Usage{"fault_proxy": {CPU: d}}}
	}
	assert.InDelta(t, 1.5, parts(s, used(time.Second), used(2500*time.Millisecond), engine.AgentResult{})["fault_proxy"].CPUSeconds, 1e-9)
}

func TestVoid(t *testing.T) {
	good := record.Trial{Load: record.LoadRate, Offered: 1000, Sent: 1000, OK: 1000}
	yes, no := func(record.Trial) bool { return true }, func(record.Trial) bool { return false }
	for name, c := range map[string]struct {
		change  func(*record.Trial)
		says    string
		tooSlow func(record.Trial) bool
	}{
		"good":                 {func(*record.Trial) {}, "", nil},
		"a process that ended": {func(t *record.Trial) { t.ProcessesEnded = 1; t.Load = record.LoadThroughput }, "1 of the contender's processes ended", nil},
		"a process that the load ended in a search of capacity": {func(t *record.Trial) { t.OK--; t.Failed++; t.ProcessesEnded, t.Load = 1, record.LoadCapacity }, "", no},
		"one wrong answer":           {func(t *record.Trial) { t.OK--; t.Failed++; t.FirstFailure = "data.items[0].name" }, "1 of 1000 requests failed: data.items[0].name", nil},
		"nothing answered":           {func(t *record.Trial) { t.OK = 0 }, "no request was answered", nil},
		"late":                       {func(t *record.Trial) { t.SendLagP99NS = int64(11 * time.Millisecond) }, "lag p99 11.0 ms", nil},
		"late under overload":        {func(t *record.Trial) { t.SendLagP99NS = int64(time.Second); t.Load = record.LoadThroughput }, "", nil},
		"unsent":                     {func(t *record.Trial) { t.Offered, t.Unsent = 1020, 20 }, "20 of 1020", nil},
		"unsent within the limit":    {func(t *record.Trial) { t.Offered, t.Unsent = 1010, 10 }, "", nil},
		"unsent under overload":      {func(t *record.Trial) { t.Offered, t.Unsent, t.Load = 2000, 1000, record.LoadThroughput }, "", nil},
		"the hypervisor at any load": {func(t *record.Trial) { t.MachineStealShare = 0.2; t.Load = record.LoadThroughput }, "hypervisor", nil},
		"a failure in a search of capacity is an answer": {func(t *record.Trial) { t.OK--; t.Failed++; t.Load = record.LoadCapacity }, "", no},
		"so is that nothing was answered right":          {func(t *record.Trial) { t.OK, t.Failed, t.Load = 0, 1000, record.LoadCurve }, "", no},
		"late in a search of capacity":                   {func(t *record.Trial) { t.SendLagP99NS = int64(time.Second); t.Load = record.LoadCapacity }, "lag p99", no},
		"late, and the service itself too slow":          {func(t *record.Trial) { t.SendLagP99NS = int64(time.Second); t.Load = record.LoadCapacity }, "", yes},
		"too slow does not excuse the common rate":       {func(t *record.Trial) { t.SendLagP99NS = int64(time.Second) }, "lag p99", yes},
		"the hypervisor in a search of capacity":         {func(t *record.Trial) { t.MachineStealShare = 0.2; t.Failed = 1; t.OK--; t.Load = record.LoadCapacity }, "hypervisor", yes},
	} {
		t.Run(name, func(t *testing.T) {
			trial := good
			c.change(&trial)
			why := void(&trial, c.tooSlow)
			if c.says == "" {
				assert.Nil(t, why)
				return
			}
			require.NotNil(t, why)
			assert.Contains(t, *why, c.says)
		})
	}
}

func TestMachineTime(t *testing.T) {
	a, err := parseMachine("cpu  100 0 100 700 0 0 0 100 0 0\ncpu0 1\n")
	require.NoError(t, err)
	b, err := parseMachine("cpu  150 0 150 750 0 0 0 150 0 0\n")
	require.NoError(t, err)
	d := b.sub(a)
	assert.InDelta(t, 0.25, d.stealShare(), 1e-9)
	assert.InDelta(t, 1, d.busySeconds(), 1e-9)
	_, err = parseMachine("intr 1 2 3")
	require.ErrorContains(t, err, "intr")
	assert.Zero(t, machineTime{}.stealShare())
}

// All that the run started is its own work; what is left was somebody else's.
func TestOthersAreWhoIsNoPartOfTheRun(t *testing.T) {
	parts := map[string]record.Part{
		"contender": {CPUSeconds: 4}, "database_primary": {CPUSeconds: 1}, "database_replica": {CPUSeconds: 2}, "agent": {CPUSeconds: 1.5}, "upstream": {CPUSeconds: 0.75},
	}
	assert.InDelta(t, 0.25, othersSeconds(9.5, parts), 1e-9)
	assert.Zero(t, othersSeconds(9, parts), "clock ticks are coarser than the parts' accounts")
}

// The log must give every request back to the standard reader.
func TestHDRLogIsReadable(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":1}`) }))
	defer s.Close()
	r, err := agent.Attack(t.Context(), agent.Job{URL: s.URL, Body: "{}", RPS: 200, Duration: 1500 * time.Millisecond, Arrival: agent.Constant, MaxInFlight: 8, Timeout: time.Second}, nil)
	require.NoError(t, err)
	text, err := hdrLog(r)
	require.NoError(t, err)
	reader := hdr.NewHistogramLogReader(bytes.NewReader(text))
	n, intervals := map[string]int64{}, map[string]int{}
	for {
		h, err := reader.NextIntervalHistogram()
		require.NoError(t, err)
		if h == nil {
			break
		}
		intervals[h.Tag()]++
		n[h.Tag()] += h.TotalCount()
		assert.Equal(t, r.Began.UnixMilli()+int64(intervals[h.Tag()]-1)*1000, h.StartTimeMs())
	}
	sent := int64(r.Sent)
	assert.Equal(t, map[string]int{"": 2, "service": 2, "send_lag": 2}, intervals)
	assert.Equal(t, map[string]int64{"": sent, "service": sent, "send_lag": sent}, n)
	assert.EqualValues(t, 300, r.Offered)
}

// A record's percentiles are those of its histogram: golden values by hand.
func TestPercentilesAreWhatTheirNamesSay(t *testing.T) {
	h := func() string {
		x := hdr.New(1000, int64(100*time.Second), 3)
		for i := int64(1); i <= 1000; i++ {
			require.NoError(t, x.RecordValue(i*int64(time.Millisecond)))
		}
		text, err := x.Encode(hdr.V2CompressedEncodingCookieBase)
		require.NoError(t, err)
		return string(text)
	}
	b, err := json.Marshal(map[string][]string{"response_seconds": {h()}, "service_seconds": {h()}, "send_lag_seconds": {h()}})
	require.NoError(t, err)
	var r agent.Result
	require.NoError(t, json.Unmarshal(b, &r))
	r.Offered, r.Sent, r.OK, r.Elapsed = 1000, 1000, 1000, 2*time.Second
	trial := record.Trial{DurationNS: int64(time.Second)}
	fill(&trial, &r)
	for name, c := range map[string]struct {
		got  int64
		want time.Duration
	}{
		"p50": {trial.LatencyP50NS, 500 * time.Millisecond}, "p90": {trial.LatencyP90NS, 900 * time.Millisecond},
		"p99": {trial.LatencyP99NS, 990 * time.Millisecond}, "p99.9": {trial.LatencyP999NS, 999 * time.Millisecond},
		"max": {trial.LatencyMaxNS, time.Second}, "service p99": {trial.ServiceP99NS, 990 * time.Millisecond},
		"lag p99": {trial.SendLagP99NS, 990 * time.Millisecond},
	} {
		assert.InEpsilon(t, int64(c.want), c.got, 0.001, name)
	}
	assert.InDelta(t, 1000, trial.OfferedRPS, 1e-9)
	assert.InDelta(t, 500, trial.AchievedRPS, 1e-9)
}

func TestOnlyWhatTheArmHadNoPartInIsSpoilt(t *testing.T) {
	sound := record.Trial{Load: record.LoadRate, Offered: 100, Sent: 100, OK: 100}
	for name, c := range map[string]struct {
		change  func(*record.Trial)
		spoilt  bool
		nothing bool // not even void
	}{
		"sound":      {change: func(*record.Trial) {}, nothing: true},
		"hypervisor": {change: func(t *record.Trial) { t.MachineStealShare = 0.2 }, spoilt: true},
		"a process that ended while the hypervisor took much": {change: func(t *record.Trial) { t.ProcessesEnded, t.MachineStealShare = 1, 0.2 }},
		"late generator":                         {change: func(t *record.Trial) { t.SendLagP99NS = int64(20 * time.Millisecond) }, spoilt: true},
		"failed":                                 {change: func(t *record.Trial) { t.OK, t.Failed = 99, 1 }},
		"failed while the hypervisor took much":  {change: func(t *record.Trial) { t.OK, t.Failed, t.MachineStealShare = 99, 1, 0.2 }},
		"no room for requests":                   {change: func(t *record.Trial) { t.Sent, t.OK, t.Unsent = 90, 90, 10 }},
		"no room while the hypervisor took much": {change: func(t *record.Trial) { t.Sent, t.OK, t.Unsent, t.MachineStealShare = 90, 90, 10, 0.2 }},
		"no answer":                              {change: func(t *record.Trial) { t.OK, t.MachineStealShare = 0, 0.2 }},
		"overload": {change: func(t *record.Trial) {
			t.Load, t.Unsent, t.SendLagP99NS = record.LoadThroughput, 50, int64(time.Second)
		}, nothing: true},
		"overload while the hypervisor took much": {change: func(t *record.Trial) { t.Load, t.Unsent, t.MachineStealShare = record.LoadThroughput, 50, 0.2 }, spoilt: true},
	} {
		trial := sound
		c.change(&trial)
		trial.Void = void(&trial, nil)
		assert.Equal(t, c.nothing, trial.Void == nil, name)
		assert.Equal(t, c.spoilt, Spoilt(&trial), name)
	}
}
