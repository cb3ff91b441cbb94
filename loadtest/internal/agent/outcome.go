package agent

import "time"

// Outcome is what became of the requests that were over within one step of time.
type Outcome struct {
	OK       uint64 `json:"ok"`
	FailedBy Failed `json:"failed_by"`
	// OKOf has the right answers of each operation of a job that mixes several, in its order.
	OKOf []uint64 `json:"ok_of,omitempty"`
}

// maxOutcomes keeps a result small.
const maxOutcomes = 100_000

// outcomes counts by the step in which a request was over, answered or failed, from the attack's beginning.
type outcomes struct {
	step       time.Duration
	operations int // of a mix
	steps      []Outcome
}

func newOutcomes(job Job) *outcomes {
	if job.OutcomeStep == 0 {
		return nil
	}
	return &outcomes{job.OutcomeStep, len(job.Operations), make([]Outcome, (job.Duration+job.OutcomeStep-1)/job.OutcomeStep)}
}

// count adds steps where a request was over after the last one was intended. Its operation is counted from 0.
func (o *outcomes) count(over time.Duration, operation int, failed Failed) {
	if o == nil {
		return
	}
	i := max(int(over/o.step), 0)
	for i >= len(o.steps) {
		o.steps = append(o.steps, Outcome{})
	}
	at := &o.steps[i]
	at.FailedBy.add(failed)
	if failed.Total() > 0 {
		return
	}
	at.OK++
	if o.operations > 0 {
		if at.OKOf == nil {
			at.OKOf = make([]uint64, o.operations)
		}
		at.OKOf[operation]++
	}
}
