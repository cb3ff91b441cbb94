import cluster, { type Worker } from 'node:cluster';
import { type AddressInfo, createServer } from 'node:net';
import type { Config } from './config.ts';
import { answerOf, type HealthAnswer } from './health.ts';
import { describe, type Logger } from './logging.ts';

// CONCURRENCY_MODEL=cluster: node:cluster's primary process forks WORKERS processes, each the whole application with an
// event loop, loaders, master data, a connection for LISTEN and its share of the pool. The primary accepts connections
// and deals them out in turn (node:cluster's default, SCHED_RR); a connection stays with its worker. It answers no
// request itself. What is true of all processes together, a worker asks the primary, and the primary all workers.

/** Places for requests in flight. */
export interface Places {
  /** Takes a place; false where there is none. A promise where that has to be asked elsewhere. */
  enter(): boolean | Promise<boolean>;
  /** Gives a place back that was taken. */
  leave(): void;
}

/** What one process of a cluster asks of all of them. */
export interface Link {
  readonly places: Places;
  /** Tells that this process listens; resolves when it may say things in the log. */
  listening(port: number): Promise<void>;
  /** Tells that this process has answered what was under way; resolves when all of those that are to end have. */
  drained(): Promise<void>;
  /** Whether every process is ready, and if not, what the first one that is not says. */
  readyz(): Promise<HealthAnswer>;
  /** Every process's metrics with their values. Rejects where one does not answer. */
  metrics(): Promise<object[][]>;
}

/** What a process of a cluster answers about itself. */
export interface Member {
  readyz(): Promise<HealthAnswer>;
  metrics(): Promise<object[]>;
}

interface Question {
  readonly kind: 'question';
  readonly id: number;
  readonly name: string;
  readonly argument: number;
}

interface Answer {
  readonly kind: 'answer';
  readonly id: number;
  readonly value?: unknown;
  readonly failure?: string;
}

/** Questions and answers between two processes, either of which may ask. */
export class Channel {
  readonly #send: (message: Question | Answer) => void;
  readonly #answers: Readonly<Record<string, (argument: number) => unknown>>;
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>();
  #asked = 0;

  constructor(
    send: (message: Question | Answer) => void,
    answers: Readonly<Record<string, (argument: number) => unknown>>,
  ) {
    this.#send = send;
    this.#answers = answers;
  }

  /** Resolves with the answer; rejects where the other side fails, is gone, or takes longer than a given time. */
  ask<T>(name: string, argument = 0, timeoutMs: number | null = null): Promise<T> {
    const id = this.#asked++;
    const pending = Promise.withResolvers<unknown>();
    this.#pending.set(id, pending);
    let timer: NodeJS.Timeout | undefined;
    if (timeoutMs !== null)
      timer = setTimeout(() => pending.reject(new Error(`${name}: no answer in time`)), timeoutMs);
    this.#send({ kind: 'question', id, name, argument });
    return pending.promise.finally(() => {
      clearTimeout(timer);
      this.#pending.delete(id);
    }) as Promise<T>;
  }

  async receive(message: Question | Answer): Promise<void> {
    if (message.kind === 'answer') {
      const pending = this.#pending.get(message.id);
      if (message.failure === undefined) pending?.resolve(message.value);
      else pending?.reject(new Error(message.failure));
      return;
    }
    const { id, name, argument } = message;
    try {
      this.#send({ kind: 'answer', id, value: await this.#answers[name]?.(argument) });
    } catch (cause) {
      this.#send({ kind: 'answer', id, failure: describe(cause) });
    }
  }

  /** The other side is gone. */
  close(): void {
    for (const { reject } of this.#pending.values()) reject(new Error('the process is gone'));
  }
}

/**
 * The places of all processes, lent out. A worker that has none left borrows more, half of what is free, so that it does
 * not ask for each; where nothing is free, the others are asked to give back what they do not use. So exactly `limit`
 * requests are in flight, and a request pays for it only where its worker has run out.
 */
export class PlaceLedger {
  readonly #lent = new Map<number, number>();
  readonly #recall: (worker: number) => Promise<void>;
  #free: number;
  #turn: Promise<unknown> = Promise.resolve();

