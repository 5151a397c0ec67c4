// SPDX-License-Identifier: Apache-2.0
// Proves that oxlint enforces the import directions of rooms.ts. For each row of the table it writes a file that imports from
// every folder of daemon/, and marks the imports that the row forbids. Then it runs oxlint and compares the rejected lines with
// the marked lines. It also fails when a folder of daemon/ has no row, or when daemon/ has a program file besides main.ts.
// check.ts runs it.
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { childProcessFile, impure, mainMay, type Room, rooms } from './rooms.ts';

// The fixtures are outside the repository. In the repository their folder would be listed in .gitignore, and oxlint skips such folders.
const folder = mkdtempSync(join(tmpdir(), 'sluice-lint-'));
const forbidden = '// forbidden';

interface Line {
  readonly text: string;
  readonly isAllowed: boolean;
}

const allow = (text: string): Line => ({ text, isAllowed: true });
const forbid = (text: string): Line => ({ text, isAllowed: false });
const line = (text: string, isAllowed: boolean): Line => ({ text, isAllowed });

/** True when the row of `own` allows files below it to import files of the folder `to`. */
function mayImport(room: Pick<Room, 'may'>, own: string, to: string): boolean {
  const isWithin = (outer: string): boolean => to === outer || to.startsWith(`${outer}/`);
  return isWithin(own) || room.may.some(isWithin);
}

/** Imports of every other folder that has a row, and of a file of the parent folder, from a file `depth` folders below daemon/. */
function importsOfFolders(room: Omit<Room, 'folder'>, own: string, depth: number): Line[] {
  const up = depth === 0 ? './' : '../'.repeat(depth);
  const top = own.split('/')[0] ?? '';
  const others = rooms.filter(({ folder: other }) => other !== top && !other.startsWith(`${top}/`));
  const lines = others.map(({ folder: other }) => line(`import '${up}${other}/imports.ts';`, mayImport(room, own, other)));
  if (own === top) return lines;
  const toTop = '../'.repeat(depth - 1);
  const beside = rooms.filter(({ folder: other }) => other.startsWith(`${top}/`) && other !== own);
  return [
    ...lines,
    ...beside.map(({ folder: other }) => {
      return line(`import '${toTop}${other.slice(top.length + 1)}/imports.ts';`, mayImport(room, own, other));
    }),
    line(`import '${toTop}imports.ts';`, room.hasParentFiles === true),
  ];
}

/** Imports of a file that lies `depth` folders below daemon/, and whether each is allowed. `own` is the folder of its row. */
function importsOf(room: Omit<Room, 'folder'>, { own, depth, file = '' }: { own: string; depth: number; file?: string }): Line[] {
  const up = depth === 0 ? './' : '../'.repeat(depth);
  const isComposition = room.isComposition === true;
  const canBase = mayImport(room, own, 'base');
  return [
    ...importsOfFolders(room, own, depth),
    ...(own === 'base'
      ? []
      : [
          allow(`import '${up}base/errors.ts';`),
          line(`import type { Clock } from '${up}base/clock.ts';`, canBase),
          line(`import { clock } from '${up}base/clock.ts';`, canBase && isComposition),
          line(`import { log } from '${up}base/log.ts';`, canBase && isComposition),
        ]),
    ...(depth === 0 ? [] : [forbid(`import '${up}main.ts';`), ...detours(up)]),
    line(`import '${up}../proto/gen/types.ts';`, room.hasProto === true),
    forbid(`import '${up}../helper.ts';`),
    line(`import 'koffi';`, room.hasKoffi === true),
    line(`import 'node:fs';`, room.isPure !== true),
    line(`import 'pino';`, room.isPure !== true),
    line(`import 'node:child_process';`, file === childProcessFile),
    forbid(`import 'node:cluster';`),
    ...(room.isPure === true ? impure.map((name) => forbid(`export const use${name}: unknown = ${name};`)) : []),
  ];
}

/** Forbidden imports: main.ts by re-export and by import(), and paths that are longer than necessary. */
const detours = (up: string): Line[] => [
  forbid(`export { main } from '${up}main.ts';`),
  forbid(`export const lazily = import('${up}main.ts');`),
  forbid(`import './${up}model/imports.ts';`),
  forbid(`import './deeper/../${up}model/imports.ts';`),
  forbid(`import '${up}model/../maps/imports.ts';`),
];

