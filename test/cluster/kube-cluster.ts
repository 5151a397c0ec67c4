// SPDX-License-Identifier: Apache-2.0
// A cluster: a real control plane, two nodes with a proxy each, pods that serve, and a client outside. The proxy is Sluice, with
// only the permissions of its service account. With CLUSTER_PROXY=kube-proxy in the environment, the proxy is kube-proxy in nftables
// mode. A test that also passes with kube-proxy requires only what Kubernetes guarantees. All cluster tests use this file.
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { podRange } from '../support/lab/cluster.ts';
import { Daemon } from '../support/lab/daemon.ts';
import { apiAddresses, Lab, labNodes, type NodeName } from '../support/lab/lab.ts';
import type { LabProcess } from '../support/lab/process.ts';
import { Traffic } from '../support/lab/traffic.ts';
import type { Api } from './api.ts';
import { apiUrl, ControlPlane, writeKubeconfig } from './control-plane.ts';
import { Kubelet, zoneOf } from './kubelet.ts';
import { tools } from './tools.ts';

/** Pods that are only clients, and pods that are servers and may be clients too. Numbers from 100 on are on the second node. */
const askers = [9, 109];
const servers = [1, 2, 3, 101];
const pods = [...askers, ...servers];

type Proxy = 'sluice' | 'kube-proxy';
const usualProxy: Proxy = process.env['CLUSTER_PROXY'] === 'kube-proxy' ? 'kube-proxy' : 'sluice';

interface KubeClusterOptions {
  readonly proxy?: Proxy;
  /** Another cluster whose control plane this one shares. Nodes and pods have the same names and addresses, in a separate lab. */
  readonly sharedWith?: KubeCluster;
  /** Whether a relay that can simulate failures is between the agents and the API server. */
  readonly hasRelay?: boolean;
}

const root = join(import.meta.dirname, '../..');
const RELAY_PORT = 6444;
const relayUrl = apiUrl.replace(/\d+$/, String(RELAY_PORT));
const relayCommand = [process.execPath, join(root, 'test/support/lab/relay.ts'), apiAddresses.IPv4, String(RELAY_PORT), '6443'];
const nodeNames = Object.keys(labNodes) as NodeName[];

export class KubeCluster extends Traffic {
  readonly plane: ControlPlane;
  readonly api: Api;
  readonly kubelet: Kubelet;
  /** The TCP relay between the agents and the API server. Undefined if the agents connect to the API server directly. */
  readonly relay: LabProcess | undefined;
  readonly #daemons = new Map<NodeName, Daemon>();
  readonly #proxy: Proxy;
  #granting: Promise<void> | undefined;
  /** The proxy process of each node. */
  readonly #proxies = new Map<NodeName, LabProcess>();

  private constructor(lab: Lab, plane: ControlPlane, { proxy, hasRelay }: { proxy: Proxy; hasRelay: boolean }) {
    super(lab);
    this.relay = hasRelay ? lab.start('api', relayCommand) : undefined;
    this.plane = plane;
    this.api = plane.api;
    this.kubelet = new Kubelet(plane.api);
    this.#proxy = proxy;
  }

