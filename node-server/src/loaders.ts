import DataLoader from 'dataloader';
import {
  type Item,
  idArray,
  type Named,
  type Review,
  type ReviewStats,
  type RunStatement,
  type Statement,
  type Statements,
} from './store.ts';

/** Loads by key. With batching, all keys asked for in one turn of the event loop go out as one statement. */
export interface Loader<Value> {
  load(id: string): Promise<Value>;
}

/**
 * The loaders of one request; they batch and remember for that request alone. One-to-many loaders are one for each
 * `first`. Each is made when it is first asked for.
 */
export interface Loaders {
  readonly itemsByIds: Loader<Item | null>;
  readonly categoriesByIds: Loader<Named | null>;
  readonly areasByIds: Loader<Named | null>;
  readonly genresByIds: Loader<Named | null>;
  readonly usersByIds: Loader<Named | null>;
  readonly reviewStatsByItemIds: Loader<ReviewStats>;
  reviewsByItemIds(first: number): Loader<Review[]>;
  reviewsByUserIds(first: number): Loader<Review[]>;
  itemsByCategoryIds(first: number): Loader<Item[]>;
}

type Batch<Value> = (ids: readonly string[]) => Promise<Value[]>;

// Rows come in no particular order and some not at all: each key gets its own row or null.
function oneEach<Row>(ids: readonly string[], rows: readonly Row[], keyOf: (row: Row) => string): (Row | null)[] {
  const byKey = new Map<string, Row>();
  for (const row of rows) byKey.set(keyOf(row), row);
  return ids.map((id) => byKey.get(id) ?? null);
}

// Rows of one key stand in the order of the answer.
function manyEach<Row>(ids: readonly string[], rows: readonly Row[], keyOf: (row: Row) => string): Row[][] {
  const byKey = new Map<string, Row[]>();
  for (const id of ids) byKey.set(id, []);
  for (const row of rows) byKey.get(keyOf(row))?.push(row);
  return ids.map((id) => byKey.get(id) ?? []);
}

const idOf = (row: { id: string }): string => row.id;
const itemIdOf = (row: { itemId: string }): string => row.itemId;

/** Reads rows of master data by id, from Redis and what that does not have by the statement. */
export type RunCached = (
  table: 'area' | 'genre',
  statement: Statement<Named>,
  ids: readonly string[],
) => Promise<Named[]>;

class RequestLoaders implements Loaders {
  readonly #cached: RunCached | null;
  readonly #run: RunStatement;
  readonly #statements: Statements;
  readonly #newLoader: <Value>(name: string, batch: Batch<Value>) => Loader<Value>;
  #itemsByIds: Loader<Item | null> | undefined;
  #categoriesByIds: Loader<Named | null> | undefined;
  #areasByIds: Loader<Named | null> | undefined;
  #genresByIds: Loader<Named | null> | undefined;
  #usersByIds: Loader<Named | null> | undefined;
  #reviewStatsByItemIds: Loader<ReviewStats> | undefined;
  #reviewsByItemIds: Map<number, Loader<Review[]>> | undefined;
  #reviewsByUserIds: Map<number, Loader<Review[]>> | undefined;
  #itemsByCategoryIds: Map<number, Loader<Item[]>> | undefined;

  constructor(
    run: RunStatement,
    statements: Statements,
    newLoader: <Value>(name: string, batch: Batch<Value>) => Loader<Value>,
    cached: RunCached | null,
  ) {
    this.#cached = cached;
    this.#run = run;
    this.#statements = statements;
    this.#newLoader = newLoader;
  }

  get itemsByIds(): Loader<Item | null> {
    this.#itemsByIds ??= this.#one(this.#statements.itemsByIds, idOf);
    return this.#itemsByIds;
  }

  get categoriesByIds(): Loader<Named | null> {
    this.#categoriesByIds ??= this.#one(this.#statements.categoriesByIds, idOf);
    return this.#categoriesByIds;
  }

  get areasByIds(): Loader<Named | null> {
    this.#areasByIds ??= this.#master('area', this.#statements.areasByIds);
    return this.#areasByIds;
  }

