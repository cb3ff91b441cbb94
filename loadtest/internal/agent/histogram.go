package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram is an HDR histogram of nanoseconds (Tene, HdrHistogram) that JSON carries in the V2 compressed encoding,
// base64. It keeps the buckets that hold something and no others, some kilobytes whatever the number of requests.
type Histogram struct{ *hdr.PackedHistogram }

// From 1 µs to 100 s in three significant digits: a relative error of at most 0.1 %.
const (
	histogramLowest  = int64(time.Microsecond)
	histogramHighest = int64(100 * time.Second)
	histogramDigits  = 3
)

// NewHistogram makes an empty one.
func NewHistogram() *Histogram { return newHistogram() }

func newHistogram() *Histogram {
	return &Histogram{hdr.NewPacked(histogramLowest, histogramHighest, histogramDigits)}
}

func (h *Histogram) record(d time.Duration) {
	// Clamped, never dropped: a lost value would break offered = sent + unsent.
	_ = h.RecordValue(min(max(int64(d), 0), histogramHighest))
}

// MarshalJSON encodes the histogram.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	b, err := h.Encode()
	if err != nil {
		return nil, err
	}
	return json.Marshal(string(b))
}

// UnmarshalJSON decodes the histogram. Another range or number of digits than the agent's is an error: merged with one
// of the agent's it would lose values.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	decoded, err := hdr.DecodePacked([]byte(s))
	if err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	own := newHistogram()
	if decoded.LowestTrackableValue() != own.LowestTrackableValue() || decoded.HighestTrackableValue() != own.HighestTrackableValue() || decoded.SignificantFigures() != own.SignificantFigures() {
		return errors.New("histogram: its range and digits are not the agent's")
	}
	h.PackedHistogram = decoded
	return nil
}

// Series has one histogram for each second of intended time; a value belongs to the second in which its request was
// intended.
type Series []*Histogram

func newSeries(d time.Duration) Series {
	var s Series
	for range int((d + time.Second - 1) / time.Second) {
		s = append(s, newHistogram())
	}
	return s
}

func (s Series) record(intended, value time.Duration) {
	s[min(max(int(intended/time.Second), 0), len(s)-1)].record(value)
}

// Each has every second's histogram in the form of the whole.
func (s Series) Each() []*hdr.Histogram {
	var out []*hdr.Histogram
	for i := range s {
		out = append(out, s[i:i+1].Merge())
	}
	return out
}

// Merge is the whole, without loss.
func (s Series) Merge() *hdr.Histogram {
	all := hdr.New(histogramLowest, histogramHighest, histogramDigits)
	for _, h := range s {
		h.MergeInto(all)
	}
	return all
}
