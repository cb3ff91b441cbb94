import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { suite, test } from 'node:test';
import { print, validate } from 'graphql';
import { RequestError } from '../src/errors.ts';
import { type Limits, parseLimits } from '../src/limits.ts';
import { coerceVariables, DocumentCache, newSchema } from '../src/schema.ts';
import { contractDir } from './support.ts';

const limits = parseLimits(readFileSync(path.join(contractDir, 'limits.json'), 'utf8'));
const schema = newSchema(contractDir);

function refusalOf(query: string, variables: Record<string, unknown> = {}, tight: Partial<Limits> = {}) {
  try {
    const all = { ...limits, ...tight };
    const operation = new DocumentCache(schema, all).get(query).operation(null);
    operation.weight.checkLimits(coerceVariables(schema, operation, variables) ?? {}, all);
    return null;
  } catch (error) {
    assert.ok(error instanceof RequestError);
    return { code: error.code, message: error.message };
  }
}

test('a leaf repeated up to the limit of tokens is one field, not a refusal', () => {
  const text = `{${' __typename'.repeat(limits.tokens - 2)} }`;
  const document = new DocumentCache(schema, limits).get(text);
  assert.deepEqual(validate(schema, document.executedNode), []);
  assert.equal(print(document.executedNode), '{\n  __typename\n}');
  const other = `{${Array.from({ length: 400 }, (_, i) => ` a${i}: __typename`).join('')} }`;
  assert.equal(new DocumentCache(schema, limits).get(other).executedText, other);
});

const nested = (depth: number): string => `${'{a'.repeat(depth)}${'}'.repeat(depth)}`;

suite('cost', () => {
  const q2 =
    '{ items(first: 20) { id name priceCents category { name } area { name } reviews(first: 3) { rating body author { name } } } }';
  const rows: [name: string, query: string, variables: Record<string, unknown>, cost: number][] = [
    ['Q2', q2, {}, 180],
    ['the default of an argument', '{ items { id } }', {}, 20],
    ['a variable', 'query($n: Int!) { items(first: $n) { id category { id } } }', { n: 30 }, 60],
    ["a variable's default", 'query($n: Int! = 7) { items(first: $n) { id } }', {}, 7],
    ['a variable that is not given', 'query($n: Int) { items(first: $n) { id } }', {}, 20],
    ['a negative first', '{ items(first: -5) { id category { id } } }', {}, 0],
    ['lists without first', '{ categories { items(first: 2) { id } } areas { id } genres { id } }', {}, 250],
    ['single objects', '{ item(id: 1) { category { id } reviewStats { count } } }', {}, 3],
    ['scalars cost nothing', '{ businessDay(from: "2026-01-01", days: 1) }', {}, 0],
    [
      'fragments',
      '{ items(first: 2) { ...F } } fragment F on Item { category { id } ...G } fragment G on Item { area { id } }',
      {},
      6,
    ],
    ['skipped fields', '{ items(first: 10) @skip(if: true) { id } }', {}, 10],
    ['introspection', '{ __schema { types { fields { args { name } } } } }', {}, 0],
    ['an interface', '{ search(text: "", first: 10) { id ... on Item { area { id } } } }', {}, 20],
  ];
  for (const [name, query, variables, cost] of rows) {
    test(`${name} costs ${cost}`, () => {
      assert.equal(refusalOf(query, variables, { cost: Math.max(cost, 1) }), null);
      if (cost < 2) return;
      assert.deepEqual(refusalOf(query, variables, { cost: cost - 1 }), {
        code: 'QUERY_TOO_COSTLY',
        message: `Query costs ${cost}; the limit is ${cost - 1}.`,
      });
    });
  }

  test('fragments that spread each other twice do not multiply the work', () => {
    const names = Array.from({ length: 60 }, (_, index) => `F${index}`);
    const fragments = names.map((name, index) => {
      const next = names[index + 1];
      return `fragment ${name} on Item { ${next === undefined ? 'category { id }' : `...${next} ...${next}`} }`;
    });
    const refusal = refusalOf(`{ item(id: 1) { ...F0 } } ${fragments.join(' ')}`);
    assert.equal(refusal?.code, 'QUERY_TOO_COSTLY');
  });
});

suite('depth, aliases, tokens', () => {
  const deep = (levels: number): string =>
    `{ item(id: 1) { ${'category { items { '.repeat((levels - 2) / 2)}id${' } }'.repeat((levels - 2) / 2)} } }`;
  test('depth at its limit and above', () => {
    assert.equal(refusalOf(deep(10), {}, { cost: 1e9 }), null);
    assert.deepEqual(refusalOf(deep(12), {}, { cost: 1e9 }), {
      code: 'QUERY_TOO_DEEP',
      message: 'Query has depth 12; the limit is 10.',
    });
  });
  const aliased = (count: number): string =>
    `{ ${Array.from({ length: count }, (_, index) => `a${index}: areas { id }`).join(' ')} }`;
  test('aliases at their limit and above', () => {
    assert.equal(refusalOf(aliased(30)), null);
    assert.deepEqual(refusalOf(aliased(31)), {
      code: 'QUERY_TOO_MANY_ALIASES',
      message: 'Query has 31 aliases; the limit is 30.',
    });
  });
  test('tokens at their limit and above', () => {
    const fields = (count: number): string => `{ areas { ${'id,'.repeat(count)} } } # a comment is none`;
    assert.equal(refusalOf(fields(1995)), null);
    assert.deepEqual(refusalOf(fields(1996)), {
      code: 'QUERY_TOO_LONG',
      message: 'Query has more than 2000 tokens; the limit is 2000.',
    });
  });
  test('tokens are counted before the document is parsed', () => {
    assert.equal(refusalOf('} '.repeat(2001))?.code, 'QUERY_TOO_LONG');
    assert.equal(refusalOf('} '.repeat(2000))?.code, 'GRAPHQL_PARSE_FAILED');
    assert.equal(refusalOf(nested(3000))?.code, 'QUERY_TOO_LONG');
    assert.equal(refusalOf('')?.code, 'GRAPHQL_PARSE_FAILED');
  });
});

suite('document cache', () => {
  test('keeps the texts used last', () => {
    const cache = new DocumentCache(schema, { ...limits, cachedDocuments: 2 });
    const first = cache.get('{ areas { id } }');
    cache.get('{ genres { id } }');
    assert.equal(cache.get('{ areas { id } }'), first);
    cache.get('{ categories { id } }');
    assert.equal(cache.size, 2);
    assert.equal(cache.get('{ areas { id } }'), first);
    const again = cache.get('{ genres { id } }');
    assert.equal(cache.size, 2);
    assert.notEqual(again, first);
  });
});
