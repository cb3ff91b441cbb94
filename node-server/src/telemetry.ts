import cluster from 'node:cluster';
import { constants, type EventLoopUtilization, monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import { AggregatorRegistry, Counter, collectDefaultMetrics, Gauge, type Metric, Registry } from 'prom-client';

/** Where a request's time goes. Phases are disjoint; their sum is the total. */
export type Phase = 'parse' | 'validate' | 'execute' | 'serialize';

/** Stopwatch of one request that asked for Server-Timing. Nothing of it exists for the others. */
export class Timing {
  readonly #phasesMs = { parse: 0, validate: 0, execute: 0, serialize: 0 };
  readonly #beganMs = performance.now();
  #markedMs = this.#beganMs;
  #turnedMs = 0;
  #statements = 0;
  #calls = 0;
  #databaseMs = 0;
  #upstreamMs = 0;

  /** Books the time since the last mark under the phase. */
  mark(phase: Phase): void {
    const now = performance.now();
    this.#phasesMs[phase] += now - this.#markedMs;
    this.#markedMs = now;
  }

  statementBegins(): void {
    this.#turn();
    this.#statements++;
  }

  statementEnds(): void {
    this.#turn();
    this.#statements--;
  }

  /** A call of the outside service. */
  callBegins(): void {
    this.#turn();
    this.#calls++;
  }

  callEnds(): void {
    this.#turn();
    this.#calls--;
  }

  // Books the time since the last turn to what was waited for: the database while a statement was in flight, else the
  // outside service while a call was.
  #turn(now = performance.now()): void {
    if (this.#statements > 0) this.#databaseMs += now - this.#turnedMs;
    else if (this.#calls > 0) this.#upstreamMs += now - this.#turnedMs;
    this.#turnedMs = now;
  }

  /**
   * The value of the Server-Timing header. Statements and calls run while executing only, so their time is taken off that.
   * The phase upstream is there only if the outside service was waited for.
   */
  header(): string {
    const { parse, validate, execute, serialize } = this.#phasesMs;
    // A request that failed may leave some behind.
    if (this.#statements > 0 || this.#calls > 0) this.#turn(Math.max(this.#turnedMs, this.#markedMs));
    const database = Math.min(this.#databaseMs, execute);
    const upstream = Math.min(this.#upstreamMs, execute - database);
    const phases: [string, number][] = [
      ['parse', parse],
      ['validate', validate],
      ['execute', execute - database - upstream],
      ['db', database],
      ...(upstream > 0 ? [['upstream', upstream] as [string, number]] : []),
      ['serialize', serialize],
      ['total', this.#markedMs - this.#beganMs],
    ];
    return phases.map(([name, ms]) => `${name};dur=${ms.toFixed(3)}`).join(', ');
  }
}

/** A histogram whose `observe` neither hashes labels nor allocates, unlike prom-client's. */
export class FastHistogram {
  readonly #bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let index = 0;
    while (index < bounds.length && value > (bounds[index] as number)) index++;
    (this.#counts[index] as number)++;
    this.#sum += value;
  }

  /** Prometheus samples: cumulative buckets, sum, count. */
  samples(name: string, labels: Record<string, string>): object[] {
    const samples: object[] = [];
    let count = 0;
    this.#counts.forEach((inBucket, index) => {
      count += inBucket;
      const le = index < this.#bounds.length ? String(this.#bounds[index]) : '+Inf';
      samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: count });
    });
    samples.push({ metricName: `${name}_sum`, labels, value: this.#sum });
    samples.push({ metricName: `${name}_count`, labels, value: count });
    return samples;
  }
}

const secondsBounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const keysBounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

export interface MetricsAnswer {
  contentType: string;
  body: string;
}

async function answerOf(registry: Pick<Registry, 'contentType' | 'metrics'>): Promise<MetricsAnswer> {
  return { contentType: registry.contentType, body: await registry.metrics() };
}

/** One page of the metrics of several processes: counts and sizes added up, delays averaged, as prom-client says. */
export function sumMetrics(processes: object[][]): Promise<MetricsAnswer> {
  return answerOf(AggregatorRegistry.aggregate(processes));
}

/** What a cache of documents counts. */
export interface DocumentCounts {
  readonly size: number;
  readonly hits: number;
  readonly misses: number;
}

/** Connections of one pool, as a scrape sees them. */
export interface PoolGauge {
  address: 'primary' | 'replica';
  counts(): { inUse: number; idle: number };
}

/** Who does a part of the work: for how long it was busy since it began, how long ago that was by its own clock, its heap. */
export interface WorkerReading {
  readonly worker: string;
  readonly busySeconds: number;
  readonly elapsedSeconds: number;
  readonly collections: Collections;
}

/** What an event loop tells of its time, in one reading: a process may have to wait for another's answer to a scrape. */
export function workerReading(
  worker: string,
  { active, idle }: EventLoopUtilization,
  collections: Collections,
): WorkerReading {
  return { worker, busySeconds: active / 1e3, elapsedSeconds: (active + idle) / 1e3, collections };
}

const gcKinds: readonly (readonly [kind: number, name: string])[] = [
  [constants.NODE_PERFORMANCE_GC_MINOR, 'minor'],
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'major'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weakcb'],
];

/** What an entry of the type gc carries. */
interface GcEntry {
  readonly duration: number;
  readonly detail: { readonly kind: number };
}

/**
 * The collections of one heap. A thread counts its own in memory that the process's event loop reads: it need not be asked,
 * which would have to wait for its work.
 */
export class Collections {
  /** To be given to the thread whose heap it is. */
  readonly memory: SharedArrayBuffer;
  // Of each kind nanoseconds and how many; then the longest since it was last asked for, nanoseconds.
  readonly #cells: BigInt64Array;

  constructor(memory = new SharedArrayBuffer((2 * gcKinds.length + 1) * BigInt64Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.#cells = new BigInt64Array(memory);
  }

  /** Counts those of the thread that calls it, from now on. */
  watch(): void {
    // All of them: several are often told of together.
    new PerformanceObserver((list) => {
      for (const { detail, duration } of list.getEntries() as unknown as GcEntry[]) this.add(detail.kind, duration);
    }).observe({ entryTypes: ['gc'] });
  }

  add(kind: number, durationMs: number): void {
    const index = gcKinds.findIndex(([known]) => known === kind);
    if (index < 0) return;
    const nanoseconds = BigInt(Math.round(durationMs * 1e6));
    // Between the two a reader may take the one before, and is then told of this one next time.
    const last = this.#cells.length - 1;
    if (nanoseconds > Atomics.load(this.#cells, last)) Atomics.store(this.#cells, last, nanoseconds);
    Atomics.add(this.#cells, 2 * index, nanoseconds);
    Atomics.add(this.#cells, 2 * index + 1, 1n);
  }

  /** By kind: seconds in which nothing else ran on that heap's thread, and how often. */
  byKind(): { kind: string; seconds: number; count: number }[] {
    return gcKinds.map(([, kind], index) => ({
      kind,
      seconds: Number(Atomics.load(this.#cells, 2 * index)) / 1e9,
      count: Number(Atomics.load(this.#cells, 2 * index + 1)),
    }));
  }

  /** The longest since it was last asked for; null where there was none. */
  takeLongestSeconds(): number | null {
    const nanoseconds = Number(Atomics.exchange(this.#cells, this.#cells.length - 1, 0n));
    return nanoseconds === 0 ? null : nanoseconds / 1e9;
  }
}

// A timer of the loop itself, so a finer one would cost more than it tells.
const delayResolutionMs = 10;
/** Keeps prom-client's own timer from running. */
const neverMs = 1e9;

/** Garbage collection and event loop of this process, as the runtime tells them. */
class RuntimeWatch {
  readonly collections = new Collections();
  readonly #delay = monitorEventLoopDelay({ resolution: delayResolutionMs });

  constructor() {
    this.#delay.enable();
    this.collections.watch();
  }

  /** The p99 of how much later than asked a timer of the loop ran, since it was last asked for; null where none ran. */
  takeDelayP99Seconds(): number | null {
    const { count } = this.#delay;
    const seconds = Math.max(0, this.#delay.percentile(99) / 1e9 - delayResolutionMs / 1e3);
    this.#delay.reset();
    return count === 0 ? null : seconds;
  }
}

/** Which process of a cluster this is, else 0. */
const loopName = String(cluster.worker?.id ?? 0);

/**
 * Counts what /metrics tells. The hot path adds to plain numbers; prom-client and its runtime metrics (event-loop delay,
 * garbage collection, heap) come in at the scrape.
 */
export class Telemetry {
  readonly requestSeconds = new FastHistogram(secondsBounds);
  readonly poolWaitSeconds = new FastHistogram(secondsBounds);
  readonly #registry = new Registry();
  readonly #requestsByCode = new Map<string, number>();
  readonly #statementsByName = new Map<string, number>();
  readonly #batchKeysByLoader = new Map<string, FastHistogram>();
  // table → result → count
  readonly #cacheLookups = new Map<string, Map<string, number>>();
  #pools: readonly PoolGauge[] = [];
  #documents: DocumentCounts | null = null;
  #master: { readonly textBytes: number } | null = null;
  #threads: () => readonly WorkerReading[] = () => [];

  constructor() {
    const registers = [this.#registry];
    const fromMap = (name: string, help: string, label: string, values: ReadonlyMap<string, number>) =>
      new Counter({
        name,
        help,
        labelNames: [label],
        registers,
        collect() {
          this.reset();
          for (const [value, count] of values) this.inc({ [label]: value }, count);
        },
      });
    fromMap('lab_requests_total', 'GraphQL requests by OK or the first error code.', 'code', this.#requestsByCode);
    fromMap('lab_statements_total', 'SQL statements sent, by file.', 'statement', this.#statementsByName);
    const gauges = () => this.#pools;
    new Gauge({
      name: 'lab_pool_connections',
      help: 'Pooled connections.',
      labelNames: ['address', 'state'],
      registers,
      collect() {
        for (const pool of gauges()) {
          const { inUse, idle } = pool.counts();
          this.set({ address: pool.address, state: 'in_use' }, inUse);
          this.set({ address: pool.address, state: 'idle' }, idle);
        }
      },
    });
    const documents = () => this.#documents;
    new Gauge({
      name: 'lab_documents_cached',
      help: 'Parsed documents kept.',
      registers,
      collect() {
        this.set(documents()?.size ?? 0);
      },
    });
    const master = () => this.#master;
    new Gauge({
      name: 'lab_master_text_bytes',
      help: 'Master data in bulk that is kept in memory.',
      registers,
      collect() {
        this.set(master()?.textBytes ?? 0);
      },
    });
    new Counter({
      name: 'lab_document_lookups_total',
      help: 'Requests that asked the cache of documents, by whether theirs was there.',
      labelNames: ['result'],
      registers,
      collect() {
        this.reset();
        this.inc({ result: 'hit' }, documents()?.hits ?? 0);
        this.inc({ result: 'miss' }, documents()?.misses ?? 0);
      },
    });
    const lookups = this.#cacheLookups;
    new Counter({
      name: 'lab_cache_lookups_total',
      help: 'Questions to Redis by table and what came of them: hit, miss, failed; skipped where it was not asked.',
      labelNames: ['table', 'result'],
      registers,
      collect() {
        this.reset();
        for (const [table, results] of lookups) {
          for (const [result, count] of results) this.inc({ table, result }, count);
        }
      },
    });
    this.#histogram('lab_request_seconds', 'Time from reading a request to its answer.', () => [
      [{}, this.requestSeconds],
    ]);
    this.#histogram('lab_pool_wait_seconds', 'Time a statement waited for a connection.', () => [
      [{}, this.poolWaitSeconds],
    ]);
    this.#histogram('lab_loader_batch_keys', 'Keys of one batch of a loader.', () =>
      [...this.#batchKeysByLoader].map(([loader, histogram]) => [{ loader }, histogram]),
    );
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: neverMs });
    // It counts the first only of the collections that it is told of together, and averages percentiles over processes.
    for (const { name } of this.#registry.getMetricsAsArray()) {
      if (name.startsWith('nodejs_gc_') || name.startsWith('nodejs_eventloop_lag_')) {
        this.#registry.removeSingleMetric(name);
      }
    }
    this.#watchRuntime();
  }

  countLookup(table: string, result: string): void {
    let results = this.#cacheLookups.get(table);
    if (results === undefined) {
      results = new Map();
      this.#cacheLookups.set(table, results);
    }
    results.set(result, (results.get(result) ?? 0) + 1);
  }

  countRequest(code: string, seconds: number): void {
    this.#requestsByCode.set(code, (this.#requestsByCode.get(code) ?? 0) + 1);
    this.requestSeconds.observe(seconds);
  }

  countStatement(name: string): void {
    this.#statementsByName.set(name, (this.#statementsByName.get(name) ?? 0) + 1);
  }

  countBatch(loader: string, keys: number): void {
    let histogram = this.#batchKeysByLoader.get(loader);
    if (histogram === undefined) {
      histogram = new FastHistogram(keysBounds);
      this.#batchKeysByLoader.set(loader, histogram);
    }
    histogram.observe(keys);
  }

  /** Says where the scrape finds what others keep count of; `threads` are workers besides the event loop. */
  watch(
    pools: readonly PoolGauge[],
    master: { readonly textBytes: number },
    documents: DocumentCounts | null,
    threads: () => readonly WorkerReading[],
  ): void {
    this.#master = master;
    this.#pools = pools;
    this.#documents = documents;
    this.#threads = threads;
  }

  /** The body of /metrics and its content type. */
  metrics(): Promise<MetricsAnswer> {
    return answerOf(this.#registry);
  }

  /** Every metric with its values, for a process that adds up those of several. */
  values(): Promise<object[]> {
    return this.#registry.getMetricsAsJSON();
  }

  #watchRuntime(): void {
    const registers = [this.#registry];
    const watch = new RuntimeWatch();
    const threads = () => this.#threads();
    let workers: readonly WorkerReading[] = [];
    new Counter({
      name: 'lab_worker_busy_seconds_total',
      help: 'Time that an event loop, or a worker thread, was not waiting for events.',
      labelNames: ['worker'],
      registers,
      collect() {
        this.reset();
        workers = [workerReading(loopName, performance.eventLoopUtilization(), watch.collections), ...threads()];
        for (const { worker, busySeconds } of workers) this.inc({ worker }, busySeconds);
      },
    });
    // Metrics are collected in the order in which they are registered.
    new Counter({
      name: 'lab_worker_elapsed_seconds_total',
      help: 'Time since it began, by the clock and at the moment of its busy time.',
      labelNames: ['worker'],
      registers,
      collect() {
        this.reset();
        for (const { worker, elapsedSeconds } of workers) this.inc({ worker }, elapsedSeconds);
      },
    });
    new Gauge({
      name: 'lab_event_loop_delay_p99_seconds',
      help: 'How much later than asked a timer ran, p99 since the last reading.',
      labelNames: ['worker'],
      registers,
      aggregator: 'max',
      collect() {
        this.reset();
        const seconds = watch.takeDelayP99Seconds();
        if (seconds !== null) this.set({ worker: loopName }, seconds);
      },
    });
    this.#metric(
      'lab_gc_pause_seconds',
      'Time in which the garbage collector ran and nothing else, by worker and kind.',
      'summary',
      () =>
        workers.flatMap(({ worker, collections }) =>
          collections.byKind().flatMap(({ kind, seconds, count }) => [
            { metricName: 'lab_gc_pause_seconds_sum', labels: { worker, kind }, value: seconds },
            { metricName: 'lab_gc_pause_seconds_count', labels: { worker, kind }, value: count },
          ]),
        ),
    );
    new Gauge({
      name: 'lab_gc_longest_pause_seconds',
      help: 'The longest time since the last reading in which the garbage collector ran and nothing else.',
      labelNames: ['worker'],
      registers,
      aggregator: 'max',
      collect() {
        this.reset();
        for (const { worker, collections } of workers) {
          const seconds = collections.takeLongestSeconds();
          if (seconds !== null) this.set({ worker }, seconds);
        }
      },
    });
    let heap: NodeJS.MemoryUsage | null = null;
    new Gauge({
      name: 'lab_heap_used_bytes',
      help: "V8's heap in use, with what is not collected yet.",
      registers,
      aggregator: 'sum',
      collect() {
        heap = process.memoryUsage();
        this.set(heap.heapUsed);
      },
    });
    new Gauge({
      name: 'lab_heap_committed_bytes',
      help: "V8's heap that the system has given.",
      registers,
      aggregator: 'sum',
      collect() {
        this.set((heap ?? process.memoryUsage()).heapTotal);
      },
    });
  }

  #histogram(name: string, help: string, histograms: () => [Record<string, string>, FastHistogram][]): void {
    this.#metric(name, help, 'histogram', () =>
      histograms().flatMap(([labels, histogram]) => histogram.samples(name, labels)),
    );
  }

  /** A metric whose samples are made at the scrape. */
  #metric(name: string, help: string, type: 'histogram' | 'summary', samples: () => object[]): void {
    const head = { name, help, type, aggregator: 'sum' };
    const metric = { ...head, reset() {}, get: async () => ({ ...head, values: samples() }) };
    this.#registry.registerMetric(metric as unknown as Metric<string>);
  }
}
