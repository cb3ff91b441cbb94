import { badArgument, FieldError } from './errors.ts';
import type { Limits } from './limits.ts';
import { type Loaders, newLoaders } from './loaders.ts';
import { addBusinessDays, formatDay, holidaySet, type Master, parseDay } from './master.ts';
import { features, mostWeight, type RankedItem, type Ranking } from './ranking.ts';
import type { Item, Named, Pool, Review, ReviewStats, RunStatement, Store, Work } from './store.ts';
import type { Telemetry } from './telemetry.ts';
import type { Upstream } from './upstream.ts';

/** What all requests share. */
export interface Services {
  readonly store: Store;
  readonly master: Master;
  /** Whether areas, genres and holidays are read from memory, or from Redis; else from the database. */
  readonly masterInMemory: boolean;
  readonly masterInRedis: boolean;
  readonly batching: 'on' | 'off';
  readonly quote: Upstream;
  readonly ranking: Ranking;
  readonly limits: Limits;
  readonly telemetry: Telemetry;
}

/** What the resolvers of one request share. */
export class RequestContext {
  readonly services: Services;
  readonly work: Work;
  /** Where this request reads and writes: the replica, but the primary for a mutation. */
  pool: Pool;
  /** What mercurius' hook calls once the document proved valid and before anything is executed; gives the variables. */
  beforeExecution: (() => Record<string, unknown> | undefined) | null = null;
  readonly run: RunStatement;
  /** The same on the primary, whatever the request is. */
  readonly runOnPrimary: RunStatement;
  #loaders: Loaders | undefined;

  constructor(services: Services, work: Work) {
    const { store } = services;
    this.services = services;
    this.work = work;
    this.pool = store.replica;
    this.run = (statement, values) => store.run(this.pool, work, statement, values);
    this.runOnPrimary = (statement, values) => store.run(store.primary, work, statement, values);
  }

  get loaders(): Loaders {
    const { store, batching, telemetry, master, masterInRedis } = this.services;
    this.#loaders ??= newLoaders(
      this.run,
      store.statements,
      batching,
      (loader, keys) => telemetry.countBatch(loader, keys),
      masterInRedis ? (table, statement, ids) => master.byIds(table, statement, ids, this.runOnPrimary) : null,
    );
    return this.#loaders;
  }

  /** Forgets what was loaded: after a write, what is read must be read anew. */
  forgetLoaded(): void {
    this.#loaders = undefined;
  }
}

const mostInt4 = 2 ** 31 - 1;

/** The id, or null for one that no row can have. */
function checkId(name: string, id: string): string | null {
  if (!/^(?:0|[1-9][0-9]*)$/.test(id)) throw badArgument(`Argument "${name}" must be a decimal integer.`);
  return id.length < 10 || (id.length === 10 && Number(id) <= mostInt4) ? id : null;
}

function checkRange(name: string, value: number, least: number, most: number): void {
  if (value < least || value > most) throw badArgument(`Argument "${name}" must be from ${least} to ${most}.`);
}

function checkNoNul(name: string, text: string): void {
  if (text.includes('\0')) throw badArgument(`Argument "${name}" must not contain U+0000.`);
}

function checkCharacters(name: string, text: string, most: number): void {
  checkNoNul(name, text);
  // Characters are code points; a string has no more of them than UTF-16 units.
  if (text.length === 0 || (text.length > most && [...text].length > most)) {
    throw badArgument(`Argument "${name}" must have from 1 to ${most} characters.`);
  }
}

interface ItemsArguments {
  first: number;
  after?: string | null;
  areaId?: string | null;
  genreId?: string | null;
}

interface AddReviewArguments {
  input: { itemId: string; authorId: string; rating: number; body: string };
}

type AddReviewResult =
  | { __typename: 'ReviewAdded'; review: Review }
  | { __typename: 'ItemNotFound'; itemId: string }
  | { __typename: 'AuthorNotFound'; authorId: string };

type Maybe<Value> = Value | null | Promise<Value | null>;

