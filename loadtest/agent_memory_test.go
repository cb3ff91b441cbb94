package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/agent"
)

// The agent's memory depends on how much is under way and on how long the attack is, some kilobytes a second, but not on
// how many requests there were. CI takes the whole minute, others a tenth of it.
func TestMemoryOfTheAgentDoesNotGrowWithRequests(t *testing.T) {
	t.Setenv(asProgram, "1")
	binary, err := os.Executable()
	require.NoError(t, err)
	null := &agentBencher{binary: binary, progress: newProgress(io.Discard)}
	stop, err := null.startNull(t.Context())
	require.NoError(t, err)
	defer stop()
	long := 6 * time.Second
	if os.Getenv("CI") == "true" {
		long = time.Minute
	}
	const rps = 5000
	// Drawn variables, since what is kept of answers must be bounded too.
	body := `{"query":"query($id: ID!) { areas { id } }","variables":{"id":"0"}}`
	run := func(d time.Duration) *agent.Result {
		job, err := json.Marshal(agent.Job{
			URL: "http://" + null.address + "/graphql", RPS: rps, Duration: d, Arrival: agent.Poisson, Seed: 1, MaxInFlight: 32, Timeout: requestTimeout,
			Operations: []agent.Operation{
				{Name: "fixed", Weight: 1, Body: nullQuestion, Expected: nullAnswer},
				{Name: "drawn", Weight: 1, Body: body, Expected: nullAnswer, Variables: []agent.Variable{{Name: "id", From: 1, To: 10_000, String: true}}},
			},
		})
		require.NoError(t, err)
		var out, errs bytes.Buffer
		c := exec.CommandContext(t.Context(), binary, "agent")
		// The collector lets a heap be twice what is kept of it, or more where it is late. What is kept is the question.
		c.Env = append(os.Environ(), "GOGC=10")
		c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(job), &out, &errs
		require.NoError(t, c.Run(), errs.String())
		r := &agent.Result{}
		require.NoError(t, json.Unmarshal(out.Bytes(), r))
		require.Equal(t, r.Offered, r.Sent+r.Unsent)
		require.Equal(t, r.Sent, r.OK+r.FailedBy.Total())
		require.Positive(t, r.MemoryPeakBytes)
		t.Logf("%v: %d requests, %d unsent, %d right, %.1f MB", d, r.Sent, r.Unsent, r.OK, float64(r.MemoryPeakBytes)/1e6)
		return r
	}
	first := run(long / 2)
	all := run(long)
	more := float64(all.Sent) - float64(first.Sent)
	require.Greater(t, more, rps*long.Seconds()/4, "too few were sent to tell: "+strconv.FormatUint(all.Sent, 10))
	// What grows is what the histograms of more seconds take, some 2 MB in the minute. As little as 32 bytes of each request
	// beside it would be beyond this.
	assert.Less(t, float64(all.MemoryPeakBytes-first.MemoryPeakBytes), 4e6+16*more)
	assert.Less(t, all.MemoryPeakBytes, int64(160<<20))
}
