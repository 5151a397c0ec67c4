// SPDX-License-Identifier: Apache-2.0
// Service object -> Service row. Reads the fields that kube-proxy reads (test/README.md, 1, 2 and 14) and no others. A Service with
// an invalid field is rejected as a whole, because a partly served Service could answer on a wrong address or port. Exception: in the
// lists that test/README.md, 14.4, names, only the invalid entries are ignored. Pure.
import { z } from 'zod';
import { parseAddress, specialKindOf, type Family } from '../../model/address.ts';
import type { Service, ServicePort } from '../../model/service.ts';
import {
  invalid,
  must,
  mustNotBe,
  optionalPort,
  portFields,
  portName,
  read,
  readEach,
  show,
  text,
  type Metadata,
  type Subject,
  type Conversion,
} from './fields.ts';
import type { InvalidObjectError } from '../../base/errors.ts';

const portSchema: z.ZodType<ServicePort> = z
  .object({ name: portName.nullish(), ...portFields, nodePort: optionalPort }, must('an object'))
  .transform(({ name, ...port }) => ({ name: name ?? '', ...port }));

/** Absent and null mean Cluster, the default of the API server. */
const policy = z
  .enum(['Cluster', 'Local'], must('Cluster or Local'))
  .nullish()
  .transform((value) => value ?? 'Cluster');

const list = z.array(z.unknown(), must('a list')).nullish();

const isTimeout = (value: unknown): boolean => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 86_400;
const affinityConfig = z
  .object(
    {
      clientIP: z.object({ timeoutSeconds: z.custom<number | null>(isTimeout, must('1..86400')).nullish() }, must('an object')).nullish(),
    },
    must('an object'),
  )
  .nullish();

/** The API server always sets the timeout; a file may omit it. */
const defaultAffinitySeconds = 10_800;

const specSchema = z.object(
  {
    type: z
      .enum(['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'], must('ClusterIP, NodePort, LoadBalancer or ExternalName'))
      .nullish(),
    clusterIP: text.nullish(),
    clusterIPs: z.array(text, must('a list')).nullish(),
    ipFamilies: z.array(z.enum(['IPv4', 'IPv6'], must('IPv4 or IPv6')), must('a list')).nullish(),
    ports: z.array(portSchema, must('a list')).nullish(),
    externalIPs: list,
    loadBalancerSourceRanges: list,
    internalTrafficPolicy: policy,
    externalTrafficPolicy: policy,
    sessionAffinity: z.enum(['None', 'ClientIP'], must('None or ClientIP')).nullish(),
    sessionAffinityConfig: affinityConfig,
    healthCheckNodePort: optionalPort,
  },
  must('an object'),
);

const statusSchema = z
  .object(
    {
      loadBalancer: z
        .object(
          {
            ingress: z.array(z.object({ ip: z.unknown().optional(), ipMode: text.nullish() }, must('an object')), must('a list')).nullish(),
          },
          must('an object'),
        )
        .nullish(),
    },
    must('an object'),
  )
  .nullish();

type Spec = z.infer<typeof specSchema>;

/** Labels that exclude an object from this service proxy, whatever their value. */
export const hasForeignLabel = (metadata: Metadata): boolean =>
  'service.kubernetes.io/headless' in metadata.labels || 'service.kubernetes.io/service-proxy-name' in metadata.labels;

/**
 * Returns no row for a Service that belongs to another service proxy (hasForeignLabel), has type ExternalName or no ClusterIP.
 * Throws InvalidObjectError.
 */
export function convertService(
  raw: { readonly spec?: unknown; readonly status?: unknown },
  metadata: Metadata,
  at: Subject,
): Conversion<Service> {
  if (hasForeignLabel(metadata)) return { row: undefined, problems: [] };
  const spec = read(specSchema, raw.spec, { ...at, path: ['spec'] });
  if (spec.type === 'ExternalName' || spec.clusterIP === 'None') return { row: undefined, problems: [] };
  // In a directory of YAML files no controller allocates the address, so the missing address is reported.
  if ((spec.clusterIP ?? '') === '')
    return { row: undefined, problems: [invalid(at, 'spec.clusterIP', 'is missing: the Service is not served')] };
  const problems: InvalidObjectError[] = [];
  const row: Service = {
    namespace: metadata.namespace,
    name: metadata.name,
    created: creationTime(metadata, at, problems),
    type: spec.type ?? 'ClusterIP',
    clusterIPs: clusterIPsOf(spec, at),
    ports: distinctPorts(spec.ports ?? [], at),
    externalIPs: readEach(spec.externalIPs ?? [], {
      at,
      fieldOf: (i) => `spec.externalIPs[${i}]`,
      kind: 'the address of a Service',
      problems,
    }),
    loadBalancerIPs: loadBalancerIPsOf(raw.status, at, problems),
    sourceRanges: readEach(spec.loadBalancerSourceRanges ?? [], {
      ...{ at, fieldOf: (i: number) => `spec.loadBalancerSourceRanges[${i}]`, kind: 'a CIDR', problems },
    }),
    internalPolicy: spec.internalTrafficPolicy,
    externalPolicy: spec.externalTrafficPolicy,
    affinitySeconds:
      spec.sessionAffinity === 'ClientIP' ? (spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? defaultAffinitySeconds) : 0,
    healthCheckNodePort: spec.healthCheckNodePort,
  };
  refuseTooMany(row, at);
  return { row, problems };
}

