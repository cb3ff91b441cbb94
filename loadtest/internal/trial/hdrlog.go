package trial

import (
	"bytes"
	"fmt"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/record"
)

// hdrLog writes, for each second of intended time, the response times without a tag, which is what the HdrHistogram
// tools read unless they are told otherwise, and the service times, the send lags and the response times of each
// operation of a mix with tags of their own (HdrHistogram's log format 1.3). Values are nanoseconds.
func hdrLog(r *agent.Result) ([]byte, error) {
	var b bytes.Buffer
	w := hdr.NewHistogramLogWriter(&b)
	start := r.Began.UnixMilli()
	base := start / 1000 * 1000 // the log's header has whole seconds
	for _, comment := range []string{
		"[Response times from the intended send, in nanoseconds]",
		fmt.Sprintf("[Tag %s: from the true send; tag %s: from the intended to the true send]", record.TagService, record.TagSendLag),
	} {
		if err := w.OutputComment(comment); err != nil {
			return nil, err
		}
	}
	if err := w.OutputLogFormatVersion(); err != nil {
		return nil, err
	}
	if err := w.OutputStartTime(base); err != nil {
		return nil, err
	}
	w.SetBaseTime(base)
	if err := w.OutputBaseTime(base); err != nil {
		return nil, err
	}
	if err := w.OutputLegend(); err != nil {
		return nil, err
	}
	type tagged struct {
		tag    string
		series agent.Series
	}
	all := []tagged{{"", r.ResponseSeconds}, {record.TagService, r.ServiceSeconds}, {record.TagSendLag, r.SendLagSeconds}}
	for _, o := range r.Operations {
		all = append(all, tagged{record.TagOperation + o.Name, o.ResponseSeconds})
	}
	for _, x := range all {
		if len(x.series) != len(r.ResponseSeconds) {
			return nil, fmt.Errorf("the generator's result: %d seconds of %q, but %d of response times", len(x.series), x.tag, len(r.ResponseSeconds))
		}
	}
	for i := range r.ResponseSeconds {
		for _, x := range all {
			h := x.series[i]
			h.SetTag(x.tag)
			h.SetStartTimeMs(start + int64(i)*1000)
			h.SetEndTimeMs(start + int64(i+1)*1000)
			if err := w.OutputIntervalPackedHistogram(h.PackedHistogram); err != nil {
				return nil, err
			}
		}
	}
	return b.Bytes(), nil
}
