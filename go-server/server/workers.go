package server

import "runtime"

// StartWorkers gives the runtime's scheduler as many threads for Go code as WORKERS says, and returns how many it has.
// Goroutines need nothing else: idle threads steal from busy ones, and memory is shared.
func StartWorkers(s Settings) int {
	if s.Workers > 0 {
		runtime.GOMAXPROCS(s.Workers)
	}
	return runtime.GOMAXPROCS(0)
}
