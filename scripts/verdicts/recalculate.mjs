// Works out a run's verdicts from its trials anew and holds them against those in its record: by another program in another
// language, which shares no code with the one that made them, and by brute force where that one has a shortcut. Every sign
// pattern is gone through, and an interval's ends are found by bisection of the test.
//
//   node scripts/verdicts/recalculate.mjs results/FOLDER …
//
// Status 0: all are the same; 1: some are not; 2: a folder cannot be read or has none. The rules are those of
// docs/METHODOLOGY.md.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const alpha = 0.05;
const libraryMargin = 1.05;
// 2^20 patterns take a few hundredths of a second, and an interval asks a hundred times for as many.
const mostPatterns = 20;
const holds = 'holds';
const contradicted = 'contradicted';
const tooClose = 'too close to call';
const untested = 'cannot be tested here';

const sum = (x) => x.reduce((all, v) => all + v, 0);
const mean = (x) => sum(x) / x.length;

function median(x) {
  const s = x.toSorted((a, b) => a - b);
  const half = s.length >> 1;
  return s.length % 2 === 1 ? s[half] : (s[half - 1] + s[half]) / 2;
}

/** Of two sides: the share of all sign patterns of d − shift whose sum is as far from 0 as the one seen. */
function signFlip(d, shift = 0) {
  if (d.length > mostPatterns) throw new Error(`of ${d.length} pairs not every pattern can be gone through`);
  const x = d.map((v) => v - shift);
  const seen = Math.abs(sum(x)) - 1e-12 * sum(x.map(Math.abs));
  let pattern = sum(x);
  let extreme = 0;
  const patterns = 2 ** x.length;
  const sign = x.map(() => 1);
  for (let step = 1; ; step++) {
    if (Math.abs(pattern) >= seen) extreme++;
    if (step === patterns) return extreme / patterns;
    // A Gray code: each pattern differs from the one before by one sign, that of the lowest bit set in step.
    const turned = 31 - Math.clz32(step & -step);
    sign[turned] = -sign[turned];
    pattern += 2 * sign[turned] * x[turned];
  }
}

/** The values that the test would not reject, or null where it cannot reject any. */
function interval(d) {
  if (2 / 2 ** d.length > alpha) return null;
  const centre = mean(d);
  const end = (far) => {
    let inside = centre;
    let outside = far;
    for (let step = 0; step < 100; step++) {
      const middle = (inside + outside) / 2;
      if (signFlip(d, middle) > alpha) inside = middle;
      else outside = middle;
    }
    return (inside + outside) / 2;
  };
  const width = Math.max(...d) - Math.min(...d) + 1e-9;
  return [end(centre - 2 * width), end(centre + 2 * width)];
}

/** How many ways there are to take k of n. */
const choose = (n, k) => (k === 0 ? 1 : (choose(n, k - 1) * (n - k + 1)) / k);

/** The sign test of "the median is 0", of two sides, with what is 0 on the rarer side. */
function signTest(d) {
  const above = d.filter((v) => v > 0).length;
  const below = d.filter((v) => v < 0).length;
  const rarer = d.length - Math.max(above, below);
  let chance = 0;
  for (let k = 0; k <= rarer; k++) chance += choose(d.length, k) / 2 ** d.length;
  return Math.min(1, 2 * chance);
}

/** The widest of the intervals between two order statistics, the same number from either end, that is not too wide. */
function medianInterval(d) {
  const s = d.toSorted((a, b) => a - b);
  let found = null;
  let outside = 0;
  for (let k = 1; 2 * k <= s.length; k++) {
    outside += (2 * choose(s.length, k - 1)) / 2 ** s.length;
    if (outside > 1 - 0.95 + 1e-12) break;
    found = [s[k - 1], s[s.length - k]];
  }
  return found;
}

/** Holm's correction: each p times how many are not smaller, and none below that of a smaller one. */
function holm(ps) {
  const corrected = new Map();
  let least = 0;
  ps.toSorted((a, b) => a - b).forEach((p, rank) => {
    least = Math.max(least, Math.min(1, p * (ps.length - rank)));
    if (!corrected.has(p)) corrected.set(p, least);
  });
  return ps.map((p) => corrected.get(p));
}

const positive = (v) => (v !== undefined && v !== null && v > 0 ? v : null);

function percentile(q, field) {
  return (t) => {
    if (t.load !== 'rate') return null;
    const own = t.operations?.find((o) => o.operation === t.operation) ?? t;
    // Were the true percentile above all that was seen, so many requests would have shown it with 99 % confidence.
    return q ** own.sent < 0.01 ? own[field] : null;
  };
}

