package server

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestStartWorkers(t *testing.T) {
	own := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(own)
	assert.Equal(t, own, StartWorkers(Settings{}), "without a setting the runtime knows best")
	assert.Equal(t, own+1, StartWorkers(Settings{Workers: own + 1}))
	assert.Equal(t, own+1, runtime.GOMAXPROCS(0))
}
