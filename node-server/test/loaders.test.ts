import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { newLoaders } from '../src/loaders.ts';
import { type Named, type RunStatement, readStatements } from '../src/store.ts';
import { contractDir } from './support.ts';

const statements = readStatements(contractDir);

/** Stands for the database: records each call's statement and first parameter, answers what `rows` makes of the ids. */
function recorder(rows: (ids: string[]) => unknown[]) {
  const calls: [statement: string, ids: string][] = [];
  const run: RunStatement = async (statement, values) => {
    const [array = ''] = values;
    calls.push([statement.name, array]);
    return rows(array.slice(1, -1).split(',')) as never;
  };
  return { calls, run };
}

const users = (ids: string[]): Named[] => ids.map((id) => ({ __typename: 'User', id, name: `User ${id}` }));
const uncounted = () => {};

suite('loader', () => {
  test('batches distinct keys into one call', async () => {
    const { calls, run } = recorder(users);
    const sizes: [string, number][] = [];
    const loaders = newLoaders(run, statements, 'on', (loader, keys) => sizes.push([loader, keys]));
    await Promise.all(['1', '2', '1'].map((id) => loaders.usersByIds.load(id)));
    assert.deepEqual(calls, [['users_by_ids', '{1,2}']]);
    assert.deepEqual(sizes, [['users_by_ids', 2]]);
  });

  test('keeps key order', async () => {
    const { run } = recorder((ids) => users(ids).reverse());
    const loaders = newLoaders(run, statements, 'on', uncounted);
    const loaded = await Promise.all(['3', '1', '2'].map((id) => loaders.usersByIds.load(id)));
    assert.deepEqual(
      loaded.map((user) => user?.id),
      ['3', '1', '2'],
    );
  });

  test('handles a missing key', async () => {
    const { run } = recorder((ids) => users(ids.filter((id) => id !== '2')));
    const loaders = newLoaders(run, statements, 'on', uncounted);
    const loaded = await Promise.all(['1', '2', '3'].map((id) => loaders.usersByIds.load(id)));
    assert.deepEqual(
      loaded.map((user) => user?.id),
      ['1', undefined, '3'],
    );
    const none = newLoaders(recorder(() => []).run, statements, 'on', uncounted);
    assert.deepEqual(await none.reviewsByItemIds(3).load('1'), []);
    assert.deepEqual(await none.reviewStatsByItemIds.load('1'), { itemId: '1', count: 0, average: null });
  });

  test('isolates requests', async () => {
    const { calls, run } = recorder(users);
    const one = newLoaders(run, statements, 'on', uncounted);
    const other = newLoaders(run, statements, 'on', uncounted);
    await Promise.all([one.usersByIds.load('1'), other.usersByIds.load('1')]);
    await one.usersByIds.load('1');
    assert.deepEqual(calls, [
      ['users_by_ids', '{1}'],
      ['users_by_ids', '{1}'],
    ]);
  });

  test('propagates a batch error', async () => {
    const failure = new Error('statement failed');
    const loaders = newLoaders(() => Promise.reject(failure), statements, 'on', uncounted);
    const loads = ['1', '2'].map((id) => loaders.usersByIds.load(id));
    for (const load of loads) await assert.rejects(load, failure);
  });

  test('sends one call for each first', async () => {
    const { calls, run } = recorder(() => []);
    const loaders = newLoaders(run, statements, 'on', uncounted);
    await Promise.all([
      loaders.reviewsByItemIds(1).load('1'),
      loaders.reviewsByItemIds(2).load('1'),
      loaders.reviewsByItemIds(1).load('2'),
    ]);
    assert.deepEqual(calls, [
      ['reviews_by_item_ids', '{1,2}'],
      ['reviews_by_item_ids', '{1}'],
    ]);
  });

  test('waits for keys behind promises of other depths', async () => {
    const { calls, run } = recorder(users);
    const loaders = newLoaders(run, statements, 'on', uncounted);
    const after = async (id: string, hops: number) => {
      for (let hop = 0; hop < hops; hop++) await null;
      return loaders.usersByIds.load(id);
    };
    await Promise.all([after('1', 0), after('2', 3), after('3', 40)]);
    assert.deepEqual(calls, [['users_by_ids', '{1,2,3}']]);
  });

  test('sends one call for each load where it is off', async () => {
    const { calls, run } = recorder(users);
    const loaders = newLoaders(run, statements, 'off', uncounted);
    await Promise.all(['1', '2', '1'].map((id) => loaders.usersByIds.load(id)));
    assert.deepEqual(calls, [
      ['users_by_ids', '{1}'],
      ['users_by_ids', '{2}'],
      ['users_by_ids', '{1}'],
    ]);
  });
});
