package engine

import (
	"errors"
	"fmt"
	"slices"
)

// Placement says which CPUs each part of a run may use.
type Placement struct {
	Contender []int `json:"contender"`
	// Database has the PostgreSQL servers, the upstream stub, Redis and the fault proxy.
	Database []int `json:"database"`
	// Agent has the load generator and the proxies of tests.
	Agent []int `json:"agent"`
	// Shared says that the contender does not have its CPUs to itself.
	Shared bool `json:"shared"`
	// Note is one sentence for every page that shows figures, or empty.
	Note string `json:"note"`
}

// ErrTooFewCPUs marks an arm that asks for more CPUs than there are.
var ErrTooFewCPUs = errors.New("this machine has too few CPUs")

// With is the placement of a contender that asks for n CPUs; 0: as the table gives. Fewer than that are the last of its own;
// more are taken from the others, which then share them.
func (p Placement) With(n int) (Placement, error) {
	own := len(p.Contender)
	switch {
	case n == 0 || n == own:
		return p, nil
	case own == 0: // nothing is pinned
		return p, fmt.Errorf("%w: %d are asked for, and it is not known how many there are", ErrTooFewCPUs, n)
	case n < own:
		p.Contender = slices.Clone(p.Contender[own-n:])
		p.Note = ""
		return p, nil
	}
	cpus := slices.Clone(p.Contender)
	for _, others := range [][]int{p.Agent, p.Database} {
		for _, cpu := range slices.Backward(others) {
			if !slices.Contains(cpus, cpu) {
				cpus = append(cpus, cpu)
			}
		}
	}
	if n > len(cpus) {
		return p, fmt.Errorf("%w: %d are asked for, and it has %d", ErrTooFewCPUs, n, len(cpus))
	}
	p.Contender, p.Shared = cpus[:n], true
	p.Note = fmt.Sprintf("Contenders on %d CPUs share %d of them with the database or the generator: their figures contain that competition.", n, n-own)
	return p, nil
}

// Place shares out the CPUs, given in an order in which neighbours have most in common (threads of one core, cores of one
// socket). The contender always has the last ones: the kernel's own work tends to be on the first.
//
//	CPUs   database   agent   contender
//	1      all three share it
//	2      one, with the agent        1
//	3      1          1       1
//	4      1          1       2
//	n > 4  the rest   n/8     n/2      (rounded down, the agent's at least 1)
func Place(cpus []int) Placement {
	n := len(cpus)
	cpus = slices.Clone(cpus)
	switch {
	case n == 0:
		return Placement{Shared: true, Note: "The CPUs of this machine are not known; nothing is pinned."}
	case n == 1:
		return Placement{Contender: cpus, Database: cpus, Agent: cpus, Shared: true,
			Note: "One CPU: contender, database and generator share it, and every figure contains their competition."}
	case n == 2:
		return Placement{Contender: cpus[1:], Database: cpus[:1], Agent: cpus[:1],
			Note: "Two CPUs: the contender has one, database and generator share the other."}
	}
	contender := n / 2
	agent := max(1, n/8)
	database := n - contender - agent
	return Placement{
		Database:  cpus[:database],
		Agent:     cpus[database : database+agent],
		Contender: cpus[database+agent:],
		Note:      fmt.Sprintf("%d CPUs: the contender has %d, the database %d, the generator %d.", n, contender, database, agent),
	}
}