function items(_: unknown, args: ItemsArguments, context: RequestContext): Item[] | Promise<Item[]> {
  const { store, limits } = context.services;
  checkRange('first', args.first, 0, limits.pageSize);
  const after = args.after == null ? '0' : checkId('after', args.after);
  const areaId = args.areaId == null ? undefined : checkId('areaId', args.areaId);
  const genreId = args.genreId == null ? undefined : checkId('genreId', args.genreId);
  if (after === null || areaId === null || genreId === null) return [];
  const values = [after, String(args.first)];
  const { statements } = store;
  if (areaId !== undefined && genreId !== undefined) {
    return context.run(statements.itemsByAreaAndGenre, [...values, areaId, genreId]);
  }
  if (areaId !== undefined) return context.run(statements.itemsByArea, [...values, areaId]);
  if (genreId !== undefined) return context.run(statements.itemsByGenre, [...values, genreId]);
  return context.run(statements.items, values);
}

async function businessDay(_: unknown, args: { from: string; days: number }, context: RequestContext): Promise<string> {
  const { limits, master, masterInMemory, masterInRedis, store } = context.services;
  checkRange('days', args.days, 0, limits.businessDays);
  let holidays = master.holidays;
  if (masterInRedis) holidays = await master.everyHoliday(context.runOnPrimary);
  else if (!masterInMemory) holidays = holidaySet(await context.run(store.statements.holidays, []));
  const from = parseDay(args.from);
  // The scalar let only days through.
  if (from === null) throw new Error('businessDay: from is no day');
  const day = formatDay(addBusinessDays(from, args.days, holidays, () => context.work.checkDeadline()));
  if (day === null) throw badArgument('Argument "days" must not lead beyond 9999-12-31.');
  return day;
}

function ranking(
  _: unknown,
  args: { weights: number[]; first: number; areaId?: string | null },
  context: RequestContext,
): RankedItem[] | Promise<RankedItem[]> {
  const { limits, master, ranking: ranker } = context.services;
  const { weights } = args;
  // graphql-jit lets a null into the list through a nullable variable.
  const isWeight = (weight: number): boolean => Number.isInteger(weight) && Math.abs(weight) <= mostWeight;
  if (weights.length !== features || !weights.every(isWeight)) {
    throw badArgument(
      `Argument "weights" must have exactly ${features} integers from -${mostWeight} to ${mostWeight}.`,
    );
  }
  checkRange('first', args.first, 0, limits.rankingSize);
  const areaId = args.areaId == null ? undefined : checkId('areaId', args.areaId);
  if (areaId === null) return [];
  return ranker.rank(master.vectors, weights, args.first, areaId ?? null, context.work);
}

async function quote(_: unknown, args: { itemId: string; guests: number }, context: RequestContext) {
  const itemId = checkId('itemId', args.itemId);
  checkRange('guests', args.guests, 1, 100);
  // The service knows no such item, as it would say itself.
  if (itemId === null) throw new FieldError('UPSTREAM_FAILED', 'Upstream failed.');
  const price = await context.services.quote(itemId, args.guests, context.work);
  return { itemId, guests: args.guests, ...price };
}

async function addReview(_: unknown, { input }: AddReviewArguments, context: RequestContext): Promise<AddReviewResult> {
  const itemId = checkId('input.itemId', input.itemId);
  const authorId = checkId('input.authorId', input.authorId);
  checkRange('input.rating', input.rating, 1, 5);
  checkCharacters('input.body', input.body, 2000);
  // No row has the id 0, so an id that cannot be sent still lets the other one be looked up.
  const values = [itemId ?? '0', authorId ?? '0', String(input.rating), input.body];
  const [added] = await context.run(context.services.store.statements.addReview, values);
  context.forgetLoaded();
  if (added === undefined) throw new Error('add_review: no row');
  if (!added.itemFound) return { __typename: 'ItemNotFound', itemId: input.itemId };
  if (!added.authorFound) return { __typename: 'AuthorNotFound', authorId: input.authorId };
  if (added.review === null) throw new Error('add_review: no review');
  return { __typename: 'ReviewAdded', review: added.review };
}

async function renameArea(
  _: unknown,
  args: { id: string; name: string },
  context: RequestContext,
): Promise<Named | null> {
  const id = checkId('id', args.id);
  const name = args.name.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, '');
  checkCharacters('name', name, 200);
  if (id === null) return null;
  const area = await context.services.master.renameArea(id, name, context.run);
  context.forgetLoaded();
  return area;
}

