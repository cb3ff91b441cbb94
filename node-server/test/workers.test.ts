import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, suite, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import pg from 'pg';
import { BorrowedPlaces, PlaceLedger, shareOf } from '../src/workers.ts';
import { contractDir, counts, databaseUrl, type RunningApp, sql, startApp, until } from './support.ts';

suite('shares', () => {
  for (const [total, parts, shares] of [
    [16, 1, [16]],
    [16, 3, [6, 5, 5]],
    [3, 3, [1, 1, 1]],
  ] as const) {
    test(`${total} in ${parts}`, () => {
      assert.deepEqual(
        shares.map((_, index) => shareOf(total, parts, index)),
        shares,
      );
    });
  }
});

suite('places for requests in flight', () => {
  /** Workers that borrow of one ledger, and what they hold. */
  function borrowers(limit: number, workers: number) {
    const members: BorrowedPlaces[] = [];
    const ledger = new PlaceLedger(limit, async (worker) => {
      await Promise.resolve();
      ledger.giveBack(worker, members[worker]?.giveBack() ?? 0);
    });
    for (let worker = 0; worker < workers; worker++) {
      ledger.join(worker);
      members.push(new BorrowedPlaces((wanted) => ledger.borrow(worker, wanted)));
    }
    const member = (worker: number): BorrowedPlaces => members[worker] as BorrowedPlaces;
    const enter = async (worker: number, requests: number): Promise<number> => {
      const entered = await Promise.all(Array.from({ length: requests }, () => member(worker).enter()));
      return entered.filter((place) => place).length;
    };
    return { ledger, member, enter };
  }

  test('one worker may have them all, and not one more', async () => {
    const { enter, member } = borrowers(100, 3);
    assert.equal(await enter(1, 110), 100);
    assert.equal(await enter(1, 1), 0);
    member(1).leave();
    assert.equal(await enter(1, 2), 1);
  });

  test('however requests fall upon workers, as many are taken as there are places', async () => {
    const { enter } = borrowers(100, 3);
    assert.equal(await enter(0, 1), 1);
    const taken = await Promise.all([enter(1, 10), enter(2, 70), enter(0, 30), enter(1, 5)]);
    assert.equal(
      taken.reduce((sum, places) => sum + places),
      99,
    );
  });

  test('what one worker does not use, another one gets', async () => {
    const { enter, member } = borrowers(10, 2);
    assert.equal(await enter(0, 10), 10);
    assert.equal(await enter(1, 1), 0);
    for (let left = 0; left < 4; left++) member(0).leave();
    assert.equal(await enter(1, 6), 4);
    assert.equal(await enter(0, 1), 0);
  });

  test('most requests ask nobody', async () => {
    const { enter, member } = borrowers(100, 2);
    await enter(0, 1);
    assert.equal(member(0).enter(), true);
    assert.equal(member(0).enter(), true);
  });

  test('a place that becomes free goes to who waits', async () => {
    let answer: (places: number) => void = () => {};
    const places = new BorrowedPlaces(
      () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    );
    const first = places.enter();
    answer(1);
    assert.equal(await first, true);
    const second = places.enter();
    const third = places.enter();
    places.leave();
    assert.equal(await second, true);
    answer(0);
    assert.equal(typeof third === 'boolean' ? third : await Promise.race([third, 'waits']), 'waits');
    answer(0);
    assert.equal(await third, false);
  });

  test('the places of a worker that is gone are free again', async () => {
    const { ledger, enter } = borrowers(10, 2);
    assert.equal(await enter(0, 10), 10);
    ledger.gone(0);
    assert.equal(await enter(1, 11), 10);
    assert.equal(await ledger.borrow(0, 1), 0);
  });

  test('what a worker was borrowing when it went is not booked to the one in its place', async () => {
    const recalled = Promise.withResolvers<void>();
    const ledger = new PlaceLedger(10, () => recalled.promise);
    ledger.join(1);
    ledger.join(2);
    assert.equal(await ledger.borrow(1, 10), 10);
    const borrowing = ledger.borrow(2, 4);
    await setImmediate(); // the first is asked for what it does not use
    ledger.gone(2);
    ledger.join(3);
    ledger.giveBack(1, 10);
    recalled.resolve();
    assert.equal(await borrowing, 0);
    assert.equal(await ledger.borrow(3, 10), 10, 'not one fewer');
  });
});

