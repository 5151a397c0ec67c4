// SPDX-License-Identifier: Apache-2.0
// The archive format of stories, txtar: a comment, which contains the commands, then files, each after a line "-- name --".
// Parsing only.

export interface Archive {
  /** Lines before the first file. */
  readonly comment: readonly string[];
  readonly files: ReadonlyMap<string, string>;
}

/** Any text is a valid archive. The last of several files with one name is used. */
export function parseTxtar(text: string): Archive {
  const comment: string[] = [];
  const files = new Map<string, string[]>();
  let current = comment;
  for (const line of text.split('\n')) {
    const name = /^-- (\S.*\S|\S) --\s*$/.exec(line)?.[1];
    if (name === undefined) {
      current.push(line);
      continue;
    }
    current = [];
    files.set(name, current);
  }
  return { comment, files: new Map([...files].map(([name, lines]) => [name, lines.join('\n')])) };
}
