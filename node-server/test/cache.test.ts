import assert from 'node:assert/strict';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import { Cache, cachedTables, cachePrefix } from '../src/cache.ts';
import { newLogger } from '../src/logging.ts';
import { until } from './support.ts';

// An empty Redis; where none is installed tests are skipped, but not in CI.
const redisUrl = process.env.TEST_REDIS_URL ?? '';
const skip = redisUrl === '' && !process.env.CI ? 'TEST_REDIS_URL is not set' : false;

/** One process's cache of a database of that name, which hears of changes. */
function testCache(database: string, address = redisUrl): Cache {
  const cache = new Cache({
    redisUrl: address,
    databaseUrl: `postgres://nobody@127.0.0.1/${database}`,
    logger: newLogger('error', () => {}),
    count: () => {},
  });
  cache.heard = true;
  return cache;
}

/** A door on the way to Redis. */
class Door {
  readonly #target = new URL(redisUrl);
  readonly #ways: { socket: Socket; onward: Socket }[] = [];
  readonly #server = createServer((socket) => {
    const onward = connect(Number(this.#target.port || 6379), this.#target.hostname);
    this.#ways.push({ socket, onward });
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      from.on('error', () => {}).on('close', () => to.destroy());
      from.pipe(to);
    }
  });
  #port = 0;

  /** Opens it, where it was open before, and gives the URL of Redis behind it. */
  async open(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
    const through = new URL(redisUrl);
    through.hostname = '127.0.0.1';
    through.port = String(this.#port);
    return through.href;
  }

  /** Closes it and every connection through it. */
  async shut(): Promise<void> {
    const shut = new Promise((resolve) => this.#server.close(resolve));
    for (const { socket } of this.#ways.splice(0)) socket.destroy();
    await shut;
  }

  /** Keeps answers back, until they are released; connections stay. */
  hold(): void {
    for (const { socket, onward } of this.#ways) onward.unpipe(socket);
  }

  release(): void {
    for (const { socket, onward } of this.#ways) onward.pipe(socket);
  }
}

suite('cache', () => {
  test('databases are told apart by the same names in all servers', () => {
    assert.equal(cachePrefix('postgres://lab:secret@127.0.0.1:5432/lab?sslmode=disable'), 'lab:eff25a3ed2cc3d54:');
  });
  test('what was read before a change is not put over it', { skip }, async () => {
    const [one, two] = [testCache('node-epochs'), testCache('node-epochs')];
    try {
      for (const cache of [one, two]) assert.notEqual(await cache.forget('area'), null);
      const before = await one.ask('area', ['1']);
      assert.equal(before?.names.size, 0);
      await two.forget('area'); // a change, after one read the old name and before it puts it there
      await one.fill('area', before.epoch, new Map([['1', 'old']]), false);
      const after = await one.ask('area', ['1']);
      assert.equal(after?.names.size, 0);
      await one.fill('area', after.epoch, new Map([['1', 'new']]), true);
      for (const cache of [one, two]) {
        const got = await cache.ask('area', ['1', '2']);
        assert.deepEqual([...(got?.names ?? [])], [['1', 'new']]);
        assert.equal(got?.all, true);
      }
    } finally {
      one.close();
      two.close();
    }
  });
  test('a table that could not be forgotten is not asked for', async () => {
    const cache = testCache('node-away', 'redis://127.0.0.1:1');
    try {
      assert.equal(await cache.forget('area'), null);
      assert.deepEqual(cache.pending(), cachedTables, 'and no other table: there was no answer');
      assert.equal(await cache.ask('area', ['1']), null);
    } finally {
      cache.close();
    }
  });
  test("a later change outlives an earlier one's success", { skip }, async () => {
    const cache = testCache('node-later');
    try {
      await cache.forget('area');
      assert.notEqual(await cache.ask('area', ['1']), null);
      cache.distrust('area');
      assert.equal(await cache.ask('area', ['1']), null);
      assert.deepEqual(cache.pending(), ['area']);
    } finally {
      cache.close();
    }
  });
  test('an answer from before a change does not count', { skip }, async () => {
    const cache = testCache('node-meanwhile');
    try {
      await cache.forget('area');
      const before = cache.ask('area', ['1']);
      assert.notEqual(await cache.forget('area'), null);
      assert.equal(await before, null);
      assert.notEqual(await cache.ask('area', ['1']), null);
    } finally {
      cache.close();
    }
  });
  test('who lost Redis asks for no table before it was forgotten anew', { skip }, async () => {
    const door = new Door();
    const cache = testCache('node-door', await door.open());
    try {
      for (const table of cachedTables) assert.notEqual(await cache.forget(table), null);
      assert.deepEqual(cache.pending(), []);
      await door.shut();
      await until(async () => cache.pending().length > 0); // though nobody asked
      assert.deepEqual(cache.pending(), cachedTables);
      await door.open();
      await until(async () => (await cache.forget('area')) !== null);
      assert.deepEqual(cache.pending(), ['genre', 'holiday']);
      assert.notEqual(await cache.ask('area', ['1']), null);
      assert.equal(await cache.ask('genre', ['1']), null);
    } finally {
      cache.close();
      await door.shut();
    }
  });
  test('after a late answer nobody asks for a while, and no table has to be forgotten', { skip }, async () => {
    const door = new Door();
    const cache = testCache('node-late', await door.open());
    try {
      for (const table of cachedTables) assert.notEqual(await cache.forget(table), null);
      door.hold();
      assert.equal(await cache.ask('area', ['1']), null);
      assert.equal(await cache.ask('genre', ['1']), null, 'nor is another table asked for');
      assert.deepEqual(cache.pending(), []);
      assert.equal(await cache.forget('holiday'), null);
      assert.deepEqual(cache.pending(), ['holiday'], 'but the one that changed meanwhile');
      door.release();
      await until(async () => (await cache.forget('area')) !== null); // which ends the pause
      assert.notEqual(await cache.ask('genre', ['1']), null);
      assert.equal(await cache.ask('holiday', ['1']), null);
    } finally {
      cache.close();
      await door.shut();
    }
  });
  test('who does not hear of changes does not ask', { skip }, async () => {
    const cache = testCache('node-deaf');
    try {
      await cache.forget('area');
      cache.heard = false;
      assert.equal(await cache.ask('area', ['1']), null);
    } finally {
      cache.close();
    }
  });
});
