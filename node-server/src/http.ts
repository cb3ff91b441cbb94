import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { badRequest, internalServerError, RequestError, requestTimeout, serviceUnavailable } from './errors.ts';
import type { Limits } from './limits.ts';
import { describe, type Logger } from './logging.ts';
import { Work } from './store.ts';
import { type Telemetry, Timing } from './telemetry.ts';
import type { Places } from './workers.ts';

// GraphQL over HTTP by the contract, the same for every tier: what a request must look like, in the contract's order of
// checks, and what its answer looks like. Knows neither fastify nor mercurius.

/** A GraphQL request that has the right shape. */
export interface GraphqlRequest {
  readonly query: string;
  readonly operationName: string | null;
  readonly variables: Readonly<Record<string, unknown>>;
  /** Came by GET, so it must not be a mutation. */
  readonly readOnly: boolean;
}

/** The answer of an executed request as JSON, and OK or its first error's code. */
export interface Executed {
  readonly body: string;
  readonly code: string;
}

/** Executes a request. Rejects with a RequestError where the request as a whole is refused. */
export type Execute = (request: GraphqlRequest, work: Work) => Promise<Executed>;

/** What goes back over HTTP; whoever sends it adds Content-Length. */
export interface HttpAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const jsonType = 'application/json; charset=utf-8';
const graphqlType = 'application/graphql-response+json; charset=utf-8';
type MediaType = typeof jsonType | typeof graphqlType;

interface Range {
  readonly type: string;
  readonly quality: number;
}

function parseAccept(accept: string): Range[] {
  return accept.split(',').map((part) => {
    const [type = '', ...parameters] = part.split(';').map((piece) => piece.trim().toLowerCase());
    const weight = parameters.find((parameter) => parameter.startsWith('q='));
    const quality = weight === undefined ? 1 : Number(weight.slice(2));
    return { type, quality: quality >= 0 && quality <= 1 ? quality : 0 };
  });
}

/** The weight that ranges give a type, the most specific range deciding, and the place of that range. */
function weigh(ranges: readonly Range[], type: string): { quality: number; place: number } {
  for (const range of [type, `${type.slice(0, type.indexOf('/'))}/*`, '*/*']) {
    const place = ranges.findIndex((candidate) => candidate.type === range);
    if (place >= 0) return { quality: (ranges[place] as Range).quality, place: range === type ? place : ranges.length };
  }
  return { quality: 0, place: ranges.length };
}

const answersByAccept = new Map<string, MediaType | null>();
const mostAnswersKept = 100;

/**
 * The media type of the answer for an Accept header, null where none of ours will do. By weight, then in the order of
 * the header; application/json where only a wildcard or nothing is given.
 */
export function negotiate(accept: string | undefined): MediaType | null {
  if (accept === undefined || accept === '') return jsonType;
  const known = answersByAccept.get(accept);
  if (known !== undefined) return known;
  const ranges = parseAccept(accept);
  const json = weigh(ranges, 'application/json');
  const graphql = weigh(ranges, 'application/graphql-response+json');
  let answer: MediaType | null = null;
  if (json.quality > 0 || graphql.quality > 0) {
    const graphqlFirst = graphql.quality === json.quality ? graphql.place < json.place : graphql.quality > json.quality;
    answer = graphqlFirst ? graphqlType : jsonType;
  }
  if (answersByAccept.size >= mostAnswersKept) answersByAccept.clear();
  answersByAccept.set(accept, answer);
  return answer;
}

/** Whether a browser asks, which wants GraphiQL rather than JSON. */
export function prefersHtml(accept: string | undefined): boolean {
  if (accept === undefined) return false;
  const ranges = parseAccept(accept);
  const html = weigh(ranges, 'text/html').quality;
  const named = ranges.some((range) => range.type === 'text/html');
  return named && html >= Math.max(0.001, weigh(ranges, 'application/json').quality);
}

function isJsonInUtf8(contentType: string | undefined): boolean {
  // By far the most common forms first.
  if (contentType === 'application/json' || contentType === jsonType) return true;
  const [type, ...parameters] = (contentType ?? '').split(';').map((piece) => piece.trim().toLowerCase());
  if (type !== 'application/json') return false;
  return parameters.every(
    (parameter) => !/^charset\s*=/.test(parameter) || /^charset\s*=\s*"?utf-8"?$/.test(parameter),
  );
}

const openBracket = 0x5b;
const openBrace = 0x7b;
/** JSON nested deeper than this is refused. */
const mostNesting = 128;

function mayNestTooDeep(body: Buffer): boolean {
  let open = 0;
  for (let index = 0; index < body.length; index++) {
    const byte = body[index];
    if ((byte === openBracket || byte === openBrace) && ++open > mostNesting) return true;
  }
  return false;
}

function nestsTooDeep(text: string): boolean {
  let depth = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/gs)) {
    if (token === '[' || token === '{') {
      if (++depth > mostNesting) return true;
    } else if (token === ']' || token === '}') depth--;
  }
  return false;
}

