// SPDX-License-Identifier: Apache-2.0
// Invalid API objects from a seed: a valid Service or EndpointSlice in which one to three fields are replaced or removed
// (wrong types, large or empty values, unknown enum values, the other IP family). Tests mix them with valid objects, which
// must not be affected.
import { seededRandom } from '../fake-clock.ts';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A Service with every field that the converter reads, and with addresses of its own: 10.b.c.n. */
export function validService(name: string, [b, c, n]: readonly [number, number, number]): Json {
  return {
    ...{ apiVersion: 'v1', kind: 'Service' },
    metadata: { name, namespace: 'mutants', labels: { app: 'x' }, creationTimestamp: '2025-01-01T00:00:00Z' },
    spec: {
      ...{
        type: 'LoadBalancer',
        clusterIP: `10.${b}.${c}.${n}`,
        clusterIPs: [`10.${b}.${c}.${n}`, `fd00:${b}:${c}::${n}`],
        ipFamilies: ['IPv4', 'IPv6'],
      },
      ports: [
        { name: 'http', protocol: 'TCP', port: 80, nodePort: 30_000 + 1000 * (b - 96) + n },
        { name: 'dns', protocol: 'UDP', port: 53 },
      ],
      ...{ externalIPs: [`11.${b}.${c}.${n}`], loadBalancerSourceRanges: ['10.0.0.0/8', 'fd00::/8'] },
      ...{ internalTrafficPolicy: 'Cluster', externalTrafficPolicy: 'Local', healthCheckNodePort: 31_000 + n },
      ...{ sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } } },
    },
    status: { loadBalancer: { ingress: [{ ip: `12.${b}.${c}.${n}`, ipMode: 'VIP' }] } },
  };
}

/** An EndpointSlice of that Service. */
export function validSlice(service: string, n: number): Json {
  return {
    ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4' },
    metadata: { name: `${service}-1`, namespace: 'mutants', labels: { 'kubernetes.io/service-name': service } },
    ports: [
      { name: 'http', protocol: 'TCP', port: 8080 },
      { name: 'dns', protocol: 'UDP', port: 5353 },
    ],
    endpoints: [
      {
        ...{ addresses: [`10.244.1.${n}`], nodeName: 'node-1', hints: { forZones: [{ name: 'a' }], forNodes: [{ name: 'node-1' }] } },
        conditions: { ready: true, serving: true, terminating: false },
      },
      { addresses: [`10.244.2.${n}`], nodeName: 'node-2', conditions: { ready: true } },
    ],
  };
}

const deep = (depth: number): Json => Array.from({ length: depth }).reduce<Json>((inner) => [inner], 'x');

const replacements: readonly (() => Json)[] = [
  ...[null, true, false, 0, -1, 1.5, 65_536, 1e308, '', ' ', 'x', 'None', 'tcp', 'IPv5', 'Sometimes', '10.0.0.256', '10.0.0.0/33'].map(
    (value) => () => value,
  ),
  ...['fd00:bad::1', '::ffff:10.0.0.1', 'fe80::1%eth0', '0', 'null', '\u0000', '../../etc/passwd', '__proto__', '\ud800'].map(
    (value) => () => value,
  ),
  () => 'y'.repeat(100_000),
  () => [],
  () => ({}),
  () => [null, 7, 'x', {}, []],
  () => ({ constructor: null, toString: 1 }),
  () => Array.from({ length: 1000 }, (_, n) => ({ name: `p${n}`, port: n, addresses: [`13.0.${n >> 8}.${n & 255}`] })),
  () => Array.from({ length: 1000 }, (_, n) => `13.1.${n >> 8}.${n & 255}`),
  () => deep(2000),
];

/** A copy of the object in which one to three fields, but not its kind, are replaced or removed. */
export function mutant(valid: Json, seed: number): Json {
  const random = seededRandom(seed);
  const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(random() * from.length)];
  const copy = structuredClone(valid);
  for (let left = 1 + Math.floor(random() * 3); left > 0; left -= 1) {
    const place = pick(placesIn(copy).filter(({ key }) => key !== 'kind' && key !== 'apiVersion'));
    if (place === undefined) break;
    if (random() < 0.15 && !Array.isArray(place.parent)) delete place.parent[place.key];
    else Reflect.set(place.parent, place.key, pick(replacements)?.() ?? null);
  }
  return copy;
}

interface Place {
  readonly parent: { [key: string]: Json };
  readonly key: string;
}

/** Returns all fields of the value, except fields of large arrays and fields at great depth. */
function placesIn(value: Json, depth = 0): Place[] {
  if (typeof value !== 'object' || value === null || depth > 8) return [];
  const entries = Object.entries(value);
  if (entries.length > 100) return [];
  return entries.flatMap(([key, child]) => [{ parent: value as Place['parent'], key }, ...placesIn(child, depth + 1)]);
}
