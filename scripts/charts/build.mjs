// Puts what the charts need where bin/loadtest embeds it (loadtest/internal/chart/assets): a bundle of ECharts, the
// Inter fonts cut to what is used, and resvg. Everything comes from the lock file, so the same commit gives the same
// bytes.
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import subsetFont from 'subset-font';

const require = createRequire(import.meta.url);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = (name) => here(`../../loadtest/internal/chart/assets/${name}`);

await build({
  entryPoints: [here('echarts.mjs')],
  outfile: out('echarts.js'),
  bundle: true,
  minify: true,
  format: 'iife',
  globalName: 'echarts',
  target: 'es2015', // what goja runs
  legalComments: 'inline',
  charset: 'ascii',
  define: { 'process.env.NODE_ENV': '"production"' },
  logLevel: 'warning',
});

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => String.fromCodePoint(from + i)).join('');
// For text that is ours: what a picture says.
const picture = `${range(0x20, 0x7e)}µ÷×±–—…·≥≤→°−’“”`;
// For names that come from records too; what is not here falls back to a font of the system.
const letters = [range(0x20, 0x7e), range(0xa0, 0x24f), range(0x370, 0x3ff), range(0x400, 0x45f)].join('');
const signs = [range(0x2010, 0x2027), range(0x2070, 0x209f), '€−≤≥≠≈∞√→←↑↓↔'].join('');
const page = letters + signs;
for (const [weight, name] of [
  [400, '400Regular/Inter_400Regular'],
  [600, '600SemiBold/Inter_600SemiBold'],
]) {
  const font = await readFile(require.resolve(`@expo-google-fonts/inter/${name}.ttf`));
  for (const [file, text, targetFormat] of [
    [`inter-${weight}.ttf`, page, 'truetype'],
    [`inter-${weight}.woff2`, page, 'woff2'],
    [`inter-${weight}-picture.woff2`, picture, 'woff2'],
  ]) {
    const options = { targetFormat, noLayoutClosure: true, preserveNameIds: [1, 2, 4, 6, 16, 17] };
    await writeFile(out(file), await subsetFont(font, text, options));
  }
}

await copyFile(require.resolve('@resvg/resvg-wasm/index_bg.wasm'), out('resvg.wasm'));
