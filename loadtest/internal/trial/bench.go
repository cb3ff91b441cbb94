package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"lab/loadtest/internal/record"
)

// What every benchmark command is asked for.
const (
	// benchDuration is measured for each way of handing over.
	benchDuration = 300 * time.Millisecond
	// benchKeys are loaded; a multiple of no batch size is needed, since the last batch may be smaller.
	benchKeys = 200_000
	// benchLoading is about how long that takes.
	benchLoading = 300 * time.Millisecond
	// benchAround is about what a command takes beside that, in a container of its own.
	benchAround = 400 * time.Millisecond
	// benchWays is about what a runtime offers.
	benchWays = 2
)

// BenchTime is about how long a scenario's benchmark commands take in one trial.
func BenchTime(asked *record.BenchAsked) time.Duration {
	if asked == nil {
		return 0
	}
	each := benchAround + benchWays*benchDuration*3/2
	if asked.Command == record.BenchLoader {
		each = benchAround + benchLoading
	}
	return time.Duration(len(asked.Sizes)) * each
}

// Bench runs the arm's own benchmark command, once for each size and each time in a fresh process, and holds what it printed
// to what was asked.
func Bench(ctx context.Context, s Subject, asked record.BenchAsked) ([]record.Benched, error) {
	var out []record.Benched
	for _, size := range asked.Sizes {
		args := []string{asked.Command, "--bytes", strconv.Itoa(size), "--duration", benchDuration.String()}
		if asked.Command == record.BenchLoader {
			args = []string{asked.Command, "--keys", strconv.Itoa(benchKeys), "--batch", strconv.Itoa(size)}
		}
		printed, err := s.Engine.Bench(ctx, s.Arm, args)
		if err != nil {
			return nil, fmt.Errorf("bench %s of %s: %w", asked.Command, s.Arm.Name, err)
		}
		b, err := readBenched(printed, asked.Command, int64(size))
		if err != nil {
			return nil, fmt.Errorf("bench %s of %s, size %d: %w", asked.Command, s.Arm.Name, size, err)
		}
		out = append(out, b)
	}
	return out, nil
}

// readBenched reads the one line that a command prints.
func readBenched(printed []byte, command string, size int64) (b record.Benched, err error) {
	decoder := json.NewDecoder(bytes.NewReader(printed))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&b); err != nil {
		return b, fmt.Errorf("its output: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return b, fmt.Errorf("its output is more than one line of JSON: %.200q", printed)
	}
	if b.Bench != command {
		return b, fmt.Errorf("its output is of bench %q", b.Bench)
	}
	if command == record.BenchLoader {
		switch want := (benchKeys + size - 1) / size; {
		case b.Keys != benchKeys || b.Batch != size:
			return b, fmt.Errorf("its output is of %d keys in batches of %d, asked for were %d in batches of %d", b.Keys, b.Batch, benchKeys, size)
		case b.Batches != want:
			return b, fmt.Errorf("it sent %d batches, and %d keys at most %d at once take exactly %d", b.Batches, benchKeys, size, want)
		case !(b.CPUNSPerKey > 0):
			return b, fmt.Errorf("cpu_ns_per_key is %g", b.CPUNSPerKey)
		}
		return b, nil
	}
	if b.Bytes != size || len(b.Ways) == 0 || len(b.Starts) == 0 {
		return b, fmt.Errorf("its output is of %d bytes, with %d ways and %d starts; asked for were %d bytes, and one or more of both", b.Bytes, len(b.Ways), len(b.Starts), size)
	}
	for _, w := range b.Ways {
		if w.Iterations < 1 || w.WallNSP50 <= 0 || w.WallNSP99 < w.WallNSP50 {
			return b, fmt.Errorf("way %q: %d iterations, wall_ns_p50 %d, wall_ns_p99 %d", w.Way, w.Iterations, w.WallNSP50, w.WallNSP99)
		}
	}
	return b, nil
}
