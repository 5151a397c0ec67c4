// SPDX-License-Identifier: Apache-2.0
// sluiced in a lab's node namespace, started as a user would start it by hand, and the YAML directory that it watches: one
// for all the nodes of a lab, as there would be one API server.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stringify } from 'yaml';
import type { Lab } from './lab.ts';
import { labNodes, nodeOfPod, type NodeName, podAddresses } from './lab.ts';
import type { LabProcess } from './process.ts';
import { sh } from './shell.ts';

const root = join(import.meta.dirname, '../../..');

/** What the daemon does without the small sizes; a flag given twice counts as the last one. */
const defaultSizes = [
  ...['--max-services', '65536', '--max-frontends', '65536', '--max-backends', '262144'],
  ...['--max-slots', '1048576', '--max-flows', '262144'],
];

export interface DaemonOptions {
  readonly hasSocketLb: boolean;
  readonly extra?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Another main.ts than the checkout's. */
  readonly main?: string;
  /** By sluiced.sh, with the memory and flags of Node.js that users give it. */
  readonly isTuned?: boolean;
  /** False: maps of the default sizes. */
  readonly isSmall?: boolean;
}

export class Daemon {
  readonly lab: Lab;
  readonly source: string;
  readonly socket: string;
  readonly node: NodeName;
  /** Flags that say where its objects come from. */
  readonly #from: readonly string[];
  process: LabProcess | undefined;

  /** Unless told otherwise, it watches the directory that write() writes to. */
  constructor(lab: Lab, node: NodeName = 'node-a', from?: readonly string[]) {
    this.lab = lab;
    this.node = node;
    this.source = join(lab.directory, 'yaml');
    this.#from = from ?? ['--source', this.source];
    this.socket = join(lab.directory, node === 'node-a' ? 'run' : 'run-b', 'sluice.sock');
    mkdirSync(this.source, { recursive: true });
  }

  /** Starts it and resolves when it is ready. */
  async start(options: DaemonOptions): Promise<void> {
    const { hasSocketLb, extra = [], env = {}, main = join(root, 'daemon/main.ts'), isTuned = false, isSmall = true } = options;
    const flags = [...this.flags(hasSocketLb), ...(isSmall ? [] : defaultSizes), ...extra];
    const command = isTuned ? ['sh', join(root, 'daemon/sluiced.sh')] : [process.execPath, main];
    const path = `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`;
    this.process = this.lab.start(labNodes[this.node].netns, [...command, ...flags], { env: { PATH: path, ...env } });
    await this.process.line((line) => line.includes('"msg":"ready"'));
  }

