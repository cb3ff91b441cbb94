package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// HandOver is what `bench hand-over` prints: what it takes to give memory to another thread of control and get an answer.
type HandOver struct {
	Bench  string  `json:"bench"`
	Bytes  int     `json:"bytes"`
	Ways   []Way   `json:"ways"` // the first is the usual one
	Starts []Start `json:"starts"`
}

// Way is one way of handing over. TouchWallNSP50 is the time of the receiver's work alone, done by the sender.
type Way struct {
	Way               string  `json:"way"`
	Iterations        int     `json:"iterations"`
	WallNSP50         int64   `json:"wall_ns_p50"`
	WallNSP99         int64   `json:"wall_ns_p99"`
	CPUNSPerOperation float64 `json:"cpu_ns_per_operation"`
	TouchWallNSP50    int64   `json:"touch_wall_ns_p50"`
}

// Start is what starting one unit of concurrency takes, until it says that it runs; PSSBytesEach is null where the kernel
// does not tell.
type Start struct {
	Unit         string   `json:"unit"`
	Count        int      `json:"count"`
	WallNSP50    int64    `json:"wall_ns_p50"`
	CPUNSEach    float64  `json:"cpu_ns_each"`
	PSSBytesEach *float64 `json:"pss_bytes_each"`
}

// LoaderCost is what `bench loader` prints.
type LoaderCost struct {
	Bench       string  `json:"bench"`
	Keys        int     `json:"keys"`
	Batch       int     `json:"batch"`
	Batches     int     `json:"batches"`
	CPUNSPerKey float64 `json:"cpu_ns_per_key"`
	WallNS      int64   `json:"wall_ns"`
}

// Bounds of what a bench may be asked for, the same in all servers.
const (
	mostBenchBytes    = 100_000_000
	mostBenchKeys     = 100_000_000
	mostBenchBatch    = 10_000
	mostBenchDuration = time.Minute
	startedGoroutines = 10_000
)

// Bench runs a benchmark command, such as hand-over --bytes 1000 --duration 1s, and prints one line of JSON. Its error says
// which argument is wrong.
func Bench(args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New(`bench: expected hand-over or loader`)
	}
	flags, err := benchFlags(args[1:])
	if err != nil {
		return fmt.Errorf("bench %s: %w", args[0], err)
	}
	var result any
	switch args[0] {
	case "hand-over":
		result, err = handOver(flags)
	case "loader":
		result, err = benchLoader(flags)
	default:
		return fmt.Errorf("bench %q: expected hand-over or loader", args[0])
	}
	if err == nil {
		err = flags.rest()
	}
	if err != nil {
		return fmt.Errorf("bench %s: %w", args[0], err)
	}
	return json.NewEncoder(stdout).Encode(result)
}

type flagValues map[string]string

func benchFlags(args []string) (flagValues, error) {
	flags := flagValues{}
	for i := 0; i < len(args); i += 2 {
		name, ok := strings.CutPrefix(args[i], "--")
		if _, twice := flags[name]; !ok || twice || i+1 == len(args) || !slices.Contains([]string{"bytes", "duration", "keys", "batch"}, name) {
			return nil, fmt.Errorf("%q: expected --bytes N and --duration TIME, or --keys N and --batch N, each once", args[i])
		}
		flags[name] = args[i+1]
	}
	return flags, nil
}

// number takes a flag's value from 1 to most.
func (f flagValues) number(name string, most int) (int, error) {
	text := f[name]
	delete(f, name)
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("--%s %q: expected a number from 1 to %d", name, text, most)
	}
	return n, nil
}

func (f flagValues) duration() (time.Duration, error) {
	text := f["duration"]
	delete(f, "duration")
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Millisecond || d > mostBenchDuration {
		return 0, fmt.Errorf("--duration %q: expected 1ms to %v, as in 500ms or 1s", text, mostBenchDuration)
	}
	return d, nil
}

// rest refuses flags that the command does not have.
func (f flagValues) rest() error {
	for name := range f {
		return fmt.Errorf("--%s is not among its flags", name)
	}
	return nil
}

// checksum adds up little-endian words of 32 bits: it reads every byte.
func checksum(data []byte) uint32 {
	var sum uint32
	for ; len(data) >= 4; data = data[4:] {
		sum += binary.LittleEndian.Uint32(data)
	}
	return sum
}

// fill makes the data that all servers hand over, and gives its checksum.
func fill(data []byte) uint32 {
	for i := range data {
		data[i] = byte(i * 31)
	}
	return checksum(data)
}

