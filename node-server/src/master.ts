import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { describe, type Logger } from './logging.ts';
import { packVectors, type Vectors } from './ranking.ts';
import { type Named, newClient, type Pool, type Statement, type Store, Work } from './store.ts';

const dayMs = 86_400_000;

/** Days since 1970-01-01 of a date that exists, or null: no such day, or not in the form YYYY-MM-DD. */
export function parseDay(date: string): number | null {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(date);
  if (match === null) return null;
  const time = new Date(0);
  // Not Date.UTC, which takes the years 0 to 99 for 1900 to 1999.
  time.setUTCFullYear(Number(match[1]), Number(match[2]) - 1, Number(match[3]));
  return time.toISOString().slice(0, 10) === date ? time.getTime() / dayMs : null;
}

/** The date of a day number, null after the year 9999. */
export function formatDay(day: number): string | null {
  const text = new Date(day * dayMs).toISOString();
  return text.startsWith('+') ? null : text.slice(0, 10);
}

const daysBetweenChecks = 1024;

/** The day that many business days after `from`, which is `from` itself for 0: neither weekends nor holidays count. */
export function addBusinessDays(
  from: number,
  days: number,
  holidays: ReadonlySet<number>,
  checkDeadline: () => void,
): number {
  let day = from;
  for (let left = days, walked = 0; left > 0; walked++) {
    if (walked % daysBetweenChecks === 0) checkDeadline();
    day++;
    // Day 0 was a Thursday.
    const weekday = (((day + 4) % 7) + 7) % 7;
    if (weekday !== 0 && weekday !== 6 && !holidays.has(day)) left--;
  }
  return day;
}

/** Day numbers of dates as PostgreSQL writes them. */
export function holidaySet(dates: readonly string[]): Set<number> {
  return new Set(dates.map(parseDay).filter((day) => day !== null));
}

/** A table of id and name, in ascending order of id. */
export interface NamedTable {
  readonly list: readonly Named[];
  readonly byId: ReadonlyMap<string, Named>;
}

function namedTable(rows: readonly Named[]): NamedTable {
  return { list: rows, byId: new Map(rows.map((row) => [row.id, row])) };
}

/** The tables that announce their changes. */
export const masterTables = ['area', 'genre', 'holiday', 'item_vector'] as const;
export type MasterTable = (typeof masterTables)[number];

const loadTimeoutMs = 30_000;
const leastBackoffMs = 100;
const mostBackoffMs = 2000;

/**
 * Master data in this process's memory. Tables are swapped as a whole and never changed in place, so a request that
 * holds one keeps reading one state of it.
 */
export class Master {
  areas: NamedTable = namedTable([]);
  genres: NamedTable = namedTable([]);
  holidays: ReadonlySet<number> = new Set();
  vectors: Vectors = packVectors([]);
  readonly #store: Store;
  readonly #databaseUrl: string;
  readonly #tables: readonly MasterTable[];
  readonly #inOrder: boolean;
  readonly #shareVectors: boolean;
  readonly #logger: Logger;
  readonly #stopping = new AbortController();
  // Of each table: the reading under way, and the one that waits for it.
  readonly #reading = new Map<MasterTable, Promise<void>>();
  readonly #queued = new Map<MasterTable, Promise<void>>();
  #renames = 0;
  #loaded = false;
  #listener: pg.Client | null = null;
  #listening: Promise<void> = Promise.resolve();

  constructor(options: {
    store: Store;
    databaseUrl: string;
    /** What is kept: item vectors always, the rest with `memory`. */
    keep: 'memory' | 'none';
    start: 'concurrent' | 'sequential';
    /** Whether the vectors lie where threads can share them. */
    shareVectors: boolean;
    logger: Logger;
  }) {
    this.#store = options.store;
    this.#databaseUrl = options.databaseUrl;
    this.#tables = options.keep === 'memory' ? masterTables : ['item_vector'];
    this.#inOrder = options.start === 'sequential';
    this.#shareVectors = options.shareVectors;
    this.#logger = options.logger;
  }

  /** Whether everything has been read at least once. */
  get loaded(): boolean {
    return this.#loaded;
  }

