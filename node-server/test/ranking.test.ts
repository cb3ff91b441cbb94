import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { newLogger } from '../src/logging.ts';
import { features, packVectors, type Ranking, rankItems, ThreadRanking } from '../src/ranking.ts';
import { Work } from '../src/store.ts';

// Vectors by arithmetic, with many equal ones so that ties matter.
const rows = Array.from({ length: 3000 }, (_, index) => ({
  itemId: String(index + 1),
  areaId: String(index % 7),
  features: Int8Array.from({ length: features }, (_, feature) => (((index % 50) * 31 + feature * 17) % 255) - 127),
}));
const vectors = packVectors(rows);
const weights = Array.from({ length: features }, (_, feature) => ((feature * 271) % 2001) - 1000);
const patient = () => {};

function bySorting(first: number, areaId: string | null) {
  return rows
    .filter((row) => areaId === null || row.areaId === areaId)
    .map((row) => ({
      score: row.features.reduce((sum, feature, index) => sum + feature * (weights[index] ?? 0), 0),
      itemId: row.itemId,
    }))
    .sort((a, b) => b.score - a.score || Number(a.itemId) - Number(b.itemId))
    .slice(0, first);
}

suite('ranking', () => {
  for (const [first, areaId] of [
    [0, null],
    [1, null],
    [10, null],
    [100, null],
    [100, '3'],
    [100, '999'],
  ] as const) {
    test(`the best ${first} of area ${areaId} are those that sorting gives`, () => {
      assert.deepEqual(rankItems(vectors, weights, first, areaId, patient), bySorting(first, areaId));
    });
  }

  test('ends when the time is over', () => {
    let asked = 0;
    const impatient = () => {
      if (++asked === 2) throw new Error('over');
    };
    assert.throws(() => rankItems(vectors, weights, 10, null, impatient), /over/);
    assert.equal(asked, 2);
  });
});

suite('ranking by threads', () => {
  const unheard = newLogger('error', () => {});

  async function withThreads(threads: number, use: (ranking: Ranking) => Promise<void>): Promise<void> {
    const ranking = new ThreadRanking(threads, unheard);
    ranking.open();
    try {
      await use(ranking);
    } finally {
      await ranking.close();
    }
  }

  async function rank(ranking: Ranking, of = vectors, areaId: string | null = null, timeoutMs = 60_000) {
    const work = new Work(timeoutMs, () => {});
    try {
      return await ranking.rank(of, weights, 10, areaId, work);
    } finally {
      work.close();
    }
  }

  for (const shared of [true, false]) {
    test(`answers as the loop does, memory shared: ${shared}`, async () => {
      const packed = packVectors(rows, shared);
      await withThreads(2, async (ranking) => {
        // More than the threads take at once, so that some wait in the queue.
        const areas = Array.from({ length: 20 }, (_, index) => (index % 3 === 0 ? null : String(index % 7)));
        const answers = await Promise.all(areas.map((areaId) => rank(ranking, packed, areaId)));
        assert.deepEqual(
          answers,
          areas.map((areaId) => bySorting(10, areaId)),
        );
      });
    });
  }

  test('vectors that have changed are those that the next ranking reads', async () => {
    const half = packVectors(rows.slice(0, 1500));
    await withThreads(1, async (ranking) => {
      assert.deepEqual(await rank(ranking), bySorting(10, null));
      const [first, second] = await Promise.all([rank(ranking, half), rank(ranking)]);
      assert.deepEqual(
        first,
        rankItems(half, weights, 10, null, () => {}),
      );
      assert.deepEqual(second, bySorting(10, null));
    });
  });

  test('a thread sees what is written to shared memory, and has a copy of what is not shared', async () => {
    for (const shared of [true, false]) {
      const packed = packVectors(rows, shared);
      await withThreads(1, async (ranking) => {
        const before = await rank(ranking, packed);
        packed.features.fill(0);
        const after = await rank(ranking, packed);
        if (shared) assert.deepEqual(new Set(after.map(({ score }) => score)), new Set([0]));
        else assert.deepEqual(after, before);
      });
    }
  });

  test('a request that is over takes its ranking along', async () => {
    await withThreads(1, async (ranking) => {
      let failure: unknown = null;
      const work = new Work(60_000, (error) => {
        failure = error;
      });
      const ranked = Promise.resolve(ranking.rank(vectors, weights, 10, null, work));
      work.expire();
      await assert.rejects(ranked, (error) => error === failure);
      assert.deepEqual(await rank(ranking), bySorting(10, null));
    });
  });

  test('a thread tells how its time went and what its heap cost', async () => {
    await withThreads(1, async (ranking) => {
      const minor = () =>
        ranking
          .threads()[0]
          ?.collections.byKind()
          .find(({ kind }) => kind === 'minor')?.count ?? 0;
      // What a thread answers with is garbage afterwards.
      for (let asked = 0; asked < 20_000 && minor() === 0; asked++) await rank(ranking);
      assert.ok(minor() > 0, 'a collection of the thread is counted');
      const [thread] = ranking.threads();
      assert.equal(thread?.worker, 'ranking-0');
      assert.ok((thread?.busySeconds ?? 0) > 0);
      assert.ok((thread?.busySeconds ?? 0) <= (thread?.elapsedSeconds ?? 0));
      assert.ok((thread?.collections.takeLongestSeconds() ?? 0) > 0);
    });
  });

  test('a thread looks at the deadline itself', async () => {
    await withThreads(1, async (ranking) => {
      const work = new Work(60_000, () => {});
      // The timer of the loop has no turn while this thread computes, so the answer can only be the other thread's.
      Object.defineProperty(work, 'leftMs', { value: () => -1 });
      await assert.rejects(
        Promise.resolve(ranking.rank(vectors, weights, 10, null, work)),
        (error) => error === work.failure,
      );
    });
  });

  test('a thread that fails is replaced, and what it had fails', async () => {
    await withThreads(1, async (ranking) => {
      const broken = { ...vectors, areaIds: null as unknown as Int32Array };
      await assert.rejects(rank(ranking, broken), /worker thread ended/);
      assert.deepEqual(await rank(ranking), bySorting(10, null));
    });
  });
});
