import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Cache, cachePrefix } from '../src/cache.ts';
import { newLogger } from '../src/logging.ts';

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
        assert.equal(got?.all, true, '2 does not exist');
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
      assert.ok(cache.pending().includes('area'));
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
