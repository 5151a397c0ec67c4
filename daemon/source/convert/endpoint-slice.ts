// SPDX-License-Identifier: Apache-2.0
// EndpointSlice object -> EndpointSlice row (kube-proxy-semantics.md, 7 and 8). A port or an endpoint that is wrong is left
// out and reported; the rest of the slice is used, since every endpoint lost is capacity lost.
import { z } from 'zod';
import { InvalidObjectError } from '../../base/errors.ts';
import { parseAddress, type Family } from '../../model/address.ts';
import type { EndpointSlice, SliceEndpoint } from '../../model/endpoint-slice.ts';
import type { NamedPort } from '../../model/service.ts';
import { hasForeignLabel } from './service.ts';
import {
  fieldText,
  flag,
  invalid,
  must,
  namedPortSchema,
  read,
  show,
  text,
  type Metadata,
  type Subject,
  type Conversion,
} from './fields.ts';

const serviceNameLabel = 'kubernetes.io/service-name';

const elements = z.array(z.unknown(), must('a list')).nullish();
const sliceSchema = z.object({
  addressType: z.enum(['IPv4', 'IPv6', 'FQDN'], must('IPv4, IPv6 or FQDN')),
  ports: elements,
  endpoints: elements,
});

/** Names of hinted zones or nodes; an empty list is no hint. */
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

interface Gathering {
  readonly at: Subject;
  readonly problems: InvalidObjectError[];
}

/** Undefined row: nothing to gather from it (foreign label, FQDN, of no Service, without ports). Throws InvalidObjectError. */
export function convertSlice(raw: object, metadata: Metadata, at: Subject): Conversion<EndpointSlice> {
  const problems: InvalidObjectError[] = [];
  const service = metadata.labels[serviceNameLabel] ?? '';
  if (hasForeignLabel(metadata) || service === '') return { row: undefined, problems };
  if (typeof service !== 'string') throw invalid(at, `metadata.labels[${serviceNameLabel}]`, `must be a string, is ${show(service)}`);
  const slice = read(sliceSchema, raw, { ...at, path: [] });
  if (slice.addressType === 'FQDN') return { row: undefined, problems };
  if ((slice.ports ?? []).length === 0) {
    // The controller writes one without either for a Service that has no endpoints.
    if ((slice.endpoints ?? []).length > 0) problems.push(invalid(at, 'ports', 'is empty: the slice contributes nothing'));
    return { row: undefined, problems };
  }
  const row: EndpointSlice = {
    namespace: metadata.namespace,
    name: metadata.name,
    service,
    family: slice.addressType,
    ports: gatherPorts(slice.ports ?? [], { at, problems }),
    endpoints: gatherEndpoints(slice.endpoints ?? [], slice.addressType, { at, problems }),
    ...triggerOf(metadata),
  };
  return { row, problems };
}

const triggerAnnotation = 'endpoints.kubernetes.io/last-change-trigger-time';

/** Only metrics read it, so that one which is no time is as good as none. */
function triggerOf({ annotations }: Metadata): { lastChangeTrigger?: number } {
  const given = annotations[triggerAnnotation];
  const time = typeof given === 'string' ? Date.parse(given) : NaN;
  return Number.isNaN(time) ? {} : { lastChangeTrigger: time };
}

/** Runs the reader; an InvalidObjectError becomes a problem and no value. */
function gather<T>(problems: InvalidObjectError[], reader: () => T): T[] {
  try {
    return [reader()];
  } catch (error) {
    if (!(error instanceof InvalidObjectError)) throw error;
    problems.push(error);
    return [];
  }
}

function gatherPorts(raws: readonly unknown[], { at, problems }: Gathering): NamedPort[] {
  const indexes = new Map<string, number>();
  return raws.flatMap((raw, index) =>
    gather(problems, () => {
      const port = read(namedPortSchema, raw, { ...at, path: ['ports', index] });
      const same = indexes.get(`${port.name}/${port.protocol}`);
      if (same !== undefined)
        throw invalid(at, `ports[${index}].name`, `must be unique, ${show(port.name)} is also the name of ports[${same}]`);
      indexes.set(`${port.name}/${port.protocol}`, index);
      return port;
    }),
  );
}

function gatherEndpoints(raws: readonly unknown[], family: Family, { at, problems }: Gathering): SliceEndpoint[] {
  return raws.flatMap(
    (raw, index) => plainEndpoint(raw, family) ?? gather(problems, () => readEndpoint(raw, family, { ...at, path: ['endpoints', index] })),
  );
}

/** An endpoint as the controllers write nearly all of them, without the schema's cost. Undefined: it may still be a good one. */
export function plainEndpoint(raw: unknown, family: Family): SliceEndpoint | undefined {
  const { addresses, conditions, nodeName, hints } = (raw ?? {}) as Readonly<Record<string, unknown>>;
  const { ready, serving, terminating } = (conditions ?? {}) as Readonly<Record<string, unknown>>;
  if (!Array.isArray(addresses) || addresses.length !== 1 || hints !== undefined || typeof nodeName !== 'string') return undefined;
  if (typeof ready !== 'boolean' || typeof serving !== 'boolean' || typeof terminating !== 'boolean') return undefined;
  const given: unknown = addresses[0];
  const address = typeof given === 'string' ? parseAddress(given) : undefined;
  return address?.family === family ? rowOf(address.text, { ready, serving, terminating }, nodeName) : undefined;
}

/** Any endpoint. Throws InvalidObjectError. */
export function readEndpoint(raw: unknown, family: Family, at: Subject & { readonly path: readonly (string | number)[] }): SliceEndpoint {
  const { addresses, conditions, nodeName, hints } = read(endpointSchema, raw, at);
  const field = fieldText(at.path);
  const given = addresses?.[0];
  if (given === undefined) throw invalid(at, `${field}.addresses`, 'is empty: the endpoint is left out');
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

/** One literal for nearly all: V8 gives what is spread into an object a second one beside it. */
function rowOf(address: string, { ready, serving, terminating }: Conditions, nodeName: string | null | undefined): SliceEndpoint {
  return nodeName ? { address, ready, serving, terminating, nodeName } : { address, ready, serving, terminating };
}
