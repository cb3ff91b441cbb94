import assert from 'node:assert/strict';
import { constants } from 'node:perf_hooks';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Collections, sumMetrics, Telemetry } from '../src/telemetry.ts';

function value(text: string, sample: string): number {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${sample} `));
  assert.ok(line !== undefined, `${sample} is there`);
  return Number(line.slice(sample.length + 1));
}

/** Keeps the event loop from doing anything else. */
function block(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

suite('runtime metrics', () => {
  const telemetry = new Telemetry();
  const read = async (): Promise<string> => (await telemetry.metrics()).body;

  test('a held-up event loop shows its delay', async () => {
    await sleep(50);
    await read();
    await sleep(50);
    block(300);
    await sleep(50);
    const delay = value(await read(), 'lab_event_loop_delay_p99_seconds{worker="0"}');
    assert.ok(delay > 0.2, `${delay} s is the delay that was made`);
  });

  test('the time in which it ran is busy, and no more of it than has passed', async () => {
    const times = async (): Promise<[busy: number, elapsed: number]> => {
      const text = await read();
      return [
        value(text, 'lab_worker_busy_seconds_total{worker="0"}'),
        value(text, 'lab_worker_elapsed_seconds_total{worker="0"}'),
      ];
    };
    const first = await times();
    block(200);
    const second = await times();
    await sleep(200);
    const third = await times();
    const share = (before: [number, number], after: [number, number]) =>
      (after[0] - before[0]) / (after[1] - before[1]);
    assert.ok(second[0] - first[0] >= 0.19, `${second[0] - first[0]} s`);
    // A sum of two has another last digit than one of them.
    assert.ok(share(first, second) < 1 + 1e-9, `${share(first, second)} is no more than all of it`);
    assert.ok(third[1] - second[1] >= 0.19, `${third[1] - second[1]} s`);
    // How much less hangs on the machine, on which other things run too.
    assert.ok(
      share(second, third) < share(first, second),
      `${share(second, third)} of a time of waiting, ${share(first, second)} of one of work`,
    );
  });

  test('every collection is counted, by kind, and the longest told', async () => {
    const minor = '{worker="0",kind="minor"}';
    const count = async (): Promise<number> => value(await read(), `lab_gc_pause_seconds_count${minor}`);
    const before = await count();
    let kept: unknown[] = [];
    for (let i = 0; i < 3_000_000; i++) {
      kept.push({ i });
      if (kept.length > 1000) kept = [];
    }
    await sleep(50);
    const text = await read();
    assert.ok(value(text, `lab_gc_pause_seconds_count${minor}`) > before);
    assert.ok(value(text, `lab_gc_pause_seconds_sum${minor}`) > 0);
    assert.ok(value(text, 'lab_gc_longest_pause_seconds{worker="0"}') > 0);
  });

  test('threads are workers beside the event loop', async () => {
    const collections = new Collections();
    // Of a thread, which has the same memory and another view of it.
    const counting = new Collections(collections.memory);
    counting.add(constants.NODE_PERFORMANCE_GC_MAJOR, 5);
    counting.add(constants.NODE_PERFORMANCE_GC_MAJOR, 20);
    counting.add(constants.NODE_PERFORMANCE_GC_MINOR, 1);
    counting.add(-1, 100);
    telemetry.watch([], { textBytes: 1024 }, { size: 2, hits: 5, misses: 3 }, () => [
      { worker: 'ranking-0', busySeconds: 1.5, elapsedSeconds: 2, collections },
    ]);
    const text = await read();
    assert.equal(value(text, 'lab_gc_pause_seconds_sum{worker="ranking-0",kind="major"}'), 0.025);
    assert.equal(value(text, 'lab_gc_pause_seconds_count{worker="ranking-0",kind="major"}'), 2);
    assert.equal(value(text, 'lab_gc_pause_seconds_sum{worker="ranking-0",kind="minor"}'), 0.001);
    assert.equal(value(text, 'lab_gc_longest_pause_seconds{worker="ranking-0"}'), 0.02);
    assert.ok(!(await read()).includes('lab_gc_longest_pause_seconds{worker="ranking-0"}'), 'none since');
    assert.equal(value(text, 'lab_worker_busy_seconds_total{worker="ranking-0"}'), 1.5);
    assert.equal(value(text, 'lab_worker_elapsed_seconds_total{worker="ranking-0"}'), 2);
    assert.equal(value(text, 'lab_document_lookups_total{result="hit"}'), 5);
    assert.equal(value(text, 'lab_document_lookups_total{result="miss"}'), 3);
  });

  test('of several processes each worker is told by itself', async () => {
    const values = await telemetry.values();
    const other = JSON.parse(JSON.stringify(values).replaceAll('"worker":"0"', '"worker":"1"')) as object[];
    const { body } = await sumMetrics([values, other]);
    const count = value(body, 'lab_gc_pause_seconds_count{worker="0",kind="minor"}');
    assert.ok(count > 0);
    assert.equal(value(body, 'lab_gc_pause_seconds_count{worker="1",kind="minor"}'), count);
    assert.ok(value(body, 'lab_worker_busy_seconds_total{worker="1"}') > 0);
  });

  test('of several processes pauses and heaps are added up', async () => {
    const values = await telemetry.values();
    const { body } = await sumMetrics([values, values]);
    assert.equal(value(body, 'lab_document_lookups_total{result="hit"}'), 10);
    for (const name of [
      'lab_gc_pause_seconds_count{worker="0",kind="minor"}',
      'lab_heap_used_bytes',
      'lab_heap_committed_bytes',
    ]) {
      const one = (values as { name: string; values: { metricName?: string; labels: object; value: number }[] }[])
        .flatMap((metric) => metric.values.map((sample) => ({ ...sample, name: sample.metricName ?? metric.name })))
        .find(
          (sample) =>
            name.startsWith(sample.name) &&
            (!name.includes('{') || name.endsWith(JSON.stringify(sample.labels).replace(/"(\w+)":/g, '$1='))),
        );
      assert.equal(value(body, name), 2 * (one?.value ?? Number.NaN), name);
    }
  });
});