const atRate = (value) => (t) => (t.load === 'rate' ? (value(t) ?? null) : null);

/** The number of a trial that decides, or null. */
function figure(metric, scenario) {
  switch (metric) {
    case 'cpu_us_per_request':
      return atRate((t) => t.cpu_us_per_request);
    case 'latency_p50_ns':
      return percentile(0.5, metric);
    case 'latency_p90_ns':
      return percentile(0.9, metric);
    case 'latency_p99_ns':
      return percentile(0.99, metric);
    case 'latency_p999_ns':
      return percentile(0.999, metric);
    case 'latency_p99_median_second_ns':
      return atRate((t) => positive(t.latency_p99_median_second_ns));
    case 'achieved_rps': {
      const most = Math.max(0, ...(scenario.connections ?? []));
      if (most === 0) return (t) => (t.load === 'throughput' ? positive(t.achieved_rps) : null);
      return (t) => (t.load === 'closed' && t.connections === most ? positive(t.achieved_rps) : null);
    }
    case 'achieved_rps_growth_ratio': {
      const connections = scenario.connections ?? [];
      const [fewest, most] = [Math.min(...connections), Math.max(...connections)];
      // Of the same process: no other has its place in the block's order and the time that it took to start.
      const of = (o) => [o.arm, o.block, o.duplicate, o.position, o.cold_start_ns].join(' ');
      return (t, trials) => {
        if (t.load !== 'closed' || t.connections !== most) return null;
        const once = trials.find((o) => o.load === 'closed' && o.connections === fewest && of(o) === of(t));
        return positive(once?.achieved_rps) === null ? null : positive(t.achieved_rps / once.achieved_rps);
      };
    }
    case 'statements_per_request':
      return atRate((t) => positive(t.statements_per_request));
    case 'database_primary_cpu_us_per_request':
      return atRate((t) => (t.sent > 0 ? positive((t.parts?.database_primary?.cpu_seconds * 1e6) / t.sent) : null));
    case 'bench_hand_over_wall_ns_p50':
      return atRate((t) => positive(t.benched?.[0]?.ways?.[0]?.wall_ns_p50));
    case 'bench_loader_cpu_ns_per_key':
      return atRate((t) => positive(t.benched?.[0]?.cpu_ns_per_key));
    case 'memory_pss_peak_bytes':
      return atRate((t) => t.memory_pss_peak_bytes);
    case 'recovery_ns':
      return atRate((t) => (t.outcomes === undefined ? null : Math.max(t.recovery_ns, t.outcomes.resolution_ns)));
    case 'cold_start_ns':
      return atRate((t) => positive(t.cold_start_ns));
    default:
      throw new Error(`the metric ${metric} is not known`);
  }
}

const key = (arm, block) => `${block} ${arm}`;

/** The numbers that count, by block and arm, and the log-ratios of identical arms. */
function numbers(trials, figureOf, baselines = {}) {
  const usable = trials.filter((t) => t.void === null);
  const value = (t) => figureOf(t, usable);
  const first = new Map();
  for (const t of usable) if (!t.duplicate && value(t) !== null) first.set(key(t.arm, t.block), value(t));
  const grown = (arm, block, v) => {
    if (baselines[arm] === undefined) return v;
    const less = first.get(key(baselines[arm], block));
    return less === undefined || v <= less ? null : v - less;
  };
  const of = (arm, block) => {
    const v = first.get(key(arm, block));
    return v === undefined ? null : grown(arm, block, v);
  };
  const identical = [];
  for (const t of usable) {
    if (!t.duplicate || value(t) === null) continue;
    const [second, once] = [grown(t.arm, t.block, value(t)), of(t.arm, t.block)];
    if (positive(second) !== null && positive(once) !== null) identical.push(Math.log(second / once));
  }
  return { blocks: [...new Set(usable.map((t) => t.block))].sort((a, b) => a - b), of, identical };
}

/** The arms that have answered without the statements that their requests take: they are held against nobody. */
function withoutWork(trials) {
  // A least number that is not there is no number, and nothing is below it.
  const lacks = (t) =>
    t.statements_per_request !== null && t.statements_per_request < 0.995 * t.statements_least_per_request;
  return new Set(trials.filter(lacks).map((t) => t.arm));
}

/** What identical arms differ by: the farther end of the interval of their log-ratios; null where they are too few. */
function noiseFloor(identical) {
  const ends = identical.length === 0 ? null : interval(identical);
  return ends === null ? null : Math.max(...ends.map(Math.abs));
}

