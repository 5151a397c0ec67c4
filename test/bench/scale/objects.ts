// SPDX-License-Identifier: Apache-2.0
// A cluster of any size as API objects: N Services of one TCP port, each with an EndpointSlice of M ready endpoints, spread
// over 100 nodes, as the real controller would write them. The same numbers give the same objects. Pure.

export const NAMESPACE = 'scale';
export const servicesPath = `/api/v1/namespaces/${NAMESPACE}/services`;
export const slicesPath = `/apis/discovery.k8s.io/v1/namespaces/${NAMESPACE}/endpointslices`;
const NODES = 100;
/** So far away an endpoint moves: no other has an address there. */
const MOVED = 1 << 22;

/** The n-th address of 10.128.0.0/9: any number of pods. */
const podAddress = (n: number): string => `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;

/** The address of the n-th Service, of 65,000: in 10.96.0.0/16, behind the network's own and the API server's. */
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

/** How a slice differs from the first one of its Service: in an odd generation, the first `moved` endpoints have other addresses. */
export interface Turn {
  readonly generation: number;
  readonly moved: number;
  /** When that happened, for those who measure how long it took to reach them. */
  readonly at: Date;
}

const endpointNumbers = (n: number, endpoints: number, { generation, moved }: Pick<Turn, 'generation' | 'moved'>): number[] =>
  Array.from({ length: endpoints }, (_, i) => n * endpoints + i + (generation % 2 === 1 && i < moved ? MOVED : 0));

/** The highest of its addresses: every turn changes it. */
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
