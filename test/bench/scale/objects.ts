// SPDX-License-Identifier: Apache-2.0
// The API objects of a cluster of any size: N Services with one TCP port, each with an EndpointSlice of M ready endpoints on 100
// nodes, as the real controller writes them. The same numbers give the same objects. Pure; orders.ts and witness.ts use it.

export const NAMESPACE = 'scale';
export const servicesPath = `/api/v1/namespaces/${NAMESPACE}/services`;
export const slicesPath = `/apis/discovery.k8s.io/v1/namespaces/${NAMESPACE}/endpointslices`;
const NODES = 100;
/** Distance between the two addresses of an endpoint that moves. It is so large that no other endpoint has the second address. */
const MOVED = 1 << 22;

/** Returns the n-th address of 10.128.0.0/9. */
const podAddress = (n: number): string => `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;

/** The address of the n-th of up to 65,000 Services: in 10.96.0.0/16, after the network address and that of the API server. */
export const vipOf = (n: number): string => `10.96.${(n + 2) >> 8}.${(n + 2) & 255}`;

const serviceName = (n: number): string => `svc-${String(n).padStart(5, '0')}`;
const sliceName = (n: number): string => `${serviceName(n)}-a`;

export function serviceOf(n: number) {
  const address = vipOf(n);
  return {
    apiVersion: 'v1',
    kind: 'Service' as const,
    metadata: { name: serviceName(n), namespace: NAMESPACE, labels: { app: serviceName(n) } },
    spec: {
      ...{ type: 'ClusterIP', clusterIP: address, clusterIPs: [address], ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' },
      ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }],
    },
  };
}

/** A version of a slice. In an odd generation the first `moved` endpoints have other addresses than in generation 0. */
export interface Turn {
  readonly generation: number;
  readonly moved: number;
  /** The time of the change, from which a proxy measures its network programming latency. */
  readonly at: Date;
}

const endpointNumbers = (n: number, endpoints: number, { generation, moved }: Pick<Turn, 'generation' | 'moved'>): number[] =>
  Array.from({ length: endpoints }, (_, i) => n * endpoints + i + (generation % 2 === 1 && i < moved ? MOVED : 0));

/** The highest address of the slice. It changes with every generation. */
export const lastAddress = (n: number, endpoints: number, turn: Turn): string =>
  podAddress(Math.max(...endpointNumbers(n, endpoints, turn)));

export function sliceOf(n: number, endpoints: number, turn?: Turn) {
  const annotations =
    turn === undefined ? {} : { annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': turn.at.toISOString() } };
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice' as const,
    metadata: {
      ...{ name: sliceName(n), namespace: NAMESPACE },
      labels: { 'kubernetes.io/service-name': serviceName(n), 'endpointslice.kubernetes.io/managed-by': 'scale.sluice' },
      ...annotations,
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: endpointNumbers(n, endpoints, turn ?? { generation: 0, moved: 0 }).map((number) => ({
      addresses: [podAddress(number)],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${number % NODES}`,
      targetRef: {
        ...{ kind: 'Pod', namespace: NAMESPACE, name: `pod-${number}` },
        uid: `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`,
      },
    })),
  };
}
