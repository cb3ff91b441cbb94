package record

// Benched is what a server's own benchmark command printed: which fields it has follows from Bench, the command.
type Benched struct {
	Bench string `json:"bench"`

	// Of hand-over: how many bytes were handed over, the ways that the runtime offers, the usual one first, and what
	// starting one unit takes.
	Bytes  int64        `json:"bytes,omitempty"`
	Ways   []BenchWay   `json:"ways,omitempty"`
	Starts []BenchStart `json:"starts,omitempty"`

	// Of loader: so many keys were loaded, at most Batch of them at once, by Batches calls of the batch function.
	Keys        int64   `json:"keys,omitempty"`
	Batch       int64   `json:"batch,omitempty"`
	Batches     int64   `json:"batches,omitempty"`
	CPUNSPerKey float64 `json:"cpu_ns_per_key,omitempty"`
	WallNS      int64   `json:"wall_ns,omitempty"`
}

// BenchWay is one way of handing over. The wall times are from handing over to the answer, the receiver's reading of every
// byte included; TouchWallNSP50 is that reading alone, done by the sender.
type BenchWay struct {
	Way               string  `json:"way"`
	Iterations        int64   `json:"iterations"`
	WallNSP50         int64   `json:"wall_ns_p50"`
	WallNSP99         int64   `json:"wall_ns_p99"`
	CPUNSPerOperation float64 `json:"cpu_ns_per_operation"`
	TouchWallNSP50    int64   `json:"touch_wall_ns_p50"`
}

// BenchStart is what starting one unit of concurrency takes until it says that it runs; its memory is null where the kernel
// does not tell.
type BenchStart struct {
	Unit         string   `json:"unit"`
	Count        int64    `json:"count"`
	WallNSP50    int64    `json:"wall_ns_p50"`
	CPUNSEach    float64  `json:"cpu_ns_each"`
	PSSBytesEach *float64 `json:"pss_bytes_each"`
}

// The servers' benchmark commands.
const (
	BenchHandOver = "hand-over"
	BenchLoader   = "loader"
)

// BenchAsked is the benchmark command that a scenario asks of each server: bytes, or keys at once, the first of which
// decides.
type BenchAsked struct {
	Command string `json:"command"`
	Sizes   []int  `json:"sizes"`
}

// BenchFigure is what decides of a trial's benchmark: of the first size the median wall time of the usual way of handing over,
// or the loader's CPU time per key, in nanoseconds; nil where there was none.
func (t *Trial) BenchFigure() *float64 {
	if len(t.Benched) == 0 {
		return nil
	}
	switch b := t.Benched[0]; {
	case len(b.Ways) > 0:
		ns := float64(b.Ways[0].WallNSP50)
		return &ns
	case b.CPUNSPerKey > 0:
		return &b.CPUNSPerKey
	}
	return nil
}
