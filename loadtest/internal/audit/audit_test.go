package audit

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/claims"
	"lab/loadtest/internal/record"
	"lab/loadtest/internal/trial"
)

var stall = Stall{Latency: time.Millisecond, Stall: 300 * time.Millisecond, Period: 2 * time.Second}

func TestWaitByHand(t *testing.T) {
	for arrives, want := range map[time.Duration]time.Duration{
		0:                       301 * time.Millisecond,
		100 * time.Millisecond:  201 * time.Millisecond,
		299 * time.Millisecond:  2 * time.Millisecond,
		300 * time.Millisecond:  time.Millisecond,
		1999 * time.Millisecond: time.Millisecond,
		2 * time.Second:         301 * time.Millisecond,
		4250 * time.Millisecond: 51 * time.Millisecond,
	} {
		assert.Equal(t, want, stall.Wait(arrives), arrives)
	}
	assert.Equal(t, time.Second, Stall{Latency: time.Second}.Wait(5*time.Minute))
}

// By hand: 15 % fall into a stall. 1 % of all wait longer than 300 - 0.01·2000 = 280 ms, 10 % longer than 100 ms.
func TestQuantilesByHand(t *testing.T) {
	assert.Equal(t, 281*time.Millisecond, stall.Quantile(0.99).Round(time.Microsecond))
	assert.Equal(t, 101*time.Millisecond, stall.Quantile(0.90).Round(time.Microsecond))
	assert.Equal(t, 299*time.Millisecond, stall.Quantile(0.999).Round(time.Microsecond))
	assert.Equal(t, time.Millisecond, stall.Quantile(0.85))
	assert.Equal(t, time.Millisecond, stall.Quantile(0.5))
	assert.Equal(t, time.Second, Stall{Latency: time.Second}.Quantile(0.99))
}

// The quantiles are those of the waits, counted one by one.
func TestQuantilesAreThoseOfTheWaits(t *testing.T) {
	var waits []time.Duration
	for at := time.Duration(0); at < 10*stall.Period; at += 50 * time.Microsecond {
		waits = append(waits, stall.Wait(at))
	}
	slices.Sort(waits)
	for _, q := range []float64{0.5, 0.8, 0.86, 0.9, 0.99, 0.999} {
		assert.InDelta(t, float64(stall.Quantile(q)), float64(waits[int(q*float64(len(waits)))]), float64(200*time.Microsecond), "%g", q)
	}
}

// What a generator would see of the stalls, without clock or server: Poisson arrivals of the lab's own schedule, each
// response time by arithmetic from the intended send, through the code that makes records.
func stalled(t *testing.T, rps float64, d time.Duration, seed uint64, seen func(intended time.Duration) time.Duration) record.Trial {
	t.Helper()
	schedule, err := agent.NewSchedule(agent.Poisson, rps, seed)
	require.NoError(t, err)
	r := &agent.Result{Began: time.Unix(0, 0), Elapsed: d, ServiceSeconds: agent.Series{agent.NewHistogram()}, SendLagSeconds: agent.Series{agent.NewHistogram()}, ResponseSeconds: agent.Series{agent.NewHistogram()}}
	for k := uint64(0); ; k++ {
		at := schedule.At(k)
		if at >= d {
			break
		}
		r.Offered++
		require.NoError(t, r.ResponseSeconds[0].RecordValue(int64(seen(at))))
		require.NoError(t, r.ServiceSeconds[0].RecordValue(int64(stall.Latency)))
		require.NoError(t, r.SendLagSeconds[0].RecordValue(1000))
	}
	r.Sent, r.OK = r.Offered, r.Offered
	x := record.Trial{ID: "stall", Load: record.LoadRate, DurationNS: int64(d)}
	_, err = trial.Alone(&x, r)
	require.NoError(t, err)
	return x
}

func TestTheStallsAreFound(t *testing.T) {
	for seed := range uint64(20) {
		rows := JudgeStall(stall, stalled(t, 500, time.Minute, seed, stall.Wait))
		require.Len(t, rows, 1)
		assert.True(t, rows[0].Within, "%+v", rows[0])
		assert.Equal(t, "281.0 ms", rows[0].True)
	}
}

