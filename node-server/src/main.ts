import cluster from 'node:cluster';
import { readFileSync } from 'node:fs';
import type { App } from './app.ts';
import type { Config } from './config.ts';
import { checkHealth } from './health.ts';
import { describe, type Logger, newLogger } from './logging.ts';
import type { Workers } from './workers.ts';

const name = 'node';

// graphql-js looks at this once, when it is loaded, and then leaves out a check of every value's origin. So whatever
// loads it is imported after this line.
process.env.NODE_ENV ??= 'production';
const { ConfigError, environmentHelp, readAddress, readConfig } = await import('./config.ts');

/** The version of an installed package, as this program loads it. */
function versionOf(packageName: string): string {
  const file = new URL(`../node_modules/${packageName}/package.json`, import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function version(): string {
  const packages = ['fastify', 'mercurius', 'graphql', 'graphql-jit', 'dataloader', 'pg', 'ioredis', 'prom-client'];
  const libraries = Object.fromEntries(packages.map((packageName) => [packageName, versionOf(packageName)]));
  return JSON.stringify({ name, language: 'node', language_version: process.versions.node, libraries });
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

function configOrExit(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    if (error instanceof ConfigError) fail(error.message);
    throw error;
  }
}

/** The application; of a cluster its primary, or what that forked. */
async function newPart(config: Config, logger: Logger): Promise<App | Workers> {
  if (config.concurrencyModel !== 'cluster') return (await import('./app.ts')).newApp(config, logger);
  const { joinWorkers, startWorkers } = await import('./workers.ts');
  if (cluster.isPrimary) return startWorkers(config, logger);
  return (await import('./app.ts')).newApp(config, logger, joinWorkers);
}

async function serve(): Promise<void> {
  const config = configOrExit();
  const logger = newLogger(config.logLevel, (line) => process.stdout.write(line));
  const app = await newPart(config, logger);
  const announce = (port: number): void => {
    // A cluster listens as one.
    if (cluster.isWorker) return;
    // Whatever the log level, whoever started this needs to know where it listens.
    newLogger('info', (line) => process.stdout.write(line)).info('listening', {
      url: `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${port}/graphql`,
      port,
      pid: process.pid,
      tier: config.tier,
      concurrency_model: config.concurrencyModel,
      workers: config.workers,
    });
  };
  await app.listen(announce).catch((cause: unknown) => {
    process.stderr.write(`cannot listen on ${config.host}:${config.port}: ${describe(cause)}\n`);
    return process.exit(1);
  });
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) return;
    stopping = true;
    logger.info('shutting down', { signal });
    app.close().then(
      () => process.exit(0),
      (cause: unknown) => {
        logger.error('shutdown failed', { cause: describe(cause) });
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

/** Ends with status 0 where the server at HOST and PORT is ready, else with 1: what a container's health check calls. */
async function health(): Promise<never> {
  try {
    const { host, port } = readAddress(process.env);
    await checkHealth(host, port);
  } catch (cause) {
    process.stderr.write(`not healthy: ${describe(cause)}\n`);
    process.exit(1);
  }
  process.exit(0);
}

async function runBench(args: readonly string[]): Promise<void> {
  const { bench, BenchError } = await import('./bench.ts');
  try {
    process.stdout.write(`${JSON.stringify(await bench(args))}\n`);
  } catch (error) {
    if (error instanceof BenchError) fail(error.message);
    throw error;
  }
}

const [argument, ...rest] = process.argv.slice(2);
if (argument === undefined) await serve();
else if (argument === '--version' && rest.length === 0) process.stdout.write(`${version()}\n`);
else if (argument === 'bench') await runBench(rest);
else if (argument === '--health' && rest.length === 0) await health();
else if (argument === '--help' && rest.length === 0) {
  process.stdout.write(
    `Serves the lab's GraphQL API. --version says what it is made of; --health asks the server at HOST and PORT whether
it is ready, with exit status 0 or 1. bench hand-over --bytes N --duration TIME and bench loader --keys N --batch N
measure this program itself and print one line of JSON. Settings come from the environment:\n\n${environmentHelp}`,
  );
} else fail(`unknown argument ${JSON.stringify(argument)}, expected none, --version, --health, --help or bench`);
