package trial

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/record"
)

// What a server's benchmark prints is held to what it was asked.
func TestReadBenched(t *testing.T) {
	const (
		loader = `{"bench":"loader","keys":200000,"batch":20,"batches":10000,"cpu_ns_per_key":171.5,"wall_ns":5}`
		over   = `{"bench":"hand-over","bytes":20,"ways":[{"way":"a","iterations":3,"wall_ns_p50":5,"wall_ns_p99":6,"cpu_ns_per_operation":1,"touch_wall_ns_p50":0}],"starts":[{"unit":"a","count":1,"wall_ns_p50":1,"cpu_ns_each":1,"pss_bytes_each":null}]}`
	)
	b, err := readBenched([]byte(loader+"\n"), record.BenchLoader, 20)
	require.NoError(t, err)
	assert.InDelta(t, 171.5, b.CPUNSPerKey, 0)
	b, err = readBenched([]byte(over), record.BenchHandOver, 20)
	require.NoError(t, err)
	assert.EqualValues(t, 5, b.Ways[0].WallNSP50)
	for _, row := range []struct {
		name, printed, command string
		size                   int64
		want                   string
	}{
		{"no JSON", "panic", record.BenchLoader, 20, "its output"},
		{"two lines", loader + loader, record.BenchLoader, 20, "more than one line"},
		{"an unknown field", `{"bench":"loader","key":3}`, record.BenchLoader, 20, `unknown field "key"`},
		{"another command", over, record.BenchLoader, 20, `of bench "hand-over"`},
		{"another size", loader, record.BenchLoader, 500, "in batches of 20"},
		{"a batch too many", `{"bench":"loader","keys":200000,"batch":20,"batches":10001,"cpu_ns_per_key":1}`, record.BenchLoader, 20, "it sent 10001 batches"},
		{"no CPU time", `{"bench":"loader","keys":200000,"batch":20,"batches":10000,"cpu_ns_per_key":0}`, record.BenchLoader, 20, "cpu_ns_per_key is 0"},
		{"no ways", `{"bench":"hand-over","bytes":20}`, record.BenchHandOver, 20, "with 0 ways"},
		{"other bytes", over, record.BenchHandOver, 1000, "of 20 bytes"},
		{"no time", `{"bench":"hand-over","bytes":20,"ways":[{"way":"a"}],"starts":[{"unit":"a"}]}`, record.BenchHandOver, 20, `way "a": 0 iterations`},
	} {
		_, err := readBenched([]byte(row.printed), row.command, row.size)
		require.ErrorContains(t, err, row.want, row.name)
	}
}
