// SPDX-License-Identifier: Apache-2.0
// One API object, parsed from YAML or JSON -> a model row and the parts of the object that cannot be used. All sources convert
// objects here, so files and the API server give the same rows. Writes no table and logs nothing.
import type { InvalidObjectError } from '../base/errors.ts';
import { invalid, metadataSchema, read, show, type Subject } from './convert/fields.ts';
import { apiGroupOf, type Definition, isKnownKind, type Kind, kinds } from './kinds.ts';

interface Problems {
  /** Errors about the parts of the object that are not in the row, or the reason why there is no row. */
  readonly problems: readonly InvalidObjectError[];
}

/** `ignored` is the kind of an object that the agent does not use, as text for people: "Deployment". */
export type Converted = (Definition & Problems) | ({ readonly kind: 'unknown'; readonly ignored?: string } & Problems);

const isObject = (raw: unknown): raw is Readonly<Record<string, unknown>> => typeof raw === 'object' && raw !== null && !Array.isArray(raw);

/** Text for messages. A text that is longer than a valid name is shortened. */
const textOf = (value: unknown): string => (typeof value !== 'string' ? '' : value.length <= 253 ? value : `${value.slice(0, 77)}...`);

/** Kind and "namespace/name" of any value, as far as they can be read. Never throws. */
export function identify(raw: unknown): Subject {
  if (!isObject(raw)) return { kind: '', object: '' };
  const kind = textOf(raw['kind']);
  const metadata = isObject(raw['metadata']) ? raw['metadata'] : {};
  const name = textOf(metadata['name']);
  const namespace = textOf(metadata['namespace']);
  const isNamespaced = isKnownKind(kind) ? kinds[kind].isNamespaced : namespace !== '';
  if (name === '' || !isNamespaced) return { kind, object: name };
  return { kind, object: `${namespace || 'default'}/${name}` };
}

/**
 * Throws InvalidObjectError when the object as a whole cannot be used. An object of a known kind and API group, but of another
 * version, is reported as a problem: the object was meant for this agent.
 */
export function convertObject(raw: unknown): Converted {
  const at = identify(raw);
  if (!isObject(raw)) throw invalid(at, '', `must be an object, is ${show(raw)}`);
  if (at.kind === '') throw invalid(at, 'kind', `must be a string, is ${show(raw['kind'])}`);
  if (!isKnownKind(at.kind)) return { kind: 'unknown', problems: [], ignored: at.kind };
  // A file may omit the apiVersion. If it is present, it distinguishes a Knative Service from a core Service.
  const version = raw['apiVersion'] ?? undefined;
  const { apiVersion } = kinds[at.kind];
  if (typeof version === 'string' && apiGroupOf(version) !== apiGroupOf(apiVersion))
    return { kind: 'unknown', problems: [], ignored: `${at.kind} of ${textOf(version)}` };
  if (version !== undefined && version !== apiVersion) {
    return {
      kind: 'unknown',
      problems: [invalid(at, 'apiVersion', `must be ${apiVersion}, is ${show(version)}`)],
    };
  }
  return convertKnown(at.kind, raw, at);
}

function convertKnown<K extends Kind>(kind: K, raw: Readonly<Record<string, unknown>>, at: Subject): Definition<K> & Problems {
  const metadata = read(metadataSchema, raw['metadata'], { ...at, path: ['metadata'] });
  const { row, problems } = kinds[kind].convert(raw, metadata, at);
  return { kind, key: at.object, row, problems };
}
