package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/http"
	"strings"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// judge sorts answers into right and the kinds of wrong. It is not on the timing path: an answer's latency is final
// before it is looked at.
type judge struct {
	mix     *mix
	compare Compare
	// Bodies that were right: the same bytes again need no second look. Of drawn requests only hashes are kept (64 bits,
	// seeded anew for each attack), of so many requests at most.
	known  [][]byte // by operation
	hashes map[draw]uint64
	seed   maphash.Seed
}

const maxHashes = 1 << 14

func newJudge(m *mix, compare Compare) *judge {
	return &judge{mix: m, compare: compare, known: make([][]byte, len(m.operations)), hashes: map[draw]uint64{}, seed: maphash.MakeSeed()}
}

// look counts a failure and describes it; "" where the answer is right. compared tells whether the answer's body was
// looked at as a whole: where it is not in the share that is, only its status and `errors` count.
func (j *judge) look(hit *vegeta.Result, p draw, compares bool, failed *Failed) (why string, compared bool) {
	if hit.Code == 0 || (hit.Error != "" && hit.Code == http.StatusOK) {
		switch {
		case strings.Contains(hit.Error, "refused"):
			failed.Refused++
		case strings.Contains(hit.Error, "Client.Timeout"), strings.Contains(hit.Error, "timeout"), strings.Contains(hit.Error, "deadline"):
			failed.Timeout++
		default:
			failed.Reset++ // a connection that ended early, a body cut short
		}
		return hit.Error, false
	}
	if hit.Code != http.StatusOK {
		failed.Status++
		return fmt.Sprintf("status %d: %s", hit.Code, head(hit.Body)), false
	}
	if j.isKnown(p, hit.Body) {
		return "", true
	}
	if !compares && !bytes.Contains(hit.Body, []byte(`"errors"`)) {
		return "", false
	}
	var answer struct {
		Errors json.RawMessage `json:"errors"`
	}
	if err := json.Unmarshal(hit.Body, &answer); err != nil {
		failed.WrongAnswer++
		return fmt.Sprintf("not JSON (%v): %s", err, head(hit.Body)), true
	}
	expected := j.mix.expected(p)
	if !compares || len(expected) == 0 || j.compare == nil {
		if answer.Errors != nil {
			failed.GraphQLErrors++
			return "errors: " + head(answer.Errors), compares
		}
		if compares {
			j.remember(p, hit.Body)
		}
		return "", compares
	}
	if err := j.compare(expected, hit.Body); err != nil {
		if answer.Errors != nil {
			failed.GraphQLErrors++
			return "errors: " + head(answer.Errors), true
		}
		failed.WrongAnswer++
		return err.Error(), true
	}
	j.remember(p, hit.Body)
	return "", true
}

func (j *judge) isKnown(p draw, body []byte) bool {
	if j.mix.operations[p.operation].fixed != nil {
		known := j.known[p.operation]
		return known != nil && bytes.Equal(known, body)
	}
	hash, ok := j.hashes[p]
	return ok && hash == maphash.Bytes(j.seed, body)
}

func (j *judge) remember(p draw, body []byte) {
	if j.mix.operations[p.operation].fixed != nil {
		j.known[p.operation] = bytes.Clone(body)
	} else if len(j.hashes) < maxHashes {
		j.hashes[p] = maphash.Bytes(j.seed, body)
	}
}

func head(b []byte) string {
	if len(b) > 200 {
		return string(b[:200]) + "…"
	}
	return string(b)
}