function isWellFormed(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed();
  if (typeof value !== 'object' || value === null) return true;
  return Object.entries(value).every(([name, member]) => name.isWellFormed() && isWellFormed(member));
}

function parseJson(text: string): unknown {
  let value: unknown;
  try {
    // An integer that a number cannot hold comes as a BigInt, so that an id keeps its digits.
    value = /\d{16}/.test(text) ? JSON.parse(text, keepBigIntegers) : JSON.parse(text);
  } catch {
    throw badRequest('Body is not JSON.');
  }
  // Only an escape can bring a lone surrogate into text that was UTF-8.
  if (text.includes('\\u') && !isWellFormed(value)) throw badRequest('Body has a lone surrogate.');
  return value;
}

// The third parameter is younger than TypeScript's declaration of JSON.parse.
const keepBigIntegers = (_: string, value: unknown, context?: { source?: string }): unknown =>
  typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '')
    ? BigInt(context?.source ?? '')
    : value;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const none: Readonly<Record<string, unknown>> = Object.freeze({});

function shape(members: Readonly<Record<string, unknown>>, readOnly: boolean): GraphqlRequest {
  const { query, operationName, variables, extensions } = members;
  if (typeof query !== 'string') throw badRequest('"query" must be a string.');
  if (variables != null && !isObject(variables)) throw badRequest('"variables" must be an object or null.');
  if (extensions != null && !isObject(extensions)) throw badRequest('"extensions" must be an object or null.');
  if (operationName != null && typeof operationName !== 'string') {
    throw badRequest('"operationName" must be a string or null.');
  }
  return { query, operationName: operationName ?? null, variables: variables ?? none, readOnly };
}

/** The request of a POST's body. Throws BAD_REQUEST. */
export function parseBody(body: Buffer): GraphqlRequest {
  if (!isUtf8(body)) throw badRequest('Body is not UTF-8.');
  const text = body.toString('utf8');
  if (mayNestTooDeep(body) && nestsTooDeep(text)) throw badRequest('Body is nested too deep.');
  const value = parseJson(text);
  if (!isObject(value)) throw badRequest('Body must be a JSON object.');
  return shape(value, false);
}

/** The request of a GET's URL. Throws BAD_REQUEST. */
export function parseUrl(url: string): GraphqlRequest {
  const members: Record<string, unknown> = {};
  const start = url.indexOf('?');
  const search = start < 0 ? '' : url.slice(start + 1);
  for (const pair of search.split('&')) {
    const equals = pair.indexOf('=');
    const name = decode(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? '' : decode(pair.slice(equals + 1));
    if (name === 'variables' || name === 'extensions') members[name] = value === '' ? null : parseParameter(value);
    else if (name === 'query') members.query = value;
    else if (name === 'operationName' && value !== '') members.operationName = value;
  }
  return shape(members, true);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    throw badRequest('URL is not percent-encoded UTF-8.');
  }
}

function parseParameter(text: string): unknown {
  if (nestsTooDeep(text)) throw badRequest('Parameter is nested too deep.');
  return parseJson(text);
}

/** How much of a body over the limit is read and dropped, so that the client comes to read the answer. */
const mostDrainedBytes = 16 * 1024 * 1024;

/** Reads a body up to the limit; calls back once, unless the client goes away, which `gone` hears. */
function readBody(
  request: IncomingMessage,
  limit: number,
  done: (body: Buffer | RequestError) => void,
  gone: () => void,
): void {
  let first: Buffer | null = null;
  let more: Buffer[] | null = null;
  let bytes = 0;
  let settled = false;
  const tooLarge = (): void => {
    settled = true;
    first = null;
    more = null;
    done(new RequestError('REQUEST_TOO_LARGE', 413, `Body is larger than ${limit} bytes.`));
  };
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (settled) {
      if (bytes > mostDrainedBytes) request.destroy();
    } else if (bytes > limit) tooLarge();
    else if (first === null) first = chunk;
    else if (more === null) more = [first, chunk];
    else more.push(chunk);
  });
  request.on('end', () => {
    if (settled) return;
    settled = true;
    done(more === null ? (first ?? Buffer.alloc(0)) : Buffer.concat(more));
  });
  request.on('close', () => {
    if (settled) return;
    settled = true;
    gone();
  });
  request.on('error', () => {});
  if (Number(request.headers['content-length']) > limit) tooLarge();
}

/** What is wrong before the body: method, then media types. */
function checkHead({ method, headers }: IncomingMessage, negotiated: MediaType | null): RequestError | null {
  if (method !== 'POST' && method !== 'GET') {
    return new RequestError('BAD_REQUEST', 405, 'Method must be GET or POST.', { headers: { allow: 'GET, POST' } });
  }
  if (negotiated === null) {
    const message = 'Accept must allow application/graphql-response+json or application/json.';
    return new RequestError('BAD_REQUEST', 406, message);
  }
  if (method === 'GET') return null;
  const encoding = headers['content-encoding'];
  if (isJsonInUtf8(headers['content-type']) && (encoding === undefined || /^(identity)?$/i.test(encoding))) return null;
  return new RequestError('BAD_REQUEST', 415, 'Content-Type must be application/json in UTF-8.');
}

