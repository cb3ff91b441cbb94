package profile

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/record"
)

// patternsOf are those of a contender's manifest.
func patternsOf(t *testing.T, name string) contender.Profile {
	t.Helper()
	contenders, err := contender.Load(filepath.Join("..", "..", ".."))
	require.NoError(t, err)
	arm, err := contender.Resolve(contenders, name)
	require.NoError(t, err)
	require.NotNil(t, arm.Profile)
	return *arm.Profile
}

// Stacks as each server's profiler writes them: whose they are does not hang on which function of the runtime was at work.
func TestOwners(t *testing.T) {
	for _, c := range []struct {
		contender, stack, owner string
		loader                  bool
	}{
		{"go", "net/http.(*conn).serve (http/server.go);lab/go-server/server.(*Loader[...]).LoadMany (server/loaders.go);runtime.mapassign_fast32 (runtime/map.go);memeqbody (bytealg/equal_amd64.s)", "lab/go-server/server.(*Loader[...]).LoadMany (server/loaders.go)", true},
		{"go", "lab/go-server/server.(*Loader[...]).run (server/loaders.go);lab/go-server/server.(*Store).itemsByIDs (server/store.go);github.com/jackc/pgx/v5.(*Conn).Query (v5/conn.go);internal/runtime/syscall.Syscall6 (syscall/asm_linux_amd64.s)", "github.com/jackc/pgx/v5.(*Conn).Query (v5/conn.go)", false},
		{"go", "runtime.gcBgMarkWorker (runtime/mgc.go);runtime.scanobject (runtime/mgcmark.go)", "", false},
		{"go", "go.opentelemetry.io/x.F (x/f.go);type:.eq.lab/go-server/server.key", "go.opentelemetry.io/x.F (x/f.go)", false},
		{"node", "processTicksAndRejections (node:internal/process/task_queues);dispatchBatch (dataloader/index.js);set", "dispatchBatch (dataloader/index.js)", true},
		{"node", "(anonymous) (src/loaders.ts);(anonymous) (pg/lib/client.js);writeGeneric (node:internal/stream_base_commons)", "(anonymous) (pg/lib/client.js)", false},
		{"node", "oneEach (src/loaders.ts);(garbage collector)", "oneEach (src/loaders.ts)", true},
		{"node", "(garbage collector)", "", false},
		{"node", "(program)", "", false},
		{"node", "answer (src/http.ts);RegExp: ^(a|b)$", "answer (src/http.ts)", false},
		{"rust", "main (src/main.rs);poll<alloc::boxed::Box<dyn core::future::future::Future<Output=()>>> (library/core/src/future/future.rs);fill<rust_server::loaders::UsersByIds> (src/loaders.rs);insert<i32, rust_server::loaders::Entry> (hashbrown-0.17.1/src/map.rs);_RNvCs_7___rustc12___rust_alloc;mi_malloc", "fill<rust_server::loaders::UsersByIds> (src/loaders.rs)", true},
		{"rust", "dispatch_into<rust_server::loaders::UsersByIds> (src/loaders.rs);encode (tokio-postgres-0.7.18/src/query.rs);drop_in_place<rust_server::loaders::State<i32>> (library/core/src/ptr/mod.rs);__memmove_avx_unaligned_erms", "encode (tokio-postgres-0.7.18/src/query.rs)", false},
		{"rust", "{closure#0} (futures-util-0.3.31/src/future/join_all.rs);<rust_server::resolvers::Item as async_graphql::resolver_utils::ContainerType>::resolve_field (src/resolvers.rs);__rust_dealloc (src/main.rs)", "<rust_server::resolvers::Item as async_graphql::resolver_utils::ContainerType>::resolve_field (src/resolvers.rs)", false},
		{"rust", "answer (src/http.rs)", "answer (src/http.rs)", false},
		{"rust", "park (tokio-1.48.0/src/runtime/park.rs);epoll_wait", "", false},
	} {
		p, err := Of(patternsOf(t, c.contender), []byte(c.stack+" 3\n"))
		require.NoError(t, err)
		want := record.Profile{Samples: 3, Functions: []record.ProfiledFunction{}}
		switch {
		case c.owner == "":
			want.RuntimeSamples = 3
		case c.loader:
			want.LoaderSamples = 3
			fallthrough
		default:
			want.Functions = []record.ProfiledFunction{{Function: c.owner, Samples: 3}}
		}
		assert.Equal(t, want, p, c.stack)
	}
}

func TestAProfileAddsUp(t *testing.T) {
	p, err := Of(patternsOf(t, "node"), []byte("a (src/loaders.ts) 2\nb (src/http.ts) 5\nc (src/http.ts);a (src/loaders.ts);(garbage collector) 1\n(program) 4\n"))
	require.NoError(t, err)
	assert.Equal(t, record.Profile{Samples: 12, LoaderSamples: 3, RuntimeSamples: 4, Functions: []record.ProfiledFunction{
		{Function: "b (src/http.ts)", Samples: 5}, {Function: "a (src/loaders.ts)", Samples: 3},
	}}, p)

	var many strings.Builder
	for i := range 100 {
		many.WriteString(strings.Repeat("x", i+1) + " (src/http.ts) 1\n")
	}
	p, err = Of(patternsOf(t, "node"), []byte(many.String()))
	require.NoError(t, err)
	assert.Len(t, p.Functions, mostFunctions)
	assert.EqualValues(t, 100, p.Samples)
}

func TestADamagedProfileIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "without a sample",
		"a 1\nb\n":          `line 2 of a profile: "b": expected a stack, a space and a number of samples`,
		"a x\n":             `line 1 of a profile: "x": expected a number of samples`,
		"a 0\n":             "expected a number of samples, 1 or more",
		"a -3\n":            "expected a number of samples, 1 or more",
		" 1\n":              "expected a stack",
		"a 99999999999\n":   "expected a number of samples",
		"<html></html>\n":   "expected a stack",
		"{\"errors\":[]}\n": "expected a stack",
	} {
		_, err := Of(contender.Profile{}, []byte(text))
		require.ErrorContains(t, err, want, "%q", text)
	}
}

func FuzzProfile(f *testing.F) {
	f.Add([]byte("a;b (x/y.go) 3\nc 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Of(contender.Profile{}, text)
		if err == nil {
			assert.Positive(t, p.Samples)
			assert.GreaterOrEqual(t, p.Samples, p.LoaderSamples+p.RuntimeSamples)
		}
	})
}
