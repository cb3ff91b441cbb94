import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import path from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { serverAudits } from 'graphql-http';
import { Redis } from 'ioredis';
import pg from 'pg';
import { cachePrefix } from '../src/cache.ts';
import { contractDir, counts, databaseUrl, type RunningApp, sql, startApp, until } from './support.ts';

const operation = (name: string): string =>
  readFileSync(path.join(contractDir, 'operations', name, 'query.graphql'), 'utf8');

// The answers of the headline operations as SQL makes them, fields in their order.
const named = (table: string, id: string) => `(select json_build_object('name', name) from ${table} where id = ${id})`;
const goldens: Record<string, string> = {
  q1: `select json_build_object('items', json_agg(json_build_object('id', id::text, 'name', name,
      'priceCents', price_cents, 'category', ${named('category', 'category_id')}) order by id))
    from (select * from item order by id limit 20) item`,
  q2: `select json_build_object('items', json_agg(json_build_object('id', id::text, 'name', name,
      'priceCents', price_cents, 'category', ${named('category', 'category_id')},
      'area', ${named('area', 'area_id')},
      'reviews', coalesce((select json_agg(json_build_object('rating', rating, 'body', body,
          'author', ${named('app_user', 'author_id')}) order by created_at desc, id desc)
        from (select * from review where item_id = item.id order by created_at desc, id desc limit 3) r), '[]'))
      order by id))
    from (select * from item order by id limit 20) item`,
  q3: `select json_build_object('items', json_agg(json_build_object('id', id::text, 'name', name,
      'description', description, 'priceCents', price_cents, 'openedOn', opened_on::text,
      'updatedAt', to_char(updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
      'category', ${named('category', 'category_id')}) order by id))
    from (select * from item order by id limit 500) item`,
};

for (const tier of ['mainstream', 'compiled', 'floor']) {
  suite(`tier ${tier}`, () => {
    let running: RunningApp;
    before(async () => {
      running = await startApp({ TIER: tier });
      await running.ready();
    });
    after(() => running.app.close());

    test('app serves the golden operation', async () => {
      for (const [name, text] of Object.entries(goldens)) {
        const [expected] = await sql(text);
        // The first time interpreted, then compiled where the tier compiles.
        for (let time = 0; time < 3; time++) {
          const { status, body } = await running.post({ query: operation(name) });
          assert.equal(status, 200);
          assert.equal(JSON.stringify(body), JSON.stringify({ data: expected }), name);
        }
      }
    });

    test('statements are one for each loader and level, at any concurrency', async () => {
      const sent = () => counts(running.origin, 'lab_statements_total');
      for (const [name, expected] of [
        ['q1', ['items', 'categories_by_ids']],
        ['q2', ['items', 'categories_by_ids', 'reviews_by_item_ids', 'users_by_ids']],
        ['q3', ['items', 'categories_by_ids']],
      ] as const) {
        for (const requests of [1, 16]) {
          const earlier = await sent();
          await Promise.all(Array.from({ length: requests }, () => running.post({ query: operation(name) })));
          const later = await sent();
          const more = [...later].filter(([statement, count]) => count !== (earlier.get(statement) ?? 0));
          assert.deepEqual(
            new Map(more.map(([statement, count]) => [statement, count - (earlier.get(statement) ?? 0)])),
            new Map([...later.keys()].filter((key) => expected.includes(key as never)).map((key) => [key, requests])),
            `${name} × ${requests}`,
          );
          assert.equal(more.length, expected.length);
        }
      }
    });

    test('phases add up to the total', async () => {
      const response = await fetch(running.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-server-timing': '1' },
        body: JSON.stringify({ query: operation('q2') }),
      });
      const header = response.headers.get('server-timing') ?? '';
      const phases = new Map([...header.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)]));
      assert.deepEqual([...phases.keys()], ['parse', 'validate', 'execute', 'db', 'serialize', 'total']);
      const total = phases.get('total') ?? 0;
      const sum = [...phases.values()].reduce((all, ms) => all + ms, 0) - total;
      assert.ok(total > 0 && (phases.get('db') ?? 0) > 0, header);
      assert.ok(Math.abs(sum - total) <= 0.05 * total, header);
      assert.equal((await running.post({ query: operation('q2') })).headers.get('server-timing'), null);
    });

    test('metrics have the names of the contract', async () => {
      const text = await (await fetch(`${running.origin}/metrics`)).text();
      for (const name of [
        'lab_requests_total{code="OK"}',
        'lab_request_seconds_bucket{le="+Inf"}',
        'lab_pool_connections{address="primary",state="in_use"}',
        'lab_pool_connections{address="primary",state="idle"}',
        'lab_pool_wait_seconds_count',
        'lab_statements_total{statement="items"}',
        'lab_documents_cached',
        'lab_document_lookups_total{result="hit"}',
        'lab_worker_busy_seconds_total{worker="0"}',
        'lab_worker_elapsed_seconds_total{worker="0"}',
        'lab_gc_pause_seconds_sum{worker="0",kind="minor"}',
        'lab_gc_pause_seconds_count{worker="0",kind="major"}',
        'lab_heap_used_bytes',
        'lab_heap_committed_bytes',
        'process_cpu_seconds_total',
        ...(tier === 'floor' ? [] : ['lab_loader_batch_keys_bucket{loader="users_by_ids",le="+Inf"}']),
      ]) {
        assert.ok(text.includes(`\n${name} `) || text.includes(`\n${name}{`), name);
      }
    });
  });
}

