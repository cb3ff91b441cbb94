import { existsSync, readdirSync, readFileSync } from 'node:fs';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { mercurius } from 'mercurius';
import type { Config } from './config.ts';
import { newFloor } from './floor.ts';
import { answerOf, type HealthAnswer, livez, Readiness } from './health.ts';
import { GraphqlHandler, type HttpAnswer, OwnPlaces, prefersHtml } from './http.ts';
import type { Logger } from './logging.ts';
import { Cache } from './cache.ts';
import { Master } from './master.ts';
import { profile } from './profile.ts';
import { loopRanking, type Ranking, ThreadRanking } from './ranking.ts';
import { type RequestContext, resolvers, type Services } from './resolvers.ts';
import { DocumentCache, type Graphql, newExecute, newSchema } from './schema.ts';
import { Store } from './store.ts';
import { type MetricsAnswer, sumMetrics, Telemetry } from './telemetry.ts';
import { newUpstream } from './upstream.ts';
import type { Link, Member } from './workers.ts';

declare module 'mercurius' {
  interface MercuriusContext extends RequestContext {}
}

/** An application that is built and, after `listen`, answers. */
export interface App {
  /**
   * Listens, says so, opens the pools and begins to load master data; gives the port. Does not wait for the database.
   */
  listen(announce?: (port: number) => void): Promise<number>;
  /** Stops accepting, finishes what is under way within the request timeout and a second, then closes everything. */
  close(): Promise<void>;
}

const headerTimeoutMs = 10_000;
const bodyTimeoutMs = 10_000;
const keepAliveTimeoutMs = 80_000;
const shutdownGraceMs = 1000;

const serverOptions: http.ServerOptions = {
  headersTimeout: headerTimeoutMs,
  requestTimeout: headerTimeoutMs + bodyTimeoutMs,
  keepAliveTimeout: keepAliveTimeoutMs,
  connectionsCheckingInterval: 1000,
  maxHeaderSize: 16 * 1024,
  noDelay: true,
};

/** The pages for whoever looks after the server: of this process, or of all of a cluster. */
interface Pages {
  readyz(): Promise<HealthAnswer>;
  metrics(): Promise<MetricsAnswer>;
  /** Of this process only; takes the URL it was asked by, and never rejects. */
  profile(url: string | undefined): Promise<HttpAnswer>;
}

/**
 * Builds the application: store, master data, schema and HTTP endpoints. Opens nothing. A process of a cluster joins the
 * others.
 */
