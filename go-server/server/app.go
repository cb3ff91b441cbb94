package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/introspection"
	"github.com/vektah/gqlparser/v2/ast"
)

// App is the server without its listener.
type App struct {
	config     Settings
	log        *slog.Logger
	failures   rateLimited
	metrics    *Metrics
	store      *Store
	master     *Master
	upstream   *Upstream
	schema     *ast.Schema
	executable *executableSchema
	documents  *documentCache
	floor      *floor // nil in other tiers
	health     *health

	inFlight atomic.Int64
	ready    atomic.Bool // master data and connections were there once
	draining atomic.Bool

	background     sync.WaitGroup
	stopBackground context.CancelFunc
}

// NewApp builds the application; Start starts it.
func NewApp(c Settings, log *slog.Logger) (*App, error) {
	a := &App{config: c, log: log, metrics: NewMetrics(), upstream: newUpstream(c), documents: newDocumentCache(c.Limits.CachedDocuments)}
	var err error
	if a.schema, err = newSchema(c.ContractDir); err != nil {
		return nil, err
	}
	if c.Tier == TierFloor {
		if a.floor, err = newFloor(c.ContractDir); err != nil {
			return nil, err
		}
	}
	if a.store, err = OpenStore(c, a.metrics); err != nil {
		return nil, err
	}
	a.executable = &executableSchema{SchemaData: a.schema, Resolvers: &Resolver{a}}
	var cache *Cache
	if c.Master == MasterRedis {
		if cache, err = newCache(c.RedisURL, c.DatabaseURL, log); err != nil {
			a.store.Close()
			return nil, err
		}
		a.metrics.registry.MustRegister(cache.lookups)
	}
	a.master = newMaster(c, a.store, cache, log)
	a.health = &health{app: a}
	a.metrics.watch(a.store, a.master, a.documents)
	return a, nil
}

// Start begins to connect and to load master data, and waits for neither: until both are there, requests are refused.
func (a *App) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	a.stopBackground = cancel
	a.background.Go(func() { a.connect(ctx) })
}

// Handler answers everything the server answers.
func (a *App) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/graphql", a.serveGraphQL)
	for path, handler := range map[string]http.Handler{
		"/livez":   http.HandlerFunc(a.health.livez),
		"/readyz":  http.HandlerFunc(a.health.readyz),
		"/metrics": a.metrics.handler(),
		"/profile": http.HandlerFunc(a.profile),
	} {
		mux.Handle("GET "+path, handler)
		mux.HandleFunc(path, a.onlyGet)
	}
	mux.HandleFunc("GET /graphiql/{file}", a.serveGraphiQLFile)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		a.refuse(w, contentTypeJSON, newRequestError(http.StatusNotFound, codeBadRequest, "Not found."))
	})
	return mux
}

// connect opens all connections and loads master data, then follows its changes until ctx ends.
func (a *App) connect(ctx context.Context) {
	begun := time.Now()
	warmed := make(chan struct{})
	a.background.Go(func() {
		defer close(warmed)
		var pools sync.WaitGroup
		for _, d := range a.store.databases() {
			pools.Go(func() { a.warm(ctx, d) })
		}
		pools.Wait()
	})
	// START is about master data alone: the pools are opened beside it either way.
	a.master.follow(ctx, a.config.Start == StartConcurrent, func() {
		if a.ready.Load() {
			return
		}
		select {
		case <-warmed:
		case <-ctx.Done():
			return
		}
		a.ready.Store(true)
		a.log.Info("ready", "start_ms", milliseconds(time.Since(begun)))
	})
}

// warm opens a database's connections, and tries again until that is done or ctx ends.
func (a *App) warm(ctx context.Context, d *database) {
	for ctx.Err() == nil {
		err := d.warm(ctx)
		if err == nil {
			return
		}
		a.log.Warn("database not reachable", "address", d.name, "error", err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Drain makes new requests be refused, so that those under way can be waited for.
func (a *App) Drain() { a.draining.Store(true) }

// Close ends everything in the background and closes the pools. No request may be under way.
func (a *App) Close() {
	if a.stopBackground != nil {
		a.stopBackground()
	}
	a.background.Wait()
	if a.master.cache != nil {
		a.master.cache.close()
	}
	a.store.Close()
}

// RequestTimeout bounds how long a request may be under way.
func (a *App) RequestTimeout() time.Duration { return a.config.RequestTimeout }

// execute runs an operation and appends its answer to out. It gives the errors that belong beside the data.
func (a *App) execute(r *request, out *buffer) []responseError {
	ctx := graphql.WithOperationContext(r.ctx, r.operation)
	ctx = graphql.WithResponseContext(ctx, a.presentError, recoverPanic)
	ec := newExecutionContext(r.operation, a.executable, nil)
	var data graphql.Marshaler
	if r.operation.Operation.Operation == ast.Mutation {
		data = ec._Mutation(ctx, r.operation.Operation.SelectionSet)
	} else {
		data = ec._Query(ctx, r.operation.Operation.SelectionSet)
	}
	r.timing.mark(phaseExecute)
	out.bytes = append(out.bytes, `{"data":`...)
	data.MarshalGQL(out)
	var errs []responseError
	if list := graphql.GetErrors(ctx); list != nil {
		errs = executionErrors(list, rootKeys(r.operation))
	}
	r.timing.mark(phaseSerialize)
	return errs
}

// rootKeys are the names that an operation's root has in the answer.
func rootKeys(operation *graphql.OperationContext) []string {
	var keys []string
	for _, f := range graphql.CollectFields(operation, operation.Operation.SelectionSet, append(slices.Clone(queryImplementors), mutationImplementors...)) {
		keys = append(keys, f.Alias)
	}
	return keys
}

// passField is gqlgen's middleware. All it does is mend introspection: the specification says null, and gqlgen an empty
// list, for what a kind of type cannot have.
func passField(ctx context.Context, next graphql.Resolver) (any, error) {
	v, err := next(ctx)
	switch list := v.(type) {
	case []introspection.Field:
		if len(list) == 0 {
			return []introspection.Field(nil), err
		}
	case []introspection.EnumValue:
		if len(list) == 0 {
			return []introspection.EnumValue(nil), err
		}
	case []introspection.InputValue:
		if len(list) == 0 && graphql.GetFieldContext(ctx).Field.Name == "inputFields" {
			return []introspection.InputValue(nil), err
		}
	case []introspection.Type:
		// An object and an interface may implement nothing; no other kind can implement.
		if field := graphql.GetFieldContext(ctx); len(list) == 0 && (field.Field.Name != "interfaces" || !mayImplement(field.Parent)) {
			return []introspection.Type(nil), err
		}
	}
	return v, err
}

func mayImplement(of *graphql.FieldContext) bool {
	for ; of != nil; of = of.Parent {
		switch t := of.Result.(type) {
		case *introspection.Type:
			return t.Kind() == "OBJECT" || t.Kind() == "INTERFACE"
		case **introspection.Type:
			return *t != nil && ((*t).Kind() == "OBJECT" || (*t).Kind() == "INTERFACE")
		}
	}
	return false
}

// passRoot is gqlgen's middleware of root fields, which does nothing.
func passRoot(ctx context.Context, next graphql.RootResolver) graphql.Marshaler { return next(ctx) }

func recoverPanic(_ context.Context, cause any) error {
	return fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
}