suite('worker threads', () => {
  const running: RunningApp[] = [];
  before(async () => {
    for (const model of ['process', 'workers', 'workers-message']) {
      running.push(await startApp({ CONCURRENCY_MODEL: model, ...(model === 'process' ? {} : { WORKERS: '2' }) }));
    }
    await Promise.all(running.map((app) => app.ready()));
  });
  after(() => Promise.all(running.map(({ app }) => app.close())));

  test('rank as the event loop does', async () => {
    const weights = JSON.stringify(Array.from({ length: 32 }, (_, feature) => ((feature * 271) % 2001) - 1000));
    for (const query of [
      `{ ranking(weights: ${weights}, first: 20) { score item { id name } } }`,
      `{ ranking(weights: ${weights}, first: 5, areaId: 3) { score item { id } } }`,
      `{ ranking(weights: ${weights}, first: 5, areaId: 99999) { score item { id } } }`,
      '{ ranking(weights: [1], first: 5) { score } areas { id } }',
    ]) {
      const [first, ...others] = await Promise.all(running.map((app) => app.post({ query })));
      for (const other of others) assert.deepEqual(other.body, first?.body);
      if (!query.includes('[1]')) assert.equal(first?.body.errors, undefined);
    }
  });
});

const main = path.resolve(import.meta.dirname, '../src/main.ts');
const workers = 3;
const poolSize = 7;

// By this name the database knows the connections of this test.
const url = new URL(databaseUrl());
url.searchParams.set('application_name', 'node-server of a cluster');

async function connections(): Promise<unknown> {
  const text = `select count(*)::int from pg_stat_activity
    where datname = current_database() and application_name = 'node-server of a cluster'`;
  return (await sql(text))[0];
}

