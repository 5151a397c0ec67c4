// SPDX-License-Identifier: Apache-2.0
// EndpointSlice object -> EndpointSlice row (test/README.md, 7 and 8). An invalid port or endpoint is reported and ignored; the
// rest of the slice is used, so that the Service keeps as many endpoints as possible. Pure.
import { z } from 'zod';
import { InvalidObjectError } from '../../base/errors.ts';
import { parseAddress, type Family } from '../../model/address.ts';
import { MAX_SERVICE_BACKENDS, type EndpointSlice, type SliceEndpoint } from '../../model/endpoint-slice.ts';
import type { NamedPort } from '../../model/service.ts';
import { creationTime, hasForeignLabel } from './service.ts';
import {
  fieldText,
  flag,
  invalid,
  must,
  namedPortSchema,
  read,
  show,
  text,
  type Conversion,
  type Metadata,
  type Subject,
} from './fields.ts';

const serviceNameLabel = 'kubernetes.io/service-name';

const elements = z.array(z.unknown(), must('a list')).nullish();
const sliceSchema = z.object({
  addressType: z.enum(['IPv4', 'IPv6', 'FQDN'], must('IPv4, IPv6 or FQDN')),
  ports: elements,
  endpoints: elements,
});

/** Names of the zones or nodes of a hint. An empty list is the same as no hint. */
const hintNames = z
  .array(z.object({ name: text }, must('an object')), must('a list'))
  .nullish()
  .transform((hints) => (hints?.length ? hints.map(({ name }) => name) : undefined));

const endpointSchema = z.object(
  {
    addresses: z.array(text, must('a list')).nullish(),
    conditions: z.object({ ready: flag(true), serving: flag(true), terminating: flag(false) }, must('an object')).nullish(),
    nodeName: text.nullish(),
    hints: z.object({ forZones: hintNames, forNodes: hintNames }, must('an object')).nullish(),
  },
  must('an object'),
);

/** The object that is converted, and the problems found so far. */
interface Context {
  readonly at: Subject;
  readonly problems: InvalidObjectError[];
}

/**
 * Returns no row for a slice that belongs to another service proxy (hasForeignLabel), has address type FQDN, or has no Service or no
 * ports. Throws InvalidObjectError.
 */
export function convertSlice(raw: object, metadata: Metadata, at: Subject): Conversion<EndpointSlice> {
  const problems: InvalidObjectError[] = [];
  const service = metadata.labels[serviceNameLabel] ?? '';
  if (hasForeignLabel(metadata) || service === '') return { row: undefined, problems };
  if (typeof service !== 'string') throw invalid(at, `metadata.labels[${serviceNameLabel}]`, `must be a string, is ${show(service)}`);
  const slice = read(sliceSchema, raw, { ...at, path: [] });
  if (slice.addressType === 'FQDN') return { row: undefined, problems };
  if ((slice.ports ?? []).length === 0) {
    // For a Service without endpoints, the controller writes a slice with neither ports nor endpoints.
    if ((slice.endpoints ?? []).length > 0) problems.push(invalid(at, 'ports', 'is empty: the slice is ignored'));
    return { row: undefined, problems };
  }
  refuseTooMany(slice.ports ?? [], slice.endpoints ?? [], at);
  const row: EndpointSlice = {
    namespace: metadata.namespace,
    name: metadata.name,
    ...createdOf(metadata, at, problems),
    service,
    family: slice.addressType,
    ports: readPorts(slice.ports ?? [], { at, problems }),
    endpoints: readEndpoints(slice.endpoints ?? [], slice.addressType, { at, problems }),
    ...changeTriggerOf(metadata),
  };
  return { row, problems };
}

/** A slice that alone exceeds the limit of a Service could never be used. */
function refuseTooMany(ports: readonly unknown[], endpoints: readonly unknown[], at: Subject): void {
  if (ports.length * endpoints.length > MAX_SERVICE_BACKENDS)
    throw invalid(
      at,
      'ports',
      `must have at most ${MAX_SERVICE_BACKENDS} combinations with the endpoints, has ${ports.length} ports and ${endpoints.length} endpoints`,
    );
}

function createdOf(metadata: Metadata, at: Subject, problems: InvalidObjectError[]): { created?: number } {
  const created = creationTime(metadata, at, problems);
  return created === 0 ? {} : { created };
}

