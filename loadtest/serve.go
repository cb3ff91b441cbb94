package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"lab/loadtest/internal/engine"
)

// serving is the one line that serve prints when the contender answers.
type serving struct {
	Contender   string `json:"contender"`
	URL         string `json:"url"`
	MetricsURL  string `json:"metrics_url"`
	DatabaseURL string `json:"database_url"`
	ReplicaURL  string `json:"replica_url"`
	UpstreamURL string `json:"upstream_url"`
	RedisURL    string `json:"redis_url,omitempty"` // where the contender has its master data there
	Pids        []int  `json:"pids"`
}

func serveMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("serve", "--contender NAME [--size small|standard] [--env NAME=VALUE]…")
	name := f.String("contender", "", "`ARM` to run, such as node or rust+LOADER=off")
	engineName := f.String("engine", "auto", "`NAME`: auto, docker or native")
	size := f.String("size", "standard", "`NAME` of the data's size: small or standard")
	upstreamLatency := f.Duration("upstream-latency", 0, "`TIME` that the quote service waits before each answer")
	environment := settings{}
	f.Var(environment, "env", "`NAME=VALUE` for the contender; may be repeated")
	_ = f.Bool("json", true, "print one JSON line (always)")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	l, err := openLab()
	if err != nil {
		return fail(ctx, s, "serve", err)
	}
	if *name == "" || strings.Contains(*name, ",") {
		return fail(ctx, s, "serve", fmt.Errorf("--contender %q: exactly one is needed", *name))
	}
	arms, err := l.arms(*name, nil)
	if err != nil {
		return fail(ctx, s, "serve", err)
	}
	if _, ok := l.contract.Sizes[*size]; !ok {
		return fail(ctx, s, "serve", fmt.Errorf("--size %q: expected small or standard", *size))
	}
	e, err := l.engine(ctx, *engineName, logTo(s.Err))
	if err != nil {
		return fail(ctx, s, "serve", err)
	}
	defer closeEngine(e, s)
	database, err := e.Database(ctx, engine.DatabaseSpec{Size: *size, MasterMiB: arms[0].MasterMiB()})
	if err != nil {
		return fail(ctx, s, "serve", err)
	}
	upstream, err := e.Upstream(ctx, engine.UpstreamSpec{Size: *size, Latency: *upstreamLatency})
	if err != nil {
		return fail(ctx, s, "serve", err)
	}
	redisURL := ""
	if arms[0].UsesRedis() {
		redis, err := e.Redis(ctx)
		if err != nil {
			return fail(ctx, s, "serve", fmt.Errorf("redis: %w", err))
		}
		redisURL = redis.URL()
	}
	contender, err := e.Contender(ctx, engine.ContenderSpec{
		Arm: arms[0], PrimaryURL: database.PrimaryURL(), ReplicaURL: database.ReplicaURL(),
		UpstreamURL: upstream.URL(), RedisURL: redisURL, Environment: environment,
	})
	if err != nil {
		return fail(ctx, s, "serve", err)
	}
	line, err := json.Marshal(serving{
		Contender: arms[0].Name, URL: contender.GraphQLURL(), MetricsURL: contender.MetricsURL(),
		DatabaseURL: database.PrimaryURL(), ReplicaURL: database.ReplicaURL(), UpstreamURL: upstream.URL(), RedisURL: redisURL,
		Pids: contender.Pids(),
	})
	if err != nil {
		return fail(ctx, s, "serve", err)
	}
	fmt.Fprintln(s.Out, string(line))
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.Err, "stopping")
		return exitInterrupted
	case <-contender.Exited():
		if err := e.Alive(ctx); err != nil {
			return fail(ctx, s, "serve", err)
		}
		return fail(ctx, s, "serve", fmt.Errorf("%s ended by itself:\n%s", arms[0].Name, strings.Join(contender.Logs(20), "\n")))
	}
}
