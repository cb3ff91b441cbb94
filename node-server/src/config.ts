import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { type Limits, parseLimits } from './limits.ts';
import { type LogLevel, logLevels } from './logging.ts';

/** A setting that stops the start: its message names the variable, the value and what was expected. */
export class ConfigError extends Error {}

/**
 * Who does the work: one process with one event loop; a cluster of such processes; one process whose CPU work is done by
 * a pool of worker threads, which share the data's memory or have been sent a copy of it.
 */
export const concurrencyModels = ['process', 'cluster', 'workers', 'workers-message'] as const;
export type ConcurrencyModel = (typeof concurrencyModels)[number];

/** Everything the environment decides. */
export interface Config {
  host: string;
  /** 0 takes any free port. */
  port: number;
  contractDir: string;
  databaseUrl: string;
  replicaUrl: string;
  /** Connections per address, of all processes together. */
  poolSize: number;
  upstreamUrl: string | null;
  tier: 'floor' | 'mainstream' | 'compiled';
  loader: 'on' | 'off';
  master: 'memory' | 'redis' | 'none';
  /** Master data in bulk that is kept in memory, MiB. */
  masterMb: number;
  /** Holds a password. */
  redisUrl: string | null;
  start: 'concurrent' | 'sequential';
  concurrencyModel: ConcurrencyModel;
  /** Processes of a cluster, threads of a pool for CPU work, or 1. */
  workers: number;
  requestTimeoutMs: number;
  graphiql: 'on' | 'off';
  profiler: 'on' | 'off';
  logLevel: LogLevel;
  limits: Limits;
}

const defaultHost = '127.0.0.1';
const defaultPort = 8080;
const mostMasterMb = 1024;

/** The variables with their defaults, as `--help` prints them. */
export const environmentHelp = `HOST                  address to listen on (127.0.0.1)
PORT                  port to listen on, 0 for any free one (8080)
CONTRACT_DIR          folder with schema.graphql, limits.json, sql/ and operations/ (../contract)
DATABASE_URL          postgres URL of the primary (required)
DATABASE_REPLICA_URL  postgres URL that queries read from (DATABASE_URL)
POOL_SIZE             connections per address, shared out among the processes of a cluster (16)
UPSTREAM_URL          base URL of the price service (none: quote answers UPSTREAM_FAILED)
REDIS_URL             redis URL of the cache of master data (none)
TIER                  floor | mainstream | compiled (mainstream)
LOADER                on | off (on)
MASTER                memory | redis | none (memory); redis needs REDIS_URL and no TIER=floor
MASTER_MB             MiB of master data in bulk to keep in memory, 0 to 1024 (0)
START                 concurrent | sequential (concurrent)
CONCURRENCY_MODEL     process | cluster | workers | workers-message (process)
WORKERS               cluster: processes; workers, workers-message: threads (cores allowed to the process); process: 1
REQUEST_TIMEOUT       duration such as 5s, 300ms, 1m (requestTimeout of limits.json)
GRAPHIQL              on | off (off)
PROFILER              on | off (off): GET /profile?seconds=N
LOG_LEVEL             debug | info | warn | error (info)
`;

/** Reads the whole environment. An empty value counts as unset. Throws ConfigError. */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const get = (name: string): string | undefined => environment[name] || undefined;
  const contractDir = path.resolve(get('CONTRACT_DIR') ?? '../contract');
  const limits = readLimits(contractDir);
  const databaseUrl = readDatabaseUrl('DATABASE_URL', get('DATABASE_URL'));
  const replica = get('DATABASE_REPLICA_URL');
  const redisUrl = readRedisUrl(get('REDIS_URL'));
  if (get('MASTER') === 'redis') {
    if (redisUrl === null) throw expected('REDIS_URL', undefined, 'an address, since MASTER is redis');
    if (get('TIER') === 'floor') throw expected('MASTER', 'redis', 'memory or none, since TIER is floor');
  }
  const concurrencyModel = readChoice('CONCURRENCY_MODEL', get('CONCURRENCY_MODEL'), concurrencyModels, 'process');
  const workers = readWorkers(get('WORKERS'), concurrencyModel);
  const poolSize = readInteger('POOL_SIZE', get('POOL_SIZE'), 16, 1, 1024);
  if (concurrencyModel === 'cluster' && poolSize < workers) {
    throw expected('POOL_SIZE', String(poolSize), `at least ${workers}, a connection for each of the WORKERS`);
  }
  return {
    host: get('HOST') ?? defaultHost,
    port: readInteger('PORT', get('PORT'), defaultPort, 0, 65_535),
    contractDir,
    databaseUrl,
    replicaUrl: replica === undefined ? databaseUrl : readDatabaseUrl('DATABASE_REPLICA_URL', replica),
    poolSize,
    upstreamUrl: readUpstreamUrl(get('UPSTREAM_URL')),
    tier: readChoice('TIER', get('TIER'), ['floor', 'mainstream', 'compiled'], 'mainstream'),
    loader: readChoice('LOADER', get('LOADER'), ['on', 'off'], 'on'),
    master: readChoice('MASTER', get('MASTER'), ['memory', 'redis', 'none'], 'memory'),
    masterMb: readInteger('MASTER_MB', get('MASTER_MB'), 0, 0, mostMasterMb),
    redisUrl,
    start: readChoice('START', get('START'), ['concurrent', 'sequential'], 'concurrent'),
    concurrencyModel,
    workers,
    requestTimeoutMs: readDuration('REQUEST_TIMEOUT', get('REQUEST_TIMEOUT') ?? limits.requestTimeout),
    graphiql: readChoice('GRAPHIQL', get('GRAPHIQL'), ['on', 'off'], 'off'),
    profiler: readChoice('PROFILER', get('PROFILER'), ['on', 'off'], 'off'),
    logLevel: readChoice('LOG_LEVEL', get('LOG_LEVEL'), logLevels, 'info'),
    limits,
  };
}

