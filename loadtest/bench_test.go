package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

func TestRatiosAreTakenWithinARound(t *testing.T) {
	cost := func(x float64) *float64 { return &x }
	void := "late"
	figures := benchFigures([]record.Trial{
		{Arm: "go", Contender: "go", Tier: "mainstream", Operation: "q1", Block: 1, CPUUsPerRequest: cost(300)},
		{Arm: "go-floor", Contender: "go", Tier: "floor", Operation: "q1", Block: 1, CPUUsPerRequest: cost(100)},
		{Arm: "go", Contender: "go", Tier: "mainstream", Operation: "q1", Block: 2, CPUUsPerRequest: cost(800)},
		{Arm: "go-floor", Contender: "go", Tier: "floor", Operation: "q1", Block: 2, CPUUsPerRequest: cost(200)},
		{Arm: "go", Contender: "go", Tier: "mainstream", Operation: "q1", Block: 3, CPUUsPerRequest: cost(1e6), Void: &void},
		{Arm: "rust", Contender: "rust", Tier: "mainstream", Operation: "q1", Block: 1, CPUUsPerRequest: cost(50)},
	})
	require.Len(t, figures, 3)
	assert.Equal(t, "go", figures[0].Arm)
	assert.Equal(t, []float64{3, 4}, figures[0].FloorRatio)
	assert.Equal(t, []float64{1, 1}, figures[1].FloorRatio)
	assert.Empty(t, figures[2].FloorRatio, "no floor of its own language was measured")
	figures[0].Operation = "q2" // q1 all void, say
	text := benchText(figures, 2, 16)
	assert.Regexp(t, `(?m)^go +mainstream +– +550 \(300–800\) +–`, text)
	assert.Contains(t, benchMarkdown(figures, record.Run{}, 2, 16), "| go | mainstream | – | 550 (300–800) | – | – | 3.50 (3.00–4.00) | – |")
	assert.Contains(t, text, "3.5 (3.0–4.0)")
	assert.Contains(t, text, "550 (300–800)")
}

func TestTablesAreSplicedBetweenMarkers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	begin, end := markers(benchCommand)
	require.NoError(t, os.WriteFile(file, []byte("before\n"+begin+"\nold\n"+end+"\nafter\n"), 0o600))
	p, err := openPages(file, benchCommand)
	require.NoError(t, err)
	require.NoError(t, p.splice("new\n"))
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "before\n"+begin+"\nnew\n"+end+"\nafter\n", string(b))
	require.NoError(t, os.WriteFile(file, []byte("no markers"), 0o600))
	_, err = openPages(file, benchCommand)
	require.ErrorContains(t, err, file)
}

// The command in a record gives the same measurement again, whatever the defaults of another version are.
func TestBenchCommandRepeatsTheRun(t *testing.T) {
	assert.Equal(t, "loadtest bench-servers --engine native --seed 7 --rounds 5 --connections 8 --size small --warm 1s --duration 500ms --contender go,rust",
		strings.Join(repeatBench("go,rust", "native", "small", 7, 5, 8, time.Second, 500*time.Millisecond), " "))
}
