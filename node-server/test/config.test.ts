import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { suite, test } from 'node:test';
import { promisify } from 'node:util';
import { ConfigError, readConfig } from '../src/config.ts';
import { contractDir } from './support.ts';

const main = path.resolve(import.meta.dirname, '../src/main.ts');
const required = { CONTRACT_DIR: contractDir, DATABASE_URL: 'postgres://someone@127.0.0.1:1/none' };

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

async function run(environment: Record<string, string>, ...args: string[]): Promise<Ended> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [main, ...args], { env: environment });
    return { code: 0, stdout, stderr };
  } catch (error) {
    return error as Ended;
  }
}

suite('config', () => {
  const bad: [name: string, value: string][] = [
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '80x'],
    ['DATABASE_URL', 'mysql://localhost/lab'],
    ['DATABASE_REPLICA_URL', 'nonsense'],
    ['POOL_SIZE', '0'],
    ['POOL_SIZE', '1.5'],
    ['UPSTREAM_URL', 'ftp://localhost'],
    ['TIER', 'fast'],
    ['LOADER', 'yes'],
    ['REDIS_URL', 'http://127.0.0.1'],
    ['MASTER', 'disk'],
    ['MASTER_MB', '-1'],
    ['MASTER_MB', '1025'],
    ['START', 'later'],
    ['WORKERS', '2'],
    ['WORKERS', 'many'],
    ['CONCURRENCY_MODEL', 'threads'],
    ['REQUEST_TIMEOUT', '5'],
    ['REQUEST_TIMEOUT', '0s'],
    ['REQUEST_TIMEOUT', '-1s'],
    ['REQUEST_TIMEOUT', '999999h'],
    ['GRAPHIQL', 'true'],
    ['PROFILER', 'yes'],
    ['LOG_LEVEL', 'trace'],
    ['CONTRACT_DIR', '/does/not/exist'],
  ];
  for (const [name, value] of bad) {
    test(`${name}=${value} is refused by name`, () => {
      assert.throws(
        () => readConfig({ ...required, [name]: value }),
        (error) => {
          assert.ok(error instanceof ConfigError);
          assert.match(error.message, new RegExp(`^${name}: .*expected `));
          return true;
        },
      );
    });
  }

  test('bad config fails', async () => {
    const { code, stdout, stderr } = await run({ ...required, TIER: 'fast' });
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.equal(stderr, 'TIER: "fast", expected floor or mainstream or compiled\n');
  });

  test('a password is not repeated', () => {
    assert.throws(
      () => readConfig({ ...required, DATABASE_URL: 'http://me:secret@host' }),
      (error) => error instanceof ConfigError && !error.message.includes('secret'),
    );
  });

  test('what WORKERS means is the concurrency model', () => {
    const read = (environment: Record<string, string>) => readConfig({ ...required, ...environment });
    assert.equal(read({}).workers, 1);
    assert.equal(read({ WORKERS: '1' }).workers, 1);
    for (const model of ['cluster', 'workers', 'workers-message']) {
      assert.equal(read({ CONCURRENCY_MODEL: model }).workers, availableParallelism());
      assert.equal(read({ CONCURRENCY_MODEL: model, WORKERS: '3' }).workers, 3);
      assert.throws(() => read({ CONCURRENCY_MODEL: model, WORKERS: '0' }), /WORKERS: "0", expected/);
    }
    assert.equal(read({ CONCURRENCY_MODEL: 'cluster', WORKERS: '3', POOL_SIZE: '3' }).poolSize, 3);
    assert.throws(
      () => read({ CONCURRENCY_MODEL: 'cluster', WORKERS: '3', POOL_SIZE: '2' }),
      /POOL_SIZE: "2", expected at least 3/,
    );
  });

  test('durations', () => {
    for (const [text, ms] of [
      ['5s', 5000],
      ['300ms', 300],
      ['1m', 60_000],
      ['1m30s', 90_000],
      ['1.5s', 1500],
    ] as const) {
      assert.equal(readConfig({ ...required, REQUEST_TIMEOUT: text }).requestTimeoutMs, ms);
    }
  });

  test('an empty value counts as unset', () => {
    const config = readConfig({ ...required, TIER: '', DATABASE_REPLICA_URL: '' });
    assert.equal(config.tier, 'mainstream');
    assert.equal(config.replicaUrl, config.databaseUrl);
    assert.equal(config.requestTimeoutMs, 5000);
  });

  test('arguments', async () => {
    const version = await run({}, '--version');
    assert.equal(version.code, 0);
    const told = JSON.parse(version.stdout) as { name: string; language_version: string };
    assert.equal(told.name, 'node');
    assert.equal(told.language_version, process.versions.node);
    const help = await run({}, '--help');
    assert.equal(help.code, 0);
    assert.match(help.stdout, /DATABASE_REPLICA_URL/);
    assert.equal((await run({}, '--verbose')).code, 2);
  });
});

suite('master data in Redis', () => {
  test('needs an address', () => {
    assert.throws(() => readConfig({ ...required, MASTER: 'redis' }), /REDIS_URL: not set, expected an address/);
  });
  test('is not of the floor', () => {
    const environment = { ...required, MASTER: 'redis', REDIS_URL: 'redis://127.0.0.1:6379', TIER: 'floor' };
    assert.throws(() => readConfig(environment), /MASTER: "redis", expected memory or none, since TIER is floor/);
    assert.equal(readConfig({ ...environment, TIER: 'mainstream' }).master, 'redis');
  });
});
