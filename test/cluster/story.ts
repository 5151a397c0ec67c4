// SPDX-License-Identifier: Apache-2.0
// One test scenario in its own Kubernetes namespace: applies objects, runs Pods, and checks which servers answer which clients.
// Controllers and proxies need time, so a check first waits for the expected result. Then it sends more requests and counts them
// at the servers; all of these requests must have the expected result. All cluster tests use it.
import { expect } from 'vitest';
import { clientAddresses, labNodes, type NodeName } from '../support/lab/lab.ts';
import type { LabRequest } from '../support/lab/traffic.ts';
import { type KubeObject, type KubeSpec, until } from './api.ts';
import type { KubeCluster } from './kube-cluster.ts';
import { type PodOptions, whereIs } from './kubelet.ts';

const families = ['IPv4', 'IPv6'] as const;

export interface Expected {
  /** Each of these servers must answer, and no other server may. */
  readonly servers: readonly string[];
  /** The only source address that the servers may see. */
  readonly source?: (family: 'IPv4' | 'IPv6') => string;
}

const POLLED = 20;
const COUNTED = 30;
/** The kernel ignores an ICMP error that arrives while connect() is still running. It retransmits the SYN after a second. */
const REFUSED_MS = 2500;
const SILENT_MS = 400;
let stories = 0;

export class Story {
  readonly cluster: KubeCluster;
  readonly namespace: string;

  private constructor(cluster: KubeCluster, namespace: string) {
    this.cluster = cluster;
    this.namespace = namespace;
  }