const changeTriggerAnnotation = 'endpoints.kubernetes.io/last-change-trigger-time';

/** Only metrics use this time, so an invalid value is treated as absent. */
function changeTriggerOf({ annotations }: Metadata): { lastChangeTrigger?: number } {
  const given = annotations[changeTriggerAnnotation];
  const time = typeof given === 'string' ? Date.parse(given) : NaN;
  return Number.isNaN(time) ? {} : { lastChangeTrigger: time };
}

/**
 * Returns a list with the result of `reader`. If `reader` throws InvalidObjectError, the error is added to `problems` and the list is
 * empty.
 */
function readOrReport<T>(problems: InvalidObjectError[], reader: () => T): T[] {
  try {
    return [reader()];
  } catch (error) {
    if (!(error instanceof InvalidObjectError)) throw error;
    problems.push(error);
    return [];
  }
}

function readPorts(raws: readonly unknown[], { at, problems }: Context): NamedPort[] {
  const indexes = new Map<string, number>();
  return raws.flatMap((raw, index) =>
    readOrReport(problems, () => {
      const port = read(namedPortSchema, raw, { ...at, path: ['ports', index] });
      const same = indexes.get(`${port.name}/${port.protocol}`);
      if (same !== undefined)
        throw invalid(at, `ports[${index}].name`, `must be unique, ${show(port.name)} is also the name of ports[${same}]`);
      indexes.set(`${port.name}/${port.protocol}`, index);
      return port;
    }),
  );
}

function readEndpoints(raws: readonly unknown[], family: Family, { at, problems }: Context): SliceEndpoint[] {
  return raws.flatMap(
    (raw, index) =>
      plainEndpoint(raw, family) ?? readOrReport(problems, () => readEndpoint(raw, family, { ...at, path: ['endpoints', index] })),
  );
}

/**
 * Reads an endpoint in the form that controllers write in nearly all cases, without the cost of the schema. Undefined for every
 * other form, whether it is valid or not.
 */
export function plainEndpoint(raw: unknown, family: Family): SliceEndpoint | undefined {
  const { addresses, conditions, nodeName, hints } = (raw ?? {}) as Readonly<Record<string, unknown>>;
  const { ready, serving, terminating } = (conditions ?? {}) as Readonly<Record<string, unknown>>;
  if (!Array.isArray(addresses) || addresses.length !== 1 || hints !== undefined || typeof nodeName !== 'string') return undefined;
  if (typeof ready !== 'boolean' || typeof serving !== 'boolean' || typeof terminating !== 'boolean') return undefined;
  const given: unknown = addresses[0];
  const address = typeof given === 'string' ? parseAddress(given) : undefined;
  return address?.family === family ? rowOf(address.text, { ready, serving, terminating }, nodeName) : undefined;
}

/** Reads an endpoint of any form. Throws InvalidObjectError. */
export function readEndpoint(raw: unknown, family: Family, at: Subject & { readonly path: readonly (string | number)[] }): SliceEndpoint {
  const { addresses, conditions, nodeName, hints } = read(endpointSchema, raw, at);
  const field = fieldText(at.path);
  const given = addresses?.[0];
  if (given === undefined) throw invalid(at, `${field}.addresses`, 'is empty: the endpoint is ignored');
  const address = parseAddress(given);
  if (address?.family !== family) throw invalid(at, `${field}.addresses[0]`, `must be an ${family} address, is ${show(given)}`);
  const row = rowOf(address.text, conditions ?? { ready: true, serving: true, terminating: false }, nodeName);
  if (hints?.forZones === undefined && hints?.forNodes === undefined) return row;
  return {
    ...row,
    ...(hints.forZones === undefined ? {} : { zoneHints: hints.forZones }),
    ...(hints.forNodes === undefined ? {} : { nodeHints: hints.forNodes }),
  };
}

type Conditions = Pick<SliceEndpoint, 'ready' | 'serving' | 'terminating'>;

/** Written as one object literal without a spread, because V8 allocates an additional object for a spread. */
function rowOf(address: string, { ready, serving, terminating }: Conditions, nodeName: string | null | undefined): SliceEndpoint {
  return nodeName ? { address, ready, serving, terminating, nodeName } : { address, ready, serving, terminating };
}
