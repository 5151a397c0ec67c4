// SPDX-License-Identifier: Apache-2.0
// A cluster: a real control plane, two nodes with a proxy each, pods that serve, a client outside. The proxy is Sluice with
// the rights of its service account and no other; with CLUSTER_PROXY=kube-proxy in the environment it is kube-proxy in
// nftables mode, which shows whether a story asks for what Kubernetes promises.
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { podRange } from '../lab/cluster.ts';
import { Daemon } from '../lab/daemon.ts';
import { Lab, labNodes, type NodeName } from '../lab/lab.ts';
import type { LabProcess } from '../lab/process.ts';
import { Traffic } from '../lab/traffic.ts';
import type { Api } from './api.ts';
import { apiUrl, ControlPlane, writeKubeconfig } from './control-plane.ts';
import { Kubelet } from './kubelet.ts';
import { tools } from './tools.ts';

/** Pods that only ask, and those that serve and may ask as well; from 100 on they are on the second node. */
const askers = [9, 109];
const servers = [1, 2, 3, 101];

const isKubeProxy = process.env['CLUSTER_PROXY'] === 'kube-proxy';
const root = join(import.meta.dirname, '../..');
const nodeNames = Object.keys(labNodes) as NodeName[];

export class KubeCluster extends Traffic {
  readonly plane: ControlPlane;
  readonly api: Api;
  readonly kubelet: Kubelet;
  /** What ends and starts the proxy of each node. */
  readonly #proxies = new Map<NodeName, LabProcess>();

  private constructor(lab: Lab, plane: ControlPlane) {
    super(lab);
    this.plane = plane;
    this.api = plane.api;
    this.kubelet = new Kubelet(plane.api);
  }

  static async start(): Promise<KubeCluster> {
    const lab = new Lab();
    // While the lab grows, the API server starts.
    const starting = ControlPlane.start(lab);
    lab.addNode();
    lab.addClient();
    for (const number of [...askers, ...servers]) lab.addPod(number);
    const cluster = new KubeCluster(lab, await starting);
    await Promise.all([
      ...servers.map((number) => cluster.serve(`pod${number}`)),
      cluster.kubelet.registerNodes().then(() => cluster.#startProxies()),
    ]);
    return cluster;
  }

  async restartProxy(node: NodeName): Promise<void> {
    await this.#proxies.get(node)?.kill();
    await this.#startProxy(node);
  }

  async close(): Promise<void> {
    await this.lab.close();
  }

  async #startProxies(): Promise<void> {
    if (!isKubeProxy) await this.#grant();
    await Promise.all(nodeNames.map((node) => this.#startProxy(node)));
  }

  async #startProxy(node: NodeName): Promise<void> {
    this.#proxies.set(node, await (isKubeProxy ? this.#startKubeProxy(node) : this.#startSluice(node)));
  }

  /** What deploy/ gives to Sluice, and a token of the account that it has there. */
  async #grant(): Promise<void> {
    const manifests = globSync('deploy/*.yaml', { cwd: root });
    if (manifests.length === 0) await this.api.kubectl(['apply', '-f', '-'], leastRights);
    for (const manifest of manifests) await this.api.kubectl(['apply', '-f', join(root, manifest)]);
    const token = await this.api.kubectl(['create', 'token', 'sluice', '--namespace', 'kube-system', '--duration', '2h']);
    writeFileSync(this.#file('token'), token.trim(), { mode: 0o600 });
  }

  async #startSluice(node: NodeName): Promise<LabProcess> {
    const user = { caFile: this.plane.caFile, tokenFile: this.#file('token') };
    const kubeconfig = writeKubeconfig(this.#file(`${node}.kubeconfig`), { server: apiUrl, ...user });
    const daemon = new Daemon(this.lab, node, ['--kubeconfig', kubeconfig]);
    await daemon.start({ hasSocketLb: true, extra: ['--cluster-cidr', podRange] });
    if (daemon.process === undefined) throw new Error('a daemon that has started is a process');
    return daemon.process;
  }

  async #startKubeProxy(node: NodeName): Promise<LabProcess> {
    const config = {
      ...{ apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration', mode: 'nftables' },
      ...{ hostnameOverride: node, clusterCIDR: podRange, clientConnection: { kubeconfig: this.plane.kubeconfig('proxy') } },
      nftables: { minSyncPeriod: '50ms' },
      // The machine's own limits are not for a test to change.
      conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    };
    // The kernel would be silent after a few refusals a second, and stories are quick.
    for (const key of ['net.ipv4.icmp_ratelimit', 'net.ipv6.icmp.ratelimit']) this.lab.sysctl(labNodes[node].netns, key, '0');
    const path = this.#file(`${node}.kube-proxy.json`);
    writeFileSync(path, JSON.stringify(config));
    const started = this.lab.start(labNodes[node].netns, [tools.kubeProxy, '--config', path]);
    await started.line((line) => line.includes('Caches are synced') && line.includes('service config'));
    return started;
  }

  #file(name: string): string {
    return join(this.lab.directory, name);
  }
}

const account = { name: 'sluice', namespace: 'kube-system' };
const rbac = 'rbac.authorization.k8s.io';
const reading = (apiGroup: string, ...resources: string[]): object => ({ apiGroups: [apiGroup], resources, verbs: ['list', 'watch'] });
/** For as long as deploy/ has none. */
const leastRights = [
  { apiVersion: 'v1', kind: 'ServiceAccount', metadata: account },
  {
    ...{ apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata: { name: 'sluice' } },
    rules: [reading('', 'services', 'nodes'), reading('discovery.k8s.io', 'endpointslices'), reading('networking.k8s.io', 'servicecidrs')],
  },
  {
    ...{ apiVersion: `${rbac}/v1`, kind: 'ClusterRoleBinding', metadata: { name: 'sluice' } },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'sluice' },
    subjects: [{ kind: 'ServiceAccount', ...account }],
  },
];
