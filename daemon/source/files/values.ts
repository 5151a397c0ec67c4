// SPDX-License-Identifier: Apache-2.0
// Text of one document -> plain values, each with the lines of its fields. Only this file calls the parsers. Never throws: text that does
// not parse gives a ParseFailure with the line at which the parser stopped. The nesting is limited before a parser is called.
import { LineCounter, isAlias, isMap, isNode, isScalar, isSeq, parseAllDocuments, visit, type Document } from 'yaml';
import { MAX_JSON_FILE_DEPTH } from '../../base/nesting.ts';
import { jsonReason, yamlReason } from '../../base/reasons.ts';
import { show, type Subject } from '../convert/fields.ts';
import { depthFault, duplicateKey, type JsonFault, JsonPlaces, type Path, sizeFault } from '../json-text.ts';
import { identify } from '../objects.ts';
import { MAX_JSON_KEYS, MAX_JSON_VALUES } from './limits.ts';
import { yamlRefusal } from './yaml-size.ts';

export interface ParsedValue {
  readonly raw: unknown;
  /** Line of the field, or of the nearest ancestor that exists. Lines are counted from 0 at the start of the text. */
  readonly lineOf: (path: Path) => number;
}

/** Kind and name of the object are included as far as the parser could read them. */
export interface ParseFailure extends Subject {
  readonly line: number;
  readonly reason: string;
}

/** The parts of an error of the YAML parser that are used: a code of yamlReason(), and offsets in the text. */
interface YamlFault {
  readonly code: string;
  readonly pos: readonly [number, ...unknown[]];
}

/** Whether a text in a YAML file is probably JSON. JSON.parse is a hundred times faster than the YAML parser. */
export const looksLikeJson = (text: string): boolean => /^(---)?\s*\{/.test(text);

/** Parses a JSON text. A leading "---" is allowed, because YAML files may contain JSON documents. */
export function readJson(text: string): ParsedValue | ParseFailure {
  const json = text.startsWith('---') ? `   ${text.slice(3)}` : text;
  const places = new JsonPlaces(json);
  const failureAt = ({ offset, reason }: JsonFault, subject: Subject): ParseFailure => ({
    ...{ kind: subject.kind, object: subject.object, line: places.lineAt(offset) },
    reason: `not valid JSON: ${reason}`,
  });
  const unknown: Subject = { kind: '', object: '' };
  const refused = depthFault(json, MAX_JSON_FILE_DEPTH) ?? sizeFault(json, { mostValues: MAX_JSON_VALUES, mostKeys: MAX_JSON_KEYS });
  if (refused !== undefined) return failureAt(refused, unknown);
  let raw: unknown;
  try {
    raw = JSON.parse(json);
  } catch (error) {
    const position = /position (\d+)/.exec(String(error))?.[1];
    const offset = position === undefined ? json.trimEnd().length : Number(position);
    return failureAt({ offset, reason: jsonReason(json, error) }, unknown);
  }
  const twice = duplicateKey(json);
  if (twice !== undefined)
    return failureAt({ offset: twice.offset, reason: `the key ${show(twice.key)} occurs twice in an object` }, identify(raw));
  return { raw, lineOf: (path) => places.lineAt(places.offsetOf(path)) };
}

/**
 * Whether the YAML text may contain aliases. Parsing can then take longer than its length suggests, because aliases repeat other content.
 * Every alias needs both characters. Only the parser knows where else an alias may begin, as in `"items":*a` or `**a`.
 */
export const mayHaveAliases = (text: string): boolean => text.includes('&') && text.includes('*');

/** The documents of a YAML text that are not empty. */
export function readYaml(text: string): (ParsedValue | ParseFailure)[] {
  const refusal = yamlRefusal(text);
  if (refusal !== undefined) return [{ kind: '', object: '', ...refusal }];
  const { stackTraceLimit } = Error;
  // The parser makes an error for each fault, and there may be a fault at each character. A stack trace takes 1 KiB.
  Error.stackTraceLimit = 0;
  try {
    return parseYaml(text);
  } catch (error) {
    // The parser throws only in unexpected cases, for example when the stack is exhausted.
    return [{ kind: '', object: '', line: 0, reason: `not valid YAML: ${yamlReason(error)}` }];
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

function parseYaml(text: string): (ParsedValue | ParseFailure)[] {
  const lineCounter = new LineCounter();
  // Merge keys are allowed, as in kubectl. Warnings are off, because the parser would pass them to process.emitWarning(). Keys that
  // occur twice are found below: the parser compares each key with all others of its mapping.
  const options = { lineCounter, prettyErrors: false, merge: true, uniqueKeys: false, logLevel: 'error' } as const;
  const documents = [...parseAllDocuments(text, options)];
  const lineAt = (offset: number): number => lineCounter.linePos(offset).line - 1;
  return documents.flatMap((document): (ParsedValue | ParseFailure)[] => {
    const error = document.errors[0] ?? keyTwice(document);
    const line = lineAt(error?.pos[0] ?? offsetOf(document, []));
    try {
      // Fails on an alias without an anchor and on aliases that expand without limit.
      const raw: unknown = document.toJS();
      if (error !== undefined) return [{ ...identify(raw), line, reason: `not valid YAML: ${yamlReason(error)}` }];
      return raw === null ? [] : [{ raw, lineOf: (path: Path): number => lineAt(offsetOf(document, path)) }];
    } catch (failure) {
      return [{ kind: '', object: '', line, reason: `not valid YAML: ${yamlReason(error ?? failure)}` }];
    }
  });
}

/** The first key that occurs twice in a mapping, as an error of the parser; undefined when there is none. */
function keyTwice(document: Document.Parsed): YamlFault | undefined {
  let found: YamlFault | undefined;
  visit(document, {
    Map: (_, { items }) => {
      const keys = new Set<unknown>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        if (keys.has(key.value)) {
          found = { code: 'DUPLICATE_KEY', pos: [key.range?.[0] ?? 0] };
          return visit.BREAK;
        }
        keys.add(key.value);
      }
      return undefined;
    },
  });
  return found;
}

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