// An audit that could not fail would prove nothing.
func TestWhatHidesStallsIsNotWithin(t *testing.T) {
	// As a closed loop of one client would: of each stall it sees one request.
	hides := stalled(t, 500, time.Minute, 1, func(at time.Duration) time.Duration {
		if into := at % stall.Period; into < 2*time.Millisecond {
			return stall.Wait(at)
		}
		return stall.Latency
	})
	assert.False(t, JudgeStall(stall, hides)[0].Within)
	// p95 under the name of p99.
	mislabelled := stalled(t, 500, time.Minute, 1, stall.Wait)
	mislabelled.LatencyP99NS = int64(stall.Quantile(0.95))
	assert.False(t, JudgeStall(stall, mislabelled)[0].Within)
	void := "late"
	mislabelled.Void = &void
	assert.False(t, JudgeStall(stall, mislabelled)[0].Within)
}

func servers(seed uint64, blocks int, noise, ratio float64) []record.Trial {
	r := rand.New(rand.NewPCG(seed, 1))
	var out []record.Trial
	for block := 1; block <= blocks; block++ {
		for i, arm := range []string{"20 ms", "22 ms", "20 ms"} {
			v := 20.4e6 * math.Exp(noise*r.NormFloat64())
			if arm == "22 ms" {
				v *= ratio
			}
			out = append(out, record.Trial{Arm: arm, Block: block, Duplicate: i == 2, Load: record.LoadRate, Sent: 1000, LatencyP50NS: int64(v)})
		}
	}
	return out
}

func TestTwoMillisecondsAreFound(t *testing.T) {
	rows := JudgeSlower(servers(1, 10, 0.002, 22.4/20.4), "20 ms", "22 ms", 2*time.Millisecond)
	require.Len(t, rows, 2)
	assert.True(t, rows[0].Within, "%+v", rows[0])
	assert.True(t, rows[1].Within, "%+v", rows[1])
	rows = JudgeSlower(servers(1, 10, 0.002, 1), "20 ms", "22 ms", 2*time.Millisecond)
	assert.False(t, rows[0].Within, "%+v", rows[0])
	assert.False(t, rows[1].Within, "%+v", rows[1])
	rows = JudgeSlower(servers(1, 10, 0.002, 1.15), "20 ms", "22 ms", 2*time.Millisecond)
	assert.True(t, rows[0].Within)
	assert.False(t, rows[1].Within, "a difference, but not this one")
	assert.False(t, JudgeSlower(nil, "20 ms", "22 ms", 2*time.Millisecond)[0].Within)
}

func TestOneContenderAgainstItself(t *testing.T) {
	one := func(x float64) *float64 { return &x }
	same := record.Verdict{Verdict: claims.TooClose, PHolm: one(0.4), RatioLow: one(0.97), RatioHigh: one(1.02)}
	wrong := record.Verdict{Verdict: claims.Holds, PHolm: one(0.01), RatioLow: one(1.02), RatioHigh: one(1.09)}
	untested := record.Verdict{Verdict: claims.Untested}
	verdicts := func(same1, wrong1, untested1 int) []record.Verdict {
		return slices.Concat(slices.Repeat([]record.Verdict{same}, same1), slices.Repeat([]record.Verdict{wrong}, wrong1), slices.Repeat([]record.Verdict{untested}, untested1))
	}
	within := func(rows []Row) (all bool) {
		all = true
		for _, r := range rows {
			all = all && r.Within
		}
		return all
	}
	rows := JudgeSame("go", verdicts(19, 1, 2))
	assert.True(t, within(rows), "%+v", rows)
	assert.Contains(t, rows[0].What, "20 comparisons (2 more could not be tested)")
	assert.Equal(t, "1 of 20", rows[0].Reported)
	assert.False(t, within(JudgeSame("go", verdicts(12, 8, 0))), "eight of twenty are no chance")
	assert.False(t, within(JudgeSame("go", verdicts(0, 0, 5))))
}

func TestTheTableSaysWhatFailed(t *testing.T) {
	r := Report{Method: 3, Began: time.Unix(1_700_000_000, 0), Command: []string{"make", "audit"}, Rows: []Row{
		{What: "a", True: "1", Reported: "2", Bound: "3 %", Within: false, Part: "stall"}, {What: "b", True: "1", Reported: "1", Bound: "3 %", Within: true, Part: "same"},
	}}
	assert.False(t, r.Passed())
	assert.True(t, r.Has("stall") && r.Has("same"))
	assert.False(t, r.Has("slower"))
	text := r.Markdown("A machine")
	assert.Contains(t, text, "| a | 1 | 2 | 3 % | NO |\n| b | 1 | 1 | 3 % | yes |")
	assert.Contains(t, text, "A machine; 2023-11-14, method 3. Made by `make audit`.")
	r.Rows = r.Rows[1:]
	assert.True(t, r.Passed())
	assert.False(t, Report{}.Passed(), "nothing audited is nothing passed")
}