/** The fewest blocks with which a family of so many can be decided. */
function fewest(family) {
  let n = 1;
  while ((family * 2) / 2 ** n >= alpha) n++;
  return n;
}

/** Verdicts of candidates { id, d, p, ratio, ends, decide }, of which those with a p are one family. */
function family(candidates, identical, alone) {
  const tested = candidates.filter(({ p }) => p !== undefined);
  const corrected = holm(tested.map(({ p }) => p));
  const floor = alone ? null : noiseFloor(identical);
  tested.forEach((c, i) => {
    c.pHolm = corrected[i];
    c.floor = floor;
    if (c.d.length < fewest(tested.length) || (!alone && floor === null)) c.verdict = untested;
    else c.verdict = c.decide(c.pHolm, floor);
  });
  return candidates;
}

const differs = (ratio, against) => (p, floor) => {
  if (p >= alpha || Math.abs(ratio) <= floor) return tooClose;
  return against ? contradicted : holds;
};

function judge({ id, metric, rule, margin, pairs, baselines, bound_ns: bound, absent = {} }, trials, value) {
  const { blocks, of, identical } = numbers(trials, value, baselines);
  const within = rule === 'within';
  const idle = withoutWork(trials);
  const candidates = pairs.map(([a, b]) => {
    const c = { id: `${id}/${metric}/${a}-vs-${b}`, arms: [a, b], margin, d: [], verdict: untested };
    if (within) c.wrong = sum(trials.filter((t) => t.arm === a).map((t) => t.failed_by?.wrong_answer ?? 0));
    if (absent[a] || absent[b] || idle.has(a) || idle.has(b)) return c;
    for (const block of blocks) {
      const [x, y] = [of(a, block), within ? bound : of(b, block)];
      if (x !== null && y !== null) c.d.push(Math.log(x / y));
    }
    // A pair of numbers that has no logarithm leaves nothing to test.
    if (!c.d.every(Number.isFinite)) c.d = [];
    if (c.d.length === 0) return c;
    if (within) {
      const ratio = median(c.d);
      const decide = (p) => (p >= alpha ? tooClose : ratio > 0 ? contradicted : holds);
      return { ...c, p: signTest(c.d), ratio, ends: medianInterval(c.d), decide };
    }
    const ratio = mean(c.d);
    const ends = interval(c.d);
    if (rule !== 'equal')
      return { ...c, p: signFlip(c.d), ratio, ends, decide: differs(ratio, rule === 'less' && ratio > 0) };
    const edge = Math.log(margin);
    const inside = Math.abs(ratio) < edge;
    const p = inside ? Math.max(signFlip(c.d, edge), signFlip(c.d, -edge)) : signFlip(c.d, Math.sign(ratio) * edge);
    return { ...c, p, ratio, ends, decide: inside ? (q) => (q >= alpha ? tooClose : holds) : differs(ratio, true) };
  });
  family(candidates, identical, within);
  for (const c of candidates) if (c.wrong > 0) c.verdict = contradicted;
  return candidates;
}

/** "The choice of library changes more than the choice of language": |L| > |G| where L − G and L + G have one sign. */
function outweigh({ library, pairs, margin }, trials, has) {
  const { blocks, of, identical } = numbers(trials, figure('cpu_us_per_request'));
  const idle = withoutWork(trials);
  const candidates = pairs
    .filter((pair) => [...library, ...pair].every(has))
    .map((pair) => {
      const c = { id: `library/outweighs/${pair[0]}-vs-${pair[1]}`, arms: pair, margin, d: [], verdict: untested };
      if ([...library, ...pair].some((arm) => idle.has(arm))) return c;
      const [l, g] = [[], []];
      for (const block of blocks) {
        const x = [...library, ...pair].map((arm) => positive(of(arm, block)));
        if (x.includes(null)) continue;
        l.push(Math.log(x[0] / x[1]));
        g.push(Math.log(x[2] / x[3]));
      }
      if (l.length === 0) return c;
      c.d = l.map((v, i) => Math.sign(mean(l)) * v - Math.sign(mean(g)) * g[i]);
      const p = Math.max(signFlip(l.map((v, i) => v - g[i])), signFlip(l.map((v, i) => v + g[i])));
      const ratio = mean(c.d);
      return { ...c, p, ratio, ends: interval(c.d), decide: differs(ratio, ratio < 0) };
    });
  return family(candidates, identical, false);
}

