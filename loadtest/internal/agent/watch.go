package agent

import (
	"io"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// Hit is one request of an attack, told when its result has been counted.
type Hit struct {
	Seq      uint64
	Began    time.Time     // of the attack
	Intended time.Duration // after Began; in a closed loop, when it was sent
	Sent     time.Duration // after Began
	Response time.Duration // from the intended send
	Failure  string        // empty where the answer is right
	Code     uint16        // HTTP status, 0 where there was none
	BytesOut uint64
	BytesIn  uint64
	Method   string
	URL      string
	// Operation is its name where a job mixes several.
	Operation string
}

// Watch hears of every hit, one after the other. It must be quick: the loop that counts waits for it.
type Watch func(Hit)

// VegetaResults writes hits in vegeta's own format (gob), for `vegeta report`, `plot`, `encode` and whatever else reads
// it. The timestamp is the intended send and the latency counts from it, which vegeta itself does not do. Bodies and
// headers are left out. The attack's name is the operation's where several are mixed. Errors of the writer come back
// from flush.
func VegetaResults(w io.Writer, name string) (watch Watch, flush func() error) {
	encode := vegeta.NewEncoder(w)
	var failed error
	return func(h Hit) {
		if failed != nil {
			return
		}
		attack := name
		if h.Operation != "" {
			attack = h.Operation
		}
		failed = encode(&vegeta.Result{
			Attack: attack, Seq: h.Seq, Code: h.Code, Timestamp: h.Began.Add(h.Intended), Latency: h.Response,
			BytesOut: h.BytesOut, BytesIn: h.BytesIn, Error: h.Failure, Method: h.Method, URL: h.URL,
		})
	}, func() error { return failed }
}
