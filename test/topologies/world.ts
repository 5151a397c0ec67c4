// SPDX-License-Identifier: Apache-2.0
// A topology in namespaces of its own, with a process at each place and the Services of the matrix. The Services are served by sluiced
// or by the rules of the control; everything else is the same. compare.ts uses it.
import { join } from 'node:path';
import { Daemon, service as serviceObject } from '../support/lab/daemon.ts';
import { clientAddresses, Lab, labNodes, podAddresses } from '../support/lab/lab.ts';
import type { LabProcess } from '../support/lab/process.ts';
import type { Cell } from './cells.ts';
import { type Addresses, kubeProxyRules, podCidrs, type Service } from './control.ts';
import type { Flow, FlowResult } from './flow.ts';
import type { Order, Result, Task } from './place.ts';

/** The namespace of each place. "near" is a pod beside the client pod, "far" a pod of the other node. */
const netnsOf = { pod: 'pod9', near: 'pod1', far: 'pod101', node: 'node', 'far-host': 'node-b', outside: 'client' } as const;
export type Place = keyof typeof netnsOf;
const places = Object.keys(netnsOf) as Place[];

export interface Topology {
  /** Key of the known failures of this topology. */
  readonly name: string;
  /** Makes the namespaces of all places, their devices, addresses, routes and rules. Only rules may depend on whether it is the control. */
  readonly build: (lab: Lab, isControl: boolean) => void | Promise<void>;
  /** Values of --pod-interfaces and --uplinks. */
  readonly podInterfaces: string;
  readonly uplinks: string;
  readonly extra?: readonly string[];
  /** Addresses that differ from those of the lab. */
  readonly addresses?: Partial<Readonly<Record<Place, Addresses>>>;
  /** The address of the node at which NodePorts are asked. Default: that of the node. */
  readonly nodePort?: Addresses;
  /** Bytes of a datagram. The default fits into every MTU. */
  readonly datagram?: number;
  /** Rows of the cells that are tried. Default: all. */
  readonly only?: readonly string[];
  /** Maximum time of a request in ms, where the default is too short for an error that is expected. */
  readonly timeoutMs?: number;
  /** Rows of cells in which the control has no answer, with the reason and, where it matters, the error code. */
  readonly withoutControl?: readonly { readonly why: string; readonly cells: readonly string[]; readonly code?: string }[];
}

const defaults: Readonly<Record<Place, Addresses>> = {
  pod: podAddresses(9),
  near: podAddresses(1),
  far: podAddresses(101),
  node: labNodes['node-a'].addresses,
  'far-host': labNodes['node-b'].addresses,
  outside: clientAddresses,
};

/** The place of each backend. */
export const placeOf = { near: 'near', far: 'far', host: 'node', 'far-host': 'far-host', own: 'pod' } as const;
type Backend = keyof typeof placeOf;

/** More than one segment, so that segmentation offload and the path MTU matter. */
const STREAM_BYTES = 20_000;
const DATAGRAM_BYTES = 1000;

/** Runs each line of the text as arguments of `ip` in a namespace. */
export function configure(lab: Lab, netns: string, text: string): void {
  for (const line of text.split('\n').map((each) => each.trim())) if (line !== '') lab.ip(netns, ...line.split(/\s+/));
}

/** Adds a table of nftables: the lines of each chain, of which the first one declares the hook. */
export function addTable(
  lab: Lab,
  netns: string,
  { table, chains }: { table: string; chains: Readonly<Record<string, readonly string[]>> },
): void {
  const text = Object.entries(chains).map(([chain, lines]) => `chain ${chain} {\n${lines.join('\n')}\n}\n`);
  lab.run(netns, 'nft', `table ${table} {\n${text.join('')}}\n`);
}

/** Two Services for each backend that may be local: one for each external traffic policy. */
function servicesOf(addresses: Readonly<Record<Place, Addresses>>): Service[] {
  const local = [
    { backend: 'near', isLocal: true },
    { backend: 'host', isLocal: true },
  ] as const;
  const all = [...(Object.keys(placeOf) as Backend[]).map((backend) => ({ backend, isLocal: false })), ...local];
  return all.map(({ backend, isLocal }, n) => ({
    name: isLocal ? `${backend}-local` : backend,
    clusterIP: { IPv4: `10.96.1.${n + 1}`, IPv6: `fd00:96::1:${n + 1}` },
    loadBalancer: { IPv4: `203.0.113.${n + 1}`, IPv6: `fd00:203::${n + 1}` },
    isLocal,
    endpoint: addresses[placeOf[backend]],
    isHere: backend === 'near' || backend === 'host' || backend === 'own',
    ports: [
      { protocol: 'tcp', port: 80, nodePort: 30_001 + n, targetPort: 8080 },
      { protocol: 'udp', port: 53, nodePort: 31_001 + n, targetPort: 5353 },
    ],
  }));
}

export class World {
  readonly lab = new Lab();
  readonly topology: Topology;
  readonly addresses: Readonly<Record<Place, Addresses>>;
  readonly #nodePort: Addresses;
  readonly #services: readonly Service[];
  readonly #processes = new Map<Place, LabProcess>();
  #daemon: Daemon | undefined;

  private constructor(topology: Topology) {
    this.topology = topology;
    this.addresses = { ...defaults, ...topology.addresses };
    this.#nodePort = topology.nodePort ?? this.addresses.node;
    this.#services = servicesOf(this.addresses);
  }

