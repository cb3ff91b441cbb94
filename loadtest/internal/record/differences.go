package record

import "fmt"

// What two runs may differ in that makes their figures incomparable.
const (
	DifferentMachine  = "machine"
	DifferentEngine   = "engine"
	DifferentContract = "contract"
	DifferentProfile  = "profile"
	DifferentMethod   = "method"
)

// Difference is one of them, of its kind and in words.
type Difference struct{ Kind, Words string }

// Differences says in what two runs differ that makes their figures incomparable; nothing where they do not.
func Differences(old, new Run) []Difference {
	var out []Difference
	differ := func(kind, what string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			out = append(out, Difference{kind, fmt.Sprintf("%s was %s and is %s", what, quote(x), quote(y))})
		}
	}
	a, b := old.Environment, new.Environment
	differ(DifferentMachine, "the processor", a.CPUModel, b.CPUModel)
	differ(DifferentMachine, "the number of CPUs", len(a.CPUs), len(b.CPUs))
	differ(DifferentMachine, "the server's number of CPUs", len(a.Placement["contender"]), len(b.Placement["contender"]))
	differ(DifferentMachine, "whether CPUs are shared", a.CPUsShared, b.CPUsShared)
	differ(DifferentEngine, "the engine", a.Engine, b.Engine)
	differ(DifferentContract, "the data's size", a.DataSize, b.DataSize)
	differ(DifferentContract, "the data's digest", a.DataDigest, b.DataDigest)
	differ(DifferentProfile, "the profile", old.Profile, new.Profile)
	differ(DifferentMethod, "the method's version", old.Method, new.Method)
	return out
}

func quote(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
