import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { describe, type Logger } from './logging.ts';

// Limits of the cache, the same in all servers.
const commandTimeoutMs = 100;
const pauseMs = 1000; // after a failure nobody asks for that long
const expiryMs = 60_000; // of a table that nobody fills again
/** Between two tries to make Redis forget a table. */
export const retryMs = 200;

// Fields of a table's hash that are no ids.
const epochField = 'epoch'; // another text after each change
const allField = 'all'; // there when the hash has every row

/** The tables that a cache has. */
export const cachedTables = ['area', 'genre', 'holiday'] as const;
export type CachedTable = (typeof cachedTables)[number];

/** What Redis said of a table: names by field, and whether it has every row that there was when it was filled. */
export interface Cached {
  readonly epoch: string;
  readonly all: boolean;
  readonly names: ReadonlyMap<string, string>;
}

// Puts fields into a table of that epoch and says whether it did.
const fillScript = `
if (redis.call('HGET', KEYS[1], 'epoch') or '') ~= ARGV[1] then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
if redis.call('HEXISTS', KEYS[1], 'all') == 1 or redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1`;

// Empties a table and gives it an epoch.
const forgetScript = `
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`;

/** Tells databases apart that share a Redis, by host, port and name: FNV-1a, 64 bits. */
export function cachePrefix(databaseUrl: string): string {
  const { host, pathname } = new URL(databaseUrl);
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(host + pathname)) {
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  }
  return `lab:${hash.toString(16).padStart(16, '0')}:`;
}

/**
 * Master data in Redis, shared by all processes (MASTER=redis): a hash for each table, whose fields are ids (of holidays,
 * days) and whose values are names. What is not in it is read from the primary. A Redis that is away, slow or full costs
 * time and never truth:
 *
 * - A change makes the table be forgotten and gives it a new epoch. Who read from the database under an older epoch puts
 *   nothing into the table.
 * - A process that could not make a table be forgotten does not ask for it until it could, and neither does one that does
 *   not hear of changes.
 * - A process that lost its connection makes every table be forgotten before it asks again: what comes back may be older.
 *   An answer that is late says nothing of that.
 */
export class Cache {
  /** Whether changes are listened to. */
  heard = false;
  readonly #redis: Redis;
  readonly #prefix: string;
  readonly #logger: Logger;
  readonly #count: (table: CachedTable, result: 'hit' | 'miss' | 'failed' | 'skipped') => void;
  // How many changes of each table were heard of, and up to which of them Redis is known to have nothing old.
  readonly #changes: Record<CachedTable, number> = { area: 0, genre: 0, holiday: 0 };
  readonly #forgotten: Record<CachedTable, number> = { area: 0, genre: 0, holiday: 0 };
  #awayUntil = 0;