  get genresByIds(): Loader<Named | null> {
    this.#genresByIds ??= this.#master('genre', this.#statements.genresByIds);
    return this.#genresByIds;
  }

  get usersByIds(): Loader<Named | null> {
    this.#usersByIds ??= this.#one(this.#statements.usersByIds, idOf);
    return this.#usersByIds;
  }

  get reviewStatsByItemIds(): Loader<ReviewStats> {
    const statement = this.#statements.reviewStatsByItemIds;
    this.#reviewStatsByItemIds ??= this.#newLoader(statement.name, async (ids) => {
      const found = oneEach(ids, await this.#run(statement, [idArray(ids)]), itemIdOf);
      return found.map((stats, index) => stats ?? { itemId: ids[index] as string, count: 0, average: null });
    });
    return this.#reviewStatsByItemIds;
  }

  reviewsByItemIds(first: number): Loader<Review[]> {
    this.#reviewsByItemIds ??= new Map();
    return this.#many(this.#reviewsByItemIds, first, this.#statements.reviewsByItemIds, itemIdOf);
  }

  reviewsByUserIds(first: number): Loader<Review[]> {
    this.#reviewsByUserIds ??= new Map();
    return this.#many(this.#reviewsByUserIds, first, this.#statements.reviewsByUserIds, (row) => row.authorId);
  }

  itemsByCategoryIds(first: number): Loader<Item[]> {
    this.#itemsByCategoryIds ??= new Map();
    // Every row was found by its category, so it has one.
    const categoryIdOf = (row: Item): string => row.categoryId as string;
    return this.#many(this.#itemsByCategoryIds, first, this.#statements.itemsByCategoryIds, categoryIdOf);
  }

  #master(table: 'area' | 'genre', statement: Statement<Named>): Loader<Named | null> {
    const cached = this.#cached;
    if (cached === null) return this.#one(statement, idOf);
    return this.#newLoader(statement.name, async (ids) => oneEach(ids, await cached(table, statement, ids), idOf));
  }

  #one<Row>(statement: Statement<Row>, keyOf: (row: Row) => string): Loader<Row | null> {
    return this.#newLoader(statement.name, async (ids) =>
      oneEach(ids, await this.#run(statement, [idArray(ids)]), keyOf),
    );
  }

  #many<Row>(
    loaders: Map<number, Loader<Row[]>>,
    first: number,
    statement: Statement<Row>,
    keyOf: (row: Row) => string,
  ): Loader<Row[]> {
    let loader = loaders.get(first);
    if (loader === undefined) {
      loader = this.#newLoader(statement.name, async (ids) =>
        manyEach(ids, await this.#run(statement, [idArray(ids), String(first)]), keyOf),
      );
      loaders.set(first, loader);
    }
    return loader;
  }
}

/**
 * Loaders for one request. Batched, they are DataLoaders with their usual schedule: a batch goes out when every promise
 * that can be settled has been, which is when all resolvers of a level have asked; no timer is involved. Not batched,
 * each load is a statement of its own and nothing is remembered.
 */
export function newLoaders(
  run: RunStatement,
  statements: Statements,
  batching: 'on' | 'off',
  countBatch: (loader: string, keys: number) => void,
  cached: RunCached | null = null,
): Loaders {
  if (batching === 'off') {
    const single = <Value>(name: string, batch: Batch<Value>): Loader<Value> => ({
      load: async (id) => {
        countBatch(name, 1);
        // A batch function gives one value for each key.
        return (await batch([id]))[0] as Value;
      },
    });
    return new RequestLoaders(run, statements, single, cached);
  }
  return new RequestLoaders(run, statements, (name, batch) => newLoader(name, batch, countBatch), cached);
}

/** One batching loader; `countBatch` is told its name and how many keys each batch has. */
export function newLoader<Value>(
  name: string,
  batch: Batch<Value>,
  countBatch: (loader: string, keys: number) => void,
): Loader<Value> {
  return new DataLoader((ids: readonly string[]) => {
    countBatch(name, ids.length);
    return batch(ids);
  });
}
