import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { bench, checksum, fill, repeat } from '../src/bench.ts';

suite('bench', () => {
  test('hands over and verifies', async () => {
    const result = (await bench(['hand-over', '--bytes', '1000', '--duration', '5ms'])) as {
      bytes: number;
      ways: { way: string; iterations: number }[];
      starts: { unit: string }[];
    };
    assert.equal(result.bytes, 1000);
    assert.deepEqual(
      result.ways.map(({ way }) => way),
      ['worker-clone', 'worker-transfer', 'worker-shared'],
    );
    for (const way of result.ways) assert.ok(way.iterations > 0, way.way);
    assert.equal(result.starts[0]?.unit, 'worker');
  });

  test('a wrong answer is an error', async () => {
    await assert.rejects(
      repeat(1, 7, (n) => 8 + n),
      /checksum is 8, expected 7/,
    );
  });

  test('the checksum reads every byte', () => {
    const words = fill(new ArrayBuffer(1000));
    const bytes = new Uint8Array(words.buffer);
    const sum = checksum(words);
    assert.equal(sum, 2067197484, 'as in the other servers');
    for (let i = 0; i < bytes.length; i++) {
      bytes[i] = (bytes[i] as number) + 1;
      assert.notEqual(checksum(words), sum, `byte ${i}`);
      bytes[i] = (bytes[i] as number) - 1;
    }
  });

  test('counts batches', async () => {
    for (const [batch, batches] of [
      ['1', 1001],
      ['20', 51],
      ['500', 3],
    ] as const) {
      const result = (await bench(['loader', '--keys', '1001', '--batch', batch])) as { batches: number };
      assert.equal(result.batches, batches, batch);
    }
  });

  test('refuses bad arguments', async () => {
    for (const [args, expected] of [
      [[], 'expected hand-over or loader'],
      [['hand'], 'bench "hand": expected'],
      [['hand-over', '--bytes', '3x', '--duration', '1s'], '--bytes "3x"'],
      [['hand-over', '--bytes', '6', '--duration', '1s'], '--bytes 6'],
      [['hand-over', '--bytes', '8'], '--duration ""'],
      [['loader', '--keys', '5', '--batch', '0'], '--batch "0"'],
      [['loader', '--size', '5'], '"--size"'],
      [['loader', '--keys', '5', '--batch', '1', '--bytes', '4'], '--bytes is not among'],
    ] as const) {
      await assert.rejects(bench(args), (error: Error) => error.message.includes(expected), expected);
    }
  });
});
