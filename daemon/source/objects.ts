// SPDX-License-Identifier: Apache-2.0
// One API object, already parsed from YAML or JSON -> a model row and the parts of it that could not be used. Every source
// converts here, so that files and the API server give the same rows. Writes no table and logs nothing.
import type { InvalidObjectError } from '../base/errors.ts';
import type { EndpointSlice } from '../model/endpoint-slice.ts';
import type { Node } from '../model/node.ts';
import type { Service } from '../model/service.ts';
import type { ServiceCIDR } from '../model/service-cidr.ts';
import { convertNode } from './convert/node.ts';
import { convertService } from './convert/service.ts';
import { convertServiceCIDR } from './convert/service-cidr.ts';
import { convertSlice } from './convert/endpoint-slice.ts';
import { invalid, metadataSchema, read, show, type Subject } from './convert/fields.ts';

/** What was left out of the row, or why there is none. Never a reason to drop the row. */
interface Problems {
  readonly problems: readonly InvalidObjectError[];
}

/** A named object and its row; without a row it is well-formed and not ours to serve. `key` is the key of its table. */
export type Definition =
  | { readonly kind: 'Service'; readonly key: string; readonly row: Service | undefined }
  | { readonly kind: 'EndpointSlice'; readonly key: string; readonly row: EndpointSlice | undefined }
  | { readonly kind: 'Node'; readonly key: string; readonly row: Node | undefined }
  | { readonly kind: 'ServiceCIDR'; readonly key: string; readonly row: ServiceCIDR | undefined };

export type Converted = (Definition & Problems) | ({ readonly kind: 'unknown' } & Problems);

// A file may leave the apiVersion out; one that is there tells a Knative "Service" from ours.
const apiVersions = { Service: 'v1', EndpointSlice: 'discovery.k8s.io/v1', Node: 'v1', ServiceCIDR: 'networking.k8s.io/v1' } as const;

export const isKnownKind = (kind: string): kind is Definition['kind'] => Object.hasOwn(apiVersions, kind);

const isObject = (raw: unknown): raw is Readonly<Record<string, unknown>> => typeof raw === 'object' && raw !== null && !Array.isArray(raw);
/** What is too long for a name is cut: no object that is accepted has it, and messages name it. */
const textOf = (value: unknown): string => (typeof value !== 'string' ? '' : value.length <= 253 ? value : `${value.slice(0, 77)}...`);

/** Kind and "namespace/name" as far as they can be read; of any value, never throws. */
export function identify(raw: unknown): Subject {
  if (!isObject(raw)) return { kind: '', object: '' };
  const kind = textOf(raw['kind']);
  const metadata = isObject(raw['metadata']) ? raw['metadata'] : {};
  const name = textOf(metadata['name']);
  const isNamespaced = kind !== 'Node' && kind !== 'ServiceCIDR' && (isKnownKind(kind) || textOf(metadata['namespace']) !== '');
  if (name === '' || !isNamespaced) return { kind, object: name };
  return { kind, object: `${textOf(metadata['namespace']) || 'default'}/${name}` };
}

/** Throws InvalidObjectError when the object as a whole cannot be used. A kind we do not know is only a problem. */
export function convertObject(raw: unknown): Converted {
  const at = identify(raw);
  if (!isObject(raw)) throw invalid(at, '', `must be an object, is ${show(raw)}`);
  if (at.kind === '') throw invalid(at, 'kind', `must be a string, is ${show(raw['kind'])}`);
  const version = raw['apiVersion'] ?? undefined;
  if (!isKnownKind(at.kind)) return { kind: 'unknown', problems: [invalid(at, 'kind', 'unknown kind')] };
  if (version !== undefined && version !== apiVersions[at.kind]) {
    return {
      kind: 'unknown',
      problems: [invalid(at, 'apiVersion', `unknown kind: ${at.kind} of ${apiVersions[at.kind]} is known, not of ${show(version)}`)],
    };
  }
  const metadata = read(metadataSchema, raw['metadata'], { ...at, path: ['metadata'] });
  switch (at.kind) {
    case 'Service':
      return { kind: at.kind, key: at.object, ...convertService(raw, metadata, at) };
    case 'EndpointSlice':
      return { kind: at.kind, key: at.object, ...convertSlice(raw, metadata, at) };
    case 'Node':
      return { kind: at.kind, key: at.object, ...convertNode(raw, metadata, at) };
    case 'ServiceCIDR':
      return { kind: at.kind, key: at.object, ...convertServiceCIDR(raw, metadata, at) };
  }
}
