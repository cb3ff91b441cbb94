import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { features, packVectors, rankItems } from '../src/ranking.ts';

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
