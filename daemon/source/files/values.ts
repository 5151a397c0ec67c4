// SPDX-License-Identifier: Apache-2.0
// Text of one document -> plain values, each knowing on which line a field stands. The only file that knows the parsers.
// Never throws: text that cannot be parsed is a Broken value with the line where the parser stopped.
import { LineCounter, isAlias, isMap, isNode, isScalar, isSeq, parseAllDocuments, type Document } from 'yaml';
import { messageOf } from '../../base/errors.ts';
import type { Subject } from '../convert/fields.ts';
import { identify } from '../objects.ts';

export type Path = readonly (string | number)[];

/** Lines count from 0 at the start of the text. */
export interface Value {
  readonly raw: unknown;
  /** Line of the field, or of its nearest ancestor that is there. */
  readonly lineOf: (path: Path) => number;
  /** The same for later: may be kept without keeping the parser's tree. */
  readonly laterLineOf: (path: Path) => () => number;
}

/** The object's kind and name as far as the parser got. */
export interface Broken extends Subject {
  readonly line: number;
  readonly reason: string;
}

/** A text that may be JSON or not is asked first: JSON.parse is a hundred times faster than the YAML parser. */
export const looksLikeJson = (text: string): boolean => /^(---)?\s*\{/.test(text);

/** A JSON text; a leading "---" is allowed, since YAML files hold JSON documents too. */
export function readJson(text: string): Value | Broken {
  try {
    const raw: unknown = JSON.parse(text.replace(/^---/, ''));
    const lineOf = jsonLines(text);
    return { raw, lineOf, laterLineOf: (path) => () => lineOf(path) };
  } catch (error) {
    const reason = messageOf(error);
    const position = /position (\d+)/.exec(reason)?.[1];
    const before = position === undefined ? text.trimEnd() : text.slice(0, Number(position));
    return { kind: '', object: '', line: before.split('\n').length - 1, reason: `not valid JSON: ${reason}` };
  }
}

/** Every JSON text is YAML; the dear parser runs only when a line is wanted, and its tree may be collected any time. */
function jsonLines(text: string): (path: Path) => number {
  let kept: WeakRef<Parsed> | undefined;
  return (path) => {
    const parsed = kept?.deref() ?? parseYaml(text);
    kept = new WeakRef(parsed);
    const [document] = parsed.documents;
    return document === undefined ? 0 : parsed.lineAt(offsetOf(document, path));
  };
}

interface Parsed {
  readonly documents: readonly Document.Parsed[];
  readonly lineAt: (offset: number) => number;
}

function parseYaml(text: string): Parsed {
  const lineCounter = new LineCounter();
  // Merge keys are what kubectl's parser accepts; warnings would go to the process, not to our log.
  const documents = parseAllDocuments(text, { lineCounter, prettyErrors: false, merge: true, logLevel: 'error' });
  return { documents: [...documents], lineAt: (offset) => lineCounter.linePos(offset).line - 1 };
}

/** The documents of a YAML text; empty ones are left out. */
export function readYaml(text: string): (Value | Broken)[] {
  const { documents, lineAt } = parseYaml(text);
  return documents.flatMap((document): (Value | Broken)[] => {
    const [error] = document.errors;
    const line = lineAt(error?.pos[0] ?? offsetOf(document, []));
    try {
      // Fails on aliases that lead nowhere or multiply without end.
      const raw: unknown = document.toJS();
      if (error !== undefined) return [{ ...identify(raw), line, reason: `not valid YAML: ${error.message}` }];
      if (raw === null) return [];
      const lineOf = (path: Path): number => lineAt(offsetOf(document, path));
      return [{ raw, lineOf, laterLineOf: (path) => later(lineOf(path)) }];
    } catch (failure) {
      return [{ kind: '', object: '', line, reason: `not valid YAML: ${error?.message ?? messageOf(failure)}` }];
    }
  });
}

// A function of its own: a closure made beside lineOf would keep the tree alive.
const later = (line: number) => () => line;

/** Offset of the key or element that the path ends at, or of the deepest one on the way that exists. */
function offsetOf(document: Document.Parsed, path: Path): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range[0] ?? 0;
  for (const segment of path) {
    if (isAlias(node)) node = node.resolve(document);
    const step = isMap(node) ? node.items.find(({ key }) => isScalar(key) && String(key.value) === String(segment)) : undefined;
    const place: unknown = isSeq(node) ? node.items[Number(segment)] : step?.key;
    if (!isNode(place)) return offset;
    offset = place.range?.[0] ?? offset;
    node = step === undefined ? place : step.value;
  }
  return offset;
}
