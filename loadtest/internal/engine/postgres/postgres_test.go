package postgres

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
)

func testContract(t *testing.T) *contract.Contract {
	t.Helper()
	c, err := contract.LoadWithoutExpectations(filepath.Join("..", "..", "..", "..", "contract"))
	require.NoError(t, err)
	return c
}

func TestSettings(t *testing.T) {
	settings := Settings(map[string]string{"port": "5433", "jit": "on"}, map[string]string{"jit": "off"})
	assert.Equal(t, "5433", settings["port"])
	assert.Equal(t, "off", settings["jit"], "the last wins")
	assert.Equal(t, "'UTC'", settings["timezone"])
	assert.NotContains(t, Settings(), "port", "the lab's own are not changed")
	few := map[string]string{"b": "'x, y'", "a": "1"}
	assert.Equal(t, "a = 1\nb = 'x, y'\n", File(few))
	assert.Equal(t, []string{"-c", "a=1", "-c", "b=x, y"}, Arguments(few), "arguments are not quoted")
	assert.Equal(t, "256MB", SpeedSettings()["shared_buffers"])
}

func TestAddress(t *testing.T) {
	at := At("127.0.0.1", 40123)
	assert.Equal(t, "postgres://lab:p%40ss@127.0.0.1:40123/lab?sslmode=disable", at.URL("lab", "p@ss", "lab"))
	follow := FollowSettings(At("primary-1", 5432), "secret")
	assert.Equal(t, "'host=primary-1 port=5432 user=replicator password=secret sslmode=disable application_name=replica'", follow["primary_conninfo"])
}

func TestSeedKey(t *testing.T) {
	c := testContract(t)
	small, err := SeedOf(c, "small")
	require.NoError(t, err)
	standard, err := SeedOf(c, "standard")
	require.NoError(t, err)
	assert.NotEqual(t, small.Key(), standard.Key())
	assert.NotEqual(t, small.Key("15.1"), small.Key("15.2"))
	assert.Equal(t, small.Key("15.1"), small.Key("15.1"))
	_, err = SeedOf(c, "huge")
	require.ErrorContains(t, err, "small, standard")
}

func TestWaitReadySaysWhyItGaveUp(t *testing.T) {
	// A port that nobody listens at.
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	address := Address(listener.Addr().String())
	require.NoError(t, listener.Close())
	exited := make(chan struct{})
	close(exited)
	logs := func(int) []string { return []string{"FATAL:  out of luck"} }
	err = Server{Name: "primary", Address: address, Exited: exited, Logs: logs}.WaitReady(t.Context(), "x")
	require.ErrorIs(t, err, ErrEnded)
	require.ErrorContains(t, err, "out of luck")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = Server{Name: "primary", Address: address, Logs: logs}.WaitReady(ctx, "x")
	require.ErrorContains(t, err, "primary does not answer")
}

func TestForksHaveNamesThatNeedNoQuoting(t *testing.T) {
	for _, name := range []string{"", "x; drop database lab", "Upper", "1st", "a-b", strings.Repeat("a", 64)} {
		require.ErrorContains(t, Pair{}.Fork(t.Context(), name), "not a name", name)
	}
}

func TestCrashesAreTold(t *testing.T) {
	const at = "2026-01-31 12:00:00.000 UTC [7] "
	killed, statement := "primary: "+at+"LOG:  server process (PID 41) was terminated by signal 9: Killed", "primary: "+at+"DETAIL:  Failed process was running: select 1"
	for name, c := range map[string]struct{ log, told []string }{
		"nothing":                    {nil, nil},
		"a backend in a statement":   {[]string{"a", killed, statement, "b"}, []string{killed, statement}},
		"a backend that was idle":    {[]string{killed, "a"}, []string{killed}},
		"the last line":              {[]string{killed}, []string{killed}},
		"one that gave up":           {[]string{at + "LOG:  server process (PID 41) exited with exit code 2"}, []string{at + "LOG:  server process (PID 41) exited with exit code 2"}},
		"another process":            {[]string{at + "LOG:  WAL receiver process (PID 41) was terminated by signal 6: Aborted"}, []string{at + "LOG:  WAL receiver process (PID 41) was terminated by signal 6: Aborted"}},
		"a background worker's end":  {[]string{at + `LOG:  background worker "logical replication launcher" (PID 41) exited with exit code 1`}, nil},
		"a connection ended by hand": {[]string{at + "FATAL:  terminating connection due to administrator command"}, nil},
		"a statement that says so":   {[]string{at + "STATEMENT:  select 'LOG:  server process was terminated by signal 9'"}, nil},
		"what follows from a crash":  {[]string{at + "LOG:  terminating any other active server processes", at + "FATAL:  the database system is in recovery mode"}, nil},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.told, Crashes(c.log)) })
	}
}
