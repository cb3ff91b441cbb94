import path from 'node:path';
import pg from 'pg';
import { type App, newApp } from '../src/app.ts';
import { type Config, readConfig } from '../src/config.ts';
import { newLogger } from '../src/logging.ts';

export const contractDir = path.resolve(import.meta.dirname, '../../contract');

/** The freshly seeded database of size `small` that integration tests need; without it they fail. */
export function databaseUrl(): string {
  const url = process.env.TEST_DATABASE_URL;
  if (!url) throw new Error('TEST_DATABASE_URL: not set, expected the URL of a freshly seeded database');
  return url;
}

export interface RunningApp {
  readonly app: App;
  readonly origin: string;
  readonly url: string;
  readonly log: string[];
  /** Posts a GraphQL request, accepting application/graphql-response+json. */
  post(body: object): Promise<{ status: number; headers: Headers; body: Answer }>;
  /** Waits until /readyz says so. */
  ready(): Promise<void>;
}

export interface Answer {
  data?: Record<string, unknown> | null;
  errors?: { message: string; path?: (string | number)[]; extensions: { code: string } }[];
}

/** An application on a free port with settings beyond the defaults. */
export async function startApp(environment: Record<string, string> = {}): Promise<RunningApp> {
  const config: Config = readConfig({
    CONTRACT_DIR: contractDir,
    DATABASE_URL: databaseUrl(),
    PORT: '0',
    POOL_SIZE: '4',
    ...environment,
  });
  const log: string[] = [];
  const app = await newApp(
    config,
    newLogger('info', (line) => log.push(line)),
  );
  const port = await app.listen();
  const origin = `http://127.0.0.1:${port}`;
  const url = `${origin}/graphql`;
  const post: RunningApp['post'] = async (body) => {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/graphql-response+json' },
      body: JSON.stringify(body),
    });
    return { status: response.status, headers: response.headers, body: (await response.json()) as Answer };
  };
  return {
    app,
    origin,
    url,
    log,
    post,
    ready: () => until(async () => (await fetch(`${origin}/readyz`)).status === 200),
  };
}

/** Asks again and again until it is so. A test that waits for ever is ended by the runner. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** Runs SQL of the test's own and gives the first row's values. */
export async function sql(text: string, values: unknown[] = []): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: databaseUrl() });
  await client.connect();
  try {
    const result = await client.query({ text, values, rowMode: 'array' });
    return result.rows[0] ?? [];
  } finally {
    await client.end();
  }
}

/** Counters of /metrics by label. */
export async function counts(origin: string, metric: string): Promise<Map<string, number>> {
  const text = await (await fetch(`${origin}/metrics`)).text();
  const found = text.matchAll(new RegExp(`^${metric}\\{[a-z]+="([^"]*)"\\} (\\S+)$`, 'gm'));
  return new Map([...found].map(([, label, value]) => [label ?? '', Number(value)]));
}
