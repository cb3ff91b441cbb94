package main

import (
	"context"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asProgram makes the test binary the program itself, for tests whose subject starts it anew.
const asProgram = "LOADTEST_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
	}
	if kind := os.Getenv(burdenVariable); kind != "" {
		os.Exit(bear(kind, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// Every generator is driven, and what it did is counted; how fast it was is nobody's business here.
func TestBenchAgentMeasuresEveryGenerator(t *testing.T) {
	t.Setenv(asProgram, "1")
	binary, err := os.Executable()
	require.NoError(t, err)
	b := &agentBencher{binary: binary, rounds: 1, duration: 100 * time.Millisecond, rates: []float64{200}, seed: 1, searches: 0, progress: newProgress(io.Discard)}
	out, err := b.run(t.Context())
	require.NoError(t, err)
	require.Len(t, out.Figures, len(findGenerators(runtime.NumCPU())))
	for _, f := range out.Figures {
		assert.Len(t, f.CPUUs, 1, f.Generator)
		assert.Len(t, f.LagP99Us, 1, f.Generator)
		assert.Len(t, f.StockRatio, 1, f.Generator)
		assert.Len(t, f.VegetaRatio, 1, f.Generator)
		assert.Zero(t, f.Failed, f.Generator)
	}
	text := agentBenchText(out)
	assert.Contains(t, text, "wrk is not installed")
	assert.Contains(t, text, "vegeta's own attacker")
	assert.Contains(t, text, "are for trying out")
}

func TestBenchAgentNeedsItsProgram(t *testing.T) {
	b := &agentBencher{binary: "/nonexistent", rounds: 1, duration: time.Millisecond, progress: newProgress(io.Discard)}
	_, err := b.run(t.Context())
	require.ErrorContains(t, err, "null server")
}

func TestSearchEndsBetweenTwoRates(t *testing.T) {
	for name, c := range map[string]struct{ truth, kept, late float64 }{
		"below the lowest":  {500, 0, 1000},
		"in between":        {5100, 5000, 5500},
		"above the highest": {1e6, 64_000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			kept, late, err := search(func(rps float64) (bool, error) { return rps <= c.truth, nil })
			require.NoError(t, err)
			assert.Equal(t, []float64{c.kept, c.late}, []float64{kept, late})
		})
	}
	_, _, err := search(func(float64) (bool, error) { return false, io.ErrUnexpectedEOF })
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