suite('cluster', () => {
  let primary: ChildProcess;
  let origin = '';
  const log: Record<string, unknown>[] = [];

  const children = (): number[] =>
    readFileSync(`/proc/${primary.pid}/task/${primary.pid}/children`, 'utf8').trim().split(' ').map(Number);

  /** Asks on a connection of its own, which the primary gives to the next worker. */
  function ask(pathname: string, query?: string, timeoutMs = 30_000): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json', accept: 'application/graphql-response+json' };
      const sent = httpRequest(
        `${origin}${pathname}`,
        { agent: false, timeout: timeoutMs, method: query === undefined ? 'GET' : 'POST', headers },
        (response) => {
          let body = '';
          response.setEncoding('utf8');
          response.on('data', (text: string) => {
            body += text;
          });
          response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
          response.on('error', reject);
        },
      );
      sent.on('timeout', () => sent.destroy(new Error('no answer')));
      sent.on('error', reject);
      sent.end(query === undefined ? undefined : JSON.stringify({ query }));
    });
  }

  /** What /metrics says of the time of each worker. */
  const timesOf = (page: string, kind: string): Map<string, number> => {
    const found = page.matchAll(new RegExp(`^lab_worker_${kind}_seconds_total\\{worker="(\\w+)"\\} (\\S+)$`, 'gm'));
    return new Map([...found].map(([, worker, seconds]) => [worker as string, Number(seconds)]));
  };

  /** What /metrics says of the pools of all processes. */
  async function poolConnections(): Promise<number> {
    const found = (await ask('/metrics')).body.matchAll(/^lab_pool_connections\{[^}]*\} (\d+)$/gm);
    return [...found].reduce((sum, [, count]) => sum + Number(count), 0);
  }

  const isReady = async (): Promise<boolean> =>
    (await ask('/readyz', undefined, 3000).catch(() => null))?.status === 200;

  async function start(environment: Record<string, string> = {}): Promise<ChildProcess> {
    const child = spawn(process.execPath, [main], {
      env: {
        CONTRACT_DIR: contractDir,
        DATABASE_URL: url.href,
        PORT: '0',
        CONCURRENCY_MODEL: 'cluster',
        WORKERS: String(workers),
        POOL_SIZE: String(poolSize),
        REQUEST_TIMEOUT: '60s',
        ...environment,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise<void>((resolve, reject) => {
      child.on('exit', (status) => reject(new Error(`ended with ${status}`)));
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
        log.push(JSON.parse(line) as Record<string, unknown>);
        resolve();
      });
    });
    return child;
  }

  before(async () => {
    primary = await start();
    origin = `http://127.0.0.1:${log[0]?.port}`;
    await until(isReady);
  });
  after(() => primary.kill('SIGKILL'));

  test('the first line says where all of them listen', () => {
    assert.equal(log[0]?.msg, 'listening');
    assert.equal(log[0]?.pid, primary.pid);
    assert.equal(log[0]?.workers, workers);
    assert.equal(log.filter(({ msg }) => msg === 'listening').length, 1);
    assert.equal(children().length, workers);
  });

  test('the pool is shared out, and each process listens for changes', async () => {
    assert.equal(await connections(), poolSize + workers);
    assert.equal(await poolConnections(), poolSize);
  });

  test('metrics are those of all processes', async () => {
    const before = (await counts(origin, 'lab_requests_total')).get('OK') ?? 0;
    const statements = (await counts(origin, 'lab_statements_total')).get('items_by_ids') ?? 0;
    const asked = 4 * workers;
    for (let index = 0; index < asked; index++) {
      assert.equal((await ask('/graphql', '{ item(id: 1) { id } }')).body, '{"data":{"item":{"id":"1"}}}');
    }
    for (let index = 0; index < workers; index++) {
      const page = (await ask('/metrics')).body;
      assert.match(page, new RegExp(`^lab_requests_total\\{code="OK"\\} ${before + asked}$`, 'm'));
      assert.match(page, new RegExp(`^lab_request_seconds_count ${before + asked}$`, 'm'));
      const [busy, elapsed] = [timesOf(page, 'busy'), timesOf(page, 'elapsed')];
      assert.deepEqual([...elapsed.keys()], [...busy.keys()]);
      assert.equal(busy.size, workers);
      for (const [worker, seconds] of busy) {
        assert.ok(seconds > 0 && seconds <= (elapsed.get(worker) ?? 0), `worker ${worker}`);
      }
    }
    assert.equal((await counts(origin, 'lab_statements_total')).get('items_by_ids'), statements + asked);
  });

  test('a rename is seen by every worker', async () => {
    const name = 'Of a cluster';
    const [old] = await sql('select name from area where id = 7');
    const sees = async (expected: unknown): Promise<boolean> => {
      // The next connections go to each of them in turn.
      for (let worker = 0; worker < 2 * workers; worker++) {
        const { body } = await ask('/graphql', '{ areas { id name } }');
        const { areas } = (JSON.parse(body) as { data: { areas: { id: string; name: string }[] } }).data;
        if (areas.find(({ id }) => id === '7')?.name !== expected) return false;
      }
      return true;
    };
    assert.equal(await sees(name), false);
    const renamed = await ask('/graphql', `mutation { renameArea(id: 7, name: "${name}") { name } }`);
    assert.equal(renamed.body, `{"data":{"renameArea":{"name":"${name}"}}}`);
    await until(() => sees(name));
    await sql('update area set name = $1 where id = 7', [old]);
    await until(() => sees(old));
  });

  test('requests that find a worker busy beyond its share are taken all the same', async () => {
    const answers = await Promise.all(
      Array.from({ length: 60 }, () => ask('/graphql', '{ items(first: 20) { id reviews(first: 2) { id } } }')),
    );
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
    assert.equal(new Set(answers.map(({ body }) => body)).size, 1);
  });

  test('a worker that was killed is replaced, and until then the server is not ready', async () => {
    const old = children();
    process.kill(old[1] as number, 'SIGKILL');
    await until(async () => log.some(({ msg, worker_pid }) => msg === 'worker ended' && worker_pid === old[1]));
    await until(isReady);
    const now = children();
    assert.equal(now.length, workers);
    assert.ok(!now.includes(old[1] as number));
    assert.deepEqual(
      now.filter((pid) => old.includes(pid)),
      [old[0], old[2]],
    );
    await until(async () => (await connections()) === poolSize + workers);
  });

  test('all are replaced at the same port', async () => {
    for (const pid of children()) process.kill(pid, 'SIGKILL');
    await until(isReady);
    assert.equal((await ask('/graphql', '{ item(id: 1) { id } }')).status, 200);
  });

  test('a stopped worker makes the server unready, not silent', async () => {
    const [pid] = children();
    process.kill(pid as number, 'SIGSTOP');
    try {
      let answer = { status: 0, body: '' };
      await until(async () => {
        answer = await ask('/readyz', undefined, 5000).catch(() => answer);
        return answer.status === 503;
      });
      assert.match(answer.body, /worker \d does not answer/);
    } finally {
      process.kill(pid as number, 'SIGCONT');
    }
    await until(isReady);
  });

  test('a connection on its way to a worker that dies is reset, and nobody else is', async () => {
    const [pid] = children();
    process.kill(pid as number, 'SIGSTOP');
    const asked = Array.from({ length: 4 * workers }, () =>
      ask('/livez').then(
        ({ status }) => String(status),
        ({ code }: NodeJS.ErrnoException) => code,
      ),
    );
    let answered = 0;
    for (const each of asked) each.then(() => answered++);
    try {
      // The others take what the stopped one does not; it is given one at a time.
      await until(async () => answered === asked.length - 1);
    } finally {
      process.kill(pid as number, 'SIGKILL');
    }
    assert.deepEqual((await Promise.all(asked)).sort(), [...Array(asked.length - 1).fill('200'), 'ECONNRESET']);
    await until(isReady);
  });

  test('SIGTERM ends all of them well, after what is under way, and leaves nobody waiting', async () => {
    const pids = children();
    const ended = new Promise((resolve) => primary.on('exit', (status) => resolve(status)));
    const lock = new pg.Client({ connectionString: databaseUrl() });
    await lock.connect();
    let underWay: ReturnType<typeof ask>;
    try {
      await lock.query('begin');
      await lock.query('lock table item in access exclusive mode');
      underWay = ask('/graphql', '{ item(id: 1) { id } }');
      const waits = `select count(*)::int from pg_stat_activity
        where application_name = 'node-server of a cluster' and wait_event_type = 'Lock'`;
      await until(async () => (await sql(waits))[0] === 1);
      primary.kill('SIGTERM');
      await until(async () => (await ask('/livez')).status === 200 && (await ask('/readyz')).status === 503);
      // The primary's word comes before the last of them has heard its own.
      await until(async () => log.filter(({ msg }) => msg === 'shutting down').length === 1 + workers);
      // More than there are workers: each refuses, and goes on listening as long as another one has work.
      for (let asked = 0; asked < 4 * workers; asked++) {
        assert.equal((await ask('/graphql', '{ item(id: 1) { id } }')).status, 503);
      }
      await lock.query('commit');
    } finally {
      await lock.end();
    }
    assert.deepEqual(await underWay, { status: 200, body: '{"data":{"item":{"id":"1"}}}' });
    assert.equal(await ended, 0);
    for (const pid of pids) assert.throws(() => process.kill(pid, 0), /ESRCH/);
  });

  test('a cluster that cannot listen ends with status 1', async () => {
    const first = await start({ WORKERS: '1' });
    const { port } = log.find(({ msg, pid }) => msg === 'listening' && pid === first.pid) as { port: number };
    const child = spawn(process.execPath, [main], {
      env: {
        CONTRACT_DIR: contractDir,
        DATABASE_URL: databaseUrl(),
        PORT: String(port),
        CONCURRENCY_MODEL: 'cluster',
        WORKERS: '2',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const status = await new Promise((resolve) => child.on('close', resolve));
    first.kill('SIGKILL');
    assert.equal(status, 1);
    assert.match(said, /EADDRINUSE/);
  });
});
