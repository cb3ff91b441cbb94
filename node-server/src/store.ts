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

/**
 * Reads the columns of one row, in their order, out of PostgreSQL's message. Most text is ASCII: one string is made of
 * the whole message and columns are cut out of it, which costs a fraction of decoding each column by itself.
 */
export class RowReader {
  #bytes: Buffer = Buffer.alloc(0);
  #text = '';
  #start = 0;
  #position = 0;

  /** Goes to the row whose message, without type and length, is at these bytes. */
  begin(bytes: Buffer, start: number, end: number): void {
    this.#bytes = bytes;
    this.#text = bytes.toString('latin1', start, end);
    this.#start = start;
    // Behind the number of columns.
    this.#position = start + 2;
  }

  nullableText(): string | null {
    const bytes = this.#bytes;
    const from = this.#position + 4;
    const length = this.#length();
    if (length < 0) return null;
    const to = from + length;
    for (let index = from; index < to; index++) {
      if ((bytes[index] as number) >= 0x80) return bytes.toString('utf8', from, to);
    }
    return this.#text.slice(from - this.#start, to - this.#start);
  }

  /** A column that is never null. */
  text(): string {
    const text = this.nullableText();
    if (text === null) throw new Error('unexpected null');
    return text;
  }

  nullableNumber(): number | null {
    const text = this.nullableText();
    return text === null ? null : Number(text);
  }

  /** An int4 that is never null. */
  integer(): number {
    const bytes = this.#bytes;
    let index = this.#position + 4;
    const length = this.#length();
    if (length < 0) throw new Error('unexpected null');
    const end = index + length;
    const negative = bytes[index] === 0x2d;
    if (negative) index++;
    let value = 0;
    for (; index < end; index++) value = value * 10 + (bytes[index] as number) - 0x30;
    return negative ? -value : value;
  }

  boolean(): boolean {
    return this.nullableText() === 't';
  }

  #length(): number {
    const bytes = this.#bytes;
    const at = this.#position;
    const length =
      ((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number);
    this.#position = at + 4 + Math.max(length, 0);
    return length;
  }
}

/** One file of contract/sql/statements: its stem, its text, the columns it must have, and a row made of them. */
export interface Statement<Row> {
  readonly name: string;
  readonly text: string;
  readonly columns: readonly string[];
  readonly decode: (row: RowReader) => Row;
}

const namedColumns = ['id', 'name'];
const itemColumns = [
  ...['id', 'name', 'description', 'price_cents', 'opened_on', 'updated_at'],
  ...['category_id', 'area_id', 'genre_id', 'owner_id', 'editor_id'],
];
const reviewColumns = ['id', 'item_id', 'author_id', 'rating', 'body', 'created_at'];

const decodeNamed =
  (__typename: Named['__typename']) =>
  (row: RowReader): Named => ({ __typename, id: row.text(), name: row.text() });

function decodeItem(row: RowReader): Item {
  return {
    __typename: 'Item',
    id: row.text(),
    name: row.text(),
    description: row.nullableText(),
    priceCents: row.integer(),
    openedOn: row.text(),
    updatedAt: row.text(),
    categoryId: row.nullableText(),
    areaId: row.text(),
    genreId: row.text(),
    ownerId: row.nullableText(),
    editorId: row.nullableText(),
  };
}

function decodeReview(row: RowReader): Review {
  return {
    id: row.text(),
    itemId: row.text(),
    authorId: row.text(),
    rating: row.integer(),
    body: row.text(),
    createdAt: row.text(),
  };
}

function decodeReviewStats(row: RowReader): ReviewStats {
  return { itemId: row.text(), count: row.integer(), average: row.nullableNumber() };
}

function decodeAddedReview(row: RowReader): AddedReview {
  const itemFound = row.boolean();
  const authorFound = row.boolean();
  return { itemFound, authorFound, review: itemFound && authorFound ? decodeReview(row) : null };
}

const foundNames = ['Area', 'Genre', 'Category'] as const;

function decodeFound(row: RowReader): Named | Item {
  const __typename = foundNames[row.integer() - 1];
  return __typename === undefined ? decodeItem(row) : { __typename, id: row.text(), name: row.text() };
}

/** Bytes of a row of master data in bulk, whose text has a byte for each character. */
export const textBytes = 1024;

function decodeVector(row: RowReader): ItemVector {
  const itemId = row.text();
  const areaId = row.text();
  // bytea comes as \x and two hexadecimal digits a byte.
  const bytes = Buffer.from(row.text().slice(2), 'hex');
  return { itemId, areaId, features: Int8Array.from(bytes, (byte) => (byte << 24) >> 24) };
}

/** Reads every statement of the contract. Throws where a file is missing, or one is there that nothing here runs. */
export function readStatements(contractDir: string) {
  const folder = path.join(contractDir, 'sql', 'statements');
  const unread = new Set(
    readdirSync(folder)
      .filter((file) => file.endsWith('.sql'))
      .map((file) => file.slice(0, -'.sql'.length)),
  );
  const read = <Row>(name: string, columns: readonly string[], decode: (row: RowReader) => Row): Statement<Row> => {
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
    reviewStatsByItemIds: read('review_stats_by_item_ids', ['item_id', 'review_count', 'average'], decodeReviewStats),
    search: read('search', ['kind', ...itemColumns], decodeFound),
    holidays: read('holidays', ['day'], (row) => row.text()),
    itemVectors: read('item_vectors', ['item_id', 'area_id', 'features'], decodeVector),
    masterTexts: read('master_texts', ['body'], (row) => row.text()),
    addReview: read('add_review', ['item_found', 'author_found', ...reviewColumns], decodeAddedReview),
    renameArea: read('rename_area', namedColumns, decodeNamed('Area')),
  };
  if (unread.size > 0) throw new Error(`statements that nothing runs: ${[...unread].join(', ')}`);
  return statements;
}

