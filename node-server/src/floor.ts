import { readFileSync } from 'node:fs';
import path from 'node:path';
import { RequestError } from './errors.ts';
import type { Execute } from './http.ts';
import type { Master } from './master.ts';
import { formatDateTime } from './schema.ts';
import { type Item, idArray, type Named, type Review, type Statement, type Store, type Work } from './store.ts';

// The headline operations by hand, with no GraphQL library: what Node itself costs. It is the one place that knows
// operations of the contract, and recognises them by their text.

interface FloorServices {
  readonly store: Store;
  readonly master: Master;
  readonly masterInMemory: boolean;
}

/** White space and commas mean nothing in GraphQL. */
function normalise(query: string): string {
  return query
    .replace(/[\s,]+/g, ' ')
    .replace(/ ?([{}():]) ?/g, '$1')
    .trim();
}

async function namesByIds(
  services: FloorServices,
  work: Work,
  statement: Statement<Named>,
  ids: Iterable<string>,
): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  const array = [...ids];
  if (array.length === 0) return names;
  for (const row of await services.store.run(services.store.replica, work, statement, [idArray(array)])) {
    names.set(row.id, JSON.stringify(row.name));
  }
  return names;
}

function readItems({ store }: FloorServices, work: Work, first: number): Promise<Item[]> {
  return store.run(store.replica, work, store.statements.items, ['0', String(first)]);
}

function categoryNames(services: FloorServices, work: Work, items: readonly Item[]): Promise<Map<string, string>> {
  const ids = new Set<string>();
  for (const { categoryId } of items) if (categoryId !== null) ids.add(categoryId);
  return namesByIds(services, work, services.store.statements.categoriesByIds, ids);
}

/** A nullable object of a name alone. */
function named(id: string | null, names: ReadonlyMap<string, string>): string {
  const name = id === null ? undefined : names.get(id);
  return name === undefined ? 'null' : `{"name":${name}}`;
}

async function q1(services: FloorServices, work: Work): Promise<string> {
  const items = await readItems(services, work, 20);
  const categories = await categoryNames(services, work, items);
  work.timing?.mark('execute');
  let list = '';
  for (const item of items) {
    if (list !== '') list += ',';
    list += `{"id":"${item.id}","name":${JSON.stringify(item.name)},"priceCents":${item.priceCents},"category":${named(item.categoryId, categories)}}`;
  }
  return `{"data":{"items":[${list}]}}`;
}

async function areaNames(services: FloorServices, work: Work, items: readonly Item[]): Promise<Map<string, string>> {
  const ids = new Set<string>();
  for (const { areaId } of items) ids.add(areaId);
  if (!services.masterInMemory) return namesByIds(services, work, services.store.statements.areasByIds, ids);
  const names = new Map<string, string>();
  for (const id of ids) {
    const area = services.master.areas.byId.get(id);
    // Made a moment ago, and not yet announced.
    if (area === undefined) return namesByIds(services, work, services.store.statements.areasByIds, ids);
    names.set(id, JSON.stringify(area.name));
  }
  return names;
}

async function reviewsWithAuthors(services: FloorServices, work: Work, items: readonly Item[]) {
  const { store } = services;
  const reviews =
    items.length === 0
      ? []
      : await store.run(store.replica, work, store.statements.reviewsByItemIds, [
          idArray(items.map((item) => item.id)),
          '3',
        ]);
  const byItem = new Map<string, Review[]>();
  const authorIds = new Set<string>();
  for (const review of reviews) {
    authorIds.add(review.authorId);
    const ofItem = byItem.get(review.itemId);
    if (ofItem === undefined) byItem.set(review.itemId, [review]);
    else ofItem.push(review);
  }
  return { byItem, authors: await namesByIds(services, work, store.statements.usersByIds, authorIds) };
}

async function q2(services: FloorServices, work: Work): Promise<string> {
  const items = await readItems(services, work, 20);
  const [categories, areas, { byItem, authors }] = await Promise.all([
    categoryNames(services, work, items),
    areaNames(services, work, items),
    reviewsWithAuthors(services, work, items),
  ]);
  work.timing?.mark('execute');
  let list = '';
  for (const item of items) {
    if (list !== '') list += ',';
    let reviews = '';
    for (const review of byItem.get(item.id) ?? []) {
      if (reviews !== '') reviews += ',';
      reviews += `{"rating":${review.rating},"body":${JSON.stringify(review.body)},"author":${named(review.authorId, authors)}}`;
    }
    list += `{"id":"${item.id}","name":${JSON.stringify(item.name)},"priceCents":${item.priceCents},"category":${named(item.categoryId, categories)},"area":${named(item.areaId, areas)},"reviews":[${reviews}]}`;
  }
  return `{"data":{"items":[${list}]}}`;
}

async function q3(services: FloorServices, work: Work): Promise<string> {
  const items = await readItems(services, work, 500);
  const categories = await categoryNames(services, work, items);
  work.timing?.mark('execute');
  let list = '';
  for (const item of items) {
    if (list !== '') list += ',';
    list += `{"id":"${item.id}","name":${JSON.stringify(item.name)},"description":${JSON.stringify(item.description)},"priceCents":${item.priceCents},"openedOn":"${item.openedOn}","updatedAt":"${formatDateTime(item.updatedAt)}","category":${named(item.categoryId, categories)}}`;
  }
  return `{"data":{"items":[${list}]}}`;
}

const headlines = { q1, q2, q3 };

/** Answers the headline operations of the contract's folder, and nothing else: NOT_IN_THIS_TIER. */
export function newFloor(contractDir: string, services: FloorServices): Execute {
  const byText = new Map<string, (services: FloorServices, work: Work) => Promise<string>>();
  for (const [name, answer] of Object.entries(headlines)) {
    const file = path.join(contractDir, 'operations', name, 'query.graphql');
    byText.set(normalise(readFileSync(file, 'utf8')), answer);
  }
  return async ({ query }, work) => {
    const answer = byText.get(query) ?? byText.get(normalise(query));
    work.timing?.mark('parse');
    if (answer === undefined) {
      throw new RequestError('NOT_IN_THIS_TIER', 501, 'This tier answers the headline operations only.');
    }
    work.timing?.mark('validate');
    const body = await answer(services, work);
    work.timing?.mark('serialize');
    return { body, code: 'OK' };
  };
}
