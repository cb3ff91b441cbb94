package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/redis"
	"lab/loadtest/internal/reference"
)

// noRedis skips arms that have no part in Redis.
func noRedis(s *subject) string {
	if !s.arm.UsesRedis() {
		return "does not use Redis"
	}
	return ""
}

// redisPause is longer than servers do without a Redis that failed them and than they take to connect to it again.
const redisPause = 2500 * time.Millisecond

// redisTrouble is something that can befall Redis, and how it ends.
type redisTrouble struct {
	name  string
	begin func(ctx context.Context, link engine.FaultLink, url string) error
	end   func(ctx context.Context, link engine.FaultLink, url string) error
}

func onLink(fault engine.Fault) redisTrouble {
	return redisTrouble{
		name:  string(fault.Kind),
		begin: func(ctx context.Context, link engine.FaultLink, _ string) error { return link.Set(ctx, fault) },
		end:   func(ctx context.Context, link engine.FaultLink, _ string) error { return link.Set(ctx) },
	}
}

func commands(name string, begin, end [][]string) redisTrouble {
	all := func(list [][]string) func(context.Context, engine.FaultLink, string) error {
		return func(ctx context.Context, _ engine.FaultLink, url string) error {
			for _, words := range list {
				if _, err := redis.Command(ctx, url, words...); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return redisTrouble{name, all(begin), all(end)}
}

// redisTroubles are what a Redis is put through: away, silent, losing its connections, emptied, and full.
var redisTroubles = []redisTrouble{
	onLink(engine.Fault{Kind: engine.FaultDown}),
	onLink(engine.Fault{Kind: engine.FaultStall}),
	onLink(engine.Fault{Kind: engine.FaultResetPeer}),
	commands("emptied", [][]string{{"FLUSHALL"}}, nil),
	commands("full", [][]string{{"CONFIG", "SET", "maxmemory-policy", "noeviction"}, {"CONFIG", "SET", "maxmemory", "1"}},
		[][]string{{"CONFIG", "SET", "maxmemory", "256mb"}, {"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}}),
}

// redisAway has all that befall Redis and changes master data meanwhile and after: no answer may be another than the
// database's, at once in the process that renamed, and soon in the other.
func redisAway(ctx context.Context, s *subject, t *tally) error {
	own, err := s.Engine.Redis(ctx)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	defer s.stop(ctx, own.Stop)
	proxy, err := s.Engine.Faults(ctx)
	if err != nil {
		return fmt.Errorf("fault proxy: %w", err)
	}
	defer s.stop(ctx, proxy.Stop)
	link, err := proxy.Link(ctx, "redis", own.URL())
	if err != nil {
		return err
	}
	through := map[string]string{"REDIS_URL": link.URL()}
	return s.withTwo(ctx, through, func(db engine.Database, admin *pgx.Conn, everywhere []engine.Contender) error {
		one := everywhere[0]
		changes := 0
		change := func(when string) error {
			changes++
			name := fmt.Sprintf("Change %d", changes)
			rename := fmt.Sprintf(`mutation { renameArea(id: 19, name: %q) { id name } }`, name)
			q, err := newQuestion(rename, reference.Request{Query: rename}, fmt.Appendf(nil, `{"data":{"renameArea":{"id":"19","name":%q}}}`, name))
			if err != nil {
				return err
			}
			s.pose(ctx, t, one.GraphQLURL(), q, graphqlResponse, "")
			if err := s.waitMaster(ctx, t, db, "renameArea in the process that was asked, Redis "+when, 0, []engine.Contender{one}); err != nil {
				return err
			}
			if _, err := admin.Exec(ctx, `update area set name = id || $1`, " "+name); err != nil {
				return fmt.Errorf("change areas: %w", err)
			}
			return s.waitMaster(ctx, t, db, "areas changed by SQL, Redis "+when, heard, everywhere)
		}
		troubles := redisTroubles
		if s.Form == Short {
			troubles = troubles[:1]
		}
		for _, trouble := range troubles {
			if err := trouble.begin(ctx, link, own.URL()); err != nil {
				return fmt.Errorf("redis %s: %w", trouble.name, err)
			}
			if err := change(trouble.name); err != nil {
				return err
			}
			if err := trouble.end(ctx, link, own.URL()); err != nil {
				return fmt.Errorf("redis %s: end: %w", trouble.name, err)
			}
			// It may have the names from before: who could not make it forget them must not ask it, also when the pause after
			// a failure is over and the connection there again.
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(redisPause):
			}
			if err := s.waitMaster(ctx, t, db, "what was changed while Redis was "+trouble.name, 0, everywhere); err != nil {
				return err
			}
			if err := change("after it was " + trouble.name); err != nil {
				return err
			}
		}
		return nil
	})
}
