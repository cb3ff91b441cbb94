import { readdirSync, readFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import pg from 'pg';
import { type RequestError, requestTimeout, serviceUnavailable } from './errors.ts';
import { describe, type Logger } from './logging.ts';
import type { PoolGauge, Telemetry, Timing } from './telemetry.ts';

// Rows carry the schema's field names, so that a field without work needs no resolver, and ids as PostgreSQL's decimal
// text, which is what the answer shows and what the next statement takes.

export interface Named {
  __typename: 'Area' | 'Genre' | 'Category' | 'User';
  id: string;
  name: string;
}

export interface Item {
  __typename: 'Item';
  id: string;
  name: string;
  description: string | null;
  priceCents: number;
  openedOn: string;
  /** PostgreSQL's text of a timestamp in UTC; the scalar DateTime makes it an answer. */
  updatedAt: string;
  categoryId: string | null;
  areaId: string;
  genreId: string;
  ownerId: string | null;
  editorId: string | null;
}

export interface Review {
  id: string;
  itemId: string;
  authorId: string;
  rating: number;
  body: string;
  /** As Item.updatedAt. */
  createdAt: string;
}

export interface ReviewStats {
  itemId: string;
  count: number;
  average: number | null;
}

/** What add_review did: `review` is null where the item or the author is missing. */
export interface AddedReview {
  itemFound: boolean;
  authorFound: boolean;
  review: Review | null;
}

export interface ItemVector {
  itemId: string;
  areaId: string;
  features: Int8Array;
}

type Fields = readonly (string | null)[];

/** One file of contract/sql/statements: its stem, its text, the columns it must have, and a row made of them. */
export interface Statement<Row> {
  readonly name: string;
  readonly text: string;
  readonly columns: readonly string[];
  readonly decode: (fields: Fields) => Row;
}

const namedColumns = ['id', 'name'];
const itemColumns = [
  ...['id', 'name', 'description', 'price_cents', 'opened_on', 'updated_at'],
  ...['category_id', 'area_id', 'genre_id', 'owner_id', 'editor_id'],
];
const reviewColumns = ['id', 'item_id', 'author_id', 'rating', 'body', 'created_at'];

const decodeNamed =
  (__typename: Named['__typename']) =>
  (f: Fields): Named => ({ __typename, id: f[0] as string, name: f[1] as string });

function decodeItem(f: Fields): Item {
  return {
    __typename: 'Item',
    id: f[0] as string,
    name: f[1] as string,
    description: f[2] as string | null,
    priceCents: Number(f[3]),
    openedOn: f[4] as string,
    updatedAt: f[5] as string,
    categoryId: f[6] as string | null,
    areaId: f[7] as string,
    genreId: f[8] as string,
    ownerId: f[9] as string | null,
    editorId: f[10] as string | null,
  };
}

function decodeReview(f: Fields): Review {
  return {
    id: f[0] as string,
    itemId: f[1] as string,
    authorId: f[2] as string,
    rating: Number(f[3]),
    body: f[4] as string,
    createdAt: f[5] as string,
  };
}

const decodeFoundArea = decodeNamed('Area');
const decodeFoundGenre = decodeNamed('Genre');
const decodeFoundCategory = decodeNamed('Category');

function decodeFound(f: Fields): Named | Item {
  const rest = f.slice(1);
  switch (f[0]) {
    case '1':
      return decodeFoundArea(rest);
    case '2':
      return decodeFoundGenre(rest);
    case '3':
      return decodeFoundCategory(rest);
    default:
      return decodeItem(rest);
  }
}

function decodeVector(f: Fields): ItemVector {
  // bytea comes as \x and two hexadecimal digits a byte.
  const bytes = Buffer.from((f[2] as string).slice(2), 'hex');
  return {
    itemId: f[0] as string,
    areaId: f[1] as string,
    features: Int8Array.from(bytes, (byte) => (byte << 24) >> 24),
  };
}

/** Reads every statement of the contract. Throws where a file is missing, or one is there that nothing here runs. */
export function readStatements(contractDir: string) {
  const folder = path.join(contractDir, 'sql', 'statements');
  const unread = new Set(
    readdirSync(folder)
      .filter((file) => file.endsWith('.sql'))
      .map((file) => file.slice(0, -'.sql'.length)),
  );
  const read = <Row>(name: string, columns: readonly string[], decode: (fields: Fields) => Row): Statement<Row> => {
    unread.delete(name);
    return { name, text: readFileSync(path.join(folder, `${name}.sql`), 'utf8'), columns, decode };
  };
  const statements = {
    items: read('items', itemColumns, decodeItem),
    itemsByArea: read('items_by_area', itemColumns, decodeItem),
    itemsByGenre: read('items_by_genre', itemColumns, decodeItem),
    itemsByAreaAndGenre: read('items_by_area_and_genre', itemColumns, decodeItem),
    itemsByIds: read('items_by_ids', itemColumns, decodeItem),
    itemsByCategoryIds: read('items_by_category_ids', itemColumns, decodeItem),
    categories: read('categories', namedColumns, decodeNamed('Category')),
    categoriesByIds: read('categories_by_ids', namedColumns, decodeNamed('Category')),
    areas: read('areas', namedColumns, decodeNamed('Area')),
    areasByIds: read('areas_by_ids', namedColumns, decodeNamed('Area')),
    genres: read('genres', namedColumns, decodeNamed('Genre')),
    genresByIds: read('genres_by_ids', namedColumns, decodeNamed('Genre')),
    usersByIds: read('users_by_ids', namedColumns, decodeNamed('User')),
    reviewsByItemIds: read('reviews_by_item_ids', reviewColumns, decodeReview),
    reviewsByUserIds: read('reviews_by_user_ids', reviewColumns, decodeReview),
    reviewStatsByItemIds: read(
      'review_stats_by_item_ids',
      ['item_id', 'review_count', 'average'],
      (f): ReviewStats => ({
        itemId: f[0] as string,
        count: Number(f[1]),
        average: f[2] === null ? null : Number(f[2]),
      }),
    ),
    search: read('search', ['kind', ...itemColumns], decodeFound),
    holidays: read('holidays', ['day'], (f) => f[0] as string),
    itemVectors: read('item_vectors', ['item_id', 'area_id', 'features'], decodeVector),
    addReview: read(
      'add_review',
      ['item_found', 'author_found', ...reviewColumns],
      (f): AddedReview => ({
        itemFound: f[0] === 't',
        authorFound: f[1] === 't',
        review: f[2] === null ? null : decodeReview(f.slice(2)),
      }),
    ),
    renameArea: read('rename_area', namedColumns, decodeNamed('Area')),
  };
  if (unread.size > 0) throw new Error(`statements that nothing runs: ${[...unread].join(', ')}`);
  return statements;
}

export type Statements = ReturnType<typeof readStatements>;

/** Health of a connection; the only text beside the contract's files and LISTEN. */
const ping: Statement<string> = { name: '', text: 'select 1 as one', columns: ['one'], decode: (f) => f[0] as string };

/** The parameters that make an array of int4 out of ids in decimal text. */
export function idArray(ids: readonly string[]): string {
  return `{${ids.join(',')}}`;
}

/** Something under way for a request that can be broken off. */
export interface Abortable {
  abort(error: RequestError): void;
}

/**
 * All that is under way for one request: its deadline and whatever must end with it. When the time is over, or no
 * connection can be had, everything is broken off and `onFailure` hears why, once.
 */
export class Work {
  readonly timing: Timing | null;
  failure: RequestError | null = null;
  readonly #timeoutMs: number;
  readonly #deadlineMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly #underWay = new Set<Abortable>();
  readonly #onFailure: (error: RequestError) => void;

  constructor(timeoutMs: number, onFailure: (error: RequestError) => void, timing: Timing | null = null) {
    this.timing = timing;
    this.#timeoutMs = timeoutMs;
    this.#deadlineMs = performance.now() + timeoutMs;
    this.#onFailure = onFailure;
    this.#timer = setTimeout(expire, timeoutMs, this);
  }

  /** Milliseconds left, at least 0. */
  leftMs(): number {
    return Math.max(0, this.#deadlineMs - performance.now());
  }

  /** For loops that don't let timers run: throws once the time is over. */
  checkDeadline(): void {
    if (this.failure === null && performance.now() > this.#deadlineMs) this.expire();
    if (this.failure !== null) throw this.failure;
  }

  expire(): void {
    this.fail(requestTimeout(this.#timeoutMs));
  }

  fail(error: RequestError): void {
    if (this.failure !== null) return;
    this.failure = error;
    clearTimeout(this.#timer);
    for (const abortable of this.#underWay) abortable.abort(error);
    this.#underWay.clear();
    this.#onFailure(error);
  }

  begin(abortable: Abortable): void {
    this.#underWay.add(abortable);
  }

  end(abortable: Abortable): void {
    this.#underWay.delete(abortable);
  }

  /** The request was answered. */
  close(): void {
    clearTimeout(this.#timer);
  }
}

function expire(work: Work): void {
  work.expire();
}

// What pg's Client and Connection offer to query classes of others (pg-cursor, pg-query-stream); @types/pg leaves it out.
interface Wire {
  readonly stream: net.Socket;
  parse(message: { name: string; text: string; types: never[] }): void;
  bind(message: { portal: string; statement: string; values: readonly string[]; binary: false }): void;
  describe(message: { type: 'P'; name: string }): void;
  execute(message: { portal: string; rows: 0 }): void;
  sync(): void;
}
interface RawClient {
  readonly host: string;
  readonly port: number;
  readonly processID: number;
  readonly secretKey: number;
  readonly connection: Wire;
}

/** A pooled connection and the statements prepared on it. */
class Connection {
  readonly prepared = new Set<string>();
  readonly client: pg.Client;
  readonly #raw: RawClient;

  constructor(client: pg.Client) {
    this.client = client;
    this.#raw = client as unknown as RawClient;
  }

  /**
   * Asks the server, on a connection of its own as the protocol wants it, to stop what runs here. Whoever cancels must
   * throw this connection away: nobody can tell whether the request arrives before the statement ends.
   */
  cancel(): void {
    const { host, port, processID, secretKey } = this.#raw;
    const socket = host.startsWith('/') ? net.connect(`${host}/.s.PGSQL.${port}`) : net.connect(port, host);
    const message = Buffer.alloc(16);
    message.writeInt32BE(16, 0);
    message.writeInt32BE(80_877_102, 4);
    message.writeInt32BE(processID, 8);
    message.writeInt32BE(secretKey, 12);
    socket.on('error', () => {});
    socket.setTimeout(2000, () => socket.destroy());
    socket.end(message);
  }

  destroy(): void {
    this.#raw.connection.stream.destroy();
  }
}

/**
 * One statement on its way: waits for a connection, is pg's query object while it runs, gives the connection back. It
 * asks for no description after the first time on a connection, and hands each row to the statement's own decoder.
 */
class StatementRun<Row> implements Abortable {
  // pg reads these two to keep track of what is prepared.
  readonly name: string;
  readonly text: string;
  readonly #pool: Pool;
  readonly #work: Work;
  readonly #statement: Statement<Row>;
  readonly #values: readonly string[];
  readonly #resolve: (rows: Row[]) => void;
  readonly #reject: (error: unknown) => void;
  readonly #rows: Row[] = [];
  #connection: Connection | null = null;
  #failure: unknown = null;
  #settled = false;

  constructor(
    pool: Pool,
    work: Work,
    statement: Statement<Row>,
    values: readonly string[],
    resolve: (rows: Row[]) => void,
    reject: (error: unknown) => void,
  ) {
    this.name = statement.name;
    this.text = statement.text;
    this.#pool = pool;
    this.#work = work;
    this.#statement = statement;
    this.#values = values;
    this.#resolve = resolve;
    this.#reject = reject;
    work.begin(this);
  }

  /** The pool's answer to `acquire`. */
  connected(connection: Connection): void {
    this.#connection = connection;
    this.#work.timing?.statementBegins();
    connection.client.query(this);
  }

  /** The pool has no connection and cannot get one. */
  refused(): void {
    this.#settled = true;
    this.#work.end(this);
    const error = serviceUnavailable();
    this.#work.fail(error);
    this.#reject(error);
  }

  abort(error: RequestError): void {
    if (this.#settled) return;
    this.#settled = true;
    const connection = this.#connection;
    if (connection === null) this.#pool.forget(this);
    else {
      this.#work.timing?.statementEnds();
      connection.cancel();
      this.#pool.discard(connection);
    }
    this.#reject(error);
  }

  // From here on, what pg calls on the query that is active.

  submit(wire: Wire): void {
    const { name, text } = this.#statement;
    const known = this.#connection?.prepared.has(name) === true;
    wire.stream.cork();
    if (!known) wire.parse({ name, text, types: [] });
    wire.bind({ portal: '', statement: name, values: this.#values, binary: false });
    if (!known) wire.describe({ type: 'P', name: '' });
    wire.execute({ portal: '', rows: 0 });
    wire.sync();
    wire.stream.uncork();
  }

  handleRowDescription(message: { fields: { name: string }[] }): void {
    const { name, columns } = this.#statement;
    const got = message.fields.map((field) => field.name);
    if (got.join() !== columns.join()) {
      this.#failure = new Error(`statement ${name}: expected columns ${columns.join()}, got ${got.join()}`);
    } else if (name !== '') {
      this.#connection?.prepared.add(name);
    }
  }

  handleDataRow(message: { fields: Fields }): void {
    if (this.#failure === null) this.#rows.push(this.#statement.decode(message.fields));
  }

  handleCommandComplete(): void {}

  handleReadyForQuery(): void {
    if (this.#settled) return;
    this.#finish();
    this.#pool.release(this.#connection as Connection);
    if (this.#failure === null) this.#resolve(this.#rows);
    else this.#reject(this.#failure);
  }

  handleError(error: unknown): void {
    if (this.#settled) return;
    this.#finish();
    const connection = this.#connection as Connection;
    const code = error instanceof pg.DatabaseError ? (error.code ?? '') : null;
    if (code === null || /^(?:08|57P|53)/.test(code)) {
      // The connection is lost, or the server is going down.
      this.#pool.discard(connection);
      this.#work.fail(serviceUnavailable());
      this.#reject(error);
      return;
    }
    // pg sends nothing more on this connection before the server is ready again.
    this.#pool.release(connection);
    // The session's statement_timeout, a backstop a little above the request's own time.
    if (code === '57014') this.#work.expire();
    this.#reject(error);
  }

  #finish(): void {
    this.#settled = true;
    this.#work.end(this);
    this.#work.timing?.statementEnds();
  }
}

// A statement that waits, whatever its rows are.
type Waiting = Pick<StatementRun<never>, 'connected' | 'refused'>;

/** How much longer than a request the server lets a statement run, should a cancel request be lost. */
const statementGraceMs = 500;
const connectTimeoutMs = 2000;
const leastBackoffMs = 50;
const mostBackoffMs = 1000;

/** Settings of a session: text forms that the decoders rely on. */
function sessionUrl(databaseUrl: string, settings: Record<string, string>): string {
  const url = new URL(databaseUrl);
  const options = Object.entries(settings).map(([name, value]) => `-c ${name}=${value}`);
  const given = url.searchParams.get('options');
  url.searchParams.set('options', [...(given === null ? [] : [given]), ...options].join(' '));
  return url.href;
}

/** A client with the session settings of all of ours, not yet connected. */
export function newClient(databaseUrl: string, settings: Record<string, string> = {}): pg.Client {
  return new pg.Client({
    connectionString: sessionUrl(databaseUrl, { TimeZone: 'UTC', DateStyle: 'ISO', bytea_output: 'hex', ...settings }),
    application_name: 'node-server',
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
  });
}

/**
 * A fixed number of connections to one address, opened at start, replaced when they die, handed out first come first
 * served. A statement waits only while a connection is open or being opened; otherwise it is refused at once.
 */
export class Pool implements PoolGauge {
  readonly address: 'primary' | 'replica';
  readonly #databaseUrl: string;
  readonly #size: number;
  readonly #settings: Record<string, string>;
  readonly #telemetry: Telemetry;
  readonly #logger: Logger;
  readonly #open = new Set<Connection>();
  readonly #idle: Connection[] = [];
  readonly #waiting = new Map<Waiting, number>();
  #connecting = 0;
  #backoffMs = leastBackoffMs;
  #retry: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(options: {
    address: 'primary' | 'replica';
    databaseUrl: string;
    size: number;
    requestTimeoutMs: number;
    telemetry: Telemetry;
    logger: Logger;
  }) {
    this.address = options.address;
    this.#databaseUrl = options.databaseUrl;
    this.#size = options.size;
    this.#settings = { statement_timeout: String(options.requestTimeoutMs + statementGraceMs) };
    this.#telemetry = options.telemetry;
    this.#logger = options.logger;
  }

  counts(): { inUse: number; idle: number } {
    return { inUse: this.#open.size - this.#idle.length, idle: this.#idle.length };
  }

  /** Opens what is missing. */
  fill(): void {
    while (!this.#closed && this.#retry === null && this.#open.size + this.#connecting < this.#size) this.#connect();
  }

  acquire(run: Waiting): void {
    const connection = this.#idle.pop();
    if (connection !== undefined) {
      this.#telemetry.poolWaitSeconds.observe(0);
      run.connected(connection);
    } else if (this.#open.size === 0 && this.#connecting === 0) {
      run.refused();
    } else {
      this.#waiting.set(run, performance.now());
    }
  }

  /** Takes a statement out of the queue. */
  forget(run: Waiting): void {
    this.#waiting.delete(run);
  }

  release(connection: Connection): void {
    if (!this.#open.has(connection)) return;
    for (const [run, sinceMs] of this.#waiting) {
      this.#waiting.delete(run);
      this.#telemetry.poolWaitSeconds.observe((performance.now() - sinceMs) / 1000);
      run.connected(connection);
      return;
    }
    if (this.#closed) this.discard(connection);
    else this.#idle.push(connection);
  }

  /** Throws a connection away and opens another. */
  discard(connection: Connection): void {
    if (!this.#open.delete(connection)) return;
    const index = this.#idle.indexOf(connection);
    if (index >= 0) this.#idle.splice(index, 1);
    connection.destroy();
    this.fill();
    this.#refuseWhereHopeless();
  }

  /** Closes idle connections now and the others when they come back. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    const idle = this.#idle.splice(0);
    for (const connection of idle) this.#open.delete(connection);
    await Promise.all(idle.map((connection) => connection.client.end().catch(() => {})));
  }

  #connect(): void {
    this.#connecting++;
    const client = newClient(this.#databaseUrl, this.#settings);
    const connection = new Connection(client);
    // Also emitted after a failed start and after a connection died, when nobody listens any more.
    client.on('error', () => this.discard(connection));
    client.on('end', () => this.discard(connection));
    client.connect().then(
      () => {
        this.#connecting--;
        this.#backoffMs = leastBackoffMs;
        this.#open.add(connection);
        this.release(connection);
      },
      (cause: unknown) => {
        this.#connecting--;
        client.end().catch(() => {});
        this.#retryLater(cause);
        this.#refuseWhereHopeless();
      },
    );
  }

  #retryLater(cause: unknown): void {
    if (this.#closed || this.#retry !== null) return;
    this.#logger.warn('database connection failed', {
      address: this.address,
      cause: describe(cause),
      retry_ms: this.#backoffMs,
    });
    this.#retry = setTimeout(() => {
      this.#retry = null;
      this.fill();
    }, this.#backoffMs);
    this.#backoffMs = Math.min(this.#backoffMs * 2, mostBackoffMs);
  }

  #refuseWhereHopeless(): void {
    if (this.#open.size > 0 || this.#connecting > 0) return;
    const waiting = [...this.#waiting.keys()];
    this.#waiting.clear();
    for (const run of waiting) run.refused();
  }
}

/** Runs a statement for one request, on the pool that the request reads from. */
export type RunStatement = <Row>(statement: Statement<Row>, values: readonly string[]) => Promise<Row[]>;

/** The contract's statements and the pools they run on. */
export class Store {
  readonly statements: Statements;
  readonly primary: Pool;
  readonly replica: Pool;
  readonly #telemetry: Telemetry;

  constructor(options: {
    contractDir: string;
    databaseUrl: string;
    replicaUrl: string;
    poolSize: number;
    requestTimeoutMs: number;
    telemetry: Telemetry;
    logger: Logger;
  }) {
    const { telemetry, logger, requestTimeoutMs, poolSize: size } = options;
    this.statements = readStatements(options.contractDir);
    this.#telemetry = telemetry;
    const common = { size, requestTimeoutMs, telemetry, logger };
    this.primary = new Pool({ address: 'primary', databaseUrl: options.databaseUrl, ...common });
    this.replica =
      options.replicaUrl === options.databaseUrl
        ? this.primary
        : new Pool({ address: 'replica', databaseUrl: options.replicaUrl, ...common });
  }

  /** One pool where both addresses are the same. */
  get pools(): Pool[] {
    return this.primary === this.replica ? [this.primary] : [this.primary, this.replica];
  }

  /** Opens the connections. Does not wait for them. */
  open(): void {
    for (const pool of this.pools) pool.fill();
  }

  /**
   * The rows, in the server's order. Rejects with the work's failure when it is broken off, which also happens here
   * where no connection can be had, and with the server's error otherwise.
   */
  run<Row>(pool: Pool, work: Work, statement: Statement<Row>, values: readonly string[]): Promise<Row[]> {
    if (work.failure !== null) return Promise.reject(work.failure);
    return new Promise((resolve, reject) => {
      if (statement.name !== '') this.#telemetry.countStatement(statement.name);
      pool.acquire(new StatementRun(pool, work, statement, values, resolve, reject));
    });
  }

  /** Whether every address answers within the time. */
  async ping(timeoutMs: number): Promise<boolean> {
    const work = new Work(timeoutMs, () => {});
    try {
      await Promise.all(this.pools.map((pool) => this.run(pool, work, ping, [])));
      return true;
    } catch {
      return false;
    } finally {
      work.close();
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.pools.map((pool) => pool.close()));
  }
}
