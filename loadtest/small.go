package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/derive"
	"lab/loadtest/internal/double"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/native"
	"lab/loadtest/internal/reference"
	"lab/loadtest/internal/upstream"
)

func agentMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("agent", "[--sender NAME] < JOB.json")
	sender := f.String("sender", string(agent.SenderLab), "`NAME` of what sends: lab, or to measure it against stock or vegeta")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	return agent.MainAs(ctx, agent.Sender(*sender), s.In, s.Out, s.Err, reference.CompareJSON)
}

func upstreamMain(_ context.Context, args []string, s streams) int {
	return upstream.Main(args, s.Out, s.Err)
}

func idleMain(ctx context.Context, args []string, s streams) int {
	if code, ok := parse(newFlags("idle", ""), args, s); !ok {
		return code
	}
	<-ctx.Done()
	return exitOK
}

func doubleMain(ctx context.Context, args []string, s streams) int {
	serve := func() error { return double.Serve(ctx, os.Getenv, s.Out) }
	if len(args) > 0 && args[0] == "bench" {
		serve = func() error { return double.Bench(args[1:], os.Getenv, s.Out) }
	}
	if err := serve(); err != nil {
		return fail(ctx, s, "double", err)
	}
	return exitOK
}

func deriveMain(ctx context.Context, args []string, s streams) int {
	return derive.Main(ctx, args, s.Out, s.Err)
}

// databaseMain serves tests of the contenders' own: it needs the contract and no contender.
func databaseMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("database", "[--size small|standard]")
	size := f.String("size", "small", "`NAME` of the data's size in contract/sql/sizes.json")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	root, err := findRoot()
	if err != nil {
		return fail(ctx, s, "database", err)
	}
	c, err := contract.LoadWithoutExpectations(filepath.Join(root, "contract"))
	if err != nil {
		return fail(ctx, s, "database", err)
	}
	e, err := native.New(ctx, native.Options{Root: root, Contract: c, Log: logTo(s.Err)})
	if err != nil {
		return fail(ctx, s, "database", err)
	}
	defer closeEngine(e, s)
	d, err := e.Database(ctx, engine.DatabaseSpec{Size: *size})
	if err != nil {
		return fail(ctx, s, "database", err)
	}
	redisURL := "" // tests that need one say so
	if redis, err := e.Redis(ctx); err == nil {
		redisURL = redis.URL()
	} else {
		fmt.Fprintf(s.Err, "no Redis: %v\n", err)
	}
	line, err := json.Marshal(map[string]any{
		"redis_url":    redisURL,
		"database_url": d.PrimaryURL(), "replica_url": d.ReplicaURL(),
		"admin_database_url": d.AdminPrimaryURL(), "admin_replica_url": d.AdminReplicaURL(), "pids": d.Pids(),
	})
	if err != nil {
		return fail(ctx, s, "database", err)
	}
	fmt.Fprintln(s.Out, string(line))
	<-ctx.Done()
	return exitInterrupted
}
