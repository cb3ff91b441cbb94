import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { newLogger } from '../src/logging.ts';
import { addBusinessDays, formatDay, holidaySet, Master, parseDay } from '../src/master.ts';
import { formatDateTime } from '../src/schema.ts';
import type { Store } from '../src/store.ts';
import { startApp, until } from './support.ts';

const patient = () => {};
const day = (text: string): number => parseDay(text) as number;

suite('days', () => {
  for (const text of ['2026-02-28', '2024-02-29', '0001-01-01', '0099-12-31', '9999-12-31', '1969-12-31']) {
    test(`${text} is a day`, () => assert.equal(formatDay(day(text)), text));
  }
  for (const text of [
    '2026-02-30',
    '2025-02-29',
    '2026-13-01',
    '2026-00-10',
    '2026-1-1',
    '2026-01-01T00:00',
    '',
    '12026-01-01',
  ]) {
    test(`${JSON.stringify(text)} is none`, () => assert.equal(parseDay(text), null));
  }
  test('years end at 9999', () => assert.equal(formatDay(day('9999-12-31') + 1), null));
});

suite('business days', () => {
  const holidays = holidaySet(['2026-01-01', '2026-01-05']);
  for (const [from, days, to] of [
    ['2026-01-03', 0, '2026-01-03'],
    ['2025-12-31', 1, '2026-01-02'],
    ['2026-01-02', 1, '2026-01-06'],
    ['2026-01-03', 1, '2026-01-06'],
    ['2026-01-06', 5, '2026-01-13'],
    ['1969-12-26', 3, '1969-12-31'],
  ] as const) {
    test(`${days} after ${from} is ${to}`, () => {
      assert.equal(formatDay(addBusinessDays(day(from), days, holidays, patient)), to);
    });
  }
  test('ends when the time is over', () => {
    const impatient = () => {
      throw new Error('over');
    };
    assert.throws(() => addBusinessDays(0, 3650, holidays, impatient), /over/);
  });
});

suite('instants', () => {
  for (const [text, answer] of [
    ['2026-02-27 09:30:00+00', '2026-02-27T09:30:00.000Z'],
    ['2026-02-27 09:30:00.1+00', '2026-02-27T09:30:00.100Z'],
    ['2026-02-27 09:30:00.012+00', '2026-02-27T09:30:00.012Z'],
  ] as const) {
    test(text, () => assert.equal(formatDateTime(text), answer));
  }
});

suite('reading a table anew', () => {
  test('happens once at a time, and begins after it was asked for', async () => {
    const answers: (() => void)[] = [];
    let underWay = 0;
    let most = 0;
    let begun = 0;
    const store = {
      statements: {},
      primary: {},
      run: async () => {
        begun++;
        most = Math.max(most, ++underWay);
        await new Promise<void>((resolve) => answers.push(resolve));
        underWay--;
        return [];
      },
    } as unknown as Store;
    const master = new Master({
      store,
      databaseUrl: '',
      keep: 'memory',
      keepMb: 0,
      cache: null,
      start: 'concurrent',
      shareVectors: false,
      logger: newLogger('error', () => {}),
    });
    const readings = [master.reload('genre'), master.reload('genre'), master.reload('genre')];
    assert.equal(begun, 1);
    answers.pop()?.();
    // At each step between the end of the first reading and the beginning of the one that waits for it.
    for (let step = 0; begun === 1 && step < 1000; step++) {
      await null;
      readings.push(master.reload('genre'));
    }
    assert.equal(begun, 2);
    do await new Promise(setImmediate);
    while (answers.splice(0).map((answer) => answer()).length > 0);
    await Promise.all(readings);
    assert.equal(most, 1);
    assert.equal(begun, 3);
  });
});

suite('master data in bulk', () => {
  test('is in memory', async () => {
    const running = await startApp({ MASTER_MB: '1' });
    try {
      await running.ready();
      const metrics = await (await fetch(`${running.origin}/metrics`)).text();
      assert.match(metrics, /^lab_master_text_bytes 1048576$/m);
    } finally {
      await running.app.close();
    }
  });

  test('that the database does not have keeps a server from being ready', async () => {
    const running = await startApp({ MASTER_MB: '2' });
    try {
      await until(async () => running.log.some((line) => line.includes('the database has 1024 of 2048 rows')));
      assert.equal((await fetch(`${running.origin}/readyz`)).status, 503);
    } finally {
      await running.app.close();
    }
  });
});
