// SPDX-License-Identifier: Apache-2.0
// The lint rules that matter (style.md, 1). Import directions are design.md, 2, as one table: a room imports its own files,
// errors.ts and what its row names, nothing else of ours. A later override of a rule silently replaces an earlier one: the
// last that matches a file is the whole truth about it. Every override names its fixtures too: test/lint/check-fixtures.ts expects each line marked
// "forbidden" in test/lint/fixtures to fail, and no other.
import { defineConfig } from 'oxlint';

interface Room {
  /** Where its files are, under daemon/. */
  readonly folder: string;
  /** What it may import of ours: under daemon/, or with a leading slash under the repository. */
  readonly may: readonly string[];
  /** Knows no clock, no I/O, no logger. */
  readonly isPure?: boolean;
  /** The only room that calls koffi. */
  readonly hasKoffi?: boolean;
  /** May name the types of clock.ts and log.ts; their values come as arguments. */
  readonly hasClock?: boolean;
  /** May start a child process. */
  readonly hasChild?: boolean;
}

const rooms: readonly Room[] = [
  { folder: 'model', may: [], isPure: true },
  { folder: 'desired', may: ['model/**'], isPure: true },
  { folder: 'kernel', may: [], hasKoffi: true },
  { folder: 'maps', may: ['model/**', 'kernel/**'] },
  { folder: 'source', may: ['model/**'], hasClock: true },
  { folder: 'controller', may: ['model/**', 'desired/**'] },
  { folder: 'reconcile', may: ['model/**', 'maps/**', 'desired/**'], hasClock: true },
  { folder: 'loader', may: ['model/**', 'maps/**', 'kernel/**'], hasClock: true },
  { folder: 'endpoint', may: ['model/**', 'maps/**', 'kernel/**'] },
  { folder: 'flows', may: ['model/**', 'maps/**'] },
  { folder: 'explain', may: ['model/**', 'maps/**'] },
  { folder: 'api', may: ['model/**', 'flows/**', '/proto/**'], hasClock: true },
  { folder: 'cli', may: ['config*.ts', 'model/**', '/proto/**'] },
];

const direction = 'Imports do not run in this direction: design.md, 2.';
const noChild = ['node:child_process', 'child_process', 'node:cluster', 'cluster'].map((name) => ({
  name,
  message: 'The daemon starts no child process but the exec plugin of a kubeconfig.',
}));
// A path that goes down and up again would slip past. Put first: a pattern that lets a name through ends the search.
const noDetour = { regex: '[^./]/+\\.\\./|^\\./+\\.\\.', message: 'Write the shortest path.' };
const noKoffi = { group: ['koffi'], message: 'Only kernel/ calls koffi.' };

/** Paths under daemon/ and their twins among the fixtures. */
const both = (glob: string): string[] => [`daemon/${glob}`, `test/lint/fixtures/daemon/${glob}`];

/** The rule for files `depth` folders below daemon/. Patterns read like gitignore, on the import's text. */
function importRule(room: Omit<Room, 'folder'>, depth: number) {
  const up = '../'.repeat(depth);
  const clock = room.hasClock === true ? ['clock.ts', 'log.ts'] : [];
  const allowed = ['errors.ts', ...clock, ...room.may].map((path) => (path.startsWith('/') ? `!${up}..${path}` : `!${up}${path}`));
  const patterns: object[] = [noDetour, { group: [`${up}**`, ...allowed], message: direction }];
  if (room.hasKoffi !== true) patterns.push(noKoffi);
  if (room.isPure === true)
    patterns.push({ group: ['node:*', 'pino', 'pino-pretty'], message: 'A pure room: no clock, no I/O, no logger.' });
  // As paths: a pattern would come too late, see noDetour.
  const typesOnly = clock.map((file) => ({
    name: up + file,
    allowTypeImports: true,
    message: 'Types only: take the value as an argument.',
  }));
  const child = noChild.filter(({ name }) => room.hasChild !== true || name !== 'node:child_process');
  return { 'no-restricted-imports': ['error', { paths: [...child, ...typesOnly], patterns }] };
}