func handOver(flags flagValues) (*HandOver, error) {
	size, err := flags.number("bytes", mostBenchBytes)
	if err == nil && size%4 != 0 {
		err = fmt.Errorf("--bytes %d: expected a multiple of 4", size)
	}
	if err != nil {
		return nil, err
	}
	d, err := flags.duration()
	if err != nil {
		return nil, err
	}
	if err := flags.rest(); err != nil {
		return nil, err
	}
	// Started first, so that no other memory is used again.
	starts := []Start{startGoroutines()}
	data := make([]byte, size)
	base := fill(data) - binary.LittleEndian.Uint32(data)
	requests, answers := make(chan []byte), make(chan uint32)
	defer close(requests)
	go func() {
		for b := range requests {
			answers <- checksum(b)
		}
	}()
	way := Way{Way: "goroutine-channel"}
	// The sender changes the data each time, so that no answer can be an earlier one.
	over := func(n uint32) (uint32, error) {
		binary.LittleEndian.PutUint32(data, n)
		requests <- data
		return <-answers, nil
	}
	touch := func(n uint32) (uint32, error) {
		binary.LittleEndian.PutUint32(data, n)
		return checksum(data), nil
	}
	if _, _, err = repeat(d/10, base, over); err != nil { // warm
		return nil, err
	}
	walls, cpu, err := repeat(d, base, over)
	if err != nil {
		return nil, err
	}
	way.Iterations, way.WallNSP50, way.WallNSP99 = len(walls), quantile(walls, 0.5), quantile(walls, 0.99)
	way.CPUNSPerOperation = float64(cpu) / float64(len(walls))
	alone, _, err := repeat(d/4, base, touch)
	if err != nil {
		return nil, err
	}
	way.TouchWallNSP50 = quantile(alone, 0.5)
	return &HandOver{Bench: "hand-over", Bytes: size, Ways: []Way{way}, Starts: starts}, nil
}

// repeat measures an operation again and again for a time, and verifies each answer. It gives wall times in nanoseconds and
// the process's CPU time.
func repeat(d time.Duration, base uint32, operation func(n uint32) (uint32, error)) ([]int64, time.Duration, error) {
	walls := make([]int64, 0, 1024)
	cpu, began := processCPU(), time.Now()
	for n := uint32(0); n == 0 || time.Since(began) < d; n++ {
		start := time.Now()
		got, err := operation(n)
		walls = append(walls, int64(time.Since(start)))
		if err != nil {
			return nil, 0, err
		}
		if got != base+n {
			return nil, 0, fmt.Errorf("the receiver's checksum is %d, expected %d", got, base+n)
		}
	}
	return walls, processCPU() - cpu, nil
}

// quantile is the smallest value that at least that share of them does not exceed. It sorts them.
func quantile(values []int64, q float64) int64 {
	slices.Sort(values)
	return values[max(0, min(len(values)-1, int(q*float64(len(values))+0.9999999)-1))]
}

func startGoroutines() Start {
	s := Start{Unit: "goroutine", Count: startedGoroutines}
	walls := make([]int64, 0, s.Count)
	runs, end := make(chan struct{}), make(chan struct{})
	var started sync.WaitGroup
	defer func() { // gone before anything else is measured
		close(end)
		started.Wait()
	}()
	before := pssBytes()
	cpu := processCPU()
	for range s.Count {
		start := time.Now()
		started.Go(func() {
			runs <- struct{}{}
			<-end
		})
		<-runs
		walls = append(walls, int64(time.Since(start)))
	}
	s.CPUNSEach = float64(processCPU()-cpu) / float64(s.Count)
	s.WallNSP50 = quantile(walls, 0.5)
	if after := pssBytes(); before != nil && after != nil {
		each := float64(*after-*before) / float64(s.Count)
		s.PSSBytesEach = &each
	}
	return s
}

// noObserver is told of batches that no metric counts.
type noObserver struct{}

func (noObserver) Observe(float64) {}

func benchLoader(flags flagValues) (*LoaderCost, error) {
	keys, err := flags.number("keys", mostBenchKeys)
	if err != nil {
		return nil, err
	}
	size, err := flags.number("batch", mostBenchBatch)
	if err != nil {
		return nil, err
	}
	if err := flags.rest(); err != nil {
		return nil, err
	}
	rows := make([]namedRow, size+1)
	ids := make([]int32, size)
	for i := range ids {
		ids[i] = int32(i + 1)
		rows[i+1].id = ids[i]
	}
	batches := 0
	load := func(keys int) error {
		for left := keys; left > 0; left -= size {
			// A loader lives for one request.
			l := NewLoader(noObserver{}, func(_ context.Context, ids []int32, found func(int32, *namedRow)) error {
				batches++
				for _, id := range ids {
					found(id, &rows[id])
				}
				return nil
			})
			asked := ids[:min(left, size)]
			values, errs := l.LoadMany(context.Background(), asked)
			if errs != nil {
				return errors.Join(errs...)
			}
			for i, row := range values {
				if row == nil || row.id != asked[i] {
					return fmt.Errorf("key %d was answered with another's value", asked[i])
				}
			}
		}
		return nil
	}
	if err := load(max(size, keys/10)); err != nil { // warm
		return nil, err
	}
	batches = 0
	cpu, began := processCPU(), time.Now()
	if err := load(keys); err != nil {
		return nil, err
	}
	used, wall := processCPU()-cpu, time.Since(began)
	return &LoaderCost{Bench: "loader", Keys: keys, Batch: size, Batches: batches, CPUNSPerKey: float64(used) / float64(keys), WallNS: int64(wall)}, nil
}

// processCPU is the user and system time of this process.
func processCPU() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// pssBytes is this process's proportional set size, or nil where the kernel does not tell.
func pssBytes() *int64 {
	f, err := os.Open("/proc/self/smaps_rollup")
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "Pss:" {
			if kib, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				bytes := kib * 1024
				return &bytes
			}
		}
	}
	return nil
}
