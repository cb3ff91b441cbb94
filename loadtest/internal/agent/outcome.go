package agent

import "time"

// Outcome is what became of the requests that were over within one step of time.
type Outcome struct {
	OK       uint64 `json:"ok"`
	FailedBy Failed `json:"failed_by"`
}

// maxOutcomes keeps a result small.
const maxOutcomes = 100_000

// outcomes counts by the step in which a request was over, answered or failed, from the attack's beginning.
type outcomes struct {
	step  time.Duration
	steps []Outcome
}

func newOutcomes(job Job) *outcomes {
	if job.OutcomeStep == 0 {
		return nil
	}
	return &outcomes{job.OutcomeStep, make([]Outcome, (job.Duration+job.OutcomeStep-1)/job.OutcomeStep)}
}

// count adds steps where a request was over after the last one was intended.
func (o *outcomes) count(over time.Duration, failed Failed) {
	if o == nil {
		return
	}
	i := max(int(over/o.step), 0)
	for i >= len(o.steps) {
		o.steps = append(o.steps, Outcome{})
	}
	o.steps[i].FailedBy.add(failed)
	if failed.Total() == 0 {
		o.steps[i].OK++
	}
}
