// SPDX-License-Identifier: Apache-2.0
// The archive format of stories: a comment (here: commands), then files, each under a line "-- name --". Parsing only.

export interface Archive {
  /** Lines before the first file. */
  readonly comment: readonly string[];
  readonly files: ReadonlyMap<string, string>;
}

/** Any text is an archive. Of two files of one name the last counts. */
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