  /**
   * `recall` asks a worker for what it does not use, and calls `giveBack` with it. Who takes a dead worker's place is another
   * worker with another number: what was still under way for the dead one is not to be booked to it.
   */
  constructor(limit: number, recall: (worker: number) => Promise<void>) {
    this.#free = limit;
    this.#recall = recall;
  }

  join(worker: number): void {
    this.#lent.set(worker, 0);
  }

  /** What a worker had borrowed is free again: its requests have ended with it. */
  gone(worker: number): void {
    this.#free += this.#lent.get(worker) ?? 0;
    this.#lent.delete(worker);
  }

  giveBack(worker: number, places: number): void {
    const lent = this.#lent.get(worker);
    if (lent === undefined) return;
    this.#lent.set(worker, lent - places);
    this.#free += places;
  }

  /** How many places the worker gets, fewer than it wants only where no worker has one unused. One asks at a time. */
  borrow(worker: number, wanted: number): Promise<number> {
    const granted = this.#turn.then(async () => {
      if (this.#free < wanted) {
        await Promise.all([...this.#lent.keys()].filter((other) => other !== worker).map(this.#recall));
      }
      const lent = this.#lent.get(worker);
      if (lent === undefined) return 0;
      const places = this.#free < wanted ? this.#free : wanted + Math.floor((this.#free - wanted) / 2);
      this.#free -= places;
      this.#lent.set(worker, lent + places);
      return places;
    });
    this.#turn = granted;
    return granted;
  }
}

/** A worker's side of the ledger. */
export class BorrowedPlaces implements Places {
  readonly #borrow: (wanted: number) => Promise<number>;
  readonly #waiting: ((entered: boolean) => void)[] = [];
  #free = 0;
  // How many of those who wait, the first ones, the question under way is about.
  #asked = 0;
  #asking = false;

  constructor(borrow: (wanted: number) => Promise<number>) {
    this.#borrow = borrow;
  }

  enter(): boolean | Promise<boolean> {
    if (this.#free > 0) {
      this.#free--;
      return true;
    }
    const entered = new Promise<boolean>((resolve) => {
      this.#waiting.push(resolve);
    });
    if (!this.#asking) this.#ask();
    return entered;
  }

  leave(): void {
    this.#free++;
    this.#serve();
  }

  /** Gives up what is not used. */
  giveBack(): number {
    const places = this.#free;
    this.#free = 0;
    return places;
  }

  #serve(): void {
    while (this.#free > 0 && this.#waiting.length > 0) {
      this.#free--;
      if (this.#asked > 0) this.#asked--;
      this.#waiting.shift()?.(true);
    }
  }

  async #ask(): Promise<void> {
    this.#asking = true;
    while (this.#waiting.length > 0) {
      this.#asked = this.#waiting.length;
      // Without a primary there is no cluster any more, and this process is about to end.
      const places = await this.#borrow(this.#asked).catch(() => 0);
      this.#free += places;
      this.#serve();
      for (const refuse of this.#waiting.splice(0, this.#asked)) refuse(false);
    }
    this.#asking = false;
  }
}

const ignore = (): void => {};

/** Joins this process, which the primary forked, to the others. */
export function joinWorkers(member: Member): Link {
  const send = (message: Question | Answer): void => {
    // Where the primary is gone, this process is about to end by itself.
    if (process.connected) process.send?.(message, undefined, undefined, ignore);
  };
  const places = new BorrowedPlaces((wanted) => channel.ask<number>('places', wanted));
  const channel: Channel = new Channel(send, {
    readyz: () => member.readyz(),
    metrics: () => member.metrics(),
    giveBack: () => places.giveBack(),
  });
  process.on('message', (message: Question | Answer) => channel.receive(message));
  return {
    places,
    listening: (port) => channel.ask('listening', port),
    drained: () => channel.ask<void>('drained').catch(ignore),
    readyz: () => channel.ask('readyz'),
    metrics: () => channel.ask('metrics'),
  };
}

/** `total` in `parts` that differ by one at most, the part at `index`. */
export function shareOf(total: number, parts: number, index: number): number {
  return Math.floor(total / parts) + (index < total % parts ? 1 : 0);
}

/** What the primary is to the program: as an application, without answering anything itself. */
export interface Workers {
  /** Forks the workers and resolves with the port when all listen; `announce` is called when the first does. */
  listen(announce: (port: number) => void): Promise<number>;
  /** Ends all workers as SIGTERM ends one process. Rejects where one of them did not end well. */
  close(): Promise<void>;
}

// A worker's own answer may take a second, which its ping of the database has.
const answerTimeoutMs = 2500;
const leastBackoffMs = 50;
const mostBackoffMs = 1000;
// Workers end within the request timeout and a second.
const killGraceMs = 5000;

/** A connection that node:cluster's primary accepted, as it is passed on: of net.Socket what libuv knows of it. */
interface Handle {
  close(): void;
}

/**
 * Closes the connection that was on its way to a worker when the worker ended. node:cluster passes on one at a time and
 * closes its own end when the worker says that it took it; of one who cannot say so any more it would keep the connection
 * open, and whoever is at its other end would wait for an answer until he gives up.
 */
class Deliveries {
  readonly #carriers = new Map<Worker, Handle>();

