// SPDX-License-Identifier: Apache-2.0
// Text of one file -> documents, each with the objects it contains. Each document is parsed by itself: a caller that keeps the
// parsed documents of the previous text needs to parse only the documents that changed. Pure.
import { InvalidObjectError } from '../../base/errors.ts';
import type { Steps } from '../../base/slices.ts';
import { fieldPath, type Subject } from '../convert/fields.ts';
import { type Definition, isKnownKind, type Kind, kindNames } from '../kinds.ts';
import { convertObject, identify } from '../objects.ts';
import type { Path } from '../json-text.ts';
import { MAX_DOCUMENTS, MAX_FILE_PROBLEMS, MAX_OBJECTS } from './limits.ts';
import { looksLikeJson, readJson, readYaml, type ParsedValue, type ParseFailure } from './values.ts';

/** A message about a field. `line` is counted from 0 at the start of the document's text. */
export interface Finding extends Subject {
  readonly line: number;
  readonly field: string;
  readonly text: string;
}

/** The content of one document's text, as plain data that a worker thread can send. Lines are counted from 0 at its start. */
export interface ParsedDocument {
  readonly definitions: readonly { readonly definition: Definition; readonly line: number }[];
  /** Invalid objects whose kind and name are known. */
  readonly rejected: readonly { readonly kind: Kind; readonly key: string }[];
  /** The first MAX_FILE_PROBLEMS findings. */
  readonly findings: readonly Finding[];
  /** Number of findings that are left out. */
  readonly moreFindings: number;
  /** Number of objects of each kind that the agent does not use: "Deployment". */
  readonly ignored: ReadonlyMap<string, number>;
  /** True if part of the text could not be read, so that it is unknown which objects that part contains. */
  readonly hasUnreadablePart: boolean;
  /** True if the end of the text is recognisable from its syntax (JSON): a truncated text would not parse. */
  readonly hasExplicitEnd: boolean;
}

/** Part of a file's text. `line` is the number of lines before it. */
export interface DocumentText {
  readonly text: string;
  readonly line: number;
}

const DASH = 0x2d;
const DOT = 0x2e;
const PERCENT = 0x25;
/** Lines that are read in one step: 20 microseconds. */
const LINES_PER_STEP = 512;

/**
 * Splits at "---" lines. A file with directives or "..." lines is not split, because that would require a parser. Returns undefined if
 * there are more than MAX_DOCUMENTS documents.
 */
export function* splitDocuments(text: string): Steps<DocumentText[] | undefined> {
  const documents: DocumentText[] = [];
  let [start, startLine] = [0, 0];
  let line = 0;
  for (let at = 0; ; line += 1) {
    const code = text.charCodeAt(at);
    if (code === PERCENT || (code === DOT && isMark(text, at))) return [{ text, line: 0 }];
    if (code === DASH && at > 0 && isMark(text, at)) {
      if (documents.length + 1 === MAX_DOCUMENTS) return undefined;
      documents.push({ text: text.slice(start, at), line: startLine });
      [start, startLine] = [at, line];
    }
    at = text.indexOf('\n', at) + 1;
    if (at === 0) break;
    if (line % LINES_PER_STEP === 0) yield;
  }
  documents.push({ text: text.slice(start), line: startLine });
  return documents;
}

/** Whether the line that begins at `at` is "---" or "...", alone or followed by a blank. */
function isMark(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  if (text.charCodeAt(at + 1) !== code || text.charCodeAt(at + 2) !== code) return false;
  const next = text[at + 3];
  return next === undefined || /\s/.test(next);
}

/** Parses one document's text. `isJson` requires JSON instead of YAML. Never throws. */
export function parseDocument(text: string, isJson: boolean): ParsedDocument {
  const collector = new Collector();
  let hasExplicitEnd = text.trim() === '';
  if (!hasExplicitEnd) {
    const json = isJson || looksLikeJson(text) ? readJson(text) : undefined;
    hasExplicitEnd = json !== undefined && 'raw' in json;
    for (const value of json !== undefined && (isJson || hasExplicitEnd) ? [json] : readYaml(text)) collector.add(value);
  }
  return { ...collector.parsed, hasExplicitEnd };
}

/** A document that was not parsed, for a reason that completes "the document ...". */
export const unreadableDocument = (reason: string): ParsedDocument => ({
  ...{ definitions: [], rejected: [], moreFindings: 0, ignored: new Map(), hasUnreadablePart: true, hasExplicitEnd: true },
  findings: [{ kind: '', object: '', field: '', line: 0, text: `the document ${reason}` }],
});

/** Adds to the number of objects of a kind. Kinds beyond the first hundred are counted together. */
export function countKind(counts: Map<string, number>, kind: string, count = 1): void {
  const key = counts.has(kind) || counts.size < 100 ? kind : 'other kinds';
  counts.set(key, (counts.get(key) ?? 0) + count);
}

