import type { Master } from './master.ts';
import type { Store } from './store.ts';

/** What /livez and /readyz say, and with which HTTP status. */
export interface HealthAnswer {
  status: number;
  body: string;
}

const answerOf = (status: number, text: string): HealthAnswer => ({ status, body: JSON.stringify({ status: text }) });

/** The process answers. */
export function livez(): HealthAnswer {
  return answerOf(200, 'ok');
}

const pingTimeoutMs = 1000;
const pingValidMs = 1000;

/** Whether requests can be answered: the database was reachable within the last second and master data is there. */
export class Readiness {
  readonly #store: Store;
  readonly #master: Master;
  #pinging: Promise<boolean> | null = null;
  #reachableUntilMs = 0;
  #closing = false;

  constructor(store: Store, master: Master) {
    this.#store = store;
    this.#master = master;
  }

  /** The process is about to end. */
  close(): void {
    this.#closing = true;
  }

  async readyz(): Promise<HealthAnswer> {
    if (this.#closing) return answerOf(503, 'shutting down');
    if (!(await this.#isReachable())) return answerOf(503, 'database not reachable');
    if (!this.#master.loaded) return answerOf(503, 'master data not loaded');
    return answerOf(200, 'ok');
  }

  // However many ask at once, the database is asked once a second.
  async #isReachable(): Promise<boolean> {
    if (performance.now() < this.#reachableUntilMs) return true;
    this.#pinging ??= this.#store.ping(pingTimeoutMs).finally(() => {
      this.#pinging = null;
    });
    const reachable = await this.#pinging;
    if (reachable) this.#reachableUntilMs = performance.now() + pingValidMs;
    return reachable;
  }
}
