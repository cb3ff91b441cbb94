import { readFileSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Named } from './store.ts';

/** One way of handing over; `touch_wall_ns_p50` is the time of the receiver's work alone, done by the sender. */
interface Way {
  way: string;
  iterations: number;
  wall_ns_p50: number;
  wall_ns_p99: number;
  cpu_ns_per_operation: number;
  touch_wall_ns_p50: number;
}

/** What starting one unit takes, until it says that it runs; null where the kernel does not tell its memory. */
interface Start {
  unit: string;
  count: number;
  wall_ns_p50: number;
  cpu_ns_each: number;
  pss_bytes_each: number | null;
}

// Bounds of what a bench may be asked for, the same in all servers.
const mostBytes = 100_000_000;
const mostKeys = 100_000_000;
const mostBatch = 10_000;
const mostDurationMs = 60_000;
const startedWorkers = 8;

/** What is wrong with a bench's arguments, or with its outcome. */
export class BenchError extends Error {}

const quoted = (text: string): string => JSON.stringify(text);

class Flags {
  readonly #values = new Map<string, string>();

  constructor(args: readonly string[]) {
    for (let i = 0; i < args.length; i += 2) {
      const name = args[i] as string;
      const value = args[i + 1];
      if (
        !['--bytes', '--duration', '--keys', '--batch'].includes(name) ||
        value === undefined ||
        this.#values.has(name)
      ) {
        throw new BenchError(
          `${quoted(name)}: expected --bytes N and --duration TIME, or --keys N and --batch N, each once`,
        );
      }
      this.#values.set(name, value);
    }
  }

  #take(name: string): string {
    const text = this.#values.get(name) ?? '';
    this.#values.delete(name);
    return text;
  }

  /** Takes a flag's value, from 1 to `most`. */
  number(name: string, most: number): number {
    const text = this.#take(name);
    const n = /^\d{1,10}$/.test(text) ? Number(text) : 0;
    if (n < 1 || n > most) throw new BenchError(`${name} ${quoted(text)}: expected a number from 1 to ${most}`);
    return n;
  }

  /** Takes the duration, in milliseconds. */
  durationMs(): number {
    const text = this.#take('--duration');
    const [, digits = '0', unit] = /^(\d{1,9})(ms|s)$/.exec(text) ?? [];
    const ms = Number(digits) * (unit === 's' ? 1000 : 1);
    if (ms < 1 || ms > mostDurationMs) {
      throw new BenchError(`--duration ${quoted(text)}: expected 1ms to 1m0s, as in 500ms or 1s`);
    }
    return ms;
  }

  /** Refuses flags that the command does not have. */
  end(): void {
    for (const name of this.#values.keys()) throw new BenchError(`${name} is not among its flags`);
  }
}

/** Runs a benchmark command, such as hand-over --bytes 1000 --duration 1s, and gives what is printed as one line. */
export async function bench(args: readonly string[]): Promise<object> {
  const [command, ...rest] = args;
  if (command === undefined) throw new BenchError('bench: expected hand-over or loader');
  const run = { 'hand-over': handOver, loader }[command];
  if (run === undefined) throw new BenchError(`bench ${quoted(command)}: expected hand-over or loader`);
  try {
    return await run(new Flags(rest));
  } catch (error) {
    if (error instanceof BenchError) throw new BenchError(`bench ${command}: ${error.message}`);
    throw error;
  }
}

/** Adds up words of 32 bits, little-endian as all machines that Node runs on are: it reads every byte. */
export function checksum(words: Uint32Array): number {
  let sum = 0;
  for (let i = 0; i < words.length; i++) sum = (sum + (words[i] as number)) | 0;
  return sum >>> 0;
}

/** Fills in the data that all servers hand over. */
export function fill(memory: ArrayBuffer | SharedArrayBuffer): Uint32Array {
  const bytes = new Uint8Array(memory);
  for (let i = 0; i < bytes.length; i++) bytes[i] = i * 31;
  return new Uint32Array(memory);
}

/** Measures an operation again and again for a time, and verifies each answer. */
export async function repeat(
  durationMs: number,
  base: number,
  operation: (n: number) => number | Promise<number>,
): Promise<{ wallsNs: number[]; cpuNs: number }> {
  const wallsNs: number[] = [];
  const cpu = process.cpuUsage();
  const end = performance.now() + durationMs;
  for (let n = 0; n === 0 || performance.now() < end; n++) {
    const start = process.hrtime.bigint();
    const pending = operation(n);
    const got = typeof pending === 'number' ? pending : await pending;
    wallsNs.push(Number(process.hrtime.bigint() - start));
    const expected = (base + n) >>> 0;
    if (got !== expected) throw new BenchError(`the receiver's checksum is ${got}, expected ${expected}`);
  }
  return { wallsNs, cpuNs: cpuNsSince(cpu) };
}

function cpuNsSince(earlier: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(earlier);
  return (user + system) * 1000;
}

/** The smallest value that at least that share of them does not exceed. */
function quantile(values: readonly number[], q: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] as number;
}

/** What goes to the worker: the data, or none where the memory is shared; whether they are to come back. */
interface Message {
  readonly words: Uint32Array | null;
  readonly back: boolean;
}

interface Answer {
  readonly sum: number;
  readonly words: Uint32Array | null;
}

const role = 'bench receiver';