export type Statements = ReturnType<typeof readStatements>;

/** Health of a connection; the only text beside the contract's files and LISTEN. */
const ping: Statement<string> = { name: '', text: 'select 1 as one', columns: ['one'], decode: (row) => row.text() };

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
  receiver: RowReceiver | null;
  attachListeners(stream: Messages): void;
  parse(message: { name: string; text: string; types: never[] }): void;
  describe(message: { type: 'S'; name: string }): void;
}
interface Messages {
  on(event: string, listener: (bytes: Buffer) => void): unknown;
}
interface RowReceiver {
  handleRow(bytes: Buffer, start: number, end: number): void;
}
interface RawClient {
  readonly host: string;
  readonly port: number;
  readonly processID: number;
  readonly secretKey: number;
  readonly connection: Wire;
}

const headerBytes = 5;
const dataRow = 0x44;

/**
 * Lets rows go to whoever asked for them as bytes, so that neither an event nor an array of strings is made for each.
 * All other messages take pg's own way. To be called before the client connects.
 */
function receiveRows(client: pg.Client): void {
  const { connection } = client as unknown as RawClient;
  connection.receiver = null;
  const attachListeners = connection.attachListeners.bind(connection);
  // pg calls this with the socket once it is open.
  connection.attachListeners = (stream) => {
    let forward: (bytes: Buffer) => void = () => {};
    attachListeners({
      on(event, listener) {
        if (event === 'data') forward = listener;
        else stream.on(event, listener);
      },
    });
    let rest: Buffer | null = null;
    stream.on('data', (chunk: Buffer) => {
      const bytes = rest === null ? chunk : Buffer.concat([rest, chunk]);
      let position = 0;
      // What lies between here and the position is for pg.
      let forPg = 0;
      while (position + headerBytes <= bytes.length) {
        const end = position + 1 + bytes.readInt32BE(position + 1);
        if (end > bytes.length) break;
        if (bytes[position] === dataRow && connection.receiver !== null) {
          if (forPg < position) forward(bytes.subarray(forPg, position));
          connection.receiver.handleRow(bytes, position + headerBytes, end);
          forPg = end;
        }
        position = end;
      }
      if (forPg < position) forward(bytes.subarray(forPg, position));
      rest = position < bytes.length ? bytes.subarray(position) : null;
    });
  };
}

/** The protocol's Bind, Execute and Sync in one piece: all parameters and results are text. */
function bindAndExecute(statement: string, values: readonly string[]): Buffer {
  let bytes = 1 + 4 + 1 + Buffer.byteLength(statement) + 1 + 2 + 2 + 2;
  for (const value of values) bytes += 4 + Buffer.byteLength(value);
  const message = Buffer.allocUnsafe(bytes + executeAndSync.length);
  message[0] = 0x42;
  message.writeInt32BE(bytes - 1, 1);
  message[5] = 0;
  let position = 6 + message.write(statement, 6);
  message[position++] = 0;
  position = message.writeInt16BE(0, position);
  position = message.writeInt16BE(values.length, position);
  for (const value of values) {
    const written = message.write(value, position + 4);
    message.writeInt32BE(written, position);
    position += 4 + written;
  }
  position = message.writeInt16BE(0, position);
  executeAndSync.copy(message, position);
  return message;
}

const executeAndSync = Buffer.from([0x45, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0x53, 0, 0, 0, 4]);

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

// Decoding a row is one step that nothing interrupts, so one reader serves all.
const reader = new RowReader();

/**
 * One statement on its way: waits for a connection, is pg's query object while it runs, gives the connection back. It
 * asks for no description after the first time on a connection, and hands each row to the statement's own decoder.
 */
class StatementRun<Row> implements Abortable, RowReceiver {
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
    wire.receiver = this;
    if (this.#connection?.prepared.has(name) === true) {
      wire.stream.write(bindAndExecute(name, this.#values));
      return;
    }
    wire.stream.cork();
    wire.parse({ name, text, types: [] });
    wire.describe({ type: 'S', name });
    wire.stream.write(bindAndExecute(name, this.#values));
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

  handleRow(bytes: Buffer, start: number, end: number): void {
    if (this.#failure !== null || this.#settled) return;
    try {
      reader.begin(bytes, start, end);
      this.#rows.push(this.#statement.decode(reader));
    } catch (error) {
      this.#failure = error;
    }
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
    // A peer that is gone without a word must be noticed.
    keepAliveInitialDelayMillis: 10_000,
  });
}

/**
 * A fixed number of connections to one address, opened at start, replaced when they die, handed out first come first
 * served. A statement waits while a connection is open or being opened, and has one opened where none is; when that fails,
 * it is refused.
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
    } else if (this.#closed && this.#open.size === 0) {
      run.refused();
    } else {
      this.#waiting.set(run, performance.now());
      // One is tried for at once, whatever is left of the pause between two tries: who waits is refused when that fails.
      if (this.#open.size === 0 && this.#connecting === 0) this.#connect();
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
    receiveRows(client);
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
        if (this.#retry !== null) {
          clearTimeout(this.#retry);
          this.#retry = null;
          this.fill();
        }
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