const everyTwo = (arms) => arms.flatMap((a, i) => arms.slice(i + 1).map((b) => [a, b]));
const named = (trials, keep) => [...new Set(trials.filter(keep).map((t) => t.arm))];

/** All verdicts of a run by its trials. */
function verdictsOf(run) {
  const library = run.trials.filter((t) => t.scenario === 'library');
  const measured = (trials) => {
    const arms = new Set(named(trials, (t) => ['rate', 'throughput', 'closed'].includes(t.load)));
    return (arm) => arms.has(arm);
  };
  const headline = { id: 'library', metric: 'cpu_us_per_request', rule: 'differ', margin: libraryMargin };
  if (run.profile === 'revisions') {
    const ending = (suffix) => named(run.trials, (t) => t.arm.endsWith(suffix));
    const pairs = everyTwo([...ending('@head'), ...ending('@base')]);
    return judge({ ...headline, pairs }, run.trials, figure(headline.metric));
  }
  const pairs = everyTwo(named(library, (t) => t.tier === 'mainstream'));
  const found = judge({ ...headline, pairs }, library, figure(headline.metric));
  if (run.outweighs) found.push(...outweigh(run.outweighs, library, measured(library)));
  for (const s of run.scenarios ?? []) {
    const own = run.trials.filter((t) => t.scenario === s.id);
    const has = measured(own);
    const within = s.rule === 'within';
    const known = (arm) => (within && arm === 'bound') || Boolean(s.absent?.[arm]) || has(arm);
    const all = s.pairs ?? (within ? s.arms.map((arm) => [arm, 'bound']) : everyTwo(s.arms));
    const judged = all.filter((pair) => pair.every(known));
    found.push(...judge({ ...s, pairs: judged }, own, figure(s.metric, s)));
  }
  return found;
}

// Ends found by bisection are as exact as the numbers are, and those where the test is of a few patterns are not more so.
const near = (x, y) =>
  x === undefined || x === null || y === undefined || y === null
    ? (x ?? null) === (y ?? null)
    : Math.abs(x - y) <= 1e-6 * Math.max(1, Math.abs(y));

/** What a record says otherwise, one line each. */
function differences(run) {
  const said = new Map(run.verdicts.map((v) => [v.id, v]));
  const out = run.verdicts.length > said.size ? ['a verdict stands twice'] : [];
  for (const c of verdictsOf(run)) {
    const v = said.get(c.id);
    said.delete(c.id);
    if (v === undefined) {
      out.push(`${c.id}: the record has none, the trials give “${c.verdict}”`);
      continue;
    }
    const exp = (x) => (x === undefined || x === null ? null : Math.exp(x));
    for (const [name, recorded, mine] of [
      ['ratio', v.ratio, exp(c.ratio)],
      ['ratio_low', v.ratio_low, exp(c.ends?.[0])],
      ['ratio_high', v.ratio_high, exp(c.ends?.[1])],
      ['p', v.p, c.p],
      ['p_holm', v.p_holm, c.pHolm],
      ['noise_floor', v.noise_floor, exp(c.floor)],
      ['blocks', v.blocks, c.d.length],
      ['margin', v.margin, c.margin],
    ]) {
      if (!near(recorded, mine)) out.push(`${c.id}: ${name} is ${recorded}, the trials give ${mine}`);
    }
    if (v.arms.join() !== c.arms.join()) out.push(`${c.id}: arms are ${v.arms}, the trials give ${c.arms}`);
    if (v.verdict !== c.verdict) out.push(`${c.id}: the verdict is “${v.verdict}”, the trials give “${c.verdict}”`);
  }
  for (const id of said.keys()) out.push(`${id}: the trials give none`);
  return out;
}

function main(folders) {
  if (folders.length === 0) {
    console.error('usage: node scripts/verdicts/recalculate.mjs FOLDER …');
    return 2;
  }
  let status = 0;
  for (const folder of folders) {
    try {
      const run = JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8'));
      if (!Array.isArray(run.verdicts) || run.verdicts.length === 0) throw new Error('the record has no verdicts');
      const found = differences(run);
      for (const line of found) console.log(`${folder}: ${line}`);
      if (found.length === 0) console.log(`${folder}: ${run.verdicts.length} verdicts, all as the trials give them`);
      else status = Math.max(status, 1);
    } catch (cause) {
      console.error(`${folder}: ${cause.message}`);
      status = 2;
    }
  }
  return status;
}

process.exitCode = main(process.argv.slice(2));
