package record

import "fmt"

// The kinds of writes of which a scenario may ask how soon they can be read.
const (
	// WriteMaster changes master data (renameArea), which a server may have in memory or in Redis.
	WriteMaster = "master_data"
	// WriteMasterElsewhere is the same, read from another server that was started beside the one that wrote.
	WriteMasterElsewhere = "master_data_elsewhere"
	// WriteRow adds a row (addReview), which a server reads from the replica, where it has one.
	WriteRow = "row"
)

// Staleness is how soon writes of one kind could be read. They were made one after the other, after the trial's own load and
// beside the same load again; after each write's answer the server was asked, on the same connection, until it gave what was
// written; or, of WriteMasterElsewhere, another one was.
type Staleness struct {
	Write  string `json:"write"` // WriteMaster, WriteMasterElsewhere or WriteRow
	Writes int    `json:"writes"`
	// StaleReads are the answers, over all writes, that came before the first one with what was written.
	StaleReads int `json:"stale_reads"`
	// ReadableNSP50 and ReadableNSMax run from a write's answer to the end of the first answer that had it: with no stale
	// read, the time of one request.
	ReadableNSP50 int64 `json:"readable_ns_p50"`
	ReadableNSMax int64 `json:"readable_ns_max"`
	// LoadRPS is the rate of the load beside them, requests a second; 0 where there was none.
	LoadRPS float64 `json:"load_rps,omitempty"`
	// LoadedWrites are those that could be read while that load ran.
	LoadedWrites int `json:"loaded_writes,omitempty"`
}

// StalenessOf is that of a kind of writes, if it was asked for.
func (t *Trial) StalenessOf(write string) (Staleness, bool) {
	for _, s := range t.Staleness {
		if s.Write == write {
			return s, true
		}
	}
	return Staleness{}, false
}

// checkStaleness says where what is recorded of writes cannot be.
func (t *Trial) checkStaleness() error {
	for _, s := range t.Staleness {
		if s.Writes <= 0 || s.StaleReads < 0 || s.ReadableNSP50 <= 0 || s.ReadableNSMax < s.ReadableNSP50 {
			return fmt.Errorf("staleness of %s: writes %d, stale_reads %d, readable_ns_p50 %d and readable_ns_max %d do not go together", s.Write, s.Writes, s.StaleReads, s.ReadableNSP50, s.ReadableNSMax)
		}
		if s.LoadRPS < 0 || s.LoadedWrites < 0 || s.LoadedWrites > s.Writes || s.LoadRPS == 0 && s.LoadedWrites > 0 {
			return fmt.Errorf("staleness of %s: load_rps %g and loaded_writes %d of %d do not go together", s.Write, s.LoadRPS, s.LoadedWrites, s.Writes)
		}
	}
	return nil
}