// A file deeper than a folder in a room meets the rule of depth 2: too strict, never too lax.
const roomOverrides = rooms.flatMap((room) => [
  { files: both(`${room.folder}/*.ts`), rules: importRule(room, 1) },
  { files: both(`${room.folder}/*/**/*.ts`), rules: importRule(room, 2) },
]);

// How a pure room would reach a clock, I/O or a logger without importing anything.
const impure =
  'Buffer Date clearInterval clearTimeout console fetch performance process queueMicrotask setImmediate setInterval setTimeout'.split(' ');

/** Files directly in daemon/ that build the parts and hang them together. */
const composition = 'main,agent,agent-view,control-plane,dry-explain,dry-run,find-source,health,live-explain,repairs,version';

/** Files directly in daemon/: only the composition root sees the rooms. */
const topRule = (group: readonly string[]) => ({
  'no-restricted-imports': ['error', { paths: noChild, patterns: [noDetour, { group, message: direction }, noKoffi] }],
});

export default defineConfig({
  plugins: ['eslint', 'typescript', 'import', 'unicorn', 'oxc', 'node', 'promise', 'vitest'],
  categories: { correctness: 'error' },
  env: { node: true, es2026: true },
  rules: {
    eqeqeq: 'error',
    'max-lines': ['error', { max: 400, skipBlankLines: true, skipComments: true }],
    'max-params': ['error', { max: 3 }],
    'no-console': 'error',
    'no-var': 'error',
    'prefer-const': 'error',
    'import/no-cycle': 'error',
    'import/no-default-export': 'error',
    'typescript/consistent-type-imports': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/no-floating-promises': 'error',
    'typescript/no-misused-promises': 'error',
    'typescript/no-non-null-assertion': 'error',
    'typescript/no-require-imports': 'error',
    'typescript/only-throw-error': 'error',
    'typescript/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    'unicorn/filename-case': ['error', { case: 'kebabCase' }],
    'unicorn/prefer-node-protocol': 'error',
    // It takes the copy of a map that is changed while we walk it for a needless one.
    'unicorn/no-useless-spread': 'off',
    'vitest/no-focused-tests': 'error',
    'vitest/no-restricted-vi-methods': [
      'error',
      { mock: 'Write a fake behind the interface.', doMock: 'Write a fake behind the interface.' },
    ],
    // Contract suites assert inside helpers, and tables name the tests.
    'vitest/expect-expect': 'off',
    'vitest/no-conditional-expect': 'off',
    'vitest/no-conditional-tests': 'off',
    'vitest/no-standalone-expect': 'off',
    'vitest/valid-describe-callback': 'off',
    'vitest/valid-expect': ['error', { maxArgs: 2 }],
    'vitest/valid-title': 'off',
  },
  overrides: [
    ...roomOverrides,
    // What a kubeconfig calls an exec plugin is a program that prints a credential: there is no other way to run it.
    {
      files: both('source/kubernetes/exec-credential.ts'),
      rules: importRule({ may: ['model/**'], hasClock: true, hasChild: true }, 2),
    },
    { files: both('cli/{uninstall,preflight}.ts'), rules: importRule({ may: ['config*.ts', 'loader/**', '/proto/**'] }, 1) },
    { files: both('cli/explain.ts'), rules: importRule({ may: ['config*.ts', 'dry-explain.ts', 'model/**', '/proto/**'] }, 1) },
    { files: both('cli/plan.ts'), rules: importRule({ may: ['config*.ts', 'dry-run.ts', 'model/**', '/proto/**'] }, 1) },
    { files: both('*.ts'), excludeFiles: both(`{${composition},errors}.ts`), rules: topRule(['../**', './*/**', '!./model/**']) },
    { files: both(`{${composition}}.ts`), rules: topRule(['../**', '!../proto/**']) },
    { files: both('errors.ts'), rules: topRule(['**']) },
    {
      files: both('{model,desired}/**'),
      rules: {
        'no-restricted-globals': ['error', ...impure],
      },
    },
    { files: ['daemon/cli/**', 'datapath/**', 'test/**'], rules: { 'no-console': 'off' } },
    { files: ['**/*.config.ts'], rules: { 'import/no-default-export': 'off' } },
  ],
});
