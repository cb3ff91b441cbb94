import { get } from 'node:http';
import type { Master } from './master.ts';
import type { Store } from './store.ts';

/** What /livez and /readyz say, and with which HTTP status. */
export interface HealthAnswer {
  status: number;
  body: string;
}

export function answerOf(status: number, text: string): HealthAnswer {
  return { status, body: JSON.stringify({ status: text }) };
}

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

const checkTimeoutMs = 4000;

/** Asks a running server whether it is ready; rejects with the reason where it is not. */
export function checkHealth(host: string, port: number): Promise<void> {
  // A server that listens everywhere is asked where nobody is in between.
  const asked = { '0.0.0.0': '127.0.0.1', '::': '::1' }[host] ?? host;
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(checkTimeoutMs);
    // Unlike fetch, this takes no notice of a proxy.
    const request = get({ host: asked, port, path: '/readyz', agent: false, signal }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body += text;
      });
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`http://${asked}:${port}/readyz answered ${response.statusCode} ${body.trim()}`));
      });
    });
    request.on('error', (cause) => reject(signal.aborted ? new Error('no answer in time') : cause));
  });
}
