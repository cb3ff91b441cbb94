package conformance

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMutants(t *testing.T) {
	l := newTestLab(t)
	t.Run("without a change the server is conformant", func(t *testing.T) {
		report := l.prove(t, nil, answerChecks...)
		t.Log(Text([]Report{report}))
		assert.True(t, report.Conformant)
		assert.GreaterOrEqual(t, report.Answers(), 5000)
	})
}
