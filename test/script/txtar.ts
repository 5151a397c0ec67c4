// SPDX-License-Identifier: Apache-2.0
// Parses txtar, the archive format of stories. An archive begins with a comment, which contains the commands of the story. Then the
// files follow, each after a line "-- name --".

export interface Archive {
  /** Lines before the first file. */
  readonly comment: readonly string[];
  readonly files: ReadonlyMap<string, string>;
}

/** Any text is a valid archive. If several files have the same name, the last one is used. */
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
