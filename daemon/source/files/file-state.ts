// SPDX-License-Identifier: Apache-2.0
// Result of reading one file -> the state of the file: the objects it defines, the objects that are retained from before,
// and its problems. Text that is invalid, truncated or unreadable must never delete an object. Pure.
import type { Definition, Kind } from '../kinds.ts';
import { countKind, splitDocuments, unreadableDocument, type DocumentText, type ParsedDocument } from './documents.ts';
import { MAX_FILE_PROBLEMS } from './limits.ts';
import { problemAt, problemOf, type SourceProblem } from '../problems.ts';
import type { ReadResult } from './read-directory.ts';

/** An object in a file. */
export interface FileObject {
  /** Kind and table key. */
  readonly id: string;
  readonly file: string;
  readonly kind: Kind;
  readonly key: string;
  /** Undefined for a retained object: the file contained it and may still contain it, so its row stays unchanged. */
  readonly definition: Definition | undefined;
  /** Line of the object, counted from 1. */
  readonly line: number;
}

export interface FileState {
  readonly result: ReadResult;
  /** The objects in document order. An object that is defined twice is listed twice. */
  readonly objects: readonly FileObject[];
  /** The first MAX_FILE_PROBLEMS problems of the file. If there are more, one further entry states how many are left out. */
  readonly problems: readonly SourceProblem[];
  /** Number of objects of each kind that the agent does not use. */
  readonly ignored: ReadonlyMap<string, number>;
  /** True if the whole file was understood, and its state is not uncertain. */
  readonly isComplete: boolean;
  /**
   * True if the result would delete objects, or if the text may be incomplete because the file is being written. The file must then be read
   * again. If the result is unchanged, it is settled.
   */
  readonly isUncertain: boolean;
  /** Parsed documents by their text. */
  readonly parsed: ReadonlyMap<string, ParsedDocument>;
}

export interface FileInput {
  readonly name: string;
  readonly result: ReadResult;
  readonly previous: FileState | undefined;
  /** True if the result is certain, because this is the first scan or because the result was unchanged for settleMs. */
  readonly isSettled: boolean;
  /** The documents of textsToParse(). */
  readonly parsed: ReadonlyMap<string, ParsedDocument>;
}

const retained = ({ id, file, kind, key, line }: FileObject): FileObject => ({ id, file, kind, key, line, definition: undefined });

const idOf = (kind: string, key: string): string => `${kind} ${key}`;

export function nextState(input: FileInput): FileState {
  const { name, result, previous, isSettled } = input;
  const objects = (previous?.objects ?? []).map(retained);
  const kept = {
    result,
    objects,
    problems: [],
    ignored: new Map<string, number>(),
    isComplete: false,
    isUncertain: false,
    parsed: previous?.parsed ?? new Map(),
  };
  switch (result.status) {
    case 'unreadable':
      return { ...kept, problems: [problemOf(name, `cannot be read: ${result.reason}`)] };
    case 'missing':
      if (isSettled || objects.length === 0) return { ...kept, objects: [], isComplete: true, parsed: new Map() };
      return { ...kept, problems: previous?.problems ?? [], isUncertain: true };
    case 'text':
      return stateOfText({ ...input, result });
  }
}

type TextInput = FileInput & { readonly result: { readonly status: 'text'; readonly text: string } };

function stateOfText({ name, result, previous, isSettled, parsed: given }: TextInput): FileState {
  const texts = textsOf(name, result.text);
  const parsed = new Map(
    texts.map(({ text }) => [text, previous?.parsed.get(text) ?? given.get(text) ?? unreadableDocument('was not parsed')]),
  );
  const isTruncated = !isSettled && mayBeTruncated(texts, parsed);
  // If the file may be truncated, its last document is not used.
  const contents = contentsOf(name, isTruncated ? texts.slice(0, -1) : texts, parsed);
  const present = new Set(contents.objects.map(({ id }) => id));
  const missing = (previous?.objects ?? []).filter(({ id }) => !present.has(id));
  const isUncertain = !isSettled && (isTruncated || (missing.length > 0 && !contents.hasUnreadablePart));
  return {
    result,
    objects: isUncertain || contents.hasUnreadablePart ? [...contents.objects, ...missing.map(retained)] : contents.objects,
    problems: contents.problems,
    ignored: contents.ignored,
    isComplete: contents.isComplete && !isUncertain,
    isUncertain,
    parsed,
  };
}

/** The texts of the documents in a file. */
export const textsOf = (name: string, text: string): DocumentText[] =>
  name.endsWith('.json') ? [{ text, line: 0 }] : splitDocuments(text);

/** The texts that must be parsed for the next state of the file. */
export function textsToParse(name: string, result: ReadResult, previous: FileState | undefined): string[] {
  if (result.status !== 'text') return [];
  return textsOf(name, result.text).flatMap(({ text }) => (previous?.parsed.has(text) === true ? [] : [text]));
}

/** A complete YAML file ends with a newline and parses. The end of a JSON text is recognisable from its syntax. */
function mayBeTruncated(texts: readonly DocumentText[], parsed: ReadonlyMap<string, ParsedDocument>): boolean {
  const last = texts.at(-1)?.text ?? '';
  const document = parsed.get(last);
  if (document === undefined || document.hasExplicitEnd) return false;
  return !last.endsWith('\n') || document.hasUnreadablePart;
}

interface FileContents {
  readonly objects: FileObject[];
  readonly problems: SourceProblem[];
  readonly ignored: Map<string, number>;
  isComplete: boolean;
  hasUnreadablePart: boolean;
}

/** The contents of all parsed documents of one file. */
export function contentsOf(
  file: string,
  texts: readonly DocumentText[],
  parsed: ReadonlyMap<string, ParsedDocument>,
): Readonly<FileContents> {
  let more = 0;
  const contents: FileContents = { objects: [], problems: [], ignored: new Map(), isComplete: true, hasUnreadablePart: false };
  for (const { text, line: start } of texts) {
    const document = parsed.get(text);
    if (document === undefined) continue;
    for (const { definition, line } of document.definitions) {
      const { kind, key } = definition;
      contents.objects.push({ id: idOf(kind, key), file, kind, key, definition, line: start + line + 1 });
    }
    for (const { kind, key } of document.rejected) {
      contents.objects.push({ id: idOf(kind, key), file, kind, key, definition: undefined, line: 0 });
    }
    const kept = document.findings.slice(0, MAX_FILE_PROBLEMS - contents.problems.length);
    for (const finding of kept) contents.problems.push(problemAt({ ...finding, file, line: start + finding.line + 1 }, finding.text));
    more += document.findings.length - kept.length + document.moreFindings;
    for (const [kind, count] of document.ignored) countKind(contents.ignored, kind, count);
    if (document.hasUnreadablePart) contents.hasUnreadablePart = true;
    if (document.hasUnreadablePart || document.rejected.length > 0) contents.isComplete = false;
  }
  if (more > 0) contents.problems.push({ ...problemOf(file, `has ${more} more problems`), identity: `${file} has more problems` });
  return contents;
}
