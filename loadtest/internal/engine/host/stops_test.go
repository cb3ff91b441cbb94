package host

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStops(t *testing.T) {
	gone, other := errors.New("gone"), errors.New("other")
	for _, test := range []struct {
		name     string
		fails    map[string]error
		hopeless error
		called   []string
	}{
		{"the last kept first, without what was forgotten", nil, gone, []string{"c", "a"}},
		{"an error keeps none of the others", map[string]error{"c": other}, gone, []string{"c", "a"}},
		{"where one is hopeless, so are the others", map[string]error{"c": gone}, gone, []string{"c"}},
		{"where none is hopeless, all are tried", map[string]error{"c": gone}, nil, []string{"c", "a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s Stops
			var called []string
			keep := func(name string) func() {
				return s.Keep(func(ctx context.Context) error {
					called = append(called, name)
					return errors.Join(ctx.Err(), test.fails[name])
				})
			}
			keep("a")
			forget := keep("b")
			keep("c")
			forget()
			interrupted, interrupt := context.WithCancel(t.Context())
			interrupt()
			err := s.Close(interrupted, test.hopeless)
			assert.Equal(t, test.called, called)
			if want := test.fails["c"]; want != nil {
				require.ErrorIs(t, err, want)
			} else {
				require.NoError(t, err)
			}
			require.NoError(t, s.Close(t.Context(), test.hopeless), "twice is as good")
			assert.Equal(t, test.called, called)
		})
	}
}
