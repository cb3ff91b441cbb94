package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Limits of the cache, the same in all servers.
const (
	cacheTimeout = 100 * time.Millisecond // of one command, connecting included
	cachePause   = time.Second            // after a failure nobody asks for that long
	cacheExpiry  = time.Minute            // of a table that nobody fills again
	cacheRetry   = 200 * time.Millisecond // between two tries to forget a table
)

// Fields of a table's hash that are no ids.
const (
	cacheEpoch = "epoch" // another text after each change
	cacheAll   = "all"   // there when the hash has every row
)

// Cache is master data in Redis, shared by all processes (MASTER=redis): a hash for each table, whose fields are ids (of
// holidays, days) and whose values are names. What is not in it is read from the primary. A Redis that is away, slow or
// full costs time and never truth:
//
//   - A change makes the table be forgotten and gives it a new epoch. Who read from the database under an older epoch puts
//     nothing into the table.
//   - A process that could not make a table be forgotten does not ask for it until it could, and neither does one that does
//     not hear of changes.
//   - A process that lost its connection, or finds another Redis than before, makes every table be forgotten before it asks
//     again: what comes back may be older. An answer that is late says nothing of that.
type Cache struct {
	client  *redis.Client
	log     *slog.Logger
	prefix  string
	lookups *prometheus.CounterVec

	// heard says that changes are listened to.
	heard atomic.Bool
	// away is until when nobody asks, in nanoseconds since 1970.
	away atomic.Int64

	mu sync.Mutex
	// changes counts those of each table that were heard of, and forgotten says up to which of them Redis is known to have
	// nothing old.
	changes, forgotten map[string]int
	// run is the Redis that the last connection is to.
	run string
}

// newCache connects to nothing yet. Servers of one database share what they keep.
func newCache(address, databaseURL string, log *slog.Logger) (*Cache, error) {
	options, err := redis.ParseURL(address)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = cacheTimeout, cacheTimeout, cacheTimeout
	options.MaxRetries = -1 // what failed is read from the database
	options.DisableIdentity = true
	options.ContextTimeoutEnabled = true // or a command would have that long for each of its steps
	options.DialerRetries = 1
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	redis.SetLogger(silent{}) // each command says so itself
	c := &Cache{
		log: log, prefix: cachePrefix(databaseURL), changes: map[string]int{}, forgotten: map[string]int{},
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lab_cache_lookups_total", Help: "Questions to Redis by table and what came of them: hit, miss, failed; skipped where it was not asked.",
		}, []string{"table", "result"}),
	}
	options.OnConnect = c.connected
	c.client = redis.NewClient(options)
	return c, nil
}

// connected looks whether a new connection is to the same Redis as those before. go-redis replaces an idle connection that is
// dead by a new one, and no command fails. One that does not say who it is may be any.
func (c *Cache) connected(ctx context.Context, conn *redis.Conn) error {
	info, err := conn.Info(ctx, "server").Result()
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	_, rest, _ := strings.Cut(info, "run_id:")
	run, _, _ := strings.Cut(rest, "\r\n")
	c.mu.Lock()
	defer c.mu.Unlock()
	if run == "" || c.run != "" && c.run != run { // at once: who connects next would find it to be the same
		for _, table := range cachedTables {
			c.changes[table]++
		}
	}
	c.run = run
	return nil
}

// silent is a logger of go-redis that says nothing.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// cachePrefix tells databases apart that share a Redis, by host, port and name.
func cachePrefix(databaseURL string) string {
	h := fnv.New64a()
	if u, err := url.Parse(databaseURL); err == nil {
		_, _ = h.Write([]byte(u.Host + u.EscapedPath()))
	}
	return fmt.Sprintf("lab:%016x:", h.Sum64())
}

// cached is what Redis said of a table.
type cached struct {
	epoch string
	all   bool // it has every row that there was when it was filled
	names map[string]string
}

