package server

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"path"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// mostProfileSeconds is the longest that one profile may take.
const mostProfileSeconds = 30

// profile samples the stacks of this process's CPU time for some seconds and answers with them folded. The runtime
// has one profiler: while it is at work, a second one is refused.
func (a *App) profile(w http.ResponseWriter, r *http.Request) {
	if !a.config.Profiler {
		a.refuse(w, contentTypeJSON, newRequestError(http.StatusNotFound, codeBadRequest, "Not found."))
		return
	}
	asked := r.URL.Query().Get("seconds")
	seconds, err := strconv.ParseUint(asked, 10, 16)
	if err != nil || seconds < 1 || seconds > mostProfileSeconds {
		a.refuse(w, contentTypeJSON, badRequest("\"seconds\" is %q: expected a whole number from 1 to %d.", asked, mostProfileSeconds))
		return
	}
	var sampled bytes.Buffer
	if err := pprof.StartCPUProfile(&sampled); err != nil {
		a.refuse(w, contentTypeJSON, newRequestError(http.StatusConflict, codeBadRequest, "A profile is being taken already."))
		return
	}
	wait := time.NewTimer(time.Duration(seconds) * time.Second)
	select {
	case <-wait.C:
	case <-r.Context().Done():
		wait.Stop()
	}
	pprof.StopCPUProfile()
	folded, err := fold(sampled.Bytes())
	if err != nil {
		a.failures.log(a.log, "profile failed", "error", err.Error())
		a.refuse(w, contentTypeJSON, newRequestError(http.StatusInternalServerError, codeInternal, "Internal server error."))
		return
	}
	writeBody(w, http.StatusOK, contentTypeText, folded)
}

// fold writes a profile of pprof as one line for each stack, from its root to the function that ran, with the number of
// samples; of functions that were inlined into each other each has its place.
func fold(sampled []byte) ([]byte, error) {
	p, err := profile.ParseData(sampled)
	if err != nil {
		return nil, fmt.Errorf("read the profile: %w", err)
	}
	counts := map[string]int64{}
	for _, sample := range p.Sample {
		var frames []string
		for _, location := range slices.Backward(sample.Location) {
			for _, line := range slices.Backward(location.Line) {
				frames = append(frames, frameName(line.Function))
			}
		}
		if len(frames) > 0 {
			counts[strings.Join(frames, ";")] += sample.Value[0]
		}
	}
	var out bytes.Buffer
	for _, stack := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&out, "%s %d\n", stack, counts[stack])
	}
	return out.Bytes(), nil
}

// frameName is a function and the file that it is in, in its folder: "lab/go-server/server.together (server/loaders.go)".
func frameName(f *profile.Function) string {
	name := f.Name
	if f.Filename != "" {
		name += " (" + path.Join(path.Base(path.Dir(f.Filename)), path.Base(f.Filename)) + ")"
	}
	return strings.ReplaceAll(name, ";", ",")
}