/** Kinds of lists. The value is the kind of an item that does not state a kind. */
const lists: ReadonlyMap<string, Kind | undefined> = new Map([
  ['List', undefined],
  ...kindNames.map((kind) => [`${kind}List`, kind] as const),
]);

/** Lists in lists are allowed, as in kubectl, up to a depth that does not exhaust the stack. */
const maxNesting = 16;

interface Place {
  readonly raw: unknown;
  readonly path: Path;
}

/** The items of a list with their paths; undefined when the value is not a list. */
function itemsOf({ raw, path }: Place): Place[] | undefined {
  const { kind } = identify(raw);
  if (!lists.has(kind)) return undefined;
  const items = (raw as { readonly items?: unknown }).items ?? [];
  if (!Array.isArray(items)) throw new InvalidObjectError({ kind, object: '', field: 'items' }, 'must be a list');
  if (items.length > MAX_OBJECTS)
    throw new InvalidObjectError({ kind, object: '', field: 'items' }, `must have at most ${MAX_OBJECTS} elements`);
  if (path.length > 2 * maxNesting)
    throw new InvalidObjectError({ kind, object: '', field: '' }, `is nested more than ${maxNesting} levels deep`);
  const itemKind = lists.get(kind);
  return items.map((item: unknown, index) => {
    const hasNoKind = itemKind !== undefined && typeof item === 'object' && item !== null && !('kind' in item);
    return { raw: hasNoKind ? { ...item, kind: itemKind } : item, path: [...path, 'items', index] };
  });
}

const tooMany = `the document contains more than ${MAX_OBJECTS} objects, with those that YAML aliases repeat`;

/** Collects the content of the values in one document's text. */
class Collector {
  readonly #definitions: ParsedDocument['definitions'][number][] = [];
  readonly #rejected: ParsedDocument['rejected'][number][] = [];
  readonly #findings: Finding[] = [];
  readonly #ignored = new Map<string, number>();
  #moreFindings = 0;
  #hasUnreadablePart = false;
  /** Objects and lists so far. YAML aliases may repeat a list in itself without end. */
  #places = 0;

  get parsed(): Omit<ParsedDocument, 'hasExplicitEnd'> {
    return {
      definitions: this.#definitions,
      rejected: this.#rejected,
      findings: this.#findings,
      moreFindings: this.#moreFindings,
      ignored: this.#ignored,
      hasUnreadablePart: this.#hasUnreadablePart,
    };
  }

  add(value: ParsedValue | ParseFailure): void {
    if ('reason' in value) {
      this.#hasUnreadablePart = true;
      this.#report(new InvalidObjectError({ ...value, field: '' }, value.reason), () => value.line);
      return;
    }
    this.#convert(value, { raw: value.raw, path: [] });
  }

  /** Converts an object, or each item of a list. An invalid object does not affect the others. */
  #convert(value: ParsedValue, place: Place): void {
    const { raw, path } = place;
    this.#places += 1;
    this.#guard({ value, path }, () => {
      const items = itemsOf(place);
      if (items !== undefined) return this.#convertItems(value, items);
      const { problems, ...definition } = convertObject(raw);
      for (const problem of problems) this.#report(problem, () => value.lineOf([...path, ...fieldPath(problem.field)]));
      if (definition.kind !== 'unknown') this.#definitions.push({ definition, line: value.lineOf(path) });
      else if (definition.ignored !== undefined) countKind(this.#ignored, definition.ignored);
    });
  }

  #convertItems(value: ParsedValue, items: readonly Place[]): void {
    for (const item of items) {
      if (this.#places > MAX_OBJECTS) return;
      if (this.#places === MAX_OBJECTS) {
        this.#hasUnreadablePart = true;
        this.#findings.unshift({ kind: '', object: '', field: '', line: 0, text: tooMany });
      }
      this.#convert(value, item);
    }
  }

  /** Runs the step. If it throws InvalidObjectError, records a finding and a rejected object. */
  #guard({ value, path }: { value: ParsedValue; path: Path }, step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof InvalidObjectError)) throw error;
      const { kind, object, field } = error;
      this.#report(error, () => value.lineOf([...path, ...fieldPath(field)]));
      // If the name or the namespace is invalid, the object may be any object that the file contained before.
      if (isKnownKind(kind) && object !== '' && !field.startsWith('metadata.name')) this.#rejected.push({ kind, key: object });
      else this.#hasUnreadablePart = true;
    }
  }

  /** Determining the line takes time, so it is done only for the findings that are kept. */
  #report(error: InvalidObjectError, lineOf: () => number): void {
    if (this.#findings.length === MAX_FILE_PROBLEMS) {
      this.#moreFindings += 1;
      return;
    }
    const { kind, object, field } = error;
    // The message is "KIND OBJECT FIELD: REASON". If kind, object and field are empty, the leading ": " is removed.
    this.#findings.push({ line: lineOf(), kind, object, field, text: error.message.replace(/^: /, '') });
  }
}
