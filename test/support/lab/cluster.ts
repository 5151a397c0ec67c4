// SPDX-License-Identifier: Apache-2.0
// A cluster of two nodes with a daemon each, servers in pods of both nodes, a router between the nodes, and a client behind the router.
// Both daemons watch one directory. apply() returns when the kernels of both nodes have what it wrote. Used by netns tests.
import { askServices, askStatus } from '../../../daemon/cli/client.ts';
import { Daemon, nodes, service } from './daemon.ts';
import { Lab } from './lab.ts';
import { Traffic } from './traffic.ts';

export type { LabRequest } from './traffic.ts';

interface ClusterOptions {
  /** Numbers of the pods. Pods with numbers from 100 on are on the second node. */
  readonly pods: readonly number[];
  /** Numbers of the pods that run a server. */
  readonly servers: readonly number[];
  readonly hasSocketLb: boolean;
  /** True: the daemons find their devices. By default their names are given. */
  readonly hasFoundDevices?: boolean;
  /** Additional flags of both daemons. */
  readonly extra?: readonly string[];
  /** Objects that exist from the start. */
  readonly objects?: readonly object[];
}

export const podRange = '10.244.0.0/16,fd00:244::/32';
const TIMEOUT_MS = 60_000;

export class Cluster extends Traffic {
  readonly options: ClusterOptions;
  readonly daemons: readonly Daemon[];
  /** How often each file was written. */
  readonly #revisions = new Map<string, number>();

  private constructor(options: ClusterOptions) {
    super(new Lab());
    this.options = options;
    this.lab.addNode();
    this.lab.addClient();
    for (const number of options.pods) this.lab.addPod(number);
    this.daemons = [new Daemon(this.lab), new Daemon(this.lab, 'node-b')];
  }

  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(options);
    const [first] = cluster.daemons;
    first?.write('nodes.yaml', ...nodes());
    first?.write('first.yaml', ...(options.objects ?? []));
    await Promise.all([
      ...options.servers.map((number) => cluster.serve(`pod${number}`)),
      ...cluster.daemons.map((daemon) => cluster.startDaemon(daemon)),
    ]);
    return cluster;
  }

  async startDaemon(daemon: Daemon): Promise<void> {
    const { hasSocketLb, hasFoundDevices = false, extra = [] } = this.options;
    await daemon.start({ hasSocketLb, hasFoundDevices, extra: ['--cluster-cidr', podRange, ...extra] });
  }

  /** The daemon of the first node. */
  get daemon(): Daemon {
    const [first] = this.daemons;
    if (first === undefined) throw new Error('the cluster has no daemon');
    return first;
  }

  /** Replaces a file in the source directory, and waits until the kernels of both nodes have its content. */
  async apply(file: string, ...objects: readonly object[]): Promise<void> {
    const revision = (this.#revisions.get(file) ?? 0) + 1;
    this.#revisions.set(file, revision);
    // A marker Service whose port is the revision. It arrives together with the other objects of the file.
    const marker = `marker-${file.replace('.yaml', '')}`;
    const at = [...this.#revisions.keys()].indexOf(file) + 1;
    const ports = [{ name: 'revision', port: revision, protocol: 'TCP' }];
    const addresses = { IPv4: `10.96.255.${at}`, IPv6: `fd00:96::ffff:${at}` };
    this.daemon.write(file, ...objects, service(marker, addresses, { spec: { ports } }));
    await Promise.all(this.daemons.map((daemon) => this.#settled(daemon, { marker, revision })));
  }

  /** Reasons for which a node has dropped packets since its maps were created. */
  async drops(daemon: Daemon): Promise<string[]> {
    const { drops } = await askStatus({ socket: daemon.socket, timeoutMs: TIMEOUT_MS });
    return drops.map(({ reason }) => reason);
  }

  async #settled(daemon: Daemon, { marker, revision }: { marker: string; revision: number }): Promise<void> {
    for (const until = Date.now() + TIMEOUT_MS; ;) {
      const { services } = await askServices({ socket: daemon.socket, timeoutMs: TIMEOUT_MS });
      const marked = services.filter(({ name }) => name === marker);
      const isThere = marked.length > 0 && marked.every(({ frontends }) => frontends.every(({ port }) => port === revision));
      const isDone = services.every(
        ({ wanted, differences, row }) => wanted && differences.length === 0 && row?.state === 'ROW_STATE_DONE',
      );
      if (isThere && isDone) return;
      if (Date.now() > until) throw new Error(`${daemon.node} did not settle: ${JSON.stringify(services)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async close(): Promise<void> {
    await this.lab.close();
  }
}
