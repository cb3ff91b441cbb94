import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';

const main = path.resolve(import.meta.dirname, '../src/main.ts');

/** Runs the health check with an environment that has nothing else, as a container's has not. */
async function health(
  environment: Record<string, string>,
): Promise<{ status: number; stdout: string; stderr: string }> {
  try {
    const output = await promisify(execFile)(process.execPath, [main, '--health'], { env: environment });
    return { status: 0, ...output };
  } catch (cause) {
    const { code, stdout, stderr } = cause as { code: number; stdout: string; stderr: string };
    return { status: code, stdout, stderr };
  }
}

describe('health', () => {
  let answer = 200;
  let asked = '';
  const running = createServer((request, response) => {
    asked = request.url ?? '';
    response.statusCode = answer;
    response.end('{"status":"the reason"}');
  });
  let port = '';
  before(async () => {
    await new Promise<void>((resolve) => running.listen(0, '127.0.0.1', resolve));
    port = String((running.address() as AddressInfo).port);
  });
  after(() => running.close());

  it('a ready server', async () => {
    answer = 200;
    const { status, stdout, stderr } = await health({ PORT: port, http_proxy: 'http://127.0.0.1:1' });
    assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' });
    assert.equal(asked, '/readyz');
  });

  it('a server that listens everywhere', async () => {
    answer = 200;
    assert.equal((await health({ HOST: '0.0.0.0', PORT: port })).status, 0);
  });

  it('a server that is not ready', async () => {
    answer = 503;
    const { status, stderr } = await health({ PORT: port });
    assert.equal(status, 1);
    assert.match(stderr, /503 .*the reason/);
  });

  it('no server', async () => {
    const { status, stderr } = await health({ PORT: '1' });
    assert.equal(status, 1);
    assert.match(stderr, /ECONNREFUSED/);
  });

  for (const value of ['http', '0']) {
    it(`a port that is none: ${value}`, async () => {
      const { status, stderr } = await health({ PORT: value });
      assert.equal(status, 1);
      assert.match(stderr, /PORT/);
      assert.ok(stderr.includes(`"${value}"`), stderr);
    });
  }
});
