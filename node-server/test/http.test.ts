import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import path from 'node:path';
import { after, before, suite, test } from 'node:test';
import { RequestError } from '../src/errors.ts';
import { GraphqlHandler, type GraphqlRequest, negotiate, OwnPlaces, parseBody, parseUrl } from '../src/http.ts';
import { parseLimits } from '../src/limits.ts';
import { newLogger } from '../src/logging.ts';
import { Telemetry } from '../src/telemetry.ts';
import { contractDir } from './support.ts';

const limits = parseLimits(readFileSync(path.join(contractDir, 'limits.json'), 'utf8'));
const graphql = 'application/graphql-response+json; charset=utf-8';
const json = 'application/json; charset=utf-8';

suite('negotiation', () => {
  const rows: [accept: string | undefined, answer: string | null][] = [
    [undefined, json],
    ['', json],
    ['*/*', json],
    ['application/*', json],
    ['application/json', json],
    ['application/json; charset=utf-8', json],
    ['application/graphql-response+json', graphql],
    ['APPLICATION/GRAPHQL-RESPONSE+JSON', graphql],
    ['application/graphql-response+json, application/json', graphql],
    ['application/json, application/graphql-response+json', json],
    ['application/graphql-response+json;q=0.5, application/json;q=0.9', json],
    ['application/graphql-response+json, application/json;q=0.9', graphql],
    ['application/graphql-response+json;q=0.5, */*', json],
    ['application/json;q=0, */*', graphql],
    ['application/json;q=0.5, application/json', json],
    ['application/json;q=0.0001', json],
    ['application/json; charset=latin1', json],
    ['application/json;q=1.5', null],
    ['application/json;q=none', null],
    ['text/html', null],
    ['application/json;q=0', null],
    ['text/html, */*;q=0.1', json],
  ];
  for (const [accept, answer] of rows) test(String(accept), () => assert.equal(negotiate(accept), answer));
});

suite('body', () => {
  const query = '{ areas { id } }';
  const given: [name: string, body: string, request: Partial<GraphqlRequest>][] = [
    ['query alone', JSON.stringify({ query }), { query, operationName: null, variables: {}, readOnly: false }],
    [
      'nulls',
      '{"query":"","variables":null,"operationName":null,"extensions":null}',
      { query: '', operationName: null },
    ],
    ['unknown members', '{"query":"a","more":[1]}', { query: 'a' }],
    ['the last of two keys', '{"query":"a","query":"b"}', { query: 'b' }],
    [
      'digits beyond 2^53',
      '{"query":"a","variables":{"id":12345678901234567890}}',
      { variables: { id: 12345678901234567890n } },
    ],
    ['a pair of surrogates', '{"query":"\\ud83d\\ude00"}', { query: '😀' }],
    ['nesting up to the limit', `{"query":"a","variables":{"x":${'['.repeat(126)}${']'.repeat(126)}}}`, { query: 'a' }],
    ['brackets in a text', JSON.stringify({ query: '[{'.repeat(500) }), { query: '[{'.repeat(500) }],
  ];
  for (const [name, body, expected] of given) {
    test(`${name} is read`, () => {
      const request = parseBody(Buffer.from(body));
      for (const [key, value] of Object.entries(expected))
        assert.deepEqual(request[key as keyof GraphqlRequest], value);
    });
  }

  const refused: [name: string, body: string | Buffer][] = [
    ['nothing', ''],
    ['no JSON', '{"query":'],
    ['an array', `[${JSON.stringify({ query })}]`],
    ['null', 'null'],
    ['a text', '"query"'],
    ['no query', '{}'],
    ['a query that is null', '{"query":null}'],
    ['a query that is a number', '{"query":1}'],
    ['variables that are an array', '{"query":"a","variables":[]}'],
    ['variables that are a text', '{"query":"a","variables":"{}"}'],
    ['extensions that are a number', '{"query":"a","extensions":1}'],
    ['an operationName that is a number', '{"query":"a","operationName":1}'],
    ['invalid UTF-8', Buffer.from([...Buffer.from('{"query":"'), 0xff, ...Buffer.from('"}')])],
    ['a lone surrogate in a value', '{"query":"a","variables":{"x":["\\ud800"]}}'],
    ['a lone surrogate in a key', '{"query":"a","variables":{"\\udc00":1}}'],
    ['50,000 brackets', '['.repeat(50_000)],
    ['50,000 brackets that are closed', `${'['.repeat(50_000)}${']'.repeat(50_000)}`],
    ['nesting beyond the limit', `{"query":"a","variables":{"x":${'['.repeat(127)}${']'.repeat(127)}}}`],
    ['deep variables', `{"query":"a","variables":{"x":${'['.repeat(20_000)}${']'.repeat(20_000)}}}`],
  ];
  for (const [name, body] of refused) {
    test(`${name} is refused`, () => {
      const bytes = Buffer.from(body);
      assert.throws(
        () => parseBody(bytes),
        (error) => error instanceof RequestError && error.code === 'BAD_REQUEST',
      );
    });
  }
});

