package engine

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// NullCommand is this program's hidden command that a null server is, and NullAnswer the variable that has its answer, as
// [PackAnswer] writes it.
const (
	NullCommand = "null-contender"
	NullAnswer  = "LAB_NULL_ANSWER"
)

// NullSpec says what a null server answers.
type NullSpec struct {
	// Answer is the body of every answer, as JSON. It goes by the environment, which takes 128 kB a variable.
	Answer string
}

// PackAnswer makes an answer small enough for a variable of the environment: base64 of gzip.
func PackAnswer(answer string) (string, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, answer); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	packed := base64.StdEncoding.EncodeToString(b.Bytes())
	if len(packed) >= longestVariable {
		return "", fmt.Errorf("null server: an answer of %d bytes, %d when packed, is longer than a variable may be", len(answer), len(packed))
	}
	return packed, nil
}

// longestVariable is MAX_ARG_STRLEN less a name.
const longestVariable = 128<<10 - 100

// UnpackAnswer undoes PackAnswer.
func UnpackAnswer(packed string) (string, error) {
	r, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(packed)))
	if err != nil {
		return "", err
	}
	answer, err := io.ReadAll(r)
	return string(answer), err
}

// NullName is the name of the null server's arm.
const NullName = "null"
