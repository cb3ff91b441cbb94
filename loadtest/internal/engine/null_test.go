package engine

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An answer that is longer than a variable may be goes by one all the same, unless nothing makes it small.
func TestANullAnswerIsPacked(t *testing.T) {
	for _, answer := range []string{"{}", `{"data":{"name":"漢字 \"x\""}}`, strings.Repeat(`{"id":"1","name":"a place"},`, 50_000)} {
		packed, err := PackAnswer(answer)
		require.NoError(t, err)
		assert.Less(t, len(packed), longestVariable)
		again, err := UnpackAnswer(packed)
		require.NoError(t, err)
		assert.True(t, answer == again)
	}
	random := make([]byte, 200_000)
	_, _ = rand.Read(random)
	_, err := PackAnswer(hex.EncodeToString(random))
	require.ErrorContains(t, err, "400000 bytes")
	_, err = UnpackAnswer("{}")
	require.Error(t, err)
}