suite('floor', () => {
  test('answers nothing but the headline operations', async () => {
    const running = await startApp({ TIER: 'floor' });
    await running.ready();
    const other = await running.post({ query: '{ areas { id } }' });
    assert.equal(other.status, 501);
    assert.equal(other.body.errors?.[0]?.extensions.code, 'NOT_IN_THIS_TIER');
    const spaced = operation('q1').replaceAll('{', ' ,{\n').replaceAll(':', ' : ');
    assert.equal((await running.post({ query: spaced })).status, 200);
    await running.app.close();
  });
});

// What graphql-js answers is what graphql-jit must answer: the first execution of a text is interpreted.
suite('compiled answers equal interpreted ones', () => {
  let running: RunningApp;
  const upstream = http.createServer((_request, response) => response.end('{"totalCents":100,"currency":"EUR"}'));
  before(async () => {
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    const { port } = upstream.address() as AddressInfo;
    running = await startApp({ TIER: 'compiled', UPSTREAM_URL: `http://127.0.0.1:${port}` });
    await running.ready();
  });
  after(async () => {
    await running.app.close();
    upstream.close();
    upstream.closeAllConnections();
  });

  const weights = JSON.stringify(Array.from({ length: 32 }, (_, index) => index - 16));
  const rows: [name: string, query: string, variables?: Record<string, unknown>][] = [
    [
      'aliases',
      '{ a: items(first: 2) { id b: name reviews(first: 1) { id } c: reviews(first: 2) { id } } d: items(first: 1) { id } }',
    ],
    ['merged fields', '{ items(first: 2) { category { id } id category { name } } }'],
    [
      'fragments',
      '{ items(first: 3) { ...F name } } fragment F on Item { owner { ...U } editor { id ...U } } fragment U on User { name reviews(first: 1) { id } }',
    ],
    [
      'an interface',
      '{ search(text: "", first: 200) { __typename id ... on Item { priceCents owner { name } } ... on Category { items(first: 1) { id } } name } }',
    ],
    ['__typename', '{ __typename items(first: 1) { __typename category { __typename } } }'],
    [
      'skip and include',
      'query($s: Boolean!, $i: Boolean!) { items(first: 2) { id @skip(if: $s) name @include(if: $i) category @include(if: $i) { id } } }',
      { s: true, i: false },
    ],
    [
      'skip and include, the other way',
      'query($s: Boolean!, $i: Boolean!) { items(first: 2) { id @skip(if: $s) name @include(if: $i) ... @include(if: $i) { category { id } } } }',
      { s: false, i: true },
    ],
    [
      'a null for an argument with a default',
      'query($n: Int) { item(id: 2) { id reviews(first: $n) { id } } other: item(id: 3) { category { items(first: $n) { id } } } }',
      { n: null },
    ],
    [
      'a null for @skip and @include',
      'query($b: Boolean = true) { item(id: 1) { id @skip(if: $b) name @include(if: $b) } }',
      { b: null },
    ],
    [
      'a null in a list, through a default',
      `query($n: Int = 1) { ranking(weights: [$n${' 1'.repeat(31)}]) { score } }`,
      { n: null },
    ],
    [
      'a null in an input object, through a default',
      'mutation($n: Int = 1) { addReview(input: { itemId: 999999, authorId: 1, rating: $n, body: "x" }) { __typename } }',
      { n: null },
    ],
    ['a variable that is not given', 'query($n: Int, $a: ID) { items(first: $n, after: $a) { id } }'],
    [
      'arguments out of range',
      '{ a: item(id: 2) { id reviews(first: 501) { id } } b: item(id: 3) { category { items(first: -1) { id } } } }',
    ],
    ['arguments out of range beside data', '{ a: item(id: "x") { id } b: item(id: 3) { id } }'],
    ['errors in a list', 'query($n: Int) { categories { id items(first: $n) { id } } }', { n: -1 }],
    ['a null that propagates to the top', '{ items(first: -1) { id } areas { id } }'],
    ['ids', '{ a: item(id: 99999999999) { id } b: item(id: "2147483647") { id } c: item(id: 0) { id } }'],
    [
      'lists of variables',
      'query($w: [Int!]!) { ranking(weights: $w, first: 3) { score item { id name } } }',
      { w: JSON.parse(weights) },
    ],
    ['lists of literals', `{ ranking(weights: ${weights}, areaId: 3) { score item { area { id } } } }`],
    ['a list too short', '{ ranking(weights: [1]) { score } }'],
    [
      'scalars',
      'query($d: Date!) { businessDay(from: $d, days: 10) items(first: 2) { openedOn updatedAt reviewStats { count average } } }',
      { d: '2026-01-01' },
    ],
    ['an outside price', '{ quote(itemId: 7, guests: 2) { itemId guests totalCents currency } }'],
    ['master data', '{ areas { id name } genres { __typename id } }'],
    [
      'introspection',
      '{ __schema { queryType { name } types { name fields { name args { name defaultValue type { kind name ofType { name } } } } } directives { name } } __type(name: "Item") { name description } }',
    ],
    [
      'deep',
      '{ items(first: 3) { category { items(first: 2) { owner { name } reviews(first: 2) { author { reviews(first: 1) { item { area { name } } } } } } } reviews { author { name } } } }',
    ],
    [
      'a refused mutation',
      'mutation { a: addReview(input: { itemId: 1, authorId: 1, rating: 9, body: "x" }) { __typename } }',
    ],
    [
      'a union',
      'mutation { a: addReview(input: { itemId: 99999999999, authorId: 1, rating: 1, body: "x" }) { __typename ... on ItemNotFound { itemId } ... on ReviewAdded { review { id } } } b: addReview(input: { itemId: 1, authorId: 0, rating: 1, body: "x" }) { ... on AuthorNotFound { authorId } } c: renameArea(id: 0, name: "x") { id } }',
    ],
  ];
  for (const [name, query, variables] of rows) {
    test(name, async () => {
      const interpreted = await running.post({ query, variables });
      for (let time = 0; time < 3; time++) {
        const compiled = await running.post({ query, variables });
        const errorsOf = ({ body }: typeof compiled) =>
          body.errors?.map(({ path, extensions }) => ({ path, ...extensions }));
        assert.equal(JSON.stringify(compiled.body.data), JSON.stringify(interpreted.body.data));
        assert.deepEqual(new Set(errorsOf(compiled)), new Set(errorsOf(interpreted)));
        assert.equal(compiled.status, interpreted.status);
      }
    });
  }

  test('each operation of a document is compiled for itself', async () => {
    const query = 'query A { areas { id } } query B { genres { id } } query C($n: Int!) { items(first: $n) { id } }';
    for (const [operationName, field] of [...Array(3)].flatMap(
      () =>
        [
          ['A', 'areas'],
          ['B', 'genres'],
          ['C', 'items'],
        ] as const,
    )) {
      const { body } = await running.post({ query, operationName, variables: { n: 1 } });
      assert.deepEqual(Object.keys(body.data ?? {}), [field]);
    }
    for (const operationName of [undefined, 'D', '']) {
      const { status, body } = await running.post({ query, operationName });
      assert.equal(status, 400);
      assert.equal(body.errors?.[0]?.extensions.code, 'OPERATION_RESOLUTION_FAILURE');
    }
  });
});

