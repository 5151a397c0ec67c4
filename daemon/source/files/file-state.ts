// SPDX-License-Identifier: Apache-2.0
// Result of reading one file -> the state of the file: the objects it defines, the objects that are retained from before,
// and its problems. Text that is invalid, truncated or unreadable must never delete an object. Pure except for yieldTurn.
import type { Definition, Kind } from '../kinds.ts';
import { parseDocument, splitDocuments, type DocumentText, type ParsedDocument } from './documents.ts';
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
  /** Counted from 1. */
  readonly line: () => number;
}

export interface FileState {
  readonly result: ReadResult;
  /** In document order. An object that is defined twice is listed twice. */
  readonly objects: readonly FileObject[];
  readonly problems: readonly SourceProblem[];
  /** The whole file was understood, and its state is not uncertain. */
  readonly isComplete: boolean;
  /**
   * The result would delete objects, or may be part of a file that is being written. The file must be read again, and the result
   * counts as settled if it is then unchanged.
   */
  readonly isUncertain: boolean;
  /** Parsed documents by their text. */
  readonly parsed: ReadonlyMap<string, ParsedDocument>;
}

export interface FileInput {
  readonly name: string;
  readonly result: ReadResult;
  readonly previous: FileState | undefined;
  /** The result is certain: this is the first scan, or the result was unchanged for settleMs. */
  readonly isSettled: boolean;
  /** Lets other tasks of the event loop run. Called repeatedly while a large text is parsed. */
  readonly yieldTurn: () => Promise<void>;
}

const retained = ({ id, file, kind, key, line }: FileObject): FileObject => ({ id, file, kind, key, line, definition: undefined });

const idOf = (kind: string, key: string): string => `${kind} ${key}`;

export async function nextState(input: FileInput): Promise<FileState> {
  const { name, result, previous, isSettled } = input;
  const objects = (previous?.objects ?? []).map(retained);
  const kept = { result, objects, problems: [], isComplete: false, isUncertain: false, parsed: previous?.parsed ?? new Map() };
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

async function stateOfText(input: TextInput): Promise<FileState> {
  const { name, result, previous, isSettled } = input;
  const texts = name.endsWith('.json') ? [{ text: result.text, line: 0 }] : splitDocuments(result.text);
  const parsed = await parseAll(texts, input);
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
    isComplete: contents.isComplete && !isUncertain,
    isUncertain,
    parsed,
  };
}

/** Parses the documents that the previous text did not contain. Yields after every 64 KiB, which is about 40 ms of YAML. */
async function parseAll(texts: readonly DocumentText[], { name, previous, yieldTurn }: FileInput): Promise<Map<string, ParsedDocument>> {
  const parsed = new Map<string, ParsedDocument>();
  let parsedLength = 0;
  for (const { text } of texts) {
    let document = previous?.parsed.get(text);
    if (document === undefined) {
      document = parsed.get(text) ?? parseDocument(text, name.endsWith('.json'));
      parsedLength += text.length;
    }
    parsed.set(text, document);
    if (parsedLength < 65_536) continue;
    parsedLength = 0;
    await yieldTurn();
  }
  return parsed;
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
  isComplete: boolean;
  hasUnreadablePart: boolean;
}

/** The contents of all parsed documents of one file. */
export function contentsOf(
  file: string,
  texts: readonly DocumentText[],
  parsed: ReadonlyMap<string, ParsedDocument>,
): Readonly<FileContents> {
  const contents: FileContents = { objects: [], problems: [], isComplete: true, hasUnreadablePart: false };
  for (const { text, line: start } of texts) {
    const document = parsed.get(text);
    if (document === undefined) continue;
    for (const { definition, line } of document.definitions) {
      const { kind, key } = definition;
      contents.objects.push({ id: idOf(kind, key), file, kind, key, definition, line: () => start + line() + 1 });
    }
    for (const { kind, key } of document.rejected) {
      contents.objects.push({ id: idOf(kind, key), file, kind, key, definition: undefined, line: () => 0 });
    }
    for (const finding of document.findings) {
      contents.problems.push(problemAt({ ...finding, file, line: start + finding.line + 1 }, finding.text));
    }
    if (document.hasUnreadablePart) contents.hasUnreadablePart = true;
    if (document.hasUnreadablePart || document.rejected.length > 0) contents.isComplete = false;
  }
  return contents;
}
