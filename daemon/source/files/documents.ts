// SPDX-License-Identifier: Apache-2.0
// The text of one file -> documents, each with the objects it holds. A document's text is the unit of parsing: whoever keeps
// the parsed documents of the last text parses again only what changed. Pure: text in, definitions and findings out.
import { InvalidObjectError } from '../../base/errors.ts';
import { fieldPath, type Subject } from '../convert/fields.ts';
import { type Definition, isKnownKind, type Kind, kindNames } from '../kinds.ts';
import { convertObject, identify } from '../objects.ts';
import { looksLikeJson, readJson, readYaml, type Broken, type Path, type Value } from './values.ts';

/** A message and where it belongs; `line` counts from 0 at the start of the document's text. */
export interface Finding extends Subject {
  readonly line: number;
  readonly field: string;
  readonly text: string;
}

/** What one document's text says. Lines count from 0 at its start; `rejected` are known kinds and names whose new version is wrong. */
export interface ParsedDocument {
  readonly definitions: readonly { readonly definition: Definition; readonly line: () => number }[];
  readonly rejected: readonly { readonly kind: Kind; readonly key: string }[];
  readonly findings: readonly Finding[];
  /** Something could not be read, and which objects it held is not known. */
  readonly isLossy: boolean;
  /** It ends by its own syntax (JSON): had it been cut short, it would not have parsed. */
  readonly isClosed: boolean;
}

/** Part of a file's text; `line` is the number of lines before it. */
export interface DocumentText {
  readonly text: string;
  readonly line: number;
}

/** Cuts at "---" lines. A file with directives or "..." lines is left in one piece: there a cut would need a parser. */
export function splitDocuments(text: string): DocumentText[] {
  if (/(^|\n)(%|\.\.\.(?=\s|$))/.test(text)) return [{ text, line: 0 }];
  const starts = [0, ...[...text.matchAll(/\n---(?=\s|$)/g)].map((mark) => mark.index + 1)];
  let line = 0;
  return starts.map((start, index) => {
    const part = { text: text.slice(start, starts[index + 1]), line };
    for (let at = part.text.indexOf('\n'); at !== -1; at = part.text.indexOf('\n', at + 1)) line += 1;
    return part;
  });
}

/** One document's text; `isJson` demands JSON instead of YAML. Never throws. */
export function parseDocument(text: string, isJson: boolean): ParsedDocument {
  const collector = new Collector();
  let isClosed = text.trim() === '';
  if (!isClosed) {
    const json = isJson || looksLikeJson(text) ? readJson(text) : undefined;
    isClosed = json !== undefined && 'raw' in json;
    for (const value of json !== undefined && (isJson || isClosed) ? [json] : readYaml(text)) collector.take(value);
  }
  return { ...collector.parsed, isClosed };
}

/** Kinds of lists, and the kind of their items when these need not repeat it. */
const lists: ReadonlyMap<string, Kind | undefined> = new Map([
  ['List', undefined],
  ...kindNames.map((kind) => [`${kind}List`, kind] as const),
]);

/** Lists in lists are allowed, as kubectl has it; not as deep as the stack. */
const mostNested = 16;

interface Place {
  readonly raw: unknown;
  readonly path: Path;
}

/** The items of a list, with the way to each; undefined when the value is an object of its own. */
function itemsOf({ raw, path }: Place): Place[] | undefined {
  const { kind } = identify(raw);
  if (!lists.has(kind)) return undefined;
  const items = (raw as { readonly items?: unknown }).items ?? [];
  if (!Array.isArray(items)) throw new InvalidObjectError({ kind, object: '', field: 'items' }, 'must be a list');
  if (path.length > 2 * mostNested) throw new InvalidObjectError({ kind, object: '', field: '' }, `is nested more than ${mostNested} deep`);
  const itemKind = lists.get(kind);
  return items.map((item: unknown, index) => {
    const isBare = itemKind !== undefined && typeof item === 'object' && item !== null && !('kind' in item);
    return { raw: isBare ? { ...item, kind: itemKind } : item, path: [...path, 'items', index] };
  });
}

/** Gathers what the values of one document's text say. */
class Collector {
  readonly #definitions: ParsedDocument['definitions'][number][] = [];
  readonly #rejected: ParsedDocument['rejected'][number][] = [];
  readonly #findings: Finding[] = [];
  #isLossy = false;

  get parsed(): Omit<ParsedDocument, 'isClosed'> {
    return { definitions: this.#definitions, rejected: this.#rejected, findings: this.#findings, isLossy: this.#isLossy };
  }

  take(value: Value | Broken): void {
    if ('reason' in value) {
      this.#isLossy = true;
      this.#find(new InvalidObjectError({ ...value, field: '' }, value.reason), value.line);
      return;
    }
    this.#convert(value, { raw: value.raw, path: [] });
  }

  /** An object, or each item of a list by itself: one that is bad never stops the others. */
  #convert(value: Value, place: Place): void {
    const { raw, path } = place;
    this.#guard({ value, path }, () => {
      const items = itemsOf(place);
      if (items !== undefined) return items.forEach((item) => this.#convert(value, item));
      const { problems, ...definition } = convertObject(raw);
      for (const problem of problems) this.#find(problem, value.lineOf([...path, ...fieldPath(problem.field)]));
      if (definition.kind !== 'unknown') this.#definitions.push({ definition, line: value.laterLineOf(path) });
    });
  }

  /** Turns what the step throws about its object into a finding and a rejection. */
  #guard({ value, path }: { value: Value; path: Path }, step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof InvalidObjectError)) throw error;
      const { kind, object, field } = error;
      this.#find(error, value.lineOf([...path, ...fieldPath(field)]));
      // An object whose name or namespace is what is wrong may be any of those that the file held.
      if (isKnownKind(kind) && object !== '' && !field.startsWith('metadata.name')) this.#rejected.push({ kind, key: object });
      else this.#isLossy = true;
    }
  }

  #find(error: InvalidObjectError, line: number): void {
    const { kind, object, field } = error;
    // The error's message begins with its subject, which a broken text may lack.
    this.#findings.push({ line, kind, object, field, text: error.message.replace(/^: /, '') });
  }
}
