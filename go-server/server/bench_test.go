package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBench(t *testing.T) {
	t.Run("hands over and verifies", func(t *testing.T) {
		var out bytes.Buffer
		require.NoError(t, Bench([]string{"hand-over", "--bytes", "1000", "--duration", "5ms"}, &out))
		var got HandOver
		require.NoError(t, json.Unmarshal(out.Bytes(), &got))
		assert.Equal(t, 1000, got.Bytes)
		require.Len(t, got.Ways, 1)
		assert.Equal(t, "goroutine-channel", got.Ways[0].Way)
		assert.Positive(t, got.Ways[0].Iterations)
		assert.Equal(t, "goroutine", got.Starts[0].Unit)
	})
	t.Run("a wrong answer is an error", func(t *testing.T) {
		_, _, err := repeat(time.Millisecond, 7, func(n uint32) (uint32, error) { return 8 + n, nil })
		require.ErrorContains(t, err, "checksum is 8, expected 7")
		_, _, err = repeat(time.Millisecond, 7, func(uint32) (uint32, error) { return 0, errors.New("gone") })
		require.ErrorContains(t, err, "gone")
	})
	t.Run("the checksum reads every byte", func(t *testing.T) {
		data := make([]byte, 1000)
		sum := fill(data)
		assert.Equal(t, uint32(2067197484), sum, "as in the other servers")
		for i := range data {
			data[i]++
			assert.NotEqual(t, sum, checksum(data), "byte %d", i)
			data[i]--
		}
	})
	t.Run("counts batches", func(t *testing.T) {
		for batch, want := range map[string]int{"1": 1001, "20": 51, "500": 3} {
			var out bytes.Buffer
			require.NoError(t, Bench([]string{"loader", "--keys", "1001", "--batch", batch}, &out))
			var got LoaderCost
			require.NoError(t, json.Unmarshal(out.Bytes(), &got))
			assert.Equal(t, want, got.Batches, batch)
		}
	})
	t.Run("refuses bad arguments", func(t *testing.T) {
		for want, args := range map[string][]string{
			`expected hand-over or loader`: nil,
			`bench "hand": expected`:       {"hand"},
			`--bytes "3x"`:                 {"hand-over", "--bytes", "3x", "--duration", "1s"},
			`--bytes 6`:                    {"hand-over", "--bytes", "6", "--duration", "1s"},
			`--duration ""`:                {"hand-over", "--bytes", "8"},
			`--batch "0"`:                  {"loader", "--keys", "5", "--batch", "0"},
			`"--size"`:                     {"loader", "--size", "5"},
			`--bytes is not among`:         {"loader", "--keys", "5", "--batch", "1", "--bytes", "4"},
		} {
			require.ErrorContains(t, Bench(args, &bytes.Buffer{}), want)
		}
	})
}