function receive(shared: Uint32Array | null): void {
  parentPort?.on('message', ({ words, back }: Message) => {
    const data = words ?? (shared as Uint32Array);
    const sum = checksum(data);
    const answer: Answer = { sum, words: back ? data : null };
    parentPort?.postMessage(answer, back ? [data.buffer as ArrayBuffer] : []);
  });
  parentPort?.postMessage('runs');
}

function startWorker(shared: Uint32Array | null): Promise<Worker> {
  const worker = new Worker(new URL(import.meta.url), { workerData: { role, shared } });
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', () => resolve(worker));
  });
}

async function handOver(flags: Flags): Promise<object> {
  const bytes = flags.number('--bytes', mostBytes);
  if (bytes % 4 !== 0) throw new BenchError(`--bytes ${bytes}: expected a multiple of 4`);
  const durationMs = flags.durationMs();
  flags.end();
  // Started first, so that no other worker's memory is reused.
  const starts = [await startWorkers()];
  const own = fill(new ArrayBuffer(bytes));
  const base = (checksum(own) - (own[0] as number)) >>> 0;
  const touch = (n: number): number => {
    own[0] = n;
    return checksum(own);
  };
  await repeat(durationMs / 10, base, touch);
  const touchNs = quantile((await repeat(durationMs / 4, base, touch)).wallsNs, 0.5);
  const ways: Way[] = [];
  for (const way of ['worker-clone', 'worker-transfer', 'worker-shared']) {
    let words = fill(way === 'worker-shared' ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes));
    const worker = await startWorker(way === 'worker-shared' ? words : null);
    let answered: (answer: Answer) => void = () => {};
    let failed: (cause: Error) => void = () => {};
    worker.on('message', (answer: Answer) => answered(answer));
    worker.on('error', (cause) => failed(cause as Error));
    const over = async (n: number): Promise<number> => {
      words[0] = n;
      const message: Message = { words: way === 'worker-shared' ? null : words, back: way === 'worker-transfer' };
      const answer = await new Promise<Answer>((resolve, reject) => {
        answered = resolve;
        failed = reject;
        worker.postMessage(message, message.back ? [words.buffer as ArrayBuffer] : []);
      });
      if (answer.words !== null) words = answer.words as typeof words;
      return answer.sum;
    };
    try {
      await repeat(durationMs / 10, base, over); // warm
      const { wallsNs, cpuNs } = await repeat(durationMs, base, over);
      ways.push({
        way,
        iterations: wallsNs.length,
        wall_ns_p50: quantile(wallsNs, 0.5),
        wall_ns_p99: quantile(wallsNs, 0.99),
        cpu_ns_per_operation: cpuNs / wallsNs.length,
        touch_wall_ns_p50: touchNs,
      });
    } finally {
      await worker.terminate();
    }
  }
  return { bench: 'hand-over', bytes, ways, starts };
}

async function startWorkers(): Promise<Start> {
  const before = pssBytes();
  const cpu = process.cpuUsage();
  const wallsNs: number[] = [];
  const workers: Worker[] = [];
  try {
    for (let i = 0; i < startedWorkers; i++) {
      const start = process.hrtime.bigint();
      workers.push(await startWorker(null));
      wallsNs.push(Number(process.hrtime.bigint() - start));
    }
    const cpuNs = cpuNsSince(cpu);
    const after = pssBytes();
    return {
      unit: 'worker',
      count: startedWorkers,
      wall_ns_p50: quantile(wallsNs, 0.5),
      cpu_ns_each: cpuNs / startedWorkers,
      pss_bytes_each: before === null || after === null ? null : (after - before) / startedWorkers,
    };
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

async function loader(flags: Flags): Promise<object> {
  const keys = flags.number('--keys', mostKeys);
  const batch = flags.number('--batch', mostBatch);
  flags.end();
  // Not at the top: a worker that is started to receive needs none of it.
  const { newLoader } = await import('./loaders.ts');
  const ids = Array.from({ length: batch }, (_, index) => String(index + 1));
  const rows = new Map(ids.map((id): [string, Named] => [id, { __typename: 'User', id, name: '' }]));
  let batches = 0;
  const load = async (total: number): Promise<void> => {
    for (let left = total; left > 0; left -= batch) {
      // A loader lives for one request.
      const one = newLoader(
        'users_by_ids',
        async (asked) => asked.map((id) => rows.get(id)),
        () => batches++,
      );
      const asked = left < batch ? ids.slice(0, left) : ids;
      const loaded = await Promise.all(asked.map((id) => one.load(id)));
      loaded.forEach((row, index) => {
        if (row?.id !== asked[index]) throw new BenchError(`key ${asked[index]} was answered with another's value`);
      });
    }
  };
  await load(Math.max(batch, Math.floor(keys / 10))); // warm
  batches = 0;
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  await load(keys);
  const wall = Number(process.hrtime.bigint() - start);
  return { bench: 'loader', keys, batch, batches, cpu_ns_per_key: cpuNsSince(cpu) / keys, wall_ns: wall };
}

/** This process's proportional set size, or null where the kernel does not tell. */
function pssBytes(): number | null {
  try {
    const [, kib] = /^Pss:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/smaps_rollup', 'utf8')) ?? [];
    return kib === undefined ? null : Number(kib) * 1024;
  } catch {
    return null;
  }
}

const data = workerData as { role?: string; shared?: Uint32Array | null } | null;
if (!isMainThread && data?.role === role) receive(data.shared ?? null);