  static async begin(cluster: KubeCluster): Promise<Story> {
    const name = `story-${(stories += 1)}`;
    await cluster.api.create('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    return new Story(cluster, name);
  }

  /** A dual-stack Service for the Pods with the label app=NAME: TCP 80 -> 8080, UDP 53 -> 5353. */
  service(name: string, spec: object = {}, metadata: object = {}): object {
    return {
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: this.namespace, ...metadata } },
      spec: { selector: { app: name }, ipFamilyPolicy: 'PreferDualStack', ports: servicePorts, ...spec },
    };
  }

  /** EndpointSlices of a Service without a selector, one per family. */
  slices(service: string, { name, places, web = 8080 }: { name: string; places: readonly string[]; web?: number }): object[] {
    const ports = [
      { name: 'web', port: web, protocol: 'TCP' },
      { name: 'dns', port: 5353, protocol: 'UDP' },
    ];
    return families.map((family) => ({
      ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: family, ports },
      metadata: {
        ...{ name: `${name}-${family.toLowerCase()}`, namespace: this.namespace },
        labels: { 'kubernetes.io/service-name': service, 'endpointslice.kubernetes.io/managed-by': 'test' },
      },
      endpoints: places.map((place) => {
        const { addresses, node } = whereIs(place);
        return { addresses: [addresses[family]], nodeName: node, conditions: { ready: true } };
      }),
    }));
  }

  async apply(...objects: readonly object[]): Promise<void> {
    await this.kubectl(['apply', '-f', '-'], objects);
  }

  async kubectl(args: readonly string[], input?: readonly object[]): Promise<string> {
    return this.cluster.api.kubectl(['--namespace', this.namespace, ...args], input);
  }

  async patch(service: string, change: object): Promise<void> {
    await this.kubectl(['patch', 'service', service, '--type=merge', '--patch', JSON.stringify(change)]);
  }

  /** Runs a Pod with the label app=APP at each of the places. */
  async run(app: string, places: readonly string[], options: Partial<PodOptions> = {}): Promise<void> {
    const run = (place: string): Promise<void> => this.cluster.kubelet.run(this.namespace, place, { labels: { app }, ...options });
    await Promise.all(places.map(run));
  }

  /** The Service as the API returns it. */
  async live(service: string): Promise<KubeObject> {
    const found = await this.cluster.api.get(`/api/v1/namespaces/${this.namespace}/services/${service}`);
    if (found === undefined) throw new Error(`Service ${service} does not exist.`);
    return found;
  }

  /** The ports of the Service at its ClusterIPs. */
  async clusterIPs(service: string): Promise<LabRequest[]> {
    const { spec } = await this.live(service);
    return spec.clusterIPs.flatMap((address) => this.#at(spec, address, 'port'));
  }

  /** The ports of the Service at the given address. */
  async portsAt(service: string, address: string): Promise<LabRequest[]> {
    return this.#at((await this.live(service)).spec, address, 'port');
  }

  /** The NodePorts of the Service at the addresses of a node. */
  async nodePorts(service: string, node: NodeName): Promise<LabRequest[]> {
    const { spec } = await this.live(service);
    return families.flatMap((family) => this.#at(spec, labNodes[node].addresses[family], 'nodePort'));
  }

  /** Waits until exactly these servers answer at each of the frontends, then counts requests at the servers. */
  async served(from: string, frontends: readonly LabRequest[], { servers, source }: Expected): Promise<void> {
    for (const frontend of frontends) {
      const what = `${from} to ${frontend.protocol} ${frontend.address} port ${frontend.port}`;
      await until(`${what} is answered by ${servers.join(' and ')}`, async () => {
        const { answers, failures } = await this.cluster.ask(from, { ...frontend, count: POLLED, timeoutMs: 500 });
        expect({ failures, servers: Object.keys(answers).sort() }).toEqual({ failures: {}, servers: [...servers].sort() });
        return true;
      });
      await this.cluster.seen();
      const { failures } = await this.cluster.ask(from, { ...frontend, count: COUNTED });
      expect(failures, what).toEqual({});
      const seen = Object.entries(await this.cluster.seen());
      expect(servers, what).toEqual(expect.arrayContaining(seen.map(([server]) => server)));
      const clients = seen.flatMap(([, each]) => Object.entries(each));
      expect(
        clients.reduce((sum, [, count]) => sum + count, 0),
        what,
      ).toBe(COUNTED);
      if (source === undefined) continue;
      const family = frontend.address.includes(':') ? 'IPv6' : 'IPv4';
      expect([...new Set(clients.map(([address]) => address))], what).toEqual([source(family)]);
    }
  }

  /** Waits until every request is refused at once. */
  async refused(from: string, frontends: readonly LabRequest[]): Promise<void> {
    await this.#fails(from, frontends, { want: { ECONNREFUSED: 5 }, timeoutMs: REFUSED_MS });
  }

  /** Waits until every request gets no answer at all. */
  async silent(from: string, frontends: readonly LabRequest[]): Promise<void> {
    await this.#fails(from, frontends, { want: { timeout: 5 }, timeoutMs: SILENT_MS });
  }

  async #fails(from: string, frontends: readonly LabRequest[], { want, timeoutMs }: { want: object; timeoutMs: number }): Promise<void> {
    for (const frontend of frontends) {
      const what = `${from} to ${frontend.protocol} ${frontend.address} port ${frontend.port}`;
      await until(`${what} fails with ${JSON.stringify(want)}`, async () => {
        const { failures } = await this.cluster.ask(from, { ...frontend, count: 5, timeoutMs, isConnected: true });
        expect(failures).toEqual(want);
        return true;
      });
    }
  }

  #at(spec: KubeSpec, address: string, number: 'port' | 'nodePort'): LabRequest[] {
    return spec.ports
      .filter(({ protocol }) => protocol !== 'SCTP')
      .map((port) => ({ protocol: port.protocol.toLowerCase() as LabRequest['protocol'], address, port: port[number] }));
  }
}

const servicePorts = [
  { name: 'web', port: 80, targetPort: 8080, protocol: 'TCP' },
  { name: 'dns', port: 53, targetPort: 5353, protocol: 'UDP' },
];

/** The address of a place in the lab, by family. A server sees it if the client is not masqueraded. */
export const sourceOf =
  (place: string) =>
  (family: 'IPv4' | 'IPv6'): string =>
    (place === 'client' ? clientAddresses : whereIs(place).addresses)[family];