const textOf = (lines: readonly Line[]): string =>
  lines.map(({ text, isAllowed }) => `${text}${isAllowed ? '' : ` ${forbidden}`}\n`).join('');

function write(path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
}

function writeFixtures(): void {
  for (const room of rooms) {
    const depth = room.folder.split('/').length;
    const own = room.folder;
    write(`daemon/${own}/imports.ts`, textOf(importsOf(room, { own, depth })));
    write(`daemon/${own}/below/imports.ts`, textOf(importsOf(room, { own, depth: depth + 1 })));
  }
  const own = dirname(childProcessFile);
  const starter = rooms.find(({ folder: each }) => each === own) ?? { may: [] };
  write(`daemon/${childProcessFile}`, textOf(importsOf(starter, { own, depth: 2, file: childProcessFile })));
  write('daemon/main.ts', textOf(importsOf({ may: mainMay, isComposition: true }, { own: '', depth: 0 })));
  write('daemon/base/errors.ts', 'export const errors = true;\n');
  write('daemon/base/clock.ts', 'export interface Clock {\n  readonly now: number;\n}\n\nexport const clock: Clock = { now: 0 };\n');
  write('daemon/base/log.ts', 'export const log = true;\n');
  write('proto/gen/types.ts', 'export const types = true;\n');
  write('helper.ts', 'export const helper = true;\n');
}

interface Diagnostic {
  readonly code?: string;
  readonly filename: string;
  readonly labels: readonly { readonly span: { readonly line: number } }[];
}

/** "file:line" of each import or global that oxlint rejects by a rule about import directions. */
function rejectedLines(): Set<string> {
  const run = spawnSync('oxlint', ['--config', 'test/lint/oxlint.config.ts', '--format=json', folder], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (run.error) throw run.error;
  const report = JSON.parse(run.stdout) as { diagnostics: Diagnostic[] };
  const found = report.diagnostics.filter(({ code }) => code?.includes('no-restricted-') === true);
  return new Set(found.map(({ filename, labels }) => `${filename}:${labels[0]?.span.line ?? 0}`));
}

/** "file:line" of each line that the table forbids. */
function forbiddenLines(): Set<string> {
  const marked = globSync(`${folder}/**/*.ts`).flatMap((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .flatMap((text, index) => (text.endsWith(forbidden) ? [`${file}:${index + 1}`] : [])),
  );
  return new Set(marked);
}

/** Errors in the layout of daemon/ itself. */
function treeProblems(): string[] {
  const entries = readdirSync('daemon', { withFileTypes: true });
  const known = new Set(rooms.map((room) => room.folder));
  return [
    ...entries
      .filter((entry) => entry.isDirectory() && !known.has(entry.name))
      .map((entry) => `daemon/${entry.name}: test/lint/rooms.ts has no row for this folder`),
    ...entries
      .filter((entry) => entry.name.endsWith('.ts') && entry.name !== 'main.ts')
      .map((entry) => `daemon/${entry.name}: only main.ts may lie directly in daemon/`),
    ...rooms
      .filter((room) => !existsSync(`daemon/${room.folder}`))
      .map((room) => `test/lint/rooms.ts: daemon/${room.folder} does not exist`),
    ...globSync('daemon/*/*/*/*/**/*.ts').map((file) => `${file}: no lint rule covers a folder this deep`),
  ];
}

/** All errors, one line each. */
function complaints(): string[] {
  writeFixtures();
  const rejected = rejectedLines();
  const expected = forbiddenLines();
  return [
    ...[...expected.difference(rejected)].map((place) => `${place}: forbidden by test/lint/rooms.ts, but the linter accepts it`),
    ...[...rejected.difference(expected)].map((place) => `${place}: allowed by test/lint/rooms.ts, but the linter rejects it`),
    ...treeProblems(),
    ...(expected.size === 0 ? [`${folder}: no line is forbidden`] : []),
  ];
}

try {
  const found = complaints();
  for (const complaint of found) console.error(complaint);
  process.exitCode = found.length === 0 ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