suite('requests', () => {
  let running: RunningApp;
  before(async () => {
    running = await startApp();
    await running.ready();
  });
  after(() => running.app.close());
  const codeOf = async (body: object) => {
    const answer = await running.post(body);
    return [answer.status, answer.body.errors?.[0]?.extensions.code, 'data' in answer.body];
  };

  const refused: [name: string, body: object, status: number, code: string][] = [
    ['an empty query', { query: '' }, 400, 'GRAPHQL_PARSE_FAILED'],
    ['a document as JSON', { query: '{"kind":"Document","definitions":[]}' }, 400, 'GRAPHQL_PARSE_FAILED'],
    ['a wrong field', { query: '{ nothing }' }, 400, 'GRAPHQL_VALIDATION_FAILED'],
    ['a subscription', { query: 'subscription { items { id } }' }, 400, 'GRAPHQL_VALIDATION_FAILED'],
    [
      'fragments in a circle',
      { query: '{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }' },
      400,
      'GRAPHQL_VALIDATION_FAILED',
    ],
    [
      'a date that is none, written down',
      { query: '{ businessDay(from: "2026-02-30", days: 1) }' },
      400,
      'GRAPHQL_VALIDATION_FAILED',
    ],
    [
      'a date that is none, as a variable',
      { query: 'query($d: Date!) { businessDay(from: $d, days: 1) }', variables: { d: '2026-02-30' } },
      400,
      'BAD_USER_INPUT',
    ],
    [
      'a variable of a wrong type',
      { query: 'query($n: Int!) { items(first: $n) { id } }', variables: { n: 'x' } },
      400,
      'BAD_USER_INPUT',
    ],
    [
      'a variable beyond 32 bits',
      { query: 'query($n: Int!) { items(first: $n) { id } }', variables: { n: 2147483648 } },
      400,
      'BAD_USER_INPUT',
    ],
    ['a missing variable', { query: 'query($n: Int!) { items(first: $n) { id } }' }, 400, 'BAD_USER_INPUT'],
    [
      'a costly query',
      { query: '{ items(first: 500) { category { items(first: 500) { id } } } }' },
      400,
      'QUERY_TOO_COSTLY',
    ],
    [
      'validation before the name',
      { query: 'query A { nothing }', operationName: 'B' },
      400,
      'GRAPHQL_VALIDATION_FAILED',
    ],
    [
      'the name before variables',
      { query: 'query A($n: Int!) { items(first: $n) { id } }', operationName: 'B' },
      400,
      'OPERATION_RESOLUTION_FAILURE',
    ],
    ['a type definition', { query: '{ __typename } type X { a: Int }' }, 400, 'GRAPHQL_PARSE_FAILED'],
    [
      'an id as a number beyond 53 bits',
      { query: 'query($i: ID!) { item(id: $i) { id } }', variables: { i: 1e30 } },
      400,
      'BAD_USER_INPUT',
    ],
    [
      'variables before cost',
      { query: 'query($n: Int!) { items(first: $n) { reviews(first: 500) { id } } }', variables: { n: null } },
      400,
      'BAD_USER_INPUT',
    ],
  ];
  for (const [name, body, status, code] of refused) {
    test(`${name} is ${code}, the first time and later`, async () => {
      for (let time = 0; time < 3; time++) assert.deepEqual(await codeOf(body), [status, code, false]);
    });
  }

  test('a mutation by GET is 405, a query is answered', async () => {
    const get = (query: string) => fetch(`${running.url}?${new URLSearchParams({ query })}`);
    for (let time = 0; time < 2; time++) {
      const mutation = await get('mutation { renameArea(id: 1, name: "x") { id } }');
      assert.equal(mutation.status, 405);
      assert.equal(mutation.headers.get('allow'), 'POST');
    }
    assert.deepEqual(await (await get('{ item(id: 1) { id } }')).json(), { data: { item: { id: '1' } } });
  });

  test('digits of an id are kept', async () => {
    const query = 'mutation($i: AddReviewInput!) { addReview(input: $i) { ... on ItemNotFound { itemId } } }';
    const response = await fetch(running.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: `{"query":${JSON.stringify(query)},"variables":{"i":{"itemId":12345678901234567890,"authorId":1,"rating":1,"body":"x"}}}`,
    });
    assert.deepEqual(await response.json(), { data: { addReview: { itemId: '12345678901234567890' } } });
  });

  test('audits of graphql-http pass', async () => {
    const failed: string[] = [];
    for (const audit of serverAudits({ url: running.url, fetchFn: fetch })) {
      const result = await audit.fn();
      if (result.status !== 'ok' && !audit.name.startsWith('MAY')) failed.push(`${audit.name}: ${result.reason}`);
    }
    assert.deepEqual(failed, []);
  });

  test('a row changed by SQL is in the next answer', async () => {
    const query = '{ item(id: 1) { category { name } } }';
    const [name] = await sql('select c.name from category c join item i on i.category_id = c.id where i.id = 1');
    const rename = 'update category set name = $1 where id = (select category_id from item where id = 1)';
    try {
      for (const changed of ['one', 'two']) {
        await sql(rename, [changed]);
        assert.deepEqual((await running.post({ query })).body, { data: { item: { category: { name: changed } } } });
      }
    } finally {
      await sql(rename, [name]);
    }
  });

  test('what a mutation loaded is forgotten at its next write', async () => {
    const [author] = await sql('select min(id)::text from app_user');
    const add = `addReview(input: { itemId: 3, authorId: ${author}, rating: 5, body: "to be deleted" })
      { ... on ReviewAdded { review { item { reviewStats { count } } } } }`;
    const [count] = await sql('select count(*)::int from review where item_id = 3');
    const { body } = await running.post({ query: `mutation { a: ${add} b: ${add} }` });
    await sql("delete from review where body = 'to be deleted'");
    const counted = (more: number) => ({ review: { item: { reviewStats: { count: Number(count) + more } } } });
    assert.deepEqual(body, { data: { a: counted(1), b: counted(2) } });
  });
});

