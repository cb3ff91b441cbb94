package record

import "fmt"

// The kinds of writes of which a scenario may ask how soon they can be read.
const (
	// WriteMaster changes master data (renameArea), which a server may have in memory or in Redis.
	WriteMaster = "master_data"
	// WriteRow adds a row (addReview), which a server reads from the replica, where it has one.
	WriteRow = "row"
)

// Staleness is how soon writes of one kind could be read. They were made one after the other, after the trial's own load and
// beside no other; after each write's answer the server was asked, on the same connection, until it gave what was written.
type Staleness struct {
	Write  string `json:"write"` // WriteMaster or WriteRow
	Writes int    `json:"writes"`
	// StaleReads are the answers, over all writes, that came before the first one with what was written.
	StaleReads int `json:"stale_reads"`
	// ReadableNSP50 and ReadableNSMax run from a write's answer to the end of the first answer that had it: with no stale
	// read, the time of one request.
	ReadableNSP50 int64 `json:"readable_ns_p50"`
	ReadableNSMax int64 `json:"readable_ns_max"`
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
	}
	return nil
}
