package reference_test

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/reference"
)

var contractOnce = sync.OnceValues(func() (*contract.Contract, error) { return contract.Load("../../../contract") })

func loadContract(t testing.TB) *contract.Contract {
	t.Helper()
	c, err := contractOnce()
	require.NoError(t, err)
	return c
}

func databaseURL(t testing.TB) string {
	t.Helper()
	url := os.Getenv("TEST_DATABASE_URL")
	require.NotEmpty(t, url, "TEST_DATABASE_URL must name a freshly seeded database of size small")
	return url
}

var dataOnce = sync.OnceValues(func() (*reference.Data, error) {
	return reference.Open(context.Background(), os.Getenv("TEST_DATABASE_URL"))
})

func newExecutor(t testing.TB) *reference.Executor {
	t.Helper()
	databaseURL(t)
	data, err := dataOnce()
	require.NoError(t, err)
	return reference.NewExecutor(loadContract(t), data)
}

func connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL(t))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}