suite('database', () => {
  const nameOf = async (running: RunningApp) => {
    const { body } = await running.post({ query: '{ areas { id name } }' });
    const areas = body.data?.areas as { id: string; name: string }[];
    return areas.find(({ id }) => id === '2')?.name;
  };

  test('a renamed area shows at once here, soon elsewhere, and after the listening connection was lost', async () => {
    const [name] = await sql('select name from area where id = 2');
    const [here, elsewhere] = await Promise.all([startApp(), startApp()]);
    await Promise.all([here.ready(), elsewhere.ready()]);
    try {
      await here.post({ query: 'mutation { renameArea(id: 2, name: " renamed\\n") { name } }' });
      assert.equal(await nameOf(here), 'renamed');
      await until(async () => (await nameOf(elsewhere)) === 'renamed');
      // Renamed while nobody listens: what was missed is read after reconnecting.
      await sql(`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and query = 'listen master_changed'`);
      await sql("update area set name = 'renamed again' where id = 2");
      await until(async () => (await nameOf(elsewhere)) === 'renamed again');
      await until(async () => (await nameOf(here)) === 'renamed again');
    } finally {
      await sql('update area set name = $1 where id = 2', [name]);
      await Promise.all([here.app.close(), elsewhere.app.close()]);
    }
  });

  test('areas are renamed and read in turn, and other tables are read meanwhile', async () => {
    const running = await startApp({ REQUEST_TIMEOUT: '30s' });
    await running.ready();
    const names = await sql(
      'select (select name from area where id = 4), (select name from area where id = 5), (select name from genre where id = 4)',
    );
    const shown = async () => {
      const { body } = await running.post({ query: '{ areas { id name } genres { id name } }' });
      const { areas, genres } = body.data as Record<'areas' | 'genres', { id: string; name: string }[]>;
      const nameIn = (list: { id: string; name: string }[], id: string) => list.find((row) => row.id === id)?.name;
      return [nameIn(areas, '4'), nameIn(areas, '5'), nameIn(genres, '4')];
    };
    const readings = async () => (await counts(running.origin, 'lab_statements_total')).get('areas');
    const before = await readings();
    const blocker = new pg.Client({ connectionString: databaseUrl() });
    await blocker.connect();
    try {
      await blocker.query("begin; update area set name = 'theirs' where id = 4");
      const renamed = running.post({ query: 'mutation { renameArea(id: 4, name: "ours") { name } }' });
      const waiting = `select count(*)::int from pg_stat_activity where datname = current_database()
        and application_name = 'node-server' and wait_event_type = 'Lock'`;
      await until(async () => (await sql(waiting))[0] !== 0);
      await sql("update area set name = 'meanwhile' where id = 5");
      await sql("update genre set name = 'meanwhile' where id = 4");
      await until(async () => (await shown())[2] === 'meanwhile');
      // An older name would be put over a newer one, for good, were the areas read while one of them is renamed.
      assert.equal(await readings(), before);
      await blocker.query('commit');
      assert.deepEqual((await renamed).body, { data: { renameArea: { name: 'ours' } } });
      assert.equal((await shown())[0], 'ours');
      await until(async () => (await shown())[1] === 'meanwhile');
      assert.deepEqual(await shown(), ['ours', 'meanwhile', 'meanwhile']);
    } finally {
      await blocker.end();
      await sql('update area set name = $1 where id = 4', [names[0]]);
      await sql('update area set name = $1 where id = 5', [names[1]]);
      await sql('update genre set name = $1 where id = 4', [names[2]]);
      await running.app.close();
    }
  });

  test('a request over its time is 504, leaves no statement behind, and hits no later request', async () => {
    const running = await startApp({ REQUEST_TIMEOUT: '3s', POOL_SIZE: '1' });
    await running.ready();
    const blocker = new pg.Client({ connectionString: databaseUrl() });
    await blocker.connect();
    await blocker.query('begin; lock table review in access exclusive mode');
    const query = '{ items(first: 1) { reviews { id } } }';
    // The second waits for the only connection, and that counts too.
    const late = await Promise.all([running.post({ query }), running.post({ query })]);
    for (const { status, body } of late) {
      assert.equal(status, 504);
      assert.deepEqual(body, {
        errors: [{ message: 'Request took longer than 3000 ms.', extensions: { code: 'REQUEST_TIMEOUT' } }],
      });
    }
    const left = `select count(*)::int from pg_stat_activity where datname = current_database()
      and state = 'active' and query like '%from review where review.item_id%' and pid <> pg_backend_pid()`;
    await until(async () => (await sql(left))[0] === 0);
    await blocker.query('rollback');
    await blocker.end();
    for (let time = 0; time < 5; time++) assert.equal((await running.post({ query })).status, 200);
    await running.app.close();
  });

  test('dead connections are replaced', async () => {
    const running = await startApp({ POOL_SIZE: '2' });
    await running.ready();
    await sql(`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'node-server'`);
    await until(async () => (await running.post({ query: '{ item(id: 1) { id } }' })).status === 200);
    const pool = () => counts(running.origin, 'lab_pool_connections');
    await until(async () => {
      await pool();
      const text = await (await fetch(`${running.origin}/metrics`)).text();
      return text.includes('lab_pool_connections{address="primary",state="idle"} 2');
    });
    await running.app.close();
  });

  test('without a database there is 503, and with it again there are answers', async () => {
    // A door that is shut at first, then leads to the database.
    const target = new URL(databaseUrl());
    const { createServer, connect } = await import('node:net');
    const sockets = new Set<Socket>();
    const door = createServer((socket) => {
      sockets.add(socket);
      const onward = connect(Number(target.port || 5432), target.hostname);
      socket.on('error', () => {}).on('close', () => onward.destroy());
      socket.pipe(onward);
      onward.on('error', () => socket.destroy()).pipe(socket);
    });
    await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
    const { port } = door.address() as AddressInfo;
    await new Promise((resolve) => door.close(resolve));
    const url = new URL(databaseUrl());
    url.hostname = '127.0.0.1';
    url.port = String(port);
    const running = await startApp({ DATABASE_URL: url.href });
    const refused = await running.post({ query: '{ item(id: 1) { id } }' });
    assert.equal(refused.status, 503);
    assert.equal(refused.headers.get('retry-after'), '1');
    assert.equal(refused.body.errors?.[0]?.extensions.code, 'SERVICE_UNAVAILABLE');
    assert.equal((await fetch(`${running.origin}/readyz`)).status, 503);
    assert.equal((await fetch(`${running.origin}/livez`)).status, 200);
    await new Promise<void>((resolve) => door.listen(port, '127.0.0.1', resolve));
    await running.ready();
    assert.equal((await running.post({ query: '{ item(id: 1) { id } }' })).status, 200);
    // Gone again, until a pause between two tries is long; then whoever asks is not to wait for its end.
    const shut = new Promise((resolve) => door.close(resolve));
    for (const socket of sockets) socket.destroy();
    await shut;
    await until(async () => (await running.post({ query: '{ item(id: 1) { id } }' })).status === 503);
    await sleep(500);
    await new Promise<void>((resolve) => door.listen(port, '127.0.0.1', resolve));
    assert.equal((await running.post({ query: '{ item(id: 1) { id } }' })).status, 200);
    await running.app.close();
    door.close();
  });

  test('what is under way at the end is finished', async () => {
    const running = await startApp();
    await running.ready();
    const blocker = new pg.Client({ connectionString: databaseUrl() });
    await blocker.connect();
    await blocker.query('begin; lock table category in access exclusive mode');
    const answer = running.post({ query: '{ categories { id } }' });
    await until(
      async () =>
        (await sql("select count(*)::int from pg_locks where not granted and relation = 'category'::regclass"))[0] !==
        0,
    );
    const closed = running.app.close();
    await assert.rejects(fetch(`${running.origin}/livez`));
    await blocker.query('rollback');
    await blocker.end();
    assert.equal((await answer).status, 200);
    await closed;
  });
});