export interface GraphqlHandlerOptions {
  readonly limits: Limits;
  readonly requestTimeoutMs: number;
  readonly telemetry: Telemetry;
  readonly logger: Logger;
  /** False until master data is there. */
  readonly ready: () => boolean;
  /** Places for requests in flight. */
  readonly places: Places;
  readonly execute: Execute;
}

/** The places of a process that is alone. */
export class OwnPlaces implements Places {
  #free: number;

  constructor(limit: number) {
    this.#free = limit;
  }

  enter(): boolean {
    if (this.#free === 0) return false;
    this.#free--;
    return true;
  }

  leave(): void {
    this.#free++;
  }
}

/** The endpoint /graphql, whoever owns the socket. */
export class GraphqlHandler {
  readonly #options: GraphqlHandlerOptions;
  #inFlight = 0;
  #closing = false;
  #onIdle: (() => void) | null = null;

  constructor(options: GraphqlHandlerOptions) {
    this.#options = options;
  }

  /** Refuses new requests from now on and resolves when those under way are answered. */
  async close(): Promise<void> {
    this.#closing = true;
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
  }

  /** Answers a request through `reply`, at most once: a client that goes away gets none. */
  handle(request: IncomingMessage, reply: (answer: HttpAnswer) => void): void {
    const { limits, telemetry, ready, places } = this.#options;
    const beganMs = performance.now();
    const timing = request.headers['x-server-timing'] === '1' ? new Timing() : null;
    this.#inFlight++;
    let mediaType: MediaType = jsonType;
    let hasPlace = false;
    const leave = (code: string): void => {
      if (hasPlace) places.leave();
      telemetry.countRequest(code, (performance.now() - beganMs) / 1000);
      if (--this.#inFlight === 0) this.#onIdle?.();
    };
    const answer = (status: number, code: string, body: string, headers: Readonly<Record<string, string>>): void => {
      leave(code);
      const all: Record<string, string> = { ...headers };
      if (timing !== null) all['server-timing'] = timing.header();
      if (this.#closing) all.connection = 'close';
      reply({ status, contentType: mediaType, headers: all, body });
    };
    const refuse = (error: RequestError): void => {
      // A well-formed request is answered with 200 where the client wants plain JSON, as GraphQL over HTTP says.
      const status = error.wellFormed && mediaType === jsonType ? 200 : error.status;
      const body = JSON.stringify({ errors: error.entries });
      timing?.mark('serialize');
      answer(status, error.code, body, error.headers);
    };

    const begin = (entered: boolean): void => {
      hasPlace = entered;
      // It may have waited for a place, and the client not for the answer.
      if (request.destroyed) leave('BAD_REQUEST');
      else if (entered) take();
      else refuse(serviceUnavailable());
    };
    const take = (): void => {
      const negotiated = negotiate(request.headers.accept);
      const error = checkHead(request, negotiated);
      mediaType = negotiated ?? jsonType;
      if (error !== null) {
        refuse(error);
        return;
      }
      if (request.method === 'GET') {
        this.#execute(() => parseUrl(request.url ?? ''), timing, answer, refuse);
        return;
      }
      readBody(
        request,
        limits.bodyBytes,
        (body) => {
          if (body instanceof RequestError) refuse(body);
          else this.#execute(() => parseBody(body), timing, answer, refuse);
        },
        () => leave('BAD_REQUEST'),
      );
    };

    const entered = !this.#closing && ready() && places.enter();
    if (typeof entered === 'boolean') begin(entered);
    else entered.then(begin);
  }

  #execute(
    read: () => GraphqlRequest,
    timing: Timing | null,
    answer: (status: number, code: string, body: string, headers: Readonly<Record<string, string>>) => void,
    refuse: (error: RequestError) => void,
  ): void {
    const { requestTimeoutMs, logger, execute } = this.#options;
    let request: GraphqlRequest;
    try {
      request = read();
    } catch (error) {
      timing?.mark('parse');
      refuse(error instanceof RequestError ? error : internalServerError());
      return;
    }
    // Whichever comes first answers: the work's failure (out of time, no database) or the execution's end.
    let answered = false;
    const work = new Work(
      requestTimeoutMs,
      (error) => {
        if (answered) return;
        answered = true;
        timing?.mark('execute');
        refuse(error);
      },
      timing,
    );
    execute(request, work).then(
      ({ body, code }) => {
        work.close();
        if (answered) return;
        answered = true;
        // The timer had no turn while the event loop was busy with this very request.
        if (work.leftMs() === 0) refuse(requestTimeout(requestTimeoutMs));
        else answer(200, code, body, noHeaders);
      },
      (error: unknown) => {
        work.close();
        if (answered) return;
        answered = true;
        timing?.mark('validate');
        if (!(error instanceof RequestError)) logger.error('request failed', { cause: describe(error) });
        refuse(error instanceof RequestError ? error : internalServerError());
      },
    );
  }
}

const noHeaders: Readonly<Record<string, string>> = Object.freeze({});
