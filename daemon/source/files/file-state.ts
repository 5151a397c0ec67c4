// SPDX-License-Identifier: Apache-2.0
// Result of reading one file -> the state of the file: the objects it defines, the objects that are retained from before,
// and its problems. Text that is invalid, truncated or unreadable must never delete an object. Pure. Work that grows with the number of
// documents is a generator, so that the caller can pause.
import type { Steps } from '../../base/slices.ts';
import type { Definition, Kind } from '../kinds.ts';
import { countKind, splitDocuments, unreadableDocument, type DocumentText, type Finding, type ParsedDocument } from './documents.ts';
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
  /** The documents of the text. */
  readonly texts: readonly DocumentText[];
  readonly previous: FileState | undefined;
  /** True if the result is certain, because this is the first scan or because the result was unchanged for settleMs. */
  readonly isSettled: boolean;
  /** The documents of textsToParse(). */
  readonly parsed: ReadonlyMap<string, ParsedDocument>;
}

const retained = (object: FileObject): FileObject => (object.definition === undefined ? object : { ...object, definition: undefined });

const idOf = (kind: string, key: string): string => `${kind} ${key}`;

/** Objects that are handled in one step: 20 microseconds. */
const OBJECTS_PER_STEP = 64;

export function* nextState(input: FileInput): Steps<FileState> {
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
      return yield* stateOfText({ ...input, result });
  }
}

type TextInput = FileInput & { readonly result: Extract<ReadResult, { readonly status: 'text' }> };

function* stateOfText({ name, result, texts, previous, isSettled, parsed: given }: TextInput): Steps<FileState> {
  const parsed = new Map<string, ParsedDocument>();
  for (const { text } of texts) {
    parsed.set(text, previous?.parsed.get(text) ?? given.get(text) ?? unreadableDocument('was not parsed'));
    yield;
  }
  const isTruncated = !isSettled && mayBeTruncated(texts, parsed);
  // If the file may be truncated, its last document is not used.
  const used = isTruncated ? texts.slice(0, -1) : texts;
  const contents = yield* contentsOf({ file: name, texts: used, parsed, previous: previous?.objects ?? [], isPrivate: result.isPrivate });
  const missing = yield* missingFrom(contents.objects, previous?.objects ?? []);
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

/** The previous objects whose id no present object has. */
function* missingFrom(present: readonly FileObject[], previous: readonly FileObject[]): Steps<FileObject[]> {
  const ids = new Set<string>();
  for (const [index, { id }] of present.entries()) {
    ids.add(id);
    if (index % OBJECTS_PER_STEP === 0) yield;
  }
  const missing: FileObject[] = [];
  for (const [index, object] of previous.entries()) {
    if (!ids.has(object.id)) missing.push(object);
    if (index % OBJECTS_PER_STEP === 0) yield;
  }
  return missing;
}

/** The texts of the documents in a file; undefined if there are more than MAX_DOCUMENTS. */
export function* textsOf(name: string, text: string): Steps<DocumentText[] | undefined> {
  return name.endsWith('.json') ? [{ text, line: 0 }] : yield* splitDocuments(text);
}

/** The texts that must be parsed for the next state of the file. */
export function* textsToParse(texts: readonly DocumentText[], previous: FileState | undefined): Steps<string[]> {
  const missing = new Set<string>();
  for (const { text } of texts) {
    if (previous?.parsed.has(text) !== true) missing.add(text);
    yield;
  }
  return [...missing];
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

interface ContentsInput {
  readonly file: string;
  readonly texts: readonly DocumentText[];
  readonly parsed: ReadonlyMap<string, ParsedDocument>;
  /** The objects that the file had before. */
  readonly previous: readonly FileObject[];
  /** Whether the problems must not quote the file, see ReadResult. Default: they quote it. */
  readonly isPrivate?: boolean;
}

/** The contents of all parsed documents of one file. */
export function* contentsOf({ file, texts, parsed, previous, isPrivate = false }: ContentsInput): Steps<Readonly<FileContents>> {
  let more = 0;
  const contents: FileContents = { objects: [], problems: [], ignored: new Map(), isComplete: true, hasUnreadablePart: false };
  const add = ({ kind, key }: { kind: Kind; key: string }, definition: Definition | undefined, line: number): void => {
    const before = previous[contents.objects.length];
    const isSame = before?.kind === kind && before.key === key && before.definition === definition && before.line === line;
    contents.objects.push(isSame ? before : { id: idOf(kind, key), file, kind, key, definition, line });
  };
  for (const { text, line: start } of texts) {
    const document = parsed.get(text);
    if (document === undefined) continue;
    for (const [index, { definition, line }] of document.definitions.entries()) {
      add(definition, definition, start + line + 1);
      if (index % OBJECTS_PER_STEP === 0) yield;
    }
    for (const rejected of document.rejected) add(rejected, undefined, 0);
    const kept = document.findings.slice(0, MAX_FILE_PROBLEMS - contents.problems.length);
    for (const finding of kept) contents.problems.push(problemOfFinding(finding, { file, line: start + finding.line + 1, isPrivate }));
    more += document.findings.length - kept.length + document.moreFindings;
    for (const [kind, count] of document.ignored) countKind(contents.ignored, isPrivate ? 'objects of a private file' : kind, count);
    if (document.hasUnreadablePart) contents.hasUnreadablePart = true;
    if (document.hasUnreadablePart || document.rejected.length > 0) contents.isComplete = false;
    yield;
  }
  if (more > 0) contents.problems.push({ ...problemOf(file, `has ${more} more problems`), identity: `${file} has more problems` });
  return contents;
}

function problemOfFinding(finding: Finding, { file, line, isPrivate }: { file: string; line: number; isPrivate: boolean }): SourceProblem {
  if (!isPrivate) return problemAt({ ...finding, file, line }, finding.text);
  const reason = 'is not valid; the reason is not shown, because the file is outside the directory and not readable by everyone';
  return problemAt({ file, line, kind: '', object: '', field: '' }, reason);
}