  constructor(options: {
    redisUrl: string;
    databaseUrl: string;
    logger: Logger;
    count: (table: CachedTable, result: 'hit' | 'miss' | 'failed' | 'skipped') => void;
  }) {
    this.#redis = new Redis(options.redisUrl, {
      lazyConnect: true,
      connectTimeout: commandTimeoutMs,
      commandTimeout: commandTimeoutMs,
      maxRetriesPerRequest: 0, // what failed is read from the database
      retryStrategy: () => pauseMs,
    });
    this.#redis.on('error', () => {}); // each command says so itself
    // It connects again by itself, and no command need have failed.
    this.#redis.on('close', () => this.distrustAll());
    this.#prefix = cachePrefix(options.databaseUrl);
    this.#logger = options.logger;
    this.#count = options.count;
  }

  close(): void {
    this.#redis.disconnect();
  }

  /** Reads these fields of a table, or all where none are given; null where Redis is not to be asked or did not answer. */
  async ask(table: CachedTable, fields?: readonly string[]): Promise<Cached | null> {
    const changes = this.#changes[table]; // before the question: an answer tells nothing of what came after it
    if (!this.#trusts(table)) {
      this.#count(table, 'skipped');
      return null;
    }
    const names = new Map<string, string>();
    let epoch = '';
    let all = false;
    try {
      if (fields === undefined) {
        for (const [field, name] of Object.entries(await this.#redis.hgetall(this.#prefix + table))) {
          if (field === epochField) epoch = name;
          else if (field === allField) all = true;
          else names.set(field, name);
        }
      } else {
        const [seen, whole, ...values] = await this.#redis.hmget(this.#prefix + table, epochField, allField, ...fields);
        epoch = seen ?? '';
        all = whole != null;
        for (const [index, field] of fields.entries()) {
          const name = values[index];
          if (name != null) names.set(field, name);
        }
      }
    } catch (cause) {
      this.#failed(table, cause);
      return null;
    }
    // It may be older, though the table may have been forgotten meanwhile.
    if (!this.heard || this.#changes[table] !== changes) {
      this.#count(table, 'failed');
      return null;
    }
    this.#count(table, (fields === undefined ? all : names.size === fields.length) ? 'hit' : 'miss');
    return { epoch, all, names };
  }

  /** Puts what was read from the primary into a table, unless it has changed since the epoch. */
  async fill(table: CachedTable, epoch: string, names: ReadonlyMap<string, string>, all: boolean): Promise<void> {
    const fields = [...names].flat();
    if (all) fields.push(allField, '1');
    if (fields.length === 0 || !this.#trusts(table)) return;
    try {
      await this.#redis.eval(fillScript, 1, this.#prefix + table, epoch, expiryMs, ...fields);
    } catch (cause) {
      this.#failed(table, cause);
    }
  }

  /**
   * Empties a table after a change and gives its new epoch, or null where that failed: then the table is not asked for any
   * more until a later try succeeds.
   */
  async forget(table: CachedTable): Promise<string | null> {
    const change = this.distrust(table);
    const epoch = randomUUID();
    try {
      await this.#redis.eval(forgetScript, 1, this.#prefix + table, epoch, expiryMs);
    } catch (cause) {
      this.#failed(table, cause);
      return null;
    }
    this.#awayUntil = 0; // it answers
    this.#forgotten[table] = Math.max(this.#forgotten[table], change);
    return epoch;
  }

  /** Keeps a table from being asked for until it has been forgotten, and gives the number of the change. */
  distrust(table: CachedTable): number {
    this.#changes[table]++;
    return this.#changes[table];
  }

  /** `distrust` of every table. */
  distrustAll(): void {
    for (const table of cachedTables) this.distrust(table);
  }

  /** The tables that are still to be forgotten. */
  pending(): CachedTable[] {
    return cachedTables.filter((table) => this.#forgotten[table] !== this.#changes[table]);
  }

  #trusts(table: CachedTable): boolean {
    return this.heard && this.#known(table) && Date.now() >= this.#awayUntil;
  }

  #known(table: CachedTable): boolean {
    return this.#changes[table] > 0 && this.#forgotten[table] === this.#changes[table];
  }

  // Where the connection was lost or refused, whoever answers next may be a Redis that has what was forgotten long ago. An
  // answer that is late leaves the connection as it is, and the lateness may be this process's own.
  #failed(table: CachedTable, cause: unknown): void {
    this.#count(table, 'failed');
    if (this.#redis.status !== 'ready') this.distrustAll();
    const now = Date.now();
    if (now >= this.#awayUntil) {
      this.#logger.warn('redis does not answer', { cause: describe(cause), retry_ms: pauseMs });
    }
    this.#awayUntil = now + pauseMs;
  }
}

/** Tries again and again to make Redis forget what it could not be made to forget at once, until the signal. */
export async function retryForgetting(
  cache: Cache,
  reload: (table: CachedTable) => Promise<void>,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await sleep(retryMs, undefined, { signal }).catch(() => {});
    for (const table of signal.aborted || !cache.heard ? [] : cache.pending()) {
      await reload(table).catch((cause: unknown) => {
        logger.warn('master data not read', { table, cause: describe(cause) });
      });
    }
  }
}
