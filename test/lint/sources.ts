// SPDX-License-Identifier: Apache-2.0
// Lists the files that are checked and formatted, for check.ts, fmt.ts and shell.ts. It must never list node_modules or generated
// files. Folders are listed one by one, because in a copy without .gitignore the tools would also read node_modules.
import { closeSync, globSync, openSync, readSync } from 'node:fs';
import { join, relative } from 'node:path';

/** Arguments for oxlint and oxfmt. Their own ignore settings leave out the generated files. */
export const tsSources = ['daemon', 'datapath', 'deploy', 'proto', 'test'];

/** The C files of the repository, without the generated ones. */
export const cSources = (): string[] => globSync(['datapath/**/*.c', 'datapath/**/*.h', 'test/**/*.c'], { exclude: ['**/gen/**'] });

/** The shell scripts: files named *.sh, and files whose first line names sh or bash as the interpreter. */
export function shellSources(): string[] {
  const folders = ['.ci', '.github', 'cni', 'daemon', 'datapath', 'deploy', 'proto', 'test'];
  const files = globSync(['*', ...folders.map((folder) => `${folder}/**`)], { exclude: ['**/gen/**', 'node_modules'], withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(process.cwd(), join(entry.parentPath, entry.name)));
  return files.filter((file) => file.endsWith('.sh') || /^#!.*\b(sh|bash)\b/.test(firstLine(file))).toSorted();
}

/** The first line of a file, or its first 80 bytes. */
function firstLine(file: string): string {
  const descriptor = openSync(file, 'r');
  try {
    const start = Buffer.alloc(80);
    return start.toString('latin1', 0, readSync(descriptor, start)).split('\n', 1)[0] ?? '';
  } finally {
    closeSync(descriptor);
  }
}

export const oxfmt = 'oxfmt';
/** The formatter of Debian's clang 19 package, which the build uses. Other versions format differently. */
export const clangFormat = 'clang-format-19';
