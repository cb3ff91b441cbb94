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
    // A door on the way to Redis.
    const target = new URL(redisUrl);
    const sockets = new Set<Socket>();
    const door = createServer((socket) => {
      sockets.add(socket);
      const onward = connect(Number(target.port || 6379), target.hostname);
      for (const [from, to] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        from.on('error', () => {}).on('close', () => to.destroy());
        from.pipe(to);
      }
    });
    const open = (port: number) => new Promise<void>((resolve) => door.listen(port, '127.0.0.1', resolve));
    await open(0);
    const { port } = door.address() as AddressInfo;
    const through = new URL(redisUrl);
    through.hostname = '127.0.0.1';
    through.port = String(port);
    const cache = testCache('node-door', through.href);
    try {
      for (const table of cachedTables) assert.notEqual(await cache.forget(table), null);
      assert.deepEqual(cache.pending(), []);
      const shut = new Promise((resolve) => door.close(resolve));
      for (const socket of sockets) socket.destroy();
      await shut;
      await until(async () => cache.pending().length > 0); // though nobody asked
      assert.deepEqual(cache.pending(), cachedTables);
      await open(port);
      await until(async () => (await cache.forget('area')) !== null);
      assert.deepEqual(cache.pending(), ['genre', 'holiday']);
      assert.notEqual(await cache.ask('area', ['1']), null);
      assert.equal(await cache.ask('genre', ['1']), null);
    } finally {
      cache.close();
      door.close();
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