suite('URL', () => {
  test('parameters are read', () => {
    const request = parseUrl('/graphql?query=%7B+a+%7D&variables=%7B%22x%22%3A1%7D&operationName=O&more=1');
    assert.deepEqual(request, { query: '{ a }', operationName: 'O', variables: { x: 1 }, readOnly: true });
  });
  test('what is empty is not given, and the last of a name counts', () => {
    const request = parseUrl('/graphql?query=%7B&query=a&operationName=&variables=&extensions=');
    assert.deepEqual(request, { query: 'a', operationName: null, variables: {}, readOnly: true });
  });
  for (const url of [
    '/graphql',
    '/graphql?variables={}',
    '/graphql?query=%ff',
    '/graphql?query=%',
    '/graphql?query=a&variables=%7B',
    '/graphql?query=a&variables=%5B%5D',
    '/graphql?query=a&variables=%22%5Cud800%22',
    `/graphql?query=a&variables=${'['.repeat(8000)}`,
  ]) {
    test(`${url.slice(0, 50)} is refused`, () => {
      assert.throws(
        () => parseUrl(url),
        (error) => error instanceof RequestError && error.code === 'BAD_REQUEST',
      );
    });
  }
});

suite('connections', () => {
  const telemetry = new Telemetry();
  const waiting: (() => void)[] = [];
  const handler = new GraphqlHandler({
    limits,
    places: new OwnPlaces(2),
    requestTimeoutMs: 60_000,
    telemetry,
    logger: newLogger('error', () => {}),
    ready: () => true,
    execute: ({ query }) =>
      new Promise((resolve, reject) => {
        if (query === 'wait') waiting.push(() => resolve({ body: '"waited"', code: 'OK' }));
        else if (query === 'fail') reject(new Error('a cause with a secret'));
        else resolve({ body: '"done"', code: 'OK' });
      }),
  });
  const server = http.createServer((request, response) => {
    handler.handle(request, ({ status, headers, contentType, body }) => {
      response.writeHead(status, {
        ...headers,
        'content-type': contentType,
        'content-length': Buffer.byteLength(body),
      });
      response.end(body);
    });
  });
  let url = '';
  before(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/graphql`;
  });
  after(() => {
    server.close();
    server.closeAllConnections();
  });
  const post = (body: string, headers: Record<string, string> = {}) =>
    fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });
  const codeOf = async (response: Response) =>
    ((await response.json()) as { errors: { extensions: { code: string } }[] }).errors[0]?.extensions.code;

  test('other methods are 405', async () => {
    for (const method of ['PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
      const response = await fetch(url, { method });
      assert.equal(response.status, 405);
      assert.equal(response.headers.get('allow'), 'GET, POST');
      assert.equal(await codeOf(response), 'BAD_REQUEST');
    }
  });

  test('other media types are 406 and 415', async () => {
    assert.equal((await post('{}', { accept: 'text/html' })).status, 406);
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/json; charset=latin1',
      'application/jsonx',
    ]) {
      assert.equal((await post('{"query":"a"}', { 'content-type': type })).status, 415, type);
    }
    assert.equal((await post('{"query":"a"}', { 'content-type': 'Application/JSON; charset="UTF-8"' })).status, 200);
  });

  test('a body at its limit is read, one byte more is 413', async () => {
    const body = (bytes: number): string => `{"query":"a","more":"${'x'.repeat(bytes - 23)}"}`;
    assert.equal(Buffer.byteLength(body(limits.bodyBytes)), limits.bodyBytes);
    assert.equal((await post(body(limits.bodyBytes))).status, 200);
    const response = await post(body(limits.bodyBytes + 1));
    assert.equal(response.status, 413);
    assert.equal(await codeOf(response), 'REQUEST_TOO_LARGE');
  });

  test('a large body without Content-Length is 413, and the connection goes on', async () => {
    const { port } = server.address() as AddressInfo;
    const socket = net.connect(port, '127.0.0.1');
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
    socket.write(
      'POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    for (let chunks = 0; chunks < 20; chunks++) socket.write(chunk);
    socket.write(
      '0\r\n\r\nPOST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n',
    );
    socket.write('{"query":"a"}');
    let received = '';
    for await (const bytes of socket) {
      received += String(bytes);
      if (received.includes('"done"')) break;
    }
    assert.match(received, /^HTTP\/1\.1 413 .*HTTP\/1\.1 200 /s);
  });

  test('a cause never reaches the client', async () => {
    const response = await post('{"query":"fail"}');
    assert.equal(response.status, 500);
    assert.deepEqual(await response.json(), {
      errors: [{ message: 'Internal server error.', extensions: { code: 'INTERNAL_SERVER_ERROR' } }],
    });
  });

  test('no more requests than the limit are under way, and not one fewer', async () => {
    const first = post('{"query":"wait"}');
    const second = post('{"query":"wait"}');
    while (waiting.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    const third = await post('{"query":"a"}');
    assert.equal(third.status, 503);
    assert.equal(third.headers.get('retry-after'), '1');
    assert.equal(await codeOf(third), 'SERVICE_UNAVAILABLE');
    for (const finish of waiting.splice(0)) finish();
    assert.deepEqual(
      [(await first).status, (await second).status, (await post('{"query":"a"}')).status],
      [200, 200, 200],
    );
  });

  test('a client that goes away in the middle gives its place back', async () => {
    const { port } = server.address() as AddressInfo;
    for (let client = 0; client < 5; client++) {
      const socket = net.connect(port, '127.0.0.1');
      socket.write(
        'POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"query"',
      );
      await new Promise((resolve) => setTimeout(resolve, 20));
      socket.destroy();
      await new Promise((resolve) => socket.once('close', resolve));
    }
    while ((await post('{"query":"a"}')).status !== 200) await new Promise((resolve) => setTimeout(resolve, 5));
  });
});
