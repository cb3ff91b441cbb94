import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { RequestError } from './errors.ts';
import { describe, type Logger } from './logging.ts';
import type { Abortable, ItemVector, Work } from './store.ts';
import { Collections, type WorkerReading, workerReading } from './telemetry.ts';

/** Features of an item, each from -127 to 127. */
export const features = 32;
/** Weights are from -mostWeight to mostWeight, so that every score fits 32 bits. */
export const mostWeight = 1000;

/** What scoring reads: of each item, in ascending order of id, its area and its features, each in one flat array. */
export interface Scorable {
  readonly areaIds: Int32Array;
  /** 32 for each item. */
  readonly features: Int8Array;
}

/** The vectors of all items in ascending order of id. */
export interface Vectors extends Scorable {
  readonly itemIds: readonly string[];
}

/** Puts rows, in ascending order of item id, into arrays, whose memory threads can share where that is wanted. */
export function packVectors(rows: readonly ItemVector[], shared = false): Vectors {
  const memory = (bytes: number): ArrayBuffer | SharedArrayBuffer =>
    shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
  const packed = new Int8Array(memory(rows.length * features));
  const areaIds = new Int32Array(memory(rows.length * Int32Array.BYTES_PER_ELEMENT));
  rows.forEach((row, index) => {
    packed.set(row.features, index * features);
    areaIds[index] = Number(row.areaId);
  });
  return { itemIds: rows.map((row) => row.itemId), areaIds, features: packed };
}

export interface RankedItem {
  score: number;
  itemId: string;
}

/** Places in the vectors, the best first, with their scores. */
interface Ranked {
  readonly scores: readonly number[];
  readonly indexes: readonly number[];
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
  return named(vectors, rank(vectors, weights, first, areaId === null ? null : Number(areaId), checkDeadline));
}

function named(vectors: Vectors, { scores, indexes }: Ranked): RankedItem[] {
  return scores.map((score, place) => ({ score, itemId: vectors.itemIds[indexes[place] as number] as string }));
}

