import assert from 'node:assert/strict';
import type { Runtime } from 'node:inspector';
import path from 'node:path';
import { suite, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { HttpAnswer } from '../src/http.ts';
import { newLogger } from '../src/logging.ts';
import { fold, profile } from '../src/profile.ts';

const logger = newLogger('error', () => {});

const source = (...parts: string[]): string => pathToFileURL(path.join(import.meta.dirname, '..', ...parts)).href;
const frame = (functionName: string, url = ''): Runtime.CallFrame => ({
  functionName,
  url,
  scriptId: '1',
  lineNumber: 0,
  columnNumber: 0,
});

suite('profile', () => {
  test('stacks are folded, idle ones left out', () => {
    const nodes = [
      { id: 1, callFrame: frame('(root)'), hitCount: 0, children: [2, 3, 4, 7] },
      { id: 2, callFrame: frame('(idle)'), hitCount: 90 },
      { id: 3, callFrame: frame('(garbage collector)'), hitCount: 4 },
      { id: 4, callFrame: frame('tick', 'node:internal/process/task_queues'), hitCount: 0, children: [5, 6] },
      { id: 5, callFrame: frame('load', source('node_modules', 'dataloader', 'index.js')), hitCount: 2 },
      { id: 6, callFrame: frame('', source('src', 'loaders.ts')), hitCount: 3 },
      // Compiled anew, a function has another node.
      { id: 7, callFrame: frame('tick', 'node:internal/process/task_queues'), hitCount: 0, children: [8] },
      { id: 8, callFrame: frame('load', source('node_modules', 'dataloader', 'index.js')), hitCount: 5 },
    ];
    assert.equal(
      fold({ nodes, startTime: 0, endTime: 1 }),
      [
        '(garbage collector) 4',
        'tick (node:internal/process/task_queues);(anonymous) (src/loaders.ts) 3',
        'tick (node:internal/process/task_queues);load (dataloader/index.js) 7',
        '',
      ].join('\n'),
    );
  });

  const ask = (query: string): Promise<HttpAnswer> => profile('on', `/profile${query}`, logger);

  test('what is no number of seconds is refused, and everything where the profiler is off', async () => {
    for (const query of ['', '?seconds=', '?seconds=0', '?seconds=31', '?seconds=1.5', '?seconds=x', '?seconds=-1']) {
      assert.equal((await ask(query)).status, 400, query);
    }
    assert.equal((await profile('on', undefined, logger)).status, 400);
    assert.equal((await profile('off', '/profile?seconds=1', logger)).status, 404);
  });

  test('one at a time, of the main thread', async () => {
    // Its work is not this thread's.
    const other = new Worker('for (;;);', { eval: true });
    try {
      const taken = ask('?seconds=1');
      assert.equal((await ask('?seconds=1')).status, 409);
      let isDone = false;
      void taken.then(() => {
        isDone = true;
      });
      function burn(): void {
        const until = performance.now() + 20;
        while (performance.now() < until);
      }
      while (!isDone) {
        burn();
        await new Promise(setImmediate);
      }
      const { status, contentType, body } = await taken;
      assert.equal(status, 200);
      assert.equal(contentType, 'text/plain; charset=utf-8');
      assert.match(body, /;burn \(test\/profile\.test\.ts\)(;.*)? \d+$/m);
      assert.equal((await ask('?seconds=1')).status, 200, 'again, when the first is done');
    } finally {
      await other.terminate();
    }
  });
});
