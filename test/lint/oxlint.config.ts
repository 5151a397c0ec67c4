// SPDX-License-Identifier: Apache-2.0
// The lint rules. Import directions come from rooms.ts; check-directions.ts proves that they are enforced. A later override of
// a rule replaces an earlier one silently, so the last override that matches a file decides.
import { dirname } from 'node:path';
import { defineConfig, type OxlintOverride } from 'oxlint';
import { childProcessFile, impure, mainMay, type Room, rooms } from './rooms.ts';

const direction = 'Imports do not run in this direction: see the table in test/lint/rooms.ts.';
const childProcess = ['node:child_process', 'child_process', 'node:cluster', 'cluster'].map((name) => ({
  name,
  message: 'The daemon starts no child process, except the exec plugin of a kubeconfig.',
}));
// An import with '..' after './' or after a folder name would not match the patterns of importRule(). This pattern is the first,
// because oxlint skips the patterns after one that allows the import.
const noDetour = { regex: '[^./]/+\\.\\./|^\\./+\\.\\.', message: 'Write the shortest path.' };
const noKoffi = { group: ['koffi'], message: 'Only kernel/ calls koffi.' };

interface RuleOptions {
  /** Number of folders between daemon/ and the file. */
  readonly depth: number;
  /** The folder of daemon/ that contains the folder of the row; undefined when that is daemon/ itself. */
  readonly parent?: string | undefined;
  readonly mayStartChild?: boolean;
}

/**
 * The import rule for the files of one row of rooms.ts. Patterns are written as in .gitignore and match the text of the import.
 */
function importRule(room: Omit<Room, 'folder'>, { depth, parent, mayStartChild = false }: RuleOptions) {
  const up = depth === 0 ? './' : '../'.repeat(depth);
  const proto = room.hasProto === true ? [`!${up}../proto/**`] : [];
  const toParent = '../'.repeat(Math.max(0, depth - 1));
  const path = (folder: string): string =>
    parent !== undefined && folder.startsWith(`${parent}/`) ? `${toParent}${folder.slice(parent.length + 1)}` : `${up}${folder}`;
  const parentFiles = room.hasParentFiles === true ? [`!${toParent}*.ts`] : [];
  const allowed = [`!${up}base/errors.ts`, ...room.may.map((folder) => `!${path(folder)}/**`), ...parentFiles, ...proto];
  // At depth 0 two patterns are needed, because './**' does not match '../'.
  const outside = depth === 0 ? ['../**', './*/**'] : [parent === undefined ? `${up}**` : `${toParent}**`];
  const patterns: object[] = [noDetour, { group: [...outside, ...allowed], message: direction }];
  if (room.hasKoffi !== true) patterns.push(noKoffi);
  if (room.isPure === true)
    patterns.push({ group: ['node:*', 'pino', 'pino-pretty'], message: 'This room is pure: no clock, no I/O, no logger.' });
  // These are `paths` and not `patterns`, because oxlint skips the patterns after one that allows the import.
  const typesOnly = ['clock.ts', 'log.ts'].map((file) => ({
    name: `${up}base/${file}`,
    allowTypeImports: true,
    message: 'Import types only; take the value as an argument.',
  }));
  const child = childProcess.filter(({ name }) => !mayStartChild || name !== 'node:child_process');
  const paths = room.isComposition === true ? child : [...child, ...typesOnly];
  const severity = 'error' as const;
  return { 'no-restricted-imports': [severity, { paths, patterns }] } satisfies OxlintOverride['rules'];
}

/** Deepest folder below daemon/ for which rules are made; check-directions.ts fails when a folder is deeper. */
const deepest = 3;

// Rows of folders come before rows of their subfolders, because the later override wins.
const byDepth = rooms.toSorted((a, b) => a.folder.split('/').length - b.folder.split('/').length);
const roomOverrides = byDepth.flatMap((room) => {
  const own = room.folder.split('/').length;
  return Array.from({ length: deepest - own + 1 }, (_, below) => ({
    files: [`**/daemon/${room.folder}${'/*'.repeat(below)}/*.ts`],
    rules: importRule(room, { depth: own + below, parent: own === 1 ? undefined : dirname(room.folder) }),
  }));
});

const pureFolders = rooms.filter(({ isPure }) => isPure === true).map(({ folder }) => `**/daemon/${folder}/**`);

const execCredentialRoom = rooms.find(({ folder }) => folder === dirname(childProcessFile)) ?? { may: [] };

export default defineConfig({
  plugins: ['eslint', 'typescript', 'import', 'unicorn', 'oxc', 'node', 'promise', 'vitest'],
  categories: { correctness: 'error' },
  env: { node: true, es2026: true },
  rules: {
    eqeqeq: 'error',
    'max-lines': ['error', { max: 400, skipBlankLines: true, skipComments: true }],
    'max-lines-per-function': ['error', { max: 80, skipBlankLines: true, skipComments: true }],
    'max-params': ['error', { max: 3 }],
    'no-console': 'error',
    'no-shadow': 'error',
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
    'typescript/no-unnecessary-condition': 'error',
    'typescript/no-unsafe-argument': 'error',
    'typescript/no-unsafe-assignment': 'error',
    'typescript/no-unsafe-call': 'error',
    'typescript/no-unsafe-member-access': 'error',
    'typescript/no-unsafe-return': 'error',
    'typescript/only-throw-error': 'error',
    'typescript/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    'unicorn/filename-case': ['error', { case: 'kebabCase' }],
    'unicorn/prefer-node-protocol': 'error',
    // This rule rejects the copy of a map in a loop. The copy is needed if the loop changes the map.
    'unicorn/no-useless-spread': 'off',
    'vitest/no-focused-tests': 'error',
    'vitest/no-restricted-vi-methods': [
      'error',
      { mock: 'Write a fake behind the interface.', doMock: 'Write a fake behind the interface.' },
    ],
    // The assertions of contract suites are in helper functions, and some test names come from tables.
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
    {
      files: [`**/daemon/${childProcessFile}`],
      rules: importRule(execCredentialRoom, { depth: 2, parent: dirname(dirname(childProcessFile)), mayStartChild: true }),
    },
    { files: ['**/daemon/*.ts'], rules: importRule({ may: mainMay, isComposition: true }, { depth: 0 }) },
    { files: pureFolders, rules: { 'no-restricted-globals': ['error', ...impure] } satisfies OxlintOverride['rules'] },
    // The names of files in the folder of this file are matched without a path.
    {
      files: ['**/daemon/cli/**', '**/datapath/**', '**/test/**', '{actionlint,check,check-directions,commits,fmt,shell}.ts'],
      rules: { 'no-console': 'off' },
    },
    { files: ['**/*.config.ts'], rules: { 'import/no-default-export': 'off' } },
    // A describe() callback contains all tests of its subject, so it may be long.
    { files: ['**/*.test.ts'], rules: { 'max-lines-per-function': 'off' } },
  ],
});
