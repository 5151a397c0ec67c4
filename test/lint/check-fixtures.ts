// Proves that the import directions are enforced: in test/lint/fixtures each line that ends in "// forbidden" must be
// refused by oxlint, and every other line must pass. A room under daemon/ without a fixture fails too, so that no room
// is ever without a rule. Run by test/lint/check.ts.
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';

const folder = 'test/lint/fixtures';

interface Diagnostic {
  readonly code?: string;
  readonly filename: string;
  readonly labels: readonly { readonly span: { readonly line: number } }[];
}

/** "file:line" of what oxlint refuses under the rules that draw the directions. */
function refusedLines(): Set<string> {
  const run = spawnSync('oxlint', ['--format=json', folder], { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (run.error) throw run.error;
  const report = JSON.parse(run.stdout) as { diagnostics: Diagnostic[] };
  const ours = report.diagnostics.filter((found) => found.code?.includes('no-restricted-') === true);
  return new Set(ours.map((found) => `${found.filename}:${found.labels[0]?.span.line ?? 0}`));
}

/** "file:line" of the marks. */
function markedLines(): Set<string> {
  const marked = globSync(`${folder}/**/*.ts`).flatMap((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .flatMap((line, index) => (line.endsWith('// forbidden') ? [`${file}:${index + 1}`] : [])),
  );
  return new Set(marked);
}

const refused = refusedLines();
const marked = markedLines();
const rooms = readdirSync('daemon', { withFileTypes: true }).filter((entry) => entry.isDirectory());
const complaints = [
  ...[...marked.difference(refused)].map((line) => `${line}: marked forbidden, but the linter lets it pass`),
  ...[...refused.difference(marked)].map((line) => `${line}: not marked forbidden, but the linter refuses it`),
  ...rooms
    .filter((room) => !existsSync(`${folder}/daemon/${room.name}/imports.ts`))
    .map((room) => `daemon/${room.name}: no row in oxlint.config.ts and no fixture in ${folder}`),
  ...(marked.size === 0 ? [`${folder}: nothing is marked`] : []),
];
for (const complaint of complaints) console.error(complaint);
process.exitCode = complaints.length === 0 ? 0 : 1;
