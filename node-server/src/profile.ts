import type { Profiler } from 'node:inspector';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Code } from './errors.ts';
import type { HttpAnswer } from './http.ts';
import { describe, type Logger } from './logging.ts';

/** The longest that one profile may take. */
const mostSeconds = 30;

let isRunning = false;

/**
 * Samples the stacks of this process's main thread for as many seconds as a URL's query says, and answers with them
 * folded. V8 has one profiler: while it is at work, a second one is refused.
 */
export async function profile(profiler: 'on' | 'off', url: string | undefined, logger: Logger): Promise<HttpAnswer> {
  if (profiler === 'off') return refuse(404, 'Not found.');
  const asked = new URLSearchParams((url ?? '').split('?', 2)[1] ?? '').get('seconds') ?? '';
  const seconds = /^\d{1,3}$/.test(asked) ? Number(asked) : 0;
  if (seconds < 1 || seconds > mostSeconds) {
    const expected = `expected a whole number from 1 to ${mostSeconds}.`;
    return refuse(400, `"seconds" is ${JSON.stringify(asked)}: ${expected}`);
  }
  if (isRunning) return refuse(409, 'A profile is being taken already.');
  isRunning = true;
  try {
    return { status: 200, contentType: 'text/plain; charset=utf-8', headers: {}, body: fold(await sample(seconds)) };
  } catch (cause) {
    logger.error('profile failed', { error: describe(cause) });
    return refuse(500, 'Internal server error.', 'INTERNAL_SERVER_ERROR');
  } finally {
    isRunning = false;
  }
}

function refuse(status: number, message: string, code: Code = 'BAD_REQUEST'): HttpAnswer {
  const body = JSON.stringify({ errors: [{ message, extensions: { code } }] });
  return { status, contentType: 'application/json; charset=utf-8', headers: {}, body };
}

/** Each millisecond the stack that runs, as the inspector's domain Profiler does. */
async function sample(seconds: number): Promise<Profiler.Profile> {
  // A server that is never asked for a profile does not load the inspector.
  const { Session } = await import('node:inspector/promises');
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.start');
    await sleep(seconds * 1000);
    return (await session.post('Profiler.stop')).profile;
  } finally {
    session.disconnect();
  }
}

/**
 * One line for each stack, from its root to the function that ran, with the number of samples; of functions that were
 * inlined into each other each has its place. What V8 saw idle is no CPU time and left out.
 */
export function fold(sampled: Profiler.Profile): string {
  const nodes = new Map(sampled.nodes.map((node) => [node.id, node]));
  const parents = new Map<number, number>();
  for (const node of sampled.nodes) for (const child of node.children ?? []) parents.set(child, node.id);
  const counts = new Map<string, number>();
  for (const node of sampled.nodes) {
    if (!node.hitCount || node.callFrame.functionName === '(idle)') continue;
    const frames: string[] = [];
    for (let id: number | undefined = node.id; id !== undefined; id = parents.get(id)) {
      const frame = nodes.get(id)?.callFrame;
      if (frame !== undefined && frame.functionName !== '(root)') frames.push(frameName(frame));
    }
    if (frames.length === 0) continue;
    const stack = frames.reverse().join(';');
    counts.set(stack, (counts.get(stack) ?? 0) + node.hitCount);
  }
  return [...counts.keys()]
    .sort()
    .map((stack) => `${stack} ${counts.get(stack)}\n`)
    .join('');
}

const ownFolder = path.dirname(import.meta.dirname);

/** A function and the file that it is in, as seen from this package: `load (dataloader/index.js)`. */
function frameName({ functionName, url }: { functionName: string; url: string }): string {
  const name = (functionName || '(anonymous)').replaceAll(/[;\n]/g, ',');
  if (url === '') return name;
  const [, inPackage] = url.split(/^.*\/node_modules\//);
  const file = inPackage ?? (url.startsWith('file:') ? path.relative(ownFolder, fileURLToPath(url)) : url);
  return `${name} (${file.replaceAll(';', ',')})`;
}
