package engine

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"lab/loadtest/internal/contender"
)

// An arm without a replica is given none, and no contender is told of that setting.
func TestContendersAreJoinedToTheRun(t *testing.T) {
	join := func(arm map[string]string) map[string]string {
		environment := map[string]string{"HOST": "a", "LOG_LEVEL": "info"}
		ContenderSpec{
			Arm: contender.Arm{Environment: arm}, PrimaryURL: "p", ReplicaURL: "r", Environment: map[string]string{"LOG_LEVEL": "warn"},
		}.Join(environment)
		return environment
	}
	assert.Equal(t, map[string]string{"HOST": "a", "LOG_LEVEL": "warn", "DATABASE_URL": "p", "DATABASE_REPLICA_URL": "r", "LOADER": "off"}, join(map[string]string{"LOADER": "off"}))
	assert.Equal(t, map[string]string{"HOST": "a", "LOG_LEVEL": "warn", "DATABASE_URL": "p"}, join(map[string]string{"REPLICA": "off"}))
	assert.Equal(t, map[string]string{"HOST": "a", "LOG_LEVEL": "warn", "DATABASE_URL": "p", "DATABASE_REPLICA_URL": "r"}, join(map[string]string{"REPLICA": "on", "CPUS": "2"}))
}
