// SPDX-License-Identifier: Apache-2.0
// Reads a directory of objects once, for dry runs: fills the tables as the files source does with its first scan, and
// returns the problems. Synchronous. Watches nothing and keeps no state.
import { finish } from '../../base/slices.ts';
import { FileObjects } from './file-objects.ts';
import { MAX_DOCUMENTS } from './limits.ts';
import { parseDocument } from './documents.ts';
import { contentsOf, textsOf } from './file-state.ts';
import type { ObjectTables } from '../tables.ts';
import { limited, problemOf, type SourceProblem } from '../problems.ts';
import { listDirectory, readSourceFile } from './read-directory.ts';

/** Throws the errors of readdir. Every other error is returned as a problem of the file. */
export function readObjects(directory: string, tables: ObjectTables): readonly SourceProblem[] {
  const objects = new FileObjects(tables);
  const problems: SourceProblem[] = [];
  const { names } = listDirectory(directory);
  if (names.length === 0) problems.push(problemOf(directory, 'contains no *.yaml, *.yml or *.json file'));
  for (const name of names) {
    const result = finish(readSourceFile(directory, name));
    if (result.status === 'unreadable') problems.push(problemOf(name, `cannot be read: ${result.reason}`));
    if (result.status !== 'text') continue;
    const isJson = name.endsWith('.json');
    const texts = finish(textsOf(name, result.text));
    if (texts === undefined) {
      problems.push(problemOf(name, `cannot be read: it contains more than ${MAX_DOCUMENTS} documents`));
      continue;
    }
    const parsed = new Map(texts.map(({ text }) => [text, parseDocument(text, isJson)]));
    const contents = finish(contentsOf({ file: name, texts, parsed, previous: [] }));
    finish(objects.replace(name, [], contents.objects));
    problems.push(...contents.problems);
  }
  finish(objects.commit())();
  return limited([...problems, ...objects.problems()]);
}
