// SPDX-License-Identifier: Apache-2.0
// A directory of objects read once, for dry runs: every file into the tables, as the watching source would after its first
// scan, and what is wrong. Synchronous; watches nothing and holds on to nothing.
import { Claims } from './file-objects.ts';
import { parseDocument, splitDocuments } from './documents.ts';
import { gather } from './file-state.ts';
import type { ObjectTables } from '../tables.ts';
import { compareProblems, problemOf, type SourceProblem } from '../problems.ts';
import { listDirectory, readSourceFile } from './read-directory.ts';

/** Fills the tables. Throws what readdir throws; everything else is a problem of its file. */
export function readObjects(directory: string, tables: ObjectTables): readonly SourceProblem[] {
  const claims = new Claims(tables);
  const problems: SourceProblem[] = [];
  for (const name of listDirectory(directory).names) {
    const reading = readSourceFile(directory, name);
    if (reading.status === 'unreadable') problems.push(problemOf(name, `cannot be read: ${reading.reason}`));
    if (reading.status !== 'text') continue;
    const isJson = name.endsWith('.json');
    const texts = isJson ? [{ text: reading.text, line: 0 }] : splitDocuments(reading.text);
    const told = gather(name, texts, new Map(texts.map(({ text }) => [text, parseDocument(text, isJson)])));
    claims.replace(name, [], told.claims);
    problems.push(...told.problems);
  }
  claims.commit();
  return [...problems, ...claims.problems()].toSorted(compareProblems);
}
