import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type Cache, type CachedTable, retryForgetting } from './cache.ts';
import { describe, type Logger } from './logging.ts';
import { packVectors, type Vectors } from './ranking.ts';
import {
  idArray,
  type Named,
  newClient,
  type Pool,
  type RunStatement,
  type Statement,
  type Store,
  textBytes,
  Work,
} from './store.ts';

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

function named(table: 'area' | 'genre', id: string, name: string): Named {
  return { __typename: table === 'area' ? 'Area' : 'Genre', id, name };
}

/** The tables that announce their changes. */
export const masterTables = ['area', 'genre', 'holiday', 'item_vector', 'master_text'] as const;
export type MasterTable = (typeof masterTables)[number];

const loadTimeoutMs = 30_000;
// So many rows of master data in bulk are read at once that a reading ends long before a statement's time.
const textsPerPage = 4096;
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
  /** Master data in bulk, which no request reads. */
  texts: readonly string[] = [];
  readonly #textRows: number;
  readonly #cache: Cache | null;
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
  // Renaming an area, from before the statement until memory has the new name, and reading the areas and putting them
  // there come one after the other. So what is put there is never older than what it replaces: no name waits to be put
  // over a later reading, and the reading that an announcement asks for begins after whatever came before it. Turns come
  // as they were asked for, where a reading that is tried again until no rename came between might never end.
  #areasTurn: Promise<unknown> = Promise.resolve();
  #loaded = false;
  #listener: pg.Client | null = null;
  #listening: Promise<void> = Promise.resolve();

  constructor(options: {
    store: Store;
    databaseUrl: string;
    /** What is kept: item vectors and data in bulk always, the rest with `memory`. */
    keep: 'memory' | 'redis' | 'none';
    /** Master data in bulk, MiB. */
    keepMb: number;
    /** Where all but the vectors is with `redis`; else null. */
    cache: Cache | null;
    start: 'concurrent' | 'sequential';
    /** Whether the vectors lie where threads can share them. */
    shareVectors: boolean;
    logger: Logger;
  }) {
    this.#store = options.store;
    this.#cache = options.cache;
    this.#databaseUrl = options.databaseUrl;
    this.#textRows = (options.keepMb * 2 ** 20) / textBytes;
    const tables: readonly MasterTable[] = options.keep === 'none' ? ['item_vector', 'master_text'] : masterTables;
    this.#tables = this.#textRows > 0 ? tables : tables.filter((table) => table !== 'master_text');
    this.#inOrder = options.start === 'sequential';
    this.#shareVectors = options.shareVectors;
    this.#logger = options.logger;
  }

  /** Whether everything has been read at least once. */
  get loaded(): boolean {
    return this.#loaded;
  }

  /** How much master data in bulk is kept. */
  get textBytes(): number {
    return this.texts.length * textBytes;
  }

  /** Starts listening and loading; both go on until `close`. */
  start(): void {
    this.#listening = this.#listen();
    if (this.#cache !== null) {
      void retryForgetting(this.#cache, (table) => this.reload(table), this.#logger, this.#stopping.signal);
    }
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#listener?.end().catch(() => {});
    await this.#listening;
    this.#cache?.close();
  }

  /**
   * Renames by `run`, which asks the primary, and puts the name into memory or makes Redis forget the old one; other
   * processes hear of it from the database. Null where there is no such area.
   */
  async renameArea(id: string, name: string, run: RunStatement): Promise<Named | null> {
    const rename = async (): Promise<Named | null> => {
      const [area] = await run(this.#store.statements.renameArea, [id, name]);
      return area ?? null;
    };
    if (this.#cache !== null) {
      const area = await rename();
      if (area !== null) await this.#cache.forget('area'); // where that fails it is not asked, and the retries go on
      return area;
    }
    if (!this.#tables.includes('area')) return rename();
    return this.#inAreasTurn(async () => {
      const area = await rename();
      if (area !== null && this.areas.byId.has(area.id)) {
        this.areas = namedTable(this.areas.list.map((known) => (known.id === area.id ? area : known)));
      }
      return area;
    });
  }

  // Nobody waits with a connection in hand. Where a request is over when its turn comes, `change` rejects at once.
  #inAreasTurn<Value>(change: () => Promise<Value>): Promise<Value> {
    const changed = this.#areasTurn.then(change);
    this.#areasTurn = changed.catch(() => {});
    return changed;
  }

  /** Reads a table anew. A reading that began before the call does not count, so at most one more waits behind it. */
  reload(table: MasterTable): Promise<void> {
    // First: one is still queued for a moment when the one before it has ended, and would begin beside another.
    const waiting = this.#queued.get(table);
    if (waiting !== undefined) return waiting;
    const reading = this.#reading.get(table);
    if (reading === undefined) return this.#read(table);
    const queued = reading
      .catch(() => {})
      .then(() => {
        this.#queued.delete(table);
        return this.#read(table);
      });
    this.#queued.set(table, queued);
    return queued;
  }

  #read(table: MasterTable): Promise<void> {
    const reading = this.#readNow(table).finally(() => this.#reading.delete(table));
    this.#reading.set(table, reading);
    return reading;
  }

  async #readNow(table: MasterTable): Promise<void> {
    if (this.#cache !== null && table !== 'item_vector' && table !== 'master_text')
      return this.#readCached(this.#cache, table);
    const { areas, genres, holidays, itemVectors } = this.#store.statements;
    switch (table) {
      case 'area':
        await this.#inAreasTurn(async () => {
          this.areas = namedTable(await this.#rows(areas));
        });
        return;
      case 'genre':
        this.genres = namedTable(await this.#rows(genres));
        return;
      case 'holiday':
        this.holidays = holidaySet(await this.#rows(holidays));
        return;
      case 'item_vector':
        this.vectors = packVectors(await this.#rows(itemVectors), this.#shareVectors);
        return;
      case 'master_text':
        this.texts = await this.#readTexts();
    }
  }

  async #readTexts(): Promise<string[]> {
    const { masterTexts } = this.#store.statements;
    const texts: string[] = [];
    for (let after = 0; after < this.#textRows; after += textsPerPage) {
      const last = Math.min(after + textsPerPage, this.#textRows);
      for (const text of await this.#rows(masterTexts, [String(after), String(last)])) texts.push(text);
    }
    if (texts.length !== this.#textRows) {
      throw new Error(`master_texts: the database has ${texts.length} of ${this.#textRows} rows`);
    }
    return texts;
  }

  // Makes Redis forget a table and have it anew. Only a failure of the database is an error: a Redis that does not answer
  // is not asked for the table until a later try succeeds.
  async #readCached(cache: Cache, table: CachedTable): Promise<void> {
    const epoch = await cache.forget(table);
    if (epoch === null) return;
    const read = <Row>(statement: Statement<Row>): Promise<Row[]> => this.#rows(statement);
    await cache.fill(table, epoch, await this.#names(table, read), true);
  }

  // A table as a hash has it, from the primary.
  async #names(
    table: CachedTable,
    read: <Row>(statement: Statement<Row>) => Promise<Row[]>,
  ): Promise<Map<string, string>> {
    const { areas, genres, holidays } = this.#store.statements;
    if (table === 'holiday') return new Map((await read(holidays)).map((day) => [day, '']));
    const rows = await read(table === 'area' ? areas : genres);
    return new Map(rows.map((row) => [row.id, row.name]));
  }

  async #all(cache: Cache, table: CachedTable, run: RunStatement): Promise<ReadonlyMap<string, string>> {
    const asked = await cache.ask(table);
    if (asked?.all) return asked.names;
    const names = await this.#names(table, (statement) => run(statement, []));
    if (asked !== null) await cache.fill(table, asked.epoch, names, true);
    return names;
  }

  /** All rows of a table by id, from Redis or by `run`, which asks the primary. */
  async every(table: 'area' | 'genre', run: RunStatement): Promise<Named[]> {
    if (this.#cache === null) throw new Error('master data is not in Redis');
    const rows = [...(await this.#all(this.#cache, table, run))].map(([id, name]) => named(table, id, name));
    return rows.sort((a, b) => Number(a.id) - Number(b.id));
  }

  /** The holidays, from Redis or by `run`, which asks the primary. */
  async everyHoliday(run: RunStatement): Promise<Set<number>> {
    if (this.#cache === null) throw new Error('master data is not in Redis');
    return holidaySet([...(await this.#all(this.#cache, 'holiday', run)).keys()]);
  }

  /**
   * The rows of these ids, from Redis in one round trip, and what that does not have by `run`, which asks the primary, by
   * one statement. So is what a whole hash does not have: ids come from items, whose areas and genres exist, be it since a
   * moment ago and not announced yet.
   */
  async byIds(
    table: 'area' | 'genre',
    statement: Statement<Named>,
    ids: readonly string[],
    run: RunStatement,
  ): Promise<Named[]> {
    if (this.#cache === null) throw new Error('master data is not in Redis');
    const asked = await this.#cache.ask(table, ids);
    const rows: Named[] = [];
    const missing: string[] = [];
    for (const id of ids) {
      const name = asked?.names.get(id);
      if (name !== undefined) rows.push(named(table, id, name));
      else missing.push(id);
    }
    if (missing.length === 0) return rows;
    const read = await run(statement, [idArray(missing)]);
    // It would prolong the time of a whole hash.
    if (asked !== null && !asked.all && read.length > 0) {
      await this.#cache.fill(table, asked.epoch, new Map(read.map((row) => [row.id, row.name])), false);
    }
    return [...rows, ...read];
  }

  // Always from the primary: a replica may not have yet what the primary announces.
  async #rows<Row>(statement: Statement<Row>, parameters: readonly string[] = []): Promise<Row[]> {
    const work = new Work(loadTimeoutMs, () => {});
    try {
      const pool: Pool = this.#store.primary;
      return await this.#store.run(pool, work, statement, parameters);
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
        if (this.#cache !== null) {
          this.#cache.distrustAll(); // they may have changed while nobody listened
          this.#cache.heard = true;
        }
        // Listening first, so that no change falls between the reading and the announcements.
        await this.#loadAll();
        backoffMs = leastBackoffMs;
        await ended;
        if (!signal.aborted) this.#logger.warn('listening connection lost');
      } catch (cause) {
        if (!signal.aborted) this.#logger.warn('listening failed', { cause: describe(cause), retry_ms: backoffMs });
      }
      if (this.#cache !== null) this.#cache.heard = false;
      client.end().catch(() => {});
      if (signal.aborted) return;
      await sleep(backoffMs, undefined, { signal }).catch(() => {});
      backoffMs = Math.min(backoffMs * 2, mostBackoffMs);
    }
  }

  #announced(payload: string | undefined): void {
    const table = this.#tables.find((name) => name === payload);
    if (table === undefined) return;
    // At once; a reading may be under way, and Redis forgets only after it.
    if (table !== 'item_vector' && table !== 'master_text') this.#cache?.distrust(table);
    this.reload(table).catch((cause: unknown) => {
      // Nobody would announce it again: with the connection, everything is read anew.
      this.#logger.warn('master data not read', { table, cause: describe(cause) });
      this.#listener?.end().catch(() => {});
    });
  }
}