suite('settings', () => {
  test('without batching every resolver sends a statement', async () => {
    const running = await startApp({ LOADER: 'off' });
    await running.ready();
    await running.post({ query: operation('q1') });
    const [categories] = await sql('select count(category_id)::int from (select * from item order by id limit 20) i');
    assert.equal((await counts(running.origin, 'lab_statements_total')).get('categories_by_ids'), categories);
    await running.app.close();
  });

  test('without master data in memory it is read by statements, with the same answers', async () => {
    const query =
      '{ areas { id name } genres { id } items(first: 5) { area { name } genre { name } } businessDay(from: "2026-01-01", days: 30) }';
    const [memory, none] = await Promise.all([startApp(), startApp({ MASTER: 'none', START: 'sequential' })]);
    await Promise.all([memory.ready(), none.ready()]);
    assert.deepEqual((await none.post({ query })).body, (await memory.post({ query })).body);
    const sent = await counts(none.origin, 'lab_statements_total');
    for (const statement of ['areas', 'genres', 'holidays', 'areas_by_ids', 'genres_by_ids'])
      assert.equal(sent.get(statement), 1);
    await Promise.all([memory.app.close(), none.app.close()]);
  });

  // An empty Redis; where none is installed the test is skipped, but not in CI.
  const redisUrl = process.env.TEST_REDIS_URL ?? '';
  const skip = redisUrl === '' && !process.env.CI ? 'TEST_REDIS_URL is not set' : false;
  test('what a whole hash in Redis does not have is looked up', { skip }, async () => {
    const running = await startApp({ MASTER: 'redis', REDIS_URL: redisUrl });
    const redis = new Redis(redisUrl);
    try {
      await running.ready();
      // As if it had been made a moment ago, and nothing been heard of it yet.
      const key = `${cachePrefix(databaseUrl())}area`;
      const [id, name] = await sql(
        'select id::text, name from area where id = (select area_id from item where id = 1)',
      );
      assert.equal(await redis.hdel(key, String(id)), 1);
      const { body } = await running.post({ query: '{ item(id: 1) { area { name } } }' });
      assert.deepEqual(body, { data: { item: { area: { name } } } });
      assert.equal((await counts(running.origin, 'lab_statements_total')).get('areas_by_ids'), 1);
      assert.equal(await redis.hexists(key, 'all'), 1);
      assert.equal(await redis.hexists(key, String(id)), 0, 'it is not put there');
    } finally {
      redis.disconnect();
      await running.app.close();
    }
  });

  test('GraphiQL is served to browsers where it is switched on', async () => {
    const [on, off] = await Promise.all([startApp({ GRAPHIQL: 'on' }), startApp()]);
    const browser = { headers: { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' } };
    const page = await fetch(on.url, browser);
    assert.equal(page.status, 200);
    assert.match(page.headers.get('content-type') ?? '', /^text\/html/);
    for (const file of readdirSync(path.join(contractDir, 'graphiql'))) {
      assert.equal((await fetch(`${on.origin}/graphiql/${file}`)).status, 200, file);
    }
    assert.equal((await fetch(`${on.origin}/graphiql/..%2flimits.json`)).status, 404);
    assert.notEqual((await fetch(off.url, browser)).status, 200);
    await Promise.all([on.app.close(), off.app.close()]);
  });
});