/** Where a server with this environment listens. Throws ConfigError. */
export function readAddress(environment: Readonly<Record<string, string | undefined>>): { host: string; port: number } {
  const port = readInteger('PORT', environment.PORT || undefined, defaultPort, 1, 65_535);
  return { host: environment.HOST || defaultHost, port };
}

function expected(name: string, value: string | undefined, what: string): ConfigError {
  return new ConfigError(`${name}: ${value === undefined ? 'not set' : JSON.stringify(value)}, expected ${what}`);
}

function readRedisUrl(value: string | undefined): string | null {
  if (value === undefined) return null;
  // A password may stand in it: the value is not repeated.
  const url = URL.canParse(value) ? new URL(value) : null;
  if (url?.protocol !== 'redis:' || url.host === '' || !/^\/?\d*$/.test(url.pathname)) {
    throw expected('REDIS_URL', '(not shown)', 'a redis URL such as redis://127.0.0.1:6379');
  }
  return value;
}

function readLimits(contractDir: string): Limits {
  const file = path.join(contractDir, 'limits.json');
  try {
    return parseLimits(readFileSync(file, 'utf8'));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw expected('CONTRACT_DIR', contractDir, `a folder with the contract's files (${why})`);
  }
}

function readChoice<const T extends string>(
  name: string,
  value: string | undefined,
  choices: readonly T[],
  fallback: T,
): T {
  if (value === undefined) return fallback;
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw expected(name, value, choices.join(' or '));
  return found;
}

function readInteger(name: string, value: string | undefined, fallback: number, least: number, most: number): number {
  if (value === undefined) return fallback;
  const number = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= least && number <= most)) throw expected(name, value, `an integer from ${least} to ${most}`);
  return number;
}

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
// A timer of Node holds 32 bits.
const longestMs = 2 ** 31 - 1;

function readDuration(name: string, value: string): number {
  let totalMs = 0;
  const whole = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/.test(value);
  for (const [, amount, unit] of value.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    totalMs += Number(amount) * (unitsMs[unit ?? ''] ?? Number.NaN);
  }
  totalMs = Math.round(totalMs);
  if (!whole || !(totalMs >= 1 && totalMs <= longestMs)) {
    throw expected(name, value, 'a duration of 1ms or more, such as 5s, 300ms or 1m');
  }
  return totalMs;
}

function readDatabaseUrl(name: string, value: string | undefined): string {
  const what = 'a URL such as postgres://user@host:5432/database';
  if (value === undefined) throw expected(name, value, what);
  const url = URL.canParse(value) ? new URL(value) : null;
  // The value may hold a password, so the message does not repeat it.
  if (url === null || !['postgres:', 'postgresql:'].includes(url.protocol)) {
    throw new ConfigError(`${name}: the value given (not shown, it may hold a password), expected ${what}`);
  }
  return value;
}

function readUpstreamUrl(value: string | undefined): string | null {
  if (value === undefined) return null;
  const url = URL.canParse(value) ? new URL(value) : null;
  if (url?.protocol !== 'http:') throw expected('UPSTREAM_URL', value, 'an http URL');
  return value.replace(/\/+$/, '');
}

function readWorkers(value: string | undefined, model: ConcurrencyModel): number {
  if (model !== 'process') return readInteger('WORKERS', value, availableParallelism(), 1, 1024);
  if (value !== undefined && value !== '1') {
    throw expected('WORKERS', value, '1: CONCURRENCY_MODEL=process has one event loop, the other models have more');
  }
  return 1;
}
