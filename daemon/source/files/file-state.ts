// SPDX-License-Identifier: Apache-2.0
// One file's reading -> what the file says now: the objects it defines, those it merely holds on to, and its problems.
// The rule of the room lives here: text that is broken, cut or unreadable withdraws nothing (design.md, 3.5). Pure.
import type { Definition, Kind } from '../kinds.ts';
import { parseDocument, splitDocuments, type DocumentText, type ParsedDocument } from './documents.ts';
import { problemAt, problemOf, type SourceProblem } from '../problems.ts';
import type { Reading } from './read-directory.ts';

/** A file's word on one object. */
export interface Claim {
  /** Kind and table key: one object. */
  readonly id: string;
  readonly file: string;
  readonly kind: Kind;
  readonly key: string;
  /** Undefined: the file had the object and may still have it; the row stays as it is. */
  readonly definition: Definition | undefined;
  /** Counts from 1. */
  readonly line: () => number;
}

export interface FileState {
  readonly reading: Reading;
  /** In document order; an object defined twice is here twice. */
  readonly claims: readonly Claim[];
  readonly problems: readonly SourceProblem[];
  /** All of the file was understood and believed. */
  readonly isComplete: boolean;
  /** The reading would withdraw objects or may be half of a file: wanted once more, as trusted, when it has stood a while. */
  readonly isDoubted: boolean;
  /** Parsed documents by their text. */
  readonly parsed: ReadonlyMap<string, ParsedDocument>;
}

export interface Interpretation {
  readonly name: string;
  readonly reading: Reading;
  readonly previous: FileState | undefined;
  /** Nothing is doubted: the first scan, or a reading that has stood. */
  readonly isTrusted: boolean;
  /** Awaited now and then while much is parsed. */
  readonly breathe: () => Promise<void>;
}

const hold = ({ id, file, kind, key, line }: Claim): Claim => ({ id, file, kind, key, line, definition: undefined });

const idOf = (kind: string, key: string): string => `${kind} ${key}`;

export async function interpret(input: Interpretation): Promise<FileState> {
  const { name, reading, previous, isTrusted } = input;
  const held = (previous?.claims ?? []).map(hold);
  const kept = { reading, claims: held, problems: [], isComplete: false, isDoubted: false, parsed: previous?.parsed ?? new Map() };
  switch (reading.status) {
    case 'unreadable':
      return { ...kept, problems: [problemOf(name, `cannot be read: ${reading.reason}`)] };
    case 'gone':
      if (isTrusted || held.length === 0) return { ...kept, claims: [], isComplete: true, parsed: new Map() };
      return { ...kept, problems: previous?.problems ?? [], isDoubted: true };
    case 'text':
      return interpretText({ ...input, reading });
  }
}

async function interpretText(
  input: Interpretation & { readonly reading: { readonly status: 'text'; readonly text: string } },
): Promise<FileState> {
  const { name, reading, previous, isTrusted } = input;
  const texts = name.endsWith('.json') ? [{ text: reading.text, line: 0 }] : splitDocuments(reading.text);
  const parsed = await parseAll(texts, input);
  const isCut = !isTrusted && mayBeCut(texts, parsed);
  // Of a file that may be cut, the last document is the one not to believe.
  const told = gather(name, isCut ? texts.slice(0, -1) : texts, parsed);
  const mentioned = new Set(told.claims.map(({ id }) => id));
  const missing = (previous?.claims ?? []).filter(({ id }) => !mentioned.has(id));
  const isDoubted = !isTrusted && (isCut || (missing.length > 0 && !told.isLossy));
  return {
    reading,
    claims: isDoubted || told.isLossy ? [...told.claims, ...missing.map(hold)] : told.claims,
    problems: told.problems,
    isComplete: told.isComplete && !isDoubted,
    isDoubted,
    parsed,
  };
}

/** Parses what the last text did not have. Gives way to others after every 64 KiB (about 40 ms of YAML). */
async function parseAll(texts: readonly DocumentText[], { name, previous, breathe }: Interpretation): Promise<Map<string, ParsedDocument>> {
  const parsed = new Map<string, ParsedDocument>();
  let work = 0;
  for (const { text } of texts) {
    let document = previous?.parsed.get(text);
    if (document === undefined) {
      document = parsed.get(text) ?? parseDocument(text, name.endsWith('.json'));
      work += text.length;
    }
    parsed.set(text, document);
    if (work < 65_536) continue;
    work = 0;
    await breathe();
  }
  return parsed;
}

/** A text file that was written to its end has a final newline and parses; JSON ends by its own syntax. */
function mayBeCut(texts: readonly DocumentText[], parsed: ReadonlyMap<string, ParsedDocument>): boolean {
  const last = texts.at(-1)?.text ?? '';
  const document = parsed.get(last);
  if (document === undefined || document.isClosed) return false;
  return !last.endsWith('\n') || document.isLossy;
}

export interface Told {
  readonly claims: Claim[];
  readonly problems: SourceProblem[];
  isComplete: boolean;
  isLossy: boolean;
}

/** What the parsed documents of one file say together. */
export function gather(file: string, texts: readonly DocumentText[], parsed: ReadonlyMap<string, ParsedDocument>): Told {
  const told: Told = { claims: [], problems: [], isComplete: true, isLossy: false };
  for (const { text, line: start } of texts) {
    const document = parsed.get(text);
    if (document === undefined) continue;
    for (const { definition, line } of document.definitions) {
      const { kind, key } = definition;
      told.claims.push({ id: idOf(kind, key), file, kind, key, definition, line: () => start + line() + 1 });
    }
    for (const { kind, key } of document.rejected) {
      told.claims.push({ id: idOf(kind, key), file, kind, key, definition: undefined, line: () => 0 });
    }
    for (const finding of document.findings) {
      told.problems.push(problemAt({ ...finding, file, line: start + finding.line + 1 }, finding.text));
    }
    if (document.isLossy) told.isLossy = true;
    if (document.isLossy || document.rejected.length > 0) told.isComplete = false;
  }
  return told;
}
