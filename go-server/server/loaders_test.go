package server

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// noSizes is an observer that nobody reads.
type noSizes struct{}

func (noSizes) Observe(float64) {}

// recordingLoader loads ten times each key but 404, and records its calls.
func recordingLoader() (*Loader[int32], func() [][]int32) {
	var mu sync.Mutex
	var calls [][]int32
	l := NewLoader(noSizes{}, func(_ context.Context, keys []int32, found func(int32, int32)) error {
		mu.Lock()
		calls = append(calls, append([]int32(nil), keys...))
		mu.Unlock()
		for i := range keys { // in another order than asked for
			if key := keys[len(keys)-1-i]; key != 404 {
				found(key, 10*key)
			}
		}
		return nil
	})
	return l, func() [][]int32 { mu.Lock(); defer mu.Unlock(); return calls }
}

func TestLoader(t *testing.T) {
	ctx := context.Background()

	t.Run("loader batches distinct keys into one call", func(t *testing.T) {
		l, calls := recordingLoader()
		_, errs := l.LoadMany(ctx, []int32{1, 2, 1, 2})
		assert.Nil(t, errs)
		assert.Equal(t, [][]int32{{1, 2}}, calls())
		_, errs = l.LoadMany(ctx, []int32{2, 3})
		assert.Nil(t, errs)
		assert.Equal(t, [][]int32{{1, 2}, {3}}, calls())
		l.LoadMany(ctx, []int32{3, 1})
		l.LoadMany(ctx, nil)
		assert.Len(t, calls(), 2)
	})

	t.Run("keeps key order", func(t *testing.T) {
		l, _ := recordingLoader()
		values, errs := l.LoadMany(ctx, []int32{3, 1, 2, 1})
		assert.Nil(t, errs)
		assert.Equal(t, []int32{30, 10, 20, 10}, values)
	})

	t.Run("handles a missing key", func(t *testing.T) {
		l, _ := recordingLoader()
		values, errs := l.LoadMany(ctx, []int32{1, 404, 2})
		assert.Nil(t, errs)
		assert.Equal(t, []int32{10, 0, 20}, values)
	})

	t.Run("isolates requests", func(t *testing.T) {
		one, oneCalls := recordingLoader()
		other, otherCalls := recordingLoader()
		one.LoadMany(ctx, []int32{1})
		other.LoadMany(ctx, []int32{1})
		assert.Len(t, oneCalls(), 1)
		assert.Len(t, otherCalls(), 1)
	})

	t.Run("propagates a batch error", func(t *testing.T) {
		broken := errors.New("broken")
		l := NewLoader(noSizes{}, func(_ context.Context, keys []int32, found func(int32, int32)) error {
			if keys[0] == 1 {
				return broken
			}
			found(keys[0], 7)
			return nil
		})
		_, errs := l.LoadMany(ctx, []int32{1, 2})
		require.Len(t, errs, 2)
		assert.ErrorIs(t, errs[0], broken)
		assert.ErrorIs(t, errs[1], broken)
		// A batch that fails takes only its own keys with it.
		values, errs := l.LoadMany(ctx, []int32{2, 3})
		require.Len(t, errs, 2)
		assert.ErrorIs(t, errs[0], broken)
		require.NoError(t, errs[1])
		assert.Equal(t, int32(7), values[1])
	})

	t.Run("a panic reaches everyone who waits", func(t *testing.T) {
		begun, release := make(chan struct{}), make(chan struct{})
		l := NewLoader(noSizes{}, func(context.Context, []int32, func(int32, int32)) error {
			close(begun)
			<-release
			panic("out of order")
		})
		waiter := make(chan []error)
		go func() { _, errs := l.LoadMany(ctx, []int32{1}); waiter <- errs }()
		<-begun
		go func() { _, errs := l.LoadMany(ctx, []int32{1}); waiter <- errs }()
		close(release)
		for range 2 {
			errs := <-waiter
			require.Len(t, errs, 1)
			assert.ErrorContains(t, errs[0], "out of order")
		}
	})
}