/**
 * Frontends and source ranges of one Service: each port has every address and every range. They are computed anew for each change of
 * the Service. This is also the default size of the map of frontends.
 */
const MAX_FRONTENDS = 65_536;

/** A few kilobytes of addresses and of ports would multiply to more frontends than fit into memory. */
function refuseTooMany({ ports, clusterIPs, externalIPs, loadBalancerIPs, sourceRanges }: Service, at: Subject): void {
  const each = Object.keys(clusterIPs).length + externalIPs.length + loadBalancerIPs.length + sourceRanges.length;
  if (ports.length * each > MAX_FRONTENDS)
    throw invalid(
      at,
      'spec.ports',
      `must have at most ${MAX_FRONTENDS} combinations with the addresses and source ranges of the Service, has ${ports.length} ports and ${each} addresses and ranges`,
    );
}

/**
 * Ingress IPs of ipMode VIP, the default. Packets to such an IP reach the node unchanged. Entries with ipMode Proxy or only a
 * hostname are left out, because the load balancer forwards their packets to another address.
 */
function loadBalancerIPsOf(raw: unknown, at: Subject, problems: InvalidObjectError[]): string[] {
  const status = read(statusSchema, raw, { ...at, path: ['status'] });
  const entries = (status?.loadBalancer?.ingress ?? []).map(({ ip, ipMode }, index) => ({ ip, index, isVip: (ipMode ?? 'VIP') === 'VIP' }));
  const given = entries.filter(({ ip, isVip }) => isVip && (ip ?? '') !== '');
  const fieldOf = (i: number): string => `status.loadBalancer.ingress[${given[i]?.index ?? i}].ip`;
  return readEach(
    given.map(({ ip }) => ip),
    { at, fieldOf, kind: 'the address of a Service', problems },
  );
}

export function creationTime(metadata: Metadata, at: Subject, problems: InvalidObjectError[]): number {
  const stamp = metadata.creationTimestamp ?? undefined;
  const created = stamp === undefined ? 0 : Date.parse(stamp);
  if (!Number.isNaN(created)) return created;
  problems.push(invalid(at, 'metadata.creationTimestamp', `must be a time, is ${show(stamp)}`));
  return 0;
}

/** clusterIPs[i] is the address of family ipFamilies[i]. Without ipFamilies, clusterIP alone is used (test/README.md, 14). */
function clusterIPsOf(spec: Spec, at: Subject): Partial<Record<Family, string>> {
  const fromList = (spec.clusterIPs?.length ?? 0) > 0;
  const texts = fromList ? (spec.clusterIPs ?? []) : [spec.clusterIP ?? ''];
  const found: Partial<Record<Family, string>> = {};
  texts.forEach((given, index) => {
    const field = fromList ? `spec.clusterIPs[${index}]` : 'spec.clusterIP';
    const address = parseAddress(given);
    if (address === undefined) throw invalid(at, field, `must be an IP address, is ${show(given)}`);
    const special = specialKindOf(address.text);
    if (special !== undefined) throw invalid(at, field, mustNotBe(special, given));
    const family = spec.ipFamilies?.length ? spec.ipFamilies[index] : index === 0 ? address.family : undefined;
    if (family === undefined) return;
    if (address.family !== family) throw invalid(at, field, `must be an ${family} address, as spec.ipFamilies requires, is ${show(given)}`);
    if (found[family] !== undefined) throw invalid(at, field, `is a second ${family} address, the first is ${found[family]}`);
    found[family] = address.text;
  });
  // If clusterIP and clusterIPs[0] differ, only one of the two was edited, and it is unknown which one is correct.
  const first = parseAddress(spec.clusterIP ?? '');
  if (first === undefined) throw invalid(at, 'spec.clusterIP', `must be an IP address, is ${show(spec.clusterIP)}`);
  if (parseAddress(texts[0] ?? '')?.text !== first.text)
    throw invalid(at, 'spec.clusterIPs[0]', `must equal spec.clusterIP ${first.text}, is ${show(texts[0])}`);
  return found;
}

/** A name identifies a port, and a port number with a protocol identifies a frontend: both must be unique. */
function distinctPorts(ports: readonly ServicePort[], at: Subject): readonly ServicePort[] {
  const names = new Map<string, number>();
  const numbers = new Map<string, number>();
  ports.forEach(({ name, port, protocol }, index) => {
    const sameName = names.get(name);
    if (sameName !== undefined)
      throw invalid(at, `spec.ports[${index}].name`, `must be unique, ${show(name)} is also the name of spec.ports[${sameName}]`);
    const sameNumber = numbers.get(`${port}/${protocol}`);
    if (sameNumber !== undefined)
      throw invalid(at, `spec.ports[${index}].port`, `must be unique, ${port}/${protocol} is also spec.ports[${sameNumber}]`);
    names.set(name, index);
    numbers.set(`${port}/${protocol}`, index);
  });
  return ports;
}
