import type { ItemVector } from './store.ts';

/** Features of an item, each from -127 to 127. */
export const features = 32;
/** Weights are from -mostWeight to mostWeight, so that every score fits 32 bits. */
export const mostWeight = 1000;

/** The vectors of all items in ascending order of id, one flat array so that scoring walks through memory. */
export interface Vectors {
  readonly itemIds: readonly string[];
  readonly areaIds: readonly string[];
  /** 32 for each item. */
  readonly features: Int8Array;
}

/** Puts rows, in ascending order of item id, into one array. */
export function packVectors(rows: readonly ItemVector[]): Vectors {
  const packed = new Int8Array(rows.length * features);
  rows.forEach((row, index) => {
    packed.set(row.features, index * features);
  });
  return { itemIds: rows.map((row) => row.itemId), areaIds: rows.map((row) => row.areaId), features: packed };
}

export interface RankedItem {
  score: number;
  itemId: string;
}

const itemsBetweenChecks = 1024;

/**
 * The `first` items of the highest score, ties to the lower id; of one area where `areaId` is given. `checkDeadline` is
 * called now and then, and its throwing ends the walk.
 */
export function rankItems(
  vectors: Vectors,
  weights: readonly number[],
  first: number,
  areaId: string | null,
  checkDeadline: () => void,
): RankedItem[] {
  const weight = Int32Array.from(weights);
  const data = vectors.features;
  // The best so far, descending. Few enough that inserting beats a heap.
  const scores: number[] = [];
  const indexes: number[] = [];
  const length = first === 0 ? 0 : vectors.itemIds.length;
  for (let item = 0; item < length; item++) {
    if (item % itemsBetweenChecks === 0) checkDeadline();
    if (areaId !== null && vectors.areaIds[item] !== areaId) continue;
    let score = 0;
    const offset = item * features;
    for (let feature = 0; feature < features; feature++) {
      score += (weight[feature] as number) * (data[offset + feature] as number);
    }
    // Ids ascend, so an equal score that comes later stays behind.
    if (scores.length === first && score <= (scores[first - 1] as number)) continue;
    let place = scores.length === first ? first - 1 : scores.length;
    while (place > 0 && score > (scores[place - 1] as number)) {
      scores[place] = scores[place - 1] as number;
      indexes[place] = indexes[place - 1] as number;
      place--;
    }
    scores[place] = score;
    indexes[place] = item;
  }
  return scores.map((score, place) => ({ score, itemId: vectors.itemIds[indexes[place] as number] as string }));
}