  flags(hasSocketLb: boolean): string[] {
    return [
      ...[...this.#from, '--node', this.node, '--pod-interfaces', 'lxc', '--uplinks', 'eth0'],
      ...['--pin-path', join(this.lab.bpffs, this.node === 'node-a' ? 'sluice' : 'sluice-b')],
      ...['--cgroup', this.lab.cgroupOf(this.node), '--socket', this.socket],
      ...['--socket-lb', hasSocketLb ? 'on' : 'off', '--http', 'off', '--log-level', 'debug'],
      // Small, so that a dump of every map is quick.
      ...['--max-services', '1024', '--max-frontends', '1024', '--max-backends', '4096', '--max-slots', '65536', '--max-flows', '65536'],
    ];
  }

  /** `sluice` against this daemon. Throws what it printed on stderr when it fails. */
  cli(...args: readonly string[]): string {
    return this.cliAt(this.socket, ...args);
  }

  cliAt(socket: string, ...args: readonly string[]): string {
    return sh(process.execPath, join(root, 'daemon/cli/main.ts'), '--socket', socket, ...args);
  }

  /** The command line of `sluice` against this daemon. */
  command(...args: readonly string[]): string[] {
    return [process.execPath, join(root, 'daemon/cli/main.ts'), '--socket', this.socket, ...args];
  }

  /** Replaces a file of the source directory in one step. Its documents are plain objects. */
  write(name: string, ...documents: readonly object[]): void {
    const partial = join(this.source, `.${name}.partial`);
    writeFileSync(partial, documents.map((document) => stringify(document)).join('---\n'));
    renameSync(partial, join(this.source, name));
  }

  /** Resolves when `sluice service list` shows no difference and `isReached` accepts it. */
  async settled(isReached: (services: readonly ListedService[]) => boolean): Promise<void> {
    for (const until = Date.now() + 60_000; ;) {
      const { services = [] } = JSON.parse(this.cli('service', 'list', '-o', 'json')) as { services?: ListedService[] };
      if (services.every((service) => service.inSync) && isReached(services)) return;
      if (Date.now() > until) throw new Error(`the services did not settle: ${JSON.stringify(services)}`);
    }
  }
}

/** The part of `sluice service list -o json` that tests read. */
export interface ListedService {
  readonly key: string;
  readonly inSync: boolean;
  readonly backends?: readonly { readonly address: string }[];
}

export const vips = { IPv4: '10.96.0.10', IPv6: 'fd00:96::10' } as const;

/** What a Service of a test may have beside its ClusterIPs; `spec` and `status` as the API has them. */
export interface ServiceExtras {
  readonly spec?: object;
  readonly status?: object;
  readonly nodePorts?: { readonly web: number; readonly dns: number };
}

/** A dual-stack Service: TCP 80 -> 8080 and UDP 53 -> 5353. */
export function service(name: string, addresses: { IPv4: string; IPv6: string } = vips, extras: ServiceExtras = {}): object {
  const { spec = {}, status = {}, nodePorts } = extras;
  const nodePort = (port: 'web' | 'dns'): object => (nodePorts === undefined ? {} : { nodePort: nodePorts[port] });
  return {
    ...{ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'default' } },
    spec: {
      ...{ clusterIP: addresses.IPv4, clusterIPs: [addresses.IPv4, addresses.IPv6], ipFamilies: ['IPv4', 'IPv6'] },
      ports: [
        { name: 'web', port: 80, protocol: 'TCP', ...nodePort('web') },
        { name: 'dns', port: 53, protocol: 'UDP', ...nodePort('dns') },
      ],
      ...spec,
    },
    status,
  };
}

/** A pod by its number, one with conditions of its own, or an address that is on the second node. */
export type Backend = number | { readonly pod: number; readonly conditions: object } | { readonly IPv4: string; readonly IPv6: string };

/** Its EndpointSlices: one per family. */
export function slices(name: string, backends: readonly Backend[], ports: { readonly web: number } = { web: 8080 }): object[] {
  return (['IPv4', 'IPv6'] as const).map((family) => ({
    ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: family },
    metadata: { name: `${name}-${family.toLowerCase()}`, namespace: 'default', labels: { 'kubernetes.io/service-name': name } },
    ports: [
      { name: 'web', port: ports.web, protocol: 'TCP' },
      { name: 'dns', port: 5353, protocol: 'UDP' },
    ],
    endpoints: backends.map((backend) => {
      const pod = typeof backend === 'number' ? backend : 'pod' in backend ? backend.pod : undefined;
      const addresses = typeof backend === 'object' && 'IPv4' in backend ? backend : podAddresses(pod ?? 0);
      return {
        addresses: [addresses[family]],
        conditions: typeof backend === 'object' && 'conditions' in backend ? backend.conditions : { ready: true },
        nodeName: pod === undefined ? 'node-b' : nodeOfPod(pod),
      };
    }),
  }));
}

/** The Node objects of a lab. */
export function nodes(): object[] {
  return Object.entries(labNodes).map(([name, { addresses, podCidrs }]) => ({
    ...{ apiVersion: 'v1', kind: 'Node', metadata: { name } },
    spec: { podCIDRs: [podCidrs.IPv4, podCidrs.IPv6] },
    status: { addresses: [addresses.IPv4, addresses.IPv6].map((address) => ({ type: 'InternalIP', address })) },
  }));
}
