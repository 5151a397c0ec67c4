// SPDX-License-Identifier: Apache-2.0
// What is linted and formatted, in one place for check.ts and fmt.ts. Folders are named: without a .gitignore the tools
// would walk node_modules.
import { globSync } from 'node:fs';

/** Arguments for oxlint and oxfmt; generated files are left out by the tools' own ignore settings. */
export const tsSources = ['daemon', 'datapath', 'deploy', 'proto', 'test'];

/** The C files that we write. */
export const cSources = (): string[] => globSync(['datapath/**/*.c', 'datapath/**/*.h', 'test/**/*.c'], { exclude: ['**/gen/**'] });

export const oxfmt = 'oxfmt';
/** Debian's clang 19, as the build uses: another version formats otherwise. */
export const clangFormat = 'clang-format-19';
