package record

// Phases are where the time of some requests went, as the server tells by Server-Timing. The requests were sent one after the
// other, after the trial's own load.
type Phases struct {
	Requests int `json:"requests"`
	// MedianNS has each phase's median, of PhaseNames. Medians of phases need not add up to the total's.
	MedianNS map[string]int64 `json:"median_ns"`
}

// The phases of Server-Timing that are not the server's own work, their total, and what is left: the server's own.
const (
	PhaseDatabase = "db"
	PhaseUpstream = "upstream"
	PhaseTotal    = "total"
	PhaseOwn      = "own"
)

// PhaseNames are the keys of Phases.MedianNS.
var PhaseNames = []string{"parse", "validate", "execute", PhaseDatabase, PhaseUpstream, "serialize", PhaseTotal, PhaseOwn}

// Phase is a phase's median of the trial in milliseconds, if it was asked for.
func (t *Trial) Phase(name string) (ms float64, ok bool) {
	if t.Phases == nil {
		return 0, false
	}
	ns, ok := t.Phases.MedianNS[name]
	return float64(ns) / 1e6, ok
}
