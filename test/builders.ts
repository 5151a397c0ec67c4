// SPDX-License-Identifier: Apache-2.0
// Rows for tests, with defaults for what a test does not care about.
import { hostPort, familyOf } from '../daemon/model/address.ts';
import type { Backend, DesiredPort, Frontend } from '../daemon/model/frontend.ts';
import type { EndpointSlice, Service, ServicePort, SliceEndpoint } from '../daemon/model/service.ts';

/** Service default/web: 10.96.0.10, port "" 80/TCP. */
export function serviceRow(fields: Partial<Service> = {}): Service {
  return { namespace: 'default', name: 'web', created: 1000, clusterIPs: { IPv4: '10.96.0.10' }, ports: [portRow()], ...fields };
}

/** Unnamed 80/TCP. */
export function portRow(fields: Partial<ServicePort> = {}): ServicePort {
  return { name: '', protocol: 'TCP', port: 80, ...fields };
}

/** Slice default/web-1 of Service web, IPv4, unnamed 8080/TCP. */
export function sliceRow(fields: Partial<EndpointSlice> = {}): EndpointSlice {
  const ports = [portRow({ port: 8080 })];
  return { namespace: 'default', name: 'web-1', service: 'web', family: 'IPv4', ports, endpoints: [], ...fields };
}

/** A ready endpoint on no node. */
export function endpointRow(address: string, fields: Partial<SliceEndpoint> = {}): SliceEndpoint {
  return { address, ready: true, serving: true, terminating: false, ...fields };
}

/** 80/TCP on the address, internal. */
export function frontendRow(address: string, fields: Partial<Frontend> = {}): Frontend {
  return { address, family: familyOf(address), port: 80, protocol: 'TCP', scope: 'internal', ...fields };
}

/** A usable, serving, remote backend on port 8080. */
export function backendRow(address: string, fields: Partial<Backend> = {}): Backend {
  return { address, port: 8080, isUsable: true, isLocal: false, isServing: true, ...fields };
}

/** Port 80/TCP of default/NAME, with the family of its first frontend. */
export function desiredRow(name: string, frontends: readonly Frontend[], backends: readonly Backend[] = []): DesiredPort {
  const family = frontends[0]?.family ?? 'IPv4';
  const key = `default/${name}:/TCP/${family}`;
  return { key, namespace: 'default', name, portName: '', protocol: 'TCP', family, frontends, backends };
}

/** The n-th address of 10.1.0.0/16, from 1. */
export const podAddress = (n: number): string => `10.1.${Math.floor(n / 250)}.${(n % 250) + 1}`;

export const backendTexts = (backends: Iterable<{ address: string; port: number }>): string[] =>
  [...backends].map(({ address, port }) => hostPort(address, port));
