// SPDX-License-Identifier: Apache-2.0
// The 10,000 Services of the in-situ rows in three groups: backends on another node, on the node itself, and in pods of the node. The
// Kubernetes objects of Sluice and the rows of the floor programs are made from the same list. Pure; node.ts and floor.ts use it.
import { labNodes, podAddresses, remoteAddresses } from '../../support/lab/lab.ts';

/** Where the backends of a Service are. */
export type Place = 'remote' | 'node' | 'pods';

interface Group {
  readonly first: number;
  readonly count: number;
  /** The two backends of a Service. If there is only one server, both are this server. */
  readonly backends: readonly [string, string];
}

export const BACKEND_PORT = 8080;
const nodeAddress = labNodes['node-a'].addresses.IPv4;

export const groups: Readonly<Record<Place, Group>> = {
  remote: { first: 0, count: 6000, backends: [remoteAddresses.IPv4, remoteAddresses.IPv4] },
  node: { first: 6000, count: 1000, backends: [nodeAddress, nodeAddress] },
  pods: { first: 7000, count: 3000, backends: [podAddresses(1).IPv4, podAddresses(2).IPv4] },
};
export const places = Object.keys(groups) as Place[];

/** Returns the n-th VIP, counted from 10.96.1.0. */
export const vipOf = (n: number): string => `10.96.${(n >> 8) + 1}.${n & 255}`;

/** The first Services of the group "pods" have NodePorts. Their policy is Local, because the floor programs do not masquerade. */
export const nodePorts = { first: 30_000, count: 1000, address: nodeAddress };

/** The row of the first backend of this place in floor_backends. */
export const floorRow = (place: Place): number => 2 * places.indexOf(place);

/** A frontend of a Service in the form that the floor programs need. */
export interface FloorFrontend {
  readonly address: string;
  readonly port: number;
  readonly backend: number;
}

export function floorFrontends(): FloorFrontend[] {
  const clusterIps = places.flatMap((place) =>
    Array.from({ length: groups[place].count }, (_, i) => ({
      ...{ address: vipOf(groups[place].first + i), port: 80, backend: floorRow(place) },
    })),
  );
  const ports = Array.from({ length: nodePorts.count }, (_, i) => ({
    ...{ address: nodePorts.address, port: nodePorts.first + i, backend: floorRow('pods') },
  }));
  return [...clusterIps, ...ports];
}

/** The Services and their EndpointSlices. */
export function objects(): object[] {
  return places.flatMap((place) => Array.from({ length: groups[place].count }, (_, i) => objectsOf(place, i)).flat());
}

function objectsOf(place: Place, i: number): object[] {
  const { first, backends } = groups[place];
  const metadata = { name: `s${first + i}`, namespace: 'default' };
  const address = vipOf(first + i);
  const hasNodePort = place === 'pods' && i < nodePorts.count;
  const port = { name: 'web', port: 80, protocol: 'TCP', ...(hasNodePort ? { nodePort: nodePorts.first + i } : {}) };
  const type = hasNodePort ? { type: 'NodePort', externalTrafficPolicy: 'Local' } : {};
  const nodeName = place === 'remote' ? 'node-b' : 'node-a';
  return [
    {
      ...{ apiVersion: 'v1', kind: 'Service', metadata },
      spec: { clusterIP: address, clusterIPs: [address], ports: [port], ...type },
    },
    {
      ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4' },
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': metadata.name } },
      ports: [{ name: 'web', port: BACKEND_PORT, protocol: 'TCP' }],
      endpoints: [...new Set(backends)].map((each) => ({ addresses: [each], conditions: { ready: true }, nodeName })),
    },
  ];
}
