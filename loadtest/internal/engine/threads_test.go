package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestThreadsSub(t *testing.T) {
	before := Threads{
		1: {CPU: 5 * time.Second, RunDelay: time.Second, Voluntary: 100, Involuntary: 10},
		2: {CPU: time.Second, Voluntary: 7},
		3: {CPU: 9 * time.Second, Voluntary: 900, Involuntary: 90},
	}
	now := Threads{
		1: {CPU: 7 * time.Second, RunDelay: 1500 * time.Millisecond, Voluntary: 130, Involuntary: 11},
		3: {CPU: time.Millisecond, RunDelay: time.Millisecond, Voluntary: 2},
		4: {CPU: 3 * time.Second, Involuntary: 4},
	}
	since := now.Sub(before)
	assert.Equal(t, Threads{
		1: {CPU: 2 * time.Second, RunDelay: 500 * time.Millisecond, Voluntary: 30, Involuntary: 1},
		3: {CPU: time.Millisecond, RunDelay: time.Millisecond, Voluntary: 2},
		4: {CPU: 3 * time.Second, Involuntary: 4},
	}, since, "2 has ended, 3 is another thread of the same id, 4 is new")
	require.NotNil(t, since.Total())
	assert.Equal(t, Thread{CPU: 5001 * time.Millisecond, RunDelay: 501 * time.Millisecond, Voluntary: 32, Involuntary: 5}, *since.Total())
	require.NotNil(t, since.Busiest())
	assert.Equal(t, 3*time.Second, *since.Busiest())
}

func TestThreadsThatAreNotKnown(t *testing.T) {
	known := Threads{1: {Voluntary: 1}}
	assert.Nil(t, known.Sub(nil), "what is not known is not zero")
	assert.Nil(t, Threads(nil).Sub(known))
	assert.Nil(t, known.Add(nil))
	assert.Nil(t, Threads(nil).Total())
	assert.Nil(t, Threads(nil).Busiest())
	used := Usage{Threads: known}.Sub(Usage{})
	assert.Nil(t, used.Threads)
}

// What the kernel cuts off when a process has ended is not taken for time that was given back.
func TestNothingIsUsedLessThanNothing(t *testing.T) {
	ended, lived := Usage{CPU: 13 * time.Millisecond}, Usage{CPU: 19 * time.Millisecond}
	assert.Zero(t, ended.Sub(lived).CPU)
	assert.Equal(t, 6*time.Millisecond, lived.Sub(ended).CPU)
}