function rank(
  vectors: Scorable,
  weights: readonly number[],
  first: number,
  areaId: number | null,
  checkDeadline: () => void,
): Ranked {
  const weight = Int32Array.from(weights);
  const { areaIds, features: data } = vectors;
  // The best so far, descending. Few enough that inserting beats a heap.
  const scores: number[] = [];
  const indexes: number[] = [];
  const length = first === 0 ? 0 : areaIds.length;
  for (let item = 0; item < length; item++) {
    if (item % itemsBetweenChecks === 0) checkDeadline();
    if (areaId !== null && areaIds[item] !== areaId) continue;
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
  return { scores, indexes };
}

/** Who ranks: the event loop itself, or threads. */
export interface Ranking {
  /** Starts what it needs. */
  open(): void;
  /** As rankItems; fails as `work` does. */
  rank(
    vectors: Vectors,
    weights: readonly number[],
    first: number,
    areaId: string | null,
    work: Work,
  ): RankedItem[] | Promise<RankedItem[]>;
  /** What each of its threads tells of itself. */
  threads(): WorkerReading[];
  close(): Promise<void>;
}

/** Ranks on the event loop, which does nothing else meanwhile. */
export const loopRanking: Ranking = {
  rank: (vectors, weights, first, areaId, work) =>
    rankItems(vectors, weights, first, areaId, () => work.checkDeadline()),
  open: () => {},
  threads: () => [],
  close: async () => {},
};

// CONCURRENCY_MODEL=workers and workers-message: a pool of worker threads. A thread gets the vectors once, whenever they
// have changed, before the first ranking that needs them: where their memory is shared, as a reference to it, else as a
// copy by structured clone, which it keeps. Weights and results, a few hundred bytes, go by structured clone in both.

type Message = { readonly vectors: Scorable } | Job;

interface Job {
  readonly weights: readonly number[];
  readonly first: number;
  readonly areaId: number | null;
  /** Milliseconds since 1970: the threads' clocks begin at other times. */
  readonly deadlineMs: number;
}

/** What a thread answers to a job, in the order of the jobs; null where the time was over. */
type JobAnswer = Ranked | null;

const now = (): number => performance.timeOrigin + performance.now();

/** Jobs that one thread has at once: the next one lies there already when it has done one. */
const jobsAhead = 2;
const restartPauseMs = 100;

/** A ranking on its way: in the queue, or on a thread. */
class ThreadJob implements Abortable {
  readonly vectors: Vectors;
  readonly message: Job;
  readonly #work: Work;
  readonly #queue: Set<ThreadJob>;
  readonly #resolve: (ranked: RankedItem[]) => void;
  readonly #reject: (error: unknown) => void;

  constructor(
    vectors: Vectors,
    message: Job,
    work: Work,
    queue: Set<ThreadJob>,
    resolve: (ranked: RankedItem[]) => void,
    reject: (error: unknown) => void,
  ) {
    this.vectors = vectors;
    this.message = message;
    this.#work = work;
    this.#queue = queue;
    this.#resolve = resolve;
    this.#reject = reject;
    work.begin(this);
  }

  /** The request is over. A thread that has it already looks at the deadline itself. */
  abort(error: RequestError): void {
    this.#queue.delete(this);
    this.#reject(error);
  }

  answered(answer: JobAnswer): void {
    this.#work.end(this);
    if (answer !== null) this.#resolve(named(this.vectors, answer));
    else {
      this.#work.expire();
      this.#reject(this.#work.failure);
    }
  }

  failed(): void {
    this.#work.end(this);
    this.#reject(new Error('the worker thread ended'));
  }
}

interface Thread {
  readonly worker: Worker;
  readonly name: string;
  readonly collections: Collections;
  readonly jobs: ThreadJob[];
  vectors: Scorable | null;
}

/** A pool of threads that rank, first come first served. One that ends is replaced, and what it had fails. */
export class ThreadRanking implements Ranking {
  readonly #size: number;
  readonly #logger: Logger;
  readonly #threads = new Set<Thread>();
  readonly #queue = new Set<ThreadJob>();
  #started = 0;
  #closed = false;

  constructor(size: number, logger: Logger) {
    this.#size = size;
    this.#logger = logger;
  }

  open(): void {
    for (let thread = 0; thread < this.#size; thread++) this.#start();
  }

  rank(
    vectors: Vectors,
    weights: readonly number[],
    first: number,
    areaId: string | null,
    work: Work,
  ): Promise<RankedItem[]> {
    work.checkDeadline();
    const deadlineMs = now() + work.leftMs();
    const message: Job = { weights, first, areaId: areaId === null ? null : Number(areaId), deadlineMs };
    return new Promise((resolve, reject) => {
      this.#queue.add(new ThreadJob(vectors, message, work, this.#queue, resolve, reject));
      this.#hand();
    });
  }

  threads(): WorkerReading[] {
    return [...this.#threads].map(({ worker, name, collections }) =>
      workerReading(name, worker.performance.eventLoopUtilization(), collections),
    );
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#threads].map(({ worker }) => worker.terminate()));
  }

  /** Gives jobs to whoever has the fewest. */
  #hand(): void {
    for (const job of this.#queue) {
      let least: Thread | null = null;
      for (const thread of this.#threads) {
        if (thread.jobs.length < (least?.jobs.length ?? jobsAhead)) least = thread;
      }
      if (least === null) return;
      this.#queue.delete(job);
      if (least.vectors !== job.vectors) {
        const { areaIds, features } = job.vectors;
        this.#post(least, { vectors: { areaIds, features } });
        least.vectors = job.vectors;
      }
      least.jobs.push(job);
      this.#post(least, job.message);
    }
  }

  #post({ worker }: Thread, message: Message): void {
    worker.postMessage(message);
  }

  #start(): void {
    const collections = new Collections();
    const data: ThreadData = { ranking: collections.memory };
    const worker = new Worker(new URL(import.meta.url), { workerData: data });
    const thread: Thread = { worker, name: `ranking-${this.#started++}`, collections, jobs: [], vectors: null };
    this.#threads.add(thread);
    worker.on('message', (answer: JobAnswer) => {
      thread.jobs.shift()?.answered(answer);
      this.#hand();
    });
    worker.on('error', (cause) => this.#logger.error('worker thread failed', { cause: describe(cause) }));
    worker.on('exit', () => {
      this.#threads.delete(thread);
      for (const job of thread.jobs) job.failed();
      if (this.#closed) return;
      this.#logger.warn('worker thread ended', { restart_in_ms: restartPauseMs });
      setTimeout(() => {
        if (!this.#closed) this.#start();
        this.#hand();
      }, restartPauseMs);
    });
  }
}

/** What makes a thread one that ranks: the memory in which it counts its collections. */
interface ThreadData {
  readonly ranking: SharedArrayBuffer;
}

/** A thread's whole life. */
function serveRanking(port: NonNullable<typeof parentPort>, { ranking }: ThreadData): void {
  new Collections(ranking).watch();
  let vectors: Scorable = packVectors([]);
  port.on('message', (message: Message) => {
    if ('vectors' in message) {
      vectors = message.vectors;
      return;
    }
    const { weights, first, areaId, deadlineMs } = message;
    let answer: JobAnswer = null;
    const late = new Error('late');
    try {
      answer = rank(vectors, weights, first, areaId, () => {
        if (now() > deadlineMs) throw late;
      });
    } catch (cause) {
      if (cause !== late) throw cause;
    }
    port.postMessage(answer);
  });
}

if (!isMainThread && workerData?.ranking instanceof SharedArrayBuffer && parentPort !== null) {
  serveRanking(parentPort, workerData);
}
