import http from 'node:http';
import { FieldError, type RequestError } from './errors.ts';
import type { Abortable, Work } from './store.ts';

/** A price as the outside service gives it. */
export interface Price {
  totalCents: number;
  currency: string;
}

/** Asks the outside service. Rejects with UPSTREAM_FAILED, or with the work's failure when the request's time is over. */
export type Upstream = (itemId: string, guests: number, work: Work) => Promise<Price>;

const timeoutMs = 1000;
const mostBytes = 10_000;

function parsePrice(text: string): Price | null {
  try {
    const price: unknown = JSON.parse(text);
    if (typeof price !== 'object' || price === null) return null;
    const { totalCents, currency } = price as Record<string, unknown>;
    const whole = typeof totalCents === 'number' && (totalCents | 0) === totalCents;
    return whole && typeof currency === 'string' ? { totalCents, currency } : null;
  } catch {
    return null;
  }
}

/** A client of `GET {baseUrl}/quote?itemId=…&guests=…` that keeps its connections. Null: there is no such service. */
export function newUpstream(baseUrl: string | null): { quote: Upstream; close(): void } {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 256, timeout: 60_000 });
  const quote: Upstream = (itemId, guests, work) =>
    new Promise<Price>((resolve, reject) => {
      const failed = () => new FieldError('UPSTREAM_FAILED', 'Upstream failed.');
      if (baseUrl === null) {
        reject(failed());
        return;
      }
      const request = http.get(`${baseUrl}/quote?itemId=${itemId}&guests=${guests}`, { agent });
      const abortable: Abortable = { abort: (error) => settle(error) };
      const timer = setTimeout(() => settle(failed()), timeoutMs);
      let settled = false;
      const settle = (outcome: Price | FieldError | RequestError): void => {
        if (settled) return;
        settled = true;
        clearTimeout(timer);
        work.timing?.callEnds();
        work.end(abortable);
        if (outcome instanceof Error) {
          request.destroy();
          reject(outcome);
        } else {
          resolve(outcome);
        }
      };
      work.timing?.callBegins();
      work.begin(abortable);
      request.on('error', () => settle(failed()));
      request.on('response', (response) => {
        if (response.statusCode !== 200) {
          // Read to its end, so that the connection is kept.
          response.resume();
          settle404(response);
          return;
        }
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          bytes += chunk.length;
          if (bytes > mostBytes) settle(failed());
        });
        response.on('error', () => settle(failed()));
        response.on('end', () => settle(parsePrice(Buffer.concat(chunks).toString('utf8')) ?? failed()));
      });
      const settle404 = (response: http.IncomingMessage): void => {
        response.on('end', () => settle(failed()));
        response.on('error', () => settle(failed()));
      };
    });
  return { quote, close: () => agent.destroy() };
}
