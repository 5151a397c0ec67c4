// SPDX-License-Identifier: Apache-2.0
// Text of one document -> plain values, each with the lines of its fields. The only file that knows the parsers. Never throws:
// text that does not parse gives a ParseFailure with the line at which the parser stopped.
import { LineCounter, isAlias, isMap, isNode, isScalar, isSeq, parseAllDocuments, type Document } from 'yaml';
import { jsonReason, yamlReason } from '../../base/reasons.ts';
import type { Subject } from '../convert/fields.ts';
import { identify } from '../objects.ts';

export type Path = readonly (string | number)[];

/** Lines are counted from 0 at the start of the text. */
export interface ParsedValue {
  readonly raw: unknown;
  /** Line of the field, or of the nearest ancestor that exists. */
  readonly lineOf: (path: Path) => number;
  /** Returns a function that gives the same line later and does not retain the syntax tree. */
  readonly deferredLineOf: (path: Path) => () => number;
}

/** Kind and name of the object are included as far as the parser could read them. */
export interface ParseFailure extends Subject {
  readonly line: number;
  readonly reason: string;
}

/** Whether a text in a YAML file is probably JSON. JSON.parse is a hundred times faster than the YAML parser. */
export const looksLikeJson = (text: string): boolean => /^(---)?\s*\{/.test(text);

/** Parses a JSON text. A leading "---" is allowed, because YAML files may contain JSON documents. */
export function readJson(text: string): ParsedValue | ParseFailure {
  try {
    const raw: unknown = JSON.parse(text.replace(/^---/, ''));
    const lineOf = jsonLines(text);
    return { raw, lineOf, deferredLineOf: (path) => () => lineOf(path) };
  } catch (error) {
    const position = /position (\d+)/.exec(String(error))?.[1];
    const before = position === undefined ? text.trimEnd() : text.slice(0, Number(position));
    return {
      kind: '',
      object: '',
      line: before.split('\n').length - 1,
      reason: `not valid JSON: ${jsonReason(text.replace(/^---/, ''), error)}`,
    };
  }
}

/** JSON is also YAML. The slow YAML parser runs only when a line is requested. The syntax tree may be garbage-collected at any time. */
function jsonLines(text: string): (path: Path) => number {
  let cached: WeakRef<ParsedYaml> | undefined;
  return (path) => {
    const parsed = cached?.deref() ?? parseYaml(text);
    cached = new WeakRef(parsed);
    const [document] = parsed.documents;
    return document === undefined ? 0 : parsed.lineAt(offsetOf(document, path));
  };
}

interface ParsedYaml {
  readonly documents: readonly Document.Parsed[];
  readonly lineAt: (offset: number) => number;
}

function parseYaml(text: string): ParsedYaml {
  const lineCounter = new LineCounter();
  // Merge keys are allowed, as in kubectl. Warnings are off, because the parser would pass them to process.emitWarning().
  const documents = parseAllDocuments(text, { lineCounter, prettyErrors: false, merge: true, logLevel: 'error' });
  return { documents: [...documents], lineAt: (offset) => lineCounter.linePos(offset).line - 1 };
}

/** The documents of a YAML text that are not empty. */
export function readYaml(text: string): (ParsedValue | ParseFailure)[] {
  const { documents, lineAt } = parseYaml(text);
  return documents.flatMap((document): (ParsedValue | ParseFailure)[] => {
    const [error] = document.errors;
    const line = lineAt(error?.pos[0] ?? offsetOf(document, []));
    try {
      // Fails on an alias without an anchor and on aliases that expand without limit.
      const raw: unknown = document.toJS();
      if (error !== undefined) return [{ ...identify(raw), line, reason: `not valid YAML: ${yamlReason(error)}` }];
      if (raw === null) return [];
      const lineOf = (path: Path): number => lineAt(offsetOf(document, path));
      return [{ raw, lineOf, deferredLineOf: (path) => constant(lineOf(path)) }];
    } catch (failure) {
      return [{ kind: '', object: '', line, reason: `not valid YAML: ${yamlReason(error ?? failure)}` }];
    }
  });
}

// Not inline: a closure made in the same scope as lineOf would retain the syntax tree.
const constant = (line: number) => () => line;

/** Offset of the key or element at the end of the path, or of the deepest one on the path that exists. */
function offsetOf(document: Document.Parsed, path: Path): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range[0] ?? 0;
  for (const segment of path) {
    if (isAlias(node)) node = node.resolve(document);
    const pair = isMap(node) ? node.items.find(({ key }) => isScalar(key) && String(key.value) === String(segment)) : undefined;
    const place: unknown = isSeq(node) ? node.items[Number(segment)] : pair?.key;
    if (!isNode(place)) return offset;
    offset = place.range?.[0] ?? offset;
    node = pair === undefined ? place : pair.value;
  }
  return offset;
}
