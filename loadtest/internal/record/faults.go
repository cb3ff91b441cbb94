package record

// LinkClient is the way between the load generator and a contender; its link is in the generator's process.
const LinkClient = "client"

// FaultOverhead is what the fault proxy adds to a round trip: measured on the way through it and on the direct one in turns,
// one at a time, on one connection each.
type FaultOverhead struct {
	// Link is the way that was measured, such as database_primary.
	Link       string `json:"link"`
	RoundTrips int    `json:"round_trips"` // on each way
	// DelayNS is the latency that was set meanwhile, or 0.
	DelayNS      int64 `json:"delay_ns"`
	DirectP50NS  int64 `json:"direct_p50_ns"`
	DirectP99NS  int64 `json:"direct_p99_ns"`
	ProxiedP50NS int64 `json:"proxied_p50_ns"`
	ProxiedP99NS int64 `json:"proxied_p99_ns"`
	// AddedP50NS and AddedP99NS are the median and the 99th percentile of what each round trip through the proxy took longer
	// than the direct one beside it; of a delay that was set they contain all.
	AddedP50NS int64 `json:"added_p50_ns"`
	AddedP99NS int64 `json:"added_p99_ns"`
	// CPUUsPerRoundTrip is the proxy's own CPU time.
	CPUUsPerRoundTrip float64 `json:"cpu_us_per_round_trip"`
}