export async function newApp(
  config: Config,
  logger: Logger,
  join: ((member: Member) => Link) | null = null,
): Promise<App> {
  const telemetry = new Telemetry();
  const store = new Store({ ...config, telemetry, logger });
  const cache =
    config.master === 'redis' && config.redisUrl !== null
      ? new Cache({
          redisUrl: config.redisUrl,
          databaseUrl: config.databaseUrl,
          logger,
          count: (table, result) => telemetry.countLookup(table, result),
        })
      : null;
  const master = new Master({
    cache,
    store,
    databaseUrl: config.databaseUrl,
    keep: config.master,
    keepMb: config.masterMb,
    start: config.start,
    shareVectors: config.concurrencyModel === 'workers',
    logger,
  });
  const hasThreads = config.concurrencyModel === 'workers' || config.concurrencyModel === 'workers-message';
  const ranking: Ranking = hasThreads ? new ThreadRanking(config.workers, logger) : loopRanking;
  const upstream = newUpstream(config.upstreamUrl);
  const readiness = new Readiness(store, master);
  const link = join === null ? null : join({ readyz: () => readiness.readyz(), metrics: () => telemetry.values() });
  const pages: Pages = {
    readyz: () => (link ?? readiness).readyz(),
    metrics: async () => (link === null ? telemetry.metrics() : sumMetrics(await link.metrics())),
    profile: (url) => profile(config.profiler, url, logger),
  };
  const common = {
    limits: config.limits,
    requestTimeoutMs: config.requestTimeoutMs,
    telemetry,
    logger,
    ready: () => master.loaded,
    places: link?.places ?? new OwnPlaces(config.limits.requestsInFlight),
  };
  const masterInMemory = config.master === 'memory';

  let server: Server;
  let handler: GraphqlHandler;
  if (config.tier === 'floor') {
    telemetry.watch(store.pools, master, null, () => ranking.threads());
    const execute = newFloor(config.contractDir, { store, master, masterInMemory });
    handler = new GraphqlHandler({ ...common, execute });
    server = floorServer(handler, pages);
  } else {
    const services: Services = {
      store,
      master,
      masterInMemory,
      masterInRedis: cache !== null,
      batching: config.loader,
      quote: upstream.quote,
      ranking,
      limits: config.limits,
      telemetry,
    };
    const schema = newSchema(config.contractDir);
    const documents = new DocumentCache(schema, config.limits);
    telemetry.watch(store.pools, master, documents, () => ranking.threads());
    const compiled = config.tier === 'compiled';
    const fastify = newFastify();
    await fastify.register(mercurius, {
      schema,
      resolvers,
      routes: false,
      // Its cache has two generations of this size.
      cache: Math.ceil(config.limits.cachedDocuments / 2),
      jit: compiled ? 1 : 0,
      errorFormatter: (execution) => ({ statusCode: 200, response: execution }),
    });
    fastify.graphql.addHook('preExecution', async (_schema, _document, { beforeExecution }) => {
      const variables = beforeExecution?.();
      return variables === undefined ? undefined : { variables };
    });
    const execute = newExecute({
      graphql: fastify.graphql as unknown as Graphql,
      schema,
      documents,
      services,
      compiled,
      logger,
    });
    handler = new GraphqlHandler({ ...common, execute });
    addRoutes(fastify, config, handler, pages);
    server = {
      raw: fastify.server,
      listen: async () => {
        await fastify.listen({ host: config.host, port: config.port });
      },
      close: () => fastify.close(),
    };
    await fastify.ready();
  }

  return {
    async listen(announce = () => {}) {
      await server.listen(config);
      const { port } = server.raw.address() as AddressInfo;
      await link?.listening(port);
      announce(port);
      ranking.open();
      store.open();
      master.start();
      return port;
    },
    async close() {
      readiness.close();
      const idle = handler.close();
      const graceMs = config.requestTimeoutMs + shutdownGraceMs;
      const timer = setTimeout(() => server.raw.closeAllConnections(), graceMs);
      // Idle connections are closed with the server: a new one that has asked nothing yet counts as idle to node:http.
      if (link !== null) {
        // node:cluster forgets a connection that it was handing to a worker that stops listening. So all of them go on
        // listening, and refuse what comes, until all have answered what is under way.
        const patience = new AbortController();
        const enough = sleep(graceMs, undefined, { signal: patience.signal }).catch(() => {});
        await Promise.race([idle.then(() => link.drained()), enough]);
        patience.abort();
      }
      const closed = server.close();
      server.raw.closeIdleConnections();
      await Promise.race([idle, closed]);
      // Answers have been handed over; what is left are clients that never finish their request.
      setImmediate(() => server.raw.closeIdleConnections());
      await closed;
      clearTimeout(timer);
      await ranking.close();
      await master.close();
      await store.close();
      upstream.close();
    },
  };
}

interface Server {
  readonly raw: http.Server;
  listen(address: { host: string; port: number }): Promise<void>;
  close(): Promise<void>;
}

function newFastify(): FastifyInstance {
  const fastify = Fastify({
    http: serverOptions,
    // fastify sets these on the server itself.
    requestTimeout: headerTimeoutMs + bodyTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    clientErrorHandler: refuseGarbage,
  });
  // The handler reads bodies itself, as the contract wants them read.
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('*', (_request, _payload, done) => done(null));
  return fastify;
}

const badRequestBody = (message: string): string =>
  JSON.stringify({ errors: [{ message, extensions: { code: 'BAD_REQUEST' } }] });
const notFound = badRequestBody('Not found.');
const onlyGet = badRequestBody('Only GET is taken here.');
/** Not every process of a cluster could be asked. */
const noAnswer = answerOf(503, 'a worker does not answer');
/** Where other methods than GET and HEAD have no business. */
const pagesToLookAt: ReadonlySet<string> = new Set(['/livez', '/readyz', '/metrics', '/profile']);
const jsonType = 'application/json; charset=utf-8';

/** What cannot be read as HTTP: answered as far as there is a code for it, and hung up on. */
function refuseGarbage(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  if (socket.writable) {
    const status =
      error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? '408 Request Timeout'
        : error.code === 'HPE_HEADER_OVERFLOW'
          ? '431 Request Header Fields Too Large'
          : '400 Bad Request';
    const body = badRequestBody(status.slice(4));
    const head = `content-type: ${jsonType}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close`;
    socket.write(`HTTP/1.1 ${status}\r\n${head}\r\n\r\n${body}`);
  }
  socket.destroySoon();
}

