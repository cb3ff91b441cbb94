package engine

// NullCommand is this program's hidden command that a null server is, and NullAnswer the variable that has its answer.
const (
	NullCommand = "null-contender"
	NullAnswer  = "LAB_NULL_ANSWER"
)

// NullSpec says what a null server answers.
type NullSpec struct {
	// Answer is the body of every answer, as JSON; at most 100 kB, since it goes by the environment.
	Answer string
}

// NullName is the name of the null server's arm.
const NullName = "null"