function checkPage(first: number, context: RequestContext): void {
  checkRange('first', first, 0, context.services.limits.pageSize);
}

/**
 * Resolvers by type and field. A field that is not here is the property of its name. What is in memory comes without a
 * promise.
 */
export const resolvers = {
  Query: {
    items,
    item(_: unknown, args: { id: string }, context: RequestContext): Maybe<Item> {
      const id = checkId('id', args.id);
      return id === null ? null : context.loaders.itemsByIds.load(id);
    },
    categories: (_: unknown, _args: unknown, context: RequestContext): Promise<Named[]> =>
      context.run(context.services.store.statements.categories, []),
    areas(_: unknown, _args: unknown, context: RequestContext): readonly Named[] | Promise<Named[]> {
      const { master, masterInMemory, masterInRedis, store } = context.services;
      if (masterInRedis) return master.every('area', context.runOnPrimary);
      return masterInMemory ? master.areas.list : context.run(store.statements.areas, []);
    },
    genres(_: unknown, _args: unknown, context: RequestContext): readonly Named[] | Promise<Named[]> {
      const { master, masterInMemory, masterInRedis, store } = context.services;
      if (masterInRedis) return master.every('genre', context.runOnPrimary);
      return masterInMemory ? master.genres.list : context.run(store.statements.genres, []);
    },
    search(_: unknown, args: { text: string; first: number }, context: RequestContext): Promise<(Named | Item)[]> {
      checkNoNul('text', args.text);
      checkPage(args.first, context);
      return context.run(context.services.store.statements.search, [args.text, String(args.first)]);
    },
    ranking,
    businessDay,
    quote,
  },
  Mutation: { addReview, renameArea },
  Category: {
    items(category: Named, args: { first: number }, context: RequestContext): Promise<Item[]> {
      checkPage(args.first, context);
      return context.loaders.itemsByCategoryIds(args.first).load(category.id);
    },
  },
  Item: {
    category: (item: Item, _args: unknown, context: RequestContext): Maybe<Named> =>
      item.categoryId === null ? null : context.loaders.categoriesByIds.load(item.categoryId),
    area(item: Item, _args: unknown, context: RequestContext): Maybe<Named> {
      const { master, masterInMemory } = context.services;
      // An area that was made a moment ago, and not yet announced, is looked up.
      const known = masterInMemory ? master.areas.byId.get(item.areaId) : undefined;
      return known ?? context.loaders.areasByIds.load(item.areaId);
    },
    genre(item: Item, _args: unknown, context: RequestContext): Maybe<Named> {
      const { master, masterInMemory } = context.services;
      const known = masterInMemory ? master.genres.byId.get(item.genreId) : undefined;
      return known ?? context.loaders.genresByIds.load(item.genreId);
    },
    owner: (item: Item, _args: unknown, context: RequestContext): Maybe<Named> =>
      item.ownerId === null ? null : context.loaders.usersByIds.load(item.ownerId),
    editor: (item: Item, _args: unknown, context: RequestContext): Maybe<Named> =>
      item.editorId === null ? null : context.loaders.usersByIds.load(item.editorId),
    reviews(item: Item, args: { first: number }, context: RequestContext): Promise<Review[]> {
      checkPage(args.first, context);
      return context.loaders.reviewsByItemIds(args.first).load(item.id);
    },
    reviewStats: (item: Item, _args: unknown, context: RequestContext): Promise<ReviewStats> =>
      context.loaders.reviewStatsByItemIds.load(item.id),
  },
  Review: {
    author: (review: Review, _args: unknown, context: RequestContext): Maybe<Named> =>
      context.loaders.usersByIds.load(review.authorId),
    item: (review: Review, _args: unknown, context: RequestContext): Maybe<Item> =>
      context.loaders.itemsByIds.load(review.itemId),
  },
  User: {
    reviews(user: Named, args: { first: number }, context: RequestContext): Promise<Review[]> {
      checkPage(args.first, context);
      return context.loaders.reviewsByUserIds(args.first).load(user.id);
    },
  },
  RankedItem: {
    item: (ranked: RankedItem, _args: unknown, context: RequestContext): Maybe<Item> =>
      context.loaders.itemsByIds.load(ranked.itemId),
  },
};