  /** Starts listening and loading; both go on until `close`. */
  start(): void {
    this.#listening = this.#listen();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#listener?.end().catch(() => {});
    await this.#listening;
  }

  /** Makes a rename visible here before the database announces it. */
  renameArea(area: Named): void {
    if (!this.areas.byId.has(area.id)) return;
    this.#renames++;
    this.areas = namedTable(this.areas.list.map((known) => (known.id === area.id ? area : known)));
  }

  /** Reads a table anew. A reading that began before the call does not count, so at most one more waits behind it. */
  reload(table: MasterTable): Promise<void> {
    const reading = this.#reading.get(table);
    if (reading === undefined) return this.#read(table);
    let queued = this.#queued.get(table);
    if (queued === undefined) {
      queued = reading
        .catch(() => {})
        .then(() => {
          this.#queued.delete(table);
          return this.#read(table);
        });
      this.#queued.set(table, queued);
    }
    return queued;
  }

  #read(table: MasterTable): Promise<void> {
    const reading = this.#readNow(table).finally(() => this.#reading.delete(table));
    this.#reading.set(table, reading);
    return reading;
  }

  async #readNow(table: MasterTable): Promise<void> {
    const { areas, genres, holidays, itemVectors } = this.#store.statements;
    switch (table) {
      case 'area': {
        // Renamed here while it was read: the reading may be older than that.
        for (let renames = -1; renames !== this.#renames; ) {
          renames = this.#renames;
          const read = namedTable(await this.#rows(areas));
          if (renames === this.#renames) this.areas = read;
        }
        return;
      }
      case 'genre':
        this.genres = namedTable(await this.#rows(genres));
        return;
      case 'holiday':
        this.holidays = holidaySet(await this.#rows(holidays));
        return;
      case 'item_vector':
        this.vectors = packVectors(await this.#rows(itemVectors), this.#shareVectors);
    }
  }

  // Always from the primary: a replica may not have yet what the primary announces.
  async #rows<Row>(statement: Statement<Row>): Promise<Row[]> {
    const work = new Work(loadTimeoutMs, () => {});
    try {
      const pool: Pool = this.#store.primary;
      return await this.#store.run(pool, work, statement, []);
    } finally {
      work.close();
    }
  }

  async #loadAll(): Promise<void> {
    if (this.#inOrder) for (const table of this.#tables) await this.reload(table);
    else await Promise.all(this.#tables.map((table) => this.reload(table)));
    if (!this.#loaded) this.#logger.info('master data loaded', { items: this.vectors.itemIds.length });
    this.#loaded = true;
  }

  async #listen(): Promise<void> {
    const { signal } = this.#stopping;
    let backoffMs = leastBackoffMs;
    while (!signal.aborted) {
      const client = newClient(this.#databaseUrl);
      this.#listener = client;
      const ended = new Promise<void>((resolve) => {
        client.on('error', () => resolve());
        client.on('end', () => resolve());
      });
      client.on('notification', ({ payload }) => this.#announced(payload));
      try {
        await client.connect();
        await client.query('listen master_changed');
        // Listening first, so that no change falls between the reading and the announcements.
        await this.#loadAll();
        backoffMs = leastBackoffMs;
        await ended;
        if (!signal.aborted) this.#logger.warn('listening connection lost');
      } catch (cause) {
        if (!signal.aborted) this.#logger.warn('listening failed', { cause: describe(cause), retry_ms: backoffMs });
      }
      client.end().catch(() => {});
      if (signal.aborted) return;
      await sleep(backoffMs, undefined, { signal }).catch(() => {});
      backoffMs = Math.min(backoffMs * 2, mostBackoffMs);
    }
  }

  #announced(payload: string | undefined): void {
    const table = this.#tables.find((name) => name === payload);
    if (table === undefined) return;
    this.reload(table).catch((cause: unknown) => {
      // Nobody would announce it again: with the connection, everything is read anew.
      this.#logger.warn('master data not read', { table, cause: describe(cause) });
      this.#listener?.end().catch(() => {});
    });
  }
}