// ask reads these fields of a table, or all where there are none; false where Redis is not to be asked or did not answer.
func (c *Cache) ask(ctx context.Context, table string, fields []string) (cached, bool) {
	changes := c.changesOf(table) // before the question: an answer tells nothing of what came after it
	if !c.trusts(table) {
		c.count(table, "skipped")
		return cached{}, false
	}
	request := ctx
	ctx, cancel := context.WithTimeout(request, cacheTimeout)
	defer cancel()
	out := cached{names: map[string]string{}}
	if len(fields) == 0 {
		hash, err := c.client.HGetAll(ctx, c.prefix+table).Result()
		if err != nil {
			return cached{}, c.failed(request, table, err)
		}
		out.epoch = hash[cacheEpoch]
		_, out.all = hash[cacheAll]
		delete(hash, cacheEpoch)
		delete(hash, cacheAll)
		out.names = hash
	} else {
		values, err := c.client.HMGet(ctx, c.prefix+table, append([]string{cacheEpoch, cacheAll}, fields...)...).Result()
		if err != nil {
			return cached{}, c.failed(request, table, err)
		}
		out.epoch, _ = values[0].(string)
		_, out.all = values[1].(string)
		for i, field := range fields {
			if name, ok := values[i+2].(string); ok {
				out.names[field] = name
			}
		}
	}
	if !c.heard.Load() || c.changesOf(table) != changes { // it may be older, though the table may have been forgotten meanwhile
		c.count(table, "failed")
		return cached{}, false
	}
	if len(fields) == 0 && out.all || len(fields) > 0 && len(out.names) == len(fields) {
		c.count(table, "hit")
	} else {
		c.count(table, "miss")
	}
	return out, true
}

// fillScript puts fields into a table of that epoch and says whether it did.
var fillScript = redis.NewScript(`
if (redis.call('HGET', KEYS[1], 'epoch') or '') ~= ARGV[1] then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
if redis.call('HEXISTS', KEYS[1], 'all') == 1 or redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1`)

// fill puts what was read from the primary into a table, unless it has changed since the epoch.
func (c *Cache) fill(ctx context.Context, table, epoch string, names map[string]string) {
	if len(names) == 0 || !c.trusts(table) {
		return
	}
	request := ctx
	ctx, cancel := context.WithTimeout(request, cacheTimeout)
	defer cancel()
	arguments := []any{epoch, cacheExpiry.Milliseconds()}
	for field, name := range names {
		arguments = append(arguments, field, name)
	}
	if err := fillScript.Run(ctx, c.client, []string{c.prefix + table}, arguments...).Err(); err != nil {
		c.failed(request, table, err)
	}
}

// forgetScript empties a table and gives it an epoch.
var forgetScript = redis.NewScript(`
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`)

// forget empties a table after a change, and gives its new epoch. Where that fails the table is not asked for any more until
// a later try succeeds.
func (c *Cache) forget(ctx context.Context, table string) (epoch string, err error) {
	change := c.distrust(table)
	request := ctx
	ctx, cancel := context.WithTimeout(request, cacheTimeout)
	defer cancel()
	epoch = rand.Text()
	if err := forgetScript.Run(ctx, c.client, []string{c.prefix + table}, epoch, cacheExpiry.Milliseconds()).Err(); err != nil {
		c.failed(request, table, err)
		return "", err
	}
	c.away.Store(0) // it answers
	c.mu.Lock()
	c.forgotten[table] = max(c.forgotten[table], change)
	c.mu.Unlock()
	return epoch, nil
}

// distrust keeps a table from being asked for until it has been forgotten, and gives the number of the change.
func (c *Cache) distrust(table string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes[table]++
	return c.changes[table]
}

// distrustAll is distrust of every table.
func (c *Cache) distrustAll() {
	for _, table := range cachedTables {
		c.distrust(table)
	}
}

// changesOf says how many changes of a table were heard of.
func (c *Cache) changesOf(table string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes[table]
}

// pending are the tables that are still to be forgotten.
func (c *Cache) pending(tables []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(tables), func(table string) bool { return c.forgotten[table] == c.changes[table] })
}

func (c *Cache) trusts(table string) bool {
	if !c.heard.Load() || time.Now().UnixNano() < c.away.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes[table] > 0 && c.forgotten[table] == c.changes[table]
}

// failed notes that Redis did not answer, or with an error; it is always false. A request that is over says nothing of Redis.
// Where a connection was lost or refused, whoever answers next may be a Redis that has what was forgotten long ago. Where an
// answer was late go-redis makes a new connection too, and connected looks to whom.
func (c *Cache) failed(request context.Context, table string, err error) bool {
	if request.Err() != nil {
		return false
	}
	c.count(table, "failed")
	var reply redis.Error
	var late net.Error
	if !errors.As(err, &reply) && !(errors.As(err, &late) && late.Timeout()) {
		c.distrustAll()
	}
	now := time.Now().UnixNano()
	if before := c.away.Swap(now + int64(cachePause)); before < now {
		c.log.Warn("redis does not answer", "error", err.Error(), "retry_ms", milliseconds(cachePause))
	}
	return false
}

func (c *Cache) count(table, result string) { c.lookups.WithLabelValues(table, result).Inc() }

func (c *Cache) close() { _ = c.client.Close() }

// fieldsOf are ids as a hash has them.
func fieldsOf(ids []int32) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = strconv.Itoa(int(id))
	}
	return out
}