  static async start(topology: Topology, isControl: boolean): Promise<World> {
    const world = new World(topology);
    await topology.build(world.lab, isControl);
    await Promise.all(places.map((place) => world.#startPlace(place)));
    return world;
  }

  async #startPlace(place: Place): Promise<void> {
    const { IPv4, IPv6 } = this.addresses[place];
    const command = [process.execPath, join(import.meta.dirname, 'place.ts'), place, IPv4, IPv6];
    // The client outside is another machine, so the socket hooks of the node do not apply to it.
    const started = this.lab.start(netnsOf[place], command, { inCgroup: place !== 'outside' });
    this.#processes.set(place, started);
    await started.line((line) => line === '"ready"');
  }

  /** Loads the rules of the control in the node's namespace. */
  loadRules(): void {
    this.lab.run('node', 'nft', kubeProxyRules(this.#services, this.#nodePort));
  }

  /** Starts sluiced, instead of the one that runs. */
  async startDaemon(hasSocketLb: boolean): Promise<void> {
    await this.#daemon?.process?.kill('SIGTERM');
    const { podInterfaces, uplinks, extra = [] } = this.topology;
    this.#daemon ??= new Daemon(this.lab);
    this.#daemon.write('objects.yaml', ...this.#nodes(), ...this.#services.flatMap(objectsOf));
    await this.#daemon.start({
      hasSocketLb,
      devices: { podInterfaces, uplinks },
      extra: ['--cluster-cidr', `${podCidrs.IPv4},${podCidrs.IPv6}`, ...extra],
    });
  }

  #nodes(): object[] {
    return (['node', 'far-host'] as const).map((place) => {
      const name = place === 'node' ? 'node-a' : 'node-b';
      const { IPv4, IPv6 } = this.addresses[place];
      return {
        ...{ apiVersion: 'v1', kind: 'Node', metadata: { name } },
        spec: { podCIDRs: Object.values(labNodes[name].podCidrs) },
        status: { addresses: [IPv4, IPv6].map((address) => ({ type: 'InternalIP', address })) },
      };
    });
  }

  /** One request for each cell, many at the same time. The results are in the order of the cells. */
  async ask(asked: readonly Cell[], timeoutMs: number): Promise<Result[]> {
    const results = new Map<Cell, Result>();
    const clients = [...new Set(asked.map(({ from }) => from))];
    await Promise.all(
      clients.map(async (from) => {
        const own = asked.filter((cell) => cell.from === from);
        const answers = await this.#order<Result>(from, { tasks: own.map((cell) => this.#taskOf(cell, timeoutMs)) });
        own.forEach((cell, n) => results.set(cell, answers[n] ?? { outcome: 'no result', ms: 0 }));
      }),
    );
    return asked.map((cell) => results.get(cell) ?? { outcome: 'no result', ms: 0 });
  }

  /** Flows from one place, at the same time. */
  flow(place: Place, flows: readonly Flow[]): Promise<FlowResult[]> {
    return this.#order(place, { flows });
  }

  async #order<T extends Result | FlowResult>(place: Place, order: Order): Promise<T[]> {
    const answer = await this.#processes.get(place)?.ask(JSON.stringify(order));
    return JSON.parse(answer ?? '[]') as T[];
  }

  #taskOf(cell: Cell, timeoutMs: number): Task {
    const size = cell.kind === 'tcp' ? STREAM_BYTES : (this.topology.datagram ?? DATAGRAM_BYTES);
    return { kind: cell.kind, size, timeoutMs, ...this.frontendOf(cell) };
  }

  /** The address and port that a cell asks. */
  frontendOf({ family, kind, frontend, backend }: Cell): { readonly address: string; readonly port: number } {
    const name = frontend.endsWith('-Local') ? `${backend}-local` : backend;
    const service = this.#services.find((each) => each.name === name);
    const port = service?.ports.find(({ protocol }) => protocol === (kind === 'tcp' ? 'tcp' : 'udp'));
    if (service === undefined || port === undefined) throw new Error(`There is no Service ${name}.`);
    if (frontend.startsWith('NodePort')) return { address: this.#nodePort[family], port: port.nodePort };
    return { address: (frontend === 'ClusterIP' ? service.clusterIP : service.loadBalancer)[family], port: port.port };
  }

  /** The outcome with the names of places instead of their addresses, so that it is the same for both families. */
  shown(outcome: string): string {
    const isAt =
      (word: string) =>
      (place: Place): boolean =>
        Object.values(this.addresses[place]).includes(word);
    return outcome
      .split(' ')
      .map((word) => places.find(isAt(word)) ?? word)
      .join(' ');
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

/** The Kubernetes objects of a Service. */
function objectsOf({ name, clusterIP, loadBalancer, isLocal, endpoint, isHere, ports }: Service): object[] {
  const [web, dns] = ports;
  const families = ['IPv4', 'IPv6'] as const;
  return [
    serviceObject(name, clusterIP, {
      nodePorts: { web: web?.nodePort ?? 0, dns: dns?.nodePort ?? 0 },
      spec: { type: 'LoadBalancer', externalTrafficPolicy: isLocal ? 'Local' : 'Cluster' },
      status: { loadBalancer: { ingress: families.map((family) => ({ ip: loadBalancer[family] })) } },
    }),
    ...families.map((family) => ({
      ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: family },
      metadata: { name: `${name}-${family.toLowerCase()}`, namespace: 'default', labels: { 'kubernetes.io/service-name': name } },
      ports: [
        { name: 'web', port: 8080, protocol: 'TCP' },
        { name: 'dns', port: 5353, protocol: 'UDP' },
      ],
      endpoints: [{ addresses: [endpoint[family]], conditions: { ready: true }, nodeName: isHere ? 'node-a' : 'node-b' }],
    })),
  ];
}