function addRoutes(fastify: FastifyInstance, config: Config, handler: GraphqlHandler, pages: Pages): void {
  const files = config.graphiql === 'on' ? readGraphiql(config.contractDir) : new Map<string, GraphiqlFile>();
  const graphiql = files.get('index.html');
  const send = (reply: FastifyReply, answer: HttpAnswer): void => {
    reply.code(answer.status).headers(answer.headers).type(answer.contentType).send(answer.body);
  };
  const answer = (request: { raw: IncomingMessage }, reply: FastifyReply): void => {
    handler.handle(request.raw, (answered) => send(reply, answered));
  };
  fastify.post('/graphql', answer);
  fastify.get('/graphql', (request, reply) => {
    if (config.graphiql === 'on' && prefersHtml(request.headers.accept)) {
      if (graphiql === undefined) reply.code(404).type(jsonType).send(notFound);
      else reply.type(graphiql.contentType).send(graphiql.content);
    } else {
      answer(request, reply);
    }
  });
  fastify.get('/graphiql/*', (request, reply) => {
    const file = files.get((request.params as { '*': string })['*']);
    if (file === undefined) reply.code(404).type(jsonType).send(notFound);
    else reply.type(file.contentType).send(file.content);
  });
  const tell = (reply: FastifyReply, { status, body }: HealthAnswer): void => {
    reply.code(status).type(jsonType).send(body);
  };
  const withHead = { exposeHeadRoute: true };
  fastify.get('/livez', withHead, (_request, reply) => tell(reply, livez()));
  fastify.get('/readyz', withHead, (_request, reply) => {
    pages.readyz().then(
      (answered) => tell(reply, answered),
      () => tell(reply, noAnswer),
    );
  });
  fastify.get('/metrics', withHead, (_request, reply) => {
    pages.metrics().then(
      ({ contentType, body }) => reply.type(contentType).send(body),
      () => tell(reply, noAnswer),
    );
  });
  fastify.get('/profile', withHead, (request, reply) => {
    void pages.profile(request.raw.url).then((answered) => send(reply, answered));
  });
  // Other methods than GET and POST come here, whichever fastify knows.
  fastify.setNotFoundHandler((request, reply) => {
    const pathname = pathOf(request.raw);
    if (pathname === '/graphql') answer(request, reply);
    else if (pagesToLookAt.has(pathname)) reply.code(405).header('allow', 'GET, HEAD').type(jsonType).send(onlyGet);
    else reply.code(404).type(jsonType).send(notFound);
  });
  // A Content-Type that fastify itself cannot read.
  fastify.setErrorHandler((_error, request, reply) => {
    answer(request, reply);
  });
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0] ?? '';
}

interface GraphiqlFile {
  contentType: string;
  content: Buffer;
}

const contentTypes: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
};

/** The files of contract/graphiql, by name; they are few, and what is not in the map cannot be asked for. */
function readGraphiql(contractDir: string): Map<string, GraphiqlFile> {
  const folder = path.join(contractDir, 'graphiql');
  const files = new Map<string, GraphiqlFile>();
  if (!existsSync(folder)) return files;
  for (const name of readdirSync(folder)) {
    const contentType = contentTypes[path.extname(name)];
    if (contentType !== undefined) files.set(name, { contentType, content: readFileSync(path.join(folder, name)) });
  }
  return files;
}

/** The floor's server: node:http and nothing else. */
function floorServer(handler: GraphqlHandler, pages: Pages): Server {
  const send = (response: ServerResponse, status: number, type: string, body: string, more = {}): void => {
    response.writeHead(status, { ...more, 'content-type': type, 'content-length': Buffer.byteLength(body) });
    response.end(body);
  };
  const tell = (response: ServerResponse, { status, body }: HealthAnswer): void => {
    send(response, status, jsonType, body);
  };
  const raw = http.createServer(serverOptions, (request, response) => {
    const pathname = pathOf(request);
    if (pathname === '/graphql') {
      handler.handle(request, ({ status, contentType, headers, body }) =>
        send(response, status, contentType, body, headers),
      );
    } else if (!pagesToLookAt.has(pathname)) {
      send(response, 404, jsonType, notFound);
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      send(response, 405, jsonType, onlyGet, { allow: 'GET, HEAD' });
    } else if (pathname === '/livez') {
      tell(response, livez());
    } else if (pathname === '/readyz') {
      pages.readyz().then(
        (answered) => tell(response, answered),
        () => tell(response, noAnswer),
      );
    } else if (pathname === '/profile') {
      void pages
        .profile(request.url)
        .then(({ status, contentType, body }) => send(response, status, contentType, body));
    } else {
      pages.metrics().then(
        ({ contentType, body }) => send(response, 200, contentType, body),
        () => tell(response, noAnswer),
      );
    }
  });
  raw.on('clientError', refuseGarbage);
  return {
    raw,
    listen: ({ host, port }) =>
      new Promise((resolve, reject) => {
        raw.once('error', reject);
        raw.listen(port, host, resolve);
      }),
    close: () => new Promise((resolve) => raw.close(() => resolve())),
  };
}