  watch(worker: Worker): void {
    const { process: carrier } = worker;
    const send = carrier.send.bind(carrier) as (...message: unknown[]) => boolean;
    carrier.send = (...message: unknown[]): boolean => {
      const [said, handle] = message as [{ readonly act?: string } | undefined, Handle | null | undefined];
      if (said?.act === 'newconn' && handle) this.#carriers.set(worker, handle);
      return send(...message);
    };
    // What a worker says of it, taken or refused, ends the delivery; refused, it is node:cluster's again. Heard before
    // node:cluster hears it, which passes on the next one at once.
    carrier.prependListener('internalMessage', ({ cmd, ack }: { readonly cmd?: string; readonly ack?: number }) => {
      if (cmd === 'NODE_CLUSTER' && ack !== undefined) this.#carriers.delete(worker);
    });
    // It has ended then, and all that it had said is read. 'disconnect' does not come where a connection was on its way.
    carrier.once('close', () => {
      this.#carriers.get(worker)?.close();
      this.#carriers.delete(worker);
    });
  }
}

interface Forked {
  readonly worker: Worker;
  readonly channel: Channel;
  readonly exited: Promise<string | null>;
}

/** Makes the primary of a cluster; forks nothing yet. A worker that ends is replaced, after a pause that grows. */
export function startWorkers(config: Config, logger: Logger): Workers {
  const running = new Map<number, Forked>(); // by slot, which is the share of the pool that it has
  const restarts = new Map<number, NodeJS.Timeout>();
  const backoffsMs = new Map<number, number>();
  let port = config.port;
  let announce: (port: number) => void = () => {};
  let announced = false;
  let stopping = false;
  let started: PromiseWithResolvers<void> | null = null;
  const listeners = new Set<number>();
  const busy = new Set<number>(); // of those that are to end
  const allDrained = Promise.withResolvers<void>();
  const deliveries = new Deliveries();
  const drained = (slot: number): void => {
    busy.delete(slot);
    if (stopping && busy.size === 0) allDrained.resolve();
  };

  const recall = async (id: number): Promise<void> => {
    const forked = [...running.values()].find(({ worker }) => worker.id === id);
    // A late answer counts as well: it would be lost otherwise.
    const given = forked?.channel.ask<number>('giveBack').then(
      (places) => ledger.giveBack(id, places),
      () => {},
    );
    await Promise.race([given, new Promise((resolve) => setTimeout(resolve, answerTimeoutMs))]);
  };
  const ledger = new PlaceLedger(config.limits.requestsInFlight, recall);

  async function readyz(): Promise<HealthAnswer> {
    if (stopping) return answerOf(503, 'shutting down');
    if (listeners.size < config.workers) return answerOf(503, `${listeners.size} of ${config.workers} workers listen`);
    const answers = await Promise.all(
      [...running].map(([slot, { channel }]) =>
        channel
          .ask<HealthAnswer>('readyz', 0, answerTimeoutMs)
          .catch(() => answerOf(503, `worker ${slot} does not answer`)),
      ),
    );
    return answers.find(({ status }) => status !== 200) ?? answerOf(200, 'ok');
  }

  function fork(slot: number): void {
    const share = shareOf(config.poolSize, config.workers, slot);
    const worker = cluster.fork({ PORT: String(port), POOL_SIZE: String(share), WORKERS: '1' });
    const send = (message: Question | Answer): void => {
      // What a worker that is gone was asked is answered by its exit.
      if (worker.isConnected()) worker.send(message, undefined, undefined, ignore);
    };
    const channel = new Channel(send, {
      listening: () => {
        if (!announced) announce(port);
        announced = true;
        listeners.add(slot);
        backoffsMs.delete(slot);
        if (listeners.size === config.workers) started?.resolve();
      },
      drained: () => {
        drained(slot);
        // Ended by somebody else than the primary, it ends alone.
        return stopping ? allDrained.promise : undefined;
      },
      readyz,
      metrics: () =>
        Promise.all([...running.values()].map((forked) => forked.channel.ask('metrics', 0, answerTimeoutMs))),
      places: (wanted) => ledger.borrow(worker.id, wanted),
    });
    deliveries.watch(worker);
    worker.on('message', (message: Question | Answer) => channel.receive(message));
    const exited = new Promise<string | null>((resolve) => {
      const gone = (status: number | null, signal: string | null): void => {
        running.delete(slot);
        listeners.delete(slot);
        drained(slot);
        ledger.gone(worker.id);
        channel.close();
        resolve(status === 0 ? null : `worker ${slot} ended with ${signal ?? `status ${status}`}`);
        if (!stopping) ended(slot, worker, status, signal);
      };
      worker.on('exit', gone);
      worker.on('error', (cause: Error) => {
        logger.warn('worker cannot be told', { worker: slot, cause: describe(cause) });
        // What could not be said to one that is ending is answered by its exit; of one that could not be started none comes.
        if (worker.process.pid === undefined && running.get(slot)?.worker === worker) gone(1, null);
      });
    });
    ledger.join(worker.id);
    running.set(slot, { worker, channel, exited });
  }

  function ended(slot: number, worker: Worker, status: number | null, signal: string | null): void {
    const fields = { worker: slot, worker_pid: worker.process.pid, exit_status: status, signal };
    if (started !== null) {
      // At the start there is nothing yet that would be worth going on for.
      started.reject(new Error(`worker ${slot} ended with ${signal ?? `status ${status}`}`));
      return;
    }
    const pauseMs = backoffsMs.get(slot) ?? leastBackoffMs;
    backoffsMs.set(slot, Math.min(pauseMs * 2, mostBackoffMs));
    logger.warn('worker ended', { ...fields, restart_in_ms: pauseMs });
    restarts.set(
      slot,
      setTimeout(() => {
        restarts.delete(slot);
        fork(slot);
      }, pauseMs),
    );
  }

  return {
    async listen(announcing) {
      announce = announcing;
      // A port that node:cluster finds by itself would be given up when the last worker ends.
      if (port === 0) port = await freePort(config.host);
      // JSON would lose what numbers can hold besides digits.
      cluster.setupPrimary({ serialization: 'advanced' });
      started = Promise.withResolvers<void>();
      for (let slot = 0; slot < config.workers; slot++) fork(slot);
      await started.promise.finally(() => {
        started = null;
      });
      return port;
    },
    async close() {
      stopping = true;
      for (const timer of restarts.values()) clearTimeout(timer);
      const workers = [...running.values()];
      for (const slot of running.keys()) busy.add(slot);
      for (const { worker } of workers) worker.process.kill('SIGTERM');
      const timer = setTimeout(() => {
        for (const { worker } of workers) worker.process.kill('SIGKILL');
      }, config.requestTimeoutMs + killGraceMs);
      const failures = (await Promise.all(workers.map(({ exited }) => exited))).filter((failure) => failure !== null);
      clearTimeout(timer);
      if (failures.length > 0) throw new Error(failures.join(', '));
    },
  };
}

function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, host, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