  static async start({ proxy = usualProxy, sharedWith, hasRelay = false }: KubeClusterOptions = {}): Promise<KubeCluster> {
    const lab = new Lab();
    // The API server starts while the lab is built.
    const starting = sharedWith === undefined ? ControlPlane.start(lab) : sharedWith.plane.extendTo(lab).then(() => sharedWith.plane);
    lab.addNode();
    lab.addClient();
    for (const number of pods) lab.addPod(number);
    const nodes = Object.values(labNodes).map(({ netns }) => netns);
    // Ephemeral ports must differ from the ports that Traffic binds for its clients.
    for (const netns of [...nodes, 'client', ...pods.map((number) => `pod${number}`)])
      lab.sysctl(netns, 'net.ipv4.ip_local_port_range', "'32768 33999'");
    // The kernel limits ICMP errors to a few per second, and the tests cause more.
    for (const netns of nodes) for (const key of ['net.ipv4.icmp_ratelimit', 'net.ipv6.icmp.ratelimit']) lab.sysctl(netns, key, '0');
    const cluster = new KubeCluster(lab, await starting, { proxy, hasRelay });
    await cluster.relay?.ask('go');
    await Promise.all([
      ...servers.map((number) => cluster.serve(`pod${number}`)),
      (sharedWith === undefined ? cluster.kubelet.registerNodes() : Promise.resolve()).then(() => cluster.#startProxies()),
    ]);
    return cluster;
  }

  /** The file with the service account token of the agents. */
  get tokenFile(): string {
    return this.#file('token');
  }

  /** The Sluice daemon of that node. */
  daemon(node: NodeName): Daemon {
    const daemon = this.#daemons.get(node);
    if (daemon === undefined) throw new Error(`Sluice does not run on ${node}.`);
    return daemon;
  }

  /** Starts another proxy beside the one that the node has. The caller ends it. */
  async startBeside(node: NodeName, proxy: Proxy): Promise<LabProcess> {
    if (proxy === 'kube-proxy') return this.#startKubeProxy(node);
    this.#granting ??= this.#grant();
    await this.#granting;
    return this.#startSluice(node);
  }

  /** Removes the rules of kube-proxy from a node. */
  cleanUpKubeProxy(node: NodeName): void {
    this.lab.run(labNodes[node].netns, tools.kubeProxy, '--cleanup');
  }

  /** Kills the proxy, as in a crash. */
  async stopProxy(node: NodeName): Promise<void> {
    await this.#proxies.get(node)?.kill();
  }

  /** Resolves when a new proxy is ready. */
  async restartProxy(node: NodeName): Promise<void> {
    await this.stopProxy(node);
    await this.#startProxy(node);
  }

  async close(): Promise<void> {
    await this.lab.close();
  }

  async #startProxies(): Promise<void> {
    if (this.#proxy === 'sluice') await this.#grant();
    await Promise.all(nodeNames.map((node) => this.#startProxy(node)));
  }

  async #startProxy(node: NodeName): Promise<void> {
    this.#proxies.set(node, await (this.#proxy === 'kube-proxy' ? this.#startKubeProxy(node) : this.#startSluice(node)));
  }

  /** Applies the manifests of deploy/ and writes a token of their service account. */
  async #grant(): Promise<void> {
    const manifests = globSync('deploy/*.yaml', { cwd: root });
    for (const manifest of manifests) await this.api.kubectl(['apply', '-f', join(root, manifest)]);
    const token = await this.api.kubectl(['create', 'token', 'sluice', '--namespace', 'kube-system', '--duration', '2h']);
    writeFileSync(this.tokenFile, token.trim(), { mode: 0o600 });
  }

  async #startSluice(node: NodeName): Promise<LabProcess> {
    const user = { caFile: this.plane.caFile, tokenFile: this.tokenFile };
    const kubeconfig = writeKubeconfig(this.#file(`${node}.kubeconfig`), { server: apiUrl, ...user });
    const by = this.relay === undefined ? [] : ['--api-server', relayUrl];
    const daemon = new Daemon(this.lab, node, ['--kubeconfig', kubeconfig, ...by]);
    this.#daemons.set(node, daemon);
    await daemon.start({ hasSocketLb: true, extra: ['--cluster-cidr', podRange] });
    if (daemon.process === undefined) throw new Error('The daemon has no process.');
    return daemon.process;
  }

  async #startKubeProxy(node: NodeName): Promise<LabProcess> {
    const config = {
      ...{ apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration', mode: 'nftables' },
      ...{ hostnameOverride: node, clusterCIDR: podRange, clientConnection: { kubeconfig: this.plane.kubeconfig('proxy') } },
      nftables: { minSyncPeriod: '50ms' },
      // kube-proxy must not change the conntrack limits of the machine.
      conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    };
    const path = this.#file(`${node}.kube-proxy.json`);
    writeFileSync(path, JSON.stringify(config));
    const started = this.lab.start(labNodes[node].netns, [tools.kubeProxy, '--config', path]);
    await started.line((line) => line.includes('Caches are synced') && line.includes('service config'));
    // kube-proxy 1.37 may read the zone of the Node before its proxier watches for changes. Then the proxier learns the zone only
    // when the zone changes later.
    for (const zone of ['none', zoneOf(node)]) await this.kubelet.moveNode(node, zone);
    return started;
  }

  #file(name: string): string {
    return join(this.lab.directory, name);
  }
}
