// SPDX-License-Identifier: Apache-2.0
// Simulates the scheduler and the kubelets for the API server. Each Pod has a network namespace of the lab: "pod1" to "pod199", or
// that of a node, "node" or "node-b", if it has hostNetwork. This file must not start servers; the tests start them.
import { labNodes, nodeOfPod, type NodeName, podAddresses } from '../support/lab/lab.ts';
import type { Api } from './api.ts';

export interface PodOptions {
  readonly labels: Readonly<Record<string, string>>;
  /** Name of the Pod. The default is the name of the place. */
  readonly name?: string;
  readonly isReady?: boolean;
  readonly containers?: readonly object[];
  readonly initContainers?: readonly object[];
}

const ports = [
  { name: 'web', containerPort: 8080, protocol: 'TCP' },
  { name: 'dns', containerPort: 5353, protocol: 'UDP' },
];
const zoneLabel = 'topology.kubernetes.io/zone';
/** Every node of the lab is in its own zone. */
export const zoneOf = (node: string): string => `zone-of-${node}`;
const TERMINATION_SECONDS = 3600;

/** The node of a place, and its addresses. */
export function whereIs(place: string): { node: NodeName; addresses: { IPv4: string; IPv6: string }; isOnHost: boolean } {
  const pod = /^pod(\d+)$/.exec(place)?.[1];
  if (pod !== undefined) return { node: nodeOfPod(Number(pod)), addresses: podAddresses(Number(pod)), isOnHost: false };
  const node = place === 'node' ? 'node-a' : 'node-b';
  return { node, addresses: labNodes[node].addresses, isOnHost: true };
}

export class Kubelet {
  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  /** Registers the nodes of the lab, each in its own zone. */
  async registerNodes(): Promise<void> {
    for (const [name, { addresses, podCidrs }] of Object.entries(labNodes)) {
      const labels = { 'kubernetes.io/hostname': name, [zoneLabel]: zoneOf(name) };
      await this.#api.create('/api/v1/nodes', {
        ...{ apiVersion: 'v1', kind: 'Node', metadata: { name, labels } },
        spec: { podCIDR: podCidrs.IPv4, podCIDRs: [podCidrs.IPv4, podCidrs.IPv6] },
      });
      await this.#api.patch(`/api/v1/nodes/${name}/status`, {
        status: {
          addresses: [addresses.IPv4, addresses.IPv6].map((address) => ({ type: 'InternalIP', address })),
          ...{ capacity: { cpu: '2' }, allocatable: { cpu: '2' } },
          conditions: [{ type: 'Ready', status: 'True', reason: 'Test', lastHeartbeatTime: now(), lastTransitionTime: now() }],
        },
      });
    }
  }

  async moveNode(node: NodeName, zone: string): Promise<void> {
    await this.#api.patch(`/api/v1/nodes/${node}`, { metadata: { labels: { [zoneLabel]: zone } } });
  }

  /** Creates a Pod that runs at that place. */
  async run(namespace: string, place: string, options: PodOptions): Promise<void> {
    const { labels, name = place, isReady = true, containers = [{ name: 'server', image: 'none', ports }], initContainers = [] } = options;
    const { node, isOnHost } = whereIs(place);
    await this.#api.create(`/api/v1/namespaces/${namespace}/pods`, {
      ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, labels } },
      spec: { nodeName: node, hostNetwork: isOnHost, containers, initContainers, terminationGracePeriodSeconds: TERMINATION_SECONDS },
    });
    await this.#report(namespace, name, { place, isReady });
  }

  async setReady(namespace: string, name: string, isReady: boolean): Promise<void> {
    await this.#report(namespace, name, { place: await this.#placeOf(namespace, name), isReady });
  }

  /** Deletes the Pod with a long grace period, so that it terminates. `isReady` is its readiness meanwhile. */
  async terminate(namespace: string, name: string, { isReady }: { isReady: boolean }): Promise<void> {
    await this.#api.delete(podPath(namespace, name), TERMINATION_SECONDS);
    await this.setReady(namespace, name, isReady);
  }

  /** Deletes the Pod at once. */
  async end(namespace: string, name: string): Promise<void> {
    await this.#api.delete(podPath(namespace, name), 0);
  }

  /** Evicts the Pod: its phase is Failed, and the API keeps its addresses. */
  async evict(namespace: string, name: string): Promise<void> {
    await this.#api.patch(`${podPath(namespace, name)}/status`, {
      status: { phase: 'Failed', reason: 'Evicted', message: 'The test evicted this Pod.', conditions: [condition('Ready', false)] },
    });
  }

  async #report(namespace: string, name: string, { place, isReady }: { place: string; isReady: boolean }): Promise<void> {
    const { addresses, node } = whereIs(place);
    await this.#api.patch(`${podPath(namespace, name)}/status`, {
      status: {
        phase: 'Running',
        ...{ hostIP: labNodes[node].addresses.IPv4, podIP: addresses.IPv4, podIPs: [{ ip: addresses.IPv4 }, { ip: addresses.IPv6 }] },
        conditions: ['Initialized', 'Ready', 'ContainersReady'].map((type) => condition(type, type === 'Initialized' || isReady)),
      },
    });
  }

  /** The place where the Pod runs, from its address. */
  async #placeOf(namespace: string, name: string): Promise<string> {
    const { spec, status } = await this.#api.existing(podPath(namespace, name));
    if (spec.hostNetwork === true) return labNodes[spec.nodeName as NodeName].netns;
    return `pod${status.podIP.split('.').at(-1)}`;
  }
}

const podPath = (namespace: string, name: string): string => `/api/v1/namespaces/${namespace}/pods/${name}`;
const now = (): string => new Date().toISOString();
const condition = (type: string, isTrue: boolean): object => ({ type, status: isTrue ? 'True' : 'False', lastTransitionTime: now() });
