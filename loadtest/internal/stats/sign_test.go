package stats

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// By hand: of n coins, 2·(1 + n + …) / 2ⁿ.
func TestSignTest(t *testing.T) {
	for name, c := range map[string]struct {
		d     []float64
		shift float64
		p     float64
	}{
		"one value proves nothing":               {[]float64{3}, 0, 1},
		"eight of a side":                        {[]float64{1, 2, 3, 4, 5, 6, 7, 8}, 0, 2.0 / 256},
		"how far does not count":                 {[]float64{1, 1e9, 1, 1, 1, 1, 1, 1}, 0, 2.0 / 256},
		"one of eight on the other side":         {[]float64{-1, 2, 3, 4, 5, 6, 7, 8}, 0, 2.0 * 9 / 256},
		"the same, below":                        {[]float64{1, -2, -3, -4, -5, -6, -7, -8}, 0, 2.0 * 9 / 256},
		"one at the shift counts as one against": {[]float64{0, 2, 3, 4, 5, 6, 7, 8}, 0, 2.0 * 9 / 256},
		"all at the shift":                       {[]float64{5, 5, 5}, 5, 1},
		"balanced":                               {[]float64{-1, 1}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := SignTest(c.d, c.shift)
			require.NoError(t, err)
			assert.InDelta(t, c.p, p, 1e-12)
		})
	}
	_, err := SignTest(nil, 0)
	require.ErrorIs(t, err, ErrTooFew)
}
