package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// vegetaPacer is vegeta's own constant pacer, which only tells when it began.
type vegetaPacer struct {
	vegeta.ConstantPacer
	once  sync.Once
	began time.Time
}

// Pace implements vegeta.Pacer.
func (p *vegetaPacer) Pace(elapsed time.Duration, hits uint64) (time.Duration, bool) {
	p.once.Do(func() { p.began = time.Now().Add(-elapsed) })
	return p.ConstantPacer.Pace(elapsed, hits)
}

// attackVegeta attacks as `vegeta attack` does: the attacker with its defaults, its pacer, each result encoded. Only the
// send lag is added to that; response times are not recorded, and an answer counts as right by its status. The job's
// arrival, limits and expected answer do not count.
func attackVegeta(ctx context.Context, job Job) (*Result, error) {
	// Per thousand seconds, so that a rate may have decimals.
	if err := job.Check(); err != nil {
		return nil, err
	}
	if len(job.Operations) > 0 || job.Closed {
		return nil, fmt.Errorf("job: sender %s has an open loop of one operation only", SenderVegeta)
	}
	p := &vegetaPacer{ConstantPacer: vegeta.ConstantPacer{Freq: int(job.RPS * 1000), Per: 1000 * time.Second}}
	offered, err := CountWithin(Constant, job.RPS, job.Seed, job.Duration)
	if err != nil {
		return nil, err
	}
	r := newResult(job.Duration)
	r.Offered = offered
	target := targetOf(job)
	target.Body = []byte(job.Body)
	attacker := vegeta.NewAttacker()
	stop := context.AfterFunc(ctx, func() { attacker.Stop() })
	defer stop()
	encode := vegeta.NewEncoder(io.Discard)
	before := ownCPU()
	var last time.Time
	for hit := range attacker.Attack(vegeta.NewStaticTargeter(target), p, job.Duration, "") {
		if err := encode(hit); err != nil {
			return nil, err
		}
		r.Sent++
		intended := time.Duration(float64(hit.Seq) * 1e9 / job.RPS)
		r.SendLagSeconds.record(intended, hit.Timestamp.Sub(p.began)-intended)
		if end := hit.Timestamp.Add(hit.Latency); end.After(last) {
			last = end
		}
		switch {
		case hit.Code == http.StatusOK && hit.Error == "":
			r.OK++
		case hit.Code == 0:
			r.FailedBy.Reset++
		default:
			r.FailedBy.Status++
		}
	}
	r.CPUSeconds = (ownCPU() - before).Seconds()
	// It may send one more than is due before the end.
	r.Offered = max(r.Offered, r.Sent)
	r.Unsent = r.Offered - r.Sent
	r.Began = p.began
	if !last.IsZero() {
		r.Elapsed = last.Sub(p.began)
	}
	return r, ctx.Err()
}
