// SPDX-License-Identifier: Apache-2.0
// Builders of rows for all tests, with defaults for every field that a test does not set. Each builder returns a new object and
// must not read a clock or a random source.
import { hostPort, familyOf } from '../../daemon/model/address.ts';
import type { ServiceMapValue } from '../../daemon/maps/types.ts';
import type { DeviceRow } from '../../daemon/model/device.ts';
import type { Backend, DesiredPort, Frontend } from '../../daemon/model/frontend.ts';
import type { HostSettings } from '../../daemon/model/host.ts';
import type { EndpointSlice, SliceEndpoint } from '../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../daemon/model/node.ts';
import type { NamedPort, Service, ServicePort } from '../../daemon/model/service.ts';

/** The Service default/web with the ClusterIP 10.96.0.10 and one unnamed port, 80/TCP. */
export function serviceRow(fields: Partial<Service> = {}): Service {
  return {
    ...{ namespace: 'default', name: 'web', created: 1000, type: 'ClusterIP', clusterIPs: { IPv4: '10.96.0.10' }, ports: [portRow()] },
    ...{ externalIPs: [], loadBalancerIPs: [], sourceRanges: [], internalPolicy: 'Cluster', externalPolicy: 'Cluster' },
    ...{ affinitySeconds: 0, healthCheckNodePort: 0 },
    ...fields,
  };
}

/** Unnamed 80/TCP. */
export function portRow(fields: Partial<ServicePort> = {}): ServicePort {
  return { name: '', protocol: 'TCP', port: 80, nodePort: 0, ...fields };
}

/** Unnamed 8080/TCP. */
export function slicePortRow(fields: Partial<NamedPort> = {}): NamedPort {
  return { name: '', protocol: 'TCP', port: 8080, ...fields };
}

/** A Node without addresses, labels or pod CIDRs. */
export function nodeRow(name: string, fields: Partial<Node> = {}): Node {
  return { name, addresses: [], labels: {}, podCIDRs: [], isLeaving: false, ...fields };
}

/** The default settings of kube-proxy in nftables mode, without a cluster CIDR. */
export function hostSettings(fields: Partial<HostSettings> = {}): HostSettings {
  return {
    ...{ podInterfaces: [], uplinks: [], snatPorts: [{ first: 1024, last: 29_999 }] },
    ...{ clusterCidr: [], detectLocalMode: 'ClusterCIDR', masqueradeAll: false, nodePortAddresses: 'primary', serviceCidr: [] },
    ...{ externalIps: 'on', acceptForwarded: false },
    ...fields,
  };
}

/** The IPv4 slice default/web-1 of the Service web, with one unnamed port, 8080/TCP. */
export function sliceRow(fields: Partial<EndpointSlice> = {}): EndpointSlice {
  const ports = [slicePortRow()];
  return { namespace: 'default', name: 'web-1', service: 'web', family: 'IPv4', ports, endpoints: [], ...fields };
}

/** A ready endpoint without nodeName. */
export function endpointRow(address: string, fields: Partial<SliceEndpoint> = {}): SliceEndpoint {
  return { address, ready: true, serving: true, terminating: false, ...fields };
}

/** A frontend of type ClusterIP at the address, with port 80/TCP. */
export function frontendRow(address: string, fields: Partial<Frontend> = {}): Frontend {
  return {
    address,
    family: familyOf(address),
    port: 80,
    protocol: 'TCP',
    type: 'ClusterIP',
    policy: 'Cluster',
    hasSourceRanges: false,
    ...fields,
  };
}

/** A usable, serving, remote backend on port 8080. */
export function backendRow(address: string, fields: Partial<Backend> = {}): Backend {
  return { address, port: 8080, isUsable: true, isLocallyUsable: false, isLocal: false, isServing: true, ...fields };
}

/** The desired row of port 80/TCP of default/NAME, in the family of its first frontend. */
export function desiredRow(name: string, frontends: readonly Frontend[], backends: readonly Backend[] = []): DesiredPort {
  const family = frontends[0]?.family ?? 'IPv4';
  const key = `default/${name}:/TCP/${family}`;
  return {
    key,
    namespace: 'default',
    name,
    portName: '',
    protocol: 'TCP',
    family,
    frontends,
    backends,
    affinitySeconds: 0,
    sourceRanges: [],
  };
}

/** A row of lb_services; every field that is not given is 0. */
export function serviceValue(fields: Partial<ServiceMapValue> = {}): ServiceMapValue {
  return { base: 0, count: 0, localBase: 0, localCount: 0, affinity: 0, ...fields };
}

/** Returns the n-th address of 10.1.0.0/16, counted from 1. */
export const podAddress = (n: number): string => `10.1.${Math.floor(n / 250)}.${(n % 250) + 1}`;

export const backendTexts = (backends: Iterable<{ address: string; port: number }>): string[] =>
  [...backends].map(({ address, port }) => hostPort(address, port));

/** The error of a file that does not exist, as node:fs throws it. */
export const missingFile = (path: string): Error =>
  Object.assign(new Error(`ENOENT: no such file or directory, open '${path}'`), { errno: -2, code: 'ENOENT', syscall: 'open', path });

/** The row in lb_devices of a device that is not a port of a bridge, without source validation. */
export const ordinary = (ifindex: number): DeviceRow => ({ routeDevice: ifindex, bridgeAddress: '', isStrict: false, sourceRules: [] });
